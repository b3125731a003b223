"""What the run's audits found, as rows of a table. Read from their files; nothing is attacked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.reports.format import DASH, interval, number
from expunge.reports.record.outcomes import read_audits
from expunge.storage.json_files import as_float, as_table, as_tables, as_text

COLUMNS = {
    "attack": "attack",
    "concept": "concept",
    "threat": "the attacker has",
    "verdict": "verdict",
    "before": "before",
    "best": "at best",
    "base": "base model",
    "control": "retrained",
    "images": "images",
}
"""By key, the heading of each column. The numbers are shares of images in which the judge sees the concept, with 95 % intervals."""


def finding_rows(folder: Path) -> list[dict[str, str]]:
    """One row for each attack, concept and audit of a run; empty without an audit.

    Raises:
        ExpungeError: a file of an audit is broken, or leads out of the folder.
    """
    return [_row(finding) for audit in read_audits(folder) for finding in as_tables(audit.get("findings"))]


def _row(finding: Mapping[str, Any]) -> dict[str, str]:
    text = {key: as_text(finding.get(name)) or DASH for key, name in {"attack": "attack", "concept": "concept", "threat": "threat"}.items()}
    shares = {"before": "asr_before", "best": "asr", "base": "asr_base", "control": "asr_retrained"}
    verdict, images = as_text(finding.get("in_words")) or DASH, as_text(finding.get("pictures")) or DASH
    return text | {"verdict": verdict, "images": images} | {key: _share(as_table(finding.get(name))) for key, name in shares.items()}


def _share(rate: Mapping[str, Any]) -> str:
    if not rate:
        return DASH
    return f"{number(as_float(rate.get('value')), True)} ({interval(as_float(rate.get('low')), as_float(rate.get('high')), True)})"
