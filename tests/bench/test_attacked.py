"""A suite whose runs are attacked: each once, beside its controls, and what came of it in the tables."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from audit.toys import CALLS
from bench.conftest import stand_ins
from cli.commandline import Said, say

from expunge.bench import runner
from expunge.bench import summary as rows
from expunge.bench.config import read_suite
from expunge.bench.summary import CONTROL

Write = Callable[..., Path]
ONE_SEED = ("seeds = [0, 1]", "seeds = [0]")
TOYS = """
pictures = 4
[[attacks]]
name = "audit.toys:Undo"
[[attacks]]
name = "audit.toys:Nothing"
"""


def bench(suite: Path, out: Path, *arguments: object) -> Said:
    return say("bench", suite, "--out", out, "--device", "cpu", "--allow-code", *arguments)


@pytest.fixture(autouse=True)
def uncalled() -> None:
    CALLS.clear()


@pytest.fixture(scope="module")
def plain(suite_file: Write, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite's folder, nothing attacked."""
    out = tmp_path_factory.mktemp("attacked") / "out"
    with pytest.MonkeyPatch.context() as patch:
        stand_ins(patch)
        assert bench(suite_file(ONE_SEED), out).code == 0
    return out


@pytest.fixture
def done(plain: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(plain, tmp_path / "out")


@pytest.fixture
def control(plain: Path, tmp_path: Path) -> Path:
    """A run that passes for a retrained one."""
    folder = shutil.copytree(next(plain.glob("runs/uce-neon-0-*")), tmp_path / "control")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"method": "retrain", "id": "control"}))
    return folder


def audited(suite_file: Write, tmp_path: Path, text: str = TOYS, control: Path | str = "") -> Path:
    (tmp_path / "toys.toml").write_text(text)
    return suite_file(ONE_SEED, ("[search]", f'[audit]\nbudget = "{tmp_path / "toys.toml"}"\ncontrol = "{control}"\n\n[search]'))


def test_runs_that_are_there_are_attacked_and_nothing_else_is_done_again(
    suite_file: Write, done: Path, control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {f.parent.name: json.loads(f.read_text())["rows"] for f in done.glob("runs/*/bench.json")}
    monkeypatch.setattr(runner, "_measure", lambda *_: pytest.fail("measured again"))
    suite = audited(suite_file, tmp_path, control=control)
    said = bench(suite, done)
    assert said.code == 0, said.err
    assert {f.parent.name: json.loads(f.read_text())["rows"] for f in done.glob("runs/*/bench.json")} == before
    # Two attacks: on the base model once whatever the method, on ESD's run, and on the control, whose weights are those of UCE's
    # run: what is known of them is not asked again.
    assert sorted(CALLS) == ["nothing on base"] + ["nothing on unlearned"] * 2 + ["undo on base"] + ["undo on unlearned"] * 2
    assert len(list(done.glob("runs/*/audit-toys/audit.json"))) == 2
    assert "2 done, 0 to do" in bench(suite, done).out
    assert len(CALLS) == 6

    everything = [json.loads(line) for line in (done / "rows.jsonl").read_text().splitlines()]
    successes = [r for r in everything if r["metric"] == "ASR"]
    assert {r["attack"] for r in successes} == {"audit.toys:Undo", "audit.toys:Nothing"}
    assert len([r for r in successes if r["run"] == CONTROL]) == len([r for r in successes if r["run"] == "base"]) == 4
    first, second = (done / "table.md").read_text().split("\n\n")
    assert "ASR" not in first
    assert second.splitlines()[0] == "| method | units | ASR after audit.toys:Nothing | ASR after audit.toys:Undo |"
    assert [line.split(" | ")[0] for line in second.splitlines()[2:]] == ["| base model", f"| {CONTROL}", "| ESD, short", "| uce"]
    assert CONTROL not in first
    page = (done / "index.html").read_text()
    assert 'id="attacks"' in page
    assert "retrained without the concept" in page


def test_of_settings_the_one_that_brings_most_is_shown_also_where_the_verdict_rests_on_another():
    """As few-shot relearning from twenty pictures, which teaches any model, beside five."""
    seen = {"value": 1.0, "low": 0.8, "high": 1.0, "strength": 50.0, "pictures": 16}
    fewer = {"value": 0.5, "low": 0.3, "high": 0.7}
    finding = {"attack": "few-shot", "concept": "neon", "judge": "main", "strength": 10.0, "pictures": 16, "asr": fewer}
    sides = {"best_unlearned": seen, "best_base": seen | {"strength": 5.0}, "best_retrained": None}
    mine, base = rows._attacked(finding | sides, "run", read_suite("canvas").units[0])
    assert (mine.run, mine.value, mine.n, mine.strength) == ("run", 1.0, 16, 50.0)
    assert (base.run, base.strength) == ("base", 5.0)


def test_a_run_without_a_control_says_so(suite_file: Write, done: Path, tmp_path: Path):
    bench(audited(suite_file, tmp_path), done, "--only", "uce/neon/0")
    assert CONTROL not in (done / "table.md").read_text()
    assert "No retrained model was attacked" in (done / "index.html").read_text()


def test_an_attack_that_cannot_be_made_is_named_and_the_numbers_stay(suite_file: Write, done: Path, tmp_path: Path):
    text = TOYS + '[[attacks]]\nname = "audit.toys:Impossible"\n'
    said = bench(audited(suite_file, tmp_path, text), done, "--only", "uce/neon/0")
    assert said.code == 1
    assert "failed: uce/neon/0: audit.toys:Impossible on unlearned, neon: The attack needs" in said.err
    assert bench(suite_file(ONE_SEED), done).code == 0


def test_attacks_are_priced_for_every_unit_and_controls_once(suite_file: Write, done: Path, control: Path, tmp_path: Path):
    """Undo costs 7 and 5; beside it 4 pictures of a step under plain prompts, 4 after it, 2 x 4 after nothing."""
    said = bench(audited(suite_file, tmp_path, control=control), done, "--dry-run")
    rows = [line.replace("base model", "base-model").split() for line in said.out.splitlines()]
    lines = {row[0]: row for row in rows if row[:1] in (["base-model"], ["uce"])}
    each = 7 + 4 + 4 + 2 * 4
    assert lines["base-model"][1:3] == [str(2 * each), str(2 * 5)]
    assert lines["uce"][3] == str(5)
    assert CALLS == []


def test_what_another_budget_or_protocol_brought_is_not_pooled_with_this_one(suite_file: Write, done: Path, tmp_path: Path):
    bench(audited(suite_file, tmp_path), done, "--only", "uce")
    assert "ASR" in (done / "table.md").read_text()
    assert "ASR" not in bench(suite_file(ONE_SEED), done, "--table").out  # the suite without its attacks, in the same folder
    other = audited(suite_file, tmp_path, TOYS.replace("pictures = 4", "pictures = 2"))
    assert "2 units, 0 done, 2 to do" in bench(other, done, "--dry-run").out
    again = suite_file(ONE_SEED, ("target_seeds = 1", "target_seeds = 2"))
    bench(again, done, "--only", "uce")
    assert [line.split("|")[1].strip() for line in bench(again, done, "--table").out.splitlines()[2:]] == ["base model", "uce"]


def test_an_attack_with_nothing_to_try_is_left_out_and_the_unit_is_done(suite_file: Write, done: Path, tmp_path: Path):
    text = TOYS + '[[attacks]]\nname = "audit.toys:Pointless"\n'
    suite = audited(suite_file, tmp_path, text)
    assert bench(suite, done, "--only", "uce/neon/0").code == 0
    assert "1 done, 0 to do" in bench(suite, done, "--only", "uce/neon/0").out
    [told] = done.glob("runs/uce-*/audit-toys/audit.json")
    assert {f["label"] for f in json.loads(told.read_text())["failures"]} == {"audit.toys:Pointless"}


def test_a_control_that_never_saw_something_else_is_refused(suite_file: Write, control: Path, tmp_path: Path):
    suite = audited(suite_file, tmp_path, control=control)
    suite.write_text(suite.read_text().replace('concepts = ["neon"]', 'concepts = ["neon", "dots"]').replace('"outline", ', ""))
    raised = bench(suite, tmp_path / "out").raised
    assert (raised.rule, raised.value) == ("control-of-others", "neon")
