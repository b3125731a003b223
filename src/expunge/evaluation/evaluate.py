"""Measures a run: renders both models from the same noise, lets a judge look, and writes rows."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.diffusion.types import Point
from expunge.errors import ExpungeError
from expunge.evaluation.judges import Judge, Judgement, load_judge
from expunge.evaluation.metrics import METRICS, measure
from expunge.evaluation.metrics.base import Evidence, Score, Shots
from expunge.evaluation.protocol import Protocol, Shot, plan
from expunge.evaluation.rendering import kept_at, png, render
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import mean_interval
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.loading import Model
from expunge.models.loading import load as load_model
from expunge.models.sampling import Sampler
from expunge.runs.run import Run
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.storage.hashing import seed_of
from expunge.storage.tensors import content
from expunge.training.banks import Track, untracked

SHOWN = 12
"""Pictures of each probe that are kept for the report."""


def evaluate(
    run: Run | str | Path,
    model: Model | None = None,
    *,
    judge: str | None = None,
    protocol: Protocol = Protocol(),
    sampler: Sampler | None = None,
    metrics: Sequence[str] | None = None,
    device: str = "cpu",
    store: Store | None = None,
    track: Track = untracked,
) -> list[Row]:
    """Measures a run against its own untouched model and writes `evaluation/` into the run's folder.

    Several concepts are measured one by one, each with rows of its own; the others are not among what it should have left alone.
    After each stage, of a sequence or of several methods, UA is measured for every concept removed so far: a concept that comes back
    shows.

    Args:
        model: the base model; default the one that the run's card names.
        judge: who looks: "main" or "second" of the canvas (by default both, the second as a check of the first), a transformers
            image classifier or CLIP. Without one, what needs no judge is measured and the pictures are there to be looked at.
        sampler: default the model's own.
        store: pictures are kept there by content, so that an interrupted evaluation goes on and the base is rendered once.

    Returns:
        Rows of the untouched model (run "base") and of the run, in long format; also in `evaluation/rows.jsonl`. Those of a stage
        have the stage's id for their run.

    Raises:
        ExpungeError: an unfinished run, another base model, an unknown metric or judge.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    card, started = run.card, time.monotonic()
    if unknown := [m for m in metrics or () if m not in METRICS]:
        measure(Evidence("", "", {}, {}), unknown)
    loaded = load_model(model or card["model"]["name"], device, card["dtype"])
    delta, concept = run.delta(loaded.fingerprint), run.concept()
    store, sampler = store or Store.default(), sampler or loaded.default_sampler
    folder, rows, listed, judges = run.folder / "evaluation", list[Row](), list[dict](), list[Judge]()
    for number, part in enumerate(concept.parts, 1):
        judges = [j for j in judges_for(judge, loaded, part) if j]
        shots = plan(part, protocol)
        base = _rendered(loaded, {}, shots, sampler, store, track, "pictures of the base model")
        after = _rendered(loaded, delta, shots, sampler, store, track, "pictures of the unlearned model")

        kind = part.vocabulary.kinds[part.kind]
        seen: tuple[Judgement | None, Judgement | None] = (None, None)
        for place, who in enumerate(judges or [None]):
            judged = looked(who, base), looked(who, after)
            if place == 0:
                seen = judged
            tables = _shots(shots, judged[0]), _shots(shots, judged[1])
            drawn = _drawn(who, shots, kind.name) if who and loaded.defaults.has_real_images else None
            wanted = metrics if place == 0 else [m for m in metrics or METRICS if not m.startswith(("FID", "KID"))]
            for table, owner in ((tables[0], None), (tables[1], card)):
                scores = measure(Evidence(kind.name, kind.partner, table, tables[0], drawn), wanted)
                rows += [_row(s, owner, card, who.name if who else "none", part.target) for s in scores]
        # Each of several concepts has pictures, and entries, of its own.
        within, of = (f"{number:02d}/", {"concept": part.target}) if len(concept.parts) > 1 else ("", {})
        listed += [of | entry for entry in _write_pictures(folder, within, shots, base, after, *seen)]
    rows += _weights(loaded, delta, card, concept.target)
    for stage, removed in _removed_by(run):
        left = stage.delta(loaded.fingerprint)
        for part in removed:
            rows += _resurgence(stage, left, part, loaded, judge, protocol, sampler, metrics, store, track)

    write_atomically(folder / "pictures.json", (json.dumps(listed, indent=1) + "\n").encode())
    about = {
        "judge": judges[0].name if judges else None,
        "sampler": asdict(sampler) | {"scheduler": loaded.scheduler_name},
        "protocol": asdict(protocol),
        "seconds": round(time.monotonic() - started, 1),
        "notes": [] if judges else ["No judge looked at the pictures: give one with --judge; the rows that need none are there."],
    }
    write_atomically(folder / "evaluation.json", (json.dumps(about, indent=2) + "\n").encode())
    write_atomically(folder / "rows.jsonl", "".join(json.dumps(asdict(r)) + "\n" for r in rows).encode())
    return rows


def _rendered(
    model: DiffusionModel, delta: Mapping[str, Tensor], shots: Sequence[Shot], sampler: Sampler, store: Store, track: Track, title: str
) -> Tensor:
    """Pictures by the model with `delta` in it, kept under a name of its own."""
    with swapped(model.network, delta):
        return render(model, shots, sampler, store, _named(model, delta), track, title)


def _named(model: DiffusionModel, delta: Mapping[str, Tensor]) -> str:
    return f"{model.fingerprint}+{content(delta)}" if delta else model.fingerprint


def to_draw(run: Run, model: DiffusionModel, protocol: Protocol, sampler: Sampler, store: Store) -> tuple[int, int]:
    """How many pictures `evaluate` would draw, and how many it would look at, with both models; after a sequence's stages too."""
    delta, parts = run.delta(model.fingerprint), run.concept().parts
    asked = [(weights, plan(part, protocol)) for part in parts for weights in ({}, delta)]
    for stage, removed in _removed_by(run):
        left = stage.delta(model.fingerprint)
        asked += [(left, [s for s in plan(p, protocol) if s.probe in ("target", "synonyms")]) for p in removed]
    files = [f for weights, shots in asked for f in kept_at(model, shots, sampler, store, _named(model, weights))]
    return sum(not file.exists() for file in set(files)), len(set(files))


def _removed_by(run: Run) -> Iterator[tuple[Run, tuple[Concept, ...]]]:
    """Each stage, and the concepts that it or one before it was to remove."""
    parts, removed = {p.identity: p for p in run.concept().parts}, dict[tuple[str, str], Concept]()
    for stage in run.stages:
        removed |= {p.identity: parts[p.identity] for p in stage.concept().parts}
        yield stage, tuple(removed.values())


def _resurgence(
    stage: Run,
    left: Mapping[str, Tensor],
    concept: Concept,
    model: DiffusionModel,
    judge: str | None,
    protocol: Protocol,
    sampler: Sampler,
    metrics: Sequence[str] | None,
    store: Store,
    track: Track,
) -> list[Row]:
    """How gone a concept is after a stage, by the first judge: of the stage itself, or of one before it."""
    who, probes = judges_for(judge, model, concept)[0], ("target", "synonyms")
    wanted = [m for m in metrics or METRICS if METRICS[m].probes <= set(probes)]
    if who is None or not wanted:
        return []
    shots = [s for s in plan(concept, protocol) if s.probe in probes]
    pictures = _rendered(model, left, shots, sampler, store, track, f"pictures after {stage.card['concept']['target']}")
    kind = concept.vocabulary.kinds[concept.kind]
    scores = measure(Evidence(kind.name, kind.partner, _shots(shots, looked(who, pictures)), {}), wanted)
    return [_row(s, stage.card, stage.card, who.name, concept.target) for s in scores]


def judges_for(judge: str | None, model: DiffusionModel, concept: Concept) -> list[Judge | None]:
    """The judge that was named, else those that come with the model; a single None where there is neither."""
    named = model.defaults.judges if judge is None else (judge,)
    return [load_judge(name, concept, model.device) for name in named or (None,)]


def _write_pictures(
    folder: Path, within: str, shots: Sequence[Shot], base: Tensor, after: Tensor, seen_base: Judgement | None, seen: Judgement | None
) -> list[dict]:
    """The pairs that the report shows, and their list: spread evenly over each probe's prompts, the first picture of each."""
    listed = []
    for probe in dict.fromkeys(s.probe for s in shots):
        first = [i for i, s in enumerate(shots) if s.probe == probe and (s.index == 0 or probe == "null")]
        for i in first[:: -(-len(first) // SHOWN)][:SHOWN]:
            entry: dict = {"probe": probe, "prompt": shots[i].prompt.prompt, "seed": shots[i].index, "wanted": dict(shots[i].prompt.labels)}
            for name, pictures, judgement in (("base", base, seen_base), ("unlearned", after, seen)):
                file = f"pictures/{within}{i:05d}-{name}.png"
                write_atomically(folder / file, png(pictures[i]))
                labels = {k: labels[i] for k, labels in judgement.seen.items()} if judgement else {}
                entry |= {name: file, "seen_base" if name == "base" else "seen": labels}
            listed.append(entry)
    return listed


def looked(judge: Judge | None, pictures: Tensor) -> Judgement | None:
    """What a judge says of pictures, batch by batch; nothing where there is no judge."""
    if judge is None:
        return None
    parts = [judge(chunk) for chunk in pictures.split(100)]
    seen = {kind: tuple(label for p in parts for label in p.seen[kind]) for kind in parts[0].seen}
    features = [p.features for p in parts if p.features is not None]
    return Judgement(seen, torch.cat(features) if features else None)


def _shots(shots: Sequence[Shot], judgement: Judgement | None) -> dict[str, Shots]:
    kinds = dict.fromkeys(kind for s in shots for kind in s.prompt.labels)
    everything = Shots(
        "all",
        tuple(s.prompt.prompt for s in shots),
        tuple(s.index for s in shots),
        {kind: tuple(s.prompt.labels.get(kind) for s in shots) for kind in kinds},
        judgement.seen if judgement else {},
        judgement.features if judgement else None,
    )
    probes = dict.fromkeys(s.probe for s in shots)
    split = {p: everything.select([i for i, s in enumerate(shots) if s.probe == p]) for p in probes}
    return {p: Shots(p, s.prompts, s.seeds, s.wanted, s.seen, s.features) for p, s in split.items()}


def _drawn(judge: Judge, shots: Sequence[Shot], kind: str) -> Tensor | None:
    """Features of fresh drawings of what the retained prompts name."""
    from expunge.canvas.draw import draw
    from expunge.canvas.prompts import OBJECT_LABELS, PLAIN, STYLE_LABELS

    chance = torch.Generator().manual_seed(seed_of("drawn"))
    wanted = [s.prompt.labels for s in shots if s.probe in ("siblings", "same_domain", "cross_domain")]
    random = torch.randint(len(OBJECT_LABELS), (len(wanted),), generator=chance).tolist()
    objects = [OBJECT_LABELS.index(w["object"]) if "object" in w else r for w, r in zip(wanted, random, strict=True)]
    styles = [STYLE_LABELS.index(w["style"]) if "style" in w else PLAIN for w in wanted]
    return judge(draw(torch.tensor(objects), torch.tensor(styles), seed_of("drawings"))).features


def _row(score: Score, owner: Mapping | None, card: Mapping, judge: str, concept: str) -> Row:
    run, method = ("base", "none") if owner is None else (card["id"], card["method"])
    measured = (score.probe, score.metric, score.value, score.ci_low, score.ci_high, score.n)
    return Row(run, method, concept, card["seed"], *measured, judge=judge)


def _weights(model: DiffusionModel, delta: Mapping[str, Tensor], card: Mapping, concept: str) -> list[Row]:
    """What needs no judge: how far the weights moved, and how far the unprompted prediction did."""
    drift = null_drift(model, delta)
    interval = mean_interval(drift)
    scores = [
        Score("weight_change", "null", card["relative_change"], card["relative_change"], card["relative_change"], 1),
        Score("null_drift", "null", interval.value, interval.low, interval.high, len(drift)),
    ]
    zero = [Score(s.metric, s.probe, 0.0, 0.0, 0.0, s.n) for s in scores]
    return [_row(s, None, card, "none", concept) for s in zero] + [_row(s, card, card, "none", concept) for s in scores]


@torch.no_grad()
def null_drift(model: DiffusionModel, delta: Mapping[str, Tensor], pictures: int = 32, per_picture: int = 4) -> list[float]:
    """|| eps_theta(x_t, t, "") - eps_*(x_t, t, "") || / || eps_*(x_t, t, "") || for each of the untouched model's unprompted pictures.

    Guidance uses this prediction for every prompt, so its drift reaches all of them. Times are spread evenly.
    """
    null = model.null()
    sampler = Sampler(model.default_sampler.steps, 1.0)
    clean = model.sample_latents(null.expand(pictures), [seed_of("null", i) for i in range(pictures)], sampler)
    generator = torch.Generator().manual_seed(seed_of("null-noise"))
    drifts = []
    for k in range(per_picture):
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        spread = (torch.arange(pictures) * per_picture + k + 0.5) / (pictures * per_picture)
        t = model.path.times(spread).to(clean.device)
        x_t = model.path.add_noise(clean, noise, t)
        point = Point(x_t, t, null.expand(pictures), ("",) * pictures)
        held = next(model.network.parameters()).dtype
        before, after = model.predict(point), model.predict(point, {n: v.to(clean.device, held) for n, v in delta.items()})
        drifts.append(((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).cpu())
    return torch.stack(drifts).mean(0).tolist()


def read_rows(run: Run) -> list[Row]:
    """The rows of an evaluated run.

    Raises:
        ExpungeError: the run was not evaluated.
    """
    file = run.folder / "evaluation" / "rows.jsonl"
    try:
        return [Row(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise ExpungeError(f"a measured run has rows: {file}: {error}; measure it with `expunge eval {run.folder}`") from error
