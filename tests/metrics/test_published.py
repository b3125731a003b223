"""Metrics as papers print them: against double loops, against leaving images out, and from evidence of networks."""

import numpy as np
import pytest
import torch
from cli.commandline import say
from raising import raises_error

from expunge.evaluation.metrics import METRICS, NETWORKS, Evidence, Measured, measurable, measure, networks_of, refuse_networks
from expunge.evaluation.metrics._frechet import fid
from expunge.evaluation.metrics._kernel import cmmd, kid
from expunge.evaluation.results import Sample
from expunge.evaluation.statistics import Z, mean_interval


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def naive_cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """1000 MMD² with σ = 10 by the published definition: means over all pairs, of features of length 1."""
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))

    def mean_k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[np.exp(-((p - q) ** 2).sum() / 200) for q in b] for p in a]))

    return 1000 * (mean_k(x, x) + mean_k(y, y) - 2 * mean_k(x, y))


@pytest.mark.parametrize(("m", "paired"), [(7, True), (7, False), (5, False)])
def test_cmmd_is_that_of_the_double_loop(m: int, paired: bool):
    x, y = features(7, 3, 0), features(m, 3, 1, 0.5)
    assert cmmd(torch.tensor(x), torch.tensor(y), paired=paired).value == pytest.approx(naive_cmmd(x, y), rel=1e-9)


def test_cmmd_of_opposite_points_has_a_closed_form():
    # Every x is e, every y is -e: k within is 1, k across is exp(-4 / 200).
    x = torch.tensor([[2.0, 0.0]] * 4)
    found = cmmd(x, -x, paired=False)
    assert found.value == pytest.approx(2000 * (1 - np.exp(-0.02)))
    assert found.low == pytest.approx(found.high)
    assert cmmd(x, 3 * x, paired=True).value == pytest.approx(0, abs=1e-9)  # length does not count


@pytest.mark.parametrize("paired", [True, False])
def test_cmmds_interval_is_that_of_leaving_images_out(paired: bool):
    x, y = features(6, 3, 2), features(6, 3, 3, 0.7)

    def variance(values: list[float]) -> float:
        return (len(values) - 1) * float(np.var(values))

    if paired:
        expected = variance([naive_cmmd(np.delete(x, i, 0), np.delete(y, i, 0)) for i in range(6)])
    else:
        expected = variance([naive_cmmd(np.delete(x, i, 0), y) for i in range(6)])
        expected += variance([naive_cmmd(x, np.delete(y, i, 0)) for i in range(6)])
    found = cmmd(torch.tensor(x), torch.tensor(y), paired=paired)
    assert (found.high - found.low) / 2 == pytest.approx(Z * expected**0.5, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "paired"), [(2, 5, False), (5, 4, True)])
def test_cmmd_takes_three_images_and_pairs(n: int, m: int, paired: bool):
    with pytest.raises(ValueError, match=f"{n} and {m}"):
        cmmd(torch.tensor(features(n, 2, 0)), torch.tensor(features(m, 2, 1)), paired=paired)


def sample(probe: str, prompt: str, seed: int = 0) -> Sample:
    return Sample("r", "neon", "style", "object", probe, prompt, seed, "none", {}, {})


SAMPLES = (
    *(sample("target", f"neon {i}") for i in range(3)),
    *(sample("siblings", f"dots {i}") for i in range(3)),
    *(sample("cross_domain", f"ring {i}") for i in range(2)),
    sample("null", ""),
)
RETAINED = slice(3, 8)


def evidence() -> Evidence:
    of = {k: Measured(features(9, 4, i), features(9, 4, 10 + i, 0.5), features(6, 4, 20 + i, 1.0)) for i, k in enumerate(NETWORKS)}
    of["LPIPS"] = Measured(np.arange(9.0)[:, None], np.zeros((9, 1)))
    of["CLIP_score"] = Measured(20 + np.arange(9.0)[:, None], 30 + np.arange(9.0)[:, None])
    return Evidence(SAMPLES, networks=of)


def test_distances_are_of_retained_images_in_the_features_of_their_network():
    given = evidence()
    scores = {s.metric: s for s in measure(given)}
    base = {s.metric: s for s in measure(given.of_base())}
    for name, distance in (("FID", fid), ("FDD", fid), ("KID", lambda x, y: kid(x, y, paired=False).value)):
        of = given.networks[name]
        run, before, real = (torch.from_numpy(a) for a in (of.run[RETAINED], of.base[RETAINED], of.real))
        assert (scores[name].value, base[name].value) == (pytest.approx(distance(run, real)), pytest.approx(distance(before, real)))
        assert (scores[name].n, scores[name].probe) == (5, "siblings+same_domain+cross_domain")
    of = given.networks["CMMD"]
    assert scores["CMMD"].value == pytest.approx(naive_cmmd(of.run[RETAINED], of.real))
    assert scores["CMMD_from_base"].value == pytest.approx(naive_cmmd(of.run[RETAINED], of.base[RETAINED]))
    of = given.networks["FID"]
    assert scores["FID_from_base"].value == pytest.approx(fid(*(torch.from_numpy(a[RETAINED]) for a in (of.run, of.base))))
    for name in ("FID_from_base", "KID_from_base", "CMMD_from_base", "FDD_from_base", "LPIPS_u", "LPIPS_e"):
        assert base[name].value == pytest.approx(0, abs=1e-6)
    assert "UA" not in scores


def test_means_are_over_the_images_of_their_prompts():
    scores = {s.metric: s for s in measure(evidence())}
    assert (scores["LPIPS_e"].value, scores["LPIPS_e"].n) == (1.0, 3)
    assert (scores["LPIPS_u"].value, scores["LPIPS_u"].n) == (5.0, 5)
    assert (scores["CLIP_score"].value, scores["CLIP_score_target"].value) == (25.0, 21.0)
    found = mean_interval([3, 4, 5, 6, 7])  # each image has a prompt of its own
    assert (scores["LPIPS_u"].ci_low, scores["LPIPS_u"].ci_high) == pytest.approx(found[1:])


def test_without_its_network_or_real_images_a_metric_gives_no_number():
    assert measure(Evidence(SAMPLES)) == []
    only = Evidence(SAMPLES, networks={"FID": Measured(features(9, 4, 0), features(9, 4, 1))})
    assert [s.metric for s in measure(only)] == ["FID_from_base"]


def test_a_network_is_required_of_a_metric_that_is_chosen_alone():
    with raises_error("missing-network", "CMMD"):
        refuse_networks({"FID": "x"}, "real", ["CMMD"])
    with raises_error("missing-real", "FID"):
        refuse_networks({"FID": "x"}, None, ["FID"])
    with raises_error("unknown-network", "FIDD"):
        refuse_networks({"FIDD": "x"}, None)
    refuse_networks({"FID": "x"}, "real", ["FID", "KID", "KID_from_base", "UA"])
    refuse_networks({}, None)
    assert networks_of({"FID": "x", "CMMD": "y"}) == {"FID": "x", "KID": "x", "CMMD": "y"}
    assert networks_of({"FID": "x", "KID": "z"})["KID"] == "z"
    own = set(measurable({}, None))
    assert own == {n for n, m in METRICS.items() if not m.about.network}
    assert set(measurable({"CMMD": "y"}, None)) - own == {"CMMD_from_base"}
    assert set(measurable({"CMMD": "y"}, "real")) - own == {"CMMD_from_base", "CMMD"}


def test_the_list_of_metrics_names_papers():
    lines = {line.split()[0]: line for line in say("ls", "metrics").out.splitlines() if line.strip()}
    papers = {"UA": "2402.11846", "FID": "1706.08500", "CMMD": "2401.09603", "FDD": "2306.04675", "LPIPS_u": "1801.03924"}
    for name, paper in papers.items():
        assert paper in lines[name]
