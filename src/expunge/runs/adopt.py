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
from expunge.models.delta import relative_change, save_delta
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

HALVES = (torch.float16, torch.bfloat16)
"""What models are published in: a weight that only passed through one of these was not changed."""


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
    """Makes a run of what tells a model from the one that it was made from, whoever unlearned it, and however.

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
        raise ExpungeError(f"what was made elsewhere has a name of its own: {name!r} is a method here; choose another with --name")
    loaded = load_model(model, device, dtype)
    subject = subject_of(concept, loaded)
    ours = {n: p.detach().cpu().float() for n, p in loaded.network.named_parameters()}
    path = Path(unlearned)
    theirs = _tensors_in(path, loaded) if path.suffix == ".safetensors" else _network(load_model(unlearned), loaded, path)
    delta = differing(theirs, ours)
    if not delta:
        raise ExpungeError(f"unlearning changes weights: those of {unlearned} are the base model's own; give the model that was changed")
    if odd := [n for n, value in delta.items() if not value.isfinite().all()]:
        raise ExpungeError(f"weights are finite: {odd[0]} of {unlearned} is not; get the file again")

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
            raise ExpungeError(f"a changed model has its base's tensors: {name} is none of them; give the model that it was made from")
        if their.shape != ours[name].shape:
            shapes = f"{name} is {list(their.shape)}, the base's {list(ours[name].shape)}"
            raise ExpungeError(f"a changed model has tensors of its base's shapes: {shapes}; give the model that it was made from")
        if not _same(their.detach().cpu().float(), ours[name]):
            found[name] = their.detach().to("cpu", torch.float32, copy=True)
    return found


def _same(their: Tensor, our: Tensor) -> bool:
    """Equal, as they are or once one of them is rounded."""
    return torch.equal(their, our) or any(
        torch.equal(their, our.to(half).float()) or torch.equal(their.to(half).float(), our) for half in HALVES
    )


def _tensors_in(file: Path, base: DiffusionModel) -> dict[str, Tensor]:
    """A file's tensors, as a U-Net's are called; of a LoRA those that it makes of the base's.

    Raises:
        ExpungeError: a file that cannot be read, or a checkpoint of the whole model in one file.
    """
    # A file that holds other parts too has the part's name before those of its tensors.
    found = {name.removeprefix(f"{base.network_part}."): value for name, value in read_tensors(file, "get it again").items()}
    if any(name.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")) for name in found):
        raise ExpungeError(
            f"a whole checkpoint is given as a folder: {file} holds one; make a folder of it with "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(...)"
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
                f"a run changes the U-Net alone: the {part} of {model} is not that of {base.name}; give the model that it was made from"
            )
    if found.noising != base.noising:
        raise ExpungeError(f"a run keeps its model's noise schedule: {found.noising} in {model}, {base.noising} in {base.name}")
    theirs = {n: p.detach() for n, p in found.network.named_parameters()}
    if lacks := [n for n, _ in base.network.named_parameters() if n not in theirs]:
        raise ExpungeError(f"a changed model has its base's tensors: {model} lacks {lacks[0]}; give the model that it was made from")
    return theirs


def narrowest(model: DiffusionModel, delta: Mapping[str, Tensor]) -> Scope:
    """The smallest scope that holds all that differs."""
    holding = [s for s in SCOPES.values() if not s.rank and delta.keys() <= model.scope(s).keys()]
    return min(holding, key=lambda scope: size_of(model.scope(scope)))
