"""Attacks that give the model images, or choose the noise: `python benchmarks/images.py --keep benchmarks/images.jsonl`.

Each line is one attack on one model: how many of 8 images, sampled in 10 steps, show the concept at each strength. What has a line is not
measured again. It is a first look at what these attacks do to the base model, to the retrained one and to a method; `expunge audit RUN
--budget benchmarks/images.toml` has more images, with intervals.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from expunge.attacks import ATTACKS
from expunge.attacks.base import Victim
from expunge.canvas.control import SHIPPED
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.judges import judge_images, load_judge
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler
from expunge.progress import Silent
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.session import Session

PICTURES, STEPS = 8, 10
TRIED: list[tuple[str, dict[str, Any]]] = [
    ("img2img", {"prompt": "null", "shares": [0.3, 0.6]}),
    ("img2img", {"prompt": "neighbour", "shares": [0.3, 0.6]}),
    ("inpainting", {"prompt": "null", "shares": [0.25, 0.5]}),
    ("ddim-inversion", {"prompt": "null", "calls": [1, 3]}),
    ("noise-search", {"candidates": [2]}),
    ("noise-optimisation", {"steps": [10, 30]}),
]


def readings(session: Session, concept: Concept, of: str, name: str, settings: dict[str, Any]) -> list[tuple[float, int]]:
    """Strength, and images that show the concept."""
    model, judge = session.model, load_judge("main")
    if of == "base":
        delta = {}
    elif of == "retrained":
        delta = Run(SHIPPED).delta(model.fingerprint)
    else:
        out = Path("runs/bench/images") / f"{of}-{concept.target}"
        delta = unlearn(model, concept, of, out=out, cache=session.cache, progress=Silent()).delta(model.fingerprint)
    sampler = Sampler(STEPS, model.default_sampler.guidance_scale)
    victim, found = Victim(session, concept, delta, pictures=PICTURES, judge=judge, sampler=sampler), []
    for reading in ATTACKS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})(victim):
        with swapped(model.network, reading.weights):
            latents = model.sample_latents(reading.cond, list(reading.noise_seeds), sampler, reading.start)
        seen = judge_images(judge, model.decode(latents), concept).seen[concept.kind]
        found.append((reading.strength, seen.count(concept.member.name)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True, metavar="FILE")
    parser.add_argument("--of", nargs="*", default=["base", "retrained", "mim-mu"], help="base, retrained, or methods")
    parser.add_argument("--target", default="ring")
    given = parser.parse_args()
    session = Session.open("canvas", device="cpu", cache=Store.default(), progress=Silent())
    known = Concept.find(given.target, Vocabulary.canvas())
    concept = Concept.find(given.target, known.vocabulary, synonyms=known.member.synonyms)
    for of in given.of:
        for name, settings in TRIED:
            line = {"of": of, "concept": given.target, "attack": name, "settings": settings, "n": PICTURES}
            lines = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep.exists() else []
            if any(line == {key: done[key] for key in line} for done in lines):
                continue
            done = line | {"readings": readings(session, concept, of, name, settings)}
            with given.keep.open("a") as file:
                file.write(json.dumps(done) + "\n")
            print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
