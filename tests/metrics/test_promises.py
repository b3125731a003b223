"""Every registered metric against one list of promises."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from expunge.concepts.concept import PROBES
from expunge.errors import ExpungeError
from expunge.evaluation.metrics import METRICS, measure
from expunge.evaluation.metrics.base import Evidence, Metric, Shots

every = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


def mapped(evidence: Evidence, change: Callable[[Shots], Shots]) -> Evidence:
    shots, base = ({probe: change(s) for probe, s in side.items()} for side in (evidence.shots, evidence.base))
    return replace(evidence, shots=shots, base=base)


def without(evidence: Evidence, probes: set[str]) -> Evidence:
    shots, base = ({p: s for p, s in side.items() if p not in probes} for side in (evidence.shots, evidence.base))
    return replace(evidence, shots=shots, base=base)


def faultless(evidence: Evidence) -> Evidence:
    """The target is taken for something else, everything else for what it should be, and features are the base's."""

    def verdict(shots: Shots, kind: str) -> tuple[str, ...]:
        gone = kind == evidence.kind and shots.probe in ("target", "synonyms")
        return tuple("plain" if gone else label or "plain" for label in shots.wanted[kind])

    shots = {
        p: replace(s, seen={kind: verdict(s, kind) for kind in s.seen}, features=evidence.base[p].features)
        for p, s in evidence.shots.items()
    }
    retained = torch.cat([shots[p].features for p in ("siblings", "same_domain", "cross_domain")])
    return replace(evidence, shots=shots, drawn=retained)


@every
def test_describes_itself(metric: Metric):
    assert METRICS[metric.name] is metric
    assert metric.title
    assert "\n" not in metric.title
    assert metric.probes
    assert metric.probes <= PROBES.keys()
    assert type(metric).__doc__


@every
def test_one_score_with_an_interval_that_holds_it(metric: Metric, evidence: Evidence):
    (score,) = metric(evidence)
    assert score.metric == metric.name
    assert set(score.probe.split("+")) == metric.probes
    assert score.ci_low < score.value < score.ci_high
    assert 0 < score.n <= sum(len(evidence.shots[p]) for p in metric.probes)


@every
def test_order_does_not_matter(metric: Metric, evidence: Evidence):
    generator = torch.Generator().manual_seed(1)
    order = {p: torch.randperm(len(s), generator=generator).tolist() for p, s in reversed(evidence.shots.items())}
    shots, base = ({p: side[p].select(rows) for p, rows in order.items()} for side in (evidence.shots, evidence.base))
    assert metric(replace(evidence, shots=shots, base=base)) == metric(evidence)


@every
def test_declared_probes_suffice_and_each_matters(metric: Metric, evidence: Evidence):
    assert metric(without(evidence, PROBES.keys() - metric.probes)) == metric(evidence)
    for probe in metric.probes:
        assert metric(without(evidence, {probe})) != metric(evidence)


@every
def test_no_judge_no_number(metric: Metric, evidence: Evidence):
    assert metric(mapped(evidence, lambda s: replace(s, seen={}, features=None))) == []


@every
def test_no_pictures_no_number(metric: Metric, evidence: Evidence):
    assert metric(mapped(evidence, lambda s: s.select([]))) == []
    assert metric(without(evidence, set(PROBES))) == []


@every
def test_faultless_pictures_score_the_ideal_and_others_worse(metric: Metric, evidence: Evidence):
    (best,), (worse,) = metric(faultless(evidence)), metric(evidence)
    if metric.higher_is_better:
        assert (best.value, best.ci_high) == (1, 1)
        assert worse.value < best.value
    else:
        # Unbiased and unpaired, KID_drawn may only promise 0 on average; on one set taken twice it falls below.
        assert best.value == pytest.approx(0, abs=1e-9) if metric.name != "KID_drawn" else best.value < 0
        assert worse.value > best.value


@pytest.mark.parametrize("name", ["FID_base", "KID_base"])
def test_a_model_that_did_not_change_is_surely_at_no_distance(name: str, evidence: Evidence):
    (score,) = METRICS[name](faultless(evidence))
    assert (score.value, score.ci_low, score.ci_high) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("name", ["FID_base", "KID_base"])
def test_no_base_no_distance_from_it(name: str, evidence: Evidence):
    assert METRICS[name](replace(evidence, base={})) == []


@pytest.mark.parametrize("name", ["FID_drawn", "KID_drawn"])
def test_no_drawings_no_distance_from_them(name: str, evidence: Evidence):
    assert METRICS[name](replace(evidence, drawn=None)) == []
    assert METRICS[name](replace(evidence, drawn=evidence.drawn[:1])) == []


def test_measure_gives_what_was_named_in_that_order(evidence: Evidence):
    assert [s.metric for s in measure(evidence)] == list(METRICS)
    assert measure(evidence, ["IRA", "UA"]) == [*METRICS["IRA"](evidence), *METRICS["UA"](evidence)]


@pytest.mark.parametrize(("name", "nearest"), [("ua", "UA"), ("FID", "FID_base"), ("kid_draw", "KID_drawn"), ("UA-syn", "UA_syn")])
def test_an_unknown_metric_is_told_the_nearest(name: str, nearest: str, evidence: Evidence):
    with pytest.raises(ExpungeError, match=f"{name!r} is none .nearest: '{nearest}'"):
        measure(evidence, ["UA", name])


def test_an_unknown_metric_unlike_any_is_told_them_all(evidence: Evidence):
    with pytest.raises(ExpungeError, match=r"one of UA, UA_syn, .*KID_drawn: 'sharpness' is none;"):
        measure(evidence, ["sharpness"])
