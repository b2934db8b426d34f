"""Metrics of found boxes: those of the COCO evaluation, each equal to pycocotools' (tests/test_box_metrics.py).

The rules are those of Lin et al. 2014 (arXiv:1405.0312) as the reference implementation reads them: boxes are taken
by score, each takes the free box of its class with the largest overlap; crowds and boxes outside a range of areas are
neither right nor wrong; precision is averaged over 101 recalls and ten overlaps.
Boxes are (n, 4) x0 y0 x1 y1 in pixels, classes are numbers.
"""

from dataclasses import dataclass

import numpy as np

from tlkeras import metrics as m

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# Pixels of an object, ends included: one of exactly 32 x 32 is both small and medium, as in pycocotools.
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
LEAST = 0.3  # score from which a box is counted where none is given


@dataclass(frozen=True)
class Matches:
    """What became of every box, matched once; every metric only counts it.

    Found boxes lie class by class, the surest first, `ends` (k + 1,) parts the classes. `image`, `rank` (among those
    of its class and image) and `score` are (N,); `right` and `wrong` (areas, overlaps, N), neither of the two where a
    box does not count. Of the truth, `there` (areas, M) are those that count, with `of_class` and `of_image` (M,).
    """

    images: int
    ends: np.ndarray
    image: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    of_class: np.ndarray
    of_image: np.ndarray
    there: np.ndarray

    def classes(self):
        """(class, slice of its found boxes) for every class."""
        return ((c, slice(self.ends[c], self.ends[c + 1])) for c in range(len(self.ends) - 1))


def coco(truth: list[dict], found: list[dict], classes: list[str], most=(1, 10, 100)) -> dict:
    """The COCO metrics of boxes, 0..1; None where no box of the truth counts.

    Args:
        truth: per image {'boxes' (n, 4), 'classes' (n,), 'crowd' (n,), 'areas' (n,) pixels of the objects}.
        found: per image {'boxes' (m, 4), 'classes' (m,), 'scores' (m,)}.
        classes: their names.
        most: how many boxes of a class and image are taken at most; the last is that of every figure but `ar_...`.

    Returns:
        map (over overlaps of 0.5 to 0.95), map_50, map_75, map_small, map_medium, map_large, ar_1, ar_10, ar_100 (by
        `most`), ar_small, ar_medium, ar_large, and 'per_class' with class, ap, ap_50, ar and support.
    """
    return figures(match(truth, found, len(classes), most[-1]), classes, most)


def match(truth: list[dict], found: list[dict], k: int, most: int = 100) -> Matches:
    """Holds what was found against the truth, at most `most` boxes of a class and image.

    About 40 microseconds for each box that overlaps an object of its class.
    """
    boxes, of, scores, image = _together(found, "scores")
    there, of_class, areas, of_image, crowd = *_together(truth, "areas"), _flat(truth, "crowd", bool)
    order = np.lexsort((-scores, image, of))
    first = np.flatnonzero(np.diff(of[order], prepend=-1) | np.diff(image[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    order, rank = order[rank < most], rank[rank < most]
    boxes, of, scores, image = boxes[order], of[order], scores[order], image[order]

    low, high = np.array(list(AREAS.values())).T[..., None]
    counts = ~((areas < low) | (areas > high) | crowd)
    own = _area(boxes)
    hit = np.zeros((len(AREAS), len(IOUS), len(order)), bool)
    ignored = np.zeros_like(hit)
    # Both sides lie by (class, image) now, so a group of one is a slice and finds that of the other by bisection.
    by = np.lexsort((of_image, of_class))
    keys, true_keys = of * len(found) + image, (of_class * len(found) + of_image)[by]
    for key in np.intersect1d(keys, true_keys):
        a, b = (slice(*np.searchsorted(x, (key, key + 1))) for x in (keys, true_keys))
        t = by[b]
        overlap = overlaps(boxes[a], there[t], crowd[t])
        hit[..., a], ignored[..., a] = _taken(overlap, crowd[t], counts[:, t])
    ignored |= ~hit & ((own < low) | (own > high))[:, None]

    surest = np.lexsort((-scores, of))
    return Matches(
        images=len(found),
        ends=np.searchsorted(of[surest], np.arange(k + 1)),
        image=image[surest],
        rank=rank[surest],
        score=scores[surest],
        right=(hit & ~ignored)[..., surest],
        wrong=(~hit & ~ignored)[..., surest],
        of_class=of_class,
        of_image=of_image,
        there=counts,
    )


def overlaps(boxes, others, crowd=None) -> np.ndarray:
    """Intersection over union (n, m); over the area of the box alone where the other is a crowd."""
    corners = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    shared = np.where((corners > 0).all(-1), corners.prod(-1), 0.0)
    own, other = _area(boxes)[:, None], _area(others)[None]
    joint = own + other - shared
    if crowd is not None:
        joint = np.where(crowd, own, joint)
    return np.divide(shared, joint, out=np.zeros_like(shared), where=shared > 0)


def _taken(overlap, crowd, counts):
    """Which boxes (D, surest first) take one of the truth (G), and which of these takes do not count: two arrays
    (areas, overlaps, D). Objects that count go first; among equal overlaps the last, as in pycocotools."""
    shape = (len(counts), len(IOUS), len(crowd))
    hit, ignored = np.zeros((2, *shape[:2], len(overlap)), bool)
    free, counts, limits = np.ones(shape, bool), counts[:, None], np.minimum(IOUS, 1 - 1e-10)[:, None]
    for d in np.flatnonzero(overlap.max(1) >= IOUS[0]):
        near = free & (overlap[d] >= limits)
        best = near & counts
        best = np.where(best.any(-1, keepdims=True), best, near)
        chosen = np.where(best, overlap[d], -1.0)
        last = shape[2] - 1 - chosen[..., ::-1].argmax(-1)[..., None]
        took = np.take_along_axis(best, last, -1)
        hit[..., d] = took[..., 0]
        ignored[..., d] = (took & ~np.take_along_axis(np.broadcast_to(counts, shape), last, -1))[..., 0]
        np.put_along_axis(free, last, np.take_along_axis(free, last, -1) & (~took | crowd[last]), -1)
    return hit, ignored


def figures(found: Matches, classes: list[str], most=(1, 10, 100)) -> dict:
    """The metrics of `coco` from boxes that were matched."""
    aps, ars = ({area: [] for area in AREAS} for _ in range(2))
    recalls = {few: [] for few in most}
    for c, part in found.classes():
        mine = found.of_class == c
        for a, area in enumerate(AREAS):
            n = int(found.there[a, mine].sum())
            right, wrong = found.right[a, :, part], found.wrong[a, :, part]
            aps[area].append(precisions(right, wrong, n).mean(1) if n else None)
            ars[area].append(float((right.sum(1) / n).mean()) if n else None)
        n = int(found.there[0, mine].sum())
        for few in most:
            kept = found.right[0, :, part] & (found.rank[part] < few)
            recalls[few].append(float((kept.sum(1) / n).mean()) if n else None)
    at = {i: [None if a is None else float(a[i]) for a in aps["all"]] for i in (0, 5)}
    ap = {area: [None if a is None else float(a.mean()) for a in values] for area, values in aps.items()}
    rest = [area for area in AREAS if area != "all"]
    return {
        "map": _mean(ap["all"]),
        "map_50": _mean(at[0]),
        "map_75": _mean(at[5]),
        **{f"map_{area}": _mean(ap[area]) for area in rest},
        **{f"ar_{few}": _mean(values) for few, values in recalls.items()},
        **{f"ar_{area}": _mean(ars[area]) for area in rest},
        "per_class": {
            "class": list(classes),
            "ap": ap["all"],
            "ap_50": at[0],
            "ar": ars["all"],
            "support": [int(found.there[0, found.of_class == c].sum()) for c in range(len(classes))],
        },
    }


def precisions(right, wrong, n, weights=None) -> np.ndarray:
    """The best precision (overlaps, 101) at every recall and above, of boxes (overlaps, N) the surest first and `n`
    objects. `weights` (N,): how often each box is there."""
    if weights is not None:
        right, wrong = right * weights, wrong * weights
    right, wrong = np.cumsum(right, 1, dtype=float), np.cumsum(wrong, 1, dtype=float)
    # The rise of the curve from right to left; beyond the last recall it is 0.
    precision = np.maximum.accumulate((right / (right + wrong + np.spacing(1)))[:, ::-1], 1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))
    return np.stack([p[np.searchsorted(r / n, RECALLS, side="left")] for p, r in zip(precision, right, strict=True)])


def resampled(found: Matches, rows) -> dict:
    """map and map_50 of the images `rows`, which may repeat: those of `coco` on the repeated images, but that boxes
    of one image with the very same score stay together."""
    times = np.bincount(rows, minlength=found.images)
    objects = np.bincount(found.of_class, times[found.of_image] * found.there[0], len(found.ends) - 1)
    ap = [
        precisions(found.right[0, :, part], found.wrong[0, :, part], objects[c], times[found.image[part]]).mean(1)
        for c, part in found.classes()
        if objects[c]
    ]
    return {"map": float(np.mean(ap)), "map_50": float(np.mean([a[0] for a in ap]))} if ap else {}


def best_threshold(found: Matches) -> dict:
    """The score from which boxes of all classes have the largest F1 at an overlap of 0.5: {'threshold', 'precision',
    'recall', 'f1'}, all None without an object. Chosen on the boxes it is measured with, it flatters a little."""
    n = int(found.there[0].sum())
    order = np.argsort(-found.score, kind="stable")
    right, wrong = (np.cumsum(x[0, 0, order]) for x in (found.right, found.wrong))
    if not n or not len(order):
        return dict.fromkeys(("threshold", "precision", "recall", "f1"))
    scores = found.score[order]
    # Boxes of one score come and go together.
    last = np.r_[np.flatnonzero(np.diff(scores)), len(scores) - 1]
    right, wrong, scores = right[last], wrong[last], scores[last]
    f1 = 2 * right / (right + wrong + n)
    best = int(f1.argmax())
    return {
        "threshold": float(scores[best]),
        "precision": float(right[best] / max(right[best] + wrong[best], 1)),
        "recall": float(right[best] / n),
        "f1": float(f1[best]),
    }


def confusion(truth: list[dict], found: list[dict], classes: list[str], iou: float = 0.5, least: float = LEAST):
    """Counts (k + 1, k + 1): rows are classes of the truth, columns those found; last the background, as a row what
    was found where nothing is, as a column what was missed.

    Boxes from a score of `least` take objects of their own class first, the surest first; those left over then take
    what is left of other classes. Crowds are neither found nor missed.
    """
    k = len(classes)
    counts = np.zeros((k + 1, k + 1), int)
    for t, f in zip(truth, found, strict=True):
        # Number -1, of none, is the background's.
        there, seen = pairs(t, f, iou, least)
        np.add.at(
            counts, (np.append(t["classes"], k).astype(int)[there], np.append(f["classes"], k).astype(int)[seen]), 1
        )
    return counts


def pairs(truth: dict, found: dict, iou: float = 0.5, least: float = LEAST) -> tuple[np.ndarray, np.ndarray]:
    """(number of the object, number of the box) of everything in one image, -1 where there is none; as `confusion`
    counts them."""
    (boxes, of, scores, _), (there, of_class, _, _) = _together([found], "scores"), _together([truth], "areas")
    crowd = _flat([truth], "crowd", bool)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    boxes, of = boxes[order], of[order]
    overlap = overlaps(boxes, there, crowd)
    overlap[overlap < min(iou, 1 - 1e-10)] = 0
    same = of[:, None] == of_class
    taken, used = np.full(len(of), -1), np.zeros(len(of_class), bool)
    for allowed in (same, ~same):
        for d in np.flatnonzero(taken < 0):
            near = np.where(allowed[d] & ~used & ~crowd, overlap[d], 0)
            if near.any():
                taken[d] = len(near) - 1 - near[::-1].argmax()
                used[taken[d]] = True
    left = (taken < 0) & ~((overlap > 0) & same & crowd).any(1)
    missed = np.flatnonzero(~used & ~crowd)
    hit = taken >= 0
    return (
        np.r_[taken[hit], np.full(left.sum(), -1), missed],
        np.r_[order[hit], order[left], np.full(len(missed), -1)],
    )


def score(table: dict, answer: dict) -> dict:
    """Every metric of the predictions of a detector, as plain data.

    Args:
        table: per image truth_boxes, truth_labels, truth_crowd, truth_areas, boxes, labels, scores.
        answer: {'classes': names}.

    Returns:
        'metrics' (those of `coco`, and precision, recall and f1 from 'threshold' on), 'intervals', 'per_class',
        'confusion' from 'threshold' on, 'curves' (precision per class at 'recall', an overlap of 0.5), 'n'.
    """
    classes = answer["classes"]
    truth, found = samples(table, answer)
    matched = match(truth, found, len(classes))
    values = figures(matched, classes)
    per_class = values.pop("per_class")
    best = best_threshold(matched)
    threshold = best.pop("threshold")
    drawn = [
        [round(p, 4) for p in precisions(matched.right[0, :1, part], matched.wrong[0, :1, part], n)[0].tolist()]
        if (n := per_class["support"][c])
        else None
        for c, part in matched.classes()
    ]
    n = len(truth)
    # About 0.1 seconds for each resample of half a million boxes.
    times = 1000 if len(matched.score) <= 20_000 else 200
    return {
        "metrics": {**values, **best},
        "intervals": m.bootstrap(lambda rows: resampled(matched, rows), n, times=times),
        "per_class": per_class,
        "confusion": confusion(truth, found, classes, least=LEAST if threshold is None else threshold).tolist(),
        "threshold": threshold,
        "curves": {"recall": [round(r, 2) for r in RECALLS.tolist()], "precision": drawn},
        "n": n,
    }


def samples(table: dict, answer: dict) -> tuple[list[dict], list[dict]]:
    """(truth, found) as `coco` takes them, from the columns of a predictions file."""
    number = {name: c for c, name in enumerate(answer["classes"])}
    truth = [
        {"boxes": boxes, "classes": [number[c] for c in labels], "crowd": crowd, "areas": areas}
        for boxes, labels, crowd, areas in zip(
            *(table[f"truth_{c}"] for c in ("boxes", "labels", "crowd", "areas")), strict=True
        )
    ]
    found = [
        {"boxes": boxes, "classes": [number[c] for c in labels], "scores": scores}
        for boxes, labels, scores in zip(*(table[c] for c in ("boxes", "labels", "scores")), strict=True)
    ]
    return truth, found


def _together(images: list[dict], value: str):
    """Boxes (N, 4), classes, `value` and the number of the image (N,) of all images."""
    image = np.repeat(np.arange(len(images)), [len(one["classes"]) for one in images])
    boxes = np.concatenate([np.zeros((0, 4)), *(np.reshape(np.asarray(i["boxes"], float), (-1, 4)) for i in images)])
    return boxes, _flat(images, "classes", int), _flat(images, value, float), image


def _flat(images: list[dict], name: str, dtype) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(one[name], dtype) for one in images)])


def _area(boxes) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _mean(values) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
