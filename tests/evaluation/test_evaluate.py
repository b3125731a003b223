"""Measuring a run end to end on the tiny pipeline."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
import tiny
from bench.conftest import Coin
from raising import raises_error

from expunge.concepts.groups import Several
from expunge.errors import ExpungeError
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.folder import read_evaluation
from expunge.evaluation.metrics import METRICS, describe
from expunge.evaluation.metrics.base import RETAINED
from expunge.evaluation.protocol import Protocol, plan
from expunge.evaluation.results import Row, Sample, read_rows, read_samples
from expunge.evaluation.rows import rows_from_samples
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

FEW = Protocol(target_seeds=2, prompts=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Run, Store]:
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store")
    return unlearn(tiny.model(), tiny.concept(), training=tiny.TRAINING, out=folder / "run", cache=store), store


def test_rows_pictures_and_the_untouched_model(made):
    run, store = made
    rows = evaluate(run, tiny.model(), judge="main", protocol=FEW, cache=store)
    assert rows == read_rows(run.folder)
    by = {(r.run, r.metric): r for r in rows}
    owners = {r.run for r in rows}
    assert owners == {"base", run.id}
    for metric in ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA", "FID_base", "KID_base", "weight_change", "null_drift"):
        assert {(o, metric) for o in owners} <= by.keys()
    assert by["base", "FID_base"].value == pytest.approx(0, abs=1e-6)
    assert by["base", "weight_change"].value == by["base", "null_drift"].value == 0
    assert by[run.id, "weight_change"].value == run.card["relative_change"]
    assert by[run.id, "null_drift"].value > 0
    assert by[run.id, "UA"].n == 4 * 2
    pictures = json.loads((run.folder / "evaluation" / "pictures.json").read_text())
    assert {p["probe"] for p in pictures} == {"target", "synonyms", "siblings", "same_domain", "cross_domain", "null"}
    assert all((run.folder / "evaluation" / p[which]).exists() for p in pictures for which in ("base", "unlearned"))


def test_an_evaluation_repeated_draws_nothing_again_and_a_lost_picture_alone(made):
    run, store = made
    first = evaluate(run, tiny.model(), judge="main", protocol=FEW, cache=store)
    denoiser, calls = tiny.model(), []
    sample = denoiser.sample
    denoiser.sample = lambda prompts, seeds, sampler: calls.append(prompts) or sample(prompts, seeds, sampler)
    assert evaluate(run, denoiser, judge="main", protocol=FEW, cache=store) == first
    assert calls == []
    lost, cut = sorted((store.root / "pictures").glob("*.png"))[:2]
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:40])
    evaluate(run, denoiser, judge="main", protocol=FEW, cache=store)
    assert sum(map(len, calls)) == 2


def test_both_models_start_from_the_same_noise_and_no_two_pictures_from_one():
    shots = plan(tiny.concept(), FEW)
    assert len({s.noise_seed for s in shots}) == len(shots)
    assert [s.noise_seed for s in plan(tiny.concept(), FEW)] == [s.noise_seed for s in shots]
    assert not {s.noise_seed for s in plan(tiny.concept(), Protocol(target_seeds=2, prompts=4, seed=1))} & {s.noise_seed for s in shots}


def test_without_a_judge_what_needs_none_remains(made):
    run, store = made
    rows = evaluate(run, tiny.model(), protocol=FEW, cache=store)
    assert {r.metric for r in rows} == {"weight_change", "null_drift"}
    about = json.loads((run.folder / "evaluation" / "evaluation.json").read_text())
    assert about["judge"] is None
    assert about["notes"]


def test_another_base_model_is_refused(made):
    with raises_error("other-base-model", tiny.model(1).fingerprint):
        evaluate(made[0], tiny.model(1), protocol=FEW, cache=made[1])


SHARES = [name for name, metric in METRICS.items() if metric.about.is_share]


def test_samples_hold_what_both_judges_said_of_every_image(made):
    run, store = made
    evaluate(run, tiny.model(), protocol=FEW, judge="main", cache=store)
    samples, shots = read_samples(run.folder), plan(tiny.concept(), FEW)
    assert [(s.probe, s.prompt, s.seed, s.wanted) for s in samples] == [(s.probe, s.prompt.prompt, s.index, s.prompt.labels) for s in shots]
    assert {(s.run, s.concept, s.kind, s.partner, s.judge) for s in samples} == {(run.id, "neon", "style", "object", "main")}
    for sample in samples:
        assert sample.seen.keys() == sample.base.keys() == sample.confidence.keys() == sample.base_confidence.keys() == {"style", "object"}
        assert all(0 < c <= 1 for c in (*sample.confidence.values(), *sample.base_confidence.values()))
    pairs = json.loads((run.folder / "evaluation" / "pictures.json").read_text())
    shown = {(p["prompt"], p["seed"]): (p["seen"], p["seen_base"]) for p in pairs}
    assert shown.items() <= {(s.prompt, s.seed): (s.seen, s.base) for s in samples}.items()
    file = run.folder / "evaluation" / "samples.jsonl"
    assert file.stat().st_size < 550 * len(samples)
    [judge] = read_evaluation(run.folder).judges
    [rates] = judge["error_rates"]
    seen = [s.base["style"] == "neon" for s in samples if s.probe in ("target", "synonyms")]
    assert (judge["name"], rates["concept"], rates["false_negative"]["n"]) == ("main", "neon", len(seen))
    assert rates["false_negative"]["value"] == pytest.approx(1 - sum(seen) / len(seen))
    assert rates["false_positive"]["n"] == sum(s.probe in RETAINED for s in samples)


def test_shares_follow_from_the_samples_alone(made):
    run, store = made
    rows = evaluate(run, tiny.model(), protocol=FEW, judge="main", cache=store)
    shares = [r for r in rows if r.metric in SHARES]
    assert rows_from_samples(read_samples(run.folder), run.card) == shares
    assert len(shares) == 2 * len(set(SHARES) - {"OOD"})  # which needs more images
    # A sample that is another is another share.
    first, *others = read_samples(run.folder)
    other = Sample(**asdict(first) | {"seen": dict.fromkeys(first.seen, "neon")})
    changed = {r.metric: r.value for r in rows_from_samples([other, *others], run.card, metrics=["UA", "IRA"]) if r.run == run.id}
    value = {r.metric: r.value for r in shares if r.run == run.id}
    assert changed["UA"] < value["UA"]
    assert changed["IRA"] == value["IRA"]


def test_a_share_of_the_run_has_its_paired_change_and_nothing_else_has(made):
    run, store = made
    rows = evaluate(run, tiny.model(), protocol=FEW, judge="main", cache=store)
    base = {r.metric: r for r in rows if r.run == "base"}
    for row in rows:
        assert (row.paired is not None) is (row.run == run.id and describe(row.metric).is_share)
        if row.paired:
            assert row.change == pytest.approx(row.value - base[row.metric].value)
            assert row.change_low <= row.change <= row.change_high
            assert row.gains - row.losses == round(row.change * row.n)


def test_of_a_sequence_stages_have_samples_and_changes_too(tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.evaluation.evaluate.judges_for", lambda *asked: (Coin(),))
    both = Several.of([tiny.concept("neon"), tiny.concept("ring")], "sequential")
    run = unlearn(tiny.model(), both, "uce", out=tmp_path / "run", cache=Store(tmp_path / "store"))
    rows = evaluate(run, tiny.model(), protocol=FEW, cache=Store(tmp_path / "store"), metrics=["UA", "UA_syn", "CRA"])
    first, second = run.stages
    samples = read_samples(run.folder)
    found = rows_from_samples(samples, run.card, [first.card, second.card], metrics=["UA", "UA_syn", "CRA"])
    assert Counter(found) == Counter(r for r in rows if r.judge != "none")
    assert {(s.run, s.concept) for s in samples} == {
        (run.id, "neon"), (run.id, "ring"), (first.id, "neon"), (second.id, "neon"), (second.id, "ring")
    }  # fmt: skip
    whole = {(s.concept, s.prompt, s.seed): s.base for s in samples if s.run == run.id}
    staged = [s for s in samples if s.run != run.id]
    assert {s.probe for s in staged} == {"target", "synonyms"}
    assert all(s.base == whole[s.concept, s.prompt, s.seed] for s in staged)
    assert all(r.paired for r in rows if r.run in (first.id, second.id))


def test_rows_of_an_older_evaluation_are_read_and_samples_are_missing(tmp_path):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    old = {"run": "r", "method": "uce", "concept": "neon", "seed": 0, "probe": "target", "metric": "UA", "value": 1.0, "ci_low": 0.9,
           "ci_high": 1.0, "n": 40, "attack": "none", "strength": 0.0, "judge": "main"}  # fmt: skip
    (folder / "rows.jsonl").write_text(json.dumps(old) + "\n")
    [row] = read_rows(tmp_path)
    assert (row, row.paired) == (Row(**old), None)
    with pytest.raises(ExpungeError) as refused:
        read_samples(tmp_path)
    assert (refused.value.rule, refused.value.value) == ("not-evaluated", str(folder / "samples.jsonl"))


def test_fields_of_a_newer_version_are_passed_over(tmp_path):
    (tmp_path / "evaluation").mkdir()
    row = Row("r", "uce", "neon", 0, "target", "UA", 1.0, 0.9, 1.0, 40)
    (tmp_path / "evaluation" / "rows.jsonl").write_text(json.dumps(asdict(row) | {"weather": "fine"}) + "\n")
    assert read_rows(tmp_path) == [row]


@pytest.mark.parametrize("text", ["{", "[]", '{"run": "r"}'])
def test_damaged_rows_are_an_error(tmp_path, text):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "rows.jsonl").write_text(text)
    with pytest.raises(ExpungeError) as refused:
        read_rows(tmp_path)
    assert refused.value.rule == "not-evaluated"


def test_images_are_judged_in_the_batches_in_which_they_are_sampled(made, monkeypatch):
    run, cache = made
    sizes = []
    label = Coin.__call__
    monkeypatch.setattr(Coin, "__call__", lambda self, images, concept: sizes.append(len(images)) or label(self, images, concept))
    monkeypatch.setattr("expunge.evaluation.evaluate.judges_for", lambda *asked: (Coin(),))
    evaluate(run, tiny.model(), protocol=FEW, cache=cache, render_batch=7, metrics=["UA"])
    assert max(sizes) == 7
    assert sum(sizes) == 2 * len(plan(tiny.concept(), FEW))
