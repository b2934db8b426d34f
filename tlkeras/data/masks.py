"""Masks as a network learns them: the number of a class for each pixel, 255 where nothing is learned or judged."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlkeras.data import rle
from tlkeras.data.mask_files import GREY, VOID, header, load
from tlkeras.data.samples import cache_folder
from tlkeras.device import cores
from tlkeras.errors import DataError
from tlkeras.run import storage


def index(label: dict, classes: list[str]) -> np.ndarray:
    """The mask of a label (box_sources.py) as numbers of `classes`: uint8 (h, w).

    Where shapes of COCO lie on each other the smaller one is seen. Crowds count as their class.

    Raises:
        DataError: when the file of the mask can no longer be read.
    """
    if "mask" in label:
        try:
            numbers = load(label["mask"])
        except ValueError as e:
            raise DataError(f"{label['mask']}: {e}.") from e
        ignore = label.get("ignore", VOID)
        return numbers if ignore == VOID else np.where(numbers == ignore, np.uint8(VOID), numbers)
    numbers = np.zeros(label["size"], np.uint8)
    number = {name: n for n, name in enumerate(classes)}
    runs = [rle.counts(one) for one in label["rle"]]
    for n in sorted(range(len(runs)), key=lambda n: -rle.area(runs[n])):
        numbers[rle.decode(label["rle"][n]) > 0] = number[label["names"][n]]
    return numbers


def outlined(table, labels: list[dict]):
    """A table of boxes (pictures.Table) with the shapes that its labels have, which things are cut out along.

    Raises:
        DataError: when no box has one.
    """
    if not any(any(label["outlines"]) for label in labels):
        raise DataError(
            "augment.paste cuts things out along their shapes: polygons or runs of COCO, or polygons of YOLO. No box of the training split has one; take it out."
        )
    return replace(table, outlines=outlines(labels, cache_folder() / "outlines"))


def judged(label):
    """A label without the shapes of its boxes, which are neither learnt nor judged."""
    return {k: v for k, v in label.items() if k != "outlines"} if isinstance(label, dict) else label


def outlines(labels: list[dict], folder) -> list[str]:
    """Paths of 8-bit grey PNGs, which are written into `folder` once: in each pixel 1 for the thing of the first box of a
    label (box_sources.py), 2 for the second, ..., the smaller one where several lie on each other, 0 where none does.

    Raises:
        StorageError: when the disk refuses.
    """
    folder = Path(folder)

    def one(label):
        sized = {"size": label["size"], "outlines": label["outlines"][: VOID - 1]}
        key = hashlib.sha256(json.dumps(sized).encode()).hexdigest()
        if not (path := folder / f"{key[:32]}.png").is_file():
            shapes = [s and {"size": label["size"], "counts": s} for s in sized["outlines"]]
            known = [n for n, shape in enumerate(shapes) if shape]
            numbers = np.zeros(label["size"], np.uint8)
            for n in sorted(known, key=lambda n: -rle.area(rle.counts(shapes[n]))):
                numbers[rle.decode(shapes[n]) > 0] = n + 1
            write(path, numbers)
        return str(path)

    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(one, labels))


def materialise(labels: list[dict], classes: list[str], folder) -> list[str]:
    """Paths of 8-bit grey PNGs that hold `index` of each label, as tf.io.decode_png(channels=1) reads them.

    Files that are so already are named as they are; the others are written into `folder` once: palettes, fewer bits,
    another value than 255 for void, and COCO's shapes.

    Raises:
        StorageError: when the disk refuses.
    """
    folder = Path(folder)
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(lambda label: _as_file(label, classes, folder), labels))


def write(path, numbers: np.ndarray) -> None:
    """Writes an index mask, uint8 (h, w), as an 8-bit grey PNG; whole or not at all."""
    from PIL import Image

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(numbers).save(temporary, "PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _as_file(label: dict, classes: list[str], folder: Path) -> str:
    facts: list = [classes]
    if "mask" in label:
        if "ignore" not in label and _is_plain(label["mask"]):
            return label["mask"]
        status = os.stat(label["mask"])
        facts += [status.st_size, status.st_mtime_ns]
    key = hashlib.sha256(json.dumps([label, *facts]).encode("utf8", "surrogatepass")).hexdigest()
    if not (path := folder / f"{key[:32]}.png").is_file():
        write(path, index(label, classes))
    return str(path)


def _is_plain(path: str) -> bool:
    with open(path, "rb") as file:
        return header(file.read(32)) == (8, GREY)
