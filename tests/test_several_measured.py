"""What is measured of several concepts, and what the report makes of it; on the command line and in a suite."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from bench.conftest import stand_ins
from cli.commandline import WORDS, Said, say

from expunge.bench.config import make_suite, read_suite
from expunge.bench.runner import Place, work
from expunge.bench.suite import Unit
from expunge.bench.summary import measured, standings
from expunge.concepts.groups import Several
from expunge.errors import ExpungeError
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.evaluation.results import read_rows
from expunge.models.sampling import Sampler
from expunge.progress import Progress
from expunge.reports.charts.sequence import course_of
from expunge.reports.pages.bench import write_bench_page
from expunge.reports.pages.run import write_report
from expunge.reports.run_view import read_view, split_by_concept
from expunge.reports.tables import compare
from expunge.runs.folder import Card
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

FEW = Protocol(target_seeds=2, prompts=4)
NAMES = ("neon", "ring", "dots")
METRICS = ["UA", "UA_syn", "IRA", "CRA", "ORA"]


@pytest.fixture(scope="module", autouse=True)
def judged():
    with pytest.MonkeyPatch.context() as patch:
        stand_ins(patch)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("several")
    store = Store(folder / "store")
    found = {}
    for way in ("joint", "sequential"):
        subject = Several.of([tiny.concept(n) for n in NAMES], way)
        found[way] = unlearn(tiny.model(), subject, training=tiny.TRAINING, out=folder / way, cache=store)
        evaluate(found[way], tiny.model(), judge="main", protocol=FEW, sampler=Sampler(2, 1.0), metrics=METRICS, cache=store)
    return found


def test_each_concept_has_rows_of_its_own(runs):
    for run in runs.values():
        rows = read_rows(run.folder)
        for who in ("base", run.id):
            mine = [r for r in rows if r.run == who]
            for metric in METRICS:
                assert [r.concept for r in mine if r.metric == metric] == list(NAMES)
            # Beside 19 objects and alone, neon has 20 prompts, of which every fifth is drawn, twice; ring has 9, every third.
            assert [r.n for r in mine if r.metric == "UA"] == [8, 6, 8]
            [change] = [r for r in mine if r.metric == "weight_change"]
            assert change.concept == run.concept().target
        listed = json.loads((run.folder / "evaluation" / "pictures.json").read_text())
        assert list(dict.fromkeys(p["concept"] for p in listed)) == list(NAMES)
        assert len({p["unlearned"] for p in listed}) == len(listed)
        for p in listed:
            others = set(NAMES) - {p["concept"]}
            assert not others & set(p["prompt"].split())
            assert (run.folder / "evaluation" / p["unlearned"]).exists()


def test_after_each_stage_every_concept_so_far_is_measured_again(runs):
    """So that one that comes back shows. The last stage's numbers are those of the run: the weights are."""
    run = runs["sequential"]
    rows = read_rows(run.folder)
    for metric in ("UA", "UA_syn"):
        later = [(r.run, r.concept) for r in rows if r.metric == metric and r.run not in ("base", run.id)]
        ids = [s.id for s in run.stages]
        assert later == [(ids[0], "neon"), *((ids[1], n) for n in NAMES[:2]), *((ids[2], n) for n in NAMES)]
        final = {r.concept: r.value for r in rows if (r.run, r.metric) == (run.id, metric)}
        assert {r.concept: r.value for r in rows if (r.run, r.metric) == (ids[2], metric)} == final
    assert {r.metric for r in rows if r.run in ids} == {"UA", "UA_syn"}
    assert not [r for r in read_rows(runs["joint"].folder) if r.run not in ("base", runs["joint"].id)]


def test_a_stage_is_a_run_to_measure(runs, tmp_path):
    stage = runs["sequential"].stages[1]
    assert stage.concept().target == "ring"
    rows = evaluate(stage, tiny.model(), judge="main", protocol=FEW, sampler=Sampler(2, 1.0), metrics=["UA"], cache=Store(tmp_path))
    assert {r.run for r in rows} == {"base", stage.id}


# --- the report ----------------------------------------------------------------------------------------------------------


def test_the_report_shows_a_run_of_each_concept(runs, tmp_path):
    for way, run in runs.items():
        parts = split_by_concept(read_view(run.folder))
        assert [p.card.target for p in parts] == list(NAMES)
        assert [p.beside for p in parts] == [("ring", "dots"), ("neon", "dots"), ("neon", "ring")]
        rows = read_rows(run.folder)
        for part in parts:
            found = compare(part)
            for metric in (*METRICS, "weight_change"):
                row, base = found.find(metric)
                assert (row.run, base.run) == (run.id, "base")
                whose = (part.card.target, run.concept().target)
                assert row.value == next(r.value for r in rows if r.run == run.id and r.metric == metric and r.concept in whose)
            assert {p.concept for p in part.evaluation.pairs} == {part.card.target}
        page = write_report([run.folder], tmp_path / f"{way}.html").read_text()
        assert all(f'id="concept-{number}">{name}</h2>' in page for number, name in enumerate(NAMES, 1))
        assert page.count("To repeat this run") == page.count('<figure class="drawing">') == 1
        assert ("After each stage" in page) is (way == "sequential")
        assert f"mim-mu, with 2 others{' in sequence' if way == 'sequential' else ''}" in page


def test_the_course_of_a_sequence(runs):
    shown = course_of(read_view(runs["sequential"].folder))
    rows = {(r.run, r.concept): r.value for r in read_rows(runs["sequential"].folder) if r.metric == "UA"}
    ids = [s.id for s in runs["sequential"].stages]
    assert shown.stages == NAMES
    for at, line in enumerate(shown.lines):
        assert [v and v.value for v in line.values] == [rows.get((i, NAMES[at])) for i in ids]
        assert [v is None for v in line.values] == [stage < at for stage in range(3)]
        assert line.base.value == rows["base", NAMES[at]]
    assert "1. neon" in shown.chart
    assert course_of(read_view(runs["joint"].folder)) is None


def test_the_names_of_many_stages_have_room(runs):
    """Slanted so as to end under their ticks; a few stand upright."""
    run = read_view(runs["sequential"].folder)
    rows = run.evaluation.rows
    few = course_of(run)
    stages = tuple((f"s{n}", f"watercolour {n}") for n in range(10))
    [last] = {r.run for r in rows if r.run == run.card.stages[-1].id}
    many = [replace(r, run=stage, concept=target) for stage, target in stages for r in rows if r.run == last and r.concept == "dots"]
    targets = [{"target": target, "kind": "style"} for _, target in stages]
    card = Card(run.card | {"concept": {"targets": targets}, "stages": [{"id": stage, "of": target} for stage, target in stages]})
    crowded = course_of(replace(run, card=card, evaluation=replace(run.evaluation, rows=(*rows, *many))))
    slant = re.compile(r"rotate\(-40")
    assert not slant.search(few.chart)
    assert len(slant.findall(crowded.chart)) == 10


def test_a_sequence_of_which_no_stage_was_measured_has_no_course(runs):
    run = read_view(runs["sequential"].folder)
    kept = tuple(r for r in run.evaluation.rows if r.run in ("base", run.card.id))
    assert course_of(replace(run, evaluation=replace(run.evaluation, rows=kept))) is None
    assert course_of(replace(run, evaluation=None)) is None
    assert [p.evaluation for p in split_by_concept(replace(run, evaluation=None))] == [None] * 3


# --- the command line ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    tiny.pipeline().save_pretrained(folder / "tiny", safe_serialization=True)
    (folder / "words.toml").write_text(WORDS)

    def run(*arguments: object, method: str = "mim-mu") -> Said:
        small = () if method == "uce" else ("--steps", 2, "--batch-size", 4, "--points", 6, "--pictures", 2)
        common = ("--model", folder / "tiny", "--vocabulary", folder / "words.toml", "--device", "cpu")
        return say("unlearn", method, *common, *small, *arguments)

    return run


def card(folder: Path) -> dict:
    return json.loads((folder / "card.json").read_text())


BOTH = ("--target", "neon", "--target", "a ring")


@pytest.mark.parametrize("way", [(), ("--sequential",), ("--sequential", "--reference", "previous")])
def test_targets_repeat_and_a_configuration_repeats_the_run(unlearned, tmp_path, way):
    said = unlearned(*BOTH, *way, "--out", tmp_path / "r")
    assert said.code == 0, said.err
    made = card(tmp_path / "r")["concept"]
    assert [t["target"] for t in made["targets"]] == ["neon", "ring"]
    assert (made["together"], made.get("reference")) == (
        ("sequential", "previous" if "previous" in way else "original") if way else ("joint", None)
    )
    assert ("stage   " in said.out) is bool(way)
    again = say("unlearn", "--config", tmp_path / "r" / "config.toml", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    for file in ("delta.safetensors", "config.toml", "log.jsonl"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "r" / file).read_bytes()
    told = say("unlearn", "--config", tmp_path / "r" / "config.toml", *BOTH, "--joint", "--dry-run").out
    assert told.split()[0].startswith("mim-mu-neon-and-ring-")
    one = say("unlearn", "--config", tmp_path / "r" / "config.toml", "--target", "neon", "--dry-run").out
    assert one.split()[0].startswith("mim-mu-neon-")
    if way:
        stage = say("unlearn", "--config", tmp_path / "r" / "stages" / "02-ring" / "config.toml")
        assert stage.refusal.rule == "stage-config"


def test_what_takes_long_says_in_which_stage_it_is(unlearned, tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.progress.Progress.default", lambda: Progress(delay=0.0))
    said = unlearned(*BOTH, "--sequential", "--seed", 31, "--out", tmp_path / "r").err
    for number, name in enumerate(("neon", "ring"), 1):
        assert f"stage {number} of 2, {name}: images of the concept: 2 of 2" in said
    said = unlearned(*BOTH, "--seed", 32, "--out", tmp_path / "s").err
    assert "images of the concept: 2 of 2" in said
    assert "stage" not in said


def test_a_dry_run_tells_the_price_of_all_stages(unlearned, tmp_path):
    one, two = (unlearned(*BOTH[:n], "--sequential" if n == 4 else "--seed=0", "--dry-run", "--out", tmp_path / "r") for n in (2, 4))
    assert two.code == 0, two.err
    assert not (tmp_path / "r").exists()
    student = next(line for line in two.out.splitlines() if "student" in line)
    assert "student: 4 steps of 8" in student
    assert "student: 2 steps of 8" in one.out
    assert "stage 1" in two.out
    assert "stage 2" in two.out
    # The first is of neon alone, beside 2 objects; the second of ring, beside 3 styles without neon.
    assert "to forget   6 prompts: a ring in neon style; a ring in outline style; a square in neon style ..." in two.out
    assert "to forget   3 prompts: a ring in neon style; a square in neon style; neon style" in one.out


def test_other_names_and_several_concepts_are_told_apart(unlearned):
    """A further target that is another name of the first is a synonym, as ever; with other concepts each has its own."""
    synonym = unlearned("--target", "neon", "--target", "glow", "--dry-run").out
    assert synonym.split()[0].startswith("mim-mu-neon-")
    assert "style 'neon', 'glow'" in synonym
    both = unlearned(*BOTH, "--synonym", "glow style", "--dry-run").out
    assert "style 'neon', 'glow'" in both
    assert "object 'ring'" in both


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--target", "neon", "--target", "dots", "--target", "glow"], ["'neon' and 'glow' are names of the same concept"]),
        (["--target", "neon", "--target", "dots", "--target", "dots style"], ["'dots' and 'dots' are names of the same concept"]),
        ([*BOTH, "--synonym", "shine"], ["does not know 'shine'"]),
        ([*BOTH, "--anchor", "dots"], ["The anchor 'dots' cannot", "object, style"]),
        (["--target", "neon", "--target", "dots", "--anchor", "dots"], ["The anchor of 'neon' is 'dots'"]),
        ([*BOTH, "--target", "neom"], ["'neom'", "Try 'neon'"]),
        ([*BOTH, "--reference", "previous"], ["cannot be 'previous'", "--sequential"]),
        ([*BOTH, "--sequential", "--reference", "last"], ["original, previous", "'last'"]),
        (["--target", "neon", "--sequential"], ["The options --sequential and --reference need several concepts", "'neon'"]),
        ([*BOTH, "--pictures", "1"], ["--pictures 2", "2 concepts"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(unlearned, tmp_path, arguments, parts):
    line = unlearned(*arguments, "--out", tmp_path / "r").error
    assert all(part in line for part in parts), line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("concept", "shown"),
    [
        ('target = ["neon", "ring"]', ["neon", "ring"]),
        ('target = ["neon"]', ["neon"]),
        ('targets = [{target = "neon", synonyms = ["glow"]}, {target = "ring", anchor = "square"}]', ["neon", "ring"]),
        ('target = ["neon", 3]', "has {'target': 3}"),
        ('target = "neon"\ntargets = [{target = "ring"}]', "named once"),
        ('targets = [{targt = "ring"}]', "has {'targt': 'ring'}"),
        ('targets = [{target = "ring", synonym = ["hoop"]}]', "unknown key 'synonym'. Try 'synonyms'"),
        ('target = ["neon", "glow"]', "names of the same concept"),
        ('target = ["neon", "ring"]\ntogether = "both"', "'both' is not a way"),
    ],
)
def test_a_configuration_lists_them(unlearned, tmp_path, concept, shown):
    (tmp_path / "c.toml").write_text(f'[concept]\n{concept}\n[method]\nname = "uce"\n')
    said = unlearned("--config", tmp_path / "c.toml", "--out", tmp_path / "r", method="uce")
    if isinstance(shown, str):
        assert shown in said.error
        return
    assert said.code == 0, said.err
    made = card(tmp_path / "r")["concept"]
    assert [t["target"] for t in made.get("targets", [made])] == shown
    if concept.startswith("targets"):
        assert (made["targets"][0]["synonyms"], made["targets"][1]["anchor"]) == (["glow"], "square")


def test_compose_eval_ls_and_report(unlearned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("neon", "ring"):
        assert unlearned("--target", name, "--out", tmp_path / "runs" / name, method="uce").code == 0
    said = say("compose", "neon", "ring", "--out", tmp_path / "runs" / "both")
    assert said.code == 0, said.err
    assert f"next: expunge eval {tmp_path / 'runs' / 'both'}" in said.out
    assert "At least two runs" in say("compose", "neon").error
    assert unlearned(*BOTH, "--sequential", "--out", tmp_path / "runs" / "chain").code == 0
    for name in ("both", "chain"):
        said = say("eval", name, "--judge", "main", "--target-seeds", 1, "--steps", 1, "--guidance", 1, "--metric", "UA", "--device", "cpu")
        assert said.code == 0, said.err
        assert ("after each stage" in said.out) is (name == "chain")
        assert all(n in said.out for n in ("concept", "neon", "ring"))
    listed = say("ls", "runs").out
    assert "neon + ring" in listed
    assert "neon then ring" in listed
    assert say("report", "both", "chain", "neon").code == 0
    assert say("show", "chain").code == 0


# --- a suite -------------------------------------------------------------------------------------------------------------


def test_a_suite_lists_them(tmp_path):
    table = {
        "concepts": ["neon", ["neon", "ring"], {"targets": ["neon", {"target": "ring", "anchor": "disc"}], "together": "sequential"}],
        "methods": [{"name": "uce", "synonyms": True}],
    }
    suite = make_suite(table, "s")
    assert [u.name for u in suite.units] == ["uce/neon/0", "uce/neon + ring/0", "uce/neon then ring/0"]
    assert len({u.id for u in suite.units}) == 3
    assert [t["synonyms"] for t in suite.units[1].concept["targets"]] == [["glow"], ["hoop"]]
    for unit in suite.units:
        assert Unit.from_json(unit.to_json()) == unit
    for concept, message in (
        (["neon", "glow"], "names of the same concept"),
        ({"targets": "neon"}, "The targets 'neon' are not a list"),
        ({"targets": ["neon", "ring"], "way": "joint"}, "'way' is not a key"),
        ({"targets": ["neon", "ring"], "together": "both"}, "'both' is not a way"),
    ):
        with pytest.raises(ExpungeError, match=message):
            make_suite({"concepts": [concept], "methods": [{"name": "uce"}]}, "s")
    with pytest.raises(ExpungeError, match="both in `tuning` and among the reported"):
        make_suite({"concepts": [["neon", "ring"]], "tuning": ["hoop"], "methods": [{"name": "uce"}]}, "s")


def test_the_suite_of_several_is_sound():
    suite, canvas = read_suite("several"), read_suite("canvas")
    assert [len(c.parts) for c in suite.concepts] == [1, 3, 3, 5, 5, 10, 10]
    tuned = {c.target for c in canvas.tuning}
    assert not tuned & {p.target for c in suite.concepts for p in c.parts}
    assert max(len(u.id) for u in suite.units) < 60


def test_units_of_several_are_done_and_pooled(tmp_path):
    tiny.pipeline().save_pretrained(tmp_path / "tiny", safe_serialization=True)
    (tmp_path / "words.toml").write_text(WORDS)
    table = {
        "model": str(tmp_path / "tiny"), "vocabulary": str(tmp_path / "words.toml"), "metrics": ["UA", "IRA"], "judge": "main",
        "protocol": {"target_seeds": 1, "prompts": 2}, "sampler": {"steps": 1, "guidance_scale": 1},
        "concepts": [["neon", "ring"], {"targets": ["neon", "ring"], "together": "sequential"}], "methods": [{"name": "uce"}],
    }  # fmt: skip
    suite = make_suite(table, "s")
    place = Place(tmp_path / "out", tmp_path / "store")
    for unit in suite.units:
        outcome = json.loads(work(place.describe(unit)))
        assert outcome["status"] == "done", outcome
    found = measured(suite.units, tmp_path / "out")
    joint, chain = found
    assert [(r.run == "base", r.concept) for r in joint.rows if r.metric == "UA"] == [
        (True, "neon"), (False, "neon"), (True, "ring"), (False, "ring"),
    ]  # fmt: skip
    assert len([r for r in chain.rows if r.metric == "UA"]) == 4
    assert [r.concept for r in chain.stages if r.metric == "UA"] == ["neon", "neon", "ring"]
    base, together, later = standings(found)  # what is harder is not pooled with what is not
    assert [line.label for line in (together, later)] == ["uce, 2 together", "uce, 2 in sequence"]
    # Of the untouched model the same pictures, whichever way the two go.
    assert [line.metrics["UA"].n for line in (base, together, later)] == [4, 4, 4]
    assert (together.units, later.units) == (1, 1)
    page = write_bench_page("s", found, [base, together, later], tmp_path / "page.html").read_text()
    assert page.count("uce, 2 in sequence, seed 0: neon then ring") == 2  # a heading, and the name of its chart
    for of in ("neon + ring", "neon then ring"):
        assert all(f'<span class="name">{name}, of {of}</span>' in page for name in ("neon", "ring"))
    assert re.search("still neon|✓ (outline|dots)<", page)  # another in its place is good, and no mistake
