"""Annotated pictures from one format to another: what box_sources.py reads, written as COCO, YOLO, VOC, a table or masks.

coco    images/, instances_SPLIT.json (instances.json where there are no splits)
yolo    images/[SPLIT/], labels/[SPLIT/], data.yaml
voc     JPEGImages/, Annotations/, ImageSets/Main/SPLIT.txt
csv     images/, boxes.csv
masks   images/[SPLIT/], masks/[SPLIT/], classes.txt
"""

import csv
import functools
import io
import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlkeras.config import Data
from tlkeras.data import box_sources, masks, rle
from tlkeras.data.listing import printed
from tlkeras.data.samples import Samples
from tlkeras.errors import DataError, UsageError, listed, nearest
from tlkeras.run import replacing_folder

FORMATS = {"coco": "boxes", "yolo": "boxes", "voc": "boxes", "csv": "boxes", "masks": "masks"}


def convert(source, target: str, out, section: Data | None = None, kind: str | None = None) -> dict:
    """Reads annotated pictures and writes them in another format into the new folder `out`; pictures are copied.

    Args:
        source: a path as in data.path; `section` takes its place where more of a data section is needed.
        target: a key of FORMATS.
        kind: 'boxes' or 'masks', what is carried over. None: boxes, but masks to 'masks' and from index masks.

    Returns:
        {'out', 'format', 'kind', 'samples', 'annotations', 'classes', 'skipped', 'notes'}.

    Raises:
        UsageError: when there is no such format, or `out` is there already.
        DataError: with all that is wrong with the source, unless `on_bad: skip`.
    """
    section, out = section or Data(path=str(source)), Path(out)
    if target not in FORMATS:
        raise UsageError(f"There is no format {target!r}.{nearest(target, FORMATS)} Formats: {', '.join(FORMATS)}.")
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already and is not overwritten. Choose a new folder with --out.")
    inside = Path(section.path or "")
    if inside.is_dir() and out.resolve().is_relative_to(inside.resolve()):
        raise UsageError(f"{out} lies inside the data that is to be converted. Choose a folder outside with --out.")
    kind = kind or ("masks" if target == "masks" else _kind_of(section))
    if (
        kind not in ("boxes", "masks")
        or (kind == "masks" and target not in ("coco", "masks"))
        or (kind, target) == ("boxes", "masks")
    ):
        raise UsageError(f"{target} cannot hold {kind}: boxes go to coco, yolo, voc and csv, masks to coco and masks.")
    samples = box_sources.read(section, kind)
    if None in samples.splits and set(samples.splits) != {None}:
        raise DataError(f"{samples.root}: every picture needs a split, or none may have one; of some it is not said.")
    samples = _flat(samples) if target == "voc" else _without_crowds(samples) if target in ("yolo", "csv") else samples
    writer = {"coco": functools.partial(_coco, kind=kind), "yolo": _yolo, "voc": _voc, "csv": _csv, "masks": _masks}[
        target
    ]
    with replacing_folder(out) as folder:
        count = writer(samples, folder)
    return {
        "out": str(out),
        "format": target,
        "kind": kind,
        "samples": len(samples),
        "annotations": count,
        "classes": samples.classes,
        "skipped": [f"{where}: {why}" for where, why in samples.bad.items()],
        "notes": samples.notes,
    }


def text(found: dict) -> str:
    """What `convert` gives back, for people."""
    lines = [
        f"{found['out']}: {found['samples']:,} pictures, {found['annotations']:,} {found['kind']} of "
        f"{len(found['classes'])} classes as {found['format']}."
    ]
    if found["skipped"]:
        lines.append(listed(f"{len(found['skipped'])} left out", [printed(s) for s in found["skipped"]]))
    return "\n".join([*lines, *found["notes"]])


def _kind_of(section: Data) -> str:
    """masks for a folder that holds nothing but index masks, else boxes."""
    path = Path(section.path or "")
    if path.is_dir():
        try:
            box_sources.found_boxes(path, section)
        except DataError:
            from tlkeras.data import mask_files

            return "masks" if mask_files.pairs(path) else "boxes"
    return "boxes"


# --- Where pictures go


def _copied(samples: Samples, row: int, folder: Path, by_split: bool = True) -> Path:
    """Copies a picture into folder/[SPLIT/]; returns its path below `folder`."""
    split = samples.splits[row]
    place = Path(split or "") / _below(samples.ids[row], split) if by_split else Path(samples.ids[row])
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise DataError(
            f"{printed(samples.ids[row])}: another picture would have the same place, {printed(place)}. Rename one of the two."
        )
    shutil.copyfile(samples.inputs[row], target)
    return place


def _below(name: str, split: str | None) -> Path:
    """An id without the folders that formats put around pictures."""
    parts = list(Path(name).parts)
    outer = {"images", "image", "jpegimages", "train", "val", "valid", "validation", "test", "training", "testing"}
    while len(parts) > 1 and parts[0].lower() in outer:
        parts = parts[1:]
    return Path(*parts)


def _flat(samples: Samples) -> Samples:
    """Ids of one part, for formats that know no folders."""
    ids = ["_".join(_below(i, None).parts) for i in samples.ids]
    return replace(samples, ids=ids if len(set(ids)) == len(ids) else ["_".join(Path(i).parts) for i in samples.ids])


def _without_crowds(samples: Samples) -> Samples:
    """For formats that would make an object of a crowd."""
    labels, gone = [], 0
    for label in samples.labels:
        kept = [not crowd for crowd in label["crowd"]]
        gone += kept.count(False)
        lists = {
            k: [v for v, keep in zip(label[k], kept, strict=True) if keep] for k in ("boxes", "names", "crowd", "areas")
        }
        labels.append({"size": label["size"], **lists})
    notes = [f"crowds or difficult objects left out, for which the format has no mark: {gone}"] if gone else []
    return replace(samples, labels=labels, notes=[*samples.notes, *notes])


# --- Writers: each returns how many annotations it wrote


def _coco(samples: Samples, folder: Path, kind: str) -> int:
    names = samples.classes[1:] if kind == "masks" else samples.classes
    number = {name: n for n, name in enumerate(names, 1)}
    documents: dict = {}
    total = 0
    for row, label in enumerate(samples.labels):
        made = documents.setdefault(
            samples.splits[row],
            {"images": [], "annotations": [], "categories": [{"id": n, "name": c} for c, n in number.items()]},
        )
        place = _copied(samples, row, folder / "images")
        height, width = label["size"]
        made["images"].append({"id": row + 1, "file_name": place.as_posix(), "width": width, "height": height})
        for facts in _coco_boxes(label) if kind == "boxes" else _coco_masks(label, samples.classes):
            total += 1
            called = facts.pop("name")
            made["annotations"].append({"id": total, "image_id": row + 1, "category_id": number[called], **facts})
    for split, document in documents.items():
        name = f"instances_{split}.json" if split else "instances.json"
        (folder / name).write_text(json.dumps(document, ensure_ascii=True), "ascii")
    return total


def _coco_boxes(label: dict):
    for (x0, y0, x1, y1), name, crowd, area in zip(
        *(label[k] for k in ("boxes", "names", "crowd", "areas")), strict=True
    ):
        yield {"name": name, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": crowd}


def _coco_masks(label: dict, classes: list[str]):
    """One annotation for each shape, or for all pixels of a class where the mask is an image; void has no place in COCO."""
    if "mask" in label:
        numbers = masks.index(label, classes)
        shapes = [(c, rle.encode(numbers == n)) for n, c in enumerate(classes) if n and c in label["names"]]
    else:
        shapes = list(zip(label["names"], label["rle"], strict=True))
    for name, shape in shapes:
        x0, y0, x1, y1 = rle.bounds(shape)
        yield {
            "name": name,
            "segmentation": shape,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": rle.area(rle.counts(shape)),
            "iscrowd": 0,
        }


def _yolo(samples: Samples, folder: Path) -> int:
    total = 0
    for row, label in enumerate(samples.labels):
        place = _copied(samples, row, folder / "images")
        height, width = label["size"]
        lines = []
        for (x0, y0, x1, y1), name in zip(label["boxes"], label["names"], strict=True):
            values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append(f"{samples.classes.index(name)} " + " ".join(f"{v:.8g}" for v in values) + "\n")
        path = (folder / "labels" / place).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise DataError(
                f"{printed(place)}: another picture has the same name but for its ending, and YOLO has one text for both. Rename one."
            )
        path.write_text("".join(lines), "ascii")
        total += len(lines)
    parts = [s for s in ("train", "val", "test") if s in samples.splits]
    lines = [f"{s}: images/{s}" for s in parts] or ["train: images"]
    # A YAML text in double quotes is JSON's.
    lines += ["names:", *(f"  {n}: {json.dumps(c)}" for n, c in enumerate(samples.classes))]
    (folder / "data.yaml").write_text("\n".join(lines) + "\n", "utf8")
    return total


def _voc(samples: Samples, folder: Path) -> int:
    total, listed_names = 0, {}
    (folder / "Annotations").mkdir()
    for row, label in enumerate(samples.labels):
        place = _copied(samples, row, folder / "JPEGImages", by_split=False)
        top = ElementTree.Element("annotation")
        _add(top, filename=place.name)
        sides = dict(zip(("height", "width"), label["size"], strict=True))
        _add(ElementTree.SubElement(top, "size"), width=sides["width"], height=sides["height"], depth=3)
        for box, name, crowd in zip(label["boxes"], label["names"], label["crowd"], strict=True):
            thing = ElementTree.SubElement(top, "object")
            _add(thing, name=name, difficult=crowd)
            x0, y0, x1, y1 = (f"{v:.10g}" for v in (box[0] + 1, box[1] + 1, box[2], box[3]))
            _add(ElementTree.SubElement(thing, "bndbox"), xmin=x0, ymin=y0, xmax=x1, ymax=y1)
            total += 1
        path = folder / "Annotations" / f"{place.stem}.xml"
        if path.exists():
            raise DataError(
                f"{printed(place)}: another picture has the same name but for its ending, and VOC has one file for both. Rename one."
            )
        ElementTree.indent(top)
        path.write_text(ElementTree.tostring(top, "unicode") + "\n", "utf8")
        listed_names.setdefault(samples.splits[row], []).append(place.stem)
    for split in filter(None, listed_names):
        lists = folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(listed_names[split]) + "\n", "utf8")
    return total


def _add(parent, **texts) -> None:
    for tag, value in texts.items():
        ElementTree.SubElement(parent, tag).text = str(value)


def _csv(samples: Samples, folder: Path) -> int:
    total, file = 0, io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["image", "label", "xmin", "ymin", "xmax", "ymax", "split", "group"])
    for row, label in enumerate(samples.labels):
        place = ("images" / _copied(samples, row, folder / "images")).as_posix()
        behind = (samples.splits[row] or "", samples.groups[row] or "")
        for box, name in zip(label["boxes"], label["names"], strict=True):
            rows.writerow([place, name, *(f"{v:.10g}" for v in box), *behind])
            total += 1
        if not label["boxes"]:
            rows.writerow([place, "", "", "", "", "", *behind])
    (folder / "boxes.csv").write_text(file.getvalue(), "utf8")
    return total


def _masks(samples: Samples, folder: Path) -> int:
    if not 1 <= len(samples.classes) <= masks.VOID:
        raise DataError(f"An index mask numbers at most {masks.VOID} classes; there are {len(samples.classes)}.")
    for row, label in enumerate(samples.labels):
        place = _copied(samples, row, folder / "images")
        path = (folder / "masks" / place).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise DataError(
                f"{printed(place)}: another picture has the same name but for its ending. Rename one of the two."
            )
        masks.write(path, np.ascontiguousarray(masks.index(label, samples.classes)))
    (folder / "classes.txt").write_text("\n".join(samples.classes) + "\n", "utf8")
    return len(samples)
