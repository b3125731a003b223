"""A settings class described from its source: what each field is called on the command line, may be, is by default, and does."""

import ast
import dataclasses
import inspect
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

WORDS: dict[Any, str] = {float: "NUMBER", int: "COUNT", bool: "", str: "TEXT"}
BOUNDS: dict[type, str] = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}


@dataclass(frozen=True)
class Setting:
    """One field of a settings class."""

    name: str
    metavar: str
    """What it takes: "NUMBER", "null|context|marginal"; empty for yes or no."""
    bounds: str
    """For example "at least 0"; empty without."""
    default: Any
    about: str
    """The text that stands beneath the field."""

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def shown_default(self) -> str:
        """The default as a person types it."""
        if self.default is dataclasses.MISSING:
            return "required"
        return {True: "yes", False: "no"}[self.default] if isinstance(self.default, bool) else str(self.default)


def settings_of(cls: type, defaults: Any = None) -> list[Setting]:
    """The fields of a dataclass in order, those that classes share (keyword-only) last; `defaults` is an instance to take them from."""
    hints, about = get_type_hints(cls, include_extras=True), _docstrings(cls)
    return [
        Setting(
            field.name,
            _metavar(hints[field.name]),
            ", ".join(_bounds(hints[field.name])),
            _default(field) if defaults is None else getattr(defaults, field.name),
            about.get(field.name, ""),
        )
        for field in sorted(dataclasses.fields(cls), key=lambda field: bool(field.kw_only))
    ]


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _metavar(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return "|".join(dict.fromkeys(_metavar(part) for part in get_args(hint) if part is not NoneType))
    return WORDS.get(hint, "VALUE")


def _bounds(hint: Any) -> list[str]:
    limits = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return [f"{BOUNDS[type(limit)]} {getattr(limit, type(limit).__name__.lower())}" for limit in limits if type(limit) in BOUNDS]


def _docstrings(cls: type) -> dict[str, str]:
    """The string literal beneath each field, on one line; those of parent classes too. Nothing where there is no source."""
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
