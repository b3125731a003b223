"""Example images as a judge: an image shows the concept if it resembles them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.evaluation.features import features_of_files
from expunge.evaluation.judges.base import Images
from expunge.evaluation.networks import load_network
from expunge.storage.hashing import digest
from expunge.storage.images import list_images

BATCH = 16
"""Example images that are read at once."""


class Resemblance:
    """Scores an image by its resemblance to example images: the mean cosine of its embedding and the `nearest` most similar embeddings of
    the examples. The embedding is that of any transformers vision model: CLIP, DINO, a network of faces.

    Raises:
        ExpungeError: rule "unreadable-network", a folder or id that holds no such model; rule "no-examples", a folder without images.
    """

    measures = "similarity"

    def __init__(self, pictures: str, model: str, nearest: int, device: str | torch.device, name: str):
        self.name, self.net = name, load_network("", model, device)
        if not (files := list_images(Path(pictures))):
            raise ExpungeError(
                f"There is no example image under {pictures!r}.",
                rule="no-examples",
                value=pictures,
                hint="Try a folder with image files of the concept.",
            )
        self.examples = normalize(torch.cat([self._read(files[i : i + BATCH]) for i in range(0, len(files), BATCH)]), dim=1)
        self.nearest = min(nearest, len(files))
        self.weights = f"{self.net.weights}+{digest(self.examples.numpy().tobytes().hex(), self.nearest)[:8]}"

    def _read(self, files: Sequence[Path]) -> Float[Tensor, "b d"]:
        return features_of_files(self.net, files)

    def confidence(self, score: float) -> float:
        """The similarity, from 0 to 1."""
        return min(1.0, max(0.0, score))

    def __call__(self, images: Images, concept: Concept) -> tuple[Float[Tensor, " b"], Float[Tensor, "b d"]]:
        features = self.net(images)
        return (normalize(features, dim=1) @ self.examples.T).topk(self.nearest, dim=1).values.mean(1), features
