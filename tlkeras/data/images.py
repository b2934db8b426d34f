"""Images: bytes to pixels, and pixels to what a backbone reads.

`decode` and `resize` are pure TensorFlow, shared by training, SavedModel, server and command line, and run
outside the model: Keras' own Resizing layer makes an exported model run in training mode. They end in uint8,
so that training, SavedModel and TFLite see the same pixels. `normalise` is the part inside the model.

What decoding leaves out: colour profiles and gamma are ignored, and orientation is read from JPEG alone.
"""

import functools

from tlkeras.backbones import Pixels


def load(contents, pixels: Pixels, size: tuple[int, int] | None = None, jpeg: bool = False):
    """An image file at a backbone's size: scalar string tensor -> uint8 (height, width, 3).

    As `resize(decode(...))`, but fast: a JPEG is decoded at the smallest of its scales (1, 1/2, 1/4, 1/8) that still
    holds the size asked for, and see `fit`. What that does to accuracy: docs/log.md.

    Args:
        jpeg: the file is known to be a JPEG; the graph is smaller then.
    """
    image = decode(contents, enough(pixels, size), jpeg)
    return fit(image, pixels, size, upright_size(contents, image) if pixels.pad else None)


def enough(pixels: Pixels, size: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """The (height, width) that an image may not be smaller than to be brought to a backbone's size; None: its own,
    since 'nearest' takes pixels as they are and wants the true ones."""
    height, width = size or pixels.size
    part = pixels.crop or 1.0
    return None if pixels.interpolation == "nearest" else (int(height / part), int(width / part))


def fit(image, pixels: Pixels, size: tuple[int, int] | None = None, sides=None):
    """`resize`, but what shrinks to no less than half is interpolated without a further filter, which is several times
    as fast: at such factors no pixel is left out."""
    import tensorflow as tf

    height, width = size or pixels.size
    if pixels.interpolation not in (("bilinear", "bicubic") if pixels.crop is None else ("bilinear",)):
        return resize(image, pixels, size, sides)
    with tf.device("CPU:0"):
        given, whole = tf.cast(tf.shape(image)[:2], tf.float64), tf.constant((height, width), tf.float64)
        if pixels.crop is not None:
            given, whole, _ = _centre(image, height, width, pixels.crop)
        elif pixels.pad is not None:
            whole = tf.cast(inner(tf.shape(image)[:2] if sides is None else sides, (height, width)), tf.float64)
        shrinks_little = tf.reduce_all(given <= 2 * whole) & tf.reduce_all(given >= whole)
        return tf.cond(
            shrinks_little,
            lambda: _interpolate(image, height, width, pixels, sides),
            lambda: resize(image, pixels, size, sides),
        )


def _interpolate(image, height, width, pixels, sides=None):
    """`resize` by interpolation alone, for images that do not grow and shrink to no less than half."""
    import tensorflow as tf

    if pixels.pad is not None:
        return _letterboxed(image, height, width, pixels, sides, antialias=False)
    if pixels.crop is None:
        found = tf.image.resize(image, (height, width), method=pixels.interpolation)
    else:
        sides, outer, offset = _centre(image, height, width, pixels.crop)
        # Where the first and the last row and column of the result lie among the image's, as parts of its last one.
        ends = [(i + 0.5) * sides / outer - 0.5 for i in (offset, offset + (height - 1, width - 1))]
        box = tf.cast(tf.concat(ends, 0) / tf.tile(tf.maximum(sides - 1, 1), [2]), tf.float32)
        found = tf.image.crop_and_resize(image[None], box[None], [0], (height, width))[0]
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(found), 0, 255), tf.uint8), (height, width, 3))


def decode(contents, least: tuple[int, int] | None = None, jpeg: bool = False):
    """Decodes an image file: scalar string tensor -> uint8 (height, width, 3), RGB, upright.

    The format is taken from the bytes. Alpha is composited over white, a JPEG's EXIF orientation is applied,
    and of an animation the first frame is used. The same in eager mode, in tf.data and in a SavedModel.

    Args:
        least: (height, width) below which a JPEG may not be scaled down while it is decoded; None: full size.
        jpeg: whether the file is known to be a JPEG; the graph is smaller then.

    Raises:
        tf.errors.InvalidArgumentError: when the bytes are no image of these formats or damaged, or when the
            header says more than 50 megapixels, which is found out before a pixel is decoded.
    """
    return _decoder(least, jpeg)(contents)


@functools.cache
def _decoder(least, known):
    import tensorflow as tf

    from tlkeras.data import formats, jpeg, packed

    # Compiled in eager mode too: walking through the blocks of a file operation by operation would be slow.
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def decode(contents):
        # The decoders have CPU kernels only; without this the arithmetic on headers would go to a GPU and back.
        with tf.device("CPU:0"):
            head = jpeg.head(contents)
            if known:
                return tf.ensure_shape(jpeg.decode(contents, head, least), (None, None, 3))
            image = tf.cond(
                jpeg.begins(head),
                lambda: jpeg.decode(contents, head, least),
                lambda: packed.separate(formats.decode)(contents, packed.padded(contents)),
            )
            return tf.ensure_shape(image, (None, None, 3))

    return decode


def upright_size(contents, image=None):
    """(height, width) of an image file as it is seen: string scalar -> int32 (2,). Of a JPEG its header is read; other
    formats are decoded for it, once more where `image`, what `decode` gave, is not at hand."""
    import tensorflow as tf

    from tlkeras.data import jpeg

    def of_jpeg():
        sides = tf.io.extract_jpeg_shape(contents)[:2]
        return tf.cond(jpeg.turned(contents) >= 5, lambda: tf.reverse(sides, [0]), lambda: sides)

    with tf.device("CPU:0"):
        return tf.cond(
            jpeg.begins(jpeg.head(contents)),
            of_jpeg,
            lambda: tf.shape(decode(contents) if image is None else image)[:2],
        )


def resize(image, pixels: Pixels, size: tuple[int, int] | None = None, sides=None):
    """Brings an image to a backbone's size: uint8 (h, w, 3) -> uint8 (height, width, 3).

    Without `pixels.crop` the whole image is squashed to the size. With it the image is resized until its
    shorter side is int(size / crop), its shape kept, and the centre is cut out. With `pixels.pad` it is
    letterboxed: scaled with its shape kept until it just fits, put top left, and that colour beside it.

    Args:
        pixels: the backbone's contract.
        size: (height, width) instead of `pixels.size`.
        sides: (height, width) of the whole file, where `image` was decoded smaller. None: those of `image`.
    """
    import tensorflow as tf

    height, width = size or pixels.size
    with tf.device("CPU:0"):
        if pixels.pad is not None:
            return _letterboxed(image, height, width, pixels, sides, antialias=True)
        if pixels.crop is None:
            image = tf.image.resize(image, (height, width), method=pixels.interpolation, antialias=True)
        else:
            image = _resize_and_crop(image, height, width, pixels.crop, pixels.interpolation)
        image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        return tf.ensure_shape(image, (height, width, 3))


def inner(sides, size):
    """(height, width) of what an image of `sides` becomes in a letterbox of `size`, int32 (2,): as large as fits, rounded
    down as YOLOX and effdet do. decode_client.inner is the same on numbers."""
    import tensorflow as tf

    sides, size = tf.cast(sides, tf.float64), tf.cast(tf.stack(size), tf.float64)
    # The epsilon keeps 256.0 from becoming 255 by the rounding of a quotient.
    return tf.cast(tf.maximum(tf.floor(sides * tf.reduce_min(size / sides) + 1e-6), 1), tf.int32)


def _letterboxed(image, height, width, pixels, sides, antialias: bool):
    import tensorflow as tf

    small = inner(tf.shape(image)[:2] if sides is None else sides, (height, width))
    image = tf.cast(tf.image.resize(image, small, method=pixels.interpolation, antialias=antialias), tf.float32)
    image = tf.clip_by_value(tf.round(image), 0, 255) - pixels.pad
    image = tf.pad(image, [[0, height - small[0]], [0, width - small[1]], [0, 0]]) + pixels.pad
    return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), (height, width, 3))


def letterboxed_mask(mask, size: tuple[int, int], void: int):
    """An index mask, uint8 (h, w), as its letterboxed picture of `size` shows it; what lies beside it is `void`."""
    import tensorflow as tf

    small = inner(tf.shape(mask), size)
    found = tf.image.resize(mask[..., None], small, method="nearest")[..., 0]
    return tf.pad(
        found, [[0, size[0] - small[0]], [0, size[1] - small[1]]], constant_values=tf.constant(void, tf.uint8)
    )


def _resize_and_crop(image, height, width, crop, interpolation):
    """Computes the centre alone: resizing 1 x 100,000 pixels to a shorter side of 256 first would take 79 GB."""
    import tensorflow as tf

    sides, outer, offset = _centre(image, height, width, crop)
    kernels = {"bilinear": "triangle", "bicubic": "keyscubic", "lanczos3": "lanczos3"}
    if interpolation in kernels:
        return tf.raw_ops.ScaleAndTranslate(
            images=image[None],
            size=(height, width),
            scale=tf.cast(outer / sides, tf.float32),
            translation=tf.cast(-offset, tf.float32),
            kernel_type=kernels[interpolation],
            antialias=True,
        )[0]
    # 'nearest' and 'area' have no such op: cut the pixels under the centre out first.
    start = tf.cast(tf.floor(offset * sides / outer), tf.int32)
    stop = tf.cast(tf.math.ceil((offset + (height, width)) * sides / outer), tf.int32)
    return tf.image.resize(image[start[0] : stop[0], start[1] : stop[1]], (height, width), method=interpolation)


def _centre(image, height, width, crop):
    """(sides of the image, sides of the resized whole, first row and column of its centre), float64 pairs."""
    import tensorflow as tf

    sides = tf.cast(tf.shape(image)[:2], tf.float64)
    factor = tf.reduce_max(tf.constant((int(height / crop), int(width / crop)), tf.float64) / sides)
    # The epsilon keeps 256.0 from becoming 255 by the rounding of a quotient.
    outer = tf.maximum(tf.floor(sides * factor + 1e-6), tf.constant((height, width), tf.float64))
    return sides, outer, (outer - (height, width)) // 2


def normalise(x, pixels: Pixels):
    """Applies a backbone's `x * scale + offset` inside a model: KerasTensor (B, h, w, 3) of 0..255 -> float32.

    BGR first where the contract says so. float32 whatever the precision policy: 8 bits of bfloat16 hold no
    pixel. Returns `x` itself where the contract asks for nothing.
    """
    import keras

    if pixels.channels == "bgr":
        # Not a flip: the converter of TensorFlow 2.21 gives a reversed tensor that is added to another scale than
        # its input, and an int8 artefact is off by up to 89 levels.
        x = keras.ops.take(x, [2, 1, 0], axis=-1)
    if set(pixels.scale) == {1.0} and set(pixels.offset) == {0.0}:
        return x
    scale, offset = (v[0] if len(set(v)) == 1 else list(v) for v in (pixels.scale, pixels.offset))
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="normalise")(x)


def fingerprint(contents):
    """FarmHash64 of a file modulo 2**63 - 1: string tensor -> int64, the same on every machine.

    Cheap enough to be computed again with every read, so that a file that changed since the scan is noticed.
    """
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(contents, 2**63 - 1)
