"""What becomes of words that a method was never told: `python benchmarks/heldout.py --keep benchmarks/heldout.jsonl`.

Whitened steps and closed forms are told the prompts of everything that must survive, the very ones that IRA, NRA and ORA are measured
on. Here every third object and style of the canvas is left out of the vocabulary that a method is given, siblings of the concept among
them, and what it spares is measured on both sorts of prompts: made of told words alone, or with a word that was left out.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.judges import judge_chunks, load_judge
from expunge.evaluation.protocol import Protocol, Shot, plan
from expunge.evaluation.rendering import RENDER_BATCH, render
from expunge.evaluation.statistics import wilson
from expunge.models.delta import swapped
from expunge.runs.unlearn import unlearn
from expunge.storage.files import write_atomically
from expunge.storage.tensors import content
from expunge.training.session import Session

CONCEPTS = ("neon", "watercolour", "ring", "hexagon")
METHODS: dict[str, dict[str, Any]] = {
    "MiM-MU": {"method": "mim-mu"},
    "MiM-MU, whiten 0": {"method": "mim-mu", "training": {"whiten": 0.0}},
    "ESD": {"method": "esd"},
    "UCE": {"method": "uce"},
}
KEPT = ("siblings", "same_domain", "cross_domain")


def without_a_third(name: str) -> tuple[Concept, frozenset[str]]:
    """The concept in a vocabulary without every third member of each kind, and their names; never without the concept itself."""
    whole = Vocabulary.canvas()
    member = Concept.find(name, whole).member
    gone = [m for kind in whole.kinds.values() for m in [m for m in kind.members if m != member][::3]]
    kinds = {n: replace(k, members=tuple(m for m in k.members if m not in gone)) for n, k in whole.kinds.items()}
    told = Concept.find(name, replace(whole, kinds=kinds), synonyms=member.synonyms)
    return told, frozenset(n for m in gone for n in (m.name, *m.synonyms))


def seen_right(session: Session, concept: Concept, shots: Sequence[Shot], delta: dict[str, Any]) -> list[bool]:
    """Of each picture, whether the judge sees all that its prompt asks for."""
    model = session.model
    weights = f"{model.fingerprint}+{content(delta)}" if delta else model.fingerprint
    with swapped(model.network, delta):
        pictures = render(session, shots, model.default_sampler, weights, "images")
    judged = judge_chunks(load_judge("main"), pictures.chunks(RENDER_BATCH), concept)
    return [all(judged.seen[kind][i] == label for kind, label in s.prompt.labels.items()) for i, s in enumerate(shots)]


def measured(session: Session, label: str, name: str, protocol: Protocol, **given: Any) -> dict[str, Any]:
    """Hits and images for each sort of prompt. The method's settings are those of METHODS, and `given` for `unlearn`."""
    told, gone = without_a_third(name)
    concept = Concept.find(name, Vocabulary.canvas(), synonyms=told.synonyms)
    shots = [s for s in plan(concept, protocol) if s.probe in (*KEPT, "target") and s.index == 0]
    with tempfile.TemporaryDirectory() as folder:
        how = METHODS[label] | {"out": Path(folder) / "run", "cache": session.cache, "seed": protocol.seed}
        run = unlearn(session.model, told, **how | given)
        delta = run.delta(session.model.fingerprint)
    shares: dict[str, dict[str, list[int]]] = {}
    for of, weights in (("before", {}), ("after", delta)):
        right = seen_right(session, concept, shots, weights)
        for shot, is_right in zip(shots, right, strict=True):
            sort = "target" if shot.probe == "target" else "left out" if gone & set(shot.prompt.prompt.split()) else "told"
            for group in (sort, *((f"{sort}, siblings",) if shot.probe == "siblings" else ())):
                count = shares.setdefault(group, {}).setdefault(of, [0, 0])
                count[0] += is_right
                count[1] += 1
    return {"label": label, "concept": name, "shares": shares}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """A line for each method: what is still seen right of what was before, in percent, concepts together, with Wilson's interval."""
    groups = ("told", "left out", "told, siblings", "left out, siblings")
    text = [f"| | concepts | {' | '.join(groups)} |", f"|---|---:|{'---|' * len(groups)}"]
    for label in METHODS:
        mine = [line["shares"] for line in lines if line["label"] == label]
        cells = []
        for group in groups:
            found = [s[group] for s in mine if group in s]
            after, before = (sum(f[of][0] for f in found) for of in ("after", "before"))
            share, low, high = wilson(min(after, before), before)
            cells.append(f"{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}], n={before}")
        text += [f"| {label} | {len(mine)} | {' | '.join(cells)} |"] if mine else []
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="JSON lines, a method and a concept each; what is there is not done again"
    )
    given = parser.parse_args()
    lines = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep and given.keep.exists() else []
    session = Session.open("canvas", device="cpu")
    for name in CONCEPTS:
        for label in METHODS:
            if not any((line["label"], line["concept"]) == (label, name) for line in lines):
                lines.append(measured(session, label, name, Protocol(seed=1)))
                if given.keep:
                    write_atomically(given.keep, "".join(json.dumps(line) + "\n" for line in lines).encode())
                print(json.dumps(lines[-1]), flush=True)
    print(table(lines), end="")


if __name__ == "__main__":
    main()
