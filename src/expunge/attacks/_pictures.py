"""Images of the concept that an attacker gives to the model, and the prompts under which."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from expunge.attacks._training import count_forwards
from expunge.attacks.base import Attack, Attacked, Victim, refuse_unordered
from expunge.diffusion.types import Cond, Latents
from expunge.errors import Inapplicable
from expunge.models.sampling import Start
from expunge.storage.hashing import seed_of
from expunge.training.banks import pictured

Under = Literal["erased", "null", "neighbour"]
"""The prompt under which the model is given an image of the concept."""


@dataclass(frozen=True)
class ImageGuided(Attack):
    """An attack that gives the model images of the concept by the base model, one for each image of a reading."""

    prompt: Under = "null"
    """The prompt: `erased`, the concept's own; `null`, the empty one, for which nothing was removed; `neighbour`, the same prompt with a
    sibling in the concept's place, or another member of its kind where it has no sibling."""

    teaches: ClassVar[bool] = True
    changes_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        refuse_unordered(self)

    def cost(self, victim: Victim) -> tuple[int, int]:
        return self.count_pictures(victim), 0

    def make_pictures(self, victim: Victim) -> Latents:
        """Clean latents of an image of the concept for each image of a reading, under its prompt."""
        # Seeds of its own, so that no image is one that a method was trained on.
        seeds = [seed_of("image-guided", victim.seed, "picture", i) for i in range(victim.pictures)]
        return pictured(victim.session, "forget", victim.asked()[0], seeds).to(victim.model.device)

    def encode_prompts(self, victim: Victim) -> Cond:
        """The encoded prompts of a reading. Their keys name the image too, since the empty prompt is the same for all."""
        named, _ = victim.asked()
        used = self._list_prompts(victim, named)
        cond = victim.model.encode(used)
        return replace(cond, keys=tuple(f"{used[i] or '(no prompt)'}, given an image of {text}" for i, text in enumerate(named)))

    def count_pictures(self, victim: Victim) -> int:
        """Forward passes that the images of the concept cost."""
        return count_forwards(victim, self.make_pictures)

    def make_reading(self, victim: Victim, strength: float, start: Start) -> Attacked:
        """A reading with the victim's weights, from an image or from chosen noise."""
        return Attacked(strength, self.encode_prompts(victim), tuple(victim.noise_seeds), dict(victim.delta), start)

    def _list_prompts(self, victim: Victim, named: list[str]) -> list[str]:
        """The prompts, for the concept's own prompts `named`.

        Raises:
            Inapplicable: the concept's kind has no other member.
        """
        match self.prompt:
            case "erased":
                return named
            case "null":
                return [""] * len(named)
        others = {p.prompt: p.siblings or p.marginals for p in victim.concept.forget()}
        if not all(others[prompt] for prompt in named):
            raise Inapplicable(
                f"{victim.concept.target!r} has no neighbour: the vocabulary has no other member of its kind.",
                rule="no-neighbour",
                value=victim.concept.target,
                hint="Try prompt = 'null' or 'erased'.",
            )
        return [others[prompt][i % len(others[prompt])] for i, prompt in enumerate(named)]
