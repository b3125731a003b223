"""Weights as others publish them, by the names that the network's own have."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.delta import is_rounded
from expunge.models.loading import load as load_model
from expunge.models.lora_reading import is_lora, with_lora
from expunge.models.reference import with_options
from expunge.models.source import source_of
from expunge.storage.json_files import find_file, read_object
from expunge.storage.tensors import metadata_of, read_tensors

WHOLE = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
"""How names begin in a checkpoint of a whole model in one file."""

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")

CONVERT = (
    "import sys, torch, safetensors.torch as s; "
    "s.save_file({k: v.contiguous() for k, v in torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])"
)
"""A program that turns a pickle of tensors into a safetensors file, without running code that it holds."""


def published(unlearned: str | Path, base: DiffusionModel) -> dict[str, Tensor]:
    """The tensors of the network that were published, all or some.

    Args:
        unlearned: a folder or hub id of a pipeline, a folder of the network alone, or a safetensors file of its tensors or of a LoRA.

    Raises:
        ExpungeError: anything else; a LoRA with a tensor that has no place in the network; a pipeline with other parts than the base's.
    """
    path = Path(unlearned)
    if path.suffix in PICKLES:
        raise ExpungeError(
            f"{path} is a pickle, which can run code when it is read.",
            rule="pickled-weights",
            value=str(path),
            hint=f"Try to convert it first: python -c '{CONVERT}' {path} {path.with_suffix('.safetensors')}",
        )
    if path.suffix == ".safetensors":
        return _tensors_in(path, base)
    if path.is_dir() and not (path / "model_index.json").exists() and (path / "config.json").exists():
        return _network_alone(path, base)
    return _network(load_model(unlearned), base, path)


def _network_alone(folder: Path, base: DiffusionModel) -> dict[str, Tensor]:
    """The tensors in the folder of a network without a pipeline around it.

    Raises:
        ExpungeError: a network of another class, or no safetensors.
    """
    config = find_file(folder, "config.json")
    kind, ours = (read_object(config) if config else {}).get("_class_name"), type(base.network).__name__
    if kind != ours:
        raise ExpungeError(
            f"{folder} holds a {kind} alone. The network of {base.name} is a {ours}.",
            rule="other-network",
            value=kind,
            hint="Try a folder of the network, or of the whole pipeline.",
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ExpungeError(
            f"{folder} holds a {kind} alone, and no safetensors of it.",
            rule="no-safetensors",
            value=str(folder),
            hint="Try to save it again with safe_serialization=True.",
        )
    plain = [file for file in files if file.name.count(".") == 1] or files  # those without the name of a variant
    return {name: value for file in plain for name, value in read_tensors(file, "getting it again").items()}


def _tensors_in(file: Path, base: DiffusionModel) -> dict[str, Tensor]:
    """A file's tensors, as the network's are called; of a LoRA those that it makes of the base's; of a checkpoint the network's.

    Raises:
        ExpungeError: a file that cannot be read, or a checkpoint of other parts than the base's.
    """
    tensors = read_tensors(file, "getting it again")
    if is_lora(list(tensors)):
        return with_lora(base, tensors, metadata_of(file), str(file))
    if any(name.startswith(WHOLE) for name in tensors):
        folder = source_of(base)  # which has the configuration that the file lacks
        return _network(load_model(with_options(str(file), None, str(folder) if folder else None)), base, file)
    # What the network was wrapped in, or the name of its part where the file holds other parts too.
    return {re.sub(rf"^(_orig_mod\.|module\.|{base.network_part}\.)+", "", name): value for name, value in tensors.items()}


def _network(found: DiffusionModel, base: DiffusionModel, model: Path) -> dict[str, Tensor]:
    """The U-Net's tensors of a model whose other parts are those of the base.

    Raises:
        ExpungeError: a U-Net of other tensors; a text encoder, an autoencoder or a noise schedule that is another.
    """
    for part in base.fixed_parts:
        theirs, ours = (d.fixed_parts[part].state_dict() for d in (found, base))
        if theirs.keys() != ours.keys() or differing(theirs, {n: v.cpu().float() for n, v in ours.items()}):
            raise ExpungeError(
                f"The {part} of {model} is not that of {base.name}. A run changes only the {base.network_part}.",
                rule="other-fixed-part",
                value=part,
                hint="Try the base model that it was made from.",
            )
    if found.noising != base.noising:
        raise ExpungeError(
            f"The noise schedule of {model} is {found.noising}, and that of {base.name} is {base.noising}. A run does not change it.",
            rule="other-noise-schedule",
            value=found.noising,
            hint="Try the base model that it was made from.",
        )
    theirs = {n: p.detach() for n, p in found.network.named_parameters()}
    if lacks := [n for n, _ in base.network.named_parameters() if n not in theirs]:
        raise ExpungeError(
            f"The changed model {model} lacks the base model's tensor {lacks[0]}.",
            rule="other-tensors",
            value=lacks[0],
            hint="Try the base model that it was made from.",
        )
    return theirs


def differing(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of their tensors that are neither ours, nor ours rounded to half precision, nor rounded to ours; in float32.

    Raises:
        ExpungeError: a tensor that we lack, or of another shape.
    """
    found = {}
    for name, their in theirs.items():
        if name not in ours:
            raise ExpungeError(
                f"The changed model has the tensor {name}, which the base model does not have.",
                rule="other-tensors",
                value=name,
                hint="Try the base model that it was made from.",
            )
        if their.shape != ours[name].shape:
            raise ExpungeError(
                f"The tensor {name} has the shape {list(their.shape)} in the changed model and {list(ours[name].shape)} in the base.",
                rule="other-shape",
                value=name,
                hint="Try the base model that it was made from.",
            )
        if not is_rounded(their.detach().cpu().float(), ours[name]):
            found[name] = their.detach().to("cpu", torch.float32, copy=True)
    return found
