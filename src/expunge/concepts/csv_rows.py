"""Reads the rows of CSV files, as people and spreadsheets write them: with commas, semicolons or tabs, in UTF-8 or UTF-16."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from expunge.errors import ExpungeError

COLUMNS = ("kind", "name", "synonyms", "family")
NEEDED = COLUMNS[:2]
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
SEPARATED = "with commas, semicolons or tabs between the columns"
TABLE = f"the header {','.join(COLUMNS)}, {SEPARATED}"


def read_rows(path: Path, columns: Sequence[str] = COLUMNS, needed: Sequence[str] = NEEDED) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row that is not empty: where it is, for errors, and its cells by column, in lower case. A missing cell is empty.

    Args:
        columns: names that the header may have, by which the delimiter is recognised; default those of a vocabulary.
        needed: those that it must have.

    Raises:
        ExpungeError: rule "unreadable-csv", another encoding or broken quotes; "csv-header", the first line lacks a column;
            "csv-cells", a row has more cells than the header.
        OSError: the file cannot be opened.
    """
    lines = io.StringIO(_decode(path), newline="")
    first = lines.readline()
    if first.lower().startswith("sep="):  # a line for Excel alone
        first = lines.readline()
    if not first.strip():
        return
    delimiter, header = _read_header(first, path, columns, needed)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    before = 1
    try:
        for cells in reader:
            where, before = f"Line {before + 1} of {path}", reader.line_num + 1
            cells = [" ".join(cell.split()) for cell in cells]
            if not any(cells):
                continue
            if any(cells[len(header) :]):
                raise ExpungeError(
                    f"{where} has {len(cells)} cells, and the header has {len(header)} columns.",
                    rule="csv-cells",
                    value=cells[len(header) :],
                    hint=f"Try quotes around a cell that contains a {DELIMITERS[delimiter]}.",
                )
            yield where, dict.fromkeys(columns, "") | dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise ExpungeError(
            f"Line {before + 1} of {path} is not CSV: {error}.", rule="unreadable-csv", value=str(path), hint="Try to save it again."
        ) from error


def _decode(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ExpungeError(
            f"{path} is not a text in {encoding.upper().removesuffix('-SIG')}: {error}.",
            rule="unreadable-csv",
            value=str(path),
            hint="Try to save it as CSV UTF-8.",
        ) from error
    return text.replace("\0", "")


def _read_header(line: str, path: Path, columns: Sequence[str], needed: Sequence[str]) -> tuple[str, list[str]]:
    """The delimiter, and the names of the columns."""
    split = {d: [" ".join(cell.split()).lower().strip('"') for cell in line.split(d)] for d in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda d: (len(set(split[d]) & set(columns)), len(split[d])))
    header = split[delimiter]
    if missing := [column for column in needed if column not in header]:
        raise ExpungeError(
            f"The first line of {path} is {line.strip()!r}. It has no column {missing[0]!r} (delimiter: {DELIMITERS[delimiter]}).",
            rule="csv-header",
            value=line.strip(),
            hint=f"Try the header {','.join(columns)}, {SEPARATED}.",
        )
    return delimiter, header
