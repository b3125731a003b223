"""The page of several runs side by side: verdicts, images and numbers of runs on the same concept."""

from collections.abc import Sequence

from expunge.reports.charts.loss import window_of
from expunge.reports.charts.sequence import course_of
from expunge.reports.pages.information import information_section
from expunge.reports.pages.sections import OPEN_PROBES, GroupSection, group_section, terms, title_of
from expunge.reports.pages.template import fill, origin_of
from expunge.reports.run_view import RunView, split_by_concept
from expunge.reports.tables import group_runs
from expunge.reports.text.answers import VERDICT_RULES


def render_runs(views: Sequence[RunView], pictures: bool, blur: bool) -> str:
    """The text of the page. A run of several concepts is shown as a run of each."""
    parts = [part for v in views for part in split_by_concept(v)]
    sections = [group_section(g, pictures) for g in group_runs(parts)]
    entries = [(s, r) for s in sections for r in s.runs]
    glossary, unexplained = terms(sections)
    return fill(
        "runs.html.jinja",
        title=title_of(parts),
        origin=origin_of(v.card for v in views),
        sections=sections,
        entries=entries,
        several_groups=len(sections) > 1,
        is_measured=any(v.evaluation for v in parts),
        has_images=any(s.albums for s in sections),
        is_blurred=blur,
        notes=_notes(sections),
        open_probes=OPEN_PROBES,
        has_second=any(c.compared.second for s in sections for c in s.group.columns),
        wholes=[(s, r) for s, r in entries if not r.column.view.part],
        courses=[c for v in views if (c := course_of(v))],
        informations=[found for v in views if (found := information_section(v.run, pictures))],
        glossary=glossary,
        unexplained=unexplained,
        rules=VERDICT_RULES,
        window=window_of,
    )


def _notes(sections: Sequence[GroupSection]) -> dict[str, list[str]]:
    """Each note of an evaluation once, with the runs that it is about."""
    notes: dict[str, list[str]] = {}
    for column in (c for s in sections for c in s.group.columns):
        for note in column.view.evaluation.notes if column.view.evaluation else ():
            notes.setdefault(note, []).append(f"{column.label} on {column.view.card.target}" if len(sections) > 1 else column.label)
    return notes
