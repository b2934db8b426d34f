"""Metrics of masks from counts over pixels, and masks as runs. Masks are (h, w) of class numbers."""

import numpy as np

from tlkeras import metrics as m
from tlkeras.errors import DataError

IGNORE = 255  # pixels that were left open by whoever drew the mask


def confusion(truth, found, k: int, ignore: int | None = IGNORE) -> np.ndarray:
    """Counts (k, k) of pixels: rows are classes of the truth, columns those found; pixels of `ignore` are left out.

    Raises: DataError when the masks differ in shape, or hold numbers that are no class.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise DataError(
            f"A mask is held against one of its own shape; the truth is {truth.shape}, found {found.shape}."
        )
    if ignore is not None:
        known = truth != ignore
        truth, found = truth[known], found[known]
    for side, mask in (("truth", truth), ("found", found)):
        if mask.size and not 0 <= mask.min() <= mask.max() < k:
            raise DataError(f"Masks hold the classes 0 to {k - 1}; the {side} runs from {mask.min()} to {mask.max()}.")
    return np.bincount(truth.ravel().astype(np.intp) * k + found.ravel(), minlength=k * k).reshape(k, k)


def from_confusion(counts) -> dict:
    """The metrics of counts (k, k), 0..1.

    miou and mean_dice are means over the classes that are in the truth or were found, mean_accuracy over those in
    the truth; frequency_iou weighs classes by their pixels. 'per_class': iou, dice (the F1 of pixels), recall,
    precision and support in pixels; None where a class has none of what would be divided by.
    """
    counts = np.asarray(counts)
    return _from_sums(np.diag(counts), counts.sum(1), counts.sum(0))


def _from_sums(hit, true, guessed) -> dict:
    """`from_confusion` from pixels that are right, true and found (k,)."""
    hit, true, guessed = (np.asarray(x, float) for x in (hit, true, guessed))
    iou, dice = _part(hit, true + guessed - hit), _part(2 * hit, true + guessed)
    recall, precision = _part(hit, true), _part(hit, guessed)
    n = true.sum()
    return {
        "miou": _mean(iou),
        "mean_dice": _mean(dice),
        "pixel_accuracy": float(hit.sum() / n) if n else None,
        "mean_accuracy": _mean(recall),
        "frequency_iou": float(np.nansum(true * iou) / n) if n else None,
        "per_class": {
            **{
                name: [None if np.isnan(v) else float(v) for v in values]
                for name, values in (("iou", iou), ("dice", dice), ("recall", recall), ("precision", precision))
            },
            "support": true.astype(int).tolist(),
        },
    }


def score(table: dict, answer: dict) -> dict:
    """Every metric of the predictions of a segmentation, as plain data, from the column counts (k * k) per image.

    Intervals are over images: pixels of one image are not independent of each other.
    """
    classes = answer["classes"]
    k = len(classes)
    total, sums = np.zeros((k, k), np.int64), np.zeros((len(table["counts"]), 3, k))
    for i, row in enumerate(table["counts"]):
        counts = np.asarray(row, np.int64).reshape(k, k)
        total += counts
        sums[i] = np.diag(counts), counts.sum(1), counts.sum(0)

    def again(rows):
        times = np.bincount(rows, minlength=len(sums))
        return {n: v for n, v in _from_sums(*np.tensordot(times, sums, 1)).items() if n != "per_class"}

    values = from_confusion(total)
    per_class = values.pop("per_class")
    n = len(sums)
    return {
        "metrics": values,
        "intervals": m.bootstrap(again, n, times=1000 if n <= 20_000 else 200),
        "per_class": {"class": list(classes), **per_class},
        "confusion": total.tolist(),
        "n": n,
    }


def runs(mask) -> list[int]:
    """A mask row by row as runs: value, length, value, length, ..."""
    flat = np.asarray(mask).ravel()
    if not flat.size:
        return []
    starts = np.r_[0, np.flatnonzero(flat[1:] != flat[:-1]) + 1]
    lengths = np.diff(starts, append=flat.size)
    return np.stack([flat[starts].astype(np.int64), lengths], 1).ravel().tolist()


def unrun(runs, shape: tuple[int, int]) -> np.ndarray:
    """The mask (h, w) uint8 of `runs`.

    Raises: DataError when they do not fill the shape.
    """
    found = np.asarray(runs, np.int64).reshape(-1, 2)
    if found[:, 1].sum() != shape[0] * shape[1]:
        raise DataError(
            f"The runs of a mask of {shape[0]} x {shape[1]} must fill it; they hold {found[:, 1].sum()} pixels."
        )
    return np.repeat(found[:, 0], found[:, 1]).astype(np.uint8).reshape(shape)


def _part(a, b) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(b), np.nan), where=b > 0)


def _mean(values) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
