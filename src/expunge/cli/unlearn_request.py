"""What `expunge unlearn` is to do: its options laid over a configuration, and checked as far as possible without the model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from expunge import config
from expunge.cli.concept_options import find_concepts
from expunge.cli.config_file import is_preset, read_config
from expunge.cli.options import CANVAS
from expunge.concepts.groups import Subject
from expunge.errors import ExpungeError
from expunge.evaluation.early_stopping import RULES
from expunge.methods import METHODS
from expunge.methods.base import Method, Objective, Training
from expunge.methods.config import Layer, find_method, method_name
from expunge.models.reference import with_options
from expunge.training.stopping import StoppingRule


@dataclass(frozen=True)
class Request:
    """Everything that decides a run, except for the model's weights."""

    model: str
    fingerprint: str | None
    """Of the model that the configuration was written for; None if `--model` names another."""
    dtype: str
    quantize: str | None
    concept: Subject
    method: Method
    training: Training | None
    before: tuple[Layer, ...]
    seed: int
    stop: StoppingRule | None


def resolve(method: str, given: Mapping[str, Any]) -> Request:
    """Lays options over the configuration that `--config` names.

    A method other than the configuration's takes none of its settings; a target other than the configuration's takes none of its synonyms.

    Args:
        given: Options by name; None or empty if they were not given.

    Raises:
        ExpungeError: An unknown name, a wrong value, or options that do not fit together.
    """
    tables = read_config(given["config"]) if given["config"] else {}
    model_table, method_table = tables.get("model", {}), tables.get("method", {})
    is_same = method_table.get("name") == method
    if given["config"] and is_preset(given["config"]) and not is_same:
        raise ExpungeError(
            f"The preset {given['config']} is for the method {method_table['name']}, not for {method}.",
            rule="preset-of-another-method",
            value=method,
            hint=f"Try `expunge unlearn --config {given['config']}`, or {method} without the preset.",
        )
    cls, allow_code = find_method(method, allow_code=True), given["allow_code"]
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    configured = {k: v for k, v in method_table.items() if k != "name"} if is_same else {}
    if not allow_code and (named := config.code_named(cls, configured)):
        raise config.outside_code(named[0])
    built = config.build(cls, configured | _select(given, names), method, allow_code=True)
    of_training = [f.name for f in fields(Training) if f.name not in names]  # a closed form may have `prompts` of its own
    training = _build_training(built, (tables.get("training", {}) if is_same else {}) | _select(given, of_training))
    model = with_options(given["model"] or model_table.get("name") or CANVAS, given["model_variant"], given["model_config"])
    concept = find_concepts(tables.get("concept", {}), given, model)
    if given["anchor"] is not None and not built.needs & {"anchor", "anchor_pictures"}:
        raise ExpungeError(
            f"{method} does not use an anchor with these settings, so --anchor {given['anchor']!r} would have no effect.",
            rule="unused-anchor",
            value=given["anchor"],
            hint="Try without --anchor, or a method that uses one: ca, f-dmu, spm or uce.",
        )
    return Request(
        model,
        None if given["model"] else model_table.get("fingerprint"),
        given["dtype"] or model_table.get("dtype", "fp32"),
        given["quantize"] or model_table.get("quantize"),
        concept,
        built,
        training,
        tuple(_build_layer(name, allow_code) for name in given["before"] or ())
        or tuple(Layer.of(table, allow_code) for table in (tables.get("before", ()) if is_same else ())),
        tables.get("seed", 0) if given["seed"] is None else given["seed"],
        _build_stop(tables.get("stop"), given, training is not None),
    )


def _select(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if given.get(name) is not None}


def _build_training(method: Method, given: Mapping[str, Any]) -> Training | None:
    if isinstance(method, Objective):
        return config.build(Training, config.settings(method.training) | dict(given), "training")
    if given:
        raise ExpungeError(
            f"{method_name(method)} is a closed form without training, so it takes no {', '.join(given)}.",
            rule="training-of-closed-form",
            value=dict(given),
            hint="Try the configuration without [training].",
        )
    return None


def _build_layer(name: str, allow_code: bool) -> Layer:
    """What `--before` names: a method with its defaults, or the method of a configuration or preset."""
    if ":" in name or name in METHODS:
        return Layer.of(name, allow_code=True)
    tables = read_config(Path(name))
    if tables.get("before"):
        raise ExpungeError(
            f"The option --before takes one method, and {name} applies several.",
            rule="nested-before",
            value=name,
            hint=f"Try --config {name}.",
        )
    return Layer.of({key: tables[key] for key in ("method", "training") if key in tables}, allow_code)


def _build_stop(table: Mapping[str, Any] | None, given: Mapping[str, Any], is_trained: bool) -> StoppingRule | None:
    """The rule that may end the run early: options laid over the configuration's. A closed form ignores the configuration's rule."""
    every, judge = given["stop_when_gone"], given["judge"]
    if every is None and (table is None or not is_trained):
        if judge:
            raise ExpungeError(
                f"The option --judge {judge} has no effect without --stop-when-gone.",
                rule="judge-without-stop",
                value=judge,
                hint="Try adding --stop-when-gone 20.",
            )
        return None
    if every == 0:
        return None
    configured = dict(table or {"rule": "gone"})
    if (rule := configured.pop("rule", None)) not in RULES:
        raise ExpungeError(
            f"The table [stop] has the rule {rule!r}, which the command line cannot build.",
            rule="unknown-stop-rule",
            value=rule,
            hint=f"Try one of {', '.join(RULES)}, or pass a rule of your own to `expunge.unlearn` in Python.",
        )
    return config.build(RULES[rule], configured | {k: v for k, v in (("every", every), ("judge", judge)) if v is not None}, rule)
