"""Training data without the concept: prompts, drawings of the canvas, and checks of a user's captions."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from expunge.attacks.captions import CaptionedImage
from expunge.concepts.concept import Concept
from expunge.concepts.name_set import compile_names
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.storage.hashing import seed_of

LISTED = 20
"""Number of captions that an error quotes."""


def compile_known_names(concept: Concept) -> re.Pattern[str]:
    """A pattern that finds every known name of the concept and of those removed with it, including names that are not given to the run."""
    return compile_names([name for c in (concept, *concept.removed) for name in c.known])


def list_other_prompts(concept: Concept) -> list[str]:
    """Prompts that do not name the concept and name another member of its kind.

    A model may show the concept for a prompt that says nothing of the kind, above all for the empty prompt. If the kind has no other
    member, the prompts name only partners.

    Raises:
        ExpungeError: rule "no-other-prompt", every prompt names the concept.
    """
    probes, words = concept.probes(), compile_known_names(concept)
    prompts = [p.prompt for probe in ("siblings", "same_domain") for p in probes[probe]] or [p.prompt for p in probes["cross_domain"]]
    if kept := [p for p in prompts if not words.search(p)]:
        return kept
    raise ExpungeError(
        f"The vocabulary has no prompt without {concept.target!r}.",
        rule="no-other-prompt",
        value=concept.target,
        hint="Try data of your own: --auxiliary with a folder of images with captions.",
    )


def refuse_naming(concept: Concept, captions: Sequence[str], sources: Sequence[str] = ()) -> None:
    """Raise an error if captions name the concept. Plurals and other ways to join words count: "rings", "Van-Gogh", "vangogh".

    Args:
        concept: The concept.
        captions: The captions of a user's images.
        sources: The file or row of each image, for the message.

    Raises:
        ExpungeError: rule "caption-names-concept"; the message quotes the first `LISTED` captions and gives their number.
    """
    words = compile_loosely(name for c in (concept, *concept.removed) for name in c.known)
    if bad := [i for i, caption in enumerate(captions) if words.search(caption)]:
        quoted = [f"{captions[i]!r}{f' ({Path(sources[i]).name})' if sources else ''}" for i in bad[:LISTED]]
        more = f" and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise ExpungeError(
            f"{len(bad)} of {len(captions)} captions name {concept.target!r}: {', '.join(quoted)}{more}.",
            rule="caption-names-concept",
            value=captions[bad[0]],
            hint="Try the set without these images.",
        )


def compile_loosely(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of `names`, also in the plural and with any or no separator between its words."""
    forms = (r"[\W_]*".join(map(re.escape, re.findall(r"\w+", name))) for name in names)
    return re.compile("|".join(rf"(?<![^\W_]){form}(?:e?s)?(?![^\W_])" for form in forms if form), re.IGNORECASE)


def can_read(model: DiffusionModel, prompt: str) -> bool:
    """Whether the model knows every word of a prompt. Nothing is encoded."""
    try:
        model.check_words(prompt)
    except ExpungeError:
        return False
    return True


def keep_readable(model: DiffusionModel, images: Sequence[CaptionedImage]) -> list[CaptionedImage]:
    """The images whose captions the model can read, each with the words of its caption that fit into the text encoder.

    Raises:
        ExpungeError: rule "unreadable-captions", the model can read no caption.
    """
    shortened = (replace(one, caption=model.fitting(one.caption)) for one in images)
    if readable := [one for one in shortened if can_read(model, one.caption)]:
        return readable
    first = f"{images[0].caption!r} ({Path(images[0].source).name})"
    raise ExpungeError(
        f"{model.name} can read none of {len(images)} captions, such as {first}.",
        rule="unreadable-captions",
        value=images[0].caption,
        hint="Try words that the model was trained on; `expunge ls concepts` lists the canvas's.",
    )


def draw_without(concept: Concept, count: int, seed: int) -> tuple[UInt8[Tensor, "b 3 64 64"], list[str]]:
    """New drawings and captions from the canvas's training distribution, without the concept and those removed with it."""
    from expunge.canvas.draw import draw
    from expunge.canvas.training.train import make_caption, random_pairs_without

    objects, styles = random_pairs_without((concept, *concept.removed), count, seed)
    generator = torch.Generator().manual_seed(seed_of(seed, "captions"))
    captions = [make_caption(o, s, generator) for o, s in zip(objects.tolist(), styles.tolist(), strict=True)]
    return draw(objects, styles, seed_of(seed, "strokes")), captions
