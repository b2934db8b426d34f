"""The other domain: samples whose labels nobody learns from. Where labels are there, they are kept for a score."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tlkeras import data, tasks
from tlkeras.config import Data
from tlkeras.data import listing, scan, sound_sources, table_sources, tables, text_sources
from tlkeras.data.samples import SPLIT_FOLDERS, Samples
from tlkeras.errors import DataError


def collect(cfg, task, options, answer: dict, progress, pixels=None) -> tuple[data.Held, np.ndarray]:
    """The samples of `adapt.path` in the order of their content, which no label can change, and the numbers of those
    whose label is known; the targets of the others are zeros.

    Raises:
        DataError: when nothing is there, or with every bad file, unless `data.on_bad: skip`.
    """
    kind, section = tasks.kind(cfg.task_name), _section(cfg)
    samples, looked, _ = data.usable(_listed(cfg, section), kind, section, progress, pixels, None)
    # Their order decides which samples meet in a batch; names of files would carry their class into it.
    order = np.argsort(looked.hashes, kind="stable")
    looked = looked.keep(order)
    ids, inputs, labels = ([getattr(samples, k)[i] for i in order] for k in ("ids", "inputs", "labels"))
    targets, known = _targets(task, options, answer, labels)
    ids = [scan.printed(i) for i in ids]
    n = len(ids)
    held = data.Held(
        ids,
        inputs,
        labels,
        ["target"] * n,
        [None] * n,
        looked.hashes,
        looked.fingerprints,
        targets,
        answer,
        {},
        looked.jpeg,
        looked.images,
    )
    return held, known


def count(cfg) -> int:
    """How many samples `adapt.path` lists; none is opened.

    Raises:
        DataError: when nothing is there.
    """
    return len(_listed(cfg, _section(cfg)))


def _section(cfg) -> Data:
    """How the target is read: as the source, without its splits and groups."""
    columns = {} if Path(cfg.adapt.path).is_dir() else {k: getattr(cfg.data, k) for k in ("text", "label")}
    shared = {k: getattr(cfg.data, k) for k in ("image", "audio", "on_bad", "follow_symlinks")}
    return Data.model_validate({"path": cfg.adapt.path, **shared, **columns})


def _listed(cfg, section: Data) -> Samples:
    """The samples of a folder or table; labels are None where there are none."""
    kind, path, wanted = tasks.kind(cfg.task_name), Path(section.path), tasks.wanted(cfg.task_name)
    if path.is_dir():
        if kind == "text":
            found = text_sources.read(section, replace(wanted, labelled=False))
            return replace(found, labels=[_folder_of(i) for i in found.ids])
        if kind == "audio":
            files, ignored = sound_sources.files(path)
        else:
            files, ignored = listing.list_images(path, follow_symlinks=section.follow_symlinks)
        if not files:
            raise DataError(f"adapt.path: {path} holds no {kind}s.")
        ids = [Path(f).relative_to(path).as_posix() for f in files]
        n = len(ids)
        return Samples(path, ids, list(map(str, files)), [_folder_of(i) for i in ids], [None] * n, [None] * n, ignored)
    if path.suffix.lower() not in tables.SUFFIXES:
        if not path.exists():
            raise tables.absent(path)
        raise DataError(f"adapt.path: the target is a folder or a {', '.join(tables.SUFFIXES)} table; received {path}.")
    columns, _ = tables.columns(path, strip=kind != "text")
    label = section.label or "label"
    labelled = all(name in columns for name in (label if isinstance(label, list) else [label]))
    if kind == "text":
        found = text_sources.read(section, replace(wanted, labelled=labelled))
    else:
        column = section.image if kind == "image" else section.audio
        found = table_sources.read(path, section, column, label if labelled else column)
    return found if labelled else replace(found, labels=[None] * len(found))


def _folder_of(name: str) -> str | None:
    """The class folder of a file, if it lies in one."""
    parts = [p for p in Path(name).parts[:-1] if p.lower() not in SPLIT_FOLDERS]
    return parts[0] if parts else None


def _targets(task, options, answer: dict, labels: list) -> tuple[np.ndarray, np.ndarray]:
    """Rows of targets as they are judged, and the numbers of those that say something."""
    classes = answer.get("classes")
    width = len(classes) if classes else answer["values"]
    rows, known = np.zeros((len(labels), width), np.float32), []
    for i, label in enumerate(labels):
        if label is None:
            continue
        try:
            # Every class must occur among the labels that a task turns into targets.
            found = (
                task.targets([label, *classes], options, classes)[0] if classes else task.targets([label], options)[0]
            )
        except DataError:
            continue
        if found.shape[1] == width and (found[0].any() or not classes):
            rows[i] = found[0]
            known.append(i)
    return rows, np.array(known, int)
