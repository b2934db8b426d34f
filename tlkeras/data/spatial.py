"""Augmentation that moves pictures together with their boxes or masks; pure TensorFlow, the same eager and in tf.data.

One view is one affine map, drawn from (seed, sample, view) as in augment.py: pixels are sampled once, corners of boxes
go the same way, and numbers of a mask are taken from the nearest pixel.

Boxes are float32 (M, 5), a row each: x0, y0, x1, y1 as parts of the sides, and the class. Crowds have the class -2 or
less and are moved too; rows of padding are -1 throughout, and so becomes what a view has lost. Rows keep their places.
Masks are uint8 (h, w), 255 outside the picture.
"""

from tlkeras.config import Augmentation
from tlkeras.data.augment import sample_augmenter
from tlkeras.errors import ConfigError

FILL = 114.0  # grey outside the picture, as detectors pad (YOLOX)
VOID = 255
LEAST = 0.25  # part of a box that must stay in view
MOST_BOXES = 200  # of one picture made by mosaic
QUADRANTS = ((0, 0), (1, 0), (0, 1), (1, 1))  # whether on the right, whether below


def unsuited(options: Augmentation, kind: str | None) -> dict[str, str]:
    """Options that do not suit `kind`, 'boxes' or 'masks', each with the reason; None: pictures with neither."""
    if kind is None:
        named = [name for name in ("mosaic", "paste") if getattr(options, name)]
        return dict.fromkeys(named, "is for boxes and masks; take it out.")
    others = "flip, rotate, crop, brightness, contrast, erase, mosaic and paste"
    wrong = [name for name in ("rand_augment", "mixup", "cutmix") if getattr(options, name)]
    return dict.fromkeys(wrong, f"does not keep {kind} with their picture; {others} do.")


def spatial_augmenter(options: Augmentation, size: tuple[int, int], kind: str):
    """Returns `f(image, target, seed) -> (image, target)` for `kind` 'boxes' or 'masks'.

    The image, uint8 or float (h, w, 3) in 0..255 of any size, becomes float32 of `size`, clipped to 0..255. A mask has
    the sides of its image and comes out in `size`. `seed` is an int tensor of shape (2,). `crop` scales by up to 1 /
    crop to both sides and moves the picture, so part of it is cut off or grey surrounds it. Of a box less than a quarter
    of which stays in view, or less than one pixel, nothing is kept.

    Raises:
        ConfigError: for options that cannot carry boxes or masks.
    """
    import keras
    import tensorflow as tf

    if wrong := unsuited(options, kind):
        raise ConfigError(*(f"augment.{name} {why}" for name, why in wrong.items()))
    colours = sample_augmenter(options.model_copy(update={"flip": None, "rotate": 0.0, "crop": 1.0}), size)

    def augment(image, target, seed):
        image = keras.ops.cast(image, "float32")
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        matrix = _drawn(options, sides, seed)
        image = sample(image[None], to_pixels(matrix, sides, size)[None], size, "BILINEAR", FILL)[0]
        if kind == "masks":
            target = tf.cast(target, tf.float32)[None, ..., None]
            target = sample(target, to_pixels(matrix, sides, size)[None], size, "NEAREST", float(VOID))
            target = tf.cast(target[0, ..., 0], tf.uint8)
        else:
            target = move_boxes(target, matrix, size, turned=options.rotate > 0)
        return colours(image, seed), target

    return augment


def mosaic_augmenter(options: Augmentation, kind: str):
    """Returns `f(images, targets, seed) -> images, targets` on a batch, or None where mosaic is off.

    With the chance `mosaic` a picture becomes four of the batch, itself and three drawn ones, in quadrants around a
    random centre: each is scaled to cover its quadrant and cut off there. Images are float32 (B, h, w, 3), masks uint8
    (B, h, w). Boxes (B, M, 5) become (B, min(4 * M, 200), 5), those that are there in front of the padding.
    """
    import tensorflow as tf

    if not options.mosaic:
        return None

    def augment(images, targets, seed):
        count, height, width = (tf.shape(images)[n] for n in range(3))
        keys = tf.random.split(tf.cast(seed, tf.int64), 3, alg="philox")
        chosen = tf.random.stateless_uniform([count], keys[0]) < options.mosaic
        others = tf.random.stateless_uniform([count, 3], keys[1], 0, count, tf.int32)
        members = tf.concat([tf.range(count)[:, None], others], 1)
        # The centre lies between two pixels, so that no pixel belongs to two quadrants.
        sides = tf.stack([width, height])
        part = tf.random.stateless_uniform([count, 2], keys[2], 0.3, 0.7)
        centre = tf.cast(tf.round(part * tf.cast(sides, tf.float32)), tf.int32)

        def joined(k):
            quadrants = [
                _corner(images[members[k, n]], targets[members[k, n]], right, lower, centre[k], sides, kind)
                for n, (right, lower) in enumerate(QUADRANTS)
            ]
            rows = [[tf.concat([a, b], 1) for a, b in zip(*quadrants[n : n + 2], strict=True)] for n in (0, 2)]
            return tuple(tf.concat([a, b], 0) for a, b in zip(*rows, strict=True))

        def alone(k):
            return (tf.cast(images[k], tf.float32), *([targets[k]] * (kind == "masks")))

        def one(k):
            return tf.cond(chosen[k], lambda: joined(k), lambda: alone(k))

        kinds = (tf.TensorSpec(images.shape[1:], tf.float32), tf.TensorSpec(images.shape[1:3], tf.uint8))
        signature = kinds[: 2 if kind == "masks" else 1]
        made = tf.map_fn(one, tf.range(count), fn_output_signature=signature, parallel_iterations=4)
        return made if kind == "masks" else (made[0], _joined_boxes(targets, members, chosen, centre, sides))

    return augment


def _corner(image, target, right: int, lower: int, centre, sides, kind: str):
    """What a quadrant around a centre (x, y) shows of a picture that is scaled to cover it, and of its mask, if any:
    the corner that touches the centre."""
    import tensorflow as tf

    size = tf.abs(sides * tf.constant([right, lower]) - centre)
    scale = tf.reduce_max(tf.cast(size / sides, tf.float32))
    shift = tf.cast(size, tf.float32) - scale * tf.cast(sides, tf.float32)
    shift *= tf.constant([1.0 - right, 1.0 - lower])
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size[::-1],
        scale=tf.stack([scale, scale]),
        translation=shift[::-1],
        kernel_type="triangle",
        antialias=True,
    )[0]
    if kind == "boxes":
        return (pixels,)
    for axis, n in ((0, 1), (1, 0)):
        places = (tf.range(size[n], dtype=tf.float32) + 0.5 - shift[n]) / scale
        target = tf.gather(target, tf.clip_by_value(tf.cast(tf.floor(places), tf.int32), 0, sides[n] - 1), axis=axis)
    return pixels, tf.cast(target, tf.uint8)


def _joined_boxes(boxes, members, chosen, centre, sides):
    """The boxes of the pictures that a batch of mosaics shows, those that are there in front of the padding."""
    import tensorflow as tf

    size = tf.cast(sides, tf.float32)
    centre, rows = tf.cast(centre, tf.float32) / size, []
    for n, (right, lower) in enumerate(QUADRANTS):
        corner = tf.constant([right, lower], tf.float32)
        scale = tf.reduce_max(tf.abs(corner - centre), 1, keepdims=True)
        matrix = axes_matrix(1 / scale * tf.ones([1, 2]), (1 - corner) - centre / scale)
        frame = tf.concat([corner * centre, tf.where(corner > 0, 1.0, centre)], 1)
        moved = move_boxes(tf.gather(boxes, members[:, n]), matrix, size[::-1], frame)
        rows.append(tf.where(chosen[:, None, None], moved, tf.cast(boxes, tf.float32) if n == 0 else -1.0))
    joined = tf.concat(rows, 1)
    first = tf.argsort(tf.cast(joined[..., 4] == -1, tf.int32), axis=1, stable=True)
    return tf.gather(joined, first, batch_dims=1)[:, :MOST_BOXES]


def _drawn(options: Augmentation, sides, seed):
    """The affine map of one view, (3, 3), from places in the result to places in the picture, both as parts of sides."""
    import tensorflow as tf

    draws = tf.unstack(tf.random.stateless_uniform([6], tf.cast(seed, tf.int64)), num=6)
    matrix = tf.eye(3)
    if options.flip:
        mirrored = [
            float(options.flip in (name, "both")) * tf.cast(draw < 0.5, tf.float32)
            for name, draw in zip(("horizontal", "vertical"), draws[:2], strict=True)
        ]
        mirrored = tf.stack(mirrored)
        matrix = axes_matrix(1 - 2 * mirrored, mirrored)
    if options.crop < 1:
        # As often larger as smaller by the same factor.
        part = tf.exp((2 * draws[2] - 1) * -tf.math.log(options.crop))
        matrix = axes_matrix(tf.stack([part, part]), tf.stack(draws[3:5]) * (1 - part)) @ matrix
    if options.rotate:
        angle = (2 * draws[5] - 1) * (options.rotate * 3.141592653589793 / 180)
        cosine, sine, ratio = tf.cos(angle), tf.sin(angle), sides[0] / sides[1]
        turn = tf.stack([tf.stack([cosine, -sine * ratio]), tf.stack([sine / ratio, cosine])])
        matrix = _affine(turn, 0.5 - tf.linalg.matvec(turn, [0.5, 0.5])) @ matrix
    return matrix


def axes_matrix(scale, shift):
    """(..., 3, 3) of a scale and a shift along x and y, (..., 2) each."""
    import tensorflow as tf

    return _affine(tf.linalg.diag(scale), shift)


def _affine(linear, shift):
    import tensorflow as tf

    top = tf.concat([linear, shift[..., None]], -1)
    return tf.concat([top, tf.broadcast_to(tf.constant([0.0, 0.0, 1.0]), tf.shape(top[..., :1, :]))], -2)


def to_pixels(matrix, sides, size):
    """A map (..., 3, 3) between parts of sides as the eight numbers (..., 8) by which TensorFlow samples: from the
    column and row of a pixel of the result to those in the picture, which lie half a pixel off its places."""
    import tensorflow as tf

    width, height = tf.cast(size[1], tf.float32), tf.cast(size[0], tf.float32)
    picture, result = tf.stack([sides[1], sides[0]]), tf.stack([width, height])
    linear = matrix[..., :2, :2] * picture[:, None] / result
    shift = matrix[..., :2, 2] * picture + tf.linalg.matvec(linear, [0.5, 0.5]) - 0.5
    rows = tf.concat([linear, shift[..., None]], -1)
    flat = tf.reshape(rows, tf.concat([tf.shape(rows)[:-2], [6]], 0))
    return tf.concat([flat, tf.zeros_like(flat[..., :2])], -1)


def sample(images, transforms, size, interpolation: str, fill: float):
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=transforms,
            output_shape=tf.stack([tf.cast(s, tf.int32) for s in size]),
            fill_value=fill,
            interpolation=interpolation,
            fill_mode="CONSTANT",
        )


def move_boxes(boxes, matrix, size, frame=(0.0, 0.0, 1.0, 1.0), turned: bool = False):
    """Boxes (..., M, 5) carried from the picture into the result, cut off at a frame (..., 4) of it; -1 where too little
    is left. `matrix` (..., 3, 3) maps the result to the picture; `turned` says that it does not keep upright what is."""
    import tensorflow as tf

    boxes = tf.cast(boxes, tf.float32)
    numbers, frame = boxes[..., 4], tf.convert_to_tensor(frame)[..., None, :]
    corners = _mapped(tf.linalg.inv(matrix), _corners(boxes))
    low, high = tf.reduce_min(corners, -2), tf.reduce_max(corners, -2)
    if turned:
        cut_low, cut_high = _in_view(corners, boxes, matrix, frame)
    else:
        cut_low, cut_high = tf.maximum(low, frame[..., :2]), tf.minimum(high, frame[..., 2:])
    left = tf.reduce_prod(tf.maximum(cut_high - cut_low, 0.0), -1)
    pixel = 1 / tf.stack([tf.cast(size[1], tf.float32), tf.cast(size[0], tf.float32)])
    kept = (
        (numbers != -1)
        & (left >= LEAST * tf.reduce_prod(high - low, -1))
        & tf.reduce_all(cut_high - cut_low >= pixel - 1e-5, -1)
    )
    return tf.where(kept[..., None], tf.concat([cut_low, cut_high, numbers[..., None]], -1), -1.0)


def _corners(boxes):
    """The corners (..., 4, 2) of x0, y0, x1, y1, in turn around the box."""
    import tensorflow as tf

    x0, y0, x1, y1 = (boxes[..., n] for n in range(4))
    return tf.stack([tf.stack([x0, x1, x1, x0], -1), tf.stack([y0, y0, y1, y1], -1)], -1)


def _mapped(matrix, points):
    """Points (..., M, n, 2) under a map (..., 3, 3)."""
    import tensorflow as tf

    return tf.linalg.matvec(matrix[..., None, None, :2, :2], points) + matrix[..., None, None, :2, 2]


def _in_view(corners, boxes, matrix, frame):
    """The lowest and highest x, y of what is seen in a frame (..., 1, 4) of the boxes that were turned to `corners`
    (..., M, 4, 2): of their sides, as far as these lie in the frame, and of the frame's corners that lie in the box."""
    import tensorflow as tf

    step = tf.roll(corners, -1, -2) - corners
    step = tf.where(tf.abs(step) < 1e-9, 1e-9, step)
    first, last = ((frame[..., None, n : n + 2] - corners) / step for n in (0, 2))
    enters = tf.maximum(tf.reduce_max(tf.minimum(first, last), -1), 0.0)
    leaves = tf.minimum(tf.reduce_min(tf.maximum(first, last), -1), 1.0)
    around = tf.broadcast_to(_corners(frame), tf.shape(corners))
    back = _mapped(matrix, around)
    covered = tf.reduce_all((back >= boxes[..., None, :2]) & (back <= boxes[..., None, 2:4]), -1)
    points = tf.concat([corners + enters[..., None] * step, corners + leaves[..., None] * step, around], -2)
    seen = tf.concat([enters <= leaves, enters <= leaves, covered], -1)[..., None]
    return tf.reduce_min(tf.where(seen, points, 9.0), -2), tf.reduce_max(tf.where(seen, points, -9.0), -2)
