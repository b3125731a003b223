"""What is asked of a run's weights, and what comes of it where it can be told beforehand."""

import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from families import FAMILIES
from PIL import Image
from raising import raises_error
from tastes import TASTES

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several
from expunge.concepts.vocabulary import Vocabulary
from expunge.diffusion.decomposition import decomposed
from expunge.errors import ExpungeError
from expunge.evaluation.information.interview import Meter, ModelPair, make_queries
from expunge.evaluation.information.maps import _joint_prompts, render_map
from expunge.evaluation.information.mutual_information import Estimate
from expunge.evaluation.information.retention import ConceptInformation, measure_information, other_concepts
from expunge.evaluation.statistics import student
from expunge.models.delta import save_delta
from expunge.reports.pages.information import write_information_page
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.counters import counted

FEW = Meter(pictures=4, target_pictures=8, draws=2, others=1, maps=1, map_draws=2)
CANVAS = Vocabulary.canvas()


# --- what is asked ------------------------------------------------------------------------------------------------------------


def test_a_concept_is_asked_beside_partners_and_alone():
    sweet = Concept.find("sweet", TASTES)
    asked = make_queries(sweet, 4, 0)
    assert {(a.prompt, a.without) for a in asked} == {("a soup of sweet taste", "a soup"), ("a pie of sweet taste", "a pie")}
    assert len({a.seed for a in asked}) == 4
    assert [(a.prompt, a.without) for a in make_queries(sweet, 2, 0, alone=True)] == [("sweet taste", "")] * 2
    assert asked[0].prompt_with("sweet and salty") in ("a soup of sweet and salty taste", "a pie of sweet and salty taste")
    assert [a.seed for a in make_queries(sweet, 4, 1)] != [a.seed for a in asked]


def test_pictures_without_a_removed_partner_stay_the_same():
    """Of what the untouched model says of them, most is then kept from one run to the next."""
    full, less = (make_queries(c, 20, 0) for c in (tiny.concept("neon"), replace(tiny.concept("neon"), removed=(tiny.concept("ring"),))))
    assert not [a for a in less if re.search("ring|hoop", a.prompt)]
    assert len(set(full) & set(less)) == 19


def test_every_other_concept_is_asked_for_and_none_that_was_removed():
    found = other_concepts(tiny.concept("ring", synonyms=("hoop",)), 24)
    assert len(found) == 29
    assert {(c.kind, c.target) for c in found} == {(k.name, m.name) for k in CANVAS.kinds.values() for m in k.members} - {
        ("object", "ring")
    }
    assert not [a for c in found for a in make_queries(c, 20, 0) if re.search(r"\b(ring|hoop)\b", a.prompt + a.without)]


def test_of_several_concepts_none_is_another_ones_other():
    both = Several.of([tiny.concept("ring"), tiny.concept("neon")])
    found = {(c.kind, c.target) for c in other_concepts(both, 24)}
    assert len(found) == 28
    assert not found & {("object", "ring"), ("style", "neon")}


def test_a_limit_takes_siblings_and_others_evenly():
    found = [c.target for c in other_concepts(tiny.concept("ring"), 2)]
    assert found[:2] == ["disc", "crescent"]  # of disc, crescent and horseshoe
    assert len(found) == 6


def test_unsafe_kinds_have_nothing_that_should_stay():
    general = Vocabulary.general()
    assert "unsafe" in general.kinds
    assert {c.kind for c in other_concepts(Concept.find("Van Gogh style", general), 500)} == general.kinds.keys() - {"unsafe"}


# --- what is found ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Run, Store]:
    folder = tmp_path_factory.mktemp("made")
    return unlearn(tiny.model(), tiny.concept(), training=tiny.TRAINING, out=folder / "run", cache=Store(folder / "s")), Store(folder / "s")


def changed(made: Run, folder: Path, factor: dict[str, float]) -> Run:
    """A run whose weights are the untouched ones, those whose name holds a word times a factor."""
    shutil.copytree(made.folder, folder)
    model = tiny.model()
    found = {n: p.detach().clone() for n, p in model.network.named_parameters() if "attn2.to_k" in n or "attn2.to_v" in n}
    values = {n: w * next((f for word, f in factor.items() if word in n), 1.0) for n, w in found.items()}
    save_delta(folder / "delta.safetensors", values, model.fingerprint)
    return Run(folder)


def ratios(rows) -> dict[str, tuple[float, float, float]]:
    return {r.probe: (r.value, r.ci_low, r.ci_high) for r in rows if r.metric == "information_ratio"}


@pytest.mark.parametrize("form", ["expected", "orthogonal", "standard"])
def test_untouched_weights_keep_everything(made, tmp_path, form):
    run, store = made
    found = measure_information(changed(run, tmp_path / "same", {}), tiny.model(), meter=replace(FEW, maps=0, form=form), cache=store)
    nats = {(r.run, r.probe): (r.value, r.ci_low, r.ci_high) for r in found.rows if r.metric == "information"}
    assert all(nats[run.id, probe] == pytest.approx(nats["base", probe], rel=1e-4) for owner, probe in nats if owner == "base")
    assert all(r == pytest.approx((1, 1, 1), abs=1e-3) for r in ratios(found.rows).values())
    assert form == "standard" or {"target", "alone", "siblings", "same_domain", "cross_domain"} <= ratios(found.rows).keys()


def test_weights_that_cannot_read_a_prompt_know_nothing(made, tmp_path):
    run, store = made
    found = measure_information(changed(run, tmp_path / "deaf", {"to_v": 0.0}), tiny.model(), meter=FEW, cache=store)
    assert all(r == pytest.approx((0, 0, 0), abs=1e-6) for r in ratios(found.rows).values())
    assert all(r.value > 0 for r in found.rows if r.run == "base")
    about = json.loads((tmp_path / "deaf" / "information" / "information.json").read_text())
    [told] = about["maps"]
    assert told["nats"]["unlearned"] == pytest.approx(dict.fromkeys(told["nats"]["unlearned"], 0.0), abs=1e-6)
    assert told["nats"]["base"]["total"] > 0


def test_a_measured_run(made):
    """Rows and files; what the untouched model says is computed once, and its rows are the same whichever run is measured."""
    run, store = made
    model = tiny.model()
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    measure_information(run, model, meter=replace(FEW, maps=0), cache=store)
    with counted(model.network) as count:
        found = measure_information(run, model, meter=replace(FEW, maps=0), cache=store)
    assert count.samples == 2 * 2 * sum(len(h.base) for h in found.held)  # with and without the name, two draws, by the run alone
    assert all(torch.equal(p, before[n]) for n, p in model.network.named_parameters())

    assert [(h.probe, len(h.base)) for h in found.held] == [
        ("style/neon", 8), ("style/neon/alone", 4), ("style/outline", 4), ("style/stripes", 4), ("object/triangle", 4)
    ]  # fmt: skip
    written = [json.loads(line) for line in (run.folder / "information" / "rows.jsonl").read_text().splitlines()]
    assert [w["probe"] for w in written] == [r.probe for r in found.rows]
    of = {(r.run, r.probe, r.metric): r for r in found.rows}
    target = found.held[0]
    assert of["base", "target", "information"].value == pytest.approx(sum(target.base) / 8)
    assert of[run.id, "target", "information_ratio"].value == pytest.approx(sum(target.after) / sum(target.base))
    assert of["base", "style/neon", "information"].value == of["base", "target", "information"].value
    assert of["base", "siblings", "information"] == replace(of["base", "style/outline", "information"], probe="siblings")
    assert {r.judge for r in found.rows} == {"none"}
    assert [r for r in found.rows if r.run == "base" and r.metric == "information_ratio"] == []
    again = measure_information(run, tiny.model(), meter=replace(FEW, maps=0), cache=Store(run.folder / "another"))
    assert [r.value for r in again.rows if r.run == "base"] == pytest.approx([r.value for r in found.rows if r.run == "base"], rel=1e-3)


def test_no_ratio_to_what_is_not_told_apart_from_nothing():
    from expunge.evaluation.information.retention import _probe_rows

    card = {"id": "r", "method": "esd", "seed": 0}
    unsure = ConceptInformation("neon", "style", "", True, False, (1.0, -1.0, 2.0, -1.5), (1.0, 1.0, 1.0, 1.0), 0.0, 0.0)
    assert [(r.run, r.metric) for r in _probe_rows([unsure], "neon", "target", card)] == [("base", "information"), ("r", "information")]
    assert list(_probe_rows([], "neon", "siblings", card)) == []
    # A form that is never negative may be as uneven as this: what is left of it is a share all the same.
    uneven = replace(unsure, base=(0.0, 0.0, 0.0, 8.0), after=(0.0, 0.0, 0.0, 2.0))
    assert [(r.metric, r.value) for r in _probe_rows([uneven], "neon", "target", card)][-1] == ("information_ratio", 0.25)


def test_a_probes_ratio_is_the_mean_of_its_concepts_ratios():
    """Half of a hundred nats and all of one are three quarters, not half. Errors add in quadrature, as for any mean of independent ones."""
    from expunge.evaluation.information.retention import _probe_rows

    large = ConceptInformation("dots", "style", "", False, False, (90.0, 110.0, 95.0, 105.0), (50.0, 60.0, 40.0, 50.0), 0.0, 0.0)
    small = ConceptInformation("neon", "style", "", False, False, (1.0, 2.0, 1.0, 2.0), (1.0, 2.0, 1.0, 2.0), 0.0, 0.0)
    unsure = replace(small, base=(1.0, -1.0, 2.0, -1.5))
    card = {"id": "r", "method": "esd", "seed": 0}
    *_, alone = _probe_rows([large], "ring", "style/dots", card)
    *_, both = _probe_rows([large, small, unsure], "ring", "cross_domain", card)
    assert (both.value, both.n) == (pytest.approx(0.75), 8)
    assert both.ci_high - both.value == pytest.approx((alone.ci_high - alone.value) / 2 * student(6) / student(3))


def test_another_base_model_is_refused(made):
    with raises_error("other-base-model", tiny.model(1).fingerprint):
        measure_information(made[0], tiny.model(1), meter=FEW, cache=made[1])


def test_draws_are_aimed_at_where_prompts_say_most(made):
    store = made[1]
    interview = ModelPair(tiny.session(cache=store), {}, CANVAS, FEW)
    axis = interview.axis
    assert axis.probability.sum().item() == pytest.approx(1)
    kept = ModelPair(tiny.session(cache=store), {}, CANVAS, FEW)
    with counted(kept.model.network) as count:
        assert torch.equal(kept.axis.probability, axis.probability)
    assert count.samples == 0


# --- where it lies --------------------------------------------------------------------------------------------------------------


def test_maps_split_what_the_name_tells(made):
    run, store = made
    measure_information(run, tiny.model(), meter=FEW, cache=store)
    folder = run.folder / "information"
    [told] = json.loads((folder / "information.json").read_text())["maps"]
    for who in ("base", "unlearned"):
        nats = told["nats"][who]
        assert nats["total"] == pytest.approx(nats["unique"] + nats["redundant"], abs=1e-4)
        assert nats["redundant"] >= 0
        assert set(nats) == {"total", "unique", "redundant", "synergistic"}
        assert Image.open(folder / told["files"][f"{who}-total"]).size == (128, 128)
    # A sibling's name in its place, and both names, side by side where the model knows no "and".
    place = told["given"].replace("neon", "{}")
    assert told["other"] in [place.format(s) for s in ("outline", "sketch", "blueprint")]
    other = told["other"].removeprefix(place.split("{}")[0]).split(" style")[0]
    assert told["both"] == place.format(f"neon {other}")


def test_both_names_are_joined_as_far_as_the_model_can_read(made, monkeypatch):
    interview = ModelPair(tiny.session(cache=made[1]), {}, CANVAS, FEW)
    asked = make_queries(tiny.concept("ring"), 1, 0)
    place = asked[0].template.replace("{target}", "{}")
    assert _joint_prompts(interview, asked, "disc") == ([place.format("ring disc")], False)
    monkeypatch.setattr(interview.model, "encode", lambda prompts: None)
    assert _joint_prompts(interview, asked, "disc") == ([place.format("ring and disc")], True)

    def unreadable(prompts):
        raise ExpungeError("too long")

    monkeypatch.setattr(interview.model, "encode", unreadable)
    assert _joint_prompts(interview, asked, "disc") == ([], False)


def test_parts_by_hand():
    """Three places: told by either, by the first against a misleading second, by neither but both together."""
    first, second, both = (torch.tensor([[[v]]]) for v in ([3.0, 2.0, 0.0], [1.0, -4.0, 0.0], [3.0, 1.0, 5.0]))
    parts = decomposed(first, second, both)
    assert parts.redundant.flatten().tolist() == [1, 0, 0]
    assert parts.unique.flatten().tolist() == [2, 2, 0]
    assert parts.unique_other.flatten().tolist() == [0, -4, 0]
    assert parts.synergistic.flatten().tolist() == [0, 3, 5]
    assert torch.equal(parts.redundant + parts.unique + parts.unique_other + parts.synergistic, both)
    assert torch.equal(parts.redundant + parts.unique, first)


def test_a_map_is_white_where_nothing_is_told_and_coloured_by_sign():
    drawn = Image.open(io.BytesIO(render_map(torch.tensor([[0.0, 5.0], [0.0, -5.0]]), 5.0)))
    pale, told, misled = (drawn.getpixel(at) for at in ((5, 64), (122, 5), (122, 122)))
    assert min(pale) > 235
    assert told[2] > told[1] + 30  # purple
    assert misled[0] > misled[2] + 60  # orange
    assert Image.open(io.BytesIO(render_map(torch.zeros(4, 8), 0.0))).size == (256, 128)


def test_estimates_of_parts_of_the_pictures():
    both = Estimate(torch.tensor([1.0, 3.0]), torch.tensor([0.3, 0.4]))
    assert both.mean_se == pytest.approx(0.25)


# --- other families -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "is_distilled"), [("flux-1-dev", True), ("flux-1-schnell", True), ("sd3", False)])
def test_a_flow_is_measured_over_a_range_and_a_distilled_one_is_marked(family, is_distilled, tmp_path):
    model, few = FAMILIES[family].model(), Meter(pictures=4, target_pictures=8, draws=2, others=1, maps=0, log_snr=(-4.0, 4.0))
    run = unlearn(model, tiny.concept(), "uce", out=tmp_path / "run", device="cpu")
    found = measure_information(run, model, meter=few, cache=Store(tmp_path / "s"))
    about = json.loads((found.folder / "information.json").read_text())
    assert -4 <= about["log_snr"][0] < -3.9 < 3.9 < about["log_snr"][1] <= 4
    assert all(math.isfinite(row.value) for row in found.rows)
    assert (about.get("note"), bool(found.note)) == (found.note, is_distilled)
    page = write_information_page(run.folder).read_text()
    assert ("is distilled" in page) == is_distilled
