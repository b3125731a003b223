"""What metrics and probes mean, in the words of the pages. A metric describes itself; see `expunge.evaluation.metrics`."""

from expunge.evaluation.metrics import describe, described
from expunge.evaluation.metrics.description import Description
from expunge.evaluation.metrics.listed import ON
from expunge.reports.format import listed

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


def meaning(metric: str) -> Description | None:
    """What a metric says of itself; None if this installation does not know it."""
    known, on, _ = metric.partition(ON)
    return (describe(metric) if on else described()[known]) if known in described() else None


def is_fraction(metric: str) -> bool:
    """Whether a metric is a fraction of images, which is written as a percentage."""
    found = meaning(metric)
    return found is not None and found.is_share


def title_of(metric: str) -> str:
    """A few words for a metric, to begin a line with."""
    found = meaning(metric)
    return found.plain if found else metric


def arrow_of(metric: str) -> str:
    """An arrow in the direction that is better; empty if neither is, or for an unknown metric."""
    found = meaning(metric)
    return {"higher": "↑", "lower": "↓", "neither": ""}[found.better if found else "neither"]


def retain_metrics() -> list[str]:
    """The shares that unlearning should leave as they are, in the order of the pages."""
    return [name for name, of in described().items() if of.is_retained]


def rank_of_metric(metric: str) -> int:
    """Where a metric stands in the order of the pages; unknown ones come last."""
    order = list(described())
    return order.index(metric) if metric in order else len(order)


def rank_of_probe(probe: str) -> int:
    """Where a set of prompts stands in the order of the pages; unknown ones come last."""
    return list(PROBE_TITLES).index(probe) if probe in PROBE_TITLES else len(PROBE_TITLES)


def probe_names(probe: str) -> str:
    """The sets of prompts of a row in words.

    >>> probe_names("siblings+same_domain+cross_domain")
    'siblings, same kind and other kinds'
    """
    return listed(PROBE_TITLES[name][0].lower() if name in PROBE_TITLES else name for name in probe.split("+"))
