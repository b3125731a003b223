"""A small world for metrics: four styles in two families, three objects, pictures with random verdicts."""

import pytest
import torch

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Kind, Member, Vocabulary
from expunge.evaluation.metrics.base import Evidence, Shots

STYLES = (
    Member("neon", ("glow",), "lines"),
    Member("sketch", (), "lines"),
    Member("dots", (), "patterns"),
    Member("tiles", (), "patterns"),
)
OBJECTS = (Member("ring"), Member("disc"), Member("star"))
VOCABULARY = Vocabulary(
    {
        "style": Kind("style", "{target} style", "a {partner} in {target} style", "object", STYLES),
        "object": Kind("object", "a {target}", "a {target} in {partner} style", "style", OBJECTS),
    }
)


def judged(probe: str, prompts: list, generator: torch.Generator, seeds: tuple[int, ...] = (0, 1)) -> Shots:
    """Pictures of a probe; the judge is right in about three of four."""
    rows = [(p, seed) for p in prompts for seed in seeds]

    def verdict(wanted: str | None, members: tuple[Member, ...]) -> str:
        guess = members[int(torch.randint(len(members), (), generator=generator))].name
        return guess if wanted is None or torch.rand((), generator=generator) < 0.4 else wanted

    wanted = {kind: tuple(p.labels.get(kind) for p, _ in rows) for kind in ("style", "object")}
    seen = {kind: tuple(verdict(w, {"style": STYLES, "object": OBJECTS}[kind]) for w in labels) for kind, labels in wanted.items()}
    features = torch.randn(len(rows), 5, generator=generator)
    return Shots(probe, tuple(p.prompt for p, _ in rows), tuple(seed for _, seed in rows), wanted, seen, features)


@pytest.fixture
def evidence() -> Evidence:
    generator = torch.Generator().manual_seed(0)
    probes = Concept.find("neon", VOCABULARY).probes()
    shots, base = ({name: judged(name, prompts, generator) for name, prompts in probes.items()} for _ in range(2))
    return Evidence("style", "object", shots, base, torch.randn(40, 5, generator=generator))
