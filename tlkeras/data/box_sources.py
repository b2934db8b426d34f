"""Where pictures with boxes or masks come from: COCO's JSON, YOLO's and Pascal VOC's folders, tables, index masks.

Labels are records that can be written as JSON. Boxes, in pixels of the upright picture:

    {"size": [height, width], "boxes": [[x0, y0, x1, y1], ...], "names": [...], "crowd": [0 or 1, ...], "areas": [...]}

and masks, as files or as COCO's runs:

    {"size": [height, width], "mask": "/path/of.png", "names": [those present]}     "ignore" too where it is not 255
    {"size": [height, width], "rle": [{"size": ..., "counts": text}, ...], "names": [one for each]}
"""

import functools
from dataclasses import replace
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import annotated, coco, mask_files, tables
from tlkeras.data.listing import gate
from tlkeras.data.samples import Samples
from tlkeras.errors import DataError

TABLES = (".csv", ".tsv", ".parquet")


def read(data: Data, kind: str) -> Samples:
    """Lists the annotated pictures of a data section and checks every annotation. `kind` is 'boxes' or 'masks'.

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
    return _masks(path, data) if kind == "masks" else _boxes(path, data)


def _boxes(path: Path, data: Data) -> Samples:
    found = _found_boxes(path, data)
    return annotated.samples(found, data, functools.partial(annotated.boxes, classes=found.classes))


def _found_boxes(path: Path, data: Data):
    if path.suffix.lower() == ".json" and path.is_file():
        return coco.read([(None, path)], path.parent, data, "boxes")
    parts, passed = coco.files(path) if path.is_dir() else ([], 0)
    if parts:
        found = coco.read(parts, path, data, "boxes")
        return replace(found, ignored={"JSON files of no split": passed} if passed else {})
    raise DataError(f"{path}: no boxes found.")


def _masks(path: Path, data: Data) -> Samples:
    if path.is_dir() and mask_files.pairs(path):
        return _index_masks(mask_files.read(path, data), data)
    if path.suffix.lower() in TABLES and path.is_file():
        return _index_masks(mask_files.table(path, data), data)
    if path.suffix.lower() == ".json" and path.is_file():
        found = coco.read([(None, path)], path.parent, data, "masks")
    elif path.is_dir() and (parts := coco.files(path)[0]):
        found = coco.read(parts, path, data, "masks")
    else:
        raise _nothing(
            path,
            "folders images/ and masks/ with equal names in them (train/, val/, test/ inside or around), COCO's *.json with segmentations, or a .csv, .tsv or .parquet table with the columns image and mask",
        )
    return annotated.samples(found, data, functools.partial(annotated.shapes, classes=found.classes))


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
