"""What to remove, how it is spoken of, and the prompts that tell whether it is gone and what else was hurt."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from expunge.concepts.vocabulary import Kind, Member, Vocabulary
from expunge.errors import ExpungeError
from expunge.names import closest, nearest

PROBES: dict[str, str] = {
    "target": "the concept itself, alone and with every partner",
    "synonyms": "the concept under its other names",
    "siblings": "its nearest neighbours: the other members of its family",
    "same_domain": "every other member of its kind",
    "cross_domain": "the partners alone, which never mention the concept's kind",
    "null": "the empty prompt",
}

NEARLY = 0.75
"""The likeness (of `difflib`, 0 to 1) from which an unknown name is taken for a misspelt one."""


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
    siblings: tuple[str, ...] = ()
    """Those of `marginals` whose member is of the concept's own family."""
    concept: str = ""
    """The concept's target, which tells the prompts of several concepts apart."""

    @property
    def is_bare(self) -> bool:
        """Whether nothing stands beside the concept."""
        return not self.context


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
    """What the concept becomes, for methods that map it onto something (CA, f-DMU, UCE, SPM); None: nothing of its kind."""
    removed: tuple["Concept", ...] = ()
    """Other concepts that are removed with it, or were before it: none of them stands in for it, is retained or is in its prompts."""

    @classmethod
    def find(
        cls, target: str, vocabulary: Vocabulary, synonyms: tuple[str, ...] | str = (), anchor: str | None = None, kind: str | None = None
    ) -> "Concept":
        """Looks `target` up, as it stands or without the words that its kind's template adds ("neon style" is "neon").

        A name that an open vocabulary does not hold becomes a concept of its own of `kind`, or, when nothing in the vocabulary is
        spelt nearly like it, of the kind whose template it fits. A closed vocabulary takes no new names.

        Raises:
            ExpungeError: empty words; an unknown kind; a name that the vocabulary does not hold.
        """
        named = (synonyms,) if isinstance(synonyms, str) else synonyms  # a text is one name, and not its letters
        target, synonyms = _words(target, "target"), tuple(_words(s, "synonym") for s in named)
        if kind is not None and kind not in vocabulary.kinds:
            raise ExpungeError(f"a kind is one of {', '.join(vocabulary.kinds)}: {kind!r} is none{nearest(kind, vocabulary.kinds)}")
        kinds = [vocabulary.kinds[kind]] if kind else list(vocabulary.kinds.values())
        chosen, name = cls._looked_up(target, vocabulary, kinds, kind is not None)

        def bare(text: str) -> str:
            return chosen.inside(text) or text

        given = {n.casefold(): n for n in map(bare, synonyms)}
        given.pop(name.casefold(), None)
        return cls(name, chosen.name, vocabulary, tuple(given.values()), None if anchor is None else bare(_words(anchor, "anchor")))

    @staticmethod
    def _looked_up(target: str, vocabulary: Vocabulary, kinds: list[Kind], is_said: bool) -> tuple[Kind, str]:
        """The kind and the name that `target` means."""
        for kind in kinds:
            for name in (target, kind.inside(target)):
                if name and (member := kind.find(name)):
                    return kind, next(n for n in (member.name, *member.synonyms) if n.casefold() == name.casefold())
        if not is_said and not vocabulary.closed and (held := next(filter(None, (k.beside(target) for k in kinds)), None)):
            raise ExpungeError(f"a concept is a name and no whole prompt: {target!r} holds {held!r}; give --target {held!r}")
        fitting = [(k, inside) for k in kinds if (inside := k.inside(target)) and inside != target]
        kind, name = fitting[0] if fitting else (kinds[0], target)
        is_new = is_said or (bool(fitting) and closest(name, vocabulary.names, NEARLY) is None)
        if vocabulary.closed or not is_new:
            # Where any name may be new, one that is only a little alike would mislead.
            hint = nearest(name, vocabulary.names, 0.5 if vocabulary.closed else NEARLY)
            listed = "`expunge ls concepts`" if vocabulary.closed else "`expunge ls concepts --vocabulary general` (or your file)"
            way = "" if vocabulary.closed else f", or say what it is with --kind {'|'.join(vocabulary.kinds)}"
            raise ExpungeError(f"a concept is one of the vocabulary: {target!r} is not{hint}; see {listed}{way}")
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
    def identity(self) -> tuple[str, str]:
        """Kind and name: equal for the same concept by whatever name and however told."""
        return self.kind, self.member.name.casefold()

    @property
    def parts(self) -> tuple["Concept", ...]:
        """The concepts that it is made of: itself. Where there may be `Several`, work goes over these."""
        return (self,)

    @property
    def names(self) -> tuple[str, ...]:
        """The words to erase."""
        return (self.target, *self.synonyms)

    @property
    def known(self) -> tuple[str, ...]:
        """Every name of it, those that are probed and not erased included."""
        return tuple(dict.fromkeys((*self.names, self.member.name, *self.member.synonyms)))

    @property
    def by_every_name(self) -> "Concept":
        """The same, all of its known names among those to erase."""
        return replace(self, synonyms=self.known[1:])

    @cached_property
    def gone(self) -> re.Pattern[str] | None:
        """Finds the names of the `removed` concepts in a text."""
        return naming([n for c in self.removed for n in c.known]) if self.removed else None

    def _spared(self, members: Iterable[Member]) -> tuple[Member, ...]:
        """Those that no removed concept is."""
        return tuple(m for m in members if not (self.gone and any(self.gone.search(n) for n in (m.name, *m.synonyms))))

    @cached_property
    def partners(self) -> tuple[Member, ...]:
        """The members that its prompts put it beside."""
        return self._spared(self._partners.members)

    @cached_property
    def others(self) -> tuple[Member, ...]:
        """Every other member of its kind, where they may stand in for it and should survive it."""
        own = {n.casefold() for n in self.names}
        rest = (m for m in self._kind.members if m != self.member and not own & {n.casefold() for n in (m.name, *m.synonyms)})
        return self._spared(rest) if self._kind.harmless else ()

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
            for partner in self.partners:
                context = self._partners.alone.format(target=partner.name)
                filled = tuple(kind.together.format(target=m.name, partner=partner.name) for m in self.others)
                near = tuple(kind.together.format(target=m.name, partner=partner.name) for m in self.siblings)
                anchor = kind.together.format(target=self.anchor, partner=partner.name) if self.anchor else context
                prompts.append(
                    ForgetPrompt(kind.together.format(target=name, partner=partner.name), context, filled, anchor, near, self.target)
                )
            filled, near = (tuple(kind.alone.format(target=m.name) for m in members) for members in (self.others, self.siblings))
            anchor = kind.alone.format(target=self.anchor) if self.anchor else ""
            prompts.append(ForgetPrompt(kind.alone.format(target=name), "", filled, anchor, near, self.target))
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
                    for p in self.partners
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
            "cross_domain": [ProbePrompt(self._partners.alone.format(target=p.name), {own.partner: p.name}) for p in self.partners],
            "null": [ProbePrompt("", {})],
        }


def naming(names: Iterable[str]) -> re.Pattern[str]:
    """Finds any of `names` in a text, as words of their own."""
    return re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names), re.IGNORECASE)


def _words(text: str, what: str) -> str:
    if not text.strip():
        raise ExpungeError(f"a {what} has words: {text!r} has none; name what to remove, for example --target 'Van Gogh style'")
    return " ".join(text.split())
