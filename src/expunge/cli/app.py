"""All commands together, and how a mistake is reported."""

import gc
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from expunge.cli import usage_errors
from expunge.cli.adopt import adopt
from expunge.cli.audit import audit
from expunge.cli.bench import bench
from expunge.cli.cache import cache
from expunge.cli.compose import compose
from expunge.cli.demo import demo
from expunge.cli.eval import evaluate
from expunge.cli.ls import ls
from expunge.cli.merge import merge
from expunge.cli.meter import meter
from expunge.cli.purge import purge
from expunge.cli.push import push
from expunge.cli.report import report
from expunge.cli.sample import sample
from expunge.cli.show import show
from expunge.cli.studio import studio
from expunge.cli.unlearn import unlearn
from expunge.cli.verify import verify
from expunge.errors import ExpungeError, ExpungeWarning
from expunge.names import suggest
from expunge.termination import TERMINATED, Terminated, terminable

MISTAKE, INTERRUPTED = 2, 130
"""Exit codes."""

VERBS = (
    "demo",
    "ls",
    "show",
    "unlearn",
    "sample",
    "eval",
    "meter",
    "audit",
    "report",
    "studio",
    "verify",
    "merge",
    "push",
    "purge",
    "compose",
    "adopt",
    "bench",
    "cache",
)
"""In the order of `expunge --help`."""

SINGLE = tuple(verb for verb in VERBS if verb not in ("ls", "show", "unlearn", "cache", "verify"))
"""Verbs that run in one process, or start their own workers."""

CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""`ClickException`. Typer has taken click into itself, so where it can be imported from depends on the version."""


class Verbs(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            raise ExpungeError(
                f"{args[0]!r} is not a command of expunge.",
                rule="unknown-command",
                value=args[0],
                hint=suggest(args[0], VERBS, "`expunge --help`"),
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Verbs, rich_markup_mode=None, context_settings={"max_content_width": 100})


def _print_version(wanted: bool) -> bool:
    if wanted:
        import expunge

        print(expunge.__version__)
        raise typer.Exit
    return wanted


@app.callback()
def expunge(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Remove concepts from text-to-image diffusion models and measure the result.

    Start with `expunge demo`. It removes a concept from the embedded model, measures the change and writes a report.
    """


app.command("demo")(demo)
app.command("ls")(ls)
app.command("show")(show)
app.add_typer(unlearn, name="unlearn", options_metavar="METHOD", subcommand_metavar="[OPTIONS]")
app.command("sample")(sample)
app.command("eval")(evaluate)
app.command("meter")(meter)
app.command("audit")(audit)
app.command("report")(report)
app.command("studio")(studio)
app.command("verify")(verify)
app.command("merge")(merge)
app.command("push")(push)
app.command("purge")(purge)
app.command("compose")(compose)
app.command("adopt")(adopt)
app.command("bench")(bench)
app.command("cache")(cache)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    0 is success; 1 a suite with failed units or an audit with failed attacks; 2 an `ExpungeError`, printed on standard error as one line;
    130 an interruption; 143 a termination by SIGTERM, before which `unlearn` writes a checkpoint. Any other exception is a bug and keeps
    its traceback.
    """
    try:
        with terminable():
            return run(list(sys.argv[1:] if arguments is None else arguments))
    except ExpungeError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return MISTAKE
    except Terminated:
        print("\nTerminated. The same command continues from what is finished.", file=sys.stderr)
        return TERMINATED


def run(arguments: Sequence[str]) -> int:
    """Runs the command line and returns its exit code.

    Raises:
        ExpungeError: A usage error, or any error of a command that it explains itself.
    """
    # Transformers, diffusers and tqdm read these when they are imported: their hints are for programmers, their bars for terminals.
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    if (processes := os.environ.get("WORLD_SIZE", "1")) != "1" and (verb := next(iter(arguments), "")) in SINGLE:
        raise ExpungeError(
            f"A launcher started {processes} processes of `expunge {verb}`, which runs in one. Only `expunge unlearn` shares its work.",
            rule="several-processes",
            value=verb,
            hint=f"Try `expunge {verb}` without the launcher.",
        )
    collects = "--dry-run" in arguments and gc.isenabled()
    try:
        if collects:
            gc.disable()  # a price is done before garbage matters; collecting it takes a tenth of the time, most of it while importing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            code = get_command(app).main(list(arguments) or ["--help"], prog_name="expunge", standalone_mode=False)
    except CLICK_ERROR as error:
        raise usage_errors.convert(error, arguments) from error
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    finally:
        if collects:
            gc.enable()
    if code == INTERRUPTED:  # some versions of click handle an interruption themselves
        print("\nInterrupted. The same command continues from what is finished.", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _show_warning(others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Prints our warnings in one line, as errors, and leaves those of libraries as they are."""
    if issubclass(category, ExpungeWarning):
        print("warning:", " ".join(str(message).split()), file=sys.stderr)
    else:
        others(message, category, *where)
