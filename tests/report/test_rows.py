"""Reading run folders: tolerant of what is absent, strict with what is broken."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge.errors import ExpungeError
from expunge.reports.run_folder import read

Make = Callable[..., Path]


def test_a_killed_runs_last_line_is_left_out(run_folder: Make):
    run = run_folder(steps=5)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')
    assert [s.step for s in read(run).steps] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("file", ["log.jsonl", "evaluation/rows.jsonl"])
def test_a_broken_line_is_an_error(run_folder: Make, file: str):
    run = run_folder()
    lines = (run / file).read_text().splitlines()
    (run / file).write_text("\n".join([lines[0], "{broken", *lines[1:]]))
    with pytest.raises(ExpungeError, match=rf"{Path(file).name} is not"):
        read(run)


def test_rows_are_never_dropped_in_silence(run_folder: Make):
    """A cut line of the log costs a step; a cut line of the rows would cost a number."""
    run = run_folder()
    with (run / "evaluation" / "rows.jsonl").open("a") as file:
        file.write('{"run": "r1", "met')
    with pytest.raises(ExpungeError, match=r"rows\.jsonl is not"):
        read(run)
    (run / "evaluation" / "rows.jsonl").write_text('{"run": "r1", "value": 1}')
    with pytest.raises(ExpungeError, match="a row names its run and its metric"):
        read(run)


def test_json_of_another_shape_is_an_error(run_folder: Make):
    run = run_folder()
    (run / "card.json").write_text("[1]")
    with pytest.raises(ExpungeError, match=r"card\.json holds a JSON object"):
        read(run)


def test_values_of_other_types_are_absent(run_folder: Make):
    run = run_folder(card={"concept": "neon", "seconds": "long", "total": True, "training": None, "seed": math.nan, "synonyms": 3})
    card = read(run).card
    assert (card.target, card.synonyms, card.seconds, card.total, card.training, card.seed) == (None, (), None, None, {}, None)


def test_rows_without_numbers_are_kept_as_not_a_number(run_folder: Make):
    run = run_folder(measured=[{"run": "r1", "metric": "UA", "value": None}, {"run": "base", "metric": "UA", "value": math.inf}])
    evaluation = read(run).evaluation
    assert evaluation is not None
    assert [(r.run, math.isnan(r.value), r.n, r.probe, r.attack, r.judge) for r in evaluation.rows] == [
        ("r1", True, None, "", "none", "main"),
        ("base", True, None, "", "none", "main"),
    ]


def test_pictures_outside_the_run_are_not_taken(run_folder: Make, tmp_path: Path):
    run = run_folder()
    inside = run / "evaluation" / "pictures" / "0-base.png"
    secret = tmp_path / "secret.png"
    secret.write_bytes(inside.read_bytes())
    (inside.parent / "link.png").symlink_to(secret)
    listed = ["pictures/0-base.png", "../../../secret.png", str(secret), "pictures/link.png", "pictures/none.png", 3]
    (run / "evaluation" / "pictures.json").write_text(json.dumps([{"base": path} for path in listed]))
    evaluation = read(run).evaluation
    assert evaluation is not None
    assert [p.base for p in evaluation.pictures] == [inside.resolve(), None, None, None, None, None]
