"""Runs that were made apart, as one: the changes of closed forms multiply."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from expunge.concepts.groups import Several
from expunge.concepts.tables import concept_table, slug
from expunge.config import version_of
from expunge.errors import ExpungeError
from expunge.methods.base import Objective
from expunge.methods.config import find_method
from expunge.models.delta import relative_change, save_delta
from expunge.models.loading import Model
from expunge.models.loading import load as load_model
from expunge.runs.card import is_done, write_card
from expunge.runs.closed_form import factors, times
from expunge.runs.run import Run
from expunge.storage.code import code_digest, modules_of
from expunge.storage.hashing import digest
from expunge.storage.lock import alone_in
from expunge.training.counters import Spent


def compose(
    runs: Sequence[Run | str | Path],
    out: str | Path | None = None,
    model: Model | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Run:
    """One run of what several did, without doing it again: the edits in the order given.

    UCE turns each weight W into W T, with one T for all layers that read the same, which follows from the prompts and settings alone.
    So a run's T is worked out anew from its card, its delta is checked to be W T, and the result of runs in turn is W T1 T2, as if
    each had edited what the one before it left. The order matters a little. What one run retained is retained by its own T only: if
    many concepts are to go, removing them in one run, `unlearn(model, [...], "uce")`, weighs all of them against all that stays.

    Args:
        out: the new run's folder; default `runs/<id>`.
        model: the base model; default the one that the first run's card names.
        allow_code: whether a card may name a method outside the package, which is imported. Choose it for runs that you trust.

    Raises:
        ExpungeError: fewer than two runs; a trained method, whose changes were found one at a time and are not a product; another
            base model or precision; a concept twice; a delta that is not what its card says; code outside the package.
    """
    made = [run if isinstance(run, Run) else Run(Path(run)) for run in runs]
    if len(made) < 2:
        raise ExpungeError(
            f"At least two runs are needed to compose one. The number given is {len(made)}.",
            rule="too-few-runs",
            value=len(made),
            hint="Try naming another run.",
        )
    first = made[0].card
    for run in made:
        _refuse(run, first, allow_code)
    parts = [c for run in made for c in run.concept().parts]
    concept = Several.of(parts)
    method = find_method(first["method"], allow_code)
    code = code_digest(*modules_of(method), "expunge.training.edit_prompts", alone=[__name__, "expunge.runs.closed_form"])
    about = digest([r.id for r in made], version_of("expunge"), code)
    name = f"{first['method'].rpartition(':')[2].lower()}-{slug(concept)}-{about[:10]}"
    folder = Path(out) if out else Path("runs") / name
    if is_done(folder, name):
        return Run(folder)

    spent = Spent()
    loaded = load_model(model or first["model"]["name"], device, first["dtype"])
    weights = {n: p.detach().to("cpu", torch.float64) for n, p in loaded.network.named_parameters()}
    delta = {n: weights[n] for n in made[0].delta(loaded.fingerprint)}
    for run in made:
        delta = times(delta, factors(run, loaded, weights, allow_code))
    kept = ("method", "model", "seed", "scope", "dtype", "versions", "trainable", "total")
    same = all(run.card["config"] == first["config"] for run in made)
    card = (
        {"id": name, **{k: first[k] for k in kept}}
        | {"config": first["config"] if same else {}, "training": None, "concept": concept_table(concept), "device": str(loaded.device)}
        | {"composed_of": [{"id": r.id, "method": r.card["method"], "config": r.card["config"]} for r in made]}
        | {"forwards": 0, "backwards": 0, "relative_change": relative_change(delta, weights)}
        | {"code": code, "seconds": round(spent.seconds, 2), "status": "done"}
    )
    with alone_in(folder):
        if not is_done(folder, name):  # another process may have finished it meanwhile
            save_delta(folder / "delta.safetensors", {n: w.float() for n, w in delta.items()}, loaded.fingerprint)
            write_card(folder, card)
    return Run(folder)


def _refuse(run: Run, first: Mapping, allow_code: bool) -> None:
    card = run.card
    if "before" in card:
        raise ExpungeError(
            f"{run.folder} was made by {card['method']}. Only runs of one method compose.",
            rule="compose-several-methods",
            value=card["method"],
            hint="Try making it by one of them alone.",
        )
    if issubclass(find_method(card["method"], allow_code), Objective):
        raise ExpungeError(
            f"{run.folder} was trained by {card['method']}. Only closed forms compose, because their changes multiply.",
            rule="compose-trained",
            value=card["method"],
            hint="Try removing the concepts in one run, with --target twice.",
        )
    if "composed_of" in card:
        raise ExpungeError(
            f"{run.folder} was composed of other runs. Only runs that `unlearn` made compose.",
            rule="compose-composed",
            value=card["id"],
            hint="Try the runs that it was composed of.",
        )
    for what, kind, mine, its in (
        ("base model", "base-models", card["model"]["fingerprint"], first["model"]["fingerprint"]),
        ("precision", "precisions", card["dtype"], first["dtype"]),
        ("scope", "scopes", card["scope"], first["scope"]),
    ):
        if mine != its:
            raise ExpungeError(
                f"{run.folder} has the {what} {mine}. The first run has {its}.",
                rule=f"compose-several-{kind}",
                value=mine,
                hint=f"Try making it again with the {what} of the first run.",
            )
