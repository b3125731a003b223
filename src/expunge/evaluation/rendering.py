"""Samples the images of a measurement, once for equal content: they are cached under a hash of everything that decides them."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError
from expunge.evaluation.protocol import Shot
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler, Start
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest
from expunge.storage.tensors import content
from expunge.training.renderer import Renderer
from expunge.training.session import Session

Picture = UInt8[Tensor, "3 height width"]
Pictures = UInt8[Tensor, "n 3 height width"]

RENDER_BATCH = 40
"""Images that are sampled at once, unless the session says otherwise."""

PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB\x60\x82"


@dataclass(frozen=True)
class ImageFiles:
    """The images of a measurement, on disk. Read them a few at a time: together they may not fit into memory."""

    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def names(self) -> list[str]:
        """The name of each file."""
        return [file.name for file in self.files]

    def has(self, index: int) -> bool:
        """Whether a file is there and is not cut short."""
        try:
            with self.files[index].open("rb") as file:
                begin = file.read(len(PNG_BEGIN))
                file.seek(-len(PNG_END), io.SEEK_END)
                return begin == PNG_BEGIN and file.read() == PNG_END
        except OSError:
            return False

    def put(self, index: int, image: Picture) -> None:
        """Writes an image."""
        write_atomically(self.files[index], png(image))

    def read(self, index: int) -> Picture:
        """An image.

        Raises:
            ExpungeError: rule "lost-image", its file is missing or damaged.
        """
        try:
            return read_pixels(self.files[index])
        except UNREADABLE as error:
            self.files[index].unlink(missing_ok=True)
            raise ExpungeError(
                f"The image {self.files[index]} was lost from the cache, or is damaged.",
                rule="lost-image",
                value=str(self.files[index]),
                hint="Try the same command again: it samples what is missing.",
            ) from error

    def chunks(self, size: int) -> Iterator[Pictures]:
        """All images, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield torch.stack([self.read(i) for i in range(start, min(start + size, len(self)))])


def maker(model: DiffusionModel, shots: Sequence[Shot], sampler: Sampler) -> Callable[[list[int]], Pictures]:
    """Samples the shots at some places."""

    def make(part: list[int]) -> Pictures:
        return model.sample([shots[i].prompt.prompt for i in part], [shots[i].noise_seed for i in part], sampler)

    return make


def render(
    session: Session, shots: Sequence[Shot], sampler: Sampler, weights: str, title: str, batches: list[list[int]] | None = None
) -> ImageFiles:
    """Images of all shots, in batches; each is cached under a hash of weights, prompt, noise and sampler.

    Args:
        batches: the places of what is missing, batch by batch; default those of `Renderer.batches`.
    """
    images = ImageFiles(locate_images(session, shots, sampler, weights))
    Renderer(session, RENDER_BATCH).keep(images, maker(session.model, shots, sampler), title, batches)
    return images


def render_rows(
    session: Session,
    cond: Cond,
    noise_seeds: Sequence[int],
    sampler: Sampler,
    files: Sequence[Path],
    title: str,
    start: Start | None = None,
) -> ImageFiles:
    """Images of encoded prompts, one for each row, cached in `files` (see `locate_row_images`). For conditions that are no text."""
    model = session.model

    def make(part: list[int]) -> Pictures:
        begin = None if start is None else start[part]
        return model.decode(model.sample_latents(cond[part].to(model.device), [noise_seeds[i] for i in part], sampler, begin))

    images = ImageFiles(files)
    Renderer(session, RENDER_BATCH).keep(images, make, title)
    return images


def locate_images(session: Session, shots: Sequence[Shot], sampler: Sampler, weights: str) -> list[Path]:
    """The file in which each shot's image is cached, whether or not it exists."""
    return _locate(session, sampler, weights, [(s.prompt.prompt, s.noise_seed) for s in shots])


def locate_row_images(
    session: Session, cond: Cond, noise_seeds: Sequence[int], sampler: Sampler, weights: str, start: Start | None = None
) -> list[Path]:
    """The file in which the image of each encoded prompt is cached. It depends on the numbers, because one text can have several
    encodings, and on where sampling begins."""
    rows = (cond[[i]] for i in range(len(cond)))
    digests = [content({k: v.detach().cpu() for k, v in {"states": row.states, **row.extra}.items()}) for row in rows]
    if start is not None:
        digests = [digest(of, content(start[[i]].tensors)) for i, of in enumerate(digests)]
    return _locate(session, sampler, weights, list(zip(digests, noise_seeds, strict=True)))


def _locate(session: Session, sampler: Sampler, weights: str, images: Sequence[tuple[str, int]]) -> list[Path]:
    """The files of images, each given by its prompt, or a digest of its encoded prompt, and its noise."""
    made_by: Mapping[str, object] = Renderer(session, RENDER_BATCH).key(__name__)
    folder, how = session.cache.root / "pictures", asdict(sampler)
    return [folder / f"{digest(weights, cond, noise_seed, how, made_by)}.png" for cond, noise_seed in images]


UNREADABLE = (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError)
"""What `read_pixels` raises for a file that is missing, damaged or no image."""


def read_pixels(file: Path) -> Picture:
    """An image file, in three channels of 8 bits."""
    with Image.open(file) as image:
        width, height = image.size
        pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.view(height, width, 3).permute(2, 0, 1)


def png(picture: Picture) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()
