"""Tables: CSV, TSV, JSON Lines and Parquet as columns of texts. Nothing is guessed, nothing is converted."""

import csv
import io
import json
import os
from pathlib import Path

from tlkeras.data.samples import SPLIT_FOLDERS
from tlkeras.errors import DataError, listed, nearest

MOST_CELL = {True: 131_072, False: 10_000_000}  # characters of a name or number, and of a text
TAB = "\t"
SEPARATORS = {",": "commas", ";": "semicolons", TAB: "tabs"}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def columns(path: Path, strip: bool = True) -> tuple[dict[str, list], list[int]]:
    """The columns of a table, cells as texts (blank: '', several values: a list), and the line number of each row.
    `strip` takes blanks off both ends of the cells.

    Raises:
        DataError: when there is no table at `path`, or a damaged one.
    """
    if not path.is_file():
        raise absent(path)
    try:
        read = {".parquet": _parquet, ".jsonl": _jsonl}.get(path.suffix.lower())
        rows, lines = read(path) if read else _csv(path, MOST_CELL[strip])
    except OSError as e:
        raise DataError(f"{path}: the table cannot be read: {e.strerror or e}.") from e
    return ({name: [stripped(c) for c in cells] for name, cells in rows.items()} if strip else rows), lines


def stripped(cell):
    """A cell without blanks at its ends."""
    return cell.strip() if isinstance(cell, str) else [stripped(c) for c in cell] if isinstance(cell, list) else cell


def _csv(path: Path, most: int) -> tuple[dict[str, list[str]], list[int]]:
    """Columns of texts and the line number of each row; nothing is guessed, nothing converted."""
    text = decoded(path)
    # A limit of the whole process, so it is put back.
    before = csv.field_size_limit(most)
    try:
        return _csv_rows(path, text)
    finally:
        csv.field_size_limit(before)


def _csv_rows(path: Path, text: str):
    between = TAB if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    following = 1
    try:
        header = next(reader, None)
        if not header:
            raise DataError(f"{path}: the table is empty; it needs a header line.")
        header = [name.strip() for name in header]
        if doubled := sorted({n for n in header if header.count(n) > 1}):
            raise DataError(f"{path}:1: columns need different names; twice: {', '.join(doubled)}.")
        # Spreadsheets of many countries write CSV with semicolons. A header with one in its only name is that.
        if len(header) == 1 and (other := next((c for c in ";\t," if c in header[0]), None)):
            raise DataError(
                f"{path}:1: a {path.suffix.lower()} table has {SEPARATORS[between]} between its columns; this header has "
                f"{SEPARATORS[other]}. Save the table with {SEPARATORS[between]}{', or call it .tsv' * (other == TAB)}."
            )
        columns, lines, ragged = {name: [] for name in header}, [], []
        following = reader.line_num + 1
        for row in reader:
            line, following = following, reader.line_num + 1
            if not row:
                continue
            if len(row) != len(header):
                ragged.append(f"line {line}: {len(row)} cells instead of {len(header)}")
                continue
            for name, cell in zip(header, row, strict=True):
                columns[name].append(cell)
            lines.append(line)
    except csv.Error as e:
        raise DataError(
            f"{path}:{following}: the row that begins here is not well formed: {e}. A quote that is never closed does this."
        ) from e
    if ragged:
        raise DataError(listed(f"{path}: every row needs {len(header)} cells", ragged))
    return columns, lines


def decoded(path: Path) -> str:
    """A file of UTF-8 text.

    Raises:
        DataError: with the line of the first byte that is none.
    """
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: text must be UTF-8; this is UTF-16. Save it as UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw[: e.start].count(b"\n") + 1
        raise DataError(
            f"{path}:{line}: text must be UTF-8; byte {e.start} (0x{raw[e.start]:02x}) is not. Save it as UTF-8."
        ) from e
    if "\0" in text:
        line = text[: text.index(chr(0))].count(chr(10)) + 1
        raise DataError(f"{path}:{line}: a NUL character stands there; the file is damaged or not text.")
    return text


def _jsonl(path: Path):
    """One JSON object a line, all with the same keys."""
    columns, lines, bad = {}, [], []
    for line, text in enumerate(decoded(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise DataError(f"{path}:{line}: not one JSON object: {e}.") from e
        if not isinstance(row, dict):
            raise DataError(f'{path}:{line}: every line must be a JSON object, such as {{"text": ..., "label": ...}}.')
        if not lines:
            columns = {name: [] for name in row}
        if row.keys() != columns.keys():
            bad.append(f"line {line}: {', '.join(sorted(row.keys() ^ columns.keys()))}")
            continue
        lines.append(line)
        for name, value in row.items():
            columns[name].append(cell(value))
    if bad:
        raise DataError(listed(f"{path}: every line needs the keys of the first; missing or too much", bad))
    if not lines:
        raise DataError(f"{path}: there is no line in it.")
    return columns, lines


def _parquet(path: Path):
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except pyarrow.ArrowException as e:
        raise DataError(f"{path}: not a readable Parquet file: {e}.") from e
    if doubled := sorted({n for n in table.column_names if table.column_names.count(n) > 1}):
        raise DataError(f"{path}: columns need different names; twice: {', '.join(doubled)}.")
    return {name: [cell(v) for v in table[name].to_pylist()] for name in table.column_names}, list(
        range(1, table.num_rows + 1)
    )


def cell(value):
    """A value as the text of a cell: what is missing or no number is blank, lists stay lists, records stay records."""
    if isinstance(value, list):
        return [cell(v) for v in value]
    if isinstance(value, bytes):
        return value.decode("utf8", "replace")
    if isinstance(value, dict):
        return value
    return "" if value is None or value != value else str(value)


def labels(rows: dict, label) -> list:
    """The cells of the label's column; of several columns, a list of their cells for each row."""
    if isinstance(label, list):
        return [list(cells) for cells in zip(*(rows[name] for name in label), strict=True)]
    return rows[label or "label"]


def groups(rows: dict, group: str | None, n: int) -> list[str | None]:
    """The group of each row; a blank one is none, for such rows do not belong together."""
    return [cell or None for cell in rows[group]] if group else [None] * n


def splits(cells: list, lines: list[int], word: str) -> tuple[list, list[str]]:
    """The split that each cell names (None: blank), and a complaint for every cell that names none."""
    known = {"": None, **SPLIT_FOLDERS}
    found = [known.get(str(cell).lower(), "?") for cell in cells]
    odd = [
        f"{word} {line}: split {cell!r} is not train, val or test"
        for line, cell, s in zip(lines, cells, found, strict=True)
        if s == "?"
    ]
    return found, odd


def absent(path: Path) -> DataError:
    """The error for a path that is not there, with the name nearest to the first part of it that is missing."""
    lost = path
    while not lost.parent.exists():
        lost = lost.parent
    near = nearest(lost.name, os.listdir(lost.parent) if lost.parent.is_dir() else [])
    seen = "" if path.is_absolute() else f" It was looked for in {Path.cwd()}, where tlkeras was started."
    return DataError(f"{path}: there is no such file or folder.{near}{seen}")
