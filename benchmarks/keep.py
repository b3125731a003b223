"""What a benchmark measured, as one file that goes into the history: `python benchmarks/keep.py runs/bench/canvas benchmarks/canvas.jsonl`.

Takes the numbers and the costs of every finished unit, without weights and pictures, beside those that the file has already. With
`--back` the other way: the units of the file count as measured in the folder, and `expunge bench` does only what is missing; a unit
that is to be measured further, or attacked, is trained again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from expunge.bench.runner import RESULT
from expunge.bench.suite import Unit
from expunge.bench.summary import Measured, as_measured
from expunge.concepts.tables import target_of
from expunge.runs.folder import Card
from expunge.storage.files import write_atomically

COSTS = ("id", "method", "seconds", "forwards", "backwards", "steps_done", "trainable", "total", "device", "versions")
"""What is kept of a card."""
ATTACKED = ("attacked_as", "findings")
"""What attacks found is kept by attacked.py."""


def pack(folder: Path, file: Path) -> int:
    units = {unit["unit"]: unit for unit in map(json.loads, file.read_text().splitlines())} if file.exists() else {}
    for result in sorted((folder / "runs").glob(f"*/{RESULT}")):
        measured = json.loads(result.read_text())
        if measured.get("rows"):
            card = json.loads((result.parent / "card.json").read_text())
            measured = {key: value for key, value in measured.items() if key not in ATTACKED}
            kept = {key: card[key] for key in (*COSTS, "status", "stages") if key in card}
            of = measured.pop("of")
            units[result.parent.name] = {"unit": result.parent.name, "of": of, "card": kept, "bench": measured}
    write_atomically(file, "".join(json.dumps(units[name]) + "\n" for name in sorted(units)).encode())
    return len(units)


def unpack(folder: Path, file: Path) -> int:
    units = [json.loads(line) for line in file.read_text().splitlines()]
    for unit in units:
        within = folder / "runs" / unit["unit"]
        if not (within / RESULT).exists():
            # Not "done": there are no weights, and whoever asks for another number has them made again.
            write_atomically(within / "card.json", (json.dumps(unit["card"] | {"status": "numbers"}) + "\n").encode())
            write_atomically(within / RESULT, (json.dumps(unit["bench"]) + "\n").encode())
    return len(units)


def kept(file: Path, units: Sequence[Unit]) -> list[Measured]:
    """The units of a suite that a file has under their label, concept and seed, measured by the suite's protocol, in the suite's order.

    A unit's id covers the code that makes and measures it, so that nothing old is taken for new in a folder. What is kept in the history
    was measured by the code of its time; that code changed the digits of a result only where the golden numbers say so.
    """
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    by = {(line["of"]["label"], line["of"]["concept"], line["of"]["seed"]): line for line in lines}
    found = []
    for unit in units:
        line = by.get((unit.label, target_of(unit.concept), unit.seed))
        protocol = line["bench"]["measured_as"]["protocol"] if line else {}
        if line and all(protocol.get(key, value) == value for key, value in unit.protocol.items()):
            found.append(as_measured(unit, Path(line["unit"]), line["bench"], Card(line["card"])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the suite's folder")
    parser.add_argument("file", type=Path, help="JSON lines, a unit each")
    parser.add_argument("--back", action="store_true", help="from the file into the folder")
    given = parser.parse_args()
    print((unpack if given.back else pack)(given.folder, given.file), "units")


if __name__ == "__main__":
    main()
