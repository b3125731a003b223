"""Before and after, from the same noise: which pictures are shown, what the judge said of them, and the pictures themselves as text."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from expunge.reports.run_folder import Picture
from expunge.reports.tables import Group
from expunge.reports.words import FORGET, PROBES

PAIRS = 12
"""At most so many prompts of a probe are shown for a single run ..."""
ROWS = 8
"""... and so many beside each other for several."""
EDGE = 320
"""Pictures with a longer edge are shown reduced, or a report of 512-pixel pictures would weigh a hundred megabytes."""


@dataclass(frozen=True)
class Mark:
    """What the judge said of a picture, as far as it bears on the question."""

    good: bool
    text: str
    """Empty where the picture shows what was asked."""


@dataclass(frozen=True)
class Shot:
    """One picture in place. `uri` is None where there is none."""

    uri: str | None
    alt: str
    caption: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Strip:
    """One prompt from one noise: the untouched model's picture, then each run's."""

    prompt: str
    seed: int | None
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Album:
    """The pictures of one probe."""

    probe: str
    title: str
    line: str
    strips: tuple[Strip, ...]
    total: int
    """Prompts and noises that were drawn, of which `strips` shows some."""


def albums(group: Group, limit: int | None = None) -> list[Album]:
    """A probe's pictures for every run of a group, at most `limit` prompts. Rows are matched by probe, prompt and noise."""
    drawn = [{(p.probe, p.prompt, p.seed): p for p in (c.run.evaluation.pictures if c.run.evaluation else ())} for c in group.columns]
    keys = list(dict.fromkeys(k for pictures in drawn for k in pictures))
    probes = sorted(dict.fromkeys(probe for probe, _, _ in keys), key=lambda p: list(PROBES).index(p) if p in PROBES else len(PROBES))
    limit = limit or (PAIRS if len(group.columns) == 1 else ROWS)
    found = []
    for probe in probes:
        of_probe = [k for k in keys if k[0] == probe]
        strips = tuple(_strip(group, [pictures.get(k) for pictures in drawn]) for k in spread(of_probe, limit))
        title, line = PROBES.get(probe, (probe or "Other prompts", ""))
        found.append(Album(probe, title, line, strips, len(of_probe)))
    return found


def spread(items: Sequence, limit: int) -> list:
    """At most `limit` of the items, evenly spaced: chosen by place, never by how they look."""
    return list(items) if len(items) <= limit else [items[i * len(items) // limit] for i in range(limit)]


def _strip(group: Group, pictures: Sequence[Picture | None]) -> Strip:
    first = next(p for p in pictures if p)
    said = f"“{first.prompt}”" if first.prompt else "the empty prompt"
    kind = group.columns[0].run.card.kind
    base = next((p.base for p in pictures if p and p.base), None)
    shots = [Shot(embed(base), f"Untouched model: {said}", "before" if len(pictures) == 1 else "", _marks(first.wanted, first.seen_base))]
    for column, picture in zip(group.columns, pictures, strict=True):
        seen = picture.seen if picture else {}
        gone = kind if first.probe in FORGET else None
        uri = embed(picture.unlearned) if picture else None
        shots.append(Shot(uri, f"{column.label}: {said}", "after" if len(pictures) == 1 else "", _marks(first.wanted, seen, gone)))
    return Strip(first.prompt, first.seed, tuple(shots))


def _marks(wanted: Mapping[str, str], seen: Mapping[str, str], gone: str | None = None) -> tuple[Mark, ...]:
    """Nothing where nobody judged. `gone` is the kind of which the wanted label should not be seen any more."""
    marks = []
    for kind, label in wanted.items():
        if kind not in seen:
            continue
        if kind == gone:
            marks.append(Mark(False, f"still {label}") if seen[kind] == label else Mark(True, seen[kind]))
        elif seen[kind] != label:
            marks.append(Mark(False, f"{seen[kind]}, not {label}"))
    return tuple(sorted(marks, key=lambda m: m.good)) or ((Mark(True, ""),) if wanted.keys() & seen.keys() else ())


def embed(file: Path | None) -> str | None:
    """A picture as a data address. None for no file, or one that holds no picture."""
    if file is None:
        return None
    try:
        with Image.open(file) as picture:
            picture.load()
            small = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    out = io.BytesIO()
    if max(small.size) > EDGE:
        small.thumbnail((EDGE, EDGE))
        small.save(out, "WEBP", quality=85)
        kind = "webp"
    else:
        small.save(out, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
