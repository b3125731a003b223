"""Rows and images of an evaluation, which show themselves in a notebook. Imports no torch."""

from pathlib import Path

from expunge.evaluation.folder import ImagePair, read_evaluation
from expunge.evaluation.metrics import describe
from expunge.evaluation.protocol import spread
from expunge.evaluation.results import Row
from expunge.notebook import html_images, html_table, with_interval
from expunge.runs.run import Run

SHOWN = 8
"""Prompts whose images a notebook shows, spread over all."""


class Rows(list[Row]):
    """Rows, as a list. A notebook shows a table: the base model beside each run."""

    def _repr_html_(self) -> str:
        bases = {_key(row): row for row in self if row.run == "base"}
        lines = [_line(row, bases.get(_key(row))) for row in self if row.run != "base"] or [_line(row, row) for row in self]
        columns = ("metric", "prompts", "base model", "run", "images", "judge", "concept")
        return html_table("With 95 % intervals", columns, lines)


class Images(tuple[ImagePair, ...]):
    """Images of the base model and of a run from the same noise. A notebook shows some of them, chosen by their place."""

    def _repr_html_(self) -> str:
        rows = [
            (pair.prompt or "the empty prompt", ((f"Base model: {pair.prompt}", pair.base), (f"Unlearned: {pair.prompt}", pair.unlearned)))
            for pair in (spread(self, SHOWN) if len(self) > SHOWN else self)
        ]
        return html_images(f"Base model | unlearned, from the same noise; {len(rows)} of {len(self)}", rows)


def images(run: Run | str | Path, probe: str | None = None) -> Images:
    """The images of an evaluated run, each beside the base model's from the same noise.

    Args:
        run: a run, or its folder.
        probe: a set of prompts, such as "target"; default all.

    Returns:
        A tuple of pairs: prompt, probe, files of both images, and what the judge saw. Empty without an evaluation.

    Raises:
        ExpungeError: a file of the evaluation is broken.
    """
    found = read_evaluation(run.folder if isinstance(run, Run) else Path(run))
    return Images(pair for pair in (found.pairs if found else ()) if probe in (None, pair.probe))


def _key(row: Row) -> tuple[str, ...]:
    return row.concept, row.metric, row.probe, row.attack, row.judge


def _line(row: Row, base: Row | None) -> tuple[str, ...]:
    is_share = row.metric == "ASR" or describe(row.metric).is_share
    cells = [with_interval(r.value, r.ci_low, r.ci_high, is_share) if r else "–" for r in (base, row)]
    attacked = f"{row.metric} after {row.attack}, {row.strength:g}" if row.attack != "none" else row.metric
    return attacked, row.probe, *cells, str(row.n), row.judge, row.concept
