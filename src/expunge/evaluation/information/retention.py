"""The retention map: how much information about each concept a run's weights contain, relative to the base model.

The base model makes images of every concept. Both models then predict the noise at the same points, from which the information of the
concept's name is estimated (see `mutual_information`). The unlearned model makes no images, and no judge is needed.
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
from expunge.evaluation.information.interview import Meter, ModelPair, Query, make_queries
from expunge.evaluation.information.maps import write_maps
from expunge.evaluation.information.mutual_information import Estimate
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval, ratio_interval, student, student_interval
from expunge.models.base import DiffusionModel
from expunge.models.loading import Model
from expunge.progress import Progress
from expunge.runs.run import Run, writes
from expunge.storage.cache import Store
from expunge.storage.files import write_json, write_lines
from expunge.training.batch_size import RenderBatch
from expunge.training.session import Session

FOLDER = "information"
"""The folder of the results in the run folder."""


@dataclass(frozen=True)
class ConceptInformation:
    """The information of both models about one concept, image by image, in nats."""

    name: str
    kind: str
    family: str
    removed: bool
    """Whether the run removed it."""
    alone: bool
    """Whether it was measured alone, without partners. Then the number includes everything that a prompt of its kind gives."""
    base: tuple[float, ...]
    """The information of the base model about each image."""
    after: tuple[float, ...]
    """The information of the unlearned model about each image."""
    base_se: float
    """Standard error of the mean from sampled noise alone, for the given images. More draws reduce it."""
    after_se: float
    """The same for the unlearned model."""

    @property
    def probe(self) -> str:
        """The probe of its rows."""
        return f"{self.kind}/{self.name}{'/alone' if self.alone else ''}"


@dataclass(frozen=True)
class Information:
    """The results of a measurement."""

    held: tuple[ConceptInformation, ...]
    """The information about each concept."""
    rows: tuple[Row, ...]
    """The rows of the measurement, as in `rows.jsonl`."""
    folder: Path
    """The folder of the results."""
    seconds: float
    """Duration of the measurement."""
    note: str | None = None
    """Why the nats of this model are no mutual information, where they are none."""


@writes(FOLDER)
def measure_information(
    run: Run | str | Path,
    model: Model | None = None,
    *,
    meter: Meter = Meter(),
    device: str = "auto",
    cache: Store | str | Path | None = None,
    progress: Progress | None = None,
    render_batch: RenderBatch = None,
) -> Information:
    """Measure how much information about the removed concept and every other a run's weights contain; write `information/` into its folder.

    The ratio of the unlearned model's information to the base model's should be 0 or less for the concept, and 1 for every other. Below 0,
    the concept's name speaks against such images. Both models have the same points on the noise path.

    Args:
        run: A finished run, or its folder.
        model: The base model; default the one that the run's card names.
        meter: The amount of measurement.
        device: Of what is loaded; "auto" takes the fastest one there is. A pipeline in memory stays where it is.
        cache: Where images, and the base model's predictions for them, are kept by content; default `$EXPUNGE_CACHE`, else
            `~/.cache/expunge`.
        progress: Shows how far it is on standard error; default `expunge.progress.Progress()`. `expunge.progress.Silent()` shows nothing.
        render_batch: Images that are sampled at once; default 32 on a CPU and for embedded models, else "auto": the number with
            which the device is fastest, measured once and kept in the cache. Larger needs more memory.

    Returns:
        The information about each concept, and rows. `information` has both models' means in nats, with Student's interval over images.
        `information_ratio` is the mean of the ratios of a probe's concepts, with an interval by the delta method over images. The probes
        are target, alone (the concept without partners), siblings, same_domain and cross_domain, and one for each concept. There is no
        ratio where the base model's information is not significantly different from 0, which can happen with the form `standard`.

    Raises:
        ExpungeError: the run is not finished, has another base model, or is measured by another process now.
    """
    run, started = run if isinstance(run, Run) else Run(Path(run)), time.monotonic()
    name, dtype = run.card["model"]["name"], run.card["dtype"]
    session = Session.open(model or name, device=device, dtype=dtype, cache=cache, progress=progress, render_batch=render_batch)
    subject, folder = run.concept(), run.folder / FOLDER
    pair = ModelPair(session, run.delta(session.model.fingerprint), subject.parts[0].vocabulary, meter)
    sets = list(_measured_sets(subject, meter))
    base, after = pair.estimate([a for _, queries in sets for a in queries])
    held, at = list[ConceptInformation](), 0
    for about, queries in sets:
        held.append(_fill(about, base, after, slice(at, at := at + len(queries))))
    rows = tuple(_rows(held, subject, run.card))
    maps = write_maps(pair, subject, folder) if meter.maps else []
    note = _caveat(session.model)
    seconds = round(time.monotonic() - started, 1)
    table = {
        "meter": asdict(meter),
        "log_snr": [pair.axis.log_snr[-1].item(), pair.axis.log_snr[0].item()],
        "concepts": [asdict(h) | {"probe": h.probe} for h in held],
        "maps": maps,
        "seconds": seconds,
    } | ({"note": note} if note else {})
    write_json(folder / "information.json", table)
    write_lines(folder / "rows.jsonl", map(asdict, rows))
    return Information(tuple(held), rows, folder, seconds, note)


def _caveat(model: DiffusionModel) -> str | None:
    """What readers of a distilled model's nats need to know."""
    if model.guidance != "an input" and not model.is_distilled:
        return None
    return (
        f"{model.name} is distilled. Its predictions are not the mean of the noise, so these nats compare the unlearned model with "
        "the base model, and are no mutual information."
    )


def _measured_sets(subject: Subject, meter: Meter) -> Iterator[tuple[ConceptInformation, list[Query]]]:
    """Each concept, without numbers, and its images: the removed concepts with partners and alone, then every other."""
    for part in subject.parts:
        bare = replace(part, synonyms=())
        about = ConceptInformation(part.target, part.kind, part.member.family, True, False, (), (), 0.0, 0.0)
        yield about, make_queries(bare, meter.target_pictures, meter.seed)
        yield replace(about, alone=True), make_queries(bare, meter.target_pictures // 2, meter.seed, alone=True)
    for concept in other_concepts(subject, meter.others):
        about = ConceptInformation(concept.target, concept.kind, concept.member.family, False, False, (), (), 0.0, 0.0)
        yield about, make_queries(concept, meter.pictures, meter.seed)


def other_concepts(subject: Subject, limit: int) -> list[Concept]:
    """The other concepts of the vocabulary that should remain: for each part, at most `limit` siblings, others of its kind, and of other
    kinds.

    Kinds that are not `harmless` are left out. No prompt contains a removed concept.
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


def _fill(about: ConceptInformation, base: Estimate, after: Estimate, rows: slice) -> ConceptInformation:
    """A concept with the numbers of its rows."""
    mine, its = (Estimate(e.nats[rows], e.se[rows]) for e in (base, after))
    return replace(about, base=tuple(mine.nats.tolist()), after=tuple(its.nats.tolist()), base_se=mine.mean_se, after_se=its.mean_se)


def _rows(held: Sequence[ConceptInformation], subject: Subject, card: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of all probes."""
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
            yield from _probe_rows(members, part.target, probe, card)
    for one in held:
        yield from _probe_rows([one], subject.target, one.probe, card)


def _probe_rows(held: Iterable[ConceptInformation], concept: str, probe: str, card: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a probe: both models' mean information over all images of its concepts, and the mean of the concepts' ratios."""
    held = list(held)
    base, after = ([nats for h in held for nats in getattr(h, name)] for name in ("base", "after"))
    if not base:
        return

    def row(run: str, method: str, metric: str, found: Interval, n: int) -> Row:
        return Row(run, method, concept, card["seed"], probe, metric, *found, n=n, judge="none")

    yield row("base", "none", "information", student_interval(base), len(base))
    yield row(card["id"], card["method"], "information", student_interval(after), len(after))
    if informative := [h for h in held if _has_ratio(h)]:
        yield row(card["id"], card["method"], "information_ratio", _mean_ratio(informative), sum(len(h.base) for h in informative))


def _has_ratio(held: ConceptInformation) -> bool:
    """Whether a ratio is defined: the base model's mean is significantly above 0, or no image has a negative value."""
    return min(held.base) >= 0 < max(held.base) or student_interval(held.base).low > 0


def _mean_ratio(held: Sequence[ConceptInformation]) -> Interval:
    """The mean of the ratios of several concepts, each with equal weight. Their errors are independent."""
    ratios = [ratio_interval(h.after, h.base) for h in held]
    freedom = [len(h.base) - 1 for h in held]
    errors = [(r.high - r.value) / student(f) for r, f in zip(ratios, freedom, strict=True)]
    value, half = fmean(r.value for r in ratios), student(sum(freedom)) * math.hypot(*errors) / len(ratios)
    return Interval(value, value - half, value + half)
