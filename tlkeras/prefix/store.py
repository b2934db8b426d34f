"""Rows of tensors on disk, by content: computed once, mapped into memory, good for every later run.

    CACHE/prefix/KEY/
      facts.json   what the key was made of, for people
      0.bin, ...   one file a tensor, a row a sample, in the order in which they came
      index        a record a row: SHA-256 of the sample, number of its view, CRC-32 of the row

A row counts when its index record is there, and that is written after the row has reached the disk: a process
that dies leaves at most bytes that the next one cuts off. The lock is the kernel's and dies with its holder.
"""

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlkeras.data.samples import cache_folder
from tlkeras.run import storage, write_text

SCHEMA = 1
RECORD = np.dtype([("sample", "V32"), ("view", "<u4"), ("crc", "<u4")])


class Store:
    """The rows of one set of tensors: `specs` are (shape, dtype) of a row of each; `facts` is everything that a
    row depends on besides the sample, as plain data."""

    def __init__(self, facts: dict, specs: Sequence[tuple[tuple[int, ...], str]]):
        self.facts, self.specs = facts, [(tuple(shape), dtype) for shape, dtype in specs]
        known = {"schema": SCHEMA, "specs": self.specs, **facts}
        self.key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        self.folder = folder() / self.key[:40]
        self.rows: dict[tuple[bytes, int], int] = {}
        self.count = 0
        self._read()

    @property
    def row_bytes(self) -> int:
        return sum(_row_bytes(spec) for spec in self.specs)

    @property
    def _files(self) -> list[Path]:
        return [self.folder / f"{i}.bin" for i in range(len(self.specs))]

    def lock(self):
        """Held while rows are added; a second process waits."""
        import filelock

        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.folder / "lock")

    def refresh(self) -> None:
        """Reads what other processes added; for the holder of the lock."""
        self.rows, self.count = {}, 0
        self._read()

    def _read(self) -> None:
        """Takes in the rows that are whole: a row whose bytes are not those that were written is left out."""
        index = self.folder / "index"
        if not index.is_file():
            return
        os.utime(self.folder / "facts.json")
        records = np.fromfile(index, RECORD, index.stat().st_size // RECORD.itemsize)
        whole = min(
            (
                f.stat().st_size // _row_bytes(s) if f.is_file() else 0
                for f, s in zip(self._files, self.specs, strict=True)
            )
        )
        self.count = min(len(records), whole)
        if not self.count:
            return
        data = [
            np.memmap(f, np.uint8, "r", shape=(self.count, _row_bytes(s)))
            for f, s in zip(self._files, self.specs, strict=True)
        ]
        for n, record in enumerate(records[: self.count]):
            if _crc([d[n] for d in data]) == record["crc"]:
                self.rows[record["sample"].tobytes(), int(record["view"])] = n

    def append(self, samples: list[tuple[bytes, int]], arrays: list[np.ndarray]) -> None:
        """Adds a row for each (SHA-256, view), from one array (n, ...) per tensor. For the holder of the lock.

        Raises:
            StorageError: when the disk refuses; rows that were there stay good.
            OverflowError: when a number is too large for the format on disk.
        """
        for a, (_, dtype) in zip(arrays, self.specs, strict=True):
            if dtype == "float16" and np.abs(a).max(initial=0) > np.finfo(np.float16).max:
                raise OverflowError(f"{np.abs(a).max():.3g} is more than float16 holds")
        made = [
            np.ascontiguousarray(a.astype(_numpy(dtype)) if dtype != "bfloat16" else a)
            .view(np.uint8)
            .reshape(len(samples), -1)
            for a, (_, dtype) in zip(arrays, self.specs, strict=True)
        ]
        records = np.zeros(len(samples), RECORD)
        for n, (sample, view) in enumerate(samples):
            records[n] = (np.void(sample), view, _crc([a[n] for a in made]))
        with storage(self.folder):
            if not self.count:
                write_text(self.folder / "facts.json", json.dumps({"specs": self.specs, **self.facts}, indent=1) + "\n")
            for path, spec, rows in zip(self._files, self.specs, made, strict=True):
                _write(path, self.count * _row_bytes(spec), rows)
            _write(self.folder / "index", self.count * RECORD.itemsize, records)
        self.rows |= {sample: self.count + n for n, sample in enumerate(samples)}
        self.count += len(samples)

    def tensors(self) -> list:
        """One TensorFlow tensor (rows, ...) per spec, mapped from its file: pages are read when they are used."""
        import tensorflow as tf

        with tf.device("CPU:0"):
            return [
                tf.raw_ops.ImmutableConst(dtype=dtype, shape=(self.count, *shape), memory_region_name=str(path))
                for path, (shape, dtype) in zip(self._files, self.specs, strict=True)
            ]


def _numpy(dtype: str):
    return np.uint16 if dtype == "bfloat16" else np.dtype(dtype)


def _row_bytes(spec) -> int:
    shape, dtype = spec
    return math.prod(shape) * np.dtype(_numpy(dtype)).itemsize


def _crc(parts) -> int:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value


def _write(path: Path, start: int, data: np.ndarray) -> None:
    """Writes at `start`, over what a process that died may have left there, and waits for the disk."""
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.truncate(start)
        file.seek(start)
        data.tofile(file)
        file.flush()
        os.fsync(file.fileno())


def folder() -> Path:
    return cache_folder() / "prefix"


def listing() -> list[dict]:
    """Every store in the cache: key, bytes, rows, days since its last use, and what it holds; oldest use first."""
    found = []
    for path in folder().iterdir() if folder().is_dir() else ():
        facts = path / "facts.json"
        if not path.is_dir():
            continue
        about = json.loads(facts.read_text("utf8")) if facts.is_file() else {}
        size = sum(f.stat().st_size for f in path.iterdir() if f.is_file())
        rows = (path / "index").stat().st_size // RECORD.itemsize if (path / "index").is_file() else 0
        used = (facts if facts.is_file() else path).stat().st_mtime
        found.append(
            {
                "key": path.name,
                "bytes": size,
                "rows": rows,
                "days": (time.time() - used) / 86400,
                "backbone": about.get("backbone", "unknown"),
                "specs": about.get("specs", []),
                "views": about.get("augment") is not None,
            }
        )
    return sorted(found, key=lambda s: -s["days"])


def prune(older_than: float | None = None, keep_bytes: int | None = None) -> list[dict]:
    """Removes stores that were not used for `older_than` days, then the longest unused until `keep_bytes` are left;
    with neither, all. One that is being filled is left alone. Returns what was removed, as `listing` gives it."""
    import filelock

    everything, removed = listing(), []
    left = sum(s["bytes"] for s in everything)
    for one in everything:
        old = older_than is not None and one["days"] > older_than
        large = keep_bytes is not None and left > keep_bytes
        if not (old or large or (older_than is None and keep_bytes is None)):
            continue
        path = folder() / one["key"]
        try:
            with filelock.FileLock(path / "lock", timeout=0), storage(path):
                shutil.rmtree(path)
        except filelock.Timeout:
            continue
        left -= one["bytes"]
        removed.append(one)
    return removed


def text(stores: list[dict]) -> str:
    """`listing` as a table for people."""
    if not stores:
        return f"{folder()} is empty."
    lines = [f"{'last used':>12} {'MB':>10} {'rows':>9}  {'backbone':<28} a row"]
    for one in stores:
        row = " + ".join(f"{'x'.join(map(str, shape))} {dtype}" for shape, dtype in one["specs"])
        lines.append(
            f"{one['days']:>7.1f} days {one['bytes'] / 1e6:>10,.1f} {one['rows']:>9,}  {one['backbone']:<28} "
            f"{row}{', augmented' if one['views'] else ''}"
        )
    return "\n".join([*lines, f"{sum(s['bytes'] for s in stores) / 1e6:,.1f} MB in {folder()}"])
