"""Images as they come in the wild, and files that only look like images; made here, deterministic, all small.

`GOOD`, `BAD` and `BOMBS` map a file name to a function that makes its bytes; `write` puts them into a folder.
The kinds in `BAD` are those that a scan must report.
"""

import functools
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image


def picture(seed: int = 0, width: int = 68, height: int = 52) -> Image.Image:
    """A smooth colour picture, so that JPEG and WebP change it little; `seed` makes another."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def with_alpha() -> Image.Image:
    rgba = np.array(picture().convert("RGBA"))
    rgba[..., 3] = np.linspace(0, 255, rgba[..., 3].size).reshape(rgba.shape[:2]).round()
    return Image.fromarray(rgba)


def encoded(image: Image.Image, name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, before: bytes = b"") -> bytes:
    """A PNG from its raw rows, each of which begins with its filter byte."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    packed = zlib.compress(rows, 9)
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block with two entries, the orientation second."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHIHH", 0x0100, 3, 1, 7, 0) + struct.pack(
        order + "HHIHH", 0x0112, 3, 1, orientation, 0
    )
    return b"Exif\0\0" + start + struct.pack(order + "I", 8) + struct.pack(order + "H", 2) + entries + bytes(4)


def with_segment(jpeg: bytes, body: bytes, marker: int = 0xE1, behind_jfif: bool = False) -> bytes:
    """A JPEG with one more segment, right at its start or behind the JFIF segment."""
    position = 2
    if behind_jfif:
        position += 2 + int.from_bytes(jpeg[4:6], "big")
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
    return jpeg[:position] + segment + jpeg[position:]


def turned(orientation: int, order: str = "<", behind_jfif: bool = False) -> bytes:
    """The picture stored so that its orientation tag makes it upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture().transpose(undo[orientation]) if orientation > 1 else picture()
    return with_segment(
        encoded(stored, "JPEG", quality=95, subsampling=0), exif(orientation, order), behind_jfif=behind_jfif
    )


def ycck() -> bytes:
    """A JPEG whose Adobe segment says YCCK: a CMYK one of grey inks, for which both mean nearly the same file."""
    cmyk = encoded(picture().convert("CMYK"), "JPEG", quality=95)
    position = cmyk.index(b"Adobe")
    return cmyk[: position + 11] + b"\x02" + cmyk[position + 12 :]


def frames(name: str, **options) -> bytes:
    others = [picture(seed) for seed in (1, 2, 3)]
    return encoded(picture(), name, save_all=True, append_images=others, duration=50, **options)


def gif_with_small_first_frame() -> bytes:
    """A frame of 68 x 52 at (5, 7) of a canvas of 100 x 90."""
    gif = bytearray(encoded(picture().quantize(64), "GIF"))
    gif[6:10] = struct.pack("<HH", 100, 90)
    position = gif.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 68, 52))
    gif[position + 1 : position + 5] = struct.pack("<HH", 5, 7)
    return bytes(gif)


def indexed_png(depth: int, transparent: bytes = b"") -> bytes:
    colours = 2**depth
    palette = np.random.default_rng(1).integers(0, 256, (colours, 3), dtype=np.uint8).tobytes()
    extra = chunk(b"PLTE", palette) + (chunk(b"tRNS", transparent) if transparent else b"")
    return png(16, 4, depth, 3, _rows(16, 4, depth), extra)


def _rows(width: int, height: int, bits: int) -> bytes:
    random = np.random.default_rng(2)
    return b"".join(b"\0" + random.bytes((width * bits + 7) // 8) for _ in range(height))


def bmp(bits: int, top_down: bool = False, masks: bytes = b"") -> bytes:
    """A BMP of 13 x 5 pixels with a palette for 1, 4 and 8 bits; `masks` makes it a V4 header with bit fields."""
    width, height = 13, 5
    stride = (width * bits + 31) // 32 * 4
    palette = np.random.default_rng(3).integers(0, 256, (2**bits if bits <= 8 else 0, 4), dtype=np.uint8).tobytes()
    header = struct.pack(
        "<iiHHIIiiII", width, -height if top_down else height, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0
    )
    header += masks + bytes(108 - 40 - len(masks)) if masks else b""
    start = 14 + 4 + len(header) + len(palette)
    pixels = np.random.default_rng(4).bytes(stride * height)
    size = struct.pack("<I", start + len(pixels))
    return b"BM" + size + bytes(4) + struct.pack("<II", start, len(header) + 4) + header + palette + pixels


_MASKS = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)

GOOD = {
    "colour.jpg": lambda: encoded(picture(), "JPEG"),
    "sharp.jpg": lambda: encoded(picture(), "JPEG", quality=95, subsampling=0),
    "progressive.jpeg": lambda: encoded(picture(), "JPEG", progressive=True),
    "grey.jpg": lambda: encoded(picture().convert("L"), "JPEG"),
    "cmyk.jpg": lambda: encoded(picture().convert("CMYK"), "JPEG", quality=95),
    "ycck.jpg": ycck,
    "tail of zeros.jpg": lambda: encoded(picture(), "JPEG") + bytes(500),
    "UPPER.JPG": lambda: encoded(picture(), "JPEG"),
    **{f"turned{i}.jpg": functools.partial(turned, i) for i in range(1, 9)},
    "turned6-big-endian.jpg": lambda: turned(6, ">"),
    "turned8-behind-jfif.jpg": lambda: turned(8, ">", behind_jfif=True),
    "colour.png": lambda: encoded(picture(), "PNG"),
    "grey.png": lambda: encoded(picture().convert("L"), "PNG"),
    "grey-alpha.png": lambda: encoded(with_alpha().convert("LA"), "PNG"),
    "alpha.png": lambda: encoded(with_alpha(), "PNG"),
    "opaque-alpha.png": lambda: encoded(picture().convert("RGBA"), "PNG"),
    "one-bit.png": lambda: encoded(picture().convert("1"), "PNG"),
    **{f"palette{d}.png": functools.partial(indexed_png, d) for d in (1, 2, 4, 8)},
    **{f"palette{d}-transparent.png": functools.partial(indexed_png, d, b"\0\x80") for d in (1, 2, 4, 8)},
    "grey2-transparent.png": lambda: png(16, 4, 2, 0, _rows(16, 4, 2), chunk(b"tRNS", b"\0\2")),
    "colour-transparent.png": lambda: encoded(picture(), "PNG", transparency=picture().getpixel((3, 3))),
    "text-before-transparency.png": lambda: png(
        *(16, 4, 2, 0, _rows(16, 4, 2)), chunk(b"tEXt", b"a\0" + bytes(range(256))) + chunk(b"tRNS", b"\0\2")
    ),
    "animated.png": lambda: frames("PNG"),
    "colour.gif": lambda: encoded(picture(), "GIF"),
    "flat-order.gif": lambda: encoded(picture(), "GIF", interlace=0),
    "transparent.gif": lambda: encoded(picture().quantize(30), "GIF", transparency=5),
    "two-colours.gif": lambda: encoded(picture().convert("1"), "GIF"),
    "animated.gif": lambda: frames("GIF"),
    "small-first-frame.gif": gif_with_small_first_frame,
    "commented.gif": lambda: encoded(picture(), "GIF", comment=b"x" * 700),
    "large.gif": lambda: encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)), "GIF"
    ),
    **{f"{bits}bit.bmp": functools.partial(bmp, bits) for bits in (1, 4, 8, 24, 32)},
    "top-down.bmp": lambda: bmp(24, top_down=True),
    "masked.bmp": lambda: bmp(32, masks=_MASKS),
    "pillow.bmp": lambda: encoded(picture(), "BMP"),
    "lossy.webp": lambda: encoded(picture(), "WEBP"),
    "lossless.webp": lambda: encoded(picture(), "WEBP", lossless=True),
    "lossy-alpha.webp": lambda: encoded(with_alpha(), "WEBP"),
    "lossless-alpha.webp": lambda: encoded(with_alpha(), "WEBP", lossless=True, exact=True),
    "with-exif.webp": lambda: encoded(picture(), "WEBP", exif=exif(1)),
    "animated.webp": lambda: frames("WEBP"),
    "animated-lossless.webp": lambda: frames("WEBP", lossless=True),
    "one-pixel.png": lambda: png(1, 1, 8, 2, b"\0\x0a\x14\x1e"),
    "one-pixel.jpg": lambda: encoded(picture(0, 1, 1), "JPEG"),
    "long.png": lambda: png(1, 100_000, 8, 0, b"\0\x80" * 100_000),
    "png-named.jpg": lambda: encoded(picture(), "PNG"),
    "no suffix": lambda: encoded(picture(), "PNG"),
}

SIXTEEN_BIT = [0, 128, 256, 4000, 32768, 40000, 65407, 65535]
GOOD["sixteen-bit.png"] = lambda: png(8, 1, 16, 0, b"\0" + struct.pack(">8H", *SIXTEEN_BIT))
GOOD["sixteen-bit-alpha.png"] = lambda: png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 1000, 40000, 65535, 33000))


def flipped(contents: bytes, position: int) -> bytes:
    return contents[:position] + bytes([contents[position] ^ 0x40]) + contents[position + 1 :]


def _half(name: str) -> bytes:
    contents = GOOD[name]()
    return contents[: len(contents) // 2]


def _bmp_claiming(offset: int, value: int, size: int) -> bytes:
    contents = bmp(24)
    return contents[:offset] + value.to_bytes(size, "little") + contents[offset + size :]


BAD = {
    "empty.jpg": ("empty", lambda: b""),
    "one-byte.jpg": ("not-an-image", lambda: b"\xff"),
    "half.jpg": ("truncated", lambda: _half("colour.jpg")),
    "half-progressive.jpg": ("truncated", lambda: _half("progressive.jpeg")),
    "two-bytes-short.jpg": ("truncated", lambda: GOOD["colour.jpg"]()[:-2]),
    "start-only.jpg": ("truncated", lambda: b"\xff\xd8\xff\xe0"),
    "half.png": ("truncated", lambda: _half("colour.png")),
    "two-bytes-short.png": ("truncated", lambda: GOOD["colour.png"]()[:-2]),
    "flipped-byte.png": ("corrupt", lambda: flipped(GOOD["colour.png"](), 200)),
    "start-only.png": ("truncated", lambda: GOOD["colour.png"]()[:8]),
    "no-size.png": ("corrupt", lambda: png(0, 0, 8, 2, b"")),
    "half.gif": ("truncated", lambda: _half("colour.gif")),
    "half.bmp": ("truncated", lambda: _half("24bit.bmp")),
    "palette-out-of-range.bmp": ("corrupt", lambda: _bmp_claiming(28, 8, 2)),
    "half.webp": ("truncated", lambda: _half("lossy.webp")),
    "half-animated.webp": ("truncated", lambda: frames("WEBP")[:300]),
    "flipped.webp": ("corrupt", lambda: flipped(GOOD["lossless.webp"](), 30)),
    "page.jpg": ("not-an-image", lambda: b"<!DOCTYPE html><html><body>404</body></html>"),
    "text.png": ("not-an-image", lambda: b"a text\n" * 40),
    "zeros.jpg": ("not-an-image", lambda: bytes(4000)),
    "scan.tiff": ("unsupported", lambda: encoded(picture(), "TIFF")),
    "photo.avif": ("unsupported", lambda: b"\0\0\0\x1cftypavif" + bytes(60)),
    "photo.heic": ("unsupported", lambda: b"\0\0\0\x18ftypheic" + bytes(60)),
    "drawing.svg": ("unsupported", lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "photo.jxl": ("unsupported", lambda: b"\xff\x0a" + bytes(60)),
    "photo.jp2": ("unsupported", lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60)),
    "raw.nef": ("unsupported", lambda: b"MM\0*" + bytes(60)),
    "raw.cr3": ("unsupported", lambda: b"\0\0\0\x18ftypcrx " + bytes(60)),
    "tiff-named.jpg": ("unsupported", lambda: encoded(picture(), "TIFF")),
}


def bomb_png(side: int = 20_000) -> bytes:
    """48 KB that unpack to side * side pixels of one bit."""
    return png(side, side, 1, 0, bytes((side // 8 + 1) * side))


def _jpeg_claiming(side: int) -> bytes:
    contents = encoded(picture(), "JPEG")
    position = contents.index(b"\xff\xc0") + 5
    return contents[:position] + struct.pack(">HH", side, side) + contents[position + 4 :]


def _webp_claiming_canvas() -> bytes:
    contents = bytearray(frames("WEBP"))
    contents[24:30] = (16_382).to_bytes(3, "little") * 2
    return bytes(contents)


def _lossless_webp_claiming() -> bytes:
    contents = bytearray(GOOD["lossless.webp"]())
    contents[21:25] = (16_382 | 16_382 << 14).to_bytes(4, "little")
    return bytes(contents)


BOMBS = {
    "bomb.png": bomb_png,
    "bomb.jpg": lambda: _jpeg_claiming(30_000),
    "bomb.gif": lambda: b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + encoded(picture(), "GIF")[10:],
    "bomb.bmp": lambda: _bmp_claiming(18, 2**30, 4),
    "bomb.webp": _lossless_webp_claiming,
    "bomb-animated.webp": _webp_claiming_canvas,
    "just-too-large.png": lambda: png(10_000, 5_001, 1, 0, b"\0"),
}


def many_frames_gif(count: int = 3000) -> bytes:
    """A GIF of 2000 x 2000 pixels whose frames unpack to 4 MB each; the file has 1 KB a frame."""
    first = encoded(Image.new("P", (2000, 2000)), "GIF")
    start = first.index(b"\x2c")
    return first[:-1] + first[start:-1] * (count - 1) + b";"


def write(folder, names=None) -> dict[str, str]:
    """Writes GOOD, BAD and BOMBS, or those of `names`, into a folder: {name: path}."""
    makers = GOOD | {name: make for name, (_, make) in BAD.items()} | BOMBS
    paths = {}
    for name in makers if names is None else names:
        paths[name] = os.path.join(folder, name)
        with open(paths[name], "wb") as file:
            file.write(makers[name]())
    return paths
