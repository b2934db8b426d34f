"""The metrics of masks equal a plain count, pixel by pixel; runs give the mask back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tlkeras import mask_metrics as mm
from tlkeras.errors import DataError

MASKS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 4))


def counted(truth, found, k):
    """The count as one would say it."""
    counts = np.zeros((k, k), int)
    for t, f in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
        if t != 255:
            counts[t, f] += 1
    return counts


def cases():
    rng = np.random.default_rng(0)
    for _ in range(60):
        k, shape = int(rng.integers(2, 6)), rng.integers(1, 20, 2)
        truth = rng.integers(0, rng.integers(1, k + 1), shape).astype(np.uint8)
        found = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, k, shape)).astype(np.uint8)
        truth[rng.random(shape) < rng.choice([0, 0.2, 1], p=[0.5, 0.4, 0.1])] = 255
        yield truth, found, k


def test_the_confusion_equals_a_plain_count():
    for truth, found, k in cases():
        assert (mm.confusion(truth, found, k) == counted(truth, found, k)).all()


def test_metrics_equal_those_of_sets_of_pixels():
    for truth, found, k in cases():
        got = mm.from_confusion(mm.confusion(truth, found, k))
        known = truth != 255
        iou, dice, recall, part = [], [], [], []
        for c in range(k):
            a, b = (truth == c) & known, (found == c) & known
            both, either = (a & b).sum(), (a | b).sum()
            iou.append(both / either if either else None)
            dice.append(2 * both / (a.sum() + b.sum()) if either else None)
            recall.append(both / a.sum() if a.any() else None)
            part.append(a.sum() / known.sum() if known.any() else None)
        assert got["per_class"]["iou"] == pytest.approx(iou)
        assert got["per_class"]["dice"] == pytest.approx(dice)
        assert got["per_class"]["recall"] == pytest.approx(recall)
        if not known.any():
            assert got["miou"] is got["pixel_accuracy"] is got["frequency_iou"] is None
            continue
        assert got["miou"] == pytest.approx(np.mean([v for v in iou if v is not None]))
        assert got["mean_dice"] == pytest.approx(np.mean([v for v in dice if v is not None]))
        assert got["mean_accuracy"] == pytest.approx(np.mean([v for v in recall if v is not None]))
        assert got["pixel_accuracy"] == pytest.approx((truth == found)[known].mean())
        assert got["frequency_iou"] == pytest.approx(sum(p * (i or 0) for p, i in zip(part, iou, strict=True)))


def test_a_class_that_is_nowhere_leaves_the_mean_and_one_that_was_invented_does_not():
    truth = np.zeros((2, 2), np.uint8)
    assert mm.from_confusion(mm.confusion(truth, truth, 3))["miou"] == 1
    found = np.array([[0, 0], [0, 1]], np.uint8)
    got = mm.from_confusion(mm.confusion(truth, found, 3))
    assert got["per_class"]["iou"] == [0.75, 0, None]
    assert got["miou"] == 0.375


def test_masks_that_do_not_belong_together_are_refused():
    with pytest.raises(DataError, match="of its own shape"):
        mm.confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
    with pytest.raises(DataError, match="classes 0 to 1; the truth runs from 0 to 2"):
        mm.confusion(np.array([[0, 2]], np.uint8), np.array([[0, 0]], np.uint8), 2)


def test_the_score_sums_images_and_resamples_them():
    counts = [mm.confusion(t, np.minimum(f, 1), 2) for t, f, k in cases() if k == 2]
    table = {"counts": [c.ravel().tolist() for c in counts]}
    result = mm.score(table, {"classes": ["ground", "thing"], "ignore": 255})
    json.dumps(result, allow_nan=False)
    total = mm.from_confusion(sum(counts))
    assert result["per_class"] == {"class": ["ground", "thing"], **total.pop("per_class")}
    assert result["metrics"] == total
    assert result["confusion"] == sum(counts).tolist() and result["n"] == len(counts)
    for name, (low, high) in result["intervals"].items():
        assert low <= result["metrics"][name] <= high


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_runs_give_the_mask_back(mask):
    assert (mm.unrun(mm.runs(mask), mask.shape) == mask).all()


def test_runs_are_values_and_lengths_row_by_row():
    assert mm.runs(np.array([[0, 0, 2], [2, 255, 0]], np.uint8)) == [0, 2, 2, 2, 255, 1, 0, 1]


def test_runs_of_another_size_are_refused():
    with pytest.raises(DataError, match="2 x 2 must fill it; they hold 3 pixels"):
        mm.unrun([0, 3], (2, 2))
