"""The page of runs: verdict, images, metrics, training, settings. One HTML file that loads nothing, made from run folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from expunge.errors import ExpungeError
from expunge.progress import duration
from expunge.reports.charts.forest import forests
from expunge.reports.charts.loss import loss_chart, window_of
from expunge.reports.charts.sequence import course_of
from expunge.reports.format import DASH, THIN, count, flat, listed, number, size
from expunge.reports.glossary import meaning
from expunge.reports.images import Album, albums
from expunge.reports.pages.information import information_section
from expunge.reports.pages.template import fill, origin_of
from expunge.reports.run_view import RunView, read_view, split_by_concept
from expunge.reports.tables import Column, Group, Key, MetricLine, RunLine, group_runs, metric_lines, run_lines
from expunge.reports.text.answers import VERDICT_RULES, Answer
from expunge.reports.text.verdict import answers
from expunge.runs.folder import Card
from expunge.storage.files import write_atomically

OPEN_PROBES = ("target", "synonyms", "siblings")
"""The probes whose images are shown when the page opens; the others open with a click."""


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


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Writes the report of one or several run folders to `out`, and returns `out`.

    The page contains its images, charts and style, runs no script and loads nothing. The same folders give the same bytes. The file
    appears whole or not at all.

    Raises:
        ExpungeError: no runs; a folder that is no run; a broken file or a link out of the folder; `out` is a folder or cannot be written.
    """
    if not runs:
        raise ExpungeError("There is no run to report.", rule="no-run", value=[], hint="Try a folder such as runs/<id>.")
    if out.is_dir():
        raise ExpungeError(
            f"{out} is a folder, but a report is one HTML file.",
            rule="report-is-folder",
            value=str(out),
            hint=f"Try {out / 'report.html'}.",
        )
    write_atomically(out, render_report([read_view(Path(folder)) for folder in runs]).encode())
    return out


def render_report(views: Sequence[RunView]) -> str:
    """The text of the page. A run of several concepts is shown as a run of each."""
    informations = [found for v in views if (found := information_section(v.run))]
    courses = [c for v in views if (c := course_of(v))]
    parts = [part for v in views for part in split_by_concept(v)]
    sections = [_group_section(g) for g in group_runs(parts)]
    shown = dict.fromkeys(k.metric for s in sections for k in s.keys)
    return fill(
        "run.html.jinja",
        title=_title(parts),
        origin=origin_of(v.card for v in views),
        sections=sections,
        entries=[(s, r) for s in sections for r in s.runs],
        single=sections[0].runs[0] if len(parts) == 1 else None,
        several_groups=len(sections) > 1,
        is_measured=any(v.evaluation for v in parts),
        has_images=any(s.albums for s in sections),
        notes=_notes(sections),
        open_probes=OPEN_PROBES,
        has_second=any(c.compared.second for s in sections for c in s.group.columns),
        wholes=[(s, r) for s in sections for r in s.runs if not r.column.view.part],
        courses=courses,
        informations=informations,
        glossary={metric: of for metric in shown if (of := meaning(metric))},
        unexplained=[metric for metric in shown if not meaning(metric)],
        rules=VERDICT_RULES,
        window=window_of,
    )


def _group_section(group: Group) -> GroupSection:
    keys, is_single = group.keys, len(group.columns) == 1
    return GroupSection(
        group,
        albums(group),
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


def _title(views: Sequence[RunView]) -> str:
    def names(found: Sequence[str | None], unknown: str) -> str:
        return listed(dict.fromkeys(f or unknown for f in found))

    cards = [v.card for v in views]
    concepts = names([f"“{c.target}”" if c.target else None for c in cards], "an unnamed concept")
    models, methods = names([c.model for c in cards], "an unnamed model"), names([c.method for c in cards], "an unnamed method")
    return f"Removing {concepts} from {models} with {methods}"


def _notes(sections: Sequence[GroupSection]) -> dict[str, list[str]]:
    """Each note of an evaluation once, with the runs that it is about."""
    notes: dict[str, list[str]] = {}
    for column in (c for s in sections for c in s.group.columns):
        for note in column.view.evaluation.notes if column.view.evaluation else ():
            notes.setdefault(note, []).append(f"{column.label} on {column.view.card.target}" if len(sections) > 1 else column.label)
    return notes


def _warning(group: Group) -> str:
    done = [c.view.evaluation for c in group.columns if c.view.evaluation]
    facts: Mapping[str, list] = {"sampler settings": [e.sampler for e in done], "judges": [e.judge for e in done]}
    different = [what for what, found in facts.items() if any(f != found[0] for f in found)]
    if not different:
        return ""
    return f"These runs were evaluated with different {listed(different)}, so their numbers and images are not comparable."
