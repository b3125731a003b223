"""From settings to frozen dataclasses and back, with errors that name the nearest valid setting."""

import dataclasses
import importlib.metadata
import inspect
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import tomli_w
from pydantic import TypeAdapter, ValidationError

from expunge.errors import ExpungeError
from expunge.names import closest, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class NamesCode:
    """In the annotation of a setting: its value may be "package.module:name", which is imported."""


def build(cls: type[T], settings: Mapping[str, Any], what: str, see: str | None = None, allow_code: bool = False) -> T:
    """Makes `cls` of settings; text is read as numbers where numbers are asked for. `see` says where there is help.

    Args:
        allow_code: whether settings may name code outside the package (`NamesCode`). Give True for what a person typed or passed as an
            argument, never for the content of a file that someone else may have written.

    Raises:
        ExpungeError: no table; an unknown setting (with the nearest valid one), a value of another type, out of bounds or not finite;
            code outside the package.
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
    if not allow_code and (named := code_named(cls, settings)):
        raise outside_code(named[0])
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
def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except NameError:  # a class outside the package, whose annotations name what only type checkers import
        return {}


@cache
def _validator(cls: Any) -> TypeAdapter[Any]:
    """Made once: it takes longer to make than to use."""
    return TypeAdapter(cls)


def code_named(cls: type, settings: Mapping[str, Any]) -> list[str]:
    """Those of the settings' values that name code to import, as "package.module:name"."""
    marks = {key: getattr(hint, "__metadata__", ()) for key, hint in _hints(cls).items()}
    values = (value for key, value in settings.items() if any(isinstance(mark, NamesCode) for mark in marks.get(key, ())))
    return [value for value in values if isinstance(value, str) and ":" in value]


def find_class(name: str, known: Mapping[str, type[T]], bases: tuple[type, ...], what: str, page: str, allow_code: bool = False) -> type[T]:
    """One of `known` by its name; with `allow_code`, any importable dataclass of the `bases` as "package.module:Class".

    Importing runs code. Give `allow_code` for a name that a person typed or passed as an argument, never for one that stands in a file
    that someone else may have written.

    Raises:
        ExpungeError: neither; the hint names the nearest known one, or the page that says how one is made.
    """
    if name in known:
        return known[name]
    article = f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
    module, colon, attribute = name.partition(":")
    if not colon:
        close, every = closest(name, known), f"`expunge ls {what}s` lists all"
        hint = f"Try {close!r}; {every}." if close else f"Try another name; {every}."
        raise ExpungeError(f"{name!r} is not {article}.", rule=f"unknown-{what}", value=name, hint=hint)
    if not allow_code:
        raise outside_code(name)
    try:
        found: type[T] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExpungeError(
            f"{name!r} cannot be imported: {error}.", rule="unimportable", value=name, hint="Try another name, or check PYTHONPATH."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, bases) and dataclasses.is_dataclass(found)):
        derived = " or ".join(base.__name__ for base in bases)
        raise ExpungeError(
            f"{name!r} is not {article}: it is no frozen dataclass derived from {derived}.",
            rule=f"not-{article.replace(' ', '-')}",
            value=name,
            hint=f"Try the example in {page}.",
        )
    return found


def outside_code(name: str) -> ExpungeError:
    """The error for a file that names code to import where that was not allowed."""
    return ExpungeError(
        f"A file names {name!r}, which is code outside the package. Importing it would run it.",
        rule="outside-code",
        value=name,
        hint="Try --allow-code if you trust that code, or allow_code=True in Python.",
    )


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
