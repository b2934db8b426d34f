"""Where samples come from: a folder of classes, a CSV or Parquet table, TFRecord files, TensorFlow Datasets.

Every source gives the same `Samples`: a file for each sample and its label as it was written. What is not in files
of its own is unpacked first (unpacked.py).
"""

import glob
import os
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import box_sources, packs, tables, text_sources, unpacked
from tlkeras.data.samples import SPLIT_FOLDERS, Samples, cache_folder
from tlkeras.errors import DataError, listed, nearest
from tlkeras.tasks import Wanted

__all__ = ["SPLIT_FOLDERS", "Samples", "cache_folder", "read", "table"]


def read(data: Data, offline: bool = False, texts: Wanted | None = None, places: str | None = None) -> Samples:
    """Lists the samples of a data section; no file is opened yet. `texts` says what a task on text or sound reads, `places`
    ('boxes' or 'masks') what one on places in images does.

    Raises:
        DataError: when nothing is there, or a table is not what the config says.
        MachineError: when a dataset would have to be downloaded with `offline`.
    """
    if texts is not None and texts.kind == "audio":
        from tlkeras.data import sound_sources

        return sound_sources.read(data, texts, offline)
    if texts is not None:
        return text_sources.read(data, texts, offline)
    if places is not None:
        return box_sources.read(data, places)
    path = Path(data.path or "")
    if data.path and not path.is_dir() and path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        return table(path, data, data.image, data.label or "label")
    # Passed over in silence, a group would sit on both sides of a split.
    if ignored := [name for name in ("group", "split") if getattr(data, name)] + ["label"] * isinstance(
        data.label, list
    ):
        raise DataError(
            f"data.{' and data.'.join(ignored)} name columns of a table, and {data.path or data.tfds} is none. Leave them out, or list the files in a CSV or Parquet table."
        )
    if data.path and path.is_dir():
        if pack := packs.read_index(path):
            return unpacked.tfrecord([str(path / shard["name"]) for shard in pack["shards"]], data)
        return _folder(path, data.follow_symlinks)
    if data.tfds:
        return unpacked.tfds(data, offline)
    if found := sorted(glob.glob(data.path)):
        if all("tfrecord" in Path(f).name for f in found):
            return unpacked.tfrecord(found, data)
        raise DataError(
            f"{data.path}: data is a folder of class folders, a .csv, .tsv or .parquet table, or *.tfrecord* files; received {Path(found[0]).name}."
        )
    raise tables.absent(path)


def _folder(root: Path, follow_symlinks: bool) -> Samples:
    """root/CLASS/**.jpg, or root/{train,val,test}/CLASS/**.jpg."""
    from tlkeras.data.scan import list_images

    top = sorted(d.name for d in root.iterdir() if d.is_dir() and not d.name.startswith((".", "__")))
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in top if name.lower() in SPLIT_FOLDERS}
    if splits and "train" not in splits.values():
        splits = {}
    found, ignored = list_images(root, follow_symlinks=follow_symlinks)
    ids, paths, labels, given, loose, seen = [], [], [], [], [], set()
    for path in found:
        relative = Path(path).relative_to(root)
        parts = relative.parts[:-1]
        split = splits.get(parts[0]) if splits and parts else None
        parts = parts[1:] if split else parts
        if not parts or (splits and not split):
            loose.append(str(relative))
            continue
        seen.add(relative.parts[: 2 if split else 1])
        ids.append(relative.as_posix()), paths.append(str(path)), labels.append(parts[0]), given.append(split)
    if loose:
        ignored = {**ignored, "not in a class folder": len(loose)}
    links = (
        " Links are not followed; data.follow_symlinks allows those that stay inside the data folder."
        if any("link" in why for why in ignored)
        else ""
    )
    if not ids:
        read_as = (
            f" Folders called {', '.join(splits)} are read as splits, with class folders inside." if splits else ""
        )
        raise DataError(
            f"{root}: expected class folders with images in them (CLASS/*.jpg); found {len(loose)} images outside class folders and {len(top)} folders.{read_as}{links}"
        )
    # A class folder without one image is nearly always a mistake in copying; found out later it is a wrong model.
    wanted = (
        [(s, d.name) for s in splits for d in (root / s).iterdir() if d.is_dir()] if splits else [(d,) for d in top]
    )
    if empty := ["/".join(w) for w in wanted if w not in seen and not w[-1].startswith((".", "__"))]:
        raise DataError(
            f"{root}: every class folder needs images; empty: {', '.join(sorted(empty))}. Remove these folders or fill them.{links}"
        )
    return Samples(root, ids, paths, labels, given, [None] * len(ids), ignored)


def table(path: Path, data: Data, column: str, label: str | list[str], below: str = "") -> Samples:
    """The samples of a table whose `column` names files, relative to the folder `below` beside it.

    Raises:
        DataError: with every row that cannot be used.
    """
    rows, lines = tables.columns(path)
    names, word = list(rows), "row" if path.suffix.lower() == ".parquet" else "line"
    targets = label if isinstance(label, list) else [label]
    wanted = [column, *targets, *filter(None, (data.group, data.split))]
    if missing := [c for c in wanted if c not in names]:
        raise DataError(
            f"{path}: the table has no column {', '.join(map(repr, missing))}.{nearest(missing[0], names)} It has: {', '.join(names)}. Name columns with data.{'image' if column == data.image else 'audio'} and data.label."
        )
    files = rows[column]
    if not files:
        raise DataError(f"{path}: the table has a header and no rows.")
    for name in wanted:
        allowed = (str, list) if name in targets else str
        if odd := next((cell for cell in rows[name] if not isinstance(cell, allowed)), None):
            raise DataError(
                f"{path}: the column {name!r} must hold texts or numbers; it holds {'lists' if isinstance(odd, list) else 'records'}. Pictures and sounds are read from files of their own."
            )
    # Strings, not Paths: three seconds less for 100,000 rows.
    folder = path.parent / below
    root, base = os.path.realpath(folder), str(folder) if folder != Path() else ""
    inside = tuple(os.path.join(f, "") for f in {root, os.path.abspath(folder)})
    bad, paths = [], []
    for line, cell in zip(lines, files, strict=True):
        full = os.path.normpath(os.path.join(root, cell))
        if not cell:
            bad.append(f"{word} {line}: the cell {column!r} is empty")
        elif not data.follow_symlinks and not full.startswith(inside):
            bad.append(f"{word} {line}: {cell} lies outside the folder of the table")
        elif not os.path.lexists(full):
            bad.append(f"{word} {line}: {cell} does not exist")
        paths.append(os.path.join(base, cell))
    splits = [None] * len(files)
    if data.split:
        splits, odd = tables.splits(rows[data.split], lines, word)
        bad += odd
    if bad:
        raise DataError(listed(f"{path}: {len(bad)} of {len(files)} rows cannot be used", bad))
    labels = tables.labels(rows, label)
    groups = tables.groups(rows, data.group, len(files))
    ids = list(files)
    if len(set(ids)) < len(ids):
        ids = [f"{line}:{cell}" for line, cell in zip(lines, files, strict=True)]
    return Samples(path.parent, ids, paths, labels, splits, groups)
