"""What networks say of an evaluation's images, for metrics that read no labels: FID, KID, CMMD, FDD, CLIP score and LPIPS."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.evaluation.features import real_features
from expunge.evaluation.metrics import METRICS, Evidence, Measured, networks_of
from expunge.evaluation.networks import load_network
from expunge.evaluation.protocol import Shot
from expunge.evaluation.rendering import RENDER_BATCH, ImageFiles
from expunge.evaluation.results import Sample
from expunge.storage.cache import Store
from expunge.storage.images import ENDINGS, list_images
from expunge.training.renderer import Renderer
from expunge.training.session import Session


@dataclass(frozen=True)
class Networks:
    """The networks of an evaluation by key of `--features`, and the folder of real images."""

    loaded: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    real: Path | None = None

    @classmethod
    def open(cls, features: Mapping[str, str], real: str | Path | None, metrics: Sequence[str], device: torch.device) -> "Networks":
        """The networks that the metrics read.

        Raises:
            ExpungeError: a network cannot be read; the folder has no images.
        """
        keys = {METRICS[name].about.network for name in metrics}
        names: dict[str, str] = {key: name for key, name in networks_of(features).items() if key in keys}
        if real is not None and not list_images(Path(real)):
            raise ExpungeError(
                f"There is no image under {str(real)!r}.",
                rule="no-real-images",
                value=str(real),
                hint=f"Try a folder with files that end in {', '.join(ENDINGS)}.",
            )
        return cls({key: load_network(key, name, device) for key, name in names.items()}, names, Path(real) if real else None)

    @property
    def table(self) -> dict[str, dict[str, str]]:
        """For `evaluation.json`: by key the network's name and its weights."""
        return {key: {"name": self.names[key], "weights": network.weights} for key, network in self.loaded.items()}

    def measure(
        self, session: Session, concept: Concept, shots: Sequence[Shot], images: tuple[ImageFiles, ImageFiles], run: str, looks: int = 1
    ) -> Evidence:
        """The evidence of all networks on one concept's images.

        Args:
            images: the base model's and the run's.
            run: its id.
        """
        base, after = images
        batch = Renderer(session, RENDER_BATCH).batch
        kind = concept.vocabulary.kinds[concept.kind]
        about = run, concept.target, kind.name, kind.partner
        samples = tuple(Sample(*about, s.probe, s.prompt.prompt, s.index, "none", dict(s.prompt.labels), {}) for s in shots)
        found = {key: self._measured(key, network, shots, (base, after), batch, session.cache) for key, network in self.loaded.items()}
        return Evidence(samples, networks=found, looks=looks)

    def _measured(
        self, key: str, network: Any, shots: Sequence[Shot], images: tuple[ImageFiles, ImageFiles], batch: int, cache: Store
    ) -> Measured:
        base, after = images
        if key == "LPIPS":
            apart = _column(network(x, y) for x, y in zip(after.chunks(batch), base.chunks(batch), strict=True))
            return Measured(apart, torch.zeros(len(apart), 1).numpy())
        if key == "CLIP_score":
            prompts = [s.prompt.prompt for s in shots]
            both = (
                _column(network(x, prompts[i * batch : (i + 1) * batch]) for i, x in enumerate(of.chunks(batch))) for of in (after, base)
            )
            return Measured(*both)
        ours, theirs = (torch.cat([network(x) for x in of.chunks(batch)]).numpy() for of in (after, base))
        return Measured(ours, theirs, real_features(network, self.real, batch, cache).numpy() if self.real else None)


def _column(parts: Iterator[Tensor]) -> Any:
    return torch.cat(list(parts))[:, None].numpy()
