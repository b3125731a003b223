"""A run on the tiny pipeline, and judges who know the untouched model's pictures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from audit.toys import CALLS, Witness

from expunge.attacks.base import Victim
from expunge.audits.budget import make_budget
from expunge.audits.results import Audit
from expunge.audits.runner import Battery
from expunge.audits.setup import conclude, prepare
from expunge.models.sampling import Sampler
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

SAMPLER = Sampler(1, 1.0)
PICTURES = 8


def budget(*names: str, pictures: int = PICTURES, **settings: object):
    """Toy attacks by their classes' names, all with the same settings."""
    return make_budget(
        {"pictures": pictures, "attacks": [{"name": f"audit.toys:{n}", "label": n.lower(), **settings} for n in names]},
        "toys",
        allow_code=True,
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose pictures are not the untouched model's."""
    folder = tmp_path_factory.mktemp("audited")
    training = tiny.TRAINING | {"lr": 0.2}
    return unlearn(tiny.model(), tiny.concept(), training=training, out=folder / "run", cache=Store(folder / "store"))


@pytest.fixture(scope="session")
def judges() -> list[Witness]:
    """Two, as on the canvas."""
    model, concept = tiny.model(), tiny.concept()
    asked = [Victim(tiny.session(model), concept, seed=seed, pictures=2 * PICTURES).asked() for seed in (0, 1)]
    pictures = torch.cat([model.sample(prompts, seeds, SAMPLER) for prompts, seeds in asked])
    return [Witness(name, pictures, concept.member.name, concept.kind) for name in ("main", "second")]


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch, judges: list[Witness]) -> None:
    """Witnesses in the place of whoever was asked for."""
    monkeypatch.setattr("expunge.audits.setup.judges_for", lambda judge, model, concept: judges)
    CALLS.clear()


@pytest.fixture
def battery(made: Run, tmp_path: Path) -> Callable[..., Battery]:
    """An audit that is not begun: `battery("Undo", "Nothing")`, with keywords of `prepare` or of the attacks."""

    def prepared(*names: str, pictures: int = PICTURES, settings: dict | None = None, **given: object) -> Battery:
        planned = budget(*names, pictures=pictures, **settings or {})
        usual = {"model": tiny.model(), "sampler": SAMPLER, "cache": Store(tmp_path / "store"), "out": tmp_path / "audit"}
        return prepare(made, planned, **usual | given)

    return prepared


@pytest.fixture
def audited(battery: Callable[..., Battery]) -> Callable[..., Audit]:
    """The same, done."""

    def done(*names: str, **given: object) -> Audit:
        prepared = battery(*names, **given)
        return conclude(prepared, list(prepared.run()))

    return done
