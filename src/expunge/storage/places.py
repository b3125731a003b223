"""Where files lie that no command names."""

import os
from pathlib import Path


def default_root() -> Path:
    """The cache: `$EXPUNGE_CACHE`, else `~/.cache/expunge`."""
    return Path(os.environ.get("EXPUNGE_CACHE", Path.home() / ".cache" / "expunge"))


def writable_instead(path: Path) -> str:
    """The hint of an error about a file or folder that cannot be written."""
    if path.absolute().is_relative_to(default_root().absolute()):
        return "Try EXPUNGE_CACHE=FOLDER with a cache folder that can be written, or freeing some space."
    return "Try another folder, or freeing some space."
