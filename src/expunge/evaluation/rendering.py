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
from expunge.models.sampling import Sampler
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest
from expunge.storage.tensors import content
from expunge.training.identity import image_key
from expunge.training.session import Session

Pictures = UInt8[Tensor, "n 3 height width"]

RENDER_BATCH = 40
"""Images that are sampled at once, unless the session says otherwise."""


def render(session: Session, shots: Sequence[Shot], sampler: Sampler, weights: str, title: str) -> Pictures:
    """Images of all shots, in batches; each is cached under a hash of weights, prompt, noise and sampler."""
    model = session.model

    def make(part: list[int]) -> Pictures:
        return model.sample([shots[i].prompt.prompt for i in part], [shots[i].noise_seed for i in part], sampler)

    return _made_once(session, kept_at(session, shots, sampler, weights), make, title)


def render_rows(session: Session, cond: Cond, noise_seeds: Sequence[int], sampler: Sampler, files: Sequence[Path], title: str) -> Pictures:
    """Images of encoded prompts, a row each, cached in `files` (see `rows_kept_at`): for conditions that no words give."""
    model = session.model

    def make(part: list[int]) -> Pictures:
        return model.decode(model.sample_latents(cond[part].to(model.device), [noise_seeds[i] for i in part], sampler))

    return _made_once(session, files, make, title)


def _made_once(session: Session, files: Sequence[Path], make: Callable[[list[int]], Pictures], title: str) -> Pictures:
    """The pictures in `files`; those that are not there are made, by their places, and written."""
    found = {i: picture for i, file in enumerate(files) if (picture := _readpng(file)) is not None}
    missing = [i for i in range(len(files)) if i not in found]
    for part in session.in_batches(len(missing), title, RENDER_BATCH):
        for i, picture in zip(missing[part], make(missing[part]), strict=True):
            found[i] = picture
            write_atomically(files[i], png(picture))
    return torch.stack([found[i] for i in range(len(files))])


def kept_at(session: Session, shots: Sequence[Shot], sampler: Sampler, weights: str) -> list[Path]:
    """The file in which each shot's image is cached, whether or not it exists."""
    return [_kept_at(session, sampler, weights, s.prompt.prompt, s.noise_seed) for s in shots]


def rows_kept_at(session: Session, cond: Cond, noise_seeds: Sequence[int], sampler: Sampler, weights: str) -> list[Path]:
    """Where the picture of each encoded prompt is kept: by its numbers, for the same words may be encoded in other ways."""
    rows = (cond[[i]] for i in range(len(cond)))
    named = [content({k: v.detach().cpu() for k, v in {"states": row.states, **row.extra}.items()}) for row in rows]
    return [_kept_at(session, sampler, weights, name, seed) for name, seed in zip(named, noise_seeds, strict=True)]


def _kept_at(session: Session, sampler: Sampler, weights: str, shown: str, noise_seed: int) -> Path:
    key = digest(weights, shown, noise_seed, asdict(sampler), image_key(session.model, __name__))
    return session.cache.root / "pictures" / f"{key}.png"


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
