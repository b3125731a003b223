"""The training loop: a generator of steps. The caller's `for` shows progress and may break off."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.diffusion.networks import Models
from expunge.errors import ExpungeError, NonFiniteLoss
from expunge.methods.base import Objective, Training
from expunge.models.delta import swapped
from expunge.models.start_token import fixed_start
from expunge.termination import deferred, is_terminating
from expunge.training.batches import Batches
from expunge.training.beginning import begin
from expunge.training.checkpoint import Checkpoint
from expunge.training.counters import Costs, Spent
from expunge.training.distributed import refuse_uneven
from expunge.training.hooks import Hooks
from expunge.training.layerwise import layer_whitening
from expunge.training.log import StepLog
from expunge.training.networks import EMA, Recalled, Reference, Student
from expunge.training.optimizers import Optimizers
from expunge.training.preconditioner import Preconditioner, make_preconditioner, readers
from expunge.training.session import Session
from expunge.training.state import TrainState
from expunge.training.steps import Step
from expunge.training.stopping import Check


def refuse_recomputing(method: Objective, training: Training) -> None:
    """Refuses gradient checkpointing where recomputed activations would be wrong or missing.

    Raises:
        ExpungeError: the loss is of attention maps, which the backward pass would not find.
    """
    if not training.gradient_checkpointing:
        return
    hint = "Try without --gradient-checkpointing; a larger --accumulate saves memory too."
    if "spans" in method.needs:
        raise ExpungeError(
            "Gradient checkpointing keeps no attention maps, and this method's loss is made of them.",
            rule="recomputed-attention",
            value=True,
            hint=hint,
        )


class Trainer:
    """Trains a method on batches. A run may be killed between any two steps, and continues from its folder.

    `fit` takes its steps within `DiffusionModel.mixed` of `accelerator.autocast`, in the model's precision.

    Args:
        session: whose model is trained, by whose processes.
        method: gives the terms of the loss.
        training: how it is trained.
        batches: what it is trained on.
        state: the trained tensors.
        folder: where checkpoints are kept; None keeps none.
        spent: what the run has cost before training.
        stop: whether to end before the last step; None for never.
    """

    def __init__(
        self,
        session: Session,
        method: Objective,
        training: Training,
        batches: Batches,
        state: TrainState,
        folder: Path | None = None,
        spent: Spent | None = None,
        stop: Check | None = None,
    ):
        refuse_recomputing(method, training)
        model = self.model = session.model
        self.method, self.training, self.batches, self.state, self.stop = method, training, batches, state, stop
        begin(method, batches, state)
        self.processes = session.distributed
        refuse_uneven(training, self.processes.count)
        self.accelerator = self.processes.accelerator(model.precision, model.device)
        self.student, self.ema = Student(model, state), EMA(model, state)
        self.recalled = Recalled(self.student, state, readers(model, method.scope))
        self.reference = Reference(model, state, batches.references)
        self.hooks, self.log = Hooks(method, batches), StepLog()
        self.optimizers = Optimizers(state.trained, self.hooks.companion, method, training, self.accelerator)
        self.preconditioner = self._make_preconditioner()
        self.costs = Costs(spent or Spent(), self.student, self.processes)
        parts = (self.state, self.hooks, self.optimizers, self.log, self.costs)
        self.checkpoint = Checkpoint(folder, parts, self.hooks, batches.references, self.processes)
        self.checkpoint.restore()

    def _make_preconditioner(self) -> Preconditioner:
        ridge, batches = self.training.whiten, self.batches
        if ridge and self.training.whiten_layers:
            with swapped(self.state.net, self.state.reference):
                return layer_whitening(self.model, batches.banks["anything"].points, self.state.trained, ridge)
        return make_preconditioner(self.model, batches.concept, ridge, self.method.scope)

    @property
    def steps_done(self) -> int:
        return len(self.log)

    @property
    def models(self) -> Models:
        """What the method is given at this moment."""
        model, state, hooks = self.model, self.state, self.hooks
        networks = self.student, self.reference, self.ema, self.recalled
        return Models(*networks, state.trained, state.initial, dict(hooks.notes), hooks.companion, model.path, self.student.attention)

    def fit(self) -> Iterator[Step]:
        """Trains from where it stands to the last step, and yields after each.

        Raises:
            NonFiniteLoss: a loss or a gradient is not finite. The weights of the step before are kept.
            Terminated: a scheduler ended the command. The weights of the last step are kept.
        """
        self.processes.wait()  # until each has read the folder, which the main one then writes to
        if self.steps_done == 0 and not self.hooks.notes:
            self.hooks.prepare(self.models, self.state.trained, self.processes)
            self.checkpoint.save_notes()
        while self.steps_done < self.training.steps and not self._is_stopped():
            with deferred():  # a scheduler's SIGTERM waits for the step, which then has a checkpoint
                done = self._step(self.steps_done)
                self.log.add(done)
                is_due = done.step % self.training.checkpoint_every == 0 or done.step == self.training.steps
                if is_due or self.processes.agree(is_terminating()):
                    self.checkpoint.save(done.step)
            yield done

    def _step(self, step: int) -> Step:
        """Takes an optimizer step."""
        trained, optimizer = self.state.trained, self.optimizers.at(step)
        terms = self._backward(step)
        if not all(map(math.isfinite, terms.values())):
            raise self._not_finite(step, {name: value for name, value in terms.items() if not math.isfinite(value)})
        self._reduce_gradients()
        # Of this optimizer alone: the others have the same parameters, and half-precision gradients may be unscaled only once.
        self.accelerator.unscale_gradients(optimizer)
        self._mask_gradients()
        self.preconditioner.change_gradients(trained)
        limit = self.training.max_grad_norm
        norm = nn.utils.clip_grad_norm_(trained.values(), math.inf if limit == "off" else limit)
        if self.accelerator.scaler is None and not torch.isfinite(norm):  # a scaler skips such a step and goes on
            raise self._not_finite(step, {})
        with self.preconditioner.stepping(trained):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.state.update_ema()
        self.hooks.update(terms)
        return Step(step + 1, self.training.steps, terms, float(norm))

    def _backward(self, step: int) -> dict[str, float]:
        """Computes the gradient of a step's batch, in parts; returns the terms of its loss, averaged over parts and processes."""
        each, rank, count = self.training.accumulate, self.processes.rank, self.processes.count
        parts = self.batches.split(step, each * count, slice(rank * each, (rank + 1) * each))
        models = self.models
        means: dict[str, Tensor] = {}
        with fixed_start(self.model) if self.method.fixes_start else nullcontext():
            for batch in parts:
                terms = self.method(models, batch)
                for name, value in terms.items():
                    means[name] = means.get(name, torch.zeros((), device=value.device)) + value.detach() / len(parts)
                self.accelerator.backward(sum(terms.values()) / len(parts))
        # One transfer from the device for all terms: each .item() would wait for it.
        values = self.processes.mean(torch.stack(list(means.values()))).tolist()
        return dict(zip(means, values, strict=True))

    def _reduce_gradients(self) -> None:
        # Before they are unscaled: a number that overflowed in one process makes every process skip the step.
        for parameter in self.optimizers.parameters.values():
            if parameter.grad is not None:
                parameter.grad = self.processes.mean(parameter.grad)

    def _mask_gradients(self) -> None:
        masks = self.hooks.masks(self.state.trained)
        if masks and self.preconditioner.mixes_entries:
            raise ExpungeError(
                f"This method masks entries of weights, and whitened steps mix them (whiten is {self.training.whiten}).",
                rule="mask-and-whitening",
                value=self.training.whiten,
                hint="Try --whiten 0.",
            )
        if masks and self.training.weight_decay:
            raise ExpungeError(
                f"This method masks entries of weights, and weight decay moves them too (it is {self.training.weight_decay}).",
                rule="mask-and-decay",
                value=self.training.weight_decay,
                hint="Try it without weight decay.",
            )
        for name, mask in masks.items():
            if (gradient := self.state.trained[name].grad) is not None:
                gradient.mul_(mask.to(gradient.device))  # quicker than masked_fill_

    @torch.no_grad()
    def _is_stopped(self) -> bool:
        """Whether the stopping rule ends the run here. The main process decides for all."""
        if self.stop is None or self.steps_done == 0:
            return False
        with swapped(self.state.net, self.state.result()):
            return self.processes.agree(self.processes.is_main and self.stop.is_done(self.steps_done))

    def _not_finite(self, step: int, terms: dict[str, float]) -> NonFiniteLoss:
        """Saves the weights before the step; returns the error, of these terms or, if there are none, of the gradient."""
        for parameter in self.optimizers.parameters.values():
            parameter.grad = None
        self.checkpoint.save(step)
        what = ", ".join(f"the term {name!r} is {value}" for name, value in terms.items()) or "the gradient is not finite"
        return NonFiniteLoss(
            f"Training failed at step {step + 1}: {what}. The weights of step {step} are kept.",
            rule="non-finite-loss",
            value=terms or None,
            hint="Try a lower --lr, or fp32.",
        )
