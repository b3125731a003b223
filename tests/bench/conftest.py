"""A model, a vocabulary and a suite so small that a unit takes a moment."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from cli.commandline import WORDS

from expunge.concepts.concept import Concept
from expunge.evaluation.judges import Judgement

ESD = """name = "esd"
label = "ESD, short"
training = {steps = 2, batch_size = 4, points = 6, pictures = 2, checkpoint_every = 1}

[[methods]]
"""

SUITE = """
model = "{model}"
vocabulary = "{words}"
seeds = [0, 1]
concepts = ["neon"]
tuning = ["outline", "square"]
metrics = ["UA", "IRA"]
protocol = {{seeds = 1, target_seeds = 1, prompts = 2}}
sampler = {{steps = 1, guidance_scale = 1}}

[[methods]]
{esd}name = "uce"

[search]
trials = 2
"""


@pytest.fixture(scope="session")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the suite with other text in the place of some, `write(("seeds = [0, 1]", "seeds = [0]"))`."""
    folder = tmp_path_factory.mktemp("bench")
    tiny.pipeline().save_pretrained(folder / "tiny", safe_serialization=True)
    (folder / "words.toml").write_text(WORDS)

    def write(*changes: tuple[str, str]) -> Path:
        text = SUITE.format(esd=ESD, model=folder / "tiny", words=folder / "words.toml")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = folder / f"suite-{abs(hash(text))}.toml"
        file.write_text(text)
        return file

    return write


class Coin:
    """A judge that sees something else in every picture, always the same in the same one: nobody can judge those of a random network."""

    name, weights = "main", ""

    def knows(self, member: str, concept: Concept) -> bool:
        return True

    def chance(self, concept: Concept) -> float:
        return 1 / len(concept.vocabulary.kinds[concept.kind].members)

    def __call__(self, images: torch.Tensor, concept: Concept) -> Judgement:
        members = {k.name: [m.name for m in k.members] for k in concept.vocabulary.kinds.values()}
        sums = images.flatten(1).long().sum(1).tolist()
        seen = {kind: tuple(names[s % len(names)] for s in sums) for kind, names in members.items()}
        return Judgement(seen, torch.tensor([[float(s % 97), float(s % 89)] for s in sums]))


def stand_ins(patch: pytest.MonkeyPatch) -> None:
    """In the place of what takes long, or cannot be had of a random network."""
    for place in ("evaluation.evaluate", "audits.setup"):
        patch.setattr(f"expunge.{place}.judges_for", lambda *asked: (Coin(),))
    patch.setattr("expunge.evaluation.weights.null_drift", lambda *asked: [0.1, 0.2])


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins(monkeypatch)
