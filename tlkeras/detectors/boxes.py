"""Boxes: where they can be, how far they overlap, and which of them stay."""

import numpy as np

# Offsets of sizes above this are cut off: exp(10) of a cell is no box in any image, and a step gone wrong must not
# overflow.
MOST_LOG = 10.0


def places(shapes, units, shift: float):
    """The places of levels of `shapes` (height, width): float32 (A, 4), x, y, width, height relative to the image.

    By level, row, column and unit. `units` are (width, height) in cells; `shift` is where in its cell a place lies.
    """
    found = []
    for height, width in shapes:
        y, x, unit = np.meshgrid(np.arange(height), np.arange(width), np.arange(len(units)), indexing="ij")
        wide, high = np.asarray(units, float).T
        rows = [(x + shift) / width, (y + shift) / height, wide[unit] / width, high[unit] / height]
        found.append(np.stack(rows, -1).reshape(-1, 4))
    return np.concatenate(found).astype("float32")


def corners(x):
    """x, y (centre), width, height to x0, y0, x1, y1: (..., 4)."""
    from keras import ops

    half = x[..., 2:] / 2
    return ops.concatenate([x[..., :2] - half, x[..., :2] + half], axis=-1)


def moved(places, offsets):
    """The boxes that offsets make of places, both (..., 4): centre x, centre y, width, height."""
    from keras import ops

    size = places[..., 2:]
    return ops.concatenate(
        [places[..., :2] + offsets[..., :2] * size, ops.exp(ops.minimum(offsets[..., 2:], MOST_LOG)) * size], axis=-1
    )


def decoded(places, offsets):
    """The boxes that offsets make of places: x0, y0, x1, y1, inside the image (0..1)."""
    from keras import ops

    return ops.clip(corners(moved(places, offsets)), 0.0, 1.0)


def scores(kind: str, logits):
    """Logits (..., k) to scores per class in 0..1; yolox multiplies the objectness by that of the class."""
    from keras import ops

    found = ops.sigmoid(logits)
    return found[..., :1] * found[..., 1:] if kind == "yolox" else found


def overlap(a, b):
    """Intersection of boxes (..., 4) that broadcast, and the areas of both: x0, y0, x1, y1 to three tensors (...)."""
    from keras import ops

    def area(box):
        return ops.maximum(box[..., 2] - box[..., 0], 0.0) * ops.maximum(box[..., 3] - box[..., 1], 0.0)

    width = ops.minimum(a[..., 2], b[..., 2]) - ops.maximum(a[..., 0], b[..., 0])
    height = ops.minimum(a[..., 3], b[..., 3]) - ops.maximum(a[..., 1], b[..., 1])
    return ops.maximum(width, 0.0) * ops.maximum(height, 0.0), area(a), area(b)


def iou(a, b):
    """Intersection over union of boxes (..., 4) that broadcast; of two boxes without area 0."""
    from keras import ops

    shared, first, second = overlap(a, b)
    return shared / ops.maximum(first + second - shared, 1e-12)


def best(found, scores, most: int, threshold: float, least_score: float, candidates: int):
    """The best boxes, class by class: (B, A, 4) and scores (B, A, classes) to (B, most, 6), see `finish`.

    Greedy suppression says: a box stays unless a better one of its class that stays overlaps it by more than
    `threshold`. That has one solution, since the best box depends on none, the second on the first alone, and so on.
    It is reached by starting with all boxes and applying the sentence to all at once until nothing changes, in as
    many rounds as the longest chain of boxes that decide on each other, not as there are boxes. TensorFlow's own
    operator takes no batch and no classes. All operators here are builtins of TFLite.
    """
    import tensorflow as tf

    classes = scores.shape[-1]
    # The best pairs of place and class lie in the places with the best scores.
    n = min(candidates, scores.shape[1])
    _, rows = tf.math.top_k(tf.reduce_max(scores, -1), n)
    found, scores = tf.gather(found, rows, batch_dims=1), tf.gather(scores, rows, batch_dims=1)
    k = min(candidates, n * classes)
    values, pairs = tf.math.top_k(tf.reshape(scores, (-1, n * classes)), k)
    found, number = tf.gather(found, pairs // classes, batch_dims=1), tf.cast(pairs % classes, tf.float32)

    # Ranks are counted, not written down: a constant of (k, k) would weigh megabytes in every artefact.
    rank = tf.cumsum(tf.cast(values >= 0, tf.float32), axis=1)
    rivals = tf.logical_and(iou(found[:, :, None], found[:, None]) > threshold, rank[:, :, None] > rank[:, None])
    rivals = tf.logical_and(rivals, tf.abs(number[:, :, None] - number[:, None]) < 0.5)
    rivals = tf.cast(rivals, tf.float32)
    alive = tf.cast(values >= least_score, tf.float32)

    def again(stays, before):
        beaten = tf.matmul(rivals, stays[..., None])[..., 0]
        return alive * tf.cast(beaten < 0.5, tf.float32), stays

    stays, _ = tf.while_loop(lambda now, before: tf.reduce_any(now != before), again, (alive, alive - 1.0))
    order, ranks = tf.math.top_k(stays * values + stays - 1.0, min(most, k))
    there = order[..., None] >= 0
    boxes = tf.where(there, tf.gather(found, ranks, batch_dims=1), -1.0)
    labels = tf.where(there, tf.gather(number, ranks, batch_dims=1)[..., None], -1.0)
    points = tf.where(there, tf.gather(values, ranks, batch_dims=1)[..., None], 0.0)
    answer = tf.concat([boxes, labels, points], -1)
    if k < most:
        missing = tf.constant(np.tile(np.float32([-1, -1, -1, -1, -1, 0]), (1, most - k, 1)))
        answer = tf.concat([answer, tf.tile(missing, [tf.shape(answer)[0], 1, 1])], 1)
    return answer
