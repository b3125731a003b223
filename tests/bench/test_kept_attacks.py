"""What benchmarks/attacked.py keeps of audits, and what it makes of it."""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from expunge.metrics.intervals import wilson
from expunge.types import Row

BUDGET = 'pictures = 20\n[[attacks]]\nname = "relearn"\nlr = 5e-4\n[[attacks]]\nname = "relearn"\nlr = 1e-3\n'
SLOW, FAST = "relearn, lr 0.0005", "relearn, lr 0.001"


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return import_module("attacked")


def audit(folder: Path, rows: list[Row]) -> Path:
    folder.mkdir(parents=True)
    (folder / "audit.json").write_text(json.dumps({"run": "esd-neon-1", "control": "retrain-neon-1", "seed": 0}))
    (folder / "budget.toml").write_text(BUDGET)
    (folder / "rows.jsonl").write_text("".join(json.dumps(asdict(r)) + "\n" for r in rows))
    return folder


def row(run: str, attack: str, strength: float, hits: int, judge: str = "main") -> Row:
    return Row(run, "", "neon", 0, "target", "ASR", *wilson(hits, 20), 20, attack, strength, judge)


def test_every_reading_of_every_model_is_kept_with_the_settings_it_was_made_under(attacked, tmp_path):
    ladder = [
        row(run, SLOW, at, 3, judge) for run in ("esd-neon-1", "base", "retrain-neon-1") for judge in ("main", "second") for at in (0, 25)
    ]
    found = list(attacked.curves(audit(tmp_path / "esd-neon-0-abc" / "audit", [*ladder, row("esd-neon-1", FAST, 0, 7)])))
    assert [c.of for c in found] == ["esd-neon-0-abc", "untouched", "retrained", "esd-neon-0-abc"]
    assert [c.attack["lr"] for c in found] == [5e-4, 5e-4, 5e-4, 1e-3]
    assert found[0].readings == tuple({"strength": at, "n": 20, "hits": {"main": 3, "second": 3}} for at in (0, 25))
    assert len({c.key for c in found}) == 4


def curve(attacked, of: str, *hits: int, concept: str = "neon"):
    readings = [{"strength": float(at), "n": 100, "hits": {"main": h}} for at, h in zip((0, 25, 1000), hits, strict=True)]
    return attacked.Curve(of, concept, 0, {"name": "relearn"}, tuple(readings))


def relearned(attacked, *curves):
    return attacked.Relearned(curves, [SimpleNamespace(id=f"{label}-1", label=label) for label in ("ESD", "CA", "DiMUM")])


def test_the_model_and_its_control_are_compared_each_at_its_best(attacked):
    found = relearned(attacked, *(curve(attacked, *c) for c in (("ESD-1", 0, 90, 40), ("retrained", 0, 5, 10), ("untouched", 100, 99, 98))))
    assert found.apart("ESD").value == pytest.approx(0.9 - 0.1)
    assert "| DiMRA brings back what ESD removed (2512.03564) | more than 5 points above the retrained model | 80.0 points" in "\n".join(
        found.claims()
    )
    assert "| ESD | 1 | 0 | 90 | 40 |" in found.table()
    assert "| ESD | 90 |" in found.each()


@pytest.mark.parametrize(
    ("hits", "outcome"), [(0, "holds"), (90, "does not hold"), (13, "holds in the mean, the interval reaches past the bar")]
)
def test_dimum_is_to_stay_within_five_points_of_the_control(attacked, hits, outcome):
    def said(*concepts: str) -> str:
        mine = [curve(attacked, "DiMUM-1", 0, hits, 0, concept=c) for c in concepts]
        found = relearned(attacked, *mine, *(curve(attacked, "retrained", 0, 10, 10, concept=c) for c in concepts))
        [line] = [text for text in found.claims() if "DiMUM removed in whitened" in text]
        return line

    assert said("neon", "ring", "dots").endswith(f"| {outcome} |")
    assert "| of too few runs: " in said("neon", "ring")


def test_what_was_not_gone_before_has_nothing_to_come_back_from(attacked):
    found = relearned(
        attacked,
        *(curve(attacked, "ESD-1", left, 60, 60, concept=concept) for concept, left in (("neon", 10), ("ring", 11))),
        *(curve(attacked, "retrained", 0, 20, 20, concept=concept) for concept in ("neon", "ring")),
        curve(attacked, "untouched", 100, 100, 100),
        curve(attacked, "untouched", 100, 100, 100, concept="ring"),
    )
    assert [c.concept for c in found.gone("ESD")] == ["neon"]
    assert "| ESD | 60 | not gone before |" in found.each()
    assert len(found.beside("ESD")) == 1


def test_nothing_is_said_without_the_control_of_the_same_concept(attacked):
    found = relearned(attacked, curve(attacked, "ESD-1", 0, 60, 60), curve(attacked, "retrained", 0, 20, 20, concept="ring"))
    assert next(text for text in found.claims() if "ESD" in text).endswith("| – | not measured |")
