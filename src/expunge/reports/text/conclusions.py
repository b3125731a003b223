"""Says in words what an audit found, for one who decides by it. Never more than was measured."""

from collections.abc import Iterable, Sequence

from expunge.audits.cells import Reading
from expunge.audits.results import Audit
from expunge.audits.verdict import TITLES, Curve, Finding
from expunge.evaluation.statistics import Interval
from expunge.reports.run_folder import Row
from expunge.reports.text.verdict import STATES, Answer, Status
from expunge.reports.text.verdict import Finding as Sentence
from expunge.reports.words import interval, number


def summary(audit: Audit) -> list[str]:
    """A few paragraphs in plain language: what was tried, what came of it, what was not tried."""
    several = len(audit.chances) > 1
    paragraphs = [_tried(audit)]
    for concept in audit.chances:
        found = [f for f in audit.findings if f.concept == concept]
        lead = f"Of “{concept}”: " if several else ""
        paragraphs += [lead + text for text in (_before(found), *_outcomes(found)) if text]
    if audit.failures:
        names = dict.fromkeys(f"{f.label} on the {NAMES[f.role]}" for f in audit.failures)
        paragraphs.append(f"Not done, for the reasons given below: {listed(list(names))}.")
    if cut := [d for d in audit.done if d.result.cut]:
        ends = [f"{d.label} on the {NAMES[d.role]} after {d.result.readings[-1].strength:g} {d.result.unit}" for d in cut]
        paragraphs.append(f"Cut short where the loss was no longer finite, so that nothing is known from there on: {listed(ends)}.")
    return [*paragraphs, _untried(audit)]


NAMES = {"unlearned": "unlearned model", "base": "untouched model", "retrained": "retrained model"}
"""What each attacked model is called."""


def answer(finding: Finding, several: bool) -> Answer:
    """One attack: the verdict, and the shares that carry it, model by model."""
    sentences = [_sentence(finding, "unlearned", finding.unlearned), _sentence(finding, "base", finding.base)]
    if finding.control:
        sentences.append(_sentence(finding, "retrained", finding.control))
    name = f"{finding.unlearned.label}, “{finding.concept}”" if several else finding.unlearned.label
    return Answer(name, STATES[finding.state], TITLES[finding.state], "", tuple(sentences), _remark(finding))


def after(curve: Curve) -> str:
    """The strength of the best reading, in words."""
    return f"after {curve.best.strength:g} {curve.result.unit}" if curve.best.strength else "as it is"


def listed(names: Iterable[str]) -> str:
    """
    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _tried(audit: Audit) -> str:
    made = {d.label for d in audit.done if d.role == "unlearned"}
    entries = [e for e in audit.budget.entries if e.label in made]
    attacks = {e.name for e in entries}
    tried = f"{len(attacks)} attack{'s' * (len(attacks) != 1)}"
    settings = "" if len(entries) == len(attacks) else f" in {len(entries)} settings"
    judges = f"the judge “{audit.judges[0]}”" + (f", checked by “{audit.judges[1]}”" if len(audit.judges) > 1 else "")
    return (
        f"Tried under the budget “{audit.budget.name}”: {tried}{settings}, with seed {audit.seed}. "
        f"Each reading is judged by {audit.budget.pictures} pictures; {judges} says whether the concept is seen."
    )


def _before(found: Sequence[Finding]) -> str:
    if not found:
        return "no attack was carried through, so nothing is known."
    mine, base = found[0].unlearned, found[0].base
    return (
        f"Under plain prompts, before any attack, “{found[0].concept}” is seen in {_counted(mine)} of the unlearned model, and in "
        f"{_counted(base)} of the untouched one."
    )


def _counted(curve: Curve) -> str:
    return f"{_out_of(curve, curve.result.readings[0])} ({interval(curve.before.low, curve.before.high, True)})"


def _out_of(curve: Curve, reading: Reading) -> str:
    return f"{reading.hits[curve.judge]} of {reading.n} pictures"


def _outcomes(found: Sequence[Finding]) -> list[str]:
    """A paragraph for each kind of verdict that there is."""
    of = {state: [f.unlearned for f in found if f.state == state] for state in TITLES}
    texts = []
    if of["back"]:
        texts.append(f"It comes back under {listed(map(_at_best, of['back']))}.")
    if of["part"]:
        texts.append(
            f"It comes back in part, less than half as often as in the untouched model, under {listed(map(_at_best, of['part']))}."
        )
    for beside, why in (
        (True, "a model that never saw it could not be told from this one"),
        (False, "the attacker trains on pictures of it, and no model that never saw it was attacked to compare with"),
    ):
        if learnt := [_at_best(f.unlearned) for f in found if f.state == "learnt" and bool(f.control) == beside]:
            texts.append(f"Under {listed(learnt)} it is seen again, but {why}: it may have been learnt anew rather than brought back.")
    if large := [f"{f.unlearned.label} ({_unasked(f.unlearned)})" for f in found if f.state in ("back", "part", "learnt") and f.at_large]:
        texts.append(
            f"At the best reading under {listed(large)} it is also seen where no prompt names it: the attack changed what the model draws "
            "at large, so that this reading is no sure sign of the concept under its name."
        )
    if of["holds"]:
        ends = (f"{_at_most(c)}; up to {number(c.best.rate(c.judge).high, True)} not ruled out)" for c in of["holds"])
        texts.append(f"It does not come back within this budget under {listed(ends)}.")
    if of["present"]:
        texts.append(
            f"Under {listed(c.label for c in of['present'])} nothing was shown to come back, but it was not shown to be gone before the "
            "attack either."
        )
    texts += [f"Under {f.unlearned.label} nothing can be said: {_lacking(f)}." for f in found if f.state == "blunt"]
    if of["unclear"]:
        ends = (f"{_at_most(c)}; {interval(*c.best.rate(c.judge)[1:], True)})" for c in of["unclear"])
        texts.append(
            f"It cannot be told whether it comes back under {listed(ends)}: the intervals are too wide. More pictures narrow them."
        )
    return texts


def _lacking(finding: Finding) -> str:
    """Why the untouched model is no measure of an attack."""
    base, guessed = finding.base, "which may be no more than a guess would give"
    plainly = _out_of(base, base.result.readings[0])
    if finding.lack == "plain":
        return f"under plain prompts the untouched model shows it in {plainly}, {guessed}"
    why = guessed if finding.lack == "attacked" else f"less than half as often as before, in {plainly}"
    return f"attacked so, the untouched model shows it in {_out_of(base, base.best)}, {why}"


def _at_best(curve: Curve) -> str:
    return f"{curve.label} ({_out_of(curve, curve.best)} {after(curve)})"


def _unasked(curve: Curve) -> str:
    seen = curve.best.unasked
    return f"{seen.hits[curve.judge]} of {seen.n} pictures" if seen else ""


def _at_most(curve: Curve) -> str:
    return f"{curve.label} (seen in {_out_of(curve, curve.best)} at most"


def _untried(audit: Audit) -> str:
    text = "This says what these attacks found with these settings, from one seed, on prompts of the vocabulary. It is no proof that the "
    text += "concept is gone: a stronger attacker, or another one, may succeed where these failed."
    if audit.untried:
        text += f" Not tried at all: {listed(list(audit.untried))}."
    beside = {f.concept: any(g.control for g in audit.findings if g.concept == f.concept) for f in audit.findings}
    bare = [concept for concept, compared in beside.items() if not compared]
    if bare:
        of = "the concept" if len(audit.chances) == 1 else listed([f"“{c}”" for c in bare])
        text += f" No model retrained without {of} was attacked, so what comes back is not told from what is learnt anew."
    return text


def _sentence(finding: Finding, role: str, curve: Curve) -> Sentence:
    best, rate = curve.best, curve.best.rate(curve.judge)
    moved = rate.low > curve.before.high
    told = "rises" if moved else "does not rise beyond doubt"
    text = f"seen in {number(rate.value, True)} {after(curve)}, before in {number(curve.before.value, True)}: {told}."
    status: Status = "unknown"
    if role == "unlearned":
        status = STATES[finding.state]
        others = f" Under other settings: {listed([_at_best(c) for c in finding.others])}." if finding.others else ""
        at = finding.regained_at
        unasked = f" Prompts that do not name it show it then in {told}." if (told := _unasked(curve)) else ""
        text += f"{unasked} {_regained(finding, at)}{others}"
    if curve.result.cut:
        text += f" Cut short after {curve.last.strength:g} {curve.result.unit}: {curve.result.cut.rstrip('.')}."
    return Sentence(
        status, NAMES[role].capitalize(), text, _row(role, curve, rate, best.n), _row(role, curve, curve.before, curve.result.readings[0].n)
    )


def _regained(finding: Finding, at: float | None) -> str:
    half = number(finding.half, True)
    if at is None:
        return f"No reading reaches {half}, half of the untouched model's share."
    if at == 0:
        return f"It has {half}, half of the untouched model's share, before any attack."
    return f"{half}, half of the untouched model's share, is reached by {at:g} {finding.unlearned.result.unit}."


def _remark(finding: Finding) -> str:
    parts = []
    if finding.unlearned.result.threat:
        parts.append(f"The attacker has {finding.unlearned.result.threat}.")
    if finding.sooner_at is not None:
        parts.append(
            f"By {finding.sooner_at:g} {finding.unlearned.result.unit} it shows the concept more often than a model that never saw it."
        )
    if finding.second and finding.second != finding.state:
        parts.append(f"The second judge's pictures say otherwise: “{TITLES[finding.second]}”. Doubt both.")
    return " ".join(parts)


def _row(role: str, curve: Curve, rate: Interval, n: int) -> Row:
    return Row(role, "target", "ASR", *rate, n, curve.label, curve.judge, curve.result.concept)
