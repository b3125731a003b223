"""A suite through the command line: done once, gone on with, priced first, and named where it fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bench.conftest import ESD, stand_ins
from cli.commandline import Said, say

from expunge.bench import executors as engines
from expunge.bench import runner
from expunge.bench.config import read_suite
from expunge.bench.runner import Place, missing, read_result
from expunge.bench.suite import Unit
from expunge.storage.lock import taken

Write = Callable[..., Path]
SOURCE = Path(__file__).parents[2] / "src"
ONE_SEED = ("seeds = [0, 1]", "seeds = [0]")
NO_ESD = (ESD, "")


def bench(suite: Path, out: Path, *arguments: object) -> Said:
    return say("bench", suite, "--out", out, "--device", "cpu", *arguments)


def results(out: Path) -> dict[str, dict]:
    """What was measured, by unit; times and memory left out."""
    return {
        f.parent.name: {k: v for k, v in json.loads(f.read_text()).items() if k != "memory_bytes"} for f in out.glob("runs/*/bench.json")
    }


@pytest.fixture(scope="module")
def done(suite_file: Write, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Said]:
    """The suite, its folder and what the command said."""
    out = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        stand_ins(patch)
        return suite_file(), out, bench(suite_file(), out)


def test_a_suite_gives_rows_a_table_and_a_page(done: tuple[Path, Path, Said]):
    _, out, said = done
    assert said.code == 0, said.err
    assert "4 units, 0 done, 4 to do" in said.out
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {r["label"] for r in rows} == {"ESD, short", "uce"}
    assert {r["metric"] for r in rows if r["judge"] == "main"} == {"UA", "IRA"}
    assert [line.split("|")[1].strip() for line in (out / "table.md").read_text().splitlines()] == [
        "method", "---", "base model", "ESD, short", "uce"
    ]  # fmt: skip
    page = (out / "index.html").read_text()
    assert "Benchmark" in page
    assert "judge unfit" in page  # an interval of so few images reaches below a half


def test_what_is_done_is_not_done_again(done: tuple[Path, Path, Said], monkeypatch: pytest.MonkeyPatch):
    suite, out, _ = done
    monkeypatch.setattr(runner, "carry_out", lambda *a, **k: pytest.fail("unlearned again"))
    said = bench(suite, out)
    assert said.code == 0
    assert "4 units, 4 done, 0 to do" in said.out
    assert say("bench", suite, "--out", out, "--table").out == (out / "table.md").read_text()


def test_the_table_of_each_unit_of_some_and_of_another_judge(done: tuple[Path, Path, Said]):
    suite, out, _ = done

    def labels(*arguments: str) -> list[str]:
        lines = say("bench", suite, "--out", out, "--table", *arguments).out.splitlines()
        return [line.split("|")[1].strip() for line in lines[2:]]

    assert labels("--each", "--only", "uce") == ["base model", "uce/neon/0", "uce/neon/1"]
    assert labels("--only", "uce/neon/0") == ["base model", "uce"]
    assert "| UA |" not in say("bench", suite, "--out", out, "--table", "--seen-by", "nobody").out
    for flags in (["--each"], ["--seen-by", "main"]):
        refusal = bench(suite, out, *flags).refusal
        assert (refusal.rule, refusal.value) == ("option-without-table", flags[0])


def test_one_more_metric_is_one_more_number(
    suite_file: Write, done: tuple[Path, Path, Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is trained again, nothing that was measured is measured again, and its rows stay as they were."""
    _, out, _ = done
    shutil.copytree(out, tmp_path / "copy")
    asked = []
    measure = runner.evaluate
    monkeypatch.setattr(runner, "evaluate", lambda *a, **k: asked.append(k["metrics"]) or measure(*a, **k))
    monkeypatch.setattr("expunge.runs.unlearn._train", lambda *a: pytest.fail("trained again"))
    said = bench(suite_file(('"UA", "IRA"', '"UA", "IRA", "CRA"')), tmp_path / "copy")
    assert said.code == 0, said.err
    assert asked == [["CRA"]] * 4
    before, after = results(out), results(tmp_path / "copy")
    for name, result in after.items():
        assert result["metrics"] == ["UA", "IRA", "CRA"]
        assert [r for r in result["rows"] if r["metric"] != "CRA"] == before[name]["rows"]
        assert any(r["metric"] == "CRA" for r in result["rows"])


def test_another_protocol_is_measured_anew(suite_file: Write, done: tuple[Path, Path, Said]):
    _, out, _ = done
    [unit, *_] = read_suite(suite_file(("target_seeds = 1", "target_seeds = 2"))).units
    assert read_result(out / "runs" / unit.id)["metrics"] == ["UA", "IRA"]
    assert missing(unit, out / "runs" / unit.id) == ["UA", "IRA"]


def test_the_price_comes_first_and_a_dry_run_ends_there(suite_file: Write, tmp_path: Path):
    """ESD: 2 steps of 4 are 8 backwards a unit. Pictures: 1 step without guidance is one forward for each of 2 prompts a probe."""
    said = bench(suite_file(), tmp_path / "out", "--dry-run")
    assert said.code == 0, said.err
    lines = {cells[0]: cells[1:] for line in said.out.splitlines() if len(cells := line.replace("ESD, short", "ESD").split()) > 5}
    assert lines["ESD"][0] == lines["uce"][0] == "2"
    assert (lines["ESD"][2], lines["uce"][2]) == ("16", "0")
    assert int(lines["ESD"][1].replace(",", "")) > int(lines["uce"][1].replace(",", ""))
    assert "MiB" in said.out
    assert not (tmp_path / "out").exists()


def test_only_some_units(suite_file: Write, tmp_path: Path):
    assert "2 units" in bench(suite_file(), tmp_path, "--dry-run", "--only", "UCE").out
    assert "1 units" in bench(suite_file(), tmp_path, "--dry-run", "--only", "uce/*/1").out
    refusal = bench(suite_file(), tmp_path, "--only", "mim").refusal
    assert (refusal.rule, refusal.value) == ("no-unit", ["mim"])
    assert refusal.hint.startswith("Try --only ")


def test_a_failure_is_named_and_the_rest_goes_on(suite_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And it is tried again, and forgotten, the next time."""
    run_unit = runner.run_unit

    def fail(unit: Unit, place: Place) -> None:
        if unit.seed == 0:
            raise RuntimeError("a pipe\nburst")
        run_unit(unit, place)

    monkeypatch.setattr(runner, "run_unit", fail)
    suite = suite_file(NO_ESD)
    said = bench(suite, tmp_path)
    assert said.code == 1
    assert said.err.splitlines()[-1] == "failed: uce/neon/0: RuntimeError: a pipe burst"
    [record] = [json.loads(f.read_text()) for f in (tmp_path / "failures").iterdir()]
    assert "Traceback" in record["traceback"]
    assert len(results(tmp_path)) == 1
    monkeypatch.setattr(runner, "run_unit", run_unit)
    assert "2 units, 1 done, 1 to do" in bench(suite, tmp_path).out
    assert len(results(tmp_path)) == 2
    assert list((tmp_path / "failures").iterdir()) == []


def test_a_unit_that_another_process_is_at_is_left_to_it(suite_file: Write, tmp_path: Path):
    suite = suite_file(NO_ESD, ONE_SEED)
    [unit] = read_suite(suite).units
    with taken(tmp_path / "locks" / unit.id) as mine:
        assert mine
        said = bench(suite, tmp_path)
    assert said.code == 0
    assert "another process runs uce/neon/0" in said.err
    assert results(tmp_path) == {}
    assert bench(suite, tmp_path).code == 0
    assert len(results(tmp_path)) == 1


def test_a_units_memory_is_not_that_of_an_earlier_one():
    """The system remembers a process's peak: without forgetting it, every unit after the largest would report that one's."""
    from expunge.runs.card import peak_memory

    large = bytearray(b"1" * (200 << 20))
    reached = peak_memory(torch.device("cpu"))
    del large
    held = runner._reset_peak_memory(torch.device("cpu"))
    if held is None:
        pytest.skip("this system cannot forget a peak")
    assert peak_memory(torch.device("cpu")) < reached - (100 << 20)
    assert abs(peak_memory(torch.device("cpu")) - held) < 50 << 20


def test_a_retrained_model_is_a_unit_like_any_other(tmp_path: Path):
    suite = tmp_path / "landmark.toml"
    suite.write_text(
        'concepts = ["ring"]\nmetrics = ["UA", "IRA"]\nprotocol = {target_seeds = 1, prompts = 1}\nsampler = {steps = 1}\n'
        '[[methods]]\nname = "retrain"\ntraining = {steps = 1, batch_size = 2, drawings = 4}\n'
    )
    priced = bench(suite, tmp_path / "out", "--dry-run")
    assert any(line.split()[:2] == ["retrain", "1"] and line.split()[3] == "2" for line in priced.out.splitlines()), priced.out
    said = bench(suite, tmp_path / "out")
    assert said.code == 0, said.err
    (result,) = results(tmp_path / "out").values()
    assert {r["method"] for r in result["rows"]} == {"none", "retrain"}
    assert "1 units, 1 done, 0 to do" in bench(suite, tmp_path / "out").out
    assert bench(suite, tmp_path / "out", "--search", "--only", "retrain").refusal.rule == "no-unit"


def test_an_engine_that_is_none(suite_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refusal = bench(suite_file(), tmp_path, "--engine", "rey").refusal
    assert (refusal.rule, refusal.value, refusal.hint) == ("unknown-engine", "rey", "Try 'ray', one of serial, ray.")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'expunge[ray]'" in bench(suite_file(), tmp_path, "--engine", "ray").error
    assert "greater than 0" not in bench(suite_file(), tmp_path, "--engine", "ray", "--gpus-per-run", "-1").out


# --- killed -----------------------------------------------------------------------------------------------------------------

SLOW = """
import time
from dataclasses import dataclass
from expunge.methods.esd import ESD

@dataclass(frozen=True)
class Slow(ESD):
    def __call__(self, models, batch):
        time.sleep(0.3)
        return super().__call__(models, batch)
"""
"""A method outside the package that leaves a moment to be killed in, with a checkpoint behind and steps ahead."""

LONGER = (('name = "esd"', 'name = "slow:Slow"'), ("steps = 2, b", "steps = 6, b"), ('"UA", "IRA"', '"UA"'))


def start(suite: Path, out: Path, folder: Path, *arguments: object) -> subprocess.Popen:
    (folder / "slow.py").write_text(SLOW)
    paths = {"PYTHONPATH": f"{SOURCE}:{folder}", "EXPUNGE_CACHE": str(folder / "cache")}
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1"}
    words = ["bench", suite, "--out", out, "--device", "cpu", "--allow-code", *arguments]
    command = [sys.executable, "-c", "import sys; from expunge.cli import main; sys.exit(main())", *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def holder(out: Path, seconds: float = 240) -> tuple[str, int]:
    """A unit that has written a checkpoint, and the process that is at it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for file in out.glob("runs/*/checkpoint.safetensors"):
            unit = file.parent.name
            return unit, int((out / "locks" / unit).read_text().splitlines()[-1].split()[0])
        time.sleep(0.05)
    raise AssertionError("no unit has written a checkpoint")


def deltas(out: Path) -> dict[str, bytes]:
    return {f.parent.name: f.read_bytes() for f in out.glob("runs/*/delta.safetensors")}


@pytest.mark.slow
def test_a_killed_suite_goes_on_and_ends_the_same(suite_file: Write, tmp_path: Path):
    suite = suite_file(*LONGER)
    straight = start(suite, tmp_path / "straight", tmp_path)
    assert straight.wait(600) == 0, straight.stderr.read()
    first = start(suite, tmp_path / "killed", tmp_path)
    unit, process = holder(tmp_path / "killed")
    assert process == first.pid
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = start(suite, tmp_path / "killed", tmp_path)
    assert second.wait(600) == 0, second.stderr.read()
    assert results(tmp_path / "killed") == results(tmp_path / "straight")
    assert deltas(tmp_path / "killed") == deltas(tmp_path / "straight")
    assert [len((tmp_path / "killed" / "locks" / u).read_text().splitlines()) for u in results(tmp_path / "killed")].count(2) == 1
    assert len((tmp_path / "killed" / "locks" / unit).read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_ray_cluster_that_loses_a_worker_gives_the_same_rows(suite_file: Write, tmp_path: Path):
    """Two workers, one killed half-way: its unit alone is begun twice, and goes on from its checkpoint."""
    pytest.importorskip("ray")
    suite = suite_file(*LONGER)
    serial = start(suite, tmp_path / "serial", tmp_path)
    assert serial.wait(600) == 0, serial.stderr.read()
    ray = start(suite, tmp_path / "ray", tmp_path, "--engine", "ray", "--workers", 2)
    unit, process = holder(tmp_path / "ray")
    assert process != ray.pid
    os.kill(process, signal.SIGKILL)
    assert ray.wait(600) == 0, ray.stderr.read()
    assert len(results(tmp_path / "ray")) == 4
    assert results(tmp_path / "ray") == results(tmp_path / "serial")
    assert deltas(tmp_path / "ray") == deltas(tmp_path / "serial")
    begun = {f.name: len(f.read_text().splitlines()) for f in (tmp_path / "ray" / "locks").iterdir() if f.suffix != ".lock"}
    assert begun == {name: 2 if name == unit else 1 for name in results(tmp_path / "ray")}


def test_a_cluster_without_the_gpus_that_are_asked_for_is_refused(suite_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No Ray needed: a stand-in with its few names."""
    from types import SimpleNamespace

    stand_in = SimpleNamespace(is_initialized=lambda: True, cluster_resources=lambda: {"CPU": 2.0})
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    said = bench(suite_file(NO_ESD), tmp_path, "--engine", "ray", "--gpus-per-run", "0.25", "--device", "cpu")
    assert "0.25 of a GPU, but the cluster has 0 GPUs. Try a lower --gpus-per-run." in said.error
    assert engines.Ray(gpus=0.25).gpus == 0.25
