"""Run the notebook of the tutorial and keep its outputs: `python docs/run_notebook.py`. docs/generate.py makes a page of it.

Cells run in this process, as in a kernel: what a cell prints and the value of its last expression are its output. Jupyter is not needed.
"""

import ast
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "tutorial" / "notebook.ipynb"


def read() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def executed(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The notebook with new outputs, run in a folder of its own."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        cells = [cell | {"outputs": list(_run("".join(cell["source"]), names))} if is_code(cell) else cell for cell in notebook["cells"]]
    return notebook | {"cells": cells}


def is_code(cell: dict[str, Any]) -> bool:
    return cell["cell_type"] == "code"


def _run(source: str, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    body, printed, value = ast.parse(source), io.StringIO(), None
    last = ast.Expression(body.body.pop().value) if body.body and isinstance(body.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(body, "<cell>", "exec"), names)
        if last is not None:
            value = eval(compile(last, "<cell>", "eval"), names)
    if printed.getvalue():
        yield {"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)}
    if value is not None:
        data = {"text/plain": repr(value)[:200].splitlines(keepends=True)}
        if shows := getattr(value, "_repr_html_", None):
            data = {"text/html": [shows()]} | data
        yield {"data": data, "execution_count": None, "metadata": {}, "output_type": "execute_result"}


def as_markdown(notebook: dict[str, Any]) -> list[str]:
    """The notebook as parts of a page: its title, texts, code, and the outputs below it."""
    parts = [part for cell in notebook["cells"] for part in _parts(cell)]
    title, _, rest = parts[0].partition("\n\n")
    return [title, rest, *parts[1:]]


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if not is_code(cell):
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", [])})
        yield "".join(data["text/html"]) if "text/html" in data else f"```text\n{''.join(data['text/plain']).rstrip()}\n```"


def main() -> None:
    os.environ.setdefault("EXPUNGE_PROGRESS", "off")
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(json.dumps(executed(read(), Path(folder)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
