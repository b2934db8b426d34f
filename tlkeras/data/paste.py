"""Copy-paste (Ghiasi et al. 2021, arXiv:2012.07177): things cut out of one picture of a batch, along their masks, and put
down on another, where they cover what was there.

Whose pixel it is stands in an owner map, uint8 (h, w): the number of a thing, 0 for the ground, 255 for what nobody knows. The
mask of a segmentation is one, with a number for each class. Of boxes it comes from their polygons or runs: 1 for the
things of the first row, 2 of the second, ...

As the paper found, edges need no blending. Other than there a thing keeps its scale within a factor of two, lies whole
inside the picture, and is mirrored only where `augment.flip` says that pictures may be.
"""

from tlkeras.config import Augmentation
from tlkeras.data import spatial

FURTHEST = 2.0  # factor of scale, to both sides
CHOSEN = 0.5  # of the things in a picture, the part that is taken along


def paste_augmenter(options: Augmentation, kind: str):
    """Returns `f(images, targets, seed) -> images, targets` on a batch, or None where paste is off.

    With the chance `paste` a picture gets things of another one of the batch. Images become float32 (B, h, w, 3). Targets
    of `kind` 'masks' are uint8 (B, h, w); of 'boxes' a pair of boxes (B, M, 5) and owner maps (B, h, w), of which boxes
    (B, 2 * M, 5) come back: a box shrinks to what is still seen of its thing, and goes when that is less than a quarter.
    """
    import tensorflow as tf

    if not options.paste:
        return None

    def augment(images, targets, seed):
        boxes, owners = targets if kind == "boxes" else (None, targets)
        count = tf.shape(images)[0]
        keys = tf.random.split(tf.cast(seed, tf.int64), 3, alg="philox")
        chosen = tf.random.stateless_uniform([count], keys[0]) < options.paste
        # Another picture, never the same one; of a batch of one there is no other.
        step = tf.random.stateless_uniform([count], keys[1], 1, tf.maximum(count, 2), tf.int32)
        others = (tf.range(count) + step) % count
        draws = tf.random.stateless_uniform([count, 4 + 256], keys[2])

        def pasted(k):
            n = others[k]
            cut, matrix, taken = _cut(owners[n], draws[k], options, None if boxes is None else boxes[n])
            image, cut, numbers = _put(images[n], cut, owners[n], matrix)
            image = tf.where(cut[..., None], image, tf.cast(images[k], tf.float32))
            if boxes is None:
                return image, tf.where(cut, numbers, owners[k])
            rows = _seen(boxes[k], owners[k], cut)
            size = tf.shape(image)[:2]
            moved = spatial.move_boxes(tf.where(taken[:, None], tf.cast(boxes[n], tf.float32), -1.0), matrix, size)
            return image, tf.concat([rows, moved], 0)

        def alone(k):
            image = tf.cast(images[k], tf.float32)
            if boxes is None:
                return image, owners[k]
            rows = tf.cast(boxes[k], tf.float32)
            return image, tf.concat([rows, -tf.ones_like(rows)], 0)

        def one(k):
            return tf.cond(chosen[k] & (others[k] != k), lambda: pasted(k), lambda: alone(k))

        if boxes is None:
            second = tf.TensorSpec(owners.shape[1:], tf.uint8)
        else:
            second = tf.TensorSpec((None if boxes.shape[1] is None else 2 * boxes.shape[1], 5), tf.float32)
        signature = (tf.TensorSpec(images.shape[1:], tf.float32), second)
        return tf.map_fn(one, tf.range(count), fn_output_signature=signature, parallel_iterations=4)

    return augment


def _cut(owners, draws, options: Augmentation, boxes):
    """What of a picture is taken along, bool (h, w); the map (3, 3) from places in the result to places in the picture,
    parts of the sides both; and of boxes, which rows are taken."""
    import tensorflow as tf

    numbers = tf.range(256)
    there = tf.math.bincount(tf.cast(tf.reshape(owners, [-1]), tf.int32), minlength=256) > 0
    there &= (numbers > 0) & (numbers < spatial.VOID)
    if boxes is not None:  # crowds stay, and so does what a view has lost
        known = tf.concat([[False], boxes[:254, 4] >= 0], 0)
        there &= tf.pad(known, [[0, 256 - tf.shape(known)[0]]])
    luck = tf.where(there, draws[4:], -1.0)
    taken = there & ((luck < CHOSEN) | (luck >= tf.reduce_max(luck)))
    cut = tf.gather(taken, tf.cast(owners, tf.int32))
    low, high = _around(cut)
    span = tf.maximum(high - low, 1e-6)
    scale = tf.exp((2 * draws[0] - 1) * tf.math.log(FURTHEST))
    scale = tf.minimum(scale, 1 / tf.reduce_max(span))
    place = draws[1:3] * (1 - scale * span)
    mirrored = tf.cast(draws[3] < 0.5, tf.float32) * float(options.flip in ("horizontal", "both"))
    mirrored = tf.stack([mirrored, 0.0])
    # From x in the result to low + (x - place) / scale, mirrored to high - (x - place) / scale.
    sign = 1 - 2 * mirrored
    matrix = spatial.axes_matrix(sign / scale, tf.where(mirrored > 0, high, low) - sign * place / scale)
    if boxes is None:
        return cut, matrix, None
    rows = tf.shape(boxes)[0]
    return cut, matrix, tf.pad(taken[1:255], [[0, tf.maximum(rows - 254, 0)]])[:rows]


def _around(where):
    """The lowest and highest x, y of what is true, as parts of the sides, (2,) each."""
    import tensorflow as tf

    low, high = [], []
    for axis in (0, 1):
        line = tf.cast(tf.reduce_any(where, axis), tf.int32)
        n = tf.shape(line)[0]
        side = tf.cast(n, tf.float32)
        low.append(tf.cast(tf.argmax(line), tf.float32) / side)
        high.append(1 - tf.cast(tf.argmax(line[::-1]), tf.float32) / side)
    return tf.stack(low), tf.stack(high)


def _put(image, cut, owners, matrix):
    """A picture, what is taken of it and its owner map, moved."""
    import tensorflow as tf

    size = tf.shape(image)[:2]
    numbers = spatial.to_pixels(matrix, tf.cast(size, tf.float32), tf.unstack(size))[None]
    moved = spatial.sample(tf.cast(image, tf.float32)[None], numbers, tf.unstack(size), "BILINEAR", 0.0)[0]
    whole = tf.stack([tf.cast(cut, tf.float32), tf.cast(owners, tf.float32)], -1)
    flat = spatial.sample(whole[None], numbers, tf.unstack(size), "NEAREST", 0.0)[0]
    return moved, flat[..., 0] > 0, tf.cast(flat[..., 1], tf.uint8)


def _seen(boxes, owners, cut):
    """Boxes (M, 5) of things of which some pixels are covered now: shrunk to the others, -1 where a quarter is not left."""
    import tensorflow as tf

    boxes = tf.cast(boxes, tf.float32)
    n = tf.shape(boxes)[0] + 1
    size = tf.shape(owners)
    known = tf.reshape(tf.where(owners == spatial.VOID, 0, tf.cast(owners, tf.int32)), [-1])
    left = tf.where(tf.reshape(cut, [-1]), 0, known)
    before, after = (tf.math.unsorted_segment_sum(tf.ones_like(x), x, n)[1:] for x in (known, left))
    rows, columns = tf.meshgrid(tf.range(size[0]), tf.range(size[1]), indexing="ij")
    ends = []
    for place, side in ((columns, size[1]), (rows, size[0])):
        place, side = tf.reshape(tf.cast(place, tf.float32), [-1]), tf.cast(side, tf.float32)
        ends.append(tf.math.unsorted_segment_min(place, left, n)[1:] / side)
        ends.append((tf.math.unsorted_segment_max(place, left, n)[1:] + 1) / side)
    x0, x1, y0, y1 = ends
    inside = tf.stack([x0, y0, x1, y1], 1)
    inside = tf.concat([tf.maximum(inside[:, :2], boxes[:, :2]), tf.minimum(inside[:, 2:], boxes[:, 2:4])], 1)
    shrunk = tf.where((after < before)[:, None], tf.concat([inside, boxes[:, 4:]], 1), boxes)
    kept = tf.cast(after, tf.float32) >= spatial.LEAST * tf.cast(before, tf.float32)
    return tf.where(kept[:, None], shrunk, -1.0)
