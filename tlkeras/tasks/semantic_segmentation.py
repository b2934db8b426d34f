"""Semantic segmentation: a class for every pixel; class 0 is the ground, where the data has such a thing."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tlkeras import decoders, mask_metrics
from tlkeras.config import Section
from tlkeras.data import images, mask_files, masks
from tlkeras.data.samples import cache_folder
from tlkeras.detectors.decode_client import in_picture
from tlkeras.errors import DataError

OUTPUT = "mask"
ANNOTATIONS = "masks"
NEW = ("neck", "head")
RECIPE = "places"


class Options(Section):
    decoder: Literal[decoders.DECODERS] = Field(  # type: ignore[valid-type]
        "unet", description="What turns feature maps into a mask: unet, deeplab (sees farthest), segformer (cheapest)."
    )
    width: Annotated[int, Field(ge=8)] = Field(64, description="Channels of the decoder's finest map.")
    stride: Literal[2, 4, 8] = Field(
        4, description="Of the finest map that is used, in pixels; 2 draws finer edges and costs three times as much."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Part of the last maps left out in training.")
    loss: Literal["crossentropy", "crossentropy+dice"] = Field(
        "crossentropy+dice",
        description="dice weighs a class by how much of it is found, however small it is (arXiv:1606.04797).",
    )


def targets(labels, options: Options, classes=None):
    """Paths of index masks, and {'classes', 'ignore'}.

    Raises:
        DataError: without classes.
    """
    if not classes or len(classes) < 2:
        raise DataError(
            f"Segmentation needs the names of at least two classes, the ground first; received {list(classes or [])}. Name them in data.classes."
        )
    if len(classes) > mask_files.VOID:
        raise DataError(f"A mask holds at most {mask_files.VOID} classes; received {len(classes)}.")
    return masks.materialise(labels, list(classes), cache_folder() / "masks"), {
        "classes": list(classes),
        "ignore": mask_files.VOID,
    }


def learnt(rows, train, answer, options: Options):
    """Paths of index masks (n,), ones, and the answer."""
    return np.array(rows), np.ones(len(rows), np.float32), answer


def maps(levels, size, answer, options: Options):
    classes = len(answer["classes"])
    return decoders.build(options.decoder, levels, size, classes, options.width, options.stride, options.dropout)


def loss(options: Options):
    import keras
    from keras import ops

    class Pixels(keras.losses.Loss):
        """y (B, height, width) class numbers, 255 for pixels that count neither way; raw logits (B, height, width, k)."""

        def call(self, y, raw):
            y = ops.cast(y, "int32")
            counted = ops.cast(y != mask_files.VOID, raw.dtype)
            target = ops.one_hot(ops.where(y == mask_files.VOID, 0, y), raw.shape[-1], dtype=raw.dtype)
            # Written out, since one over pixels that are all left out would be 0 / 0.
            entropy = -ops.sum(target * ops.log_softmax(raw), -1) * counted
            found = ops.sum(entropy, (1, 2)) / ops.maximum(ops.sum(counted, (1, 2)), 1)
            return found if options.loss == "crossentropy" else found + _dice(target, ops.softmax(raw), counted)

    return Pixels(name="pixels")


def _dice(target, given, counted):
    """1 - the mean Dice over the classes of the batch, (1,): of the batch as a whole, since one picture holds few."""
    from keras import ops

    counted = ops.expand_dims(counted, -1)
    both = ops.sum(target * given * counted, (0, 1, 2))
    each = ops.sum((target + given) * counted, (0, 1, 2))
    present = ops.cast(ops.sum(target * counted, (0, 1, 2)) > 0, given.dtype)
    share = (2 * both + 1) / (each + 1)
    return 1 - ops.sum(share * present, keepdims=True) / ops.maximum(ops.sum(present), 1)


def metrics(options: Options) -> list:
    return []


def finish(raw, answer):
    import tensorflow as tf

    # Keras' argmax looks at the bits of -0.0, by an operator that TFLite does not have.
    return tf.cast(tf.argmax(raw, axis=-1, output_type=tf.int32), tf.uint8)


def strata(rows, answer):
    return None


def columns(rows, found, answer) -> dict:
    import pyarrow

    k = len(answer["classes"])
    truth = [mask_files.load(path) for path in rows]
    letterbox = answer.get("letterbox")
    found = [in_picture(np.asarray(f, np.uint8), t.shape, letterbox) for f, t in zip(found, truth, strict=True)]
    counts = [mask_metrics.confusion(t, f, k, answer["ignore"]).ravel() for t, f in zip(truth, found, strict=True)]
    numbers = pyarrow.list_(pyarrow.int64())
    return {
        "height": [t.shape[0] for t in truth],
        "width": [t.shape[1] for t in truth],
        "truth": pyarrow.array([mask_metrics.runs(t) for t in truth], numbers),
        "found": pyarrow.array([mask_metrics.runs(f) for f in found], numbers),
        "counts": pyarrow.array(counts, numbers),
    }


def MAIN(answer) -> tuple[str, bool]:
    return "miou", True


score = mask_metrics.score


def apart(got, expected) -> tuple[float, float]:
    """The share of pixels with another class, and how much of that rounding explains."""
    return float((got != expected).mean()), 1e-3


def decode(mask, answer, size=None) -> dict:
    """{'shares': {class: part of the picture}, 'size', 'mask': value, length, value, length, ... row by row}."""
    mask = np.asarray(mask, np.uint8)
    mask = mask if size is None else in_picture(mask, size, answer.get("letterbox"))
    counts = np.bincount(mask.ravel(), minlength=len(answer["classes"])) / mask.size
    found = {c: round(float(n), 6) for c, n in zip(answer["classes"], counts, strict=True) if n}
    shares = dict(sorted(found.items(), key=lambda item: -item[1]))
    return {"shares": shares, "size": list(mask.shape), "mask": mask_metrics.runs(mask)}


def serving(mask, answer, sizes) -> dict:
    """What an artefact answers: the class of every pixel at the network's size, the names of the classes, and where
    pictures are letterboxed `shown` (B, 2), how many rows and columns are the picture."""
    import tensorflow as tf

    names = tf.constant(answer["classes"])
    found = {"mask": mask, "classes": tf.tile(names[None], [tf.shape(mask)[0], 1]), "sizes": sizes}
    if letterbox := answer.get("letterbox"):
        found["shown"] = tf.map_fn(lambda size: images.inner(size, letterbox), sizes, fn_output_signature=tf.int32)
    return found
