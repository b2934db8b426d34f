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

from tlkeras.data import pipeline, scan, sources, splits
from tlkeras.errors import DataError, listed
from tlkeras.run import read_json, replacing, write_json

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Held:
    """Samples with everything known about them, one entry each: id, path, label as written, split, hash of the
    bytes and the fingerprint that reading compares. `targets` (n, k) and `answer` are the task's; `jpeg` and
    `images` as in pipeline.Table."""

    ids: list[str]
    paths: list[str]
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

    def table(self, rows, targets=None, weights=None) -> pipeline.Table:
        """The samples at `rows` as a pipeline reads them. `targets` and `weights` are for all samples; None: those
        as written, and 1 each."""
        targets = self.targets if targets is None else targets
        weights = np.ones(len(self.ids), np.float32) if weights is None else weights
        whole = pipeline.Table(self.paths, targets, weights, self.fingerprints, self.hashes, self.jpeg, self.images)
        return whole.keep(rows)

    def summary(self) -> str:
        counts = Counter(self.splits)
        return f"{len(self.ids)} samples: " + ", ".join(f"{counts[s]} {s}" for s in SPLITS if counts[s])

    def facts(self) -> dict:
        """For the manifest: counts, and one hash over all samples and their splits."""
        import hashlib

        lines = sorted(
            f"{h} {s} {json.dumps(label)}" for h, s, label in zip(self.hashes, self.splits, self.labels, strict=True)
        )
        return {
            "samples": len(self.ids),
            "splits": dict(Counter(self.splits)),
            "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            **self.notes,
        }


def prepare(cfg, task, options, run, offline: bool, progress, pixels=None) -> Held:
    """Reads, checks and splits the data of a config; writes data_report.json and splits.parquet into the run.

    With `pixels`, the input contract of a backbone, the pixels of files that are decoded are kept where they are few.

    Raises:
        DataError: with every bad file, unless `on_bad: skip`; for duplicates that leak or contradict.
    """
    held = collect(cfg.data, task, options, progress, run=run, offline=offline, pixels=pixels)
    _write(held, run)
    return held


def collect(
    section, task, options, progress, run=None, offline: bool = False, every_class: bool = True, pixels=None
) -> Held:
    """`prepare` without a run to write into. `every_class` False allows classes without a sample."""
    samples = sources.read(section, offline)
    keep = pixels if pixels is not None and pipeline.fits(len(samples), pixels) else None
    found = scan_files(samples.paths, samples.root, section.follow_symlinks, progress, keep)
    report = {
        "schema": 1,
        "found": len(samples),
        "used": len(found.good) if not found.bad else sum(p in found.good for p in samples.paths),
        "skipped": [
            {"file": i, "reason": found.bad[p]}
            for i, p in zip(samples.ids, samples.paths, strict=True)
            if p in found.bad
        ],
        "ignored": samples.ignored,
        "notes": found.notes,
    }
    if run is not None:
        write_json(run.data_report, report)
    if report["skipped"]:
        lines = [
            f"{s['file']!r}: {s['reason']}" if not s["file"].isprintable() else f"{s['file']}: {s['reason']}"
            for s in report["skipped"]
        ]
        head = f"{len(lines)} of {len(samples)} files cannot be used"
        if section.on_bad == "fail":
            raise DataError(listed(head, lines) + "\nRepair or remove them, or leave them out with data.on_bad: skip")
        progress.line("warning   " + listed(head + " and are left out", lines))
    samples = samples.keep([p in found.good for p in samples.paths])
    if not len(samples):
        raise DataError(f"{samples.root}: no usable sample is left.")
    good = [found.good[p] for p in samples.paths]
    targets, answer = (
        task.targets(samples.labels, options, section.classes)
        if every_class
        else _some_classes(task, samples, options, section)
    )
    strata = task.strata(targets, answer)
    hashes = [g.sha256 for g in good]
    scan.refuse_contradictions(samples.ids, hashes, samples.labels, samples.splits)
    split = splits.assign(
        hashes,
        _named(strata, answer, len(samples)),
        samples.groups,
        samples.splits,
        section.val,
        section.test,
        section.seed,
    )
    notes = scan.near_duplicates(samples.ids, [g.phash for g in good], hashes, split)
    if notes:
        progress.line(listed("warning   nearly the same picture in two splits", notes, 5))
    if every_class and "train" in split and answer.get("classes"):
        seen = targets[[s == "train" for s in split]].sum(0)
        if unseen := [c for c, n in zip(answer["classes"], seen, strict=True) if not n]:
            raise DataError(
                f"Every class needs training samples; without one: {', '.join(unseen)}. Add some, or leave the class out."
            )
    counts = Counter(s for s in strata or [] if s is not None)
    if counts and max(counts.values()) >= 20 * min(counts.values()):
        progress.line(
            f"warning   the largest class has {max(counts.values())} samples, the smallest {min(counts.values())}; consider task.class_weights: balanced"
        )
    if run is not None:
        write_json(run.data_report, {**report, "near_duplicates": notes})
    prints = np.array([g.fingerprint for g in good], np.int64)
    facts = {"skipped": len(report["skipped"]), "ignored": sum(samples.ignored.values()), "near_duplicates": len(notes)}
    names = [scan.printed(i) for i in samples.ids]
    images = [found.images[p] for p in samples.paths] if all(p in found.images for p in samples.paths) else None
    jpeg = all(g.format == "JPEG" for g in good)
    own = samples.paths, samples.labels, split, samples.groups, hashes, prints, targets, answer
    return Held(names, *own, facts, jpeg, images)


def _named(strata, answer, n: int) -> list:
    if strata is None:
        return [None] * n
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
        cache=sources.cache_folder() / "scans.jsonl",
        progress=progress,
        keep=keep,
    )


def reopen(run) -> Held:
    """The data of a run as it was split, from its folder."""
    import pyarrow.parquet

    from tlkeras import config, tasks

    rows = pyarrow.parquet.read_table(run.splits).to_pydict()
    cfg = config.load(run.config)
    task = tasks.get(cfg.task_name)
    labels = [json.loads(text) for text in rows["label"]]
    classes = read_json(run.manifest)["answer"].get("classes") if run.manifest.is_file() else cfg.data.classes
    targets, answer = task.targets(
        labels, task.Options.model_validate({k: v for k, v in cfg.task.items() if k != "name"}), classes
    )
    return Held(
        rows["id"],
        [os.fsdecode(p) for p in rows["path"]],
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

    columns = {
        # Names of files are bytes that need not be UTF-8.
        "id": held.ids,
        "path": [os.fsencode(os.path.abspath(p)) for p in held.paths],
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
