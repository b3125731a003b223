"""A run's result in other people's formats: a pipeline in memory, a diffusers folder, a LoRA file."""

import copy
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.exchange import to_pipeline
from expunge.models.family import Pipeline
from expunge.models.loading import Model
from expunge.models.loading import load as load_model
from expunge.models.precision import DTYPES
from expunge.runs.run import Run
from expunge.storage.files import folder_written_whole
from expunge.storage.tensors import write_tensors


def load(model: Model, run: Run | str | Path, device: str = "cpu", dtype: str | None = None) -> Pipeline:
    """The pipeline with the run's changes in it, ready for use with plain diffusers; all else, a safety checker too, is as it was.

    Args:
        dtype: default that of the run. Whatever it is, the changes go into the model as it was published, and are rounded with it once.

    Raises:
        ExpungeError: the run belongs to another base model, or is not finished; an unknown dtype.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    if dtype is not None and dtype not in DTYPES:
        raise ExpungeError(f"a dtype is one of {', '.join(DTYPES)}: {dtype!r} is none; choose one with --dtype")
    # A pipeline in memory is left as it was: what is changed, and brought to another precision, is a copy.
    loaded = load_model(model if isinstance(model, str | Path) else copy.deepcopy(model), device, safety_checker=True)
    return to_pipeline(loaded, run.delta(loaded.fingerprint), DTYPES[dtype or run.card["dtype"]])


def merge(model: Model, run: Run | str | Path, folder: str | Path, dtype: str | None = None) -> Path:
    """Writes the changed pipeline as a diffusers folder, which needs no expunge to load. It has the parts that the model has.

    Args:
        dtype: default that of the run, which is what was measured. Half precision halves the folder, and rounds.

    Raises:
        ExpungeError: the folder exists and is not empty, or cannot be written.
    """
    folder = new_folder(Path(folder))
    with folder_written_whole(folder) as beside:
        load(model, run, dtype=dtype).save_pretrained(beside, safe_serialization=True)
    return folder


def write_lora(model: Model, run: Run | str | Path, file: str | Path, rank: int | None = None) -> float:
    """Writes the run's change as a LoRA file, which `pipeline.load_lora_weights(file)` adds to the base model (diffusers with peft).

    A run of low rank is written as it is. Any other is brought to the nearest change of a given rank, matrix by matrix and
    convolution by convolution (Eckart and Young, 1936); what a LoRA cannot hold, biases and norms, is left out.

    Args:
        rank: of every matrix. Larger is nearer to the run and a larger file. Default: that of the run's scope, of every stage of a
            sequence; else 16.

    Returns:
        What is missing: the norm of the difference, as a share of the norm of the run's change.

    Raises:
        ExpungeError: the run belongs to another base model, or is not finished; it changed no matrix; a rank below 1; a file that
            is not called `.safetensors`, or cannot be written.
    """
    run, file = run if isinstance(run, Run) else Run(Path(run)), Path(file)
    if file.suffix != ".safetensors":
        raise ExpungeError(f"a LoRA file is called FILE.safetensors: {file} is not; rename it")
    if rank is not None and rank < 1:
        raise ExpungeError(f"a rank is 1 or more: {rank} given; choose another with --rank")
    loaded = load_model(model, "cpu", run.card["dtype"])
    before = dict(loaded.network.named_parameters())
    rank = rank or run.card.get("rank", 0) * max(1, len(run.stages)) or RANK  # what stages add adds up
    tensors: dict[str, Tensor] = {}
    whole, missing = 0.0, 0.0
    for name, value in run.delta(loaded.fingerprint).items():
        change = value.double() - before[name].detach().cpu().double()
        if value.ndim >= 2 and name.endswith(".weight") and change.any():
            b, a = factors(change.flatten(1), rank)
            key, ones = f"{loaded.network_part}.{name.removesuffix('.weight')}", (1,) * (value.ndim - 2)
            tensors |= {
                f"{key}.lora_A.weight": a.float().reshape(-1, *value.shape[1:]),
                f"{key}.lora_B.weight": b.float().reshape(*b.shape, *ones),
            }
            missing += (change.flatten(1) - b @ a).square().sum().item()
        else:
            missing += change.square().sum().item()
        whole += change.square().sum().item()
    if not tensors:
        raise ExpungeError(f"a LoRA adds to matrices: {run.folder} changed none; write the whole model with `expunge merge RUN FOLDER`")
    write_tensors(file, tensors, {"format": "pt"})
    return (missing / whole) ** 0.5


RANK = 16
"""Of a LoRA file where nothing says another."""


def factors(change: Float[Tensor, "out in"], rank: int) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]:
    """B and A whose product is the nearest to `change` among all of that rank, in the Frobenius norm; zeros fill what is over."""
    wide = change.shape[0] <= change.shape[1]
    # The leading singular vectors of the shorter side, where they cost least.
    side = torch.linalg.eigh(change @ change.T if wide else change.T @ change).eigenvectors.flip(1)[:, :rank]
    b, a = (side, side.T @ change) if wide else (change @ side, side.T)
    over = rank - side.shape[1]  # readers take one rank for all matrices, and scale by it where there are several
    return torch.nn.functional.pad(b, (0, max(0, over))), torch.nn.functional.pad(a, (0, 0, 0, max(0, over)))


def new_folder(folder: Path) -> Path:
    """`folder`, which is to be written.

    Raises:
        ExpungeError: it exists and is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExpungeError(f"a model is written into a new folder: {folder} holds something; choose another")
    return folder
