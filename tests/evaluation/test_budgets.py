"""How many images an evaluation makes: budgets, and rounds that end when intervals are narrow."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
from raising import raises_error

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation import evaluate as evaluating
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.judges import Judgement
from expunge.evaluation.metrics import Evidence
from expunge.evaluation.metrics.base import RETAINED
from expunge.evaluation.protocol import BUDGETS, Protocol, plan, rounds
from expunge.evaluation.results import Sample, read_rows, read_samples
from expunge.evaluation.rows import rows_from_samples, rows_of
from expunge.evaluation.statistics import LEVEL, clustered, exact, level_of, paired_change, wilson
from expunge.models.sampling import Sampler
from expunge.reports.comparison import greatest_fall
from expunge.reports.text.answers import REMOVED, ROOM
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

CONCEPTS = {
    "canvas": ("neon", Vocabulary.canvas()),
    "general": ("Van Gogh", Vocabulary.general()),
    "no others": ("nudity", Vocabulary.general()),
}


@pytest.fixture(params=CONCEPTS)
def concept(request: pytest.FixtureRequest) -> Concept:
    return Concept.find(*CONCEPTS[request.param])


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_is_a_number_of_images_of_any_concept(concept: Concept, budget: str):
    shots = plan(concept, Protocol(budget=budget))
    assert len(shots) == sum(BUDGETS[budget].images.values()) == {"quick": 60, "standard": 300}[budget]
    assert len({(s.prompt.prompt, s.index) for s in shots}) == len({s.noise_seed for s in shots})
    # Images that both have are those of the full budget, from equal noise.
    full = {(s.prompt.prompt, s.index): s.noise_seed for s in plan(concept, Protocol(prompts=10**6, seeds=10, target_seeds=100))}
    assert all(full[s.prompt.prompt, s.index] == s.noise_seed for s in shots if (s.prompt.prompt, s.index) in full)


def ideal(concept: Concept, budget: str) -> list[Sample]:
    """Samples of a run that removed the concept and nothing else, of a perfect base model."""
    kind = concept.vocabulary.kinds[concept.kind]
    found = []
    for s in plan(concept, Protocol(budget=budget)):
        wanted = dict(s.prompt.labels)
        base = {kind.name: "something", kind.partner: "something"} | wanted
        seen = base | ({concept.kind: "another"} if s.probe in ("target", "synonyms") else {})
        found.append(Sample("run", concept.target, kind.name, kind.partner, s.probe, s.prompt.prompt, s.index, "j", wanted, seen, base))
    return found


def test_the_quick_budget_is_enough_for_a_verdict(concept: Concept):
    """Of a run that removed the concept and harmed nothing, every metric of the budget can say so."""
    card = {"id": "run", "method": "uce", "seed": 0}
    rows = rows_of(Evidence(tuple(ideal(concept, "quick"))), card, BUDGETS["quick"].metrics, budget="quick")
    own, base = ({r.metric: r for r in rows if (r.run == "base") is is_base} for is_base in (False, True))
    assert own["UA"].ci_low > REMOVED
    retained = [m for m in own if m != "UA"]
    assert retained
    assert all(greatest_fall(base[m], own[m]) < ROOM for m in retained), {m: own[m] for m in retained}
    assert {r.budget for r in rows} == {"quick"}


def test_the_default_is_what_it_was():
    """One image of each prompt, five of the concept's and of the empty one, of at most 250 prompts."""
    shots = plan(tiny.concept(), Protocol())
    probes = tiny.concept().probes()
    assert [(s.probe, s.prompt.prompt, s.index) for s in shots] == [
        (name, p.prompt, i) for name, prompts in probes.items() for p in prompts for i in range(1 if name in (*RETAINED,) else 5)
    ]
    assert Protocol().table == {"seeds": 1, "target_seeds": 5, "prompts": 250, "seed": 0, "budget": "full"}
    assert Protocol(budget="quick", seed=3).table == {"seed": 3, "budget": "quick", "target": 35, "siblings": 4, "same_domain": 21}


def test_budgets_that_say_nothing_are_refused():
    with raises_error("unknown-budget", "quik"):
        Protocol(budget="quik")
    with raises_error("budget-and-numbers", "seeds"):
        Protocol(budget="quick", seeds=2)


def test_rounds_double_and_hold_the_ones_before(concept: Concept):
    shots = plan(concept, Protocol())
    found = rounds(shots)
    assert len(found) > 1
    assert found[-1] == list(range(len(shots)))
    for before, after in pairwise(found):
        assert set(before) < set(after)
        first, second = (Counter(shots[i].probe for i in places) for places in (before, after))
        assert all(second[p] in (2 * first[p], sum(s.probe == p for s in shots)) for p in first)
    # The first has no second image of a prompt before it has one of each, and its prompts are spread over all.
    for probe in {s.probe for s in shots}:
        prompts = list(dict.fromkeys(s.prompt.prompt for s in shots if s.probe == probe))
        chosen = [shots[i] for i in found[0] if shots[i].probe == probe]
        assert len({s.prompt.prompt for s in chosen}) == min(len(chosen), len(prompts))
        if len(chosen) < len(prompts):
            gaps = np.diff([-1, *sorted(prompts.index(s.prompt.prompt) for s in chosen), len(prompts)])
            assert gaps.max() <= 4 * len(prompts) / len(chosen) + 1


# --- intervals under optional stopping ------------------------------------------------------------------------------------------

SIZES = [32, 64, 128, 256, 512]


def missed(low: np.ndarray, high: np.ndarray, truth: float, width: float) -> tuple[float, float]:
    """How often an interval misses the truth: at the look where it is narrow enough (or the last), and at any look at all."""
    wrong = (low > truth) | (high < truth)
    narrow = high - low <= width
    narrow[:, -1] = True
    at = narrow.argmax(1)
    return wrong[np.arange(len(wrong)), at].mean(), wrong.any(1).mean()


def shares(truth: float, looks: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of a share at each look, in 4,000 evaluations."""
    hits = (np.random.default_rng(0).random((4000, SIZES[-1])) < truth).cumsum(1)
    tables = {n: np.array([clustered([(h, n)], looks)[1:] for h in range(n + 1)]) for n in SIZES}
    ends = np.stack([tables[n][hits[:, n - 1]] for n in SIZES], 1)
    return ends[..., 0], ends[..., 1]


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.98, 0.998])
def test_a_share_is_covered_whatever_ends_the_evaluation(truth: float):
    """Also by the worst rule, which ends it where the interval misses; the intervals without a correction do not survive it."""
    at_stop, ever = missed(*shares(truth, len(SIZES)), truth, 0.1)
    assert at_stop <= ever <= 1 - LEVEL
    assert missed(*shares(truth, 1), truth, 0.1)[1] > 2 * (1 - LEVEL)


@pytest.mark.parametrize(("lost", "gained"), [(0.0, 0.0), (0.05, 0.01), (0.02, 0.02), (0.3, 0.1)])
def test_a_change_is_covered_whatever_ends_the_evaluation(lost: float, gained: float):
    drawn = np.random.default_rng(0).random((300, SIZES[-1]))
    change = np.where(drawn < lost, -1, np.where(drawn < lost + gained, 1, 0))
    ends, significant = [], []
    for n in SIZES:
        found = [paired_change([c >= 0 for c in row], [c <= 0 for c in row], range(n), len(SIZES)) for row in change[:, :n].tolist()]
        ends.append([(c.low, c.high) for c in found])
        significant.append([c.is_significant for c in found])
    low, high = np.moveaxis(np.array(ends), (0, 1), (1, 0)).transpose(2, 0, 1)
    assert missed(low, high, gained - lost, 0.1)[1] <= 1 - LEVEL
    if lost == gained:
        assert np.array(significant).any(0).mean() <= 1 - LEVEL


def test_one_look_changes_nothing_and_more_looks_widen():
    assert level_of(1) == LEVEL
    assert level_of(5) == pytest.approx(0.99)
    assert clustered([(30, 40)]) == wilson(30, 40)
    widths = [clustered([(30, 40)], looks) for looks in (1, 2, 5)]
    assert [w.value for w in widths] == [0.75] * 3
    assert np.diff([w.high - w.low for w in widths]).min() > 0
    assert exact(0.0, 10)[1:] == (0.0, pytest.approx(1 - 0.025**0.1))
    one, five = (paired_change([True, False] * 9, [True] * 18, range(18), looks) for looks in (1, 5))
    assert five.p == pytest.approx(5 * one.p)


# --- evaluations that end early -------------------------------------------------------------------------------------------------


FEW = Protocol(prompts=3, target_seeds=12)
"""Three rounds."""


class Gone:
    """Sees the prompts' concepts, and never the removed one."""

    name, weights = "gone", ""

    def __init__(self, flaw: float = 0.0):
        self.flaw = flaw
        self.judged = 0

    def check(self, concept: Concept) -> None:
        pass

    def knows(self, member: str, concept: Concept) -> bool:
        return True

    def chance(self, concept: Concept) -> float:
        return 0.1

    def __call__(self, images, concept: Concept) -> Judgement:
        self.judged += len(images)
        pixels = images.float().mean((1, 2, 3))
        return Judgement({"style": tuple("neon" if p * 1e3 % 1 < self.flaw else "other" for p in pixels.tolist())})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Store]:
    folder = tmp_path_factory.mktemp("made")
    return unlearn(tiny.model(), tiny.concept(), "uce", out=folder / "run", cache=folder / "store"), Store(folder / "store")


def measured(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch, width: float | None, flaw: float = 0.0, **given: object) -> dict:
    monkeypatch.setattr(evaluating, "judges_for", lambda *asked: (Gone(flaw),))
    usual = {"sampler": Sampler(1, 1.0), "metrics": ["UA"], "cache": store, "protocol": FEW}
    evaluate(run, tiny.model(), until_width=width, **usual | given)
    return json.loads((run.folder / "evaluation" / "evaluation.json").read_text())


def test_an_evaluation_ends_when_its_interval_is_narrow(made, monkeypatch: pytest.MonkeyPatch):
    run, store = made
    done = measured(run, store, monkeypatch, 0.2)["stopping"]["neon"]
    [row] = [r for r in read_rows(run.folder) if r.metric == "UA" and r.run == run.id]
    assert (done["rounds"], row.n, row.looks) == (1, 32, done["looks"])
    assert row.ci_high - row.ci_low == done["width"] <= 0.2
    samples = read_samples(run.folder)
    assert len(samples) == done["images"]
    kept = [r for r in read_rows(run.folder) if r.metric == "UA"]
    assert rows_from_samples(samples, run.card, metrics=["UA"], looks=done["looks"]) == kept


def test_the_budget_is_the_end_otherwise(made, monkeypatch: pytest.MonkeyPatch):
    run, store = made
    about = measured(run, store, monkeypatch, 0.01, flaw=0.5)
    done = about["stopping"]["neon"]
    assert (done["rounds"], done["images"]) == (done["looks"], len(plan(tiny.concept(), FEW)))
    assert done["width"] > 0.01
    assert any("the budget was spent" in note for note in about["notes"])


def test_an_interrupted_evaluation_ends_where_a_straight_one_does(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, store = made
    measured(run, store, monkeypatch, 0.15, flaw=0.03)
    straight = {f.name: f.read_bytes() for f in (run.folder / "evaluation").glob("*.jsonl")}
    model, calls = tiny.model(), []
    sample = model.sample

    def fails(*given: object) -> object:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sample(*given)

    model.sample = fails
    monkeypatch.setattr(evaluating, "judges_for", lambda *asked: (Gone(0.03),))
    usual = {"sampler": Sampler(1, 1.0), "metrics": ["UA"], "cache": tmp_path / "another", "protocol": FEW}
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, model, until_width=0.15, **usual)
    evaluate(run, model, until_width=0.15, **usual)
    assert {f.name: f.read_bytes() for f in (run.folder / "evaluation").glob("*.jsonl")} == straight


@pytest.mark.parametrize("width", [0.0, 1.0, -0.1, float("nan")])
def test_a_width_that_no_share_has(made, width: float):
    with raises_error("invalid-width"):
        evaluate(made[0], tiny.model(), until_width=width, cache=made[1])


def test_without_a_judge_no_interval_is_narrow(made):
    with raises_error("missing-judge", 0.1):
        evaluate(made[0], tiny.model(), until_width=0.1, cache=made[1])


def test_the_page_and_the_rows_say_the_budget(made, monkeypatch: pytest.MonkeyPatch):
    run, store = made
    about = measured(run, store, monkeypatch, None, protocol=Protocol(), budget="quick", metrics=None)
    rows = read_rows(run.folder)
    assert about["protocol"]["budget"] == "quick"
    assert {r.budget for r in rows} == {"quick"}
    assert {r.metric for r in rows} <= {*BUDGETS["quick"].metrics, "weight_change"}
    assert len(read_samples(run.folder)) == 60
