"""The pictures that a measurement looks at: which, and how they are made once and kept by content."""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from expunge.diffusion.types import Cond
from expunge.evaluation.protocol import Shot
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest
from expunge.storage.tensors import content
from expunge.training.banks import Track
from expunge.training.identity import image_key

Pictures = UInt8[Tensor, "n 3 height width"]

RENDER_BATCH = 40


def render(
    model: DiffusionModel, shots: Sequence[Shot], sampler: Sampler, store: Store, weights: str, track: Track, title: str
) -> Pictures:
    """Pictures of all shots, in batches; each is kept under a hash of weights, prompt, noise and sampler."""

    def make(part: list[int]) -> Pictures:
        return model.sample([shots[i].prompt.prompt for i in part], [shots[i].noise_seed for i in part], sampler)

    return _made_once(kept_at(model, shots, sampler, store, weights), make, track, title)


def render_rows(
    model: DiffusionModel, cond: Cond, noise_seeds: Sequence[int], sampler: Sampler, files: Sequence[Path], track: Track, title: str
) -> Pictures:
    """Pictures of encoded prompts, a row each, kept in `files` (see `rows_kept_at`): for conditions that no words give."""

    def make(part: list[int]) -> Pictures:
        return model.decode(model.sample_latents(cond[part].to(model.device), [noise_seeds[i] for i in part], sampler))

    return _made_once(files, make, track, title)


def _made_once(files: Sequence[Path], make: Callable[[list[int]], Pictures], track: Track, title: str) -> Pictures:
    """The pictures in `files`; those that are not there are made, by their places, and written."""
    found = {i: picture for i, file in enumerate(files) if (picture := _readpng(file)) is not None}
    missing = [i for i in range(len(files)) if i not in found]
    for start in track(range(0, len(missing), RENDER_BATCH), title) if missing else ():
        part = missing[start : start + RENDER_BATCH]
        for i, picture in zip(part, make(part), strict=True):
            found[i] = picture
            write_atomically(files[i], png(picture))
    return torch.stack([found[i] for i in range(len(files))])


def kept_at(model: DiffusionModel, shots: Sequence[Shot], sampler: Sampler, store: Store, weights: str) -> list[Path]:
    """Where each shot's picture is kept, or would be."""
    return [_kept_at(model, sampler, store, weights, s.prompt.prompt, s.noise_seed) for s in shots]


def rows_kept_at(model: DiffusionModel, cond: Cond, noise_seeds: Sequence[int], sampler: Sampler, store: Store, weights: str) -> list[Path]:
    """Where the picture of each encoded prompt is kept: by its numbers, for the same words may be encoded in other ways."""
    rows = (cond[[i]] for i in range(len(cond)))
    named = [content({k: v.detach().cpu() for k, v in {"states": row.states, **row.extra}.items()}) for row in rows]
    return [_kept_at(model, sampler, store, weights, name, seed) for name, seed in zip(named, noise_seeds, strict=True)]


def _kept_at(model: DiffusionModel, sampler: Sampler, store: Store, weights: str, shown: str, noise_seed: int) -> Path:
    key = digest(weights, shown, noise_seed, asdict(sampler), image_key(model, __name__))
    return store.root / "pictures" / f"{key}.png"


def png(picture: UInt8[Tensor, "3 height width"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _readpng(path: Path) -> UInt8[Tensor, "3 height width"] | None:
    """A picture, or None where there is none or only a damaged one: it can be made again."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)
    except (OSError, UnidentifiedImageError):
        return None
