"""Collects the record of a run, as JSON, from the files of its folder. Imports no torch."""

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.evaluation.criterion import Condition, parse_criterion
from expunge.evaluation.results import SAMPLES
from expunge.reports.judges import judges_of
from expunge.reports.pages.head import WEIGHTS
from expunge.reports.record.data import data_of
from expunge.reports.record.digests import digests_of
from expunge.reports.record.outcomes import Outcome, outcomes
from expunge.reports.record.schema import FORMAT
from expunge.reports.run_view import AuditView, RunView, read_view, split_by_concept
from expunge.reports.text.verdict import status_line
from expunge.runs.acceptance import Acceptance, read_acceptance
from expunge.storage.json_files import as_number, as_table, as_tables, as_text, as_texts, find_file, read_lines


def build_record(
    folder: Path, attacks: tuple[str, ...], base: Path | None = None, merged: Path | None = None, accept: str | None = None
) -> dict[str, Any]:
    """The record of an evaluated run.

    Args:
        folder: of the run.
        attacks: names of all registered attacks; those that no audit of the run tried are listed.
        base: the base model's folder, whose files are digested.
        merged: that of the merged model.
        accept: a criterion for a run that fixed none. The record says that it was given afterwards.

    Raises:
        ExpungeError: a folder that is no evaluated run; a broken criterion, or another than the one fixed before the run.
    """
    view = read_view(folder)
    if view.evaluation is None:
        raise ExpungeError(
            f"{folder} is not evaluated, so there is nothing to record.",
            rule="not-evaluated",
            value=str(folder),
            hint=f"Try `expunge eval {folder}`.",
        )
    fixed = read_acceptance(folder)
    if fixed and accept and accept != fixed.criterion:
        raise ExpungeError(
            f"The run has the criterion {fixed.criterion!r}, fixed at {fixed.fixed}.",
            rule="criterion-fixed",
            value=accept,
            hint="Try the command without --accept.",
        )
    criterion = fixed.criterion if fixed else accept
    conditions = parse_criterion(criterion, attacks) if criterion else ()
    parts = split_by_concept(view)
    checked = outcomes(conditions, folder, view.evaluation.rows, [p.card.target or "" for p in parts])
    audits = [audit.table for audit in view.audits]
    tried = list(dict.fromkeys(str(f.get("attack")) for audit in audits for f in as_tables(audit.get("findings"))))
    card = view.card
    files = digests_of(folder)
    record = {
        "format": FORMAT,
        "written": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": [f"{p.card.target}: {status_line(p)}" for p in parts],
        "acceptance": _acceptance(criterion, fixed, conditions, checked),
        "run": {
            "id": card.id,
            "date": card.date,
            "method": card.method,
            "settings": dict(card.config),
            "training": dict(card.training),
            "scope": card.scope,
            "seed": card.seed,
            "code": card.code,
            "concepts": [_concept(p) for p in parts],
            "delta": files.get(WEIGHTS),
        },
        "base": {"name": card.model, "fingerprint": card.fingerprint, "files": digests_of(base) if base else {}},
        "merged": {"files": digests_of(merged)} if merged else None,
        "environment": {"device": card.device, "dtype": card.dtype, "platform": platform.platform(), "versions": dict(card.versions)},
        "judges": [asdict(judge) for judge in judges_of(view)],
        "threat_model": {
            "tried": tried,
            "attackers": sorted({str(f.get("threat")) for audit in audits for f in as_tables(audit.get("findings")) if f.get("threat")}),
            "not_tried": [name for name in attacks if name not in tried],
            "failed": [dict(f) for audit in audits for f in as_tables(audit.get("failures"))],
        },
        "data": data_of(view),
        "audits": [_audit(audit) for audit in view.audits],
        "results": [asdict(row) for row in view.evaluation.rows],
        "findings": [dict(f) for audit in audits for f in as_tables(audit.get("findings"))],
        "sampler": dict(view.evaluation.sampler),
        "protocol": dict(view.evaluation.protocol),
        "prompts": _prompts(folder),
        "files": files,
    }
    return _finite(record)


def _audit(view: AuditView) -> dict[str, Any]:
    table = view.table
    settings = {"budget": dict(as_table(table.get("budget"))), "sampler": dict(as_table(table.get("sampler")))}
    judges, seed = list(as_texts(table.get("judges"))), as_number(table.get("seed"))
    return settings | {"folder": view.name, "seed": int(seed or 0), "judges": judges, "control": as_text(table.get("control"))}


def _finite(value: Any) -> Any:
    """The same without numbers that JSON does not have: not-a-number and infinity become None."""
    if isinstance(value, dict):
        return {key: _finite(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _acceptance(
    criterion: str | None, fixed: Acceptance | None, conditions: Sequence[Condition], checked: Sequence[Outcome]
) -> dict[str, Any] | None:
    if criterion is None:
        return None
    return {
        "criterion": criterion,
        "fixed": fixed.fixed if fixed else None,
        "is_fixed_before_run": fixed is not None,
        "is_met": bool(conditions) and all(outcome.is_met for outcome in checked),
        "outcomes": [outcome.table for outcome in checked],
    }


def _concept(view: RunView) -> dict[str, Any]:
    card = view.card
    return {"target": card.target, "kind": card.kind, "synonyms": list(card.synonyms), "anchor": card.anchor}


def _prompts(folder: Path) -> list[dict[str, Any]]:
    """Each prompt of the evaluation, with the indices of its images; equal noise seeds both models' image of an index."""
    file = find_file(folder, f"evaluation/{SAMPLES}")
    found: dict[tuple[str, str, str], set[int]] = {}
    for line in read_lines(file) if file else ():
        found.setdefault(tuple(str(line.get(key)) for key in ("concept", "probe", "prompt")), set()).add(int(line.get("seed", 0)))  # type: ignore[arg-type]
    return [{"concept": c, "probe": p, "prompt": prompt, "seeds": sorted(seeds)} for (c, p, prompt), seeds in found.items()]
