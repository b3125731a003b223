"""Changes of a pipeline's networks that neither their parameters nor their configuration show.

Images are cached, and deltas saved, under parameters and configuration. Whatever else changes a forward pass is refused, or, where it
changes rounding alone, is a part of the key of cached images.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from expunge.errors import ExpungeError

OFFLOAD = "Try `pipe.remove_all_hooks()`, or to load the pipeline again without offloading."


def refuse_unusual(parts: Mapping[str, nn.Module]) -> None:
    """Refuses adapters that are not fused, IP-Adapters, hooks, replaced forward methods, FreeU, and attention processors of one's own.

    Args:
        parts: the networks of a pipeline by name.

    Raises:
        ExpungeError: the first that is found; the rule says which.
    """
    for part, network in parts.items():
        if error := next(_unusual(part, network), None):
            raise error


def forward_of(network: nn.Module, others: Mapping[str, nn.Module]) -> dict[str, Any]:
    """How the networks of a pipeline are computed, beside parameters and configuration: a part of the key of cached images."""
    kinds = {type(one) for module in network.modules() if (one := getattr(module, "processor", None)) is not None}
    attention = {name: str(getattr(getattr(part, "config", None), "_attn_implementation", "")) for name, part in others.items()}
    parts = {name: [bool(getattr(part, f"use_{way}", False)) for way in ("tiling", "slicing")] for name, part in others.items()}
    return {"network": _name(type(network)), "processors": sorted(map(_name, kinds)), "attention": attention, "in parts": parts}


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _unusual(part: str, network: nn.Module) -> Iterator[ExpungeError]:
    """An error for everything unusual about a network."""
    modules = dict(network.named_modules())
    places = {name: f"{part}.{name}" if name else part for name in modules}
    processors = {name: one for name, module in modules.items() if (one := getattr(module, "processor", None)) is not None}
    for name, one in processors.items():
        if "IPAdapter" in type(one).__name__:
            yield ExpungeError(
                f"The pipeline's {places[name]} has an IP-Adapter, which reads an image beside the prompt.",
                rule="ip-adapter",
                value=places[name],
                hint="Try `pipe.unload_ip_adapter()` first.",
            )
    for name, module in modules.items():
        yield from _of_module(places[name], module)
    for name, one in processors.items():
        if not type(one).__module__.startswith("diffusers."):
            yield ExpungeError(
                f"The pipeline's {places[name]} has an attention processor of its own, {type(one).__name__}.",
                rule="custom-processor",
                value=places[name],
                hint="Try `set_default_attn_processor()` of that network first.",
            )


def _of_module(place: str, module: nn.Module) -> Iterator[ExpungeError]:
    if hasattr(module, "base_layer") or "LoRA" in type(getattr(module, "processor", None)).__name__:
        yield ExpungeError(
            f"The pipeline's {place} has an adapter (LoRA) that is not part of its weights.",
            rule="adapter",
            value=place,
            hint="Try `pipe.fuse_lora()` to keep it, then `pipe.unload_lora_weights()`.",
        )
    if getattr(module, "_hf_hook", None) is not None:
        yield ExpungeError(
            f"The pipeline's {place} has a hook of accelerate, which moves weights or changes calls.",
            rule="offloaded",
            value=place,
            hint=OFFLOAD,
        )
    if getattr(module, "_diffusers_hook", None) is not None:
        yield ExpungeError(
            f"The pipeline's {place} has a hook of diffusers (offloading, casting or caching).",
            rule="forward-hook",
            value=place,
            hint=OFFLOAD,
        )
    if module._forward_hooks or module._forward_pre_hooks:
        yield ExpungeError(
            f"The pipeline's {place} has a forward hook, which may change what it returns.",
            rule="forward-hook",
            value=place,
            hint="Try the hook's `handle.remove()` first.",
        )
    if "forward" in vars(module):
        yield ExpungeError(
            f"The pipeline's {place} has another forward method than its class.",
            rule="patched-forward",
            value=place,
            hint="Try to load the pipeline again without the patch.",
        )
    if any(getattr(module, factor, None) is not None for factor in ("s1", "s2", "b1", "b2")):
        yield ExpungeError(
            f"The pipeline's {place} has FreeU enabled.", rule="freeu", value=place, hint="Try `pipe.disable_freeu()` first."
        )
