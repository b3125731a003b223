"""A run's model as a single-file checkpoint: the user's own file, with the changed rows in it."""

from pathlib import Path

from expunge.errors import ExpungeError
from expunge.models.loading import Model
from expunge.models.reference import Reference
from expunge.models.single_file import patched
from expunge.runs.export.change import Change, check_name
from expunge.runs.export.provenance import as_metadata
from expunge.runs.run import Run
from expunge.storage.tensors import metadata_of, read_tensors, write_tensors


def write_single_file(model: Model, run: Run | str | Path, file: str | Path, original: str | Path | None = None) -> Path:
    """Writes the checkpoint that the base model comes from as one file, with the run's change in it.

    Choose it for ComfyUI, A1111 and other programs that load `.safetensors` checkpoints. All tensors that did not change, those of the text
    encoders and the autoencoder too, are those of `original`, in its precision. It works for networks that diffusers can read from a
    single file: those of Stable Diffusion 1, 2 and XL, 3, Flux and others.

    Args:
        original: the checkpoint of the base model, in one file. Default: `model`, where that is such a file.

    Raises:
        ExpungeError: no original, one that is a pickle or of another model, or of a network that diffusers cannot read from a single file;
            the run belongs to another base model, or is not finished; a file that is not called `.safetensors`, or cannot be written.
    """
    file = Path(file)
    check_name(file, "a checkpoint")
    source = _original(model if original is None else original)
    change = Change.of(model, run)
    tensors = patched(change.model, read_tensors(source, "getting it again"), change.before, change.after)
    write_tensors(file, tensors, metadata_of(source) | as_metadata(change))
    return file


def _original(given: object) -> Path:
    hint = "Try --original CHECKPOINT.safetensors, the file that the base model was made from."
    given = Reference.parse(str(given)).name if isinstance(given, str | Path) else None
    if given is None or not Path(given).suffix:
        raise ExpungeError(
            "A single file is a changed copy of an original, and none is given.", rule="no-original-file", value=None, hint=hint
        )
    path = Path(given)
    if path.suffix != ".safetensors":
        raise ExpungeError(
            f"{path} is no safetensors file. Checkpoints of other kinds can run code when they are read.",
            rule="not-safetensors",
            value=str(path),
            hint=hint,
        )
    return path
