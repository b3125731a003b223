"""How a page is filled in: one environment and one style sheet for all of them, everything escaped."""

from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from expunge.reports import words
from expunge.reports.charts import figures
from expunge.reports.images import EDGE


def filled(template: str, /, **values: Any) -> str:
    """The text of a template, with what every page needs beside `values`."""
    environment = Environment(
        loader=FunctionLoader(_resource), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": words.count, "on": words.on}
    shared = {"style": Markup(_resource("page.css")), "symbols": figures.SYMBOLS, "colours": len(figures.RUNS), "edge": EDGE}
    return environment.get_template(template).render(**shared | values)


def _resource(name: str) -> str:
    return resources.files("expunge.reports.templates").joinpath(name).read_text(encoding="utf-8")
