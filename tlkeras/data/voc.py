"""Pascal VOC's folders: an XML file for each picture. Corners count pixels from 1 and both belong to the box, so that the
left edge of a box is xmin - 1 and its right edge xmax, as its development kit has it. Difficult objects are crowds."""

import os
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import tables
from tlkeras.data.annotated import Annotated, Findings, Mark, Picture, common_root, safe_name, twice
from tlkeras.data.samples import SPLIT_FOLDERS
from tlkeras.data.yolo import number
from tlkeras.errors import DataError

MOST_BYTES = 10_000_000
MOST_DEPTH = 100


def files(root: Path) -> list[Path]:
    """The XML files of a folder: those in Annotations/, else all below it."""
    folder = root / "Annotations"
    found = sorted((folder if folder.is_dir() else root).rglob("*.xml"))
    return [p for p in found if p.is_file() and not any(x.startswith(".") for x in p.relative_to(root).parts)]


def read(root: Path, data: Data) -> Annotated:
    """The pictures that XML files describe.

    Raises:
        DataError: when data.classes names a class that does not occur.
    """
    findings, pictures = Findings(), []
    splits, passed = _splits(root), 0
    for path in files(root):
        where = path.relative_to(root).as_posix()
        split = None if splits is None else splits.get(path.stem)
        if splits is not None and split is None:
            passed += 1
            continue
        folder = SPLIT_FOLDERS.get(path.relative_to(root).parts[0].lower())
        made = _picture(path, where, root, split or folder, data, findings)
        if isinstance(made, str):
            findings.pictures[where] = made
        else:
            pictures.append(made)
    if "train" not in {p.split for p in pictures}:
        for picture in pictures:
            picture.split = None
    doubled = twice(p.path for p in pictures)
    for picture in (p for p in pictures if p.path in doubled):
        findings.pictures[picture.where] = f"another file names the same picture, {os.path.basename(picture.path)}"
    pictures = [p for p in pictures if p.path not in doubled]
    names = sorted({m.name for p in pictures for m in p.marks})
    if data.classes is not None and (absent := [c for c in data.classes if c not in names]):
        raise DataError(
            f"data.classes: there is no object called {', '.join(map(repr, absent))}; there are {', '.join(names)}."
        )
    found = common_root(root, [os.path.dirname(p.path) for p in pictures])
    ignored = {"annotations in no list of ImageSets/Main": passed} if passed else {}
    return Annotated(found, pictures, data.classes or names, findings, ignored)


def _splits(root: Path) -> dict[str, str] | None:
    """The split of each name that ImageSets/Main lists; None where it has no list for training."""
    folder, found = root / "ImageSets" / "Main", Counter()
    made: dict[str, str] = {}
    for split in ("train", "val", "test"):
        if (path := folder / f"{split}.txt").is_file():
            listed = [line.split()[0] for line in tables.decoded(path).splitlines() if line.split()]
            found.update(set(listed))
            made |= dict.fromkeys(listed, split)
    if both := [n for n, times in found.items() if times > 1]:
        raise DataError(f"{folder}: a picture is in one list; {both[0]!r} and {len(both) - 1} others are in several.")
    return made if "train" in made.values() else None


def _picture(path: Path, where: str, root: Path, split, data: Data, findings: Findings) -> Picture | str:
    """The picture of one file, or what is wrong with the file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return f"more than {MOST_BYTES:,} bytes"
        top = _tree(tables.decoded(path))
    except (OSError, DataError, ValueError) as e:
        return str(e).removeprefix(str(path)).removeprefix(":").strip()
    if top.tag != "annotation":
        return f"it must be an <annotation>; it is <{top.tag[:40]}>"
    # Files that were renamed keep the old name inside; then the file of the annotation's own name counts.
    named = (top.findtext("filename") or "").strip()
    if named and not safe_name(named):
        return f"the filename {named!r:.200} leaves the folder of the pictures"
    places = [Path(data.images)] if data.images else [path.parent, root / "JPEGImages", root / "images", root]
    if not data.images and "Annotations" in path.parts:
        places.insert(0, Path(*("JPEGImages" if part == "Annotations" else part for part in path.parent.parts)))
    tried = [p / named for p in places if named] + [
        p / (path.stem + s) for p in places for s in (".jpg", ".jpeg", ".png")
    ]
    file = next((t for t in tried if os.path.isfile(t)), None)
    if file is None:
        return f"its picture {named or path.stem!r} is in none of {', '.join(str(p) for p in places)} (data.images)"
    sides = [number(top.findtext(f"size/{side}") or "0") for side in ("height", "width")]
    if None in sides or any(s < 0 or s != int(s) for s in sides):
        return "its <size> must hold whole numbers"
    picture = Picture(os.path.normpath(file), where, split, declared=tuple(map(int, sides)) if all(sides) else None)
    for n, thing in enumerate(top.findall("object"), 1):
        mark = _mark(thing, f"{where}: object {n}")
        if isinstance(mark, Mark):
            picture.marks.append(mark)
        else:
            findings.marks[f"{where}: object {n}"], picture.lost = mark, True
    return picture


def _tree(text: str):
    """The root of an XML text that defines nothing of its own and is not nested absurdly deep.

    Raises:
        ValueError: says what is wrong, and in which line.
    """
    # Entities that are defined in a file can grow without bound, or read other files.
    if found := re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"line {line}: a document type ({found[0]}) is not read: remove it")
    depth, top, parser = 0, None, ElementTree.XMLPullParser(("start", "end"))
    try:
        # Piece by piece, so that a deep file is noticed before it is a deep tree.
        for start in range(0, len(text) + 4096, 4096):
            parser.feed(text[start : start + 4096]) if start < len(text) else parser.close()
            for event, element in parser.read_events():
                top = element if top is None else top
                depth += 1 if event == "start" else -1
                if depth > MOST_DEPTH:
                    raise ValueError(f"nested more than {MOST_DEPTH} deep")
        return top
    except ElementTree.ParseError as e:
        raise ValueError(f"not XML: {e}") from e


def _mark(thing, where: str) -> Mark | str:
    """An object, or what is wrong with it."""
    called = (thing.findtext("name") or "").strip()
    if not called or not called.isprintable():
        return f"an object has a <name>; received {called!r:.60}"
    cells = [(thing.findtext(f"bndbox/{side}") or "").strip() for side in ("xmin", "ymin", "xmax", "ymax")]
    values = [number(c) for c in cells]
    if None in values:
        return f"its <bndbox> must hold four numbers; received {', '.join(c or 'nothing' for c in cells):.80}"
    x0, y0, x1, y1 = values
    # Tools that count from 0 write a 0 here.
    corners = (x0 - 1 if x0 >= 1 else x0, y0 - 1 if y0 >= 1 else y0, x1, y1)
    difficult = (thing.findtext("difficult") or "0").strip() == "1"
    return Mark(where, called, corners, difficult)
