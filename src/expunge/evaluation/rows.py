"""Computes rows from samples. Imports no torch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from expunge.evaluation.metrics import METRICS, Evidence, Score, measure
from expunge.evaluation.results import Row, Sample

AFTER_STAGES = ("target", "synonyms")
"""The probes whose images are sampled after each stage, to show whether a removed concept comes back."""


def of_stages(metrics: Collection[str] | None = None) -> list[str]:
    """The metrics, by default among all, that are measured after each stage."""
    return [m for m in metrics or METRICS if set(METRICS[m].about.probes) <= set(AFTER_STAGES)]


def rows_of(
    evidence: Evidence,
    card: Mapping[str, Any],
    metrics: Collection[str] | None = None,
    is_stage: bool = False,
    budget: str = "full",
) -> list[Row]:
    """The rows of one concept by one judge: the base model's, then those of the run that `card` describes.

    Args:
        metrics: default all.
        is_stage: whether `card` is a stage's. It has the metrics of `of_stages`, and no base rows, which are the run's.
    """
    if not evidence.samples:
        return []
    about = card, evidence.samples[0].judge, evidence.samples[0].concept
    if is_stage:
        rows = [make_row(score, *about) for score in measure(evidence, of_stages(metrics))]
    else:
        rows = [make_row(score, *about, of_base=True) for score in measure(evidence.of_base(), metrics)]
        rows += [make_row(score, *about) for score in measure(evidence, metrics)]
    return [replace(row, budget=budget, looks=evidence.looks) for row in rows]


def rows_from_samples(
    samples: Iterable[Sample],
    card: Mapping[str, Any],
    stages: Iterable[Mapping[str, Any]] = (),
    metrics: Collection[str] | None = None,
    *,
    budget: str = "full",
    looks: int = 1,
) -> list[Row]:
    """The rows that need only a judge's labels, from `evaluation/samples.jsonl`. They equal those in `evaluation/rows.jsonl`, in its order.

    Cards only give names and seeds.

    Args:
        card: of the run.
        stages: cards of its stages.
        metrics: default all.
        budget: of the evaluation, as `evaluation.json` has it.
        looks: how often the evaluation could have ended, as `evaluation.json` has it.
    """
    grouped: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.run, sample.concept, sample.judge), []).append(sample)
    cards = {stage["id"]: stage for stage in stages}
    return [
        row
        for (run, _, _), group in grouped.items()
        for row in rows_of(Evidence(tuple(group), looks=looks), cards.get(run, card), metrics, is_stage=run in cards, budget=budget)
    ]


def notes_of_unknown(rows: Iterable[Row]) -> list[str]:
    """A sentence for each judge that has no label for some of what the prompts name: how many it knows, and in which metrics the others
    are left out."""
    about: dict[tuple[str, str, int, int], dict[str, None]] = {}
    for row in rows:
        if row.known is not None and row.members is not None:
            about.setdefault((row.concept, row.judge, row.known, row.members), {})[row.metric] = None
    return [
        f"The judge {judge} has labels for {known} of the {members} concepts beside {concept!r}. Images of the others are not counted in "
        f"{', '.join(metrics)}."
        for (concept, judge, known, members), metrics in about.items()
    ]


def make_row(score: Score, card: Mapping[str, Any], judge: str, concept: str, of_base: bool = False) -> Row:
    """A score as a row of the run or stage that `card` describes, or of its base model."""
    run, method = ("base", "none") if of_base else (card["id"], card["method"])
    measured = (score.probe, score.metric, score.value, score.ci_low, score.ci_high, score.n)
    plain = Row(run, method, concept, card["seed"], *measured, judge=judge, known=score.known, members=score.members)
    if (c := score.change) is None:
        return plain
    return replace(plain, change=c.value, change_low=c.low, change_high=c.high, losses=c.losses, gains=c.gains, p=c.p)
