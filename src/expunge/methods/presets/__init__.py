"""Presets: named settings, measured for a purpose or as published.

Every setting is written out, so that a changed default does not change a preset. Presets that end in `-published` have the settings of the
authors' released code, converted where a loss is scaled otherwise here; `mim-mu-paper` has what is known of a paper without released code.
Their comments say what is converted, and docs/lab/presets.md says what differs all the same.
"""

from importlib import resources
from typing import Any

from expunge import config
from expunge.errors import ExpungeError
from expunge.names import suggest

PRESETS = (
    "relearn-tested", "relearn-resistant", "picture-then-name", "resistant", "many-concepts",
    "esd-published", "sdd-published", "ca-published", "uce-published", "f-dmu-published", "salun-published", "spm-published",
    "erase-diff-published", "mim-mu-paper",
)  # fmt: skip
"""The names of the presets. Each is a TOML file in this folder: a configuration without model and concept, and `about`, its purpose."""


def read_preset(name: str) -> dict[str, Any]:
    """The tables of a preset.

    Raises:
        ExpungeError: there is no preset of this name; the hint has the closest one.
    """
    if name not in PRESETS:
        hint = suggest(name, PRESETS, "`expunge ls presets`")
        raise ExpungeError(f"{name!r} is not a preset.", rule="unknown-preset", value=name, hint=hint)
    with resources.as_file(resources.files("expunge.methods.presets") / f"{name}.toml") as file:
        return config.read_toml(file)


def preset(name: str) -> dict[str, Any]:
    """The keywords of `expunge.unlearn` that a preset stands for.

    `expunge.unlearn(model, "Van Gogh", **expunge.preset("relearn-tested"))` uses it.

    Raises:
        ExpungeError: there is no preset of this name; the hint has the closest one.
    """
    tables = read_preset(name)
    settings = dict(tables["method"])
    given = {name: tables[name] for name in ("training", "before") if name in tables}
    return {"method": settings.pop("name"), **settings, **given}
