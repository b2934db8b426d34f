"""SimOTA: each box chooses its cells by what they predict, and the loss that follows (arXiv:2107.08430, section 2.3).

A cell can answer for a box when their centres are within `radius` cells. Answering costs what the classes are wrong
by and 3 times minus the logarithm of the IoU. A box takes its cheapest cells, as many as the sum of its ten best IoUs
says, one at least; a cell that several boxes take goes to the one it is cheapest for.
"""

from tlkeras.detectors import boxes
from tlkeras.detectors.losses import crossentropy

MOST_CELLS = 10
LEAST_LOG = -100.0  # As PyTorch cuts logarithms off in its cross entropy.
NEVER = 1e9


def loss(y, raw, radius: float, box_weight: float):
    """(B,): box_weight * (1 - IoU squared) and the cross entropies of objectness and classes, by the mean number of cells
    that answer for a box."""
    from keras import ops

    cells, logits = raw[..., :4], raw[..., 8:]
    found = boxes.corners(boxes.moved(cells, raw[..., 4:8]))
    chosen, quality = assigned(y, cells, found, logits, radius)
    chosen, quality = ops.stop_gradient(chosen), ops.stop_gradient(quality)
    answers = ops.max(chosen, axis=1)
    rows = ops.take_along_axis(y, ops.expand_dims(ops.argmax(chosen, axis=1), -1), axis=1)
    # 1 - IoU squared of cells that answer for nothing is multiplied by 0; their IoU has a gradient that is finite.
    of_boxes = (1 - ops.square(boxes.iou(found, rows[..., :4]))) * answers
    targets = ops.one_hot(ops.cast(rows[..., 4], "int32"), logits.shape[-1] - 1) * ops.expand_dims(quality, -1)
    of_classes = ops.sum(crossentropy(targets, logits[..., 1:]), -1) * answers
    of_objects = crossentropy(answers, logits[..., 0]) * (1 - crowded(y, cells) * (1 - answers))
    total = ops.sum(box_weight * of_boxes + of_classes + of_objects, axis=1)
    count = ops.cast(ops.shape(total)[0], "float32")
    return total * count / ops.maximum(ops.sum(answers), 1.0)


def assigned(y, cells, found, logits, radius: float):
    """Which cells answer for which box: 0/1 (B, M, A), one box a cell at most; and the IoU with it: (B, A).

    `y` (B, M, 5) as in `detectors.loss`, `cells` (B, A, 4) as corner and size, `found` (B, A, 4) the boxes they
    predict as corners, `logits` (B, A, 1 + classes).
    """
    from keras import ops

    there = ops.expand_dims(y[..., 4] >= 0, 2)
    middle = (y[..., :2] + y[..., 2:4]) / 2
    away = ops.abs(ops.expand_dims(cells[..., :2] + cells[..., 2:] / 2, 1) - ops.expand_dims(middle, 2))
    near = ops.all(away < radius * ops.expand_dims(cells[..., 2:], 1), axis=-1)
    near = ops.logical_and(near, there)
    # IoUs count with every cell that is near any box of the image.
    candidate = ops.logical_and(ops.any(near, axis=1, keepdims=True), there)
    ious = boxes.iou(ops.expand_dims(found, 1), ops.expand_dims(y[..., :4], 2))
    ious = ops.where(candidate, ious, 0.0)
    cost = ops.where(near, wrong_classes(y, logits) - 3 * ops.log(ious + 1e-8), NEVER)

    most = min(MOST_CELLS, cells.shape[1])
    wanted = ops.maximum(ops.cast(ops.sum(ops.top_k(ious, most)[0], -1), "int32"), 1)
    cheapest, index = ops.top_k(-cost, most)
    last = ops.one_hot(wanted - 1, most, dtype="int32")
    dearest = -ops.sum(ops.where(last > 0, cheapest, 0.0), -1, keepdims=True)
    last = ops.sum(index * last, -1, keepdims=True)
    # Of equal costs those with the smaller number are taken, as many as are wanted and no more.
    number = ops.arange(cells.shape[1], dtype="int32")
    taken = ops.logical_or(cost < dearest, ops.logical_and(cost == dearest, number <= last))
    taken = ops.cast(ops.logical_and(taken, near), "float32")

    several = ops.sum(taken, axis=1, keepdims=True) > 1
    cheapest_box = ops.expand_dims(ops.argmin(cost, axis=1), 1)
    rows = ops.expand_dims(ops.arange(ops.shape(y)[1], dtype="int32"), 1)
    taken = ops.where(several, ops.cast(rows == cheapest_box, "float32"), taken)
    return taken, ops.sum(taken * ious, axis=1)


def wrong_classes(y, logits):
    """The cross entropy of each cell's scores with each box's class: (B, M, A).

    The score is the geometric mean of objectness and class; over all classes but the box's own it should be 0.
    """
    from keras import ops

    score = 0.5 * (ops.log_sigmoid(logits[..., 1:]) + ops.log_sigmoid(logits[..., :1]))
    right = ops.maximum(score, LEAST_LOG)
    wrong = ops.maximum(ops.log(-ops.expm1(ops.minimum(score, -1e-30))), LEAST_LOG)
    own = ops.one_hot(ops.cast(y[..., 4], "int32"), logits.shape[-1] - 1)
    return -ops.expand_dims(ops.sum(wrong, -1), 1) - ops.matmul(own, ops.transpose(right - wrong, (0, 2, 1)))


def crowded(y, cells):
    """1 for cells whose centre lies in a crowd: (B, A)."""
    from keras import ops

    middle = ops.expand_dims(cells[..., :2] + cells[..., 2:] / 2, 1)
    box, is_crowd = ops.expand_dims(y[..., :4], 2), ops.expand_dims(y[..., 4] <= -2, 2)
    inside = ops.logical_and(ops.all(middle > box[..., :2], axis=-1), ops.all(middle < box[..., 2:], axis=-1))
    return ops.cast(ops.any(ops.logical_and(inside, is_crowd), axis=1), "float32")
