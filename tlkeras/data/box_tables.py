"""Tables of boxes: a row for each, several rows for a picture; the names of the columns say what the numbers are."""

import os
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import tables
from tlkeras.data.annotated import Annotated, Findings, Mark, Picture, name, safe_name
from tlkeras.data.yolo import number
from tlkeras.errors import DataError, listed, nearest

IMAGES = ("image", "filename", "file_name", "path")
LABELS = ("label", "class", "name", "category")
# x0, y0, x1, y1, or where the last two are sides.
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2"))
SIDES = ("x", "y", "width", "height")
# Parts of the sides; the second is how Open Images writes them.
PARTS = (("rel_xmin", "rel_ymin", "rel_xmax", "rel_ymax"), ("XMin", "YMin", "XMax", "YMax"))


def read(path: Path, data: Data) -> Annotated:
    """The pictures of a table of boxes. A row without numbers is a picture without a box.

    Raises:
        DataError: when a column is missing, or it is not clear what the numbers are.
    """
    rows, lines = tables.columns(path)
    image = _column(path, rows, "image", [data.image] if data.image != "image" else IMAGES)
    label = _column(path, rows, "label", [data.label] if isinstance(data.label, str) else LABELS)
    for column in filter(None, (data.group, data.split)):
        _column(path, rows, "group or split", [column])
    columns = next((c for c in (*PARTS, *CORNERS, SIDES) if all(n in rows for n in c)), None)
    if columns is None:
        choices = "; ".join(", ".join(c) for c in (*CORNERS, SIDES, *PARTS))
        raise DataError(
            f"{path}: a table of boxes needs four columns of one of these sets: {choices}. It has: {', '.join(rows)}."
        )
    relative = columns in PARTS
    values = [[number(cell) if isinstance(cell, str) else None for cell in rows[c]] for c in columns]
    given = [v for column in values for v in column if v is not None]
    if not relative and given and max(map(abs, given)) <= 1:
        raise DataError(
            f"{path}: the columns {', '.join(columns)} hold pixels, and every number in them is 1 or less. If they are parts of the sides, call the columns {', '.join(PARTS[0])}."
        )
    splits, odd = tables.splits(rows[data.split], lines, "line") if data.split else ([None] * len(lines), [])
    groups = tables.groups(rows, data.group, len(lines))
    odd += [
        f"line {n}: a group must be one text"
        for n, g in zip(lines, groups, strict=True)
        if not isinstance(g, str | None)
    ]
    if odd:
        raise DataError(listed(f"{path}: {len(odd)} rows cannot be used", odd))
    findings, pictures = Findings(), {}
    folder = Path(data.images) if data.images else path.parent
    for n, (line, file, split, group) in enumerate(zip(lines, rows[image], splits, groups, strict=True)):
        where, cells = f"line {line}", [rows[c][n] for c in columns]
        if not safe_name(file):
            findings.marks[where] = (
                f"{file!r:.200} is no file in the folder {folder}" if file else f"the cell {image!r} is empty"
            )
            continue
        full = os.path.normpath(folder / file)
        picture = pictures.setdefault(full, Picture(full, where, split, group, relative=relative))
        if (split, group) != (picture.split, picture.group):
            findings.pictures[name(folder, picture)] = f"{picture.where} and {where} give it different splits or groups"
        elif any(cells):
            mark = _mark(where, rows[label][n], cells, [v[n] for v in values], columns)
            if isinstance(mark, Mark):
                picture.marks.append(mark)
            else:
                findings.marks[where], picture.lost = mark, True
    if not pictures:
        raise DataError(
            listed(f"{path}: no row names a picture", [f"{k}: {v}" for k, v in findings.marks.items()] or ["no rows"])
        )
    found = list(dict.fromkeys(m.name for p in pictures.values() for m in p.marks))
    if data.classes is not None and (absent := [c for c in data.classes if c not in found]):
        raise DataError(
            f"data.classes: the column {label!r} has no {', '.join(map(repr, absent))}; it has {', '.join(found)}."
        )
    return Annotated(folder, list(pictures.values()), data.classes or sorted(found), findings)


def _mark(where: str, label, cells: list, values: list, columns) -> Mark | str:
    """A row's box, or what is wrong with it."""
    if None in values:
        return f"{columns[values.index(None)]} holds {cells[values.index(None)]!r:.60}, which is no number"
    if not isinstance(label, str) or not label or not label.isprintable():
        return f"a box has a label; received {label!r:.60}"
    a, b, c, d = values
    return Mark(where, label, (a, b, a + c, b + d) if columns == SIDES else (a, b, c, d))


def _column(path: Path, rows: dict, what: str, names) -> str:
    for known in names:
        if known in rows:
            return known
    raise DataError(
        f"{path}: the table has no column {names[0]!r} ({what}).{nearest(names[0], rows)} It has: {', '.join(rows)}. Name columns with data.image and data.label."
    )
