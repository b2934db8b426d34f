"""Object detection: where things are in a picture, what they are, and how sure the network is."""

from collections import Counter
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tlkeras import box_metrics, detectors
from tlkeras.config import Section
from tlkeras.data import images
from tlkeras.detectors import decode_client
from tlkeras.errors import DataError, ModelError, nearest

OUTPUT = "detections"
ANNOTATIONS = "boxes"
NEW = ("neck", "head")
RECIPE = "places"
STRIDES = (8, 16, 32)  # of the feature maps that every detector reads


class Options(Section):
    detector: Literal[detectors.DETECTORS] = Field(  # type: ignore[valid-type]
        "retinanet", description="Neck and head: retinanet and efficientdet with anchors, yolox (SimOTA) without."
    )
    scale: str | None = Field(
        None, description="Size of neck and head, such as d0 or s (docs/detection.md). None: the detector's usual one."
    )
    most: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="Boxes an answer may have.")
    iou: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Overlap from which the less sure of two boxes of one class is dropped."
    )
    least_score: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="Boxes of lower scores are dropped before that; mAP wants it low."
    )
    threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.3, description="Score from which `predict` and the server show a box."
    )


def targets(labels, options: Options, classes=None):
    """Annotations with class numbers in place of names, and what the outputs mean.

    Raises:
        DataError: for names that `classes` does not list, or data without a box.
    """
    found = Counter(name for label in labels for name in label["names"])
    names = list(classes) if classes else sorted(found)
    if strange := [c for c in found if c not in set(names)]:
        raise DataError(
            f"Categories that data.classes does not list: {', '.join(f'{c!r} ({found[c]})' for c in sorted(strange)[:10])}.{nearest(strange[0], names)}"
        )
    if not found:
        raise DataError(f"Detection needs boxes; none of the {len(labels)} pictures has one.")
    number = {c: i for i, c in enumerate(names)}
    rows = [
        {
            "size": label["size"],
            "boxes": np.array(label["boxes"], np.float64).reshape(-1, 4),
            "classes": np.array([number[c] for c in label["names"]], int),
            "crowd": np.array(label["crowd"], bool),
            "areas": np.array(label["areas"], np.float64),
        }
        for label in labels
    ]
    shown = options.model_dump(include={"detector", "most", "iou", "least_score", "threshold"})
    return rows, {"classes": names, **shown}


def learnt(rows, train, answer, options: Options):
    """Boxes (n, m, 5) as `detectors.loss` reads them: x0, y0, x1, y1 as parts of what the network sees, class; -1 behind
    them.

    Raises:
        DataError: for a class without a box to learn from.
    """
    seen = {int(c) for i in train for c, crowd in zip(rows[i]["classes"], rows[i]["crowd"], strict=True) if not crowd}
    if unseen := [c for i, c in enumerate(answer["classes"]) if i not in seen]:
        raise DataError(
            f"Every class needs boxes in the training split; without one: {', '.join(unseen)}. Add some, or leave the class out with data.classes."
        )
    table = np.full((len(rows), max(1, *(len(row["classes"]) for row in rows)), 5), -1, np.float32)
    for to, row in zip(table, rows, strict=True):
        height, width = row["size"]
        n = len(row["classes"])
        high, wide = decode_client.shown(row["size"], answer.get("letterbox"))
        to[:n, :4] = row["boxes"] / [width, height, width, height] * [wide, high, wide, high]
        to[:n, 4] = np.where(row["crowd"], -2 - row["classes"], row["classes"])
    return table, np.ones(len(rows), np.float32), answer


def maps(levels, size, answer, options: Options):
    if missing := [s for s in STRIDES if s not in levels]:
        raise ModelError(
            f"A detector reads feature maps of strides 8, 16 and 32; this backbone has none of {', '.join(map(str, missing))}, but of {', '.join(map(str, levels)) or 'no'}. Take backbone.until away, or another backbone, as efficientnet_lite0."
        )
    chosen = [levels[stride] for stride in STRIDES]
    return detectors.raw(options.detector, chosen, size, len(answer["classes"]), options.scale)


def loss(options: Options):
    import keras

    each = detectors.loss(options.detector)

    class Boxes(keras.losses.Loss):
        def call(self, y, raw):
            return each(y, raw)

    return Boxes(name="boxes")


def metrics(options: Options) -> list:
    return []


def finish(raw, answer):
    return detectors.finish(answer["detector"], raw, answer["most"], answer["iou"], answer["least_score"])


def strata(rows, answer):
    """The rarest class of each picture, so that rare ones reach every split; -1 without a box."""
    total = np.bincount(np.concatenate([row["classes"] for row in rows]), minlength=len(answer["classes"]))
    found = [int(min(row["classes"], key=lambda c: total[c])) if len(row["classes"]) else -1 for row in rows]
    counts = Counter(found)
    return [c if counts[c] >= 3 else max(counts, key=counts.__getitem__) for c in found]


def columns(rows, found, answer) -> dict:
    import pyarrow

    names = np.array(answer["classes"], object)
    letterbox = answer.get("letterbox")
    placed_ = [decode_client.in_pixels(f, row["size"], letterbox) for f, row in zip(found, rows, strict=True)]
    number = pyarrow.list_(pyarrow.float64())
    words, boxes = pyarrow.list_(pyarrow.string()), pyarrow.list_(number)
    return {
        "height": [row["size"][0] for row in rows],
        "width": [row["size"][1] for row in rows],
        "truth_boxes": pyarrow.array([row["boxes"].tolist() for row in rows], boxes),
        "truth_labels": pyarrow.array([names[row["classes"]].tolist() for row in rows], words),
        "truth_crowd": pyarrow.array([row["crowd"].tolist() for row in rows], pyarrow.list_(pyarrow.bool_())),
        "truth_areas": pyarrow.array([row["areas"].tolist() for row in rows], number),
        "boxes": pyarrow.array([p[:, :4].tolist() for p in placed_], boxes),
        "labels": pyarrow.array([names[p[:, 4].astype(int)].tolist() for p in placed_], words),
        "scores": pyarrow.array([p[:, 5].tolist() for p in placed_], number),
    }


def MAIN(answer) -> tuple[str, bool]:
    return "map", True


score = box_metrics.score


def apart(got, expected) -> tuple[float, float]:
    """The share of boxes without a counterpart of nearly the same place and score, and how much rounding explains:
    where two boxes overlap by just the limit, it decides which one stays."""
    missing = total = 0
    for a, b in zip(got, expected, strict=True):
        a, b = a[a[:, 5] > 0], b[b[:, 5] > 0]
        total += len(b)
        if len(b):
            near = (np.abs(a[None] - b[:, None]) < 5e-3).all(-1) if len(a) else np.zeros((len(b), 1), bool)
            missing += int((~near.any(1)).sum())
    return missing / max(total, 1), 0.02


def decode(found, answer, size=None) -> dict:
    """{'boxes': [{'label', 'score', 'box': [x0, y0, x1, y1]}, ...]}, the surest first; places are in pixels where the
    (height, width) of the picture is given, else parts of it."""
    return {
        "boxes": [
            {
                "label": answer["classes"][int(row[4])],
                "score": round(float(row[5]), 6),
                "box": [round(float(v), 2 if size else 6) for v in row[:4]],
            }
            for row in decode_client.in_pixels(found, size or (1, 1), answer.get("letterbox") if size else None)
            if row[5] >= answer["threshold"]
        ]
    }


def serving(found, answer, sizes) -> dict:
    """What an artefact answers, as named TensorFlow tensors: boxes (B, most, 4) in pixels of the picture as x0, y0, x1,
    y1, labels and scores (B, most), '' and 0 where there are fewer, and their count; `detections` has them all as parts
    of the picture."""
    import tensorflow as tf

    names = tf.constant([*answer["classes"], ""])
    there = found[:, :, 5] > 0
    number = tf.where(there, tf.cast(found[:, :, 4], tf.int32), len(answer["classes"]))
    sides, parts = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), found.dtype), found[:, :, :4]
    if letterbox := answer.get("letterbox"):
        small = tf.map_fn(lambda size: images.inner(size, letterbox), sizes, fn_output_signature=tf.int32)
        shown = tf.cast(small, found.dtype) / tf.constant(letterbox, found.dtype)
        parts = tf.minimum(parts / tf.gather(shown, [1, 0, 1, 0], axis=1)[:, None], 1.0)
    return {
        "boxes": tf.where(there[..., None], parts * sides[:, None], 0.0),
        "labels": tf.gather(names, number),
        "scores": found[:, :, 5],
        "count": tf.reduce_sum(tf.cast(there, tf.int32), 1),
        OUTPUT: found,
    }
