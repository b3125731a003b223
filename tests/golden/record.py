"""Shows that a change of the code changes no number.

    python tests/golden/record.py            # computes every case, compares it with golden.json, and lists differences
    python tests/golden/record.py --write    # records instead

See README.md beside this file.
"""

import os
import sys
from pathlib import Path

# Set before the imports that read them. The path selects this source, even if another version is installed.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "MPLBACKEND": "Agg",
}
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import argparse
import json
import math
import multiprocessing
import re
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from fnmatch import fnmatch
from typing import Any

import torch
from cases import FILE, Numbers, Place, cases

GOLDEN = Path(__file__).with_name("golden.json")
FLOAT = re.compile(r"-?(0x[01]\.[0-9a-f]+p[+-]\d+|inf)|nan")
"""The format of `float.hex`."""
ROUGHLY = ("log.loss", "log.terms", "card.")
"""Prefixes of the keys that are compared across machines: losses, and a run's counts. Other numbers depend on images, which rounding
changes."""
TOLERANCE = 1e-4
"""Largest relative difference by the rounding of another machine; for a term, relative to the loss of its step."""
COARSE = ("*bf16*", "*variational*")
"""Cases that are not compared across machines. Half precision rounds more, and the terms of a critic nearly cancel."""


def machine() -> dict[str, Any]:
    """The machine's properties that decide the last digits."""
    lines = dict(line.split(":", 1) for line in _cpuinfo().splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in lines.items()}
    model = " ".join(named.get(key, "") for key in ("model name", "cpu family", "model", "stepping")).strip()
    return {
        "cpu": f"{model} {torch.backends.cpu.get_cpu_capability()}".strip(),
        "torch": f"{torch.__version__} {torch.version.git_version[:10]}",
        "threads": torch.get_num_threads(),
    }


def _cpuinfo() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text().split("\n\n")[0] if file.exists() else ""


# --- computing -----------------------------------------------------------------------------------------------------------------


def _begin() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)


def compute(name: str, root: str) -> tuple[str, Numbers | str, float]:
    """Compute a case in its own folder. Returns its name, its numbers or a traceback, and its duration in seconds."""
    began, folder = time.monotonic(), Path(root) / re.sub(r"\W+", "-", name)
    folder.mkdir()
    os.environ.pop("WORLD_SIZE", None)
    torch.manual_seed(0)
    try:
        found: Numbers | str = cases()[name](Place(folder, Path(root) / "shared"))
    except Exception:
        found = traceback.format_exc()
    return name, found, time.monotonic() - began


def computed(names: Sequence[str], jobs: int) -> Iterator[tuple[str, Numbers | str, float]]:
    """Compute cases in this process, or in several."""
    with tempfile.TemporaryDirectory(prefix="expunge-golden-") as root:
        if jobs == 1:
            _begin()
            yield from (compute(name, root) for name in names)
            return
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as pool:
            for done in as_completed([pool.submit(compute, name, root) for name in names]):
                yield done.result()


# --- comparing -----------------------------------------------------------------------------------------------------------------


def differences(recorded: Numbers, found: Numbers, exact: bool = True, files: bool = False) -> list[str]:
    """The differences of a case's numbers, one line for each key. Keys that were not recorded are not compared.

    Args:
        exact: Compare to the last bit. Otherwise compare losses up to `TOLERANCE`, and counts, and no digests.
        files: Compare the digests of whole files too.
    """
    lines = []
    for key, value in recorded.items():
        if (key == FILE and not files) or not (exact or key.startswith(ROUGHLY)):
            continue
        if key not in found:
            lines.append(f"{key}: is missing")
            continue
        scales = [_number(loss) for loss in recorded.get("log.loss", [])] if key.startswith("log.") else []
        unequal = list(_unequal(value, found[key], "", exact, scales))
        if unequal:
            more = f" and {len(unequal) - 1} more: {', '.join(where for where, _ in unequal[1:])}" if len(unequal) > 1 else ""
            lines.append(f"{key}{unequal[0][0]}: {unequal[0][1]}{more}")
    return lines


def _is_comparable(name: str, recorded: Numbers) -> bool:
    """Whether a case can be compared on another machine."""
    return any(key.startswith(ROUGHLY) for key in recorded) and not any(fnmatch(name, pattern) for pattern in COARSE)


def _unequal(old: Any, new: Any, where: str, exact: bool, scales: Sequence[float]) -> Iterator[tuple[str, str]]:
    """Where and how two values differ. `scales` are the numbers to which the differences of a list's rows are relative."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key in new:
                yield from _unequal(value, new[key], f"{where}.{key}", exact, scales)
            else:
                yield f"{where}.{key}", "is missing"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _unequal(one, other, f"{where}[{at}]", exact, scales[at : at + 1] if scales and not where else scales)
    elif old != new and not (not exact and _digest(old) and _digest(new)):
        if _float(old) and _float(new):
            one, other = _number(old), _number(new)
            relative = abs(other - one) / (max([abs(one), *map(abs, scales)]) or 1.0)
            if exact or not relative <= TOLERANCE:
                yield where, f"{one!r} is {other!r}, a difference of {relative:.2g}"
        else:
            yield where, f"{_short(old)} is {_short(new)}"


def _float(value: Any) -> bool:
    return isinstance(value, str) and FLOAT.fullmatch(value) is not None


def _number(value: Any) -> float:
    return float.fromhex(value) if _float(value) else math.nan


def _digest(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("sha256:")


def _short(value: Any) -> str:
    text = value[:19] if _digest(value) else json.dumps(value)
    return text if len(text) < 100 else f"{text[:100]}..."


# --- the file ------------------------------------------------------------------------------------------------------------------


def to_text(golden: dict[str, Any]) -> str:
    """JSON with one line for each key of each case, so that differences of the file are readable."""
    blocks = []
    for name, numbers in golden["cases"].items():
        inner = ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in numbers.items())
        blocks.append(f"  {json.dumps(name)}: {{\n{inner}\n  }}")
    return f'{{\n "machine": {json.dumps(golden["machine"])},\n "cases": {{\n' + ",\n".join(blocks) + "\n }\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare every number with those recorded, or record them.")
    parser.add_argument("--write", action="store_true", help="record; with --only, these cases alone, and keep the others")
    parser.add_argument("--only", metavar="PATTERN", action="append", help="cases by name, * for any; may repeat")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--files", action="store_true", help="compare the digests of whole files too")
    parser.add_argument("--roughly", action="store_true", help="compare as on another machine: losses up to rounding, and no digest")
    parser.add_argument("--golden", metavar="FILE", type=Path, default=GOLDEN, help="the recorded numbers (default golden.json)")
    parser.add_argument("--list", action="store_true", help="list the cases")
    given = parser.parse_args()
    golden = json.loads(given.golden.read_text()) if given.golden.exists() else {"machine": {}, "cases": {}}
    known = list(cases()) if given.write else list(dict.fromkeys([*golden["cases"], *cases()]))
    names = [n for n in known if not given.only or any(fnmatch(n, p) for p in given.only)]
    if given.list:
        print("\n".join(names))
        return 0
    if not names:
        parser.error(f"No case matches --only {', '.join(given.only or [])}. Try --list.")
    _begin()
    here, began = machine(), time.monotonic()
    exact = not given.roughly and here == golden["machine"]
    if not (given.write or exact):
        names = [n for n in names if _is_comparable(n, golden["cases"].get(n, {}))]
        print(f"Compares up to rounding, and no digests: recorded on {golden['machine']}, this is {here}", flush=True)
    found: dict[str, Numbers] = {}
    gone = [n for n in names if n not in cases()]
    wrong = len(gone)
    for name in gone:
        print(f"{name}: is no longer a case")
    for count, (name, numbers, seconds) in enumerate(computed([n for n in names if n not in gone], given.jobs), 1):
        differing: list[str] = []
        if isinstance(numbers, str):
            differing = numbers.strip().splitlines()
        elif given.write:
            found[name] = numbers
        elif name not in golden["cases"]:
            print(f"{name}: is not recorded, add it with --write --only {name!r}")
        else:
            differing = differences(golden["cases"][name], numbers, exact, given.files)
        wrong += bool(differing)
        print(f"{count:3d}/{len(names)} {seconds:6.1f} s  {name}{'  DIFFERS' if differing else ''}", flush=True)
        for line in differing:
            print(f"    {line}", flush=True)
    if given.write and not wrong:
        if given.only and golden["machine"] not in ({}, here):
            parser.error(f"{given.golden} was recorded on {golden['machine']}, this is {here}. Try to record all cases.")
        kept = golden["cases"] if given.only else {}
        merged = {n: v for n in cases() if (v := found.get(n, kept.get(n))) is not None}
        given.golden.write_text(to_text({"machine": here, "cases": merged}))
    seconds = time.monotonic() - began
    print(f"{len(names)} cases in {seconds:.0f} s: {wrong or 'none'} {'failed' if given.write else 'differ'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
