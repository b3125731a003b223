"""The diffusers folder that a model was loaded from, for what is copied from it byte for byte."""

from pathlib import Path

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.checks import read_index
from expunge.models.quiet import diffusers_library, quiet
from expunge.models.reference import Reference, hub_id


def source_of(model: DiffusionModel) -> Path | None:
    """The folder with every part that its index lists; None for a model in memory, whose
    parts may differ from those of any folder, and for a single file.

    A hub id is loaded without its safety checker. It is downloaded here.

    Raises:
        ExpungeError: the folder lacks a part that its index lists.
    """
    named = Reference.parse(model.name)
    network = str(getattr(model.network.config, "_name_or_path", ""))
    folder = Path(network).parent
    if not model.files or not network or named.name.endswith(".safetensors") or not (folder / "model_index.json").is_file():
        return None
    if _missing(folder) and hub_id(named.name):
        with quiet():
            options = {"variant": named.variant, "use_safetensors": True, "trust_remote_code": False}
            folder = Path(diffusers_library().DiffusionPipeline.download(named.name, **options))
    if missing := _missing(folder):
        raise ExpungeError(
            f"{folder / 'model_index.json'} lists the part {missing[0]}, and the folder has none.",
            rule="missing-part",
            value=missing[0],
            hint=f"Try to copy the folder again, or to set {missing[0]} to [null, null] in its model_index.json.",
        )
    return folder


def parts_of(folder: Path) -> list[str]:
    """The parts of the pipeline in a folder that have a folder of their own."""
    return [part for part, value in read_index(folder).items() if isinstance(value, list) and (folder / part).is_dir()]


def _missing(folder: Path) -> list[str]:
    index = read_index(folder).items()
    return [part for part, value in index if isinstance(value, list) and value and value[0] and not (folder / part).is_dir()]
