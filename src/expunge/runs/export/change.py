"""A run's change beside the base model that it belongs to: what every format is written from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.loading import Model
from expunge.models.loading import load as load_model
from expunge.runs.run import Run


@dataclass(frozen=True)
class Change:
    """The tensors that a run changed, and the model that it changed them in."""

    run: Run
    model: DiffusionModel
    after: dict[str, Tensor]
    """The values of the changed tensors, in float32, by their names in the network."""

    @classmethod
    def of(cls, model: Model, run: Run | str | Path) -> "Change":
        """Reads both, the model in the precision of the run.

        Raises:
            ExpungeError: the run belongs to another base model, or is not finished.
        """
        run = run if isinstance(run, Run) else Run(Path(run))
        loaded = load_model(model, "cpu", run.card["dtype"])
        return cls(run, loaded, run.delta(loaded.fingerprint))

    @property
    def before(self) -> dict[str, Tensor]:
        """The base model's values of the changed tensors, in float32 on the CPU."""
        named = dict(self.model.network.named_parameters())
        return {name: named[name].detach().cpu().float() for name in self.after}

    def differences(self) -> Iterator[tuple[str, Tensor]]:
        """Each changed tensor's difference, in float64."""
        for name, before in self.before.items():
            yield name, self.after[name].double() - before.double()


def check_name(file: Path, what: str) -> None:
    """Refuses a name that readers would not take for a safetensors file.

    Raises:
        ExpungeError: it does not end in `.safetensors`.
    """
    if file.suffix != ".safetensors":
        raise ExpungeError(
            f"{file} is not a name for {what}.",
            rule="wrong-suffix",
            value=str(file),
            hint="Try a name that ends in .safetensors.",
        )
