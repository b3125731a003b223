"""The budget of an audit: its attacks, their settings, and the number of images of each reading. A budget is a TOML file.

```toml
pictures = 16            # images of each reading; more narrow the intervals

[[attacks]]
name = "relearn"         # registered, or package.module:Class; other keys except label are its settings
lr = 3e-4

[[attacks]]              # the same attack with other settings; the best of them counts
name = "relearn"
lr = 1e-3
```
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge

from expunge import config
from expunge.attacks import ATTACKS
from expunge.attacks.base import Attack
from expunge.attacks.captions import list_images
from expunge.attacks.data import keep_readable, refuse_naming
from expunge.attacks.relearn import Relearn
from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.names import suggest
from expunge.storage.data_sets import SCHEME
from expunge.storage.files import lying_at

KEYS = ("pictures", "attacks")
MADE = ("base", "retain")
"""Values of the setting `data` of a relearning attack for data that it makes itself; every other value names data of the user."""
OWN = ("name", "label")
"""Keys of an entry of `attacks` that are not settings of the attack."""


@dataclass(frozen=True)
class ReadingSettings:
    """Settings of every reading of an audit."""

    pictures: Annotated[int, Ge(1)] = 24
    """Images by which each reading is judged. Four times as many halve the interval."""


@dataclass(frozen=True)
class Entry:
    """An attack with its settings, and its label in rows and tables."""

    name: str
    """The registered name, or "package.module:Class". Entries of the same name are one attacker with several settings."""
    label: str
    attack: Attack

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings with their defaults, so that a changed default makes another attack."""
        return {k: v if isinstance(v, bool | int | float | str | list | dict) else str(v) for k, v in _list_settings(self.attack).items()}

    @property
    def teaches(self) -> bool:
        """Whether the attack teaches the concept to any model."""
        return type(self.attack).teaches

    @property
    def access(self) -> str:
        """What the attacker needs; see `Attack.access`."""
        return type(self.attack).access()

    @property
    def found_on_disk(self) -> list[tuple[str, int, int]]:
        """Name, size and time of every file that the settings name, also through a folder. Changed files make another attack."""
        free = [name for name, kind in get_type_hints(type(self.attack)).items() if kind in (str, str | None)]  # not a Literal
        named = [value for name in free if (value := getattr(self.attack, name)) and value not in MADE]
        return [file for value in named for file in lying_at(value.removeprefix(SCHEME))]


@dataclass(frozen=True)
class Budget:
    """The attacks of an audit."""

    name: str
    pictures: int
    entries: tuple[Entry, ...]
    flags: tuple[str, ...] = ()
    """The options of `expunge audit` that select this budget."""
    changed: tuple[str, ...] = ()
    """The attacks or data that were selected or added, as parts of the folder's name."""

    @property
    def table(self) -> dict[str, Any]:
        """The budget as plain values with every setting, which `make_budget` can read."""
        entries = [
            {"name": e.name, "label": e.label} | {k: v for k, v in _list_settings(e.attack).items() if v is not None} for e in self.entries
        ]
        return {"pictures": self.pictures, "attacks": entries}

    @property
    def is_selected_by_flags(self) -> bool:
        """Whether `flags` select this budget now: not one that was made or changed in Python, nor one of a file that is gone or changed."""
        words = [word for word in self.flags if word != "--allow-code"]
        given = list(zip(words[::2], words[1::2], strict=False))
        if not given or given[0][0] != "--budget":
            return False
        try:
            found = read_budget(given[0][1], self.names_outside_code)
            if attacks := [value for option, value in given if option == "--attack"]:
                found = found.only(attacks)
            for data in (value for option, value in given if option == "--auxiliary"):
                found = found.beside(data)
        except ExpungeError:
            return False
        return found.table == self.table

    @property
    def names_outside_code(self) -> bool:
        """Whether an attack is code outside the package, which `--allow-code` must allow."""
        return any(":" in entry.name for entry in self.entries)

    def folder_name(self, seed: int) -> str:
        """The name of the audit's folder in the run's folder. Other budgets, attacks or seeds have other names.

        >>> read_budget("quick").folder_name(0), read_budget("standard").only(["p4d"]).folder_name(1)
        ('audit', 'audit-standard-p4d-seed-1')
        """
        name = [] if self.name == "quick" else [self.name]
        return "-".join(["audit", *name, *self.changed, *([f"seed-{seed}"] if seed else [])])

    def only(self, wanted: Sequence[str]) -> "Budget":
        """The budget with only the attacks of these names or labels. An attack that the budget does not have is added with its defaults.

        Raises:
            ExpungeError: rule "unknown-attack", a name that no attack has.
        """
        selected: list[Entry] = []
        for name in dict.fromkeys(wanted):
            found = [e for e in self.entries if name in (e.name, e.label)]
            selected += found or [Entry(name, name, config.build(find_attack(name, allow_code=True), {}, name))]
        flags = (f for name in wanted for f in ("--attack", name))
        entries, words = tuple({e.label: e for e in selected}.values()), (_make_word(name) for name in dict.fromkeys(wanted))
        return dataclasses.replace(self, entries=entries, flags=(*self.flags, *flags), changed=(*self.changed, *words))

    def beside(self, data: str) -> "Budget":
        """The budget with a copy of every relearning attack that trains on a user's images: a folder, or `datasets:NAME`.

        Raises:
            ExpungeError: rule "auxiliary-without-relearn", the budget has no relearning attack.
        """
        name, resolved = data.removeprefix(SCHEME), data if data.startswith(SCHEME) else str(Path(data).expanduser().resolve())
        added = [
            Entry(e.name, f"{e.label}, data {Path(name).name}", dataclasses.replace(e.attack, data=resolved))
            for e in self.entries
            if isinstance(e.attack, Relearn)
        ]
        if not added:
            names = ", ".join(e.label for e in self.entries)
            raise ExpungeError(
                f"No attack of the budget can train on {data}: it has {names}.",
                rule="auxiliary-without-relearn",
                value=data,
                hint="Try to add --attack relearn, or leave out --auxiliary.",
            )
        return dataclasses.replace(
            self,
            entries=(*self.entries, *added),
            flags=(*self.flags, "--auxiliary", data),
            changed=(*self.changed, _make_word(Path(name).name)),
        )

    def refuse_naming(self, concepts: Sequence[Concept]) -> None:
        """Raise an error if captions of a user's data name a concept.

        Raises:
            ExpungeError: the data cannot be read, or captions name one of the concepts.
        """
        for data in self._sets:
            images = list_images(data)
            for concept in concepts:
                refuse_naming(concept, [one.caption for one in images], [one.source for one in images])

    def refuse_unread(self, model: DiffusionModel) -> None:
        """Raise an error if the model can read no caption of a user's data.

        Raises:
            ExpungeError: the data cannot be read, or the model can read none of its captions.
        """
        for data in self._sets:
            keep_readable(model, list_images(data))

    @property
    def _sets(self) -> list[str]:
        """The user's data of all attacks, each once."""
        return list(dict.fromkeys(e.attack.data for e in self.entries if isinstance(e.attack, Relearn) and e.attack.data not in MADE))


def builtin() -> list[str]:
    """The names of the package's budgets: of every attack in increasing size, then those of one sort of attacker."""
    return ["quick", "standard", "full", "relearning", "adaptive"]


def read_budget(name: str | Path, allow_code: bool = False) -> Budget:
    """Read a budget from a TOML file, or a built-in budget by its name.

    Args:
        name: The path of a TOML file, or a name from `builtin`.
        allow_code: Whether the file may name attacks outside the package, which are imported. Allow it only for files that you trust.

    Raises:
        ExpungeError: there is no such file or name; a key, attack or setting is unknown; the file names code outside the package.
    """
    if str(name) in builtin() and not Path(name).is_file():
        with resources.as_file(resources.files("expunge.audits") / f"{name}.toml") as file:
            return make_budget(config.read_toml(file), str(name))
    if not Path(name).exists() and not str(name).endswith(".toml"):
        raise ExpungeError(
            f"{str(name)!r} is neither a budget nor a TOML file.",
            rule="unknown-budget",
            value=str(name),
            hint=suggest(str(name), builtin()),
        )
    made = make_budget(config.read_toml(Path(name), "see docs/how-to/audit.md"), Path(name).stem, allow_code)
    return dataclasses.replace(made, flags=("--budget", str(name), *(["--allow-code"] if made.names_outside_code else [])))


def make_budget(table: Mapping[str, Any], name: str, allow_code: bool = False) -> Budget:
    """Make a budget from parsed TOML; see `read_budget`."""
    for key in table:
        if key not in KEYS:
            raise ExpungeError(f"{key!r} is not a key of a budget.", rule="unknown-key", value=key, hint=suggest(key, KEYS))
    reading = config.build(ReadingSettings, {k: v for k, v in table.items() if k == "pictures"}, "budget")
    tables = table.get("attacks")
    if not isinstance(tables, list) or not tables:
        raise ExpungeError(
            f"The budget {name!r} has no attacks.", rule="no-attacks", value=tables, hint='Try [[attacks]] with name = "few-shot".'
        )
    for one in tables:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise ExpungeError(
                f"The entry {one!r} of attacks has no name.",
                rule="attack-without-name",
                value=one,
                hint='Try [[attacks]] with name = "few-shot".',
            )
    entries = tuple(_make_entry(one, [t for t in tables if t["name"] == one["name"]], allow_code) for one in tables)
    labels = [e.label for e in entries]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ExpungeError(
            f"The budget {name!r} has two attacks with the label {twice!r}.",
            rule="shared-label",
            value=twice,
            hint="Try another label for one of them.",
        )
    return Budget(name, reading.pictures, entries, ("--budget", name))


def find_attack(name: str, allow_code: bool = False) -> type[Attack]:
    """The class of a registered attack; with `allow_code`, also of an importable one, "package.module:Class" (see `config.find_class`).

    Raises:
        ExpungeError: rule "unknown-attack"; or code outside the package that may not or cannot be imported.
    """
    return config.find_class(name, ATTACKS, (Attack,), "attack", "docs/how-to/audit.md", allow_code)


def _make_entry(table: Mapping[str, Any], same_name: Sequence[Mapping[str, Any]], allow_code: bool) -> Entry:
    """Make an entry. Without a label of its own, its label has the settings in which it differs from entries of the same name."""
    settings = {k: v for k, v in table.items() if k not in OWN}
    differing = {k: v for k, v in settings.items() if any(other.get(k) != v for other in same_name)}
    label = str(table.get("label", ", ".join((table["name"], *(f"{k} {v}" for k, v in differing.items())))))
    attack = config.build(find_attack(table["name"], allow_code), settings, table["name"], allow_code=allow_code)
    return Entry(table["name"], label, attack)


def _make_word(text: str) -> str:
    """A text as a part of a folder's name."""
    return "-".join(re.findall(r"[\w.]+", text))


def _list_settings(attack: Attack) -> dict[str, Any]:
    """The settings of an attack, with lists instead of tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.settings(attack).items()}
