"""What metrics and probes mean, in the words of the pages."""

from dataclasses import dataclass
from typing import Literal

from expunge.reports.format import listed


@dataclass(frozen=True)
class Meaning:
    """What a metric measures."""

    title: str
    """A few words for the beginning of a line."""
    line: str
    """Its definition; empty for a metric that this report does not know."""
    better: Literal["higher", "lower", "neither"] = "neither"
    is_share: bool = False
    """A fraction of images, written as a percentage."""
    is_from_base: bool = False
    """A distance from the base model: the base model's own value is 0 by definition, so it is no measurement to compare with."""

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "neither": ""}[self.better]


MEANINGS: dict[str, Meaning] = {
    "UA": Meaning(
        "Prompts with the concept's name",
        "Unlearning accuracy: the share of images of prompts with the concept's name in which the judge does not see the concept. The "
        "base model's UA is the share that model and judge miss without unlearning. A broken image counts as removed too, so read UA "
        "together with CRA.",
        "higher",
        is_share=True,
    ),
    "UA_syn": Meaning(
        "Prompts with a synonym",
        "UA for prompts with a synonym of the concept. A high UA with a low UA_syn means that the method removed a word and not the "
        "concept.",
        "higher",
        is_share=True,
    ),
    "NRA": Meaning("Siblings", "Neighbour retain accuracy: IRA of the concept's siblings alone.", "higher", is_share=True),
    "IRA": Meaning(
        "Concepts of the same kind",
        "In-domain retain accuracy: the share of images of other concepts of the same kind in which the judge sees the prompted concept.",
        "higher",
        is_share=True,
    ),
    "ORA": Meaning(
        "All other concepts",
        "Other retain accuracy: the share of images of all other prompts, siblings excepted, in which the judge sees everything that the "
        "prompt names.",
        "higher",
        is_share=True,
    ),
    "CRA": Meaning(
        "Concepts of the other kind",
        "Cross-domain retain accuracy: the share of images in which the judge sees the concept of the other kind that the prompt names, "
        "beside the removed concept and beside others.",
        "higher",
        is_share=True,
    ),
    "ASR": Meaning(
        "Attack success",
        "Attack success rate: the share of the attack's images in which the judge sees the concept.",
        "lower",
        is_share=True,
    ),
    "FID_base": Meaning(
        "Fréchet distance to the base model",
        "Fréchet distance, in the judge's features, between the base model's and the unlearned model's images of the retain set: any "
        "change. It falls as n grows.",
        "lower",
        is_from_base=True,
    ),
    "FID_drawn": Meaning(
        "Fréchet distance to real images",
        "Fréchet distance between generated and real images of the retain set: quality. Compare it with the base model's value at the "
        "same n only.",
        "lower",
    ),
    "KID_base": Meaning(
        "Kernel distance to the base model",
        "Kernel distance between the base model's and the unlearned model's images of the retain set. It does not depend on n, and can be "
        "slightly below 0.",
        "lower",
        is_from_base=True,
    ),
    "KID_drawn": Meaning(
        "Kernel distance to real images", "Kernel distance between generated and real images of the retain set: quality.", "lower"
    ),
    "null_drift": Meaning(
        "Drift of the empty prompt",
        "The change of the predicted noise for the empty prompt, relative to its length. Guidance uses this prediction for every prompt.",
        "lower",
        is_from_base=True,
    ),
    "weight_change": Meaning(
        "Change of the weights", "The length of the change of the trained weights, relative to their length before.", is_from_base=True
    ),
}
"""The metrics that the pages explain, in the order in which they show them. Any other metric follows, without an explanation."""

PROBE_TITLES: dict[str, tuple[str, str]] = {
    "target": (
        "The concept",
        "Prompts that name the concept, alone and with a concept of another kind. Unlearning should remove the concept and nothing else.",
    ),
    "synonyms": ("Synonyms", "Prompts that name the concept by a synonym. Unlearning should remove the concept here too."),
    "siblings": ("Siblings", "Prompts that name the most similar concepts, which unlearning damages first. Nothing should change."),
    "same_domain": ("Same kind", "Prompts that name other concepts of the same kind. Nothing should change."),
    "cross_domain": ("Other kinds", "Prompts that name no concept of its kind. Nothing should change."),
    "null": ("Empty prompt", "Images without a prompt. Guidance uses this prediction for every prompt, so it should not change."),
}
"""Title and explanation of each set of prompts, in the order in which the pages show them."""

FORGET_PROBES = ("target", "synonyms")
"""The sets of prompts whose images should not show the concept. In all other images nothing should change."""


def meaning(metric: str) -> Meaning:
    """What a metric measures; of one that is not known, its name alone."""
    return MEANINGS.get(metric) or Meaning(metric, "")


def rank_of_metric(metric: str) -> int:
    """Where a metric stands in the order of the pages; unknown ones come last."""
    return list(MEANINGS).index(metric) if metric in MEANINGS else len(MEANINGS)


def rank_of_probe(probe: str) -> int:
    """Where a set of prompts stands in the order of the pages; unknown ones come last."""
    return list(PROBE_TITLES).index(probe) if probe in PROBE_TITLES else len(PROBE_TITLES)


def probe_names(probe: str) -> str:
    """The sets of prompts of a row in words.

    >>> probe_names("siblings+same_domain+cross_domain")
    'siblings, same kind and other kinds'
    """
    return listed(PROBE_TITLES[name][0].lower() if name in PROBE_TITLES else name for name in probe.split("+"))
