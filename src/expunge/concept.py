"""What to remove, how it is spoken of, and the prompts that tell whether it is gone and what else was hurt.

A *vocabulary* lists kinds of concepts (styles, objects, ...), how each is put into a prompt alone and together with a partner
of another kind, and their members in families of siblings. Concepts, forget prompts and probes all follow from it, so a
user's own world is one TOML file (see `general.toml` beside this file).
"""

import csv
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from expunge.types import ExpungeError

PROBES: dict[str, str] = {
    "target": "the concept itself, alone and with every partner",
    "synonyms": "the concept under its other names",
    "siblings": "its nearest neighbours: the other members of its family",
    "same_domain": "every other member of its kind",
    "cross_domain": "the partners alone, which never mention the concept's kind",
    "null": "the empty prompt",
}


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
                return cls.general()._with_rows(list(csv.DictReader(text.splitlines())), path)
            return cls.from_tables(tomllib.loads(text), str(path))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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

    def _with_rows(self, rows: list[dict[str, Any]], source: Path) -> "Vocabulary":
        listed: dict[str, list[Member]] = {}
        for line, row in enumerate(rows, start=2):
            kind, name = ((row.get(column) or "").strip() for column in ("kind", "name"))
            if kind not in self.kinds or not name:
                raise ExpungeError(
                    f"a row has a kind ({', '.join(self.kinds)}) and a name: line {line} of {source} has {kind!r} and {name!r}; mend it"
                )
            synonyms = tuple(s.strip() for s in (row.get("synonyms") or "").split("|") if s.strip())
            listed.setdefault(kind, []).append(Member(name, synonyms, (row.get("family") or "").strip()))
        if not listed:
            raise ExpungeError(f"a CSV vocabulary has rows under kind,name,synonyms,family: {source} has none; see docs/own-model.md")
        kinds = {n: replace(k, members=tuple(listed.get(n, k.members))) for n, k in self.kinds.items()}
        return Vocabulary(kinds)._checked(str(source))

    def _checked(self, source: str) -> "Vocabulary":
        for kind in self.kinds.values():
            where = f"{kind.name} in {source}"
            if kind.partner not in self.kinds or kind.partner == kind.name:
                raise ExpungeError(f"a kind's partner is another kind: {where} has {kind.partner!r}; have {', '.join(self.kinds)}")
            slots = [_slots(template) for template in (kind.alone, kind.together)]
            if slots != [["target"], ["partner", "target"]]:
                raise ExpungeError(
                    f"alone holds {{target}} once, together {{target}} and {{partner}} once: not so for {where}; mend the template"
                )
            names = [n.casefold() for m in kind.members for n in (m.name, *m.synonyms)]
            if not names or "" in names or len(set(names)) < len(names):
                odd = next((n for n in names if names.count(n) > 1), "none")
                raise ExpungeError(f"a kind has members, each with names of its own: {where} has {odd!r} twice or empty; mend the list")
        return self


def _slots(template: str) -> list[str]:
    """The names of a template's slots, sorted; `["?"]` for one that is no template."""
    try:
        return sorted(name for _, name, _, _ in Formatter().parse(template) if name is not None)
    except ValueError:
        return ["?"]


def _kind(name: str, table: Any, source: str) -> Kind:
    try:
        members = tuple(_member(m) for m in table["members"])
        alone, together, partner = (_text(table[key]) for key in ("alone", "together", "partner"))
        return Kind(name, alone, together, partner, members, bool(table.get("harmless", True)))
    except (KeyError, TypeError, ValueError) as error:
        raise ExpungeError(
            f"a kind has the texts alone, together and partner and a list of members: {name} in {source} has not ({error}); "
            "see `expunge show vocabulary`"
        ) from error


def _member(entry: Any) -> Member:
    if isinstance(entry, str):
        return Member(entry.strip())
    synonyms = entry.get("synonyms", ())
    if not isinstance(synonyms, list | tuple):
        raise TypeError(f"synonyms are a list, not {synonyms!r}")
    return Member(_text(entry["name"]).strip(), tuple(_text(s).strip() for s in synonyms), _text(entry.get("family", "")))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


@dataclass(frozen=True)
class ForgetPrompt:
    """A prompt that holds the concept, with what the same prompt is without it."""

    prompt: str
    context: str
    """The concept deleted."""
    marginals: tuple[str, ...]
    """Another member of the same kind in the concept's place, one prompt for each."""
    anchor: str
    """The anchor in the concept's place; without an anchor, the context."""


@dataclass(frozen=True)
class ProbePrompt:
    """A prompt and what a judge should see in its picture, by kind."""

    prompt: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Concept:
    """A concept to remove.

    Build one with `Concept.find`, which fills in the kind and takes care of spelling.
    """

    target: str
    """Its name, as it stands in a prompt's slot: "Van Gogh", not "Van Gogh style"."""
    kind: str
    vocabulary: Vocabulary
    synonyms: tuple[str, ...] = ()
    """Other names to erase too. Names of it that are known but not given here are probed, not erased."""
    anchor: str | None = None
    """What the concept becomes, for methods that map it onto something (ESD with an anchor, UCE); None: nothing of its kind."""

    @classmethod
    def find(
        cls, target: str, vocabulary: Vocabulary, synonyms: tuple[str, ...] = (), anchor: str | None = None, kind: str | None = None
    ) -> "Concept":
        """Looks `target` up, as it stands or without the words that its kind's template adds ("neon style" is "neon").

        A name that an open vocabulary does not hold becomes a concept of its own of `kind`, or, when nothing in the vocabulary is
        spelt nearly like it, of the kind whose template it fits.

        Raises:
            ExpungeError: empty words; an unknown kind; a name that the vocabulary does not hold.
        """
        target, synonyms = _words(target, "target"), tuple(_words(s, "synonym") for s in synonyms)
        if kind is not None and kind not in vocabulary.kinds:
            raise ExpungeError(f"a kind is one of {', '.join(vocabulary.kinds)}: {kind!r} is none{_nearest(kind, vocabulary.kinds)}")
        kinds = [vocabulary.kinds[kind]] if kind else list(vocabulary.kinds.values())
        chosen, name = cls._looked_up(target, vocabulary, kinds, kind is not None)

        def bare(text: str) -> str:
            return _inside(chosen.alone, text) or text

        given = {n.casefold(): n for n in map(bare, synonyms)}
        given.pop(name.casefold(), None)
        return cls(name, chosen.name, vocabulary, tuple(given.values()), None if anchor is None else bare(_words(anchor, "anchor")))

    @staticmethod
    def _looked_up(target: str, vocabulary: Vocabulary, kinds: list[Kind], is_said: bool) -> tuple[Kind, str]:
        """The kind and the name that `target` means."""
        for kind in kinds:
            for name in (target, _inside(kind.alone, target)):
                if name and (member := kind.find(name)):
                    return kind, next(n for n in (member.name, *member.synonyms) if n.casefold() == name.casefold())
        fitting = [(k, inside) for k in kinds if (inside := _inside(k.alone, target)) and inside != target]
        kind, name = fitting[0] if fitting else (kinds[0], target)
        near = _nearest(name, vocabulary.names)
        if vocabulary.closed or (not is_said and (near or not fitting)):
            way = "" if vocabulary.closed else f"; or say what it is with --kind {'|'.join(vocabulary.kinds)}"
            raise ExpungeError(f"a concept is one of the vocabulary: {name!r} is not{near}; see `expunge ls concepts`{way}")
        return kind, name

    @cached_property
    def _kind(self) -> Kind:
        return self.vocabulary.kinds[self.kind]

    @cached_property
    def _partners(self) -> Kind:
        return self.vocabulary.kinds[self._kind.partner]

    @cached_property
    def member(self) -> Member:
        """Its entry in the vocabulary, or one of its own."""
        return self._kind.find(self.target) or Member(self.target)

    @property
    def names(self) -> tuple[str, ...]:
        """The words to erase."""
        return (self.target, *self.synonyms)

    @cached_property
    def others(self) -> tuple[Member, ...]:
        """Every other member of its kind, where they may stand in for it and should survive it."""
        own = {n.casefold() for n in self.names}
        rest = (m for m in self._kind.members if m != self.member and not own & {n.casefold() for n in (m.name, *m.synonyms)})
        return tuple(rest) if self._kind.harmless else ()

    @property
    def siblings(self) -> tuple[Member, ...]:
        return tuple(m for m in self.others if m.family and m.family == self.member.family)

    @property
    def bare(self) -> tuple[str, ...]:
        """The concept's prompts with nothing else in them."""
        return tuple(self._kind.alone.format(target=n) for n in self.names)

    def forget(self) -> list[ForgetPrompt]:
        """Every prompt to forget: each name with each partner, and each name alone."""
        kind, prompts = self._kind, []
        for name in self.names:
            for partner in self._partners.members:
                context = self._partners.alone.format(target=partner.name)
                filled = [kind.together.format(target=m.name, partner=partner.name) for m in self.others]
                anchor = kind.together.format(target=self.anchor, partner=partner.name) if self.anchor else context
                prompts.append(ForgetPrompt(kind.together.format(target=name, partner=partner.name), context, tuple(filled), anchor))
            filled = [kind.alone.format(target=m.name) for m in self.others]
            anchor = kind.alone.format(target=self.anchor) if self.anchor else ""
            prompts.append(ForgetPrompt(kind.alone.format(target=name), "", tuple(filled), anchor))
        return prompts

    def retain(self) -> list[str]:
        """Prompts that must survive: every other member with each partner and alone, the partners alone, and nothing."""
        probes = self.probes()
        return [p.prompt for name in ("siblings", "same_domain", "cross_domain", "null") for p in probes[name]]

    def probes(self) -> dict[str, list[ProbePrompt]]:
        """The prompt sets of `PROBES`, each prompt with the labels that its picture should be given."""
        own, member = self._kind, self.member

        def of(m: Member, names: tuple[str, ...]) -> list[ProbePrompt]:
            prompts = []
            for name in names:
                prompts.append(ProbePrompt(own.alone.format(target=name), {own.name: m.name}))
                prompts += [
                    ProbePrompt(own.together.format(target=name, partner=p.name), {own.name: m.name, own.partner: p.name})
                    for p in self._partners.members
                ]
            return prompts

        names = {n.casefold(): n for n in (*self.synonyms, member.name, *member.synonyms)}
        known = {n for folded, n in names.items() if folded != self.target.casefold()}
        siblings = self.siblings
        return {
            "target": of(member, (self.target,)),
            "synonyms": of(member, tuple(sorted(known))),
            "siblings": [p for m in siblings for p in of(m, (m.name,))],
            "same_domain": [p for m in self.others if m not in siblings for p in of(m, (m.name,))],
            "cross_domain": [
                ProbePrompt(self._partners.alone.format(target=p.name), {own.partner: p.name}) for p in self._partners.members
            ],
            "null": [ProbePrompt("", {})],
        }


def _words(text: str, what: str) -> str:
    if not text.strip():
        raise ExpungeError(f"a {what} has words: {text!r} has none; name what to remove, for example --target 'Van Gogh style'")
    return " ".join(text.split())


def _inside(template: str, text: str) -> str | None:
    """What fills `{target}` in `template` to give `text`: the inverse of `format`."""
    before, after = template.split("{target}")
    if text.casefold().startswith(before.casefold()) and text.casefold().endswith(after.casefold()):
        return text[len(before) : len(text) - len(after)].strip() or None
    return None


def _nearest(word: str, words: "Mapping | list[str]") -> str:
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" (nearest: {close[0]!r})" if close else ""
