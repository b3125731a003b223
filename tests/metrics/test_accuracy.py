"""Shares counted by hand. A row: prompt, seed, wanted and seen style, wanted and seen object."""

from dataclasses import replace

import pytest

from expunge.evaluation.metrics import METRICS, Evidence, Sample, Score
from expunge.evaluation.statistics import clustered

PICTURES = {
    "target": [
        ("neon style", 0, "neon", "plain", None, "ring"),
        ("neon style", 1, "neon", "neon", None, "ring"),
        ("a ring in neon style", 0, "neon", "plain", "ring", "ring"),
        ("a ring in neon style", 1, "neon", "sketch", "ring", "disc"),
        ("a disc in neon style", 0, "neon", "neon", "disc", "ring"),
        ("a disc in neon style", 1, "neon", "plain", "disc", "disc"),
    ],
    "synonyms": [
        ("glow style", 0, "neon", "neon", None, "ring"),
        ("a ring in glow style", 0, "neon", "neon", "ring", "ring"),
        ("a disc in glow style", 0, "neon", "plain", "disc", "disc"),
    ],
    "siblings": [
        ("sketch style", 0, "sketch", "sketch", None, "disc"),
        ("a ring in sketch style", 0, "sketch", "plain", "ring", "ring"),
        ("a disc in sketch style", 0, "sketch", "plain", "disc", "disc"),
    ],
    "same_domain": [
        ("dots style", 0, "dots", "dots", None, "ring"),
        ("a ring in dots style", 0, "dots", "dots", "ring", "disc"),
        ("a disc in dots style", 0, "dots", "plain", "disc", "disc"),
    ],
    "cross_domain": [
        ("a ring", 0, None, "neon", "ring", "ring"),
        ("a disc", 0, None, "plain", "disc", "disc"),
    ],
    "null": [("", 0, None, "plain", None, "ring")],
}  # fmt: skip


def samples(*probes: str, kind: str = "style", partner: str = "object") -> tuple[Sample, ...]:
    return tuple(
        Sample(
            "r", "neon", kind, partner, probe, prompt, seed, "main",
            {k: v for k, v in (("style", wanted_style), ("object", wanted_object)) if v}, {"style": style, "object": shape},
        )
        for probe in probes
        for prompt, seed, wanted_style, style, wanted_object, shape in PICTURES[probe]
    )  # fmt: skip


EVIDENCE = Evidence(samples(*PICTURES))


@pytest.mark.parametrize(
    ("metric", "probe", "groups"),
    [
        # By prompt, since all are of one concept: neon 1 of 2, ring 2 of 2, disc 1 of 2.
        ("UA", "target", [(1, 2), (2, 2), (1, 2)]),
        ("UA_syn", "synonyms", [(0, 1), (0, 1), (1, 1)]),
        ("IRA", "siblings+same_domain", [(1, 3), (2, 3)]),  # sketch, dots
        # Seed 1 is the target's alone and does not count. Beside neon: ring right, disc wrong; sketch: both; dots: disc only.
        ("CRA", "target+siblings+same_domain", [(1, 2), (2, 2), (1, 2)]),
        ("NRA", "siblings", [(1, 1), (0, 1), (0, 1)]),
        # "dots style" right; ring in dots has a wrong object, disc in dots a wrong style; both objects alone right.
        ("ORA", "same_domain+cross_domain", [(1, 3), (1, 1), (1, 1)]),
    ],
)
def test_shares(metric, probe, groups):
    hits, n = (sum(column) for column in zip(*groups, strict=True))
    assert METRICS[metric](EVIDENCE) == [Score(metric, probe, hits / n, *clustered(groups)[1:], n)]


def test_an_erased_object_swaps_the_domains():
    # The same images, read as the erasure of an object: the target's own kind is "object", styles are the partners.
    # Objects named in the target's images: 2 of 4 right. Styles at seed 0: 1 of 3 neon, 1 of 3 sketch, 2 of 3 dots.
    erased = Evidence(samples(*PICTURES, kind="object", partner="style"))
    assert [METRICS[m](erased)[0].value for m in ("UA", "CRA")] == [2 / 4, 4 / 9]


def test_every_prompt_weighs_the_same():
    once = METRICS["IRA"](EVIDENCE)
    more = tuple(replace(s, seed=seed) for s in samples("siblings") for seed in (1, 2, 3))
    assert METRICS["IRA"](Evidence((*EVIDENCE.samples, *more))) == once


@pytest.mark.parametrize(("missing", "left"), [("object", ["UA", "UA_syn", "IRA", "NRA"]), ("style", ["CRA"])])
def test_a_kind_without_a_judge_gives_no_number(missing, left):
    blind = tuple(replace(s, seen={k: v for k, v in s.seen.items() if k != missing}) for s in EVIDENCE.samples)
    assert [name for name, metric in METRICS.items() if metric(Evidence(blind))] == left


def test_a_concept_without_siblings_has_no_neighbours_to_hurt():
    lone = Evidence(samples(*(p for p in PICTURES if p != "siblings")))
    assert METRICS["NRA"](lone) == []
    (score,) = METRICS["IRA"](lone)
    assert (score.value, score.n) == (2 / 3, 3)


def test_a_share_changes_image_by_image():
    """Of the target's six images, four count as gone; with the base model the first three, of two prompts, do."""
    shown = iter(["plain", "plain", "plain", "neon", "neon", "neon"])
    before = tuple(replace(s, base={"style": next(shown)}) for s in samples("target"))
    (score,) = METRICS["UA"](Evidence(before))
    assert score.change[0] == pytest.approx(1 / 6)
    # Lost: "neon style" 1. Gained: "a ring in neon style" 1 and "a disc in neon style" 1. By prompt -1, 1, 1: |sum| is 1 or 3 always.
    assert score.change[3:] == (1, 2, 1.0)
    assert METRICS["UA"](Evidence(before).of_base())[0].change is None


def test_a_change_takes_a_base_model_that_was_judged_alike():
    partly = (replace(EVIDENCE.samples[0], base={"style": "neon"}), *EVIDENCE.samples[1:])
    assert METRICS["UA"](Evidence(partly))[0].change is None
