"""The worlds that concepts come from, built in or a user's own.

A *vocabulary* lists kinds of concepts (styles, objects, ...), how each is put into a prompt alone and together with a partner
of another kind, and their members in families of siblings. Concepts, forget prompts and probes all follow from it, so a
user's own world is one TOML file (see `general.toml` beside this file).
"""

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Member:
    """One concept of a vocabulary."""

    name: str
    synonyms: tuple[str, ...] = ()
    family: str = ""
    """Members of one family are siblings: those that erasure hurts first. Empty: none."""


@dataclass(frozen=True)
class Kind:
    """A domain of concepts and its place in the grammar."""

    name: str
    alone: str
    """Template of a prompt that names only the concept, for example "a {target}"."""
    together: str
    """Template with `{target}` and `{partner}`."""
    partner: str
    """The kind that partners come from; its `alone` gives the context, the prompt with the concept deleted."""
    members: tuple[Member, ...] = ()
    harmless: bool = True
    """Whether one member may stand in for another and should survive it. Not so for unsafe content: there the marginal is the
    context, and no other member is retained or probed."""

    def find(self, name: str) -> Member | None:
        """The member called `name`, by main name or synonym, whatever its case."""
        return next((m for m in self.members if name.casefold() in (n.casefold() for n in (m.name, *m.synonyms))), None)

    def inside(self, text: str) -> str | None:
        """What fills `{target}` in `alone` to give `text`, whatever its case; None where it does not fit."""
        before, after = self.alone.split("{target}")
        if text.casefold().startswith(before.casefold()) and text.casefold().endswith(after.casefold()):
            return text[len(before) : len(text) - len(after)].strip() or None
        return None

    def beside(self, text: str) -> str | None:
        """The name of a member that `text` puts beside something, as `together` does, whatever its case; None where it does not."""
        pattern = re.escape(self.together).replace(r"\{target\}", "(?P<target>.+)").replace(r"\{partner\}", ".+")
        found = re.fullmatch(pattern, text, re.IGNORECASE)
        names = {n.casefold(): n for m in self.members for n in (m.name, *m.synonyms)} if found else {}
        return names.get(found["target"].casefold()) if found else None


@dataclass(frozen=True)
class Vocabulary:
    """A world of concepts."""

    kinds: Mapping[str, Kind]
    closed: bool = False
    """Whether its members are all that the model knows, so that any other name is a mistake."""

    def find(self, name: str) -> tuple[Kind, Member] | None:
        return next(((kind, member) for kind in self.kinds.values() if (member := kind.find(name))), None)

    @property
    def names(self) -> list[str]:
        return [n for kind in self.kinds.values() for m in kind.members for n in (m.name, *m.synonyms)]

    @classmethod
    def canvas(cls) -> "Vocabulary":
        """The embedded world."""
        from expunge.canvas.prompts import OBJECTS, STYLES

        def members(words: tuple) -> tuple[Member, ...]:
            return tuple(Member(w.name, (w.synonym,), w.family) for w in words)

        return cls(
            {
                "style": Kind("style", "{target} style", "a {partner} in {target} style", "object", members(STYLES)),
                "object": Kind("object", "a {target}", "a {target} in {partner} style", "style", members(OBJECTS)),
            },
            closed=True,
        )

    @classmethod
    def general(cls) -> "Vocabulary":
        """Everyday objects, artists, scenes: for models trained on pictures of the world."""
        return cls.load(Path(__file__).with_name("general.toml"))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads a vocabulary from TOML, a table per kind, or from CSV.

        TOML: `[style]` with `alone`, `together`, `partner`, and `members = [{name=..., synonyms=[...], family=...}, ...]`
        (a plain string is a member without synonyms). CSV with columns `kind,name,synonyms,family` (synonyms separated by
        `|`) keeps the templates of the general vocabulary and replaces the members of the kinds that it lists.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")  # spreadsheets begin their CSV with a byte-order mark
            if Path(path).suffix.lower() == ".csv":
                return cls.general()._with_rows(csv.DictReader(text.splitlines()), str(path))
            return cls.from_tables(tomllib.loads(text), str(path))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, csv.Error) as error:
            raise ExpungeError(f"a vocabulary is a readable TOML or CSV file: {path}: {error}; see `expunge show vocabulary`") from error

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], source: str = "vocabulary") -> "Vocabulary":
        """From parsed TOML: a table for each kind.

        Raises:
            ExpungeError: a table that lacks a part, a template with other slots, a member without a name or named twice.
        """
        if not tables:
            raise ExpungeError(f"a vocabulary has a table for each kind: {source} is empty; see `expunge show vocabulary`")
        return cls({name: _kind(name, table, source) for name, table in tables.items()})._checked(source)

    def _with_rows(self, rows: csv.DictReader, source: str) -> "Vocabulary":
        listed: dict[str, list[Member]] = {}
        for row in rows:
            kind, name = (_tidy(row.get(column) or "") for column in ("kind", "name"))
            if kind not in self.kinds or not name:
                have = f"line {rows.line_num} of {source} has {kind!r} and {name!r}"
                raise ExpungeError(f"a row has a kind ({', '.join(self.kinds)}) and a name: {have}; correct it")
            synonyms = tuple(s for s in map(_tidy, (row.get("synonyms") or "").split("|")) if s)
            listed.setdefault(kind, []).append(Member(name, synonyms, _tidy(row.get("family") or "")))
        if not listed:
            raise ExpungeError(f"a CSV vocabulary has rows under kind,name,synonyms,family: {source} has none; see docs/own-model.md")
        kinds = {n: replace(k, members=tuple(listed.get(n, k.members))) for n, k in self.kinds.items()}
        return replace(self, kinds=kinds)._checked(source)

    def _checked(self, source: str) -> "Vocabulary":
        for kind in self.kinds.values():
            where = f"{kind.name} in {source}"
            if kind.partner not in self.kinds or kind.partner == kind.name:
                others = ", ".join(n for n in self.kinds if n != kind.name) or "none yet"
                raise ExpungeError(f"a kind's partner is another kind: {where} has {kind.partner!r}; the others are: {others}")
            for what, slots in (("alone", ["{target}"]), ("together", ["{partner}", "{target}"])):
                template = getattr(kind, what)
                if _slots(template) != slots:
                    rule = f"{what} holds {' and '.join(slots)} once and no other braces"
                    raise ExpungeError(f"{rule}: {where} has {template!r}; correct the template")
            if fault := _fault([n for m in kind.members for n in (m.name, *m.synonyms)]):
                raise ExpungeError(f"a kind has members, each with names of its own: {where} has {fault}; correct the list")
        return self


def _slots(template: str) -> list[str]:
    """Whatever stands in braces in a template, and every stray brace, sorted."""
    return sorted(re.findall(r"\{[^{}]*\}|[{}]", template))


def _fault(names: list[str]) -> str | None:
    """What is wrong with the names of a kind's members."""
    folded = [n.casefold() for n in names]
    if not names:
        return "no members"
    if "" in names:
        return "an empty name"
    return next((f"{n!r} twice" for n in names if folded.count(n.casefold()) > 1), None)


def _kind(name: str, table: Any, source: str) -> Kind:
    try:
        table = _of(Mapping, table, "a table")
        members = tuple(_member(m) for m in _of(list | tuple, table["members"], "a list of members"))
        alone, together, partner = (_of(str, table[key], "a text") for key in ("alone", "together", "partner"))
        return Kind(name, alone, together, partner, members, _of(bool, table.get("harmless", True), "true or false"))
    except (KeyError, TypeError) as error:
        fault = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        rule = "a kind has the texts alone, together and partner and a list of members, each with a name"
        raise ExpungeError(f"{rule}: in {name} of {source}, {fault}; see `expunge show vocabulary`") from error


def _member(entry: Any) -> Member:
    if isinstance(entry, str):
        return Member(_tidy(entry))
    entry = _of(Mapping, entry, "a member")
    synonyms = (_of(str, s, "a synonym") for s in _of(list | tuple, entry.get("synonyms", []), "a list of synonyms"))
    return Member(
        _tidy(_of(str, entry["name"], "a name")), tuple(map(_tidy, synonyms)), _tidy(_of(str, entry.get("family", ""), "a family"))
    )


def _of(wanted: Any, value: Any, what: str) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"{value!r} is not {what}")
    return value


def _tidy(text: str) -> str:
    return " ".join(text.split())
