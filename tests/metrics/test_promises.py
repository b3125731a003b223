"""Every registered metric against one list of promises."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from expunge.concepts.concept import PROBES
from expunge.errors import ExpungeError
from expunge.evaluation.metrics import METRICS, OTHERS, Evidence, Metric, Sample, Share, describe, described, measure

every = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


def mapped(evidence: Evidence, change: Callable[[Sample], Sample], **more) -> Evidence:
    return replace(evidence, samples=tuple(map(change, evidence.samples)), **more)


def select(evidence: Evidence, places: list[int]) -> Evidence:
    samples = tuple(evidence.samples[i] for i in places)
    networks = {key: replace(m, run=m.run[places], base=m.base[places]) for key, m in evidence.networks.items()}
    return Evidence(samples, evidence.features[places], evidence.base_features[places], evidence.drawings, networks=networks)


def of_networks(evidence: Evidence, **lacking: None) -> Evidence:
    """The evidence with networks that lack something."""
    return replace(evidence, networks={key: replace(m, **lacking) for key, m in evidence.networks.items()})


def without(evidence: Evidence, probes: set[str]) -> Evidence:
    return select(evidence, [i for i, s in enumerate(evidence.samples) if s.probe not in probes])


def faultless(evidence: Evidence) -> Evidence:
    """The target is taken for something else, everything else for what it should be, and features are the base's."""

    def verdict(sample: Sample) -> Sample:
        gone = sample.probe in ("target", "synonyms")
        seen = {k: "plain" if gone and k == sample.kind else sample.wanted.get(k, "plain") for k in sample.seen}
        return replace(sample, seen=seen, rejected=False)

    retained = [i for i, s in enumerate(evidence.samples) if s.probe in ("siblings", "same_domain", "cross_domain")]
    networks = {key: replace(m, run=m.base, real=m.base[retained]) for key, m in evidence.networks.items()}
    return mapped(evidence, verdict, features=evidence.base_features, drawings=evidence.base_features[retained], networks=networks)


@every
def test_describes_itself(metric: Metric):
    about = metric.about
    assert METRICS[about.name] is metric
    assert about.title
    assert "\n" not in about.title
    assert set(about.probes) <= PROBES.keys()
    assert about.probes
    assert about.needs
    assert about.meaning.endswith(".")
    assert about.is_share is isinstance(metric, Share)
    assert not about.is_share or (about.low, about.high) == (0, 1)
    assert type(metric).__doc__


@every
def test_one_score_with_an_interval_that_holds_it(metric: Metric, evidence: Evidence):
    (score,) = metric(evidence)
    assert score.metric == metric.about.name
    assert tuple(score.probe.split("+")) == tuple(p for p in PROBES if p in metric.about.probes)
    assert score.ci_low < score.value < score.ci_high
    assert metric.about.low <= score.value <= metric.about.high
    assert 0 < score.n <= sum(s.probe in metric.about.probes for s in evidence.samples)


@every
def test_a_share_and_nothing_else_has_a_paired_change(metric: Metric, evidence: Evidence):
    (score,), (base,) = metric(evidence), metric(evidence.of_base())
    assert (score.change is not None) is metric.about.is_share
    assert base.change is None
    if score.change:
        assert score.change.value == pytest.approx(score.value - base.value)
        assert score.change.losses + score.change.gains <= score.n


@every
def test_order_does_not_matter(metric: Metric, evidence: Evidence):
    order = np.random.default_rng(1).permutation(len(evidence.samples)).tolist()
    assert metric(select(evidence, order)) == metric(evidence)


@every
def test_declared_probes_suffice_and_each_matters(metric: Metric, evidence: Evidence):
    assert metric(without(evidence, PROBES.keys() - set(metric.about.probes))) == metric(evidence)
    for probe in metric.about.probes:
        assert metric(without(evidence, {probe})) != metric(evidence)


@every
def test_no_judge_no_number(metric: Metric, evidence: Evidence):
    assert metric(mapped(evidence, lambda s: replace(s, seen={}), features=None, networks={})) == []


@every
def test_what_a_metric_needs_it_cannot_do_without(metric: Metric, evidence: Evidence):
    lacking = {
        "labels": mapped(evidence, lambda s: replace(s, seen={})),
        "features": replace(evidence, features=None),
        "base": replace(of_networks(evidence, base=None), base_features=None),
        "drawings": replace(evidence, drawings=None),
        "network": replace(evidence, networks={}),
        "real": of_networks(evidence, real=None),
    }
    for need, less in lacking.items():
        assert (metric(less) == []) is (need in metric.about.needs)


@every
def test_no_images_no_number(metric: Metric, evidence: Evidence):
    assert metric(without(evidence, set(PROBES))) == []


@pytest.mark.parametrize("metric", [m for m in METRICS.values() if m.about.form != "mean"], ids=lambda m: m.about.name)
def test_faultless_images_score_the_ideal_and_others_worse(metric: Metric, evidence: Evidence):
    (best,), (worse,) = metric(faultless(evidence)), metric(evidence)
    if metric.about.better == "higher":
        assert (best.value, best.ci_high) == (1, 1)
        assert worse.value < best.value
    else:
        # Unbiased and unpaired, KID may only promise 0 on average; on one set taken twice it falls below.
        assert best.value == pytest.approx(0, abs=1e-9) if metric.about.name not in ("KID_drawn", "KID") else best.value < 0
        assert worse.value > best.value


@pytest.mark.parametrize("name", ["FID_base", "KID_base"])
def test_a_model_that_did_not_change_is_surely_at_no_distance(name: str, evidence: Evidence):
    (score,) = METRICS[name](faultless(evidence))
    assert (score.value, score.ci_low, score.ci_high) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("name", ["FID_base", "KID_base"])
def test_no_base_no_distance_from_it(name: str, evidence: Evidence):
    assert METRICS[name](replace(evidence, base_features=None)) == []


@pytest.mark.parametrize("name", ["FID_drawn", "KID_drawn"])
def test_no_drawings_no_distance_from_them(name: str, evidence: Evidence):
    assert METRICS[name](replace(evidence, drawings=None)) == []
    assert METRICS[name](replace(evidence, drawings=evidence.drawings[:1])) == []


def test_measure_gives_what_was_named_in_that_order(evidence: Evidence):
    assert [s.metric for s in measure(evidence)] == list(METRICS)
    assert measure(evidence, ["IRA", "UA"]) == [*METRICS["IRA"](evidence), *METRICS["UA"](evidence)]


@pytest.mark.parametrize(("name", "nearest"), [("ua", "UA"), ("FID_bas", "FID_base"), ("kid_draw", "KID_drawn"), ("UA-syn", "UA_syn")])
def test_an_unknown_metric_is_refused_with_the_nearest(name: str, nearest: str, evidence: Evidence):
    with pytest.raises(ExpungeError) as refused:
        measure(evidence, ["UA", name])
    assert (refused.value.rule, refused.value.value) == ("unknown-metric", name)
    assert refused.value.hint.startswith(f"Try {nearest!r}; ")


def test_an_unknown_metric_unlike_any_is_refused_with_where_all_are(evidence: Evidence):
    with pytest.raises(ExpungeError) as refused:
        measure(evidence, ["sharpness"])
    assert refused.value.hint == "Try a name that `expunge ls metrics` lists."


def test_what_is_measured_otherwise_is_described_in_the_same_place():
    assert list(described()) == [*METRICS, "weight_change", "null_drift", "ASR", "parts", "information", "information_ratio"]
    assert {name for name, about in OTHERS.items() if about.is_share} == {"ASR"}
    assert describe("null_drift").better == "lower"
    assert {name for name, about in described().items() if about.is_retained} == {"IRA", "CRA", "NRA", "ORA"}


def test_an_unknown_metric_is_a_number_of_which_nothing_is_known():
    about = describe("sharpness")
    assert (about.name, about.column, about.form, about.better, about.aim) == ("sharpness", "sharpness", "mean", "neither", None)
