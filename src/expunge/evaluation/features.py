"""Features of image files by a network."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.evaluation.rendering import UNREADABLE, Picture, read_pixels
from expunge.storage.cache import Store
from expunge.storage.files import lying_at
from expunge.storage.hashing import digest
from expunge.storage.images import list_images


def real_features(network: Any, folder: Path, batch: int, cache: Store) -> Tensor:
    """The features of all images under a folder; kept in the cache under the network's weights and the files' names, sizes and times."""
    key = digest("real features", type(network).__name__, network.weights, lying_at(str(folder)))
    if kept := cache.get(key):
        return kept["features"]
    files = list_images(folder)
    parts = [features_of_files(network, files[i : i + batch]) for i in range(0, len(files), batch)]
    features = torch.cat(parts)
    cache.put(key, {"features": features}, shows=())
    return features


def features_of_files(network: Callable[[Any], Tensor], files: Sequence[Path]) -> Tensor:
    """Features of image files. Those of one size are computed together."""
    images = [read_image(file) for file in files]
    if len({image.shape for image in images}) == 1:
        return network(torch.stack(images))
    return torch.cat([network(image[None]) for image in images])


def read_image(file: Path) -> Picture:
    """An image file, in three channels of 8 bits.

    Raises:
        ExpungeError: rule "unreadable-image".
    """
    try:
        return read_pixels(file)
    except UNREADABLE as error:
        raise ExpungeError(
            f"{file} cannot be read as an image: {error}.",
            rule="unreadable-image",
            value=str(file),
            hint="Try another folder, or without that file.",
        ) from error
