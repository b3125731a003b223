"""A small world for metrics: four styles in two families, three objects, images with random verdicts."""

import numpy as np
import pytest

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Kind, Member, Vocabulary
from expunge.evaluation.metrics import NETWORKS, Evidence, Measured, Sample

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


def judged(prompts: dict[str, list], generator: np.random.Generator, seeds: tuple[int, ...] = (0, 1)) -> tuple[Sample, ...]:
    """Images of every probe by a run and a base model; the judge is right in about three of four."""

    def verdict(wanted: str | None, members: tuple[Member, ...]) -> str:
        guess = members[int(generator.integers(len(members)))].name
        return guess if wanted is None or generator.random() < 0.4 else wanted

    def labels(prompt) -> dict[str, str]:
        return {kind: verdict(prompt.labels.get(kind), members) for kind, members in (("style", STYLES), ("object", OBJECTS))}

    rejections = np.random.default_rng(1)
    return tuple(
        Sample(
            "r", "neon", "style", "object", probe, p.prompt, seed, "main", dict(p.labels), labels(p), labels(p),
            rejected=bool(rejections.random() < 0.4), base_rejected=bool(rejections.random() < 0.1),
        )
        for probe, found in prompts.items()
        for p in found
        for seed in seeds
    )  # fmt: skip


@pytest.fixture
def evidence() -> Evidence:
    generator = np.random.default_rng(0)
    samples = judged(Concept.find("neon", VOCABULARY).probes(), generator)
    features, base = (generator.standard_normal((len(samples), 5)).astype(np.float32) for _ in range(2))
    networks = {key: _measured(key, len(samples), np.random.default_rng(i)) for i, key in enumerate(NETWORKS)}
    return Evidence(samples, features + 1, base, generator.standard_normal((40, 5)).astype(np.float32), networks=networks)


def _measured(key: str, n: int, generator: np.random.Generator) -> Measured:
    """What a network could say of n images of each model: features, or a number between 0 and 100."""
    if key in ("CLIP_score", "LPIPS"):
        return Measured(generator.random((n, 1)), np.zeros((n, 1)) if key == "LPIPS" else generator.random((n, 1)))
    return Measured(generator.standard_normal((n, 5)) + 1, generator.standard_normal((n, 5)), generator.standard_normal((40, 5)))
