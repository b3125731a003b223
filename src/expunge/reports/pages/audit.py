"""The page of an audit: can it be brought back, by what, and how that is known."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from expunge.audits.budget import builtin
from expunge.audits.cells import Reading
from expunge.audits.results import Audit
from expunge.audits.setup import folder_of
from expunge.audits.verdict import RULES, TITLES, Curve, Finding
from expunge.canvas.control import SHIPPED
from expunge.evaluation.statistics import Interval
from expunge.names import NO_CONTROL
from expunge.reports import words
from expunge.reports.charts.recovery import Line, curves
from expunge.reports.images import Mark, Shot, embed
from expunge.reports.pages.template import filled
from expunge.reports.text.conclusions import NAMES, after, answer, summary
from expunge.reports.text.verdict import Answer
from expunge.storage.files import write_atomically

UNLEARNED, RETRAINED = 0, 2
"""Their colours; the untouched model has that of every page."""


@dataclass(frozen=True)
class Share:
    """A share ready to print, as a cell of a table takes it."""

    value: float
    text: str
    interval: str
    n: int | None


@dataclass(frozen=True)
class Trio:
    """One prompt from one noise: before the attack, at its best, and at its end where that is another reading."""

    prompt: str
    seed: None
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Section:
    """All that the page shows of one attack on one concept."""

    finding: Finding
    answer: Answer
    before: Share
    best: Share
    base: Share
    control: Share | None
    chart: Markup | None
    trios: tuple[Trio, ...]

    @property
    def after(self) -> str:
        return after(self.finding.unlearned)

    @property
    def elsewhere(self) -> str:
        """The greatest share under the other settings; nothing where there are none."""
        shares = [c.best.rate(c.judge).value for c in self.finding.others]
        return f"others up to {words.number(max(shares), True)}" if shares else ""

    @property
    def unasked(self) -> str:
        """The share, at the best reading, in pictures of prompts that do not name the concept; nothing where it was not measured."""
        best, judge = self.finding.unlearned.best, self.finding.unlearned.judge
        return f"{words.number(best.unasked.rate(judge).value, True)} unasked" if best.unasked else ""

    @property
    def taught(self) -> str:
        """What judges see in the pictures that the attack trained on; nothing where they did not look."""
        if (found := self.finding.unlearned.result.taught) is None:
            return ""
        seen = " and ".join(f"{judge} in {hits or 'none'}" for judge, hits in found.hits.items())
        return f"Of the {found.n} pictures that it trains on, judges see {self.finding.concept} so often: {seen}."

    @property
    def back(self) -> bool:
        return self.finding.state in ("back", "part", "learnt")

    @property
    def areas(self) -> list[str]:
        """Under the curves: unlearned, untouched, retrained."""
        found = self.finding
        return [f"{c.area:.2f}" if c else words.DASH for c in (found.unlearned, found.base, found.control)]


def write(audit: Audit) -> Path:
    """Writes the page into the audit's folder and gives it back. It holds all it shows and runs no script; the same audit gives the
    same bytes."""
    out = audit.folder / "index.html"
    write_atomically(out, render(audit).encode())
    return out


def render(audit: Audit) -> str:
    """The page's text."""
    several = len(audit.chances) > 1
    forwards, backwards, seconds = audit.totals()
    return filled(
        "audit.html.jinja",
        card=audit.card,
        concepts=list(audit.chances),
        audit=audit,
        summary=summary(audit),
        sections=[_section(audit, f, several) for f in audit.findings],
        several=several,
        rules=RULES,
        failed=TITLES["failed"],
        names=NAMES,
        chances={concept: words.number(chance, True) for concept, chance in audit.chances.items()},
        costs=[_cost(d.label, d.result.concept, d.role, d.result.forwards, d.result.backwards, d.result.seconds) for d in audit.done],
        total=_cost("together", "", "", forwards, backwards, seconds),
        entries=[(e.label, words.flat({"attack": e.name, **e.settings})) for e in audit.budget.entries],
        made=_made(audit),
        versions=_versions(audit),
        command=_command(audit),
        second=audit.judges[1] if len(audit.judges) > 1 else None,
        unlearned_colour=UNLEARNED,
        retrained_colour=RETRAINED,
    )


def _section(audit: Audit, finding: Finding, several: bool) -> Section:
    mine, base, control = finding.unlearned, finding.base, finding.control
    lines = [Line(None, base.points), *(Line(UNLEARNED, c.points, faint=True) for c in finding.others)]
    lines += [Line(RETRAINED, control.points)] if control else []
    title = f"Share of pictures that show {finding.concept}, over the strength of {mine.label}"
    chart = curves([*lines, Line(UNLEARNED, mine.points)], mine.result.unit, audit.chances[finding.concept], title)
    return Section(
        finding,
        answer(finding, several),
        _share(mine.before, mine.result.readings[0].n),
        _share(finding.rate, mine.best.n),
        _share(base.best.rate(base.judge), base.best.n),
        _share(control.highest_until(mine.best.strength), control.best.n) if control else None,
        chart,
        _trios(audit.folder / "pictures", mine),
    )


def _share(rate: Interval, n: int) -> Share:
    return Share(rate.value, words.number(rate.value, True), words.interval(rate.low, rate.high, True), n)


def _trios(folder: Path, curve: Curve) -> tuple[Trio, ...]:
    """The kept pictures of the best reading, each beside those of the first and of the last at the same place."""
    telling = {r.strength: r for r in (curve.result.readings[0], curve.best, curve.last)}.values()
    return tuple(Trio(s.prompt, None, tuple(_shot(folder, curve, r, s.place) for r in telling)) for s in curve.best.shown)


def _shot(folder: Path, curve: Curve, reading: Reading, place: int) -> Shot:
    when = f"after {reading.strength:g} {curve.result.unit}" if reading.strength else "before"
    shown = next((s for s in reading.shown if s.place == place), None)
    if shown is None:
        return Shot(None, f"{when}: not kept", when, ())
    mark = Mark(not shown.hit, shown.seen)
    return Shot(embed(folder / shown.picture), f"{when}: {shown.prompt}", when, (mark,))


def _cost(label: str, concept: str, role: str, forwards: int, backwards: int, seconds: float) -> tuple[str, ...]:
    return label, concept, NAMES.get(role, ""), words.count(forwards), words.count(backwards), words.duration(seconds)


def _made(audit: Audit) -> list[tuple[str, str]]:
    control = audit.control["id"] if audit.control else words.DASH
    facts = [("budget", audit.budget.name), ("pictures of each reading", str(audit.budget.pictures)), ("seed", str(audit.seed))]
    return [*facts, ("judge", ", ".join(audit.judges)), *words.flat(dict(audit.sampler)), ("retrained control", control)]


def _versions(audit: Audit) -> list[tuple[str, str]]:
    card = audit.card
    about = {"run": card.get("id"), "method": card.get("method"), "model": (card.get("model") or {}).get("name")}
    about |= {"fingerprint": (card.get("model") or {}).get("fingerprint"), "seed of the run": card.get("seed"), "dtype": card.get("dtype")}
    return [(k, words.DASH if v is None else str(v)) for k, v in about.items()] + words.flat(card.get("versions") or {})


def _command(audit: Audit) -> str:
    flags, known = list(audit.budget.flags), audit.budget.name in builtin()
    if not known and not Path(flags[1]).is_file():  # a budget that was never a file: as it was written beside the page
        flags = ["--budget", str(audit.folder / "budget.toml")]
    words = ["expunge", "audit", str(audit.sources.get("unlearned", audit.card["id"])), *flags, "--seed", str(audit.seed)]
    control = audit.sources.get("retrained")
    words += [] if control == SHIPPED else ["--control", str(control or NO_CONTROL)]
    words += ["--judge", audit.judges[0]] if len(audit.judges) == 1 else []
    words += ["--model", audit.model] if audit.model and audit.model != audit.card["model"]["name"] else []
    run = audit.sources.get("unlearned")
    words += ["--out", str(audit.folder)] if run and audit.folder != run / folder_of(audit.budget, audit.seed) else []
    return shlex.join(words)
