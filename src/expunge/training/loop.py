"""The loop: a generator of steps. Progress bars, logs and early stopping belong to the caller's `for`."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from expunge.diffusion.networks import Models
from expunge.errors import ExpungeError, NonFiniteLoss
from expunge.methods.base import Objective, Training
from expunge.storage.hashing import seed_of
from expunge.storage.tensors import read_tensors, write_tensors
from expunge.training.batches import Batches
from expunge.training.counters import Spent
from expunge.training.distributed import Processes, refuse_uneven
from expunge.training.preconditioner import stepping, to_white, tokens, whitener
from expunge.training.state import Mean, Memo, Reference, Student, TrainState
from expunge.training.steps import Step

CHECKPOINT = "checkpoint.safetensors"
NOTES = "notes.safetensors"
REFERENCE = "reference"
"""What a run keeps in its folder until it is done: where it stands, what `prepare` gave, the reference rows that it computed."""


def refuse_recomputing(method: Objective, training: Training) -> None:
    """Refuses gradient checkpointing of a network whose weights are merged for a call, or whose attention is looked at.

    Raises:
        ExpungeError: the backward pass would compute again with the untouched weights, and its gradients would be wrong; or
            without the attention maps that the loss is made of.
    """
    if "spans" in method.needs and training.gradient_checkpointing:
        raise ExpungeError(
            "gradient checkpointing keeps no attention maps: this method's loss is made of them; "
            "leave --gradient-checkpointing out, or raise --accumulate to save memory"
        )
    if method.scope.rank and training.gradient_checkpointing:
        raise ExpungeError(
            f"gradient checkpointing trains weights in place: the scope {method.scope.name!r} adds to them; "
            "leave --gradient-checkpointing out, or raise --accumulate to save memory"
        )


def made_companion(method: Objective, latent_shape: tuple[int, int, int], seed: int) -> nn.Module | None:
    """The method's companion, on the CPU: a function of the run's seed, whatever else has drawn random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "companion"))
        return method.companion(latent_shape)


class Trainer:
    """A run's training state, which may be interrupted between any two steps, by any means.

    It takes its steps within `DiffusionModel.mixed`, in the precision of `dtype`.
    """

    def __init__(
        self,
        method: Objective,
        training: Training,
        batches: Batches,
        state: TrainState,
        memo: Memo,
        folder: Path | None = None,
        dtype: str = "fp32",
        spent: Spent | None = None,
    ):
        refuse_recomputing(method, training)
        self.method, self.training, self.batches, self.state, self.memo, self.folder = method, training, batches, state, memo, folder
        model, self.spent = batches.model, spent or Spent()
        self.processes = Processes(model.device)
        refuse_uneven(training, self.processes.count)
        self.accelerator = self.processes.accelerator(dtype)
        self.student, self.reference, self.mean = Student(model, state), Reference(model, state, memo), Mean(model, state)
        companion = made_companion(method, model.latent_shape, batches.seed)
        self.companion = companion.to(model.device) if companion else None
        ridge = training.whiten
        self._white = whitener(tokens(model, batches.concept), ridge).to(model.device) if ridge else None
        self.notes: dict[str, Tensor] = {}
        self._changed: dict[str, Tensor] = {}
        self._optimizers: dict[str, AcceleratedOptimizer] = {}
        self.log: list[str] = []
        self.steps_done = self._resume()

    @property
    def forwards(self) -> int:
        """Samples that passed the network so far, in all processes."""
        return self.processes.total(self.spent.forwards.samples)

    @property
    def backwards(self) -> int:
        """Those of them that went back."""
        return self.processes.total(self.student.calls)

    @property
    def models(self) -> Models:
        """What the method is given at this moment."""
        model, trained, initial, notes = self.batches.model, self.state.trained, self.state.initial, dict(self.notes)
        path = model.alphas_cumprod, model.prediction_type
        return Models(self.student, self.reference, self.mean, trained, initial, notes, self.companion, *path, self.student.attention)

    def fit(self) -> Iterator[Step]:
        """Trains from where it stands to `training.steps`, yielding after each step.

        Raises:
            NonFiniteLoss: at the first loss that is not finite, before it touches the weights.
        """
        training = self.training
        self.processes.wait()  # until each has read the folder, where one that is ahead would write
        if self.steps_done == 0 and not self.notes:
            self._prepare()
        while self.steps_done < training.steps:
            step = self.steps_done
            terms = self._descend(step)
            self.steps_done = step + 1
            done = Step(self.steps_done, training.steps, *terms)
            norm = done.grad_norm if math.isfinite(done.grad_norm) else None  # of a step that was left out; JSON knows no infinity
            self.log.append(json.dumps({"step": done.step, "loss": done.loss, "terms": dict(done.terms), "grad_norm": norm}))
            if self.steps_done % training.checkpoint_every == 0 or self.steps_done == training.steps:
                self.save()
            yield done

    def _descend(self, step: int) -> tuple[dict[str, float], float]:
        each, rank, count = self.training.accumulate, self.processes.rank, self.processes.count
        parts = self.batches.split(step, each * count, slice(rank * each, (rank + 1) * each))
        models, optimizer = self.models, self._optimizer(self.method.phase(step))
        logged: dict[str, Tensor] = {}
        for batch in parts:
            terms = self.method(models, batch)
            for name, value in terms.items():
                logged[name] = logged.get(name, torch.zeros((), device=value.device)) + value.detach() / len(parts)
            self.accelerator.backward(sum(terms.values()) / len(parts))
        # One look at the device for all numbers of the step: each .item() would wait for it.
        names, values = list(logged), self.processes.mean(torch.stack(list(logged.values()))).tolist()
        if not all(abs(v) < float("inf") for v in values):
            optimizer.zero_grad(set_to_none=True)
            self.save()
            bad = ", ".join(f"{n} = {v}" for n, v in zip(names, values, strict=True))
            raise NonFiniteLoss(f"a loss is finite: at step {step + 1} {bad}; the weights of step {step} are kept; lower --lr or use fp32")
        optimizer.param_groups[0]["lr"] = self.training.lr * self._share(step)
        # Before they are unscaled: a number that overflowed in one process makes every process skip the step.
        for parameter in self._optimized.values():
            if parameter.grad is not None:
                parameter.grad = self.processes.mean(parameter.grad)
        # Of this optimizer alone: the others have the same parameters, and half-precision gradients may be unscaled but once.
        self.accelerator.unscale_gradients(optimizer)
        self._mask()
        if self._white is not None:
            to_white(self.state.trained, self._white)
        norm = nn.utils.clip_grad_norm_(self.state.trained.values(), self.training.max_grad_norm)
        if self.accelerator.scaler is None and not torch.isfinite(norm):  # a scaler leaves such a step out and goes on
            optimizer.zero_grad(set_to_none=True)
            self.save()
            raise NonFiniteLoss(f"a gradient is finite: at step {step + 1} it is not; the weights of step {step} are kept; lower --lr")
        with nullcontext() if self._white is None else stepping(self.state.trained, self._white):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.state.average()
        logs = dict(zip(names, values, strict=True))
        self._update(logs)
        return logs, float(norm)

    def _share(self, step: int) -> float:
        """Of the learning rate, at a step."""
        done = step / self.training.steps
        return 1.0 if self.training.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))

    def _optimizer(self, phase: str) -> AcceleratedOptimizer:
        """The optimizer of a phase, made when the phase is first met."""
        if not phase or "." in phase:
            raise ExpungeError(f"a phase is named by a word without dots: {phase!r} is none; rename it in the method's `phase`")
        if phase not in self._optimizers:
            groups: list[dict[str, object]] = [{"params": list(self.state.trained.values())}]
            if self.companion:
                parameters = list(self.companion.parameters())
                groups.append({"params": parameters, "lr": self.method.companion_lr, "betas": (0.0, 0.99)})
            # No weight decay: it would move the entries that a mask holds, whose gradient is zero.
            self._optimizers[phase] = self.accelerator.prepare(torch.optim.Adam(groups, lr=self.training.lr))
        return self._optimizers[phase]

    # --- the hooks of a method ---------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        given = self.method.prepare(self.models, self.batches)
        companions = self.companion.named_parameters() if self.companion else ()
        if left := [name for name, p in (*self.state.trained.items(), *companions) if p.grad is not None]:
            raise ExpungeError(f"`prepare` leaves no gradient behind: {left[0]} has one; use torch.autograd.grad instead of backward")
        self.notes = self.processes.same(self._own(given))  # each worked them out, but no two devices agree to the last digit
        if self.folder is not None and (self.notes or self.memo.fresh):
            # The rows first: notes in the folder say that they are there, and that no one computes them again otherwise batched.
            self._save_reference()
            if self.processes.is_main:
                write_tensors(self.folder / NOTES, self.notes)

    def _own(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = self.batches.model.device
        return {name: value.detach().to(device, copy=True).contiguous() for name, value in values.items()}

    def _update(self, terms: Mapping[str, float]) -> None:
        changed = self.method.update(dict(self.notes), terms)
        for name, value in changed.items():
            if name not in self.notes or self.notes[name].shape != value.shape:
                had = f"shape {list(self.notes[name].shape)}" if name in self.notes else "nothing"
                raise ExpungeError(
                    f"`update` changes what `prepare` gave: {name!r} was {had}, now has shape {list(value.shape)}; give it in `prepare`"
                )
        self._changed |= self._own(changed)
        self.notes |= self._changed

    def _mask(self) -> None:
        masks = self.method.masks(dict(self.notes))
        if masks and self._white is not None:
            raise ExpungeError(
                f"a mask holds entries of weights, whitened steps mix them: whiten is {self.training.whiten}; train with --whiten 0"
            )
        for name, mask in masks.items():
            parameter = self.state.trained.get(name)
            if parameter is None or mask.dtype != torch.bool or mask.shape != parameter.shape:
                of = "no trained tensor" if parameter is None else f"of shape {list(parameter.shape)}"
                raise ExpungeError(
                    f"a mask is bool and of a trained tensor's shape: {name!r} is {of}, its mask {mask.dtype} of {list(mask.shape)}; "
                    "name it as `models.weights` does"
                )
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~mask.to(parameter.device), 0)

    # --- checkpoints: one file renamed into place, and the reference rows that it relies on ------------------------------

    @property
    def _optimized(self) -> dict[str, nn.Parameter]:
        own = {f"companion.{n}": p for n, p in self.companion.named_parameters()} if self.companion else {}
        return self.state.trained | own

    def _save_reference(self) -> None:
        """Each process its own rows: which others they were computed beside decides their last digits."""
        if self.folder is not None and (fresh := self.memo.take()):
            rows = {f"{point}\n{prompt}": value for (point, prompt), value in fresh.items()}
            write_tensors(self.folder / REFERENCE / str(self.processes.rank) / f"{self.steps_done:06d}.safetensors", rows)
        self.processes.wait()

    def save(self) -> None:
        """Writes what resuming needs. Reference rows go first, into a file of their own: the checkpoint that counts on them follows."""
        if self.folder is None:
            return
        self._save_reference()
        forwards, backwards = self.forwards, self.backwards
        if not self.processes.is_main:
            return
        tensors: dict[str, Tensor] = {f"weight.{n}": p for n, p in self.state.trained.items()}
        tensors |= {f"mean.{n}": m for n, m in self.state.mean.items()} | {f"note.{n}": v for n, v in self._changed.items()}
        if self.companion:
            tensors |= {f"companion.{n}": v for n, v in self.companion.state_dict().items()}
        for phase, optimizer in self._optimizers.items():
            for name, parameter in self._optimized.items():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"adam.{phase}.{key}.{name}"] = torch.as_tensor(value)
        if self.accelerator.scaler is not None:
            tensors |= {f"scaler.{k}": torch.tensor(v, dtype=torch.float64) for k, v in self.accelerator.scaler.state_dict().items()}
        tensors["log"] = torch.frombuffer(bytearray("\n".join(self.log).encode()) or bytearray(1), dtype=torch.uint8)
        tensors["spent"] = torch.tensor([forwards, backwards, self.spent.seconds], dtype=torch.float64)
        write_tensors(self.folder / CHECKPOINT, tensors | {"steps_done": torch.tensor(self.steps_done)})

    def _resume(self) -> int:
        if self.folder is None:
            return 0
        prepared = (self.folder / NOTES).exists()
        self.notes = self._own(read_tensors(self.folder / NOTES)) if prepared else {}
        tensors = read_tensors(self.folder / CHECKPOINT) if (self.folder / CHECKPOINT).exists() else {}
        steps_done = self._restore(tensors) if tensors else 0
        mine = self.folder / REFERENCE / str(self.processes.rank)
        for file in sorted(mine.glob("*.safetensors")) if prepared or tensors else ():
            if int(file.stem) <= steps_done:
                self.memo.rows.update({(k.split("\n")[0], k.split("\n")[1]): v for k, v in read_tensors(file).items()})
        return steps_done

    def _restore(self, tensors: Mapping[str, Tensor]) -> int:
        def under(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

        self.state.load(under("weight."))
        for name, mean in self.state.mean.items():
            mean.copy_(tensors[f"mean.{name}"])
        if self.companion:
            self.companion.load_state_dict(under("companion."))
        if (scaler := self.accelerator.scaler) is not None:
            scaler.load_state_dict({k: type(v)(under("scaler.")[k].item()) for k, v in scaler.state_dict().items()})
        if self.processes.is_main:
            forwards, backwards, self.spent.earlier = tensors["spent"].tolist()
            self.spent.forwards.samples += int(forwards)
            self.student.calls += int(backwards)
        self.log = [line for line in bytes(tensors["log"].numpy()).decode().split("\n") if line.strip("\0")]
        self._changed = self._own(under("note."))
        self.notes |= self._changed
        optimized = self._optimized
        for rest, value in under("adam.").items():
            phase, key, name = rest.split(".", 2)
            parameter = optimized[name]
            self._optimizer(phase).state[parameter][key] = value.to("cpu" if key == "step" else parameter.device)
        return int(tensors["steps_done"])
