"""The backbones of EfficientDet: EfficientNets that pad as TensorFlow does, up to their last stage.

With swish and squeeze-and-excitation, and BatchNorm of epsilon 1e-3. Feature maps of strides 8, 16 and 32 are the
ends of block3, block5 and block7. D7 is as wide as D6, and reads larger images.

Sources: Tan and Le, EfficientNet (arXiv:1905.11946); Tan, Pang, Le, EfficientDet (arXiv:1911.09070). Names in
checkpoints are timm's (tf_efficientnet_b0..., Apache-2.0) and, behind 'backbone.', effdet's (Apache-2.0).
"""

import math
from functools import partial

from tlkeras.backbones import Backbone, Pixels
from tlkeras.backbones.efficientnet_lite import STAGES, STEM, conv, ends, scaled, stages
from tlkeras.foreign.torch_fields import fields

# Name: width, depth, pixels a side, weights (BatchNorm statistics too; measured).
VARIANTS = {
    "efficientdet_d0": (1.0, 1.0, 512, 3_634_844),
    "efficientdet_d1": (1.0, 1.1, 640, 6_160_512),
    "efficientdet_d2": (1.1, 1.2, 768, 7_267_314),
    "efficientdet_d3": (1.2, 1.4, 896, 10_187_560),
    "efficientdet_d4": (1.4, 1.8, 1024, 16_863_832),
    "efficientdet_d5": (1.6, 2.2, 1280, 27_456_752),
    "efficientdet_d6": (1.8, 2.6, 1280, 39_623_816),
    "efficientdet_d7": (1.8, 2.6, 1536, 39_623_816),
}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # Of ImageNet, of pixels in 0..1.

# What else checkpoints hold: the rest of the detector, or of the classifier.
CLASSIFIER = ("fpn.", "class_net.", "box_net.", "conv_head.", "bn2.", "classifier.")
PREFIX = "backbone."
# Beside pictures that keep their shape, as the checkpoints were trained: the mean (effdet, data/transforms.py: ResizePad).
COLOUR = (124.0, 116.0, 104.0)


def entries() -> tuple[Backbone, ...]:
    """The backbones of D0 to D7, as catalogue entries."""
    scale = tuple(1 / (255 * s) for s in DEVIATION)
    offset = tuple(-m / s for m, s in zip(MEAN, DEVIATION, strict=True))
    return tuple(
        Backbone(
            name=name,
            family="efficientdet",
            build=partial(build, name),
            blocks=boundaries(depth),
            pixels=Pixels((side, side), scale, offset, pad=COLOUR),
            parameters=parameters,
            description=f"EfficientNet as in EfficientDet-{name[-2:].upper()}; width {width}, depth {depth}.",
        )
        for name, (width, depth, side, parameters) in VARIANTS.items()
    )


def build(name: str, size: tuple[int, int], weights: str | None = None):
    """Builds a variant: (B, height, width, 3) normalised pixels to features (B, height / 32, width / 32, c).

    `size` is (height, width). There are no sources, so `weights` is None; `tlkeras.weights.load` reads a file.
    """
    import keras

    width, depth, _, _ = VARIANTS[name]
    inputs = keras.Input((*size, 3), name="pixels")
    x = conv(inputs, scaled(STEM, width), 3, 2, "stem", _swish)
    return keras.Model(inputs, stages(x, width, _repeats(depth), _swish, squeeze=True), name=name)


def boundaries(depth: float) -> tuple[tuple[str, str], ...]:
    """The blocks: the stem, and each stage up to its last layer."""
    return (("stem", "stem_swish"), *ends(_repeats(depth))[:-1], ("block7", ""))


def _repeats(depth: float) -> list[int]:
    return [math.ceil(depth * stage[1]) for stage in STAGES]


def torch_names(model) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """{variable path: (name in effdet's checkpoint, axes to transpose by or None)} of the layers of a backbone.

    In stages without expansion the names of later layers move up by one, and the last convolution is called conv_pw.
    """
    wide = {
        "expand_conv": "conv_pw",
        "expand_bn": "bn1",
        "dwconv": "conv_dw",
        "dwconv_bn": "bn2",
        "project_conv": "conv_pwl",
        "project_bn": "bn3",
    }
    narrow = {"dwconv": "conv_dw", "dwconv_bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}
    squeeze = {"se_reduce": "se.conv_reduce", "se_expand": "se.conv_expand"}
    names = {}
    for layer in model.layers:
        start, _, part = layer.name.partition("_")
        if start == "stem" and layer.weights:
            module = {"conv": "conv_stem", "bn": "bn1"}[part]
        elif start.startswith("block") and layer.weights:
            stage, index = int(start[5]), ord(start[6]) - ord("a")
            parts = (narrow if STAGES[stage - 1][3] == 1 else wide) | squeeze
            module = f"blocks.{stage - 1}.{index}.{parts[part]}"
        else:
            continue
        for path, field, axes in fields(layer):
            names[path] = (f"{PREFIX}{module}.{field}", axes)
    return names


def _swish(x, name: str):
    from keras import layers

    return layers.Activation("silu", name=f"{name}_swish")(x)
