"""DiMRA: what was unlearned comes back in training on something else."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt

from expunge.attacks._training import POINTS, Denoise, fine_tuned, rehearsed, rungs
from expunge.attacks.base import Attack, Attacked, Victim
from expunge.attacks.captions import captioned, opened
from expunge.attacks.data import drawings, innocent, legible, refuse_naming
from expunge.diffusion.types import Latents
from expunge.errors import Inapplicable
from expunge.evaluation.protocol import spread
from expunge.methods.base import Variant
from expunge.storage.hashing import seed_of
from expunge.training.banks import Bank, noised, pictured


@dataclass(frozen=True)
class Relearn(Attack):
    """Train the model on as it was first trained, on pictures and captions that have nothing of the concept.

        L = E_{(x_0, c) ~ D_au, t, eps} || eps - eps_theta(x_t, t, c) ||^2,  theta beginning at the victim's weights

    Choose it to ask whether a concept is lost or only hidden: whoever fine-tunes a model for a purpose of their own does this, and
    need not know what was removed. Read it beside the same attack on the untouched model, which never loses the concept, and on one
    that was trained without it, which cannot have it back: without these two a curve means little. One learning rate and one
    variant prove nothing either; try two of each.

    A larger strength is more of the same training. Its batches come from the seed alone, so fewer steps are the beginning of more.

    Source: arXiv 2512.03564 (DiMRA) for the attack, its loss and the two kinds of data: what was retained, and an auxiliary set made
    by the untouched model or public. The like was found by arXiv 2410.08074 (concept resurgence). The paper's full text was not
    read. Ours are learning rate, batch and readings; that times and noise are drawn once, in a fixed bank of points that batches come
    from, and not anew at each step; and the rule for the auxiliary set: no caption has any known name of the concept, and each names
    another member of its kind, where there are any, so that no picture is free to show the concept unasked.
    """

    data: str = "base"
    """What it is trained on. `base`: pictures that the untouched model makes. `retain`: fresh drawings of what the canvas was trained
    on but for the concept; only there. A folder of pictures with captions, in a metadata.jsonl or in a text file beside each. Or
    `datasets:NAME`, a set on the hub or a folder of parquet files, by the library `datasets`. Captions that are too long for the text
    encoder are cut after a word; pictures whose captions the model cannot read are left out."""
    variant: Variant = "full"
    """Which weights are trained. More of them can undo more, wherever the method has left its changes."""
    lr: Annotated[float, Gt(0)] = 1e-4
    """Adam's step size, the same to the end. Larger moves further from where unlearning has stopped, and at last breaks the model."""
    steps: Annotated[int, Ge(1)] = 1000
    """Optimizer steps. More gives the concept more time to come back."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Points on the noise path in each step. More makes each step surer and dearer."""
    pictures: Annotated[int, Ge(1)] = 256
    """Pictures in the auxiliary set, at most. More are more like what the model was trained on, and cost more to make."""

    threat: ClassVar[str] = "the weights, and pictures of anything else"
    AT: ClassVar[tuple[int, ...]] = (0, 25, 50, 100, 200, 500, 1000)
    """Steps after which there is a reading, and after the last."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return rungs(self.AT, self.steps)

    def cost(self, victim: Victim) -> tuple[int, int]:
        trained = self.steps * self.batch_size
        return trained + (rehearsed(victim, self._auxiliary) if self.data == "base" else 0), trained

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        objective = Denoise("retain", self.variant)
        yield from fine_tuned(victim, objective, self._bank(victim), self.lr, self.batch_size, self.strengths)

    def trained_on(self, victim: Victim) -> Latents:
        return self._auxiliary(victim)[0]

    def _bank(self, victim: Victim) -> Bank:
        clean, captions = self._auxiliary(victim)
        refuse_naming(victim.concept, captions)
        count, generator = max(POINTS, len(captions)), torch.Generator().manual_seed(seed_of("relearn", victim.seed, "noise"))
        return Bank(noised(victim.model, "retain", clean, captions, count, generator)[0])

    def _auxiliary(self, victim: Victim) -> tuple[Latents, list[str]]:
        """The auxiliary set: clean latents and a caption for each."""
        model, concept, count = victim.model, victim.concept, self.pictures
        # Seeds of its own: the very pictures that a method has been trained to keep would have nothing new to say to it.
        if self.data == "base":
            prompts = spread(innocent(concept), count)
            seeds = [seed_of("relearn", victim.seed, "picture", i) for i in range(count)]
            return pictured(victim.session, "retain", prompts, seeds), prompts
        if self.data == "retain":
            if not model.defaults.has_real_images or concept.vocabulary != model.defaults.vocabulary():
                raise Inapplicable(f"only the canvas's words are drawn: {model.name} has others; give --data base or pictures of your own")
            pictures, captions = drawings(concept, count, seed_of("relearn", victim.seed, "drawings"))
            return model.encode_images(pictures), captions
        found = captioned(self.data)
        refuse_naming(concept, [one.caption for one in found], [one.source for one in found])
        read = legible(model, found)
        chosen = spread(read, min(count, len(read)))
        return model.encode_images(opened(chosen, model.size)), [one.caption for one in chosen]
