"""Experiment trackers: a run's configuration, losses and learning rate where TensorBoard, Weights & Biases or MLflow show them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.names import suggest
from expunge.training.distributed import installed_trackers
from expunge.training.loop import Trainer
from expunge.training.optimizers import learning_rate

TRACKERS = ("tensorboard", "wandb", "mlflow")
"""Names of trackers, which are also the names of their packages."""

Value = str | int | float | bool


def find_trackers(names: str | Sequence[str]) -> tuple[str, ...]:
    """The trackers of these names, each once.

    Raises:
        ExpungeError: an unknown name; rule "missing-package", a tracker's package is not installed.
    """
    found = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in found:
        if name not in TRACKERS:
            raise ExpungeError(f"{name!r} is not a tracker.", rule="unknown-tracker", value=name, hint=suggest(name, TRACKERS))
        if name not in installed_trackers():
            raise ExpungeError(
                f"The tracker {name} needs the package {name}, which is not installed.",
                rule="missing-package",
                value=name,
                hint=f"Try pip install {name}, or leave --track out.",
            )
    return found


@contextmanager
def tracked(trainer: Trainer, names: Sequence[str], folder: Path, card: Mapping[str, Any]) -> Iterator[Callable[[], None]]:
    """Starts trackers of a run; within the context, a function that logs the trainer's last step to them.

    A step has `loss`, `terms/NAME` and `grad_norm` as the run's `log.jsonl` has them, and `lr`. TensorBoard's files lie in
    `tensorboard/` in the run's folder; a resumed run replaces there the steps that it repeats. W&B and MLflow get a run named by the
    run's id, and a resumed run is another one there, whose steps begin where it resumes. Weights and random numbers do not depend on it.

    Args:
        names: as of `find_trackers`; with none, nothing happens.
        card: its values that are texts, numbers or booleans are the configuration.

    Raises:
        ExpungeError: a tracker cannot start, as when its server does not answer. One that fails later warns, and is used no more.
    """
    settings = {
        "tensorboard": {"purge_step": trainer.steps_done + 1},
        "wandb": {"name": card["id"], "dir": str(folder)},
        "mlflow": {"run_name": card["id"]},
    }
    with trainer.processes.tracked(names, trainer.model.device, folder, dict(flat(card)), settings) as log:
        yield lambda: log(*_last_step(trainer))


def _last_step(trainer: Trainer) -> tuple[dict[str, float], int]:
    row = trainer.log.rows[-1]
    values = {"loss": row["loss"], "lr": learning_rate(trainer.training, row["step"] - 1)}
    values |= {f"terms/{name}": value for name, value in row["terms"].items()}
    return values | ({} if row["grad_norm"] is None else {"grad_norm": row["grad_norm"]}), row["step"]


def flat(table: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Value]]:
    """The values of a table and of the tables in it that are texts, numbers or booleans.

    >>> dict(flat({"seed": 0, "training": {"lr": 1e-3, "warmup": None}, "before": []}))
    {'seed': 0, 'training.lr': 0.001}
    """
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{within}{key}.")
        elif isinstance(value, Value):
            yield f"{within}{key}", value
