"""Fingerprints of weights that were loaded from files, computed once for the files."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest


def kept_fingerprint(files: Sequence[Path], compute: Callable[[], str]) -> str:
    """The fingerprint of what was loaded from `files`. It is kept under their paths, sizes and times, for hashing the tensors of a large
    model takes a minute. Without files it is computed.
    """
    if not files:
        return compute()
    stats = [(str(file), file.stat()) for file in files]
    kept = Store.default().root / "fingerprints" / digest([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    try:
        found = kept.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        found = ""
    if re.fullmatch("[0-9a-f]{32}", found):
        return found
    found = compute()
    write_atomically(kept, found.encode())
    return found


def weight_files(parts: Sequence[Any]) -> list[Path]:
    """The files that parts of a pipeline were loaded from; none where that is not known of each."""
    folders = [str(getattr(part.config, "_name_or_path", "")) for part in parts]
    found = [sorted(Path(folder).glob("*.safetensors")) if folder else [] for folder in folders]
    return [file.resolve() for files in found for file in files] if all(found) else []
