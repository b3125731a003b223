"""A method with its settings and its training, found by name or made from a table."""

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from expunge import config
from expunge.config import find_class
from expunge.errors import ExpungeError
from expunge.methods import METHODS
from expunge.methods.base import Edit, Method, Objective, Training


def find_method(name: str, allow_code: bool = False) -> type[Method]:
    """A registered method by name; with `allow_code`, any importable one as "package.module:Class" (see `config.find_class`).

    Raises:
        ExpungeError: neither; the hint names the nearest registered one.
    """
    return find_class(name, METHODS, (Objective, Edit), "method", "docs/how-to/add-a-method.md", allow_code)


def method_name(method: Method) -> str:
    """The registered name, or "package.module:Class"."""
    cls = type(method)
    return next((n for n, c in METHODS.items() if c is cls), f"{cls.__module__}:{cls.__qualname__}")


def code_outside(*parts: Any) -> dict[str, str]:
    """A digest of the source of every module outside the package that a method, its settings or a rule come from, by its name.

    Nothing for what was typed into an interpreter, which has no source to look at.
    """
    functions = (v for part in parts if dataclasses.is_dataclass(part) for v in vars(part).values() if isinstance(v, str) and ":" in v)
    names = {type(part).__module__ for part in parts if part is not None} | {v.partition(":")[0] for v in functions}
    outside = sorted(n for n in names if n in sys.modules and n.partition(".")[0] not in ("expunge", "builtins"))
    found = {}
    for name in outside:
        with suppress(OSError, TypeError):
            found[name] = hashlib.sha256(inspect.getsource(sys.modules[name]).encode()).hexdigest()[:16]
    return found


@dataclass(frozen=True)
class Layer:
    """A method as it is set, alone or as one of several that remove the same concept."""

    method: Method
    training: Training | None
    """None for closed forms."""

    @property
    def tables(self) -> dict[str, Any]:
        """As a configuration has them."""
        method = {"name": method_name(self.method), **config.settings(self.method)}
        return {"method": method} | ({"training": config.settings(self.training)} if self.training else {})

    @classmethod
    def of(cls, given: "Before", allow_code: bool = False) -> "Layer":
        """A layer from a method or its name, with its defaults, or from a configuration's `method` and `training`.

        Raises:
            ExpungeError: an unknown key, method or setting; training given to a closed form; without `allow_code`, code outside the
                package.
        """
        match given:
            case Layer():
                return given
            case Mapping():
                if unknown := [key for key in given if key not in ("method", "training")]:
                    raise ExpungeError(f"a method that goes before has method and training: {unknown[0]!r} is neither; remove it")
                table = given.get("method")
                if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
                    raise ExpungeError(f"a method that goes before has a name: {table!r} has none; see a run's config.toml")
                settings = {k: v for k, v in table.items() if k != "name"}
                return cls.made(table["name"], settings, given.get("training"), allow_code)
            case _:
                return cls.made(given, {}, None, allow_code)

    @classmethod
    def made(
        cls,
        method: str | Method,
        settings: Mapping[str, Any],
        training: Training | Mapping[str, Any] | None,
        allow_code: bool = False,
    ) -> "Layer":
        """A method with its settings and what its training is to be other than its own."""
        if isinstance(method, str):
            found, trained = find_method(method, allow_code), {f.name for f in fields(Training)}
            if moved := {k: v for k, v in settings.items() if k in trained and k not in {f.name for f in fields(found)}}:  # type: ignore[arg-type]
                raise ExpungeError(f"{', '.join(moved)}: of the training, and no setting of {method}; give training={moved}")
            method = config.build(found, settings, method, allow_code=allow_code)
        elif settings:
            raise ExpungeError(
                f"settings go with a method's name: {', '.join(settings)} given beside a method made beforehand; use one of the two"
            )
        if isinstance(method, Objective):
            given = config.as_table(training or {})
            return cls(method, config.build(Training, config.settings(method.training) | given, "training"))
        if training:
            names = ", ".join(config.as_table(training))
            raise ExpungeError(f"a closed form is not trained: {method_name(method)} takes no {names}; leave it out")
        return cls(method, None)


Before: TypeAlias = str | Method | Layer | Mapping[str, Any]
"""What a method that goes before another may be given as."""
