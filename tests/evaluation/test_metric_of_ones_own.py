"""A metric is its own file and a line of the registry: lists, rows, samples and tables know it from what it says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from cli.commandline import say

from expunge import metrics
from expunge.bench.summary import Measured, columns, markdown, standings
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.evaluation.results import read_samples
from expunge.evaluation.rows import rows_from_samples
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store


class Repeated(metrics.Share):
    """Share of the empty prompt's images whose label is the base model's."""

    about = metrics.Description(
        name="NULL",
        title="images of the empty prompt with the label of before",
        form="share",
        better="higher",
        aim="retain",
        probes=("null",),
        needs=("labels", "base"),
        high=1.0,
        column="null kept",
    )

    def is_right(self, sample, seen):
        return seen == sample.base if sample.base else None


class Length(metrics.Metric):
    """The mean length of the target's prompts."""

    about = metrics.Description(name="LEN", title="letters", form="mean", better="neither", probes=("target",), scale=10.0, unit="dm")

    def __call__(self, evidence):
        lengths = [len(s.prompt) for s in evidence.samples if s.probe == "target"]
        mean = sum(lengths) / len(lengths)
        return [self.score(metrics.Interval(mean, min(lengths), max(lengths)), len(lengths))]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for metric in (Repeated(), Length()):
        monkeypatch.setitem(metrics.METRICS, metric.about.name, metric)


def test_it_is_in_the_rows_and_in_a_benchs_table(registered, tmp_path: Path):
    run = unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run", cache=Store(tmp_path / "store"))
    few = Protocol(target_seeds=2, prompts=2)
    rows = evaluate(run, tiny.model(), judge="main", protocol=few, cache=Store(tmp_path / "store"), metrics=["UA", "NULL", "LEN"])
    mine = {r.metric: r for r in rows if r.run == run.id}
    assert (mine["NULL"].probe, mine["NULL"].n) == ("null", 2)
    assert mine["LEN"].value == pytest.approx((len("neon style") + len(read_samples(run.folder)[2].prompt)) / 2)
    assert mine["LEN"] in rows_from_samples(read_samples(run.folder), run.card)
    lines = standings([Measured("UCE", "uce", "neon", 0, run.folder, tuple(rows), {})])
    assert columns(lines)[-4:] == ["NULL", "LEN", "weight_change", "null_drift"]
    head, _, base, line = markdown(lines, ["NULL", "LEN", "UA"]).splitlines()
    assert head == "| method | units | UA | null kept | LEN |"
    assert f" | {100 * mine['NULL'].value:.1f} [" in line
    assert f" | {10 * mine['LEN'].value:.2f} dm [" in line
    assert "| – |" in base  # the base model has none of its own to compare with


def test_lists_and_the_command_line_know_it(registered):
    assert "NULL higher null images of the empty prompt with the label of before" in " ".join(say("ls", "metrics").out.split())
    assert "whose label is the base model's" in " ".join(say("show", "null").out.split())


def test_metrics_are_imported_without_torch():
    code = "import sys, expunge.metrics; print('torch' in sys.modules, 'scipy' in sys.modules)"
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": source})
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_every_public_name_is_there():
    assert [name for name in metrics.__all__ if not hasattr(metrics, name)] == []
