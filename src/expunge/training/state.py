"""The trained tensors of a network, and the network under each set of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from expunge.diffusion.networks import no_mean
from expunge.diffusion.types import Latents, Maps, Point
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.delta import relative_change
from expunge.models.scopes import Scope
from expunge.storage.hashing import digest


class TrainState:
    """The trained tensors of a network beside their initial values, and, where one is kept, their running mean.

    The student is the network itself, its trained tensors changed in place; the reference and the mean are the same network
    called with other values put in for the trained tensors, so there is never a second one in memory. Trained tensors are kept
    in float32 whatever the rest is in.

    Under a scope of low rank the trained tensors are the factors of what is added to the matching weights. The network then stays
    untouched, and the student too is a call with other values.

    A stage of a sequence has a `start`, other values than the network's to begin from; with `from_start` they are the reference's too.
    """

    def __init__(
        self,
        net: nn.Module,
        scope: Scope,
        seed: int = 0,
        ema: float = 0.0,
        start: Mapping[str, Tensor] | None = None,
        from_start: bool = False,
    ):
        self.net, self.rank, self.ema = net, scope.rank, ema
        found = scope.parameters(net)
        self._required = {name: p.requires_grad for name, p in net.named_parameters()}
        self.base = {name: p.detach() if self.rank else p.detach().clone() for name, p in found.items()}
        """What the network's own weights in the scope are, by name."""
        start = start or {}
        self.begun = {name: start[name].to(p.device) if name in start else self.base[name] for name, p in found.items()}
        """What they are before the first step."""
        self.beside = {name: value for name, value in start.items() if name not in found}
        """What it starts from outside the scope: in the network for as long as the state lasts, and a part of the result."""
        parameters = dict(net.named_parameters())
        self._under = {name: parameters[name].data for name in self.beside}
        for name, value in self.beside.items():
            parameters[name].data = value.to(parameters[name].data)
        self.untouched = self.begun if from_start else self.base | self._under
        """What weights are for the reference, as far as they differ from the network's."""
        net.requires_grad_(False)
        self.trained: dict[str, nn.Parameter] = _factors(found, self.rank, seed) if self.rank else found
        self.initial = {n: p.detach().clone() for n, p in self.trained.items()} if self.rank else self.begun
        for name, parameter in self.trained.items():
            parameter.data = self.begun[name].float().clone() if name in start else parameter.data.float()
            parameter.requires_grad_(True)
        self.mean = {name: p.detach().clone() for name, p in self.trained.items()} if ema else {}

    def present(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's weights when the trained tensors are `values`, with the gradient of those."""
        if not self.rank:
            return dict(values)
        return {name: w.float() + values[f"{name}.B"] @ values[f"{name}.A"] for name, w in self.begun.items()}

    def average(self) -> None:
        """Takes the present values into the running mean."""
        for name, mean in self.mean.items():
            mean.lerp_(self.trained[name].detach(), 1 - self.ema)

    @torch.no_grad()
    def delta(self) -> dict[str, Tensor]:
        """The result: the scope's weights under the running mean, where one is kept, else at present, and whatever else it started
        from; float32 on the CPU."""
        result = self.beside | self.present(self.mean or self.trained)
        return {name: w.to("cpu", torch.float32, copy=True) for name, w in result.items()}

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Puts saved values in.

        Raises:
            ExpungeError: other tensors than this scope trains.
        """
        if values.keys() != self.trained.keys():
            odd = sorted(values.keys() ^ self.trained.keys())
            raise ExpungeError(f"a checkpoint holds the tensors that are trained: {odd[0]} and {len(odd) - 1} more differ; start afresh")
        for name, parameter in self.trained.items():
            parameter.data.copy_(values[name])

    def relative_change(self) -> float:
        """|| theta - theta_0 || / || theta_0 || over the result's weights, theta_0 being the network's own."""
        return relative_change(self.delta(), {k: v.cpu() for k, v in (self.base | self._under).items()})

    def moved(self) -> float:
        """The same from where it started."""
        return relative_change(self.delta(), {k: v.cpu() for k, v in (self.begun | self.beside).items()})

    def release(self) -> None:
        """Gives the network back as it was."""
        for name, parameter in self.net.named_parameters():
            if name in self.trained:
                parameter.data = self.base[name]
                parameter.grad = None
            elif name in self._under:
                parameter.data = self._under[name]
            parameter.requires_grad_(self._required[name])


def _factors(matrices: Mapping[str, Tensor], rank: int, seed: int) -> dict[str, nn.Parameter]:
    """A [rank, in], Gaussian of variance 1 / in, and B [out, rank], zero, for each matrix: their product begins at zero."""
    factors: dict[str, nn.Parameter] = {}
    for name, w in matrices.items():
        generator = torch.Generator().manual_seed(int(digest(seed, "low rank", name)[:15], 16))
        a = torch.randn(rank, w.shape[1], generator=generator) / w.shape[1] ** 0.5
        factors[f"{name}.A"] = nn.Parameter(a.to(w.device))
        factors[f"{name}.B"] = nn.Parameter(torch.zeros(w.shape[0], rank, device=w.device))
    return factors


@dataclass
class Memo:
    """Reference outputs by (point, prompt). A point's reference is computed once in a run, whoever asks for it.

    Rows are kept on the CPU. `fresh` collects the rows computed since `take` was last called, so that a checkpoint can write
    just those: a resumed run then reads the very numbers that the uninterrupted one computed.
    """

    rows: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    fresh: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def put(self, keys: list[tuple[str, str]], values: Latents) -> None:
        # One copy for the whole batch, then views: a row-wise .cpu() would synchronise the device once a row.
        for key, row in zip(keys, values.detach().to("cpu", copy=True), strict=True):
            self.rows[key] = self.fresh[key] = row

    def take(self) -> dict[tuple[str, str], Tensor]:
        fresh, self.fresh = self.fresh, {}
        return fresh


class Student:
    """The network with gradient."""

    def __init__(self, model: DiffusionModel, state: TrainState | None = None):
        self.model, self.state = model, state
        self.calls = 0
        """With gradient."""
        self.glances = 0
        """Without."""

    def __call__(self, point: Point) -> Latents:
        return self.model.predict(point, self._counted(point)).float()

    def attention(self, point: Point) -> Maps:
        """What it attends to there, instead of what it predicts; counted alike."""
        return [layer.float() for layer in self.model.attention(point, self._counted(point))]

    def _counted(self, point: Point) -> dict[str, Tensor] | None:
        """Counts a call, and gives the weights to put in for it, if any."""
        if torch.is_grad_enabled():
            self.calls += len(point)
        else:
            self.glances += len(point)
        return self.state.present(self.state.trained) if self.state and self.state.rank else None


class Mean:
    """The network under the running mean of the trained tensors, without gradient."""

    def __init__(self, model: DiffusionModel, state: TrainState):
        self.model, self.state, self.glances = model, state, 0

    @torch.no_grad()
    def __call__(self, point: Point) -> Latents:
        if not self.state.mean:
            return no_mean(point)
        self.glances += len(point)
        return self.model.predict(point, self.state.present(self.state.mean)).float()


class Reference:
    """The untouched network, without gradient, remembering."""

    def __init__(self, model: DiffusionModel, state: TrainState, memo: Memo):
        self.model, self.state, self.memo, self.calls = model, state, memo, 0

    @torch.no_grad()
    def __call__(self, point: Point) -> Latents:
        keys = list(zip(point.keys, point.cond.keys, strict=True))
        missing = [i for i, key in enumerate(keys) if key not in self.memo.rows]
        if missing:
            self.calls += len(missing)
            self.memo.put([keys[i] for i in missing], self.model.predict(point[missing], self.state.untouched).float())
        return torch.stack([self.memo.rows[key] for key in keys]).to(point.x_t.device)
