"""A method with its settings and its training, found by name or read from a table."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from expunge import config
from expunge.config import find_class
from expunge.errors import ExpungeError
from expunge.methods import METHODS
from expunge.methods.base import Edit, Method, Objective, Training
from expunge.names import suggest


def find_method(name: str, allow_code: bool = False) -> type[Method]:
    """A registered method by name; with `allow_code`, any importable one as "package.module:Class" (see `config.find_class`).

    Raises:
        ExpungeError: the name is not registered and cannot be imported; the hint has the closest registered one.
    """
    return find_class(name, METHODS, (Objective, Edit), "method", "docs/how-to/add-a-method.md", allow_code)


def method_name(method: Method) -> str:
    """The registered name of a method, or "package.module:Class"."""
    cls = type(method)
    return next((n for n, c in METHODS.items() if c is cls), f"{cls.__module__}:{cls.__qualname__}")


@dataclass(frozen=True)
class Layer:
    """A method with its settings and training, alone or as one of several that remove the same concept."""

    method: Method
    training: Training | None
    """None for closed forms."""

    @property
    def tables(self) -> dict[str, Any]:
        """Its tables in a configuration."""
        method = {"name": method_name(self.method), **config.settings(self.method)}
        return {"method": method} | ({"training": config.settings(self.training)} if self.training else {})

    @classmethod
    def of(cls, given: "Before", allow_code: bool = False) -> "Layer":
        """A layer from a method or its name with default settings, or from a table with `method` and `training`.

        Raises:
            ExpungeError: a key, a method or a setting is unknown, a closed form is given training, or code outside the package is named
                without `allow_code`.
        """
        match given:
            case Layer():
                return given
            case Mapping():
                if unknown := [key for key in given if key not in ("method", "training")]:
                    raise ExpungeError(
                        f"{unknown[0]!r} is not a key of an entry of `before`.",
                        rule="unknown-key",
                        value=unknown[0],
                        hint=suggest(str(unknown[0]), ("method", "training")),
                    )
                table = given.get("method")
                if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
                    raise ExpungeError(
                        f"The method {table!r} of an entry of `before` has no name.",
                        rule="method-without-name",
                        value=table,
                        hint='Try a table such as {name = "uce"}, as in a run\'s config.toml.',
                    )
                settings = {k: v for k, v in table.items() if k != "name"}
                return cls.make(table["name"], settings, given.get("training"), allow_code)
            case _:
                return cls.make(given, {}, None, allow_code)

    @classmethod
    def make(
        cls,
        method: str | Method,
        settings: Mapping[str, Any],
        training: Training | Mapping[str, Any] | None,
        allow_code: bool = False,
    ) -> "Layer":
        """A layer from a method or its name, its settings, and the training settings that differ from the method's own."""
        if isinstance(method, str):
            found, trained = find_method(method, allow_code), {f.name for f in fields(Training)}
            if moved := {k: v for k, v in settings.items() if k in trained and k not in {f.name for f in fields(found)}}:  # type: ignore[arg-type]
                raise ExpungeError(
                    f"{', '.join(moved)} is not a setting of {method} but of its training.",
                    rule="setting-of-training",
                    value=moved,
                    hint=f"Try training={moved}.",
                )
            method = config.build(found, settings, method, allow_code=allow_code)
        elif settings:
            raise ExpungeError(
                f"A method object already has its settings, but {', '.join(settings)} is given too.",
                rule="settings-twice",
                value=dict(settings),
                hint="Try the method's name with settings, or the method object alone.",
            )
        if isinstance(method, Objective):
            given = config.as_table(training or {})
            return cls(method, config.build(Training, config.settings(method.training) | given, "training"))
        if training:
            table = config.as_table(training)
            raise ExpungeError(
                f"{method_name(method)} is a closed form and is not trained, but {', '.join(table)} is given.",
                rule="closed-form-trained",
                value=table,
                hint="Try it without training settings.",
            )
        return cls(method, None)


Before: TypeAlias = str | Method | Layer | Mapping[str, Any]
"""The forms in which a method that goes before another can be given."""
