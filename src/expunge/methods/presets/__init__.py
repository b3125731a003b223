"""Settings that go by a name: what was measured to serve a purpose, written out in full, so that no changed default changes it."""

from importlib import resources
from typing import Any

from expunge import config
from expunge.errors import ExpungeError
from expunge.names import nearest

PRESETS = ("relearn-tested", "relearn-resistant", "picture-then-name", "resistant")
"""By name. Each is a TOML file here, a configuration without model and concept, and `about`, what it is for."""


def read_preset(name: str) -> dict[str, Any]:
    """The tables of a preset.

    Raises:
        ExpungeError: no such preset; the message names the nearest.
    """
    if name not in PRESETS:
        raise ExpungeError(f"a preset is one of {', '.join(PRESETS)}: {name!r} is none{nearest(name, PRESETS)}; see `expunge ls presets`")
    with resources.as_file(resources.files("expunge.methods.presets") / f"{name}.toml") as file:
        return config.read_toml(file)


def preset(name: str) -> dict[str, Any]:
    """The same as keywords of `expunge.unlearn`: `expunge.unlearn(model, "Van Gogh", **expunge.preset("relearn-tested"))`.

    Raises:
        ExpungeError: no such preset; the message names the nearest.
    """
    tables = read_preset(name)
    settings = dict(tables["method"])
    given = {name: tables[name] for name in ("training", "before") if name in tables}
    return {"method": settings.pop("name"), **settings, **given}
