"""What an anchor should have said, and how far it is from that: the losses of retinanet and efficientdet."""

from tlkeras.detectors import boxes


def assigned(y, anchors, positive: float, negative: float):
    """Which box each anchor answers for: int32 (B, A) rows of `y`, and two masks (B, A): taken, and left out.

    `y` is (B, M, 5) as in `detectors.loss`, `anchors` (B, A, 4) as centre and size. An anchor takes the box it
    overlaps most if that is by `positive` or more; the best anchor of each box takes it in any case. Left out of the
    loss are those between `negative` and `positive`, and those that lie on a crowd with more than half their area.
    """
    import tensorflow as tf

    # Image by image: boxes by anchors of a whole batch would take gigabytes (16 images, 100 boxes, 49,104 anchors: 300
    # MB for each of a dozen matrices).
    return tf.map_fn(
        lambda image: _assigned(*image, positive, negative),
        (y, tf.stop_gradient(anchors)),
        fn_output_signature=(tf.int32, tf.bool, tf.bool),
        parallel_iterations=1,
    )


def _assigned(y, anchors, positive: float, negative: float):
    """The same for one image: (M, 5) and (A, 4) to three of (A,)."""
    from keras import ops

    anchors = ops.expand_dims(boxes.corners(anchors), 0)
    rows, labels = ops.expand_dims(y[:, :4], 1), ops.expand_dims(y[:, 4], 1)
    shared, area, own = boxes.overlap(rows, anchors)
    ious = ops.where(labels >= 0, shared / ops.maximum(area + own - shared, 1e-12), -1.0)
    most, best = ops.max(ious, axis=0), ops.argmax(ious, axis=0)
    # Two boxes may have the same best anchor: it takes the one it overlaps more.
    first = ops.expand_dims(ops.argmax(ious, axis=1), 1) == ops.arange(ops.shape(ious)[1], dtype="int32")
    claims = ops.where(ops.logical_and(first, ious > 0), ious, -1.0)
    claimed = ops.max(claims, axis=0) > 0
    best = ops.where(claimed, ops.argmax(claims, axis=0), best)
    taken = ops.logical_or(most >= positive, claimed)
    crowded = ops.any(ops.logical_and(labels <= -2, shared > 0.5 * own), axis=0)
    unclear = ops.logical_or(most >= negative, crowded)
    return best, taken, ops.logical_and(unclear, ops.logical_not(taken))


def offsets(places, box):
    """What `boxes.moved` would need to make `box` (x0, y0, x1, y1) of places: both (..., 4)."""
    from keras import ops

    size = ops.maximum(box[..., 2:] - box[..., :2], 1e-6)
    middle = (box[..., :2] + box[..., 2:]) / 2
    unit = places[..., 2:]
    return ops.concatenate([(middle - places[..., :2]) / unit, ops.log(size / unit)], axis=-1)


def crossentropy(targets, logits):
    """Of sigmoids, element by element, from logits."""
    from keras import ops

    return ops.maximum(logits, 0.0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))


def focal(targets, logits, alpha: float, gamma: float):
    """Focal loss of 0/1 targets, element by element (arXiv:1708.02002, equation 5)."""
    from keras import ops

    chance = ops.sigmoid(logits)
    wrong = targets * (1 - chance) + (1 - targets) * chance
    weight = targets * alpha + (1 - targets) * (1 - alpha)
    return weight * ops.power(wrong, gamma) * crossentropy(targets, logits)


def huber(error, delta: float):
    from keras import ops

    size = ops.abs(error)
    square = ops.minimum(size, delta)
    return 0.5 * ops.square(square) + delta * (size - square)


def of_anchors(y, raw, positive, negative, alpha, gamma, delta, box_weight):
    """The focal loss of the classes and the weighted Huber loss of the offsets, summed, and how many anchors are taken:
    both (B,)."""
    from keras import ops

    places, logits = raw[..., :4], raw[..., 8:]
    best, taken, left_out = assigned(y, places, positive, negative)
    rows = ops.take_along_axis(y, ops.expand_dims(best, -1), axis=1)
    is_taken = ops.expand_dims(ops.cast(taken, "float32"), -1)
    targets = ops.one_hot(ops.cast(rows[..., 4], "int32"), logits.shape[-1]) * is_taken
    counts = ops.expand_dims(ops.cast(ops.logical_not(left_out), "float32"), -1)
    of_classes = ops.sum(focal(targets, logits, alpha, gamma) * counts, axis=(1, 2))
    error = ops.where(is_taken > 0, raw[..., 4:8] - offsets(places, rows[..., :4]), 0.0)
    of_boxes = ops.sum(huber(error, delta), axis=(1, 2))
    return of_classes + box_weight * of_boxes, ops.sum(is_taken, axis=(1, 2))
