"""Reads every file once before training, so that all bad ones are known, with a reason, before the first step.

A file is opened in a way that never blocks, its header is read first, and what passes is decoded by the very
function that training and serving use. What is known of a file is kept in a cache, so that a second scan only
looks at sizes and times.
"""

import collections
import contextlib
import functools
import itertools
import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np

from tlkeras.data import phash
from tlkeras.data.examine import File, Finding, examine
from tlkeras.data.listing import gate, list_images, printed
from tlkeras.data.packed import MAX_PIXELS
from tlkeras.data.parallel import in_order
from tlkeras.device import cores
from tlkeras.errors import DataError
from tlkeras.run import replacing

__all__ = ["File", "Finding", "Found", "list_images", "near_duplicates", "printed", "refuse_contradictions", "scan"]

MAX_CACHED = 300_000
SCHEMA = 3  # of the cache: to be raised when what is kept of a file, or how it is judged, changes


@dataclass(frozen=True)
class Found:
    """What a scan found: every path that was given is a key of `good` or the path of one finding. `images` are the
    pixels of files that were decoded, uint8 (h, w, 3), where they were to be kept."""

    good: dict[str, File] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    images: dict = field(default_factory=dict)

    @functools.cached_property
    def bad(self) -> dict[str, str]:
        """The reason of each finding, with the size of the file, by path."""
        return {f.path: f.why for f in self.findings}

    @functools.cached_property
    def notes(self) -> dict[str, dict]:
        """What is odd about good files: {note: {'count': n, 'files': the first 20}}."""
        files = collections.defaultdict(list)
        for file in self.good.values():
            for note in file.notes:
                files[note].append(printed(file.path))
        return {note: {"count": len(paths), "files": paths[:20]} for note, paths in sorted(files.items())}


def scan(
    samples,
    root=None,
    follow_symlinks: bool = False,
    roots: tuple = (),
    cache=None,
    workers: int | None = None,
    progress=None,
    keep=None,
) -> Found:
    """Opens, hashes and decodes every file, and says what is wrong with those that cannot be used.

    Args:
        samples: paths; what comes twice is read once.
        root: the folder that files must lie in, links resolved; None allows any place.
        follow_symlinks: whether a link below `root` may be followed, to a place inside `root` or `roots`.
        cache: a JSON lines file of what earlier scans found, by path, size and time; None keeps nothing.
        workers: threads; None takes one per core.
        progress: has `step(label, done, total)`, called for every file.
        keep: the input contract of a backbone, whose pixels of every decoded file are kept. None: nothing is.

    Raises:
        StorageError: when the cache cannot be written.
    """
    started = time.time_ns()
    known = _read_cache(cache)
    refusal = (lambda path: None) if root is None else gate(root, follow_symlinks, roots)
    total = len(samples) if hasattr(samples, "__len__") else 0
    good, findings, images, seen = {}, [], {}, set()

    def once():
        for path in map(os.fsdecode, samples):
            if path not in seen:
                seen.add(path)
                yield path

    def look(paths):
        return examine(paths, refusal, known, keep, images.__setitem__)

    workers = workers or cores()
    try:
        # What Pillow warns of, large pictures and odd metadata, is judged here.
        with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
            warnings.filterwarnings("ignore", module=r"PIL\.")
            groups = in_order(pool, look, _groups(once()), 2 * workers)
            for done, result in enumerate(itertools.chain.from_iterable(groups), 1):
                key = os.path.abspath(result.path)
                if isinstance(result, File):
                    good[result.path] = result
                else:
                    findings.append(result)
                # A file younger than two seconds may change again within one tick of its clock.
                if result.mtime_ns is not None and result.mtime_ns < started - 2_000_000_000:
                    known.pop(key, None)
                    known[key] = result
                if progress is not None:
                    progress.step("scan", done, max(total, done))
    finally:
        _write_cache(cache, known)
    return Found(good, findings, images)


def refuse_contradictions(ids, hashes, labels, splits) -> None:
    """Checks that the same bytes have one label and lie in one split.

    Args:
        ids: a name per sample, for the message.
        hashes: SHA-256 per sample.
        labels: what can be compared, per sample; None says nothing.
        splits: name of a split per sample; None says nothing.

    Raises:
        DataError: with every set of files that contradict each other.
    """
    rows = collections.defaultdict(list)
    for i, h in enumerate(hashes):
        rows[h].append(i)
    wrong = []
    for same in (r for r in rows.values() if len(r) > 1):
        for what, values in (("labels", labels), ("splits", splits)):
            said = [(values[i], printed(str(ids[i]))) for i in same if values[i] is not None]
            if any(value != said[0][0] for value, _ in said):
                wrong.append(
                    f"the same bytes with different {what}: " + ", ".join(f"{name} ({value})" for value, name in said)
                )
    if wrong:
        shown = "\n  ".join(wrong[:20]) + (f"\n  ... and {len(wrong) - 20} more" if len(wrong) > 20 else "")
        raise DataError(
            f"Equal files must have one label and lie in one split; {len(wrong)} {'set' if len(wrong) == 1 else 'sets'} of files {'does' if len(wrong) == 1 else 'do'} not:\n  {shown}\nRemove the copies that are wrong."
        )


def near_duplicates(ids, phashes, hashes, splits, distance: int = 4) -> list[str]:
    """Pictures that are nearly the same, turned and mirrored ones included, but lie in different splits.

    Args:
        ids, hashes, splits: a name, the SHA-256 and the split per sample.
        phashes: perceptual hash per sample, or None; hashes that differ in at most `distance` bits are near.

    Returns:
        A text for each picture that has a near one in an earlier split (in the order of first appearance), naming
        the nearest. A warning, not proof: drawings and pictures of one series come near each other too.
    """
    names = list(dict.fromkeys(splits))
    given = np.array([p is not None for p in phashes], bool)
    values = np.array([p or 0 for p in phashes], np.uint64)
    texts = []
    for n, name in enumerate(names[1:], 1):
        earlier = np.array([s in names[:n] for s in splits]) & given
        rows = np.flatnonzero(np.array([s == name for s in splits]) & given)
        candidates, first = np.unique(values[earlier], return_index=True)
        first = np.flatnonzero(earlier)[first]
        if not len(candidates) or not len(rows):
            continue
        index, bits = phash.near(phash.views(values[rows]).ravel(), candidates, distance)
        index, bits = index.reshape(-1, 8), bits.reshape(-1, 8)
        view = bits.argmin(1)
        for row, i, b in zip(rows, index[np.arange(len(rows)), view], bits[np.arange(len(rows)), view], strict=True):
            if i >= 0 and hashes[row] != hashes[other := first[i]]:
                texts.append(
                    f"{printed(str(ids[row]))} ({name}) and {printed(str(ids[other]))} ({splits[other]}), {b} of 64 bits differ"
                )
    return texts


def _groups(paths, most: int = 16, size: int = 32_000_000):
    """Lists of paths that are read together: up to `most` files of `size` bytes in all, or one that is larger."""
    group, room = [], size
    for path in paths:
        try:
            need = os.stat(path).st_size
        except (OSError, ValueError):  # ValueError: a NUL in the name
            need = 0
        if group and (len(group) == most or need > room):
            yield group
            group, room = [], size
        group.append(path)
        room -= need
    if group:
        yield group


def _read_cache(cache) -> dict[str, File | Finding]:
    """What a cache file holds, by absolute path; nothing where it is of another version or damaged."""
    known = {}
    if cache is None or not os.path.isfile(cache):
        return known
    with contextlib.suppress(ValueError, TypeError, KeyError), open(cache, encoding="ascii") as lines:
        if json.loads(next(lines, "{}")) != _cache_version():
            return known
        for line in lines:
            path, is_good, *values = json.loads(line)
            known[path] = File(path, *values[:-1], tuple(values[-1])) if is_good else Finding(path, *values)
    return known


def _write_cache(cache, known) -> None:
    if cache is None:
        return
    Path(cache).parent.mkdir(parents=True, exist_ok=True)
    with replacing(cache) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write(json.dumps(_cache_version()) + "\n")
        for path, result in itertools.islice(known.items(), max(0, len(known) - MAX_CACHED), None):
            file.write(json.dumps([path, isinstance(result, File), *astuple(result)[1:]]) + "\n")


def _cache_version() -> dict:
    import importlib.metadata

    return {"tlkeras_scan": SCHEMA, "tensorflow": importlib.metadata.version("tensorflow"), "max_pixels": MAX_PIXELS}
