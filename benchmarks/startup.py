"""Seconds and memory until a command answers that only prints: `python benchmarks/startup.py > benchmarks/startup.jsonl`.

Each command is a process of its own, called `REPEATS` times; the one with the fewest seconds of the processor counts, for others share
the machine. What lists, describes and helps should take less than a second, and a dry run less than three seconds and 1 GB. The first
dry run of a model reads its configurations with diffusers and transformers, counts its operations and measures the speed of the device,
which takes longer. It is measured with an empty cache as "first dry run". Importing torch alone is measured beside them.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path

import psutil

REPEATS = 3
TEXT = (
    "--version", "--help", "unlearn --help", "unlearn mim-mu --help", "ls methods", "ls metrics", "ls concepts --vocabulary general",
    "ls runs", "show mim-mu", "show UA", "show relearn", "show neon",
)  # fmt: skip
DRY = (
    "unlearn mim-mu --target neon --dry-run", "unlearn esd --target neon --dry-run", "eval RUN --budget quick --dry-run",
    "audit RUN --budget quick --dry-run", 'unlearn mim-mu --model SD15 --target "Van Gogh style" --dry-run',
)  # fmt: skip
TORCH = "import torch"
RUN, SD15 = "RUN", "SD15"
"""In a command: a run of the closed form UCE on the canvas; a folder with the configurations of Stable Diffusion 1.5 at 256 px."""


def write_configurations(folder: Path) -> None:
    """The configurations of Stable Diffusion 1.5, and no weights."""
    from architectures import stable_diffusion_1_5

    pipeline = stable_diffusion_1_5(256, device="meta")
    pipeline.save_config(folder)
    for name, part in pipeline.components.items():
        if part is not None:
            (part.save_config if hasattr(part, "save_config") else getattr(part, "config", part).save_pretrained)(folder / name)


def measure(arguments: str, cache: str, folders: Mapping[str, Path]) -> dict[str, object]:
    """Wall-clock seconds, seconds of the processor and the peak resident memory of one call."""
    began = time.perf_counter()
    words = [str(folders.get(word, word)) for word in shlex.split(arguments)]
    environment = os.environ | {"EXPUNGE_CACHE": cache}
    called = ["-c", TORCH] if arguments == TORCH else ["-m", "expunge", *words]
    process = subprocess.Popen([sys.executable, *called], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = {"seconds": round(time.perf_counter() - began, 2), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2)}
    return {"command": arguments if arguments == TORCH else f"expunge {arguments}", **seconds, "peak_mb": round(peak / 1e6)}


def main() -> None:
    machine = f"{platform.system()} {platform.machine()}, {psutil.cpu_count(logical=False)} cores"
    with tempfile.TemporaryDirectory() as cache:
        folders = {RUN: Path(cache) / "run", SD15: Path(cache) / "sd15"}
        # In another process, for the peak of a command counts from when it was forked from this one.
        writer = get_context("spawn").Process(target=write_configurations, args=(folders[SD15],))
        writer.start()
        writer.join()
        measure(f"unlearn uce --target neon --out {RUN}", f"{cache}/of-run", folders)
        for kind, commands in (("text", TEXT), ("first dry run", DRY), ("dry run", DRY), ("import", (TORCH,))):
            for arguments in commands:
                place = str(Path(cache) / arguments) if kind.startswith("first") else cache
                tries = [measure(arguments, place, folders) for _ in range(1 if kind.startswith("first") else REPEATS)]
                fastest = min(tries, key=lambda one: float(str(one["cpu_seconds"])))
                print(json.dumps({"kind": kind, **fastest, "machine": machine}), flush=True)


if __name__ == "__main__":
    main()
