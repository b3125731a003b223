"""`expunge show NAME`: all there is to say of one thing."""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import Model, Vocabulary, run_folder

VOCABULARY = """A vocabulary lists the concepts of a world by kind: how each is put into a prompt, its other names, and its siblings.
Forget prompts, contexts and everything that is measured follow from it. The canvas and everyday pictures bring theirs; your
own is a TOML file with a table for each kind, given with --vocabulary:"""

SETTINGS = {
    "training": "expunge.methods.base:Training",
    "protocol": "expunge.evaluation.protocol:Protocol",
    "sampler": "expunge.models.sampling:Sampler",
    "gone": "expunge.evaluation.early_stopping:Gone",
    "budget": "expunge.audits.budget:Looks",
    "meter": "expunge.evaluation.information.interview:Meter",
}
"""Settings that are not a method's own, and the class of each."""


EXAMPLE = """\
[style]
alone = "{target} style"                     # names nothing but the concept
together = "a {partner} in {target} style"   # beside a member of the partner's kind
partner = "object"                           # its `alone` is the same prompt with the concept deleted
members = [
    { name = "Van Gogh", synonyms = ["Vincent van Gogh"], family = "post-impressionism" },
    { name = "Paul Cezanne", family = "post-impressionism" },   # of one family: siblings, hurt first
    "Gustav Klimt",                                             # neither synonyms nor siblings
]

[object]
alone = "a {target}"
together = "a {target} in {partner} style"
partner = "style"
members = ["dog", "house", { name = "sailing boat", synonyms = ["sailboat"] }]
"""


def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of a method, attack, metric, concept, scope, run or group of settings.", show_default=False),
    ],
    model: Model = None,
    vocabulary: Vocabulary = None,
) -> None:
    """Show one method, attack, metric, concept, scope or run.

    A method or an attack comes with its settings, a concept with its prompts, a run with its card. Also `training`, `protocol` and
    `sampler`, whose settings verbs share, and `vocabulary`, the file that concepts come from.
    """
    from expunge.attacks import ATTACKS
    from expunge.cli.screen import prose, say
    from expunge.evaluation.metrics import METRICS
    from expunge.methods import METHODS
    from expunge.models.families import FAMILIES
    from expunge.models.scopes import SCOPES

    metric = next((m for m in METRICS if m.casefold() == name.casefold()), None)
    if (card := run_folder(Path(name)) / "card.json").is_file():
        _run(card)
    elif name in METHODS or ":" in name:
        _method(name)
    elif name in ATTACKS:
        _attack(name)
    elif metric:
        say(f"{metric}: {METRICS[metric].title}", "")
        prose(type(METRICS[metric]).__doc__ or "")
    elif name in SETTINGS:
        _settings(name)
    elif name in SCOPES:
        added = f", of rank {SCOPES[name].rank}" if SCOPES[name].rank else ""
        say(f"{name}: {SCOPES[name].title}{added}")
        say(
            *(
                f"{family.family}: parameters whose name matches {family.scopes[SCOPES[name].of or name] or '(all)'}"
                for family in FAMILIES.values()
            )
        )
    elif name == "vocabulary":
        prose(VOCABULARY)
        say(EXAMPLE)
    else:
        _concept(name, model, vocabulary, (*METHODS, *ATTACKS, *METRICS, *SCOPES, *SETTINGS, "vocabulary"))


def _method(name: str) -> None:
    from expunge.cli.screen import prose, say
    from expunge.methods.base import Objective
    from expunge.methods.config import find_method

    cls = find_method(name)
    say(f"{name}: {cls.__name__}", "")
    prose(cls.__doc__ or "")
    _table("settings", cls)
    if issubclass(cls, Objective):
        from expunge.methods.base import Training

        _table("training", Training, cls.training)
    say(f"next: expunge unlearn {name} --help")


def _attack(name: str) -> None:
    from expunge.attacks import ATTACKS
    from expunge.cli.screen import prose, say

    cls = ATTACKS[name]
    say(f"{name}: {cls.__name__}; the attacker has {cls.threat}", "")
    prose(cls.__doc__ or "")
    _table("settings, as a budget has them", cls, flags=False)
    say(f"next: expunge audit RUN --attack {name}")


def _settings(name: str) -> None:
    import importlib

    from expunge.cli.screen import prose

    module, _, attribute = SETTINGS[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    prose(cls.__doc__ or "")
    _table("settings", cls, flags=name == "training")


def _table(title: str, cls: type, defaults: object = None, flags: bool = True) -> None:
    from expunge.cli.fields import settings_of
    from expunge.cli.screen import table

    rows = [
        (s.flag if flags else s.name, " ".join(filter(None, (s.metavar, s.bounds))), s.shown_default, s.about)
        for s in settings_of(cls, defaults)
    ]
    table(title, ("setting", "takes", "default", "what it does"), rows)


def _concept(name: str, model: str | None, file: str | None, others: tuple[str, ...]) -> None:
    """Prints the concept, looked up in the vocabulary that was named, else in the built-in ones; `others` are valid names too."""
    from expunge.cli.request import vocabulary_named
    from expunge.cli.screen import nearest
    from expunge.concepts.concept import Concept
    from expunge.errors import ExpungeError

    worlds = [vocabulary_named(v, model or "") for v in ([file] if file or model else ["canvas", "general"])]
    for world in worlds:
        with contextlib.suppress(ExpungeError):  # not in this one
            if world.find((concept := Concept.find(name, world)).target):
                return _describe(concept)
    known = [*others, *(n for world in worlds for n in world.names)]
    raise ExpungeError(
        f"there is nothing called {name!r}{nearest(name, known)}; see `expunge ls methods|attacks|metrics|concepts|scopes|runs`"
    )


def _describe(concept: Any) -> None:
    from expunge.cli.screen import say, table
    from expunge.concepts.concept import PROBES

    other = [n for n in (concept.member.name, *concept.member.synonyms) if n != concept.target]
    say(f"{concept.target}: a concept of the kind {concept.kind}", f"other names  {', '.join(other) or 'none'}")
    say(f"siblings     {', '.join(m.name for m in concept.siblings) or 'none'}", "")
    columns = ("prompts", "number", "what they are", "for example")
    rows = [(n, str(len(p)), PROBES[n], "; ".join(repr(one.prompt) for one in p[:3])) for n, p in concept.probes().items()]
    table("what is measured", columns, rows, numbers=("number",))
    forget = [p.prompt for p in concept.forget()]
    table(
        "what is forgotten",
        columns,
        [("forget", str(len(forget)), "each name with each partner, and alone", "; ".join(map(repr, forget[:3])))],
    )


def _run(card: Path) -> None:
    from expunge.cli.screen import table
    from expunge.errors import ExpungeError

    try:
        about = json.loads(card.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExpungeError(f"a run's card is JSON: {card}: {error}; repeat its `expunge unlearn` in another folder") from error
    rows = [(k, json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else str(v)) for k, v in about.items()]
    table(str(card.parent), ("", ""), rows)
