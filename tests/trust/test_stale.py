"""A command that is repeated after an edit of the code does not return what the old code made."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
import tiny
import torch
from edited import copied, edit
from raising import raises_error

from expunge.attacks import ATTACKS
from expunge.audits.runner import attack_code
from expunge.bench import identity, runner
from expunge.bench.config import make_suite
from expunge.canvas.control import SHIPPED
from expunge.config import to_toml
from expunge.errors import ExpungeError
from expunge.evaluation.protocol import Protocol
from expunge.evaluation.protocol import plan as shots_of
from expunge.evaluation.rendering import locate_images
from expunge.models.sampling import Sampler
from expunge.runs.compose import compose
from expunge.runs.plan import make_plan
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.identity import image_key


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from copied(tmp_path_factory, monkeypatch)


def made(out: Path | None = None, method: str = "uce", store: Path | None = None, **more: object) -> Run:
    given = {"training": tiny.TRAINING} if method != "uce" else {}
    return unlearn(tiny.model(), tiny.concept(), method, out=out, cache=store, **given | more)


def test_an_edited_method_is_another_run_in_another_folder(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    first = made()
    assert made().folder == first.folder
    edit(package / "methods" / "uce.py")
    again = made()
    assert again.folder != first.folder
    assert (again.card["code"] != first.card["code"], again.id == again.folder.name) == (True, True)
    assert (again.folder / "delta.safetensors").read_bytes() == (first.folder / "delta.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["uce", "esd"])
def test_a_folder_of_the_same_run_by_other_code_is_refused(package: Path, tmp_path: Path, method: str):
    first = made(tmp_path / "run", method, tmp_path / "store")
    before = {file: file.read_bytes() for file in first.folder.rglob("*") if file.is_file()}
    edit(package / "methods" / f"{method}.py")
    with pytest.raises(ExpungeError) as refused:
        made(tmp_path / "run", method, tmp_path / "store")
    assert (refused.value.rule, refused.value.value) == ("other-code", first.card["code"])
    assert "--out" in refused.value.hint
    assert {file: file.read_bytes() for file in first.folder.rglob("*") if file.is_file()} == before


def test_a_killed_run_does_not_go_on_with_other_code(package: Path, tmp_path: Path):
    """Its first steps were the old code's."""
    first = made(tmp_path / "run", "esd", tmp_path / "store")
    card = json.loads((first.folder / "card.json").read_text()) | {"status": "running"}
    (first.folder / "card.json").write_text(json.dumps(card))
    edit(*(package / "training").glob("*.py"))
    with pytest.raises(ExpungeError) as refused:
        made(tmp_path / "run", "esd", tmp_path / "store")
    assert refused.value.rule == "other-code"


def test_an_older_run_is_known_by_its_configuration(tmp_path: Path):
    """Cards were once without code, and ids of the request alone."""
    plan = make_plan(tiny.model(), tiny.concept(), "uce")
    (tmp_path / "card.json").write_text(json.dumps({"id": plan.request, "status": "done"}))
    (tmp_path / "config.toml").write_text(to_toml(plan.tables))
    with pytest.raises(ExpungeError) as refused:
        made(tmp_path)
    assert (refused.value.rule, refused.value.value) == ("other-code", None)


def test_another_request_is_refused_as_before(tmp_path: Path):
    made(tmp_path / "run", store=tmp_path / "store")
    with raises_error("folder-of-another-run", ANY, "--out"):
        made(tmp_path / "run", store=tmp_path / "store", seed=1)


def test_an_older_run_is_read_as_it_is():
    assert "code" not in Run(SHIPPED).card
    assert Run(SHIPPED).delta()


def test_a_later_stage_is_another_where_the_code_of_an_earlier_one_is(package: Path):
    def stages() -> list[tuple[str, str, str]]:
        plan = make_plan(tiny.model(), tiny.concept(), "esd", training=tiny.TRAINING, before=["uce"])
        return [(stage.code, stage.id, stage.request) for stage in plan.stages]

    before = stages()
    edit(package / "methods" / "uce.py")
    same = [[one == other for one, other in zip(*pair, strict=True)] for pair in zip(before, stages(), strict=True)]
    assert same == [[False, False, True], [True, False, True]]


def test_seeds_follow_from_the_request_and_not_from_the_code(package: Path, tmp_path: Path):
    """A later stage of low rank begins from random factors: were they another's, no edit could be compared with what was before."""
    given = {"before": ["uce"], "variant": "xattn-lora", "store": tmp_path / "store"}
    first = made(tmp_path / "first", "esd", **given)
    edit(package / "methods" / "uce.py", package / "methods" / "esd.py")
    again = made(tmp_path / "again", "esd", **given)
    assert first.id != again.id
    assert all(torch.equal(value, again.delta()[name]) for name, value in first.delta().items())


@pytest.mark.parametrize(("file", "changed"), [("stable_diffusion.py", True), ("stable_diffusion_3.py", False), ("families.py", False)])
def test_a_run_covers_the_family_of_its_model_alone(package: Path, file: str, changed: bool):
    def code() -> str:
        return make_plan(tiny.model(), tiny.concept(), "esd", training=tiny.TRAINING).code

    before = code()
    edit(package / "models" / file)
    assert (code() != before) is changed


def test_a_composed_run_covers_the_code_that_composes(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = [unlearn(tiny.model(), tiny.concept(c), "uce", out=tmp_path / c, cache=Store(tmp_path / "store")) for c in ("neon", "ring")]
    monkeypatch.chdir(tmp_path)
    first = compose(runs, model=tiny.model())
    assert compose(runs, model=tiny.model()).id == first.id
    edit(package / "runs" / "compose.py")
    again = compose(runs, model=tiny.model())
    assert (again.id != first.id, again.card["code"] != first.card["code"]) == (True, True)


SUITE = {"concepts": ["neon"], "methods": [{"name": "uce"}, {"name": "esd"}, {"name": "uce", "before": ["esd"], "label": "both"}]}


@pytest.mark.parametrize(
    ("pattern", "changed"),
    [
        ("methods/uce.py", [True, False, True]),
        ("methods/esd.py", [False, True, True]),
        ("training/l*.py", [False, True, True]),
        ("models/*.py", [True, True, True]),  # which of them is not known before the model is loaded
        ("evaluation/**/*.py", [False, False, False]),
    ],
)
def test_a_unit_of_a_bench_covers_the_code_of_its_run(package: Path, pattern: str, changed: list[bool]):
    before = [unit.id for unit in make_suite(SUITE, "s").units]
    edit(*package.glob(pattern))
    after = [unit.id for unit in make_suite(SUITE, "s").units]
    assert [one != other for one, other in zip(before, after, strict=True)] == changed


def test_a_retrained_unit_covers_the_code_that_trains_the_canvas(package: Path):
    suite = {"concepts": ["neon"], "methods": [{"name": "retrain"}]}
    before = make_suite(suite, "s").units[0].id
    edit(package / "canvas" / "training" / "stage.py")
    assert make_suite(suite, "s").units[0].id != before


@pytest.mark.parametrize(("pattern", "is_measured"), [("evaluation/metrics/accuracy.py", False), ("attacks/*.py", True)])
def test_rows_count_only_for_the_code_that_measures(package: Path, tmp_path: Path, pattern: str, is_measured: bool):
    [unit] = make_suite({"concepts": ["neon"], "methods": [{"name": "uce"}], "metrics": ["UA"]}, "s").units
    runner._write(tmp_path, {"measured_as": identity.measured_as(unit), "metrics": ["UA"]})
    assert runner.missing(unit, tmp_path) == []
    edit(*package.glob(pattern))
    assert (runner.missing(unit, tmp_path) == []) is is_measured


@pytest.mark.parametrize(
    ("pattern", "is_attacked"), [("attacks/relearn.py", False), ("audits/runner.py", False), ("attacks/weight_perturbation.py", True)]
)
def test_attacks_count_only_for_the_code_that_attacks(package: Path, tmp_path: Path, pattern: str, is_attacked: bool):
    (tmp_path / "b.toml").write_text('[[attacks]]\nname = "relearn"\n')
    suite = {"concepts": ["neon"], "methods": [{"name": "uce"}], "audit": {"budget": str(tmp_path / "b.toml"), "control": "none"}}
    [unit] = make_suite(suite, "s").units
    runner._write(tmp_path, {"attacked_as": identity.attacked_as(unit)})
    assert runner.is_attacked(unit, tmp_path)
    edit(*package.glob(pattern))
    assert runner.is_attacked(unit, tmp_path) is is_attacked


@pytest.mark.parametrize(
    ("pattern", "changed"),
    [
        ("attacks/relearn.py", {"relearn"}),
        ("attacks/ring_a_bell.py", {"ring-a-bell"}),
        ("training/l*.py", {"relearn"}),
        ("evaluation/judges*", {"relearn", "ring-a-bell"}),
        ("evaluation/metrics/*.py", set()),
        ("methods/uce.py", set()),
    ],
)
def test_a_cell_of_an_audit_covers_its_attack(package: Path, pattern: str, changed: set[str]):
    def codes() -> dict[str, str]:
        return {name: attack_code(ATTACKS[name](), ()) for name in ("relearn", "ring-a-bell")}

    before = codes()
    edit(*(f for found in package.glob(pattern) for f in (found.glob("*.py") if found.is_dir() else [found])))
    assert {name for name, code in codes().items() if code != before[name]} == changed


def test_an_image_is_cached_for_its_device_its_torch_and_its_code(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, seen = tiny.model(), []

    def look() -> None:
        shots = shots_of(tiny.concept(), Protocol(prompts=1))
        files = locate_images(replace(tiny.session(model, Store(tmp_path)), render_batch=8), shots, Sampler(1, 1.0), "weights")
        seen.append((json.dumps(image_key(model), sort_keys=True), files[0]))

    look()
    look()
    assert seen[0] == seen[1]
    monkeypatch.setattr(torch, "__version__", "99.0")
    look()
    monkeypatch.setattr(type(model), "device", property(lambda self: torch.device("mps")))
    look()
    edit(*(package / "diffusion").glob("*.py"))
    look()
    assert len({key for key, _ in seen}) == len({file for _, file in seen}) == 4
