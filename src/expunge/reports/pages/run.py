"""Assembles the page: one HTML file that loads nothing, from run folders."""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from expunge.reports import words
from expunge.reports.charts import figures, sequence
from expunge.reports.images import Album, albums
from expunge.reports.pages import information
from expunge.reports.pages.template import filled
from expunge.reports.run_folder import Card, Run, read, refuse
from expunge.reports.tables import Column, Group, Key, MetricLine, RunLine, group, metric_lines, run_lines
from expunge.reports.text import verdict


@dataclass(frozen=True)
class RunSection:
    """What the page says of one run besides its numbers."""

    column: Column
    answers: list[verdict.Answer]
    loss: Markup | None
    finite: int
    """Steps with a finite loss, which are those drawn."""
    settings: list[tuple[str, str]]
    costs: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    evaluated: list[tuple[str, str]]


@dataclass(frozen=True)
class GroupSection:
    """Runs that may be compared: their pictures, numbers and chart."""

    group: Group
    albums: list[Album]
    keys: list[Key]
    metric_lines: list[MetricLine]
    """Of a single run; empty for several."""
    run_lines: list[RunLine]
    """Of several runs; empty for one."""
    forests: list[Markup]
    runs: list[RunSection]
    differs: str
    """What keeps the runs from being comparable, or nothing."""


def write(runs: Sequence[Path], out: Path) -> Path:
    """Writes the report of one or several run folders to `out` and gives `out` back.

    The page is self-contained: pictures, charts and style lie in it, it runs no script and reaches for no address. The same
    folders give the same bytes. It appears whole or not at all: an existing file is replaced only by a finished one.

    Raises:
        ExpungeError: no runs; a folder that is not a run, or holds broken JSON; `out` is a folder.
    """
    if not runs:
        refuse("a report needs at least one run: received none; give a folder such as runs/<id>")
    if out.is_dir():
        refuse(f"a report is one HTML file: {out} is a folder; give a file such as {out / 'report.html'}")
    text = render([read(Path(folder)) for folder in runs])
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, out)
    except OSError as error:
        refuse(f"a report is written into a writable folder: {out.parent}: {error.strerror}; give another file")
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return out


def render(runs: Sequence[Run]) -> str:
    """The page's text. A run of several concepts is shown as a run of each."""
    informations = [found for r in runs if (found := information.section(r))]
    courses, runs = [c for r in runs if (c := sequence.course(r))], [part for r in runs for part in sequence.split(r)]
    sections = [_group_section(g) for g in group(runs)]
    shown = {k.metric: words.meaning(k.metric) for s in sections for k in s.keys}
    return filled(
        "page.html.jinja",
        title=_title(runs),
        sections=sections,
        entries=[(s, r) for s in sections for r in s.runs],
        single=sections[0].runs[0] if len(runs) == 1 else None,
        several_groups=len(sections) > 1,
        measured=any(r.evaluation for r in runs),
        drawn=any(s.albums for s in sections),
        notes=_notes(sections),
        first_probes=("target", "synonyms", "siblings"),
        has_second=any(c.compared.second for s in sections for c in s.group.columns),
        wholes=[(s, r) for s in sections for r in s.runs if not r.column.run.part],
        courses=courses,
        informations=informations,
        glossary={metric: m for metric, m in shown.items() if m.line},
        unexplained=[metric for metric, m in shown.items() if not m.line],
        rules=verdict.RULES,
        window=figures.smoothing,
    )


def _group_section(group: Group) -> GroupSection:
    keys, single = group.keys, len(group.columns) == 1
    return GroupSection(
        group,
        albums(group),
        keys,
        metric_lines(group.columns[0], keys) if single else [],
        [] if single else run_lines(group, keys),
        figures.forests(group),
        [_run_section(c) for c in group.columns],
        _differs(group),
    )


def _run_section(column: Column) -> RunSection:
    run, card = column.run, column.run.card
    evaluation = run.evaluation
    drawn = figures.loss(run.steps, column.colour)
    evaluated: list[tuple[str, str]] = []
    if evaluation is not None:
        facts = [*words.flat(evaluation.sampler), *words.flat(evaluation.protocol, "protocol ")]
        evaluated = [("judge", evaluation.judge or words.DASH), *facts, ("time", words.duration(evaluation.seconds))]
    finite = sum(math.isfinite(s.loss) for s in run.steps)
    return RunSection(column, verdict.answers(run), drawn, finite, _settings(card), _costs(card), _versions(card), evaluated)


def _settings(card: Card) -> list[tuple[str, str]]:
    seed = words.DASH if card.seed is None else str(card.seed)
    return [
        ("method", card.method or words.DASH),
        *(line for number, layer in enumerate(card.before, 1) for line in words.flat(layer, f"{number}. ")),
        *words.flat(card.config),
        *words.flat(card.training),
        ("scope", card.scope or words.DASH),
        ("seed", seed),
    ]


def _costs(card: Card) -> list[tuple[str, str]]:
    trained = words.DASH
    if card.trainable is not None and card.total:
        trained = f"{words.count(card.trainable)} of {words.count(card.total)} ({words.number(card.trainable / card.total, True)})"
    change = words.DASH if card.relative_change is None else f"{100 * card.relative_change:.3g}{words.THIN}%"
    return [
        ("time", words.duration(card.seconds)),
        ("forward passes", words.count(card.forwards)),
        ("backward passes", words.count(card.backwards)),
        ("peak memory", words.size(card.peak_memory_bytes)),
        ("parameters trained", trained),
        ("relative change of weights", change),
    ]


def _versions(card: Card) -> list[tuple[str, str]]:
    about = {
        "run": card.id,
        "model": card.model,
        "fingerprint": card.fingerprint,
        "family": card.family,
        "device": card.device,
        "dtype": card.dtype,
    }
    return [(k, v or words.DASH) for k, v in about.items()] + words.flat(card.versions)


def _title(runs: Sequence[Run]) -> str:
    def listed(found: Sequence[str | None], unknown: str) -> str:
        names = list(dict.fromkeys(f or unknown for f in found))
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

    cards = [r.card for r in runs]
    concepts = listed([f"“{c.target}”" if c.target else None for c in cards], "an unnamed concept")
    models, methods = listed([c.model for c in cards], "an unnamed model"), listed([c.method for c in cards], "an unnamed method")
    return f"Erasing {concepts} from {models} with {methods}"


def _notes(sections: Sequence[GroupSection]) -> dict[str, list[str]]:
    """Each remark of an evaluation once, with the runs that it was made of."""
    notes: dict[str, list[str]] = {}
    for column in (c for s in sections for c in s.group.columns):
        for note in column.run.evaluation.notes if column.run.evaluation else ():
            notes.setdefault(note, []).append(f"{column.label} on {column.run.card.target}" if len(sections) > 1 else column.label)
    return notes


def _differs(group: Group) -> str:
    done = [c.run.evaluation for c in group.columns if c.run.evaluation]
    facts: Mapping[str, list] = {"sampler settings": [e.sampler for e in done], "judges": [e.judge for e in done]}
    different = [what for what, found in facts.items() if any(f != found[0] for f in found)]
    if not different:
        return ""
    return f"These runs were evaluated with different {' and '.join(different)}: their numbers and pictures do not compare like for like."
