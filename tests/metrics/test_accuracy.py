"""Shares counted by hand. A row: prompt, seed, wanted and seen style, wanted and seen object."""

from dataclasses import replace

import pytest

from expunge.evaluation.metrics import METRICS
from expunge.evaluation.metrics.base import Evidence, Score, Shots
from expunge.evaluation.statistics import wilson

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


def shots(probe: str) -> Shots:
    prompts, seeds, wanted_style, seen_style, wanted_object, seen_object = zip(*PICTURES[probe], strict=True)
    return Shots(probe, prompts, seeds, {"style": wanted_style, "object": wanted_object}, {"style": seen_style, "object": seen_object})


EVIDENCE = Evidence("style", "object", {probe: shots(probe) for probe in PICTURES}, {})


@pytest.mark.parametrize(
    ("metric", "probe", "hits", "n"),
    [
        ("UA", "target", 4, 6),  # all but "neon style" 1 and "a disc" 0
        ("UA_syn", "synonyms", 1, 3),
        ("IRA", "siblings+same_domain", 3, 6),  # sketch 1 of 3, dots 2 of 3
        # Seed 1 is the target's alone and does not count. Beside neon: ring right, disc wrong; sketch: both; dots: disc only.
        ("CRA", "target+siblings+same_domain", 4, 6),
        ("NRA", "siblings", 1, 3),
        # "dots style" right; ring in dots has a wrong object, disc in dots a wrong style; both objects alone right.
        ("ORA", "same_domain+cross_domain", 3, 5),
    ],
)
def test_shares(metric, probe, hits, n):
    assert METRICS[metric](EVIDENCE) == [Score(metric, probe, hits / n, *wilson(hits, n)[1:], n)]


def test_an_erased_object_swaps_the_domains():
    # The same pictures, read as the erasure of an object: the target's own kind is "object", styles are the partners.
    # Objects named in the target's pictures: 2 of 4 right. Styles at seed 0: 1 of 3 neon, 1 of 3 sketch, 2 of 3 dots.
    erased = Evidence("object", "style", EVIDENCE.shots, {})
    assert [METRICS[m](erased)[0].value for m in ("UA", "CRA")] == [2 / 4, 4 / 9]


def test_every_prompt_weighs_the_same():
    once = METRICS["IRA"](EVIDENCE)
    siblings = EVIDENCE.shots["siblings"]
    more = Shots.cat([siblings, *(replace(siblings, seeds=(seed,) * 3) for seed in (1, 2, 3))])
    assert METRICS["IRA"](replace(EVIDENCE, shots={**EVIDENCE.shots, "siblings": more})) == once


@pytest.mark.parametrize(("missing", "left"), [("object", ["UA", "UA_syn", "IRA", "NRA"]), ("style", ["CRA"])])
def test_a_kind_without_a_judge_gives_no_number(missing, left):
    blind = {p: replace(s, seen={k: v for k, v in s.seen.items() if k != missing}) for p, s in EVIDENCE.shots.items()}
    assert [name for name, metric in METRICS.items() if metric(replace(EVIDENCE, shots=blind))] == left


def test_a_concept_without_siblings_has_no_neighbours_to_hurt():
    lone = replace(EVIDENCE, shots={**EVIDENCE.shots, "siblings": shots("siblings").select([])})
    assert METRICS["NRA"](lone) == []
    (score,) = METRICS["IRA"](lone)
    assert (score.value, score.n) == (2 / 3, 3)
