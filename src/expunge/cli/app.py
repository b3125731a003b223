"""The verbs together, and what happens to a mistake."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from expunge.cli.adopt import adopt
from expunge.cli.audit import audit
from expunge.cli.bench import bench
from expunge.cli.compose import compose
from expunge.cli.demo import demo
from expunge.cli.eval import evaluate
from expunge.cli.ls import ls
from expunge.cli.merge import merge
from expunge.cli.meter import meter
from expunge.cli.options import values_of
from expunge.cli.report import report
from expunge.cli.sample import sample
from expunge.cli.show import show
from expunge.cli.unlearn import unlearn
from expunge.names import nearest

USERS_MISTAKE, INTERRUPTED = 2, 130

SINGLE = ("demo", "sample", "eval", "meter", "audit", "report", "merge", "compose", "adopt", "bench")
"""Verbs that do their work in one process, or share it out themselves."""

CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""`ClickException`. Typer has taken click into itself, so where it can be imported from depends on the version."""


class Verbs(TyperGroup):
    """The group of all verbs: an unknown one is told the nearest."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["demo", "ls", "show", "unlearn", "sample", "eval", "meter", "audit", "report", "merge", "compose", "adopt", "bench"]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            verbs = self.list_commands(ctx)
            ctx.fail(f"a verb is one of {', '.join(verbs)}: {args[0]!r} is none{nearest(args[0], verbs)}")
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Verbs, add_completion=False, rich_markup_mode=None, context_settings={"max_content_width": 100})


def _version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(version("expunge"))
        except PackageNotFoundError:
            print("unknown")
        raise typer.Exit
    return wanted


@app.callback()
def expunge(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)] = False,
) -> None:
    """Remove a concept from a text-to-image diffusion model, and measure that it is gone.

    Start with `expunge demo`: a concept is erased from the embedded model, measured, and shown on a page.
    """


app.command("demo")(demo)
app.command("ls")(ls)
app.command("show")(show)
app.add_typer(unlearn, name="unlearn")
app.command("sample")(sample)
app.command("eval")(evaluate)
app.command("meter")(meter)
app.command("audit")(audit)
app.command("report")(report)
app.command("merge")(merge)
app.command("compose")(compose)
app.command("adopt")(adopt)
app.command("bench")(bench)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code.

    0 is success, 2 a user's mistake or a promise that could not be kept (one line on stderr says which), 130 an interruption.
    Anything else is a bug and keeps its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Of the libraries below, which read these when they are imported: their hints are for programmers, their bars for terminals.
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    if (several := os.environ.get("WORLD_SIZE", "1")) != "1" and (verb := next(iter(given), "")) in SINGLE:
        return _refuse(
            f"several processes share a run of `expunge unlearn`: {verb!r} was started in {several}; start it without a launcher"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            code = get_command(app).main(given or ["--help"], prog_name="expunge", standalone_mode=False)
    except CLICK_ERROR as error:
        return _refuse(_usage(error, given))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if not _expected(error):
            raise
        return _refuse(str(error))
    if code == INTERRUPTED:  # some versions of click answer an interruption themselves
        print("\nstopped: the same command goes on from what is done so far", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _refuse(message: str) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return USERS_MISTAKE


def _usage(error: Any, arguments: Sequence[str]) -> str:
    """What click says, the value that it says it of, and where the right usage stands."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    message = error.format_message().rstrip(".")
    if parameter is not None and (values := values_of(parameter.opts, arguments)):
        message += f": {values[-1]!r}"
    return message + (f"; see `{context.command_path} --help`" if context else "")


def _expected(error: Exception) -> bool:
    """Whether it is an `ExpungeError`, whose module imports torch: where it was not loaded, none can have been raised."""
    types = sys.modules.get("expunge.errors")
    return types is not None and isinstance(error, types.ExpungeError)
