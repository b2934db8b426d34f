"""What one file is: opened in a way that never blocks, its header read first, then decoded as training does it."""

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


def examine(path: str, refusal, known) -> File | Finding:
    """What one file is. `known` is what an earlier scan found under this path, or None."""
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
            return _examine_contents(path, file, status)
    except FileNotFoundError:
        return Finding(path, "missing", "a link to nothing" if os.path.islink(path) else "no such file")
    except PermissionError:
        return Finding(path, "permission", "no permission to read it")
    except OSError as e:
        # A link to itself answers ELOOP, a failing disk EIO.
        return Finding(path, "unreadable", e.strerror or str(e))


def _examine_contents(path: str, file, status) -> File | Finding:
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
    name = signatures.format_of(head)
    header = _header(file)
    width, height, animated = header or (0, 0, False)
    if width * height > MAX_PIXELS:
        return finding("bomb", f"its header says {width * height:,} pixels; at most {MAX_PIXELS:,} are read")
    file.seek(0)
    contents = file.read()
    if header is None:
        return finding(*signatures.complaint(contents))
    import tensorflow as tf  # here, so that a scan that decodes nothing takes no time for it

    try:
        fingerprint, turned, grey = (t.numpy() for t in _summary()(tf.constant(contents)))
    except tf.errors.OpError as e:
        return finding(*signatures.complaint(contents, e.message))
    if turned > 4:
        width, height = height, width
    suffix = os.path.splitext(path)[1].lower()
    notes = {
        f"{name} named {suffix}": signatures.SUFFIXES.get(suffix, name) != name,
        "first of several frames used": animated,
        "longer than 100:1": max(height, width) > 100 * min(height, width),
        "turned upright by its EXIF orientation": turned > 1,
    }
    return File(
        path,
        status.st_size,
        status.st_mtime_ns,
        hashlib.sha256(contents).hexdigest(),
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


@functools.cache
def _summary():
    """Compiled: file contents -> (fingerprint, EXIF orientation, (32, 32) grey levels)."""
    import tensorflow as tf

    from tlkeras.data import images, jpeg

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def summary(contents):
        with tf.device("CPU:0"):
            # Every byte of a JPEG is read at any scale; the pixels are made at the smallest that still shows its shape.
            image = images.decode(contents, (phash.SIZE, phash.SIZE))
            small = tf.image.resize(image, (phash.SIZE, phash.SIZE), antialias=True)
            grey = tf.tensordot(small, tf.constant([0.299, 0.587, 0.114]), 1)
            return images.fingerprint(contents), jpeg.turned(contents), grey

    return summary


def _sort_of_file(mode: int) -> str:
    sorts = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return sorts.get(stat.S_IFMT(mode), "special file")
