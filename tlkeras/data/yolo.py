"""YOLO's folders: a text file for each picture, a line for each box: class number, centre and sides as parts of the
picture's. A line with more numbers is a polygon, whose box is taken."""

import math
import os
from collections import Counter
from pathlib import Path

from tlkeras.config import Data, document
from tlkeras.data import tables
from tlkeras.data.annotated import Annotated, Findings, Mark, Picture, name
from tlkeras.data.listing import list_images
from tlkeras.data.samples import SPLIT_FOLDERS
from tlkeras.data.signatures import SUFFIXES
from tlkeras.errors import ConfigError, DataError

YAML = ("data.yaml", "data.yml", "dataset.yaml")
NAMES = ("classes.txt", "obj.names", "labels.txt")
MOST_BYTES = 10_000_000  # of one file of boxes or names


def folders(root: Path) -> list[tuple[str | None, Path, Path]]:
    """(split or None, folder of pictures, folder of texts), for the layouts images/ + labels/, SPLIT/images +
    SPLIT/labels, and texts beside their pictures; empty where none is there."""
    found = []
    for images, labels in ((root / "images", root / "labels"), *((d / "images", d / "labels") for d in _splits(root))):
        if images.is_dir() and labels.is_dir() and _holds_texts(labels):
            outer = SPLIT_FOLDERS.get(images.parent.name.lower()) if images.parent != root else None
            inner = [d.name for d in _splits(images)]
            found += [(SPLIT_FOLDERS[n.lower()], images / n, labels / n) for n in inner] or [(outer, images, labels)]
    if not found:
        found = [(SPLIT_FOLDERS.get(d.name.lower()), d, d) for d in _splits(root) if _beside(d)]
    if not found and _beside(root):
        found = [(None, root, root)]
    return found if len(found) == 1 or "train" in {s for s, _, _ in found} else []


def read(root: Path, data: Data) -> Annotated:
    """The pictures of YOLO's folders. A picture without a text has no boxes.

    Raises:
        DataError: when there are no pictures, or the names of the classes cannot be read.
    """
    parts, findings, pictures, ignored = folders(root), Findings(), [], Counter()
    names = _names(root, data)
    for split, images, labels in parts:
        found, passed = list_images(images, data.follow_symlinks)
        ignored.update({why: n for why, n in passed.items() if why != "suffix .txt" or images != labels})
        texts = {p: p for p in sorted(labels.rglob("*.txt")) if p.name not in NAMES and p.is_file()}
        for path in found:
            text = labels / Path(path).relative_to(images).with_suffix(".txt")
            picture = Picture(path, os.path.relpath(text, root), split, relative=True)
            texts.pop(text, None)
            if text.is_file():
                if unread := _lines(text, picture, names, findings):
                    findings.pictures[name(root, picture)] = f"{picture.where}: {unread}"
            else:
                findings.note("pictures without a file of boxes, which count as empty", name(root, picture))
            pictures.append(picture)
        for text in texts:
            findings.pictures[os.path.relpath(text, root)] = (
                f"there is no picture of this name in {images.relative_to(root)}"
            )
    if not pictures:
        raise DataError(f"{root}: there are no pictures in {', '.join(str(i) for _, i, _ in parts)}.")
    if names is None:
        most = max((int(m.name) for p in pictures for m in p.marks), default=-1)
        names = [f"class_{n}" for n in range(most + 1)]
        for mark in (m for p in pictures for m in p.marks):
            mark.name = names[int(mark.name)]
    return Annotated(root, pictures, names, findings, dict(ignored))


def _splits(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(d for d in folder.iterdir() if d.is_dir() and d.name.lower() in SPLIT_FOLDERS)


def _holds_texts(folder: Path) -> bool:
    return any(p.name not in NAMES for p in folder.rglob("*.txt"))


def _beside(folder: Path) -> bool:
    """Whether texts lie beside pictures of the same name."""
    pictures = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    return any(p.with_suffix(".txt").is_file() for p in pictures)


def _names(root: Path, data: Data) -> list[str] | None:
    """The classes by number: the config's, data.yaml's, or the lines of a file; None: there is none of these."""
    if data.classes is not None:
        return data.classes
    for path in (root / n for n in YAML):
        if path.is_file():
            return _of_yaml(path)
    for path in (root / n for n in NAMES):
        if path.is_file():
            return _distinct([line.strip() for line in tables.decoded(path).splitlines() if line.strip()], path)
    return None


def _of_yaml(path: Path) -> list[str]:
    try:
        values = document.parse(tables.decoded(path), str(path)).values
    except ConfigError as e:
        raise DataError(str(e)) from e
    names = values.get("names") if isinstance(values, dict) else None
    if isinstance(names, dict) and all(str(k).isdecimal() for k in names):
        numbered = {int(k): v for k, v in names.items()}
        if sorted(numbered) != list(range(len(numbered))):
            raise DataError(
                f"{path}: names must be numbered from 0 without a gap; received {', '.join(map(str, numbered))}."
            )
        names = [numbered[n] for n in range(len(numbered))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str | int) for n in names):
        raise DataError(f"{path}: 'names' must list the classes, names: [cat, dog]; received {names!r:.100}.")
    return _distinct([str(n).strip() for n in names], path)


def _distinct(names: list[str], path: Path) -> list[str]:
    if doubled := sorted({n for n in names if names.count(n) > 1 or not n.isprintable() or not n}):
        raise DataError(
            f"{path}: classes need different names that can be printed; received {', '.join(map(repr, doubled))}."
        )
    return names


def _lines(path: Path, picture: Picture, names: list[str] | None, findings: Findings) -> str | None:
    """Gives a picture the boxes of a file; returns why it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return f"more than {MOST_BYTES:,} bytes"
        lines = tables.decoded(path).splitlines()
    except (OSError, DataError) as e:
        return str(e).removeprefix(str(path)).removeprefix(":")
    for n, line in enumerate(lines, 1):
        if line.strip():
            mark = _mark(line.split(), f"{picture.where}:{n}", names)
            if isinstance(mark, Mark):
                picture.marks.append(mark)
            else:
                findings.marks[f"{picture.where}:{n}"], picture.lost = mark, True
    return None


def _mark(cells: list[str], where: str, names: list[str] | None) -> Mark | str:
    """A line's box, or what is wrong with it."""
    values = [number(c) for c in cells]
    if None in values:
        return f"{cells[values.index(None)]!r:.40} is no number"
    # Some tools write the class as 3.0.
    if values[0] != int(values[0]) or not 0 <= values[0] <= 99_999:
        return f"a line begins with the number of a class; received {cells[0]!r:.40}"
    if names is not None and values[0] >= len(names):
        return f"there is no class {cells[0]}; {len(names)} are named, 0 to {len(names) - 1}"
    numbered = str(int(values[0])) if names is None else names[int(values[0])]
    if len(values) == 5:
        x, y, width, height = values[1:]
        return Mark(where, numbered, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(values) >= 7 and len(values) % 2:
        xs, ys = values[1::2], values[2::2]
        return Mark(where, numbered, (min(xs), min(ys), max(xs), max(ys)), shape=[values[1:]])
    return f"a line has five numbers (class, x, y, width, height), or a class and three points or more; received {len(values)}"


def number(text: str) -> float | None:
    """The number that a text is, None where it is none or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
