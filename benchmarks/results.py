"""Fills the tables of docs/results/*.md from what was kept of the suites: `python benchmarks/results.py`. A test holds the pages to it.

A table stands between `<!-- NAME -->` and `<!-- end -->`. Units that the suite no longer asks for, since a default has changed, are
left out by themselves.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attacked import Relearned, by_attacker, under
from attacked import kept as attacked
from battery import Battered
from claims import SUITES, Found, told
from claims import table as claims
from flagship import attacks_table as flagship_attacks
from flagship import table as flagship
from flagship import times_table as flagship_times
from foretold import kept as asked
from foretold import said as foretold
from heldout import table as heldout
from keep import kept
from learned_words import table as learned_words
from published import tables as published
from speed_tables import speed_tables

from expunge.audits.budget import read_budget
from expunge.bench.config import read_suite
from expunge.bench.summary import SHARES, Measured, markdown, share, standings
from expunge.methods import METHODS

HERE = Path(__file__).parent
PAGES = [
    HERE.parent / "docs" / "results" / f"{name}.md"
    for name in ("index", "concepts", "held-out", "several-concepts", "relearning", "attacks", "claims", "speed", "flagship", "published")
]
CONCEPTS = ("neon", "dots", "watercolour", "ring", "starfish", "hexagon")
BESIDE = ("FID_base", "KID_base", "weight_change", "null_drift", "seconds", "forwards", "backwards", "memory_bytes")


def found(name: str) -> list[Measured]:
    """The units of a suite that its file has, in the suite's order; none where there is no file."""
    return kept(HERE / f"{name}.jsonl", read_suite(SUITES[name]).units)


def relearned() -> Relearned:
    """What DiMRA brought back, as benchmarks/dimra.toml has it, in the units of benchmarks/audits.toml."""
    budget = read_budget(HERE / "dimra.toml")
    return Relearned(under(attacked(HERE / "attacked.jsonl"), budget), read_suite(HERE / "audits.toml").units)


def attackers() -> str:
    """What those bring back who relearn with other settings, as benchmarks/rates.toml has them, in the units of attackers.toml."""
    return by_attacker(attacked(HERE / "attacked.jsonl"), read_suite(HERE / "attackers.toml").units, read_budget(HERE / "rates.toml"))


def battered(suite: str = "attacks", budget: str = "battery") -> Battered:
    """What one attacker of each sort brought back, in the units of a suite."""
    return Battered(attacked(HERE / "attacked.jsonl"), read_suite(HERE / f"{suite}.toml").units, read_budget(HERE / f"{budget}.toml"))


def each(units: Sequence[Measured]) -> str:
    """A line for each concept and method, the seeds together, in percent."""
    lines = [f"| concept | method | seeds | {' | '.join(SHARES)} | UA, second judge |", "|---|---|---:|" + "---:|" * (len(SHARES) + 1)]
    columns = [("main", metric) for metric in SHARES] + [("second", "UA")]
    for concept in CONCEPTS:
        for label in dict.fromkeys(u.label for u in units):
            mine = [u for u in units if (u.concept, u.label) == (concept, label)]
            rows = [r for u in mine for r in u.rows if r.run != "base"]
            pooled = [share(of) if (of := [r for r in rows if (r.judge, r.metric) == column]) else None for column in columns]
            cells = " | ".join("–" if p is None else f"{100 * p.value:.1f}" for p in pooled)
            lines += [f"| {concept} | {label} | {len(mine)} | {cells} |"] if mine else []
    return "\n".join(lines) + "\n"


def stages(units: Sequence[Measured]) -> str:
    """A line for each sequence: how gone those removed so far are after each stage, in percent; in brackets the least gone of them."""
    sequences = [u for u in units if u.stages]
    longest = max((len({r.run for r in u.stages}) for u in sequences), default=0)
    lines = [f"| | {' | '.join(map(str, range(1, longest + 1)))} |", "|---|" + "---:|" * longest]
    for unit in sequences:
        cells = []
        for stage in dict.fromkeys(r.run for r in unit.stages):
            mine = [r for r in unit.stages if (r.run, r.metric, r.judge) == (stage, "UA", "main")]
            worst = min(mine, key=lambda r: r.value)
            least = f" ({worst.concept} {100 * worst.value:.0f})" if len(mine) > 1 and worst.value < 1 else ""
            cells.append(f"{100 * share(mine).value:.1f}{least}")
        lines.append(f"| {unit.label} | {' | '.join(cells + ['–'] * (longest - len(cells)))} |")
    return "\n".join(lines) + "\n"


def searched(trials: Sequence[dict[str, Any]]) -> str:
    """A line for each method: how many settings were tried on how many concepts that no table reports."""
    lines = ["| method | settings | runs | concepts |", "|---|---:|---:|---|"]
    for name in METHODS:
        mine = [t for t in trials if t["method"] == name and t["given"]]
        tried = {json.dumps([t["settings"], t["training"]], sort_keys=True) for t in mine}
        lines.append(f"| {name} | {len(tried)} | {len(mine)} | {', '.join(dict.fromkeys(t['concept'] for t in mine)) or '–'} |")
    return "\n".join(lines) + "\n"


def tables() -> dict[str, str]:
    """Every table, as the rows give it, by name."""
    suites = {name: found(name) for name in SUITES}
    units = suites["canvas"]
    lines = standings(units)
    made = {"shares": markdown(lines, SHARES), "beside": markdown(lines, BESIDE), "units": each(units)}
    dimra, battery = relearned(), battered()
    made |= {"several": markdown(standings(suites["several"]), SHARES), "stages": stages(suites["several"])}
    made["heldout"] = heldout([json.loads(text) for text in (HERE / "heldout.jsonl").read_text().splitlines()])
    controls = [
        {"of": c.of, "concept": c.concept, "seed": c.seed, "attack": c.attack, "readings": c.readings}
        for c in attacked(HERE / "attacked.jsonl")
    ]
    lines_of_flagship = [json.loads(text) for text in (HERE / "flagship.jsonl").read_text().splitlines()]
    made |= {"flagship": flagship(lines_of_flagship), "flagship_attacks": flagship_attacks(lines_of_flagship, controls)}
    made["flagship_times"] = flagship_times(lines_of_flagship, controls)
    made["learned_words"] = learned_words([json.loads(text) for text in (HERE / "learned_words.jsonl").read_text().splitlines()])
    made |= published([json.loads(text) for text in (HERE / "published.jsonl").read_text().splitlines()])
    made["searched"] = searched([json.loads(text) for text in (HERE / "tuning.jsonl").read_text().splitlines()])
    made["claims"] = claims({name: Found(of) for name, of in suites.items()})
    made["attack_claims"] = told((*dimra.claims(), *battery.claims(), *battered("searches", "search").searched()))
    made |= {"attackers": attackers(), "relearned": dimra.table(), "relearned_each": dimra.each(), "battery": battery.tables()}
    made["foretold"] = foretold(asked(HERE / "foretold.jsonl"), attacked(HERE / "attacked.jsonl"))
    return made | speed_tables()


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with its tables.

    Raises:
        KeyError: a table that there is none of.
    """
    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", lambda m: f"<!-- {m[1]} -->\n\n{tables[m[1]]}\n<!-- end -->", page, flags=re.DOTALL)


if __name__ == "__main__":
    made = tables()
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), made), encoding="utf-8")
