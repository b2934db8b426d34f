"""The data of a run that extends another: the samples of that run on the side where they were, and new ones beside them.

A sample that the run held out stays held out, wherever it comes from: what was asked about is never trained on.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlkeras import config, data, tasks
from tlkeras.data import scan, sound_sources, sources, splits
from tlkeras.data.samples import Samples
from tlkeras.errors import ConfigError, DataError, listed
from tlkeras.run import open_run, read_json, write_json


@dataclass(frozen=True)
class _Looked:
    """Of samples, one entry each: whether it is there with the bytes it had, its fingerprint, its perceptual hash."""

    there: list[bool]
    fingerprints: list[int]
    phashes: list


def prepare(cfg, task, options, run, offline: bool, progress, pixels=None):
    """As data.prepare: the samples of the run that `cfg.extend` names, with those of `cfg.data`. Writes data_report.json and
    splits.parquet into the new run. The old classes come first, in their order.

    Raises:
        DataError: for old samples that are gone and wanted, new ones that contradict old ones or their sides, and data
            that brings nothing new.
    """
    old = _old(cfg)
    classes = _classes(cfg, old, sources.read(cfg.data, offline, tasks.wanted(cfg.task_name)))
    # Split afterwards: here only what the data itself states is kept apart.
    asked = cfg.data.model_copy(update={"val": 0.0, "test": 0.0, "classes": classes})
    new = data.collect(
        asked,
        task,
        options,
        progress,
        run=run,
        offline=offline,
        every_class=False,
        texts=tasks.wanted(cfg.task_name),
    )
    kind = tasks.kind(cfg.task_name)
    fresh = _unknown(old, new, kind)
    sides = _sides(old, new, fresh, cfg, classes)
    looked = _look(old.inputs, old.hashes, kind, progress)
    old, looked = _moved(old, looked, new)
    kept = _kept(old, looked, cfg, progress)
    held = _joined(old, new, kept, fresh, sides, task, options, classes, Path(cfg.data.path or "").name)
    _every_class_in_training(held, classes, old.answer["classes"], cfg.extend.old_rows)
    notes = _near(held, looked, kept, kind, progress)
    write_json(run.data_report, {**read_json(run.data_report), "near_duplicates": notes})
    facts = {**new.notes, "near_duplicates": len(notes), "old": len(kept)}
    held = replace(held, notes=facts)
    progress.line(f"extends   {cfg.extend.run}: {len(kept)} of its samples, {len(fresh)} new ones")
    data._write(held, run)
    return held


def listed_with_old(cfg, samples: Samples) -> Samples:
    """The samples of a data section with those of the run that it extends, for a look ahead; nothing is opened."""
    old = _old(cfg)
    sides = ["test" if s == "train" and not cfg.extend.old_rows else s for s in old.splits]
    known = set(old.ids)
    more = samples.keep([i not in known for i in samples.ids])
    return replace(
        more,
        ids=old.ids + more.ids,
        inputs=old.inputs + more.inputs,
        labels=old.labels + more.labels,
        splits=sides + more.splits,
        groups=old.groups + more.groups,
        classes=_classes(cfg, old, samples),
    )


def _old(cfg):
    """The samples of the run that is extended.

    Raises:
        ConfigError: when it does not do what the config asks for, or what cannot be extended.
    """
    run = open_run(cfg.extend.run)
    before = config.load(run.config)
    if tasks.TASKS[cfg.task_name][1] != "classification" or before.task_name != cfg.task_name:
        raise ConfigError(
            f"extend: classes are added to a run of classification, by a config of the same task; {cfg.extend.run} does {before.task_name}, the config {cfg.task_name}."
        )
    old = data.reopen(run)
    if old.answer["multi_label"]:
        raise ConfigError(
            f"extend: {cfg.extend.run} gives several labels, and its samples say nothing about classes that were not there: label them anew and train a new run."
        )
    return old


def _classes(cfg, old, samples: Samples) -> list[str]:
    """The old classes in their order, then the new ones: as data.classes has them, or sorted."""
    known = old.answer["classes"]
    labels = [x for x in samples.labels if isinstance(x, str)]
    return [*known, *(c for c in cfg.data.classes or sorted(set(labels)) if c not in known)]


def _unknown(old, new, kind: str) -> list[int]:
    """The new samples that the old run does not hold.

    Raises:
        DataError: when there is none, or a sample of the old run has another label now.
    """
    known: dict[str, int] = {h: i for i, h in enumerate(old.hashes)}
    wrong = [
        f"{new.ids[i]} is {label}, and was {old.labels[known[h]]} as {old.ids[known[h]]}"
        for i, (h, label) in enumerate(zip(new.hashes, new.labels, strict=True))
        if h in known and label != old.labels[known[h]]
    ]
    # The same words may well have two labels, as in data of one run.
    if wrong and kind != "text":
        raise DataError(
            listed(
                f"Equal files must have one label; {len(wrong)} have another one than in the run that is extended",
                wrong,
            )
            + "\nRemove those that are wrong."
        )
    fresh = [i for i, h in enumerate(new.hashes) if h not in known]
    if not fresh:
        raise DataError(
            f"The data brings nothing new: the run that is extended holds all {len(new.ids)} samples. Add samples of new classes."
        )
    return fresh


def _sides(old, new, fresh: list[int], cfg, classes) -> list[str]:
    """The split of each fresh sample: that of old ones it belongs together with, or dealt out by the usual rule.

    Raises:
        DataError: when the data states another side, or a class has too few samples.
    """
    groups = [*old.groups, *(None if new.groups[i] is None else str(new.groups[i]) for i in fresh)]
    units = splits.together([*old.hashes, *(new.hashes[i] for i in fresh)], groups)
    side_of = dict(zip(units, old.splits, strict=False))
    stated = [s if s != "train" else None for s in (new.splits[i] for i in fresh)]
    tied = [side_of.get(u) for u in units[len(old.ids) :]]
    if wrong := [
        f"{new.ids[i]} (group {new.groups[i]}): {t} there, {s} here"
        for i, s, t in zip(fresh, stated, tied, strict=True)
        if s and t and s != t
    ]:
        raise DataError(
            listed("Samples of one group stay in one split; the run that is extended has them in another", wrong)
        )
    named = [classes[int(new.targets[i].argmax())] for i in fresh]
    loose = [n for n, t in enumerate(tied) if t is None]
    counts = Counter(named[n] for n in {units[len(old.ids) + n]: n for n in loose}.values())
    least = 1 + sum(getattr(cfg.data, s) > 0 and s not in stated for s in ("val", "test"))
    known = set(old.answer["classes"])
    # Of a class that has held-out samples already, a few more are simply learnt from.
    dealt = [n for n in loose if named[n] not in known or counts[named[n]] >= least]
    found = splits.assign(
        [new.hashes[fresh[n]] for n in dealt],
        [named[n] for n in dealt],
        [new.groups[fresh[n]] for n in dealt],
        [stated[n] for n in dealt],
        cfg.data.val,
        cfg.data.test,
        cfg.data.seed,
    )
    of = dict(zip(dealt, found, strict=True))
    return [tied[n] or of.get(n) or stated[n] or "train" for n in range(len(fresh))]


def _look(paths: list, hashes: list[str], kind: str, progress) -> _Looked:
    if kind == "text":
        n = len(hashes)
        return _Looked([True] * n, [0] * n, [None] * n)
    if kind == "audio":
        found = sound_sources.look(paths, progress)
        there = [bad is None and h == known for (bad, h, _), known in zip(found, hashes, strict=True)]
        return _Looked(there, [f for _, _, f in found], [None] * len(found))
    good = data.scan_files(paths, progress=progress).good
    files = [good.get(p) for p in paths]
    return _Looked(
        [f is not None and f.sha256 == h for f, h in zip(files, hashes, strict=True)],
        [f.fingerprint if f else 0 for f in files],
        [f and f.phash for f in files],
    )


def _moved(old, looked: _Looked, new):
    """Old samples that are gone from their place and lie in the new data are taken from there."""
    where = {h: i for i, h in enumerate(new.hashes)}
    inputs, prints, there = list(old.inputs), old.fingerprints.copy(), list(looked.there)
    for i, h in enumerate(old.hashes):
        if not there[i] and h in where:
            inputs[i], prints[i], there[i] = new.inputs[where[h]], new.fingerprints[where[h]], True
    return replace(old, inputs=inputs, fingerprints=prints), replace(looked, there=there)


def _kept(old, looked: _Looked, cfg, progress) -> list[int]:
    """The old samples that are used.

    Raises:
        DataError: when one that is to be trained on, or to judge by, is gone.
    """
    gone = [i for i, there in enumerate(looked.there) if not there]
    if gone and cfg.extend.old_rows:
        raise DataError(
            listed(
                f"{cfg.extend.run}: {len(gone)} of its {len(old.ids)} samples are gone or changed",
                [str(old.inputs[i]) for i in gone],
            )
            + "\nRestore them, or hand them in with the new ones. Without them, by what the run answers alone: --without-old-rows (extend.old_rows: false)"
        )
    wanted = [i for i, s in enumerate(old.splits) if cfg.extend.old_rows or s != "train"]
    kept = [i for i in wanted if looked.there[i]]
    if len(kept) < len(wanted):
        progress.line(
            f"warning   {len(wanted) - len(kept)} of {len(wanted)} held-out samples of {cfg.extend.run} are gone; what it forgets is judged by the rest"
        )
    return kept


def _joined(old, new, kept, fresh, sides, task, options, classes, source: str):
    """Old and fresh samples as one, old first."""
    taken = {old.ids[i] for i in kept}
    names = []
    for i in fresh:
        name = new.ids[i] if new.ids[i] not in taken else f"{source}/{new.ids[i]}"
        while name in taken:
            name += " (new)"
        taken.add(name)
        names.append(name)

    def both(field):
        return [getattr(old, field)[i] for i in kept] + [getattr(new, field)[i] for i in fresh]

    labels = both("labels")
    padded, answer = task.targets([*labels, *classes], options, classes)
    return replace(
        new,
        ids=[old.ids[i] for i in kept] + names,
        inputs=both("inputs"),
        labels=labels,
        splits=[old.splits[i] for i in kept] + sides,
        groups=both("groups"),
        hashes=both("hashes"),
        fingerprints=np.array(both("fingerprints"), np.int64),
        targets=padded[: len(labels)],
        answer=answer,
        jpeg=old.jpeg and new.jpeg,
        images=None,
    )


def _every_class_in_training(held, classes, known, old_rows: bool) -> None:
    counts = held.targets[held.rows("train")].sum(0) if len(held.rows("train")) else np.zeros(len(classes))
    wanted = classes if old_rows else [c for c in classes if c not in known]
    if unseen := [c for c, n in zip(classes, counts, strict=True) if not n and c in wanted]:
        raise DataError(f"Every class needs training samples; without one: {', '.join(unseen)}. Add some.")


def _near(held, looked: _Looked, kept: list[int], kind: str, progress) -> list[str]:
    """Pictures that are nearly one in another split, old ones among them."""
    if kind != "image":
        return []
    fresh = _look(held.inputs[len(kept) :], held.hashes[len(kept) :], kind, None).phashes
    notes = scan.near_duplicates(held.ids, [*(looked.phashes[i] for i in kept), *fresh], held.hashes, held.splits)
    if notes:
        progress.line(listed("warning   nearly the same picture in two splits", notes, 5))
    return notes
