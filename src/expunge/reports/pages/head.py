"""The head of a run's page: what was made, from what, with what, and who judged it."""

from dataclasses import dataclass

from expunge.reports.format import DASH, number
from expunge.reports.judges import JudgeView, judges_of
from expunge.reports.run_view import RunView
from expunge.storage.hashing import sha256_of
from expunge.storage.json_files import find_file

WEIGHTS = "delta.safetensors"


@dataclass(frozen=True)
class Fact:
    """A line of the head."""

    name: str
    text: str
    digest: str = ""
    digest_of: str = ""


def head(view: RunView) -> list[Fact]:
    """Date, original and result with their digests, method, judges with their error rates, device and versions."""
    card = view.card
    file = find_file(view.folder, WEIGHTS)
    facts = [
        Fact("Date", card.date or DASH),
        Fact("Original", card.model or DASH, card.fingerprint or "", "fingerprint of the weights"),
        Fact("Result", card.id, sha256_of(file) if file else "", "SHA-256 of the changed weights"),
        Fact("Method", " · ".join([card.method or DASH, *([] if card.seed is None else [f"seed {card.seed}"])])),
        *(_judge(judge) for judge in judges_of(view)),
    ]
    if controls := [str(a.audit.control["id"]) for a in view.audits if a.audit and a.audit.control]:
        facts.append(Fact("Retrained control", controls[0]))
    used = [f"{package} {version}" for package, version in card.versions.items()]
    return [*facts, Fact("Made with", ", ".join([*filter(None, (card.device, card.dtype)), *used]) or DASH)]


def _judge(judge: JudgeView) -> Fact:
    ends = dict.fromkeys(number(end, True) for end in (min(judge.errors_on_base.values()), max(judge.errors_on_base.values())))
    text = f"{judge.name}: misses {' to '.join(ends)} of what the base model's images show"
    return Fact("Judge", text, judge.weights or "", "weights")
