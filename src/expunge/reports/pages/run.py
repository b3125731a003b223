"""The page of a run: its head, six images, three questions with their answers, and everything else folded. One file that loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.audits.results import Audit
from expunge.audits.verdict import RULES, TITLES
from expunge.errors import ExpungeError
from expunge.reports.charts.loss import window_of
from expunge.reports.charts.sequence import course_of
from expunge.reports.images import Strip
from expunge.reports.pages.attacks import RETRAINED_COLOUR, UNLEARNED_COLOUR, audit_section
from expunge.reports.pages.head import head
from expunge.reports.pages.highlights import highlights
from expunge.reports.pages.information import information_section
from expunge.reports.pages.questions import Question, questions
from expunge.reports.pages.runs import render_runs
from expunge.reports.pages.sections import OPEN_PROBES, group_section, terms, title_of
from expunge.reports.pages.template import fill
from expunge.reports.run_view import RunView, read_view, split_by_concept, with_audit
from expunge.reports.tables import group_runs
from expunge.reports.text.answers import VERDICT_RULES, Answer
from expunge.reports.text.conclusions import MODEL_NAMES
from expunge.reports.text.verdict import in_one_line
from expunge.storage.files import write_atomically

UNSAFE = "unsafe"
"""The kind of concepts whose images are blurred unless the reader shows them."""


@dataclass(frozen=True)
class Part:
    """One concept of a run."""

    title: str
    highlights: tuple[Strip, ...]
    questions: list[Question]

    @property
    def answers(self) -> list[Answer]:
        return [question.answer for question in self.questions]

    @property
    def status(self) -> str:
        return in_one_line(self.answers)


def write_report(runs: Sequence[Path], out: Path, pictures: bool = True, blur: bool | None = None) -> Path:
    """Writes the page of a run with its audits, or of several runs side by side, to `out`, and returns `out`.

    The page contains its images, charts and style, runs no script and loads nothing. The same folders give the same bytes. The file
    appears whole or not at all.

    Args:
        pictures: whether the page has images.
        blur: whether images are blurred until the reader shows them; by default those of unsafe concepts.

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
    write_atomically(out, render_report([read_view(Path(folder)) for folder in runs], pictures, blur).encode())
    return out


def write_audit_page(audit: Audit, pictures: bool = True, blur: bool | None = None) -> Path:
    """Writes the page of the audited run, with this audit alone, into the audit's folder, and returns its path.

    Args:
        pictures: as in `write_report`.
        blur: as in `write_report`.

    Raises:
        ExpungeError: the file cannot be written.
    """
    view = with_audit(read_view(audit.sources["unlearned"]), audit)
    out = audit.folder / "index.html"
    write_atomically(out, render_report([view], pictures, blur).encode())
    return out


def render_report(views: Sequence[RunView], pictures: bool = True, blur: bool | None = None) -> str:
    """The text of the page of one run or of several."""
    is_blurred = any(part.card.kind == UNSAFE for v in views for part in split_by_concept(v)) if blur is None else blur
    return render_runs(views, pictures, is_blurred) if len(views) > 1 else _render_run(views[0], pictures, is_blurred)


def _render_run(view: RunView, pictures: bool, blur: bool) -> str:
    views = split_by_concept(view)
    parts = [Part(v.card.target or "the concept", highlights(v) if pictures else (), questions(v)) for v in views]
    sections = [group_section(g, pictures) for g in group_runs(views)]
    audits = [audit_section(a.audit, pictures) for a in view.audits if a.audit]
    wholes = [(s, r) for s in sections for r in s.runs if not r.column.view.part]
    information = information_section(view.run, pictures)
    glossary, unexplained = terms(sections)
    has_albums = any(s.albums for s in sections)
    return fill(
        "run.html.jinja",
        title=title_of(views),
        origin="",
        card=view.card,
        folder=view.folder,
        parts=parts,
        facts=head(view),
        is_measured=view.evaluation is not None,
        notes=view.evaluation.notes if view.evaluation else (),
        sections=sections,
        wholes=wholes,
        has_albums=has_albums,
        has_images=has_albums or any(p.highlights for p in parts) or any(s.strips for a in audits for s in a.attacks),
        is_blurred=blur,
        audits=audits,
        audit_rules=[(TITLES[state], rule) for state, rule in RULES.items()],
        failed=TITLES["failed"],
        names=MODEL_NAMES,
        unlearned_colour=UNLEARNED_COLOUR,
        retrained_colour=RETRAINED_COLOUR,
        open_probes=OPEN_PROBES,
        has_second=any(c.compared.second for s in sections for c in s.group.columns),
        courses=[c for c in [course_of(view)] if c],
        informations=[information] if information else [],
        glossary=glossary,
        unexplained=unexplained,
        rules=VERDICT_RULES,
        window=window_of,
    )
