"""From what a user names to a model: the embedded one, a diffusers folder, a hub id, a single file, a pipeline in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from expunge.canvas import CANVAS
from expunge.errors import ExpungeError
from expunge.models.base import IN_MEMORY, DiffusionModel
from expunge.models.checkpoint_file import load_single_file
from expunge.models.checks import bound_tokenizers, check_folder, find_device, find_family, read_index
from expunge.models.defaults import defaults_of
from expunge.models.families import FAMILIES, family_of
from expunge.models.family import Pipeline
from expunge.models.fingerprints import fingerprint_of_files
from expunge.models.guard import checked
from expunge.models.precision import DTYPES
from expunge.models.quantized import quantize, refuse_quantization
from expunge.models.quiet import diffusers_library, quiet
from expunge.models.reference import Reference
from expunge.models.resting import Resting
from expunge.models.stable_diffusion_xl import refuse_refiner
from expunge.models.weight_files import PICKLES, files_of, find_variant

PRECISION = "dtype" if tuple(map(int, version("diffusers").split(".")[:2])) >= (0, 42) else "torch_dtype"
"""How diffusers calls the argument."""

Model: TypeAlias = str | Path | Pipeline | DiffusionModel
"""What a user may name a model by."""


def load(
    model: Model, device: str = "cpu", dtype: str = "fp32", safety_checker: bool = False, quantization: str | None = None
) -> DiffusionModel:
    """Loads a model from a diffusers folder, a hub id, a single `.safetensors` file, a pipeline in memory, or "canvas", the embedded one.

    A model that is loaded already is returned as it is, and a pipeline in memory stays on its device and in its precision. Weights are
    read in the precision `dtype`; none is in memory in float32 first. On an accelerator text encoders are there only while they encode.
    Options follow a name after `#`: `owner/model#variant=fp16` reads the files of that variant, `model.safetensors#config=FOLDER` takes
    the configuration of a single file from a diffusers folder.

    Args:
        safety_checker: keep the one that the folder or hub id brings: for a pipeline that is given away. Without, it is not loaded.

        quantization: how the network's linear layers are stored, "nf4" or "int8", for low-rank training in less memory. Its fingerprint
            stays that of the files.

    Raises:
        ExpungeError: the model lacks a part or holds only pickles; a file was cut short; a pipeline of an unknown family; an unknown
            dtype or quantisation, or one for a pipeline in memory.
    """
    refuse_quantization(quantization)
    is_loaded = isinstance(model, DiffusionModel)
    is_pipeline = not is_loaded and isinstance(model, diffusers_library().DiffusionPipeline)
    if quantization and (is_pipeline or is_loaded) and quantization != getattr(model, "quantization", None):
        raise ExpungeError(
            "A pipeline in memory is not quantised here: it stays as it is.",
            rule="quantized-in-memory",
            value=quantization,
            hint="Try the folder or hub id that it was loaded from.",
        )
    if isinstance(model, DiffusionModel):  # is_loaded, for types
        return model
    if is_pipeline:
        return checked(_family_in_memory(model)(model), in_memory=True)
    if dtype not in DTYPES:
        raise ExpungeError(f"{dtype!r} is not a dtype.", rule="unknown-dtype", value=dtype, hint=f"Try {', '.join(DTYPES)} with --dtype.")
    name = str(model)
    source = _read(Reference.parse(name), DTYPES[dtype], safety_checker)
    source.pipeline.set_progress_bar_config(disable=True)
    bound_tokenizers(source.pipeline, source.family)
    loaded = source.family(source.pipeline, name, source.files)
    loaded.vae_files = source.vae_files
    if dtype != "fp32":
        loaded.hash_files = source.hash_files
    if dtype != "fp32" or quantization:
        assert loaded.fingerprint  # now: the files may be gone when it is asked for, and quantised weights have no other
    if quantization:
        loaded.quantization, loaded.exact = quantization, quantize(loaded.network, quantization)
    source.pipeline.to(find_device(device))
    loaded.resting = Resting([loaded.fixed_parts[name] for name in source.family.text_encoder_parts], loaded.device)
    for part in (loaded.network, *([source.pipeline.vae] if "vae" in loaded.parts else [])):
        _lay_out(part)
    return checked(loaded)


@dataclass(frozen=True)
class Source:
    """A pipeline, and the files that its network and its text encoders were read from."""

    pipeline: Pipeline
    family: type[DiffusionModel]
    files: list[Path]
    hash_files: Callable[[], str]
    vae_files: Sequence[Path] = ()


def _read(reference: Reference, dtype: torch.dtype, safety_checker: bool) -> Source:
    path = locate(reference)
    precision = {PRECISION: dtype}
    whole = {PRECISION: torch.float32}
    try:
        with quiet():
            if path is not None and path.is_file():
                pipeline, family = load_single_file(path, reference.config, precision)
                names = (family.network_part, *family.text_encoder_parts)

                def again() -> str:
                    exact = load_single_file(path, reference.config, whole)[0]
                    return fingerprint_of_files([(getattr(exact, n), []) for n in names], lambda part: part)

                beside = sorted(Path(reference.config).glob("*/*.safetensors")) if reference.config else []
                return Source(pipeline, family, [file.resolve() for file in (path, *beside)], again)
            folder = path or _download(reference, safety_checker)
            index = read_index(folder)
            family = find_family(index, reference.name)
            check_folder(folder, family)
            parts = (family.network_part, "vae", *family.text_encoder_parts)
            variant = find_variant([folder / part for part in parts if (folder / part).is_dir()], reference.variant)
            files = {part: files_of(folder / part, variant) for part in parts if (folder / part).is_dir()}
            left_out = {"safety_checker": None} if "safety_checker" in index and not safety_checker else {}
            pipeline = getattr(diffusers_library(), family.pipeline_class).from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, variant=variant, **left_out, **precision
            )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
        raise unreadable(reference.name, error) from error
    hashed = {part: getattr(pipeline, part) for part in (family.network_part, *family.text_encoder_parts)}

    def read_whole(module: Any) -> nn.Module:
        part = next(name for name, one in hashed.items() if one is module)
        with quiet():
            return type(module).from_pretrained(folder / part, use_safetensors=True, trust_remote_code=False, variant=variant, **whole)

    def hash_files() -> str:
        return fingerprint_of_files([(module, files[part]) for part, module in hashed.items()], read_whole)

    read = [file.resolve() for part in hashed for file in files[part]]
    return Source(pipeline, family, read, hash_files, [file.resolve() for file in files.get("vae", [])])


def locate(reference: Reference) -> Path | None:
    """The folder or file of a model; None for a hub id.

    Raises:
        ExpungeError: there is none, and the name is no hub id; or it is a pickle.
    """
    name = reference.name
    path = defaults_of(name).folder or Path(name).expanduser()
    if path.suffix in PICKLES:
        raise ExpungeError(
            f"{name} is a pickle, which can run code when it is read.",
            rule="pickle",
            value=name,
            hint="Try a .safetensors file, or a diffusers folder. Weights that were unlearned elsewhere are read by `expunge adopt`.",
        )
    if path.exists():
        return path
    if name == IN_MEMORY:
        raise ExpungeError(
            "The run's base model was a pipeline in memory, which its card cannot name.",
            rule="model-in-memory",
            value=name,
            hint="Try to give that pipeline as model=, or --model with a folder that it was saved to.",
        )
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or path.suffix == ".safetensors":
        raise ExpungeError(
            f"{name!r} is not a diffusers folder, a .safetensors file, a hub id (owner/name) or {CANVAS!r}.",
            rule="unknown-model",
            value=name,
            hint="Try another path.",
        )
    return None


def _download(reference: Reference, safety_checker: bool) -> Path:
    """The folder of a hub id in the hub's cache, filled if it is not. Where no variant is named and there are only half-precision files,
    those are taken."""
    fetch = partial(diffusers_library().DiffusionPipeline.download, reference.name, use_safetensors=True, trust_remote_code=False)
    fetch = fetch if safety_checker else partial(fetch, safety_checker=None)
    try:
        return Path(fetch(variant=reference.variant))
    except (OSError, ValueError):
        if reference.variant:
            raise
    return Path(fetch(variant="fp16"))


def unreadable(name: str, error: Exception) -> ExpungeError:
    """The error for a model that a library could not load, in one line."""
    told = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    return ExpungeError(
        f"{name} cannot be loaded: {told}.",
        rule="unreadable-model",
        value=name,
        hint="Try to check the folder, file or id; its weights must be safetensors.",
    )


def _lay_out(part: nn.Module) -> None:
    """Lays convolutions of images out as they are read fastest. Those over time have five axes, and no such layout."""
    for parameter in part.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def _family_in_memory(pipeline: Pipeline) -> type[DiffusionModel]:
    found = (FAMILIES[kind.__name__] for kind in type(pipeline).__mro__ if kind.__name__ in FAMILIES)
    refuse_refiner(pipeline.config, type(pipeline).__name__)
    kind = type(pipeline).__name__
    parts = {name: type(part).__name__ for name, part in pipeline.components.items() if part is not None}
    if family := next(found, None) or family_of(kind, parts):
        return family
    raise ExpungeError(
        f"The pipeline is a {kind}, a model of no family that expunge knows.",
        rule="unknown-family",
        value=kind,
        hint=f"Try a {' or a '.join(FAMILIES)}, a folder or a hub id.",
    )
