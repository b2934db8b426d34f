"""Reads every file once before training, so that all bad ones are known, with a reason, before the first step.

A file is opened in a way that never blocks, its header is read first, and what passes is decoded by the very
function that training and serving use. What is known of a file is kept in a cache, so that a second scan only
looks at sizes and times.
"""

import collections
import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import stat
import struct
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import numpy as np

from tlkeras.data import phash, signatures
from tlkeras.data.formats import MAX_PIXELS
from tlkeras.errors import DataError
from tlkeras.run import replacing

# 50 megapixels of 16-bit RGBA take 400 MB before compression; no picture that may be decoded needs more.
MAX_BYTES = 400_000_000
MAX_CACHED = 300_000
SCHEMA = 1
_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r", "@eadir"}


@dataclass(frozen=True, slots=True)
class File:
    """A file that can be used: what its bytes are and what the picture looks like.

    `fingerprint` is what `images.fingerprint` gives for the bytes, `phash` 64 bits of the picture's coarse
    shape (None where it is plain), `notes` what is odd about it without being wrong.
    """

    path: str
    bytes: int
    mtime_ns: int
    sha256: str
    fingerprint: int
    width: int
    height: int
    phash: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A file that cannot be used. `kind` is one word for counting, `bytes` None where the size is not known."""

    path: str
    kind: str
    reason: str
    bytes: int | None = None
    mtime_ns: int | None = None

    def __str__(self) -> str:
        return f"{printed(self.path)}: {self.why}"

    @property
    def why(self) -> str:
        return self.reason if self.bytes is None else f"{self.reason} ({self.bytes:,} bytes)"


@dataclass(frozen=True)
class Found:
    """What a scan found: every path that was given is a key of `good` or the path of one finding."""

    good: dict[str, File] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

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


def printed(path) -> str:
    """A path fit for a terminal or a log: line breaks, control characters and bytes that are no UTF-8 escaped."""
    text = os.fsdecode(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def list_images(root, follow_symlinks: bool = False, roots: tuple = ()) -> tuple[list[str], dict[str, int]]:
    """Lists everything below a folder that claims to be an image, in an order that depends on the names alone.

    Files are taken by suffix, in upper or lower case, formats that are not read and things that are no files
    among them: the scan says what is wrong with each. Files without a suffix are taken when they begin like
    an image.

    Args:
        follow_symlinks: whether links are followed; never to outside of `root` and `roots`.

    Returns:
        The paths, each beginning with `root`, and how many entries were passed over, by reason.

    Raises:
        DataError: when `root` is no folder, or a folder below it cannot be read.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise DataError(f"{printed(root)}: a folder of images was expected here.")
    allowed = [os.path.realpath(r) for r in (root, *roots)]
    paths, ignored, closed = [], collections.Counter(), []

    def walk(folder, above):
        try:
            with os.scandir(folder) as entries:
                entries = sorted(entries, key=lambda e: os.fsencode(e.name))
        except PermissionError:
            closed.append(printed(folder))
            return
        for entry in entries:
            if why := _passed_over(entry, follow_symlinks, allowed):
                ignored[why] += 1
            elif not _is_class_folder(entry):
                paths.append(entry.path)
            elif (identity := _identity(entry.path)) in above:
                ignored["symbolic link loop"] += 1
            else:
                walk(entry.path, above | {identity})

    walk(root, {_identity(root)})
    if closed:
        raise DataError(
            f"Folders must be readable to list their images; these are not: {', '.join(closed)}. Change their mode or move them away."
        )
    return paths, dict(ignored)


def scan(samples, root=None, follow_symlinks: bool = False, roots: tuple = (), cache=None, workers: int | None = None, progress=None) -> Found:
    """Opens, hashes and decodes every file, and says what is wrong with those that cannot be used.

    Args:
        samples: paths; what comes twice is read once.
        root: the folder that files must lie in, links resolved; None allows any place.
        follow_symlinks: whether a link below `root` may be followed, to a place inside `root` or `roots`.
        cache: a JSON lines file of what earlier scans found, by path, size and time; None keeps nothing.
        workers: threads; None takes one per core.
        progress: has `step(label, done, total)`, called for every file.

    Raises:
        StorageError: when the cache cannot be written.
    """
    started = time.time_ns()
    known = _read_cache(cache)
    refusal = (lambda path: None) if root is None else _gate(root, follow_symlinks, roots)
    total = len(samples) if hasattr(samples, "__len__") else 0
    good, findings, seen = {}, [], set()

    def once():
        for path in map(os.fsdecode, samples):
            if path not in seen:
                seen.add(path)
                yield path

    def examine(path):
        key = os.path.abspath(path)
        return key, _examine(path, refusal, known.get(key))

    workers = workers or os.cpu_count() or 1
    try:
        # The limit on pixels is applied here; Pillow's own warning would be printed as well.
        with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
            warnings.simplefilter("ignore")
            for done, (key, result) in enumerate(_in_order(pool, examine, once(), 4 * workers), 1):
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
    return Found(good, findings)


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
                wrong.append(f"the same bytes with different {what}: " + ", ".join(f"{name} ({value})" for value, name in said))
    if wrong:
        shown = "\n  ".join(wrong[:20]) + (f"\n  ... and {len(wrong) - 20} more" if len(wrong) > 20 else "")
        raise DataError(
            f"Equal files must have one label and lie in one split; {len(wrong)} sets of files do not:\n  {shown}\nRemove the copies that are wrong."
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
                texts.append(f"{printed(str(ids[row]))} ({name}) and {printed(str(ids[other]))} ({splits[other]}), {b} of 64 bits differ")
    return texts


def _passed_over(entry, follow_symlinks, allowed) -> str | None:
    """Why an entry of a folder is not taken, or None."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.name.lower() in _SYSTEM:
        return "left by an operating system"
    if entry.is_symlink():
        if not follow_symlinks:
            return "symbolic link, not followed"
        if not _lies_in(os.path.realpath(entry.path), allowed):
            return "symbolic link out of the data folder"
    suffix = os.path.splitext(entry.name)[1].lower()
    if _is_class_folder(entry) or _is_image_suffix(suffix):
        return None
    if suffix:
        return f"suffix {printed(suffix)}"
    return None if _begins_like_image(entry.path) else "no suffix and no image"


def _is_image_suffix(suffix: str) -> bool:
    return suffix in signatures.SUFFIXES or suffix in signatures.UNREAD


def _is_class_folder(entry) -> bool:
    # A folder named photo.jpg is left to the scan, which says that it is no file.
    return entry.is_dir() and not _is_image_suffix(os.path.splitext(entry.name)[1].lower())


def _begins_like_image(path) -> bool:
    try:
        with _opened(path) as (file, status):
            return stat.S_ISREG(status.st_mode) and signatures.format_of(file.read(1000)) is not None
    except OSError:
        return False


def _identity(path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _lies_in(real: str, folders) -> bool:
    return any(real == f or real.startswith(f.rstrip(os.sep) + os.sep) for f in folders)


def _gate(root, follow_symlinks, roots):
    """Returns `f(path)`: why a path may not be read, as (kind, reason), or None."""
    below, real_root = os.path.abspath(root), os.path.realpath(root)
    allowed = [real_root, *map(os.path.realpath, roots)]

    def refusal(path):
        path, real = os.path.abspath(path), os.path.realpath(path)
        if not _lies_in(path, [below, *allowed]):
            return "outside", "outside the data folder"
        # The root itself may be a link; only links below it count.
        direct = real_root + path[len(below) :] if _lies_in(path, [below]) else path
        if real != direct and not follow_symlinks:
            return "symlink", "symbolic link, not followed (data.follow_symlinks allows it inside the data folder)"
        if not _lies_in(real, allowed):
            return "symlink", "symbolic link out of the data folder"
        return None

    return refusal


@contextlib.contextmanager
def _opened(path):
    """Gives (file, status) for reading; a FIFO or a device is opened without waiting for its other end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        yield file, os.fstat(file.fileno())


def _examine(path: str, refusal, known) -> File | Finding:
    """What one file is. `known` is what an earlier scan found under this path, or None."""
    try:
        if refused := refusal(path):
            return Finding(path, *refused)
        with _opened(path) as (file, status):
            if not stat.S_ISREG(status.st_mode):
                return Finding(path, "not-regular", f"not a regular file but a {_sort_of_file(status.st_mode)}")
            if known is not None and (known.bytes, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
                return replace(known, path=path)
            return _examine_contents(path, file, status)
    except FileNotFoundError:
        return Finding(path, "missing", "a link to nothing" if os.path.islink(path) else "no such file")
    except PermissionError:
        return Finding(path, "permission", "no permission to read it")
    except IsADirectoryError:
        return Finding(path, "not-regular", "not a regular file but a folder")
    except OSError as e:
        # A socket answers ENXIO, a link to itself ELOOP; a failing disk answers EIO.
        socket = os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode)
        return Finding(path, *(("not-regular", "not a regular file but a socket") if socket else ("unreadable", str(e.strerror or e))))
    except ValueError as e:
        return Finding(path, "unreadable", f"not a possible file name: {e}")


def _examine_contents(path: str, file, status) -> File | Finding:
    """Header first, then every byte."""
    import tensorflow as tf

    def finding(kind, reason):
        return Finding(path, kind, reason, status.st_size, status.st_mtime_ns)

    if status.st_size == 0:
        return finding("empty", "empty file")
    head = file.read(1000)
    if wrong := signatures.mismatch(path, head):
        return finding(*wrong)
    if status.st_size > MAX_BYTES:
        return finding("too-large", f"more than {MAX_BYTES:,} bytes")
    name = signatures.format_of(head)
    header = _header(file)
    if header is None:
        return finding("corrupt", f"damaged {name}: its header cannot be read")
    if header["width"] * header["height"] > MAX_PIXELS:
        size = f"{header['width']} x {header['height']}"
        return finding("bomb", f"its header says {size} pixels; at most {MAX_PIXELS:,} are read")
    file.seek(0)
    contents = file.read()
    try:
        fingerprint, height, width, turned, grey = (t.numpy() for t in _summary()(tf.constant(contents)))
    except tf.errors.OpError as e:
        return finding(*_complaint(name, contents, e.message))
    suffix = os.path.splitext(path)[1].lower()
    notes = {
        f"{name} named {suffix}": signatures.SUFFIXES.get(suffix, name) != name,
        "first of several frames used": header["frames"] > 1,
        "longer than 100:1": max(height, width) > 100 * min(height, width),
        "turned upright by its EXIF orientation": turned > 1,
    }
    return File(
        path,
        status.st_size,
        status.st_mtime_ns,
        hashlib.sha256(contents).hexdigest(),
        int(fingerprint),
        int(width),
        int(height),
        phash.phash(grey),
        tuple(note for note, applies in notes.items() if applies),
    )


def _header(file) -> dict[str, int] | None:
    """Width, height and number of frames as Pillow reads them from the header; None where it cannot."""
    from PIL import Image

    file.seek(0)
    try:
        with Image.open(file, formats=("JPEG", "PNG", "GIF", "BMP", "WEBP")) as image:
            frames = 1 + bool(getattr(image, "is_animated", False))
            return {"width": image.width, "height": image.height, "frames": frames}
    except Image.DecompressionBombError:
        # Pillow's own limit is higher than the one here, and its error does not carry the numbers apart.
        return {"width": MAX_PIXELS + 1, "height": 1, "frames": 1}
    except (OSError, ValueError, SyntaxError, EOFError, struct.error):
        return None


def _complaint(name: str, contents: bytes, message: str) -> tuple[str, str]:
    """Why the decoder refused, as (kind, reason): its own words where they are ours, else what the bytes show."""
    said = re.search(r"assertion failed: \[(.*?)\]", message)
    if said is None:
        return signatures.damage(name, contents)
    kinds = {"truncated": "truncated", "BMP of a kind": "unsupported", "not a JPEG": "not-an-image", "its header": "bomb"}
    return next((kind for start, kind in kinds.items() if said[1].startswith(start)), "corrupt"), said[1]


@functools.cache
def _summary():
    """Compiled: file contents -> (fingerprint, height, width, EXIF orientation, (32, 32) grey levels)."""
    import tensorflow as tf

    from tlkeras.data import formats, images

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def summary(contents):
        with tf.device("CPU:0"):
            image = images.decode(contents)
            height, width, _ = tf.unstack(tf.shape(image))
            small = tf.image.resize(image, (phash.SIZE, phash.SIZE), antialias=True)
            grey = tf.tensordot(small, tf.constant([0.299, 0.587, 0.114]), 1)
            return images.fingerprint(contents), height, width, formats.turned(contents), grey

    return summary


def _in_order(pool, function, values, window: int):
    """Yields function(value) in order, never holding more than `window` values at work."""
    waiting = collections.deque()
    try:
        for value in values:
            waiting.append(pool.submit(function, value))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _sort_of_file(mode: int) -> str:
    sorts = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return sorts.get(stat.S_IFMT(mode), "special file")


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
