"""Reports need no torch: nothing that they import does, and a page is rendered without it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import expunge.reports

ROOM = Path(expunge.reports.__file__).parent
MODULES = [
    ".".join(("expunge", "reports", *path.relative_to(ROOM).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(ROOM.rglob("*.py"))
]
CODE = """
import importlib, sys
from pathlib import Path
for name in sys.argv[2:]:
    importlib.import_module(name)
from expunge.reports.pages.run import write_report
from expunge.reports.pages.information import information_section
from expunge.runs.run import Run
folder = Path(sys.argv[1])
page = write_report([folder], folder / "report.html")
assert information_section(Run(folder)) is None
assert page.stat().st_size > 10_000
print(*sorted({"torch", "diffusers", "transformers", "safetensors.torch"} & set(sys.modules)))
"""


def test_a_page_is_rendered_without_torch(run_folder: Callable[..., Path]):
    source = str(ROOM.parents[1])
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(run_folder()), *MODULES], capture_output=True, text=True, env={"PYTHONPATH": source}
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
    assert len(MODULES) > 20
