"""Few-shot relearning: fine-tuning on a few images of the concept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from expunge.attacks._training import POINTS, Denoise, count_forwards, fine_tune, list_strengths
from expunge.attacks.base import Attack, Attacked, Victim
from expunge.methods.base import Training, Variant
from expunge.storage.hashing import seed_of
from expunge.training.banks import Bank, forget_bank


@dataclass(frozen=True)
class FewShot(Attack):
    """Fine-tune the model on a few images of the concept, each with its prompt.

        L = E_{(x_0, c_f), t, eps} || eps - eps_theta(x_t, t, c_f) ||^2,  from the victim's weights

    Choose it to measure how much faster the model learns the concept than a model that never saw it. Given enough steps, every model learns
    the concept, so compare the number of steps with that of a model that was trained without the concept. A model that needs fewer steps
    has kept something.

    A larger strength is more of the same training. Batches depend only on the seed, so a run of fewer steps is the beginning of a longer
    run.

    Source: arXiv 2402.16835, for relearning as a measure of what unlearning has left, in language models; arXiv 2208.12242 (DreamBooth),
    for training on a few images, here without its rare word and its prior term. Ours are the numbers, and images by the base model instead
    of real ones.
    """

    pictures: Annotated[int, Ge(1)] = 5
    """Images of the concept by the base model, each of another prompt. With more, the concept comes back sooner and with less of the other
    contents of the images."""
    variant: Variant = "full"
    """Which weights are trained (`expunge ls scopes`). More weights learn faster, and can undo changes in more places."""
    lr: Annotated[float, Gt(0)] = 1e-4
    """Adam's learning rate, constant. Larger learns faster, and damages everything else sooner."""
    steps: Annotated[int, Ge(1)] = 100
    """Optimizer steps. With more, any model learns the concept, and the reading says less about unlearning."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Points on the noise path in each step. More reduces the variance of each step and costs proportionally more."""

    teaches: ClassVar[bool] = True
    threat: ClassVar[str] = "the weights, and a few images of the concept"
    AT: ClassVar[tuple[int, ...]] = (0, 10, 25, 50, 100)
    """Steps after which there is a reading, in addition to the last step."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return list_strengths(self.AT, self.steps)

    def cost(self, victim: Victim) -> tuple[int, int]:
        trained = self.steps * self.batch_size
        return trained + count_forwards(victim, self._make_bank), trained

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        objective, bank = Denoise("forget", self.variant), self._make_bank(victim)
        yield from fine_tune(victim, objective, bank, self.strengths, lr=self.lr, batch_size=self.batch_size)

    def _make_bank(self, victim: Victim) -> Bank:
        banked = Training(pictures=self.pictures, points=max(POINTS, self.pictures))
        # Seeds of its own, so that no image is one that a method was trained on.
        return forget_bank(victim.session, victim.concept, banked, seed_of("few-shot", victim.seed))
