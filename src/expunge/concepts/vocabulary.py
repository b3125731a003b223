"""Vocabularies: the concepts that a model knows, and the prompt templates that contain them.

A vocabulary lists kinds of concepts (styles, objects, ...). Each kind has a prompt template that contains the concept alone, a template
that combines it with a partner of another kind, and members in families of siblings. Forget prompts, retain prompts and probes are all
made from it. A user's own vocabulary is one TOML file in the form of `general.toml` beside this file.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from expunge.concepts.csv_rows import TABLE, read_rows
from expunge.concepts.new_names import refuse_list
from expunge.errors import ExpungeError
from expunge.names import folded, suggest

FLAGS = {"harmless": True, "numbered": False}
"""The keys of a kind that are true or false, with their defaults."""
EXAMPLE = "Try the form that `expunge show vocabulary` prints."
"""The hint of an error about the form of a vocabulary."""


@dataclass(frozen=True)
class Member:
    """One concept of a vocabulary."""

    name: str
    synonyms: tuple[str, ...] = ()
    family: str = ""
    """The family; members of one family are siblings, which erasure damages first. Empty: no family."""


@dataclass(frozen=True)
class Kind:
    """A kind of concepts with its prompt templates."""

    name: str
    """The name of the kind, such as "style"."""
    alone: str
    """The template of a prompt that contains only the concept, for example "a {target}"."""
    together: str = ""
    """The template of a prompt that contains the concept and a partner, with `{target}` and `{partner}`; empty without a partner."""
    partner: str = ""
    """The kind of the partners; its `alone` template gives the context, the prompt with the concept deleted. Empty: every prompt contains
    one concept alone, as the classes of a class-conditional model."""
    members: tuple[Member, ...] = ()
    harmless: bool = True
    """Whether other members may replace a removed one and should be retained. False for unsafe content: there the marginal is the context,
    and no other member is retained or evaluated."""
    numbered: bool = False
    """Whether a member may be named by its place too, from 0, as the classes of a class-conditional model."""

    @property
    def names(self) -> list[str]:
        """The names of all members, with synonyms."""
        return [n for m in self.members for n in (m.name, *m.synonyms)]

    def find(self, name: str) -> Member | None:
        """The member with this main name or synonym, in any case and with or without accents, or with this number."""
        if found := next((m for m in self.members if folded(name) in (folded(n) for n in (m.name, *m.synonyms))), None):
            return found
        return self.members[int(name)] if self.numbered and name.isdecimal() and int(name) < len(self.members) else None

    def extract_target(self, text: str) -> str | None:
        """The text that fills `{target}` of `alone` if `text` fits that template, in any case; else None."""
        before, after = self.alone.split("{target}")
        if text.casefold().startswith(before.casefold()) and text.casefold().endswith(after.casefold()):
            return text[len(before) : len(text) - len(after)].strip() or None
        return None

    def extract_member(self, text: str) -> str | None:
        """The name of the member that fills `{target}` of `together` if `text` fits that template, in any case; else None."""
        pattern = re.escape(self.together).replace(r"\{target\}", "(?P<target>.+)").replace(r"\{partner\}", ".+")
        found = re.fullmatch(pattern, text, re.IGNORECASE)
        names = {n.casefold(): n for n in self.names} if found else {}
        return names.get(found["target"].casefold()) if found else None


@dataclass(frozen=True)
class Vocabulary:
    """A set of concepts by kind.

    Build it with `Vocabulary.canvas`, `Vocabulary.general`, `Vocabulary.load` or `Vocabulary.from_tables`.
    """

    kinds: Mapping[str, Kind]
    """The kinds by name, in the order in which a name is searched for."""
    closed: bool = False
    """Whether the model knows no other concepts, so that an unknown name is an error."""

    def find(self, name: str) -> tuple[Kind, Member] | None:
        """The first kind and member with this main name or synonym, in any case; None if there is none."""
        return next(((kind, member) for kind in self.kinds.values() if (member := kind.find(name))), None)

    @property
    def names(self) -> list[str]:
        """The names of all members, with synonyms."""
        return [name for kind in self.kinds.values() for name in kind.names]

    @classmethod
    @cache
    def canvas(cls) -> "Vocabulary":
        """The vocabulary of the canvas, the small model that comes with the package. It is closed."""
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
    @cache
    def general(cls) -> "Vocabulary":
        """Objects, artists, people and scenes, for models that were trained on photographs and paintings. It is open."""
        return cls.load(Path(__file__).with_name("general.toml"))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary from a TOML or CSV file.

        TOML has a table for each kind: `[style]` with `alone`, `together`, `partner` and
        `members = [{name=..., synonyms=[...], family=...}, ...]` (a string is a member without synonyms); `partner = ""` is for a
        kind whose prompts contain nothing else, and needs no `together`. `closed = true` before the tables refuses names that are not
        listed. CSV has the columns
        `kind,name,synonyms,family`, with synonyms separated by `|`; commas, semicolons or tabs may separate the columns, in UTF-8 or
        UTF-16. It keeps the templates of the general vocabulary and replaces the members of the kinds that it lists.

        Raises:
            ExpungeError: the file cannot be read, or its content is not a vocabulary.
        """
        try:
            if Path(path).suffix.lower() == ".csv":
                return cls.general()._replace_members(read_rows(Path(path)), str(path))
            text = Path(path).read_text(encoding="utf-8-sig")  # some editors begin a file with a byte-order mark
            return cls.from_tables(tomllib.loads(text), str(path))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise ExpungeError(
                f"{str(path)!r} cannot be read as a vocabulary: {error}.", rule="unreadable-vocabulary", value=str(path), hint=EXAMPLE
            ) from error

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], source: str = "vocabulary") -> "Vocabulary":
        """Make a vocabulary from parsed TOML, which has a table for each kind.

        Raises:
            ExpungeError: a table lacks a key, a template has other slots, or a member has no name or the name of another.
        """
        closed, tables = tables.get("closed") is True, {k: v for k, v in tables.items() if k != "closed" or not isinstance(v, bool)}
        if not tables:
            raise ExpungeError(
                f"The vocabulary {source} is empty. It needs a table for each kind.", rule="empty-vocabulary", value=source, hint=EXAMPLE
            )
        return cls({name: _read_kind(name, table, source) for name, table in tables.items()}, closed=closed)._check(source)

    def _replace_members(self, rows: Iterable[tuple[str, Mapping[str, str]]], source: str) -> "Vocabulary":
        listed: dict[str, list[Member]] = {}
        kinds = {kind.casefold(): kind for kind in self.kinds}
        for where, row in rows:
            name, kind = row["name"], kinds.get(row["kind"].casefold())
            if kind is None:
                raise ExpungeError(
                    f"{where} has the unknown kind {row['kind']!r}.",
                    rule="unknown-kind",
                    value=row["kind"],
                    hint=suggest(row["kind"], self.kinds),
                )
            if not name:
                raise ExpungeError(f"{where} has no name.", rule="empty-name", value=name, hint="Try a name in the column `name`.")
            synonyms = tuple(s for s in map(_tidy, row["synonyms"].split("|")) if s)
            refuse_list(name, f"name in l{where[1:]},", "a row for each name")
            for synonym in synonyms:
                refuse_list(synonym, f"synonym in l{where[1:]},", "`|` between synonyms")
            listed.setdefault(kind, []).append(Member(name, synonyms, row["family"]))
        if not listed:
            raise ExpungeError(f"The vocabulary {source} has no rows.", rule="empty-vocabulary", value=source, hint=f"Try {TABLE}.")
        replaced = {n: replace(k, members=tuple(listed.get(n, k.members))) for n, k in self.kinds.items()}
        return replace(self, kinds=replaced)._check(source)

    def _check(self, source: str) -> "Vocabulary":
        for kind in self.kinds.values():
            where = f"the kind {kind.name!r} of {source}"
            if kind.partner and (kind.partner not in self.kinds or kind.partner == kind.name):
                others = [n for n in self.kinds if n != kind.name]
                raise ExpungeError(
                    f"The partner of {where} is {kind.partner!r}, which is not another kind of the vocabulary.",
                    rule="unknown-partner",
                    value=kind.partner,
                    hint=suggest(kind.partner, others) if others else "Try a second kind to take partners from.",
                )
            for what, slots in (("alone", ["{target}"]), ("together", ["{partner}", "{target}"] if kind.partner else [])):
                template = getattr(kind, what)
                if _slots(template) != slots:
                    needed = " and ".join(slots) or "nothing, for the kind has no partner,"
                    raise ExpungeError(
                        f"The template {what} of {where} is {template!r}. It must contain {needed} once and no other braces.",
                        rule="invalid-template",
                        value=template,
                        hint=f"Try a template with {needed}.",
                    )
            if fault := _fault(kind.members):
                raise ExpungeError(
                    f"The kind {kind.name!r} of {source} has {fault}.",
                    rule="invalid-members",
                    value=fault,
                    hint="Try members that each have names of their own.",
                )
        return self


def _slots(template: str) -> list[str]:
    """The braces of a template with their content, and unpaired braces, sorted."""
    return sorted(re.findall(r"\{[^{}]*\}|[{}]", template))


def _fault(members: Sequence[Member]) -> str | None:
    """What is wrong with the names of a kind's members; None if nothing is."""
    if not members:
        return "no members"
    owners: dict[str, Member] = {}
    for member in members:
        names = (member.name, *member.synonyms)
        if "" in names:
            return "a member with an empty name"
        if twice := next((n for n in names if [m.casefold() for m in names].count(n.casefold()) > 1), None):
            return f"the name {twice!r} twice"
        for name in names:
            if (owner := owners.setdefault(folded(name), member)) is not member:
                other = next(n for n in (owner.name, *owner.synonyms) if folded(n) == folded(name))
                return f"the name {other!r} twice" if other.casefold() == name.casefold() else f"the name {name!r} beside {other!r}"
    return None


def _read_kind(name: str, table: Any, source: str) -> Kind:
    try:
        table = _expect(Mapping, table, "a table")
        members = tuple(_read_member(m) for m in _expect(list | tuple, table["members"], "a list of members"))
        alone = _expect(str, table["alone"], "a text")
        has_partner = table.get("partner", "unnamed") != ""
        together, partner = (_expect(str, table[key], "a text") if has_partner else "" for key in ("together", "partner"))
        harmless, numbered = (_expect(bool, table.get(key, default), "true or false") for key, default in FLAGS.items())
        return Kind(name, alone, together, partner, members, harmless, numbered)
    except (KeyError, TypeError) as error:
        fault = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        needed = "A kind has the texts alone, together and partner and a list of members with names"
        raise ExpungeError(
            f"The kind {name!r} of {source} is invalid: {fault}. {needed}.", rule="invalid-kind", value=name, hint=EXAMPLE
        ) from error


def _read_member(entry: Any) -> Member:
    if isinstance(entry, str):
        return Member(_tidy(entry))
    entry = _expect(Mapping, entry, "a member")
    synonyms = (_expect(str, s, "a synonym") for s in _expect(list | tuple, entry.get("synonyms", []), "a list of synonyms"))
    return Member(
        _tidy(_expect(str, entry["name"], "a name")), tuple(map(_tidy, synonyms)), _tidy(_expect(str, entry.get("family", ""), "a family"))
    )


def _expect(wanted: Any, value: Any, what: str) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"{value!r} is not {what}")
    return value


def _tidy(text: str) -> str:
    return " ".join(text.split())
