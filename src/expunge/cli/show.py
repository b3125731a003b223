"""`expunge show NAME`: everything about one name, read without importing torch."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.declarations import read
from expunge.cli.options import Model, Vocabulary, find_run_folder, find_vocabulary
from expunge.cli.output import print_docstring, print_lines, print_table
from expunge.cli.presets import read_presets
from expunge.cli.settings_help import Setting, describe_method, settings_of
from expunge.errors import ExpungeError
from expunge.names import suggest

VOCABULARY = """A vocabulary lists concepts by kind: the prompt templates of each kind, and the synonyms and the family of each concept.
The prompts to forget, to retain and to measure follow from it. The canvas and general vocabularies are built in. A vocabulary of
your own is a TOML file with a table for each kind. Pass it with --vocabulary. `docs/how-to/vocabulary.md` explains it. For example:"""

EXAMPLE = """\
[style]
alone = "{target} style"                     # names only the concept
together = "a {partner} in {target} style"   # names the concept beside a member of the partner's kind
partner = "object"                           # its `alone` is the same prompt with the concept deleted
members = [
    { name = "Van Gogh", synonyms = ["Vincent van Gogh"], family = "post-impressionism" },
    { name = "Paul Cezanne", family = "post-impressionism" },   # members of one family are siblings
    "Gustav Klimt",                                             # neither synonyms nor siblings
]

[object]
alone = "a {target}"
together = "a {target} in {partner} style"
partner = "style"
members = ["dog", "house", { name = "sailing boat", synonyms = ["sailboat"] }]
"""

SETTINGS = {
    "training": "expunge.methods.base:Training",
    "protocol": "expunge.evaluation.protocol:Protocol",
    "sampler": "expunge.models.sampling:Sampler",
    "gone": "expunge.evaluation.early_stopping:Gone",
    "budget": "expunge.audits.budget:ReadingSettings",
    "meter": "expunge.evaluation.information.interview:Meter",
}
"""Settings that are not a method's own, and their classes."""

NAME = "Name of a method, attack, metric, judge, preset, concept, scope, run or group of settings."


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help=NAME, show_default=False)],
    model: Model = None,
    vocabulary: Vocabulary = None,
) -> None:
    """Describe one method, attack, metric, preset, concept or run.

    Shows a method's or an attack's settings, a concept's prompts and a run's card. NAME may also be a judge, a scope (the weights that are
    trained), a group of settings (training, protocol, sampler, gone, budget, meter) or vocabulary, which explains the vocabulary file.
    """
    from expunge.evaluation.metrics import METRICS, describe, described

    methods, attacks, presets = read("expunge.methods:METHODS"), read("expunge.attacks:ATTACKS"), read_presets()
    scopes, metrics = read("expunge.models.scopes:SCOPES"), described()
    metric = next((m for m in metrics if m.casefold() == name.casefold()), None)
    if (card := find_run_folder(Path(name)) / "card.json").is_file():
        _show_run(card)
    elif name in methods or ":" in name:
        _show_method(name)
    elif name in attacks:
        _show_attack(name, attacks[name])
    elif metric:
        print_lines(f"{metric}: {describe(metric).title}", "")
        print_docstring((type(METRICS[metric]).__doc__ if metric in METRICS else None) or describe(metric).meaning)
    elif name in presets:
        _show_preset(name, presets[name])
    elif name in (judges := read("expunge.evaluation.judge_settings:JUDGES")):
        print_docstring(judges[name].doc)
        _print_settings("settings", settings_of(judges[name]), flags=False)
        print_lines(f"next: expunge eval RUN --judge {name},SETTING=VALUE")
    elif name in SETTINGS:
        cls = read(SETTINGS[name])
        print_docstring(cls.doc)
        _print_settings("settings", settings_of(cls), flags=name == "training")
    elif name in scopes:
        scope = scopes[name]
        added = f", of rank {scope.rank}" if scope.rank else ""
        print_lines(f"{name}: trains {scope.title}{added}", "next: expunge unlearn METHOD --target WORDS --dry-run")
    elif name == "vocabulary":
        print_docstring(VOCABULARY)
        print_lines(EXAMPLE)
    else:
        _show_concept(name, model, vocabulary, (*methods, *attacks, *metrics, *presets, *scopes, *judges, *SETTINGS, "vocabulary"))


def _show_method(name: str) -> None:
    method = describe_method(name)
    print_lines(f"{name}: {method.class_name}", "")
    print_docstring(method.doc)
    _print_settings("settings", method.settings)
    if method.training is not None:
        _print_settings("training", method.training)
    print_lines(f"next: expunge unlearn {name} --help")


def _show_attack(name: str, attack: Any) -> None:
    print_lines(f"{name}: {attack.name}; the attacker has {attack.attribute('threat')}", "")
    print_docstring(attack.doc)
    _print_settings("settings, as in a budget file", settings_of(attack), flags=False)
    print_lines(f"next: expunge audit RUN --attack {name}")


def _show_preset(name: str, tables: dict[str, Any]) -> None:
    print_docstring(f"{name}: {tables['about']}.")
    methods = [*tables.get("before", ()), {key: tables[key] for key in ("method", "training") if key in tables}]
    for number, layer in enumerate(methods, 1):
        method = layer["method"]["name"]
        rows = [
            (table, key, str(value)) for table in ("method", "training") for key, value in layer.get(table, {}).items() if key != "name"
        ]
        title = f"method {number} of {len(methods)}: {method}" if len(methods) > 1 else f"method: {method}"
        print_table(title, ("table", "setting", "value"), rows)
    print_lines(f"next: expunge unlearn --config {name} --target WORDS")


def _print_settings(title: str, settings: Sequence[Setting], flags: bool = True) -> None:
    rows = [
        (s.flag if flags else s.name, " ".join(filter(None, (s.metavar or "yes|no", s.bounds))), s.shown_default, s.about) for s in settings
    ]
    print_table(title, ("setting", "type", "default", "what it does"), rows)


def _show_concept(name: str, model: str | None, file: str | None, others: Sequence[str]) -> None:
    """Describes a concept of the vocabulary that was given, else of the built-in ones.

    Raises:
        ExpungeError: No vocabulary has the concept, and none of `others`, the names of anything else, is meant either.
    """
    from expunge.concepts.concept import Concept

    vocabularies = [find_vocabulary(v, model or "") for v in ([file] if file or model else ["canvas", "general"])]
    for vocabulary in vocabularies:
        with contextlib.suppress(ExpungeError):  # the concept is not in this vocabulary
            if vocabulary.find((concept := Concept.find(name, vocabulary)).target):
                return _describe_concept(concept)
    known = [*others, *(n for vocabulary in vocabularies for n in vocabulary.names)]
    raise ExpungeError(
        f"{name!r} is not the name of anything that can be shown.",
        rule="unknown-name",
        value=name,
        hint=suggest(name, known, "`expunge ls methods|presets|attacks|metrics|concepts|scopes|runs`"),
    )


def _describe_concept(concept: Any) -> None:
    from expunge.concepts.concept import PROBES

    synonyms = [n for n in (concept.member.name, *concept.member.synonyms) if n != concept.target]
    print_lines(f"{concept.target}: a concept of the kind {concept.kind}", f"synonyms  {', '.join(synonyms) or 'none'}")
    print_lines(f"siblings  {', '.join(m.name for m in concept.siblings) or 'none'}", "")
    columns = ("prompt set", "prompts", "what it holds", "for example")
    rows = [(n, str(len(p)), PROBES[n], "; ".join(repr(one.prompt) for one in p[:3])) for n, p in concept.probes().items()]
    print_table("prompts to measure", columns, rows, numbers=("prompts",))
    forget = [p.prompt for p in concept.forget()]
    row = ("forget", str(len(forget)), "each name with each partner, and alone", "; ".join(map(repr, forget[:3])))
    print_table("prompts to forget", columns, [row], numbers=("prompts",))


def _show_run(card: Path) -> None:
    try:
        entries = json.loads(card.read_text(encoding="utf-8")).items()
    except (ValueError, AttributeError) as error:
        raise ExpungeError(
            f"{card} is not a JSON object: {error}.",
            rule="unreadable-card",
            value=str(card),
            hint="Try repeating its `expunge unlearn` in another folder.",
        ) from error
    rows = [(k, json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else str(v)) for k, v in entries]
    print_table(str(card.parent), ("", ""), rows)
