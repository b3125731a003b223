"""Reads a user's images with captions.

They are in a folder, with `metadata.jsonl` as in Hugging Face's imagefolder or a text file for each image, or in a data set that the
library `datasets` loads.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.storage.data_sets import SCHEME, image_column, open_data_set

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CAPTIONS = ("text", "caption", "prompt")
"""Names of the column of captions; the first that exists is read."""


@dataclass(frozen=True)
class CaptionedImage:
    """An image that is not opened yet, and its caption."""

    caption: str
    source: str
    """The file or row of the image, for messages."""
    read: Callable[[], Image.Image]
    """Opens the image."""


def list_images(data: str) -> list[CaptionedImage]:
    """The images of a folder, or of `datasets:NAME`, with their captions. No image is opened yet.

    Raises:
        ExpungeError: `data` is no folder, or has no image, an image without a caption or a caption without an image; `datasets` is not
            installed, or cannot load the data set.
    """
    if data.startswith(SCHEME):
        return _list_data_set(data.removeprefix(SCHEME))
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise ExpungeError(
            f"{data!r} is no folder of images with captions.",
            rule="missing-data",
            value=data,
            hint=f"Try base, retain, the path of a folder of images with captions, or {SCHEME}NAME.",
        )
    index = folder / "metadata.jsonl"
    found = list(_read_index(index) if index.is_file() else _read_text_files(folder))
    if not found:
        raise ExpungeError(
            f"{folder} has no images ({', '.join(SUFFIXES)}).", rule="no-images", value=str(folder), hint="Try the path of another folder."
        )
    return [CaptionedImage(caption, str(file), partial(Image.open, file)) for file, caption in found]


def _list_data_set(name: str) -> list[CaptionedImage]:
    """The train split of a data set, in its order."""
    table = open_data_set(name)
    images = image_column(table)
    texts = next((column for column in CAPTIONS if column in table.column_names), None)
    if images is None or texts is None:
        raise ExpungeError(
            f"The data set {name!r} has the columns {', '.join(table.column_names)}, which lack one of images or one of captions.",
            rule="missing-column",
            value=name,
            hint=f"Try a copy with a column of images and one of captions named {', '.join(CAPTIONS[:-1])} or {CAPTIONS[-1]}.",
        )

    def read(row: int) -> Image.Image:
        image: Any = table[row][images]
        if image is None:
            raise OSError("there is no image")
        return image

    return [CaptionedImage(" ".join(str(t or "").split()), f"{name}, row {i}", partial(read, i)) for i, t in enumerate(table[texts])]


def _read_index(index: Path) -> Iterator[tuple[Path, str]]:
    """Each image that `metadata.jsonl` lists, and its caption."""
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExpungeError(
            f"{index} cannot be read: {error}.", rule="unreadable-data", value=str(index), hint="Try to save it as UTF-8."
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row["text"]
            image, caption = index.parent / name, " ".join(text.split())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExpungeError(
                f"Line {number} of {index} has no file_name or no text: {line}.",
                rule="broken-line",
                value=line,
                hint='Try a line such as {"file_name": "ring.png", "text": "a ring"}.',
            ) from error
        if not image.is_file():
            raise ExpungeError(
                f"Line {number} of {index} names {name!r}, which is missing.",
                rule="missing-image",
                value=name,
                hint="Try to add the file, or to remove the line.",
            )
        yield image, caption


def _read_text_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each image of a folder, and its caption from the text file of the same name."""
    for image in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        text = image.with_suffix(".txt")
        try:
            yield image, " ".join(text.read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise ExpungeError(
                f"The caption of {image} cannot be read from {text}: {error}.",
                rule="missing-caption",
                value=str(image),
                hint="Try to write the caption into that file, or all captions into metadata.jsonl.",
            ) from error


def open_images(images: Sequence[CaptionedImage], size: int) -> UInt8[Tensor, "b 3 size size"]:
    """Open images, crop each to the largest square about its centre, and resize it to `size` pixels.

    Raises:
        ExpungeError: rule "unreadable-image", one of them cannot be opened.
    """
    return torch.stack([_open_image(image, size) for image in images])


def _open_image(captioned: CaptionedImage, size: int) -> UInt8[Tensor, "3 size size"]:
    try:
        with captioned.read() as image:
            square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    except (OSError, UnidentifiedImageError) as error:
        raise ExpungeError(
            f"{captioned.source} cannot be opened: {error}.",
            rule="unreadable-image",
            value=captioned.source,
            hint="Try to save it again, or remove it.",
        ) from error
    return torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)
