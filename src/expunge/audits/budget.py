"""How much an audit tries: which attacks with which settings, and how many pictures judge each reading. One TOML file.

```toml
pictures = 16            # by which each reading is judged; more narrow the intervals

[[attacks]]
name = "relearn"         # registered, or package.module:Class; beside label, its settings
lr = 3e-4

[[attacks]]              # the same attack again with other settings: the attacker's best counts
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
from expunge.attacks.captions import SCHEME, captioned
from expunge.attacks.data import legible, refuse_naming
from expunge.attacks.relearn import Relearn
from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.names import nearest
from expunge.storage.files import lying_at

KEYS = ("pictures", "attacks")
MADE = ("base", "retain")
"""What a relearning attack can make for itself; anything else that it is trained on is the user's."""
OWN = ("name", "label")
"""What an entry of `attacks` holds besides the attack's settings."""


@dataclass(frozen=True)
class Looks:
    """How closely each reading is looked at."""

    pictures: Annotated[int, Ge(1)] = 24
    """By which it is judged. Four times as many halve the interval."""


@dataclass(frozen=True)
class Entry:
    """An attack with its settings, under the label that rows and tables give it."""

    name: str
    """Registered, or "package.module:Class". Entries of one name are one attacker who tries several settings."""
    label: str
    attack: Attack

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All of them, defaults included: a default that changes is another attack."""
        return {k: v if isinstance(v, bool | int | float | str | list | dict) else str(v) for k, v in _plain(self.attack).items()}

    @property
    def found_on_disk(self) -> list[tuple[str, int, int]]:
        """Name, size and time of the files that settings name, alone or as a folder: other files there are another attack."""
        free = [name for name, kind in get_type_hints(type(self.attack)).items() if kind in (str, str | None)]  # not a choice of words
        named = [value for name in free if (value := getattr(self.attack, name)) and value not in MADE]
        return [file for value in named for file in lying_at(value.removeprefix(SCHEME))]


@dataclass(frozen=True)
class Budget:
    """What an audit tries."""

    name: str
    pictures: int
    entries: tuple[Entry, ...]
    flags: tuple[str, ...] = ()
    """By which `expunge audit` is asked for it."""
    changed: tuple[str, ...] = ()
    """What was chosen from it or added to it, as words of a folder's name."""

    @property
    def table(self) -> dict[str, Any]:
        """As plain values, which `make_budget` reads again, every setting told."""
        told = [{"name": e.name, "label": e.label} | {k: v for k, v in _plain(e.attack).items() if v is not None} for e in self.entries]
        return {"pictures": self.pictures, "attacks": told}

    @property
    def is_builtin(self) -> bool:
        """Whether its name is that of a budget of the package."""
        return self.name in builtin()

    def folder_name(self, seed: int) -> str:
        """The folder of an audit in the run's folder. Other budgets, attacks or seeds have other folders.

        >>> read_budget("quick").folder_name(0), read_budget("standard").only(["p4d"]).folder_name(1)
        ('audit', 'audit-standard-p4d-seed-1')
        """
        name = [] if self.name == "quick" else [self.name]
        return "-".join(["audit", *name, *self.changed, *([f"seed-{seed}"] if seed else [])])

    def only(self, wanted: Sequence[str]) -> "Budget":
        """The same with the attacks of these names or labels alone; one that it lacks is added with its own defaults.

        Raises:
            ExpungeError: a name that is no attack's; the message names the nearest.
        """
        kept: list[Entry] = []
        for name in dict.fromkeys(wanted):
            found = [e for e in self.entries if name in (e.name, e.label)]
            kept += found or [Entry(name, name, config.build(find_attack(name, allow_code=True), {}, name))]
        flags = (f for name in wanted for f in ("--attack", name))
        entries, words = tuple({e.label: e for e in kept}.values()), (_word(name) for name in dict.fromkeys(wanted))
        return dataclasses.replace(self, entries=entries, flags=(*self.flags, *flags), changed=(*self.changed, *words))

    def beside(self, data: str) -> "Budget":
        """The same with every relearning attack once more, on pictures and captions of one's own: a folder, or `datasets:NAME`.

        Raises:
            ExpungeError: no relearning attack.
        """
        name, told = data.removeprefix(SCHEME), data if data.startswith(SCHEME) else str(Path(data).expanduser().resolve())
        twins = [
            Entry(e.name, f"{e.label}, data {Path(name).name}", dataclasses.replace(e.attack, data=told))
            for e in self.entries
            if isinstance(e.attack, Relearn)
        ]
        if not twins:
            names = ", ".join(e.label for e in self.entries)
            raise ExpungeError(f"an auxiliary set is relearned from: {data} is given for {names}; add --attack relearn, or leave it out")
        return dataclasses.replace(
            self, entries=(*self.entries, *twins), flags=(*self.flags, "--auxiliary", data), changed=(*self.changed, _word(Path(name).name))
        )

    def refuse_naming(self, concepts: Sequence[Concept]) -> None:
        """Refuses data of one's own that name a concept, before any work begins.

        Raises:
            ExpungeError: no folder of pictures with captions; captions that name one of the concepts.
        """
        for data in self._sets:
            found = captioned(data)
            for concept in concepts:
                refuse_naming(concept, [one.caption for one in found], [one.source for one in found])

    def refuse_unread(self, model: DiffusionModel) -> None:
        """Refuses data of one's own that the model reads no caption of, before any work begins.

        Raises:
            ExpungeError: no folder of pictures with captions, or none of which the model reads one.
        """
        for data in self._sets:
            legible(model, captioned(data))

    @property
    def _sets(self) -> list[str]:
        """Data of one's own, each once."""
        return list(dict.fromkeys(e.attack.data for e in self.entries if isinstance(e.attack, Relearn) and e.attack.data not in MADE))


def builtin() -> list[str]:
    """The budgets that come with the package, the smallest first."""
    return ["quick", "standard", "full"]


def read_budget(name: str | Path, allow_code: bool = False) -> Budget:
    """A budget from a TOML file, or a built-in one by name.

    Args:
        allow_code: whether the file may name attacks outside the package, which are imported. Choose it for files that you trust.

    Raises:
        ExpungeError: no such file or name; unknown keys, attacks or settings, each with the nearest valid one; code outside the package.
    """
    if str(name) in builtin() and not Path(name).is_file():
        with resources.as_file(resources.files("expunge.audits") / f"{name}.toml") as file:
            return make_budget(config.read_toml(file), str(name))
    if not Path(name).exists() and not str(name).endswith(".toml"):
        hint = nearest(str(name), builtin())
        raise ExpungeError(f"a budget is {', '.join(builtin())} or a TOML file: {str(name)!r} is neither{hint}; see docs/how-to/audit.md")
    made = make_budget(config.read_toml(Path(name), "see docs/how-to/audit.md"), Path(name).stem, allow_code)
    outside = any(":" in entry.name for entry in made.entries)
    return dataclasses.replace(made, flags=("--budget", str(name), *(["--allow-code"] if outside else [])))


def make_budget(table: Mapping[str, Any], name: str, allow_code: bool = False) -> Budget:
    """A budget from parsed TOML; see `read_budget`."""
    for key in table:
        if key not in KEYS:
            raise ExpungeError(f"a budget has the keys {', '.join(KEYS)}: {key!r} is none{nearest(key, KEYS)}; rename or remove it")
    looks = config.build(Looks, {k: v for k, v in table.items() if k == "pictures"}, "budget")
    tables = table.get("attacks")
    if not isinstance(tables, list) or not tables:
        raise ExpungeError(f'a budget has attacks: {name!r} has {tables!r}; for example [[attacks]] name = "few-shot"')
    for one in tables:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise ExpungeError(f'an entry of attacks has a name: {one!r} has none; for example [[attacks]] name = "few-shot"')
    entries = tuple(_entry(one, [t for t in tables if t["name"] == one["name"]], allow_code) for one in tables)
    labels = [e.label for e in entries]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ExpungeError(f"a label names one entry of attacks: {twice!r} stands in {name!r} twice; give one of them another label")
    return Budget(name, looks.pictures, entries, ("--budget", name))


def find_attack(name: str, allow_code: bool = False) -> type[Attack]:
    """A registered attack by name; with `allow_code`, any importable one as "package.module:Class" (see `config.find_class`).

    Raises:
        ExpungeError: neither; the hint names the nearest registered one.
    """
    return config.find_class(name, ATTACKS, (Attack,), "attack", "docs/how-to/audit.md", allow_code)


def _entry(table: Mapping[str, Any], alike: Sequence[Mapping[str, Any]], allow_code: bool) -> Entry:
    """An entry. One that shares its attack with others is told from them by the settings that differ, unless it has a label."""
    settings = {k: v for k, v in table.items() if k not in OWN}
    differing = {k: v for k, v in settings.items() if any(other.get(k) != v for other in alike)}
    label = str(table.get("label", ", ".join((table["name"], *(f"{k} {v}" for k, v in differing.items())))))
    attack = config.build(find_attack(table["name"], allow_code), settings, table["name"], allow_code=allow_code)
    return Entry(table["name"], label, attack)


def _word(text: str) -> str:
    return "-".join(re.findall(r"[\w.]+", text))


def _plain(attack: Attack) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.settings(attack).items()}
