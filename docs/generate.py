"""Writes docs/methods/*.md from the methods themselves: `python docs/generate.py`. A test holds the pages to the code."""

import inspect
import json
import textwrap
from dataclasses import asdict
from pathlib import Path

from expunge.cli.output import first_sentence
from expunge.cli.settings_help import Setting, settings_of
from expunge.config import settings
from expunge.diffusion.batch import NEEDS
from expunge.methods import METHODS
from expunge.methods._matching import Matching
from expunge.methods.base import Method, Objective, Training

FOLDER = Path(__file__).parent / "methods"
TRIALS = Path(__file__).parents[1] / "benchmarks" / "tuning.jsonl"


def pages() -> dict[str, str]:
    """File name to content."""
    rows = [
        f"| [{cls.__name__}]({name}.md) | `{name}` | {'trained' if issubclass(cls, Objective) else 'closed form'} "
        f"| {', '.join(f'`{n}`' for n in sorted(cls().needs))} | `{cls().scope.name}` | {first_sentence(cls.__doc__ or '')} |"
        for name, cls in METHODS.items()
    ]
    head = "| method | name | kind | needs | trains | what it does |\n|---|---|---|---|---|---|\n"
    index = "# Methods\n\nOne file each, under `src/expunge/methods/`. " + DEFAULTS + "\n\n" + head + "\n".join(rows) + "\n"
    return {"index.md": index} | {f"{name}.md": page(name, cls) for name, cls in METHODS.items()}


DEFAULTS = (
    "What was tried for a method, on concepts of the canvas that the [results](../results.md) do not report, stands at the end of its "
    "page (for MiM-MU [there](../results-details.md#choosing-mim-mus-settings)). Defaults of pages without it are first choices."
)


HOOKS = ("phase", "prepare", "update", "masks", "companion")
"""What a method may do besides its loss: shown where it does so itself."""


def page(name: str, cls: type) -> str:
    method = cls()
    parts = [f"# {cls.__name__}", _markdown(inspect.getdoc(cls) or ""), "## Settings", _table(settings_of(cls))]
    if isinstance(method, Objective):
        parts += ["## Training", _table(settings_of(Training, cls.training))]
    needs = "\n".join(f"- `{n}`: {NEEDS[n]}" for n in sorted(method.needs))
    parts += ["## Needs", needs, "## Use", f'```sh\nexpunge unlearn {name} --target "neon style"\n```']
    own = [cls.goal, cls.__call__] if issubclass(cls, Matching) else [cls.__call__]
    own += [vars(cls)[hook] for hook in HOOKS if hook in vars(cls)]
    source = "\n\n".join(textwrap.dedent(inspect.getsource(function)) for function in own)
    parts += ["## The whole method", f"```python\n{source}```"]
    parts += ["## What was tried", *tried] if (tried := _trials(name, method)) else []
    return "\n\n".join(parts) + "\n"


TRIED = (
    "On the canvas, told both names of the concept, with 22 pictures of an object and 42 of a style, of one noise that no result uses; "
    "what is not said is as above. A line is repeated by, for example, "
    "`python benchmarks/tune.py {name} --given --concepts {concept}{tries}`. The shares are those of the "
    "[results](../results.md#the-table)."
)
SHARES = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA")


def _trials(name: str, method: Method) -> list[str]:
    """What the trials of the method's settings are, and a table of them; nothing where there are none."""
    of_training = isinstance(method, Objective)
    now = settings(method) | (asdict(method.training) if of_training else {})
    lines = [t for t in map(json.loads, TRIALS.read_text(encoding="utf-8").splitlines()) if t["method"] == name and t["given"]]
    rows = [f"| concept | settings | {' | '.join(SHARES)} |", "|---|---|" + "---:|" * len(SHARES)]
    others: list[tuple[str, dict[str, object]]] = []
    for trial in sorted(lines, key=lambda t: t["concept"]):
        # Before a setting was there, all were tried at what it is by itself; and what was a default then need not be one now.
        had = settings(type(method)()) | trial["settings"] | (asdict(Training()) | trial["training"] if of_training else {})
        other = {setting: value for setting, value in had.items() if value != now[setting]}
        others += [(trial["concept"], other)] if other else []
        said = ", ".join(f"{k} {v}" for k, v in sorted(other.items())) or "**the defaults**"
        shares = " | ".join(f"{100 * trial['shares'][m]:.0f}" for m in SHARES)
        rows.append(f"| {trial['concept']} | {said} | {shares} |")
    if not lines:
        return []
    concept, other = others[0] if others else (lines[0]["concept"], {})
    tries = "".join(f" --try {setting}={value}" for setting, value in other.items())
    return [TRIED.format(name=name, concept=concept, tries=tries), "\n".join(rows)]


def _markdown(doc: str) -> str:
    """A docstring's indented blocks, its formulas, as code blocks."""
    blocks = []
    for block in doc.split("\n\n"):
        if block.startswith("Raises:"):
            continue
        code = all(line.startswith("    ") for line in block.splitlines())
        blocks.append(f"```text\n{textwrap.dedent(block)}\n```" if code else block)
    return "\n\n".join(blocks)


def _table(settings: list[Setting]) -> str:
    rows = [f"| `{s.flag}` | {_kind(s)} | {s.shown_default} | {s.about.replace('|', chr(92) + '|')} |" for s in settings]
    return "| flag | takes | default | |\n|---|---|---|---|\n" + "\n".join(rows)


def _kind(setting: Setting) -> str:
    return " ".join(filter(None, [setting.metavar.replace("|", " / ").lower() or "yes / no", setting.bounds]))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
