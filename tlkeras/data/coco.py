"""COCO's JSON: images, annotations, categories. Nothing in it is believed before it was looked at."""

import json
import os
import re
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import tables
from tlkeras.data.annotated import (
    FURTHEST,
    Annotated,
    Findings,
    Mark,
    Picture,
    common_root,
    is_number,
    name,
    safe_name,
    twice,
)
from tlkeras.data.samples import SPLIT_FOLDERS
from tlkeras.errors import DataError, listed

KEYS = ("images", "annotations", "categories")
FIRST = 200  # file names that are tried in each folder that may hold the pictures


def files(root: Path) -> tuple[list[tuple[str | None, Path]], int]:
    """((split or None, JSON file), ...) of a folder, and how many JSON files were passed over.

    Raises:
        DataError: when it is not clear which files are meant.
    """
    folders = sorted(d for d in root.iterdir() if d.is_dir() and d.name.lower() in {*SPLIT_FOLDERS, "annotations"})
    found = [p for d in (root, *folders) for p in sorted(d.glob("*.json")) if p.is_file() and p.name[0] != "."]
    if len(found) <= 1:
        return [(None, p) for p in found], 0
    by_split: dict[str, list[Path]] = {}
    for path in found:
        if split := _split_of(path):
            by_split.setdefault(split, []).append(path)
    for split, paths in by_split.items():
        # COCO's own folder holds captions and keypoints beside the instances.
        instances = [p for p in paths if p.name.startswith("instances")]
        by_split[split] = instances or paths
    if "train" not in by_split or any(len(paths) > 1 for paths in by_split.values()):
        raise DataError(
            listed(
                f"{root}: one JSON file is expected, or one for each split with train, val or test in its name; there are",
                [str(p.relative_to(root)) for p in found],
            )
            + "\nName one file with data.path, or move the others away."
        )
    return [(s, by_split[s][0]) for s in ("train", "val", "test") if s in by_split], len(found) - len(by_split)


def is_coco(path: Path) -> bool:
    """Whether a JSON file has the three lists of COCO's; what cannot be read has not."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(key in found for key in KEYS)


def _split_of(path: Path) -> str | None:
    words = [w for w in re.split(r"[^a-z]+", path.stem.lower()) if w in SPLIT_FOLDERS]
    return SPLIT_FOLDERS.get(words[0] if words else path.parent.name.lower())


def read(parts: list[tuple[str | None, Path]], base: Path, data: Data, kind: str) -> Annotated:
    """The pictures of one JSON file, or of one for each split. `base` is the data folder; `kind` 'boxes' or 'masks'
    says which part of an annotation is read.

    Raises:
        DataError: when a file is no COCO, or the pictures are not to be found.
    """
    documents = [(split, path, _document(path)) for split, path in parts]
    findings, pictures, folders = Findings(), [], []
    categories = _classes([(path, document["categories"]) for _, path, document in documents], findings)
    for split, path, document in documents:
        folder = _folder(path, split, base, document["images"], data)
        folders.append(folder)
        by_id = _pictures(document["images"], path, split, folder, findings)
        _marks(document["annotations"], path, by_id, categories[path], kind, findings)
        pictures += by_id.values()
    root = common_root(base, folders)
    _refuse_doubled(pictures, root, findings)
    classes = _chosen(list(dict.fromkeys(n for p in categories for n in categories[p].values())), pictures, data, kind)
    if kind == "masks" and pictures and not any(m.shape for p in pictures for m in p.marks):
        raise DataError(
            f"{', '.join(str(path) for _, path in parts)}: masks need annotations with a 'segmentation'; there is none. Choose a task on boxes, or name a folder with images/ and masks/."
        )
    unique = {p.path: p for p in pictures}
    return Annotated(root, list(unique.values()), classes, findings)


def _document(path: Path) -> dict:
    if not path.is_file():
        raise tables.absent(path)
    try:
        found = json.loads(tables.decoded(path))
    except json.JSONDecodeError as e:
        raise DataError(f"{path}:{e.lineno}: not JSON: {e.msg} (column {e.colno}).") from e
    except RecursionError as e:
        raise DataError(f"{path}: not COCO's JSON: it is nested too deep.") from e
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: cannot be read: {e}.") from e
    keys = ", ".join(list(map(str, found))[:10]) or "nothing" if isinstance(found, dict) else _kind(found)
    if not isinstance(found, dict) or not all(key in found for key in KEYS):
        raise DataError(f"{path}: COCO's JSON is an object with {', '.join(KEYS)}; received {keys}.")
    if odd := [key for key in KEYS if not isinstance(found[key], list)]:
        raise DataError(f"{path}: {', '.join(odd)} must be a list; received {_kind(found[odd[0]])}.")
    if not found["images"]:
        raise DataError(f"{path}: the list of images is empty.")
    return found


def _classes(lists: list[tuple[Path, list]], findings: Findings) -> dict[Path, dict]:
    """The name of each category by its id, for each file, in the order of the ids. What is wrong here is wrong for every
    sample, so it is never skipped."""
    made, wrong = {}, []
    for path, categories in lists:
        good = {}
        for n, one in enumerate(categories):
            place = f"{path.name}: categories[{n}]"
            if not isinstance(one, dict):
                wrong.append(f"{place} must be an object; it is {_kind(one)}")
            elif not _is_id(one.get("id")):
                wrong.append(f"{place} must have an id, a whole number; it has {one.get('id')!r:.60}")
            elif not isinstance(one.get("name"), str) or not one["name"].strip() or not one["name"].isprintable():
                wrong.append(f"{place} must have a name; it has {one.get('name')!r:.60}")
            elif one["id"] in good or one["name"].strip() in good.values():
                wrong.append(f"{place}: the id {one['id']} or the name {one['name']!r} stands there twice")
            else:
                good[one["id"]] = one["name"].strip()
        if not categories:
            wrong.append(f"{path.name}: the list of categories is empty")
        made[path] = dict(sorted(good.items(), key=lambda item: (isinstance(item[0], str), item[0])))
    if wrong:
        raise DataError(listed(f"{lists[0][0].parent}: the categories must be in order", wrong))
    for path, names in list(made.items())[1:]:
        if odd := [i for i, n in made[lists[0][0]].items() if names.get(i, n) != n]:
            findings.note(f"categories with other ids in {path.name} than in {lists[0][0].name}", f"id {odd[0]}")
    return made


def _chosen(found: list[str], pictures: list[Picture], data: Data, kind: str) -> list[str]:
    """The classes in order: those the config names, else the categories; of masks the ground comes first."""
    if data.classes is None:
        return (["ground"] if kind == "masks" else []) + found
    named = data.classes[1:] if kind == "masks" else data.classes
    if absent := [c for c in named if c not in found]:
        raise DataError(
            f"data.classes: the annotations have no category {', '.join(map(repr, absent))}; they have {', '.join(found)}."
            + (" The first class is the name of the ground." if kind == "masks" else "")
        )
    return data.classes


def _folder(path: Path, split: str | None, base: Path, images: list, data: Data) -> Path:
    """The folder that the names of files are relative to: of those that may be, the one with most of the files."""
    names = [i["file_name"] for i in images if isinstance(i, dict) and safe_name(i.get("file_name"))][:FIRST]
    if data.images is not None:
        top = Path(data.images)
        if not top.is_dir():
            raise DataError(f"data.images: {top}: there is no such folder.")
        tried = [top, *_of_split(top, path, split)]
    else:
        above = [path.parent] if path.parent == base else [path.parent, path.parent.parent]
        # A single file may lie in a folder `annotations` beside the pictures.
        above += [path.parent.parent] if path.parent.name.lower() == "annotations" and len(above) == 1 else []
        tried = [
            d
            for a in above
            for d in (a / "images", *_of_split(a / "images", path, split), a, *_of_split(a, path, split))
        ]
    counts = [sum(os.path.isfile(d / n) for n in names) if d.is_dir() else 0 for d in tried]
    if names and not any(counts):
        raise DataError(
            listed(
                f"{path}: its pictures must lie in one of these folders; {names[0]!r} and others are in none",
                list(map(str, tried)),
            )
            + "\nName the folder with data.images."
        )
    return tried[counts.index(max(counts))] if tried else path.parent


def _of_split(folder: Path, path: Path, split: str | None) -> list[Path]:
    """Folders inside `folder` that are called like the split or part of the file's name (train2017)."""
    if not folder.is_dir():
        return []
    names = sorted(d.name for d in folder.iterdir() if d.is_dir())
    return [
        folder / n
        for n in names
        if n.lower() in re.split(r"[^a-z0-9]+", path.stem.lower()) or (split and SPLIT_FOLDERS.get(n.lower()) == split)
    ]


def _pictures(images: list, path: Path, split: str | None, folder: Path, findings: Findings) -> dict:
    """The pictures by their ids; what cannot be used is among the findings, under its place in the file."""
    found: dict = {}
    ids = [i.get("id") for i in images if isinstance(i, dict)]
    doubled = twice(i for i in ids if _is_id(i))
    for n, one in enumerate(images):
        place = f"{path.name}: images[{n}]"
        if not isinstance(one, dict):
            findings.pictures[place] = f"must be an object; it is {_kind(one)}"
            continue
        number, file, sides = one.get("id"), one.get("file_name"), (one.get("height"), one.get("width"))
        if not _is_id(number):
            findings.pictures[place] = f"must have an id, a whole number; it has {number!r:.60}"
        elif number in doubled:
            findings.pictures[place] = (
                f"the id {number} belongs to several images, so nobody can tell whose annotations are whose"
            )
        elif not isinstance(file, str) or not file:
            findings.pictures[place] = f"must have a file_name, a text; it has {file!r:.60}"
        elif not safe_name(file):
            findings.pictures[place] = f"the file_name {file!r:.200} leaves the folder of the pictures"
        elif sides != (None, None) and not all(is_number(s) and s >= 1 and s == int(s) for s in sides):
            findings.pictures[place] = f"height and width must be whole numbers; received {sides!r:.60}"
        else:
            declared = None if sides == (None, None) else (int(sides[0]), int(sides[1]))
            full = os.path.normpath(folder / file)
            found[number] = Picture(full, f"{path.name}: image {number}", split, declared=declared)
    return found


def _refuse_doubled(pictures: list[Picture], root: Path, findings: Findings) -> None:
    """A file that is listed twice would have half of its annotations in each sample."""
    doubled = twice(p.path for p in pictures)
    places: dict[str, list[str]] = {}
    for one in pictures:
        if one.path in doubled:
            places.setdefault(name(root, one), []).append(one.where)
    for key, where in places.items():
        findings.pictures[key] = f"listed more than once: {', '.join(where[:5])}"


def _marks(annotations: list, path: Path, pictures: dict, names: dict, kind: str, findings: Findings) -> None:
    """Gives the pictures their annotations."""
    doubled = twice(a["id"] for a in annotations if isinstance(a, dict) and _is_id(a.get("id")))
    for n, one in enumerate(annotations):
        place = f"{path.name}: annotations[{n}]"
        if not isinstance(one, dict):
            findings.marks[place] = f"must be an object; it is {_kind(one)}"
            continue
        number, image, category = one.get("id"), one.get("image_id"), one.get("category_id")
        picture = pictures.get(image) if _is_id(image) else None
        if number is not None and not _is_id(number):
            mark: Mark | str = f"its id {number!r:.60} is no number"
        elif number in doubled:
            mark = f"its id {number!r:.60} stands there twice"
        else:
            place = place if number is None else f"{path.name}: annotation {number!r:.60}"
            if picture is None:
                mark = f"there is no usable image with the id {image!r:.60}"
            elif not _is_id(category) or category not in names:
                mark = f"there is no category with the id {category!r:.60}"
            else:
                mark = _mark(one, place, names[category], kind)
        if isinstance(mark, Mark):
            picture.marks.append(mark)
            continue
        findings.marks[place] = mark
        if picture is not None:
            picture.lost = True


def _mark(one: dict, place: str, label: str, kind: str) -> Mark | str:
    """An annotation, or what is wrong with it."""
    crowd, area = one.get("iscrowd", 0), one.get("area")
    if crowd not in (0, 1) or isinstance(crowd, float):
        return f"iscrowd must be 0 or 1; received {crowd!r:.60}"
    if kind == "masks":
        return Mark(place, label, crowd=bool(crowd), shape=one.get("segmentation"))
    box = one.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return f"bbox must be a list [x, y, width, height]; received {box!r:.80}"
    if not all(is_number(v) for v in box):
        return f"bbox must hold four numbers up to {FURTHEST:g}; received {box!r:.80}"
    if area is not None and not (type(area) in (int, float) and 0 <= area <= FURTHEST**2):
        return f"area must be a number of pixels; received {area!r:.60}"
    x, y, width, height = map(float, box)
    return Mark(place, label, (x, y, x + width, y + height), bool(crowd), area, one.get("segmentation"))


def _is_id(value) -> bool:
    return type(value) is int or (type(value) is str and bool(value))


def _kind(value) -> str:
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "null")
