"""How a page is filled: one environment and one style sheet for all templates, with everything escaped."""

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from expunge.reports.charts.style import MARKER_SYMBOLS, RUNS
from expunge.reports.format import count, listed
from expunge.reports.glossary import arrow_of, probe_names
from expunge.reports.images import EDGE
from expunge.runs.folder import Card

IMAGES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of image files."""


def fill(template: str, /, **values: Any) -> str:
    """The text of a template, with what every page needs beside `values`."""
    return label_cells(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    """One for all pages of a process, because it keeps the compiled templates."""
    environment = Environment(
        loader=FunctionLoader(_resource), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": count, "probe_names": probe_names, "with_code": with_code, "arrow": arrow_of}
    environment.tests["image_file"] = lambda name: str(name).lower().endswith(IMAGES)
    environment.globals |= {"style": Markup(_resource("page.css")), "symbols": MARKER_SYMBOLS, "colours": len(RUNS), "edge": EDGE}
    return environment


def label_cells(page: str) -> str:
    """The page with the heading of its column in each cell of a table, as `data-label`: on a phone a row is a card.

    >>> label_cells('<table class="metrics"><thead><tr><th>A</th><th>B</th></thead><tr><th>1</th><td>2</td></tr></table>')[-52:]
    '<tr><th>1</th><td data-label="B">2</td></tr></table>'
    """
    return re.sub(r'<table class="(?:metrics|verdicts)\b.*?</table>', lambda table: _label(table[0]), page, flags=re.DOTALL)


def _label(table: str) -> str:
    head, end, body = table.partition("</thead>")
    labels = [_plain(cell) for cell in re.findall(r"<th\b[^>]*>(.*?)</th>", head, flags=re.DOTALL)]

    def row(found: re.Match) -> str:
        cells = iter(labels)

        def cell(opening: re.Match) -> str:
            label = next(cells, "")
            return opening[0] if opening[1] == "th" or not label else f'<td data-label="{label}"{opening[2]}>'

        return re.sub(r"<(t[dh])\b([^>]*)>", cell, found[0])

    return head + end + re.sub(r"<tr\b.*?</tr>", row, body, flags=re.DOTALL) if end else table


def _plain(heading: str) -> str:
    """A heading without markup and without what is hidden from readers of its text."""
    text = re.sub(r'<span class="(?:swatch|arrow)[^>]*>.*?</span>|<small>.*?</small>|<[^>]+>', " ", heading, flags=re.DOTALL)
    return " ".join(text.split()).replace('"', "&quot;")


def with_code(text: str) -> Markup:
    """A sentence, escaped, whose `commands` are set as code.

    >>> print(with_code("Try `expunge eval <RUN>`."))
    Try <code>expunge eval &lt;RUN&gt;</code>.
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(Markup.escape(text))))


def origin_of(cards: Iterable[Card]) -> str:
    """When and with which versions runs were made: "2026-08-01 · expunge 0.1.0 · torch 2.8.0". Empty if the cards do not say."""
    cards = list(cards)
    days = sorted({card.date for card in cards if card.date})
    parts = [days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"] if days else []
    versions: dict[str, dict[str, None]] = {}
    for card in cards:
        for package in ("expunge", "torch"):
            if version := card.versions.get(package):
                versions.setdefault(package, {})[str(version)] = None
    return " · ".join([*parts, *(f"{package} {listed(found)}" for package, found in versions.items())])


def _resource(name: str) -> str:
    return resources.files("expunge.reports.templates").joinpath(name).read_text(encoding="utf-8")
