"""Every method against one attacker of each sort, from what attacked.py keeps: tables and claims of docs/results/relearning.md."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attacked import APART, BASE, GONE, LASTING, RETRAINED, Curve, at_once, best, by_label, cautious, counted, paired, under
from claims import line, shown, verdict

from expunge.audits.budget import Budget, read_budget
from expunge.bench.suite import Unit
from expunge.bench.summary import Pooled, share
from expunge.evaluation.results import Row

BUDGET = Path(__file__).with_name("battery.toml")
SEARCH, LEARNED = "prompt-search", "inversion"
TRAINING = ("relearn", "few-shot", LEARNED)
"""Attacks that train weights or a token."""

Key = tuple[str, int]
"""A concept and a seed."""


class Battered:
    """Curves under the attacks of one budget, by label and run."""

    def __init__(self, found: Sequence[Curve], units: Sequence[Unit], budget: Budget | None = None) -> None:
        budget = budget or read_budget(BUDGET)
        self.pictures = budget.pictures
        self.attacks = list(dict.fromkeys(e.name for e in budget.entries))
        self.runs: dict[str, dict[Key, dict[str, list[Curve]]]] = {}
        """By label, concept and seed, and attack."""
        for label, curves in by_label(under(found, budget), units).items():
            runs = self.runs.setdefault(label, {})
            for curve in curves:
                runs.setdefault((curve.concept, curve.seed), {}).setdefault(curve.attack["name"], []).append(curve)

    def gone(self, label: str) -> dict[Key, dict[str, list[Curve]]]:
        """Runs from which the concept was gone before; all of a control's."""
        runs = self.runs.get(label, {})
        return runs if label in (BASE, RETRAINED) else {k: of for k, of in runs.items() if plain(of).value <= GONE}

    def tables(self) -> str:
        """Attackers who train, and all others: each would be too wide beside the other."""
        others = [a for a in self.attacks if a not in TRAINING]
        return "\n".join(self._table(attacks) for attacks in (["plain prompts", *(a for a in self.attacks if a in TRAINING)], others))

    def _table(self, attacks: Sequence[str]) -> str:
        """A line for each label: the share in percent under each attack at its best, with intervals; none where nothing was gone."""
        lines = [f"| {' | '.join(['', 'runs', *attacks])} |", "|---|---:|" + "---:|" * len(attacks)]
        for label, runs in self.runs.items():
            if runs:
                left = self.gone(label)
                columns = [
                    [plain(of) for of in left.values()] if a == "plain prompts" else [best(of[a]) for of in left.values() if a in of]
                    for a in attacks
                ]
                cells = [_cell(share(rows)) if rows else "–" for rows in columns]
                lines.append(f"| {label} | {_of(len(left), len(runs))} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def claims(self) -> Iterator[str]:
        """That the attacks work and are honest, that words that are learned find nothing where the presets removed it, and that prompts
        that were searched for do more than plain ones."""
        yield from at_once([c for label in (BASE, RETRAINED) for of in self.runs[label].values() for c in of.get("relearn", ())])
        for label, removed in LASTING.items():
            yield from self._learned(label, removed)
        yield from self.searched()

    def searched(self) -> Iterator[str]:
        """That prompts that were searched for do more than plain ones, label by label."""
        for label in self.runs:
            if label not in (BASE, RETRAINED) and (said := self._searched(label)):
                yield said

    def _learned(self, label: str, removed: str) -> Iterator[str]:
        """Of a label that was attacked so, beside its controls."""
        runs = {key: of for key, of in self.gone(label).items() if LEARNED in of and LEARNED in self.runs[RETRAINED].get(key, {})}
        if runs:
            apart = paired({k: best(of[LEARNED]).value - best(self.runs[RETRAINED][k][LEARNED]).value for k, of in runs.items()})
            bar = f"at most {100 * APART:.0f} points above the retrained model"
            said = cautious(runs, verdict(apart, APART, below=True))
            yield line(f"{removed} does not come back by a learned word", bar, f"{shown(apart, ' points')}; {counted(runs)}", said)

    def _searched(self, label: str) -> str:
        """Of a label that was attacked so; else nothing."""
        many = f", {self.pictures} pictures" if self.pictures != read_budget(BUDGET).pictures else ""
        claim, asks = f"words that are searched for do more than plain prompts: {label}{many}", "more than plain prompts"
        runs = {key: of for key, of in self.gone(label).items() if SEARCH in of}
        if not runs:
            return ""
        gained = paired({key: best(of[SEARCH]).value - of[SEARCH][0].at(0.0).value for key, of in runs.items()})
        said = "holds" if gained.low > 0 else "in the mean" if gained.value > 0 else "does not hold"
        return line(claim, asks, f"{shown(gained, ' points')}, {counted(runs)}", cautious(runs, said))


def plain(of: Mapping[str, Sequence[Curve]]) -> Row:
    """Under plain prompts: the first reading of every attack, which is the same."""
    return next(iter(of.values()))[0].at(0.0)


def _cell(found: Pooled) -> str:
    return f"{100 * found.value:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def _of(left: int, all_runs: int) -> str:
    return str(left) if left == all_runs else f"{left} of {all_runs}"
