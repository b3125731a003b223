"""Data sets that the library `datasets` reads: one on the hub, or a folder on this machine."""

from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError

SCHEME = "datasets:"
"""The prefix of a name for `open_data_set`."""


def open_data_set(name: str) -> Any:
    """The train split of a data set: a folder that `Dataset.save_to_disk` wrote, else what `datasets.load_dataset` takes, such as a name on
    the hub or a folder of parquet files.

    Raises:
        ExpungeError: `datasets` is not installed, or cannot load it.
    """
    try:
        import datasets
    except ImportError as error:
        raise ExpungeError(
            f"{SCHEME}{name} needs the library datasets, which is not installed.",
            rule="missing-package",
            value="datasets",
            hint="Try `pip install 'expunge[data]'`, or give a folder of images.",
        ) from error
    saved = Path(name).expanduser()
    try:
        if not any((saved / file).is_file() for file in ("state.json", "dataset_dict.json")):
            return datasets.load_dataset(name, split="train")
        found = datasets.load_from_disk(str(saved))
        return found["train"] if isinstance(found, datasets.DatasetDict) else found
    except Exception as error:  # of any class: no network, no such name, no such split, a gated data set
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExpungeError(
            f"The library datasets cannot load the train split of {name!r}: {reason.rstrip('.')}.",
            rule="unreadable-data",
            value=name,
            hint="Try another name, or a folder of parquet files.",
        ) from error


def image_column(table: Any) -> str | None:
    """The name of the first column of images, if there is one."""
    import datasets

    return next((column for column, kind in table.features.items() if isinstance(kind, datasets.Image)), None)
