"""Write the generated pages of docs/reference from the code: `python docs/generate.py`.

tests/docs/test_pages.py compares every page with what the code generates.
"""

import ast
import html
import inspect
import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from typer.main import get_command

# Every name that this script takes from the package. A module that moves is changed here and nowhere else.
import expunge
import expunge.attacks
import expunge.judges
import expunge.methods
import expunge.metrics
import expunge.models
from expunge.attacks import ATTACKS
from expunge.bench.published import builtin, describe_data, read_about, read_builtin, read_data, read_reported
from expunge.bench.summary import is_share
from expunge.cli.app import app
from expunge.cli.output import first_sentence
from expunge.cli.settings_help import Setting, settings_of
from expunge.concepts.concept import PROBES
from expunge.config import settings
from expunge.diffusion.batch import NEEDS
from expunge.evaluation.metrics import METRICS, described
from expunge.methods import METHODS
from expunge.methods._matching import Matching
from expunge.methods.base import Method, Objective, Training

sys.path.append(str(Path(__file__).parent))
from run_notebook import as_markdown, read

FOLDER = Path(__file__).parent / "reference"
CHECKED = Path(__file__).parents[1] / "tests" / "families" / "record.json"
TRIALS = Path(__file__).parents[1] / "benchmarks" / "tuning.jsonl"
GENERATED = "<!-- Written by docs/generate.py. Edit that script or the docstrings, not this page. -->"


def pages() -> dict[str, str]:
    """Path under docs/reference to content."""
    made = {f"methods/{name}.md": method_page(name, cls) for name, cls in METHODS.items()}
    made |= {"methods/index.md": method_index(), "attacks.md": attack_page(), "metrics.md": metric_page()}
    made |= {"cli.md": cli_page(), "api.md": api_page(), "errors.md": error_page(), "models.md": model_page()}
    made |= {"../tutorial/notebook.md": notebook_page()}
    made |= {"protocols.md": protocol_page()}
    return {path: text.rstrip() + "\n" for path, text in made.items()}


# The notebook


def notebook_page() -> str:
    """The notebook of the tutorial with its outputs, as a page."""
    title, *parts = as_markdown(read())
    return page(title, "[Download the notebook](notebook.ipynb).", *parts)


# Models


def model_page() -> str:
    record = json.loads(CHECKED.read_text(encoding="utf-8"))
    notes = list(record["reasons"])
    families = record["families"]

    def cell(outcome: str) -> str:
        return "yes" if outcome == "passed" else f"no ({notes.index(outcome) + 1})"

    rows = [(title[0].upper() + title[1:], *(cell(families[f][name]) for f in families)) for name, title in record["checks"].items()]
    why = "\n".join(f"{i}. {text[0].upper() + text[1:]} (rule `{rule}`)." for i, (rule, text) in enumerate(record["reasons"].items(), 1))
    return f"""{GENERATED}

# Model families

Use this page to see what works with which model. Each cell is a test on a tiny network of the family with random weights
(`tests/families/test_table.py`). "yes": the test passes. "no": the test shows that the combination is refused, for the reason below.
Class-conditional models are compared with diffusers' loop written out, because no pipeline gives a prompt or guidance to them; Qwen-Image's
scheduler cannot take one step, so it takes two. What a method is worth on a published checkpoint is not measured here.
[Use your own model](../how-to/families.md) has an example for each.

{table(("", *(f"`{f}`" for f in families)), rows)}

## Reasons

{why}
"""


# Published protocols


def protocol_page() -> str:
    found = {name: read_builtin(name) for name in builtin()}
    return page(
        "# Published protocols",
        "`expunge bench NAME` runs one; [Run a published protocol](../how-to/published-protocols.md) shows how. No prompts and pictures of "
        "others come with the package: `--data` gives them. A SHA-256 is that of the published file; where there is none, the run records "
        "the one of the file that it used.",
        *(protocol_section(name, table) for name, table in found.items() if read_about(table["about"]).papers),
    )


def protocol_section(name: str, given: dict[str, Any]) -> str:
    about, data, reported = read_about(given["about"]), read_data(given.get("data", {}), name), read_reported(given.get("reported", []))
    files = [
        (
            f"`{key}`{' (optional)' if entry.optional else ''}",
            describe_data(entry),
            ", ".join(f"`{ours}`: `{theirs}`" for ours, theirs in entry.columns.items()),
            ", ".join(entry.metrics),
            " ".join(f"`{sha}`" for sha in entry.digests) or "not known",
        )
        for key, entry in data.items()
    ]
    numbers = [(r.method, r.of, r.metric, f"{100 * r.value:.2f} %" if is_share(r.metric) else f"{r.value:g}", r.source) for r in reported]
    parts = [
        f"## {name}",
        f"{about.title}. It measures {about.measures}.",
        table(
            ("", ""),
            [
                ("papers", ", ".join(about.papers)),
                ("script", about.source or "none that could be read"),
                ("model", about.model),
                ("judge", about.judge or "as here"),
                ("judge here", f"`{given['judge']}`" if "judge" in given else "`--judge`"),
                ("sampler", ", ".join(f"{k} {v}" for k, v in given["sampler"].items())),
            ],
        ),
        table(("data", "what it is", "columns", "measured", "SHA-256"), files) if files else "",
        "Where it differs:",
        "\n".join(f"- {difference}" for difference in about.differs),
        "Reported:" if numbers else "No reported number was found in a source that could be read.",
        table(("method", "of", "metric", "value", "source"), numbers) if numbers else "",
    ]
    return "\n\n".join(part for part in parts if part)


# Methods


def method_index() -> str:
    rows = [
        (
            f"[`{name}`]({name}.md)",
            f"`{cls.__name__}`",
            "trained" if issubclass(cls, Objective) else "closed form",
            ", ".join(f"`{need}`" for need in sorted(cls().needs)),
            f"`{cls().scope.name}`",
            first_sentence(cls.__doc__ or ""),
        )
        for name, cls in METHODS.items()
    ]
    parts = [
        "# Methods",
        "Pass a method's name to `expunge unlearn NAME`. `expunge show NAME` prints its settings. "
        "[Choose a method](../../how-to/choose-a-method.md) compares the measured numbers.",
        table(("method", "class", "kind", "needs", "trains", "what it does"), rows),
        "A need is a part of the training batch:",
        table(("need", "what it is"), [(f"`{need}`", about) for need, about in NEEDS.items()]),
        DEFAULTS,
    ]
    return page(*parts)


DEFAULTS = (
    "The defaults were chosen on canvas concepts that the [results](../../results/index.md) do not report. The last section of a method's "
    "page lists the settings that were tried. The trials of MiM-MU are in the "
    "[lab notes](../../lab/mim-mu-settings.md). A method without such a section has untuned defaults."
)


HOOKS = ("phase", "prepare", "update", "masks", "companion")
"""Optional hooks of a method. The page shows those that the method defines itself."""


def method_page(name: str, cls: type) -> str:
    method = cls()
    parts = [
        f"# {name}",
        f"Class `expunge.methods.{cls.__name__}`.",
        markdown(inspect.getdoc(cls) or "", formulas().get(name)),
        "## Settings",
        setting_table(settings_of(cls)),
    ]
    if isinstance(method, Objective):
        parts += ["## Training", setting_table(settings_of(Training, cls.training))]
    needs = "\n".join(f"- `{n}`: {NEEDS[n]}" for n in sorted(method.needs))
    parts += ["## Needs", needs, "## Use", f'```sh\nexpunge unlearn {name} --target "neon style"\n```']
    own = [cls.goal, cls.__call__] if issubclass(cls, Matching) else [cls.__call__]
    own += [vars(cls)[hook] for hook in HOOKS if hook in vars(cls)]
    source = "\n\n".join(textwrap.dedent(inspect.getsource(function)) for function in own)
    parts += ["## Code", f"```python\n{source}```"]
    parts += ["## Settings that were tried", *tried] if (tried := trials(name, method)) else []
    return page(*parts)


TRIED = (
    "Each row is one run on the canvas. Each run removes both names of the concept and is evaluated with 22 images of an object or 42 "
    "images of a style, from one noise seed that no result uses. Settings that a row does not list have the defaults above. "
    "The columns are the metrics of the [results](../../results/index.md), in percent. Repeat a row with, for example, "
    "`python benchmarks/tune.py {name} --given --concepts {concept}{tries}`."
)
SHARES = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA")


def trials(name: str, method: Method) -> list[str]:
    """A sentence and a table for the trials of a method's settings, or an empty list if there are none."""
    is_trained = isinstance(method, Objective)
    now = settings(method) | (asdict(method.training) if is_trained else {})
    lines = [t for t in map(json.loads, TRIALS.read_text(encoding="utf-8").splitlines()) if t["method"] == name and t["given"]]
    rows = []
    others: list[tuple[str, dict[str, object]]] = []
    for trial in sorted(lines, key=lambda t: t["concept"]):
        # A trial that predates a setting ran with the value that the setting's class gives; a default of that time may have changed since.
        had = settings(type(method)()) | trial["settings"] | (asdict(Training()) | trial["training"] if is_trained else {})
        other = {setting: value for setting, value in had.items() if value != now[setting]}
        others += [(trial["concept"], other)] if other else []
        text = ", ".join(f"{k} {v}" for k, v in sorted(other.items())) or "**the defaults**"
        rows.append((trial["concept"], text, *(f"{100 * trial['shares'][m]:.0f}" for m in SHARES)))
    if not lines:
        return []
    concept, other = others[0] if others else (lines[0]["concept"], {})
    tries = "".join(f" --try {setting}={value}" for setting, value in other.items())
    return [TRIED.format(name=name, concept=concept, tries=tries), table(("concept", "settings", *SHARES), rows, numbers=len(SHARES))]


# Attacks and metrics


def attack_page() -> str:
    rows = [(f"[`{name}`](#{name})", cls.threat, cls.unit, first_sentence(cls.__doc__ or "")) for name, cls in ATTACKS.items()]
    parts = [
        "# Attacks",
        "`expunge audit RUN --attack NAME` runs one attack. A [budget](files.md#budget) sets its settings. "
        "[Audit a run](../how-to/audit.md) explains the verdicts.",
        table(("attack", "the attacker has", "strength counts", "what it does"), rows),
    ]
    for name, cls in ATTACKS.items():
        parts += [f"## {name}", markdown(inspect.getdoc(cls) or ""), setting_table(settings_of(cls), flags=False)]
    return page(*parts)


def metric_page() -> str:
    rows = [
        (
            f"[`{name}`](#{name.lower()})" if name in METRICS else f"`{name}`",
            "" if about.better == "neither" else about.better,
            ", ".join(f"`{probe}`" for probe in PROBES if probe in about.probes),
            ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in about.papers),
            about.title,
        )
        for name, about in described().items()
    ]
    parts = [
        "# Metrics",
        "`expunge eval RUN` computes all metrics that its judge allows; `--metric NAME` selects one. Every value has a 95 % interval, the "
        "number of images behind it, and a row for the base model. [Measurement](../explanation/measurement.md) explains the intervals.",
        table(("metric", "better", "prompt sets", "arXiv", "what it is"), rows),
        "Metrics without an arXiv id are ours. Those with `--features` need a network, see "
        "[Choose a judge](../how-to/judge.md#metrics-beside-published-ones).",
        "The prompt sets:",
        table(("prompt set", "what it holds"), [(f"`{probe}`", about) for probe, about in PROBES.items()]),
    ]
    for name, metric in METRICS.items():
        parts += [f"## {name}", markdown(inspect.getdoc(type(metric)) or "")]
    return page(*parts)


# The command line


def cli_page() -> str:
    """Every verb, from the command objects themselves."""
    group: Any = get_command(app)
    top = group.context_class(group, info_name="expunge")
    names = group.list_commands(top)
    verbs = {name: group.get_command(top, name) for name in names}
    parts = [
        "# Command line",
        "`expunge VERB --help` prints the text of this page. The exit code is 0 for success, 1 for a suite with failed units, "
        "2 for an error that the message explains, 130 for an interruption, and 143 for a termination (SIGTERM). The same command "
        "continues work that was interrupted.",
        table(("verb", "what it does"), [(f"[`{name}`](#{name})", first_paragraph(verb)) for name, verb in verbs.items()]),
    ]
    for name, verb in verbs.items():
        context = verb.context_class(verb, info_name=name, parent=top)
        arguments, options = parameters(verb, context)
        is_group = hasattr(verb, "list_commands")
        if is_group:
            methods = verb.list_commands(context)
            command = verb.get_command(context, methods[0])
            _, options = parameters(command, command.context_class(command, info_name=methods[0], parent=context))
            arguments = [("METHOD", "yes", "A method's name, or `package.module:Class`. Not needed if `--config` names one.")]
        shown = [typed if required == "yes" else f"[{typed}]" for typed, required, _ in arguments]
        usage = " ".join(["expunge", name, *shown, "[SETTINGS] [OPTIONS]" if is_group else "[OPTIONS]"])
        parts += [f"## {name}", f"```text\n{usage}\n```", help_text(verb)]
        parts += [table(("argument", "required", "what it is"), [(f"`{a}`", *rest) for a, *rest in arguments])] if arguments else []
        parts += [table(("option", "default", "what it does"), [(f"`{o}`", *rest) for o, *rest in options])] if options else []
        if is_group:
            parts += [
                "Each method adds its own settings and those of training:",
                table(
                    ("method", "what it does"), [(f"[`{m}`](methods/{m}.md)", first_sentence(METHODS[m].__doc__ or "")) for m in methods]
                ),
            ]
    return page(*parts)


Parameter = tuple[str, str, str]
"""What is typed, the default (of an argument: whether it is required), and the help."""


def parameters(command: Any, context: Any) -> tuple[list[Parameter], list[Parameter]]:
    """The arguments and the options of a command. A method's own settings, which have a heading of their own, are left out."""
    arguments, options = [], []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or getattr(parameter, "rich_help_panel", None) or "--help" in parameter.opts:
            continue
        typed, about = re.sub(r" <[^>]*>", "", record[0]), " ".join(record[1].split())
        found = re.search(r"\s*\[([^\[\]]*)\]$", about)
        default = found[1] if found else ""
        about = about[: found.start()] if found else about
        is_argument = parameter.param_type_name == "argument"
        default = default.replace("default: ", "").replace("x>=", "at least ")
        if is_argument:
            arguments.append((typed.strip("[]"), "yes" if default == "required" else "no", about))
        else:
            options.append((typed, default, about))
    return arguments, options


def help_text(command: Any) -> str:
    """A command's help in paragraphs; lines after a \\b, which click keeps as they are, become a code block."""
    paragraphs = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append("```text\n" + textwrap.dedent(paragraph.lstrip("\b").lstrip("\n")) + "\n```")
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs)


def first_paragraph(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())


# The Python API

PUBLIC = (
    (expunge, "What most programs need."),
    (expunge.methods, "One class for each method. Its fields are its settings."),
    (expunge.attacks, "One class for each attack, and the classes from which an attack of your own is built."),
    (expunge.models, "Loading a model, how it is sampled, and which weights may be trained."),
    (expunge.metrics, "One class for each metric, and the classes that a metric reads and returns."),
    (expunge.judges, "The settings of judges, and the classes that a judge of your own is made of."),
)
"""The public modules."""


def api_page() -> str:
    parts = [
        "# Python API",
        "The names on this page are public. Every other module and name is private and may change in any release. "
        "Names are imported when they are first used, so `import expunge` does not wait for torch.",
    ]
    for module, about in PUBLIC:
        parts += [f"## {module.__name__}", about]
        listed = []
        for name in public_names(module):
            value = getattr(module, name)
            if isinstance(value, type) and (link := registered(value)):
                listed.append((f"`{name}`", link, first_sentence(inspect.getdoc(value) or "")))
            else:
                parts += entry(module, name, value)
        if listed:
            parts += [table(("class", "reference", "what it is"), listed)]
    return page(*parts)


def public_names(module: Any) -> list[str]:
    """What a module exports: `__all__`, or else names that it imports when they are used, or as themselves, and those that it defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=alphabetical)
    found = set(getattr(module, "_HOMES", ()))
    for node in walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return sorted((name for name in found if not name.startswith("_")), key=alphabetical)


def alphabetical(name: str) -> tuple[str, str]:
    """Without regard to case, then with it, so that `Audit` and `audit` have a fixed order."""
    return name.lower(), name


def walk(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """A module's statements, those under `if TYPE_CHECKING` too."""
    for node in body:
        yield from walk(node.body) if isinstance(node, ast.If) else [node]


def registered(cls: type) -> str:
    """A link to the page that describes a method, an attack or a metric; empty for any other class."""
    for name, method in METHODS.items():
        if cls is method:
            return f"[`{name}`](methods/{name}.md)"
    for name, attack in ATTACKS.items():
        if cls is attack:
            return f"[`{name}`](attacks.md#{name})"
    for name, metric in METRICS.items():
        if cls is type(metric):
            return f"[`{name}`](metrics.md#{name.lower()})"
    return ""


def entry(module: Any, name: str, value: Any) -> list[str]:
    heading = f"### {module.__name__}.{name}"
    if isinstance(value, dict):
        kind = {id(METHODS): "method", id(ATTACKS): "attack", id(METRICS): "metric"}.get(id(value), "value")
        return [heading, f"A dictionary of every {kind} by its name: {', '.join(f'`{k}`' for k in value)}."]
    node = definition(value)
    if node is None:
        return [heading, markdown(inspect.getdoc(value) or "") if callable(value) else f"`{type(value).__name__}`"]
    text = markdown(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        return [heading, f"```python\n{signature(node)}\n```", text]
    parts = [heading, text]
    fields = [
        (f"`{name}`", f"`{kind}`", f"`{default}`" if default else "required", about) for name, kind, default, about in fields_of(node)
    ]
    parts += [table(("field", "type", "default", "what it is"), fields)] if fields and is_dataclass(node) else []
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    rows = [(f"`{n.name}`", first_sentence(ast.get_docstring(n) or "")) for n in methods]
    return parts + ([table(("method or property", "what it does"), rows)] if rows else [])


def definition(value: Any) -> ast.FunctionDef | ast.ClassDef | None:
    """Where a class or function is defined, as parsed source; None if it is neither."""
    module = sys.modules.get(getattr(value, "__module__", "") or "")
    file = getattr(module, "__file__", None)
    if file is None or not hasattr(value, "__name__"):
        return None
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    return next((n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == value.__name__), None)


def signature(node: ast.FunctionDef) -> str:
    """A function's signature, one parameter a line if it is long."""
    returns = f" -> {ast.unparse(node.returns).strip(chr(39))}" if node.returns else ""
    short = f"{node.name}({ast.unparse(node.args)}){returns}"
    if len(short) <= 100:
        return short
    a = node.args
    ordered = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(ordered) - len(a.defaults)) + list(a.defaults)
    lines = [parameter(arg, default) for arg, default in zip(ordered, defaults, strict=True)]
    lines += [f"*{parameter(a.vararg, None)}"] if a.vararg else ["*"] if a.kwonlyargs else []
    lines += [parameter(arg, default) for arg, default in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    lines += [f"**{parameter(a.kwarg, None)}"] if a.kwarg else []
    return "\n".join([f"{node.name}(", *(f"    {line}," for line in lines), f"){returns}"])


def parameter(arg: ast.arg, default: ast.expr | None) -> str:
    kind = f": {plain(arg.annotation)}" if arg.annotation else ""
    return arg.arg + kind + (f"{' = ' if kind else '='}{ast.unparse(default)}" if default is not None else "")


def plain(annotation: ast.expr) -> str:
    """An annotation without quotes around names."""
    return annotation.value if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str) else ast.unparse(annotation)


def is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(d) for d in node.decorator_list) or any("NamedTuple" in ast.unparse(b) for b in node.bases)


def fields_of(node: ast.ClassDef) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and docstring of each public field."""
    for i, line in enumerate(node.body):
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.target.id.startswith("_"):
            continue
        kind = plain(line.annotation)
        if kind.startswith("ClassVar"):
            continue
        after = node.body[i + 1] if i + 1 < len(node.body) else None
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        yield line.target.id, kind, ast.unparse(line.value) if line.value else "", " ".join(after.value.value.split()) if is_text else ""


# Errors


def error_page() -> str:
    """The errors that a caller can catch. To list more of each error, extend the columns here."""
    root = Path(expunge.__file__).parent
    classes = [
        node
        for file in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    kinds = {"ExpungeError"}
    while more := {n.name for n in classes if {ast.unparse(b).split(".")[-1] for b in n.bases} & kinds} - kinds:
        kinds |= more
    found = {n.name: n for n in classes if n.name in kinds}
    order = ["ExpungeError", *sorted(kinds - {"ExpungeError"})]
    rows = [(f"`{name}`", " ".join((ast.get_docstring(found[name]) or "").split("\n\n")[0].split())) for name in order if name in found]
    parts = [
        "# Errors",
        "Catch `expunge.ExpungeError`: every error that expunge raises on purpose derives from it. Its message states what happened, with "
        "the value, and what to try next. The command line prints it on one line after `error:` and exits with code 2. "
        "Any other exception is a bug and keeps its traceback.",
        table(("class", "raised for"), rows),
    ]
    return page(*parts)


# Markdown


def page(*parts: str) -> str:
    return "\n\n".join((parts[0], GENERATED, *(part for part in parts[1:] if part)))


def table(columns: tuple[str, ...], rows: list[Any], numbers: int = 0) -> str:
    """A Markdown table; the last `numbers` columns are aligned to the right."""
    rule = ["---"] * (len(columns) - numbers) + ["---:"] * numbers
    cells = [[cell_text(str(cell)) for cell in row] for row in [columns, *rows]]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]])


def cell_text(text: str) -> str:
    """A cell's text with its bars escaped. Within code an escape would be shown, so such code is written as HTML."""
    coded = re.sub(r"`([^`]*\|[^`]*)`", lambda m: f"<code>{html.escape(m[1]).replace('|', '&#124;')}</code>", text)
    return coded.replace("|", "\\|")


def setting_table(found: list[Setting], flags: bool = True) -> str:
    rows = [(f"`{s.flag if flags else s.name}`", kind_of(s), s.shown_default, s.about) for s in found]
    return table(("flag" if flags else "setting", "type", "default", "what it does"), rows) if rows else ""


def kind_of(setting: Setting) -> str:
    return " ".join(filter(None, [setting.metavar.replace("|", " / ").lower() or "yes / no", setting.bounds]))


@cache
def formulas() -> dict[str, list[list[str]]]:
    """By method, the lines of LaTeX of each indented block of its docstring."""
    return tomllib.loads((Path(__file__).parent / "formulas.toml").read_text(encoding="utf-8"))


def as_mathml(lines: list[str]) -> str:
    """Lines of LaTeX as MathML, which needs no script."""
    return '<div class="formula">' + "".join(convert(line, display="block") for line in lines) + "</div>"


def markdown(doc: str, formulas: list[list[str]] | None = None) -> str:
    """A docstring as Markdown: indented blocks become code blocks, and the sections of arguments become lists.

    Args:
        doc: The docstring.
        formulas: The lines of LaTeX that take the place of each indented block.

    Raises:
        ValueError: there are more or fewer formulas than indented blocks.
    """
    blocks, left = [], list(formulas or ())
    for block in doc.split("\n\n"):
        lines = block.splitlines()
        if lines and re.fullmatch(r"(Args|Returns|Raises|Yields):", lines[0]):
            blocks.append(section(lines))
        elif lines and all(line.startswith("    ") for line in lines) and formulas:
            if not left:
                raise ValueError(f"docs/formulas.toml has no formula for the block {block!r}")
            blocks.append(as_mathml(left.pop(0)))
        elif lines and all(line.startswith("    ") for line in lines):
            blocks.append(f"```text\n{textwrap.dedent(block)}\n```")
        else:
            blocks.append(block)
    if left:
        raise ValueError(f"docs/formulas.toml has a formula more than the docstring has blocks: {left}")
    return "\n\n".join(blocks)


def section(lines: list[str]) -> str:
    """An `Args:`, `Returns:` or `Raises:` section as a list."""
    title, items = lines[0].rstrip(":"), []
    for line in textwrap.dedent("\n".join(lines[1:])).splitlines():
        is_continued = line.startswith(" ") or not re.match(r"[\w ,.]+:", line)
        if items and is_continued:
            items[-1] += " " + line.strip()
        else:
            name, _, about = line.partition(": ")
            items.append(f"`{name}`: {about}" if about and title != "Returns" else line.strip())
    shown = {"Args": "Arguments"}.get(title, title)
    return f"{shown}:\n\n" + "\n".join(f"- {item}" for item in items)


if __name__ == "__main__":
    for path, text in pages().items():
        file = FOLDER / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
