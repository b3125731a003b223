"""Relearning from other data (DiMRA): fine-tuning that does not show the concept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt

from expunge.attacks._training import POINTS, Denoise, count_forwards, fine_tune, list_strengths
from expunge.attacks.base import Attack, Attacked, Victim
from expunge.attacks.captions import list_images, open_images
from expunge.attacks.data import draw_without, keep_readable, list_other_prompts, refuse_naming
from expunge.diffusion.types import Latents
from expunge.errors import Inapplicable
from expunge.evaluation.protocol import spread
from expunge.methods.base import Training, Variant
from expunge.models.scopes import SCOPES
from expunge.storage.hashing import seed_of
from expunge.training.anything import OtherNames, anything_bank
from expunge.training.banks import Bank, noised, pictured
from expunge.training.layerwise import calls as layerwise_calls
from expunge.training.preconditioner import calls, refuse_whitening

ANYTHING = Training(retain_pictures=128, points=512)
"""Images and points of random prompts on which the inputs of layers are measured."""


@dataclass(frozen=True)
class Relearn(Attack):
    """Fine-tune the model on images and captions without the concept (DiMRA).

        L = E_{(x_0, c) ~ D_au, t, eps} || eps - eps_theta(x_t, t, c) ||^2,  from the victim's weights

    Choose it to test whether a concept is removed or only hidden. Anyone who fine-tunes a model for another purpose does the same, without
    knowing what was removed. Compare it with the same attack on the base model, which never loses the concept, and on a model that was
    trained without the concept, which cannot recover it. Without these two a curve means little. Try at least two learning rates and two
    variants, fresh images and several repeats, as the budget `relearning` does; `whiten` is for an attacker who knows how a concept was
    removed.

    A larger strength is more of the same training. Batches depend only on the seed, so a run of fewer steps is the beginning of a longer
    run.

    Source: arXiv 2512.03564 (DiMRA) for the attack, its loss and the two kinds of data: retained data, and an auxiliary set that is public
    or made by the base model. arXiv 2410.08074 (concept resurgence) found a similar effect. We have not read the full text of arXiv
    2512.03564. Ours are the learning rate, the batch size and the readings; a fixed bank of points with times and noise, from which batches
    are sampled, instead of new times and noise in each step; and the rule for the auxiliary set: no caption contains a known name of the
    concept, and each names another member of its kind, if there is one, because an image whose prompt names none may show the concept.
    """

    data: str = "base"
    """The auxiliary set. `base`: images by the base model. `retain`: new drawings from the canvas's training distribution without the
    concept, for the canvas only. A folder: images with captions, in a metadata.jsonl or in a text file for each image. `datasets:NAME`: a
    data set on the hub or a folder of parquet files, loaded by the library `datasets`. Captions that are too long for the text encoder are
    cut after a word, and images whose captions the model cannot read are left out."""
    variant: Variant = "full"
    """Which weights are trained (`expunge ls scopes`). More weights can undo changes in more places."""
    lr: Annotated[float, Gt(0)] = 1e-4
    """Adam's learning rate, constant. Larger moves further from the unlearned weights, and eventually breaks the model."""
    steps: Annotated[int, Ge(1)] = 1000
    """Optimizer steps. With more, the concept has more time to come back."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Points on the noise path in each step. More reduces the variance of each step and costs proportionally more."""
    pictures: Annotated[int, Ge(1)] = 256
    """Maximum number of images in the auxiliary set. More are closer to the training distribution, and cost more to make."""
    whiten: Annotated[float, Gt(0)] | None = None
    """An attacker who knows the method: steps in the coordinates of `--whiten` with this ridge, in which a concept's words differ from
    others' as much as anything. It takes the concept's name. Smaller separates similar words more; none is Adam alone."""
    whiten_layers: bool | None = None
    """With `whiten`: true is for coordinates of every layer, in which its inputs on random prompts are white (`--whiten-layers`), and not
    of keys and values alone. It takes no name, and images of random prompts by the base model."""
    repeat: Annotated[int, Ge(0)] | None = None
    """Another auxiliary set, other noise and another order of batches for each number; none is those of the audit's seed. Several entries
    of a budget that differ in it show what depends on chance."""

    threat: ClassVar[str] = "the weights, and images of anything else"
    AT: ClassVar[tuple[int, ...]] = (0, 25, 50, 100, 200, 500, 1000)
    """Steps after which there is a reading, in addition to the last step."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return list_strengths(self.AT, self.steps)

    def cost(self, victim: Victim) -> tuple[int, int]:
        trained, scope = self.steps * self.batch_size, SCOPES[self.variant]
        made = count_forwards(victim, self._make_auxiliary_set) if self.data == "base" else 0
        if self.whiten and self.whiten_layers:
            return trained + made + count_forwards(victim, self._make_anything) + layerwise_calls(ANYTHING.points), trained
        return trained + made + calls(victim.model, victim.concept, self.whiten or 0.0, scope), trained

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        anything = None
        if self.whiten and self.whiten_layers:
            anything = self._make_anything(victim)
        else:
            refuse_whitening(victim.model, SCOPES[self.variant], self.whiten or 0.0)
        yield from fine_tune(
            victim, Denoise("retain", self.variant), self._make_bank(victim), self.strengths,
            lr=self.lr, batch_size=self.batch_size, whiten=self.whiten or 0.0, anything=anything, seed=victim.seed_for(self.repeat),
        )  # fmt: skip

    def trained_on(self, victim: Victim) -> Latents:
        return self._make_auxiliary_set(victim)[0]

    def _make_anything(self, victim: Victim) -> Bank:
        seed = seed_of("relearn", victim.seed_for(self.repeat))
        return anything_bank(victim.session, victim.concept, OtherNames.of(victim.model, victim.concept, seed), ANYTHING, seed)

    def _make_bank(self, victim: Victim) -> Bank:
        clean, captions = self._make_auxiliary_set(victim)
        refuse_naming(victim.concept, captions)
        count, generator = (
            max(POINTS, len(captions)),
            torch.Generator().manual_seed(seed_of("relearn", victim.seed_for(self.repeat), "noise")),
        )
        return Bank(noised(victim.model, "retain", clean, captions, count, generator)[0])

    def _make_auxiliary_set(self, victim: Victim) -> tuple[Latents, list[str]]:
        """The auxiliary set: clean latents, and a caption of each."""
        model, concept, count, seed = victim.model, victim.concept, self.pictures, victim.seed_for(self.repeat)
        # Seeds of its own, so that no image is one that a method was trained to retain.
        if self.data == "base":
            prompts = spread(list_other_prompts(concept), count)
            seeds = [seed_of("relearn", seed, "picture", i) for i in range(count)]
            return pictured(victim.session, "retain", prompts, seeds), prompts
        if self.data == "retain":
            if not model.defaults.has_real_images or concept.vocabulary != model.defaults.vocabulary():
                raise Inapplicable(
                    f"Only concepts of the canvas can be drawn, and {model.name} has another vocabulary.",
                    rule="no-drawings",
                    value=model.name,
                    hint="Try data = 'base', or images of your own.",
                )
            drawings, captions = draw_without(concept, count, seed_of("relearn", seed, "drawings"))
            return model.encode_images(drawings), captions
        images = list_images(self.data)
        refuse_naming(concept, [one.caption for one in images], [one.source for one in images])
        readable = keep_readable(model, images)
        chosen = spread(readable, min(count, len(readable)))
        return model.encode_images(open_images(chosen, model.size)), [one.caption for one in chosen]
