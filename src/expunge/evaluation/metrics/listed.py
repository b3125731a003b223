"""Names of what is measured on a list of prompts from a file: "ASR on ring-a-bell". Imports no torch."""

from dataclasses import replace

from expunge.evaluation.metrics.description import Description

ON = " on "
"""Between a metric and the list."""
PARTS = "parts"
"""Counts of body parts by a detector; the number of all parts together."""


def on_list(metric: str, listed: str) -> str:
    """The name of a metric on a list."""
    return f"{metric}{ON}{listed}"


def describe_on_list(metric: Description, name: str, listed: str) -> Description:
    """A metric's description on a list."""
    return replace(metric, name=name, title=f"{metric.title}, on the prompts {listed!r}", column=f"{metric.column}{ON}{listed}")
