"""What results show in a notebook, and the notebook of the tutorial."""

import importlib.util
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from audit.invented import audit, done
from PIL import Image
from report.folders import make_run

import expunge
from expunge import progress
from expunge.evaluation.results import read_rows
from expunge.evaluation.shown import Images, Rows
from expunge.notebook import data_uri, html_table
from expunge.progress import Progress
from expunge.runs.run import Run

ROOT = Path(__file__).parents[1]


class Parsed(HTMLParser):
    """The texts of the cells of a table, the sources of its images, and whether every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.cells, self.sources, self.texts, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
            return
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_text_is_escaped():
    parsed = Parsed(html_table("<b>", ("a & b",), [("<script>alert(1)</script>",)]))
    assert parsed.texts[0] == "<b>"
    assert parsed.cells == ["a & b", "<script>alert(1)</script>"]


def test_images_are_embedded_and_small(tmp_path):
    Image.new("RGB", (640, 320), "red").save(tmp_path / "one.png")
    assert data_uri(tmp_path / "one.png").startswith("data:image/webp;base64,")
    assert len(data_uri(tmp_path / "one.png")) < 2000
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert [data_uri(None), data_uri(tmp_path / "broken.png"), data_uri(tmp_path / "missing.png")] == ["", "", ""]


def test_a_run_its_rows_and_its_images(tmp_path):
    folder = make_run(tmp_path / "run")
    run = Run(folder)
    cells = Parsed(run._repr_html_()).cells
    assert cells[cells.index("method") + 1] == run.card["method"]
    rows = Rows(read_rows(folder))
    head, *lines = [Parsed(rows._repr_html_()).cells[i : i + 7] for i in range(0, 7 * (1 + sum(r.run != "base" for r in rows)), 7)]
    assert head[:4] == ["metric", "prompts", "base model", "run"]
    ua = next(line for line in lines if line[0] == "UA")
    [row] = [r for r in rows if r.metric == "UA" and r.run != "base" and r.judge == ua[5]][:1]
    assert ua[3] == f"{row.value:.0%} [{row.ci_low:.0%}, {row.ci_high:.0%}]"
    assert rows[:] == list(rows)
    images = expunge.images(run)
    assert images == expunge.images(folder)
    assert {p.probe for p in expunge.images(run, "target")} == {"target"}
    parsed = Parsed(images._repr_html_())
    assert parsed.sources
    assert all(source.startswith("data:image/webp;base64,") for source in parsed.sources)
    assert expunge.images(tmp_path) == Images()


def test_an_audit(tmp_path):
    made = audit(tmp_path, *done("relearn", [0, 12, 16], [16, 16, 16], [0, 1, 1]), control=True)
    cells = Parsed(made._repr_html_()).cells
    assert cells[:3] == ["attack", "concept", "verdict"]
    assert cells[8:10] == ["relearn", "neon"]
    assert cells[11:13] == ["0% [0%, 19%]", "100% [81%, 100%]"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook's display has shown, in order; the modules of IPython as a kernel has them."""
    found: list[str] = []
    handle = SimpleNamespace(update=found.append)

    def display(content: str, display_id: bool) -> SimpleNamespace:
        assert display_id
        found.append(content)
        return handle

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object())))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    return found


def test_a_task_is_a_bar_below_a_cell(shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(progress, "IN_CELL", 0)
    assert list(Progress(delay=0).track(range(3), "images of <neon>")) == [0, 1, 2]
    assert shown[0].startswith('<progress value="1" max="3"></progress> <small>images of &lt;neon&gt;: 1 of 3')
    assert "3 of 3" in shown[-2]
    assert shown[-1] == ""
    assert capsys.readouterr().err == ""


def test_without_a_kernel_there_are_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not progress._in_notebook()
    list(Progress(delay=0).track(range(1), "things"))
    assert capsys.readouterr().err.startswith("things: 1 of 1")


def test_the_notebook_of_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)  # the canvas is large enough to gain
    spec = importlib.util.spec_from_file_location("run_notebook", ROOT / "docs" / "run_notebook.py")
    docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docs)
    kept = docs.read()
    made = docs.executed(kept, tmp_path)

    def kinds(notebook: dict) -> Iterator[tuple[str, ...]]:
        for cell in filter(docs.is_code, notebook["cells"]):
            yield tuple(kind for output in cell["outputs"] for kind in output.get("data", ["stream"]))

    assert list(kinds(made)) == list(kinds(kept))
    text = "\n\n".join(docs.as_markdown(made))
    assert "removed: 100%" in text
    assert all(title in text for title in ("Run uce-neon-", "With 95 % intervals", "Base model | unlearned", "Audit of uce-neon-"))
    assert (tmp_path / "neon" / "delta.safetensors").is_file()
