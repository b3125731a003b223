"""Reads registries, classes and their fields from the package's source, without importing torch.

`expunge ls`, `expunge show` and `--help` print what classes declare: names, docstrings, fields and defaults. The modules of these classes
import torch, which takes seconds. This module parses the source instead and evaluates only declarations: literals, names, annotations,
and calls of dataclasses, which become a `SourceInstance`. A test compares every declaration with the imported class.
"""

import ast
import builtins
import importlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import expunge

LIGHT = ("annotated_types", "typing")
"""Modules outside the package whose names are imported when a declaration uses them."""


class Field(NamedTuple):
    """One field of a dataclass."""

    name: str
    hint: Any
    """Its type, such as `Annotated[float, Ge(0)]`."""
    default: Any
    """`dataclasses.MISSING` for a required field."""
    about: str
    """The string literal below the field, on one line."""
    kw_only: bool = False


def read(path: str) -> Any:
    """The value of a module-level name, such as "expunge.methods:METHODS".

    Raises:
        LookupError: the module does not define it, or defines it by more than a declaration.
    """
    module, _, name = path.partition(":")
    return _module(module).value(name)


@dataclass(frozen=True)
class SourceClass:
    """A class as its source declares it."""

    name: str
    module: "_Module" = field(repr=False)
    node: ast.ClassDef = field(repr=False, compare=False)

    @property
    def doc(self) -> str:
        """Its own docstring; empty without one."""
        return ast.get_docstring(self.node) or ""

    @cached_property
    def lineage(self) -> "tuple[SourceClass, ...]":
        """The class and its bases inside the package, the nearest first."""
        return tuple(dict.fromkeys((self, *(one for base in self._bases for one in base.lineage))))

    @property
    def _bases(self) -> "Iterator[SourceClass]":
        for base in self.node.bases:
            with suppress(LookupError):  # a base outside the package, such as ABC
                if isinstance(found := self.module.evaluate(base), SourceClass):
                    yield found

    def is_derived_from(self, name: str) -> bool:
        """Whether a class of that name is among its bases."""
        return any(one.name == name for one in self.lineage)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a dataclass, in the order of `dataclasses.fields`."""
        found: dict[str, Field] = {}
        for owner in reversed(self.lineage):
            for name, one in owner._own_fields():
                found[name] = one._replace(about=one.about or (found[name].about if name in found else ""))
        return tuple(found.values())

    def _own_fields(self) -> Iterator[tuple[str, Field]]:
        decorator = next((d for d in self.node.decorator_list if "dataclass" in ast.unparse(d)), None)
        if decorator is None:
            return
        kw_only = isinstance(decorator, ast.Call) and any(k.arg == "kw_only" for k in decorator.keywords)
        for line, below in pairwise([*self.node.body, ast.Pass()]):
            match line:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                    if not ast.unparse(annotation).startswith("ClassVar"):
                        default = self.module.evaluate(value) if value else MISSING
                        yield name, Field(name, self.module.evaluate(annotation), default, _docstring(below), kw_only)

    def attribute(self, name: str) -> Any:
        """The value of a class attribute, its own or inherited.

        Raises:
            AttributeError: No class of the lineage declares it.
        """
        for owner in self.lineage:
            for line in owner.node.body:
                if isinstance(line, ast.Assign | ast.AnnAssign) and name in _targets(line) and line.value:
                    return owner.module.evaluate(line.value)
        raise AttributeError(f"{self.name} declares no {name}")


@dataclass(frozen=True)
class SourceInstance:
    """What a call of a class would make. Its fields and class attributes are read as attributes."""

    source_class: SourceClass
    given: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name in self.given:
            return self.given[name]
        defaults = {one.name: one.default for one in self.source_class.fields if one.default is not MISSING}
        return defaults[name] if name in defaults else self.source_class.attribute(name)


def _docstring(node: ast.stmt) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
    return ""


def _targets(line: ast.stmt) -> list[str]:
    targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


@cache
def _module(name: str) -> "_Module":
    return _Module(name)


@dataclass(frozen=True)
class _Module:
    """The parsed source of a module of the package."""

    name: str

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        """By name, the statement that defines or imports it."""
        path = Path(expunge.__file__).parent.joinpath(*self.name.split(".")[1:])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        found: dict[str, ast.stmt] = {}
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            match node:
                case ast.ClassDef(name=name):
                    found[name] = node
                case ast.ImportFrom(names=names):
                    found |= {alias.asname or alias.name: node for alias in names}
                case _:
                    found |= dict.fromkeys(_targets(node), node)
        return found

    @cache  # noqa: B019 (there is one object for each module)
    def value(self, name: str) -> Any:
        """What a name means in the module."""
        match self.definitions.get(name):
            case ast.ClassDef() as node:
                return SourceClass(name, self, node)
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "expunge":
                return _module(module).value(next(a.name for a in names if name in (a.asname, a.name)))
            case ast.ImportFrom(module=str(module)) if module in LIGHT:
                return getattr(importlib.import_module(module), name)
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return self.evaluate(value)
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise LookupError(f"{self.name} declares no {name}")

    def evaluate(self, node: ast.expr) -> Any:
        """The value of a declaration's expression."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.value(name)
            case ast.Tuple(elts=parts):
                return tuple(map(self.evaluate, parts))
            case ast.Set(elts=parts):
                return set(map(self.evaluate, parts))
            case ast.Dict(keys=keys, values=values):
                return {self.evaluate(key): self.evaluate(value) for key, value in zip(keys, values, strict=True) if key}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.evaluate(operand)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self.evaluate(left) | self.evaluate(right)
            case ast.Subscript(value=value, slice=index):
                return self.evaluate(value)[self.evaluate(index)]
            case ast.Call(func=function, args=args, keywords=keywords):
                return self._call(self.evaluate(function), list(map(self.evaluate, args)), keywords)
        raise LookupError(f"{self.name}: {ast.unparse(node)} is more than a declaration")

    def _call(self, function: Any, args: list[Any], keywords: list[ast.keyword]) -> Any:
        named = {keyword.arg: self.evaluate(keyword.value) for keyword in keywords if keyword.arg}
        if not isinstance(function, SourceClass):
            return function(*args, **named)
        names = [one.name for one in function.fields if not one.kw_only]
        return SourceInstance(function, dict(zip(names, args, strict=False)) | named)
