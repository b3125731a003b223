"""A concept's removal as one matrix on the states of prompts, applied while a pipeline runs. No weight changes."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from expunge.errors import ExpungeError
from expunge.models.wrapped import unwrapped
from expunge.storage.tensors import metadata_of, read_tensors, write_tensors

FORMAT = "expunge-eraser-1"

STATES = "encoder_hidden_states"
"""What diffusers' networks call the states of the prompt's tokens."""

NETWORKS = ("unet", "transformer")


class TextEraser:
    """The matrix T of a closed form: W T c = W (T c), so states times T are read by the base model as c is by the edited one.

    Choose it over a merged folder to switch a removal on and off, to set its strength, or to use several on one model: it is one small file
    that fits every checkpoint with the same text encoder. It protects nothing: anyone who has the base model has the concept.

    Args:
        matrix: T, as wide as the states of tokens.
        about: where it comes from.
    """

    def __init__(self, matrix: Float[Tensor, "width width"], about: Mapping[str, Any] | None = None):
        self.matrix = matrix.detach().float().cpu()
        self.about = dict(about or {})

    @classmethod
    def read(cls, file: str | Path) -> "TextEraser":
        """Reads what `save` wrote.

        Raises:
            ExpungeError: the file cannot be read, or is no eraser.
        """
        tensors, metadata = read_tensors(Path(file), "getting it again"), metadata_of(Path(file))
        if FORMAT not in metadata or "tokens" not in tensors:
            raise ExpungeError(
                f"{file} is no text-space eraser. It has no mark {FORMAT}.",
                rule="not-an-eraser",
                value=str(file),
                hint="Try a file that `expunge merge RUN --text-eraser FILE` wrote.",
            )
        return cls(tensors["tokens"], json.loads(metadata[FORMAT]))

    def save(self, file: str | Path) -> Path:
        """Writes the matrix as a safetensors file, with what `about` says in its header."""
        write_tensors(Path(file), {"tokens": self.matrix}, {FORMAT: json.dumps(self.about, sort_keys=True)})
        return Path(file)

    def __call__(self, states: Float[Tensor, "*any width"], strength: float = 1.0) -> Float[Tensor, "*any width"]:
        """The states of prompts without the concept.

        Args:
            states: what the text encoder gives, of every prompt that the network reads, the empty one too.
            strength: 1 is the run's edit, 0 none. A larger value removes more and damages more.

        Raises:
            ExpungeError: states of another width.
        """
        if strength == 0:
            return states
        if states.shape[-1] != len(self.matrix):
            raise ExpungeError(
                f"The states of the prompt are {states.shape[-1]} wide, and the eraser is {len(self.matrix)} wide.",
                rule="eraser-of-another-encoder",
                value=states.shape[-1],
                hint="Try a model with the text encoder that the eraser was made for.",
            )
        change = strength * (self.matrix - torch.eye(len(self.matrix)))
        return states + (states.float() @ change.mT.to(states.device)).to(states.dtype)

    def attach(self, pipeline: Any, strength: float = 1.0) -> "Attached":
        """Applies the eraser to every prompt that a diffusers pipeline gives to its network, until it is removed.

        Of several erasers each works as if its run had been made on the result of those that were attached before.

        Raises:
            ExpungeError: a pipeline whose network reads no states of tokens. A pipeline of another text encoder is refused when it runs.
        """
        network = next((net for name in NETWORKS if (net := getattr(pipeline, name, None)) is not None), None)
        inner = unwrapped(network) if network is not None else None
        names = list(inspect.signature(inner.forward).parameters) if inner is not None else []
        if inner is None or STATES not in names:
            kind = type(pipeline).__name__
            raise ExpungeError(
                f"The network of the pipeline, a {kind}, reads no states of tokens.",
                rule="no-token-states",
                value=kind,
                hint="Try a pipeline for text to image.",
            )
        at = names.index(STATES)

        def erase(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if STATES in given:
                return args, given | {STATES: self(given[STATES], strength)}
            return (*args[:at], self(args[at], strength), *args[at + 1 :]), given

        # W T1 T2 is the edit by T1 followed by that by T2, and so the last T is the first that states meet.
        return Attached(inner.register_forward_pre_hook(erase, prepend=True, with_kwargs=True))


class Attached:
    """An eraser at work on a pipeline. It ends by `remove()`, or at the end of a `with` block."""

    def __init__(self, handle: RemovableHandle):
        self._handle = handle

    def remove(self) -> None:
        """Leaves the pipeline as it was."""
        self._handle.remove()

    def __enter__(self) -> "Attached":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()
