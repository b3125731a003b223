"""Files that people write, with anything in any place: each is read, or refused by an `ExpungeError`. Never another exception."""

import copy
import os
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tastes import TOML

from expunge.audits.budget import read_budget
from expunge.bench.config import read_suite
from expunge.cli.unlearn_request import resolve
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError

FOLDER = Path(tempfile.mkdtemp())
few = settings(max_examples=int(os.environ.get("FUZZ", "30")), derandomize=True, database=None, deadline=None)
"""The same examples in every run. FUZZ=5000 tries more."""

CONFIG: dict[str, Any] = {
    "model": {"name": "canvas", "dtype": "fp32"},
    "seed": 0,
    "concept": {"target": "neon", "kind": "style", "synonyms": ["glow"], "vocabulary": "canvas"},
    "method": {"name": "mim-mu", "eta": 1.0, "target_as": "marginal"},
    "training": {"steps": 10, "lr": 1e-4, "schedule": "constant"},
    "before": [{"method": {"name": "uce"}}, {"method": {"name": "esd"}, "training": {"steps": 3}}],
    "stop": {"rule": "gone", "every": 20, "judge": "main"},
}
SEVERAL: dict[str, Any] = {
    "concept": {
        "targets": [{"target": "soup", "synonyms": []}, {"target": "pie", "anchor": "broth"}],
        "together": "sequential",
        "reference": "original",
        "vocabulary": tomllib.loads(TOML),
    },
    "method": {"name": "uce"},
}
SUITE: dict[str, Any] = {
    "model": "canvas",
    "seeds": [0, 1],
    "concepts": ["neon", {"target": "ring", "anchor": "disc"}, {"targets": ["dots", "star"], "together": "sequential"}],
    "tuning": ["stripes"],
    "protocol": {"target_seeds": 3},
    "sampler": {"steps": 3, "guidance_scale": 2.0},
    "metrics": ["UA"],
    "methods": [
        {"name": "mim-mu", "label": "a", "synonyms": True, "training": {"steps": 80}, "seeds": [0], "before": ["uce"]},
        {"name": "uce", "concepts": ["ring"]},
    ],
    "audit": {"budget": "quick", "control": "none"},
    "search": {"trials": 12},
}
BUDGET: dict[str, Any] = {
    "pictures": 8,
    "attacks": [{"name": "relearn", "label": "x", "steps": 3, "lr": 1e-4}, {"name": "quantise", "bits": [8, 4]}],
}

LEAVES = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8),
    st.sampled_from(["", " ", "a,b", "none", "auto", "canvas", "neon", "uce", "retrain", "x:Y", "..", "~", "{target}", "\ud7ff", "quick"]),
    st.sampled_from([date(2020, 1, 1), datetime(2020, 1, 1), time(1)]),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=4
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(place for key, one in inner for place in _places(one, (*path, key)))]


@st.composite
def changed(draw: st.DrawFn, table: dict[str, Any]) -> dict[str, Any]:
    """The table with up to three entries replaced, deleted or added."""
    table = copy.deepcopy(table)
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(_places(table) or [("x",)]))
        holder: Any = table
        for step in above:
            holder = holder[step]
        match draw(st.sampled_from(["replace", "replace", "delete", "add"])):
            case "delete":
                with suppress(KeyError, IndexError):
                    del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.text(max_size=6))] = draw(VALUES)
            case _:
                holder[key] = draw(VALUES)
    return table


class Nothing(dict):
    """Options of which none is given."""

    def __missing__(self, key: str) -> None:
        return None


def refused_or_read(read: Callable[[Path], object], name: str, content: bytes) -> None:
    file, errors = FOLDER / name, list[ExpungeError]()
    file.write_bytes(content)
    try:
        read(file)
    except ExpungeError as error:
        errors.append(error)
    assert all(error.rule and error.hint.startswith("Try ") for error in errors), errors


def written(table: dict[str, Any]) -> bytes:
    return tomli_w.dumps(table).encode(errors="replace")


@few
@example({"model": {"name": 1}}, "uce")
@example({"concept": {"targets": [{"target": "neon"}, {"target": "ring"}], "together": []}}, "uce")
@given(st.one_of(changed(CONFIG), changed(SEVERAL)), st.sampled_from(["mim-mu", "uce", "esd"]))
def test_a_configuration(table: dict[str, Any], method: str):
    refused_or_read(lambda file: resolve(method, Nothing(config=file, allow_code=False)), "config.toml", written(table))


@few
@example(SUITE | {"metrics": [["UA"]]})
@example(SUITE | {"metrics": 1})
@given(changed(SUITE))
def test_a_suite(table: dict[str, Any]):
    refused_or_read(read_suite, "suite.toml", written(table))


@few
@given(changed(BUDGET))
def test_a_budget(table: dict[str, Any]):
    refused_or_read(read_budget, "budget.toml", written(table))


@few
@given(changed(tomllib.loads(TOML)))
def test_a_vocabulary(table: dict[str, Any]):
    refused_or_read(Vocabulary.load, "words.toml", written(table))


@few
@given(st.sampled_from([resolve, read_suite, read_budget, Vocabulary.load]), st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_a_file_that_is_no_toml(read: Callable[..., object], content: bytes):
    wanted = (lambda file: resolve("uce", Nothing(config=file, allow_code=False))) if read is resolve else read
    refused_or_read(wanted, "any.toml", content)


CELLS = st.sampled_from(["style", "object", "Style", "", "neon", "a|b", "a,b", "É", "E", '"', '""', "\n", "\t", "x" * 300]) | st.text(
    max_size=6
)
ROWS = st.lists(st.lists(CELLS, max_size=6), max_size=5)


@few
@given(st.sampled_from(["kind,name,synonyms,family", "kind,name", "Name;Kind", "kind\tname", ""]), ROWS, st.sampled_from(",;\t"))
def test_a_csv(header: str, rows: list[list[str]], delimiter: str):
    text = "\n".join([header, *(delimiter.join(cells) for cells in rows)])
    for encoding in ("utf-8", "utf-16"):
        refused_or_read(Vocabulary.load, "words.csv", text.encode(encoding, errors="replace"))


@few
@given(st.binary(max_size=60))
def test_a_file_that_is_no_csv(content: bytes):
    refused_or_read(Vocabulary.load, "words.csv", content)


@few
@given(st.text(max_size=30), st.sampled_from([None, "style", "object"]), st.lists(st.text(max_size=8), max_size=2))
def test_a_name(target: str, kind: str | None, synonyms: list[str]):
    from expunge.concepts.concept import Concept

    for vocabulary in (Vocabulary.canvas(), Vocabulary.general()):
        with suppress(ExpungeError):
            concept = Concept.find(target, vocabulary, tuple(synonyms), kind=kind)
            assert len(concept.forget()) > 1
