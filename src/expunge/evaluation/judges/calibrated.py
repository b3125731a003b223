"""Judges by a score and a threshold, which is calibrated on images of the base model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from expunge.concepts.concept import Concept, ProbePrompt
from expunge.errors import ExpungeError
from expunge.evaluation.judges.base import NOTHING, Images, Judge, Judgement
from expunge.evaluation.protocol import Shot, spread
from expunge.storage.hashing import seed_of

Draw = Callable[[Sequence[Shot]], Iterable[Images]]
"""The base model's images of some shots, in chunks."""

LEVEL = 0.05
"""Scores that would separate images with the concept from those without as well or better with this probability, if they knew nothing, do
not count as knowing it."""


class Scorer(Protocol):
    """A network that gives each image a number: larger where it rather shows the concept."""

    name: str
    weights: str
    measures: str
    """What the score is, in a word, as `samples.jsonl` has it."""

    def __call__(self, images: Images, concept: Concept) -> tuple[Float[Tensor, " b"], Float[Tensor, "b d"] | None]:
        """The scores, and features for distances, if it has any."""

    def confidence(self, score: float) -> float:
        """How sure it is that an image shows the concept, from 0 to 1."""


@dataclass(frozen=True)
class Calibration:
    """The threshold of a judge for one concept, and how it came about."""

    concept: str
    threshold: float | None
    """The least score with which an image shows the concept; None if the scores do not tell images with the concept from others, so that
    the judge sees it nowhere."""
    images_with: int
    """Images of prompts with the concept that it was chosen on."""
    images_without: int
    """Images of other prompts."""
    seen_with: float
    """The share of the former with at least this score."""
    seen_without: float
    """The share of the latter with at least this score."""


def calibrate(concept: str, having: Sequence[float], lacking: Sequence[float]) -> Calibration:
    """The threshold that separates two samples of scores best: it maximises the share of `having` at or above it minus that of `lacking`
    (W. J. Youden's J, 1950, Cancer 3:32). Where several do, it lies in the middle of the widest gap between neighbouring scores.

    If the scores of `having` are not larger than those of `lacking` (H. B. Mann and D. R. Whitney's test, one-sided, at `LEVEL`), there is
    no threshold: such a judge sees the concept nowhere, also in the base model, so that no verdict follows from it.
    """
    from scipy.stats import mannwhitneyu

    x, y = np.sort(np.asarray(having, float)), np.sort(np.asarray(lacking, float))
    sizes = len(x), len(y)
    if mannwhitneyu(x, y, alternative="greater").pvalue >= LEVEL:
        return Calibration(concept, None, *sizes, 0.0, 0.0)
    scores = np.unique(np.concatenate([x, y]))
    middle, gap = (scores[1:] + scores[:-1]) / 2, np.diff(scores)
    above = [(len(of) - np.searchsorted(of, middle)) / len(of) for of in (x, y)]
    best = int(np.lexsort((gap, np.round(above[0] - above[1], 12)))[-1])
    return Calibration(concept, float(middle[best]), *sizes, float(above[0][best]), float(above[1][best]))


def calibration_shots(concept: Concept, images: int) -> tuple[list[Shot], list[Shot]]:
    """The images to calibrate on: of the concept's prompts, and of others, half of them siblings. Their noise is none of an evaluation's
    or an audit's, so that error rates measured there are of images that the threshold has not seen."""
    probes = concept.probes()
    near, far = probes["siblings"], [*probes["same_domain"], *probes["cross_domain"]]
    half = images // 2 if near and far else images
    without = [*spread(near, half if near else 0), *spread(far, images - half if near and far else images if far else 0)]
    return _shots("target", spread(probes["target"], images if probes["target"] else 0)), _shots("siblings", without)


def _shots(probe: str, prompts: Sequence[ProbePrompt]) -> list[Shot]:
    """One image of each prompt."""
    return [Shot(probe, prompt, i, seed_of("calibration", probe, prompt.prompt, i)) for i, prompt in enumerate(prompts)]


class ThresholdJudge:
    """A scorer with a threshold for each concept. It knows any concept and can say that an image does not show it; it labels the concept
    alone, so it gives no IRA, CRA, NRA or ORA.

    The threshold is chosen once for each concept, on images that the base model makes for this purpose (see `calibrate`).
    """

    def __init__(self, scorer: Scorer, images: int, draw: Draw | None = None):
        self.scorer, self.images, self._draw = scorer, images, draw
        self.name, self.weights = scorer.name, f"{scorer.weights}, calibrated on {images}"
        self._found: dict[tuple[str, str], Calibration] = {}

    def on(self, draw: Draw) -> "ThresholdJudge":
        """The judge of a base model, whose images `draw` gives."""
        return ThresholdJudge(self.scorer, self.images, draw)

    def calibration(self, concept: Concept) -> Calibration:
        """The threshold for a concept. The first call samples the images.

        Raises:
            ExpungeError: rule "not-calibrated", it belongs to no base model; rule "calibration-lacks-prompts".
        """
        if concept.identity not in self._found:
            self._found[concept.identity] = self._calibrate(concept)
        return self._found[concept.identity]

    def _calibrate(self, concept: Concept) -> Calibration:
        if self._draw is None:
            raise ExpungeError(
                f"The judge {self.name} has no threshold yet: it is calibrated on a base model's images.",
                rule="not-calibrated",
                value=self.name,
                hint="Try expunge.evaluate, or ThresholdJudge.on with the base model's images.",
            )
        shots = calibration_shots(concept, self.images)
        if not all(shots):
            raise ExpungeError(
                f"The vocabulary has no prompts without {concept.target!r}, on which {self.name} could be calibrated.",
                rule="calibration-lacks-prompts",
                value=concept.target,
                hint="Try a vocabulary with more concepts, or another judge.",
            )
        scores = [[s for chunk in self._draw(of) for s in self.scorer(chunk, concept)[0].tolist()] for of in shots]
        return calibrate(concept.target, *scores)

    @property
    def calibrations(self) -> list[dict[str, Any]]:
        """The thresholds so far, for `evaluation.json`."""
        return [asdict(found) for found in self._found.values()]

    def check(self, concept: Concept) -> None:
        """It can be asked for any concept."""

    def knows(self, member: str, concept: Concept) -> bool:
        return member == concept.member.name

    def chance(self, concept: Concept) -> float:
        """The share of images without the concept in which it saw it when it was calibrated."""
        return self.calibration(concept).seen_without

    def __call__(self, images: Images, concept: Concept) -> Judgement:
        threshold = self.calibration(concept).threshold
        found, features = self.scorer(images, concept)
        scores = found.tolist()
        seen = tuple(concept.member.name if threshold is not None and s >= threshold else NOTHING for s in scores)
        confidence = {concept.kind: tuple(map(self.scorer.confidence, scores))}
        return Judgement({concept.kind: seen}, features, confidence, tuple({self.scorer.measures: s} for s in scores))


def on_base_model(judges: Iterable[Judge], draw: Draw) -> tuple[Judge, ...]:
    """Judges of one base model: those with a threshold calibrate it on the images that `draw` gives."""
    return tuple(judge.on(draw) if isinstance(judge, ThresholdJudge) else judge for judge in judges)


def calibrate_all(judges: Iterable[Judge], concept: Concept) -> None:
    """Calibrates those judges that have a threshold, now."""
    for judge in judges:
        if isinstance(judge, ThresholdJudge):
            judge.calibration(concept)
