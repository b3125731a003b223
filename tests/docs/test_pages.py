"""The documentation says what the code says."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The module that writes docs/reference."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_pages_are_those_that_the_code_generates(generate: ModuleType):
    folder = ROOT / "docs" / "reference"
    stale = [name for name, text in generate.pages().items() if (folder / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run: python docs/generate.py"


def test_methods_have_formulas_and_a_missing_one_is_an_error(generate: ModuleType):
    assert generate.formulas().keys() <= generate.METHODS.keys()
    made = generate.markdown("One.\n\n    a = b\n    c\n\nTwo.", [["a = b", "c"]])
    assert made.count("<math") == 2
    assert "```" not in made
    for wrong in ([["a"], ["b"]], [["a"]]):
        with pytest.raises(ValueError, match="formula"):
            generate.markdown("    a" if len(wrong) > 1 else "    a\n\nx\n\n    b", wrong)


def has_measured(table: str) -> bool:
    """Whether each of some tables has a cell with a number in a line that is none of a control's."""
    rows = [[cells for line in part.splitlines()[2:] if (cells := line.strip("| ").split(" | "))] for part in table.strip().split("\n\n")]
    mine = [[cells for cells in of if cells[0] not in ("base model", "retrained")] for of in rows]
    return all(any(re.search(r"\d", cell) for cells in of for cell in cells[1:]) for of in mine)


def test_a_table_of_controls_alone_counts_as_empty():
    head = "| | runs | 0 |\n|---|---:|---:|\n"
    controls = "| base model | 4 | 100 |\n| retrained | 12 | 2 |\n"
    assert has_measured(head + "| ESD | 1 | 85 |\n" + controls)
    assert not has_measured(head + controls)
    assert not has_measured(head)
    assert not has_measured(head + "| ESD | – | – |\n")
    assert not has_measured(head + "| ESD | 1 | 85 |\n\n" + head + controls)


def test_the_tables_of_results_are_those_that_the_rows_give(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    results = importlib.import_module("results")
    tables = results.tables()
    pages = [file.read_text(encoding="utf-8") for file in results.PAGES]
    for page in pages:
        assert results.filled(page, tables) == page, "run: python benchmarks/results.py"
        assert "MiM-MU" in page
        assert "Nothing is measured" not in page
        assert "| not measured |" not in page
    assert [name for name, table in tables.items() if not has_measured(table)] == []
    assert all(any(f"<!-- {name} -->" in page for page in pages) for name in tables)


def test_the_page_on_the_speed_of_sampling_is_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    drawing = importlib.import_module("drawing")
    rows = [json.loads(line) for line in drawing.FILE.read_text(encoding="utf-8").splitlines()]
    assert drawing.PAGE.read_text(encoding="utf-8") == drawing.page(rows), "run: python benchmarks/drawing.py --page"
    ways = {model: drawing.DRAW if model in drawing.COMPILED else drawing.DRAW.keys() - {"compiled"} for model in drawing.BATCHES}
    cases = {(model, way, batch) for model, batches in drawing.BATCHES.items() for way in ways[model] for batch in batches}
    assert {(r["model"], r["way"], r["batch"]) for r in rows} == cases


def test_the_figure_of_the_first_page_is_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scatter = importlib.import_module("scatter")
    back = scatter.relearned()
    assert back.keys() >= {"PURE", "SPM", "CA"}
    figure = scatter.OUT.read_text(encoding="utf-8")
    assert [label for label, share in back.items() if f">{label}</text>" not in figure or f">{share:.0%}</text>" not in figure] == []


@pytest.mark.parametrize("page", ["README.md", *(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))])
def test_every_picture_and_page_that_a_page_links_to_is_there(page):
    file = ROOT / page
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (file.parent / link).exists()] == []


def test_the_example_of_a_method_in_one_file_works(tmp_path, monkeypatch):
    import tiny

    from expunge.config import build
    from expunge.methods.config import find_method
    from expunge.runs.unlearn import unlearn
    from expunge.storage.cache import Store

    code, closed = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "add-a-method.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "closed.py").write_text(closed)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another page's example
    edited = unlearn(
        tiny.model(), tiny.concept(), build(find_method("closed:Mean", allow_code=True), {}, "closed:Mean"), out=tmp_path / "closed"
    )
    assert edited.card["relative_change"] > 0
    method = build(find_method("mine:Half", allow_code=True), {"share": 0.8}, "mine:Half")
    run = unlearn(tiny.model(), tiny.concept(), method, training=tiny.TRAINING, out=tmp_path / "run", cache=Store(tmp_path / "s"))
    assert run.card["method"] == "mine:Half"
    assert run.card["relative_change"] > 0


def test_the_example_of_a_metric_and_a_judge_in_one_file_works(tmp_path, monkeypatch):
    import tiny
    import torch
    from evaluation import networks

    from expunge.evaluation.evaluate import evaluate
    from expunge.evaluation.metrics import METRICS
    from expunge.evaluation.protocol import Protocol
    from expunge.judges import load_judge
    from expunge.runs.unlearn import unlearn
    from expunge.storage.cache import Store

    text = (ROOT / "docs" / "how-to" / "add-a-metric.md").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another page's example
    for name in ("confident", "shift"):
        monkeypatch.setitem(METRICS, name, None)  # so that they are gone after the test
        del METRICS[name]
    store = Store(tmp_path / "store")
    run = unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run", cache=store)
    how = {"protocol": Protocol(target_seeds=1, prompts=3), "cache": store, "features": {"FDD": networks.dinov2(tmp_path / "dinov2")}}
    rows = evaluate(run, tiny.model(), judge="main", metrics=["UA", "mine:Confident", "mine:Shift"], **how)
    by = {(r.run, r.metric): r for r in rows}
    assert 0 <= by["base", "confident"].value <= 1
    assert by[run.id, "confident"].paired
    assert by["base", "shift"].value == 0 < by[run.id, "shift"].value
    bright = load_judge("mine:Light")(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), tiny.concept())
    assert bright.seen == {"style": ("neon", "neon")}
    red = load_judge("mine:Red,least=0.4")
    assert red.name == "red from 0.4"
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pixels[0, 0] = 255
    assert red.scorer(pixels, tiny.concept())[0].tolist() == [1.0, 0.0]


def test_every_file_that_the_architecture_names_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = [n for n in re.findall(r"`([a-z_./-]+)`", text) if "/" in n]
    assert len(named) > 30
    assert [n for n in named if not (ROOT / "src" / "expunge" / n).exists() and not (ROOT / n).exists()] == []
