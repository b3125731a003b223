"""The log of a run's steps: `log.jsonl`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.storage.files import write_lines
from expunge.training.steps import Step


class StepLog:
    """A row for each step since the run began, over all attempts."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, step: Step) -> None:
        norm = step.grad_norm if math.isfinite(step.grad_norm) else None  # infinite where a loss scale skipped the step; not in JSON
        self.rows.append({"step": step.step, "loss": step.loss, "terms": dict(step.terms), "grad_norm": norm})

    def write(self, path: Path) -> None:
        write_lines(path, self.rows)

    def state_dict(self) -> dict[str, Tensor]:
        """The part of a checkpoint: `log`, its lines in UTF-8, and `steps_done`, their number."""
        text = bytearray("\n".join(map(json.dumps, self.rows)).encode()) or bytearray(1)
        return {"log": torch.frombuffer(text, dtype=torch.uint8), "steps_done": torch.tensor(len(self.rows))}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""
        text = bytes(tensors["log"].numpy()).decode()
        self.rows = [json.loads(line) for line in text.split("\n") if line.strip("\0")]
