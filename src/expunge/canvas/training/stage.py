"""A resumable stage of the canvas's training."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import Progress
from safetensors.torch import load_file
from torch import Tensor, nn

from expunge.storage.files import append_line
from expunge.storage.tensors import write_tensors

CHECKPOINT_EVERY = 250
"""Steps between checkpoints, from which an interrupted stage resumes."""


def one_cycle(step: int, steps: int, warmup: int = 150) -> float:
    """The factor of the learning rate: a linear warm-up times a half cosine to zero. The decay improves the styles of the result."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


class Stage:
    """Optimizer steps on `loss(step)` over the weights of `net`, with an EMA of the weights, a log and checkpoints.

    Args:
        work: The folder of the log, the checkpoint and the finished weights.
        name: The name of the stage, which begins its file names.
        net: The network to train. At the end it has the averaged weights.
        lr: The peak learning rate.
        steps: The number of steps.
        ema: The largest decay of the average; it is smaller in the first steps.
    """

    def __init__(self, work: Path, name: str, net: nn.Module, lr: float, steps: int, ema: float = 0.998):
        self.work, self.name, self.net, self.lr, self.steps, self.ema = work, name, net, lr, steps, ema
        self.done = work / f"{name}.safetensors"
        self.checkpoint = work / f"{name}.checkpoint.safetensors"
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)

    def run(self, loss: Callable[[int], Tensor], progress: Progress, probe: Callable[[], dict] | None = None) -> None:
        """Train to the end, or load the finished weights. `probe` adds values to the log every 800 steps, with the averaged weights."""
        if self.done.exists():
            self.net.load_state_dict(load_file(self.done))
            return
        start, average = self._resume()
        task = progress.add_task(self.name, total=self.steps, completed=start)
        self.net.train()
        since = time.monotonic()
        for step in range(start, self.steps):
            torch.manual_seed(step)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * one_cycle(step, self.steps)
            value = loss(step)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            decay = min(self.ema, (step + 1) / (step + 10))
            for key, tensor in self.net.state_dict().items():
                if tensor.is_floating_point():
                    average[key].lerp_(tensor, 1 - decay)
                else:
                    average[key].copy_(tensor)
            progress.update(task, advance=1)
            if (step + 1) % 50 == 0:
                row = {"step": step + 1, "loss": value.item(), "seconds": round(time.monotonic() - since, 1)}
                if probe and (step + 1) % 800 == 0:
                    row |= self._probe(probe, average)
                append_line(self.work / f"{self.name}.jsonl", row)
            if (step + 1) % CHECKPOINT_EVERY == 0 and step + 1 < self.steps:
                self._save(step + 1, average)
        self.net.load_state_dict(average)
        write_tensors(self.done, average)
        self.checkpoint.unlink(missing_ok=True)

    def _probe(self, probe: Callable[[], dict], average: dict[str, Tensor]) -> dict:
        trained = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(average)
        self.net.eval()
        with torch.no_grad():
            row = probe()
        self.net.load_state_dict(trained)
        self.net.train()
        return row

    def _save(self, step: int, average: dict[str, Tensor]) -> None:
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()} | {f"ema.{k}": v for k, v in average.items()}
        names = [n for n, _ in self.net.named_parameters()]
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{key}.{names[index]}": value for key, value in state.items()}
        write_tensors(self.checkpoint, tensors | {"step": torch.tensor(step)})

    def _resume(self) -> tuple[int, dict[str, Tensor]]:
        if not self.checkpoint.exists():
            return 0, {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        saved = load_file(self.checkpoint)
        self.net.load_state_dict({k[4:]: v for k, v in saved.items() if k.startswith("net.")})
        state = self.optimizer.state_dict()
        for index, (name, _) in enumerate(self.net.named_parameters()):
            keys = ("step", "exp_avg", "exp_avg_sq")
            state["state"][index] = {key: saved[f"adam.{key}.{name}"] for key in keys}
        self.optimizer.load_state_dict(state)
        return int(saved["step"]), {k[4:]: v for k, v in saved.items() if k.startswith("ema.")}
