"""A model without its weights: its configurations, tokenizers and scheduler, and networks that have shapes alone. For prices."""

import copy
import importlib
import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expunge.diffusion.types import Cond, Latents, has_token_axis
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.checkpoint_file import find_config, without_weights
from expunge.models.checks import bound_tokenizers, check_folder, find_device, find_family, read_index
from expunge.models.fingerprints import known_fingerprint
from expunge.models.kept_outline import keep, kept, place_of, restore
from expunge.models.loading import Model, load, locate, unreadable
from expunge.models.precision import DTYPES
from expunge.models.quantized import octets_of_network, refuse_quantization
from expunge.models.quiet import diffusers_library, quiet
from expunge.models.reference import Reference
from expunge.models.sampling import Sampler
from expunge.models.weight_files import files_of, find_variant, read_header, variants_of
from expunge.progress import Progress
from expunge.storage.hashing import digest

HASHED = 2**28
"""Bytes of weights that are hashed where their fingerprint is not known yet; larger models are priced as if nothing were in the cache."""

SMALL = 8
"""Sides of latents where only calls are counted: their size costs memory and changes no count."""

UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError)
"""What the libraries raise for a folder that they cannot read."""

UNKNOWN = "unknown"
"""In the place of a fingerprint."""


def outline(
    model: Model, device: str = "auto", dtype: str = "fp32", quantization: str | None = None, progress: Progress | None = None
) -> DiffusionModel:
    """A model as `load` gives it, with networks on the meta device: no weight is read, and no call computes anything.

    A pipeline in memory, or a loaded model, is returned as `load` returns it.

    Args:
        progress: shows the first reading of an architecture, which takes seconds; default `Progress.default()`.

    Raises:
        ExpungeError: as `load` does, as far as configurations show it.
    """
    if not isinstance(model, str | Path):
        return load(model, device, dtype, quantization=quantization)
    refuse_quantization(quantization)
    if dtype not in DTYPES:
        raise ExpungeError(f"{dtype!r} is not a dtype.", rule="unknown-dtype", value=dtype, hint=f"Try {', '.join(DTYPES)} with --dtype.")
    reference, target = Reference.parse(str(model)), find_device(device)
    try:
        folder = _configuration(reference)
        index = read_index(folder)
        family = find_family(index, reference.name)
        check_folder(folder, family)
        place = place_of(folder, family, dtype)
    except UNREADABLE as error:
        raise unreadable(reference.name, error) from error

    def make() -> DiffusionModel:
        try:
            with quiet():
                pipeline = _assemble(folder, index, family, DTYPES[dtype])
        except UNREADABLE as error:
            raise unreadable(reference.name, error) from error
        bound_tokenizers(pipeline, family)
        return _outlined(family)(pipeline, str(model))

    found = restore(_outlined(family), place, str(model), make)
    with (progress or Progress.default()).task("reading the model's configurations, once for its architecture", 1) as task:
        made: Any = found or make()
        made.target, made.quantization, made.place = target, quantization, place
        made.is_mapped = _is_mapped(folder / made.network_part, reference.variant, dtype)
        made.__dict__["fingerprint"], made.__dict__["_vae_fingerprint"] = _identify(made, folder, reference, dtype)
        if found is None:
            keep(made, place)
        task.advance()
    return made


def is_identified(model: DiffusionModel) -> bool:
    """Whether the model's fingerprint is known, and with it a run's id and what is in the cache."""
    return model.fingerprint != UNKNOWN


def assume_fingerprint(model: DiffusionModel, fingerprint: str) -> None:
    """Takes an outline whose fingerprint is not known for the model that a run's card tells."""
    if not is_identified(model):
        model.__dict__["fingerprint"] = fingerprint


def is_outline(model: DiffusionModel) -> bool:
    """Whether the model has no weights."""
    return next(model.network.parameters()).is_meta


@cache
def _outlined(family: type[DiffusionModel]) -> type[DiffusionModel]:
    """The family with conditions that have the shapes of encoded prompts, but for their width, and no values."""

    class Outline(family):  # type: ignore[misc, valid-type]
        target = torch.device("cpu")
        place: Path
        """Where it is kept."""
        is_mapped = True
        """Whether its network's tensors would be pages of their files."""

        def scheduler_for(self, sampler: Sampler) -> Any:
            def times() -> list[float]:
                twin = copy.copy(self.whole)
                twin.network = Zeros(twin.network)  # on a device whose times have values
                return family.scheduler_for(twin, sampler).timesteps.tolist()

            return Clock(kept(self.place / f"times-{sampler.steps}.json", times))

        @property
        def device_kind(self) -> str:
            return self.target.type

        @property
        def template(self) -> Cond:
            """A prompt as the text encoders encode it, on the meta device."""
            if "_template" not in self.__dict__:
                prompt = "a" if self.text_encoder_parts else ""
                try:
                    self.__dict__["_template"] = family.encode_rows(self, [prompt])
                except (RuntimeError, NotImplementedError, ValueError):  # an encoder that looks at values
                    self.__dict__["_template"] = _longest(self)
            return self.__dict__["_template"]

        def encode_rows(self, prompts: list[str]) -> Cond:
            one = self.template
            extra = {k: _narrow(v, len(prompts), keep=has_token_axis(k) or v.ndim == 1) for k, v in one.extra.items()}
            return Cond(_narrow(one.states, len(prompts)), tuple(prompts), extra)

    Outline.__name__, Outline.__module__ = family.__name__, family.__module__
    return Outline


WIDTHS = ("joint_attention_dim", "cap_feat_dim", "caption_channels", "cross_attention_dim")
"""How networks call the width of the states of a prompt in their configurations, the outermost first."""


def _longest(model: DiffusionModel) -> Cond:
    """A prompt of as many tokens as the text encoders read, without values."""
    config: Any = model.network.config
    width = next(config[name] for name in WIDTHS if config.get(name))
    length = sum(reading.length - sum(reading.dropped) for reading in model.readings if reading.has_rows)
    return Cond(torch.empty(1, length, width, device="meta"), ("",), {"mask": torch.ones(1, length, dtype=torch.long, device="meta")})


def _narrow(value: Tensor, count: int, keep: bool = False) -> Tensor:
    shape = (count, *value.shape[1:]) if keep else (count, *value.shape[1:-1], 1)
    return torch.ones(shape, dtype=value.dtype)


def _configuration(reference: Reference) -> Path:
    """The folder with a model's configurations, from the hub's cache or the hub if it is not on disk; no weights are fetched."""
    path = locate(reference)
    if path is not None and path.is_file():
        return find_config(path, reference.config)
    if path is not None:
        return path
    return _in_hub_cache(reference.name) or without_weights(reference.name)


def _in_hub_cache(hub_id: str) -> Path | None:
    """The folder of a hub id in the hub's cache, if every part of its family is there: the hub is not asked for a newer one."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(hub_id, "model_index.json")
    if not isinstance(index, str):
        return None
    folder = Path(index).parent
    family = find_family(read_index(folder), hub_id)
    return folder if all((folder / part).is_dir() for part in family.parts) else None


def _assemble(folder: Path, index: dict[str, Any], family: type[DiffusionModel], dtype: torch.dtype) -> Any:
    """The pipeline of a folder, with networks that were never initialised."""
    networks = (family.network_part, "vae", *family.text_encoder_parts)
    parts: dict[str, Any] = {}
    for part in family.parts:
        library, kind = index[part]
        if library is None:
            parts[part] = None
            continue
        cls = getattr(importlib.import_module(library if library in ("diffusers", "transformers") else "diffusers"), kind)
        parts[part] = _empty(cls, folder / part, dtype) if part in networks else cls.from_pretrained(folder / part, trust_remote_code=False)
    pipeline_class = getattr(diffusers_library(), family.pipeline_class)
    wanted = inspect.signature(pipeline_class.__init__).parameters
    optional = {n: None for n, p in wanted.items() if n not in (*parts, "self") and p.default is inspect.Parameter.empty}
    settings = {"requires_safety_checker": False} if "requires_safety_checker" in wanted else {}
    return pipeline_class(**parts, **optional, **settings)


def _empty(cls: Any, folder: Path, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        if hasattr(cls, "from_config"):
            made = cls.from_config(cls.load_config(folder))
        else:
            made = cls(cls.config_class.from_pretrained(folder, trust_remote_code=False))
    for tensor in (*made.parameters(), *made.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return made.eval()


def _identify(made: DiffusionModel, folder: Path, reference: Reference, dtype: str) -> tuple[str, str]:
    """The fingerprints that the loaded model and its autoencoder would have: as they are kept, or of small files computed, or `UNKNOWN`."""
    parts = (made.network_part, *made.text_encoder_parts, "vae")
    if Path(reference.name).suffix == ".safetensors" or not all(variants_of(folder / part) for part in parts):
        return UNKNOWN, UNKNOWN
    variant = find_variant([folder / part for part in parts], reference.variant)
    *own, vae = ([file.resolve() for file in files_of(folder / part, variant)] for part in parts)
    files = [file for each in own for file in each]
    found, known_vae = known_fingerprint(files), known_fingerprint(vae, str(DTYPES[dtype]))
    if None in (found, known_vae) and sum(file.stat().st_size for file in (*files, *vae)) <= HASHED:
        whole = load(reference.text, dtype=dtype)
        return whole.fingerprint, whole._vae_fingerprint
    return UNKNOWN if found is None else digest(found, made.noising), known_vae or UNKNOWN


def _is_mapped(part: Path, variant: str | None, dtype: str) -> bool:
    """Whether the loaded tensors of a part are the pages of its files. Those of another precision are converted, and their pages let go."""
    try:
        files = files_of(part, find_variant([part], variant))
        stored = {one.dtype for file in files for one in read_header(file).values()}
    except ExpungeError:  # no weights, or none that can be read: a price needs none
        return True
    return stored <= {dtype.upper().replace("FP", "F")}


class Clock:
    """The scheduler of an outline: it goes through its times and leaves the latents as they are."""

    def __init__(self, times: Sequence[float]):
        self.timesteps = torch.tensor(times)

    def step(self, prediction: Latents, t: Tensor, x: Latents, return_dict: bool = False) -> tuple[Latents]:
        """The latents."""
        return (x,)


class Zeros(nn.Module):
    """A network that predicts zeros, through which gradients flow to its one parameter."""

    def __init__(self, net: nn.Module):
        super().__init__()
        first = next(net.parameters())
        self.zero = nn.Parameter(torch.zeros((), dtype=first.dtype, device="cpu" if first.is_meta else first.device))

    def forward(self, latents: Latents) -> Latents:
        return latents * self.zero


def without_network(model: DiffusionModel) -> DiffusionModel:
    """The model with a network that predicts zeros for small latents, under the fingerprint of the real one, which the keys of the cache
    need. It is called as often as the real one would be."""
    assert model.fingerprint  # computed before the copy, which takes it along
    if is_outline(model):
        assert model.template  # the same, with the network's configuration
    silent = copy.copy(model)
    silent.__dict__["_as_loaded"] = model.rendered_by  # which tells the network's class
    silent.__class__ = _silent(type(model))
    silent.network = Zeros(model.network)
    return silent


@cache
def _silent(family: type[DiffusionModel]) -> type[DiffusionModel]:
    class Silent(family):  # type: ignore[misc, valid-type]
        @property
        def latent_shape(self) -> tuple[int, int, int]:
            channels, height, width = super().latent_shape
            return channels, min(height, SMALL), min(width, SMALL)

        @property
        def rendered_by(self) -> dict[str, Any]:
            return self.__dict__["_as_loaded"]

        def call(self, network: Any, x_t: Latents, t: Tensor, cond: Cond) -> Latents:
            return network(x_t)

    Silent.__name__, Silent.__module__ = family.__name__, family.__module__
    return Silent


def octets_at_rest(model: DiffusionModel) -> int:
    """Bytes of the text encoders that leave the model's device while the network is called."""
    if model.device_kind == "cpu" or not (is_outline(model) or model.resting.encoders):
        return 0
    return sum(p.numel() * p.element_size() for name in model.text_encoder_parts for p in model.fixed_parts[name].parameters())


def octets_of(model: DiffusionModel, quantization: str | None = None) -> int:
    """Bytes of a model's weights in the memory of its device, libraries left out, if its network's linear layers were stored so.

    On a CPU the weights of convolutions are there twice, unless they were converted: `load` lays them out anew, and the pages of the file
    that they were read from stay resident until the system needs them.
    """
    parts = [part for part in model.fixed_parts.values() if part is not None]
    again = (model.network, model.pipeline.vae) if model.device_kind == "cpu" and getattr(model, "is_mapped", True) else ()
    whole = octets_of_network(model.network, quantization) + sum(p.numel() * p.element_size() for part in parts for p in part.parameters())
    return whole + sum(p.numel() * p.element_size() for part in again for p in part.parameters() if p.ndim == 4)
