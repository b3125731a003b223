"""How other programs name the tensors of a LoRA file."""

from collections.abc import Mapping

from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel

NAMINGS = ("auto", "kohya", "diffusers")

DIFFERENCES = {"weight": "diff", "bias": "diff_b"}
"""The last part of a parameter's name, and how ComfyUI calls what is added to it."""


def lora_names(model: DiffusionModel, tensors: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """Tensors named LAYER.lora_A.weight and LAYER.lora_B.weight, by the names of a naming.

    Raises:
        ExpungeError: an unknown naming, or kohya's for a transformer, which each program maps in another way; a class-conditional model.
    """
    _refuse_labels(model)
    if naming not in NAMINGS:
        raise ExpungeError(f"{naming!r} is not a naming.", rule="unknown-naming", value=naming, hint=f"Try one of {', '.join(NAMINGS)}.")
    named = {f"{model.network_part}.{name}": value for name, value in tensors.items()}
    if naming == "kohya" and model.network_part != "unet":
        raise ExpungeError(
            f"A {model.family} model has a {model.network_part}. The naming of kohya is for models with a U-Net.",
            rule="naming-of-another-family",
            value=model.family,
            hint="Try without --naming: ComfyUI and diffusers read the names that it has then.",
        )
    is_kohya = model.network_part == "unet" and naming != "diffusers"
    if not is_kohya:
        return named
    from diffusers.utils import convert_state_dict_to_kohya

    return convert_state_dict_to_kohya(named)


def difference_names(model: DiffusionModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Differences of parameters, by the names that ComfyUI's LoRA loader maps.

    Raises:
        ExpungeError: a parameter that is neither weight nor bias of a layer, for which ComfyUI has no name; a class-conditional model.
    """
    _refuse_labels(model)
    found = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        if kind not in DIFFERENCES or not layer:
            raise ExpungeError(
                f"The run changed {name}, which is no weight or bias of a layer. ComfyUI has no name for its difference.",
                rule="no-name-for-difference",
                value=name,
                hint="Try `expunge merge RUN FOLDER`, or the single file.",
            )
        stem = f"lora_unet_{layer.replace('.', '_')}" if model.network_part == "unet" else f"{model.network_part}.{layer}"
        found[f"{stem}.{DIFFERENCES[kind]}"] = value
    return found


def _refuse_labels(model: DiffusionModel) -> None:
    if model.reads_labels:
        raise ExpungeError(
            f"{model.name} is class-conditional ({model.family}), and no program loads a LoRA file for such a model.",
            rule="lora-of-labels",
            value=model.family,
            hint="Try `expunge merge RUN FOLDER`, which writes the whole model.",
        )
