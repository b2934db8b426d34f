"""Data: from what a config names to samples that were each read once, checked, and split.

`prepare` does it for a new run and writes what it found into the run; `reopen` takes it from there, so that
evaluating, exporting and resuming use the very split that was trained on.
"""

import contextlib
import json
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from tlkeras import config, tasks
from tlkeras.data import masks, pictures, scan, several, sound_sources, splits, text_sources
from tlkeras.data.samples import cache_folder
from tlkeras.errors import DataError, listed
from tlkeras.run import read_json, replacing, write_json

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Held:
    """Samples with everything known about them, one entry each: id, input (the path of a picture or sound, or a tuple of
    texts), label as written, split, hash of the bytes and the fingerprint that reading a file compares. `targets`
    and `answer` are the task's; `jpeg` and `images` as in pictures.Table."""

    ids: list[str]
    inputs: list
    labels: list
    splits: list[str]
    groups: list
    hashes: list[str]
    fingerprints: np.ndarray
    targets: np.ndarray
    answer: dict
    notes: dict
    jpeg: bool = False
    images: list | None = None

    def rows(self, split: str) -> np.ndarray:
        return np.array([i for i, s in enumerate(self.splits) if s == split], int)

    def table(self, rows, targets=None, weights=None, reader=None):
        """The samples at `rows` as a pipeline reads them, texts and sounds by a Reader. `targets` and `weights` are for all
        samples; None: those as written, and 1 each."""
        targets = self.targets if targets is None else targets
        if "tasks" in self.answer and isinstance(targets, list):  # as they are judged, not as they are learnt from
            targets = np.zeros((len(targets), 1), np.float32)
        weights = np.ones(len(self.ids), np.float32) if weights is None else weights
        if reader is not None:
            chosen = at(targets, rows)
            inputs = [self.inputs[i] for i in rows]
            if isinstance(self.inputs[0], tuple):
                return reader.table(inputs, chosen, weights[rows])
            return reader.table(inputs, chosen, weights[rows], self.fingerprints[rows], [self.hashes[i] for i in rows])
        if not isinstance(targets, np.ndarray):
            targets = np.zeros((len(targets), 1), np.float32)
        whole = pictures.Table(self.inputs, targets, weights, self.fingerprints, self.hashes, self.jpeg, self.images)
        return whole.keep(rows)

    def summary(self) -> str:
        counts = Counter(self.splits)
        return f"{len(self.ids)} samples: " + ", ".join(f"{counts[s]} {s}" for s in SPLITS if counts[s])

    def facts(self) -> dict:
        """For the manifest: counts, and one hash over all samples and their splits."""
        import hashlib

        labels = map(json.dumps, map(masks.judged, self.labels))
        lines = sorted(f"{h} {s} {label}" for h, s, label in zip(self.hashes, self.splits, labels, strict=True))
        return {
            "samples": len(self.ids),
            "splits": dict(Counter(self.splits)),
            "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            **self.notes,
        }


def at(targets, rows):
    """The targets at `rows`: an array of an array, a list of a list."""
    return targets[rows] if isinstance(targets, np.ndarray) else [targets[i] for i in rows]


def prepare(cfg, task, options, run, offline: bool, progress, pixels=None) -> Held:
    """Reads, checks and splits the data of a config; writes data_report.json and splits.parquet into the run.

    With `pixels`, the input contract of a backbone, the pixels of files that are decoded are kept where they are few.

    Raises:
        DataError: with every bad file, unless `on_bad: skip`; for duplicates that leak or contradict.
    """
    texts, places = tasks.wanted(cfg.task_name), tasks.annotations(cfg.task_name, options)
    places = "outlines" if places == "boxes" and cfg.augment.paste else places
    held = collect(
        cfg.data, task, options, progress, run=run, offline=offline, pixels=pixels, texts=texts, places=places
    )
    _write(held, run)
    return held


def collect(
    section,
    task,
    options,
    progress,
    run=None,
    offline: bool = False,
    every_class: bool = True,
    pixels=None,
    texts=None,
    places: str | None = None,
) -> Held:
    """`prepare` without a run to write into. `every_class` False allows classes without a sample; `texts` says what a
    task on text or sound reads, `places` what a task on places in images does."""
    kind = "image" if texts is None else texts.kind
    samples, looked, report = usable(
        several.samples(section, task, options, offline, texts, places), kind, section, progress, pixels, run
    )
    targets, answer = (
        task.targets(samples.labels, options, section.classes or samples.classes)
        if every_class or places or hasattr(task, "heads")
        else _some_classes(task, samples, options, section)
    )
    strata = task.strata(targets, answer)
    hashes = looked.hashes
    if kind != "text":
        said = several.said(samples.labels, task, places)
        scan.refuse_contradictions(samples.ids, hashes, said, samples.splits)
    else:
        _warn_of_contradictions(hashes, samples.labels, progress)
    split = splits.assign(
        hashes,
        named(strata, answer, len(samples)),
        samples.groups,
        samples.splits,
        section.val,
        section.test,
        section.seed,
    )
    notes = [] if kind != "image" else scan.near_duplicates(samples.ids, looked.phashes, hashes, split)
    if notes:
        progress.line(listed("warning   nearly the same picture in two splits", notes, 5))
    if every_class and isinstance(targets, np.ndarray) and "train" in split and answer.get("classes"):
        _every_class_in_training(targets, split, answer)
    _warn_of_rare_classes(strata, options, progress)
    if run is not None:
        write_json(run.data_report, {**report, "near_duplicates": notes})
    facts = {"skipped": len(report["skipped"]), "ignored": sum(samples.ignored.values()), "near_duplicates": len(notes)}
    return Held(
        [scan.printed(i) for i in samples.ids],
        samples.inputs,
        samples.labels,
        split,
        samples.groups,
        hashes,
        looked.fingerprints,
        targets,
        answer,
        facts,
        looked.jpeg,
        looked.images,
    )


def usable(samples, kind: str, section, progress, pixels, run):
    """Looks at every sample and leaves out what cannot be used: (samples, what looking told of them, the report)."""
    look = {"image": _look_at_files, "text": _look_at_texts, "audio": _look_at_sounds}[kind]
    looked = look(samples, section, progress, pixels)
    report = _report(samples, looked)
    if run is not None:
        write_json(run.data_report, report)
    if samples.bad:
        lines = [f"{where}: {why}" for where, why in samples.bad.items()]
        progress.line(
            "warning   " + listed(f"{len(lines)} pictures or annotations cannot be used and are left out", lines)
        )
    for note in samples.notes:
        progress.line(f"note      {note}")
    if report["skipped"]:
        _skip(samples, report["skipped"], section, progress, "texts" if kind == "text" else "files")
    samples = samples.keep([bad is None for bad in looked.bad])
    looked = looked.keep([i for i, bad in enumerate(looked.bad) if bad is None])
    if not len(samples):
        raise DataError(f"{samples.root}: no usable sample is left.")
    return samples, looked, report


def _warn_of_rare_classes(strata, options, progress) -> None:
    counts = Counter(s for s in strata or [] if s is not None)
    if counts and max(counts.values()) >= 20 * min(counts.values()):
        advice = "; consider task.class_weights: balanced" if hasattr(options, "class_weights") else ""
        progress.line(
            f"warning   the largest class has {max(counts.values())} samples, the smallest {min(counts.values())}{advice}"
        )


@dataclass(frozen=True)
class _Looked:
    """What looking at samples told, one entry each: why it cannot be used or None, the hash of its content, and of
    files what pictures.Table has."""

    bad: list[str | None]
    hashes: list[str]
    fingerprints: np.ndarray
    phashes: list
    notes: dict
    jpeg: bool = False
    images: list | None = None

    def keep(self, rows) -> "_Looked":
        def pick(values):
            return [values[i] for i in rows]

        images = self.images and pick(self.images)
        prints = self.fingerprints[rows]
        return _Looked(pick(self.bad), pick(self.hashes), prints, pick(self.phashes), self.notes, self.jpeg, images)


def _look_at_files(samples, section, progress, pixels) -> _Looked:
    keep = pixels if pixels is not None and pictures.fits(len(samples), pixels) else None
    found = scan_files(samples.inputs, samples.root, section.follow_symlinks, progress, keep)
    good = [found.good.get(p) for p in samples.inputs]
    known = [g for g in good if g]
    return _Looked(
        [found.bad.get(p) for p in samples.inputs],
        [g.sha256 if g else "" for g in good],
        np.array([g.fingerprint if g else 0 for g in good], np.int64),
        [g and g.phash for g in good],
        found.notes,
        all(g.format == "JPEG" for g in known),
        [found.images.get(p) for p in samples.inputs] if all(g.path in found.images for g in known) else None,
    )


def _look_at_texts(samples, section, progress, pixels) -> _Looked:
    n = len(samples)
    bad = [text_sources.fault(t) for t in samples.inputs]
    hashes = [text_sources.content(t) for t in samples.inputs]
    return _Looked(bad, hashes, np.zeros(n, np.int64), [None] * n, {})


def _look_at_sounds(samples, section, progress, pixels) -> _Looked:
    found = sound_sources.look(samples.inputs, progress)
    bad, hashes, prints = (list(x) for x in zip(*found, strict=True)) if found else ([], [], [])
    return _Looked(bad, hashes, np.array(prints, np.int64), [None] * len(found), {})


def _report(samples, looked: _Looked) -> dict:
    """What data_report.json says."""
    skipped = [{"file": i, "reason": why} for i, why in zip(samples.ids, looked.bad, strict=True) if why is not None]
    return {
        "schema": 1,
        "found": len(samples),
        "used": len(samples) - len(skipped),
        "skipped": skipped,
        "ignored": samples.ignored,
        "notes": looked.notes,
        **({"annotations": {"left_out": samples.bad, "notes": samples.notes}} if samples.bad or samples.notes else {}),
    }


def _skip(samples, skipped: list[dict], section, progress, what: str) -> None:
    lines = [
        f"{s['file']!r}: {s['reason']}" if not s["file"].isprintable() else f"{s['file']}: {s['reason']}"
        for s in skipped
    ]
    head = f"{len(lines)} of {len(samples)} {what} cannot be used"
    if section.on_bad == "fail":
        raise DataError(listed(head, lines) + "\nRepair or remove them, or leave them out with data.on_bad: skip")
    progress.line("warning   " + listed(head + " and are left out", lines))


def _warn_of_contradictions(hashes, labels, progress) -> None:
    said: dict[str, set] = {}
    for h, label in zip(hashes, labels, strict=True):
        said.setdefault(h, set()).add(json.dumps(label))
    if n := sum(len(s) > 1 for s in said.values()):
        progress.line(f"warning   {n} texts stand there more than once with different labels; each is in one split")


def _every_class_in_training(targets, split, answer) -> None:
    seen = targets[[s == "train" for s in split]].sum(0)
    if unseen := [c for c, n in zip(answer["classes"], seen, strict=True) if not n]:
        raise DataError(
            f"Every class needs training samples; without one: {', '.join(unseen)}. Add some, or leave the class out."
        )


def named(strata, answer, n: int) -> list:
    if strata is None or isinstance(strata[0], str):
        return strata or [None] * n
    return [answer["classes"][s] if 0 <= s < len(answer["classes"]) else "no class" for s in strata]


def _some_classes(task, samples, options, section):
    """Targets for data in which not every class of `section.classes` occurs."""
    if not section.classes:
        return task.targets(samples.labels, options)
    padded, answer = task.targets([*samples.labels, *section.classes], options, section.classes)
    return padded[: len(samples)], answer


def scan_files(paths, root=None, follow_symlinks: bool = False, progress=None, keep=None) -> scan.Found:
    """Scans files, with what earlier scans found kept under the cache folder."""
    return scan.scan(
        paths,
        root=root,
        follow_symlinks=follow_symlinks,
        cache=cache_folder() / "scans.jsonl",
        progress=progress,
        keep=keep,
    )


def picture(path):
    """An image file as a PIL image, decoded as for training: upright, alpha on white."""
    from pathlib import Path

    from PIL import Image

    from tlkeras.data import images

    return Image.fromarray(images.decode(Path(path).read_bytes()).numpy())


def reopen(run) -> Held:
    """The data of a run as it was split, from its folder."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(run.splits).to_pydict()
    cfg = config.load(run.config)
    task = tasks.get(cfg.task_name)
    labels = [json.loads(text) for text in rows["label"]]
    classes = tasks.classes(read_json(run.manifest)["answer"]) if run.manifest.is_file() else cfg.data.classes
    options = task.Options.model_validate({k: v for k, v in cfg.task.items() if k != "name"})
    # Of a run that extends another without its samples, an old class may have none.
    targets, answer = task.targets([*labels, *classes] if cfg.extend and classes else labels, options, classes)
    targets = targets[: len(labels)] if cfg.extend else targets
    return Held(
        rows["id"],
        [tuple(t) for t in rows["texts"]] if "texts" in rows else [os.fsdecode(p) for p in rows["path"]],
        labels,
        rows["split"],
        rows["group"],
        rows["sha256"],
        np.array(rows["fingerprint"], np.int64),
        targets,
        answer,
        {},
        all(rows.get("jpeg", [False])),
    )


def _write(held: Held, run) -> None:
    import pyarrow
    import pyarrow.parquet

    if isinstance(held.inputs[0], tuple):
        # The texts themselves, so that a run can be judged when its source is gone or was changed.
        given = {"texts": [list(t) for t in held.inputs]}
    else:
        # Names of files are bytes that need not be UTF-8.
        given = {"path": [os.fsencode(os.path.abspath(p)) for p in held.inputs]}
    columns = {
        "id": held.ids,
        **given,
        "split": held.splits,
        "sha256": held.hashes,
        "fingerprint": held.fingerprints,
        "jpeg": [held.jpeg] * len(held.ids),
        "label": [json.dumps(x) for x in held.labels],
        "group": [None if g is None else str(g) for g in held.groups],
    }
    with replacing(run.splits) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)


@contextlib.contextmanager
def changed_files():
    """Turns a pipeline's complaint about a file that changed or vanished since the scan into DataError with its name."""
    import re

    import tensorflow as tf

    try:
        yield
    except tf.errors.InvalidArgumentError as e:
        if found := re.search(r"CHANGED['\]\s\[]*b?['\"]?(.+?)['\"]?\]?(?:\n|$)", str(e)):
            raise DataError(
                f"{found[1]} changed while it was in use: its bytes are not those that were scanned. Start again, so that the data is scanned anew."
            ) from e
        raise
    except tf.errors.NotFoundError as e:
        raise DataError(
            f"A file vanished while it was in use: {e.message.splitlines()[0]}. Restore it, or start again."
        ) from e
