"""Search a method's settings on concepts that no table reports, with the same budget for every method.

The objective is the highest unlearning accuracy among settings for which the ratio of every retained share to the base model's is above a
limit, or the Pareto front of the two. Both are the worst over the tuning concepts, because a default must suit each of them.
"""

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from expunge import config
from expunge.bench.executors import Engine
from expunge.bench.results import Outcome, Trial
from expunge.bench.runner import Place, is_done
from expunge.bench.suite import Entry, Search, Suite, Unit
from expunge.bench.summary import Measured, base_rows, measured, share
from expunge.errors import ExpungeError
from expunge.evaluation.metrics import describe
from expunge.methods.base import Objective, Training
from expunge.methods.config import find_method
from expunge.names import dashed, suggest
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest

REACH = {"steps": 4.0, "lr": 10.0}
"""Without a given range, training's steps and lr are searched from this factor below to this factor above the method's own."""


RANGE = 'Try [low, high], [low, high, "log"] or a list of choices under [search].'


@dataclass(frozen=True)
class Range:
    """The search range of a setting: between two numbers, or among choices."""

    kind: Literal["int", "float", "choice"]
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Any, ...] = ()


def space_of(entry: Entry, search: Search) -> dict[str, Range]:
    """The settings to search, from the dataclasses of the method and its training and from the suite's ranges.

    Raises:
        ExpungeError: the entry has a range of a setting that the method lacks, or an invalid range.
    """
    cls = find_method(entry.name, allow_code=True)  # it was allowed when the suite was read
    trained = issubclass(cls, Objective)
    hints = get_type_hints(cls, include_extras=True)
    shared = get_type_hints(Training, include_extras=True) if trained else {}
    known = shared | {f.name: hints[f.name] for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := [name for name in entry.space if name not in known]:
        raise ExpungeError(
            f"{unknown[0]!r} is not a setting of {entry.label!r} that can be searched.",
            rule="unknown-setting",
            value=unknown[0],
            hint=suggest(unknown[0], known),
        )
    given = {k: v for k, v in search.space.items() if k in known} | dict(entry.space)
    default: dict[str, Any] = {}
    if trained:
        steps, lr = entry.training["steps"], entry.training["lr"]
        default["steps"] = [max(1, round(steps / REACH["steps"])), round(steps * REACH["steps"]), "log"]
        default["lr"] = [lr / REACH["lr"], lr * REACH["lr"], "log"]
    own = dict(entry.training) | dict(entry.settings)
    return {name: _range(name, known[name], value, own.get(name)) for name, value in (default | given).items()}


def _range(name: str, hint: Any, given: Any, own: Any) -> Range:
    """The given range, extended to contain the method's own value if that is a number. The own value is tried first."""
    hint = _bare(hint)
    if not isinstance(given, list) or len(given) < 2:
        raise ExpungeError(f"The range {given!r} of {name} is not valid.", rule="invalid-range", value=given, hint=RANGE)
    if get_origin(hint) is Literal or hint in (bool, str):
        return Range("choice", choices=tuple(dict.fromkeys(given if own is None else [own, *given])))
    (low, high), rest = given[:2], given[2:]
    if not (_is_number(low) and _is_number(high)) or rest not in ([], ["log"]) or low > high:
        raise ExpungeError(f"The range {given!r} of {name} is not valid.", rule="invalid-range", value=given, hint=RANGE)
    low, high = (min(low, own), max(high, own)) if _is_number(own) else (low, high)
    if rest and low <= 0:
        raise ExpungeError(
            f"The logarithmic range {given!r} of {name}, with the default {own!r}, is not above 0.",
            rule="log-range-not-positive",
            value=given,
            hint='Try it without "log".',
        )
    return Range("int" if hint is int else "float", low, high, bool(rest))


def _bare(hint: Any) -> Any:
    """A type without its bounds and without None; for a number or a word, the number."""
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_bare(a) for a in get_args(hint) if a is not type(None)]
        return next((p for p in parts if p in (int, float)), parts[0])
    return hint


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def search(suite: Suite, entry: Entry, engine: Engine, place: Place, command: str) -> Iterator[Outcome | Trial]:
    """Try settings one after another and record the best; yield outcomes of units and trials when they end (earlier ones first, at once).

    Each trial depends on the seed and the earlier trials, so an interrupted search ends with the same result as an uninterrupted one.

    Raises:
        ExpungeError: Optuna is not installed; the suite has no tuning concepts; a range is invalid.
    """
    if not suite.tuning:
        raise ExpungeError(
            f"The suite {suite.name!r} has no tuning concepts, which a search needs.",
            rule="no-tuning",
            value=suite.name,
            hint="Try tuning = [...] with concepts that it does not report.",
        )
    optuna = _optuna()
    settings, space = suite.search, space_of(entry, suite.search)
    # Trials of another space, of other units or of another measurement are not reused: they are part of the folder's name.
    done = [(u.id, u.model, u.judge, u.metrics, u.protocol, u.sampler) for u in suite.tuning_units(entry)]
    words = (asdict(entry), asdict(settings), [c.target for c in suite.tuning], done)
    folder = place.out / "search" / f"{dashed(entry.label)}-{digest(*words)[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "trials.jsonl")))
    directions = ["maximize", "maximize"] if settings.pareto else ["maximize"]
    study = optuna.create_study(storage=storage, study_name=entry.label, directions=directions, load_if_exists=True)
    if not study.trials:  # the method's defaults are the first trial
        study.enqueue_trial(_own_values(entry, space))
    tried = [Trial(**t.user_attrs["tried"]) for t in study.trials if t.state.is_finished()]
    yield from tried
    while len(tried) < (settings.trials if space else 1):
        number = len(tried)
        study.sampler = _sampler(optuna, settings, number)
        begun = next((t for t in study.trials if t.state == optuna.trial.TrialState.RUNNING), None)
        trial = optuna.trial.Trial(study, begun._trial_id) if begun else study.ask()
        chosen = {name: _suggest(trial, name, where) for name, where in space.items()}
        units = _units(suite, entry, chosen)
        yield from engine([u for u in units if not is_done(u, place.folder(u))], place)
        tried.append(score(number, chosen, measured(units, place.out), len(units)))
        _tell(optuna, study, trial, tried[-1], settings)
        yield tried[-1]
    _record(folder, suite, entry, tried, command)


def _own_values(entry: Entry, space: Mapping[str, Range]) -> dict[str, Any]:
    """The method's own values of the searched settings. A word such as "auto" is in no range of numbers; its setting starts at random."""
    values = dict(entry.training) | dict(entry.settings)
    return {n: values[n] for n, where in space.items() if n in values and (where.kind == "choice" or _is_number(values[n]))}


def _units(suite: Suite, entry: Entry, chosen: Mapping[str, Any]) -> list[Unit]:
    """A unit for each tuning concept. A chosen setting belongs to the method if it has one of that name, else to training."""
    cls = find_method(entry.name, allow_code=True)
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    method = dict(entry.settings) | {k: v for k, v in chosen.items() if k in names}
    training = dict(entry.training) | {k: v for k, v in chosen.items() if k not in names}
    built = config.build(cls, method, entry.name, allow_code=True)
    tuned = Entry(entry.name, entry.label, entry.synonyms, config.settings(built), training, {}, before=entry.before)
    return suite.tuning_units(tuned)


def score(number: int, chosen: Mapping[str, Any], found: Sequence[Measured], units: int) -> Trial:
    """The result of a trial from its units; no result if one failed."""
    if len(found) < units:
        return Trial(number, chosen, None, None)
    forgetting, retention = [], []
    for one in found:
        judges = [r.judge for r in one.rows if r.judge != "none"]
        judge = "main" if "main" in judges else next(iter(judges), "none")
        mine = {r.metric: r for r in one.rows if r.run != "base" and r.judge == judge and r.attack == "none"}
        base = {r.metric: r for r in base_rows([one], judge) if r.judge == judge and r.attack == "none"}
        if "UA" not in mine:
            raise ExpungeError(
                f"The run {str(one.folder)!r} has no UA, which a search needs.",
                rule="no-ua",
                value=str(one.folder),
                hint="Try a judge in the suite, or UA among its metrics.",
            )
        forgetting.append(share([mine["UA"]]).value)
        retention += [row.value / base[m].value for m, row in mine.items() if describe(m).is_retained and base[m].value]
    return Trial(number, chosen, min(forgetting), min(retention) if retention else None)


def select_best(trials: Sequence[Trial], search: Search) -> list[Trial]:
    """The best trial, or with `pareto` every trial that no other dominates; none if all failed.

    If no trial satisfies the limit, it is the one that retains most. Among trials with equal forgetting it is the one that retains most.
    """
    scored = [(t, t.forgetting, 1.0 if t.retention is None else t.retention) for t in trials if t.forgetting is not None]
    if search.pareto:
        return [t for t, f, r in scored if not any((g >= f and s >= r) and (g > f or s > r) for _, g, s in scored)]
    enough = [x for x in scored if x[2] >= search.limit]
    ranked = sorted(enough, key=lambda x: (x[1], x[2])) if enough else sorted(scored, key=lambda x: (x[2], x[1]))
    return [ranked[-1][0]] if ranked else []


def _record(folder: Path, suite: Suite, entry: Entry, trials: Sequence[Trial], command: str) -> None:
    """Write `best.toml`: the command, the best settings, and every trial."""

    def table(trial: Trial) -> dict[str, Any]:
        return {k: v for k, v in asdict(trial).items() if v is not None}

    found = {
        "command": command,
        "method": entry.name,
        "label": entry.label,
        "tuned_on": [c.target for c in suite.tuning],
        "search": asdict(suite.search),
        "best": [table(t) for t in select_best(trials, suite.search)],
        "trials": [table(t) for t in trials],
    }
    write_atomically(folder / "best.toml", config.to_toml(found).encode())


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ExpungeError(
            "A search needs the package optuna, which is not installed.",
            rule="optuna-not-installed",
            value="optuna",
            hint="Try pip install 'expunge[tune]', or leave --search out.",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _sampler(optuna: Any, search: Search, number: int) -> Any:
    """Optuna's sampler, with a seed of its own for each trial, so that a resumed search continues with the same random numbers."""
    seed = int(digest(search.seed, number)[:7], 16)
    if search.pareto:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=4, multivariate=True)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=4, multivariate=True, constraints_func=lambda t: t.user_attrs.get("short", (0.0,))
    )


def _suggest(trial: Any, name: str, where: Range) -> Any:
    match where.kind:
        case "choice":
            return trial.suggest_categorical(name, where.choices)
        case "int":
            return trial.suggest_int(name, int(where.low), int(where.high), log=where.log)
        case _:
            return trial.suggest_float(name, where.low, where.high, log=where.log)


def _tell(optuna: Any, study: Any, trial: Any, tried: Trial, search: Search) -> None:
    trial.set_user_attr("tried", json.loads(json.dumps(asdict(tried))))
    if tried.forgetting is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    retention = 1.0 if tried.retention is None else tried.retention
    trial.set_user_attr("short", [search.limit - retention])  # above 0: the constraint is broken
    study.tell(trial, [tried.forgetting, retention] if search.pareto else tried.forgetting)
