"""JPEG inside the graph: pixels, and the orientation that its EXIF segment states."""

import functools

from tlkeras.data.packed import MAX_BLOCKS, PADDING, checked, padded, piece, separate

HEAD = 1 << 18  # bytes in which an EXIF segment must begin; of a large photograph a small part


def head(contents):
    """The beginning of a file as `padded` gives it: what is looked at besides decoding."""
    import tensorflow as tf

    return padded(tf.strings.substr(contents, 0, HEAD))


def begins(data):
    """Whether a file begins like a JPEG, bool scalar."""
    import tensorflow as tf

    return tf.reduce_all(data[:3] == [0xFF, 0xD8, 0xFF])


def decode(contents, data, least: tuple[int, int] | None = None):
    """JPEG, CMYK and YCCK among them (Adobe's inverted inks); upright by its EXIF orientation.

    With `least` (height, width) the pixels come at 1/2, 1/4 or 1/8 of the size where both sides stay at least
    that: the inverse cosine transform gives them so, and leaves out what a resize would throw away.
    """
    import tensorflow as tf

    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(contents, output_type=tf.int64), num=3)
    contents = checked(contents, height, width)

    def at(ratio):
        # The accurate transform costs nothing measurable and gives the very pixels that Pillow gives.
        return tf.io.decode_jpeg(contents, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    if least is None:
        image = at(1)
    else:
        # Whether the sides are to be swapped is not known yet: each must hold the longer of the two.
        enough = tf.constant([max(least) * 2, max(least) * 4, max(least) * 8], tf.int64)
        halvings = tf.reduce_sum(tf.cast(tf.minimum(height, width) >= enough, tf.int32))
        image = tf.switch_case(halvings, [functools.partial(at, ratio) for ratio in (1, 2, 4, 8)])
    # EXIF stands in the segments before the first table, mostly in the first or behind JFIF's. Where neither
    # can be, which is seen at once, the walk is left out.
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
            block = tf.cast(piece(data, position, size), tf.int64)
            return tf.reduce_sum(
                block * tf.where(big, tf.constant(weights[::-1], tf.int64), tf.constant(weights, tf.int64))
            )

        directory = tf.cast(tiff, tf.int64) + ordered(tiff + 4, 4)
        entries = tf.cast(piece(data, directory + 2, 12 * ordered(directory, 2)), tf.int64)
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


def turned(contents):
    """`orientation` of any image file: string scalar -> int64 scalar, 1 for what is no JPEG."""
    import tensorflow as tf

    data = head(contents)
    return tf.cond(begins(data), lambda: orientation(data), lambda: tf.constant(1, tf.int64))
