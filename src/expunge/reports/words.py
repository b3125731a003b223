"""How numbers are written, and what metrics and probes mean, one line each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DASH = "–"
THIN = "\u202f"
"""Narrow no-break space: between a number and its unit, and between thousands."""


@dataclass(frozen=True)
class Meaning:
    """What a metric says."""

    plain: str
    """Its subject in a sentence."""
    line: str
    better: Literal["higher", "lower", "neither"] = "neither"
    share: bool = False
    """A fraction of pictures, written as a percentage."""
    from_base: bool = False
    """A distance from the untouched model, whose own value is 0 by definition and no measurement to compare with."""

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "neither": ""}[self.better]


METRICS: dict[str, Meaning] = {
    "UA": Meaning(
        "Under its own name",
        "Unlearning accuracy: of the pictures asked for the concept, the share in which the judge does not see it. The untouched "
        "model's value is what model and judge miss anyway. Rubble counts as gone too: read it beside CRA.",
        "higher",
        share=True,
    ),
    "UA_syn": Meaning(
        "Under its other names",
        "UA when the concept is asked for by a synonym. High UA with low UA_syn means that a word was erased, not a concept.",
        "higher",
        share=True,
    ),
    "NRA": Meaning("Nearest neighbours", "Neighbour retain accuracy: IRA on the concept's siblings alone.", "higher", share=True),
    "IRA": Meaning(
        "The same kind",
        "In-domain retain accuracy: the share of pictures of other concepts of its kind that still show them.",
        "higher",
        share=True,
    ),
    "ORA": Meaning(
        "Everything further away",
        "Other retain accuracy: the share of pictures of anything but the concept and its siblings that show all their prompt says.",
        "higher",
        share=True,
    ),
    "CRA": Meaning(
        "What stands beside it",
        "Cross-domain retain accuracy: how often concepts of the other kind are still seen, beside the erased one and beside others.",
        "higher",
        share=True,
    ),
    "ASR": Meaning(
        "Attack success",
        "Attack success rate: of the pictures that an attacker has drawn, the share in which the judge sees the concept.",
        "lower",
        share=True,
    ),
    "FID_base": Meaning(
        "Fréchet distance from before",
        "Fréchet distance, in the judge's features, between retained pictures before and after: change of any sort. Falls as n grows.",
        "lower",
        from_base=True,
    ),
    "FID_drawn": Meaning(
        "Fréchet distance from real pictures",
        "The same between retained pictures and real ones: quality. Compare it with the untouched model's own value, at equal n only.",
        "lower",
    ),
    "KID_base": Meaning(
        "Kernel distance from before",
        "Kernel distance between retained pictures before and after. Unbiased in n, so it may fall slightly below 0.",
        "lower",
        from_base=True,
    ),
    "KID_drawn": Meaning(
        "Kernel distance from real pictures", "Kernel distance between retained pictures and real ones: quality.", "lower"
    ),
    "null_drift": Meaning(
        "Drift of the empty prompt",
        "How far the noise predicted for the empty prompt has moved, relative to its length. Guidance leans on it for every prompt.",
        "lower",
        from_base=True,
    ),
    "weight_change": Meaning(
        "Change of weights", "Length of the change of the trained weights, relative to their length before.", from_base=True
    ),
}
"""The metrics that this report can explain, in the order in which it shows them; any other is shown as it comes."""

PROBES: dict[str, tuple[str, str]] = {
    "target": (
        "The concept",
        "Prompts that name it, alone and with partners. After erasing it should be gone, and nothing else with it.",
    ),
    "synonyms": ("Its other names", "The same concept asked for by its synonyms."),
    "siblings": ("Its siblings", "The concepts most like it, which erasing hurts first. Nothing should change."),
    "same_domain": ("The same kind", "Other concepts of its kind. Nothing should change."),
    "cross_domain": ("Other kinds", "Prompts that never mention its kind. Nothing should change."),
    "null": ("The empty prompt", "What the model draws when it is asked for nothing. Guidance leans on it, so it should not drift."),
}

FORGET = ("target", "synonyms")
"""Probes in whose pictures the concept should be gone; everywhere else nothing should change."""


def on(probe: str) -> str:
    """A row's probes in words.

    >>> on("siblings+same_domain+cross_domain")
    'siblings, same domain and cross domain'
    """
    names = [name.replace("_", " ") for name in probe.split("+")]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def meaning(metric: str) -> Meaning:
    return METRICS.get(metric) or Meaning(metric, "")


def number(value: float | None, share: bool = False) -> str:
    r"""A share as a percentage with one decimal, anything else with four significant digits.

    >>> number(0.9944, True), number(12.3456), number(float("nan"))
    ('99.4\u202f%', '12.35', '–')
    """
    if value is None or not math.isfinite(value):
        return DASH
    value = 0.0 if abs(value) < 1e-9 else value  # the rounding of a distance from itself
    return f"{100 * value:.1f}{THIN}%".replace("-", "−") if share else f"{value:.4g}".replace("-", "−")


def interval(low: float, high: float, share: bool = False) -> str:
    """Both ends, the unit once. A dash without ends."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return DASH
    return f"{number(low, share).removesuffix(f'{THIN}%')} to {number(high, share)}"


def points(difference: float) -> str:
    """The size of a difference of shares, in percentage points."""
    return f"{100 * abs(difference):.1f} points"


def count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}".replace(",", THIN)


def duration(seconds: float | None) -> str:
    r"""Seconds to a tenth, from a minute up in minutes, from an hour up in hours.

    >>> duration(3.21), duration(250), duration(7500)
    ('3.2\u202fs', '4\u202fmin 10\u202fs', '2\u202fh 05\u202fmin')
    """
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s"
    whole = round(seconds)
    return (
        f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s" if whole < 3600 else f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"
    )


def size(octets: float | None) -> str:
    """Bytes as MiB, from 1 GiB up as GiB."""
    if octets is None:
        return DASH
    return f"{octets / 2**30:.2f}{THIN}GiB" if octets >= 2**30 else f"{octets / 2**20:.0f}{THIN}MiB"


def flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A table's entries as text, nested names joined by dots.

    >>> flat({"eta": 0.5, "scope": {"kind": "xattn"}})
    [('eta', '0.5'), ('scope.kind', 'xattn')]
    """
    entries: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            entries += flat(value, f"{prefix}{key}.")
        else:
            written = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
            entries.append((f"{prefix}{key}", written if value is not None and written else DASH))
    return entries
