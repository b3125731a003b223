"""Which way imports point, and other rules of the architecture that reading the source can hold."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "expunge"
FILES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}

ONLY_IN = {
    "diffusers": ("models/*", "canvas/*", "digits/*"),
    "accelerate": ("training/distributed.py",),
    "peft": ("models/low_rank.py",),
    "typer": ("cli/*",),
    "ray": ("training/cluster.py",),
    "nicegui": ("web/*",),
    "uvicorn": ("web/server.py",),
    "optuna": ("bench/tune.py",),
    "click": ("cli/*",),
    "expunge.cli": ("cli/*", "__main__.py"),
}
"""A module and the files that may import it."""

NEVER = {
    "errors.py": ("expunge", "torch"),
    "concepts/*": ("torch",),
    "evaluation/results.py": ("torch",),
    "evaluation/statistics.py": ("torch",),
    "evaluation/rows.py": ("torch",),
    "metrics.py": ("torch",),
    "methods/*": ("transformers", "expunge.canvas"),
    "evaluation/metrics/*": ("expunge.canvas", "expunge.models", "expunge.methods", "expunge.training", "expunge.runs"),
    "reports/*": ("torch", "transformers", "expunge.models", "expunge.methods", "expunge.training.loop"),
    "*": ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "torch.load", "__future__.annotations"),
}
"""Files and the modules that they do not import; `torch.load` may not be named at all. What imports what else is in `.importlinter`."""

METHOD_PARTS = ("base", "_closed_form", "_matching", "_relabelling", "_saliency", "_critic", "config")
"""Modules of `methods` that methods may import: all but other methods."""

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "matplotlib", "scipy")


@cache
def nodes(source: str) -> list[ast.AST]:
    """The syntax tree of a source, node by node, the module first."""
    return list(ast.walk(ast.parse(source)))


def imports(source: str) -> Iterator[str]:
    """Every module or name that a source imports, and every `torch.load` that it reads, as dotted names."""
    for node in nodes(source):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield from (f"{'.' * level}{module or ''}.{alias.name}" for alias in names)
            case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                yield "torch.load"


def within(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def breaches(files: dict[str, str]) -> list[str]:
    """The rules of `ONLY_IN` and `NEVER` that sources break, and methods that import each other."""
    found = []
    for file, source in files.items():
        for name in imports(source):
            found += [f"{file}: {m} only in {w}" for m, w in ONLY_IN.items() if within(name, m) and not any(fnmatch(file, p) for p in w)]
            found += [f"{file}: never {m}" for p, ms in NEVER.items() if fnmatch(file, p) for m in ms if within(name, m)]
            if name.startswith("."):
                found.append(f"{file}: imports are absolute, {name} is not")
            parts = tuple(f"expunge.methods.{part}" for part in METHOD_PARTS)
            own = fnmatch(file, "methods/*.py") and Path(file).stem not in ("__init__", *METHOD_PARTS)
            if own and within(name, "expunge.methods") and not name.startswith(parts):
                found.append(f"{file}: methods do not import each other, {name}")
    return found


def test_imports_point_one_way():
    assert breaches(FILES) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("methods/esd.py", "from diffusers import UNet2DConditionModel"),
        ("methods/esd.py", "from expunge.methods.uce import UCE"),
        ("methods/esd.py", "from .uce import UCE"),
        ("reports/pages/run.py", "import torch.nn"),
        ("evaluation/metrics/accuracy.py", "from expunge.models.loading import load"),
        ("evaluation/metrics/accuracy.py", "from expunge import runs"),
        ("runs/run.py", "def f():\n    import expunge.cli"),
        ("runs/run.py", "import typer"),
        ("models/scopes.py", "from accelerate import Accelerator"),
        ("errors.py", "from expunge.models.scopes import Scope"),
        ("storage/cache.py", "import pickle"),
        ("storage/cache.py", "import torch\n\ntorch.load('x')"),
        ("storage/cache.py", "from torch import load"),
        ("storage/cache.py", "from __future__ import annotations"),
    ],
)
def test_a_breach_is_seen(file: str, line: str):
    assert len(breaches({file: line})) == 1


def test_words_that_only_resemble_a_rule_are_no_breach():
    method = "import torch\nimport acceleration\nfrom expunge.diffusion.divergence import kl\nfrom expunge.methodical import x"
    assert breaches({"methods/esd.py": method, "models/low_rank.py": "import peft"}) == []


def test_files_stay_small_and_have_telling_names():
    assert {f: lines for f, source in FILES.items() if (lines := len(source.splitlines())) > 320} == {}
    assert [f for f in FILES if Path(f).name in {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}] == []


def test_classes_have_telling_names():
    classes = [(f, n.name) for f, source in FILES.items() for n in nodes(source) if isinstance(n, ast.ClassDef)]
    assert [(f, c) for f, c in classes if c.startswith("Base") or c.endswith(("Manager", "Helper", "Utils"))] == []


def at_the_top(source: str) -> Iterator[str]:
    """What a module imports when it is imported itself."""
    body = [node for node in nodes(source)[0].body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imports("\n".join(map(ast.unparse, body)))


def test_the_package_can_be_imported_on_any_system():
    """Modules that Python has on some systems only are imported where they are used, beside a way without them."""
    some = {"fcntl", "grp", "msvcrt", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "winreg"}
    assert [(file, name) for file, source in FILES.items() for name in at_the_top(source) if name.partition(".")[0] in some] == []
    assert list(at_the_top("import resource\n\ndef f():\n    import fcntl")) == ["resource"]


def test_the_family_and_the_pipeline_of_a_model_are_known_in_models_alone():
    families = ("StableDiffusion", "StableDiffusion3")
    outside = {f: nodes(s) for f, s in FILES.items() if not f.startswith(("models/", "canvas/"))}
    names = [(f, n.id) for f, found in outside.items() for n in found if isinstance(n, ast.Name) and n.id in families]
    pipelines = [f for f, found in outside.items() for n in found if isinstance(n, ast.Attribute) and n.attr == "pipeline"]
    assert (names, pipelines) == ([], [])


def test_every_model_is_loaded_without_code_of_its_own():
    calls = [
        (f, n.lineno, {k.arg: getattr(k.value, "value", None) for k in n.keywords})
        for f, source in FILES.items()
        for n in nodes(source)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "from_pretrained"
    ]
    assert calls
    assert [(f, line) for f, line, given in calls if given.get("trust_remote_code") is not False] == []


def test_json_is_written_in_one_place():
    """So that every file of results is written whole, in the same form."""
    by_hand = re.compile(r"write_(?:atomically|text|bytes)\(.*json\.dumps|json\.dump\(")
    assert [f for f, source in FILES.items() if by_hand.search(source)] == ["canvas/pipeline.py", "storage/files.py"]  # a vocabulary


def test_the_command_line_starts_without_heavy_imports():
    """Help is to appear at once, so nothing that takes seconds to import may come with `expunge.cli` itself."""
    assert heavy_imports_of("expunge.cli") == []


def test_a_price_needs_torch_alone():
    """Of a model that was priced before: see `models/kept_outline.py`."""
    assert heavy_imports_of("expunge.cli.dry_run", "expunge.audits.setup", "expunge.evaluation.counting") == ["torch"]


def heavy_imports_of(*modules: str) -> list[str]:
    code = f"import sys, {', '.join(modules)}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(PACKAGE.parent)})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
