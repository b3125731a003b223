"""The judges of an evaluation: which weights they have, and how often they are wrong on the base model's images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.evaluation.recognition import recognised_share
from expunge.evaluation.statistics import Interval
from expunge.reports.run_view import RunView
from expunge.reports.tables import BASE_RUN
from expunge.storage.json_files import as_tables, as_text


@dataclass(frozen=True)
class JudgeView:
    """A judge as pages and records show it."""

    name: str
    weights: str | None
    """The digest of its weights; None of older evaluations."""
    errors_on_base: dict[str, float]
    """By metric and concept, the share of the base model's images in which it does not see what the prompt names."""
    error_rates: tuple[Mapping[str, Any], ...]
    """By concept, how often it overlooks it, and how often it sees it where the prompt does not name it; empty of older evaluations."""


def judges_of(view: RunView) -> list[JudgeView]:
    """The judges that labelled images of the base model."""
    found: dict[str, dict[str, float]] = {}
    for row in view.evaluation.rows if view.evaluation else ():
        share = recognised_share(row.metric, Interval(row.value, row.ci_low, row.ci_high))
        if row.run == BASE_RUN and row.judge != "none" and share:
            found.setdefault(row.judge, {})[f"{row.metric}, {row.concept}"] = round(1 - share.value, 6)
    kept = {str(j.get("name")): j for j in (view.evaluation.judges if view.evaluation else ())}
    return [
        JudgeView(name, as_text(kept.get(name, {}).get("weights")), errors, as_tables(kept.get(name, {}).get("error_rates")))
        for name, errors in found.items()
    ]
