"""EfficientDet: a pyramid that goes up and down several times (BiFPN), and towers of separable convolutions.

Levels share the convolutions of the towers, and each has a BatchNorm of its own behind every one. Constants, order of
anchors and padding are those of the checkpoints (D0 to D7 of google/automl, Apache-2.0), so that these can be loaded.

Source: Tan, Pang, Le, EfficientDet (arXiv:1911.09070).
"""

from tlkeras.detectors import losses
from tlkeras.detectors.retinanet import PRIOR, enlarged, fitted

# In the paper's code the weight of the box loss is 50, of a mean over the four offsets.
OPTIONS = {"positive": 0.5, "negative": 0.5, "alpha": 0.25, "gamma": 1.5, "delta": 0.1, "box_weight": 12.5}

# The nodes of a cell: which level they are on, and which of the tensors before (first the five levels) they sum.
NODES = (
    *((6, (3, 4)), (5, (2, 5)), (4, (1, 6)), (3, (0, 7))),
    *((4, (1, 7, 8)), (5, (2, 6, 9)), (6, (3, 5, 10)), (7, (4, 11))),
)


def units(anchor: float) -> list[tuple[float, float]]:
    """(width, height) of the 9 anchors in cells: 3 sizes by ratios 1:1, 2:1 and 1:2."""
    return [
        (anchor * 2 ** (i / 3) * w, anchor * 2 ** (i / 3) * h)
        for i in range(3)
        for w, h in ((1, 1), (1.4, 0.7), (0.7, 1.4))
    ]


def build(features, classes: int, scale: dict):
    """The detector on three feature maps; `scale`: width, cells, depth, weighted, anchor."""
    from tlkeras.detectors.layers import Levels, Raw

    levels = neck(features, scale)
    anchors = units(scale["anchor"])
    of_classes = tower(levels, "class_net", len(anchors) * classes, PRIOR, scale)
    of_boxes = tower(levels, "box_net", len(anchors) * 4, 0.0, scale)
    logits = Levels(classes, dtype="float32", name="head_logits")(of_classes)
    offsets = Levels(4, dtype="float32", name="head_offsets")(of_boxes)
    return Raw([x.shape[1:3] for x in levels], anchors, 0.5, dtype="float32", name="head_raw")(offsets, logits)


def neck(features, scale: dict) -> list:
    """Three maps (B, h, w, c) to five (B, h, w, width) of strides 8 to 128."""
    levels = [*features]
    for level in (3, 4):
        shape = [-(-side // 2) for side in levels[-1].shape[1:3]]
        levels.append(_resampled(levels[-1], shape, scale["width"], f"neck_resample_{level}"))
    for cell in range(scale["cells"]):
        levels = _cell(levels, scale, f"neck_cell_{cell}")
    return levels


def _cell(levels: list, scale: dict, name: str) -> list:
    from keras import layers

    from tlkeras.detectors.layers import WeightedSum

    tensors = [*levels]
    for number, (level, offsets) in enumerate(NODES):
        node, shape = f"{name}_fnode_{number}", levels[level - 3].shape[1:3]
        inputs = [_resampled(tensors[i], shape, scale["width"], f"{node}_combine_resample_{i}") for i in offsets]
        combine = WeightedSum if scale["weighted"] else layers.Add
        x = layers.Activation("silu", name=f"{node}_act")(combine(name=f"{node}_combine")(inputs))
        x = _separable(scale["width"], f"{node}_after_combine_conv")(x)
        tensors.append(_normal(f"{node}_after_combine_conv_bn")(x))
    return tensors[-5:]


def _resampled(x, shape, width: int, name: str):
    """A map with `width` channels and of `shape` (height, width): narrowed, then pooled or enlarged."""
    from keras import layers

    if x.shape[-1] != width:
        x = layers.Conv2D(width, 1, name=f"{name}_conv_conv")(x)
        x = _normal(f"{name}_conv_bn")(x)
    if any(have > want for have, want in zip(x.shape[1:3], shape, strict=True)):
        x = layers.MaxPooling2D(3, 2, "same", name=f"{name}_downsample")(x)
        return fitted(x, shape, f"{name}_downsample")
    if tuple(x.shape[1:3]) != tuple(shape):
        return enlarged(x, shape, f"{name}_upsample")
    return x


def _normal(name: str):
    from keras import layers

    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=name)


def _separable(filters: int, name: str, bias: float = 0.0, dtype=None, spread: str = "fan_avg"):
    """A convolution of each channel, then one across channels with a bias: a function that shares its layers."""
    from keras import initializers, layers

    draw = initializers.VarianceScaling(1.0, spread, "uniform" if spread == "fan_avg" else "untruncated_normal")
    each = layers.DepthwiseConv2D(
        3, padding="same", use_bias=False, depthwise_initializer=draw, dtype=dtype, name=f"{name}_conv_dw"
    )
    across = layers.Conv2D(
        filters,
        1,
        kernel_initializer=draw,
        bias_initializer=initializers.Constant(bias),
        dtype=dtype,
        name=f"{name}_conv_pw",
    )
    return lambda x: across(each(x))


def tower(levels, name: str, filters: int, bias: float, scale: dict) -> list:
    """The same separable convolutions over every level with a BatchNorm each, and the predictor, in float32."""
    from keras import layers

    convs = [_separable(scale["width"], f"head_{name}_conv_rep_{i}", spread="fan_in") for i in range(scale["depth"])]
    predict = _separable(filters, f"head_{name}_predict", bias, "float32", "fan_in")
    found = []
    for level, x in enumerate(levels):
        for i, conv in enumerate(convs):
            x = _normal(f"head_{name}_bn_rep_{i}_{level}_bn")(conv(x))
            x = layers.Activation("silu", name=f"head_{name}_act_{i}_{level}")(x)
        found.append(predict(x))
    return found


def loss(y, raw, **options):
    """(B,): each image's loss by the number of anchors that take a box in the mean image of the batch, and one more."""
    from keras import ops

    total, taken = losses.of_anchors(y, raw, **options)
    count = ops.cast(ops.shape(total)[0], "float32")
    return total * count / (ops.sum(taken) + 1.0)
