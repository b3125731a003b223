"""Help on settings: for each field of a settings class its flag, what it takes, its bounds, its default and its description."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MultipleOf

from expunge.cli.declarations import Field, SourceClass, read

METAVARS: dict[Any, str] = {float: "NUMBER", int: "COUNT", bool: "", str: "TEXT"}
BOUNDS: dict[type, str] = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below", MultipleOf: "a multiple of"}


@dataclass(frozen=True)
class Setting:
    """One field of a settings class."""

    name: str
    metavar: str
    """What it takes: "NUMBER", "null|context|marginal"; empty for a switch."""
    bounds: str
    """For example "at least 0"; empty without bounds."""
    default: Any
    about: str
    """The string literal below the field."""

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def shown_default(self) -> str:
        """The default as a user types it."""
        if self.default is MISSING:
            return "required"
        return {True: "yes", False: "no"}[self.default] if isinstance(self.default, bool) else str(self.default)


def settings_of(cls: type | SourceClass, defaults: Any = None) -> list[Setting]:
    """The settings of a dataclass, imported or read from source: first its own in order, then the keyword-only ones.

    Args:
        defaults: An instance whose values replace the defaults of the class.
    """
    fields = cls.fields if isinstance(cls, SourceClass) else _fields_of(cls)
    return [
        Setting(
            field.name,
            _metavar(field.hint),
            ", ".join(_bounds(field.hint)),
            field.default if defaults is None else getattr(defaults, field.name),
            field.about,
        )
        for field in sorted(fields, key=lambda field: field.kw_only)
    ]


@dataclass(frozen=True)
class MethodHelp:
    """A method as help shows it."""

    class_name: str
    doc: str
    settings: Sequence[Setting]
    training: Sequence[Setting] | None
    """The training settings with the method's own defaults; None for a closed form."""


def describe_method(name: str) -> MethodHelp:
    """A method of the package from its source, or any other one by importing "package.module:Class".

    Raises:
        ExpungeError: No method has this name.
    """
    if source := read("expunge.methods:METHODS").get(name):
        is_trained = source.is_derived_from("Objective")
        training = settings_of(read("expunge.methods.base:Training"), source.attribute("training")) if is_trained else None
        return MethodHelp(source.name, source.doc, settings_of(source), training)
    from expunge.methods.base import Objective, Training
    from expunge.methods.config import find_method

    cls = find_method(name, allow_code=True)
    training = settings_of(Training, cls.training) if issubclass(cls, Objective) else None
    return MethodHelp(cls.__name__, cls.__doc__ or "", settings_of(cls), training)


def _fields_of(cls: type) -> list[Field]:
    hints, about = get_type_hints(cls, include_extras=True), _docstrings(cls)
    return [Field(f.name, hints[f.name], _default(f), about.get(f.name, ""), bool(f.kw_only)) for f in dataclasses.fields(cls)]


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _metavar(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return "|".join(dict.fromkeys(_metavar(part) for part in get_args(hint) if part is not NoneType))
    return METAVARS.get(hint, "VALUE")


def _bounds(hint: Any) -> list[str]:
    limits = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return [f"{BOUNDS[type(limit)]} {_limit(limit)}" for limit in limits if type(limit) in BOUNDS]


def _limit(limit: Any) -> Any:
    """The number of a limit: its only field."""
    return getattr(limit, dataclasses.fields(limit)[0].name)


def _docstrings(cls: type) -> dict[str, str]:
    """The string literal below each field of a class and its bases, on one line; none for classes without source."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        try:
            [definition] = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        except (OSError, TypeError, SyntaxError):
            continue
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for field, below in pairwise(body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found
