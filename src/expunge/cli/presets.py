"""The package's presets, read without importing `expunge.methods`, which needs torch."""

import tomllib
from pathlib import Path
from typing import Any

import expunge
from expunge.cli.declarations import read

FOLDER = Path(expunge.__file__).parent / "methods" / "presets"


def read_presets() -> dict[str, dict[str, Any]]:
    """The tables of every preset by its name."""
    return {name: tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")) for name in read("expunge.methods.presets:PRESETS")}
