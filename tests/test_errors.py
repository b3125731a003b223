"""Every error of the package has fields and the form of one sentence or more: read from the source, without running it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import expunge.errors
from expunge.errors import ExpungeError
from expunge.names import suggest

SOURCE = Path(expunge.errors.__file__).parent
KINDS = {name for name, cls in vars(expunge.errors).items() if isinstance(cls, type) and issubclass(cls, ExpungeError)}
RULE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
HINT_MAKERS = {"suggest", "writable_instead"}
"""Functions that make a hint; a test below shows that it begins with "Try " and ends in a full stop."""


def problems(source: str) -> list[str]:
    """What is wrong with the errors that a module makes, each with its line."""
    tree = ast.parse(source)
    assigned = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _called(n.func) in KINDS]
    return [f"line {call.lineno}: {problem}" for call in calls for problem in _problems(call, assigned)]


def _called(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""


def _problems(call: ast.Call, assigned: dict[str, ast.expr]) -> Iterator[str]:
    fields = {keyword.arg: keyword.value for keyword in call.keywords}
    if missing := {"rule", "value", "hint"} - fields.keys():
        yield f"it has no {', '.join(sorted(missing))}"
    if (rule := fields.get("rule")) and not RULE.fullmatch(_literal(rule)):
        yield "its rule is not a literal in kebab case"
    for message in call.args[:1]:
        if not all(_begins(text) for text in _ends_of(message, assigned, first=True)):
            yield "its message does not begin with an upper-case letter, a quote or a value"
        if not all(text is None or text.endswith(".") for text in _ends_of(message, assigned, first=False)):
            yield "its message does not end in a full stop"
        if any(";" in str(n.value) for n in ast.walk(message) if isinstance(n, ast.Constant)):
            yield "its message joins sentences by a semicolon"
    if hint := fields.get("hint"):
        if not all(text is not None and text.startswith("Try ") for text in _ends_of(hint, assigned, first=True)):
            yield 'its hint does not begin with "Try "'
        if not all(text is None or text.endswith(".") for text in _ends_of(hint, assigned, first=False)):
            yield "its hint does not end in a full stop"


def _literal(node: ast.expr) -> str:
    """The text of a literal; an f-string's values count as one word ("unknown-{kind}" is in kebab case)."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(p.value) if isinstance(p, ast.Constant) else "word" for p in parts)
        case _:
            return ""


def _begins(text: str | None) -> bool:
    return text is None or text[:1].isupper() or text[:1] in "'\"`"


def _ends_of(node: ast.expr, assigned: dict[str, ast.expr], first: bool) -> list[str | None]:
    """The text that an expression begins with, or ends with, in each of its branches; None where that is a value."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return _ends_of(parts[0 if first else -1], assigned, first) if parts else [""]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _ends_of(left if first else right, assigned, first)
        case ast.IfExp(body=body, orelse=orelse):
            return _ends_of(body, assigned, first) + _ends_of(orelse, assigned, first)
        case ast.Name(id=name) if name in assigned:
            return _ends_of(assigned[name], {k: v for k, v in assigned.items() if k != name}, first)
        case ast.Call(func=function) if _called(function) in HINT_MAKERS:
            return ["Try ."]
        case _:
            return [None]


def of_package() -> dict[str, list[str]]:
    """By file, what is wrong with its errors."""
    found = {str(path.relative_to(SOURCE)): problems(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    return {file: wrong for file, wrong in found.items() if wrong}


def test_every_error_has_its_fields_and_form():
    wrong = [f"{file}, {problem}" for file, found in of_package().items() for problem in found]
    assert not wrong, "\n".join(wrong)


GOOD = """raise ExpungeError(f"{name!r} is not a method.", rule="unknown-method", value=name, hint="Try 'esd'.")"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('rule="unknown-method", ', "", "no rule"),
        ("value=name, ", "", "no value"),
        (""", hint="Try 'esd'.\"""", "", "no hint"),
        ('"unknown-method"', "name", "rule"),
        ('"unknown-method"', '"Unknown method"', "rule"),
        ('f"{name!r} is', '"a name is', "begin with an upper-case"),
        ("method.", "method", "message does not end"),
        ("is not a method.", "is wrong; it is no method.", "semicolon"),
        ("Try 'esd'.", "Use 'esd'.", "begin with"),
        ("Try 'esd'.", "Try 'esd'", "hint does not end"),
        ("\"Try 'esd'.\"", '"Try it." if name else "Give it."', "begin with"),
        ("\"Try 'esd'.\"", "f'{name}'", "begin with"),
    ],
)
def test_what_the_form_refuses(old: str, new: str, problem: str):
    assert not problems(GOOD)
    assert old in GOOD
    assert any(problem in found for found in problems(GOOD.replace(old, new)))


def test_fields_of_a_raised_error():
    error = ExpungeError("'esdd' is not a method.", rule="unknown-method", value="esdd", hint="Try 'esd'.")
    assert (str(error), error.rule, error.value, error.hint) == (
        "'esdd' is not a method. Try 'esd'.",
        "unknown-method",
        "esdd",
        "Try 'esd'.",
    )


@pytest.mark.parametrize(
    ("name", "valid", "see", "hint"),
    [
        ("esdd", ["esd", "uce"], "", "Try 'esd', one of esd, uce."),
        ("ESD", ["esd", "uce"], "`expunge ls methods`", "Try 'esd'; `expunge ls methods` lists all."),
        ("quite another", ["esd", "uce"], "", "Try one of esd, uce."),
        ("quite another", ["esd", "uce"], "`expunge ls methods`", "Try a name that `expunge ls methods` lists."),
    ],
)
def test_hints_for_a_misspelt_name(name: str, valid: list[str], see: str, hint: str):
    assert suggest(name, valid, see) == hint
