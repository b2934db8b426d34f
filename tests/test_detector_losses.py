"""The losses of detectors, against loops over boxes and places written from the descriptions, and against effdet and YOLOX.

pytest tests/test_detector_losses.py
pytest tests/test_detector_losses.py -m oracle
"""

import math

import make_golden_detectors as golden
import numpy as np
import pytest

from tlkeras import detectors
from tlkeras.detectors import boxes, efficientdet, losses, retinanet, simota
from tlkeras.detectors.decode_client import overlap

NOTHING = [-1.0] * 5
SHAPES = ((8, 8), (4, 4), (2, 2))


def targets() -> np.ndarray:
    """Three images: two boxes of which one is tiny, no box at all, and three boxes, one over another."""
    return np.array(
        [
            [[0.1, 0.2, 0.45, 0.6, 0], [0.7, 0.7, 0.72, 0.73, 2], NOTHING],
            [NOTHING] * 3,
            [[0.05, 0.05, 0.95, 0.9, 1], [0.3, 0.3, 0.6, 0.55, 2], [0.52, 0.1, 0.9, 0.5, 0]],
        ],
        "float32",
    )


def outputs(kind: str, classes=3) -> np.ndarray:
    """Raw outputs for the three images, not far from sensible ones."""
    units, shift, more = (retinanet.units(3.0), 0.5, 0) if kind != "yolox" else ([(1, 1)], 0.0, 1)
    places = boxes.places(SHAPES, units, shift)
    rng = np.random.default_rng(5)
    offsets = rng.normal(0, 0.4, (3, len(places), 4)) + ([0.5, 0.5, 1.0, 1.0] if kind == "yolox" else 0)
    logits = rng.normal(-1, 1.5, (3, len(places), classes + more))
    return np.concatenate([np.tile(places, (3, 1, 1)), offsets, logits], 2).astype("float32")


def found_of(row) -> np.ndarray:
    """The box of one raw row as corners."""
    x, y = row[:2] + row[4:6] * row[2:4]
    w, h = np.exp(row[6:8]) * row[2:4]
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def entropy(target, chance):
    return -(target * math.log(chance) + (1 - target) * math.log(1 - chance))


# Anchors


def assigned_by_loop(y, places, positive, negative):
    """Per anchor the row of its box, -1 for none, -2 for left out."""
    corners = np.asarray(boxes.corners(places))
    answer = np.full(len(corners), -1)
    best = np.zeros(len(corners))
    for i, row in enumerate(y):
        if row[4] >= 0:
            for a, value in enumerate(overlap(row[:4], corners)):
                if value > best[a]:
                    best[a], answer[a] = value, i
    answer[best < positive] = -2
    answer[best < negative] = -1
    claims = {}
    for i, row in enumerate(y):
        if row[4] >= 0:
            values = overlap(row[:4], corners)
            a = int(values.argmax())
            if values[a] > max(0, claims.get(a, (0, 0))[0]):
                claims[a] = values[a], i
    for a, (_, i) in claims.items():
        answer[a] = i
    return answer


def anchors_by_loop(y, raw, positive, negative, alpha, gamma, delta, box_weight):
    """(sum of the losses, number of anchors that take a box) of one image."""
    total, taken = 0.0, 0
    for row, i in zip(raw, assigned_by_loop(y, raw[:, :4], positive, negative), strict=True):
        if i == -2:
            continue
        for c, logit in enumerate(row[8:]):
            chance, target = float(sigmoid(logit)), float(i >= 0 and y[i, 4] == c)
            right = chance if target else 1 - chance
            total += (alpha if target else 1 - alpha) * (1 - right) ** gamma * entropy(target, chance)
        if i >= 0:
            taken += 1
            size = y[i, 2:4] - y[i, :2]
            want = [*(((y[i, :2] + y[i, 2:4]) / 2 - row[:2]) / row[2:4]), *np.log(size / row[2:4])]
            for error in np.abs(row[4:8] - want):
                total += box_weight * (0.5 * error**2 if error < delta else delta * (error - delta / 2))
    return total, taken


@pytest.mark.parametrize("kind", ["retinanet", "efficientdet"])
def test_the_loss_of_anchors_is_that_of_a_loop(kind):
    y, raw = targets(), outputs(kind)
    options = retinanet.OPTIONS if kind == "retinanet" else efficientdet.OPTIONS
    sums, taken = np.array([anchors_by_loop(a, b, **options) for a, b in zip(y, raw, strict=True)]).T
    assert taken.min() == 0 and taken.max() > 10
    want = sums / np.maximum(taken, 1) if kind == "retinanet" else 3 * sums / (taken.sum() + 1)
    np.testing.assert_allclose(np.asarray(detectors.loss(kind)(y, raw)), want, rtol=2e-5)


def test_every_box_has_an_anchor_and_between_the_thresholds_none_counts():
    y, raw = targets(), outputs("retinanet")
    best, taken, left_out = (np.asarray(x) for x in losses.assigned(y, raw[..., :4], 0.5, 0.4))
    for n in range(3):
        want = assigned_by_loop(y[n], raw[n, :, :4], 0.5, 0.4)
        np.testing.assert_array_equal(np.where(taken[n], best[n], np.where(left_out[n], -2, -1)), want)
        assert {*want} - {-1, -2} == {i for i, row in enumerate(y[n]) if row[4] >= 0}
    assert left_out.any()


def test_smooth_l1_has_its_corner_at_a_ninth():
    options = retinanet.OPTIONS
    error = np.array([0.05, 1 / 9, 0.5], "float32")
    got = options["box_weight"] * np.asarray(losses.huber(error, options["delta"]))
    np.testing.assert_allclose(got, [0.5 * 9 * 0.05**2, 1 / 18, 0.5 - 1 / 18], rtol=1e-5)


# SimOTA


def simota_by_loop(y, raw, radius=1.5):
    """{cell: (row of y, IoU)} of one image, box by box and cell by cell."""
    found, chances = np.array([found_of(row) for row in raw]), sigmoid(raw[:, 8:])
    scores = np.sqrt(chances[:, :1] * chances[:, 1:])
    rows = [i for i in range(len(y)) if y[i, 4] >= 0]
    near = {
        i: [
            a
            for a, cell in enumerate(raw)
            if (np.abs(cell[:2] + cell[2:4] / 2 - (y[i, :2] + y[i, 2:4]) / 2) < radius * cell[2:4]).all()
        ]
        for i in rows
    }
    candidates = sorted({a for cells in near.values() for a in cells})
    cost, takers = {}, {}
    for i in rows:
        ious = dict(zip(candidates, overlap(y[i, :4], found[candidates]), strict=True))
        for a in near[i]:
            of_classes = sum(entropy(float(c == y[i, 4]), s) for c, s in enumerate(scores[a]))
            cost[i, a] = of_classes - 3 * math.log(ious[a] + 1e-8)
        count = max(int(sum(sorted(ious.values(), reverse=True)[:10])), 1)
        for a in sorted(near[i], key=lambda a, i=i: cost[i, a])[:count]:
            takers.setdefault(a, []).append(i)
    chosen = {}
    for a, several in takers.items():
        i = several[0] if len(several) == 1 else min((i for i in rows if (i, a) in cost), key=lambda i, a=a: cost[i, a])
        chosen[a] = i, overlap(y[i, :4], found[a : a + 1])[0]
    return chosen


def test_simota_is_that_of_a_loop():
    y, raw = targets(), outputs("yolox")
    sums, count = [], 0
    for rows, x in zip(y, raw, strict=True):
        chosen, total = simota_by_loop(rows, x), 0.0
        for a, row in enumerate(x):
            total += entropy(float(a in chosen), sigmoid(row[8]))
            if a in chosen:
                i, iou = chosen[a]
                total += 5 * (1 - iou**2)
                total += sum(entropy(iou * (c == rows[i, 4]), sigmoid(v)) for c, v in enumerate(row[9:]))
        sums.append(total)
        count += len(chosen)
    assert count > 6
    np.testing.assert_allclose(np.asarray(detectors.loss("yolox")(y, raw)), 3 * np.array(sums) / count, rtol=2e-5)


def test_of_equal_costs_no_more_are_taken_than_are_wanted():
    """Untrained predictors say the same everywhere: all costs of a box tie."""
    y, raw = targets(), outputs("yolox")
    raw[..., 4:] = 0.0
    raw[..., :4] = [0.5, 0.5, 0.01, 0.01]
    y[..., :4] = np.where(y[..., 4:] >= 0, [0.49, 0.49, 0.52, 0.52], -1)
    cells, found = raw[..., :4], np.asarray(boxes.corners(boxes.moved(raw[..., :4], raw[..., 4:8])))
    chosen, _ = (np.asarray(x) for x in simota.assigned(y[:1, :1], cells[:1], found[:1], raw[:1, :, 8:], 1.5))
    assert chosen.sum() == 1 and chosen[0, 0, 0] == 1


# Both


@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_rows_without_a_box_change_nothing(kind):
    y, raw, loss = targets(), outputs(kind), detectors.loss(kind)
    longer = np.concatenate([np.full((3, 2, 5), -1, "float32"), y, np.full((3, 4, 5), -1, "float32")], 1)
    np.testing.assert_allclose(loss(longer, raw), loss(y, raw), rtol=1e-6)


@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_what_lies_on_a_crowd_counts_neither_way(kind):
    """What is said there may be anything; elsewhere, and where a box of its own claims the place, it may not."""
    raw, loss = outputs(kind)[:1], detectors.loss(kind)
    crowd = np.array([[[0.0, 0.0, 0.5, 1.0, -2 - 1], NOTHING]], "float32")
    nothing = np.full((1, 2, 5), -1, "float32")
    corners = np.asarray(boxes.corners(raw[0, :, :4]))
    if kind == "yolox":
        corners = np.concatenate([raw[0, :, :2], raw[0, :, :2] + raw[0, :, 2:4]], 1)
    shared = np.minimum(corners[:, 2:], [0.5, 1]) - np.maximum(corners[:, :2], 0)
    share = np.prod(np.maximum(shared, 0) / (corners[:, 2:] - corners[:, :2]), 1)
    inside = share > 0.55
    louder, elsewhere = raw.copy(), raw.copy()
    louder[0, inside, 8:] += 3
    elsewhere[0, share < 0.45, 8:] += 3
    assert loss(nothing, louder)[0] > 1.05 * loss(nothing, raw)[0]
    np.testing.assert_allclose(loss(crowd, louder), loss(crowd, raw), rtol=1e-6)
    assert loss(crowd, elsewhere)[0] > 1.05 * loss(crowd, raw)[0]
    assert loss(crowd, raw)[0] < loss(nothing, raw)[0]
    both = np.array([[[0.1, 0.3, 0.4, 0.6, 2], [0.0, 0.0, 0.5, 1.0, -3]]], "float32")
    assert abs(loss(both, louder)[0] / loss(both, raw)[0] - 1) > 1e-3


@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_gradients_are_finite_whatever_comes(kind):
    """No box, boxes without area, offsets out of all bounds, logits of certainty; in a graph as by hand."""
    import tensorflow as tf

    y, raw = targets(), outputs(kind)
    y[0, 0, 2:4] = y[0, 0, :2]
    raw[0, ::3, 4:8], raw[1, ::2, 8:], raw[2, ::5, 4:8] = 500.0, 90.0, -500.0

    def gradients(raw):
        with tf.GradientTape() as tape:
            tape.watch(raw)
            value = detectors.loss(kind)(y, raw)
        return value, tape.gradient(value, raw)

    by_hand = gradients(tf.constant(raw))
    in_graph = tf.function(gradients)(tf.constant(raw))
    for a, b in zip(by_hand, in_graph, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.oracle
def test_the_loss_of_efficientdet_is_that_of_effdet():
    torch = golden.oracle()
    effdet = pytest.importorskip("effdet")
    from effdet.anchors import AnchorLabeler, Anchors
    from effdet.loss import DetectionLoss

    config = effdet.get_efficientdet_config("tf_efficientdet_d0")
    config.image_size, config.num_classes = (128, 128), 3
    anchors = Anchors.from_config(config)
    shapes = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    places = boxes.places(shapes, efficientdet.units(4.0), 0.5)
    rng = np.random.default_rng(2)
    offsets, logits = rng.normal(0, 0.5, (3, len(places), 4)), rng.normal(-1, 1.5, (3, len(places), 3))
    raw = np.concatenate([np.tile(places, (3, 1, 1)), offsets, logits], 2).astype("float32")
    y = targets()
    # Where a tiny box lies inside several anchors of one area, rounding decides; and effdet leaves out offsets that
    # should be exactly 0, as where box and anchor are equally wide.
    y[0, 1], y[0, 0, 2], y[2, 1, 3] = [0.6, 0.55, 0.8, 0.91, 2], 0.46, 0.56

    def levels(x):
        ends = np.cumsum([h * w * 9 for h, w in shapes])[:-1]
        parts = np.split(x.astype("float32"), ends, axis=1)
        maps = (p.reshape(3, *shape, -1).transpose(0, 3, 1, 2) for p, shape in zip(parts, shapes, strict=True))
        return [torch.tensor(np.ascontiguousarray(m)) for m in maps]

    given = [torch.tensor(rows[rows[:, 4] >= 0][:, [1, 0, 3, 2]] * 128) for rows in y]
    numbers = [torch.tensor(rows[rows[:, 4] >= 0][:, 4] + 1) for rows in y]
    keep = [i for i, rows in enumerate(given) if len(rows)]  # effdet stumbles over an image without boxes.
    labels = AnchorLabeler(anchors, 3).batch_label_anchors([given[i] for i in keep], [numbers[i] for i in keep], False)
    want = DetectionLoss(config)(
        [x[keep] for x in levels(logits)], [x[keep] for x in levels(offsets[..., [1, 0, 3, 2]])], *labels
    )[0]
    got = detectors.loss("efficientdet")(y[keep], raw[keep])
    np.testing.assert_allclose(np.mean(got), float(want), rtol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(6))
def test_the_loss_of_yolox_is_that_of_yolox(seed):
    """Of 0.3.0, with the candidates of its successor: cells whose centre is within 1.5 cells of the box's."""
    torch = golden.oracle()
    pytest.importorskip("yolox")
    from yolox.models import YOLOXHead

    side, classes, strides = 128, 4, (8, 16, 32)
    head, rng = YOLOXHead(classes), np.random.default_rng(seed)
    shapes = [(side // s, side // s) for s in strides]
    places = boxes.places(shapes, [(1, 1)], 0.0)
    offsets = rng.normal([0.5, 0.5, 1.0, 1.0], 0.3, (3, len(places), 4))
    logits = rng.normal(-1, 1.5, (3, len(places), 1 + classes))
    raw = np.concatenate([np.tile(places, (3, 1, 1)), offsets, logits], 2).astype("float32")
    y = np.full((3, 6, 5), -1, "float32")
    for n, count in enumerate((6, 0, 3)):
        middle, size = rng.uniform(0.25, 0.75, (count, 2)), rng.uniform(0.1, 0.45, (count, 2))
        y[n, :count] = np.concatenate([middle - size / 2, middle + size / 2, rng.integers(classes, size=(count, 1))], 1)

    def candidates(truth, stride, x, y, anchors, count):
        stride = stride[0]
        centre = torch.stack([(x[0] + 0.5) * stride, (y[0] + 0.5) * stride], 1)
        near = ((centre[None] - truth[:, None, :2]).abs() < 1.5 * stride[None, :, None]).all(-1)
        return near.any(0), near[:, near.any(0)]

    head.get_in_boxes_info = candidates
    stride = np.concatenate([np.full(h * w, s) for (h, w), s in zip(shapes, strides, strict=True)]).astype("float32")
    decoded = raw[..., 4:].copy()
    decoded[..., :2] = (raw[..., 4:6] + raw[..., :2] / raw[..., 2:4]) * stride[:, None]
    decoded[..., 2:4] = np.exp(raw[..., 6:8]) * stride[:, None]
    labels = np.zeros((3, 6, 5), "float32")
    there = y[..., 4] >= 0
    labels[there, 0] = y[there, 4]
    labels[there, 1:3] = (y[there, :2] + y[there, 2:4]) / 2 * side
    labels[there, 3:] = (y[there, 2:4] - y[there, :2]) * side
    grid = np.round(places[:, :2] / places[:, 2:])
    x_shifts, y_shifts = ([torch.tensor(grid[None, :, k])] for k in (0, 1))
    want = head.get_losses(
        None,
        x_shifts,
        y_shifts,
        [torch.tensor(stride[None])],
        torch.tensor(labels),
        torch.tensor(decoded),
        [],
        torch.float32,
    )[0]
    np.testing.assert_allclose(np.mean(detectors.loss("yolox")(y, raw)), float(want), rtol=1e-5)
