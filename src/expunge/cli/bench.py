"""`expunge bench SUITE`: a whole table, from one file."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import Device, best_device

FAILED = 1
"""The exit code where units failed."""


def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A TOML file, or a built-in suite: canvas, several.", show_default=False)],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where it goes.  [default: runs/bench/SUITE]")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="LABEL/CONCEPT/SEED", help="Only these units; * for any. May repeat.  [default: all]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing and what it costs. Writes nothing.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Print the table of what is there, in Markdown. Computes nothing.")] = False,
    each: Annotated[bool, typer.Option("--each", help="With --table: a line for each unit.")] = False,
    seen_by: Annotated[str | None, typer.Option(metavar="JUDGE", help="With --table: whose word counts.  [default: main]")] = None,
    search: Annotated[bool, typer.Option("--search", help="Search the methods' settings on the suite's tuning concepts.")] = False,
    engine: Annotated[str, typer.Option(metavar="serial|ray", help="One unit after another here, or a Ray cluster.")] = "serial",
    address: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Of a running Ray cluster.  [default: one of its own]")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Units at a time on a cluster of its own.  [default: cores]")] = None,
    gpus_per_run: Annotated[float, typer.Option(metavar="SHARE", help="Of a GPU for each unit on Ray: 0.25 puts four on one.")] = 0.0,
    device: Device = "auto",
) -> None:
    """Run a benchmark: methods x concepts x seeds, each measured, into one table and one page.

    Does what is missing and nothing twice: after an interruption the same command goes on. A unit that fails is named at the
    end and tried again the next time. `docs/bench.md` says how a suite is written.
    """
    from expunge.bench.config import read_suite
    from expunge.bench.executors import Ray, Serial
    from expunge.bench.runner import Place, is_done
    from expunge.bench.summary import markdown, measured, standings
    from expunge.cli.screen import nearest, say
    from expunge.config import build
    from expunge.errors import ExpungeError
    from expunge.storage.cache import Store

    plan = read_suite(suite)
    folder = out or Path("runs") / "bench" / plan.name
    if table:
        found = measured([u for u in plan.units if _wanted(u.name, only or [])], folder)
        found = [replace(m, label=f"{m.label}/{m.concept}/{m.seed}") for m in found] if each else found
        print(markdown(standings(found, seen_by)), end="")
        return
    if each or seen_by:
        raise ExpungeError("a table is printed with --table: --each and --seen-by are about it; add it, or leave them out")
    if engine not in ("serial", "ray"):
        raise ExpungeError(f"an engine is serial or ray: {engine!r} is neither{nearest(engine, ('serial', 'ray'))}")
    on_ray = engine == "ray"
    if on_ray and device == "auto":
        device = "cuda" if gpus_per_run else "cpu"
    place = Place(folder, Store.default().root.resolve(), best_device(device))
    doing = build(Ray, {"address": address, "workers": workers, "gpus": gpus_per_run}, "ray") if on_ray else Serial()
    if search:
        command = " ".join(["expunge bench", suite, "--search", *(f"--only {shlex.quote(o)}" for o in only or [])])
        _search(plan, place, doing, only or [], dry_run, command)
        return
    units = [u for u in plan.units if _wanted(u.name, only or [])]
    if not units:
        raise ExpungeError(f"--only names units of the suite: {', '.join(only or [])} fits none; for example {plan.units[0].name}")
    left = [u for u in units if not is_done(u, place.folder(u))]
    say(f"{plan.name}: {len(units)} units, {len(units) - len(left)} done, {len(left)} to do")
    if left:
        _price(left, place)
    if not dry_run:
        _run(plan, units, left, place, doing)


def _wanted(name: str, only: Sequence[str]) -> bool:
    """Whether a unit is among those asked for: parts that are left out stand for any.

    >>> _wanted("UCE/neon/0", ["uce"]), _wanted("UCE/neon/0", ["*/neon/1"]), _wanted("UCE/neon/0", [])
    (True, False, True)
    """
    parts = name.casefold().split("/")
    return not only or any(all(fnmatch(p, w) for p, w in zip(parts, o.casefold().split("/"), strict=False)) for o in only)


def _price(left: Sequence[Any], place: Any) -> None:
    from expunge.bench.cost import estimate
    from expunge.cli.screen import duration, table

    lines = estimate(left, place)
    rows = [(e.label, str(e.units or ""), e.forwards, e.backwards, e.seconds, e.octets) for e in lines]
    rows.append(("together", str(len(left)), *(sum(r[i] for r in rows) for i in range(2, 6))))  # type: ignore[arg-type,misc]
    columns = ("", "units", "forwards", "backwards", "about", "disk, at most")
    shown = [(label, n, f"{f:,}", f"{b:,}", duration(s), f"{o / 2**20:,.1f} MiB") for label, n, f, b, s, o in rows]
    table("cost of what is missing, in evaluations of the network for one sample", columns, shown, numbers=columns[1:])


def _run(plan: Any, units: Sequence[Any], left: Sequence[Any], place: Any, engine: Any) -> None:
    from expunge.bench.summary import labelled, markdown, measured, standings
    from expunge.cli.progress import watch_units
    from expunge.cli.screen import say
    from expunge.reports.pages.leaderboard import write
    from expunge.storage.files import write_atomically

    outcomes = list(watch_units(engine(left, place), len(left))) if left else []
    found = measured(plan.units, place.out)
    lines = standings(found)
    write_atomically(place.out / "table.md", markdown(lines).encode())
    write_atomically(place.out / "rows.jsonl", "".join(json.dumps(r) + "\n" for r in labelled(found)).encode())
    say(f"rows    {place.out / 'rows.jsonl'}", f"table   {place.out / 'table.md'}")
    if found:
        say(f"page    {write(plan.name, found, lines, place.out / 'index.html')}")
    _failures(outcomes)


def _failures(outcomes: Sequence[Any]) -> None:
    """Names what is not done.

    Raises:
        typer.Exit: a unit failed.
    """
    if busy := [o.name for o in outcomes if o.status == "taken"]:
        print(f"another process is at {', '.join(busy)}", file=sys.stderr)
    if failed := [o for o in outcomes if o.status == "failed"]:
        for outcome in failed:
            print(f"failed: {outcome.name}: {outcome.error}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _search(plan: Any, place: Any, engine: Any, only: Sequence[str], dry_run: bool, command: str) -> None:
    from expunge.bench.results import Outcome
    from expunge.bench.tune import search, select_best, space_of
    from expunge.cli.progress import watch_trials
    from expunge.cli.screen import say, table
    from expunge.errors import ExpungeError
    from expunge.names import RETRAINED

    entries = [e for e in plan.methods if e.name != RETRAINED and _wanted(e.label, only)]
    if not entries:
        raise ExpungeError(f"--only names labels of the suite: {', '.join(only)} fits none of {', '.join(e.label for e in plan.methods)}")
    outcomes: list[Any] = []
    for entry in entries:
        space = space_of(entry, plan.search)
        trials = plan.search.trials if space else 1
        say(f"{entry.label}: {trials} trials on {', '.join(c.target for c in plan.tuning)}, over {', '.join(space) or 'nothing'}")
        if dry_run:
            _price([unit for _ in range(trials) for unit in plan.tuning_units(entry)], place)
            continue
        tried: list[Any] = []
        for event in watch_trials(search(plan, entry, engine, place, command), entry.label, trials, _told):
            (outcomes if isinstance(event, Outcome) else tried).append(event)
        columns = ("trial", *space, "UA", "retention")
        winners = select_best(tried, plan.search)
        rows = [
            (str(t.number + 1), *(_short(t.settings.get(n)) for n in space), _short(t.forgetting), _short(t.retention)) for t in winners
        ]
        table(f"{entry.label}: best of {len(tried)} trials", columns, rows)
    if not dry_run:
        say(f"recorded under {place.out / 'search'}")
    _failures(outcomes)


def _told(trial: Any) -> str:
    settings = ", ".join(f"{k} {_short(v)}" for k, v in trial.settings.items())
    return f"{settings or 'as it is'}: UA {_short(trial.forgetting)}, retention {_short(trial.retention)}"


def _short(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
