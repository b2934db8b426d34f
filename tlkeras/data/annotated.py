"""Pictures with marks on them: what every format of boxes and masks is read into, and what is checked of all of them."""

import math
import os
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import rle
from tlkeras.data.examine import upright
from tlkeras.data.listing import gate, printed
from tlkeras.data.parallel import in_order
from tlkeras.data.samples import Samples
from tlkeras.device import cores
from tlkeras.errors import DataError, listed, nearest

FURTHEST = 1e7  # a number larger than this is no place in a picture


@dataclass
class Mark:
    """One annotation. `where` it stands, for messages; `box` is x0, y0, x1, y1; `shape` a segmentation of COCO, polygons
    or runs; `area` None where the format does not say."""

    where: str
    name: str
    box: tuple[float, float, float, float] | None = None
    crowd: bool = False
    area: float | None = None
    shape: object = None


@dataclass
class Picture:
    """A picture and its marks; `lost` says that some could not be read. `declared` is its (height, width) as the annotation has it, None where it does not say;
    `relative` says that boxes are parts of the sides and not pixels; `mask` is the path of an index mask."""

    path: str
    where: str
    split: str | None = None
    group: str | None = None
    declared: tuple[int, int] | None = None
    marks: list[Mark] = field(default_factory=list)
    lost: bool = False
    relative: bool = False
    mask: str | None = None


@dataclass
class Findings:
    """What is wrong, by where it stands: pictures and annotations that cannot be used; and what is only odd: the places
    of each oddity."""

    pictures: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, where: str) -> None:
        self.notes.setdefault(what, []).append(where)

    def add(self, other: "Findings") -> None:
        self.pictures |= other.pictures
        self.marks |= other.marks
        for what, places in other.notes.items():
            self.notes.setdefault(what, []).extend(places)


@dataclass
class Annotated:
    """What a format gives. `root` is the folder that all pictures lie in; `classes` None: not known before the masks are
    read. `findings` are those that showed while reading."""

    root: Path
    pictures: list[Picture]
    classes: list[str] | None
    findings: Findings = field(default_factory=Findings)
    ignored: dict[str, int] = field(default_factory=dict)


def samples(found: Annotated, data: Data, label: Callable) -> Samples:
    """Looks at the header of every picture and makes the labels.

    Args:
        label: `f(picture, size, findings)`, a label that can be written as JSON, or None with what is wrong among the
            findings.

    Raises:
        DataError: with all that is wrong, unless `on_bad: skip`, which leaves it out.
    """
    refusal = gate(found.root, data.follow_symlinks, ())

    def look(picture: Picture):
        said = Findings()
        size = upright(picture.path, refusal)
        if isinstance(size, str):
            said.pictures[name(found.root, picture)] = f"{size} ({picture.where})"
            return None, said
        size, lying = size
        if picture.declared is not None and picture.declared != size:
            turned = "; it is turned by its EXIF orientation, and boxes belong to the upright picture" if lying else ""
            said.pictures[name(found.root, picture)] = (
                f"{picture.where} says {_by(picture.declared)} pixels, the file has {_by(size)}{turned}"
            )
            return None, said
        return label(picture, size, said), said

    labels, findings = [], found.findings
    with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for made, said in in_order(pool, look, found.pictures, 4 * cores()):
            labels.append(made)
            findings.add(said)
    ids = [name(found.root, p) for p in found.pictures]
    _refuse(findings, found.root, len(ids), data)
    for i, picture, made in zip(ids, found.pictures, labels, strict=True):
        # Taken for empty, it would teach that nothing is there.
        if made is not None and (picture.marks or picture.lost) and not made["names"]:
            findings.pictures[i] = "none of its annotations can be used"
    kept = [made is not None and i not in findings.pictures for i, made in zip(ids, labels, strict=True)]
    if not any(kept):
        raise DataError(
            listed(f"{found.root}: no usable picture is left", [*_lines(findings.pictures)] or ["none found"])
        )
    return Samples(
        found.root,
        ids,
        [p.path for p in found.pictures],
        labels,
        [p.split for p in found.pictures],
        [p.group for p in found.pictures],
        found.ignored,
        found.classes,
        {**findings.pictures, **findings.marks},
        [_said(what, places) for what, places in sorted(findings.notes.items())],
    ).keep(kept)


def name(root: Path, picture: Picture) -> str:
    """The id of a picture: its path relative to the root."""
    return Path(os.path.relpath(picture.path, root)).as_posix()


def _refuse(findings: Findings, root: Path, total: int, data: Data) -> None:
    if data.on_bad == "skip" or not (findings.pictures or findings.marks):
        return
    counts = [
        f"{len(which)} {word}{'s' * (len(which) != 1)}"
        for word, which in (("picture", findings.pictures), ("annotation", findings.marks))
        if which
    ]
    head = f"{root}: {' and '.join(counts)} cannot be used, of {total} pictures"
    lines = [*_lines(findings.pictures), *_lines(findings.marks)]
    raise DataError(listed(head, lines) + "\nRepair or remove them, or leave them out with data.on_bad: skip")


def _lines(reasons: dict[str, str]):
    return (f"{printed(where)}: {printed(why)}" for where, why in reasons.items())


def _said(what: str, places: list[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{what}: {len(places)} ({', '.join(map(printed, places[:3]))}{more})"


def _by(size) -> str:
    return f"{size[1]} x {size[0]}"


# --- Labels


def boxes(picture: Picture, size, findings: Findings, classes: list[str], outlined: bool = False) -> dict:
    """The label of a picture with boxes: those within it, in pixels. With `outlined` their shapes too, as runs or None."""
    height, width = size
    label: dict = {"size": [height, width], "boxes": [], "names": [], "crowd": [], "areas": []}
    if outlined:
        label["outlines"] = []
    known = set(classes)
    for mark in picture.marks:
        if wrong := _unknown(mark, classes, known) or _odd_box(mark, picture.relative, height, width):
            findings.marks[mark.where] = wrong
            continue
        x0, y0, x1, y1 = mark.box
        if picture.relative:
            x0, y0, x1, y1 = x0 * width, y0 * height, x1 * width, y1 * height
        inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if max(abs(a - b) for a, b in zip(inside, (x0, y0, x1, y1), strict=True)) > 0.01:
            findings.note("boxes cut off where they left their picture", mark.where)
        label["boxes"].append([float(v) for v in inside])
        label["names"].append(mark.name)
        label["crowd"].append(int(mark.crowd))
        whole = (inside[2] - inside[0]) * (inside[3] - inside[1])
        label["areas"].append(float(whole if mark.area is None else mark.area))
        if outlined:
            label["outlines"].append(_outline(mark, picture.relative, height, width, findings))
        if mark.crowd:
            findings.note("crowds or difficult objects, neither learned nor judged", mark.where)
    if not picture.marks and not picture.lost:
        findings.note("pictures without an annotation", picture.where)
    return label


def _outline(mark: Mark, relative: bool, height: int, width: int, findings: Findings) -> str | None:
    """The packed runs of a box's shape; None where it has none that can be used."""
    shape = mark.shape
    if not shape:
        return None
    try:
        if relative:
            shape = [[v * (height if n % 2 else width) for n, v in enumerate(polygon)] for polygon in shape]
        return rle.packed(_runs(shape, height, width))
    except (ValueError, TypeError) as e:
        findings.note(f"boxes whose shape is not used ({e})", mark.where)
        return None


def shapes(picture: Picture, size, findings: Findings, classes: list[str]) -> dict:
    """The label of a picture with shapes, each as runs."""
    label: dict = {"size": list(size), "rle": [], "names": []}
    known = set(classes[1:])
    for mark in picture.marks:
        if wrong := _unknown(mark, classes[1:], known):
            findings.marks[mark.where] = wrong
            continue
        try:
            runs = _runs(mark.shape, *size)
        except ValueError as e:
            findings.marks[mark.where] = str(e)
            continue
        label["rle"].append({"size": list(size), "counts": rle.packed(runs)})
        label["names"].append(mark.name)
    if not picture.marks and not picture.lost:
        findings.note("pictures without an annotation, which are ground alone", picture.where)
    return label


def _unknown(mark: Mark, classes, known) -> str | None:
    return None if mark.name in known else f"{mark.name!r} is none of the classes.{nearest(mark.name, classes)}"


def _odd_box(mark: Mark, relative: bool, height: int, width: int) -> str | None:
    """Why a box cannot be used, or None."""
    if mark.box is None:
        return "there is no box"
    x0, y0, x1, y1 = mark.box
    if not all(math.isfinite(v) and abs(v) <= FURTHEST for v in mark.box):
        return "its box holds a number that is no place in a picture"
    if not (x1 > x0 and y1 > y0):
        return f"an empty box, {x1 - x0:g} wide and {y1 - y0:g} high"
    right, bottom = (1, 1) if relative else (width, height)
    if x0 >= right or y0 >= bottom or x1 <= 0 or y1 <= 0:
        return f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} lies outside the picture of {_by((height, width))} pixels"
    if relative and max(mark.box) > 1.5:
        return f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} holds pixels; parts of the sides, 0 to 1, are expected"
    if not relative and max(mark.box) <= 1 < min(height, width):
        return f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} lies within the first pixel; pixels are expected, not parts of the sides"
    return None


def _runs(shape, height: int, width: int):
    """The runs of a segmentation as COCO has it: a list of polygons, or a run-length mask."""
    if isinstance(shape, dict):
        if shape.get("size") != [height, width]:
            raise ValueError(f"its mask has the size {shape.get('size')!r:.60}, the picture [{height}, {width}]")
        runs = rle.counts(shape)
    elif isinstance(shape, list) and shape:
        runs = rle.union([rle.polygon(_points(p), height, width) for p in shape], height * width)
    else:
        raise ValueError("it has no segmentation: polygons or a run-length mask are expected")
    if not rle.area(runs):
        raise ValueError("its segmentation covers no pixel of the picture")
    return runs


def _points(polygon) -> list:
    if not isinstance(polygon, list):
        raise ValueError("a polygon is a list of numbers x0, y0, x1, y1, ...")
    if len(polygon) % 2 or len(polygon) < 6:
        raise ValueError(f"a polygon has three points or more, two numbers each; this has {len(polygon)} numbers")
    if not all(is_number(v) for v in polygon):
        raise ValueError("a polygon holds something that is no number")
    return polygon


def is_number(value) -> bool:
    """Whether a value of JSON is a number that can be a place in a picture."""
    return type(value) in (int, float) and -FURTHEST <= value <= FURTHEST


# --- What formats share


def twice(values) -> set:
    """The values that occur more than once."""
    return {value for value, n in Counter(values).items() if n > 1}


def safe_name(text) -> bool:
    """Whether a name of a file in an annotation is one, and stays in its folder."""
    if not isinstance(text, str) or not text or "\0" in text or text.startswith(("/", "\\")) or text[1:2] == ":":
        return False
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # half of a character, which JSON can hold and no file's name
        return False
    return ".." not in text.replace("\\", "/").split("/")


def common_root(base: Path, folders) -> Path:
    """The folder that all pictures lie in: the data's own, where it holds them."""
    folders = [os.path.abspath(f) for f in folders]
    inside = all(Path(f).is_relative_to(os.path.abspath(base)) for f in folders)
    return base if inside or not folders else Path(os.path.commonpath(folders))
