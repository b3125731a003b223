"""What the pages of one run and of several share: numbers, images, training and settings of runs that may be compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from expunge.progress import duration
from expunge.reports.charts.forest import forests
from expunge.reports.charts.loss import loss_chart
from expunge.reports.format import DASH, THIN, count, flat, listed, number, size
from expunge.reports.glossary import meaning
from expunge.reports.images import Album, albums
from expunge.reports.run_view import RunView
from expunge.reports.tables import Column, Group, Key, MetricLine, RunLine, metric_lines, run_lines
from expunge.reports.text.answers import Answer
from expunge.reports.text.verdict import answers
from expunge.runs.folder import Card

OPEN_PROBES = ("target", "synonyms", "siblings")
"""The probes whose images are shown first; the others open with a click."""


@dataclass(frozen=True)
class RunSection:
    """What the page says of one run besides its numbers."""

    column: Column
    answers: list[Answer]
    loss: Markup | None
    finite: int
    """Steps with a finite loss, which are those in the chart."""
    settings: list[tuple[str, str]]
    costs: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    evaluation: list[tuple[str, str]]


@dataclass(frozen=True)
class GroupSection:
    """Runs that may be compared: their images, numbers and charts."""

    group: Group
    albums: list[Album]
    keys: list[Key]
    metric_lines: list[MetricLine]
    """Of a single run; empty for several."""
    run_lines: list[RunLine]
    """Of several runs; empty for one."""
    forests: list[Markup]
    runs: list[RunSection]
    warning: str
    """Why the runs are not comparable; empty if they are."""


def group_section(group: Group, pictures: bool) -> GroupSection:
    """Everything about a group of runs; without images unless `pictures`."""
    keys, is_single = group.keys, len(group.columns) == 1
    return GroupSection(
        group,
        albums(group) if pictures else [],
        keys,
        metric_lines(group.columns[0], keys) if is_single else [],
        [] if is_single else run_lines(group, keys),
        forests(group),
        [_run_section(c) for c in group.columns],
        _warning(group),
    )


def _run_section(column: Column) -> RunSection:
    view, card, evaluation = column.view, column.view.card, column.view.evaluation
    facts: list[tuple[str, str]] = []
    if evaluation is not None:
        facts = [("judge", evaluation.judge or DASH), *flat(evaluation.sampler), *flat(evaluation.protocol, "protocol ")]
        facts.append(("time", duration(evaluation.seconds)))
    steps = view.run.steps
    finite = sum(math.isfinite(s.loss) for s in steps)
    chart = loss_chart(steps, column.colour)
    return RunSection(column, answers(view), chart, finite, run_settings(card), _costs(card), _versions(card), facts)


def run_settings(card: Card) -> list[tuple[str, str]]:
    """Everything that was set for a run, as names and values."""
    return [
        ("method", card.method or DASH),
        *(line for number, layer in enumerate(card.before, 1) for line in flat(layer, f"{number}. ")),
        *flat(card.config),
        *flat(card.training),
        ("scope", card.scope or DASH),
        ("seed", DASH if card.seed is None else str(card.seed)),
    ]


def _costs(card: Card) -> list[tuple[str, str]]:
    trained = DASH
    if card.trainable is not None and card.total:
        trained = f"{count(card.trainable)} of {count(card.total)} ({number(card.trainable / card.total, True)})"
    change = DASH if card.relative_change is None else f"{100 * card.relative_change:.3g}{THIN}%"
    return [
        ("time", duration(card.seconds)),
        ("forward passes", count(card.forwards)),
        ("backward passes", count(card.backwards)),
        ("peak memory", size(card.peak_memory_bytes)),
        ("parameters trained", trained),
        ("relative change of the weights", change),
    ]


def _versions(card: Card) -> list[tuple[str, str]]:
    about = {
        "run": card.id,
        "date": card.date,
        "model": card.model,
        "fingerprint": card.fingerprint,
        "family": card.family,
        "device": card.device,
        "dtype": card.dtype,
    }
    return [(k, v or DASH) for k, v in about.items()] + flat(card.versions)


def title_of(views: Sequence[RunView]) -> str:
    """The heading of the page."""

    def names(found: Sequence[str | None], unknown: str) -> str:
        return listed(dict.fromkeys(f or unknown for f in found))

    cards = [v.card for v in views]
    concepts = names([f"“{c.target}”" if c.target else None for c in cards], "an unnamed concept")
    models, methods = names([c.model for c in cards], "an unnamed model"), names([c.method for c in cards], "an unnamed method")
    return f"Removing {concepts} from {models} with {methods}"


def terms(sections: Sequence[GroupSection]) -> tuple[dict, list[str]]:
    """What the metrics of the page mean, and the metrics that this installation does not know."""
    shown = dict.fromkeys(k.metric for s in sections for k in s.keys)
    return {metric: of for metric in shown if (of := meaning(metric))}, [metric for metric in shown if not meaning(metric)]


def _warning(group: Group) -> str:
    done = [c.view.evaluation for c in group.columns if c.view.evaluation]
    facts: Mapping[str, list] = {"sampler settings": [e.sampler for e in done], "judges": [e.judge for e in done]}
    different = [what for what, found in facts.items() if any(f != found[0] for f in found)]
    if not different:
        return ""
    return f"These runs were evaluated with different {listed(different)}, so their numbers and images are not comparable."
