"""Index masks: PNG files whose pixels are the numbers of classes, found beside their pictures and looked at."""

import io
import os
from collections import Counter
from pathlib import Path

import numpy as np

from tlkeras.config import Data
from tlkeras.data import tables
from tlkeras.data.annotated import Annotated, Findings, Picture, name
from tlkeras.data.listing import list_images, opened
from tlkeras.data.packed import MAX_PIXELS
from tlkeras.data.samples import SPLIT_FOLDERS
from tlkeras.errors import DataError, listed

IMAGES = ("images", "image", "JPEGImages")
MASKS = ("masks", "mask", "labels", "annotations", "SegmentationClass")
ENDINGS = ("", "_mask", "_label", "_seg", "_P", "_L")  # what a mask's name may have behind its picture's
NAMES = ("classes.txt", "labels.txt", "codes.txt")
VOID = 255  # in every index mask that tlkeras writes
GREY, PALETTE = 0, 3  # colour types of PNG
MOST_BYTES = 100_000_000


def pairs(root: Path) -> list[tuple[str | None, Path, Path]]:
    """(split or None, folder of pictures, folder of masks), for the layouts images/ + masks/, either of which may hold
    the splits, and SPLIT/ + SPLITannot/."""
    splits = sorted(d.name for d in root.iterdir() if d.is_dir() and d.name.lower() in SPLIT_FOLDERS)
    for images in (root / n for n in IMAGES):
        for masks in (root / n for n in MASKS):
            if images.is_dir() and masks.is_dir():
                inner = [d.name for d in sorted(images.iterdir()) if d.is_dir() and (masks / d.name).is_dir()]
                named = [n for n in inner if n.lower() in SPLIT_FOLDERS]
                if "train" in {SPLIT_FOLDERS[n.lower()] for n in named}:
                    return [(SPLIT_FOLDERS[n.lower()], images / n, masks / n) for n in named]
                return [(None, images, masks)]
    found = []
    for split in splits:
        folder, annot = root / split, root / f"{split}annot"
        if annot.is_dir():
            found.append((SPLIT_FOLDERS[split.lower()], folder, annot))
            continue
        inside = [
            (folder / i, folder / m) for i in IMAGES for m in MASKS if (folder / i).is_dir() and (folder / m).is_dir()
        ]
        found += [(SPLIT_FOLDERS[split.lower()], *inside[0])] if inside else []
    return found if "train" in {s for s, _, _ in found} else []


def read(root: Path, data: Data) -> Annotated:
    """The pictures of a folder, each with its mask.

    Raises:
        DataError: when there are no such folders, or no pictures in them.
    """
    found, ignored = [], Counter()
    findings = Findings()
    for split, images, masks in pairs(root):
        pictures, passed = list_images(images, data.follow_symlinks)
        known, _ = list_images(masks, data.follow_symlinks)
        by_stem: dict[str, list[str]] = {}
        for mask in known:
            by_stem.setdefault(_stem(mask, masks), []).append(mask)
        ignored.update(passed)
        used = set()
        doubled = {s for s, n in Counter(_stem(p, images) for p in pictures).items() if n > 1}
        for path in pictures:
            stem = _stem(path, images)
            fitting = next((by_stem[stem + e] for e in ENDINGS if stem + e in by_stem), [])
            picture = Picture(path, str(Path(path).relative_to(root)), split, mask=fitting[0] if fitting else None)
            used.update(fitting)
            if stem in doubled:
                findings.pictures[name(root, picture)] = (
                    "several pictures have this name, and one mask cannot be theirs"
                )
            elif not fitting:
                findings.pictures[name(root, picture)] = f"there is no mask {stem}.png in {masks.relative_to(root)}"
            elif len(fitting) > 1:
                findings.pictures[name(root, picture)] = f"there are several masks: {', '.join(fitting)}"
            found.append(picture)
        if alone := len(known) - len(used):
            ignored["masks without a picture"] += alone
    if not found:
        raise DataError(f"{root}: there are no pictures in {' or '.join(str(i) for _, i, _ in pairs(root))}.")
    return Annotated(root, found, names(root, data), findings, dict(ignored))


def table(path: Path, data: Data) -> Annotated:
    """The pictures of a table with the columns image and mask."""
    rows, lines = tables.columns(path)
    column = data.label if isinstance(data.label, str) else "mask"
    if missing := [c for c in (data.image, column, data.group, data.split) if c and c not in rows]:
        raise DataError(
            f"{path}: the table has no column {', '.join(map(repr, missing))}. It has: {', '.join(rows)}. Name columns with data.image and data.label."
        )
    splits, odd = tables.splits(rows[data.split], lines, "line") if data.split else ([None] * len(lines), [])
    groups, found, findings = tables.groups(rows, data.group, len(lines)), [], Findings()
    root = Path(path.parent)
    for line, image, mask, split, group in zip(lines, rows[data.image], rows[column], splits, groups, strict=True):
        if not image or not mask:
            odd.append(f"line {line}: the cell {data.image if not image else column!r} is empty")
            continue
        picture = Picture(
            os.path.normpath(root / image), f"line {line}", split, group, mask=os.path.normpath(root / mask)
        )
        found.append(picture)
    for image in {p for p, n in Counter(p.path for p in found).items() if n > 1}:
        odd.append(f"{image} stands there more than once")
    if odd or not found:
        raise DataError(listed(f"{path}: rows cannot be used", odd or ["there is none"]))
    return Annotated(root, found, names(root, data), findings)


def names(root: Path, data: Data) -> list[str] | None:
    """The classes by number: the config's, or the lines of a file beside the pictures; None: there is none."""
    if data.classes is not None:
        return data.classes
    for file in (root / n for n in NAMES):
        if file.is_file():
            found = [line.strip() for line in tables.decoded(file).splitlines() if line.strip()]
            if doubled := sorted({c for c in found if found.count(c) > 1}):
                raise DataError(f"{file}: classes need different names; twice: {', '.join(doubled)}.")
            if not found or len(found) > VOID:
                raise DataError(
                    f"{file}: 1 to {VOID} names of classes are expected, one a line; there are {len(found)}."
                )
            return found
    return None


def label(
    picture: Picture, size, findings: Findings, root: Path, classes: list[str] | None, data: Data, refusal
) -> dict | None:
    """The label of a picture with an index mask; 'values' are the classes in it, by number."""
    key = name(root, picture)
    if picture.mask is None:
        return None
    shown = os.path.relpath(picture.mask, root)
    try:
        if refused := refusal(picture.mask):
            raise ValueError(refused[1])
        mask = load(picture.mask)
    except ValueError as e:
        findings.pictures[key] = f"its mask {shown}: {e}"
        return None
    if mask.shape != tuple(size):
        findings.pictures[key] = (
            f"its mask {shown} has {mask.shape[1]} x {mask.shape[0]} pixels, the picture {size[1]} x {size[0]}"
        )
        return None
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    values = values[values != data.ignore]
    if not len(values):
        findings.pictures[key] = f"its mask {shown} is void: every pixel has the value {data.ignore} (data.ignore)"
        return None
    if classes is not None and (odd := values[values >= len(classes)]).size:
        findings.pictures[key] = (
            f"its mask {shown} holds {', '.join(map(str, odd[:5]))}; classes are numbered 0 to {len(classes) - 1}, and {data.ignore} is void (data.ignore)"
        )
        return None
    made = {"size": list(size), "mask": os.path.abspath(picture.mask), "values": values.tolist()}
    return made if data.ignore == VOID else {**made, "ignore": data.ignore}


def load(path) -> np.ndarray:
    """The numbers of an index mask as they are written, uint8 (h, w).

    Raises:
        ValueError: when it is none; the reason, without the file's name.
    """
    from PIL import Image

    try:
        with opened(path) as (file, status):
            if file is None:
                raise ValueError("not a regular file")
            if status.st_size > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES:,} bytes")
            contents = file.read()
    except OSError as e:
        raise ValueError("there is no such file" if isinstance(e, FileNotFoundError) else e.strerror or str(e)) from e
    depth, colour = header(contents)
    if colour not in (GREY, PALETTE):
        raise ValueError(
            "it has colours (RGB or transparency) where a number for each pixel is expected: write the classes as numbers, a grey or palette PNG"
        )
    if depth > 8:
        raise ValueError("it has 16 bits a pixel where numbers to 255 are expected: write it with 8 bits")
    try:
        with Image.open(io.BytesIO(contents), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"its header says {image.width * image.height:,} pixels; at most {MAX_PIXELS:,} are read"
                )
            values = np.asarray(image).astype(np.uint8)
    except ValueError:
        raise
    except Exception as e:  # Pillow's decoders raise what they like: OSError, SyntaxError, struct.error, zlib.error
        raise ValueError(f"damaged: {e}") from e
    # Pillow spreads grey of two and four bits over 0 to 255.
    return values // {2: 85, 4: 17}.get(depth, 1) if colour == GREY else values


def header(contents: bytes) -> tuple[int, int]:
    """Bits of a sample and colour type of a PNG.

    Raises:
        ValueError: when it is no PNG.
    """
    if contents[:8] != b"\x89PNG\r\n\x1a\n" or contents[12:16] != b"IHDR" or len(contents) < 26:
        kind = (
            "a JPEG, which blurs the numbers" if contents[:3] == b"\xff\xd8\xff" else "no PNG" if contents else "empty"
        )
        raise ValueError(f"a mask is a PNG; this is {kind}")
    return contents[24], contents[25]


def named(labels: list[dict], classes: list[str] | None) -> list[str]:
    """Exchanges the values of labels for names; returns the classes, named by their numbers where nothing names them."""
    if classes is None:
        most = max(max(one["values"]) for one in labels)
        classes = ["ground", *(f"class_{n}" for n in range(1, most + 1))]
    for one in labels:
        one["names"] = [classes[v] for v in one.pop("values")]
    return classes


def _stem(path: str, folder: Path) -> str:
    return Path(path).relative_to(folder).with_suffix("").as_posix()
