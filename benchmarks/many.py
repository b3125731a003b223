"""Twenty concepts of the canvas in one run of the preset `many-concepts`: `python benchmarks/many.py [--out runs/many]`.

Trains, then samples images and asks the main judge. Each of the removed concepts has its bare prompt and one prompt with each partner that
stays; whatever names none of them must survive. Labels go into `FOLDER/labels.jsonl` batch by batch, and the same command continues after
an interruption. At the end benchmarks/many.jsonl has how many images of each prompt were right.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from speed import machine
from speed_tables import KEPT, many

import expunge
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.judges import judge_images, load_judge
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.loading import load
from expunge.storage.files import write_lines
from expunge.storage.hashing import seed_of

FILE = Path(__file__).with_suffix(".jsonl")
CONCEPTS = (
    *("neon", "dots", "watercolour", "sketch", "mosaic", "blueprint", "ring", "starfish", "hexagon", "lily"),
    *("windmill", "triangle", "square", "sparkle", "hexagram", "trillium", "dogwood", "propeller", "cross", "horseshoe"),
)
"""The other ten words of the canvas chose the preset's settings, so no setting was chosen on one of these."""
BATCH = 32


@dataclass(frozen=True)
class Image:
    """One image to sample, and what it shows if the run is good."""

    concept: str
    """Removed; `KEPT` for what must survive."""
    prompt: str
    wanted: dict[str, str]
    index: int

    def is_right(self, seen: dict[str, str]) -> bool:
        """The concept is not seen; or, of what must survive, every label is."""
        kept = {kind: seen[kind] == label for kind, label in self.wanted.items()}
        return all(kept.values()) if self.concept == KEPT else not any(kept.values())


def images(several: Several, gone: int, kept: int) -> list[Image]:
    """`gone` images of each prompt of a removed concept, and `kept` of each prompt that must survive."""
    made: list[Image] = []
    rest: dict[str, Mapping[str, str]] = {}
    for concept in several.parts:
        probes = concept.probes()
        made += [Image(concept.target, p.prompt, {concept.kind: concept.target}, i) for p in probes["target"] for i in range(gone)]
        rest |= {p.prompt: p.labels for name in ("siblings", "same_domain", "cross_domain") for p in probes[name]}
    return made + [Image(KEPT, prompt, dict(labels), i) for prompt, labels in rest.items() for i in range(kept)]


def look(model: DiffusionModel, several: Several, wanted: Sequence[Image], kept: Path) -> list[bool]:
    """Whether each image is right, batch by batch; a file has what was judged before."""
    judge = load_judge("main")
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for start in range(len(done), len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        sampled = model.sample([s.prompt for s in part], [seed_of("many", s.prompt, s.index) for s in part])
        seen = judge_images(judge, sampled, several.parts[0]).seen
        done += [asdict(s) | {"right": s.is_right({kind: seen[kind][i] for kind in seen})} for i, s in enumerate(part)]
        write_lines(kept, done)
        print(f"{len(done)} of {len(wanted)} images", flush=True)
    return [line["right"] for line in done]


def counts(wanted: Sequence[Image], right: Sequence[bool]) -> dict[str, dict[str, list[int]]]:
    """For each concept and prompt, how many images were right, of how many."""
    found: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for shown, ok in zip(wanted, right, strict=True):
        cell = found[shown.concept].setdefault(shown.prompt, [0, 0])
        found[shown.concept][shown.prompt] = [cell[0] + ok, cell[1] + 1]
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/many"))
    parser.add_argument("--gone", type=int, default=3, help="images of each prompt of a removed concept")
    parser.add_argument("--kept", type=int, default=10, help="images of each prompt that must survive")
    parser.add_argument("--concepts", nargs="*", default=list(CONCEPTS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load("canvas")
    several = Several.of([Concept.find(name, Vocabulary.canvas()) for name in given.concepts])
    run = expunge.unlearn(model, several, out=given.out / "run", cache=given.out / "cache", **expunge.preset("many-concepts"))
    wanted = images(several, given.gone, given.kept)
    with swapped(model.network, run.delta(model.fingerprint)):
        right = look(model, several, wanted, given.out / "labels.jsonl")
    cost = {name: run.card[name] for name in ("seconds", "forwards", "backwards")}
    line = {"what": "many-concepts", "concepts": len(several.parts), **cost, "counts": counts(wanted, right), "machine": machine()}
    write_lines(FILE, [line])
    print(many([line]))


if __name__ == "__main__":
    main()
