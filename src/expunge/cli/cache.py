"""`expunge cache ls|prune`: what the cache takes on the disk, and how to make it smaller. Needs no torch."""

import time
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.output import print_lines, print_table
from expunge.errors import ExpungeError
from expunge.names import suggest
from expunge.progress import duration
from expunge.storage.places import default_root
from expunge.storage.pruning import KINDS, LIMIT, UNITS, Entry, delete, entries, read_age, read_size, select, size_limit

ACTIONS = ("ls", "prune")


def cache(
    action: Annotated[str, typer.Argument(metavar="ls|prune", help="List what is cached, or delete some of it.", show_default=False)],
    folder: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The cache; default $EXPUNGE_CACHE or ~/.cache/expunge.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="prune: delete what was not used for longer, such as 30d, 12h or 2w.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="prune: delete what was used least recently until the rest fits, such as 20GB; 0 deletes all."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help=f"prune: never delete this kind ({', '.join(KINDS)}). May be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="prune: only print what would be deleted.")] = False,
) -> None:
    """List what the cache holds, or delete some of it.

    Everything in the cache is computed again when it is needed, so deleting costs time and loses nothing. A run that is at work may be
    left without what it has not read yet, and then computes that again. EXPUNGE_CACHE_LIMIT=20GB keeps the cache below that size.
    """
    if action not in ACTIONS:
        raise ExpungeError(f"{action!r} is not an action on the cache.", rule="unknown-action", value=action, hint=suggest(action, ACTIONS))
    root = folder or default_root()
    limits = {"--older-than": older_than, "--max-size": max_size, "--keep": keep or None, "--dry-run": dry_run or None}
    given = [name for name, value in limits.items() if value is not None]
    if action == "ls":
        if given:
            raise ExpungeError(f"{given[0]} is for prune.", rule="option-of-prune", value=given[0], hint="Try `expunge cache prune`.")
        _list(root)
        return
    if older_than is None and max_size is None:
        raise ExpungeError(
            "The command does not say what to prune.",
            rule="nothing-to-prune",
            value=given,
            hint="Try --older-than 30d, or --max-size 20GB; --max-size 0 deletes all.",
        )
    if unknown := sorted({*(keep or ())} - KINDS.keys()):
        raise ExpungeError(
            f"The cache has no kind {unknown[0]!r}.", rule="unknown-kind-of-entry", value=unknown[0], hint=suggest(unknown[0], KINDS)
        )
    seconds = None if older_than is None else read_age(older_than, "--older-than")
    octets = None if max_size is None else read_size(max_size, "--max-size")
    _prune(root, select(entries(root), older_than=seconds, max_size=octets, keep=keep or (), now=time.time()), dry_run)


def _list(root: Path) -> None:
    found, now, limit = entries(root), time.time(), size_limit()
    if not found:
        print_lines(f"nothing is cached in {root}")
        return
    by_kind = {kind: [e for e in found if e.kind == kind] for kind in KINDS}
    rows = [(kind, *_described(of, now), KINDS[kind]) for kind, of in by_kind.items() if of]
    columns = ("kind", "files", "size", "last used", "first used", "what it is")
    print_table(str(root), columns, [*rows, ("all", *_described(found, now), "")], numbers=("files", "size", "last used", "first used"))
    print_lines(
        f"limit: {_size(limit)}" if limit is not None else f"no limit; set {LIMIT}, such as 20GB", "next: expunge cache prune --help"
    )


def _described(of: list[Entry], now: float) -> tuple[str, ...]:
    ages = [max(0.0, now - e.used) for e in of]
    return (f"{len(of):,}", _size(sum(e.size for e in of)), f"{_age(min(ages))} ago", f"{_age(max(ages))} ago")


def _age(seconds: float) -> str:
    return duration(seconds) if seconds < 2 * UNITS["d"] else f"{seconds // UNITS['d']:.0f} days"


def _prune(root: Path, chosen: list[Entry], dry_run: bool) -> None:
    octets = sum(e.size for e in chosen) if dry_run else delete(chosen)
    print_lines(f"{'would delete' if dry_run else 'deleted'} {len(chosen):,} files of {_size(octets)} in {root}")


def _size(octets: int) -> str:
    return f"{octets / 2**30:.2f} GiB" if octets >= 2**30 else f"{octets / 2**20:.1f} MiB"
