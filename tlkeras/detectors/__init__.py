"""Detectors: a neck and a head on the feature maps of any backbone, their losses, and the boxes they find.

    retinanet      FPN, P3 to P7; shared towers of convolutions; 9 anchors a place (Lin et al. 2017, arXiv:1708.02002)
    efficientdet   BiFPN, separable convolutions, 9 anchors a place (Tan et al. 2020, arXiv:1911.09070)
    yolox          PAFPN; one box a cell, no anchors; objectness (Ge et al. 2021, arXiv:2107.08430)

All three speak one language, `raw`: float32 (B, A, 8 + k), a row per place where a box can be found:

    0..3   the place: x, y, width, height relative to the image. An anchor with its centre; for yolox a cell of the
           grid with its upper left corner
    4..7   offsets: x and y in units of the place's size, the logarithms of width and height in the same units
    8..    logits: one per class; for yolox objectness first

so a box is centred at xy + offset * wh and wh * exp(offset) large, whatever the detector. Layers of the neck are
called neck_*, those of the head head_*. What scales are there, by name, is in SCALES.
"""

import importlib

from tlkeras.detectors.scales import SCALES, scale_of
from tlkeras.errors import ModelError, UsageError, nearest

__all__ = ["DETECTORS", "SCALES", "finish", "load", "loss", "parts", "raw", "whole"]

DETECTORS = tuple(SCALES)


def raw(kind: str, features, size: tuple[int, int], classes: int, scale=None):
    """Builds neck and head: three KerasTensors (B, h, w, c) of strides 8, 16, 32 to float32 (B, A, 8 + k), see above.

    `size` is (height, width) of the pixels the features come from; `scale` is a name in SCALES[kind], a dict that
    changes some of the default's numbers, or None for the default.

    Raises:
        UsageError: when there is no such detector or scale.
        ModelError: when the features are not of these strides.
    """
    module = _module(kind)
    _check(features, size)
    if classes < 1:
        raise UsageError(f"A detector needs one class or more; received {classes}.")
    return module.build(list(features), classes, scale_of(kind, scale))


def loss(kind: str, **options):
    """Returns f(y, raw) -> (B,), to be minimised: a loss as Keras takes it.

    `y` is float32 (B, M, 5): x0, y0, x1, y1 relative to the image, and the number of the class. Rows without a box
    are -1 throughout; a region that is a crowd of class c has the class -2 - c, and what lies on it counts neither
    as found nor as wrong. `options` change the constants of the detector's module (OPTIONS).

    Raises:
        UsageError: when there is no such detector or option.
    """
    module = _module(kind)
    if strange := sorted(options.keys() - module.OPTIONS.keys()):
        raise UsageError(
            f"The loss of {kind} has no option {strange[0]!r}.{nearest(strange[0], module.OPTIONS)} "
            f"It has: {', '.join(module.OPTIONS)}."
        )
    from tlkeras.detectors.layers import DetectionLoss

    return DetectionLoss(kind, **{**module.OPTIONS, **options})


def finish(kind: str, raw, most: int = 100, iou: float = 0.5, least_score: float = 0.05, candidates: int = 1000):
    """The boxes in raw outputs (B, A, 8 + k), a TensorFlow tensor: float32 (B, most, 6), best first.

    A row is x0, y0, x1, y1 relative to the image (0..1), the number of the class, and the score; where there are
    fewer than `most`, rows of -1 with score 0. Of boxes of one class that overlap by more than `iou`, the best stays
    (greedy, exact, among the `candidates` best pairs of place and class).
    """
    from tlkeras.detectors import boxes

    found, scores = boxes.decoded(raw[..., :4], raw[..., 4:8]), boxes.scores(kind, raw[..., 8:])
    return boxes.best(found, scores, most, iou, least_score, candidates)


def parts(kind: str, model):
    """Takes a detector apart for clients that decode by themselves (decode_client.py): (model, locations).

    The model gives offsets (B, A, 4) and scores (B, A, classes) in 0..1 as two tensors, so that int8 can give each
    its own range; `locations` is float32 (A, 4), the constants that raw outputs begin with.

    Raises:
        ModelError: when the model does not end in a detector.
    """
    import keras

    from tlkeras import blocks
    from tlkeras.detectors.layers import Scores

    needed = ("head_offsets", "head_logits", "head_raw")
    names = {layer.name for layer in model.layers}
    if missing := [name for name in needed if name not in names]:
        raise ModelError(f"{model.name} must end in a detector of this module; it has no layer {missing[0]!r}.")
    inputs = keras.Input(model.inputs[0].shape[1:], name=model.inputs[0].name, dtype=model.inputs[0].dtype)
    tensors = blocks.flatten(model, inputs)
    scores = Scores(kind, dtype="float32", name="head_scores")(tensors["head_logits"])
    return keras.Model(inputs, [tensors["head_offsets"], scores]), model.get_layer("head_raw").locations


def load(kind: str, model, tensors: dict) -> tuple[list[str], list[str], list[str]]:
    """Fills an assembled detector from the state dict of a public checkpoint: (used, unused, missing).

    Backbone, neck and head are filled, the predictor of the classes only where it has as many; `used` and `unused` are
    names of tensors, `missing` paths of weights that stay as they were. Layouts: see the module of the detector.

    Raises:
        ModelError: when no layout is known for this detector, or anything but the predictor of the classes has
            another shape or no tensor.
    """
    from tlkeras.detectors import checkpoints

    return checkpoints.load(kind, model, tensors)


def whole(kind: str, tensors: dict) -> bool:
    """Whether a state dict holds neck and head of a detector of this kind, and not its backbone alone."""
    return any(name.startswith({"efficientdet": "fpn.", "yolox": "head."}.get(kind, "\0")) for name in tensors)


def _module(kind: str):
    if kind not in SCALES:
        raise UsageError(f"There is no detector {kind!r}; there are {', '.join(SCALES)}.{nearest(kind, SCALES)}")
    return importlib.import_module(f"tlkeras.detectors.{kind}")


def _check(features, size):
    """Strides of 8, 16 and 32, give or take what a backbone loses at its borders."""
    shapes = [tuple(x.shape) for x in features]
    wanted = [tuple(-(-side // stride) for side in size) for stride in (8, 16, 32)]
    good = len(shapes) == 3 and all(
        len(shape) == 4
        and None not in shape[1:]
        and all(0 <= w - n <= 3 for n, w in zip(shape[1:3], want, strict=True))
        for shape, want in zip(shapes, wanted, strict=True)
    )
    if not good:
        listed = " ".join("x".join(map(str, shape[1:])) for shape in shapes)
        raise ModelError(
            f"A detector needs three feature maps of strides 8, 16 and 32, for {size[0]}x{size[1]} pixels about "
            f"{' '.join('x'.join(map(str, w)) for w in wanted)}; received {listed}. Choose another backbone or size."
        )
