"""`expunge purge RUN`: deletes what shows a run's concept."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import RunFolder, find_run_folder


def purge(
    run: RunFolder,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the files. Without it they are only listed.")] = False,
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The cache; default $EXPUNGE_CACHE or ~/.cache/expunge.")] = None,
) -> None:
    """Delete images and cached predictions that show the concept.

    Lists every image and page in the run's folder, and what the cache holds of the concept; deletes them with --yes. The run stays and can
    be evaluated again, which makes images again. Files outside the run's folder and the cache are not found.
    """
    from expunge.cli.output import print_lines, print_table
    from expunge.runs.purge import find_shown
    from expunge.runs.purge import purge as delete
    from expunge.runs.run import Run

    finished = Run(find_run_folder(run))
    found = delete(finished, cache) if yes else find_shown(finished, cache)
    print_lines(*(f"{shown.path}  {shown.size:,} bytes  {shown.why}" for shown in found))
    count, size = Counter(shown.why for shown in found), Counter[str]()
    for shown in found:
        size[shown.why] += shown.size
    print_table("", ("what", "files", "bytes"), [(w, f"{n:,}", f"{size[w]:,}") for w, n in count.items()], numbers=("files", "bytes"))
    print_lines(f"{'deleted' if yes else 'to delete'}  {len(found):,} files, {sum(s.size for s in found):,} bytes")
    print_lines(f"stays    the run {finished.folder}: weights, settings, log, numbers and labels")
    print_lines("stays    base model, merged folders, LoRA files, reports and images outside the run's folder, suites")
    if found and not yes:
        print_lines("", f"next: expunge purge {finished.folder} --yes")
