"""Numbers packed in the bytes of a file, read inside the graph.

Several numbers are taken from one slice, because at this size the number of ops is the cost.
"""

import functools

MAX_PIXELS = 50_000_000
PADDING = 64  # zero bytes behind the file, so that a header cut short reads as zeros

# A file is walked block by block to find the first frame, the transparency or the orientation. Real files
# need a handful of steps for headers; a file made of empty blocks would need millions.
MAX_BLOCKS = 1_000


def padded(contents):
    """The bytes of a file as the readers want them: string scalar -> uint8 (size + PADDING,)."""
    import tensorflow as tf

    return tf.io.decode_raw(tf.strings.join([contents, bytes(PADDING)]), tf.uint8)


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
    block = tf.cast(piece(data, position, weights.shape[1]), tf.int64)
    return tf.unstack(tf.linalg.matvec(weights, block), num=len(layout))


@functools.cache
def separate(function):
    """A function that is called and never inlined into the graph around it.

    Inlined, the ops of the branches that a file does not take are passed through one by one: 1,500 of them for
    the formats that it is not of, which costs a small JPEG as much as its decoding. One of each, so that several
    graphs trace it once.
    """
    import tensorflow as tf

    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def length(data):
    """The size of the file, int64."""
    import tensorflow as tf

    return tf.size(data, tf.int64) - PADDING


def piece(data, position, size):
    """`size` bytes from `position`, from the end of the file where that lies behind it."""
    import tensorflow as tf

    if not isinstance(position, int):
        position = tf.minimum(tf.cast(position, tf.int64), length(data))
    return data[position : position + size]


def require(condition, text, *values):
    """An op that fails with InvalidArgumentError, the text and the values, unless the condition holds."""
    import tensorflow as tf

    return tf.debugging.Assert(condition, [text, *values])


def checked(contents, height, width):
    """`contents`, to be had only after the header's size was found acceptable."""
    import tensorflow as tf

    # Each side first: the product of two 32-bit sides may not fit.
    sides = (height > 0) & (width > 0) & (height <= MAX_PIXELS) & (width <= MAX_PIXELS)
    text = f"its header must say 1 to {MAX_PIXELS:,} pixels; it says (width, height)"
    with tf.control_dependencies([require(sides & (height * width <= MAX_PIXELS), text, width, height)]):
        return tf.identity(contents)


def string_of_numbers(values, size):
    """int64 numbers as `size` bytes each, the lowest first, as a string tensor."""
    import tensorflow as tf

    return string_of_bytes(
        tf.reshape(values[..., None] // tf.constant([256**i for i in range(size)], tf.int64) % 256, (-1,))
    )


def string_of_bytes(values):
    """Numbers 0..255 (n,) as a string scalar."""
    import tensorflow as tf

    return tf.strings.reduce_join(tf.gather(tf.constant([bytes([i]) for i in range(256)]), tf.cast(values, tf.int32)))
