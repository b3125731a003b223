"""One step's batch: the parts that a method may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.types import Cond, Noised, Point, Spans
from expunge.errors import UndeclaredNeed

Terms = dict[str, Float[Tensor, ""]]
"""Named scalar losses; their sum is minimised, each is logged."""

Need = Literal[
    "reference", "forget", "trajectory", "surrogate_trajectory", "anchor_pictures", "surrogate", "replaced", "retain", "anything",
    "turned", "context", "marginal", "sibling", "anchor", "replacement", "replaced_as", "other_words", "spans",
]  # fmt: skip
"""What a method may ask for. `target` and `null` are always there."""

NEEDS: dict[Need, str] = {
    "reference": "the base model's noise predictions",
    "forget": "images of the concept by the base model, noised",
    "trajectory": "points that the base model visits while it samples the concept under guidance",
    "surrogate_trajectory": "points that the base model visits while it samples the marginal, where the method needs it, else the context, "
    "else the empty prompt, each under the forget prompt",
    "anchor_pictures": "images of the anchor's prompts by the base model, each under the forget prompt, noised",
    "surrogate": "images of what may replace the concept, by the base model, each under the forget prompt, noised",
    "retain": "what must survive: images by the base model, noised, each under its prompt; for closed forms only the prompts",
    "replaced": "images of one member that replaces the concept, by the base model, each under the forget prompt, noised",
    "anything": "images by the base model of prompts made at random from the tokenizer's words, noised, each under its prompt",
    "turned": "images of the concept, noised, each under a random prompt, whose image from the same initial noise is the goal",
    "context": "each forget prompt with the concept deleted",
    "marginal": "each forget prompt with another concept of the same domain in the concept's place",
    "sibling": "each forget prompt with another member of the concept's family in the concept's place; the marginal, where there is none",
    "anchor": "each forget prompt with the anchor in the concept's place",
    "replacement": "each forget prompt with the one member that replaces the concept: the anchor, or one far from it",
    "replaced_as": "the prompt of each image of `replaced`",
    "other_words": "the prompt of each image of `replaced` with a random word of the tokenizer in the concept's place",
    "spans": "what each token of each forget prompt is: the concept's, the end, padding or another",
}


LEADS: tuple[Need, ...] = ("forget", "trajectory", "surrogate_trajectory", "anchor_pictures", "surrogate")
"""The parts whose rows belong to forget prompts. `context`, `marginal`, `sibling`, `anchor` and `spans` go row by row with the first."""


@dataclass(frozen=True)
class Batch:
    """What one step may read: a function of (seed, step) alone. A part exists only if the method declared it."""

    step: int
    target: Cond
    """The concept's bare prompts, main word and given synonyms."""
    null: Cond
    """The empty prompt, one row."""
    parts: Mapping[Need, Point | Noised | Cond | Spans]

    def _part(self, need: Need) -> Point | Noised | Cond | Spans:
        if need not in self.parts:
            have = ", ".join(sorted(self.parts)) or "nothing"
            raise UndeclaredNeed(
                f"{need!r} was read from a batch whose method declares {have}.",
                rule="undeclared-need",
                value=need,
                hint=f"Try adding {need!r} to the method's `needs`.",
            )
        return self.parts[need]

    @property
    def forget(self) -> Noised:
        """Noised images of the concept, each under its full prompt."""
        return self._part("forget")  # type: ignore[return-value]

    @property
    def trajectory(self) -> Point:
        """Points of guided sampling of the concept."""
        return self._part("trajectory")  # type: ignore[return-value]

    @property
    def surrogate_trajectory(self) -> Point:
        """Points of guided sampling of the prompt without the concept, each under the forget prompt. What is sampled is `marginal`, where
        the method needs that, else `context`, else `null`."""
        return self._part("surrogate_trajectory")  # type: ignore[return-value]

    @property
    def anchor_pictures(self) -> Noised:
        """Noised images of the anchor's prompts, each under the forget prompt whose anchor it is."""
        return self._part("anchor_pictures")  # type: ignore[return-value]

    @property
    def surrogate(self) -> Noised:
        """Noised images of what may replace the concept, each under the forget prompt in which it replaces it."""
        return self._part("surrogate")  # type: ignore[return-value]

    @property
    def retain(self) -> Noised:
        """Noised images of what must survive, each under its own prompt."""
        return self._part("retain")  # type: ignore[return-value]

    @property
    def replaced(self) -> Noised:
        """Noised images of the member that replaces the concept, each under the forget prompt in which it replaces it."""
        return self._part("replaced")  # type: ignore[return-value]

    @property
    def anything(self) -> Noised:
        """Noised images of random prompts, each under its own prompt."""
        return self._part("anything")  # type: ignore[return-value]

    @property
    def turned(self) -> Noised:
        """Noised images of the concept, each under a random prompt. The goal leads to that prompt's image from the same initial noise."""
        return self._part("turned")  # type: ignore[return-value]

    @property
    def context(self) -> Cond:
        """Row by row, the forget prompt of the first declared of `LEADS` with the concept deleted."""
        return self._part("context")  # type: ignore[return-value]

    @property
    def marginal(self) -> Cond:
        """Row by row, that forget prompt with another concept of the same domain in its place; for `surrogate`, what the image shows, and
        for `surrogate_trajectory`, what is sampled."""
        return self._part("marginal")  # type: ignore[return-value]

    @property
    def sibling(self) -> Cond:
        """Row by row, that forget prompt with a sibling in the concept's place; where the concept has none, the marginal."""
        return self._part("sibling")  # type: ignore[return-value]

    @property
    def anchor(self) -> Cond:
        """Row by row, that forget prompt with the anchor in the concept's place."""
        return self._part("anchor")  # type: ignore[return-value]

    @property
    def replacement(self) -> Cond:
        """Row by row, that forget prompt with the member that replaces the concept: its anchor, or one far from it."""
        return self._part("replacement")  # type: ignore[return-value]

    @property
    def replaced_as(self) -> Cond:
        """Row by row, the prompt that each image of `replaced` was made of."""
        return self._part("replaced_as")  # type: ignore[return-value]

    @property
    def other_words(self) -> Cond:
        """Row by row, the forget prompt of each image of `replaced` with a random word of the tokenizer in the concept's place."""
        return self._part("other_words")  # type: ignore[return-value]

    @property
    def spans(self) -> Spans:
        """Row by row, what each token of that forget prompt is."""
        return self._part("spans")  # type: ignore[return-value]
