"""What attackers do and what they need, in words."""

from collections.abc import Mapping
from typing import Any

PLAIN = {
    "wording": "other wordings",
    "ring-a-bell": "Ring-A-Bell prompts",
    "prompt-search": "prompt search",
    "p4d": "prompt search (P4D)",
    "inversion": "textual inversion",
    "relearn": "fine-tuning on other images",
    "few-shot": "fine-tuning on a few images of it",
    "quantise": "quantisation",
    "prune": "pruning",
    "noise": "noise on the weights",
}
"""The attacks of the package. Any other has the name of its class."""

ACCESS = {
    "words": "The attacker has words only",
    "gradients": "The attacker has words and gradients of the weights",
    "weights": "The attacker changes the weights",
}
"""What an attacker may have, from least to most."""


def plain_name(attack: str) -> str:
    """What an attack does, in a few words."""
    return PLAIN.get(attack, attack.rpartition(":")[2])


def access_of(finding: Mapping[str, Any]) -> str:
    """A key of `ACCESS` for a finding of an audit. Older findings do not have it; their threat says whether the weights are needed."""
    access = finding.get("access")
    return str(access) if access in ACCESS else "weights" if "the weights" in str(finding.get("threat")) else "words"
