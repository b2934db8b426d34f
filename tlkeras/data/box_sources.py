"""Where pictures with boxes or masks come from: COCO's JSON, YOLO's and Pascal VOC's folders, tables, index masks.

Labels are records that can be written as JSON. Boxes, in pixels of the upright picture:

    {"size": [height, width], "boxes": [[x0, y0, x1, y1], ...], "names": [...], "crowd": [0 or 1, ...], "areas": [...]}
    "outlines": [packed runs or None, ...] too, where shapes are asked for

and masks, as files or as COCO's runs:

    {"size": [height, width], "mask": "/path/of.png", "names": [those present]}     "ignore" too where it is not 255
    {"size": [height, width], "rle": [{"size": ..., "counts": text}, ...], "names": [one for each]}
"""

import functools
import os
from dataclasses import replace
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import annotated, box_tables, coco, mask_files, tables, voc, yolo
from tlkeras.data.listing import gate
from tlkeras.data.samples import Samples
from tlkeras.errors import DataError

TABLES = (".csv", ".tsv", ".parquet")
BOXES = "COCO's JSON (*.json here or in annotations/), YOLO's folders images/ and labels/, Pascal VOC's Annotations/*.xml, or a .csv, .tsv or .parquet table of boxes"
MASKS = "folders images/ and masks/ with equal names in them (train/, val/, test/ inside or around), COCO's JSON with segmentations, or a .csv, .tsv or .parquet table with the columns image and mask"


def read(data: Data, kind: str) -> Samples:
    """Lists the annotated pictures of a data section and checks every annotation. `kind` is 'boxes', 'outlines'
    (boxes with their shapes) or 'masks'.

    The result has `classes`, of masks the ground first; `bad` and `notes` say what was left out and what is odd.

    Raises:
        DataError: when nothing is there; with all that is wrong, unless `on_bad: skip`.
    """
    if data.tfds:
        raise DataError(
            f"data.tfds: {kind} are read from files; tlkeras reads no {kind} from TensorFlow Datasets. Name a folder or file with data.path."
        )
    path = Path(data.path or "")
    if not path.exists():
        raise tables.absent(path)
    if path.suffix.lower() not in TABLES:
        _no_columns(data)
    return _masks(path, data) if kind == "masks" else _boxes(path, data, kind == "outlines")


def _no_columns(data: Data) -> None:
    """Passed over in silence, a group would sit on both sides of a split."""
    if named := [key for key in ("label", "group", "split") if getattr(data, key)]:
        raise DataError(
            f"data.{' and data.'.join(named)} name columns of a table, and {data.path} is none. Leave them out."
        )


def _no_images(data: Data, format: str) -> None:
    if data.images:
        raise DataError(f"data.images: {format} says by its layout where the pictures are; leave data.images out.")


def kind(path: Path) -> str | None:
    """'boxes' or 'masks' where a folder or file looks like annotated pictures; of a folder with both, boxes."""
    if path.is_dir():
        if yolo.folders(path) or voc.files(path) or any(map(coco.is_coco, path.glob("*.json"))):
            return "boxes"
        return "masks" if mask_files.pairs(path) else None
    return "boxes" if path.suffix.lower() == ".json" and coco.is_coco(path) else None


def _boxes(path: Path, data: Data, outlined: bool) -> Samples:
    found = found_boxes(path, data)
    label = functools.partial(annotated.boxes, classes=found.classes, outlined=outlined)
    return annotated.samples(found, data, label)


def found_boxes(path: Path, data: Data) -> annotated.Annotated:
    suffix = path.suffix.lower()
    if path.is_dir():
        return _folder_of_boxes(path, data)
    if suffix == ".json":
        return coco.read([(None, path)], path.parent, data, "boxes")
    if suffix in (".yaml", ".yml") and yolo.folders(path.parent):
        _no_images(data, "YOLO's format")
        return yolo.read(path.parent, data)
    if suffix in TABLES:
        return box_tables.read(path, data)
    raise _nothing(path, BOXES)


def _folder_of_boxes(root: Path, data: Data) -> annotated.Annotated:
    """A folder of one format; two of them would be two answers to one question."""
    json_files = [p for p in root.rglob("*.json") if not p.name.startswith(".")]
    there = {"YOLO's texts": bool(yolo.folders(root)), "Pascal VOC's XML": bool(voc.files(root))}
    if named := [name for name, found in there.items() if found]:
        if len(named) > 1 or json_files:
            raise DataError(
                f"{root} holds annotations in more than one format: {', '.join(named + ['JSON'] * bool(json_files))}. Name the JSON file or data.yaml with data.path, or move the others away."
            )
        if there["Pascal VOC's XML"]:
            return voc.read(root, data)
        _no_images(data, "YOLO's format")
        return yolo.read(root, data)
    parts, passed = coco.files(root)
    if not parts:
        raise _nothing(root, BOXES)
    found = coco.read(parts, root, data, "boxes")
    return replace(found, ignored={"JSON files of no split": passed} if passed else {})


def _masks(path: Path, data: Data) -> Samples:
    if path.is_dir() and mask_files.pairs(path):
        _no_images(data, "a folder with masks")
        return _index_masks(_as_boxes_say(mask_files.read(path, data), path, data), data)
    if path.suffix.lower() in TABLES and path.is_file():
        return _index_masks(mask_files.table(path, data), data)
    if path.suffix.lower() == ".json" and path.is_file():
        found = coco.read([(None, path)], path.parent, data, "masks")
    elif path.is_dir() and (parts := coco.files(path)[0]):
        found = coco.read(parts, path, data, "masks")
    else:
        raise _nothing(path, MASKS)
    return annotated.samples(found, data, functools.partial(annotated.shapes, classes=found.classes))


def _as_boxes_say(found: annotated.Annotated, path: Path, data: Data) -> annotated.Annotated:
    """Masks beside COCO's JSON are split, and their numbers named where nothing else does, as its boxes are."""
    try:
        parts, _ = coco.files(path)
    except DataError:  # several files that are no splits: they say nothing of the masks
        return found
    if not parts or any(p.split for p in found.pictures):
        return found
    boxes = coco.read(parts, path, data.model_copy(update={"classes": None}), "boxes")
    splits = {os.path.abspath(p.path): p.split for p in boxes.pictures}
    pictures = [replace(p, split=splits.get(os.path.abspath(p.path))) for p in found.pictures]
    return replace(found, pictures=pictures, classes=found.classes or ["ground", *(boxes.classes or [])])


def _index_masks(found, data: Data) -> Samples:
    refusal = gate(found.root, data.follow_symlinks, ())
    label = functools.partial(mask_files.label, root=found.root, classes=found.classes, data=data, refusal=refusal)
    made = annotated.samples(found, data, label)
    return replace(made, classes=mask_files.named(made.labels, found.classes))


def _nothing(path: Path, wanted: str) -> DataError:
    if path.is_file():
        return DataError(f"{path}: looked for {wanted}; this is a file {path.suffix or 'without a suffix'}.")
    there = sorted(p.name + "/" * p.is_dir() for p in path.iterdir() if not p.name.startswith("."))
    more = f" and {len(there) - 12} more" if len(there) > 12 else ""
    return DataError(f"{path}: looked for {wanted}; found {', '.join(there[:12]) or 'nothing'}{more}.")
