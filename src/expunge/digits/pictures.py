"""Labelled images: scikit-learn's handwritten digits, a folder with a folder for each class, CIFAR-10 in its binary version, or a folder
that the library `datasets` reads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from expunge.digits import DIGITS
from expunge.errors import ExpungeError
from expunge.storage.data_sets import SCHEME, image_column, open_data_set

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SHARES = (1 / 3, 1 / 2)
"""Of each class's images, the share that trains the judge and the share that trains the model. The rest is the reference."""
LABELS = ("label", "labels", "fine_label")
"""Names of the column of classes in a data set; the first that exists is read."""
RECORD = 1 + 3 * 32 * 32
"""Bytes of an image in CIFAR-10's binary version: its class, then its red, green and blue pixels."""


@dataclass(frozen=True)
class Pictures:
    """Images with the number of their class."""

    images: UInt8[Tensor, "n channels height width"]
    labels: Int[Tensor, " n"]
    names: tuple[str, ...]
    """The names of the classes, in the order of their numbers."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor) -> "Pictures":
        return Pictures(self.images[rows], self.labels[rows], self.names)

    def without(self, number: int) -> "Pictures":
        """Those of the other classes."""
        return self[self.labels != number]


@dataclass(frozen=True)
class Parts:
    """Disjoint parts of a set of images."""

    judge: Pictures
    """Trains the judge alone."""
    model: Pictures
    """Trains the model, and its controls."""
    reference: Pictures
    """Trains nothing: what distances are measured to, and what the judge is tested on."""


def split(pictures: Pictures) -> Parts:
    """Three parts without an image in common, with equal shares of each class; the same on every machine."""
    generator = torch.Generator().manual_seed(0)
    rows: tuple[list[Tensor], ...] = [], [], []
    for number in range(len(pictures.names)):
        own = (pictures.labels == number).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)]
        ends = [round(len(own) * sum(SHARES[: i + 1])) for i in range(len(SHARES))]
        for part, chosen in zip(rows, own.tensor_split(ends), strict=True):
            part.append(chosen)
    return Parts(*(pictures[torch.cat(part)] for part in rows))


def read_pictures(data: str, size: int | None = None) -> Pictures:
    """The images that `data` names: "digits", a folder with a folder of images for each class or one of CIFAR-10's binary batches, or
    "datasets:FOLDER", a data set on this machine.

    Args:
        size: of each side in pixels; default that of the first image. Images of another shape are cut to a square and scaled.

    Raises:
        ExpungeError: scikit-learn is not installed; no folder, or one without classes or with fewer than three images of a class; an image
            that cannot be read; a data set without columns of images and classes.
    """
    if data == DIGITS:
        return read_digits()
    folder = Path(data.removeprefix(SCHEME)).expanduser()
    if data.startswith(SCHEME):
        found = _read_data_set(folder, size)
    else:
        found = _read_batches(folder) if (folder / "batches.meta.txt").is_file() else _read_folder(folder, size)
    few = [name for number, name in enumerate(found.names) if int((found.labels == number).sum()) < 3]
    if few or len(found.names) < 2:
        raise ExpungeError(
            f"{data} has {len(found.names)} classes, and {', '.join(few[:3]) or 'none'} of them fewer than three images.",
            rule="too-few-images",
            value=data,
            hint="Try a folder with a folder for each of at least two classes, each with images for a judge, a model and a reference.",
        )
    return found


def read_digits() -> Pictures:
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 pixels in 17 greys (the test part of UCI's optical recognition data set).

    Raises:
        ExpungeError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ExpungeError(
            f"The scans of digits come with scikit-learn, which is not installed ({error}).",
            rule="missing-package",
            value="scikit-learn",
            hint="Try pip install 'expunge[digits]'.",
        ) from error
    scans = load_digits()
    images = torch.from_numpy(np.round(scans.images * (255 / 16)).astype(np.uint8))[:, None]
    return Pictures(images, torch.from_numpy(scans.target.astype(np.int64)), tuple(map(str, range(10))))


def scans_like(wanted: Sequence[Mapping[str, str]]) -> UInt8[Tensor, "n 3 8 8"]:
    """The scans of the reference that show any of these labels, each once."""
    reference = split(read_digits()).reference
    shown = {labels["label"] for labels in wanted if "label" in labels}
    rows = [row for row, number in enumerate(reference.labels.tolist()) if reference.names[number] in shown]
    return reference.images[rows].expand(-1, 3, -1, -1)


def _read_batches(folder: Path) -> Pictures:
    """CIFAR-10's binary version. Its Python version consists of pickles, which are not read."""
    names = tuple((folder / "batches.meta.txt").read_text(encoding="utf-8").split())
    raw = np.concatenate([np.fromfile(file, np.uint8) for file in sorted(folder.glob("data_batch_*.bin"))] or [np.empty(0, np.uint8)])
    if not len(raw) or len(raw) % RECORD:
        raise ExpungeError(
            f"The files data_batch_*.bin in {folder} have {len(raw)} bytes, no multiple of {RECORD}.",
            rule="unreadable-image",
            value=str(folder),
            hint="Try the binary version of CIFAR-10.",
        )
    rows = torch.from_numpy(raw).view(-1, RECORD)
    return Pictures(rows[:, 1:].reshape(-1, 3, 32, 32).contiguous(), rows[:, 0].long(), names)


def _read_folder(folder: Path, size: int | None) -> Pictures:
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    files = [(file, number) for number, path in enumerate(classes) for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]
    if not files:
        raise ExpungeError(
            f"{str(folder)!r} is no folder with a folder of images for each class.",
            rule="missing-data",
            value=str(folder),
            hint=f"Try {DIGITS!r}, or a folder such as cifar10/train with airplane/0001.png in it.",
        )
    images = _open_all(((str(file), partial(Image.open, file)) for file, _ in files), size)
    return Pictures(images, torch.tensor([number for _, number in files]), tuple(path.name for path in classes))


def _read_data_set(folder: Path, size: int | None) -> Pictures:
    """The train split of a data set in a folder. Nothing is downloaded."""
    if not folder.is_dir():
        raise ExpungeError(
            f"{str(folder)!r} is no folder. A data set is read from this machine alone.",
            rule="missing-data",
            value=str(folder),
            hint="Try the folder of a data set that `save_to_disk` wrote, or of its parquet files.",
        )
    table = open_data_set(str(folder))
    images, labels = image_column(table), next((column for column in LABELS if column in table.column_names), None)
    names = getattr(table.features.get(labels), "names", None)
    if images is None or names is None:
        raise ExpungeError(
            f"The data set {folder} has the columns {', '.join(table.column_names)}, which lack one of images or one of named classes.",
            rule="missing-column",
            value=str(folder),
            hint=f"Try a copy with a column of images and a ClassLabel named {LABELS[0]}.",
        )

    def read(row: int) -> Image.Image:
        image: Any = table[row][images]
        if image is None:
            raise OSError("there is no image")
        return image

    opened = _open_all(((f"{folder}, row {i}", partial(read, i)) for i in range(len(table))), size)
    return Pictures(opened, torch.tensor(table[labels]), tuple(names))


def _open_all(files: Iterable[tuple[str, Callable[[], Image.Image]]], size: int | None) -> UInt8[Tensor, "n 3 size size"]:
    """Images by their names, cut to squares and scaled."""
    opened = []
    for name, read in files:
        try:
            with read() as image:
                size = size or min(image.size)
                side = min(image.size)
                left, top = ((length - side) // 2 for length in image.size)
                square = image.convert("RGB").crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
        except (OSError, UnidentifiedImageError) as error:
            raise ExpungeError(
                f"{name} cannot be read as an image: {error}.", rule="unreadable-image", value=name, hint="Try the data without it."
            ) from error
        opened.append(torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1))
    return torch.stack(opened)
