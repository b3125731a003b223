"""Reading run folders: tolerant of what is missing, strict with what is broken, and never out of the folder."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from report.folders import prompts

from expunge.errors import ExpungeError
from expunge.evaluation.folder import Evaluation, read_evaluation
from expunge.evaluation.results import Row
from expunge.reports.run_view import read_view, split_by_concept
from expunge.runs.folder import Card, StageName, Target, read_card
from expunge.runs.run import Run
from expunge.training.steps import Step

Make = Callable[..., Path]


def refused(read: Callable[[], object]) -> tuple[str, object]:
    with pytest.raises(ExpungeError) as caught:
        read()
    return caught.value.rule, caught.value.value


def evaluation_of(run: Path) -> Evaluation:
    found = read_evaluation(run)
    assert found is not None
    return found


# --- the card ------------------------------------------------------------------------------------------------------------


def test_a_card_is_a_mapping_with_typed_properties(run_folder: Make):
    card = read_card(run_folder(card={"before": [{"method": {"name": "uce"}}]}))
    assert (card["seed"], card.get("nothing"), "seed" in card, dict(card) == card) == (0, None, True, True)
    assert (card.id, card.status, card.method, card.seed, card.date) == ("r1", "done", "mim-mu", 0, "2026-11-28")
    assert (card.target, card.kind, card.synonyms, card.anchor) == ("neon", "style", (), None)
    assert (card.model, card.seconds, card.trainable, card.total) == ("canvas", 71.4, 98_304, 3_411_203)
    assert card.before == ({"method": {"name": "uce"}},)
    assert (card | {"seed": 7})["seed"] == 7
    assert json.loads(json.dumps(card | {}))["model"]["name"] == "canvas"


def test_an_empty_card_has_empty_properties(tmp_path: Path):
    (tmp_path / "card.json").write_text("{}")
    card = read_card(tmp_path)
    named = {name for name, of in vars(Card).items() if isinstance(of, property) and not name.startswith("_")}
    values = {name: getattr(card, name) for name in named}
    assert values.pop("id") == tmp_path.name
    assert {name: value for name, value in values.items() if value} == {}


def test_values_of_other_types_are_absent(run_folder: Make):
    run = run_folder(card={"concept": "neon", "seconds": "long", "total": True, "training": None, "seed": math.nan, "stages": "x"})
    card = read_card(run)
    assert (card.target, card.synonyms, card.seconds, card.total, card.seed) == (None, (), None, None, None)
    assert (dict(card.training), card.stages) == ({}, ())


def test_several_concepts_and_stages_have_types_too(run_folder: Make):
    targets = [{"target": "neon", "kind": "style", "synonyms": ["glow"]}, {"target": "ring", "kind": "object", "anchor": "disc"}]
    stages = [{"id": "a", "of": "uce, neon", "folder": "stages/a"}, {"id": "b", "target": "ring", "folder": "stages/b"}]
    card = read_card(run_folder(card={"concept": {"together": "sequential", "targets": targets}, "stages": stages}))
    assert card.targets == (Target("neon", "style", ("glow",), None), Target("ring", "object", (), "disc"))
    assert card.target == "neon then ring"
    assert card.stages == (StageName("a", "uce, neon"), StageName("b", "ring"))
    ring = card.of_target(1)
    assert (ring.target, ring.kind, ring.anchor, ring.targets, ring.id) == ("ring", "object", "disc", (), "r1")


def test_a_view_of_each_concept_has_its_own_rows_and_images(run_folder: Make):
    targets = [{"target": "neon", "kind": "style"}, {"target": "ring", "kind": "object"}]
    run = run_folder(card={"concept": {"targets": targets}}, pictures=prompts()[:2])
    rows = [
        {"run": "r1", "metric": "UA", "concept": "neon", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6},
        {"run": "r1", "metric": "UA", "concept": "ring", "value": 0.7, "ci_low": 0.6, "ci_high": 0.8},
        {"run": "r1", "metric": "weight_change", "concept": "neon + ring", "value": 0.1, "ci_low": 0.1, "ci_high": 0.1},
    ]
    (run / "evaluation" / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    listed = json.loads((run / "evaluation" / "pictures.json").read_text())
    named = [entry | {"concept": name} for entry, name in zip(listed, ("neon", "ring"), strict=True)]
    (run / "evaluation" / "pictures.json").write_text(json.dumps(named))
    parts = split_by_concept(read_view(run))
    assert [(p.card.target, p.beside, p.part) for p in parts] == [("neon", ("ring",), 0), ("ring", ("neon",), 1)]
    assert [[r.value for r in p.evaluation.rows] for p in parts if p.evaluation] == [[0.5, 0.1], [0.7, 0.1]]
    assert [[i.concept for i in p.evaluation.pairs] for p in parts if p.evaluation] == [["neon"], ["ring"]]


# --- a run ---------------------------------------------------------------------------------------------------------------


def test_a_run_reads_its_folder_without_its_weights(run_folder: Make):
    run = Run(run_folder(steps=3))
    assert (run.id, run.card.method, run.card["dtype"]) == ("r1", "mim-mu", "float32")
    assert run.config.startswith('target = "neon"')
    assert [(s.step, s.steps, s.grad_norm) for s in run.steps] == [(1, 3, 1.0), (2, 3, 1.0), (3, 3, 1.0)]
    assert run.steps[0].terms["forget"] == pytest.approx(4 * run.steps[0].terms["null"])  # 0.8 against 0.2
    assert run.steps[0].loss == pytest.approx(0.92)  # 0.9 exp(0) + 0.02


def test_only_a_finished_run_has_a_card_to_rely_on(run_folder: Make, tmp_path: Path):
    running = Run(run_folder(card={"status": "running"}))
    assert refused(lambda: running.card) == ("unfinished-run", "running")
    assert running.unchecked_card.status == "running"
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "card.json").write_text('{"status": "done", "id": "r"}')
    assert refused(lambda: Run(tmp_path / "short").card) == ("incomplete-card", "method")
    assert refused(lambda: Run(tmp_path).card) == ("no-run", str(tmp_path))


def test_without_config_or_log_there_is_nothing(run_folder: Make):
    folder = run_folder()
    (folder / "config.toml").unlink()
    (folder / "log.jsonl").unlink()
    assert (Run(folder).config, Run(folder).steps, read_view(folder).card.id) == ("", (), "r1")


def test_a_killed_runs_last_line_is_left_out(run_folder: Make):
    folder = run_folder(steps=5)
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')
    assert [s.step for s in Run(folder).steps] == [1, 2, 3, 4, 5]


def test_a_loss_without_terms_is_one_term(run_folder: Make):
    folder = run_folder()
    (folder / "log.jsonl").write_text('{"loss": 0.5}\n{"step": 9, "terms": {"a": 1, "b": null}, "grad_norm": "x"}\n')
    first, second = Run(folder).steps
    assert first.terms == {"loss": 0.5}
    assert (first.step, first.loss, math.isnan(first.grad_norm)) == (1, 0.5, True)
    assert (second.step, math.isnan(second.loss), second.terms["a"]) == (9, True, 1.0)
    assert isinstance(first, Step)


# --- the evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["log.jsonl", "evaluation/rows.jsonl"])
def test_a_broken_line_is_an_error(run_folder: Make, file: str):
    run = run_folder()
    lines = (run / file).read_text().splitlines()
    (run / file).write_text("\n".join([lines[0], "{broken", *lines[1:]]))
    assert refused(lambda: (read_view(run), Run(run).steps)) == ("broken-file", str(run / file))


def test_rows_are_never_dropped_in_silence(run_folder: Make):
    """A cut line of the log costs a step; a cut line of the rows would cost a number."""
    run = run_folder()
    rows = run / "evaluation" / "rows.jsonl"
    with rows.open("a") as file:
        file.write('{"run": "r1", "met')
    assert refused(lambda: read_view(run)) == ("broken-file", str(rows))
    rows.write_text('{"run": "r1", "value": 1}')
    assert refused(lambda: read_view(run)) == ("broken-row", "metric")
    rows.write_text('{"run": "r1", "metric": "UA", "value": 0.5, "ci_low": 0.6, "ci_high": 0.7}')
    assert refused(lambda: read_view(run)) == ("broken-row", "UA")


@pytest.mark.parametrize("file", ["card.json", "evaluation/evaluation.json"])
def test_json_of_another_shape_is_an_error(run_folder: Make, file: str):
    run = run_folder()
    (run / file).write_text("[1]")
    assert refused(lambda: read_view(run)) == ("broken-file", str(run / file))


def test_rows_without_numbers_are_kept_as_not_a_number(run_folder: Make):
    run = run_folder(measured=[{"run": "r1", "metric": "UA", "value": None}, {"run": "base", "metric": "UA", "value": math.inf}])
    rows = evaluation_of(run).rows
    assert all(isinstance(r, Row) for r in rows)
    assert [(r.run, math.isnan(r.value), r.n, r.probe, r.attack, r.judge) for r in rows] == [
        ("r1", True, 0, "", "none", "main"),
        ("base", True, 0, "", "none", "main"),
    ]


def test_rows_keep_all_that_they_say(run_folder: Make):
    line = {
        "run": "r1", "method": "esd", "concept": "neon", "seed": 3, "probe": "target", "metric": "UA", "value": 0.5, "ci_low": 0.25,
        "ci_high": 0.75, "n": 16, "attack": "relearn", "strength": 2.5, "judge": "second",
    }  # fmt: skip
    (found,) = evaluation_of(run_folder(measured=[line])).rows
    assert found == Row(**line)


def test_an_evaluation_that_was_not_made_is_none(run_folder: Make):
    assert read_evaluation(run_folder(evaluated=False)) is None


# --- nothing outside the folder ------------------------------------------------------------------------------------------


def test_images_outside_the_run_are_not_taken(run_folder: Make, tmp_path: Path):
    run = run_folder()
    inside = run / "evaluation" / "pictures" / "0-base.png"
    secret = tmp_path / "secret.png"
    secret.write_bytes(inside.read_bytes())
    (inside.parent / "link.png").symlink_to(secret)
    names = ["pictures/0-base.png", "../../../secret.png", str(secret), "pictures/link.png", "pictures/none.png", 3, "a\0b"]
    (run / "evaluation" / "pictures.json").write_text(json.dumps([{"base": n, "unlearned": n} for n in names]))
    pairs = evaluation_of(run).pairs
    for taken in ([p.base for p in pairs], [p.unlearned for p in pairs]):
        assert [t.name if t else None for t in taken] == ["0-base.png", None, None, None, None, None, None]


@pytest.mark.parametrize(
    "file", ["card.json", "config.toml", "log.jsonl", "evaluation/rows.jsonl", "evaluation/evaluation.json", "evaluation/pictures.json"]
)
def test_a_link_out_of_the_run_is_refused(run_folder: Make, tmp_path: Path, file: str):
    """A folder from someone else must not put this machine's files on a page."""
    run = run_folder()
    (tmp_path / "secret").write_bytes((run / file).read_bytes())
    (run / file).unlink()
    (run / file).symlink_to(tmp_path / "secret")

    def read() -> tuple[object, ...]:
        view = read_view(run)
        return view.run.config, view.run.steps

    assert refused(read) == ("path-escape", file)


@pytest.mark.parametrize("name", ["../other", "/etc", "stages/link"])
def test_a_stage_outside_the_run_is_refused(run_folder: Make, tmp_path: Path, name: str):
    run = run_folder(card={"stages": [{"id": "a", "target": "neon", "folder": name}]})
    run_folder("other")
    (run / "stages").mkdir()
    (run / "stages" / "link").symlink_to(tmp_path)
    assert refused(lambda: Run(run).stages) == ("path-escape", name)


def test_a_delta_outside_the_run_is_refused(run_folder: Make, tmp_path: Path):
    run = run_folder()
    (tmp_path / "delta.safetensors").write_bytes(b"")
    (run / "delta.safetensors").symlink_to(tmp_path / "delta.safetensors")
    assert refused(lambda: Run(run).delta()) == ("path-escape", "delta.safetensors")
