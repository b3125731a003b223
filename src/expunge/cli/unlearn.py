"""`expunge unlearn METHOD`: the options of a method are the fields of its class, read when the method is named."""

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from expunge.cli.declarations import read
from expunge.cli.options import read_option_values
from expunge.cli.output import first_sentence, paragraphs
from expunge.cli.settings_help import Setting, describe_method
from expunge.cli.unlearn_options import COMMON, SWITCHES
from expunge.errors import ExpungeError


class SectionedCommand(TyperCommand):
    """A command that lists its options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Methods(TyperGroup):
    """One command for each method, made when it is named. The list of methods is read from source, without importing torch."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(read("expunge.methods:METHODS"))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _build_command(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Methods"):
            formatter.write_dl([(name, first_sentence(cls.doc)) for name, cls in read("expunge.methods:METHODS").items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, put_method_first(args))


unlearn = typer.Typer(cls=Methods, rich_markup_mode=None)


@unlearn.callback()
def describe() -> None:
    """Remove concepts from a model.

    METHOD is one of the methods below, or package.module:Class. It may be left out if --config names it. The run is written to a folder
    under runs/, from which `eval`, `audit`, `report` and `merge` continue.

    \b
    All options of a method:
        expunge unlearn mim-mu --help
    What a run will do and cost:
        expunge unlearn mim-mu --target "neon style" --dry-run
    """


def put_method_first(arguments: list[str]) -> list[str]:
    """The arguments with the method at the front; if there is none, with the method of the configuration.

    >>> put_method_first(["--seed", "1", "--dry-run", "esd", "--eta=2"])
    ['esd', '--seed', '1', '--dry-run', '--eta=2']

    Raises:
        ExpungeError: Neither the arguments nor a configuration name a method.
    """
    before = ["", *arguments]
    takes_value = [flag.startswith("-") and "=" not in flag and flag not in SWITCHES for flag in before]
    at = next((i for i, a in enumerate(arguments) if not a.startswith("-") and not takes_value[i]), None)
    if at is not None:
        return [arguments[at], *arguments[:at], *arguments[at + 1 :]]
    if not arguments or "--help" in arguments:
        return ["--help"]
    files = read_option_values(["--config"], arguments)
    if not files:
        raise ExpungeError(
            "The command names no method.",
            rule="missing-method",
            value=" ".join(arguments),
            hint="Try `expunge unlearn mim-mu --target neon`; `expunge ls methods` lists all methods.",
        )
    from expunge.cli.config_file import read_method_name

    return [read_method_name(Path(files[-1]), "--allow-code" in arguments), *arguments]


def _build_command(name: str) -> Any:
    """The command of one method.

    Raises:
        ExpungeError: No such method, or a method with a field that has the name of a common option.
    """
    method = describe_method(name)
    panels = {f"Settings of {name}": method.settings} | ({} if method.training is None else {"Training": method.training})
    options: dict[str, tuple[Any, Any]] = {}
    for panel, settings in panels.items():
        for setting in settings:
            if setting.name in COMMON or setting.name in options:
                raise ExpungeError(
                    f"{name!r} has a setting {setting.flag}, which is the name of another option.",
                    rule="setting-name-in-use",
                    value=setting.name,
                    hint="Try renaming the field.",
                )
            options[setting.name] = (_build_option(setting, panel), None)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    text = [f"\b\n{p}" if p.startswith(" ") else p for p in paragraphs(method.doc)]  # \b: click keeps the lines of formulas
    decorate = app.command(name, cls=SectionedCommand, help="\n\n".join(text), short_help=next(iter(text), ""))
    decorate(_build_function(name, options | COMMON))
    return get_command(app)


def _build_option(setting: Setting, panel: str) -> Any:
    about = f"{setting.about}  [{', '.join(filter(None, (setting.bounds, f'default: {setting.shown_default}')))}]"
    if not setting.metavar:
        return Annotated[bool | None, typer.Option(f"{setting.flag}/--no-{setting.flag[2:]}", help=about, rich_help_panel=panel)]
    return Annotated[str | None, typer.Option(setting.flag, metavar=setting.metavar, help=about, rich_help_panel=panel)]


def _build_function(name: str, options: dict[str, tuple[Any, Any]]) -> Callable[..., None]:
    """A function with one keyword for each option: typer reads a command's options from a signature."""

    def run(**given: Any) -> None:
        _run(name, given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(option, keyword, default=default, annotation=hint) for option, (hint, default) in options.items()]
    )
    run.__annotations__ = {option: hint for option, (hint, _) in options.items()}
    return run


def _run(name: str, given: dict[str, Any]) -> None:
    from expunge.cli.config_file import asked_sizes
    from expunge.cli.dry_run import print_plan
    from expunge.cli.leco_file import refuse_size
    from expunge.cli.output import print_lines
    from expunge.cli.unlearn_request import resolve
    from expunge.evaluation.criterion import parse_criterion
    from expunge.models.outline import is_identified
    from expunge.progress import duration
    from expunge.runs.plan import make_plan
    from expunge.runs.trackers import find_trackers
    from expunge.training.session import Session

    request, trackers = resolve(name, given), find_trackers(given["track"] or ())
    if given["accept"]:
        parse_criterion(given["accept"], tuple(read("expunge.attacks:ATTACKS")))
    if given["merge"]:
        from expunge.runs.export.folder import new_folder

        new_folder(given["merge"])
    session = Session.open(
        request.model, device=given["device"], dtype=request.dtype, quantization=request.quantize,
        render_batch=given["render_batch"], weights=not given["dry_run"],
    )  # fmt: skip
    model = session.model
    if given["config"]:
        refuse_size(asked_sizes(given["config"]), model.size)
    if request.fingerprint not in (None, model.fingerprint) and is_identified(model):
        raise ExpungeError(
            f"{given['config']} is for a model with the fingerprint {request.fingerprint}. {request.model} now has {model.fingerprint}.",
            rule="other-base-model",
            value=model.fingerprint,
            hint=f"Try --model {request.model} to use it as it is now.",
        )
    plan = make_plan(
        model, request.concept, request.method,
        training=request.training, seed=request.seed, dtype=request.dtype, stop=request.stop, before=request.before,
    )  # fmt: skip
    if given["dry_run"]:
        if os.environ.get("RANK", "0") == "0":
            print_plan(plan, session, given["out"])
        return
    from expunge.runs.card import is_done
    from expunge.runs.export import merge
    from expunge.runs.export.folder import refuse_unmergeable
    from expunge.runs.unlearn import carry_out
    from expunge.training.distributed import Processes

    if given["merge"]:
        refuse_unmergeable(model, given["merge"])
    is_main = Processes.launched(model.device).is_main
    was_done = is_done(Path(given["out"] or Path("runs") / plan.id), plan.id, asked=plan.tables)
    run = carry_out(plan, replace(session, trackers=trackers), given["out"], given["accept"])
    if not is_main:
        return
    if was_done:
        print_lines("This run was finished before and is unchanged. Use another --out to repeat it.")
    print_lines(f"run     {run.folder}", f"change  {run.card['relative_change']:.3%} of the {run.card['scope']} weights' norm")
    print_lines(*(f"stage   {stage.folder}" for stage in run.stages), f"took    {duration(run.card['seconds'])}")
    if request.stop and plan.training:
        print_lines(f"steps   {run.card['steps_done']} of {sum(p.training.steps for p in plan.stages or (plan,) if p.training)}")
    if given["merge"]:
        print_lines(f"model   {merge(request.model, run, given['merge'])}")
    print_lines("", f"next: expunge eval {run.folder}{'' if model.defaults.judges else ' --judge FOLDER|ID'}")
