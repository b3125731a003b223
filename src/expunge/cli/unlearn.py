"""`expunge unlearn METHOD`: the flags of each method are the fields of its class, read when the method is named."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from expunge.cli.options import AllowCode, Device, Model, Vocabulary, values_of

SWITCHES = ("--dry-run", "--help", "--gradient-checkpointing", "--no-gradient-checkpointing", "--sequential", "--joint", "--allow-code")
"""Flags that take no value."""


def _option(metavar: str, about: str) -> Any:
    return typer.Option(metavar=metavar, help=about)


TARGET = "The concept to remove. Again for its other names in the vocabulary, or for other concepts."
TOGETHER = "Several concepts one after another, in stages, or all in every batch.  [default: joint]"
REFERENCE = "What later stages learn from: the untouched model, or what the stage before left.  [default: original]"
BEFORE = (
    "A method, preset or config.toml that removes the concept first; this one goes on from there. May repeat, in turn. What one kind of "
    "change leaves open another may close."
)
STOP = "Look every N steps, and end as soon as no picture shows the concept; 0: never.  [default: never]"

COMMON: dict[str, tuple[Any, Any]] = {
    "model": (Model, None),
    "target": (Annotated[list[str] | None, _option("WORDS", TARGET)], None),
    "synonym": (Annotated[list[str] | None, _option("WORDS", "Another name to remove. May repeat.")], None),
    "anchor": (
        Annotated[
            str | None, _option("WORDS", "What the concept becomes, for ca, f-dmu, uce and spm.  [default: the prompt without the concept]")
        ],
        None,
    ),
    "sequential": (Annotated[bool | None, typer.Option("--sequential/--joint", help=TOGETHER)], None),
    "reference": (Annotated[str | None, _option("original|previous", REFERENCE)], None),
    "before": (Annotated[list[str] | None, _option("METHOD|FILE.toml|PRESET", BEFORE)], None),
    "kind": (Annotated[str | None, _option("KIND", "What a concept is that the vocabulary does not hold: style, object, ...")], None),
    "vocabulary": (Vocabulary, None),
    "seed": (Annotated[int | None, _option("N", "Of pictures, noise and batches.  [default: 0]")], None),
    "out": (Annotated[Path | None, _option("FOLDER", "The run's folder.  [default: runs/ID]")], None),
    "device": (Device, "auto"),
    "dtype": (Annotated[str | None, _option("fp32|bf16|fp16", "Precision of the network.  [default: fp32]")], None),
    "config": (
        Annotated[Path | None, _option("FILE.toml|PRESET", "A run's config.toml, or a preset (`expunge ls presets`); flags override it.")],
        None,
    ),
    "stop_when_gone": (Annotated[int | None, _option("N", STOP)], None),
    "judge": (Annotated[str | None, _option("NAME|FOLDER|ID", "Who looks, with --stop-when-gone.  [default: main on the canvas]")], None),
    "merge": (Annotated[Path | None, _option("FOLDER", "Write the whole changed pipeline too.")], None),
    "allow_code": (AllowCode, False),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it costs. Writes nothing.")], False),
}
"""The flags of every method: type and default."""


class SectionedCommand(TyperCommand):
    """A command whose options are listed under the headings that they were given."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Methods(TyperGroup):
    """One command for each method. Nothing is imported until one is named or listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        from expunge.methods import METHODS

        return list(METHODS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _command(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, method_first(args))


unlearn = typer.Typer(cls=Methods, rich_markup_mode=None, subcommand_metavar="METHOD [SETTINGS]")


@unlearn.callback()
def about() -> None:
    """Remove a concept from a model.

    \b
    Start with: expunge unlearn mim-mu --model ./my-sd15 --target "Van Gogh style" --dry-run
    Options:    expunge unlearn mim-mu --help  (its own, and those that all methods share)

    METHOD is one of those below, or package.module:Class. It may be left out where --config names it.
    """


def method_first(arguments: list[str]) -> list[str]:
    """The arguments with the method at the front, wherever it stood; the configuration's method where there is none.

    >>> method_first(["--seed", "1", "--dry-run", "esd", "--eta=2"])
    ['esd', '--seed', '1', '--dry-run', '--eta=2']
    """
    before = ["", *arguments]
    takes = [flag.startswith("-") and "=" not in flag and flag not in SWITCHES for flag in before]
    at = next((i for i, a in enumerate(arguments) if not a.startswith("-") and not takes[i]), None)
    if at is not None:
        return [arguments[at], *arguments[:at], *arguments[at + 1 :]]
    if not arguments or "--help" in arguments:
        return ["--help"]
    from expunge.cli.request import method_in
    from expunge.errors import ExpungeError

    files = values_of(["--config"], arguments)
    if not files:
        raise ExpungeError("a method is named: there is none; for example `expunge unlearn mim-mu --target neon` (`expunge ls methods`)")
    return [method_in(Path(files[-1]), "--allow-code" in arguments), *arguments]


def _command(name: str) -> Any:
    """The command of one method.

    Raises:
        ExpungeError: no such method, or one whose field has the name of a common option.
    """
    from expunge.cli.fields import settings_of
    from expunge.cli.screen import paragraphs
    from expunge.errors import ExpungeError
    from expunge.methods.base import Objective, Training
    from expunge.methods.config import find_method

    cls = find_method(name, allow_code=True)
    panels = {f"Settings of {name}": settings_of(cls)}
    if issubclass(cls, Objective):
        panels["Training"] = settings_of(Training, cls.training)
    flags: dict[str, tuple[Any, Any]] = {}
    for panel, settings in panels.items():
        for setting in settings:
            if setting.name in COMMON or setting.name in flags:
                raise ExpungeError(f"a method's settings have names of their own: {setting.flag} of {name} means something else; rename it")
            flags[setting.name] = (_setting(setting, panel), None)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    text = [f"\b\n{p}" if p.startswith(" ") else p for p in paragraphs(cls.__doc__ or "")]  # \b: click leaves formulas as they are
    decorate = app.command(name, cls=SectionedCommand, help="\n\n".join(text), short_help=next(iter(text), ""))
    decorate(_function(name, flags | COMMON))
    return get_command(app)


def _setting(setting: Any, panel: str) -> Any:
    about = f"{setting.about}  [{', '.join(filter(None, (setting.bounds, f'default: {setting.shown_default}')))}]"
    if not setting.metavar:
        return Annotated[bool | None, typer.Option(f"{setting.flag}/--no-{setting.flag[2:]}", help=about, rich_help_panel=panel)]
    return Annotated[str | None, typer.Option(setting.flag, metavar=setting.metavar, help=about, rich_help_panel=panel)]


def _function(name: str, flags: dict[str, tuple[Any, Any]]) -> Callable[..., None]:
    """A function with one keyword for each flag: typer reads a command's flags from a signature."""

    def run(**given: Any) -> None:
        _run(name, given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(flag, keyword, default=default, annotation=hint) for flag, (hint, default) in flags.items()]
    )
    run.__annotations__ = {flag: hint for flag, (hint, _) in flags.items()}
    return run


def _run(name: str, given: dict[str, Any]) -> None:
    from expunge.cli.preview import preview
    from expunge.cli.request import settle
    from expunge.cli.screen import say
    from expunge.errors import ExpungeError
    from expunge.progress import duration
    from expunge.runs.card import is_done
    from expunge.runs.export import merge, new_folder
    from expunge.runs.plan import make_plan
    from expunge.runs.unlearn import carry_out
    from expunge.training.distributed import Processes
    from expunge.training.session import Session

    request = settle(name, given)
    if given["merge"]:
        new_folder(given["merge"])
    session = Session.open(request.model, device=given["device"], dtype=request.dtype)
    model = session.model
    if request.fingerprint not in (None, model.fingerprint):
        raise ExpungeError(
            f"a configuration repeats a run on its own model: {given['config']} is for {request.fingerprint}, {request.model} is now "
            f"{model.fingerprint}; name the model to use with --model {request.model}"
        )
    plan = make_plan(
        model, request.concept, request.method,
        training=request.training, seed=request.seed, dtype=request.dtype, stop=request.stop, before=request.before,
    )  # fmt: skip
    is_main = Processes.launched(model.device).is_main
    if given["dry_run"]:
        if is_main:
            preview(plan, session, given["out"])
        return
    was_done = is_done(Path(given["out"] or Path("runs") / plan.id), plan.id)
    run = carry_out(plan, session, given["out"])
    if not is_main:
        return
    if was_done:
        say("this run was made before and is as it was; another --out makes it anew")
    say(f"run     {run.folder}", f"change  {run.card['relative_change']:.3%} of the {run.card['scope']} weights' norm")
    say(*(f"stage   {stage.folder}" for stage in run.stages), f"took    {duration(run.card['seconds'])}")
    if request.stop and plan.training:
        say(f"steps   {run.card['steps_done']} of {sum(p.training.steps for p in plan.stages or (plan,) if p.training)}")
    if given["merge"]:
        say(f"model   {merge(request.model, run, given['merge'])}")
    say("", f"next: expunge eval {run.folder}{'' if model.defaults.judges else ' --judge FOLDER|ID'}")
