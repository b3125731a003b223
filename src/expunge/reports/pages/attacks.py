"""What a run's page shows of its audits: each attack with its verdict, its curves and its images."""

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from expunge.audits.cells import Reading
from expunge.audits.results import Audit
from expunge.audits.verdict import Curve, Finding
from expunge.evaluation.statistics import Interval
from expunge.progress import duration
from expunge.reports.charts.recovery import RecoveryLine, recovery_chart
from expunge.reports.format import DASH, count, flat, interval, number
from expunge.reports.images import Frame, Mark, Strip, embed
from expunge.reports.tables import Value
from expunge.reports.text.answers import Answer
from expunge.reports.text.attackers import ACCESS, PLAIN
from expunge.reports.text.conclusions import MODEL_NAMES, answer_of, strength_of, summarise
from expunge.storage.files import inner_file

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


@dataclass(frozen=True)
class AuditSection:
    """Everything that the page shows of one audit."""

    audit: Audit
    summary: list[str]
    attacks: list[AttackSection]
    costs: list[tuple[str, ...]]
    total: tuple[str, ...]
    settings: list[tuple[str, str]]
    entries: list[tuple[str, list[tuple[str, str]]]]
    """By the label of an attack, its settings."""
    chances: dict[str, str]
    """By concept, the share that a guess would give."""


def audit_section(audit: Audit, pictures: bool) -> AuditSection:
    """Everything that the page shows of an audit; without images unless `pictures`."""
    several, order = len(audit.chances) > 1, {name: at for at, name in enumerate([*PLAIN])}
    access = list(ACCESS)
    found = sorted(audit.findings, key=lambda f: (access.index(_access(audit, f)), order.get(f.attack, len(order))))
    done = [(d.label, d.result.concept, d.role, d.result.forwards, d.result.backwards, d.result.seconds) for d in audit.done]
    return AuditSection(
        audit,
        summarise(audit),
        [_section(audit, f, several, pictures) for f in found],
        [_cost(*cell) for cell in done],
        _cost("together", "", "", *audit.totals()),
        _settings(audit),
        [(e.label, flat({"attack": e.name, **e.settings})) for e in audit.budget.entries],
        {concept: number(chance, True) for concept, chance in audit.chances.items()},
    )


def _access(audit: Audit, finding: Finding) -> str:
    found = audit.access_of(finding.attack)
    return found if found in ACCESS else "weights"


def _section(audit: Audit, finding: Finding, several: bool, pictures: bool) -> AttackSection:
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
        _strips(audit.folder, mine) if pictures else (),
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
