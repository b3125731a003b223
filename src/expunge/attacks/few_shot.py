"""Teaching the concept anew, from a few pictures of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from expunge.attacks._training import POINTS, Denoise, fine_tuned, rehearsed, rungs
from expunge.attacks.base import Attack, Attacked, Victim
from expunge.methods.base import Training, Variant
from expunge.storage.hashing import seed_of
from expunge.training.banks import Bank, forget_bank


@dataclass(frozen=True)
class FewShot(Attack):
    """Train the model on a few pictures of the concept, each under its own prompt.

        L = E_{(x_0, c_f), t, eps} || eps - eps_theta(x_t, t, c_f) ||^2,  theta beginning at the victim's weights

    Choose it to ask how much less the concept costs than one that was never there. In the end every model learns what it is shown:
    what counts is how soon, beside a model that was trained without the concept. One that is faster has kept something.

    A larger strength is more of the same training. Its batches come from the seed alone, so fewer steps are the beginning of more.

    Source: relearning as a measure of what unlearning has left, arXiv 2402.16835 (for language models). The training on a few
    pictures is that of arXiv 2208.12242 (DreamBooth) without a rare word and a prior term. Ours are the numbers, and pictures by the
    untouched model in the place of real ones.
    """

    pictures: Annotated[int, Ge(1)] = 5
    """Pictures of the concept, by the untouched model, each of another prompt. More say better what it is, so it comes back sooner
    and with less of what was on them."""
    variant: Variant = "full"
    """Which weights are trained. More of them learn sooner, and wherever the method has left its changes."""
    lr: Annotated[float, Gt(0)] = 1e-4
    """Adam's step size, the same to the end. Larger learns sooner, and hurts all else sooner."""
    steps: Annotated[int, Ge(1)] = 100
    """Optimizer steps. With more, any model learns it, and the reading says less."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Points on the noise path in each step. More makes each step surer and dearer."""

    teaches: ClassVar[bool] = True
    threat: ClassVar[str] = "the weights, and a few pictures of the concept"
    AT: ClassVar[tuple[int, ...]] = (0, 10, 25, 50, 100)
    """Steps after which there is a reading, and after the last."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return rungs(self.AT, self.steps)

    def cost(self, victim: Victim) -> tuple[int, int]:
        trained = self.steps * self.batch_size
        return trained + rehearsed(victim, self._shown), trained

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        objective = Denoise("forget", self.variant)
        yield from fine_tuned(victim, objective, self._shown(victim), self.lr, self.batch_size, self.strengths)

    def _shown(self, victim: Victim) -> Bank:
        banked = Training(pictures=self.pictures, points=max(POINTS, self.pictures))
        # Seeds of its own: not the pictures that a method has unlearned by.
        return forget_bank(victim.session, victim.concept, banked, seed_of("few-shot", victim.seed))
