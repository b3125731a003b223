"""What a metric says of itself. Imports no torch, so that lists, tables and reports can read it."""

import math
from dataclasses import dataclass
from typing import Literal

Form = Literal["share", "distance", "mean"]
Better = Literal["higher", "lower", "neither"]
Aim = Literal["forget", "retain", "recover"]
Need = Literal["labels", "features", "base", "drawings", "real", "network", "weights", "attack"]
Network = Literal["", "FID", "KID", "CMMD", "FDD", "CLIP_score", "LPIPS"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A metric in words, for lists, tables, the command line and the glossary of a report."""

    name: str
    """As papers print it, and as rows have it."""
    title: str
    """What it measures, in one line without a full stop, for lists."""
    form: Form
    """share: of images, pooled over images. distance: between two sets of images or of weights. mean: of any other number."""
    better: Better
    aim: Aim | None = None
    """forget: whether the concept is gone. retain: whether everything else is as it was. recover: whether the concept comes back."""
    probes: tuple[str, ...] = ()
    """The prompt sets whose images it reads, of `expunge.concepts.concept.PROBES`."""
    needs: tuple[Need, ...] = ()
    """labels or features of a judge; base: the base model's images of the same noise; drawings: fresh real images that the model
    brings; real: a folder of real images (`--real`); network: the one of `network`; weights: the model itself; attack: an attacked model.
    Where one is missing, the metric gives no number."""
    network: Network = ""
    """The key under which `--features` names the network that measures it; empty if none is needed."""
    papers: tuple[str, ...] = ()
    """arXiv ids of the papers that define it; empty if it is ours."""
    low: float = 0.0
    """The least value that it can take."""
    high: float = math.inf
    from_base: bool = False
    """A distance from the base model, whose own value is 0 by definition."""
    plain: str = ""
    """What a report calls it; default its name."""
    meaning: str = ""
    """One to three sentences for a glossary; default its title."""
    column: str = ""
    """The heading of its column in a table; default its name."""
    scale: float = 1.0
    """What a table multiplies its values by, as its column's heading or unit says."""
    unit: str = ""

    def __post_init__(self) -> None:
        for field, default in (("plain", self.name), ("meaning", f"{self.title[:1].upper()}{self.title[1:]}."), ("column", self.name)):
            if not getattr(self, field):
                object.__setattr__(self, field, default)

    @property
    def is_share(self) -> bool:
        return self.form == "share"

    @property
    def is_retained(self) -> bool:
        """Whether it is a share that erasure should leave as it was."""
        return self.is_share and self.aim == "retain"
