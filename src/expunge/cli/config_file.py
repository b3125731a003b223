"""Reads what `--config` and `--before` name: a run's `config.toml`, one written by hand, a preset, or LECO's prompts."""

from pathlib import Path
from typing import Any

from expunge import config
from expunge.cli.leco_file import is_leco, read_leco, resolutions
from expunge.errors import ExpungeError
from expunge.methods.config import find_method
from expunge.methods.presets import PRESETS, read_preset
from expunge.names import suggest

KEYS: dict[str, tuple[str, ...]] = {
    "model": ("name", "fingerprint", "dtype", "quantize"),
    "seed": (),
    "concept": ("target", "kind", "synonyms", "anchor", "vocabulary", "targets", "together", "reference"),
    "method": (),
    "training": (),
    "before": ("method", "training"),
    "stop": ("rule", "every", "pictures", "seen", "judge"),
}
"""The tables of a configuration and their keys. Without keys here, a table's settings are checked when the method is built."""

LISTS = ("before",)
"""Those that are lists of tables."""


def read_config(path: Path) -> dict[str, Any]:
    """The tables of a configuration or preset.

    Raises:
        ExpungeError: The file cannot be read, or has an unknown key or a value of another type.
    """
    if is_preset(path):
        return {name: table for name, table in read_preset(str(path)).items() if name in KEYS}
    if not path.exists() and path.name == str(path) and not path.suffix:
        read_preset(path.name)  # raises, with the closest preset
    tables = config.read_toml(path)
    if is_leco(tables):
        tables = read_leco(tables, path)
    if "start" in tables:
        raise ExpungeError(
            f"{path} is the configuration of one stage of a sequence.",
            rule="stage-config",
            value=str(path),
            hint="Try the config.toml of the whole run, two folders above.",
        )
    for name, value in tables.items():
        _check_table(path, name, value)
    return tables


def _check_table(path: Path, name: str, value: Any) -> None:
    if name not in KEYS:
        raise ExpungeError(f"{path} has an unknown entry {name!r}.", rule="unknown-key", value=name, hint=suggest(name, KEYS))
    if not isinstance(value, int if name == "seed" else list if name in LISTS else dict):
        wanted = "a whole number" if name == "seed" else "a list of tables" if name in LISTS else "a table"
        raise ExpungeError(
            f"{name} in {path} is {value!r}, not {wanted}.", rule="wrong-type", value=value, hint="Try the form of a run's config.toml."
        )
    if name == "model" and isinstance(value, dict) and (odd := [key for key, one in value.items() if not isinstance(one, str)]):
        raise ExpungeError(
            f"{odd[0]} of the table [model] in {path} is {value[odd[0]]!r}, not a text.",
            rule="wrong-type",
            value=value[odd[0]],
            hint="Try the form of a run's config.toml.",
        )
    keys = KEYS[name]
    for table in value if isinstance(value, list) else [value]:
        if isinstance(table, dict) and keys and (unknown := [key for key in table if key not in keys]):
            raise ExpungeError(
                f"The table [{name}] in {path} has an unknown key {unknown[0]!r}.",
                rule="unknown-key",
                value=unknown[0],
                hint=suggest(unknown[0], keys),
            )


def asked_sizes(path: Path) -> list[int]:
    """The sizes of images that a file of LECO's prompts asks for; none for any other configuration."""
    tables = {} if is_preset(path) else config.read_toml(path)
    return resolutions(tables) if is_leco(tables) else []


def is_preset(path: Path) -> bool:
    """Whether the path is the name of a preset and not of a file."""
    return str(path) in PRESETS and not path.is_file()


def read_method_name(path: Path, allow_code: bool) -> str:
    """The method that a configuration names.

    Raises:
        ExpungeError: The configuration cannot be read, names no method, or names code outside the package without `allow_code`.
    """
    name = read_config(path).get("method", {}).get("name")
    if not isinstance(name, str):
        raise ExpungeError(
            f"The table [method] in {path} has no name.",
            rule="missing-method",
            value=name,
            hint="Try adding a name there, or put a method after `expunge unlearn`.",
        )
    find_method(name, allow_code)
    return name
