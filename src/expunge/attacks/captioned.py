"""A folder of pictures with captions: `metadata.jsonl` as Hugging Face's imagefolder has it, or a text file beside each picture."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from expunge.types import ExpungeError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def captioned(folder: Path) -> list[tuple[Path, str]]:
    """The folder's pictures, each with its caption.

    Raises:
        ExpungeError: no folder, no picture, a picture without a caption or a caption without a picture.
    """
    if not folder.is_dir():
        raise ExpungeError(f"an auxiliary set is base, retain or a folder of captioned pictures: {str(folder)!r} is none; check the path")
    index = folder / "metadata.jsonl"
    found = list(_listed(index) if index.is_file() else _beside(folder))
    if not found:
        raise ExpungeError(f"an auxiliary set has pictures ({', '.join(SUFFIXES)}): {folder} has none; check the path")
    return found


def _listed(index: Path) -> Iterator[tuple[Path, str]]:
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExpungeError(f"metadata.jsonl is readable text: {index}: {error}; save it as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row["text"]
            picture, caption = index.parent / name, " ".join(text.split())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExpungeError(
                f"a line of metadata.jsonl has a file_name and a text: line {number} of {index} is {line}; mend it"
            ) from error
        if not picture.is_file():
            raise ExpungeError(f"a caption has its picture: line {number} of {index} names {name!r}, which is missing; add it")
        yield picture, caption


def _beside(folder: Path) -> Iterator[tuple[Path, str]]:
    for picture in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        text = picture.with_suffix(".txt")
        try:
            yield picture, " ".join(text.read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise ExpungeError(f"a picture has its caption beside it: {text}: {error}; write one, or a metadata.jsonl") from error


def opened(files: Sequence[Path], size: int) -> UInt8[Tensor, "b 3 size size"]:
    """The pictures, cut to a square about their middle and brought to `size` pixels.

    Raises:
        ExpungeError: a file that is no picture.
    """
    return torch.stack([_opened(file, size) for file in files])


def _opened(file: Path, size: int) -> UInt8[Tensor, "3 size size"]:
    try:
        with Image.open(file) as image:
            square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    except (OSError, UnidentifiedImageError) as error:
        raise ExpungeError(f"a picture can be opened: {file}: {error}; save it again or take it out") from error
    return torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)
