"""The head of a run's page: what was made, from what, with what, and who judged it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from expunge.reports.format import DASH, number
from expunge.reports.judges import JudgeView, judges_of
from expunge.reports.run_view import RunView
from expunge.storage.hashing import sha256_of
from expunge.storage.json_files import as_float, as_table, find_file

WEIGHTS = "delta.safetensors"
ERRORS = ("false_negative", "false_positive")


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
    missed, false = (_range(as_float(as_table(of.get(key)).get("value")) for of in judge.error_rates) for key in ERRORS)
    if missed or false:
        text = f"overlooks the concept in {missed or DASH} and sees it falsely in {false or DASH} of the base model's images"
    else:
        text = f"misses {_range(judge.errors_on_base.values())} of what the base model's images show"
    return Fact("Judge", f"{judge.name}: {text}", judge.weights or "", "weights")


def _range(shares: Iterable[float]) -> str:
    """The least and the greatest of several shares; empty without any."""
    finite = [share for share in shares if math.isfinite(share)]
    return " to ".join(dict.fromkeys(number(end, True) for end in (min(finite), max(finite)))) if finite else ""
