"""Images of the base model and of the runs side by side: which are shown, what the judge sees in them, and the images as text."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from expunge.evaluation.folder import ImagePair
from expunge.evaluation.protocol import spread
from expunge.reports.glossary import FORGET_PROBES, PROBE_TITLES, rank_of_probe
from expunge.reports.tables import Group

PROMPTS_OF_ONE = 12
"""At most this many prompts of a probe are shown for a single run."""
PROMPTS_OF_SEVERAL = 8
"""At most this many prompts of a probe are shown for several runs side by side."""
EDGE = 320
"""Images with a longer edge are shown reduced: a report of images of 512 pixels would have a hundred megabytes."""


@dataclass(frozen=True)
class Mark:
    """What the judge sees in an image, as far as the prompt asks for it."""

    good: bool
    text: str
    """Empty if the image shows what the prompt asks for."""


@dataclass(frozen=True)
class Frame:
    """One place for an image."""

    uri: str | None
    """None if there is no image."""
    alt: str
    caption: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Strip:
    """One prompt with one noise: the image of the base model, then the image of each run."""

    prompt: str
    seed: int | None
    frames: tuple[Frame, ...]
    attacked: str = ""
    """The attack's prompt of the last image, if it is another."""


@dataclass(frozen=True)
class Album:
    """The images of one probe."""

    probe: str
    title: str
    line: str
    strips: tuple[Strip, ...]
    total: int
    """All prompts and noises of the probe; `strips` shows some of them."""


def albums(group: Group, limit: int | None = None) -> list[Album]:
    """The images of each probe for all runs of a group, at most `limit` prompts. Images are matched by probe, prompt and noise.

    The prompts are chosen by their place in the list, never by their images.
    """
    found = [{(p.probe, p.prompt, p.seed): p for p in (c.view.evaluation.pairs if c.view.evaluation else ())} for c in group.columns]
    keys = list(dict.fromkeys(key for pairs in found for key in pairs))
    limit = limit or (PROMPTS_OF_ONE if len(group.columns) == 1 else PROMPTS_OF_SEVERAL)
    made = []
    for probe in sorted(dict.fromkeys(probe for probe, _, _ in keys), key=rank_of_probe):
        of_probe = [key for key in keys if key[0] == probe]
        chosen = spread(of_probe, min(limit, len(of_probe)))
        labels = tuple(column.label for column in group.columns)
        captions = ("base model", "unlearned") if len(labels) == 1 else ("", "")
        kind = group.columns[0].view.card.kind
        strips = tuple(_strip([pairs.get(key) for pairs in found], kind, labels, captions) for key in chosen)
        title, line = PROBE_TITLES.get(probe, (probe or "Other prompts", ""))
        made.append(Album(probe, title, line, strips, len(of_probe)))
    return made


def pair_strip(pair: ImagePair, kind: str | None) -> Strip:
    """One pair of images of a run that should not show a concept of this kind."""
    return _strip([pair], kind, ("unlearned model",), ("base model", "unlearned"))


def embed(file: Path | None) -> str | None:
    """An image file as a data address; None if there is no file, or if it holds no image."""
    if file is None:
        return None
    try:
        with Image.open(file) as image:
            image.load()
            small = image.convert("RGB")
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


def _strip(pairs: Sequence[ImagePair | None], kind: str | None, labels: Sequence[str], captions: tuple[str, str]) -> Strip:
    first = next(p for p in pairs if p)
    prompt = f"“{first.prompt}”" if first.prompt else "empty prompt"
    base = next((p.base for p in pairs if p and p.base), None)
    frames = [Frame(embed(base), f"Base model: {prompt}", captions[0], _marks(first.wanted, first.seen_base))]
    for label, pair in zip(labels, pairs, strict=True):
        marks = _marks(first.wanted, pair.seen if pair else {}, kind if first.probe in FORGET_PROBES else None)
        frames.append(Frame(embed(pair.unlearned) if pair else None, f"{label}: {prompt}", captions[1], marks))
    return Strip(first.prompt, first.seed, tuple(frames))


def _marks(wanted: Mapping[str, str], seen: Mapping[str, str], gone: str | None = None) -> tuple[Mark, ...]:
    """The judge's labels against the prompt; nothing without a judge. `gone` is the kind whose wanted label should not be seen."""
    marks = []
    for kind, label in wanted.items():
        if kind not in seen:
            continue
        if kind == gone:
            marks.append(Mark(False, f"still {label}") if seen[kind] == label else Mark(True, seen[kind]))
        elif seen[kind] != label:
            marks.append(Mark(False, f"{seen[kind]}, not {label}"))
    return tuple(sorted(marks, key=lambda m: m.good)) or ((Mark(True, ""),) if wanted.keys() & seen.keys() else ())
