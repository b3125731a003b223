"""How much of each concept a run's weights still hold, beside what the untouched model's do: the retention map.

The untouched model draws pictures of every concept; then both models say, by their predictions of noise at the same points, how
much the concept's name tells of them (see `meter`). The unlearned model draws nothing, and no judge looks.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.evaluation.information.interview import Asked, Interview, Meter, asked_of
from expunge.evaluation.information.maps import write_maps
from expunge.evaluation.information.mutual_information import Estimate
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval, ratio_interval, student, student_interval
from expunge.models.loading import Model
from expunge.progress import Progress
from expunge.runs.run import Run
from expunge.storage.cache import Store
from expunge.storage.files import write_json, write_lines
from expunge.training.session import Session

FOLDER = "information"
"""In the run's folder."""


@dataclass(frozen=True)
class Held:
    """What both models hold of one concept, picture by picture, in nats."""

    name: str
    kind: str
    family: str
    removed: bool
    """Whether the run removed it."""
    alone: bool
    """Whether it was asked for alone, beside nothing: then the number holds all that any prompt of its kind tells."""
    base: tuple[float, ...]
    after: tuple[float, ...]
    base_se: float
    """Standard error of the mean over draws alone, the pictures as they are: what more draws would make smaller."""
    after_se: float

    @property
    def probe(self) -> str:
        """Its name among rows."""
        return f"{self.kind}/{self.name}{'/alone' if self.alone else ''}"


@dataclass(frozen=True)
class Information:
    """All that was measured."""

    held: tuple[Held, ...]
    rows: tuple[Row, ...]
    folder: Path
    seconds: float


def measure_information(
    run: Run | str | Path,
    model: Model | None = None,
    *,
    meter: Meter = Meter(),
    device: str = "auto",
    cache: Store | str | Path | None = None,
    progress: Progress | None = None,
    render_batch: int | None = None,
) -> Information:
    """Measures how much of the removed concept, and of every other, a run's weights hold; writes `information/` into its folder.

    The unlearned model's information over the untouched one's is wanted 0 for the concept, or less, and 1 for every other. Less
    than 0: its name now speaks against such pictures. Both models see the same points on the noise path.

    Args:
        model: the base model; default the one that the run's card names.
        device: of what is loaded; "auto" takes the fastest one there is. A pipeline in memory stays where it is.
        cache: images, and the base model's predictions for them, are kept there by content; default `$EXPUNGE_CACHE`,
            else `~/.cache/expunge`.
        progress: shows how far it is on standard error; default `expunge.progress.Progress()`.
            `expunge.progress.Silent()` shows nothing.
        render_batch: images that are sampled at once; default 32. Larger is faster on an accelerator and needs more memory.

    Returns:
        What is held of each concept, and rows: `information` of both models, in nats, with Student's interval over pictures, and
        `information_ratio`, with an interval by the delta method over pictures, the mean of the ratios of a probe's concepts; on
        the probes target, alone (the concept beside nothing), siblings, same_domain and cross_domain, and on one for each concept.
        There is no ratio where the untouched model's information is not told apart from 0, as it may be in the form `standard`.

    Raises:
        ExpungeError: an unfinished run, another base model.
    """
    run, started = run if isinstance(run, Run) else Run(Path(run)), time.monotonic()
    name, dtype = run.card["model"]["name"], run.card["dtype"]
    session = Session.open(model or name, device=device, dtype=dtype, cache=cache, progress=progress, render_batch=render_batch)
    subject, folder = run.concept(), run.folder / FOLDER
    interview = Interview(session, run.delta(session.model.fingerprint), subject.parts[0].vocabulary, meter)
    sets = list(_sets(subject, meter))
    base, after = interview.answers([a for _, asked in sets for a in asked])
    held, at = list[Held](), 0
    for about, asked in sets:
        held.append(_filled(about, base, after, slice(at, at := at + len(asked))))
    rows = tuple(_rows(held, subject, run.card))
    maps = write_maps(interview, subject, folder) if meter.maps else []
    seconds = round(time.monotonic() - started, 1)
    told = {
        "meter": asdict(meter),
        "log_snr": [interview.axis.log_snr[-1].item(), interview.axis.log_snr[0].item()],
        "concepts": [asdict(h) | {"probe": h.probe} for h in held],
        "maps": maps,
        "seconds": seconds,
    }
    write_json(folder / "information.json", told)
    write_lines(folder / "rows.jsonl", map(asdict, rows))
    return Information(tuple(held), rows, folder, seconds)


def _sets(subject: Subject, meter: Meter) -> Iterator[tuple[Held, list[Asked]]]:
    """Each concept, without numbers yet, and its pictures: what was removed beside partners and alone, then every other."""
    for part in subject.parts:
        bare = replace(part, synonyms=())
        about = Held(part.target, part.kind, part.member.family, True, False, (), (), 0.0, 0.0)
        yield about, asked_of(bare, meter.target_pictures, meter.seed)
        yield replace(about, alone=True), asked_of(bare, meter.target_pictures // 2, meter.seed, alone=True)
    for concept in others(subject, meter.others):
        about = Held(concept.target, concept.kind, concept.member.family, False, False, (), (), 0.0, 0.0)
        yield about, asked_of(concept, meter.pictures, meter.seed)


def others(subject: Subject, limit: int) -> list[Concept]:
    """Every other concept of the vocabulary that should stay: of each part, at most `limit` siblings, others of its kind, and of others.

    Unsafe kinds have no members that should stay. What was removed is in none of their prompts.
    """
    removed = tuple(replace(c, removed=()) for c in subject.parts)
    found: dict[tuple[str, str], Concept] = {}
    for part in subject.parts:
        vocabulary, siblings = part.vocabulary, part.siblings
        same = [m for m in part.others if m not in siblings]
        foreign = [(k.name, m) for k in vocabulary.kinds.values() if k.name != part.kind and k.harmless for m in k.members]
        gone = {(c.kind, c.member.name) for c in removed}
        groups = [[(part.kind, m) for m in siblings], [(part.kind, m) for m in same], [f for f in foreign if (f[0], f[1].name) not in gone]]
        for group in groups:
            step = max(1.0, len(group) / limit)
            for kind, member in [group[int(i * step)] for i in range(min(limit, len(group)))]:
                found[kind, member.name] = Concept(member.name, kind, vocabulary, removed=removed)
    return list(found.values())


def _filled(about: Held, base: Estimate, after: Estimate, rows: slice) -> Held:
    mine, its = (Estimate(e.nats[rows], e.se[rows]) for e in (base, after))
    return replace(about, base=tuple(mine.nats.tolist()), after=tuple(its.nats.tolist()), base_se=mine.mean_se, after_se=its.mean_se)


def _rows(held: Sequence[Held], subject: Subject, card: Mapping[str, Any]) -> Iterator[Row]:
    for part in subject.parts:
        siblings = {m.name for m in part.siblings}
        mine = [h for h in held if h.removed and (h.kind, h.name) == (part.kind, part.target)]
        kept = [h for h in held if not h.removed]
        probes = {
            "target": [h for h in mine if not h.alone],
            "alone": [h for h in mine if h.alone],
            "siblings": [h for h in kept if h.kind == part.kind and h.name in siblings],
            "same_domain": [h for h in kept if h.kind == part.kind and h.name not in siblings],
            "cross_domain": [h for h in kept if h.kind != part.kind],
        }
        for probe, members in probes.items():
            yield from _of(members, part.target, probe, card)
    for one in held:
        yield from _of([one], subject.target, one.probe, card)


def _of(held: Iterable[Held], concept: str, probe: str, card: Mapping[str, Any]) -> Iterator[Row]:
    """Both models' mean information over all pictures of some concepts, and the mean of the concepts' ratios."""
    held = list(held)
    base, after = ([nats for h in held for nats in getattr(h, name)] for name in ("base", "after"))
    if not base:
        return

    def row(run: str, method: str, metric: str, found: Interval, n: int) -> Row:
        return Row(run, method, concept, card["seed"], probe, metric, *found, n=n, judge="none")

    yield row("base", "none", "information", student_interval(base), len(base))
    yield row(card["id"], card["method"], "information", student_interval(after), len(after))
    if told := [h for h in held if _tells(h)]:
        yield row(card["id"], card["method"], "information_ratio", _ratio(told), sum(len(h.base) for h in told))


def _tells(held: Held) -> bool:
    """Whether the untouched model holds anything that a share of can be left: a mean that is told apart from 0, or no negative part."""
    return min(held.base) >= 0 < max(held.base) or student_interval(held.base).low > 0


def _ratio(held: Sequence[Held]) -> Interval:
    """The mean of some concepts' ratios, each of which counts alike however many nats it has; their errors are independent."""
    ratios = [ratio_interval(h.after, h.base) for h in held]
    freedom = [len(h.base) - 1 for h in held]
    errors = [(r.high - r.value) / student(f) for r, f in zip(ratios, freedom, strict=True)]
    value, half = fmean(r.value for r in ratios), student(sum(freedom)) * math.hypot(*errors) / len(ratios)
    return Interval(value, value - half, value + half)
