"""A finished audit: its results, its rows, and the findings of every attack on every concept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge import config
from expunge.audits.cells import Result, Role
from expunge.audits.verdict import TITLES, Curve, Finding, find
from expunge.evaluation.results import Row
from expunge.evaluation.shown import Rows
from expunge.evaluation.statistics import Interval
from expunge.notebook import html_table, with_interval
from expunge.storage.files import write_atomically, write_json, write_lines

if TYPE_CHECKING:
    from expunge.audits.budget import Budget  # which imports the attacks, and with them torch
    from expunge.audits.saved import SavedBudget


@dataclass(frozen=True)
class CellResult:
    """The result of a cell, and what was attacked."""

    label: str
    """The label of the attack with its settings."""
    role: Role
    run: str
    """Id of the attacked run; "base" for the base model."""
    method: str
    result: Result


@dataclass(frozen=True)
class Failure:
    """A cell without a result."""

    label: str
    role: Role
    concept: str
    error: str
    applicable: bool = True
    """False if the attack has nothing to try on this model or concept, which is no failure."""


@dataclass(frozen=True)
class Audit:
    """A finished audit. `expunge.audit` makes it and writes it into its folder."""

    folder: Path
    card: Mapping[str, Any]
    """The card of the audited run."""
    control: Mapping[str, Any] | None
    """The card of the retrained control, if there is one."""
    budget: "Budget | SavedBudget"
    """With what was attacked: of an audit that was read from its files, what they say of it."""
    seed: int
    judges: tuple[str, ...]
    sampler: Mapping[str, Any]
    chances: Mapping[str, float]
    """By concept, the share of images in which the first judge would see it if it guessed among its labels."""
    done: tuple[CellResult, ...]
    """The results of all cells that have one."""
    sources: Mapping[Role, Path] = field(default_factory=dict)
    """The folders of the attacked runs."""
    failures: tuple[Failure, ...] = ()
    untried: tuple[str, ...] = ()
    """Registered attacks that the budget does not name."""
    model: str = ""
    """The folder or id that the base model was loaded from."""
    command: str = ""
    """The command line that makes the same audit again."""

    @property
    def rows(self) -> Rows:
        """The attack success rate of every reading by every judge, in long format."""
        return Rows(
            Row(
                d.run, d.method, d.result.concept, self.card["seed"], "target", "ASR", *reading.rate(judge), reading.n,
                d.label, reading.strength, judge,
            )
            for d in self.done for judge in d.result.judges for reading in d.result.readings
        )  # fmt: skip

    @cached_property
    def findings(self) -> list[Finding]:
        """One finding for each attack and concept for which both the run and the base model have results."""
        findings = []
        for concept in self.chances:
            for attack in dict.fromkeys(e.name for e in self.budget.entries):
                by_judge = [self._find(attack, concept, j) for j in self.judges]
                if first := by_judge[0]:
                    second = by_judge[1] if len(by_judge) > 1 else None
                    findings.append(replace(first, second=second.state if second else None))
        return findings

    def _find(self, attack: str, concept: str, judge: str) -> Finding | None:
        tried = []
        for entry in (e for e in self.budget.entries if e.name == attack):
            of = {d.role: Curve(entry.label, d.result, judge) for d in self.done if (d.label, d.result.concept) == (entry.label, concept)}
            if "unlearned" in of and "base" in of:
                tried.append((of["unlearned"], of["base"], of.get("retrained")))
        teaches = any(e.teaches for e in self.budget.entries if e.name == attack)
        return find(tried, self.chances[concept], teaches) if tried else None

    def access_of(self, attack: str) -> str:
        """What the attacker needs for an attack of the budget; see `Attack.access`."""
        return next((e.access for e in self.budget.entries if e.name == attack), "weights")

    @property
    def table(self) -> list[dict[str, Any]]:
        """The findings as plain values, as in `audit.json`."""
        return [
            {
                "attack": f.attack,
                "concept": f.concept,
                "verdict": f.state,
                "in_words": TITLES[f.state],
                "judge": f.unlearned.judge,
                "second_judge": f.second,
                "best_settings": dict(f.unlearned.result.settings),
                "strength": f.unlearned.best.strength,
                "unit": f.unlearned.result.unit,
                "asr": f.rate._asdict(),
                "asr_before": f.unlearned.before._asdict(),
                "asr_base": f.base.best.rate(f.base.judge)._asdict(),
                "asr_retrained": f.control.highest_until(f.unlearned.best.strength)._asdict() if f.control else None,
                "best_unlearned": self._best("unlearned", f),
                "best_base": self._best("base", f),
                "best_retrained": self._best("retrained", f),
                "area": f.unlearned.area,
                "area_base": f.base.area,
                "area_retrained": f.control.area if f.control else None,
                "regained_at": f.regained_at,
                "pictures": f.unlearned.best.n,
                "unasked": self._rate_unasked(f),
                "at_large": f.at_large,
                "cut_short": f.unlearned.result.cut,
                "threat": f.unlearned.result.threat,
                "access": self.access_of(f.attack),
            }
            for f in self.findings
        ]

    def _repr_html_(self) -> str:
        shares = ("before", "at best", "base model", "retrained")
        lines = [
            (
                f.unlearned.label,
                f.concept,
                TITLES[f.state],
                *(with_interval(*rate) if rate else "–" for rate in self._rates(f)),
                f.unlearned.best.n,
            )
            for f in self.findings
        ]
        title = f"Audit of {self.card['id']}: share of images with the concept, with 95 % intervals"
        return html_table(title, ("attack", "concept", "verdict", *shares, "images"), lines)

    @staticmethod
    def _rates(finding: Finding) -> tuple[Interval | None, ...]:
        """The shares before the attack, at its best, of the base model and of the retrained one."""
        best, control = finding.unlearned.best, finding.control
        retrained = control.highest_until(best.strength) if control else None
        return finding.unlearned.before, finding.rate, finding.base.best.rate(finding.base.judge), retrained

    @staticmethod
    def _rate_unasked(finding: Finding) -> dict[str, float] | None:
        """The share for prompts that do not name the concept, at the best reading; None in older results."""
        count = finding.unlearned.best.unasked
        return {**count.rate(finding.unlearned.judge)._asdict(), "pictures": count.n} if count else None

    def _best(self, role: Role, finding: Finding) -> dict[str, float] | None:
        """The highest attack success rate on a model over all settings and strengths; None without results."""
        judge = finding.unlearned.judge
        key = (finding.attack, finding.concept, role)
        curves = [Curve(d.label, d.result, judge) for d in self.done if (d.result.attack, d.result.concept, d.role) == key]
        if not curves:
            return None
        most = max((c.best for c in curves), key=lambda reading: reading.rate(judge).value)
        return {**most.rate(judge)._asdict(), "strength": most.strength, "pictures": most.n}

    def write(self) -> None:
        """Write `rows.jsonl`, `audit.json`, and `budget.toml`, with which the audit can be repeated, into the folder.

        With `cells/` these files are all that `expunge.audits.saved.read_audit` needs.
        """
        about = {
            "run": self.card["id"],
            "control": self.control["id"] if self.control else None,
            "budget": {"name": self.budget.name, **self.budget.table},
            "seed": self.seed,
            "judges": self.judges,
            "sampler": dict(self.sampler),
            "findings": self.table,
            "failures": [asdict(f) for f in self.failures],
            "untried": self.untried,
            "chances": dict(self.chances),
            "cells": [{"id": d.result.id, "label": d.label, "role": d.role, "run": d.run, "method": d.method} for d in self.done],
            "teaching": sorted({e.name for e in self.budget.entries if e.teaches}),
            "model": self.model,
            "command": self.command,
        }
        write_lines(self.folder / "rows.jsonl", map(asdict, self.rows))
        write_atomically(self.folder / "budget.toml", config.to_toml(self.budget.table).encode())
        write_json(self.folder / "audit.json", about)

    def totals(self) -> tuple[int, int, float]:
        """Forward passes, backward passes and seconds of all cells."""
        results: Sequence[Result] = [d.result for d in self.done]
        return sum(r.forwards for r in results), sum(r.backwards for r in results), sum(r.seconds for r in results)
