"""The stored tensors of a phase: found on disk, or computed once; or the reason why they are not."""

import contextlib
import importlib.metadata
import importlib.util
import itertools
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tlkeras import __version__, data, tasks
from tlkeras.config import Config
from tlkeras.data import pictures, pipeline, texts
from tlkeras.data.samples import cache_folder
from tlkeras.errors import StorageError
from tlkeras.network import Network
from tlkeras.prefix import streams
from tlkeras.prefix.cut import Cut
from tlkeras.prefix.store import Store, listing
from tlkeras.progress import Progress

CHUNK = 64_000_000  # bytes of rows between two waits for the disk
TRIAL = 64  # samples after which storing is weighed against computing again


@dataclass(frozen=True)
class Choice:
    """Whether a phase trains from stored tensors, and why; `bytes` of all its rows, `views` per training sample."""

    stored: bool
    why: str
    bytes: int = 0
    views: int = 0

    def text(self) -> str:
        if not self.stored:
            return f"computed with every step: {self.why}"
        views = f", {self.views} views of each training sample" if self.views else ""
        return f"trained from {self.bytes / 1e6:,.1f} MB of stored features{views}; {self.why}"


@dataclass(frozen=True)
class Job:
    """A phase's cut and those of later phases that the same pass may fill, with how often each meets a sample. `wide` is
    the `length` of another job whose rows are wanted; None: what these samples need."""

    cfg: Config
    network: Network
    train: Any
    val: Any
    cuts: list[Cut]
    passes: list[int]
    wide: int | None = None

    @property
    def length(self) -> int | None:
        """What the stored rows of texts are padded to; None for images."""
        if not isinstance(self.train, texts.Table):
            return None
        return self.wide or max(int(texts.padded(t, self.network.input).max(initial=1)) for t in (self.train, self.val))


@dataclass(frozen=True)
class Features:
    """The stored tensors of one phase; `train` (views, n) and `val` (m,) are row numbers in them. `long` are of each
    tensor the dimensions of a sample that are the padded length of a text."""

    tensors: list
    dtypes: list[str]
    long: list[list[int]]
    train: np.ndarray
    val: np.ndarray

    def training(self, table, contract, batch: int, seed: int, first: int, epochs: int):
        """As the kind of input's own training, with the stored tensors in place of the input."""
        import tensorflow as tf

        rows, one = tf.constant(self.train), self._batch(table, contract)

        def epoch(e):
            view = tf.gather(rows, e % len(self.train))
            return pipeline.batches(table, batch, seed, e).map(lambda i: one(tf.gather(view, i), i))

        return pipeline.steady(pipeline.epochs(first, epochs, epoch))

    def held_out(self, table, contract, batch: int):
        """As the kind of input's own held_out, with the stored tensors in place of the input."""
        import tensorflow as tf

        rows, one = tf.constant(self.val), self._batch(table, contract)
        order = pipeline.in_turn(table, batch)
        return pipeline.steady(order.map(pipeline.plain(lambda i: one(tf.gather(rows, i), i))))

    def _batch(self, table, contract):
        import tensorflow as tf

        texts_ = isinstance(table, texts.Table)
        sized = (contract,) if isinstance(table, pictures.Table) else ()
        answers = pipeline.of(table).answering(table, *sized)
        longest = tf.constant(texts.padded(table, contract)) if texts_ else None

        def one(rows, i):
            wide = tf.reduce_max(tf.gather(longest, i)) if texts_ else None
            found = (tf.cast(tf.gather(t, rows), d) for t, d in zip(self.tensors, self.dtypes, strict=True))
            x = tuple(_cut_off(t, dims, wide) for t, dims in zip(found, self.long, strict=True))
            y = answers(i, wide) if texts_ else answers(i)
            return x if len(x) > 1 else x[0], *y

        return one


def _cut_off(tensor, dims: list[int], wide):
    """A batch with these dimensions of its samples cut off at `wide`."""
    for d in dims:
        tensor = tensor[(slice(None),) * (d + 1) + (slice(wide),)]
    return tensor


def prepare(job: Job, progress: Progress, decided: bool | None = None) -> tuple[Features | None, Choice]:
    """The stored tensors of the first cut, computed where they are missing; None where the phase is better
    computed with every step.

    Args:
        decided: what an interrupted run had chosen. None: choose.

    Raises:
        StorageError: when the disk refuses, or prefix.store is on and the rows exceed prefix.limit.
    """
    cut, asked, views = job.cuts[0], job.cfg.prefix, _views(job.cfg)
    if reason := _impossible(job.cfg, cut):
        return None, Choice(False, reason)
    if decided is False:
        return None, Choice(False, "as before the interruption")
    store = _store(job, cut)
    keys = _keys(job, views)
    size = store.row_bytes * len(keys)
    missing = sum(k not in store.rows for k in keys)
    why = "found on disk" if not missing else f"{missing:,} of {len(keys):,} computed now"
    if missing:
        reason = None if decided else refused(asked, size, missing * store.row_bytes, job.passes[0])
        if reason and asked.store == "on":
            raise StorageError(f"prefix.store is on, but {reason}. Raise prefix.limit, free space, or set it to auto.")
        # So few bytes cost next to nothing either way; weighing them would be a matter of noise.
        sure = asked.store == "on" or bool(decided) or size <= CHUNK
        if reason:
            return None, Choice(False, reason)
        reason, slower = _fill(job, keys, progress, sure)
        if reason:
            return None, Choice(False, reason)
        why += f"; {slower}" if slower else ""
        store = _store(job, cut)
    rows = np.array([store.rows[k] for k in keys], np.int64)
    n = len(job.train) * max(views, 1)
    long = [[i for i, d in enumerate(shape) if d is None] for shape, _ in cut.specs]
    dtypes = [d for _, d in cut.specs]
    features = Features(store.tensors(), dtypes, long, rows[:n].reshape(max(views, 1), -1), rows[n:])
    return features, Choice(True, why, size, views)


def missing(job: Job) -> int:
    """How many rows of the first cut no earlier run has stored."""
    store = _store(job, job.cuts[0])
    return sum(k not in store.rows for k in dict.fromkeys(_keys(job, _views(job.cfg))))


def passes(cuts: list[Cut], phases: list, index: int) -> int:
    """How often a sample meets the cut of a phase: its epochs, and those of the phases right after it that have the
    same cut."""
    same = itertools.takewhile(
        lambda pair: pair[0].held == cuts[index].held, zip(cuts[index:], phases[index:], strict=True)
    )
    return sum(phase.epochs for _, phase in same)


def shared(cuts: list[Cut], index: int) -> list[int]:
    """The phases whose cuts one pass can fill before phase `index`: its own, and later ones that lie below every
    cut in between, so that nothing under them moves until they come."""
    chosen, least = [index], cuts[index].held
    for later in range(index + 1, len(cuts)):
        least = least & cuts[later].held
        own = cuts[later].held
        if cuts[later].prefix is not None and own == least:
            chosen.append(later)
    return [i for n, i in enumerate(chosen) if all(cuts[i].held != cuts[k].held for k in chosen[:n])]


def outlook(cfg: Config, cut: Cut, passes: int, samples: int, length: int | None = None) -> str:
    """What `prepare` will do for a phase, as far as it is known without a look at the samples; `length` is what texts
    are padded to."""
    if reason := _impossible(cfg, cut):
        return f"computed with every step: {reason}"
    per_row = sum(np.dtype(_halved(d, cfg.prefix.dtype)).itemsize * int(np.prod(s)) for s, d in cut.shaped(length))
    size = per_row * samples * max(_views(cfg), 1)
    if reason := refused(cfg.prefix, size, size, passes):
        return f"computed with every step, unless stored by an earlier run: {reason}"
    views = f", {_views(cfg)} views of each" if _views(cfg) else ""
    return f"computed once and stored: {per_row / 1e3:,.1f} kB a sample, {size / 1e6:,.1f} MB in all{views}"


def _views(cfg: Config) -> int:
    """Augmented views kept per training sample; 0 without augmentation."""
    return cfg.prefix.views if cfg.augment.active and cfg.prefix.views != "live" else 0


def _impossible(cfg: Config, cut: Cut) -> str | None:
    """Why a phase cannot train from stored tensors, whatever the cost."""
    if cfg.prefix.store == "off":
        return "prefix.store is off"
    if cut.prefix is None:
        return "no block below the first trained one"
    if hasattr(tasks.get(cfg.task_name), "change"):
        return "other tokens are masked in every batch"
    if cfg.augment.mixup or cfg.augment.cutmix:
        return "mixup and cutmix mix pixels of several samples"
    if cfg.augment.active and (places := tasks.annotations(cfg.task_name, tasks.options_of(cfg))):
        return f"augmentation moves the {places} with the pixels"
    if any(None in shape for shape, _ in cut.specs) and tasks.kind(cfg.task_name) == "audio":
        return "sounds and transcripts are as long as they are"
    if cfg.augment.active and cfg.prefix.views == "live":
        return "augmentation makes new samples every epoch (prefix.views: 8 would keep 8 views of each sample)"
    return None


def refused(asked, size: int, missing: int, passes: int) -> str | None:
    """Why rows are not to be computed, before anything is measured."""
    if passes == 1 and asked.store == "auto":
        return "each sample is met once"
    used = sum(s["bytes"] for s in listing())
    if size > asked.bytes or used + missing > asked.bytes:
        return (
            f"{size / 1e9:.3g} GB, with {used / 1e9:.3g} GB in the cache, exceed prefix.limit ({asked.limit}); "
            "tlkeras cache prune makes room"
        )
    near = next(p for p in (cache_folder(), *cache_folder().absolute().parents) if p.exists())
    free = shutil.disk_usage(near).free
    if missing > free / 2:
        return f"{missing / 1e9:.3g} GB are more than half of the {free / 1e9:.3g} GB that are free"
    return None


def _keys(job: Job, views: int) -> list[tuple[bytes, int]]:
    """(SHA-256, view) of every row, training first, view by view. View 0 is the sample as it is."""
    train, val = ([bytes.fromhex(h) for h in table.hashes] for table in (job.train, job.val))
    numbers = range(1, views + 1) if views else (0,)
    return [(h, v) for v in numbers for h in train] + [(h, 0) for h in val]


def _store(job: Job, cut: Cut) -> Store:
    cfg, views = job.cfg, _views(job.cfg)
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")} | {"tlkeras": __version__}
    if importlib.util.find_spec("openvino"):
        versions["openvino"] = importlib.metadata.version("openvino")
    facts = {
        "backbone": job.network.backbone["name"],
        "prefix": cut.digest(),
        "input": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(job.network.input).items()},
        "length": job.length,
        "augment": cfg.augment.model_dump() if views else None,
        "seed": cfg.train.seed if views else None,
        "versions": versions,
    }
    return Store(facts, [(shape, _halved(dtype, cfg.prefix.dtype)) for shape, dtype in cut.shaped(job.length)])


def _halved(dtype: str, asked: str | None) -> str:
    """The dtype on disk of what the network gives as `dtype`: only floats are changed."""
    return asked if asked and "float" in dtype else dtype


def _fill(job: Job, keys: list, progress: Progress, sure: bool) -> tuple[str | None, str | None]:
    """Computes the rows that are missing, those of later phases' cuts in the same pass; the reason when it was
    found out after some samples that storing does not pay, and why OpenVINO did not compute them, None where that
    is as it should be."""
    import keras

    cuts = job.cuts[:1]
    for cut, n in zip(job.cuts[1:], job.passes[1:], strict=True):
        size = sum(_store(job, c).row_bytes for c in [*cuts, cut]) * len(keys)
        if not refused(job.cfg.prefix, size, size, n):
            cuts.append(cut)
    job = replace(job, cuts=cuts)
    stores = [_store(job, cut) for cut in job.cuts]
    # A tensor that crosses several cuts is one output: OpenVINO 2026.4 crashes on one that is asked for twice.
    tensors = list({id(t): t for cut in job.cuts for t in cut.tensors}.values())
    number = {id(t): n for n, t in enumerate(tensors)}
    model = keras.Model(job.cuts[0].prefix.inputs, tensors)
    with contextlib.ExitStack() as held:
        for store in sorted(stores, key=lambda s: s.key):
            held.enter_context(store.lock())
        for store in stores:
            store.refresh()
        missing = _arranged(job, list(dict.fromkeys(k for k in keys if any(k not in s.rows for s in stores))))
        if job.length:
            stream = streams.open_stream(model, batch=texts.rows_at_a_time(len(missing)))
        else:
            bytes_ = job.network.kind == "image" and not _views(job.cfg)
            stream = streams.open_stream(model, "uint8" if bytes_ else "float32")
        kept: list[tuple] = []
        done, measured, began, waited = 0, 0, time.monotonic(), 0.0
        progress.start()

        def flush():
            nonlocal waited
            start = time.monotonic()
            chunk, kept[:] = [np.concatenate(a) for a in zip(*kept, strict=True)], []
            names = missing[done - len(chunk[0]) : done]
            for store, cut in zip(stores, job.cuts, strict=True):
                fresh = [n for n, k in enumerate(names) if k not in store.rows]
                if fresh:
                    store.append([names[n] for n in fresh], [chunk[number[id(t)]][fresh] for t in cut.tensors])
            waited += time.monotonic() - start

        try:
            with data.changed_files():
                for outputs in stream.run(_samples(job, missing, stream.batch)):
                    kept.append(_padded(outputs, model, job.length))
                    done += len(outputs[0])
                    progress.step("features", done, len(missing))
                    if not measured:
                        began, measured = time.monotonic(), done  # the first batch pays for compiling
                    elif not sure and done >= min(TRIAL, len(missing)):
                        compute, sure = (time.monotonic() - began) / (done - measured), True
                        flush()
                        if reason := _does_not_pay(compute, waited / done, job.passes[0]):
                            break
                    if sum(a.nbytes for o in kept for a in o) >= CHUNK:
                        flush()
                else:
                    if kept:
                        flush()
                    return None, stream.slower
        except OverflowError as e:
            reason = f"{e}; leave out prefix.dtype"
    if len(job.cuts) > 1:  # it may pay, or fit, for this phase alone
        return _fill(replace(job, cuts=job.cuts[:1], passes=job.passes[:1]), keys, progress, sure=False)
    return reason, stream.slower


def _does_not_pay(compute: float, disk: float, passes: int) -> str | None:
    """Seconds a sample of computing against those of the disk. Reading is taken to cost what writing does, which is
    more than it does."""
    if disk * (passes + 1) < compute * (passes - 1):
        return None
    return (
        f"a sample takes {1e3 * compute:.2g} ms to compute and {1e3 * disk:.2g} ms to keep, "
        f"which does not pay for {passes} passes"
    )


def _rows(job: Job):
    """Both tables as one, and the row of each content hash in it."""
    joined = job.train.join(job.val)
    return joined, {bytes.fromhex(h): i for i, h in enumerate(joined.hashes)}


def _arranged(job: Job, missing: list) -> list:
    """The keys of rows in the order in which their kind of input is passed best."""
    joined, where = _rows(job)
    names = {(where[h], v): (h, v) for h, v in missing}
    return [names[pair] for pair in pipeline.of(joined).arranged(joined, job.network.input, list(names))]


def _samples(job: Job, missing: list, batch: int):
    """Batches of the network's inputs for the rows that are missing, in their order, as tuples of arrays."""
    joined, where = _rows(job)
    numbers = [(where[h], v) for h, v in missing]
    kind, seed = pipeline.of(joined), job.cfg.train.seed
    return kind.views(joined, job.network.input, numbers, batch, seed, job.cfg.augment)


def _padded(outputs: tuple, model, length: int | None) -> tuple:
    """Outputs of texts, filled up with zeros to the length of the stored rows."""
    if length is None:
        return outputs

    def one(x, spec):
        return np.pad(
            x, [(0, 0 if d is not None else length - n) for d, n in zip((0, *spec.shape[1:]), x.shape, strict=True)]
        )

    return tuple(one(x, spec) for x, spec in zip(outputs, model.outputs, strict=True))
