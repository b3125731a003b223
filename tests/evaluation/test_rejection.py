"""Images of no known member: the judge's confidence below that in 99 % of good images."""

from functools import cache

import pytest
import torch
from torch.nn import functional as F

from expunge.canvas.draw import draw
from expunge.concepts.concept import Concept, ProbePrompt
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.judged import Judged
from expunge.evaluation.judges import Judgement, load_judge
from expunge.evaluation.metrics import METRICS
from expunge.evaluation.protocol import Shot
from expunge.evaluation.rejection import find_threshold, lowest

CONCEPT = Concept.find("neon", Vocabulary.canvas())


def test_the_threshold_leaves_out_one_image_in_a_hundred():
    assert find_threshold([0.5] * 98) is None
    members = [i / 200 for i in range(200)]
    assert find_threshold(members[:99]) == 0.0  # the least: none of them is below it
    assert find_threshold(members[:198]) == 0.0
    assert find_threshold(members[:199]) == members[1]
    assert find_threshold(sorted(members[:199], reverse=True)) == members[1]


def test_a_judge_is_as_sure_as_in_the_kind_of_which_it_is_least_sure():
    assert lowest({"object": (0.9, 0.2), "style": (0.3, 0.8)}) == [0.3, 0.2]
    assert lowest({}) == []


@cache
def drawings(count: int, seed: int, shift: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    objects, styles = torch.randint(20, (count,), generator=generator), torch.randint(11, (count,), generator=generator)
    return draw((objects + shift) % 20, styles, seed)


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = int(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = torch.outer(weights, weights) / weights.sum() ** 2
    padded = F.pad(images.float(), (reach,) * 4, mode="reflect")
    return F.conv2d(padded, kernel.expand(3, 1, -1, -1), groups=3).round().to(torch.uint8)


@pytest.mark.parametrize("name", ["main", "second"])
def test_the_canvas_judge_passes_true_images_and_refuses_blends_noise_and_blur(name):
    judge = load_judge(name)

    def sure(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor(lowest(judge(images, CONCEPT).confidence))

    threshold = find_threshold(sure(drawings(120, 1)).tolist())
    assert (sure(drawings(120, 2)) < threshold).float().mean() <= 0.05
    one, other = drawings(30, 3), drawings(30, 3, shift=7)  # other objects in the same styles
    refused = {
        "blend": ((one.float() + other.float()) / 2).to(torch.uint8),
        "noise": torch.randint(0, 256, one.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8),
        "blur": blurred(one, 4.0),
    }
    shares = {what: (sure(images) < threshold).float().mean().item() for what, images in refused.items()}
    assert min(shares.values()) >= 0.8, shares
    assert shares["noise"] == 1


def judged(sure: float, base_sure: list[float], seen: tuple[str, ...] | None = None, **given) -> Judged:
    """One image of the concept, and others of *dots*. These are the judge's confidences in the base model's images of *dots*."""
    shots = [Shot("target", ProbePrompt("neon style", {"style": "neon"}), 0, 0)]
    shots += [Shot("siblings", ProbePrompt("dots style", {"style": "dots"}), i, i) for i in range(len(base_sure) - 1)]
    labels = seen or ("neon",) + ("dots",) * (len(base_sure) - 1)
    run = Judgement({"style": labels}, confidence={"style": (sure,) * len(base_sure)})
    return Judged(CONCEPT, shots, load_judge("main"), run, Judgement({"style": labels}, confidence={"style": tuple(base_sure)}), **given)


def test_an_image_is_rejected_below_what_the_base_models_right_images_have():
    calm = [0.5] + [0.6 + i / 1000 for i in range(99)]
    first = judged(0.59, calm).samples("r")[0]
    assert (first.rejected, first.base_rejected) == (True, True)
    assert judged(0.6, calm).samples("r")[0].rejected is False  # as sure as of the least sure member
    # An image in which the judge sees something else than its prompt names shows no member: 98 others are too few.
    assert judged(0.1, calm, ("neon", "neon") + ("dots",) * 98).samples("r")[0].rejected is None
    assert judged(0.1, calm[:99]).samples("r")[0].rejected is None


def test_a_judge_that_labels_nothing_that_prompts_name_rejects_nothing():
    assert {s.rejected for s in judged(0.1, [0.9] * 200, ("none of them",) * 200).samples("r")} == {None}
    silent = judged(0.1, [0.9] * 200)
    without = Judged(CONCEPT, silent.shots, silent.judge, Judgement(silent.run.seen), Judgement(silent.base.seen))
    assert {s.rejected for s in without.samples("r")} == {None}


def test_the_metric_is_the_share_of_rejected_images_beside_the_base_models():
    metric = METRICS["OOD"]
    (score,) = metric(judged(0.59, [0.9] + [0.6 + i / 1000 for i in range(99)]).evidence("r"))
    assert (score.value, score.n, score.probe) == (1.0, 1, "target")
    assert (score.change.value, score.change.gains, score.change.losses) == (1.0, 1, 0)
    assert metric(judged(0.59, [0.9] * 50).evidence("r")) == []
