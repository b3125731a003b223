"""What goes with a model where the user names nothing else: its vocabulary, sampler, judges and control. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from expunge.canvas import CANVAS, WEIGHTS
from expunge.canvas.control import SHIPPED
from expunge.concepts.labels import label_vocabulary
from expunge.concepts.vocabulary import Vocabulary
from expunge.digits import DIGITS
from expunge.digits import WEIGHTS as DIGITS_WEIGHTS
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
    real_images: Callable[[Sequence[Mapping[str, str]]], Any] | None = None
    """Real images that show what each of these labels, by kind, says: 8 bit, in three channels. They trained nothing."""


def _drawings(wanted: Sequence[Mapping[str, str]]) -> Any:
    from expunge.canvas.draw import draw_like

    return draw_like(wanted)


def _scans(wanted: Sequence[Mapping[str, str]]) -> Any:
    from expunge.digits.pictures import scans_like

    return scans_like(wanted)


_EMBEDDED = {
    CANVAS: Defaults(
        Vocabulary.canvas, (12, 3.0), ("main", "second"), SHIPPED, WEIGHTS / "pipeline", has_real_images=True, real_images=_drawings
    ),
    DIGITS: Defaults(
        lambda: label_vocabulary(labels_of(DIGITS_WEIGHTS / "pipeline")),
        (10, 1.5),
        (DIGITS,),
        folder=DIGITS_WEIGHTS / "pipeline",
        real_images=_scans if find_spec("sklearn") else None,  # which brings the scans
    ),
}


def defaults_of(model: str) -> Defaults:
    """The defaults of a model by its name: "canvas", "digits", a folder, or a hub id."""
    if found := _EMBEDDED.get(model):
        return found
    labels = labels_of(Path(model.partition("#")[0]))
    return Defaults(lambda: label_vocabulary(labels)) if labels else Defaults()


def folder_of(model: str | None) -> Path | None:
    """The folder of a model on this machine, by its name; None of a hub id, or of a model in memory."""
    folder = defaults_of(model or "").folder or Path(model or "")
    return folder if model and folder.is_dir() else None
