"""`expunge ls WHAT`: lists of names, read without importing torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.declarations import read
from expunge.cli.options import CANVAS, Model, Vocabulary, find_vocabulary
from expunge.cli.output import first_sentence, print_lines, print_table
from expunge.cli.presets import read_presets
from expunge.errors import ExpungeError
from expunge.names import suggest
from expunge.progress import duration

LISTS = ("methods", "presets", "attacks", "metrics", "concepts", "scopes", "runs", "judges", "protocols")


def ls(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=f"One of {', '.join(LISTS)}.", show_default=False)],
    model: Model = None,
    vocabulary: Vocabulary = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="With runs: the folder that holds them.")] = Path("runs"),
) -> None:
    """List methods, presets, attacks, metrics, concepts, runs and more.

    `expunge show NAME` describes one of them. --model and --vocabulary select the concepts to list.
    """
    tables: dict[str, Callable[[], None]] = {
        "methods": _list_methods,
        "presets": _list_presets,
        "attacks": _list_attacks,
        "metrics": _list_metrics,
        "concepts": lambda: _list_concepts(model or CANVAS, vocabulary),
        "scopes": _list_scopes,
        "runs": lambda: _list_runs(runs),
        "judges": _list_judges,
        "protocols": _list_protocols,
    }
    if what not in tables:
        raise ExpungeError(f"There is no list of {what!r}.", rule="unknown-list", value=what, hint=suggest(what, LISTS))
    tables[what]()


def _list_methods() -> None:
    methods = read("expunge.methods:METHODS")
    rows = [(n, "trained" if c.is_derived_from("Objective") else "closed form", first_sentence(c.doc)) for n, c in methods.items()]
    print_table("methods", ("name", "kind", "what it does"), rows)


def _list_presets() -> None:
    print_table("presets", ("name", "what it is for"), [(name, tables["about"]) for name, tables in read_presets().items()])
    print_lines("", "next: expunge unlearn --config NAME --target WORDS")


def _list_attacks() -> None:
    rows = [(n, c.attribute("threat"), first_sentence(c.doc)) for n, c in read("expunge.attacks:ATTACKS").items()]
    print_table("attacks", ("name", "the attacker has", "what it does"), rows)


def _list_metrics() -> None:
    from expunge.concepts.concept import PROBES
    from expunge.evaluation.metrics import described

    rows = [
        (
            d.name,
            "" if d.better == "neither" else d.better,
            " + ".join(p for p in PROBES if p in d.probes),
            ", ".join(d.papers),
            d.title,
        )
        for d in described().values()
    ]
    print_table("metrics", ("name", "better", "prompt sets", "arXiv", "what it is"), rows)


def _list_concepts(model: str, vocabulary: str | None) -> None:
    kinds = find_vocabulary(vocabulary, model).kinds
    rows = [(kind.name, m.family, m.name, ", ".join(m.synonyms)) for kind in kinds.values() for m in kind.members]
    print_table(f"concepts of {vocabulary or model}", ("kind", "family", "concept", "synonyms"), rows)


def _list_scopes() -> None:
    rows = [(s.name, s.title, str(s.rank or "")) for s in read("expunge.models.scopes:SCOPES").values()]
    print_table("scopes", ("name", "what is trained", "rank of the added matrices"), rows)


def _list_judges() -> None:
    rows = [
        ("main", "the canvas's judge, behind every reported number; the default on the canvas"),
        ("second", "a judge of another architecture, trained on other images: shows whether a number is an artefact of main"),
        ("digits", "the judge of the embedded model of handwritten digits, and its default"),
        ("nudenet", "a detector of nudity, for that concept only: gives UA and UA_syn; pip install 'expunge[nudenet]'"),
        ("vlm:FOLDER|ID", "an image-text-to-text model that is asked whether the picture shows the concept; any concept: UA and UA_syn"),
        ("reference:FOLDER,model=FOLDER|ID", "your example images, by the embedding of a vision model; any concept: UA, UA_syn, FID_base"),
        ("by-kind", "a judge for each kind of concept: by-kind,kinds=style+object,judges=FOLDER+FOLDER; gives CRA and ORA too"),
        ("NAME,SETTING=VALUE", "a judge with settings, such as nudenet,threshold=0.45; `expunge show nudenet` (vlm, reference) lists them"),
        ("FOLDER|ID", "an image classifier of transformers; its classes are matched to the names of the concept's kind: no CRA, no ORA"),
        ("FOLDER|ID", "CLIP, which chooses among the vocabulary's names in its prompt templates"),
        ("package.module:Class", "a judge of your own, see docs/how-to/add-a-metric.md"),
    ]
    print_table("judges", ("name", "what it is"), rows)


def _list_protocols() -> None:
    from expunge.bench.published import builtin, read_about, read_builtin, read_data

    rows = []
    for name in builtin():
        table = read_builtin(name)
        about, data = read_about(table["about"]), read_data(table.get("data", {}), name)
        needs = ["--model"] * bool(about.model) + ["--judge"] * bool(about.judge and "judge" not in table)
        needs += [f"--data {n}" if not e.optional else f"(--data {n})" for n, e in data.items()]
        rows.append((name, ", ".join(about.papers), about.measures, ", ".join(needs)))
    print_table("protocols", ("name", "papers", "what it measures", "what it needs"), rows)
    print_lines("", "next: expunge bench NAME --dry-run")


def _list_runs(folder: Path) -> None:
    rows = [_describe_run(card) for card in sorted(folder.glob("*/card.json"))]
    if not rows:
        print_lines(f"no runs under {folder}; make one with `expunge demo` or `expunge unlearn`")
        return
    print_table("runs", ("folder", "method", "concept", "status", "change", "time", "UA"), rows, numbers=("change", "time", "UA"))


def _describe_run(file: Path) -> tuple[str, ...]:
    try:
        return _row(file, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a card that cannot be read does not hide the others
        return (str(file.parent), "", "", "unreadable", "", "", "")


def _row(file: Path, card: dict[str, Any]) -> tuple[str, ...]:
    change, seconds = card.get("relative_change"), card.get("seconds")
    concept = card["concept"]
    names = [", ".join((c["target"], *c["synonyms"])) for c in concept.get("targets", [concept])]
    about = (card["method"], (" then " if concept.get("together") == "sequential" else " + ").join(names), card["status"])
    cost = ("" if change is None else f"{change:.2%}", "" if seconds is None else duration(seconds))
    return (str(file.parent), *about, *cost, _read_accuracy(file.parent, card["id"]))


def _read_accuracy(folder: Path, run: str) -> str:
    """The unlearning accuracy if it was measured; of several concepts the lowest."""
    file = folder / "evaluation" / "rows.jsonl"
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines()) if file.exists() else ()
    found = [row for row in rows if row["metric"] == "UA" and row["run"] == run]
    values = [row["value"] for row in found if row.get("judge") == found[0].get("judge")]
    return f"{min(values):.3f}" if values else ""
