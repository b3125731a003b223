"""What linear layers read of prompts: the states as they are, or what a hook on the layer sees."""

import re
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.base import ENCODED, DiffusionModel


@dataclass(frozen=True)
class Group:
    """Layers that read the same tensor in every call of the network."""

    layers: tuple[str, ...]
    """Their names, in the order of the network."""
    reads_states: bool
    """Whether that tensor is `Cond.states`."""
    are_tables: bool = False
    """Whether they are tables of embeddings, of which the states pick rows: the matrix that reads the states is the transposed table."""

    def weights(self, names: Collection[str]) -> list[str]:
        """Those of the named parameters that are of these layers."""
        return [name for name in names if name.rpartition(".")[0] in self.layers]


class _Seen(Exception):
    """Ends a call of the network whose rest is of no use."""


def groups(model: DiffusionModel, names: Collection[str]) -> list[Group]:
    """The layers of the named parameters, by what they read. A layer that the network does not call is in no group."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    direct = [layer for layer in layers if re.search(model.reads_tokens, f"{layer}.weight")]
    tables = [layer for layer in layers if isinstance(model.network.get_submodule(layer), nn.Embedding)]
    found = [Group(tuple(of), True, of is tables) for of in (direct, tables) if of]
    if hooked := [layer for layer in layers if layer not in (*direct, *tables)]:
        seen = inputs(model, hooked, model.null(), *_middle(model))
        by_place: dict[tuple[Any, ...], list[str]] = {}
        for layer, tensor in seen.items():
            by_place.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), []).append(layer)
        found += [Group(tuple(same), False) for same in by_place.values()]
    return found


def conditions(model: DiffusionModel, group: Group, prompts: Sequence[str]) -> Cond:
    """What the layers of a group read of each prompt, where this depends on the prompt alone; a pooled vector counts as one token."""
    cond = model.encode(prompts)
    if group.reads_states:
        return cond
    distinct = {key: i for i, key in enumerate(cond.keys)}
    lengths = cond.extra["mask"].sum(1).tolist() if "mask" in cond.extra else [cond.states.shape[1]] * len(cond)
    read: dict[str, Tensor] = {}
    for length in dict.fromkeys(lengths):
        rows = [i for i in distinct.values() if lengths[i] == length]
        for part in (rows[start : start + ENCODED] for start in range(0, len(rows), ENCODED)):
            read |= zip((cond.keys[i] for i in part), _read(model, group.layers[0], cond[part].trimmed), strict=True)
    each = [read[key].float() for key in cond.keys]
    masks = [torch.ones(1, len(rows), dtype=torch.long, device=rows.device) for rows in each]
    return Cond.cat([Cond(rows[None], (key,), {"mask": mask}) for key, rows, mask in zip(cond.keys, each, masks, strict=True)])


def _read(model: DiffusionModel, layer: str, cond: Cond) -> list[Float[Tensor, "tokens width"]]:
    """What a layer reads of each of several prompts of the same length."""
    seen = inputs(model, [layer], cond, *_middle(model, len(cond)))[layer]
    if len(seen) == len(cond):
        return list(seen.reshape(len(cond), -1, seen.shape[-1]))
    if len(cond) == 1:  # without an axis of prompts
        return [seen.reshape(-1, seen.shape[-1])]
    return [rows for i in range(len(cond)) for rows in _read(model, layer, cond[[i]])]


@torch.no_grad()
def inputs(model: DiffusionModel, layers: Collection[str], cond: Cond, x_t: Latents, t: Times) -> dict[str, Tensor]:
    """The input of each named layer when the network is called once, which ends with the last of them."""
    model, seen = model.whole, dict[str, Tensor]()

    def see(name: str, layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.setdefault(name, next(iter((*arguments, *named.values()))))
        if len(seen) == len(layers):
            raise _Seen

    with ExitStack() as hooks:
        for name in layers:
            hooks.callback(model.network.get_submodule(name).register_forward_pre_hook(partial(see, name), with_kwargs=True).remove)
        with suppress(_Seen):
            model.run(x_t.to(model.computes_in), t, cond)
    return seen


def _middle(model: DiffusionModel, count: int = 1) -> tuple[Latents, Times]:
    """Points of the path for what does not depend on the point."""
    return torch.zeros(count, *model.latent_shape, device=model.device), model.path.times(torch.full((count,), 0.5)).to(model.device)
