"""A pipeline from a single `.safetensors` checkpoint, in the naming of the program that trained it."""

from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.checks import find_family, read_index
from expunge.models.family import Pipeline
from expunge.models.quiet import diffusers_library
from expunge.models.weight_files import files_of, find_variant, read_header, variants_of


def load_single_file(file: Path, config: str | None, precision: dict[str, Any]) -> tuple[Pipeline, type[DiffusionModel]]:
    """Loads a checkpoint, and whatever it lacks from the configuration's folder where that has weights.

    Args:
        config: a diffusers folder or hub id with the configuration of every part. None takes the one that diffusers knows for checkpoints
            with these tensors, from the hub's cache or the hub.
        precision: the argument by which diffusers takes a dtype.

    Raises:
        ExpungeError: the file was cut short, the configuration is nowhere to be found, or a part is neither in the file nor beside it.
    """
    from diffusers.loaders.single_file import SingleFileComponentError

    if file.suffix != ".safetensors":
        raise ExpungeError(
            f"{file} is not a .safetensors file.",
            rule="not-safetensors",
            value=str(file),
            hint="Try a diffusers folder or a .safetensors file.",
        )
    read_header(file)
    folder = find_config(file, config)
    index = read_index(folder)
    family = find_family(index, str(file))
    kind, beside = getattr(diffusers_library(), family.pipeline_class), {"safety_checker": None} if "safety_checker" in index else {}
    # What the file lacks is taken from the folder: first its text encoders, which few files of large models hold, then its autoencoder.
    for parts in ((), family.text_encoder_parts, ("vae",)):
        present = [part for part in parts if (folder / part).is_dir() and variants_of(folder / part)]
        try:
            beside |= {part: _load_part(folder, index, part, precision) for part in present}
            return kind.from_single_file(str(file), config=str(folder), **beside, **precision), family
        except (SingleFileComponentError, KeyError, ValueError) as error:
            failure = error
    raise ExpungeError(
        f"{file} lacks a part of a {family.pipeline_class}: {str(failure).strip().splitlines()[0].rstrip('.')}.",
        rule="incomplete-checkpoint",
        value=str(file),
        hint="Try --model-config with a diffusers folder that has the weights of that part too.",
    ) from failure


def _load_part(folder: Path, index: dict[str, Any], part: str, precision: dict[str, Any]) -> Any:
    """One network of a diffusers folder."""
    import transformers

    library, kind = index[part]
    variant = find_variant([folder / part], None)
    files_of(folder / part, variant)
    cls = getattr(diffusers_library() if library == "diffusers" else transformers, kind)
    return cls.from_pretrained(folder / part, use_safetensors=True, trust_remote_code=False, variant=variant, **precision)


def without_weights(hub_id: str) -> Path:
    """The folder of a hub id, from the hub's cache or the hub; no weights are fetched."""
    weights = ["*.safetensors", "*.bin", "*.ckpt", "*.msgpack", "*.onnx*"]
    return Path(diffusers_library().DiffusionPipeline.download(hub_id, ignore_patterns=weights))


def find_config(file: Path, config: str | None) -> Path:
    """The folder of a checkpoint's configuration: as it is, or from the hub's cache or the hub, without weights.

    Raises:
        ExpungeError: there is none.
    """
    if config is None:
        from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint

        config = str(fetch_diffusers_config(load_single_file_checkpoint(str(file)))["pretrained_model_name_or_path"])
    if Path(config).expanduser().is_dir():
        return Path(config).expanduser()
    try:
        return without_weights(config)
    except (OSError, ValueError) as error:
        raise ExpungeError(
            f"{file} is a checkpoint without configuration. That of {config} would fit it. It is no folder and not in the hub's cache, and "
            "the hub gave none.",
            rule="missing-configuration",
            value=config,
            hint="Try --model-config FOLDER with a diffusers folder of such a model; weights need not be in it.",
        ) from error
