"""A concept: its names, its forget and retain prompts, and the prompts that evaluate its removal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from expunge.concepts.name_set import NameSet
from expunge.concepts.new_names import refuse_list, refuse_member_in
from expunge.concepts.vocabulary import Kind, Member, Vocabulary
from expunge.errors import ExpungeError
from expunge.names import closest, folded, suggest

PROBES: dict[str, str] = {
    "target": "the concept, alone and with every partner",
    "synonyms": "the concept by its other names",
    "siblings": "the other members of the concept's family",
    "same_domain": "the members of the concept's kind outside its family",
    "cross_domain": "the partners alone, without any member of the concept's kind",
    "null": "the empty prompt",
}
"""The prompt sets of an evaluation, with what each contains."""

MISSPELT = 0.75
"""An unknown name whose similarity to a known one (`difflib`, 0 to 1) reaches this value is treated as misspelt."""


@dataclass(frozen=True)
class ForgetPrompt:
    """A prompt that contains the concept, with versions of the same prompt without it."""

    prompt: str
    context: str
    """The prompt with the concept deleted."""
    marginals: tuple[str, ...]
    """The prompt with the concept replaced by each other member of its kind."""
    anchor: str
    """The prompt with the concept replaced by its anchor; the context if it has no anchor."""
    siblings: tuple[str, ...] = ()
    """The subset of `marginals` whose member belongs to the concept's family."""
    concept: str = ""
    """The target of the concept, which identifies it where prompts of several concepts are mixed."""

    @property
    def is_bare(self) -> bool:
        """Whether the prompt contains the concept alone, without a partner."""
        return not self.context


@dataclass(frozen=True)
class ProbePrompt:
    """A prompt and the labels, by kind, that a judge should give to its image."""

    prompt: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Concept:
    """A concept to remove.

    Build it with `Concept.find`, which fills in the kind and checks the spelling.
    """

    target: str
    """The name of the concept as it fills `{target}` in a prompt template: "Van Gogh", not "Van Gogh style"."""
    kind: str
    """The name of its kind in the vocabulary, such as "style"."""
    vocabulary: Vocabulary
    """The vocabulary that gives the prompt templates, partners and siblings."""
    synonyms: tuple[str, ...] = ()
    """Further names to erase. Synonyms that the vocabulary knows and that are not given here are evaluated but not erased."""
    anchor: str | None = None
    """What the concept's prompts should give instead, for methods that use an anchor (CA, f-DMU, UCE, SPM); None: the context, and for a
    class the next one, as in SalUn's code."""
    removed: tuple["Concept", ...] = ()
    """Other concepts that the same run removes or an earlier one removed. They are left out of its prompts, marginals and retain set."""

    @classmethod
    def find(
        cls, target: str, vocabulary: Vocabulary, synonyms: tuple[str, ...] | str = (), anchor: str | None = None, kind: str | None = None
    ) -> "Concept":
        """Find a concept in a vocabulary, or make a new one.

        `target` may contain the words of its kind's template: "neon style" finds "neon". In an open vocabulary an unknown name becomes a
        new concept if `kind` is given, or if it fits a kind's template and is not spelt like a known name. A closed vocabulary accepts no
        new names.

        Args:
            target: The name, or the prompt that contains nothing else.
            vocabulary: The vocabulary to search.
            synonyms: Further names to erase; a string is one name.
            anchor: What the concept should become.
            kind: The kind to search; default all.

        Raises:
            ExpungeError: a name is empty; the kind is unknown; the vocabulary does not contain the name; `target` is a whole prompt, or a
                new name that contains the name of a member of its kind or of its partner's; `target` or a synonym is a list of names.
        """
        named = (synonyms,) if isinstance(synonyms, str) else synonyms  # a string is one name, not a sequence of letters
        target, synonyms = _words(target, "target"), tuple(_words(s, "synonym") for s in named)
        if kind is not None and kind not in vocabulary.kinds:
            raise ExpungeError(f"{kind!r} is not a kind of concept.", rule="unknown-kind", value=kind, hint=suggest(kind, vocabulary.kinds))
        kinds = [vocabulary.kinds[kind]] if kind else list(vocabulary.kinds.values())
        chosen, name = cls._look_up(target, vocabulary, kinds, kind is not None)
        for synonym in synonyms:
            if not chosen.find(synonym):
                refuse_list(synonym, "synonym")

        def bare(text: str) -> str:
            return chosen.extract_target(text) or text

        given = {n.casefold(): n for n in map(bare, synonyms)}
        given.pop(name.casefold(), None)
        return cls(name, chosen.name, vocabulary, tuple(given.values()), None if anchor is None else bare(_words(anchor, "anchor")))

    @staticmethod
    def _look_up(target: str, vocabulary: Vocabulary, kinds: list[Kind], has_kind: bool) -> tuple[Kind, str]:
        """The kind and the name that `target` means."""
        for kind in kinds:
            for name in (target, kind.extract_target(target)):
                if name and (member := kind.find(name)):
                    # As the vocabulary writes it; another spelling, by accents, is another text for the text encoder.
                    alike = (n for n in (member.name, *member.synonyms) if n.casefold() == name.casefold())
                    return kind, next(alike, member.name if kind.numbered else name)
        refuse_list(target, "target")
        if not has_kind and not vocabulary.closed and (inner := next(filter(None, (k.extract_member(target) for k in kinds)), None)):
            raise ExpungeError(
                f"{target!r} is a prompt that contains {inner!r}, not the name of a concept.",
                rule="prompt-as-target",
                value=target,
                hint=f"Try --target {inner!r}.",
            )
        fitting = [(k, name) for k in kinds if (name := k.extract_target(target)) and name != target]
        kind, name = fitting[0] if fitting else (kinds[0], target)
        if vocabulary.closed:
            hint = suggest(name, vocabulary.names, "`expunge ls concepts`", cutoff=0.5)
            raise ExpungeError(f"{target!r} is not a concept of the vocabulary.", rule="unknown-concept", value=target, hint=hint)
        if not has_kind and (not fitting or closest(name, vocabulary.names, MISSPELT)):
            # A new name is allowed here, so only a very similar known name is suggested.
            known = suggest(name, vocabulary.names, "`expunge ls concepts --vocabulary general` (or your file)", cutoff=MISSPELT)
            hint = known + f" For a concept that the vocabulary does not list, add --kind {'|'.join(vocabulary.kinds)}."
            raise ExpungeError(f"{target!r} is not a concept of the vocabulary.", rule="unknown-concept", value=target, hint=hint)
        refuse_member_in(name, [*kind.names, *(vocabulary.kinds[kind.partner].names if kind.partner else ())])
        return kind, name

    @cached_property
    def _kind(self) -> Kind:
        return self.vocabulary.kinds[self.kind]

    @cached_property
    def _partners(self) -> Kind:
        return self.vocabulary.kinds[self._kind.partner] if self._kind.partner else Kind("", "{target}")

    @cached_property
    def member(self) -> Member:
        """The vocabulary's entry for the concept, or a new entry without synonyms or family."""
        return self._kind.find(self.target) or Member(self.target)

    @property
    def identity(self) -> tuple[str, str]:
        """Kind and main name, equal for two concepts that are the same one by different names."""
        return self.kind, self.member.name.casefold()

    @property
    def parts(self) -> tuple["Concept", ...]:
        """The concept itself, so that code can iterate over the parts of a `Concept` and of `Several` alike."""
        return (self,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names to erase: the target and the given synonyms."""
        return (self.target, *self.synonyms)

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Every known name, including synonyms that are evaluated but not erased."""
        return tuple(dict.fromkeys((*self.names, self.member.name, *self.member.synonyms)))

    @property
    def by_every_name(self) -> "Concept":
        """The concept with all its known names to erase."""
        return replace(self, synonyms=self.known[1:])

    @cached_property
    def gone(self) -> NameSet | None:
        """The names of the `removed` concepts; None if there are none."""
        return NameSet(n for c in self.removed for n in c.known) if self.removed else None

    def _without_removed(self, members: Iterable[Member]) -> tuple[Member, ...]:
        """The members that are not removed concepts."""
        return tuple(m for m in members if not (self.gone and any(self.gone.search(n) for n in (m.name, *m.synonyms))))

    @cached_property
    def partners(self) -> tuple[Member, ...]:
        """The members of the partner kind that its prompts combine it with."""
        return self._without_removed(self._partners.members)

    @cached_property
    def others(self) -> tuple[Member, ...]:
        """Every other member of its kind, or none if the kind is not `harmless`. They are the marginals, and are retained."""
        own = {folded(n) for n in self.names}
        rest = (m for m in self._kind.members if m != self.member and not own & {folded(n) for n in (m.name, *m.synonyms)})
        return self._without_removed(rest) if self._kind.harmless else ()

    @property
    def _replacement(self) -> str | None:
        """The anchor of its prompts without partners."""
        if self.anchor or self._kind.partner or not self.others:
            return self.anchor
        at = self._kind.members.index(self.member)
        return next((m for m in self._kind.members[at + 1 :] if m in self.others), self.others[0]).name

    @property
    def beside(self) -> str:
        """The prompt template of its partners alone; without partners, of the name itself."""
        return self._partners.alone

    @cached_property
    def siblings(self) -> tuple[Member, ...]:
        """The other members of its family."""
        return tuple(m for m in self.others if m.family and m.family == self.member.family)

    @property
    def bare(self) -> tuple[str, ...]:
        """The prompts that contain the concept alone, one for each name to erase."""
        return tuple(self._kind.alone.format(target=n) for n in self.names)

    def forget(self) -> list[ForgetPrompt]:
        """The prompts to forget: each name with each partner, and each name alone."""
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
            anchor = kind.alone.format(target=self._replacement) if self._replacement else ""
            prompts.append(ForgetPrompt(kind.alone.format(target=name), "", filled, anchor, near, self.target))
        return prompts

    def retain(self) -> list[str]:
        """The retain prompts: every other member with each partner and alone, the partners alone, and the empty prompt."""
        probes = self.probes()
        return [p.prompt for name in ("siblings", "same_domain", "cross_domain", "null") for p in probes[name]]

    def probes(self) -> dict[str, list[ProbePrompt]]:
        """The prompt sets of `PROBES`; each prompt has the labels that a judge should give to its image."""
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


def _words(text: str, what: str) -> str:
    if not text.strip():
        raise ExpungeError(
            f"The {what} {text!r} has no words.", rule="empty-name", value=text, hint="Try a name, for example --target 'Van Gogh style'."
        )
    return " ".join(text.split())
