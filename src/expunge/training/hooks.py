"""The hooks of a method, and what lasts from one step to the next: its notes and its companion network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expunge.diffusion.networks import Models
from expunge.errors import ExpungeError
from expunge.methods.base import Objective
from expunge.storage.hashing import seed_of
from expunge.training.batches import Batches
from expunge.training.distributed import Processes


def make_companion(method: Objective, latent_shape: tuple[int, int, int], seed: int, device: torch.device) -> nn.Module | None:
    """The method's companion: a function of the run's seed, whatever else has used random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "companion"))
        companion = method.companion(latent_shape)
    return companion.to(device) if companion else None


class Hooks:
    """Calls the hooks of a method and keeps what they return. A hook that names what does not exist is an error."""

    def __init__(self, method: Objective, batches: Batches):
        self.method, self.batches, self.device = method, batches, batches.model.device
        self.companion = make_companion(method, batches.model.latent_shape, batches.seed, self.device)
        self.notes: dict[str, Tensor] = {}
        """What `prepare` returned, and what `update` has changed since."""
        self._updated: dict[str, Tensor] = {}

    def prepare(self, models: Models, trained: Mapping[str, nn.Parameter], processes: Processes) -> None:
        """Calls `prepare` and keeps its notes, in every process those of the main one.

        Raises:
            ExpungeError: it left a gradient, which the first step would add to its own.
        """
        notes = self.method.prepare(models, self.batches)
        companion = self.companion.named_parameters() if self.companion else ()
        if left := [name for name, p in (*trained.items(), *companion) if p.grad is not None]:
            raise ExpungeError(
                f"`prepare` left a gradient on {left[0]!r}, which the first step would add to its own.",
                rule="gradient-left",
                value=left,
                hint="Try torch.autograd.grad instead of backward.",
            )
        self.notes = processes.same(self._copied(notes))  # no two devices agree to the last digit

    def update(self, terms: Mapping[str, float]) -> None:
        """Calls `update` after a step and keeps the notes that it changed.

        Raises:
            ExpungeError: it changed a note that `prepare` did not return, or a note's shape.
        """
        changed = self.method.update(dict(self.notes), terms)
        for name, value in changed.items():
            if name not in self.notes or self.notes[name].shape != value.shape:
                before = f"of shape {list(self.notes[name].shape)}" if name in self.notes else "absent"
                raise ExpungeError(
                    f"`update` returned the note {name!r} of shape {list(value.shape)}. In the notes of `prepare` it is {before}.",
                    rule="unknown-note",
                    value=name,
                    hint="Try to return it from `prepare` with this shape.",
                )
        self._updated |= self._copied(changed)
        self.notes |= self._updated

    def masks(self, trained: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """Which entries of trained tensors may move, by the tensor's name.

        Raises:
            ExpungeError: a mask is not boolean, or has no trained tensor of its name and shape.
        """
        masks = self.method.masks(dict(self.notes))
        for name, mask in masks.items():
            parameter = trained.get(name)
            if parameter is None or mask.dtype != torch.bool or mask.shape != parameter.shape:
                expected = "No tensor of this name is trained" if parameter is None else f"The tensor is of shape {list(parameter.shape)}"
                raise ExpungeError(
                    f"The mask {name!r} is {mask.dtype} of shape {list(mask.shape)}. {expected}, and masks are torch.bool.",
                    rule="mask-of-tensor",
                    value=name,
                    hint="Try the names and shapes of `models.weights`.",
                )
        return masks

    def load_notes(self, notes: Mapping[str, Tensor]) -> None:
        """Restores what `prepare` returned."""
        self.notes = self._copied(notes)

    def state_dict(self) -> dict[str, Tensor]:
        """The part of a checkpoint: `note.NAME` for each note that `update` has changed, `companion.NAME` for the companion."""
        companion = self.companion.state_dict() if self.companion else {}
        notes = {f"note.{name}": value for name, value in self._updated.items()}
        return notes | {f"companion.{name}": value for name, value in companion.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""
        under = {p: {n.removeprefix(p): v for n, v in tensors.items() if n.startswith(p)} for p in ("note.", "companion.")}
        self._updated = self._copied(under["note."])
        self.notes |= self._updated
        if self.companion:
            self.companion.load_state_dict(under["companion."])

    def _copied(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach().to(self.device, copy=True).contiguous() for name, value in values.items()}
