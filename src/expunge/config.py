"""From settings to frozen dataclasses and back, with errors that name the nearest valid setting."""

import dataclasses
import importlib.metadata
import inspect
import json
import math
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import TypeAdapter, ValidationError

from expunge.errors import ExpungeError
from expunge.names import nearest

T = TypeVar("T")


def build(cls: type[T], settings: Mapping[str, Any], what: str, see: str | None = None) -> T:
    """Makes `cls` of settings; text is read as numbers where numbers are asked for. `see` says where there is help.

    Raises:
        ExpungeError: no table; an unknown setting (with the nearest valid one), a value of another type, out of bounds or not finite.
    """
    see = see or f"see `expunge show {what}`"
    if not isinstance(settings, Mapping):
        raise ExpungeError(f"{what} is a table of settings: {settings!r} is none; {see}")
    fields = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key, value in settings.items():
        if key not in fields:
            raise ExpungeError(f"{what} has the settings {', '.join(fields) or '(none)'}: {key!r} is none{nearest(key, fields)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ExpungeError(f"a setting is finite: {key} = {value}; give a number")
    try:
        built = _validator(cls).validate_python(dict(settings))  # type: ignore[arg-type]
    except ValidationError as error:
        first, *_ = errors = error.errors()
        where = str(first["loc"][0]) if first["loc"] else what
        wanted = ", or ".join(e["msg"].lower() for e in errors if e["loc"][:1] == first["loc"][:1])  # one for each part of a union
        raise ExpungeError(f"{what}: {where}: {wanted}: {first['input']!r}; {see}") from error
    if endless := [f for f in fields if isinstance(value := getattr(built, f), float) and not math.isfinite(value)]:
        raise ExpungeError(f"a setting is finite: {endless[0]} = {getattr(built, endless[0])}; give a number")
    return built


@cache
def _validator(cls: Any) -> TypeAdapter[Any]:
    """Made once: it takes longer to make than to use."""
    return TypeAdapter(cls)


def find_class(name: str, known: Mapping[str, type[T]], bases: tuple[type, ...], what: str, page: str) -> type[T]:
    """One of `known` by its name, or any importable dataclass of the `bases` as "package.module:Class".

    Raises:
        ExpungeError: neither; the message names the nearest known one, or the page that says how one is made.
    """
    if name in known:
        return known[name]
    article = f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ExpungeError(f"{article} is one of {', '.join(known)}, or package.module:Class: {name!r} is none{nearest(name, known)}")
    try:
        found: type[T] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExpungeError(f"{article} outside the package is importable: {name!r}: {error}; check the name and PYTHONPATH") from error
    if not (inspect.isclass(found) and issubclass(found, bases) and dataclasses.is_dataclass(found)):
        derived = " or ".join(base.__name__ for base in bases)
        raise ExpungeError(f"{article} is a frozen dataclass derived from {derived}: {name!r} is not; see {page}")
    return found


def settings(value: Any) -> dict[str, Any]:
    """A dataclass's fields as TOML can hold them: without those that are None."""
    return {k: v for k, v in dataclasses.asdict(value).items() if v is not None}


def as_table(given: Any) -> dict[str, Any]:
    """Settings given as a mapping or as the dataclass itself."""
    return dict(given) if isinstance(given, Mapping) else settings(given)


def to_toml(tables: Mapping[str, Any]) -> str:
    """TOML of JSON-able tables."""
    return tomli_w.dumps(json.loads(json.dumps(tables)))


def read_toml(path: Path, see: str = "see a run's config.toml") -> dict[str, Any]:
    """Reads a TOML file; `see` says where there is an example.

    Raises:
        ExpungeError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExpungeError(f"a configuration is a readable TOML file: {path}: {error}; {see}") from error


@cache
def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
