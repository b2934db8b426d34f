"""Run-length masks as COCO writes them, and polygons turned into them.

A mask is read column by column; its runs alternate, beginning with pixels outside. COCO keeps the lengths as a list or
packed into a text. Both, and which pixels a polygon covers, follow pycocotools (cocoapi, common/maskApi.c), which is
what results are compared with; here it is arithmetic on arrays, and every number is checked before anything is allocated.
"""

import numpy as np

from tlkeras.data.packed import MAX_PIXELS

SCALE = 5  # the grid on which a polygon's outline is drawn, points per pixel
FAR = 100_000  # a point so many pixels outside is a mistake; the outline has SCALE points for each of them


def encode(mask) -> dict:
    """A mask (h, w), anything but 0 inside, as {'size': [h, w], 'counts': text}."""
    mask = np.asarray(mask) != 0
    return {"size": list(mask.shape), "counts": packed(_runs_of(mask.ravel(order="F")))}


def decode(rle: dict) -> np.ndarray:
    """The mask of a {'size', 'counts': text or list}: uint8 (h, w) of 0 and 1.

    Raises:
        ValueError: when it is none, or larger than a picture may be.
    """
    runs = counts(rle)
    height, width = rle["size"]
    inside = np.zeros(len(runs), np.uint8)
    inside[1::2] = 1
    return np.repeat(inside, runs).reshape(width, height).T


def counts(rle) -> np.ndarray:
    """The lengths of the runs of a COCO mask, int64, which add up to its pixels.

    Raises:
        ValueError: says what is wrong with it.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise ValueError("a run-length mask is an object with 'size' and 'counts'")
    size, runs = rle["size"], rle["counts"]
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)):
        raise ValueError(f"its size must be [height, width]; received {size!r:.60}")
    pixels = size[0] * size[1]
    if pixels > MAX_PIXELS:
        raise ValueError(f"its size says {pixels:,} pixels; at most {MAX_PIXELS:,} are read")
    if isinstance(runs, str):
        runs = unpacked(runs)
    elif isinstance(runs, list) and all(type(n) is int and 0 <= n <= pixels for n in runs):
        runs = np.array(runs, np.int64)
    else:
        raise ValueError(f"its counts must be a text or a list of numbers from 0 to {pixels:,}")
    if len(runs) and (runs.min() < 0 or runs.max() > pixels) or runs.sum() != pixels:
        raise ValueError(f"its runs must add up to the {pixels:,} pixels of its size; they do not")
    return runs


def packed(runs) -> str:
    """Lengths of runs as text: from the fourth on the difference to the one before the last, in digits of 5 bits, the
    lowest first, each with a bit that says whether another follows."""
    values = np.array(runs, np.int64)
    values[3:] -= np.asarray(runs, np.int64)[1:-2]
    digits = bytearray()
    for value in values.tolist():
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            digits.append(48 + digit + 32 * more)
            if not more:
                break
    return digits.decode("ascii")


def unpacked(text: str) -> np.ndarray:
    """Lengths of runs from their text; not yet checked to be lengths.

    Raises:
        ValueError: when the text holds another character or breaks off.
    """
    digits = np.frombuffer(text.encode("utf8", "replace"), np.uint8).astype(np.int64) - 48
    if not len(digits):
        return digits
    if digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("its counts hold a character that packed runs do not have, or break off")
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > 7:  # 35 bits, more than any picture has pixels
        raise ValueError("its counts hold a number larger than any picture")
    place = np.arange(len(digits)) - np.repeat(first, lengths)
    values = np.add.reduceat((digits & 31) << (5 * place), first)
    values -= np.where(digits[last] & 16 > 0, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def polygon(points, height: int, width: int) -> np.ndarray:
    """The runs of the pixels that a polygon covers, int64.

    Args:
        points: x0, y0, x1, y1, ... in pixels, three points or more.

    Raises:
        ValueError: when a point lies absurdly far outside.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    if np.abs(points).max() > FAR:
        raise ValueError(f"a point lies more than {FAR:,} pixels outside")
    corners = np.trunc(SCALE * points + 0.5).astype(np.int64)
    u, v = _outline(corners, np.roll(corners, -1, 0))
    # Where the outline steps from one column of the grid to the next, in the middle of a pixel.
    step = np.flatnonzero(u[1:] != u[:-1])
    x = (np.minimum(u[1:], u[:-1])[step] + 0.5) / SCALE - 0.5
    y = np.ceil(np.clip((np.minimum(v[1:], v[:-1])[step] + 0.5) / SCALE - 0.5, 0, height))
    kept = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    return _between(np.sort(x[kept].astype(np.int64) * height + y[kept].astype(np.int64)), height * width)


def _outline(start, stop):
    """The points of lines on the grid, one for each step along their longer side: x and y, (n,) each."""
    span = np.abs(stop - start)
    flat = span[:, 0] >= span[:, 1]
    steps = np.where(flat, span[:, 0], span[:, 1])
    # Each line is drawn from its lower end, so that the other direction gives the same points.
    rows = np.arange(len(start))
    axis = np.where(flat, 0, 1)
    turned = start[rows, axis] > stop[rows, axis]
    low, high = np.where(turned[:, None], stop, start), np.where(turned[:, None], start, stop)
    slope = (high[rows, 1 - axis] - low[rows, 1 - axis]) / np.maximum(steps, 1)
    line = np.repeat(rows, steps + 1)
    t = np.arange(len(line)) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    t = np.where(turned[line], steps[line] - t, t)
    along = low[line, axis[line]] + t
    across = np.trunc(low[line, 1 - axis[line]] + slope[line] * t + 0.5).astype(np.int64)
    return np.where(flat[line], along, across), np.where(flat[line], across, along)


def _between(turns, pixels: int) -> np.ndarray:
    """Runs from the sorted positions at which inside and outside change; two at one place change nothing."""
    places, times = np.unique(turns, return_counts=True)
    places = places[(times % 2 == 1) & (places < pixels)]
    return np.diff(np.concatenate([[0], places, [pixels]]))


def union(masks: list, pixels: int) -> np.ndarray:
    """The runs of what any of several runs covers."""
    if len(masks) == 1:
        return masks[0]
    ends = [np.cumsum(runs)[: len(runs) // 2 * 2] for runs in masks]
    places = np.concatenate(ends)
    change = np.concatenate([np.where(np.arange(len(e)) % 2 == 0, 1, -1) for e in ends])
    order = np.argsort(places, kind="stable")
    places, depth = places[order], np.cumsum(change[order])
    last = np.append(places[1:] != places[:-1], True)  # what holds after all changes at one place
    places, covered = places[last], depth[last] > 0
    turned = covered != np.concatenate([[False], covered[:-1]])
    return _between(places[turned], pixels)


def area(runs) -> int:
    return int(runs[1::2].sum())


def bounds(rle: dict) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 around the pixels of a mask, None where it has none."""
    mask = decode(rle)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _runs_of(values) -> np.ndarray:
    return _between(np.flatnonzero(np.diff(values, prepend=np.False_)), len(values))
