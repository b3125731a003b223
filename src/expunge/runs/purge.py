"""Deletes what shows a run's concept: images in its folder, and images and predictions in the cache. Imports no torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expunge.concepts.name_set import compile_names
from expunge.errors import ExpungeError
from expunge.runs.run import Run
from expunge.storage.lock import alone_in
from expunge.storage.places import default_root
from expunge.storage.pruning import prompts_of

SHOWING = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".html")
"""Files that hold images; pages have them inside."""


@dataclass(frozen=True)
class Shown:
    """A file that shows the concept, or may."""

    path: Path
    size: int
    """Bytes."""
    why: str


def find_shown(run: Run | str | Path, cache: str | Path | None = None) -> list[Shown]:
    """The files that `purge` deletes: every image and page in the run's folder, and what is cached of the concept.

    An entry of the cache that does not say what it shows counts as showing the concept: it can be computed again.

    Args:
        cache: default `$EXPUNGE_CACHE`, else `~/.cache/expunge`.

    Raises:
        ExpungeError: the folder holds no finished run.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    names = [name for concept in run.concept().parts for name in concept.known]
    found = [*_in_run(run.folder), *_in_cache(Path(cache) if cache else default_root(), names)]
    return [Shown(path, path.stat().st_size, why) for path, why in sorted(dict(found).items())]


def purge(run: Run | str | Path, cache: str | Path | None = None) -> list[Shown]:
    """Deletes every image and cached prediction that shows the run's concept, and returns what was deleted.

    The run stays: its weights, settings, log, numbers and judges' labels. Evaluating or auditing it again makes images again. What lies
    elsewhere is not found: reports and pictures that were written outside the run's folder, suites, and other people's caches.

    Raises:
        ExpungeError: the folder holds no finished run; another process works there; a file cannot be deleted.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    with alone_in(run.folder):
        found = find_shown(run, cache)
        for shown in found:
            try:
                shown.path.unlink(missing_ok=True)
            except OSError as error:
                raise ExpungeError(
                    f"{shown.path} cannot be deleted: {error.strerror}.",
                    rule="undeleted",
                    value=str(shown.path),
                    hint="Try as the user who owns the file; the rest is deleted by the same command.",
                ) from error
    return found


def _in_run(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lower() in SHOWING:
            yield path, "page of the run" if path.suffix == ".html" else "image of the run"
        elif path.is_file() and "work" in path.relative_to(folder).parts[:-1]:  # of an attack that was interrupted
            yield path, "checkpoint of an attack"


def _in_cache(root: Path, names: list[str]) -> Iterator[tuple[Path, str]]:
    words = compile_names(names)
    for path in root.glob("[0-9a-f][0-9a-f]/*.safetensors"):
        prompts = prompts_of(path)
        if prompts is None:
            yield path, "cached, does not say of what"
        elif any(words.search(prompt) for prompt in prompts):
            yield path, "cached"
    kept: set[str] = set()
    for path in (root / "audits").glob("*.json"):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            concept = str(result["concept"])
            pictures = {str(image["picture"]) for reading in result["readings"] for image in reading["shown"]}
        except (OSError, ValueError, KeyError, TypeError):
            concept, pictures = "", set()
        if not concept or words.search(concept):
            yield path, "cached result of an attack on a control"
        else:
            kept |= pictures
    for path in (root / "pictures").glob("*"):
        if path.is_file() and path.name not in kept:
            yield path, "cached image of an attack on a control"
