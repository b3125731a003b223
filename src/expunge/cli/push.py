"""`expunge push RUN OWNER/NAME`: a run's model on the Hugging Face hub."""

from typing import Annotated

import typer

from expunge.cli.options import BaseModel, RunFolder, find_run_folder

LORA = "Upload the LoRA file instead of the whole model."
RANK = "Rank of the LoRA.  [default: that of the run's scope, else 16]"


def push(
    run: RunFolder,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository; it is made if there is none.", show_default=False)],
    model: BaseModel = None,
    lora: Annotated[bool, typer.Option("--lora", help=LORA)] = False,
    rank: Annotated[int | None, typer.Option(metavar="N", help=RANK)] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository visible to its owner alone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and their sizes, and upload nothing.")] = False,
) -> None:
    """Upload a run's model to the Hugging Face hub.

    What is uploaded is what `merge` writes, with a model card that has the metrics of `eval`. No picture is uploaded. Log in with
    `hf auth login`, or set HF_TOKEN.
    """
    from expunge.cli.output import print_lines, print_table
    from expunge.runs.export.hub import push as upload
    from expunge.runs.run import Run
    from expunge.storage.json_files import find_file

    finished = Run(find_run_folder(run))
    files = upload(finished, repository, model=model, lora=lora, rank=rank, private=private, dry_run=dry_run)
    print_table(repository, ("file", "bytes"), [(file.name, f"{file.size:,}") for file in files], numbers=("bytes",))
    total = f"{len(files)} files, {sum(file.size for file in files):,} bytes"
    print_lines(f"{'would upload' if dry_run else 'uploaded'}  {total}")
    if find_file(finished.folder, "evaluation/rows.jsonl") is None:
        print_lines(f"The model card has no metrics, because the run was not evaluated. Try `expunge eval {finished.folder}` first.")
    if not dry_run:
        print_lines(f"https://huggingface.co/{repository}")
