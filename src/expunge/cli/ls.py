"""`expunge ls WHAT`: what there is."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import CANVAS, Model, Vocabulary
from expunge.cli.screen import duration, first_sentence, nearest, say, table


def ls(
    what: Annotated[
        str, typer.Argument(metavar="methods|presets|attacks|metrics|concepts|scopes|runs|judges", help="What to list.", show_default=False)
    ],
    model: Model = None,
    vocabulary: Vocabulary = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Where runs are.")] = Path("runs"),
) -> None:
    """List methods, presets, attacks, metrics, concepts, scopes, runs or judges.

    `expunge show NAME` says more of one.
    """
    match what:
        case "methods":
            _methods()
        case "presets":
            _presets()
        case "attacks":
            _attacks()
        case "metrics":
            _metrics()
        case "concepts":
            _concepts(model or CANVAS, vocabulary)
        case "scopes":
            _scopes()
        case "runs":
            _runs(runs)
        case "judges":
            _judges()
        case _:
            raise typer.BadParameter(f"one of {', '.join(LISTS)} is listed: {what!r} is none{nearest(what, LISTS)}", param_hint="WHAT")


LISTS = ("methods", "presets", "attacks", "metrics", "concepts", "scopes", "runs", "judges")


def _methods() -> None:
    from expunge.methods import METHODS
    from expunge.methods.base import Objective

    rows = [(n, "trained" if issubclass(c, Objective) else "closed form", first_sentence(c.__doc__ or "")) for n, c in METHODS.items()]
    table("methods", ("name", "kind", "what it does"), rows)


def _presets() -> None:
    from expunge.methods.presets import PRESETS, read_preset

    table("presets", ("name", "what it is for"), [(name, read_preset(name)["about"]) for name in PRESETS])
    say("", "expunge unlearn --config NAME --target WORDS")


def _attacks() -> None:
    from expunge.attacks import ATTACKS

    rows = [(n, c.threat, first_sentence(c.__doc__ or "")) for n, c in ATTACKS.items()]
    table("attacks", ("name", "the attacker has", "what it does"), rows)


OTHERS = [
    ("weight_change", "", "", "how far the scope's weights went, relative to their norm; of every run"),
    ("null_drift", "lower", "null", "how far the empty prompt's predictions went, relative to theirs; with `expunge eval`"),
    ("information", "", "every concept", "nats that a name tells the weights about its pictures, without a judge; with `expunge meter`"),
    (
        "information_ratio",
        "",
        "every concept",
        "the same over the untouched model's: wanted 0 for the concept, 1 for others; with `expunge meter`",
    ),
]
"""What is measured of the weights, not of pictures, and so cannot be chosen with --metrics."""


def _metrics() -> None:
    from expunge.concepts.concept import PROBES
    from expunge.evaluation.metrics import METRICS

    rows = [
        (n, "higher" if m.higher_is_better else "lower", " + ".join(p for p in PROBES if p in m.probes), m.title)
        for n, m in METRICS.items()
    ]
    rows += OTHERS
    table("metrics", ("name", "better", "pictures of", "what it is"), rows)


def _concepts(model: str, vocabulary: str | None) -> None:
    from expunge.cli.request import vocabulary_named

    kinds = vocabulary_named(vocabulary, model).kinds
    rows = [(kind.name, m.family, m.name, ", ".join(m.synonyms)) for kind in kinds.values() for m in kind.members]
    table(f"concepts of {vocabulary or model}", ("kind", "family", "concept", "other names"), rows)


def _scopes() -> None:
    from expunge.models.scopes import SCOPES

    rows = [(s.name, s.title, str(s.rank or "")) for s in SCOPES.values()]
    table("scopes", ("name", "what is trained", "rank of what is added"), rows)


def _judges() -> None:
    rows = [
        ("main", "the canvas's own: gives every number that is reported there; the default on the canvas"),
        ("second", "of another architecture and other training drawings: tells whether a number is an artefact of the first"),
        ("nudenet", "a detector of nudity, for that concept alone: gives UA and UA_syn only; pip install 'expunge[nudenet]'"),
        ("FOLDER|ID", "an image classifier of transformers, whose classes are matched to the names of the concept's kind: no CRA, no ORA"),
        ("FOLDER|ID", "CLIP, which chooses among the vocabulary's names put into its templates"),
    ]
    table("judges", ("name", "what it is"), rows)


def _runs(folder: Path) -> None:
    rows = [_run(card) for card in sorted(folder.glob("*/card.json"))]
    if not rows:
        say(f"no runs under {folder}; make one with `expunge demo` or `expunge unlearn`")
        return
    table("runs", ("folder", "method", "concept", "status", "change", "took", "UA"), rows, numbers=("change", "took", "UA"))


def _run(file: Path) -> tuple[str, ...]:
    try:
        return _told(file, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # one card that is none does not hide the others
        return (str(file.parent), "", "", "unreadable", "", "", "")


def _told(file: Path, card: dict[str, Any]) -> tuple[str, ...]:
    change, seconds = card.get("relative_change"), card.get("seconds")
    concept = card["concept"]
    words = [", ".join((c["target"], *c["synonyms"])) for c in concept.get("targets", [concept])]
    about = (card["method"], (" then " if concept.get("together") == "sequential" else " + ").join(words), card["status"])
    cost = ("" if change is None else f"{change:.2%}", "" if seconds is None else duration(seconds))
    return (str(file.parent), *about, *cost, _accuracy(file.parent, card["id"]))


def _accuracy(folder: Path, run: str) -> str:
    """The unlearning accuracy, if it was measured; of several concepts the least."""
    file = folder / "evaluation" / "rows.jsonl"
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines()) if file.exists() else ()
    found = [row for row in rows if row["metric"] == "UA" and row["run"] == run]
    values = [row["value"] for row in found if row.get("judge") == found[0].get("judge")]
    return f"{min(values):.3f}" if values else ""
