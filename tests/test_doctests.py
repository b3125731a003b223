"""The examples in docstrings."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
WITH_EXAMPLES = [p.relative_to(SOURCE) for p in sorted(SOURCE.rglob("*.py")) if ">>> " in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=str)
def test_examples(file: Path):
    result = doctest.testmod(importlib.import_module(".".join(file.with_suffix("").parts)))
    assert result.failed == 0
    assert result.attempted > 0
