"""What a price reads of a model, kept in the cache: shapes, configurations, tokenizers and times of samplers, but no weight.

diffusers and transformers take seconds to import. The outline of a model that was outlined before is made of what is kept, without them.
What is not kept is read from the model's folder when it is used: what is kept decides how long a price takes, and not the price.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.base import DiffusionModel
from expunge.models.kept_tokenizer import KeptTokenizer, can_be_kept, keep_tokenizer
from expunge.models.prompts import Reading
from expunge.storage.cache import Store
from expunge.storage.code import code_digest, modules_of
from expunge.storage.files import write_json
from expunge.storage.hashing import digest, sha256_of

LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers")

CONFIGURATIONS = (".json", ".txt", ".model", ".jinja")
"""How the names of configurations and of tokenizers' files end."""

READ = ("length", "has_rows", "before", "after", "dropped")
"""What is kept of a reading beside its tokenizer."""


def place_of(folder: Path, family: type[DiffusionModel], dtype: str) -> Path:
    """The folder where an outline is kept: under what its configurations say, the code that reads them, and the libraries.

    Models of one architecture have one outline, wherever they are.
    """
    files = (file for part in ("", *family.parts) for file in sorted((folder / part).glob("*")) if file.suffix in CONFIGURATIONS)
    said = [(str(file.relative_to(folder)), sha256_of(file)) for file in files if file.is_file()]
    code = code_digest(*modules_of(family), "expunge.models.outline")
    return Store.default().root / "outlines" / digest(said, dtype, code, *map(version, LIBRARIES))


# --- writing -----------------------------------------------------------------------------------------------------------


def keep(model: DiffusionModel, place: Path) -> None:
    """Keeps an outline. One that JSON does not hold is not kept, nor one of labels, or of tokenizers with words of several vectors."""
    pipeline, readings = model.pipeline, model.readings
    if model.reads_labels or not all(can_be_kept(reading.tokenizer) for reading in readings):
        return
    alphas, template = getattr(pipeline.scheduler, "alphas_cumprod", None), model.template
    with suppress(TypeError, OSError):  # a configuration with other values; a cache that cannot be written
        said = {
            "pipeline": {**_values(pipeline), "config": pipeline.config},
            "scheduler": [type(pipeline.scheduler).__name__, pipeline.scheduler.config, None if alphas is None else alphas.tolist()],
            "parts": {part: _described(getattr(pipeline, part)) for part in (model.network_part, *model.fixed_parts)},
            "template": [_shape_of(template.states), {name: _shape_of(tensor) for name, tensor in template.extra.items()}],
            "tokenizers": [keep_tokenizer(reading.tokenizer, _tokenizer_file(place, at)) for at, reading in enumerate(readings)],
            "readings": [{name: getattr(reading, name) for name in READ} for reading in readings],
            "words": model._words,
            "forward": model.rendered_by["forward"],
        }
        write_json(place / "outline.json", said, indent=None)


def _tokenizer_file(place: Path, at: int) -> Path:
    return place / f"tokenizer-{at}.json"


def _values(one: object) -> dict[str, Any]:
    """An object's attributes that are numbers, texts, or rows of these."""
    return {name: value for name, value in vars(one).items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str | None) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def _shape_of(tensor: Tensor) -> list[Any]:
    return [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]


def _described(network: Any) -> dict[str, Any]:
    """The modules of a network by name: their classes, attributes and parameters. A parameter that several share is listed once."""
    seen, modules = set[int](), {}
    for name, module in network.named_modules():
        own = {n: p for n, p in module.named_parameters(recurse=False) if id(p) not in seen}
        seen |= set(map(id, own.values()))
        is_of_torch = getattr(nn, type(module).__name__, None) is type(module)
        modules[name] = [type(module).__name__, is_of_torch, _values(module), {n: _shape_of(p) for n, p in own.items()}]
    config = network.config if type(network).__module__.startswith("diffusers.") else None  # those of transformers are no tables
    return {"modules": modules, "config": config}


def kept(file: Path, compute: Callable[[], Any]) -> Any:
    """A value that JSON holds, computed once."""
    if (found := _read(file)) is None:
        found = compute()
        with suppress(OSError):
            write_json(file, found, indent=None)
    return found


# --- reading -----------------------------------------------------------------------------------------------------------


def restore(outlined: type[DiffusionModel], place: Path, name: str, make: Callable[[], DiffusionModel]) -> DiffusionModel | None:
    """The outline that is kept in a folder; None where none is.

    Args:
        outlined: the class of outlines of its family.
        make: makes the outline that it was kept of.
    """
    try:
        return None if (said := _read(place / "outline.json")) is None else _restored(outlined)(said, place, name, make)
    except OSError:  # the cache is being pruned
        return None


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@cache
def _restored(outlined: type[DiffusionModel]) -> Callable[..., DiffusionModel]:
    class Restored(outlined):  # type: ignore[misc, valid-type]
        def __init__(self, said: dict[str, Any], place: Path, name: str, make: Callable[[], DiffusionModel]):
            self._make = cache(make)
            kind, config, alphas = said["scheduler"]
            scheduler = _object(kind, {"config": Config(config)} | ({} if alphas is None else {"alphas_cumprod": torch.tensor(alphas)}))
            parts = {part: _network(of, partial(self._part, part)) for part, of in said["parts"].items()}
            values = {"config": Config(said["pipeline"].pop("config")), "scheduler": scheduler, "maybe_convert_prompt": _as_it_is}
            super().__init__(Part(said["pipeline"] | values | parts, lambda: self.whole.pipeline), name)
            states, extra = said["template"]
            self._template = Cond(_empty(states), ("a",), {name: _empty(shape) for name, shape in extra.items()})
            self.__dict__["_words"], self._forward = said["words"], said["forward"]
            self._readings = [
                self._reading(KeptTokenizer(_tokenizer_file(place, at), values, partial(self._tokenizer, at)), one)
                for at, (values, one) in enumerate(zip(said["tokenizers"], said["readings"], strict=True))
            ]

        def _reading(self, tokenizer: KeptTokenizer, values: dict[str, Any]) -> Reading:
            return Reading(tokenizer, write=partial(self.write, tokenizer), **_with_tuples(values))

        def _part(self, name: str) -> Any:
            return getattr(self.whole.pipeline, name)

        def _tokenizer(self, at: int) -> Any:
            return self.whole.readings[at].tokenizer

        def check(self) -> None:
            """Was checked when it was kept."""

        @property
        def whole(self) -> DiffusionModel:
            return self._make()

        @property
        def readings(self) -> list[Reading]:
            return self._readings

        @property
        def rendered_by(self) -> dict[str, Any]:
            return self.rendering | {"diffusers": version("diffusers"), "forward": self._forward}

        def run(self, x_t: Latents, t: Times, cond: Cond, weights: Mapping[str, Tensor] | None = None) -> Latents:
            return self.whole.run(x_t, t, cond, weights) if isinstance(self.network, Network) else super().run(x_t, t, cond, weights)

    Restored.__name__, Restored.__module__ = outlined.__name__, outlined.__module__
    return Restored


def _as_it_is(prompt: str, tokenizer: object) -> str:
    return prompt


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """As they were before they were written: JSON has lists alone."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _empty(shape: list[Any]) -> Tensor:
    return torch.empty(shape[0], dtype=getattr(torch, shape[1]), device="meta")


class Config(dict[str, Any]):
    """A configuration as diffusers gives it: its values are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Part:
    """What a pipeline is made of. What is not kept of it is read from the real one."""

    def __init__(self, values: dict[str, Any], real: Callable[[], Any]):
        self.__dict__.update(values)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._real(), name)


def _object(kind: str, values: dict[str, Any]) -> Any:
    """An object with attributes alone, of a class of that name."""
    made = type(kind, (), {})()
    made.__dict__.update(values)
    return made


class Layer(nn.Module):
    """A module that has a name, attributes and parameters, and computes nothing."""


class Network(Layer):
    """A whole network of such layers."""

    @property
    def config(self) -> Any:
        """Its configuration, from the real one if it is not kept."""
        return Config(self.__dict__["_said"]) if self.__dict__["_said"] is not None else self.__dict__["_real"]().config

    @property
    def dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.parameters() if p.is_floating_point())


def _network(said: dict[str, Any], real: Callable[[], Any]) -> nn.Module:
    made: dict[str, nn.Module] = {}
    for name, (kind, is_of_torch, values, parameters) in said["modules"].items():
        cls: Any = getattr(nn, kind) if is_of_torch else Layer if name else type(kind, (Network,), {})
        made[name] = layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.__dict__.update(_with_tuples(values))
        for own, shape in parameters.items():
            layer.register_parameter(own, nn.Parameter(_empty(shape), requires_grad=False))
        if name:
            above, _, last = name.rpartition(".")
            made[above]._modules[last] = layer
    made[""].__dict__.update(_real=real, _said=said["config"])
    return made[""]
