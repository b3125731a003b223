"""What all measurements of an evaluation share, and how they get their images and labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.evaluation.judges import Images, Judge, Judgement, judge_chunks
from expunge.evaluation.metrics import METRICS
from expunge.evaluation.networked import Networks
from expunge.evaluation.protocol import Protocol, Shot
from expunge.evaluation.rendering import RENDER_BATCH, ImageFiles, render
from expunge.evaluation.worker import shared
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.half import rounded
from expunge.models.precision import DTYPES
from expunge.models.sampling import Sampler
from expunge.storage.tensors import content
from expunge.training.renderer import Renderer
from expunge.training.session import Session


@dataclass(frozen=True)
class Settings:
    """What all measurements of an evaluation share."""

    session: Session
    judges: Sequence[Judge]
    protocol: Protocol
    sampler: Sampler
    metrics: Sequence[str] | None
    until_width: float | None = None
    render_dtype: str | None = None
    """The precision in which images are sampled; None: that of the model."""
    networks: Networks = field(default_factory=Networks)

    def render(self, delta: Mapping[str, Tensor], shots: Sequence[Shot], title: str) -> ImageFiles:
        """Images by the model with the weights `delta`."""
        weights, network = identify(self.session.model, delta), self.session.model.network
        with (
            rounded(self.session.model, DTYPES[self.render_dtype] if self.render_dtype else None),
            shared(self.session, shots, self.sampler, weights, delta) as batches,
            swapped(network, delta),
        ):
            return render(self.session, shots, self.sampler, weights, title, batches)

    def base_images(self, shots: Sequence[Shot]) -> Iterator[Images]:
        """The base model's images of shots that calibrate judges, in chunks."""
        images = self.render({}, shots, "images that calibrate the judge")
        return images.chunks(Renderer(self.session, RENDER_BATCH).batch)

    def labels(self, judge: Judge, images: ImageFiles, concept: Concept) -> Judgement:
        """The labels of a judge, computed in the session's batches."""
        return judge_chunks(judge, images.chunks(Renderer(self.session, RENDER_BATCH).batch), concept)

    def metrics_of(self, *, first: bool) -> list[str]:
        """The metrics of a judge. Only the first judge's features are used for distances."""
        own = [m for m in self.metrics or METRICS if not METRICS[m].about.network]
        return [m for m in own if first or "features" not in METRICS[m].about.needs]

    @property
    def metrics_of_networks(self) -> list[str]:
        """The metrics that networks measure, and no judge."""
        return [m for m in self.metrics or METRICS if METRICS[m].about.network]


def identify(model: DiffusionModel, delta: Mapping[str, Tensor]) -> str:
    """The name of the model with the weights `delta` in the cache."""
    return f"{model.fingerprint}+{content(delta)}" if delta else model.fingerprint
