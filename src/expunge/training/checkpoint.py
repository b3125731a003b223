"""Checkpoints: the files from which a killed run continues, and ends with the bytes of an uninterrupted one.

    checkpoint.safetensors       the state after the last saved step
    notes.safetensors            what the method's `prepare` returned
    reference/RANK/STEP...       the reference's predictions: a file for each process and checkpoint, since it depends on the other
                                 samples of a batch how a prediction is rounded

Each file is renamed into place when it is whole. Predictions and notes are written before the checkpoint that relies on them.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from expunge.storage.tensors import read_tensors, write_tensors
from expunge.training.distributed import Processes
from expunge.training.hooks import Hooks
from expunge.training.networks import ReferenceCache

CHECKPOINT = "checkpoint.safetensors"
NOTES = "notes.safetensors"
REFERENCE = "reference"


class Stateful(Protocol):
    """An object whose state is a part of a checkpoint. Names of tensors are unique over all parts."""

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores its part, which is among `tensors`."""


class Checkpoint:
    """The files of an unfinished run in its folder; nothing is written where there is no folder.

    Args:
        folder: the run's.
        parts: what is saved and restored, in this order.
        hooks: whose notes are saved once.
        references: whose rows are saved as they are added.
        processes: each writes its own rows, the main one everything else.
    """

    def __init__(self, folder: Path | None, parts: Sequence[Stateful], hooks: Hooks, references: ReferenceCache, processes: Processes):
        self.folder, self.parts, self.hooks, self.references, self.processes = folder, parts, hooks, references, processes

    def save(self, steps_done: int) -> None:
        """Writes the state after `steps_done` steps."""
        if self.folder is None:
            return
        self._save_references(steps_done)
        tensors = {name: value for part in self.parts for name, value in part.state_dict().items()}
        if self.processes.is_main:
            write_tensors(self.folder / CHECKPOINT, tensors)

    def save_notes(self) -> None:
        """Writes what `prepare` returned, if that is anything."""
        if self.folder is None or not (self.hooks.notes or self.references.fresh):
            return
        self._save_references(0)
        if self.processes.is_main:
            write_tensors(self.folder / NOTES, self.hooks.notes)

    def restore(self) -> None:
        """Restores all parts from the folder, as far as it holds them."""
        if self.folder is None:
            return
        notes, saved = self.folder / NOTES, self.folder / CHECKPOINT
        steps_done = 0
        if notes.exists():
            self.hooks.load_notes(read_tensors(notes))
        if saved.exists():
            tensors = read_tensors(saved)
            for part in self.parts:
                part.load_state_dict(tensors)
            steps_done = int(tensors["steps_done"])
        elif not notes.exists():
            return
        for file in sorted((self.folder / REFERENCE / str(self.processes.rank)).glob("*.safetensors")):
            if int(file.stem) <= steps_done:  # later rows are computed again, beside the samples that they were computed beside
                self.references.rows.update({_key(name): row for name, row in read_tensors(file).items()})

    def _save_references(self, steps_done: int) -> None:
        if self.folder is not None and (fresh := self.references.take()):
            rows = {f"{point}\n{prompt}": row for (point, prompt), row in fresh.items()}
            write_tensors(self.folder / REFERENCE / str(self.processes.rank) / f"{steps_done:06d}.safetensors", rows)
        self.processes.wait()


def _key(name: str) -> tuple[str, str]:
    point, prompt = name.split("\n")[:2]
    return point, prompt


def remove_checkpoint(folder: Path) -> None:
    """Deletes the files of a run that is done."""
    for name in (CHECKPOINT, NOTES):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / REFERENCE, ignore_errors=True)
