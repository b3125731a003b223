"""Pictures with captions of one's own: a folder, with `metadata.jsonl` as Hugging Face's imagefolder has it or a text file beside each
picture, or a data set that the library `datasets` loads."""

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

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SCHEME = "datasets:"
"""Before what `datasets.load_dataset` is to load: a name on the hub, or a folder of parquet files."""
CAPTIONS = ("text", "caption", "prompt")
"""What the column of captions may be called."""


@dataclass(frozen=True)
class Captioned:
    """A picture and what it shows."""

    caption: str
    source: str
    """Where the picture is from, for people."""
    read: Callable[[], Image.Image]
    """Opens it."""


def captioned(data: str) -> list[Captioned]:
    """The pictures of a folder, or of `datasets:NAME`, each with its caption. None is opened yet.

    Raises:
        ExpungeError: no folder, no picture, a picture without a caption or a caption without a picture; `datasets` is not installed,
            or cannot load the set.
    """
    if data.startswith(SCHEME):
        return _loaded(data.removeprefix(SCHEME))
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise ExpungeError(
            f"an auxiliary set is base, retain, a folder of captioned pictures or {SCHEME}NAME: {data!r} is none; check the path"
        )
    index = folder / "metadata.jsonl"
    found = list(_listed(index) if index.is_file() else _beside(folder))
    if not found:
        raise ExpungeError(f"an auxiliary set has pictures ({', '.join(SUFFIXES)}): {folder} has none; check the path")
    return [Captioned(caption, str(file), partial(Image.open, file)) for file, caption in found]


def _loaded(name: str) -> list[Captioned]:
    """The train split of a data set, in its own order."""
    try:
        import datasets
    except ImportError as error:
        raise ExpungeError(
            f"{SCHEME}NAME needs the library datasets: it is not installed; pip install 'expunge[data]', or give a folder of pictures"
        ) from error
    try:
        table = datasets.load_dataset(name, split="train")
    except Exception as error:  # the library raises of every kind: no network, no such name, no such split, a gated set
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExpungeError(f"a data set is one that `datasets` loads, with a split train: {name!r}: {reason}; check the name") from error
    pictures = next((column for column, kind in table.features.items() if isinstance(kind, datasets.Image)), None)
    texts = next((column for column in CAPTIONS if column in table.column_names), None)
    if pictures is None or texts is None:
        raise ExpungeError(
            f"an auxiliary set has a column of pictures and one of captions ({', '.join(CAPTIONS)}): "
            f"{name!r} has {', '.join(table.column_names)}; rename them in a copy"
        )

    def read(row: int) -> Image.Image:
        picture: Any = table[row][pictures]
        if picture is None:
            raise OSError("there is no picture")
        return picture

    return [Captioned(" ".join(str(t or "").split()), f"{name}, row {i}", partial(read, i)) for i, t in enumerate(table[texts])]


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


def opened(pictures: Sequence[Captioned], size: int) -> UInt8[Tensor, "b 3 size size"]:
    """The pictures, cut to a square about their middle and brought to `size` pixels.

    Raises:
        ExpungeError: one that is no picture.
    """
    return torch.stack([_opened(picture, size) for picture in pictures])


def _opened(picture: Captioned, size: int) -> UInt8[Tensor, "3 size size"]:
    try:
        with picture.read() as image:
            square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    except (OSError, UnidentifiedImageError) as error:
        raise ExpungeError(f"a picture can be opened: {picture.source}: {error}; save it again or take it out") from error
    return torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)
