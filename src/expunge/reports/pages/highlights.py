"""The six images at the top of a run's page: before, after, and after the strongest attack, with the same prompt and noise."""

from collections.abc import Iterator

from expunge.audits.cells import ExampleImage
from expunge.audits.results import Audit
from expunge.audits.verdict import Finding
from expunge.evaluation.protocol import spread
from expunge.reports.images import Frame, Mark, Strip, embed, pair_strip
from expunge.reports.run_view import RunView
from expunge.reports.text.answers import STATES, WORST_FIRST, audit_badge
from expunge.reports.text.attackers import plain_name
from expunge.storage.files import inner_file

IMAGES = 6


def highlights(view: RunView) -> tuple[Strip, ...]:
    """Two prompts in three images, or without an audit three prompts in two. Of an attack the most successful images come first."""
    if (strongest := _strongest(view)) and (found := list(_attacked(*strongest))):
        return tuple(found[: IMAGES // 3])
    pairs = [p for p in (view.evaluation.pairs if view.evaluation else ()) if p.probe == "target"]
    return tuple(pair_strip(p, view.card.kind) for p in spread(pairs, min(IMAGES // 2, len(pairs))))


def _strongest(view: RunView) -> tuple[Audit, Finding] | None:
    found = [(a.audit, f) for a in view.audits if a.audit for f in a.audit.findings if f.concept == view.card.target]
    return min(found, key=lambda both: _rank(both[1]), default=None)


def _rank(finding: Finding) -> tuple[int, int, float]:
    status, _ = audit_badge(finding.state, finding.second)
    return WORST_FIRST.index(status), list(STATES).index(finding.state), -finding.rate.value


def _attacked(audit: Audit, finding: Finding) -> Iterator[Strip]:
    """The images of the best reading for which the same image before the attack, and of the base model, is kept."""
    mine, after = finding.unlearned, f"after {plain_name(finding.attack)}"
    before, plain = {s.place: s for s in mine.result.readings[0].shown}, _of_base(audit, finding.concept)
    for shown in mine.best.shown:
        erased, base = before.get(shown.place), plain.get(shown.place)
        if erased and base and erased.prompt == base.prompt:
            frames = (_frame(audit, base, "base model", True), _frame(audit, erased, "unlearned"), _frame(audit, shown, after))
            yield Strip(erased.prompt, None, frames, shown.prompt if shown.prompt != erased.prompt else "")


def _of_base(audit: Audit, concept: str) -> dict[int, ExampleImage]:
    """The base model's images without an attack, by their place; all attacks begin with the same ones."""
    of = [d.result.readings[0] for d in audit.done if d.role == "base" and d.result.concept == concept]
    return {shown.place: shown for reading in of for shown in reading.shown}


def _frame(audit: Audit, shown: ExampleImage, caption: str, is_wanted: bool = False) -> Frame:
    mark = Mark(shown.hit is is_wanted, shown.seen)
    return Frame(embed(inner_file(audit.folder, f"pictures/{shown.picture}")), f"{caption}: {shown.prompt}", caption, (mark,))
