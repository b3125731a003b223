from dataclasses import replace

import numpy as np
import pytest

from expunge.errors import ExpungeError
from expunge.evaluation.metrics import Evidence, Sample
from expunge.evaluation.metrics.base import concepts, pool, shows


def sample(probe: str = "siblings", prompt: str = "a", seed: int = 0, **more) -> Sample:
    named = {"wanted": {"style": "x"}, "seen": {"style": "x"}}
    return Sample("r", "neon", "style", "object", probe, prompt, seed, "main", **named | more)


def test_every_sample_has_a_row_of_features():
    with pytest.raises(ValueError, match="there are 1 samples and 2 rows"):
        Evidence((sample(),), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="1 samples and 3 rows"):
        Evidence((sample(),), None, np.zeros((3, 3)))


def test_a_probe_has_a_known_name():
    with pytest.raises(ValueError, match="sibling is none"):
        Evidence((sample("sibling"),))


def test_the_base_models_evidence_is_what_stood_beside_the_runs():
    one = sample(base={"style": "y"}, confidence={"style": 0.9}, base_confidence={"style": 0.4})
    base = Evidence((one,), np.ones((1, 2)), np.zeros((1, 2)), np.zeros((4, 2))).of_base()
    assert base.samples == (sample(seen={"style": "y"}, confidence={"style": 0.4}),)
    assert base.features.tolist() == [[0, 0]]
    assert base.base_features.tolist() == [[0, 0]]
    assert len(base.drawings) == 4


@pytest.mark.parametrize(
    ("wanted", "seen", "kinds", "expected"),
    [
        ({"style": "x"}, {"style": "x"}, ["style"], True),
        ({"style": "x"}, {"style": "y"}, ["style"], False),
        ({}, {"style": "x"}, ["style"], None),  # the prompt does not say
        ({"style": "x"}, {"object": "o"}, ["style"], None),  # nobody judged it
        ({"style": "x", "object": "o"}, {"style": "x", "object": "o"}, ["style", "object"], True),
        ({"style": "x", "object": "o"}, {"style": "x", "object": "z"}, ["style", "object"], False),
        ({"object": "o"}, {"style": "z", "object": "o"}, ["style", "object"], True),
        ({"object": "o"}, {"object": "o"}, ["style", "object"], None),
    ],
)
def test_an_image_shows_all_that_its_prompt_says_of_some_kinds(wanted, seen, kinds, expected):
    assert shows(sample(wanted=wanted), seen, *kinds) is expected


def test_pool_uses_shared_seeds_in_one_order():
    siblings = [sample("siblings", p, s) for p, s in (("a", 0), ("b", 1), ("c", 2))]
    target = [sample("target", p, s) for p, s in (("a", 2), ("b", 1))]
    samples = [*siblings, *target, sample("null", "", 0)]
    pooled = [samples[i] for i in pool(samples, ("target", "siblings", "synonyms"))]
    assert [(s.prompt, s.seed, s.probe) for s in pooled] == [
        ("a", 2, "target"),
        ("b", 1, "target"),
        ("b", 1, "siblings"),
        ("c", 2, "siblings"),
    ]


def test_pool_without_a_shared_seed_is_refused():
    with pytest.raises(ExpungeError) as refused:
        pool([sample("target", seed=5), sample("siblings")], ("target", "siblings"))
    assert (refused.value.rule, refused.value.value) == ("no-shared-seed", ["target", "siblings"])


def test_pool_of_nothing_is_empty():
    assert pool([sample("null")], ("siblings", "target")) == []


def test_images_of_one_concept_belong_together_and_of_one_prompt_where_there_is_one_concept():
    neon = [sample("target", f"a {o} in neon style", wanted={"style": "neon", "object": o}) for o in ("ring", "ring", "disc")]
    assert concepts(neon) == ["a ring in neon style", "a ring in neon style", "a disc in neon style"]
    dots = sample(wanted={"style": "dots", "object": "ring"})
    ring = sample("cross_domain", "a ring", wanted={"object": "ring"})
    assert concepts([*neon, dots, ring]) == ["neon", "neon", "neon", "dots", "ring"]


def test_samples_are_equal_by_value():
    assert sample() == sample()
    assert replace(sample(), seed=1) != sample()
