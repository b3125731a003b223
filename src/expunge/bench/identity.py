"""What a unit is measured and attacked with, and what determines its results: if it changes, they are computed again."""

import inspect
from typing import Any

from expunge.audits.budget import Budget, make_budget
from expunge.audits.runner import attack_code
from expunge.bench.suite import Unit
from expunge.concepts.tables import concept_from
from expunge.evaluation.judge_settings import files_of, name_of
from expunge.evaluation.judges import EMBEDDED
from expunge.evaluation.metrics import METRICS, Metric, resolve
from expunge.models.defaults import defaults_of
from expunge.runs.run import Run
from expunge.storage.code import code_digest
from expunge.storage.files import lying_at


def attacked_as(unit: Unit) -> dict[str, Any]:
    """What determines a unit's attacks: the budget, the code of its attacks, and the state of the files that it and the suite name."""
    attacks = budget_of(unit).entries if unit.audit else ()
    found = control_of(unit)
    control = lying_at(str(found.folder / "delta.safetensors")) if found else []
    judge = _judge_files(unit)
    files = [list(file) for file in (*control, *judge, *(f for e in attacks for f in e.found_on_disk))]
    code = [attack_code(e.attack, ("expunge.models",)) for e in attacks]
    return {"audit": dict(unit.audit or {}), "files": files, "sampler": dict(unit.sampler), "judge": unit.judge, "code": code}


def control_of(unit: Unit) -> Run | None:
    """The run that was never trained on the unit's concepts and is attacked too; None if there is none or nothing is attacked."""
    from expunge.audits.setup import control_for

    return control_for(unit.audit["control"] or None, unit.model, concept_from(unit.concept).parts) if unit.audit else None


def budget_of(unit: Unit) -> Budget:
    """What a unit is attacked with. Code that it names was allowed when the suite was read."""
    assert unit.audit is not None
    return make_budget(unit.audit["budget"], unit.audit["name"], allow_code=True)


def measured_as(unit: Unit) -> dict[str, Any]:
    """What determines a unit's measurements: the protocol, the code that measures, and the state of files that the suite names as model
    or judge."""
    model = lying_at(unit.model) if unit.model and defaults_of(unit.model).folder is None else []
    named = (*unit.features.values(), *([unit.real] if unit.real else []), *map(inspect.getfile, _own_metrics(unit)))
    files = [list(file) for file in (*model, *_judge_files(unit), *(found for name in named for found in lying_at(name)))]
    code = code_digest("expunge.evaluation.evaluate", *(["expunge.evaluation.prompt_lists"] if unit.lists else []), "expunge.models")
    asked = {"protocol": dict(unit.protocol), "sampler": dict(unit.sampler), "judge": unit.judge, "code": code}
    lists = [dict(table) for table in unit.lists]
    return asked | {k: v for k, v in {"files": files, "features": dict(unit.features), "lists": lists}.items() if v}


def _own_metrics(unit: Unit) -> list[type[Metric]]:
    """The classes of a unit's metrics outside the package. They were allowed when the suite was read."""
    return [type(METRICS[name]) for name in resolve([m for m in unit.metrics or () if ":" in m], allow_code=True)]


def _judge_files(unit: Unit) -> list[tuple[str, int, int]]:
    """The state of the files of a unit's judge; none of a judge of the package."""
    return files_of(unit.judge) if unit.judge and name_of(unit.judge) not in EMBEDDED else []
