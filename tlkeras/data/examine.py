"""What one file is: opened in a way that never blocks, its header read first, then decoded as training does it."""

import contextlib
import functools
import hashlib
import os
import re
import stat
import struct
from dataclasses import dataclass, replace

from tlkeras.data import phash, signatures
from tlkeras.data.listing import opened, printed
from tlkeras.data.packed import MAX_PIXELS

# 50 megapixels of 16-bit RGBA take 400 MB before compression; no picture that may be decoded needs more.
MAX_BYTES = 400_000_000


@dataclass(frozen=True, slots=True)
class File:
    """A file that can be used: what its bytes are and what the picture looks like.

    `format` is the name of its format, `fingerprint` is what `images.fingerprint` gives for the bytes, `phash` 64 bits of the picture's coarse
    shape (None where it is plain), `notes` what is odd about it without being wrong.
    """

    path: str
    bytes: int
    mtime_ns: int
    sha256: str
    format: str
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


@dataclass(frozen=True, slots=True)
class _Raw:
    """A file whose header is good and whose bytes were read."""

    path: str
    status: os.stat_result
    format: str
    width: int
    height: int
    animated: bool
    contents: bytes


def examine(paths, refusal, known, keep=None, kept=None) -> list[File | Finding]:
    """What each file is, in order.

    Args:
        known: what an earlier scan found, by absolute path.
        keep: the input contract of a backbone; `kept(path, image)` is called with the pixels of every file that was
            decoded. None: nothing is kept.
    """
    found: list = [
        _opened(path, refusal, known.get(os.path.abspath(path)) if "\0" not in path else None) for path in paths
    ]
    waiting = [n for n, one in enumerate(found) if isinstance(one, _Raw)]
    for n, result in zip(waiting, _judged([found[n] for n in waiting], keep, kept), strict=True):
        found[n] = result
    return found


def _opened(path: str, refusal, known) -> File | Finding | _Raw:
    if "\0" in path:
        return Finding(path, "unreadable", "a file name without NUL was expected")
    try:
        if refused := refusal(path):
            return Finding(path, *refused)
        with opened(path) as (file, status):
            if file is None:
                return Finding(path, "not-regular", f"not a regular file but a {_sort_of_file(status.st_mode)}")
            if known is not None and (known.bytes, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
                return replace(known, path=path)
            return _read(path, file, status)
    except OSError as e:
        return Finding(path, *_closed(path, e))


def _closed(path: str, error: OSError) -> tuple[str, str]:
    """Why a file cannot be opened, as (kind, reason)."""
    if isinstance(error, FileNotFoundError):
        return "missing", "a link to nothing" if os.path.islink(path) else "no such file"
    if isinstance(error, PermissionError):
        return "permission", "no permission to read it"
    # A link to itself answers ELOOP, a failing disk EIO.
    return "unreadable", error.strerror or str(error)


def upright(path: str, refusal) -> tuple[tuple[int, int], bool] | str:
    """((height, width) of a picture as it is used, upright; whether its EXIF orientation lays it on its side), both
    from its header; or why that cannot be told. Whether its pixels can be decoded is found out by the scan."""
    if "\0" in path:
        return "a file name without NUL was expected"
    try:
        if refused := refusal(path):
            return refused[1]
        with opened(path) as (file, status):
            if file is None:
                return f"not a regular file but a {_sort_of_file(status.st_mode)}"
            if not (head := file.read(1000)):
                return "empty file"
            if wrong := signatures.mismatch(path, head):
                return wrong[1]
            if (header := _header(file)) is None:
                return "damaged: its header cannot be read"
            width, height, _ = header
            if width * height > MAX_PIXELS:
                return f"its header says {width * height:,} pixels; at most {MAX_PIXELS:,} are read"
            lying = signatures.format_of(head) == "JPEG" and _orientation(file) > 4
            return ((width, height), True) if lying else ((height, width), False)
    except OSError as e:
        return _closed(path, e)[1]


def _read(path: str, file, status) -> Finding | _Raw:
    """Header first, then every byte."""

    def finding(kind, reason):
        return Finding(path, kind, reason, status.st_size, status.st_mtime_ns)

    if status.st_size == 0:
        return finding("empty", "empty file")
    head = file.read(1000)
    if wrong := signatures.mismatch(path, head):
        return finding(*wrong)
    if status.st_size > MAX_BYTES:
        return finding("too-large", f"more than {MAX_BYTES:,} bytes")
    header = _header(file)
    width, height, animated = header or (0, 0, False)
    if width * height > MAX_PIXELS:
        return finding("bomb", f"its header says {width * height:,} pixels; at most {MAX_PIXELS:,} are read")
    file.seek(0)
    contents = file.read()
    if header is None:
        return finding(*signatures.complaint(contents))
    return _Raw(path, status, signatures.format_of(head), width, height, animated, contents)


def _judged(raws: list[_Raw], keep, kept) -> list[File | Finding]:
    """Decodes files: JPEGs together, which saves most of what a call costs; where one of them is damaged, and for
    everything else, one by one."""
    if not raws:
        return []
    import tensorflow as tf  # here, so that a scan that decodes nothing takes no time for it

    seen: dict[int, list] = {}
    jpegs = [n for n, raw in enumerate(raws) if raw.format == "JPEG"]
    if len(jpegs) > 1:
        with contextlib.suppress(tf.errors.OpError):
            columns = _summaries(keep)(tf.constant([raws[n].contents for n in jpegs]))
            seen = dict(zip(jpegs, zip(*(c.numpy() for c in columns), strict=True), strict=True))
    found = []
    for n, raw in enumerate(raws):
        try:
            one = seen.get(n) or [t.numpy() for t in _summary(raw.format == "JPEG", keep)(tf.constant(raw.contents))]
        except tf.errors.OpError as e:
            why = signatures.complaint(raw.contents, e.message)
            found.append(Finding(raw.path, *why, raw.status.st_size, raw.status.st_mtime_ns))
            continue
        found.append(_file(raw, *one[:3]))
        if keep is not None:
            kept(raw.path, one[3])
    return found


def _file(raw: _Raw, fingerprint, turned, grey) -> File:
    width, height = (raw.height, raw.width) if turned > 4 else (raw.width, raw.height)
    suffix = os.path.splitext(raw.path)[1].lower()
    notes = {
        f"{raw.format} named {suffix}": signatures.SUFFIXES.get(suffix, raw.format) != raw.format,
        "first of several frames used": raw.animated,
        "longer than 100:1": max(height, width) > 100 * min(height, width),
        "turned upright by its EXIF orientation": turned > 1,
    }
    return File(
        raw.path,
        raw.status.st_size,
        raw.status.st_mtime_ns,
        hashlib.sha256(raw.contents).hexdigest(),
        raw.format,
        int(fingerprint),
        width,
        height,
        phash.phash(grey),
        tuple(note for note, applies in notes.items() if applies),
    )


def _header(file) -> tuple[int, int, bool] | None:
    """(width, height, whether there are several frames) as Pillow reads them from the header, None where it cannot."""
    from PIL import Image

    file.seek(0)
    try:
        with Image.open(file, formats=("JPEG", "PNG", "GIF", "BMP", "WEBP")) as image:
            return image.width, image.height, bool(getattr(image, "is_animated", False))
    except Image.DecompressionBombError as e:
        # Pillow gives no picture that could be asked; the number stands in its text: "Image size (N pixels) exceeds".
        number = re.search(r"\d+", str(e))
        return int(number[0]) if number else MAX_PIXELS + 1, 1, False
    except (OSError, ValueError, SyntaxError, EOFError, struct.error):
        return None


def _orientation(file) -> int:
    """The EXIF orientation of a JPEG, 1 where it has none."""
    from PIL import Image

    file.seek(0)
    odd = (OSError, ValueError, SyntaxError, EOFError, struct.error, KeyError, TypeError)
    with contextlib.suppress(*odd), Image.open(file, formats=("JPEG",)) as image:
        value = image.getexif().get(0x0112, 1)
        return value if value in range(1, 9) else 1
    return 1


@functools.cache
def _summary(known_jpeg: bool, keep):
    """Compiled: file contents -> (fingerprint, EXIF orientation, (32, 32) grey levels, pixels for `keep`)."""
    import tensorflow as tf

    from tlkeras.data import images, jpeg

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def summary(contents):
        with tf.device("CPU:0"):
            # Every byte of a JPEG is read at any scale; the pixels are made at the smallest that will do.
            least = (phash.SIZE, phash.SIZE) if keep is None else images.enough(keep)
            image = images.decode(contents, least, known_jpeg)
            small = tf.image.resize(image, (phash.SIZE, phash.SIZE), antialias=True)
            grey = tf.tensordot(small, tf.constant([0.299, 0.587, 0.114]), 1)
            turned = jpeg.turned(contents) if known_jpeg else tf.constant(1, tf.int64)
            sides = images.upright_size(contents, image) if keep and keep.pad else None
            pixels = tf.zeros((), tf.uint8) if keep is None else images.fit(image, keep, sides=sides)
            return images.fingerprint(contents), turned, grey, pixels

    return summary


@functools.cache
def _summaries(keep):
    """As `_summary` of JPEGs, for several at a time."""
    import tensorflow as tf

    kinds = (tf.int64, tf.int64, tf.float32, tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def summaries(contents):
        return tf.map_fn(_summary(True, keep), contents, fn_output_signature=kinds, parallel_iterations=4)

    return summaries


def _sort_of_file(mode: int) -> str:
    sorts = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return sorts.get(stat.S_IFMT(mode), "special file")
