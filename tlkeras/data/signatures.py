"""What a file is by its first bytes and its suffix, and what is wrong with an image that does not decode."""

import os
import re
import zlib

from tlkeras.data.packed import MAX_PIXELS

# What is read, and what is known to be an image but not read. Both are listed; neither is passed over in silence.
SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    ".gif": "GIF",
    ".webp": "WebP",
}
UNREAD = {
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".svg", ".svgz"), "SVG"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpf"), "JPEG 2000"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"), "RAW"),
    ".jxl": "JPEG XL",
    ".psd": "PSD",
    ".ico": "ICO",
}

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "PSD"),
    (b"\0\0\x01\0", "ICO"),
    (b"FUJIFILM", "RAW"),
    (b"IIU\0", "RAW"),
    (b"IIRO", "RAW"),
)
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    b"crx ": "RAW",
}


def format_of(head: bytes) -> str | None:
    """The image format that a file begins as, read or not; None where it begins as none that is known.

    Args:
        head: the first 1,000 bytes or so; an SVG may hold a comment before its first element.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return _BRANDS[head[8:12]]
    if known := next((name for start, name in _STARTS if head.startswith(start)), None):
        return known
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "SVG" if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!")) and b"<svg" in text) else None


def mismatch(path, head: bytes) -> tuple[str, str] | None:
    """Why a file cannot be an image that is read, as (kind, reason); None when it begins like one."""
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    known = format_of(head)
    if known in SUFFIXES.values():
        return None
    # A RAW file's suffix tells more than its bytes, which are mostly TIFF.
    if known is not None:
        name = UNREAD.get(suffix, known) if known == "TIFF" else known
        return "unsupported", f"{name} is not read; {', '.join(dict.fromkeys(SUFFIXES.values()))} are"
    named = f", though named {suffix}" if suffix in SUFFIXES or suffix in UNREAD else ""
    return "not-an-image", f"not an image{named}"


def complaint(contents: bytes, message: str = "") -> tuple[str, str]:
    """Why a file did not decode, as (kind, reason).

    Args:
        contents: all of the file.
        message: the text of the InvalidArgumentError that `images.decode` raised. What its own checks say is
            taken over; a decoder says little more than that it failed, and the bytes are asked instead.
    """
    if wrong := mismatch("", contents[:1000]):
        return wrong
    if said := re.search(r"assertion failed: \[(.*?)\](?: \[(\d+)\] \[(\d+)\])?", message):
        if said[2] is None:
            kinds = {"truncated": "truncated", "BMP of a kind": "unsupported"}
            return next((kind for start, kind in kinds.items() if said[1].startswith(start)), "corrupt"), said[1]
        if int(said[2]) * int(said[3]) > 0:
            return "bomb", f"its header says {said[2]} x {said[3]} pixels; at most {MAX_PIXELS:,} are read"
    name = format_of(contents[:1000])
    whole = {"JPEG": _jpeg_ends, "PNG": _png_ends, "WebP": _webp_ends, "GIF": _gif_ends}.get(name, bool)
    if not whole(contents):
        return "truncated", f"truncated {name}"
    if name == "PNG" and (chunk := _wrong_checksum(contents)):
        return "corrupt", f"damaged PNG: wrong CRC in its {chunk} chunk"
    return "corrupt", f"damaged {name}"


def _jpeg_ends(contents: bytes) -> bool:
    # Cameras write zeros or a second picture behind the end marker.
    return b"\xff\xd9" in contents[-4096:]


def _png_ends(contents: bytes) -> bool:
    return any(kind == b"IEND" for kind, _, _ in _png_chunks(contents))


def _gif_ends(contents: bytes) -> bool:
    return contents.rstrip(b"\0").endswith(b";")


def _webp_ends(contents: bytes) -> bool:
    return 8 + int.from_bytes(contents[4:8], "little") <= len(contents)


def _wrong_checksum(contents: bytes) -> str | None:
    wrong = (kind for kind, body, checksum in _png_chunks(contents) if zlib.crc32(kind + body) != checksum)
    return next((kind.decode("latin1") for kind in wrong), None)


def _png_chunks(contents: bytes):
    """Yields (type, data, CRC) of each whole chunk."""
    position = 8
    while position + 12 <= len(contents):
        size = int.from_bytes(contents[position : position + 4], "big")
        end = position + 12 + size
        if end > len(contents):
            return
        yield (
            contents[position + 4 : position + 8],
            contents[position + 8 : end - 4],
            int.from_bytes(contents[end - 4 : end], "big"),
        )
        position = end
