"""The benchmark of steps: what the released loops call, what is counted, and the tables of the page."""

import importlib
from pathlib import Path

import pytest
import tiny
import torch

from expunge.concepts.groups import Several

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.parametrize(
    ("method", "calls", "samples", "with_gradient"),
    [
        ("esd", 2 + 3, 2 * 2 + 3, 1),  # two guided steps of the sampler, two calls of the teacher, one of the student
        ("sdd", 2 + 2, 2 * 2 + 2, 1),
        ("ca", 2, 2, 1),
        ("f-dmu", 2, 2, 1),
        ("salun", 3, 3, 3),
        ("erase-diff", 2 * 2 + 3, 2 * 2 + 3, 2 * 2 + 3),
        ("spm", 2 + 3 + 1, 2 * 2 + 3 * 2 + 2, 2),
    ],
)
def test_a_released_step_makes_these_calls(method: str, calls: int, samples: int, with_gradient: int):
    textbook, speed = importlib.import_module("textbook"), importlib.import_module("speed")
    step = textbook.STEPS[method](textbook.Setting(tiny.model(), "neon style", "a ring", 1, sampling=4))
    tally = speed.Tally()
    with tally.counting():
        step(0.5)
    assert (tally.calls, tally.samples, tally.with_gradient) == (calls, samples, with_gradient)


def test_the_peak_is_that_of_tensors_alive_at_once():
    speed = importlib.import_module("speed")
    w = torch.randn(100, 100, requires_grad=True)

    def one_after_another() -> None:
        for _ in range(10):
            torch.ones(100, 100) + 1

    def backward() -> None:
        (w @ w).relu().sum().backward()  # on the way back relu's result and two gradients are alive

    assert speed.peak_of(one_after_another) == 2 * 4 * 100 * 100
    assert 3 * 40_000 <= speed.peak_of(backward) < 4 * 40_000
    assert speed.peak_of(lambda: w.view(-1).view(100, 100)) == 0


def test_variants_take_turns():
    speed, seen = importlib.import_module("speed"), []
    steps = {name: lambda share, name=name: seen.append((name, share)) for name in "ab"}
    seconds = speed.in_turn(steps, repetitions=2, block=2)
    assert seen == 2 * [("a", 0.25), ("a", 0.75), ("b", 0.25), ("b", 0.75)]
    assert {name: len(of) for name, of in seconds.items()} == {"a": 2, "b": 2}


def test_the_tables_give_the_median_and_the_range_of_ratios():
    tables = importlib.import_module("speed_tables")
    cost = {"seconds": 0.5, "calls": 3, "samples": 4, "with_gradient": 1, "peak_bytes": 2**20, "of_bare": [1.0, 1.25, 1.1]}
    book = cost | {"of_ours": [20.0, 10.0, 30.0], "run_of_ours": 9.5}
    line = {"method": "esd", "form": "released", "batch": 1, "steps": 200, "bank": {"seconds": 2.0, "samples": 1100, "calls": 50}}
    lines = [line | {"variants": {"textbook": book, "ours": cost, "bare": cost}}]
    assert "| esd | 1 | 3 | 4 | 3 | 4 | 20 (10 to 30) | 1.1 (1 to 1.25) | 9.5 in 200 steps |" in tables.released(lines)
    assert "| esd | 1,100 | 2.0 | 100.0 | 100.0 |" in tables.banks(lines)
    assert "| esd | 1 | 1.0 | 1.0 | 1.0 |" in tables.memory(lines)
    assert tables.alone(lines) == "Nothing is measured yet.\n"


def test_the_architectures_are_pipelines_that_a_run_can_use():
    from expunge.models.loading import load

    architectures = importlib.import_module("architectures")
    model = load(architectures.small())
    assert model.encode(["a portrait of Van Gogh"]).states.shape == (1, 77, 32)
    assert len(architectures.small_xl().tokenizer_2) == architectures.VOCABULARY


def test_an_image_of_a_joint_run_is_right_where_the_concept_is_gone_or_all_the_rest_is_there():
    many = importlib.import_module("many")
    several = Several.of([tiny.concept("neon"), tiny.concept("ring")])
    wanted = many.images(several, gone=2, kept=1)
    prompts = [shown.prompt for shown in wanted if shown.concept == many.KEPT]
    assert len(prompts) == len(set(prompts)) > 0
    assert not any("neon" in prompt or "ring" in prompt.split() for prompt in prompts)
    gone = next(shown for shown in wanted if shown.prompt == "a ring")
    assert (gone.is_right({"object": "disc", "style": "neon"}), gone.is_right({"object": "ring"})) == (True, False)
    kept = many.Image(many.KEPT, "a disc in dots style", {"object": "disc", "style": "dots"}, 0)
    assert kept.is_right({"object": "disc", "style": "dots"})
    assert not kept.is_right({"object": "disc", "style": "plain"})
    assert many.counts(wanted, [shown.index == 0 for shown in wanted])["ring"]["a ring"] == [1, 2]


def test_the_share_of_a_joint_run_counts_images_and_groups_them():
    tables = importlib.import_module("speed_tables")
    counts = {"neon": {"neon style": [3, 3], "a disc in neon style": [2, 2]}, "ring": {"a ring": [5, 5]}, tables.KEPT: {"a disc": [9, 10]}}
    line = {"what": "many-concepts", "concepts": 2, "backwards": 1536, "seconds": 60.2, "counts": counts}
    assert "| many-concepts | 2 | 100.0 (72.2 to 100.0) | 10 | 90.0 (59.6 to 98.2) | 10 | 1,536 | 60 |" in tables.many([line])


def test_only_trials_that_were_killed_count():
    kills = importlib.import_module("kills")
    good = {"verb": "eval", "killed": True, "differ": [], "failed": ""}
    lines = [good, good | {"killed": False}, good | {"differ": ["run/evaluation.json"]}, good | {"verb": "bench", "failed": "Error"}]
    told = {line["verb"]: (line["killed"], line["equal"]) for line in kills.tally(lines)}
    assert told == {"unlearn": (0, 0), "eval": (2, 1), "audit": (0, 0), "bench": (1, 0)}


def test_results_of_killed_commands_are_compared_without_seconds_and_memory(tmp_path):
    kills = importlib.import_module("kills")

    def results(seconds: str, share: str, memory: str) -> dict[str, str]:
        (tmp_path / "bench").mkdir(exist_ok=True)
        table = f"| method | UA | seconds | peak memory, MiB |\n|---|---|---|---|\n| esd | {share} | {seconds} | {memory} |\n"
        (tmp_path / "bench" / "table.md").write_text(table)
        return kills.results(tmp_path)

    first = results("1.6", "75.0", "35")
    assert kills.differences(first, results("1.5", "75.0", "36")) == []
    assert kills.differences(first, results("1.6", "75.1", "35")) == ["bench/table.md"]


def test_the_preset_of_many_concepts_costs_in_proportion():
    lines = importlib.import_module("speed_tables").lines_of("curves")
    found = [line for line in lines if (line["figure"], line["way"]) == ("concepts", "counted")]
    assert [line["x"] for line in found] == [1, 2, 5, 10, 20, 50, 100]
    assert {line["forwards"] / line["x"] for line in found} == {found[0]["forwards"]}


def test_a_bank_on_the_disk_is_as_large_as_its_tensors():
    """Headers of files and the times of trajectories come to a tenth at most, or to a few kilobytes."""
    lines = [line for line in importlib.import_module("speed_tables").lines_of("curves") if line["figure"] == "images"]
    counted = [line for line in lines if (line["way"], line["model"]) == ("counted", "canvas")]
    each = {line["what"]: line["bytes"] / line["x"] for line in counted}
    assert all(line["bytes"] == line["x"] * each[line["what"]] for line in counted)
    measured = [line for line in lines if line["way"] == "measured"]
    assert {line["what"] for line in measured} == set(each)
    assert all(0 < line["bytes"] - line["x"] * each[line["what"]] < 4096 + 0.1 * line["bytes"] for line in measured)


def test_every_figure_draws_what_was_measured():
    panels = importlib.import_module("growth_figures").panels()
    assert set(panels) == {"growth-steps", "growth-concepts", "growth-images", "growth-bank"}
    assert all(lines and all(line["y"] > 0 for line in lines) for found in panels.values() for *_, lines in found)
