"""`expunge bench SUITE`: a benchmark from one file."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import AllowCode, Device

FAILED = 1
"""The exit code if a unit failed."""

ENGINES = ("serial", "ray")

SUITE = "A TOML file, or a built-in suite (see `expunge ls protocols`)."
MODEL = "Base model, in the place of the suite's.  [default: the suite's; a published protocol has none]"
JUDGE = "Judge, in the place of the suite's (see `expunge ls judges`).  [default: the suite's]"
DATA = "File of prompts, or folder of pictures, for the suite's data called NAME. May be repeated."
OUT = "Folder of the results.  [default: runs/bench/SUITE]"
ONLY = "Units to run; * matches anything, and later parts may be left out. May be repeated.  [default: all]"
TABLE = "Print the table of the finished units in Markdown, then exit."
SEEN_BY = "With --table: the judge whose labels count.  [default: main]"
SEARCH = "Search the methods' settings on the suite's tuning concepts."
ENGINE = "serial runs one unit after another in this process; ray runs units on a Ray cluster."
ADDRESS = "Address of a running Ray cluster.  [default: start one on this machine]"
WORKERS = "Units at a time on a cluster that this command starts.  [default: number of cores]"
GPUS = "GPUs of each unit on Ray; 0.25 puts four units on one GPU."


def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help=SUITE, show_default=False)],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help=OUT)] = None,
    model: Annotated[str | None, typer.Option(metavar="FOLDER|FILE|ID", help=MODEL)] = None,
    judge: Annotated[str | None, typer.Option(metavar="NAME|FOLDER|ID", help=JUDGE)] = None,
    data: Annotated[list[str] | None, typer.Option(metavar="NAME=PATH", help=DATA)] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="LABEL/CONCEPT/SEED", help=ONLY)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the missing units and their estimated cost, then exit.")] = False,
    table: Annotated[bool, typer.Option("--table", help=TABLE)] = False,
    each: Annotated[bool, typer.Option("--each", help="With --table: one row for each unit.")] = False,
    seen_by: Annotated[str | None, typer.Option(metavar="JUDGE", help=SEEN_BY)] = None,
    search: Annotated[bool, typer.Option("--search", help=SEARCH)] = False,
    engine: Annotated[str, typer.Option(metavar="serial|ray", help=ENGINE)] = "serial",
    address: Annotated[str | None, typer.Option(metavar="ADDRESS", help=ADDRESS)] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help=WORKERS)] = None,
    gpus_per_run: Annotated[float, typer.Option(metavar="NUMBER", help=GPUS)] = 0.0,
    device: Device = "auto",
    allow_code: AllowCode = False,
) -> None:
    """Run a benchmark suite of methods, concepts and seeds.

    Each unit is one method, concept and seed. The command runs and evaluates the units that are missing and writes rows, a table and a
    page. After an interruption the same command continues. A unit that fails is named at the end and tried again the next time.
    `docs/how-to/run-a-suite.md` shows how to write a suite.

    A published protocol (`expunge ls protocols`) needs --model, and prompts or pictures of others by --data. --dry-run says what is
    missing and where to get it.
    """
    from expunge.bench.config import read_suite
    from expunge.bench.executors import Ray, Serial
    from expunge.bench.published import missing_needs, refuse_missing
    from expunge.bench.runner import Place, is_done
    from expunge.bench.summary import markdown, measured, standings
    from expunge.cli.bench_needs import print_images, print_needs
    from expunge.cli.output import print_lines
    from expunge.config import build
    from expunge.errors import ExpungeError
    from expunge.names import suggest
    from expunge.storage.cache import Store

    given = {"model": model, "judge": judge}
    plan = read_suite(suite, allow_code, {k: v for k, v in given.items() if v is not None} | {"data": _read_data(data or [])})
    folder = out or Path("runs") / "bench" / plan.name
    if table:
        finished = measured([u for u in plan.units if _is_selected(u.name, only or [])], folder)
        finished = [replace(m, label=f"{m.label}/{m.concept}/{m.seed}") for m in finished] if each else finished
        print(markdown(standings(finished, seen_by)), end="")
        return
    if each or seen_by:
        flag = "--each" if each else "--seen-by"
        raise ExpungeError(
            f"The option {flag} has no effect without --table.", rule="option-without-table", value=flag, hint="Try adding --table."
        )
    if engine not in ENGINES:
        raise ExpungeError(f"{engine!r} is not an engine.", rule="unknown-engine", value=engine, hint=suggest(engine, ENGINES))
    is_on_ray = engine == "ray"
    if is_on_ray and device == "auto":
        device = "cuda" if gpus_per_run else "cpu"
    place = Place(folder, Store.default().root.resolve(), device)
    executor = build(Ray, {"address": address, "workers": workers, "gpus": gpus_per_run}, "ray") if is_on_ray else Serial()
    needs = list(missing_needs(plan))
    if dry_run:
        print_needs(plan, needs)
        if needs:
            print_images(plan)
        if not plan.model:
            return
    else:
        refuse_missing(needs, suite)
    if search:
        command = " ".join(["expunge bench", suite, "--search", *(f"--only {shlex.quote(o)}" for o in only or [])])
        _search(plan, place, executor, only or [], dry_run, command)
        return
    units = [u for u in plan.units if _is_selected(u.name, only or [])]
    if not units:
        shown = ", ".join(only or [])
        raise ExpungeError(
            f"No unit of the suite matches --only {shown}.", rule="no-unit", value=only, hint=f"Try --only {plan.units[0].name}."
        )
    if idle := [u for u in units if not u.wanted and not u.audit]:
        print_lines(f"{plan.name}: nothing to measure on {len(idle)} of {len(units)} units, because their data is left out")
        units = [u for u in units if u not in idle]
    missing = [u for u in units if not is_done(u, place.folder(u))]
    print_lines(f"{plan.name}: {len(units)} units, {len(units) - len(missing)} done, {len(missing)} to do")
    if missing:
        _print_costs(missing, place)
    if not dry_run:
        _run(plan, missing, place, executor)


def _read_data(options: Sequence[str]) -> dict[str, str]:
    """The file of each entry of data, from `--data NAME=PATH`."""
    from expunge.errors import ExpungeError

    found = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (name and equals and path):
            raise ExpungeError(
                f"{option!r} of --data is not NAME=PATH.",
                rule="invalid-data",
                value=option,
                hint="Try --data i2p=prompts.csv, for example.",
            )
        found[name] = path
    return found


def _is_selected(name: str, only: Sequence[str]) -> bool:
    """Whether --only selects a unit. Parts that are left out match anything.

    >>> _is_selected("UCE/neon/0", ["uce"]), _is_selected("UCE/neon/0", ["*/neon/1"]), _is_selected("UCE/neon/0", [])
    (True, False, True)
    """
    parts = name.casefold().split("/")
    return not only or any(all(fnmatch(p, w) for p, w in zip(parts, o.casefold().split("/"), strict=False)) for o in only)


def _print_costs(units: Sequence[Any], place: Any) -> None:
    from expunge.bench.cost import estimate
    from expunge.cli.output import print_table
    from expunge.progress import duration

    lines = estimate(units, place)
    rows = [(e.label, str(e.units or ""), e.forwards, e.backwards, e.seconds, e.octets) for e in lines]
    rows.append(("total", str(len(units)), *(sum(r[i] for r in rows) for i in range(2, 6))))  # type: ignore[arg-type,misc]
    columns = ("", "units", "forwards", "backwards", "time", "disk at most")
    shown = [(label, n, f"{f:,}", f"{b:,}", duration(s), f"{o / 2**20:,.1f} MiB") for label, n, f, b, s, o in rows]
    print_table("estimated cost of missing units, in passes of one sample", columns, shown, numbers=columns[1:])


def _run(plan: Any, missing: Sequence[Any], place: Any, executor: Any) -> None:
    """Runs the missing units, then writes rows, table and page of all finished ones."""
    from expunge.bench.beside import markdown as markdown_beside
    from expunge.bench.beside import set_beside
    from expunge.bench.published import look, record
    from expunge.bench.summary import labelled, markdown, measured, standings
    from expunge.cli.output import print_lines
    from expunge.cli.progress import watch_units
    from expunge.progress import Progress
    from expunge.reports.pages.bench import write_bench_page
    from expunge.storage.files import write_atomically, write_lines

    outcomes = list(watch_units(executor(missing, place), len(missing), Progress.default())) if missing else []
    finished = measured(plan.units, place.out)
    lines = standings(finished)
    data = [found for name, entry in plan.data.items() if (found := look(name, entry))]
    if data:
        record(data, place.out)
    beside = None
    if plan.about and plan.about.papers:
        beside = set_beside(plan.about, plan.reported, finished, data, (j for m in finished for j in m.judges))
    write_atomically(place.out / "table.md", (markdown(lines) + (f"\n{markdown_beside(beside)}" if beside else "")).encode())
    write_lines(place.out / "rows.jsonl", labelled(finished))
    print_lines(f"rows    {place.out / 'rows.jsonl'}", f"table   {place.out / 'table.md'}")
    if finished:
        print_lines(f"page    {write_bench_page(plan.name, finished, lines, place.out / 'index.html', beside)}")
    _report_failures(outcomes)


def _report_failures(outcomes: Sequence[Any]) -> None:
    """Prints which units another process runs and which failed.

    Raises:
        typer.Exit: A unit failed.
    """
    if busy := [o.name for o in outcomes if o.status == "taken"]:
        print(f"another process runs {', '.join(busy)}", file=sys.stderr)
    if failed := [o for o in outcomes if o.status == "failed"]:
        for outcome in failed:
            print(f"failed: {outcome.name}: {outcome.error}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _search(plan: Any, place: Any, executor: Any, only: Sequence[str], dry_run: bool, command: str) -> None:
    """Searches the settings of each selected method and prints the best trials."""
    from expunge.bench.results import Outcome
    from expunge.bench.tune import search, select_best, space_of
    from expunge.cli.output import print_lines, print_table
    from expunge.cli.progress import watch_trials
    from expunge.errors import ExpungeError
    from expunge.names import RETRAINED
    from expunge.progress import Progress

    entries = [e for e in plan.methods if e.name != RETRAINED and _is_selected(e.label, only)]
    if not entries:
        raise ExpungeError(
            f"No method with settings to search matches --only {', '.join(only)}.",
            rule="no-unit",
            value=list(only),
            hint=f"Try another label. The suite has {', '.join(e.label for e in plan.methods)}.",
        )
    outcomes: list[Any] = []
    for entry in entries:
        space = space_of(entry, plan.search)
        trials = plan.search.trials if space else 1
        print_lines(f"{entry.label}: {trials} trials on {', '.join(c.target for c in plan.tuning)}, over {', '.join(space) or 'nothing'}")
        if dry_run:
            _print_costs([unit for _ in range(trials) for unit in plan.tuning_units(entry)], place)
            continue
        tried: list[Any] = []
        for event in watch_trials(search(plan, entry, executor, place, command), entry.label, trials, _describe_trial, Progress.default()):
            (outcomes if isinstance(event, Outcome) else tried).append(event)
        columns = ("trial", *space, "UA", "retention")
        rows = [
            (str(t.number + 1), *(_short(t.settings.get(n)) for n in space), _short(t.forgetting), _short(t.retention))
            for t in select_best(tried, plan.search)
        ]
        print_table(f"{entry.label}: best of {len(tried)} trials", columns, rows)
    if not dry_run:
        print_lines(f"recorded under {place.out / 'search'}")
    _report_failures(outcomes)


def _describe_trial(trial: Any) -> str:
    settings = ", ".join(f"{k} {_short(v)}" for k, v in trial.settings.items())
    return f"{settings or 'default settings'}: UA {_short(trial.forgetting)}, retention {_short(trial.retention)}"


def _short(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
