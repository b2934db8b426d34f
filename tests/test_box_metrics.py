"""Every COCO metric equals pycocotools' on random cases with crowds, ties and boxes of all sizes, and the known answer of small ones."""

import contextlib
import io
import json

import numpy as np
import pytest

from tlkeras import box_metrics as b

coco = pytest.importorskip("pycocotools.coco")
from pycocotools.cocoeval import COCOeval  # noqa: E402

CASES = 240
MOST = ((1, 10, 100), (1, 2, 5))
AT_THE_LIMITS = (1024.0, 9216.0)
EMPTY = {"boxes": [], "classes": [], "crowd": [], "areas": []}
NOTHING = {"boxes": [], "classes": [], "scores": []}


def case(seed):
    """(truth, found, k) on a grid of quarter pixels, on which corners and widths say the same to the last bit."""
    rng = np.random.default_rng(seed)
    k, n = int(rng.integers(1, 5)), int(rng.integers(1, 7))
    truth, found = [], []
    for _ in range(n):
        side = rng.choice([8, 33, 96, 200], (int(rng.integers(0, 9)) * (rng.random() > 0.15), 2))
        size = np.maximum(np.round(side * rng.uniform(0.5, 1.5, side.shape) * 4) / 4, 0.25)
        if seed % 5 == 0:
            size = np.round(size / 32) * 32 + 32.0
        corner = np.round(rng.uniform(0, 150 if seed % 3 else 20, side.shape) * 4) / 4
        boxes = np.c_[corner, corner + size]
        areas = np.round(size.prod(1) * rng.uniform(0.4, 1, len(size)))
        if seed % 7 == 0 and len(areas):
            areas[: len(areas) // 2] = rng.choice(AT_THE_LIMITS)
        of = rng.integers(0, k, len(boxes))
        truth.append({"boxes": boxes, "classes": of, "crowd": rng.random(len(boxes)) < 0.2, "areas": areas})
        again = rng.integers(0, max(len(boxes), 1), int(rng.integers(0, 20))) if len(boxes) else []
        spread = np.round(rng.normal(0, rng.choice([0, 0.05, 0.2]), (len(again), 4)) * np.tile(size[again], 2) * 4) / 4
        moved = boxes[again] + spread
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 0.25)
        corner = np.round(rng.uniform(0, 150, (int(rng.integers(0, 6)), 2)) * 4) / 4
        free = np.c_[corner, corner + np.round(rng.uniform(0.25, 150, corner.shape) * 4) / 4]
        guessed = np.r_[np.where(rng.random(len(again)) < 0.8, of[again], rng.integers(0, k, len(again))), rng.integers(0, k, len(free))]  # fmt: skip
        scores = rng.random(len(guessed))
        if seed % 2:
            scores = np.round(scores * 4) / 4
        found.append({"boxes": np.r_[moved, free], "classes": guessed.astype(int), "scores": scores})
    return truth, found, k


def evaluated(truth, found, k, most=(1, 10, 100)):
    """pycocotools' evaluation of the same boxes."""

    def held(images, *more):
        rows = []
        for i, one in enumerate(images):
            for j, (box, c) in enumerate(zip(np.reshape(one["boxes"], (-1, 4)), one["classes"], strict=True)):
                x, y, w, h = float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])
                row = {"id": len(rows) + 1, "image_id": i, "category_id": int(c), "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}  # fmt: skip
                rows.append(row | {name: kind(one[ours][j]) for name, ours, kind in more})
        out = coco.COCO()
        out.dataset = {
            "images": [{"id": i} for i in range(len(images))],
            "categories": [{"id": c} for c in range(k)],
            "annotations": rows,
        }
        out.createIndex()
        return out

    with contextlib.redirect_stdout(io.StringIO()):
        there = held(truth, ("iscrowd", "crowd", int), ("area", "areas", float))
        run = COCOeval(there, held(found, ("score", "scores", float)), "bbox")
        run.params.maxDets = list(most)
        run.evaluate()
        run.accumulate()
    return run.eval["precision"], run.eval["recall"]


def wanted(truth, found, k, most):
    precision, recall = evaluated(truth, found, k, most)  # (T, R, K, A, M), (T, K, A, M); -1 is undefined

    def mean(values):
        values = values[values > -1]
        return float(values.mean()) if values.size else None

    areas = {"small": 1, "medium": 2, "large": 3}
    return {
        "map": mean(precision[:, :, :, 0, -1]), "map_50": mean(precision[0, :, :, 0, -1]), "map_75": mean(precision[5, :, :, 0, -1]),
        **{f"map_{name}": mean(precision[:, :, :, a, -1]) for name, a in areas.items()},
        **{f"ar_{n}": mean(recall[:, :, 0, m]) for m, n in enumerate(most)},
        **{f"ar_{name}": mean(recall[:, :, a, -1]) for name, a in areas.items()},
        "ap": [mean(precision[:, :, c, 0, -1]) for c in range(k)], "ap_50": [mean(precision[0, :, c, 0, -1]) for c in range(k)],
        "ar": [mean(recall[:, c, 0, -1]) for c in range(k)],
    }  # fmt: skip


def test_every_metric_equals_pycocotools():
    defined = dict.fromkeys(b.AREAS, 0)
    for seed in range(CASES):
        truth, found, k = case(seed)
        most = MOST[seed % 4 == 3]
        got = b.coco(truth, found, [str(c) for c in range(k)], most)
        flat = got | got.pop("per_class")
        for name, value in wanted(truth, found, k, most).items():
            assert flat[name] == pytest.approx(value, abs=1e-12), (seed, name)
        for area in defined:
            defined[area] += bool(flat["map" if area == "all" else f"map_{area}"])
    assert min(defined.values()) > CASES / 3, "the cases must reach every range of areas"


def test_an_image_may_be_empty_on_both_sides():
    assert b.coco([EMPTY], [NOTHING], ["a"])["map"] is None
    assert b.confusion([EMPTY], [NOTHING], ["a"]).sum() == 0
    thing = {"boxes": [[0, 0, 10, 10]], "classes": [0], "crowd": [0], "areas": [100]}
    assert b.coco([thing, EMPTY], [NOTHING, NOTHING], ["a", "b"])["map"] == 0
    assert b.coco([thing], [NOTHING], ["a", "b"])["per_class"]["ap"] == [0, None]


def square(x, size=10):
    return [x, 0, x + size, size]


def test_average_precision_of_a_case_done_by_hand():
    """Of two objects the surest box hits one, the second hits nothing, the third hits the other."""
    truth = [{"boxes": [square(0), square(50)], "classes": [0, 0], "crowd": [0, 0], "areas": [100, 100]}]
    found = [{"boxes": [square(0), square(100), square(50)], "classes": [0, 0, 0], "scores": [0.9, 0.8, 0.7]}]
    got = b.coco(truth, found, ["a"])
    # 51 of 101 recalls lie at 0.5 or below, with a precision of 1; the others have 2 of 3.
    assert (got["map"], got["map_50"]) == pytest.approx([(51 + 50 * 2 / 3) / 101] * 2)
    assert (got["ar_1"], got["ar_100"]) == (0.5, 1.0)
    assert got["map_small"] == got["map"] and got["map_large"] is None


def test_a_box_that_overlaps_by_two_thirds_counts_up_to_that_overlap():
    truth = [{"boxes": [square(0)], "classes": [0], "crowd": [0], "areas": [100]}]
    found = [{"boxes": [[0, 0, 10, 6.5]], "classes": [0], "scores": [0.5]}]
    got = b.coco(truth, found, ["a"])
    assert (got["map_50"], got["map_75"]) == (pytest.approx(1), 0)
    assert got["map"] == pytest.approx(0.4), "0.50, 0.55, 0.60 and 0.65"


def test_boxes_on_a_crowd_are_neither_right_nor_wrong():
    truth = [{"boxes": [square(0), [100, 0, 200, 100]], "classes": [0, 0], "crowd": [0, 1], "areas": [100, 5000]}]
    found = [{"boxes": [square(110), square(150), square(0)], "classes": [0, 0, 0], "scores": [0.9, 0.8, 0.7]}]
    assert b.coco(truth, found, ["a"])["map"] == pytest.approx(1)
    assert b.confusion(truth, found, ["a"]).tolist() == [[1, 0], [0, 0]]


def test_the_confusion_counts_what_is_missed_mistaken_and_invented():
    truth = [{"boxes": [square(0), square(50), square(80)], "classes": [0, 1, 1], "crowd": [0] * 3, "areas": [100] * 3}]
    boxes = [square(0), square(50), square(120), square(1)]
    found = [{"boxes": boxes, "classes": [0, 0, 1, 0], "scores": [0.9, 0.8, 0.7, 0.2]}]
    assert b.confusion(truth, found, ["a", "b"]).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert b.confusion(truth, found, ["a", "b"], least=0.95).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 0]]


def test_of_two_boxes_on_one_object_the_one_of_its_class_takes_it():
    truth = [{"boxes": [square(0)], "classes": [0], "crowd": [0], "areas": [100]}]
    found = [{"boxes": [square(0), square(0)], "classes": [1, 0], "scores": [0.9, 0.8]}]
    assert b.confusion(truth, found, ["a", "b"]).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_the_diagonal_of_the_confusion_is_what_the_threshold_reports():
    for seed in range(40):
        truth, found, k = case(seed)
        matched = b.match(truth, found, k)
        best = b.best_threshold(matched)
        if best["f1"] is None:
            continue
        counts = b.confusion(truth, found, [str(c) for c in range(k)], least=best["threshold"])
        objects = sum(int((~np.asarray(t["crowd"], bool)).sum()) for t in truth)
        assert counts[:-1].sum() == objects
        assert np.trace(counts) / objects == pytest.approx(best["recall"])
        assert np.trace(counts) / max(counts[:, :-1].sum(), 1) == pytest.approx(best["precision"])


def test_no_other_threshold_has_a_larger_f1():
    for seed in range(40):
        truth, found, k = case(seed)
        best = b.best_threshold(b.match(truth, found, k))
        objects = sum(int((~np.asarray(t["crowd"], bool)).sum()) for t in truth)
        if not objects:
            continue
        for least in {s for f in found for s in f["scores"].tolist()}:
            counts = b.confusion(truth, found, [str(c) for c in range(k)], least=least)
            f1 = 2 * np.trace(counts) / (counts[:, :-1].sum() + objects)
            assert f1 <= best["f1"] + 1e-12
            assert least != best["threshold"] or f1 == pytest.approx(best["f1"])


def test_resampled_images_score_as_if_they_were_there_as_often():
    rng = np.random.default_rng(3)
    for seed in range(0, 120, 2):  # the odd ones have ties
        truth, found, k = case(seed)
        rows = np.sort(rng.integers(0, len(truth), len(truth)))
        got = b.resampled(b.match(truth, found, k), rows)
        want = b.coco([truth[i] for i in rows], [found[i] for i in rows], [str(c) for c in range(k)])
        assert (got.get("map"), got.get("map_50")) == pytest.approx((want["map"], want["map_50"]), abs=1e-12)


def table(truth, found, names):
    return {
        "truth_boxes": [np.asarray(t["boxes"]).tolist() for t in truth],
        "truth_labels": [[names[c] for c in t["classes"]] for t in truth],
        "truth_crowd": [np.asarray(t["crowd"], bool).tolist() for t in truth],
        "truth_areas": [np.asarray(t["areas"]).tolist() for t in truth],
        "boxes": [np.asarray(f["boxes"]).tolist() for f in found],
        "labels": [[names[c] for c in f["classes"]] for f in found],
        "scores": [np.asarray(f["scores"]).tolist() for f in found],
    }


def test_the_score_of_a_predictions_table_is_plain_data_and_agrees_with_the_metrics():
    truth, found, k = case(4)
    names = [f"class {c}" for c in range(k)]
    result = b.score(table(truth, found, names), {"classes": names})
    json.dumps(result, allow_nan=False)
    want = b.coco(truth, found, names)
    assert result["per_class"] == want.pop("per_class")
    assert want.items() <= result["metrics"].items()
    low, high = result["intervals"]["map"]
    assert low <= result["metrics"]["map"] <= high
    assert np.shape(result["confusion"]) == (k + 1, k + 1)
    drawn = [np.mean(p) for p in result["curves"]["precision"] if p]
    assert np.mean(drawn) == pytest.approx(result["metrics"]["map_50"], abs=1e-4), "the area under the curves"
