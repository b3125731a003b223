"""How often a judge errs on the base model's images."""

from dataclasses import asdict

import pytest

from expunge.evaluation.error_rates import error_rates
from expunge.evaluation.results import Sample
from expunge.evaluation.statistics import wilson


def sample(probe: str, wanted: str | None, base: str, prompt: str = "", judge: str = "j") -> Sample:
    said = {} if wanted is None else {"style": wanted}
    return Sample(
        "r", "neon style", "style", "object", probe, prompt or f"{probe} {wanted}", 0, judge, said, {"style": "dots"}, {"style": base}
    )


SAMPLES = [
    *(sample("target", "neon", "neon", f"prompt {i}") for i in range(6)),
    *(sample("synonyms", "neon", base, f"synonym {i}") for i, base in enumerate(("neon", "dots"))),
    *(sample("siblings", "dots", "dots") for _ in range(5)),
    *(sample("same_domain", "outline", base) for base in ("neon", "outline", "outline")),
    sample("cross_domain", None, "neon"),
    sample("null", None, "neon"),
]


def test_an_error_is_a_concept_that_is_missed_or_seen_where_no_prompt_names_it():
    [rates] = error_rates(SAMPLES)
    assert (rates.judge, rates.concept) == ("j", "neon style")
    assert (rates.false_negative.value, rates.false_negative.n) == (1 / 8, 8)
    assert tuple(asdict(rates.false_negative).values()) == (*wilson(1, 8), 8)  # each prompt is its own group
    assert (rates.false_positive.value, rates.false_positive.n) == (pytest.approx(2 / 9), 9)  # the empty prompt promises nothing
    assert rates.false_positive.high > wilson(2, 9).high  # errors that cluster in one concept widen the interval
    assert rates.as_table().keys() == {"concept", "false_negative", "false_positive"}


def test_rates_are_those_of_each_judge():
    other = [sample("target", "neon", "dots", judge="k"), sample("siblings", "dots", "dots", judge="k")]
    first, second = error_rates([*SAMPLES, *other])
    assert (first.judge, second.judge) == ("j", "k")
    assert (second.false_negative.value, second.false_positive.value) == (1.0, 0.0)


def test_without_images_of_the_concept_there_are_no_rates():
    [rates] = error_rates([sample("siblings", "dots", "dots")])
    assert (rates.false_negative, rates.false_positive) == (None, None)
    [rates] = error_rates([sample("target", "neon", "neon")])
    assert (rates.false_negative.value, rates.false_positive) == (0.0, None)
