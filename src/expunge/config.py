"""Convert settings to frozen dataclasses and back; errors name the closest valid setting."""

import dataclasses
import importlib
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
from expunge.names import suggest

T = TypeVar("T")


@dataclass(frozen=True)
class NamesCode:
    """In the annotation of a setting: its value may be "package.module:name", which is imported."""

    but: tuple[str, ...] = ()
    """Words before a colon that are no module."""

    def finds(self, value: Any) -> bool:
        """Whether a value names code."""
        return isinstance(value, str) and ":" in value and value.partition(":")[0] not in self.but


def build(cls: type[T], settings: Mapping[str, Any], what: str, see: str | None = None, allow_code: bool = False) -> T:
    """Make a dataclass from settings. Text is converted to a number where the field is one.

    Args:
        cls: The dataclass.
        settings: Values by field name. Missing fields keep their defaults.
        what: What the settings belong to, as error messages name it.
        see: What lists the valid settings; default `expunge show` with `what`.

    Args:
        allow_code: whether settings may name code outside the package (`NamesCode`). Give True for what a person typed or passed as an
            argument, never for the content of a file that someone else may have written.

    Raises:
        ExpungeError: `settings` is not a table; a setting is unknown, of the wrong type, out of bounds, not finite, or names code.
    """
    see = see or f"`expunge show {what}`"
    if not isinstance(settings, Mapping):
        raise ExpungeError(
            f"{settings!r} is not a table of settings for {what}.",
            rule="not-a-table",
            value=settings,
            hint=f"Try a table of the settings that {see} lists.",
        )
    fields = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key, value in settings.items():
        if key not in fields:
            hint = suggest(str(key), fields) if fields else f"Try {what} without settings."
            raise ExpungeError(f"{key!r} is not a setting of {what}.", rule="unknown-setting", value=key, hint=hint)
        _check_finite(key, value)
    if not allow_code and (named := code_named(cls, settings)):
        raise outside_code(named[0])
    try:
        built = _validator(cls).validate_python(dict(settings))  # type: ignore[arg-type]
    except ValidationError as error:
        first, *_ = errors = error.errors()
        reasons = ", or ".join(e["msg"].lower() for e in errors if e["loc"][:1] == first["loc"][:1])  # one for each type of a union
        if first["loc"]:
            value, message = (
                first["input"],
                f"{first['input']!r} is not valid for the setting {str(first['loc'][0])!r} of {what}: {reasons}.",
            )
        else:
            value, message = dict(settings), f"The settings of {what} are not valid: {reasons}."
        raise ExpungeError(message, rule="invalid-setting", value=value, hint=f"Try a value that {see} allows.") from error
    for field in fields:
        _check_finite(field, getattr(built, field))
    return built


def _check_finite(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpungeError(f"{name} is {value}, which is not finite.", rule="setting-not-finite", value=value, hint="Try a finite number.")


@cache
def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except NameError:  # a class outside the package, whose annotations name what only type checkers import
        return {}


@cache
def _validator(cls: Any) -> TypeAdapter[Any]:
    """Pydantic's validator of a class. It is cached because making it takes longer than using it."""
    return TypeAdapter(cls)


def code_named(cls: type, settings: Mapping[str, Any]) -> list[str]:
    """Those of the settings' values that name code to import, as "package.module:name"."""
    marks = {key: mark for key, hint in _hints(cls).items() for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, NamesCode)}
    return [value for key, value in settings.items() if key in marks and marks[key].finds(value)]


def find_class(name: str, known: Mapping[str, type[T]], bases: tuple[type, ...], what: str, page: str, allow_code: bool = False) -> type[T]:
    """Find a class by its registered name, or import one by "package.module:Class".

    Args:
        name: The registered name, or the place of an importable dataclass that is derived from one of `bases`.
        known: The registered classes by name.
        bases: The base classes.
        what: What the classes are, in the singular: "method".
        page: The page of the documentation that explains how to write one.
        allow_code: Whether `name` may be imported, which runs code. Pass True for a name that a person typed or passed as an argument,
            never for one from a file that someone else may have written.

    Raises:
        ExpungeError: the name is not registered, cannot be imported or may not be, or names something else.
    """
    if name in known:
        return known[name]
    if ":" not in name:
        raise ExpungeError(
            f"{name!r} is not {_article(what)}.", rule=f"unknown-{what}", value=name, hint=suggest(name, known, f"`expunge ls {what}s`")
        )
    return import_class(name, bases, what, page, allow_code, is_dataclass=True)


def _article(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def import_class(
    name: str, bases: tuple[type[T], ...], what: str, page: str, allow_code: bool = False, *, is_dataclass: bool = False
) -> type[T]:
    """Import a class by "package.module:Class". The arguments are those of `find_class`.

    Args:
        is_dataclass: whether it must be a dataclass.

    Raises:
        ExpungeError: rule "outside-code", it may not be imported; "not-importable", it cannot be; "wrong-class", it is something else.
    """
    module, _, attribute = name.partition(":")
    if not allow_code:
        raise outside_code(name)
    try:
        found: type[T] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExpungeError(
            f"{name!r} cannot be imported: {error}.",
            rule="not-importable",
            value=name,
            hint="Try package.module:Class with its folder on PYTHONPATH.",
        ) from error
    if not (inspect.isclass(found) and issubclass(found, bases) and (dataclasses.is_dataclass(found) or not is_dataclass)):
        derived = " or ".join(base.__name__ for base in bases)
        raise ExpungeError(
            f"{name!r} is not {_article(what)}: it is not a {'frozen dataclass' if is_dataclass else 'class'} derived from {derived}.",
            rule="wrong-class",
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
    """The fields of a dataclass that are not None, which TOML can hold."""
    return {k: v for k, v in dataclasses.asdict(value).items() if v is not None}


def as_table(given: Any) -> dict[str, Any]:
    """Settings as a new dict, from a mapping or from a dataclass."""
    return dict(given) if isinstance(given, Mapping) else settings(given)


def to_toml(tables: Mapping[str, Any]) -> str:
    """Format tables that JSON can hold as TOML."""
    return tomli_w.dumps(json.loads(json.dumps(tables)))


def read_toml(path: Path, see: str = "a run's config.toml") -> dict[str, Any]:
    """Read a TOML file; `see` names an example for the error message.

    Raises:
        ExpungeError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExpungeError(
            f"{str(path)!r} cannot be read as TOML: {error}.", rule="unreadable-toml", value=str(path), hint=f"Try a file like {see}."
        ) from error


@cache
def version_of(package: str) -> str:
    """The installed version of a package, or "unknown"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
