"""RetinaNet: a feature pyramid P3 to P7, and two towers of convolutions that all levels share.

As in the paper (Lin et al. 2017, arXiv:1708.02002), with two changes that let it learn from few images on any
backbone: BatchNorm in the pyramid up to P5, since backbones differ in the size of what they give, and convolutions
drawn by He's rule instead of a deviation of 0.01, which lets hardly any gradient through four of them.
"""

import math

from tlkeras.detectors import losses

# The paper's. The box loss is smooth L1 with a corner at 1/9: 9 times Huber's.
OPTIONS = {"positive": 0.5, "negative": 0.4, "alpha": 0.25, "gamma": 2.0, "delta": 1 / 9, "box_weight": 9.0}
PRIOR = -math.log((1 - 0.01) / 0.01)


def units(anchor: float) -> list[tuple[float, float]]:
    """(width, height) of the 9 anchors in cells: 3 sizes by ratios 1:1, 2:1 and 1:2 of the same area."""
    ratios = (1.0, math.sqrt(2), 1 / math.sqrt(2))
    return [(anchor * 2 ** (i / 3) * r, anchor * 2 ** (i / 3) / r) for i in range(3) for r in ratios]


def build(features, classes: int, scale: dict):
    """The detector on three feature maps; `scale`: width, depth, anchor."""
    from tlkeras.detectors.layers import Levels, Raw

    levels = neck(features, scale["width"])
    anchors = units(scale["anchor"])
    kinds = (("class", len(anchors) * classes, PRIOR), ("box", len(anchors) * 4, 0.0))
    maps = {name: tower(levels, name, filters, bias, scale) for name, filters, bias in kinds}
    logits = Levels(classes, dtype="float32", name="head_logits")(maps["class"])
    offsets = Levels(4, dtype="float32", name="head_offsets")(maps["box"])
    return Raw([x.shape[1:3] for x in levels], anchors, 0.5, dtype="float32", name="head_raw")(offsets, logits)


def neck(features, width: int) -> list:
    """Three maps (B, h, w, c) to five (B, h, w, width) of strides 8 to 128."""
    from keras import layers

    def conv(x, kernel, name, stride=1):
        return layers.Conv2D(width, kernel, stride, "same", name=f"neck_{name}")(x)

    def normal(x, kernel, name):
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"neck_{name}_bn")(conv(x, kernel, name))

    p5, found = None, {}
    for level, x in reversed(list(enumerate(features, 3))):
        x = normal(x, 1, f"lateral{level}")
        if p5 is not None:
            x = layers.Add(name=f"neck_add{level}")([x, enlarged(p5, x.shape[1:3], f"neck_up{level}")])
        p5 = x
        found[level] = normal(x, 3, f"p{level}")
    found[6] = conv(found[5], 3, "p6", 2)
    found[7] = conv(layers.ReLU(name="neck_p6_relu")(found[6]), 3, "p7", 2)
    return [found[level] for level in range(3, 8)]


def enlarged(x, shape, name: str):
    """Twice as large by repeating, then of `shape` (height, width)."""
    from keras import layers

    return fitted(layers.UpSampling2D(2, name=name)(x), shape, name)


def fitted(x, shape, name: str):
    """Cut at the far sides to `shape` (height, width), or filled up there: halves of odd sizes, borders not padded."""
    from keras import layers

    surplus = [have - want for have, want in zip(x.shape[1:3], shape, strict=True)]
    if any(n > 0 for n in surplus):
        x = layers.Cropping2D([(0, max(n, 0)) for n in surplus], name=f"{name}_cut")(x)
    if any(n < 0 for n in surplus):
        x = layers.ZeroPadding2D([(0, max(-n, 0)) for n in surplus], name=f"{name}_fill")(x)
    return x


def tower(levels, name: str, filters: int, bias: float, scale: dict) -> list:
    """The same convolutions over every level, and the predictor behind them, which computes in float32."""
    from keras import initializers, layers

    convs = [
        layers.Conv2D(
            scale["width"],
            3,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"head_{name}_{i}",
        )
        for i in range(scale["depth"])
    ]
    predict = layers.Conv2D(
        filters,
        3,
        padding="same",
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        bias_initializer=initializers.Constant(bias),
        dtype="float32",
        name=f"head_{name}_predict",
    )
    found = []
    for x in levels:
        for conv in convs:
            x = conv(x)
        found.append(predict(x))
    return found


def loss(y, raw, **options):
    """(B,): each image's loss by the number of its anchors that take a box."""
    from keras import ops

    total, taken = losses.of_anchors(y, raw, **options)
    return total / ops.maximum(taken, 1.0)
