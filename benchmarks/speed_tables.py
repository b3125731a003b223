"""The tables of docs/results/speed.md, from the files of its benchmarks."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from expunge.evaluation.statistics import clustered

HERE = Path(__file__).parent
KEPT = "what must survive"
"""Among the concepts of a line of many.jsonl."""
HEADS = ("method", "batch", "textbook: calls", "samples", "ours: calls", "samples", "textbook / ours", "ours / bare", "whole run")


def lines_of(name: str) -> list[dict[str, Any]]:
    file = HERE / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Nothing is measured yet.\n"
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def ranged(values: Sequence[float]) -> str:
    """A median, with the smallest and the largest of several."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def mebibytes(octets: float) -> str:
    return f"{octets / 2**20:.1f}"


def released(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each method: the released step beside ours, of the same loss."""
    rows = []
    for line in lines:
        if line["form"] != "released":
            continue
        book, ours = line["variants"]["textbook"], line["variants"]["ours"]
        whole = f"{book['run_of_ours']:.3g} in {line['steps']} steps" if "run_of_ours" in book else "–"
        counts = [f"{of[name]}" for of in (book, ours) for name in ("calls", "samples")]
        rows.append([line["method"], str(line["batch"]), *counts, ranged(book["of_ours"]), ranged(ours["of_bare"]), whole])
    return table(HEADS, rows)


def alone(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each method: our default step at batch 1 beside the passes that it makes."""
    rows = []
    for line in lines:
        if line["form"] == "default":
            ours, bare = line["variants"]["ours"], line["variants"]["bare"]
            cost = [f"{1000 * bare['seconds']:.1f}", f"{1000 * ours['seconds']:.1f}"]
            rows.append([line["method"], str(ours["samples"]), str(ours["with_gradient"]), *cost, ranged(ours["of_bare"])])
    return table(("method", "samples", "with gradient", "bare, ms", "ours, ms", "ours / bare"), rows)


def memory(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each method in the released form: bytes of tensors that a step makes."""
    rows = []
    for line in lines:
        if line["form"] == "released":
            peaks = [mebibytes(line["variants"][name]["peak_bytes"]) for name in ("textbook", "ours", "bare")]
            rows.append([line["method"], str(line["batch"]), *peaks])
    return table(("method", "batch", "textbook, MiB", "ours, MiB", "bare, MiB"), rows)


def banks(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each method that trains on trajectories: the bank of the released form."""
    chosen = [line for line in lines if line["form"] == "released" and "run_of_ours" in line["variants"]["textbook"]]
    rows = [
        [
            line["method"],
            f"{line['bank']['samples']:,}",
            f"{line['bank']['seconds']:.1f}",
            f"{line['steps'] * line['variants']['ours']['seconds']:.1f}",
            f"{line['steps'] * line['variants']['textbook']['seconds']:.1f}",
        ]
        for line in chosen
    ]
    return table(("method", "samples for the bank", "bank, s", "our steps, s", "textbook steps, s"), rows)


def machines(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each machine and set of versions that a line was measured on."""
    seen = {json.dumps(line["machine"], sort_keys=True): line["machine"] for line in lines}
    names = ("cpu", "threads", "date", "python", "torch", "diffusers", "transformers", "expunge")
    return table(names, [[m.get(name, "–") for name in names] for m in seen.values()])


def growth(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each measured number of concepts."""
    rows = [
        [
            line["what"],
            str(line["concepts"]),
            f"{line['seconds']:.1f}",
            f"{line['processor_seconds']:.1f}",
            f"{line['peak_bytes'] / 2**30:.2f}",
        ]
        for line in sorted(lines, key=lambda line: (line["what"], line["concepts"]))
    ]
    return table(("what", "concepts", "seconds", "processor seconds", "peak of the process, GiB"), rows)


def many(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each joint run: in how many images the concepts are gone, and in how many every label remains, with intervals."""
    rows = []
    for line in lines:
        # Images of one concept resemble each other, and of what must survive those of one prompt.
        gone = [[sum(cell) for cell in zip(*of.values(), strict=True)] for name, of in line["counts"].items() if name != KEPT]
        cells = []
        for parts in (gone, line["counts"][KEPT].values()):
            share = clustered([(hits, n) for hits, n in parts])
            cells += [f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})", f"{sum(n for _, n in parts)}"]
        rows.append([line["what"], str(line["concepts"]), *cells, f"{line['backwards']:,}", f"{line['seconds']:.0f}"])
    return table(("run", "concepts", "gone, %", "images", "retained, %", "images", "samples with gradient", "seconds"), rows)


def kills(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each command: how often it was killed, and how often it then ended with equal bytes."""
    return table(
        ("command", "killed", "equal bytes at the end"), [[f"`{line['verb']}`", str(line["killed"]), str(line["equal"])] for line in lines]
    )


def startup(lines: Sequence[dict[str, Any]]) -> str:
    """A line for the slowest command that only prints, and one for each price."""
    printed = [line for line in lines if line["kind"] == "text"]
    slowest = max(printed, key=lambda line: line["cpu_seconds"], default=None)
    named = [(f"`{line['command']}`, the slowest of {len(printed)} that only print", line) for line in (slowest,) if line]
    priced = [line for line in lines if line["kind"] != "text"]
    named += [(f"`{line['command']}`{', the first of a model' * line['kind'].startswith('first')}", line) for line in priced]
    rows = [[name, f"{line['cpu_seconds']:.1f}", f"{line['seconds']:.1f}", str(line["peak_mb"])] for name, line in named]
    return table(("command", "processor seconds", "seconds", "peak memory, MB"), rows)


def estimates(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each pass or run: what was measured, and how far the estimate is from it."""
    rows = []
    for line in lines:
        short = ", ".join(f"{name} {line[name]}" for name in ("steps", "points", "pictures") if name in line)
        run = f"a run of `{line.get('run')}`" + (f" with {short}" if short else "")
        kinds = {"forward": "forward", "both": "forward and backward"}
        what = run if "run" in line else f"{kinds[line['pass']]}, batch {line['batch']}"
        off = [f"{round(100 * (line[f'estimated_{of}'] / line[of] - 1)):+d} %" for of in ("seconds", "mib")]
        rows.append([line["model"], what, f"{line['seconds']:.3g}", off[0], f"{line['mib']:,}", off[1]])
    return table(("model", "what", "processor seconds", "estimate", "resident, MiB", "estimate"), rows)


def speed_tables() -> dict[str, str]:
    """Every table of the page, by name."""
    lines, grown = lines_of("speed"), lines_of("growth")
    made = {"speed_released": released(lines), "speed_alone": alone(lines), "speed_memory": memory(lines), "speed_banks": banks(lines)}
    joint = lines_of("many")
    made |= {"speed_growth": growth(grown), "speed_many": many(joint)}
    made |= {"speed_startup": startup(lines_of("startup")), "speed_kills": kills(lines_of("kills"))}
    made |= {"speed_estimates": estimates(lines_of("estimates"))}
    curves = [line for line in lines_of("curves") if "machine" in line]
    return made | {"speed_machines": machines([*lines, *grown, *curves, *joint])}
