"""The log of a run's steps: `log.jsonl`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from expunge.storage.files import write_atomically
from expunge.training.steps import Step


class StepLog:
    """A line of JSON for each step since the run began, over all attempts."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, step: Step) -> None:
        norm = step.grad_norm if math.isfinite(step.grad_norm) else None  # infinite where a loss scale skipped the step; not in JSON
        self.lines.append(json.dumps({"step": step.step, "loss": step.loss, "terms": dict(step.terms), "grad_norm": norm}))

    def write(self, path: Path) -> None:
        write_atomically(path, "".join(f"{line}\n" for line in self.lines).encode())

    def state_dict(self) -> dict[str, Tensor]:
        """The part of a checkpoint: `log`, the lines in UTF-8, and `steps_done`, their number."""
        text = bytearray("\n".join(self.lines).encode()) or bytearray(1)
        return {"log": torch.frombuffer(text, dtype=torch.uint8), "steps_done": torch.tensor(len(self.lines))}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""
        self.lines = [line for line in bytes(tensors["log"].numpy()).decode().split("\n") if line.strip("\0")]
