"""A model that was unlearned elsewhere, taken in as a run: what it forgot is measured and attacked like any other's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge import config
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.concepts.tables import concept_table, slug
from expunge.config import version_of
from expunge.errors import ExpungeError
from expunge.methods import METHODS
from expunge.models.base import DiffusionModel
from expunge.models.delta import relative_change, save_delta
from expunge.models.loading import Model
from expunge.models.loading import load as load_model
from expunge.models.scopes import SCOPES, Scope, size_of
from expunge.names import RETRAINED, dashed
from expunge.runs.card import is_done, model_table, versions, write_card
from expunge.runs.plan import subject_of
from expunge.runs.published import differing, published
from expunge.runs.run import Run
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest
from expunge.storage.lock import alone_in
from expunge.storage.tensors import content


def adopt(
    model: Model,
    unlearned: str | Path,
    concept: str | Subject | Sequence[str | Concept],
    *,
    name: str = "adopted",
    never_saw: bool = False,
    out: str | Path | None = None,
    device: str = "auto",
    dtype: str = "fp32",
) -> Run:
    """Makes a run of the difference between a model and its base model, no matter how it was unlearned.

    Choose it to measure and attack weights that others publish or deliver, or a folder that `merge` wrote, as it ships; with
    `never_saw`, to have a model that was trained without the concept as the control of an audit.

    Args:
        model: what it was made from: "canvas", a diffusers folder, or a hub id.
        unlearned: a diffusers folder or a hub id; the folder of the network alone; or a `.safetensors` file, of some or all of the
            network's tensors under the names that diffusers gives them, as the published code of ESD and of UCE writes it, or of a LoRA
            or differences in the naming of diffusers, peft, kohya's programs or ComfyUI.
        concept: what it is said to have forgotten, as `unlearn` takes it.
        name: what its method is called in reports.
        never_saw: it was trained without the concept, so that `audit(..., control=run)` may compare with it.
        out: the run's folder; default `runs/<id>`. One that holds this run already is returned as it is.

    Returns:
        The run. Its delta holds every tensor that differs by more than having passed through half precision.

    Raises:
        ExpungeError: a file of something else, or a pickle; a LoRA file with a tensor that has no place in the model, which is named; other
            tensors than the model's; another text encoder, autoencoder or noise schedule, which no run can hold; nothing that differs;
            values that are not finite; the name of a method; a folder of another run.
    """
    if name in (*METHODS, RETRAINED):
        raise ExpungeError(
            f"{name!r} is the name of a method of expunge. A model that was unlearned elsewhere needs another.",
            rule="name-of-a-method",
            value=name,
            hint="Try another --name.",
        )
    loaded = load_model(model, device, dtype)
    subject = subject_of(concept, loaded)
    ours = {n: p.detach().cpu().float() for n, p in loaded.network.named_parameters()}
    delta = differing(published(unlearned, loaded), ours)
    if not delta:
        raise ExpungeError(
            f"The weights of {unlearned} are those of the base model.",
            rule="nothing-changed",
            value=str(unlearned),
            hint="Try the model that was unlearned.",
        )
    if odd := [n for n, value in delta.items() if not value.isfinite().all()]:
        raise ExpungeError(
            f"The tensor {odd[0]} of {unlearned} is not finite.",
            rule="weights-not-finite",
            value=odd[0],
            hint="Try getting the file again.",
        )

    deciding: dict[str, Any] = {"seed": 0, "concept": concept_table(subject), "method": {"name": RETRAINED if never_saw else name}}
    about = digest(deciding, loaded.fingerprint, dtype, content(delta), version_of("expunge"))
    run = f"{dashed(name)}-{slug(subject)}-{about[:10]}"
    folder = Path(out) if out else Path("runs") / run
    if is_done(folder, run, loaded):
        return Run(folder)
    scope = narrowest(loaded, delta)
    card = {
        "id": run,
        "method": deciding["method"]["name"],
        "config": {},
        "adopted_from": str(unlearned),
        "concept": deciding["concept"],
        "model": model_table(loaded),
        "seed": 0,
        "scope": scope.name,
        "device": str(loaded.device),
        "dtype": dtype,
        "versions": versions(),
        "trainable": sum(value.numel() for value in delta.values()),
        "total": sum(value.numel() for value in ours.values()),
        "relative_change": relative_change({n: delta.get(n, ours[n]) for n in loaded.scope(scope)}, ours),
    }
    tables = {"model": {"name": loaded.name, "fingerprint": loaded.fingerprint, "dtype": dtype}} | deciding
    with alone_in(folder):
        if not is_done(folder, run, loaded):  # another process may have finished it meanwhile
            write_card(folder, card | {"status": "running"})
            write_atomically(folder / "config.toml", config.to_toml(tables).encode())
            save_delta(folder / "delta.safetensors", delta, loaded.fingerprint)
            write_card(folder, card | {"status": "done"})
    return Run(folder)


def narrowest(model: DiffusionModel, delta: Mapping[str, Tensor]) -> Scope:
    """The smallest scope that holds all that differs."""
    holding = [s for s in SCOPES.values() if s.name in model.scopes and delta.keys() <= model.scope(s).keys()]
    return min(holding, key=lambda scope: size_of(model.scope(scope)))
