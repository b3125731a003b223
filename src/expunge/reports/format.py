"""How numbers, durations, sizes and lists are written. Imports nothing heavy, so the command line uses it too."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

DASH = "–"
THIN = "\u202f"
"""Narrow no-break space: between a number and its unit, and between thousands."""


def number(value: float | None, share: bool = False) -> str:
    r"""A share as a percentage with one decimal, any other number with four significant digits.

    >>> number(0.9944, True), number(12.3456), number(float("nan"))
    ('99.4\u202f%', '12.35', '–')
    """
    if value is None or not math.isfinite(value):
        return DASH
    value = 0.0 if abs(value) < 1e-9 else value  # rounding error of a distance from itself
    return f"{100 * value:.1f}{THIN}%".replace("-", "−") if share else f"{value:.4g}".replace("-", "−")


def interval(low: float, high: float, share: bool = False) -> str:
    """Both ends of an interval, with the unit once; a dash if an end is missing."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return DASH
    return f"{number(low, share).removesuffix(f'{THIN}%')} to {number(high, share)}"


def percentage_points(difference: float) -> str:
    """The size of a difference of two shares.

    >>> percentage_points(-0.051)
    '5.1 points'
    """
    return f"{100 * abs(difference):.1f} points"


def difference(value: float, share: bool = False) -> str:
    """A difference with its sign; of two shares in percentage points.

    >>> difference(-0.051, True), difference(5.0)
    ('−5.1 points', '+5')
    """
    return f"{'+' if value >= 0 else '−'}{percentage_points(value) if share else number(abs(value))}"


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return DASH if value is None else f"{value:,.0f}".replace(",", THIN)


def size(octets: float | None) -> str:
    """Bytes as MiB, from 1 GiB on as GiB."""
    if octets is None:
        return DASH
    return f"{octets / 2**30:.2f}{THIN}GiB" if octets >= 2**30 else f"{octets / 2**20:.0f}{THIN}MiB"


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
    ('a, b and c', 'a', '')
    """
    *before, last = list(names) or [""]
    return f"{', '.join(before)} and {last}" if before else last


def plural(number: int, noun: str) -> str:
    """
    >>> plural(1, "attack"), plural(3, "attack")
    ('1 attack', '3 attacks')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The entries of a table as text, with nested names joined by dots.

    >>> flat({"eta": 0.5, "scope": {"kind": "xattn"}})
    [('eta', '0.5'), ('scope.kind', 'xattn')]
    """
    entries: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            entries += flat(value, f"{prefix}{key}.")
        else:
            written = ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)
            entries.append((f"{prefix}{key}", written if value is not None and written else DASH))
    return entries
