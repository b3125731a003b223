"""Measures the structure of the source: `python benchmarks/structure.py`.

Prints how many names lie at the top of the package, how long files are, which functions have many parameters, which public names are
defined twice, and how many files and functions one `expunge unlearn mim-mu` and one `expunge audit` of the embedded model execute.
`--static` leaves the two runs out. `--source FOLDER` measures another checkout's `src`.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

MANY = 8
"""Parameters from which a function outside the public API is listed."""

TRACED = """
import json, sys
package, out, *arguments = sys.argv[1:]
sys.argv[1:] = arguments
passed = set()

def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(package) and code.co_name != "<module>":
        passed.add((code.co_filename, code.co_qualname))

import threading
from expunge.cli import main
threading.setprofile(note)
sys.setprofile(note)
code = main(arguments)
sys.setprofile(None)
open(out, "w").write(json.dumps({"code": code, "files": len({file for file, _ in passed}), "functions": len(passed)}))
"""
"""Runs one command and counts what it calls."""

BUDGET = 'pictures = 2\n[[attacks]]\nname = "quantise"\nbits = [4]\n'


def static(package: Path) -> None:
    """Prints what reading the source shows."""
    sources = {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    lengths = {name: len(text.splitlines()) for name, text in sources.items()}
    coded = {name: n for name, n in lengths.items() if not name.endswith("__init__.py")}
    top = [p.name for p in sorted(package.iterdir()) if p.name != "__pycache__"]
    longest = max(coded, key=coded.__getitem__)
    print(f"names at the top of the package: {len(top)}")
    print(f"modules: {len(coded)}, median {median(coded.values()):.0f} lines, longest {longest} with {coded[longest]}")
    wide, defined = [], Counter[str]()
    for name, text in sources.items():
        tree = ast.parse(text)
        defined.update(n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and not n.name.startswith("_"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                taken = [a for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
                if len(taken) > MANY:
                    wide.append(f"{name}:{node.name} ({len(taken)})")
    print(f"functions with more than {MANY} parameters: {len(wide)}: {', '.join(wide)}")
    twice = sorted(name for name, n in defined.items() if n > 1)
    print(f"public names defined more than once: {len(twice)}: {', '.join(twice)}")


def traced(source: Path, folder: Path, arguments: Sequence[str]) -> dict[str, int]:
    """Runs `expunge ARGUMENTS` and counts the files and functions of the package that it executes."""
    script, out = folder / "traced.py", folder / "traced.json"
    script.write_text(TRACED)
    environment = {"PYTHONPATH": str(source), "EXPUNGE_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script), str(source / "expunge"), str(out), *arguments]
    subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True)
    return json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the structure of the source.")
    parser.add_argument("--static", action="store_true", help="read the source only; run nothing")
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src", help="the folder that holds the package")
    given = parser.parse_args()
    source = given.source.resolve()
    static(source / "expunge")
    if given.static:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quick = ["--steps", "4", "--points", "8", "--pictures", "4", "--batch-size", "4", "--device", "cpu"]
        (folder / "budget.toml").write_text(BUDGET)
        runs = {
            "unlearn mim-mu": ["unlearn", "mim-mu", "--target", "ring", *quick, "--out", "run"],
            "audit": ["audit", "run", "--budget", "budget.toml", "--control", "none", "--device", "cpu"],
        }
        for title, arguments in runs.items():
            found = traced(source, folder, arguments)
            print(f"{title}: {found['files']} files and {found['functions']} functions executed (exit code {found['code']})")


if __name__ == "__main__":
    main()
