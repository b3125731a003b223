"""Says in words what an audit found, for one who decides by it. Never more than was measured."""

from collections.abc import Sequence

from expunge.auditing.findings import TITLES, Curve, Finding
from expunge.auditing.outcome import Audit
from expunge.metrics.intervals import Interval
from expunge.reporting.rows import Row
from expunge.reporting.verdict import STATES, Answer, Status
from expunge.reporting.verdict import Finding as Sentence
from expunge.reporting.words import interval, number


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


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- the summary's paragraphs --------------------------------------------------------------------------------------------------


def _tried(audit: Audit) -> str:
    attacks = list(dict.fromkeys(e.name for e in audit.budget.entries))
    count = len(audit.budget.entries)
    settings = "" if count == len(attacks) else f" in {count} settings"
    judges = f"the judge “{audit.judges[0]}”" + (f", checked by “{audit.judges[1]}”" if len(audit.judges) > 1 else "")
    return (
        f"Tried under the budget “{audit.budget.name}”: {len(attacks)} attack{'s' * (len(attacks) > 1)}{settings}, with seed {audit.seed}. "
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
    first = curve.result.readings[0]
    rate = first.rate(curve.judge)
    return f"{_out_of(curve, rate, first.n)} ({interval(rate.low, rate.high, True)})"


def _out_of(curve: Curve, rate: Interval, n: int) -> str:
    return f"{round(rate.value * n)} of {n} pictures"


def _outcomes(found: Sequence[Finding]) -> list[str]:
    """A paragraph for each kind of verdict that there is."""
    of = {state: [f for f in found if f.state == state] for state in TITLES}
    texts = []
    if of["back"]:
        texts.append(f"It comes back under {listed([_at_best(f) for f in of['back']])}.")
    if of["part"]:
        texts.append(
            f"It comes back in part, less than half as often as in the untouched model, under {listed([_at_best(f) for f in of['part']])}."
        )
    if of["learnt"]:
        texts.append(
            f"Under {listed([_at_best(f) for f in of['learnt']])} it is seen again, but a model that never saw it could not be told from "
            "this one: it may have been learnt anew rather than brought back."
        )
    if of["holds"]:
        ends = listed([f"{f.unlearned.label} ({number(f.rate.high, True)})" for f in of["holds"]])
        texts.append(
            f"It does not come back within this budget under {listed([f.unlearned.label for f in of['holds']])}. So few pictures leave "
            f"room for some: shares up to these are not ruled out: {ends}."
        )
    if of["present"]:
        texts.append(
            f"Under {listed([f.unlearned.label for f in of['present']])} nothing was shown to come back, but it was not shown to be gone "
            "before the attack either."
        )
    if of["blunt"]:
        texts.append(
            f"Of {listed([f.unlearned.label for f in of['blunt']])} nothing can be said: the untouched model did not show the concept "
            "either when it was attacked so."
        )
    if of["unclear"]:
        ends = listed([f"{f.unlearned.label} ({interval(f.rate.low, f.rate.high, True)})" for f in of["unclear"]])
        texts.append(f"It cannot be told whether it comes back under {ends}: the intervals are too wide. More pictures narrow them.")
    return texts


def _at_best(finding: Finding) -> str:
    best = finding.unlearned.best
    return f"{finding.unlearned.label} ({_out_of(finding.unlearned, finding.rate, best.n)} {after(finding.unlearned)})"


def _untried(audit: Audit) -> str:
    text = "This says what these attacks found with these settings, from one seed, on prompts of the vocabulary. It is no proof that the "
    text += "concept is gone: a stronger attacker, or another one, may succeed where these failed."
    if audit.untried:
        text += f" Not tried at all: {listed(list(audit.untried))}."
    bare = list(dict.fromkeys(f.concept for f in audit.findings if f.control is None))
    if bare:
        of = "the concept" if len(audit.chances) == 1 else listed([f"“{c}”" for c in bare])
        text += f" No model retrained without {of} was attacked, so what comes back is not told from what is learnt anew."
    return text


# --- one attack ----------------------------------------------------------------------------------------------------------------


def _sentence(finding: Finding, role: str, curve: Curve) -> Sentence:
    best, rate = curve.best, curve.best.rate(curve.judge)
    moved = rate.low > curve.before.high
    told = "rises" if moved else "does not rise beyond doubt"
    text = f"seen in {number(rate.value, True)} {after(curve)}, before in {number(curve.before.value, True)}: {told}."
    status: Status = "unknown"
    if role == "unlearned":
        status = STATES[finding.state]
        others = f" Other settings, which did no better: {listed([c.label for c in finding.others])}." if finding.others else ""
        at = finding.regained_at
        text += f" {_regained(finding, at)}{others}"
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
