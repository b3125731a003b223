"""What a LoRA file of any program makes of a network's weights. Every tensor of the file lands, or is named in a refusal.

diffusers' own loader skips what it does not know, so a file could be taken in that changes nothing, or half of what it should.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.quiet import quiet

ENDINGS = {
    r"[._]lora_(A|down)(\.\w+)?\.weight|[._]lora(_linear_layer)?\.down\.weight": "down",
    r"[._]lora_(B|up)(\.\w+)?\.weight|[._]lora(_linear_layer)?\.up\.weight": "up",
    r"([._]lora\.down\.weight)?\.alpha": "alpha",
    r"\.diff|\.w_norm": "diff",
    r"\.diff_b|\.b_norm": "diff_b",
}
"""How the names of tensors end, in peft, diffusers, kohya's programs and ComfyUI, and what such a tensor is."""

BEGINNINGS = r"(base_model\.model\.|module\.|_orig_mod\.|diffusion_model\.|unet\.|transformer\.|lora_unet_|lora_transformer_|lycoris_)*"
"""What may stand before a layer's name."""

OTHER_KINDS = {
    "hada_": "LoHa", "lokr_": "LoKr", "lora_mid": "a Tucker decomposition (LoCon)", "dora_scale": "DoRA", "magnitude_vector": "DoRA",
    "oft_": "OFT", "glora": "GLoRA", "on_input": "IA3", "set_weight": "a replacement of weights",
}  # fmt: skip
"""Parts of names in files of changes that are no sum of low-rank products."""

OF_TEXT = re.compile(r"(base_model\.model\.)?(text_encoder|text_model|lora_te|te\d?_)")


@dataclass
class Layer:
    """What a file says of one layer."""

    names: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def is_lora(names: list[str]) -> bool:
    """Whether any of a file's tensors is one of a change, of a known kind or another."""
    return any(_kind(name)[1] or any(part in name for part in OTHER_KINDS) for name in names)


def with_lora(model: DiffusionModel, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], file: str) -> dict[str, Tensor]:
    """The network's changed parameters, in float32: W + alpha / rank B A, or W plus a difference.

    Args:
        file: what an error calls it.

    Raises:
        ExpungeError: a tensor of a text encoder, of another kind of change, of a layer that the network lacks or that has another shape;
            half of a pair.
    """
    _refuse_kinds(tensors, file)
    layers, unknown = _landed(model, tensors)
    if unknown:  # names of blocks as the original code has them, which diffusers' loader turns into its own
        # Of a file with both, the converter for a U-Net would drop the former without a word, so it is given them alone.
        rest = {} if model.network_part != "unet" else {name: value for name, value in tensors.items() if name not in unknown}
        others = {name: value for name, value in tensors.items() if name not in rest}
        layers, unknown = _landed(model, rest | _converted(model, others, file, unknown))
    if unknown:
        raise _refusal(file, f"the network of {model.name} has no layer for {unknown[0]}", unknown[0])
    parameters = dict(model.network.named_parameters())
    found: dict[str, Tensor] = {}
    for layer, read in layers.items():
        for kind, change in _changes(read, layer, _scaling(metadata, model.network_part), file).items():
            name = f"{layer}.{kind}"
            if name not in parameters or parameters[name].numel() != change.numel():
                raise _refusal(file, f"{read.names[0]} does not fit the {kind} of {layer}", read.names[0])
            before = parameters[name].detach().cpu().float()
            found[name] = before + change.reshape(before.shape)
    return found


def _kind(name: str) -> tuple[str, str]:
    """The layer's name as the file has it, and what the tensor is of it; "" for a tensor of no change."""
    for ending, kind in ENDINGS.items():
        if match := re.search(f"({ending})$", name):
            return name[: match.start()], kind
    return name, ""


def _plain(name: str) -> str:
    """A layer's name in the form in which all programs' names of it are equal."""
    return name.replace(".processor.", ".").replace("_processor_", "_").replace(".", "_")


def _landed(model: DiffusionModel, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Layer], list[str]]:
    """The file's tensors by the network's layers, and the names of those without one."""
    known = {_plain(name): name for name, _ in model.network.named_modules()}
    layers: dict[str, Layer] = {}
    unknown = []
    for name, tensor in tensors.items():
        stem, kind = _kind(name)
        stem = _plain(re.sub(f"^{BEGINNINGS}", "", stem))
        layer = known.get(f"{stem}_0") if stem.endswith("to_out") else known.get(stem)
        if layer is None or not kind:
            unknown.append(name)
            continue
        read = layers.setdefault(layer, Layer())
        read.names.append(name)
        read.tensors[kind] = tensor.float()
    return layers, unknown


def _converted(model: DiffusionModel, tensors: Mapping[str, Tensor], file: str, unknown: list[str]) -> dict[str, Tensor]:
    """The file's tensors by diffusers' names."""
    read: Any = getattr(type(model.pipeline), "lora_state_dict", None)
    try:
        with quiet():
            options = {"unet_config": model.pipeline.unet.config} if model.network_part == "unet" else {"return_alphas": True}
            found, alphas, *_ = read(dict(tensors), **options)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise _refusal(file, f"the network of {model.name} has no layer for {unknown[0]}", unknown[0]) from error
    return dict(found) | {name: torch.tensor(float(alpha)) for name, alpha in (alphas or {}).items()}


def _changes(read: Layer, layer: str, scaling: Any, file: str) -> dict[str, Tensor]:
    """What is added to a layer's weight and bias."""
    tensors = read.tensors
    found = {kind: tensors[name] for kind, name in (("weight", "diff"), ("bias", "diff_b")) if name in tensors}
    if ("down" in tensors) != ("up" in tensors) or ("alpha" in tensors and "down" not in tensors):
        raise _refusal(file, f"{read.names[0]} has no other half", read.names[0])
    if "down" in tensors:
        down, up = tensors["down"], tensors["up"]
        if up.flatten(1).shape[1] != down.shape[0]:
            raise _refusal(file, f"{read.names[0]} and its other half have different ranks", read.names[0])
        scale = tensors["alpha"].item() / down.shape[0] if "alpha" in tensors else scaling(layer, down.shape[0])
        found["weight"] = found.get("weight", 0) + scale * (up.flatten(1) @ down.flatten(1))
    return found


def _scaling(metadata: Mapping[str, str], part: str) -> Any:
    """The factor before B A by layer and rank, where no tensor says it: peft's settings in the header of the file, else 1."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        settings = {}
    own = {key.removeprefix(f"{part}."): value for key, value in settings.items()}

    def scale(layer: str, rank: int) -> float:
        pattern = own.get("alpha_pattern") or {}
        alpha = next((value for name, value in pattern.items() if layer.endswith(name)), own.get("lora_alpha", rank))
        return alpha / (rank**0.5 if own.get("use_rslora") else rank)

    return scale


def _refuse_kinds(tensors: Mapping[str, Tensor], file: str) -> None:
    for name, tensor in tensors.items():
        if kind := next((kind for part, kind in OTHER_KINDS.items() if part in name), None):
            raise _refusal(file, f"{name} belongs to {kind}, which is no sum of low-rank products", name)
        if OF_TEXT.match(name) and _kind(name)[1] != "alpha" and tensor.any():
            raise ExpungeError(
                f"{file} changes a text encoder ({name}), and a run changes only the network.",
                rule="other-fixed-part",
                value=name,
                hint="Try a file that changes the network alone.",
            )


def _refusal(file: str, reason: str, name: str) -> ExpungeError:
    hint = "Try a file that was made for this model, or merge it with the program that made it and adopt the folder."
    return ExpungeError(f"The LoRA {file} cannot be added: {reason}.", rule="lora-does-not-fit", value=name, hint=hint)
