"""What passes of a network cost, counted on the meta device: operations by kind, bytes, and the peak of memory. No weight is read."""

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from expunge.diffusion.types import Point
from expunge.models.base import DiffusionModel

CONVOLUTIONS = {torch.ops.aten.convolution, torch.ops.aten.convolution_backward}

NARROW = 256
"""Channels below which a convolution keeps fewer of a processor's units busy."""

VIEWS = (
    *("alias", "as_strided", "detach", "diagonal", "expand", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t"),
    *("transpose", "unbind", "unsqueeze", "view", "_reshape_alias", "_unsafe_view"),
)
"""Operations that move no numbers."""

BESIDE_FORWARD, BESIDE_BOTH = 1.3, 0.3
"""What the allocator and the kernels of a CPU keep beside the tensors of a pass, as a share of those in blocks smaller than `BLOCK`: fitted
on the canvas, and checked on Stable Diffusion 1.5 and on whole runs (`benchmarks/estimates.py`). Other devices are not measured."""

BLOCK = 2**25
"""Bytes from which glibc returns a block to the system as soon as it is freed."""


@dataclass(frozen=True)
class Work:
    """The work of a pass, by what limits its speed."""

    narrow: float = 0.0
    """Floating-point operations of convolutions with few channels; a multiplication and an addition are two."""
    wide: float = 0.0
    """The same of those with many."""
    matmul: float = 0.0
    """The same of matrix products, and of attention."""
    octets: float = 0.0
    """Bytes that these read, and that all other operations read and write."""
    operations: float = 0.0
    """How many operations are started."""

    @property
    def flops(self) -> float:
        return self.narrow + self.wide + self.matmul

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Passes:
    """A pass without gradient, and one with the gradient into some weights, of a batch; all of it grows with the batch."""

    forward: Work
    both: Work
    """Forward and backward."""
    forward_octets: float
    """The peak of what a forward pass keeps in memory at once, beside weights."""
    both_octets: float
    """The same of a forward and a backward pass: above all what the forward pass keeps for the backward one."""
    forward_small: float
    """The peak of what is in blocks smaller than `BLOCK` in a forward pass."""
    both_small: float
    """The same in a forward and a backward pass."""

    def resident(self, device: str) -> "Passes":
        """The same, with what a kind of device keeps in memory beside the tensors."""
        if device != "cpu":
            return self
        forward, both = BESIDE_FORWARD * self.forward_small, BESIDE_BOTH * self.both_small
        return replace(self, forward_octets=self.forward_octets + forward, both_octets=self.both_octets + both)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Passes":
        """The passes that `asdict` wrote as a table."""
        return cls(**dict(table) | {name: Work(**table[name]) for name in ("forward", "both")})


class Counting(TorchDispatchMode):
    """Counts the work of all operations within, and the bytes of all tensors that they make and that are still referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.work, self.now, self.peak = Work(), 0, 0
        self.now_small, self.peak_small = 0, 0
        self._known: Any = WeakIdKeyDictionary(ref_type=weakref.ref)

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Does not count what was there before, and views of it."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()] = 0

    def add(self, work: Work) -> None:
        self.work = self.work + work

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet, results = func._overloadpacket, [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        for result in results:
            self._keep(result)
        if packet in flop_registry:
            flops, read = float(flop_registry[packet](*args, **(kwargs or {}), out_val=out)), _octets((args, kwargs))
            if packet not in CONVOLUTIONS:
                self.add(Work(0, 0, flops, read, 1))
            elif min(args[1 if packet is torch.ops.aten.convolution else 2].shape[:2]) < NARROW:
                self.add(Work(flops, 0, 0, read, 1))
            else:
                self.add(Work(0, flops, 0, read, 1))
        elif packet.__name__ not in VIEWS:
            self.add(Work(0, 0, 0, _octets((args, kwargs, results)), 1))
        return out

    def _keep(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self._add(size)
        self.peak, self.peak_small = max(self.peak, self.now), max(self.peak_small, self.now_small)
        weakref.finalize(storage, self._add, -size)

    def _add(self, size: int) -> None:
        self.now += size
        self.now_small += size if abs(size) < BLOCK else 0


def _octets(tree: Any) -> float:
    """Bytes of all tensors in arguments or results."""
    return float(sum(x.numel() * x.element_size() for x in tree_leaves(tree) if isinstance(x, Tensor)))


class _Attention(torch.autograd.Function):
    """Attention as fused kernels do it: no matrix of scores in memory. Its operations are counted, its values are not computed."""

    @staticmethod
    def forward(ctx: Any, counting: Counting, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, sums = q.new_empty(*q.shape[:-1], v.shape[-1]), q.new_empty(q.shape[:-1])
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.counting, ctx.flops = counting, 2.0 * q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        counting.add(Work(0, 0, ctx.flops, 0, 1))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        q, k, v, _, _ = ctx.saved_tensors
        ctx.counting.add(Work(0, 0, 2.5 * ctx.flops, 0, 1))  # the scores again, and four products
        return None, torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


class _Fused(TorchFunctionMode):
    """Puts `_Attention` in the place of torch's attention, which on the meta device would hold the matrix of scores."""

    def __init__(self, counting: Counting):
        super().__init__()
        self.counting = counting

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            return _Attention.apply(self.counting, given["query"], given["key"], given["value"])
        return func(*args, **kwargs)


@contextmanager
def counting(known: Iterable[Tensor]) -> Iterator[Counting]:
    """Counts what is computed within, on the meta device. `known` are the tensors that are there before."""
    mode = Counting()
    mode.ignore(known)
    with _Fused(mode), mode:
        yield mode


def on_meta(model: DiffusionModel) -> DiffusionModel:
    """The model with a network that has shapes and no values. The rest is the model's own."""
    model = model.whole
    twin, network = copy.copy(model), model.network
    if not next(network.parameters()).is_meta:
        with torch.device("meta"):
            kind: Any = type(network)
            twin.network = kind.from_config(network.config).eval()
        for parameter in twin.network.parameters():
            parameter.data = parameter.data.to(model.dtype)
    return twin


def count_passes(model: DiffusionModel, trained: Iterable[str], factors: dict[str, Tensor], batch: int, recomputes: bool = False) -> Passes:
    """The cost of passes of a batch of that size.

    Args:
        trained: names of the parameters that the gradient goes into, which are in float32.
        factors: low-rank factors by name, as `DiffusionModel.predict` takes them; the gradient then goes into these alone.
        recomputes: whether activations are recomputed in the backward pass.
    """
    twin = on_meta(model)
    net, cond = twin.network, model.template.to("meta").expand(batch)
    x_t = torch.empty(batch, *model.latent_shape, device="meta")
    t = model.path.times(torch.full((batch,), 0.5)).to("meta")
    point = Point(x_t, t, cond, ("",) * batch)
    net.requires_grad_(False)
    names = set(trained)
    weights: dict[str, Tensor] = {n: torch.empty_like(f, device="meta", requires_grad=True) for n, f in factors.items()}
    wanted = list(weights.values()) or [p for n, p in net.named_parameters() if n in names]
    known = [*net.parameters(), *net.buffers(), *weights.values(), x_t, t, cond.states, *cond.extra.values()]
    with counting(known) as forward, torch.no_grad():
        twin.predict(point)
    for parameter in wanted:
        parameter.requires_grad_(True)
    try:
        with twin.as_trained(recomputes), counting(known) as both:
            loss = twin.predict(point, weights or None).square().mean()
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True)  # what the last block makes of words is not read
            del loss
    finally:
        net.requires_grad_(False)
    held = sum(g.numel() * g.element_size() for g in gradients if g is not None)
    octets = forward.peak, max(both.peak - held, 0), forward.peak_small, max(both.peak_small - held, 0)
    return Passes(forward.work, both.work, *map(float, octets))


def parameters_of(network: nn.Module) -> int:
    """How many numbers a network has."""
    return sum(p.numel() for p in network.parameters())
