"""Samples the images of a measurement, once for equal content: they are cached under a hash of everything that decides them."""

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

    return _load_or_sample(session, locate_images(session, shots, sampler, weights), make, title)


def render_rows(session: Session, cond: Cond, noise_seeds: Sequence[int], sampler: Sampler, files: Sequence[Path], title: str) -> Pictures:
    """Images of encoded prompts, one for each row, cached in `files` (see `locate_row_images`). For conditions that are no text."""
    model = session.model

    def make(part: list[int]) -> Pictures:
        return model.decode(model.sample_latents(cond[part].to(model.device), [noise_seeds[i] for i in part], sampler))

    return _load_or_sample(session, files, make, title)


def _load_or_sample(session: Session, files: Sequence[Path], make: Callable[[list[int]], Pictures], title: str) -> Pictures:
    """The images in `files`. Missing ones are made by `make`, from their indices, and written."""
    images = {i: image for i, file in enumerate(files) if (image := _read_png(file)) is not None}
    missing = [i for i in range(len(files)) if i not in images]
    for part in session.in_batches(len(missing), title, RENDER_BATCH):
        for i, image in zip(missing[part], make(missing[part]), strict=True):
            images[i] = image
            write_atomically(files[i], png(image))
    return torch.stack([images[i] for i in range(len(files))])


def locate_images(session: Session, shots: Sequence[Shot], sampler: Sampler, weights: str) -> list[Path]:
    """The file in which each shot's image is cached, whether or not it exists."""
    return [_locate(session, sampler, weights, s.prompt.prompt, s.noise_seed) for s in shots]


def locate_row_images(session: Session, cond: Cond, noise_seeds: Sequence[int], sampler: Sampler, weights: str) -> list[Path]:
    """The file in which the image of each encoded prompt is cached. It depends on the numbers, because one text can have several
    encodings."""
    rows = (cond[[i]] for i in range(len(cond)))
    digests = [content({k: v.detach().cpu() for k, v in {"states": row.states, **row.extra}.items()}) for row in rows]
    return [_locate(session, sampler, weights, name, seed) for name, seed in zip(digests, noise_seeds, strict=True)]


def _locate(session: Session, sampler: Sampler, weights: str, cond: str, noise_seed: int) -> Path:
    """The file of one image; `cond` is the prompt, or a digest of an encoded prompt."""
    key = digest(weights, cond, noise_seed, asdict(sampler), image_key(session.model, __name__))
    return session.cache.root / "pictures" / f"{key}.png"


def png(picture: UInt8[Tensor, "3 height width"]) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _read_png(path: Path) -> UInt8[Tensor, "3 height width"] | None:
    """An image, or None if its file is missing or damaged, because it can be made again."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)
    except (OSError, UnidentifiedImageError):
        return None
