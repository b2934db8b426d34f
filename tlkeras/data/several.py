"""Data of several tasks: one list of samples with the labels of all of them, and targets that stand side by side.

Tasks may have their labels in one table, a column each, or in places of their own: boxes in COCO's JSON, masks in files
beside the same pictures. A sample without a label for a task has None there: an empty cell, a picture that the one
knows and the other does not.
"""

import os
from dataclasses import replace

import numpy as np

from tlkeras.data import sources
from tlkeras.data.samples import Samples
from tlkeras.errors import DataError, listed


def samples(section, task, options, offline: bool = False, texts=None, places: str | None = None) -> Samples:
    """The samples of a data section for any task, of several ones with labels {member: label or None} and classes
    {member: classes}.

    Raises:
        DataError: as sources.read; and when two members' sources say different things of a sample.
    """
    if not hasattr(task, "heads"):
        return sources.read(section, offline, texts, places)
    groups: dict[tuple, list[str]] = {}
    for m, own in options.tasks.items():
        groups.setdefault((own.path or section.path, getattr(task.MODULES[own.name], "ANNOTATIONS", None)), []).append(
            m
        )
    found = []
    for (path, kind), members in groups.items():
        own = options.tasks[members[0]]
        section_ = section.model_copy(update={"path": path, "classes": own.classes if kind else None})
        found.append(_read(section_, {m: options.tasks[m] for m in members}, offline, texts, kind))
    return found[0] if len(found) == 1 else _joined(found, list(options.tasks))


def _read(section, members: dict, offline: bool, texts, kind: str | None) -> Samples:
    """One source, with the labels of the members that it holds."""
    if kind:
        read = sources.read(section, offline, texts, kind)
        labels = [dict.fromkeys(members, label) for label in read.labels]
        return replace(read, labels=labels, classes=dict.fromkeys(members, read.classes))
    folder = texts is None and section.path and os.path.isdir(section.path)
    columns = {} if folder else {m: own.label or m for m, own in members.items()}
    flat = [c for own in columns.values() for c in (own if isinstance(own, list) else [own])]
    read = sources.read(section.model_copy(update={"label": list(dict.fromkeys(flat)) or None}), offline, texts)
    place = {c: n for n, c in enumerate(dict.fromkeys(flat))}

    def label(m, cells):
        if folder:
            return cells
        named = columns[m]
        if isinstance(named, list):
            chosen = [cells[place[c]] for c in named]
            return chosen if any(chosen) else None
        return cells[place[named]] or None

    return replace(
        read, labels=[{m: label(m, cells) for m in members} for cells in read.labels], classes=dict.fromkeys(members)
    )


def _joined(found: list[Samples], members: list[str]) -> Samples:
    """The samples of several sources as one list: those of one file are one sample."""
    where: dict[str, dict] = {}
    for read in found:
        for n, path in enumerate(read.inputs):
            key = os.path.realpath(path)
            row = where.setdefault(key, {"id": read.ids[n], "input": path, "label": {}, "split": None, "group": None})
            if twice := [m for m in read.labels[n] if m in row["label"]]:
                raise DataError(
                    f"{read.root}: {read.ids[n]} stands there twice; where tasks have places of their own for labels, a picture is named once in each. It has two labels for {twice[0]}."
                )
            row["label"] |= read.labels[n]
            for what, value in (("split", read.splits[n]), ("group", read.groups[n])):
                if value is not None and row[what] not in (None, value):
                    row.setdefault("odd", f"{read.ids[n]}: {what} {row[what]} and {value}")
                row[what] = row[what] or value
    rows = list(where.values())
    if odd := [row["odd"] for row in rows if "odd" in row]:
        raise DataError(listed("The tasks' labels must agree on the split and the group of a picture", odd))
    if (stated := {row["split"] for row in rows}) > {None} and None in stated:
        # A picture that only the source without splits knows would be dealt out among those that are split already.
        for row in rows:
            row["split"] = row["split"] or "train"
    ids = [row["id"] for row in rows]
    if len(set(ids)) < len(ids):  # of several folders
        ids = [row["input"] for row in rows]
    ignored: dict[str, int] = {}
    for read in found:
        ignored |= {f"{why} ({read.root})" if why in ignored else why: n for why, n in read.ignored.items()}
    return Samples(
        found[0].root,
        ids,
        [row["input"] for row in rows],
        [{m: row["label"].get(m) for m in members} for row in rows],
        [row["split"] for row in rows],
        [row["group"] for row in rows],
        ignored,
        {m: names for read in found for m, names in (read.classes or {}).items()},
        {where: why for read in found for where, why in read.bad.items()},
        list(dict.fromkeys(note for read in found for note in read.notes)),
    )


def said(labels: list, task, places: str | None) -> list:
    """What samples with the same content must agree on, for any task. Paths of masks differ where the masks do not: of
    them only the splits are held against each other."""
    if not hasattr(task, "heads"):
        return [None] * len(labels) if places == "masks" else labels
    return [
        {m: None if isinstance(x, dict) and {"mask", "rle"} & set(x) else x for m, x in label.items()}
        for label in labels
    ]


# --- Targets of which some are places in the picture, as tasks/several.py makes them


def layout(table, size: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], str | None]]:
    """{field: (shape of one sample, 'boxes' or 'masks' or None)} in their order."""
    found = {}
    for name in table.targets.dtype.names:
        field = table.targets.dtype[name]
        masked, shape = field.kind == "U", tuple(field.shape)
        places = "masks" if masked else "boxes" if len(shape) == 2 else None
        found[name] = (tuple(size) if masked else shape, places)
    return found


def answering(table, pixels, one_kind):
    """As `one_kind`, which is pictures.answering of a field: the fields of a sample, flattened, side by side, (n,) or (B, n)."""
    import tensorflow as tf

    ones = np.ones(len(table), np.float32)
    reads = []
    for name in table.targets.dtype.names:
        field = np.ascontiguousarray(table.targets[name])
        if field.dtype.kind == "U":
            # Of a picture without a mask any other's is read: what is asked for must have one shape.
            blank = next((path for path in field if path), "")
            there = tf.constant([bool(path) for path in field])
            field = np.array([path or blank for path in field])
        else:
            there = None
        reads.append((one_kind(replace(table, targets=field, weights=ones), pixels), there))
    weights = tf.constant(table.weights, tf.float32)

    def one(i):
        parts = []
        for read, there in reads:
            target = tf.cast(read(i)[0], tf.float32)
            shape = [-1] if i.shape.rank == 0 else [tf.shape(i)[0], int(np.prod(target.shape[1:]))]
            target = tf.reshape(target, shape)
            if there is not None:
                known = tf.gather(there, i)
                target = tf.where(known if i.shape.rank == 0 else known[:, None], target, 255.0)
            parts.append(target)
        return tf.concat(parts, -1), tf.gather(weights, i)

    return one


def augmenter(options, table, size: tuple[int, int]):
    """As spatial.spatial_augmenter, for a row of all targets: boxes and masks of a picture go the same way, since one
    seed draws one view."""
    import tensorflow as tf

    from tlkeras.data import spatial

    fields = layout(table, size)
    kinds = [places for _, places in fields.values() if places]
    moves = {places: spatial.spatial_augmenter(options, size, places) for places in kinds}

    def augment(image, target, seed):
        parts, start, seen = [], 0, image
        for shape, places in fields.values():
            n = int(np.prod(shape))
            part = target[start : start + n]
            if places:
                part = tf.reshape(part, shape)
                seen, part = moves[places](image, tf.cast(part, tf.uint8) if places == "masks" else part, seed)
                part = tf.reshape(tf.cast(part, tf.float32), [-1])
            parts.append(part)
            start += n
        return seen, tf.concat(parts, 0)

    return augment
