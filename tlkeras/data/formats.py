"""PNG, GIF, BMP and WebP inside the graph: bytes to RGB. (JPEG has a module of its own.)

TensorFlow's decoders are used for the pixels, never for the file as it came: each function reads the header
first, refuses what is too large before anything is allocated, and hands the decoder one still picture.
That is a matter of safety too: TensorFlow 2.21 writes behind its buffer when it decodes an animated WebP
without alpha, gives PNG of fewer than 8 bits an alpha of 1 instead of 255, unpacks every frame of a GIF to
return the first, and reads BMP palettes as grey.

Every reader takes `contents` (scalar string tensor) and `data` (its bytes as `padded` gives them) and returns
uint8 (height, width, 3). Only ops of TensorFlow's core are used.
"""

import functools

from tlkeras.data.packed import (
    MAX_BLOCKS,
    checked,
    length,
    numbers,
    piece,
    require,
    separate,
    string_of_bytes,
    string_of_numbers,
)

# Steps from sub-block to sub-block of a GIF; those of full size are passed over at once and do not count. A picture
# written in smaller ones, and an extension that holds XMP, need some; a file made of empty ones would need millions.
MAX_FRAME_BLOCKS = 200_000
MAX_EXTENSION_BLOCKS = 5_000
MAX_EXTENSIONS = 50


def decode(contents, data):
    """PNG, GIF, BMP or WebP, by the first bytes; refuses what is none of these."""
    import tensorflow as tf

    def starts(text, position=0):
        return tf.reduce_all(data[position : position + len(text)] == list(text))

    def unknown():
        with tf.control_dependencies([require(False, "not a JPEG, PNG, GIF, BMP or WebP image")]):
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
    contents = checked(contents, height, width)
    trns, idat = (int.from_bytes(name, "big") for name in (b"tRNS", b"IDAT"))
    end = length(data)

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

    end = length(data)
    width, height, flags = numbers(data, 6, (0, 2), (2, 2), (4, 1))
    contents = checked(contents, height, width)

    def colours(flags):
        return tf.where(flags >= 0x80, tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)

    # Extensions come first; the graphic control (0xF9) says which colour is transparent.
    def block(p, control):
        return (p, control, *numbers(data, p, (0, 1), (1, 1)))

    p, control, kind, _ = tf.while_loop(
        lambda p, control, kind, label: (kind == 0x21) & (p < end),
        lambda p, control, kind, label: block(
            _behind_blocks(data, p + 2, MAX_EXTENSION_BLOCKS), tf.where(label == 0xF9, p, control)
        ),
        block(13 + 3 * colours(flags), tf.constant(-1, tf.int64)),
        maximum_iterations=MAX_EXTENSIONS,
    )
    left, top, wide, high, more = numbers(data, p, (1, 2), (3, 2), (5, 2), (7, 2), (9, 1))
    pixels = p + 10 + 3 * colours(more)
    size = tf.maximum(colours(more), tf.where(more < 0x80, colours(flags), 0))
    table = piece(data, tf.where(more >= 0x80, p + 10, tf.constant(13, tf.int64)), 3 * size)
    checks = [
        require((kind == 0x2C) & (p < end), "truncated GIF: it has no frame"),
        require(
            (left + wide <= width) & (top + high <= height), "damaged GIF: its first frame is larger than its canvas"
        ),
        require(size > 0, "damaged GIF: it has no colours"),
    ]
    with tf.control_dependencies(checks):
        frame = tf.strings.substr(contents, pixels, _behind_blocks(data, pixels + 1, MAX_FRAME_BLOCKS) - pixels)
    table = tf.pad(table, [[0, 768 - tf.size(table)]], constant_values=255)
    mask, index = numbers(data, tf.maximum(control, 0), (3, 1), (6, 1))
    transparent = tf.where((control >= 0) & (mask % 2 == 1), index, -1)
    table = tf.where(tf.range(768, dtype=tf.int64) // 3 == transparent, tf.constant(255, tf.uint8), table)
    sides = string_of_numbers(tf.stack([wide, high]), 2)
    still = [
        b"GIF89a",
        sides,
        b"\xf7\0\0",
        string_of_bytes(table),
        b"\x2c\0\0\0\0",
        sides,
        string_of_numbers(more // 64 % 2 * 64, 1),
        frame,
        b"\x3b",
    ]
    return placed(tf.io.decode_gif(tf.strings.join(still))[0], top, left, height, width)


def _behind_blocks(data, p, limit):
    """From the first of a GIF's sub-blocks to behind the empty one that ends them."""
    import tensorflow as tf

    end = length(data)
    # Pixels come in blocks of 255 bytes; these are passed over at once.
    full = data[tf.minimum(p, end) :: 256] == 255
    p += 256 * tf.argmin(tf.concat([full, [False]], 0), output_type=tf.int64)

    def at(p):
        p = tf.minimum(p, end)
        return p, tf.cast(data[p], tf.int64)

    p, size = tf.while_loop(
        lambda p, size: (size > 0) & (p < end),
        lambda p, size: at(p + 1 + size),
        at(p),
        maximum_iterations=limit,
    )
    with tf.control_dependencies([require((p < end) & (size == 0), "truncated GIF: its first frame does not end")]):
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
    read = (header >= 40) & (plain | ((packing == 3) & (bits == 32) & masks))
    # One check behind the other, so that a file has one complaint whatever runs first.
    with tf.control_dependencies([require(read, "BMP of a kind that is not read (compressed, 16 bit or OS/2)")]):
        contents = checked(contents, height, width)
    with tf.control_dependencies([contents]):
        whole = require(start + stride * height <= length(data), "truncated BMP")
    with tf.control_dependencies([whole]):
        rows = tf.reshape(data[start : start + stride * height], (height, stride))
    rows = tf.cond(bottom_up, lambda: tf.reverse(rows, [0]), lambda: rows)

    def indexed():
        per_byte = 8 // bits
        shifts = tf.cast(tf.range(per_byte - 1, -1, -1) * bits, tf.uint8)
        mask = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
        indices = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[:, :, None], shifts), mask)
        indices = tf.reshape(indices, (height, stride * per_byte))[:, :width]
        table = piece(data, 14 + header, 4 * tf.clip_by_value((start - 14 - header) // 4, 0, 256))
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
    with tf.control_dependencies([require(tf.reduce_any(kinds), "damaged WebP: it does not begin with a picture")]):
        contents = checked(contents, height, width)
    end = length(data)

    def still(contents):
        # Three channels or four as the file has them: the decoder refuses any other number.
        image = tf.raw_ops.DecodeWebP(contents=contents, channels=0)[0]
        return tf.cond(
            tf.shape(image)[2] == 4, lambda: over_white(image), lambda: tf.ensure_shape(image, (None, None, 3))
        )

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
        whole = require((p + 8 + size <= end) & (size > 16), "truncated WebP: its first frame does not end")
        inside = require(
            (left + wide <= width) & (top + high <= height), "damaged WebP: its first frame is larger than its canvas"
        )
        with tf.control_dependencies([whole, inside]):
            picture = tf.strings.substr(contents, p + 24, size - 16)
        # The flag says that there may be alpha; the picture itself says whether there is.
        head = [b"WEBPVP8X\x0a\0\0\0\x10\0\0\0", string_of_numbers(tf.stack([wide, high]) - 1, 3)]
        return placed(
            still(tf.strings.join([b"RIFF", string_of_numbers(size + 6, 4), *head, picture])), top, left, height, width
        )

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


def placed(image, top, left, height, width):
    """A first frame on its canvas, which is white."""
    import tensorflow as tf

    high, wide = tf.unstack(tf.shape(image, tf.int64)[:2])
    return tf.pad(image, [[top, height - top - high], [left, width - left - wide], [0, 0]], constant_values=255)
