"""Fine-tuning of the attacked model with the denoising loss, by the trainer that unlearning uses."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from expunge.attacks.base import Attacked, Victim, make_reading
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
"""Points on the noise path from which batches are sampled. Their number does not depend on the steps, so that a run of fewer steps is the
beginning of a run of more."""

CHECKPOINT_EVERY = 50
"""Steps between checkpoints, from which an interrupted attack continues."""


@dataclass(frozen=True)
class Denoise(Objective):
    """The denoising loss with which the model was trained, L = E || eps - eps_theta(x_t, t, c) ||^2 (arXiv 2006.11239, equation 14).

    For a model that predicts v it is E || v - v_theta ||^2 (arXiv 2202.00512).
    """

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


def list_strengths(at: Sequence[int], steps: int) -> tuple[float, ...]:
    """The step numbers in `at` that are below `steps`, and `steps`."""
    return (*(float(s) for s in at if s < steps), float(steps))


def fine_tune(
    victim: Victim,
    objective: Denoise,
    bank: Bank,
    strengths: Sequence[float],
    *,
    lr: float,
    batch_size: int,
    whiten: float = 0.0,
    anything: Bank | None = None,
    seed: int | None = None,
) -> Iterator[Attacked]:
    """Train the victim on the bank's points, and yield a reading with its weights after each number of steps in `strengths`, from 0.

    The order of the batches follows `seed`, by default the victim's. With `anything` whitened steps are for the inputs of every layer at
    its points.

    If the victim has a folder, an interrupted attack continues from its last checkpoint and yields the same readings again, from the
    first. The folder is removed after the last reading.

    Raises:
        ExpungeError: rule "missing-reading", the folder lacks the weights of a reading that the checkpoint is past.
    """
    model, net = victim.model, victim.model.network
    seed = victim.seed if seed is None else seed
    training = Training(
        steps=int(strengths[-1]), lr=lr, schedule="constant", batch_size=batch_size, checkpoint_every=CHECKPOINT_EVERY,
        whiten=whiten, whiten_layers=anything is not None,
    )  # fmt: skip
    banks: dict[Need, Bank] = {objective.part: bank, **({} if anything is None else {"anything": anything})}
    # The name depends on the training points too. It is computed before the weights, and with them the fingerprint, change.
    points = content({"x_t": bank.points.x_t})
    name = digest(victim.fingerprint, seed, asdict(objective), asdict(training), points, bank.points.cond.keys)
    folder = victim.folder / name if victim.folder else None
    yield make_reading(victim, 0.0, {})

    # Copies, because the trainer changes the network's tensors in place.
    with swapped(net, {n: v.clone() for n, v in victim.delta.items()}):
        state = TrainState(model, objective.scope, seed_of(seed, "attack"))
        try:
            batches = Batches(model, victim.concept, objective.needs, banks, seed, training.batch_size)
            trainer = Trainer(victim.session, objective, training, batches, state, folder)
            steps = trainer.fit()
            with model.mixed(trainer.accelerator.autocast):  # the caller samples each reading's images in it too
                for strength in strengths[1:]:
                    file = folder / f"reading-{strength:06.0f}.safetensors" if folder else None
                    if file and file.exists():
                        yield make_reading(victim, strength, read_tensors(file))
                        continue
                    if trainer.steps_done > strength:
                        raise ExpungeError(
                            f"{file} is missing, but the attack's checkpoint is at step {trainer.steps_done}, past that reading.",
                            rule="missing-reading",
                            value=str(file),
                            hint=f"Try again after you delete {folder}.",
                        )
                    while trainer.steps_done < strength:
                        next(steps)
                    weights = state.delta()
                    if file:
                        write_tensors(file, weights)
                    yield make_reading(victim, strength, weights)
        finally:
            state.release()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def count_forwards(victim: Victim, make: Callable[[Victim], object]) -> int:
    """Number of forward passes that `make` would need, counted with a network that computes nothing. Cached results cost none."""
    model = without_network(victim.model)
    session = replace(victim.session, model=model, cache=Rehearsed(victim.session.cache.root), progress=Silent())
    with counted(model.network) as count:
        make(replace(victim, session=session))
    return count.samples
