"""Which files a folder holds, and which of them may be opened: suffixes, links, and what systems leave behind."""

import collections
import contextlib
import os
import stat

from tlkeras.data import signatures
from tlkeras.errors import DataError

_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r", "@eadir"}


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


def gate(root, follow_symlinks, roots):
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


def printed(path) -> str:
    """A path fit for a terminal or a log: line breaks, control characters and bytes that are no UTF-8 escaped."""
    text = os.fsdecode(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


@contextlib.contextmanager
def opened(path):
    """Gives (file, status) for reading; `file` is None for what is no regular file. Never waits for another process."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        yield None, status
        return
    # What was a file a moment ago may be a FIFO now: opened without O_NONBLOCK it would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        yield None, status
        return
    with open(descriptor, "rb") as file:
        yield file, status


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
        with opened(path) as (file, _):
            return file is not None and signatures.format_of(file.read(1000)) is not None
    except OSError:
        return False


def _identity(path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _lies_in(real: str, folders) -> bool:
    return any(real == f or real.startswith(f.rstrip(os.sep) + os.sep) for f in folders)
