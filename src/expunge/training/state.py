"""The trained tensors of a network, their initial values and their moving average."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.delta import relative_change
from expunge.models.scopes import Scope
from expunge.storage.hashing import digest


class TrainState:
    """The trained tensors of a network, in float32 whatever precision the rest is in.

    There is one network in memory. Training changes its tensors in place; the reference and the moving average are calls of the same
    network with other values of the trained tensors.

    Under a low-rank scope the trained tensors are factors whose product is added to the weights. Training then leaves the network's
    own tensors alone, and the student too is a call with other values.

    Args:
        model: its network is trained. `release` restores it.
        scope: which tensors are trained.
        seed: of the random factors of a low-rank scope.
        decay: share of the old value in the moving average (EMA) of the trained tensors; 0 keeps no average.
        start: weights to start from instead of the network's own, as a later stage of a sequence does. Those outside the scope are put
            into the network until `release`, and are part of the result.
        from_start: whether `start` is the reference too; otherwise the network's own weights are.
    """

    def __init__(
        self,
        model: DiffusionModel,
        scope: Scope,
        seed: int = 0,
        decay: float = 0.0,
        start: Mapping[str, Tensor] | None = None,
        from_start: bool = False,
    ):
        self.net, self.rank, self.decay = model.network, scope.rank, decay
        net, found = self.net, model.scope(scope)
        self._required = {name: p.requires_grad for name, p in net.named_parameters()}
        self.base = {name: p.detach() if self.rank else p.detach().clone() for name, p in found.items()}
        """The network's own weights in the scope, by name."""
        given = start or {}
        self.start = {name: given[name].to(p.device) if name in given else self.base[name] for name, p in found.items()}
        """The weights in the scope before the first step."""
        self._given = {name: value for name, value in self.start.items() if name in given}
        self.outside = {name: value for name, value in given.items() if name not in found}
        """The given weights outside the scope."""
        parameters = dict(net.named_parameters())
        self._replaced = {name: parameters[name].data for name in self.outside}
        for name, value in self.outside.items():
            parameters[name].data = value.to(parameters[name].data)
        self.reference = {} if model.quantization else self.start if from_start else self.base | self._replaced
        """The reference's weights where they may differ from the network's present ones."""
        net.requires_grad_(False)
        self.trained: dict[str, nn.Parameter] = _factors(found, self.rank, seed, model.device) if self.rank else found
        self.initial = {n: p.detach().clone() for n, p in self.trained.items()} if self.rank else self.start
        """The trained tensors before the first step."""
        for name, parameter in self.trained.items():
            parameter.data = self.start[name].float().clone() if name in given else parameter.data.float()
            parameter.requires_grad_(True)
        self.ema = {name: p.detach().clone() for name, p in self.trained.items()} if decay else {}
        """The moving average of the trained tensors; empty if none is kept."""

    def merged(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scope's weights if the trained tensors are `values`; gradients pass through."""
        if not self.rank:
            return dict(values)
        return {name: w.float() + (values[f"{name}.B"] @ values[f"{name}.A"]).to(w.device) for name, w in self.start.items()}

    def called(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network is called with if the trained tensors are `values`: under a low-rank scope the factors, and the weights that
        they are added to where these are not the network's own."""
        return {**self._given, **values} if self.rank else dict(values)

    def result(self) -> dict[str, Tensor]:
        """The scope's weights that the run would end with: the moving average where one is kept, else the present values."""
        return self.merged(self.ema or self.trained)

    @torch.no_grad()
    def delta(self) -> dict[str, Tensor]:
        """The result and the given weights outside the scope, in float32 on the CPU."""
        return {name: w.to("cpu", torch.float32, copy=True) for name, w in (self.outside | self.result()).items()}

    def update_ema(self) -> None:
        """Adds the present values to the moving average."""
        for name, mean in self.ema.items():
            mean.lerp_(self.trained[name].detach(), 1 - self.decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Copies `values` into the trained tensors.

        Raises:
            ExpungeError: the names are not those of the trained tensors.
        """
        if odd := sorted(values.keys() ^ self.trained.keys()):
            raise ExpungeError(
                f"The saved tensors are not those that this run trains: {odd[0]!r} and {len(odd) - 1} more differ.",
                rule="other-tensors",
                value=odd,
                hint="Try another folder with --out, or delete this one.",
            )
        for name, parameter in self.trained.items():
            parameter.data.copy_(values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The part of a checkpoint: `weight.NAME` and `mean.NAME`."""
        weights: dict[str, Tensor] = {f"weight.{name}": p for name, p in self.trained.items()}
        return weights | {f"mean.{name}": mean for name, mean in self.ema.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`."""
        self.load({name.removeprefix("weight."): v for name, v in tensors.items() if name.startswith("weight.")})
        for name, mean in self.ema.items():
            mean.copy_(tensors[f"mean.{name}"])

    def relative_change(self) -> float:
        """|| theta - theta_0 || / || theta_0 || over the result's weights; theta_0 are the network's own."""
        return relative_change(self.delta(), {k: v.cpu() for k, v in (self.base | self._replaced).items()})

    def change_from_start(self) -> float:
        """The same with theta_0 the weights before the first step."""
        return relative_change(self.delta(), {k: v.cpu() for k, v in (self.start | self.outside).items()})

    def release(self) -> None:
        """Restores the network."""
        for name, parameter in self.net.named_parameters():
            if name in self.trained:
                parameter.data = self.base[name]
                parameter.grad = None
            elif name in self._replaced:
                parameter.data = self._replaced[name]
            parameter.requires_grad_(self._required[name])


def _factors(matrices: Mapping[str, Tensor], rank: int, seed: int, device: torch.device) -> dict[str, nn.Parameter]:
    """A [rank, in], Gaussian of variance 1 / in, and B [out, rank], zero, for each matrix: their product begins at zero."""
    factors: dict[str, nn.Parameter] = {}
    for name, w in matrices.items():
        generator = torch.Generator().manual_seed(int(digest(seed, "low rank", name)[:15], 16))
        a = torch.randn(rank, w.shape[1], generator=generator) / w.shape[1] ** 0.5
        factors[f"{name}.A"] = nn.Parameter(a.to(device))
        factors[f"{name}.B"] = nn.Parameter(torch.zeros(w.shape[0], rank, device=device))
    return factors
