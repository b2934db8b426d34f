"""Sounds as a pipeline reads them: rows of samples, read from their files at the rate of the network.

A row is a whole sound, or a window of one that is too long. It is read from its file alone, so that an hour of sound
takes no more memory than its windows. The same names as pictures.py and texts.py.
"""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tlkeras.backbones import Sound
from tlkeras.config import Augmentation
from tlkeras.data import dictation, waveforms
from tlkeras.data.pipeline import batches, in_turn, mapped, steady
from tlkeras.data.ragged import Ragged
from tlkeras.device import cores
from tlkeras.errors import ConfigError, DataError, listed

MEMORY = 1 << 29  # bytes of samples that are read once and kept
IMAGES_ONLY = ("flip", "rotate", "crop", "brightness", "contrast", "rand_augment", "erase", "mixup", "cutmix")
SOUNDS_ONLY = ("speed", "shift", "gain", "noise", "time_masks", "band_masks")


@dataclass(frozen=True)
class Table:
    """What a pipeline reads: row i are `counts[i]` samples of paths[i] from `starts[i]` on, at the rate of the contract.
    `targets` are float32 (n, k), or Ragged numbers of symbols; `weights` float32 (n,). `prints` are what the scan saw of
    the bytes (0: not looked at), `hashes` SHA-256 as hex that tell rows apart. Row i came from sample `owners[i]`.
    `fixed`: rows are padded to the length of the contract; `rate` and `step` are its samples a second and a frame.
    `begin` are the ids that a decoder is given before the targets, which are then ids with one at the end."""

    paths: list[str]
    starts: np.ndarray
    counts: np.ndarray
    targets: Any
    weights: np.ndarray
    prints: np.ndarray
    hashes: list[str]
    owners: np.ndarray
    fixed: bool
    rate: int
    step: int
    together: int = 1
    begin: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def lengths(self) -> np.ndarray | None:
        """Samples of each row; None where all are padded to one length, and any may be neighbours."""
        return None if self.fixed else self.counts

    def keep(self, rows) -> "Table":
        """The rows at these positions."""

        def pick(values):
            return values.keep(rows) if isinstance(values, Ragged) else values[rows]

        arrays = {k: pick(getattr(self, k)) for k in ("starts", "counts", "targets", "weights", "prints", "owners")}
        lists = {k: [getattr(self, k)[i] for i in rows] for k in ("paths", "hashes")}
        return replace(self, **arrays, **lists)

    def join(self, other: "Table") -> "Table":
        """Both, this one first."""

        def both(a, b):
            return a.join(b) if isinstance(a, Ragged) else np.concatenate([a, b])

        arrays = {
            k: both(getattr(self, k), getattr(other, k))
            for k in ("starts", "counts", "targets", "weights", "prints", "owners")
        }
        return replace(self, **arrays, paths=self.paths + other.paths, hashes=self.hashes + other.hashes)


@dataclass(frozen=True)
class Reader:
    """How files become rows, by the input contract. `frames(count)` is how many frames the network makes of so many
    samples, where the targets are written out along them; None: a sound has one answer, however long it is. With a
    `tokenizer` targets are texts, that a decoder writes after the ids `begin` and ends with `end`, in at most `places`."""

    sound: Sound
    frames: Any = None
    tokenizer: Any = None
    begin: tuple[int, ...] = ()
    end: int | None = None
    places: int | None = None

    def table(self, samples: list[str], targets, weights, prints=None, hashes=None) -> Table:
        """The rows of sound files, with targets and weights (n,) for each file.

        Raises:
            DataError: when a transcript is longer than what the network says of its sound.
        """
        rows = []
        with ThreadPoolExecutor(cores()) as pool:
            for n, found in enumerate(pool.map(self._windows, samples)):
                rows += [(n, start, count) for start, count in found]
        owners, starts, counts = (
            (np.array(x, np.int64) for x in zip(*rows, strict=True)) if rows else (np.zeros(0, np.int64),) * 3
        )
        if not isinstance(targets, np.ndarray):
            targets = self.ids(targets) if self.tokenizer else targets
            self._check(samples, targets, owners, counts)
            targets = Ragged.of([targets[i] for i in owners])
        else:
            targets = targets[owners]
        prints = np.zeros(len(samples), np.int64) if prints is None else np.asarray(prints)
        hashes = [""] * len(samples) if hashes is None else hashes
        windowed = np.bincount(owners, minlength=len(samples)) > 1
        names = [
            _named(hashes[i], start) if windowed[i] else hashes[i] for i, start in zip(owners, starts, strict=True)
        ]
        paths = [samples[i] for i in owners]
        weights = np.asarray(weights, np.float32)[owners]
        return Table(
            paths,
            starts,
            counts,
            targets,
            weights,
            prints[owners],
            names,
            owners,
            self.sound.fixed,
            self.sound.rate,
            self.sound.step,
            begin=self.begin if isinstance(targets, Ragged) else (),
        )

    def ids(self, texts: list[str]) -> list[np.ndarray]:
        """The ids that are to be written for texts, with that of the end."""
        import tensorflow as tf

        # In a graph: outside of one keras-hub cuts byte pairs otherwise (0.32).
        call = tf.function(self.tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        found = call(tf.constant([t.encode() for t in texts], tf.string)) if texts else None
        return [np.array([*row, self.end], np.int32) for row in (found.to_list() if texts else ())]

    def _windows(self, path: str) -> list[tuple[int, int]]:
        """(start, samples) of each row of a file."""
        sound, told = self.sound, waveforms.about(path)
        first, last = 0, waveforms.samples(told, sound.rate)
        if sound.trim is not None:
            first, last = waveforms.loud(waveforms.read(path, sound.rate, told=told), sound.rate, sound.trim)
        return [(first + start, count) for start, count in windows(last - first, sound)]

    def _check(self, samples, targets, owners, counts) -> None:
        bad = []
        for n, target in enumerate(targets):
            mine = counts[owners == n]
            if len(mine) > 1:
                bad.append(
                    f"{samples[n]}: {(mine.sum()) / self.sound.rate:.0f} s or more, longer than the {self.sound.seconds:g} s of backbone.sound.seconds"
                )
            elif self.tokenizer:
                if self.places and (needed := len(target) + len(self.begin) - 1) > self.places:
                    bad.append(
                        f"{samples[n]}: its transcript is {needed} tokens, and the decoder has {self.places} places"
                    )
            elif (needed := spoken(target)) > (there := int(self.frames(int(mine[0])))):
                bad.append(f"{samples[n]}: {there} frames of sound, and its transcript needs {needed}")
        if bad:
            raise DataError(
                listed("A transcript must fit its sound", bad)
                + "\nCut long recordings into utterances, and look whether the transcript belongs to the file."
            )


def spoken(target) -> int:
    """Frames that a transcript takes at least: one a symbol, and one between two that are the same."""
    return len(target) + int((np.diff(target) == 0).sum())


def windows(count: int, sound: Sound) -> list[tuple[int, int]]:
    """(start, samples) of the windows that cover so many samples, each but the last of full length, whole steps apart."""
    if count <= sound.length:
        return [(0, count)]
    hop = max(int(sound.length * (1 - sound.overlap)) // sound.step, 1) * sound.step
    last = -(-(count - sound.length) // hop)
    return [(k * hop, min(sound.length, count - k * hop)) for k in range(last + 1)]


def _named(digest: str, start: int) -> str:
    import hashlib

    return hashlib.sha256(f"{digest}:{start}".encode()).hexdigest()


def padded(table: Table, sound: Sound) -> np.ndarray:
    """Samples that each row is padded to, when alone: few different numbers, less than a quarter more."""
    if sound.fixed:
        return np.full(len(table), sound.length, np.int64)
    steps = -(-np.maximum(table.counts, 1) // sound.step)
    unit = np.maximum(8, np.exp2(np.ceil(np.log2(steps)) - 3).astype(np.int64))
    return -(-steps // unit) * unit * sound.step


def check(options: Augmentation, sound: Sound) -> None:
    """Raises ConfigError for augmentation that is not of sounds."""
    usual = Augmentation()
    if wrong := [k for k in IMAGES_ONLY if getattr(options, k) != getattr(usual, k)]:
        raise ConfigError(f"augment.{', augment.'.join(wrong)}: for images. Sounds have {', '.join(SOUNDS_ONLY)}.")
    if options.shift and not sound.fixed:
        raise ConfigError(
            "augment.shift moves a sound in its window; this network reads sounds as long as they are. Leave it out."
        )


def loader(table: Table, sound: Sound):
    """Returns `f(rows) -> list of float32 samples`, read again only where they do not fit into memory.

    Raises (in f):
        DataError: when a file changed since the scan.
    """
    kept: dict[int, np.ndarray] | None = {} if int(table.counts.sum()) * 4 <= MEMORY else None
    known: set[str] = set()

    def one(i: int) -> np.ndarray:
        if kept is not None and i in kept:
            return kept[i]
        path = table.paths[i]
        if table.prints[i] and path not in known:
            if fingerprint(path) != table.prints[i]:
                raise DataError(
                    f"{path} changed while it was in use: its bytes are not those that were scanned. Start again, so that the data is scanned anew."
                )
            known.add(path)
        found = waveforms.read(path, sound.rate, int(table.starts[i]), int(table.counts[i]))
        if kept is not None:
            kept[i] = found
        return found

    return lambda rows: [one(int(i)) for i in rows]


def fingerprint(path) -> int:
    """The first eight bytes of the SHA-256 of a file, as a signed number."""
    import hashlib

    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def filled(found: list[np.ndarray], wide: int) -> np.ndarray:
    """Samples as rows (n, wide), silence behind."""
    x = np.zeros((len(found), wide), np.float32)
    for row, wave in zip(x, found, strict=True):
        row[: len(wave)] = wave[:wide]
    return x


def _reading(table: Table, sound: Sound, seed: int = 0, options: Augmentation | None = None):
    """Returns `f(rows, view) -> (inputs, targets, weights)` for tf.data."""
    import tensorflow as tf

    from tlkeras.data import sound_graph

    load, answers = loader(table, sound), answering(table)
    view = sound_graph.augmenter(options) if options is not None and options.active else None
    room = 1 / (1 - options.speed) if view and options.speed and not sound.fixed else 1.0
    wide_of = padded(table, sound)
    counts, prints = (
        tf.constant(table.counts, tf.int32),
        tf.constant([int(h[:15] or "0", 16) for h in table.hashes], tf.int64),
    )

    def batch(rows):
        wide = int(np.ceil(wide_of[rows].max() * room / sound.step) * sound.step)
        return filled(load(rows), sound.length if sound.fixed else wide)

    def read(rows, number):
        x = tf.numpy_function(batch, [rows], tf.float32, stateful=False)
        x.set_shape([None, sound.length if sound.fixed else None])
        count = tf.gather(counts, rows)
        if view:
            first = tf.cast(seed, tf.int64) + 1_000_003 * tf.cast(number, tf.int64)
            keys = tf.stack([tf.fill(tf.shape(rows), first), tf.gather(prints, rows)], 1)
            shape = x.shape[1:]
            x, count = tf.map_fn(
                lambda one: view(*one),
                (x, count, keys),
                fn_output_signature=(tf.TensorSpec(shape, tf.float32), tf.TensorSpec([], tf.int32)),
            )
            x.set_shape([None, *shape])
        inputs = {"samples": x} if sound.fixed else {"samples": x, "count": count}
        if table.begin:
            return inputs | {"tokens": given(rows)}, *answers(rows)
        return (x if sound.fixed else inputs), *answers(rows)

    given = dictation.preceding(table) if table.begin else None
    return read


def answering(table: Table):
    """Returns `f(rows) -> (targets, weights)` for tf.data; symbols are padded with -1."""
    import tensorflow as tf

    weights = tf.constant(table.weights, tf.float32)
    if table.begin:
        return functools.partial(dictation.following, table.targets.tensor(), len(table.begin) - 1, weights)
    if isinstance(table.targets, Ragged):
        ragged = table.targets.tensor()
        return lambda rows: (tf.gather(ragged, rows).to_tensor(-1), tf.gather(weights, rows))
    targets = tf.constant(np.asarray(table.targets, np.float32))
    return lambda rows: (tf.gather(targets, rows), tf.gather(weights, rows))


def training(table: Table, sound: Sound, batch: int, seed: int, first: int, epochs: int, options: Augmentation):
    """Batches of (samples, targets, weights) for the epochs first, ..., epochs - 1, each in its own order; samples are
    float32 (b, length), or by name with the `count` of each row."""
    import tensorflow as tf

    read = _reading(table, sound, seed, options)
    return steady(
        tf.data.Dataset.range(first, epochs).flat_map(
            lambda e: mapped(batches(table, batch, seed, e), lambda rows: read(rows, e))
        )
    )


def held_out(table: Table, sound: Sound, batch: int):
    """Batches once, as they are; sounds as long as they are with others of like length."""
    read = _reading(table, sound)
    return steady(mapped(in_turn(table, batch), lambda rows: read(rows, 0)))


def arranged(table: Table, sound: Sound, numbers: list) -> list:
    """(row, view) pairs in an order in which rows of one padded length follow each other."""
    if sound.fixed:
        return numbers
    wide = padded(table, sound)
    return sorted(numbers, key=lambda pair: wide[pair[0]])


def views(table: Table, sound: Sound, numbers: list, batch: int, seed: int, options: Augmentation | None = None):
    """Batches of the network's inputs as tuples of arrays, in the order of their names, for (row, view) pairs in their
    order; view 0 is the sound as it is. A batch holds rows of one padded length."""
    import tensorflow as tf

    load, wide = loader(table, sound), padded(table, sound)
    augmented = _reading(table, sound, seed, options) if any(v for _, v in numbers) else None
    for (length, view), group in itertools.groupby(numbers, key=lambda pair: (int(wide[pair[0]]), pair[1])):
        rows = [row for row, _ in group]
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            if view:
                x, _, _ = augmented(tf.constant(some, tf.int64), view - 1)
                yield (x.numpy(),) if sound.fixed else (x["count"].numpy(), x["samples"].numpy())
                continue
            x = filled(load(some), length)
            yield (x,) if sound.fixed else (table.counts[some].astype(np.int32), x)


def arrays(table: Table, sound: Sound) -> dict[str, np.ndarray]:
    """All rows as the network's inputs by name, padded to the longest."""
    x = filled(loader(table, sound)(range(len(table))), int(padded(table, sound).max()))
    return {"samples": x} if sound.fixed else {"samples": x, "count": table.counts.astype(np.int32)}


def lengths(table: Table, sound: Sound) -> str:
    """How long the sounds of a table are, in words."""
    seconds = np.bincount(table.owners, table.counts / sound.rate)
    seconds = seconds[seconds > 0]
    low, middle, most = (float(np.percentile(seconds, p)) for p in (0, 50, 100))
    more = f"; {len(table):,} windows of {sound.seconds:g} s" if len(table) > len(seconds) else ""
    return f"{low:.1f} to {most:.1f} s a sound, median {middle:.1f} s, {seconds.sum() / 60:.1f} minutes in all{more}"
