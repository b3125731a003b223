"""The canvas's own judges."""

import torch

from expunge.concepts.concept import Concept
from expunge.config import version_of
from expunge.evaluation.judges.base import Images, Judgement, best_label


class CanvasJudge:
    """The canvas's judge "main" or "second", which labels objects and styles.

    Choose it on the canvas alone: it saw no other images. "main" gives every reported number; "second", of another architecture and
    other training images, shows whether a number is an artefact of the first.
    """

    def __init__(self, name: str = "main", device: str | torch.device = "cpu"):
        from expunge.canvas.judge import Judge as Network

        self.name, self.net = name, Network.load("second" if name == "second" else "main").to(device)
        self.weights = version_of("expunge")

    def check(self, concept: Concept) -> None:
        """It labels both kinds of the canvas; an image of anything else gets the nearest of its labels."""

    def knows(self, member: str, concept: Concept) -> bool:
        from expunge.canvas.prompts import OBJECT_LABELS, STYLE_LABELS

        return member in OBJECT_LABELS or member in STYLE_LABELS

    def chance(self, concept: Concept) -> float:
        return 1 / max(2, len(concept.vocabulary.kinds[concept.kind].members))

    @torch.no_grad()
    def __call__(self, images: Images, concept: Concept) -> Judgement:
        from expunge.canvas.prompts import OBJECT_LABELS, STYLE_LABELS

        verdict = self.net(images.to(next(self.net.parameters()).device))
        (objects, sure_of_objects), (styles, sure_of_styles) = best_label(verdict.objects), best_label(verdict.styles)
        seen = {"object": tuple(OBJECT_LABELS[i] for i in objects), "style": tuple(STYLE_LABELS[i] for i in styles)}
        return Judgement(seen, verdict.features.cpu(), {"object": sure_of_objects, "style": sure_of_styles})
