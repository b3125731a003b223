"""The page of an audit: can the concept be brought back, by what, and how that is known."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from expunge.audits.cells import Reading
from expunge.audits.results import Audit
from expunge.audits.verdict import RULES, TITLES, Curve, Finding
from expunge.canvas.control import SHIPPED
from expunge.evaluation.statistics import Interval
from expunge.names import NO_CONTROL
from expunge.progress import duration
from expunge.reports.charts.recovery import RecoveryLine, recovery_chart
from expunge.reports.format import DASH, count, flat, interval, number
from expunge.reports.images import Frame, Mark, Strip, embed
from expunge.reports.pages.template import fill, origin_of
from expunge.reports.tables import Value
from expunge.reports.text.answers import Answer
from expunge.reports.text.conclusions import MODEL_NAMES, answer_of, strength_of, summarise
from expunge.runs.folder import Card
from expunge.storage.files import inner_file, write_atomically

UNLEARNED_COLOUR, RETRAINED_COLOUR = 0, 2
"""The colours of these models; the base model has the same as on every page."""


@dataclass(frozen=True)
class AttackSection:
    """Everything that the page shows of one attack on one concept."""

    finding: Finding
    answer: Answer
    before: Value
    best: Value
    base: Value
    control: Value | None
    chart: Markup | None
    strips: tuple[Strip, ...]
    """Each prompt before the attack, at the best reading, and at the last one."""

    @property
    def strength(self) -> str:
        return strength_of(self.finding.unlearned)

    @property
    def other_settings(self) -> str:
        """The greatest share under the other settings; empty if there are none."""
        shares = [c.best.rate(c.judge).value for c in self.finding.others]
        return f"other settings up to {number(max(shares), True)}" if shares else ""

    @property
    def unasked(self) -> str:
        """At the best reading, the share in images of prompts that do not name the concept; empty if it was not measured."""
        best, judge = self.finding.unlearned.best, self.finding.unlearned.judge
        return f"{number(best.unasked.rate(judge).value, True)} unasked" if best.unasked else ""

    @property
    def training_set(self) -> str:
        """How often the judges see the concept in the images that the attack trained on; empty if they did not judge them."""
        if (found := self.finding.unlearned.result.taught) is None:
            return ""
        seen = ", ".join(f"{judge} in {hits}" for judge, hits in found.hits.items())
        return f"The attack trains on {found.n} images. Images in which a judge sees {self.finding.concept}: {seen}."

    @property
    def is_open(self) -> bool:
        return self.finding.state in ("back", "part", "learnt")

    @property
    def areas(self) -> list[str]:
        """The areas under the curves: unlearned model, base model, retrained model."""
        found = self.finding
        return [f"{c.area:.2f}" if c else DASH for c in (found.unlearned, found.base, found.control)]


def write_audit_page(audit: Audit) -> Path:
    """Writes the page into the audit's folder, and returns its path. It contains all it shows and runs no script; the same audit gives
    the same bytes.

    Raises:
        ExpungeError: the file cannot be written.
    """
    out = audit.folder / "index.html"
    write_atomically(out, render_audit_page(audit).encode())
    return out


def render_audit_page(audit: Audit) -> str:
    """The text of the page."""
    several = len(audit.chances) > 1
    forwards, backwards, seconds = audit.totals()
    card = Card(audit.card)
    return fill(
        "audit.html.jinja",
        card=card,
        origin=origin_of([card]),
        concepts=list(audit.chances),
        audit=audit,
        summary=summarise(audit),
        sections=[_section(audit, f, several) for f in audit.findings],
        several=several,
        rules=[(TITLES[state], rule) for state, rule in RULES.items()],
        failed=TITLES["failed"],
        names=MODEL_NAMES,
        chances={concept: number(chance, True) for concept, chance in audit.chances.items()},
        costs=[_cost(d.label, d.result.concept, d.role, d.result.forwards, d.result.backwards, d.result.seconds) for d in audit.done],
        total=_cost("together", "", "", forwards, backwards, seconds),
        entries=[(e.label, flat({"attack": e.name, **e.settings})) for e in audit.budget.entries],
        settings=_settings(audit),
        versions=_versions(card),
        command=command_of(audit),
        second=audit.judges[1] if len(audit.judges) > 1 else None,
        unlearned_colour=UNLEARNED_COLOUR,
        retrained_colour=RETRAINED_COLOUR,
    )


def command_of(audit: Audit) -> str:
    """The command line that makes the same audit again."""
    flags = list(audit.budget.flags)
    if not audit.budget.is_builtin and not Path(flags[1]).is_file():  # a budget that was never a file: the one in the audit's folder
        flags = ["--budget", str(audit.folder / "budget.toml")]
    words = ["expunge", "audit", str(audit.sources.get("unlearned", audit.card["id"])), *flags, "--seed", str(audit.seed)]
    control = audit.sources.get("retrained")
    words += [] if control == SHIPPED else ["--control", str(control or NO_CONTROL)]
    words += ["--judge", audit.judges[0]] if len(audit.judges) == 1 else []
    words += ["--model", audit.model] if audit.model and audit.model != audit.card["model"]["name"] else []
    run = audit.sources.get("unlearned")
    words += ["--out", str(audit.folder)] if run and audit.folder != run / audit.budget.folder_name(audit.seed) else []
    return shlex.join(words)


def _section(audit: Audit, finding: Finding, several: bool) -> AttackSection:
    mine, base, control = finding.unlearned, finding.base, finding.control
    lines = [RecoveryLine(None, base.points), *(RecoveryLine(UNLEARNED_COLOUR, c.points, faint=True) for c in finding.others)]
    lines += [RecoveryLine(RETRAINED_COLOUR, control.points)] if control else []
    lines.append(RecoveryLine(UNLEARNED_COLOUR, mine.points))
    title = f"Share of images that show {finding.concept}, over the strength of {mine.label}"
    return AttackSection(
        finding,
        answer_of(finding, several),
        _share(mine.before, mine.result.readings[0].n),
        _share(finding.rate, mine.best.n),
        _share(base.best.rate(base.judge), base.best.n),
        _share(control.highest_until(mine.best.strength), control.best.n) if control else None,
        recovery_chart(lines, mine.result.unit, audit.chances[finding.concept], title),
        _strips(audit.folder, mine),
    )


def _share(rate: Interval, n: int) -> Value:
    return Value(rate.value, number(rate.value, True), interval(rate.low, rate.high, True), n)


def _strips(folder: Path, curve: Curve) -> tuple[Strip, ...]:
    """The kept images of the best reading, each beside those of the first and of the last reading in the same place."""
    readings = {r.strength: r for r in (curve.result.readings[0], curve.best, curve.last)}.values()
    return tuple(Strip(s.prompt, None, tuple(_frame(folder, curve, r, s.place) for r in readings)) for s in curve.best.shown)


def _frame(folder: Path, curve: Curve, reading: Reading, place: int) -> Frame:
    when = f"after {reading.strength:g} {curve.result.unit}" if reading.strength else "before"
    shown = next((s for s in reading.shown if s.place == place), None)
    if shown is None:
        return Frame(None, f"{when}: not kept", when, ())
    return Frame(
        embed(inner_file(folder, f"pictures/{shown.picture}")), f"{when}: {shown.prompt}", when, (Mark(not shown.hit, shown.seen),)
    )


def _cost(label: str, concept: str, role: str, forwards: int, backwards: int, seconds: float) -> tuple[str, ...]:
    return label, concept, MODEL_NAMES.get(role, ""), count(forwards), count(backwards), duration(seconds)


def _settings(audit: Audit) -> list[tuple[str, str]]:
    control = audit.control["id"] if audit.control else DASH
    facts = [("budget", audit.budget.name), ("images of each reading", str(audit.budget.pictures)), ("seed", str(audit.seed))]
    return [*facts, ("judge", ", ".join(audit.judges)), *flat(dict(audit.sampler)), ("retrained model", control)]


def _versions(card: Card) -> list[tuple[str, str]]:
    about = {
        "run": card.id,
        "date": card.date,
        "method": card.method,
        "model": card.model,
        "fingerprint": card.fingerprint,
        "seed of the run": None if card.seed is None else str(card.seed),
        "dtype": card.dtype,
    }
    return [(k, v or DASH) for k, v in about.items()] + flat(card.versions)
