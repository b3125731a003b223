"""What may be shown to a model without showing it a concept: prompts, drawings, and a look at the captions of others."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from expunge.attacks.captions import Captioned
from expunge.concepts.concept import Concept, compile_names
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.storage.hashing import seed_of

LISTED = 20
"""Captions that a refusal names."""


def named(concept: Concept) -> re.Pattern[str]:
    """Finds every known name, erased or not, of the concept and of those that are removed with it."""
    return compile_names([name for c in (concept, *concept.removed) for name in c.known])


def innocent(concept: Concept) -> list[str]:
    """Prompts that do not name the concept, and whose pictures are not free to show it.

    Each names another member of its kind: a prompt that says nothing of the kind, and the empty one above all, may well be answered
    with the concept. Where the kind has no other that may stand in for it, the partners alone.
    """
    probes, words = concept.probes(), named(concept)
    prompts = [p.prompt for probe in ("siblings", "same_domain") for p in probes[probe]] or [p.prompt for p in probes["cross_domain"]]
    if kept := [p for p in prompts if not words.search(p)]:
        return kept
    raise ExpungeError(f"prompts are left beside the concept: the vocabulary has none but of {concept.target!r}; give --data a folder")


def refuse_naming(concept: Concept, captions: Sequence[str], sources: Sequence[str] = ()) -> None:
    """Refuses captions that name the concept, in the plural or run together too: "rings", "Van-Gogh", "vangogh". `sources` says where
    each one's picture is from.

    Raises:
        ExpungeError: with the first of them, and how many there are.
    """
    words = loosely(name for c in (concept, *concept.removed) for name in c.known)
    if bad := [i for i, caption in enumerate(captions) if words.search(caption)]:
        told = [f"{captions[i]!r}{f' ({Path(sources[i]).name})' if sources else ''}" for i in bad[:LISTED]]
        more = f" and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise ExpungeError(
            f"an auxiliary set never names the concept: {len(bad)} of {len(captions)} captions name {concept.target!r}: "
            f"{', '.join(told)}{more}; "
            "take these pictures out"
        )


def loosely(names: Iterable[str]) -> re.Pattern[str]:
    """Finds any of `names` as people write them: with or without what stands between their words, and in the plural."""
    forms = (r"[\W_]*".join(map(re.escape, re.findall(r"\w+", name))) for name in names)
    return re.compile("|".join(rf"(?<![^\W_]){form}(?:e?s)?(?![^\W_])" for form in forms if form), re.IGNORECASE)


def reads(model: DiffusionModel, prompt: str) -> bool:
    """Whether the model can be asked for this. Nothing is encoded."""
    try:
        model.check_words(prompt)
    except ExpungeError:
        return False
    return True


def legible(model: DiffusionModel, found: Sequence[Captioned]) -> list[Captioned]:
    """Pictures whose captions the model reads: of a caption that is longer than the text encoder has room for, as ordinary training has
    it, the words that fit. Those with words that the model cannot read are left out.

    Raises:
        ExpungeError: it reads none.
    """
    shortened = (replace(one, caption=model.fitting(one.caption)) for one in found)
    if kept := [one for one in shortened if reads(model, one.caption)]:
        return kept
    first = f"{found[0].caption!r} ({Path(found[0].source).name})"
    raise ExpungeError(
        f"an auxiliary set has captions that the model reads: of {len(found)}, {first} for one, {model.name} reads none; write them in "
        "words that it was trained on (see `expunge ls concepts`)"
    )


def drawings(concept: Concept, count: int, seed: int) -> tuple[UInt8[Tensor, "b 3 64 64"], list[str]]:
    """Fresh drawings and captions as the canvas was trained on, but for the concept and those that are removed with it."""
    from expunge.canvas.draw import draw
    from expunge.canvas.training.train import make_caption, random_pairs_without

    objects, styles = random_pairs_without((concept, *concept.removed), count, seed)
    generator = torch.Generator().manual_seed(seed_of(seed, "captions"))
    captions = [make_caption(o, s, generator) for o, s in zip(objects.tolist(), styles.tolist(), strict=True)]
    return draw(objects, styles, seed_of(seed, "strokes")), captions
