"""The loop of every attack that trains on: ordinary denoising, by the trainer that unlearning uses, from the victim's weights."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from expunge.attacks.base import Attacked, Victim, plain
from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import denoising_error
from expunge.diffusion.networks import Models
from expunge.errors import ExpungeError
from expunge.methods.base import Objective, Training, Variant
from expunge.models.delta import swapped
from expunge.models.scopes import SCOPES, Scope
from expunge.progress import Silent
from expunge.runs.cost import Rehearsed, without_network
from expunge.storage.hashing import digest, seed_of
from expunge.storage.tensors import content, read_tensors, write_tensors
from expunge.training.banks import Bank
from expunge.training.batches import Batches
from expunge.training.counters import counted
from expunge.training.loop import Trainer
from expunge.training.state import TrainState

POINTS = 2048
"""Places on the noise path that batches are drawn from. Whatever the steps, so that fewer steps are the beginning of more."""

CHECKPOINT_EVERY = 50
"""Steps between checkpoints, from which a killed attack goes on."""


@dataclass(frozen=True)
class Denoise(Objective):
    """What the model was first trained with: L = E || eps - eps_theta(x_t, t, c) ||^2 (arXiv 2006.11239, equation 14), or of a model
    that predicts v, E || v - v_theta ||^2 (arXiv 2202.00512)."""

    part: Literal["forget", "retain"]
    variant: Variant

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({self.part})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x = batch.forget if self.part == "forget" else batch.retain
        return {"denoise": denoising_error(models, x).mean()}


def rungs(at: Sequence[int], steps: int) -> tuple[float, ...]:
    """Those of the step numbers `at` that lie before the last, 0 first, and the last."""
    return (*(float(s) for s in at if s < steps), float(steps))


def fine_tuned(
    victim: Victim, objective: Denoise, bank: Bank, lr: float, batch_size: int, strengths: Sequence[float]
) -> Iterator[Attacked]:  # fmt: skip
    """Trains the victim on the bank's points and yields its weights after each of `strengths` steps, 0 first.

    With a folder, a killed attack goes on from its last checkpoint, and yields the same readings again from the first on; the
    folder is empty again when the last has been taken.
    """
    model, net = victim.model, victim.model.network
    training = Training(steps=int(strengths[-1]), lr=lr, schedule="constant", batch_size=batch_size, checkpoint_every=CHECKPOINT_EVERY)
    # By what is trained on and not only by the settings; and before the weights change, which the fingerprint is taken of.
    points = content({"x_t": bank.points.x_t})
    name = digest(victim.fingerprint, victim.seed, asdict(objective), asdict(training), points, bank.points.cond.keys)
    folder = victim.folder / name if victim.folder else None
    yield plain(victim, 0.0, {})

    # Copies: the trainer changes the tensors in place that it finds in the network.
    with swapped(net, {n: v.clone() for n, v in victim.delta.items()}):
        state = TrainState(model, objective.scope, seed_of(victim.seed, "attack"))
        try:
            batches = Batches(model, victim.concept, objective.needs, {objective.part: bank}, victim.seed, training.batch_size)
            trainer = Trainer(victim.session, objective, training, batches, state, folder)
            steps = trainer.fit()
            with model.mixed(trainer.accelerator.autocast):  # the caller draws each reading in it too
                for strength in strengths[1:]:
                    file = folder / f"reading-{strength:06.0f}.safetensors" if folder else None
                    if file and file.exists():
                        yield plain(victim, strength, read_tensors(file))
                        continue
                    if trainer.steps_done > strength:
                        raise ExpungeError(f"an attack keeps its readings beside its checkpoint: {file} is missing; delete {folder}")
                    while trainer.steps_done < strength:
                        next(steps)
                    weights = state.delta()
                    if file:
                        write_tensors(file, weights)
                    yield plain(victim, strength, weights)
        finally:
            state.release()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def rehearsed(victim: Victim, make: Callable[[Victim], object]) -> int:
    """Forwards that `make` would take, counted on a network that predicts nothing; what the store has costs none."""
    model = without_network(victim.model)
    session = replace(victim.session, model=model, cache=Rehearsed(victim.session.cache.root), progress=Silent())
    with counted(model.network) as count:
        make(replace(victim, session=session))
    return count.samples
