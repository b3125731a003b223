"""Kills commands at random moments and compares what they end with: `python benchmarks/kills.py [--kills 50] [--out FOLDER]`.

Each trial begins in a new folder with an empty cache, is killed (SIGKILL) at a moment that is uniform over the time of an uninterrupted
command, and is started again until it ends. Its files must then be those of the uninterrupted command, byte for byte, but for seconds and
memory. `unlearn`, `eval`, `audit` and `bench` take turns, on the embedded model with the smallest settings. Progress is kept in
`FOLDER/kills.jsonl`, one line for each trial, and the same command continues it. POSIX alone: commands are forks of this process, which
has imported everything once.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "EXPUNGE_PROGRESS": "off", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch

from expunge.cli import main
from expunge.models.loading import load
from expunge.storage.files import write_lines

TRAIN = ("--steps", "4", "--points", "8", "--pictures", "4", "--batch-size", "4", "--checkpoint-every", "1", "--render-batch", "2")
UNLEARN = ("unlearn", "esd", "--target", "neon", *TRAIN, "--device", "cpu", "--out", "run")
EVAL = ("--prompts", "2", "--target-seeds", "1", "--steps", "2", "--render-batch", "2", "--device", "cpu")
BUDGET = """pictures = 2

[[attacks]]
name = "relearn"
steps = 2
pictures = 4
batch_size = 4

[[attacks]]
name = "quantise"
bits = [8]
"""
SUITE = """model = "canvas"
seeds = [0]
concepts = ["neon"]
metrics = ["UA", "IRA"]
protocol = {seeds = 1, target_seeds = 1, prompts = 2}
sampler = {steps = 2, guidance_scale = 1}

[[methods]]
name = "esd"
training = {steps = 2, batch_size = 4, points = 6, pictures = 2, checkpoint_every = 1}

[[methods]]
name = "uce"
"""
VERBS: dict[str, tuple[str, ...]] = {
    "unlearn": UNLEARN,
    "eval": ("eval", "run", *EVAL),
    "audit": ("audit", "run", "--budget", "budget.toml", "--control", "none", "--device", "cpu"),
    "bench": ("bench", "suite.toml", "--out", "bench", "--device", "cpu"),
}
TIMES = ("seconds", "memory_bytes", "peak_memory_bytes", "forwards", "date")
"""Keys of JSON that an interruption changes: times, memory, and forwards for images that the cache has now."""
COLUMNS = ("seconds", "forwards", "peak memory, MiB")
"""The same in tables of Markdown."""
LEFT_OUT = ("index.html", ".lock")
"""Pages, which show seconds; files of locks."""


def results(folder: Path) -> dict[str, str]:
    """A digest of each file of results, without what is measured in seconds or bytes."""
    found = {}
    for file in sorted(f for name in ("run", "bench") for f in (folder / name).rglob("*") if f.is_file()):
        name = str(file.relative_to(folder))
        if name.endswith(LEFT_OUT) or "/locks/" in name:
            continue
        content = file.read_bytes()
        if file.suffix == ".json":
            content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
        elif file.suffix == ".md":
            content = _without_columns(content.decode()).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def _without_columns(table: str) -> str:
    """A file that is one table of Markdown, without the columns of `COLUMNS`."""
    rows = [line.split("|") for line in table.splitlines()]
    left_out = [at for at, title in enumerate(rows[0]) if title.strip() in COLUMNS] if rows else []
    return "\n".join("|".join(cell for at, cell in enumerate(row) if at not in left_out) for row in rows)


def prepared(folder: Path, run: Path | None) -> Path:
    """A new folder with what a command reads: a budget, a suite, and a finished run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "budget.toml").write_text(BUDGET)
    (folder / "suite.toml").write_text(SUITE)
    if run:
        shutil.copytree(run, folder / "run")
    return folder


def execute(folder: Path, words: tuple[str, ...], kill_after: float | None = None) -> int | None:
    """Runs a command in a fork; its exit code, or None if it was killed."""
    child = os.fork()
    if child == 0:
        _become(folder, words)
    end = None if kill_after is None else time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def _become(folder: Path, words: tuple[str, ...]) -> None:
    """Runs the command in this process, and ends it."""
    code = 1
    try:
        os.chdir(folder)
        os.environ["EXPUNGE_CACHE"] = str(folder / "cache")
        with open("said.txt", "a") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        code = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def straight(folder: Path, verb: str, run: Path | None) -> tuple[float, dict[str, str]]:
    """The seconds and the results of a command that nobody kills."""
    prepared(folder, run)
    began = time.monotonic()
    if code := execute(folder, VERBS[verb]):
        raise SystemExit(f"{verb} ended with {code}: {(folder / 'said.txt').read_text()[-2000:]}")
    return time.monotonic() - began, results(folder)


def trial(folder: Path, verb: str, run: Path | None, kill_after: float) -> tuple[bool, dict[str, str], str]:
    """Whether the command was killed, its results after it was started again, and what it said if it failed."""
    prepared(folder, run)
    was_killed = execute(folder, VERBS[verb], kill_after) is None
    code = execute(folder, VERBS[verb])
    return was_killed, results(folder), "" if code == 0 else (folder / "said.txt").read_text()[-2000:]


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def run_trials(out: Path, kills: int, note: Callable[[dict], None], done: int) -> None:
    load("canvas")  # all that a fork needs is imported now
    torch.set_num_threads(1)
    _, _ = straight(out / "base", "unlearn", None)
    bases = {verb: None if verb in ("unlearn", "bench") else out / "base" / "run" for verb in VERBS}
    expected = {verb: straight(out / f"straight-{verb}", verb, run) for verb, run in bases.items()}
    for number in range(done, kills):
        verb = list(VERBS)[number % len(VERBS)]
        seconds, wanted = expected[verb]
        moment = random.Random(number).uniform(0, seconds)
        folder = out / f"trial-{number}"
        was_killed, found, said = trial(folder, verb, bases[verb], moment)
        while not was_killed and not said:  # the machine was faster than before, and the command had ended
            moment /= 2
            was_killed, found, said = trial(folder, verb, bases[verb], moment)
        odd = differences(wanted, found)
        note({"number": number, "verb": verb, "killed after": round(moment, 3), "killed": was_killed, "differ": odd, "failed": said})
        if not odd and not said:
            shutil.rmtree(folder)


def tally(lines: list[dict]) -> list[dict]:
    """A line for each command: trials in which it was killed, and those of them that ended as an uninterrupted one does."""
    killed = {verb: [line for line in lines if line["verb"] == verb and line["killed"]] for verb in VERBS}
    equal = {verb: sum(not line["differ"] and not line["failed"] for line in of) for verb, of in killed.items()}
    return [{"verb": verb, "killed": len(of), "equal": equal[verb]} for verb, of in killed.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    parser.add_argument("--keep", type=Path, help="a file that the counts of each command are written to")
    given = parser.parse_args()
    root = given.out.resolve()
    root.mkdir(parents=True, exist_ok=True)
    kept = root / "kills.jsonl"
    before = kept.read_text().splitlines() if kept.exists() else []

    def note(line: dict) -> None:
        with kept.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    run_trials(root, given.kills, note, len(before))
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    killed, bad = sum(line["killed"] for line in lines), [line["number"] for line in lines if line["differ"] or line["failed"]]
    print(f"{len(lines)} trials, {killed} killed while at work, {len(bad)} ended otherwise than an uninterrupted command: {bad}")
    if given.keep:
        write_lines(given.keep, tally(lines))
    sys.exit(bool(bad))
