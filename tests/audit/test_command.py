"""`expunge audit` from the command line."""

import json
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest
from audit.conftest import SAMPLER
from audit.invented import audit as invented
from audit.toys import CALLS
from cli.commandline import say

from expunge.attacks import ATTACKS
from expunge.audits.budget import make_budget, read_budget
from expunge.audits.command import command_of

TOYS = """
pictures = 8
[[attacks]]
name = "audit.toys:Undo"
label = "undo"
[[attacks]]
name = "audit.toys:Nothing"
label = "nothing"
"""


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    file = tmp_path / "toys.toml"
    file.write_text(TOYS)
    return file


@pytest.fixture
def audit(made, toys, tmp_path, monkeypatch):
    """`expunge audit` with the tiny model and the toys; later arguments have their way."""
    import tiny

    model = tiny.model()
    model.__class__ = type("Small", (type(model),), {"default_sampler": SAMPLER})
    monkeypatch.setattr("expunge.training.session.load", lambda *given, **named: model)
    return lambda *given: say(
        "audit", made.folder, "--budget", toys, "--out", tmp_path / "audit", "--device", "cpu", "--allow-code", *given
    )


def test_the_page_says_how_to_repeat_it(audit, made, toys, tmp_path):
    audit("--attack", "nothing", "--seed", "1")
    page = (tmp_path / "audit" / "index.html").read_text()
    assert f"expunge audit {made.folder} --budget {toys} --allow-code --attack nothing --seed 1 --control none" in page


def test_what_is_the_runs_own_need_not_be_repeated(made, tmp_path):
    def told(**given: object) -> str:
        of = replace(invented(made.folder / "audit-seed-1"), card=made.card, seed=1, sources={"unlearned": made.folder}, **given)
        return command_of(of, read_budget("quick"))

    usual = f"expunge audit {made.folder} --budget quick --seed 1 --control none"
    assert told(model=made.card["model"]["name"]) == usual
    assert told(model="own/model") == f"{usual} --model own/model"
    assert told(folder=tmp_path) == f"{usual} --out {tmp_path}"


def test_a_built_in_budget_is_repeated_by_its_options(made):
    of = replace(invented(made.folder / "audit"), card=made.card, sources={"unlearned": made.folder})
    budget = read_budget("standard").only(["p4d", "relearn"])
    assert budget.is_selected_by_flags
    assert "--budget standard --attack p4d --attack relearn" in command_of(of, budget)


def test_a_budget_made_in_python_may_have_the_name_of_a_built_in_one(made):
    of = replace(invented(made.folder / "audit"), card=made.card, sources={"unlearned": made.folder})
    assert not of.budget.is_selected_by_flags  # "quick", of other attacks
    own = make_budget({"pictures": 2, "attacks": [{"name": "few-shot"}]}, "quick")
    assert not own.is_selected_by_flags
    words = shlex.split(command_of(of, own))
    assert words[3:6] == ["--budget", str(of.folder / "budget.toml"), "--seed"]


def test_a_budget_that_was_read_and_changed_is_repeated_from_the_audits_folder(made, toys):
    of = replace(invented(made.folder / "audit"), card=made.card, sources={"unlearned": made.folder})
    builtin, own = read_budget("quick"), read_budget(toys, allow_code=True)
    assert builtin.is_selected_by_flags
    assert own.is_selected_by_flags
    assert not replace(builtin, pictures=builtin.pictures + 1).is_selected_by_flags
    words = shlex.split(command_of(of, replace(own, pictures=own.pictures + 1)))
    assert words[3:6] == ["--budget", str(of.folder / "budget.toml"), "--allow-code"]
    toys.unlink()
    assert not own.is_selected_by_flags


@pytest.mark.parametrize("flags", [(), ("--attack", "relearn"), ("--budget", "gone.toml")])
def test_a_budget_that_is_no_file_is_repeated_from_the_audits_folder(made, flags):
    of = replace(invented(made.folder / "audit-own-seed-0"), card=made.card, sources={"unlearned": made.folder})
    budget = replace(of.budget, name="own", flags=flags)
    words = shlex.split(command_of(of, budget))
    assert words[2:5] == [str(made.folder), "--budget", str(of.folder / "budget.toml")]
    assert not {"--attack", "gone.toml"} & set(words)


def test_a_dry_run_prices_everything_and_touches_nothing(audit, tmp_path, own_cache):
    before = sorted(own_cache.rglob("*"))
    said = audit("--dry-run")
    assert said.code == 0, said.err
    assert "toys: 4 cells, 0 done, 4 to do" in said.out
    lines = [line.split() for line in said.out.splitlines()]
    assert ["undo", "unlearned", "2", "31", "5"] in [line[:5] for line in lines]  # 7 + 2 readings of 8 and 4 pictures of a step
    assert ["nothing", "base", "3", "16", "0"] in [line[:5] for line in lines]
    assert any(line[:3] == ["total", "94", "10"] for line in lines)
    assert CALLS == []
    assert not (tmp_path / "audit").exists()
    assert sorted(own_cache.rglob("*")) == before


def test_an_audit_ends_with_verdicts_and_a_page_and_is_not_done_twice(audit, tmp_path):
    said = audit()
    assert said.code == 0, said.err
    assert "Comes back" in said.out
    assert "Does not come back within this budget" in said.out
    assert "100% [68%, 100%]" in said.out
    assert "No retrained control" in said.out
    assert f"page    {tmp_path / 'audit' / 'index.html'}" in said.out
    assert "Recovery: yes, by Undo, 8 of 8" in said.out
    assert (tmp_path / "audit" / "rows.jsonl").is_file()
    begun = len(CALLS)
    again = audit()
    assert "4 cells, 4 done, 0 to do" in again.out
    assert len(CALLS) == begun
    assert "nothing" in audit("--attack", "nothing").out


def test_an_attack_that_fails_is_named_and_the_rest_is_done(audit, toys):
    toys.write_text(TOYS + '[[attacks]]\nname = "audit.toys:Impossible"\nlabel = "impossible"\n')
    said = audit()
    assert said.code == 1
    assert "failed: impossible on unlearned, neon: The attack needs <i>nothing</i>. Try to leave it out." in said.err
    assert "Comes back" in said.out


def test_a_control_of_something_else_is_refused(audit, made, tmp_path):
    assert audit("--control", made.folder).raised.rule == "not-retrained"
    card = json.loads((made.folder / "card.json").read_text())
    other = tmp_path / "retrained"
    other.mkdir()
    card |= {
        "method": "retrain",
        "id": "retrain-dots",
        "concept": {"target": "dots", "kind": "style", "synonyms": [], "vocabulary": "canvas"},
    }
    (other / "card.json").write_text(json.dumps(card))
    raised = audit("--control", other).raised
    assert (raised.rule, raised.value) == ("control-of-others", "dots")


def test_a_retrained_control_is_attacked_too(audit, made, tmp_path):
    """Its delta is the run's: the same model, so that Undo does no more here than there."""
    card = json.loads((made.folder / "card.json").read_text()) | {"method": "retrain", "id": "retrain-neon"}
    other = tmp_path / "retrained"
    other.mkdir()
    (other / "card.json").write_text(json.dumps(card))
    (other / "delta.safetensors").write_bytes((made.folder / "delta.safetensors").read_bytes())
    said = audit("--control", other)
    assert said.code == 0, said.err
    assert "6 cells" in said.out
    assert "Comes back or is learnt anew" in " ".join(said.out.split())
    assert "No retrained control" not in said.out
    about = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert about["control"] == "retrain-neon"
    assert about["findings"][0]["asr_retrained"]["value"] == 1


def test_prices_are_the_same_without_the_libraries_of_models(tmp_path, monkeypatch):
    """What the first price of a model kept serves the next, of evaluations and audits too."""
    run = tmp_path / "run"
    assert say("unlearn", "uce", "--target", "neon", "--out", run, "--device", "cpu").code == 0
    of_audit = ("audit", run, "--attack", "relearn", "--attack", "ddim-inversion", "--control", "none", "--device", "cpu", "--dry-run")
    asked = ("eval", run, "--budget", "quick", "--device", "cpu", "--dry-run"), of_audit
    first = [say(*words).out for words in asked]
    monkeypatch.setattr("expunge.models.outline._assemble", lambda *given: pytest.fail("the libraries were used"))
    assert [say(*words).out for words in asked] == first
    assert "120 to generate" in first[0]
    assert ["ddim-inversion", "base", "2", "1,152"] in [line.split()[:4] for line in first[1].splitlines()]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--budget", "quik"], ["'quik'", "Try 'quick'"]),
        (["--budget", "/nowhere.toml"], ["/nowhere.toml"]),
        (["--attack", "relern"], ["'relern' is not an attack.", "Try 'relearn'"]),
        (["--control", "/nowhere"], ["/nowhere", "card.json"]),
        (["--auxiliary", "/nowhere", "--attack", "relearn"], ["'/nowhere'", "Try base, retain"]),
        (["--seed", "one"], ["--seed", "'one'"]),
    ],
    ids=" ".join,
)
def test_mistakes(audit, arguments: list[str], parts: list[str]):
    line = audit(*arguments).error
    assert all(part in line for part in parts), line


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_listed_and_shown_with_its_settings(name):
    shown = " ".join(say("show", name).out.split())
    assert shown.startswith(f"{name}: {ATTACKS[name].__name__}; the attacker has {ATTACKS[name].threat}")
    assert all(f.name in shown for f in fields(ATTACKS[name]))
    assert f"expunge audit RUN --attack {name}" in shown
    assert any(line.split()[:1] == [name] for line in say("ls", "attacks").out.splitlines())


def test_an_unfinished_run_is_refused(tmp_path):
    assert "card.json" in say("audit", tmp_path).error
