"""Charts: what they show, and that they fit into the page."""

import math
from collections.abc import Callable
from pathlib import Path

from report.folders import row
from report.markup import Markup

from expunge.reports.charts.forest import forests
from expunge.reports.charts.loss import loss_chart, running_mean, thin
from expunge.reports.run_view import read_view
from expunge.reports.tables import group_runs
from expunge.training.steps import Step

Make = Callable[..., Path]


def test_the_running_mean_shortens_at_the_ends():
    """Half a window of 5 is 2: (0 + 1 + 2) / 3, (0 + 1 + 2 + 9) / 4, (0 + 1 + 2 + 9 + 8) / 5, (1 + 2 + 9 + 8) / 4, (2 + 9 + 8) / 3."""
    assert running_mean([0.0, 1.0, 2.0, 9.0, 8.0], 5) == [1.0, 3.0, 4.0, 5.0, 19 / 3]
    assert running_mean([4.0, 2.0], 1) == [4.0, 2.0]


def test_a_thinned_curve_keeps_every_extreme():
    values = [math.sin(i * i) for i in range(5000)]
    values[1234], values[4321] = 9.0, -9.0
    at, kept = thin(range(5000), values, points=100)
    assert len(kept) <= 100
    assert all(values[int(a)] == v for a, v in zip(at, kept, strict=True))
    assert (max(kept), min(kept), list(at) == sorted(at)) == (9.0, -9.0, True)
    assert thin(range(3), [1.0, 2.0, 1.0]) == ([0, 1, 2], [1.0, 2.0, 1.0])


def step(number: int, **terms: float) -> Step:
    return Step(number, 5, terms, 1.0)


def test_losses_that_are_not_finite_are_left_out():
    steps = [step(i, a=math.nan if i == 2 else float(i)) for i in range(1, 6)]
    assert "over 4 steps" in str(loss_chart(steps, 0))
    assert loss_chart([step(1, a=1.0), step(2, a=math.nan)], 0) is None
    assert loss_chart([], 0) is None


def test_each_of_several_terms_of_the_loss_has_a_line():
    two = str(loss_chart([step(i, forget=1.5, null=0.5) for i in (1, 2)], 0))
    one = str(loss_chart([step(i, forget=2.0) for i in (1, 2)], 0))
    assert ("forget" in two, "null" in two, "forget" in one) == (True, True, False)


def test_forests_have_a_line_for_every_measured_metric(run_folder: Make):
    measured = [row("UA", 0.9, 0.8, 1.0, "target"), row("FID_drawn", 9.0, 8.0, 10.0, "siblings"), row("x$y$", math.nan, 0.0, 1.0, "")]
    (found,) = group_runs([read_view(run_folder(measured=measured))])
    shares, others = (Markup.of(str(drawn)) for drawn in forests(found))
    assert "UA ↑" in shares.text
    assert "100 %" in shares.text
    assert "FID_drawn ↓" in others.text
    assert "x$y$" not in shares.text + others.text
    assert forests(group_runs([read_view(run_folder("empty", measured=[]))])[0]) == []


def test_base_rows_that_differ_are_all_shown(run_folder: Make):
    def circles(*bases: float) -> int:
        """Hollow markers, the base's, of runs with these base rows."""
        runs = []
        for i, base in enumerate(bases):
            name = f"{bases}-{i}"
            measured = [row("UA", base, 0.0, 0.3, "target", "base"), row("UA", 0.9, 0.8, 1.0, "target", name)]
            runs.append(read_view(run_folder(name, card={"id": name}, measured=measured)))
        (drawn,) = forests(group_runs(runs)[0])
        return str(drawn).count("fill: var(--paper); stroke: var(--base)")

    assert circles(0.1, 0.2) == 2 * circles(0.1, 0.1) > 0


def test_charts_take_their_colours_from_the_page(run_folder: Make):
    run = read_view(run_folder())
    (found,) = group_runs([run])
    for drawn in (*map(str, forests(found)), str(loss_chart(run.run.steps, 0))):
        assert drawn.startswith('<svg class="chart" role="img" viewBox="0 0 ')
        assert "var(--run0)" in drawn
        assert "#0" not in drawn.replace("url(#", "").replace('href="#', "")
        assert (" width=" in drawn.split(">", 1)[0], "<metadata" in drawn, "xmlns" in drawn) == (False, False, False)
