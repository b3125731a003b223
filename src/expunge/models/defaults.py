"""What goes with a model where the user names nothing else: its vocabulary, sampler, judges and control. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from expunge.canvas import CANVAS, WEIGHTS
from expunge.canvas.control import SHIPPED
from expunge.concepts.labels import label_vocabulary
from expunge.concepts.vocabulary import Vocabulary
from expunge.models.labels import labels_of


@dataclass(frozen=True)
class Defaults:
    """What a model brings besides its weights. Those of most models are the defaults of this class."""

    vocabulary: Callable[[], Vocabulary] = Vocabulary.general
    """The words that its concepts are looked up in."""
    sampler: tuple[int, float] | None = None
    """Steps and guidance scale that it was measured with; None: its family's."""
    judges: tuple[str, ...] = ()
    """Names of judges that know its images, the main one first."""
    control: Path | None = None
    """A run of a model that was trained without some of its concepts."""
    folder: Path | None = None
    """Where an embedded model lies, as a pipeline of diffusers."""
    has_real_images: bool = False
    """Whether `expunge.canvas.draw` makes images such as it was trained on."""


_EMBEDDED = {CANVAS: Defaults(Vocabulary.canvas, (12, 3.0), ("main", "second"), SHIPPED, WEIGHTS / "pipeline", has_real_images=True)}


def defaults_of(model: str) -> Defaults:
    """The defaults of a model by its name: "canvas", a folder, or a hub id."""
    if found := _EMBEDDED.get(model):
        return found
    labels = labels_of(Path(model.partition("#")[0]))
    return Defaults(lambda: label_vocabulary(labels)) if labels else Defaults()
