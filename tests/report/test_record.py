"""The record of a run: its acceptance criterion, what it holds, and that its digests find every change."""

import hashlib
import json
import math
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from cli.commandline import say as command
from raising import raises_error
from report.folders import row
from report.markup import Markup

from expunge.evaluation.criterion import parse_criterion
from expunge.evaluation.statistics import wilson
from expunge.reports.record.build import build_record
from expunge.reports.record.page import write_record
from expunge.reports.record.schema import FILE, as_json_schema, check
from expunge.reports.record.verify import verify_record
from expunge.runs.acceptance import fix_criterion, read_acceptance

Make = Callable[..., Path]
ATTACKS = ("relearn", "wording", "few-shot")


def shares(metric: str, probe: str, run: int, base: int, judge: str = "main", **more: float) -> list[dict]:
    """Rows of `run` and of `base` right images among 100."""
    return [row(metric, *wilson(base, 100), probe, "base", judge=judge), row(metric, *wilson(run, 100), probe, judge=judge, n=100, **more)]


def audit(folder: Path, attack: str, unlearned: float, control: float | None) -> None:
    best = {"value": unlearned, "low": 0.0, "high": 1.0, "pictures": 16, "strength": 1.0}
    finding = {"attack": attack, "concept": "neon", "verdict": "holds", "judge": "main", "best_unlearned": best, "best_base": best}
    finding |= {"best_retrained": None if control is None else best | {"value": control}, "threat": "the weights"}
    (folder / "audit").mkdir()
    (folder / "audit" / "audit.json").write_text(json.dumps({"findings": [finding], "failures": []}))


@pytest.mark.parametrize(
    ("text", "what", "sign", "reference", "number"),
    [
        ("UA>=0.98", "UA", ">=", "", 0.98),
        ("NRA >= -0.02", "NRA", ">=", "base", -0.02),  # a share cannot be negative: a change from the base model
        ("NRA>=base - 0.02", "NRA", ">=", "base", -0.02),
        ("FID_drawn<=base+3", "FID_drawn", "<=", "base", 3.0),
        ("relearn<=control+0.05", "relearn", "<=", "control", 0.05),
        ("few-shot<=.1", "few-shot", "<=", "", 0.1),
        ("relearn<=control", "relearn", "<=", "control", 0.0),
    ],
)
def test_conditions(text: str, what: str, sign: str, reference: str, number: float):
    [found] = parse_criterion(text, ATTACKS)
    assert (found.what, found.sign, found.reference, found.number) == (what, sign, reference, number)


@pytest.mark.parametrize("text", ["", "UA", "UA>0.9", "UA>=", "UA>=high", "nonsense>=1", "ASR<=0.1", "UA>=control", "UA>=0.9 relearn<=0.1"])
def test_what_is_no_criterion(text: str):
    with raises_error("broken-criterion"):
        parse_criterion(text, ATTACKS)


@pytest.mark.parametrize(
    ("criterion", "is_met"),
    [
        ("UA>=0.95", True),
        ("UA>=0.97", False),
        ("UA>=0.95, IRA>=-0.05", True),  # 95 against 98 of 100, paired
        ("IRA>=-0.02", False),
        ("relearn<=control+0.05", True),  # 0.20 against 0.15
        ("relearn<=control+0.04", False),
        ("wording<=0.5", False),  # not tried
        ("NRA>=-0.5", False),  # the judge does not recognise the base model's images
    ],
)
def test_whether_it_is_met(run_folder: Make, criterion: str, is_met: bool):
    paired = {"change": -0.03, "change_low": -0.08, "change_high": 0.01, "losses": 4, "gains": 1, "p": 0.375}
    measured = [*shares("UA", "target", 96, 2), *shares("IRA", "siblings", 95, 98, **paired), *shares("NRA", "siblings", 5, 5)]
    folder = run_folder(measured=measured)
    audit(folder, "relearn", 0.20, 0.15)
    record = build_record(folder, ATTACKS, accept=criterion)
    assert record["acceptance"]["is_met"] is is_met
    assert record["acceptance"]["is_fixed_before_run"] is False
    assert record["threat_model"]["not_tried"] == ["wording", "few-shot"]


def test_every_judge_must_find_it_met(run_folder: Make):
    folder = run_folder(measured=[*shares("UA", "target", 99, 2), *shares("UA", "target", 80, 2, judge="second")])
    outcomes = build_record(folder, ATTACKS, accept="UA>=0.95")["acceptance"]["outcomes"]
    assert [(o["judge"], o["is_met"]) for o in outcomes] == [("main", True), ("second", False)]


def test_a_criterion_is_fixed_before_the_run_and_once(tmp_path: Path):
    fix_criterion(tmp_path / "r", "UA>=0.9")
    fixed = read_acceptance(tmp_path / "r")
    fix_criterion(tmp_path / "r", "UA>=0.9")
    assert read_acceptance(tmp_path / "r") == fixed
    with raises_error("criterion-fixed", value="UA>=0.5"):
        fix_criterion(tmp_path / "r", "UA>=0.5")


def test_a_run_that_has_begun_can_fix_none(run_folder: Make):
    folder = run_folder()
    with raises_error("criterion-fixed"):
        fix_criterion(folder, "UA>=0.9")


def test_a_fixed_criterion_cannot_be_replaced_in_the_record(run_folder: Make):
    folder = run_folder(measured=shares("UA", "target", 99, 2))
    (folder / "acceptance.json").write_text(json.dumps({"criterion": "UA>=0.9", "fixed": "2026-11-01T00:00:00Z"}))
    record = build_record(folder, ATTACKS)
    assert (record["acceptance"]["is_met"], record["acceptance"]["fixed"]) == (True, "2026-11-01T00:00:00Z")
    with raises_error("criterion-fixed"):
        build_record(folder, ATTACKS, accept="UA>=0.5")


def test_the_digests_find_every_change(run_folder: Make, tmp_path: Path):
    folder, merged = (
        run_folder(measured=shares("UA", "target", 99, 2)),
        tmp_path / "merged",
    )
    for model in (merged, tmp_path / "base"):
        model.mkdir()
        (model / "weights.safetensors").write_bytes(b"weights")
    file, _ = write_record(build_record(folder, ATTACKS, tmp_path / "base", merged), folder)
    assert verify_record(file, tmp_path / "base", merged) == ([], [])
    assert verify_record(file) == ([], ["base", "merged"])
    (folder / "log.jsonl").write_text("{}")
    (folder / "config.toml").unlink()
    (folder / "more.txt").write_text("")
    (tmp_path / "base" / "weights.safetensors").write_bytes(b"others")
    found, _ = verify_record(file, tmp_path / "base", merged)
    assert {(d.part, d.file, d.what) for d in found} == {
        ("run", "config.toml", "missing"),
        ("run", "log.jsonl", "changed"),
        ("run", "more.txt", "new"),
        ("base", "weights.safetensors", "changed"),
    }


@pytest.fixture
def recorded(run_folder: Make, tmp_path: Path) -> Path:
    """The record of an audited run whose attack trained on a folder of images."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"image")
    folder = run_folder(measured=[*shares("UA", "target", 96, 2), row("FID_drawn", math.nan, math.nan, math.nan, "siblings")])
    (folder / "delta.safetensors").write_bytes(b"weights")
    audit(folder, "relearn", 0.20, 0.15)
    file = folder / "audit" / "audit.json"
    entry = {"name": "relearn", "label": "relearn, data images", "data": str(tmp_path / "images"), "lr": 0.1}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": 3, "budget": {"pictures": 16, "attacks": [entry]}}))
    return write_record(build_record(folder, ATTACKS, accept="UA>=0.9"), folder)[0]


def test_a_record_follows_the_schema_of_the_package(recorded: Path):
    shipped = json.loads(resources.files("expunge.reports.record").joinpath(FILE).read_text())
    assert shipped == as_json_schema(), "python -m expunge.reports.record.schema"
    jsonschema.Draft202012Validator.check_schema(shipped)
    record = json.loads(recorded.read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    jsonschema.validate(record, shipped)
    check(recorded.read_text(), recorded)
    assert record["run"]["delta"] == hashlib.sha256(b"weights").hexdigest()
    assert (record["audits"][0]["seed"], record["audits"][0]["budget"]["attacks"][0]["lr"]) == (3, 0.1)


@pytest.mark.parametrize(
    ("place", "value"),
    [("run.seed", "0"), ("files.config.toml", "abc"), ("base.size", 3), ("prompts", None), ("written", "yesterday"), ("judges.0.name", 1)],
)
def test_a_record_that_does_not_follow_the_schema_is_refused(recorded: Path, place: str, value: object):
    """By `expunge verify` and by any validator of JSON schemas."""
    record = json.loads(recorded.read_text())
    *path, last = ["files", "config.toml"] if place.startswith("files") else place.split(".")
    table = record
    for key in path:
        table = table[int(key) if key.isdigit() else key]
    table[last] = value
    recorded.write_text(json.dumps(record))
    with raises_error("broken-record", value=place):
        verify_record(recorded)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, as_json_schema())


def test_a_file_of_another_kind_is_no_record(tmp_path: Path):
    (tmp_path / "card.json").write_text('{"id": "r1"}')
    with raises_error("not-a-record", value=str(tmp_path / "card.json")):
        verify_record(tmp_path / "card.json")


def test_the_data_that_an_attack_trained_on_is_digested(recorded: Path, tmp_path: Path):
    data = {d["use"]: d for d in json.loads(recorded.read_text())["data"]}
    assert data["images of the attack relearn, data images"]["name"] == str(tmp_path / "images")
    assert verify_record(recorded) == ([], ["base"])
    (tmp_path / "images" / "b.png").write_bytes(b"another")
    [found], _ = verify_record(recorded)
    assert (found.part, found.file, found.what) == ("data", str(tmp_path / "images"), "changed")


def test_the_page_has_lines_for_a_signature_and_what_was_attacked(recorded: Path):
    page = Markup.of(recorded.with_suffix(".html"))
    assert (page.dangers, page.unclosed) == ([], [])
    for text in (
        "Reviewed by",
        "Signature",
        "Not tried: wording, few-shot",
        "Does not come back within this budget",
        "the weights",
        "seed 3",
    ):
        assert text in page.text, text


def test_the_command_line_fails_with_a_code_of_its_own(run_folder: Make):
    folder = run_folder(measured=shares("UA", "target", 96, 2))
    assert command("report", str(folder), "--record", "--accept", "UA>=0.95").code == 0
    assert command("report", str(folder), "--record", "--accept", "UA>=0.99").code == 3
    assert command("verify", str(folder / "record.json")).code == 0
    (folder / "log.jsonl").write_text("")
    assert command("verify", str(folder / "record.json")).code == 1


def test_an_unevaluated_run_has_no_record(run_folder: Make):
    with raises_error("not-evaluated"):
        build_record(run_folder(evaluated=False), ATTACKS)
