"""Boxes and masks in pixels of a picture, from what a .tflite file gives, by NumPy alone.

    from decode import decode, in_pixels, in_picture
    rows = decode(locations, offsets, scores)       int8 detectors: rows of x0, y0, x1, y1, class number, score; best first
    in_pixels(rows, (height, width), letterbox)     the same in pixels of the picture
    in_picture(mask, (height, width), letterbox)    a mask at the size of the picture

Float files of detectors give such rows themselves. `letterbox` is that of `answer` in contract.json, where there is
one: the file takes pictures that keep their shape, scaled to `inner` and put top left.

`offsets` (A, 4) and `scores` (A, classes) are the two outputs of the file for one image, as floats; where it gives
integers: (integer - zero point) * scale, both from the interpreter's output details. `locations` (A, 4) are constants
of the network and lie beside the file. Coordinates are parts of the image: 0 is left or top, 1 right or bottom.

This file needs nothing but NumPy, and may be copied.
"""

import numpy as np


def decode(locations, offsets, scores, most=100, iou=0.5, least_score=0.05, candidates=1000):
    """float32 (n, 6), n at most `most`: x0, y0, x1, y1, class number, score.

    Of boxes of one class that overlap by more than `iou`, the best stays.
    """
    locations, offsets, scores = (np.asarray(x, np.float32) for x in (locations, offsets, scores))
    shape = (len(locations), 4)
    if locations.shape != shape or offsets.shape != shape or scores.ndim != 2 or len(scores) != len(locations):
        raise ValueError(
            "locations and offsets must be (A, 4) and scores (A, classes), of one image. "
            f"Got {locations.shape}, {offsets.shape} and {scores.shape}."
        )
    size = locations[:, 2:]
    middle = locations[:, :2] + offsets[:, :2] * size
    half = np.exp(np.minimum(offsets[:, 2:], np.float32(10))) * size / 2
    boxes = np.clip(np.concatenate([middle - half, middle + half], axis=1), 0, 1)

    places, classes = np.nonzero(scores >= least_score)
    values = scores[places, classes]
    order = np.argsort(-values, kind="stable")[:candidates]
    stay = []
    for i in order:
        rivals = [j for j in stay if classes[j] == classes[i]]
        if not rivals or overlap(boxes[places[i]], boxes[places[rivals]]).max() <= iou:
            stay.append(i)
        if len(stay) == most:
            break
    stay = np.array(stay, int)
    return np.concatenate([boxes[places[stay]], classes[stay, None], values[stay, None]], axis=1).astype(np.float32)


def inner(height, width, letterbox):
    """(height, width) of what a picture becomes in a letterbox of (height, width): as large as fits, rounded down."""
    scale = min(letterbox[0] / height, letterbox[1] / width)
    return max(int(height * scale + 1e-6), 1), max(int(width * scale + 1e-6), 1)


def shown(size, letterbox=None):
    """The parts of the height and width of what the network sees that a picture of `size` fills."""
    if letterbox is None:
        return 1.0, 1.0
    small = inner(*size, letterbox)
    return small[0] / letterbox[0], small[1] / letterbox[1]


def in_pixels(rows, size, letterbox=None):
    """Rows that hold a box, (n, 6), with x0, y0, x1, y1 in pixels of a picture of (height, width) and within it."""
    rows = np.array(rows, np.float64)
    rows = rows[rows[:, 5] > 0]
    high, wide = shown(size, letterbox)
    rows[:, :4] = np.minimum(rows[:, :4] / [wide, high, wide, high], 1) * [size[1], size[0], size[1], size[0]]
    return rows


def in_picture(mask, size, letterbox=None):
    """An index mask (h, w) at the (height, width) of its picture: the nearest pixel, of those that show the picture."""
    mask = np.asarray(mask)
    if letterbox is not None:
        small = inner(*size, letterbox)
        mask = mask[: small[0], : small[1]]
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, mask.shape, strict=False)
    )
    return mask[rows[:, None], columns[None]]


def overlap(box, others):
    """Intersection over union of a box (4,) with others (n, 4): (n,)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return shared / np.maximum(areas - shared, 1e-12)
