"""The optimizers of a run: one Adam for each phase of a method."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from expunge.errors import ExpungeError
from expunge.methods.base import Objective, Training

COMPANION_BETAS = (0.0, 0.99)


class Accelerator(Protocol):
    """The part of accelerate's `Accelerator` that optimizers need."""

    scaler: Any

    def prepare(self, optimizer: Any) -> Any: ...


class Optimizers:
    """One Adam (or, with weight decay, AdamW) for each phase, made when the phase first occurs, and the loss scale of half precision.

    Each steps on all trained tensors and on the companion's parameters, with moments of its own.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        companion: nn.Module | None,
        method: Objective,
        training: Training,
        accelerator: Accelerator,
    ):
        self.method, self.training, self.accelerator = method, training, accelerator
        own = {f"companion.{name}": p for name, p in companion.named_parameters()} if companion else {}
        self.parameters: dict[str, nn.Parameter] = {**trained, **own}
        """Every parameter that is optimized, by name."""
        self._groups: list[dict[str, Any]] = [{"params": list(trained.values())}]
        if own:
            self._groups.append({"params": list(own.values()), "lr": method.companion_lr, "betas": COMPANION_BETAS, "weight_decay": 0.0})
        self._phases: dict[str, Optimizer] = {}

    def at(self, step: int) -> Optimizer:
        """The optimizer of the step's phase, at the step's learning rate.

        Raises:
            ExpungeError: the method gives the phase a name that a checkpoint cannot hold.
        """
        optimizer = self._of(self.method.phase(step))
        optimizer.param_groups[0]["lr"] = learning_rate(self.training, step)
        return optimizer

    def _of(self, phase: str) -> Optimizer:
        if not phase or "." in phase:
            raise ExpungeError(
                f"{phase!r} is not the name of a phase: a checkpoint needs a word without dots.",
                rule="phase-name",
                value=phase,
                hint="Try another name in the method's `phase`.",
            )
        if phase not in self._phases:
            groups, decay = [dict(group) for group in self._groups], self.training.weight_decay
            # Fused, a step reads and writes each number once, which is quicker where all weights are trained.
            lr = self.training.lr
            made = AdamW(groups, lr=lr, weight_decay=decay, fused=True) if decay else Adam(groups, lr=lr, fused=True)
            # accelerate's wrapper is for a loss scale alone; its steps look modules up, which takes a twentieth of a small network's.
            self._phases[phase] = made if self.accelerator.scaler is None else self.accelerator.prepare(made)
        return self._phases[phase]

    def state_dict(self) -> dict[str, Tensor]:
        """The part of a checkpoint: `adam.PHASE.KEY.NAME` for each moment, `scaler.KEY` for the loss scale."""
        tensors = {
            f"adam.{phase}.{key}.{name}": torch.as_tensor(value)
            for phase, optimizer in self._phases.items()
            for name, parameter in self.parameters.items()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {}
        return tensors | {f"scaler.{key}": torch.tensor(value, dtype=torch.float64) for key, value in scaler.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""
        for full, value in tensors.items():
            if full.startswith("adam."):
                _, phase, key, name = full.split(".", 3)
                parameter = self.parameters[name]
                self._of(phase).state[parameter][key] = value.to(parameter.device)
        if (scaler := self.accelerator.scaler) is not None:
            scaler.load_state_dict({key: type(value)(tensors[f"scaler.{key}"].item()) for key, value in scaler.state_dict().items()})


def learning_rate(training: Training, step: int) -> float:
    """The learning rate of a step, 0 being the first."""
    warmup = training.warmup or 0
    if step < warmup:
        return training.lr * step / warmup
    if training.schedule == "constant":
        return training.lr
    done = (training.cycles or 1) * ((step - warmup) / (training.steps - warmup))
    return training.lr * (0.5 * (1 + math.cos(math.pi * (done % 1))))
