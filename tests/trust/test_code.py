"""A name that stands in a file imports nothing: outside code is run only where a person asks for it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from cli.commandline import say

import expunge
from expunge import config
from expunge.audits.budget import make_budget, read_budget
from expunge.audits.setup import conclude, prepare
from expunge.bench.config import make_suite, read_suite
from expunge.bench.suite import Unit
from expunge.cli.config_file import read_config, read_method_name
from expunge.cli.unlearn_options import COMMON
from expunge.cli.unlearn_request import resolve
from expunge.config import build
from expunge.diffusion.divergence import find_divergence
from expunge.errors import ExpungeError
from expunge.evaluation.early_stopping import Gone
from expunge.evaluation.judge_settings import JUDGES
from expunge.evaluation.judges import load_judge
from expunge.methods.config import Layer, find_method
from expunge.methods.f_divergence import FDMU
from expunge.models.sampling import Sampler
from expunge.runs.compose import compose
from expunge.runs.plan import make_plan
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

PAYLOAD = """
from pathlib import Path
from dataclasses import dataclass
import torch
from expunge.attacks.relearn import Relearn
from expunge.evaluation.judge_settings import JudgeSettings
from expunge.methods.uce import UCE

Path(__file__).with_name("ran").touch()

@dataclass(frozen=True)
class Method(UCE):
    pass

@dataclass(frozen=True)
class Attack(Relearn):
    pass

@dataclass(frozen=True)
class Bright(JudgeSettings):
    threshold: float = 0.5

    def load(self, device):
        return self

def f(r):
    return r * torch.log(r)
"""


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Says whether `payload`, a module in the working directory, was imported."""
    (tmp_path / "payload.py").write_text(PAYLOAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "payload", raising=False)
    find_divergence.cache_clear()
    return lambda: (tmp_path / "ran").exists()


def refused(read: Callable[[], object], name: str) -> None:
    with pytest.raises(ExpungeError) as error:
        read()
    assert (error.value.rule, error.value.value) == ("outside-code", name)
    assert "--allow-code" in error.value.hint


def test_an_unknown_name_is_told_the_closest():
    with pytest.raises(ExpungeError) as error:
        find_method("mim-nu")
    assert (error.value.rule, error.value.value) == ("unknown-method", "mim-nu")
    assert error.value.hint == "Try 'mim-mu'; `expunge ls methods` lists all."


CONFIG = """
[concept]
target = "neon"
[method]
name = "{method}"
{settings}
"""


def given(**flags: object) -> dict[str, object]:
    """What the command line gives where nothing is said but these."""
    return {name: default for name, (_, default) in COMMON.items()} | flags


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Path]:
    def write(method: str, settings: str = "", more: str = "") -> Path:
        (tmp_path / "config.toml").write_text(CONFIG.format(method=method, settings=settings) + more)
        return tmp_path / "config.toml"

    return write


def test_a_configuration_names_no_outside_method(ran, configured):
    file = configured("payload:Method")
    refused(lambda: read_method_name(file, allow_code=False), "payload:Method")
    assert not ran()
    assert read_method_name(file, allow_code=True) == "payload:Method"
    assert ran()


@pytest.mark.parametrize("judge", ["payload:Bright", "payload:Bright,threshold=0.2", {"name": "payload:Bright", "threshold": 0.2}])
def test_a_suite_names_no_outside_judge(ran, judge):
    table = {"concepts": ["neon"], "methods": [{"name": "uce"}], "judge": judge}
    refused(lambda: make_suite(table, "s"), "payload:Bright")
    assert not ran()
    [unit] = make_suite(table, "s", allow_code=True).units
    assert ran()
    found = load_judge(Unit.from_json(unit.to_json()).judge)
    assert (type(found).__name__, found.threshold) == ("Bright", 0.5 if judge == "payload:Bright" else 0.2)


def test_a_stopping_rule_in_a_file_names_no_outside_judge(ran):
    refused(lambda: build(Gone, {"judge": "payload:Bright"}, "gone"), "payload:Bright")
    assert not ran()
    assert all(build(Gone, {"judge": name}, "gone").judge == name for name in (*JUDGES, *(f"{name}:x" for name in JUDGES)))


def test_a_method_that_is_typed_is_ones_own_wish(ran, configured):
    assert type(resolve("payload:Method", given(config=configured("payload:Method"))).method).__name__ == "Method"
    assert ran()


def test_a_configuration_names_no_outside_divergence(ran, configured):
    flags = given(config=configured("f-dmu", 'divergence = "payload:f"'))
    refused(lambda: resolve("f-dmu", flags), "payload:f")
    assert not ran()
    assert resolve("f-dmu", flags | {"allow_code": True}).method == FDMU(divergence="payload:f")


def test_a_divergence_that_is_typed_is_ones_own_wish(ran, configured):
    assert resolve("f-dmu", given(config=configured("f-dmu"), divergence="payload:f")).method == FDMU(divergence="payload:f")


@pytest.mark.parametrize(
    ("table", "name"),
    [('{ name = "payload:Method" }', "payload:Method"), ('{ name = "f-dmu", divergence = "payload:f" }', "payload:f")],
)
def test_a_configuration_names_no_outside_method_that_goes_before(ran, configured, table: str, name: str, tmp_path: Path):
    flags = given(config=configured("uce", more=f"[[before]]\nmethod = {table}\n"))
    refused(lambda: resolve("uce", flags), name)
    (tmp_path / "first.toml").write_text(f"method = {table}\n")
    refused(lambda: resolve("uce", given(target=["neon"], before=["first.toml"])), name)
    assert not ran()
    assert len(resolve("uce", flags | {"allow_code": True}).before) == 1
    assert len(resolve("uce", given(target=["neon"], before=["first.toml"], allow_code=True)).before) == 1


def test_a_configuration_has_only_the_rules_of_the_package(ran, configured):
    file = configured("esd", more='[stop]\nrule = "payload:f"\n')
    assert read_config(file)["stop"] == {"rule": "payload:f"}
    with pytest.raises(ExpungeError):
        resolve("esd", given(config=file, allow_code=True))
    assert not ran()


SUITE = """
concepts = ["neon"]
{more}
[[methods]]
name = "{method}"
{settings}
"""


@pytest.mark.parametrize(
    ("method", "settings", "name"),
    [
        ("payload:Method", "", "payload:Method"),
        ("f-dmu", 'divergence = "payload:f"', "payload:f"),
        ("uce", 'before = ["payload:Method"]', "payload:Method"),
        ("uce", 'before = [{ method = { name = "f-dmu", divergence = "payload:f" } }]', "payload:f"),
        ("uce", '[audit]\nbudget = "budget.toml"', "payload:Attack"),
    ],
)
def test_a_suite_names_no_outside_code(ran, tmp_path: Path, method: str, settings: str, name: str):
    (tmp_path / "budget.toml").write_text('[[attacks]]\nname = "payload:Attack"\n')
    (tmp_path / "suite.toml").write_text(SUITE.format(method=method, settings=settings, more=""))
    (tmp_path / "like.toml").write_text('like = "suite.toml"\n')
    refused(lambda: read_suite("suite.toml"), name)
    refused(lambda: read_suite("like.toml"), name)
    assert not ran()
    assert len(read_suite("suite.toml", allow_code=True).units) == 1
    assert ran()


def test_a_budget_names_no_outside_attack(ran, tmp_path: Path):
    (tmp_path / "budget.toml").write_text('[[attacks]]\nname = "payload:Attack"\n')
    refused(lambda: read_budget("budget.toml"), "payload:Attack")
    refused(lambda: make_budget({"attacks": [{"name": "payload:Attack"}]}, "mine"), "payload:Attack")
    assert not ran()
    assert [e.name for e in read_budget("budget.toml", allow_code=True).entries] == ["payload:Attack"]


def test_an_attack_that_is_typed_is_ones_own_wish(ran):
    assert [e.name for e in read_budget("quick").only(["payload:Attack"]).entries] == ["payload:Attack"]


def test_an_argument_in_python_is_ones_own_wish(ran):
    before = {"method": {"name": "payload:Method"}}
    plan = make_plan(tiny.model(), tiny.concept(), "f-dmu", divergence="payload:f", before=before)
    assert plan.by == "payload:Method then f-dmu"


def test_a_table_is_a_files_unless_it_is_said_otherwise(ran):
    refused(lambda: Layer.of({"method": {"name": "payload:Method"}}), "payload:Method")
    refused(lambda: config.build(FDMU, {"divergence": "payload:f"}, "f-dmu"), "payload:f")
    assert not ran()


@pytest.fixture
def poisoned(ran, tmp_path: Path) -> Run:
    """A run whose card says that outside code made it."""
    made = unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run", cache=Store(tmp_path / "store"))
    card = json.loads((made.folder / "card.json").read_text())
    (made.folder / "card.json").write_text(json.dumps(card | {"method": "payload:Method"}))
    return Run(made.folder)


def test_a_card_is_composed_without_its_code(ran, poisoned: Run, tmp_path: Path):
    other = unlearn(tiny.model(), tiny.concept("ring"), "uce", out=tmp_path / "other", cache=Store(tmp_path / "store"))
    refused(lambda: compose([poisoned, other], model=tiny.model()), "payload:Method")
    assert not ran()
    made = compose([poisoned, other], tmp_path / "both", tiny.model(), allow_code=True)
    assert ran()
    assert made.card["method"] == "payload:Method"


def test_a_card_is_audited_and_reported_without_its_code(ran, poisoned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judge = type("Judge", (), {"name": "main", "weights": "", "chance": lambda self, concept: 0.0})
    monkeypatch.setattr("expunge.audits.setup.judges_for", lambda *a: [judge()])
    battery = prepare(poisoned, model=tiny.model(), sampler=Sampler(1, 1.0), cache=Store(tmp_path / "store"))
    assert {cell.side.method for cell in battery.cells} == {"payload:Method", "none"}
    assert conclude(battery).done == ()
    assert expunge.report(poisoned.folder, tmp_path / "report.html").is_file()
    assert not ran()


def test_every_verb_that_reads_names_has_the_flag(ran, configured, poisoned: Run, tmp_path: Path):
    (tmp_path / "suite.toml").write_text(SUITE.format(method="payload:Method", settings="", more=""))
    (tmp_path / "budget.toml").write_text('[[attacks]]\nname = "payload:Attack"\n')
    for command in (
        ["unlearn", "--config", configured("payload:Method"), "--dry-run"],
        ["bench", "suite.toml", "--table"],
        ["audit", poisoned.folder, "--budget", "budget.toml", "--dry-run"],
        ["compose", poisoned.folder, poisoned.folder],
    ):
        assert "Try --allow-code" in say(*command).error
        assert not ran()
    said = say("bench", "suite.toml", "--table", "--allow-code")
    assert (said.code, ran()) == (0, True), said.err
