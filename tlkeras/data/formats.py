"""The image formats read inside the graph: JPEG, PNG, GIF, BMP and WebP bytes to RGB.

TensorFlow's decoders are used for the pixels, never for the file as it came: each function reads the header
first, refuses what is too large before anything is allocated, and hands the decoder one still picture.
That is a matter of safety too: TensorFlow 2.21 writes behind its buffer when it decodes an animated WebP
without alpha, gives PNG of fewer than 8 bits an alpha of 1 instead of 255, unpacks every frame of a GIF to
return the first, reads BMP palettes as grey, and leaves the EXIF orientation alone.

Every reader takes `contents` (scalar string tensor) and `data` (its bytes as `padded` gives them) and returns
uint8 (height, width, 3). Only ops of TensorFlow's core are used. Several numbers are taken from one slice, and
loops carry what they have read, because at this size the number of ops is the cost.
"""

import functools

MAX_PIXELS = 50_000_000
PADDING = 64  # zero bytes behind the file, so that a header cut short reads as zeros

# A file is walked block by block to find the first frame, the transparency or the orientation. Real files
# need a handful of steps for headers and few for a GIF; a file made of empty blocks would need millions.
MAX_BLOCKS = 1_000
MAX_GIF_BLOCKS = 200_000


def padded(contents):
    """The bytes of a file as the readers want them: string scalar -> uint8 (size + PADDING,)."""
    import tensorflow as tf

    return tf.io.decode_raw(tf.strings.join([contents, bytes(PADDING)]), tf.uint8)


def jpeg(contents, data):
    """JPEG, CMYK and YCCK among them (Adobe's inverted inks); upright by its EXIF orientation."""
    import tensorflow as tf

    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(contents, output_type=tf.int64), num=3)
    # The accurate transform costs nothing measurable and gives the very pixels that Pillow gives.
    image = tf.io.decode_jpeg(_checked(contents, height, width), channels=3, dct_method="INTEGER_ACCURATE")
    # EXIF stands in the segments before the first table, mostly in the first or behind JFIF's. Where neither
    # can be, which is seen at once, the walk is left out: it takes longer than decoding a small JPEG.
    behind_jfif = 4 + tf.tensordot(tf.cast(data[4:6], tf.int32), [256, 1], 1)
    p = tf.minimum(tf.where(data[3] == 0xE0, behind_jfif, 2), tf.size(data) - 2)
    return tf.cond(_is_application(data[p], data[p + 1]), lambda: separate(_upright)(image, data), lambda: image)


def _upright(image, data):
    return upright(image, orientation(data))


def _is_application(first, second):
    """Whether two bytes are the marker of an application segment or a comment."""
    import tensorflow as tf

    return (first == 0xFF) & ((tf.bitwise.bitwise_and(second, 0xF0) == 0xE0) | (second == 0xFE))


def orientation(data):
    """The EXIF orientation of a JPEG, an int64 scalar 1..8; 1 where there is none or it makes no sense.

    Looks for the APP1 segment "Exif\\0\\0" among the segments before the first table or frame, where the EXIF
    standard puts it, and for tag 0x0112 of its first directory, in either byte order.
    """
    import tensorflow as tf

    end = tf.size(data) - PADDING
    # The ten bytes at the start of a segment: marker, length, and what an EXIF segment holds next.
    exif = tf.constant(list(b"\xff\xe1\0\0Exif\0\0"), tf.uint8)
    free = tf.constant([False] * 2 + [True] * 2 + [False] * 6)

    def is_exif(head):
        return tf.reduce_all((head == exif) | free)

    def going(_, head):
        return _is_application(head[0], head[1]) & ~is_exif(head)

    def following(p, head):
        p = tf.minimum(p + 2 + tf.tensordot(tf.cast(head[2:4], tf.int32), [256, 1], 1), end)
        return p, data[p : p + 10]

    p, head = tf.while_loop(going, following, (tf.constant(2), data[2:12]), maximum_iterations=MAX_BLOCKS)

    def read():
        tiff = p + 10
        order = data[tiff : tiff + 4]
        big = tf.reduce_all(order == list(b"MM\0*"))
        known = big | tf.reduce_all(order == list(b"II*\0"))

        def ordered(position, size):
            weights = [256**i for i in range(size)]
            block = tf.cast(_slice(data, position, size), tf.int64)
            return tf.reduce_sum(block * tf.where(big, tf.constant(weights[::-1], tf.int64), tf.constant(weights, tf.int64)))

        directory = tf.cast(tiff, tf.int64) + ordered(tiff + 4, 4)
        entries = tf.cast(_slice(data, directory + 2, 12 * ordered(directory, 2)), tf.int64)
        entries = tf.reshape(entries[: tf.size(entries) // 12 * 12], (-1, 12))
        # Tag, type 3 (16 bit) and count, then the value: words of two bytes in the file's order.
        words = tf.where(big, entries[:, ::2] * 256 + entries[:, 1::2], entries[:, ::2] + entries[:, 1::2] * 256)
        wanted = (words[:, 0] == 0x0112) & (words[:, 1] == 3)
        value = tf.concat([tf.boolean_mask(words[:, 4], wanted), [1]], 0)[0]
        return tf.where(known & (value >= 1) & (value <= 8), value, 1)

    return tf.cond(is_exif(head), read, lambda: tf.constant(1, tf.int64))


def upright(image, turned):
    """Undoes an EXIF orientation: `image` (height, width, 3) as stored, `turned` an int64 scalar 1..8."""
    import tensorflow as tf

    def any_of(*values):
        return tf.reduce_any(tf.equal(turned, tf.constant(values, tf.int64)))

    image = tf.cond(turned >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(any_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(any_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)


def other(contents, data):
    """What is no JPEG: PNG, GIF, BMP or WebP."""
    import tensorflow as tf

    def starts(text, position=0):
        return tf.reduce_all(data[position : position + len(text)] == list(text))

    def unknown():
        with tf.control_dependencies([_require(False, "not a JPEG, PNG, GIF, BMP or WebP image")]):
            return tf.zeros((0, 0, 3), tf.uint8)

    cases = [
        (starts(b"\x89PNG\r\n\x1a\n"), png),
        (starts(b"GIF87a") | starts(b"GIF89a"), gif),
        (starts(b"BM"), bmp),
        (starts(b"RIFF") & starts(b"WEBP", 8), webp),
    ]
    calls = [functools.partial(separate(read), contents, data) for _, read in cases]
    index = tf.argmax(tf.stack([fits for fits, _ in cases] + [True]), output_type=tf.int32)
    return tf.switch_case(index, [*calls, unknown])


def png(contents, data):
    """PNG of every colour type; 16-bit samples keep their high byte; of an APNG the default picture."""
    import tensorflow as tf

    width, height = numbers(data, 16, (0, 4), (4, 4), big=True)
    contents = _checked(contents, height, width)
    trns, idat = (int.from_bytes(name, "big") for name in (b"tRNS", b"IDAT"))
    end = _end(data)

    def chunk(p):
        return (p, *numbers(data, p, (0, 4), (4, 4), big=True))

    def transparency():
        _, _, kind = tf.while_loop(
            lambda p, size, kind: (kind != trns) & (kind != idat) & (p < end),
            lambda p, size, kind: chunk(p + 12 + size),
            chunk(tf.constant(8, tf.int64)),
            maximum_iterations=MAX_BLOCKS,
        )
        return kind == trns

    return tf.cond(
        tf.cond(tf.bitwise.bitwise_and(data[25], 4) > 0, lambda: True, transparency),
        lambda: over_white(tf.io.decode_png(contents, channels=4)),
        lambda: tf.io.decode_png(contents, channels=3),
    )


def gif(contents, data):
    """The first frame of a GIF, on white where it is transparent or does not reach.

    The frame is cut out into a GIF of its own with one full colour table, whose transparent entry is white.
    """
    import tensorflow as tf

    end = _end(data)
    width, height, flags = numbers(data, 6, (0, 2), (2, 2), (4, 1))
    contents = _checked(contents, height, width)

    def colours(flags):
        return tf.where(flags >= 0x80, tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)

    # Extensions come first; the graphic control (0xF9) says which colour is transparent.
    def block(p, control):
        return (p, control, *numbers(data, p, (0, 1), (1, 1)))

    p, control, kind, _ = tf.while_loop(
        lambda p, control, kind, label: (kind == 0x21) & (p < end),
        lambda p, control, kind, label: block(_behind_blocks(data, p + 2), tf.where(label == 0xF9, p, control)),
        block(13 + 3 * colours(flags), tf.constant(-1, tf.int64)),
        maximum_iterations=MAX_BLOCKS,
    )
    left, top, wide, high, more = numbers(data, p, (1, 2), (3, 2), (5, 2), (7, 2), (9, 1))
    pixels = p + 10 + 3 * colours(more)
    size = tf.maximum(colours(more), tf.where(more < 0x80, colours(flags), 0))
    table = _slice(data, tf.where(more >= 0x80, p + 10, tf.constant(13, tf.int64)), 3 * size)
    checks = [
        _require((kind == 0x2C) & (p < end), "truncated GIF: it has no frame"),
        _require((left + wide <= width) & (top + high <= height), "damaged GIF: its first frame is larger than its canvas"),
        _require(size > 0, "damaged GIF: it has no colours"),
    ]
    with tf.control_dependencies(checks):
        frame = tf.strings.substr(contents, pixels, _behind_blocks(data, pixels + 1) - pixels)
    table = tf.pad(table, [[0, 768 - tf.size(table)]], constant_values=255)
    mask, index = numbers(data, tf.maximum(control, 0), (3, 1), (6, 1))
    transparent = tf.where((control >= 0) & (mask % 2 == 1), index, -1)
    table = tf.where(tf.range(768, dtype=tf.int64) // 3 == transparent, tf.constant(255, tf.uint8), table)
    sides = _bytes(tf.stack([wide, high]), 2)
    still = [b"GIF89a", sides, b"\xf7\0\0", _string(table), b"\x2c\0\0\0\0", sides, _bytes(more // 64 % 2 * 64, 1), frame, b"\x3b"]
    return _placed(tf.io.decode_gif(tf.strings.join(still))[0], top, left, height, width)


def _behind_blocks(data, p):
    """From the first of a GIF's sub-blocks to behind the empty one that ends them."""
    import tensorflow as tf

    end = _end(data)
    # Pixels come in blocks of 255 bytes; these are passed over at once.
    full = data[tf.minimum(p, end) :: 256] == 255
    p += 256 * tf.argmin(tf.concat([full, [False]], 0), output_type=tf.int64)

    def at(p):
        p = tf.minimum(p, end)
        return p, tf.cast(data[p], tf.int64)

    p, size = tf.while_loop(
        lambda p, size: (size > 0) & (p < end), lambda p, size: at(p + 1 + size), at(p), maximum_iterations=MAX_GIF_BLOCKS
    )
    with tf.control_dependencies([_require((p < end) & (size == 0), "truncated GIF: its first frame does not end")]):
        return p + 1


def bmp(contents, data):
    """BMP with 1, 4, 8, 24 or 32 bits a pixel, uncompressed; alpha only where the header has a mask for it."""
    import tensorflow as tf

    layout = ((10, 4), (14, 4), (18, 4), (22, 4), (28, 2), (30, 4), (54, 4), (58, 4), (62, 4))
    start, header, width, signed, bits, packing, red, green, blue = numbers(data, 0, *layout)
    bottom_up = signed < 2**31  # a negative height means that the first row is the top one
    height = tf.where(bottom_up, signed, 2**32 - signed)
    masks = (red == 0xFF0000) & (green == 0xFF00) & (blue == 0xFF)
    plain = (packing == 0) & tf.reduce_any(bits == tf.constant([1, 4, 8, 24, 32], tf.int64))
    stride = (width * bits + 31) // 32 * 4
    checks = [
        _require((header >= 40) & (plain | ((packing == 3) & (bits == 32) & masks)), "BMP of a kind that is not read (compressed, 16 bit or OS/2)"),
        _require((height > MAX_PIXELS) | (start + stride * height <= _end(data)), "truncated BMP"),
    ]
    with tf.control_dependencies([_checked(contents, height, width), *checks]):
        rows = tf.reshape(data[start : start + stride * height], (height, stride))
    rows = tf.cond(bottom_up, lambda: tf.reverse(rows, [0]), lambda: rows)

    def indexed():
        per_byte = 8 // bits
        shifts = tf.cast(tf.range(per_byte - 1, -1, -1) * bits, tf.uint8)
        mask = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
        indices = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[:, :, None], shifts), mask)
        indices = tf.reshape(indices, (height, stride * per_byte))[:, :width]
        table = _slice(data, 14 + header, 4 * tf.clip_by_value((start - 14 - header) // 4, 0, 256))
        return tf.gather(tf.reshape(table[: tf.size(table) // 4 * 4], (-1, 4))[:, 2::-1], tf.cast(indices, tf.int32))

    def direct():
        pixels = tf.reshape(rows[:, : width * (bits // 8)], (height, width, bits // 8))
        (alpha,) = numbers(data, 66, (0, 4))
        colours = pixels[:, :, 2::-1]
        masked = (packing == 3) & (header >= 56) & (alpha == 0xFF000000)
        return tf.cond(masked, lambda: over_white(tf.concat([colours, pixels[:, :, 3:]], 2)), lambda: colours)

    return tf.cond(bits <= 8, indexed, direct)


def webp(contents, data):
    """WebP; of an animated one the first frame, on white where it is transparent or does not reach.

    An animation's first frame is cut out into a still file: the decoder's animation code is never reached.
    """
    import tensorflow as tf

    lossy, lossless, extended, anmf = (int.from_bytes(name, "little") for name in (b"VP8 ", b"VP8L", b"VP8X", b"ANMF"))
    layout = ((12, 4), (20, 1), (24, 3), (27, 3), (26, 2), (28, 2), (21, 4))
    first, flags, canvas_width, canvas_height, key_width, key_height, packed = numbers(data, 0, *layout)
    # The three kinds of header in this order: canvas, key frame, lossless.
    kinds = tf.stack([first == extended, first == lossy, first == lossless])
    widths = tf.stack([canvas_width + 1, key_width % 2**14, packed % 2**14 + 1])
    heights = tf.stack([canvas_height + 1, key_height % 2**14, packed // 2**14 % 2**14 + 1])
    width, height = (tf.reduce_sum(tf.where(kinds, sides, 0)) for sides in (widths, heights))
    with tf.control_dependencies([_require(tf.reduce_any(kinds), "damaged WebP: it does not begin with a picture")]):
        contents = _checked(contents, height, width)
    end = _end(data)

    def still(contents):
        # Three channels or four as the file has them: the decoder refuses any other number.
        image = tf.raw_ops.DecodeWebP(contents=contents, channels=0)[0]
        return tf.cond(tf.shape(image)[2] == 4, lambda: over_white(image), lambda: tf.ensure_shape(image, (None, None, 3)))

    def chunk(p):
        return (p, *numbers(data, p, (0, 4), (4, 4)))

    def animated():
        p, _, size = tf.while_loop(
            lambda p, kind, size: (kind != anmf) & (p < end),
            lambda p, kind, size: chunk(p + 8 + (size + 1) // 2 * 2),
            chunk(tf.constant(12, tf.int64)),
            maximum_iterations=MAX_BLOCKS,
        )
        left, top, wide, high = numbers(data, p, (8, 3), (11, 3), (14, 3), (17, 3))
        left, top, wide, high = 2 * left, 2 * top, wide + 1, high + 1
        whole = _require((p + 8 + size <= end) & (size > 16), "truncated WebP: its first frame does not end")
        inside = _require((left + wide <= width) & (top + high <= height), "damaged WebP: its first frame is larger than its canvas")
        with tf.control_dependencies([whole, inside]):
            picture = tf.strings.substr(contents, p + 24, size - 16)
        # The flag says that there may be alpha; the picture itself says whether there is.
        head = [b"WEBPVP8X\x0a\0\0\0\x10\0\0\0", _bytes(tf.stack([wide, high]) - 1, 3)]
        return _placed(still(tf.strings.join([b"RIFF", _bytes(size + 6, 4), *head, picture])), top, left, height, width)

    return tf.cond((first == extended) & (flags // 2 % 2 == 1), animated, lambda: still(contents))


def over_white(image):
    """Composites uint8 (h, w, 4) over white: round((colour * alpha + 255 * (255 - alpha)) / 255), in integers."""
    import tensorflow as tf

    def composite():
        wide = tf.cast(image, tf.uint16)
        alpha = wide[:, :, 3:]
        value = wide[:, :, :3] * alpha + 255 * (255 - alpha) + 128
        eight = tf.constant(8, tf.uint16)
        return tf.cast(tf.bitwise.right_shift(value + tf.bitwise.right_shift(value, eight), eight), tf.uint8)

    return tf.cond(tf.reduce_all(image[:, :, 3] == 255), lambda: image[:, :, :3], composite)


def turned(contents):
    """`orientation` of any image file: string scalar -> int64 scalar, 1 for what is no JPEG."""
    import tensorflow as tf

    data = padded(contents)
    return tf.cond(tf.reduce_all(data[:3] == [0xFF, 0xD8, 0xFF]), lambda: orientation(data), lambda: tf.constant(1, tf.int64))


def numbers(data, position, *layout, big=False):
    """The unsigned numbers that stand at `position` + offset, for each (offset, size) of `layout`: int64 scalars.

    Reaches at most PADDING bytes; what lies behind the end of the file counts as zeros.
    """
    import numpy as np
    import tensorflow as tf

    weights = np.zeros((len(layout), max(offset + size for offset, size in layout)), np.int64)
    for row, (offset, size) in zip(weights, layout, strict=True):
        powers = [256**i for i in range(size)]
        row[offset : offset + size] = powers[::-1] if big else powers
    block = tf.cast(_slice(data, position, weights.shape[1]), tf.int64)
    return tf.unstack(tf.linalg.matvec(weights, block), num=len(layout))


def separate(function):
    """A function that is called and never inlined into the graph around it.

    Inlined, the ops of the branches that a file does not take are passed through one by one: 1,500 for the
    formats that it is not of, 3 ms an image, several times the decoding of a small JPEG.
    """
    import tensorflow as tf

    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def _end(data):
    import tensorflow as tf

    return tf.size(data, tf.int64) - PADDING


def _slice(data, position, size):
    """`size` bytes from `position`, from the end of the file where that lies behind it."""
    import tensorflow as tf

    if not isinstance(position, int):
        position = tf.minimum(tf.cast(position, tf.int64), _end(data))
    return data[position : position + size]


def _require(condition, text, *values):
    import tensorflow as tf

    return tf.debugging.Assert(condition, [text, *values])


def _checked(contents, height, width):
    """`contents`, to be had only after the header's size was found acceptable."""
    import tensorflow as tf

    # Each side first: the product of two 32-bit sides may not fit.
    sides = (height > 0) & (width > 0) & (height <= MAX_PIXELS) & (width <= MAX_PIXELS)
    text = f"its header must say 1 to {MAX_PIXELS:,} pixels; it says (width, height)"
    with tf.control_dependencies([_require(sides & (height * width <= MAX_PIXELS), text, width, height)]):
        return tf.identity(contents)


def _placed(image, top, left, height, width):
    """A first frame on its canvas, which is white."""
    import tensorflow as tf

    high, wide = tf.unstack(tf.shape(image, tf.int64)[:2])
    return tf.pad(image, [[top, height - top - high], [left, width - left - wide], [0, 0]], constant_values=255)


def _bytes(values, size):
    """int64 numbers as `size` bytes each, the lowest first, as a string tensor."""
    import tensorflow as tf

    return _string(tf.reshape(values[..., None] // tf.constant([256**i for i in range(size)], tf.int64) % 256, (-1,)))


def _string(values):
    """Numbers 0..255 (n,) as a string scalar."""
    import tensorflow as tf

    return tf.strings.reduce_join(tf.gather(tf.constant([bytes([i]) for i in range(256)]), tf.cast(values, tf.int32)))
