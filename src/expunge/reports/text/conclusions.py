"""What an audit found, in sentences, for a reader who decides by it. A sentence claims no more than was measured."""

from collections.abc import Sequence

from expunge.audits.cells import Reading
from expunge.audits.results import Audit
from expunge.audits.verdict import TITLES, Curve, Finding
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval
from expunge.reports.format import interval, listed, number, plural
from expunge.reports.text.answers import STATES, Answer, Statement, Status, audit_badge

MODEL_NAMES = {"unlearned": "unlearned model", "base": "base model", "retrained": "retrained model"}
"""What each attacked model is called."""


def summarise(audit: Audit) -> list[str]:
    """A few paragraphs: what was tried, what came of it, what was not tried."""
    several = len(audit.chances) > 1
    paragraphs = [_tried(audit)]
    for concept in audit.chances:
        found = [f for f in audit.findings if f.concept == concept]
        lead = f"“{concept}”: " if several else ""
        paragraphs += [lead + text for text in (_before(found), *_outcomes(found)) if text]
    if audit.failures:
        names = dict.fromkeys(f"{f.label} on the {MODEL_NAMES[f.role]}" for f in audit.failures)
        paragraphs.append(f"Not done, for the reasons below: {listed(names)}.")
    if cut := [d for d in audit.done if d.result.cut]:
        ends = [f"{d.label} on the {MODEL_NAMES[d.role]} after {d.result.readings[-1].strength:g} {d.result.unit}" for d in cut]
        paragraphs.append(f"Ended early, because the loss was no longer finite: {listed(ends)}. Readings beyond are unknown.")
    return [*paragraphs, _limits(audit)]


def answer_of(finding: Finding, several: bool) -> Answer:
    """One attack: the verdict, and the shares of each model that support it."""
    statements = [_statement(finding, "unlearned", finding.unlearned), _statement(finding, "base", finding.base)]
    if finding.control:
        statements.append(_statement(finding, "retrained", finding.control))
    name = f"{finding.unlearned.label}, “{finding.concept}”" if several else finding.unlearned.label
    return Answer(name, *audit_badge(finding.state, finding.second), "", tuple(statements), _remark(finding))


def strength_of(curve: Curve) -> str:
    """The strength of the best reading, in words."""
    return f"after {curve.best.strength:g} {curve.result.unit}" if curve.best.strength else "without an attack"


def _tried(audit: Audit) -> str:
    made = {d.label for d in audit.done if d.role == "unlearned"}
    entries = [e for e in audit.budget.entries if e.label in made]
    attacks = {e.name for e in entries}
    settings = "" if len(entries) == len(attacks) else f" in {len(entries)} settings"
    judges = f"The judge “{audit.judges[0]}” decides whether an image shows the concept"
    judges += f"; the judge “{audit.judges[1]}” checks it." if len(audit.judges) > 1 else "."
    return (
        f"The budget “{audit.budget.name}” tried {plural(len(attacks), 'attack')}{settings}, with seed {audit.seed}. Every reading has "
        f"{plural(audit.budget.pictures, 'image')}. {judges}"
    )


def _before(found: Sequence[Finding]) -> str:
    if not found:
        return "No attack was completed, so nothing is known."
    mine, base = found[0].unlearned, found[0].base
    return (
        f"Before any attack, under plain prompts, the judge sees “{found[0].concept}” in {_counted(mine)} of the unlearned model and in "
        f"{_counted(base)} of the base model."
    )


def _counted(curve: Curve) -> str:
    return f"{_out_of(curve, curve.result.readings[0])} ({interval(curve.before.low, curve.before.high, True)})"


def _out_of(curve: Curve, reading: Reading) -> str:
    return f"{reading.hits[curve.judge]} of {reading.n} images"


def _outcomes(found: Sequence[Finding]) -> list[str]:
    """A paragraph for each kind of verdict that there is."""
    of = {state: [f.unlearned for f in found if f.state == state] for state in TITLES}
    texts = []
    if of["back"]:
        texts.append(f"The concept comes back under {listed(map(_at_best, of['back']))}.")
    if of["part"]:
        attacks = listed(map(_at_best, of["part"]))
        texts.append(f"The concept comes back in part, less than half as often as in the base model, under {attacks}.")
    for has_control, why in (
        (True, "a model that never saw the concept shows it as often under the same attack"),
        (False, "the attacker trains on images of the concept, and no model that never saw it was attacked for comparison"),
    ):
        if learnt := [_at_best(f.unlearned) for f in found if f.state == "learnt" and bool(f.control) == has_control]:
            texts.append(f"Under {listed(learnt)} the concept is seen again, but {why}. The attack may have taught it anew.")
    if large := [f"{f.unlearned.label} ({_unasked(f.unlearned)})" for f in found if f.state in ("back", "part", "learnt") and f.at_large]:
        texts.append(
            f"At the best reading under {listed(large)} the judge also sees the concept in images of prompts that do not name it. The "
            "attack changed what the model generates in general, so this reading does not show that the concept answers to its name."
        )
    if of["holds"]:
        ends = (f"{_at_most(c)}; up to {number(c.best.rate(c.judge).high, True)} possible)" for c in of["holds"])
        texts.append(f"The concept does not come back within this budget under {listed(ends)}.")
    if of["present"]:
        labels = listed(c.label for c in of["present"])
        texts.append(f"Under {labels} no increase is shown, but the concept was not shown to be removed before the attack either.")
    texts += [f"No verdict for {f.unlearned.label}: {_lacking(f)}." for f in found if f.state == "blunt"]
    if of["unclear"]:
        ends = (f"{_at_most(c)}; {interval(*c.best.rate(c.judge)[1:], True)})" for c in of["unclear"])
        texts.append(
            f"It is unknown whether the concept comes back under {listed(ends)}: the intervals are too wide. More images narrow them."
        )
    return texts


def _lacking(finding: Finding) -> str:
    """Why the base model is no control for an attack."""
    base, guessed = finding.base, "which may be no more than a guess"
    plainly = _out_of(base, base.result.readings[0])
    if finding.lack == "plain":
        return f"the judge recognises the concept in only {plainly} of the base model under plain prompts. Choose another judge"
    why = guessed if finding.lack == "attacked" else f"less than half as often as before the attack ({plainly})"
    return f"the base model under the same attack shows the concept in {_out_of(base, base.best)}, {why}"


def _at_best(curve: Curve) -> str:
    return f"{curve.label} ({_out_of(curve, curve.best)} {strength_of(curve)})"


def _unasked(curve: Curve) -> str:
    seen = curve.best.unasked
    return f"{seen.hits[curve.judge]} of {seen.n} images" if seen else ""


def _at_most(curve: Curve) -> str:
    return f"{curve.label} (at most {_out_of(curve, curve.best)}"


def _limits(audit: Audit) -> str:
    text = (
        "These results hold for these attacks and settings, one seed, and prompts of the vocabulary. They do not prove that the concept is "
        "removed: a stronger or a different attack may succeed."
    )
    if audit.untried:
        text += f" Not tried: {listed(audit.untried)}."
    has_control = {f.concept: any(g.control for g in audit.findings if g.concept == f.concept) for f in audit.findings}
    if bare := [concept for concept, compared in has_control.items() if not compared]:
        of = "the concept" if len(audit.chances) == 1 else listed(f"“{c}”" for c in bare)
        text += f" No model retrained without {of} was attacked, so relearning cannot be distinguished from learning anew."
    return text


def _statement(finding: Finding, role: str, curve: Curve) -> Statement:
    best, rate = curve.best, curve.best.rate(curve.judge)
    has_risen = rate.low > curve.before.high
    text = (
        f"The judge sees the concept in {number(rate.value, True)} of the images {strength_of(curve)} (before the attack: "
        f"{number(curve.before.value, True)}). {'The share rises' if has_risen else 'No rise is shown'}."
    )
    status: Status = "unknown"
    if role == "unlearned":
        status = STATES[finding.state]
        if unasked := _unasked(curve):
            text += f" In images of prompts that do not name the concept: {unasked}."
        text += f" {_regained(finding)}"
        if finding.others:
            text += f" Other settings: {listed(map(_at_best, finding.others))}."
    if curve.result.cut:
        text += f" Ended early after {curve.last.strength:g} {curve.result.unit}: {curve.result.cut.rstrip('.')}."
    now, before = _row(role, curve, rate, best.n), _row(role, curve, curve.before, curve.result.readings[0].n)
    return Statement(status, MODEL_NAMES[role].capitalize(), text, now, before, "before the attack")


def _regained(finding: Finding) -> str:
    if finding.half is None:
        return "The judge does not recognise the concept in the base model's images, so what half of its share would be is unknown."
    half, at = number(finding.half, True), finding.regained_at
    if at is None:
        return f"No reading reaches {half}, half of the base model's share."
    if at == 0:
        return f"The share before any attack is at least {half}, half of the base model's share."
    return f"The share reaches {half}, half of the base model's share, after {at:g} {finding.unlearned.result.unit}."


def _remark(finding: Finding) -> str:
    parts = []
    if finding.unlearned.result.threat:
        parts.append(f"The attacker has {finding.unlearned.result.threat}.")
    if finding.sooner_at is not None:
        at = f"{finding.sooner_at:g} {finding.unlearned.result.unit}"
        parts.append(f"After {at} the model shows the concept more often than a model that never saw it.")
    if finding.second and finding.second != finding.state:
        first = f"The judge “{finding.unlearned.judge}” comes to the verdict “{TITLES[finding.state]}”"
        parts.append(f"{first}, the second judge to “{TITLES[finding.second]}”, so trust neither.")
    return " ".join(parts)


def _row(role: str, curve: Curve, rate: Interval, n: int) -> Row:
    return Row(role, "", curve.result.concept, 0, "target", "ASR", *rate, n, curve.label, curve.best.strength, curve.judge)
