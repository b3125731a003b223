"""A run's change as a LoRA file, or as the exact differences of its tensors."""

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.loading import Model
from expunge.models.lora_names import difference_names, lora_names
from expunge.runs.export.change import Change, check_name
from expunge.runs.export.provenance import as_metadata
from expunge.runs.run import Run
from expunge.storage.tensors import write_tensors

Naming = Literal["auto", "kohya", "diffusers"]

RANK = 16
"""Of a LoRA file where nothing says another."""


def write_lora(model: Model, run: Run | str | Path, file: str | Path, rank: int | None = None, naming: Naming = "auto") -> float:
    """Writes the run's change as a LoRA file, which adds it to the base model: `pipeline.load_lora_weights(file)` (diffusers with peft),
    or in ComfyUI and programs like A1111.

    A run of low rank is written as it is. Any other is brought to the nearest change of a given rank, matrix by matrix and
    convolution by convolution (Eckart and Young, 1936); what a LoRA cannot hold, biases and norms, is left out.

    Args:
        rank: of every matrix. Larger is nearer to the run and a larger file. Default: that of the run's scope, of every stage of a
            sequence; else 16.
        naming: of the tensors. "kohya" (`lora_unet_..._to_k.lora_down.weight`, with `alpha`) is what ComfyUI, A1111 and diffusers read for
            models with a U-Net; "diffusers" (`unet....to_k.lora_A.weight`) is read by diffusers alone for these. Transformers have
            `transformer....lora_A.weight` under either program. "auto" is the one that most programs read.

    Returns:
        What is missing: the norm of the difference, as a share of the norm of the run's change.

    Raises:
        ExpungeError: the run belongs to another base model, or is not finished; it changed no matrix; a rank below 1; a naming that the
            family does not have; a file that is not called `.safetensors`, or cannot be written.
    """
    file = Path(file)
    check_name(file, "a LoRA file")
    if rank is not None and rank < 1:
        raise ExpungeError(f"The rank {rank} is below 1.", rule="rank-not-positive", value=rank, hint="Try --rank 16.")
    change = Change.of(model, run)
    rank = rank or rank_of(change.run)
    tensors: dict[str, Tensor] = {}
    whole, missing = 0.0, 0.0
    for name, difference in change.differences():
        if difference.ndim >= 2 and name.endswith(".weight") and difference.any():
            b, a = factors(difference.flatten(1), rank)
            layer, ones = name.removesuffix(".weight"), (1,) * (difference.ndim - 2)
            tensors |= {
                f"{layer}.lora_A.weight": a.float().reshape(-1, *difference.shape[1:]),
                f"{layer}.lora_B.weight": b.float().reshape(*b.shape, *ones),
            }
            missing += (difference.flatten(1) - b @ a).square().sum().item()
        else:
            missing += difference.square().sum().item()
        whole += difference.square().sum().item()
    if not tensors:
        raise ExpungeError(
            f"{change.run.folder} changed no matrix, and a LoRA changes nothing else.",
            rule="no-matrix-changed",
            value=str(change.run.folder),
            hint="Try `expunge merge RUN FOLDER`, which writes the whole model.",
        )
    write_tensors(file, lora_names(change.model, tensors, naming), as_metadata(change))
    return (missing / whole) ** 0.5


def write_difference(model: Model, run: Run | str | Path, file: str | Path) -> Path:
    """Writes the run's change exactly, whatever its rank: the difference of each changed tensor, as ComfyUI's LoRA loader reads it
    (`.diff` for weights, `.diff_b` for biases).

    Choose it over `write_lora` for ComfyUI when a LoRA of moderate rank misses too much. The file is as large as what changed. Programs
    that read low-rank files alone, diffusers among them, refuse or ignore it.

    Raises:
        ExpungeError: the run belongs to another base model, or is not finished; a changed tensor that is neither weight nor bias; a file
            that is not called `.safetensors`, or cannot be written.
    """
    file = Path(file)
    check_name(file, "a file of differences")
    change = Change.of(model, run)
    tensors = {name: difference.float() for name, difference in change.differences() if difference.any()}
    write_tensors(file, difference_names(change.model, tensors), as_metadata(change))
    return file


def rank_of(run: Run) -> int:
    """The rank of a LoRA file of a run where the user names none. What stages add adds up."""
    return run.card.get("rank", 0) * max(1, len(run.stages)) or RANK


def factors(change: Float[Tensor, "out in"], rank: int) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]:
    """B and A whose product is the nearest to `change` among all of that rank, in the Frobenius norm; zeros fill what is over."""
    wide = change.shape[0] <= change.shape[1]
    # The leading singular vectors of the shorter side, where they cost least.
    side = torch.linalg.eigh(change @ change.T if wide else change.T @ change).eigenvectors.flip(1)[:, :rank]
    b, a = (side, side.T @ change) if wide else (change @ side, side.T)
    over = rank - side.shape[1]  # readers take one rank for all matrices, and scale by it where there are several
    return torch.nn.functional.pad(b, (0, max(0, over))), torch.nn.functional.pad(a, (0, 0, 0, max(0, over)))
