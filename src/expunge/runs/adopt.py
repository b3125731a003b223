"""A model that was unlearned elsewhere, taken in as a run: what it forgot is measured and attacked like any other's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge import config
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.concepts.tables import concept_table, slug
from expunge.config import version_of
from expunge.errors import ExpungeError
from expunge.methods import METHODS
from expunge.models.base import DiffusionModel
from expunge.models.delta import is_rounded, relative_change, save_delta
from expunge.models.exchange import with_lora
from expunge.models.loading import Model
from expunge.models.loading import load as load_model
from expunge.models.scopes import SCOPES, Scope, size_of
from expunge.names import RETRAINED, dashed
from expunge.runs.card import is_done, model_table, versions, write_card
from expunge.runs.plan import subject_of
from expunge.runs.run import Run
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest
from expunge.storage.lock import alone_in
from expunge.storage.tensors import content, read_tensors


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
        unlearned: a diffusers folder or a hub id; or a `.safetensors` file, of some or all of the U-Net's tensors under the names
            that diffusers gives them, as the published code of ESD and of UCE writes it, or a LoRA (which needs peft).
        concept: what it is said to have forgotten, as `unlearn` takes it.
        name: what its method is called in reports.
        never_saw: it was trained without the concept, so that `audit(..., control=run)` may compare with it.
        out: the run's folder; default `runs/<id>`. One that holds this run already is returned as it is.

    Returns:
        The run. Its delta holds every tensor that differs by more than having passed through half precision.

    Raises:
        ExpungeError: a file of something else; other tensors than the model's; another text encoder, autoencoder or noise schedule,
            which no run can hold; nothing that differs; values that are not finite; the name of a method; a folder of another run.
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
    path = Path(unlearned)
    theirs = _tensors_in(path, loaded) if path.suffix == ".safetensors" else _network(load_model(unlearned), loaded, path)
    delta = differing(theirs, ours)
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


def differing(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of their tensors that are neither ours, nor ours rounded to half precision, nor rounded to ours; in float32.

    Raises:
        ExpungeError: a tensor that we lack, or of another shape.
    """
    found = {}
    for name, their in theirs.items():
        if name not in ours:
            raise ExpungeError(
                f"The changed model has the tensor {name}, which the base model does not have.",
                rule="other-tensors",
                value=name,
                hint="Try the base model that it was made from.",
            )
        if their.shape != ours[name].shape:
            raise ExpungeError(
                f"The tensor {name} has the shape {list(their.shape)} in the changed model and {list(ours[name].shape)} in the base.",
                rule="other-shape",
                value=name,
                hint="Try the base model that it was made from.",
            )
        if not is_rounded(their.detach().cpu().float(), ours[name]):
            found[name] = their.detach().to("cpu", torch.float32, copy=True)
    return found


def _tensors_in(file: Path, base: DiffusionModel) -> dict[str, Tensor]:
    """A file's tensors, as a U-Net's are called; of a LoRA those that it makes of the base's.

    Raises:
        ExpungeError: a file that cannot be read, or a checkpoint of the whole model in one file.
    """
    # A file that holds other parts too has the part's name before those of its tensors.
    found = {name.removeprefix(f"{base.network_part}."): value for name, value in read_tensors(file, "getting it again").items()}
    if any(name.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")) for name in found):
        raise ExpungeError(
            f"{file} is a checkpoint of a whole model in one file. Whole models are read from folders.",
            rule="single-file-checkpoint",
            value=str(file),
            hint="Try a folder that StableDiffusionPipeline.from_single_file(...).save_pretrained(...) wrote.",
        )
    return _network(with_lora(base, file), base, file) if any("lora" in name for name in found) else found


def _network(found: DiffusionModel, base: DiffusionModel, model: Path) -> dict[str, Tensor]:
    """The U-Net's tensors of a model whose other parts are those of the base.

    Raises:
        ExpungeError: a U-Net of other tensors; a text encoder, an autoencoder or a noise schedule that is another.
    """
    for part in base.fixed_parts:
        theirs, ours = (d.fixed_parts[part].state_dict() for d in (found, base))
        if theirs.keys() != ours.keys() or differing(theirs, {n: v.cpu().float() for n, v in ours.items()}):
            raise ExpungeError(
                f"The {part} of {model} is not that of {base.name}. A run changes only the {base.network_part}.",
                rule="other-fixed-part",
                value=part,
                hint="Try the base model that it was made from.",
            )
    if found.noising != base.noising:
        raise ExpungeError(
            f"The noise schedule of {model} is {found.noising}, and that of {base.name} is {base.noising}. A run does not change it.",
            rule="other-noise-schedule",
            value=found.noising,
            hint="Try the base model that it was made from.",
        )
    theirs = {n: p.detach() for n, p in found.network.named_parameters()}
    if lacks := [n for n, _ in base.network.named_parameters() if n not in theirs]:
        raise ExpungeError(
            f"The changed model {model} lacks the base model's tensor {lacks[0]}.",
            rule="other-tensors",
            value=lacks[0],
            hint="Try the base model that it was made from.",
        )
    return theirs


def narrowest(model: DiffusionModel, delta: Mapping[str, Tensor]) -> Scope:
    """The smallest scope that holds all that differs."""
    holding = [s for s in SCOPES.values() if not s.rank and delta.keys() <= model.scope(s).keys()]
    return min(holding, key=lambda scope: size_of(model.scope(scope)))
