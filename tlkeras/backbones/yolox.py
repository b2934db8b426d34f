"""CSPDarknet, the backbone of YOLOX: cross-stage-partial stages behind a stem that folds 2x2 pixels into channels.

Pixels are BGR in 0..255 and not normalised; the weights were trained on images fitted into the upper left of a grey
(114) square. Feature maps of strides 8, 16 and 32 are the ends of dark3, dark4 and dark5.

Source: Ge et al., YOLOX (arXiv:2107.08430); names in checkpoints are those of Megvii-BaseDetection/YOLOX, Apache-2.0.
"""

from functools import partial

from tlkeras.backbones import Backbone, Pixels
from tlkeras.backbones.csp import conv_norm, stage, unit
from tlkeras.foreign.torch_fields import fields

# Name: width, depth, pixels a side, weights (BatchNorm statistics too; measured).
VARIANTS = {
    "yolox_nano": (0.25, 0.33, 416, 466_720),
    "yolox_tiny": (0.375, 0.33, 416, 2_380_416),
    "yolox_s": (0.5, 0.33, 640, 4_223_488),
    "yolox_m": (0.75, 0.67, 640, 12_374_400),
    "yolox_l": (1.0, 1.0, 640, 27_111_424),
    "yolox_x": (1.25, 1.33, 640, 50_354_560),
}
BOUNDARIES = (
    ("stem", "stem_conv_act"),
    *((f"dark{n}", f"dark{n}_1_conv3_act") for n in (2, 3, 4)),
    ("dark5", ""),
)
POOLS = (5, 9, 13)

# What else a checkpoint holds: neck and head.
CLASSIFIER = ("backbone.lateral_", "backbone.reduce_", "backbone.bu_", "backbone.C3_", "head.")
PREFIX = "backbone.backbone."
# Beside pictures that keep their shape, as the checkpoints were trained (YOLOX, yolox/data/data_augment.py: preproc).
GREY = (114.0, 114.0, 114.0)


def entries() -> tuple[Backbone, ...]:
    """The backbones of YOLOX nano to x, as catalogue entries."""
    return tuple(
        Backbone(
            name=name,
            family="yolox",
            build=partial(build, name),
            blocks=BOUNDARIES,
            pixels=Pixels((side, side), channels="bgr", pad=GREY),
            parameters=parameters,
            description=f"CSPDarknet as in YOLOX-{name.partition('_')[2]}; width {width}, depth {depth}.",
        )
        for name, (width, depth, side, parameters) in VARIANTS.items()
    )


def build(name: str, size: tuple[int, int], weights: str | None = None):
    """Builds a variant: (B, height, width, 3) BGR pixels in 0..255 to features (B, height / 32, width / 32, c).

    `size` is (height, width), both even. There are no sources, so `weights` is None; `tlkeras.weights.load` reads a file.
    """
    import keras
    from keras import layers

    from tlkeras.backbones.folding import Folded

    width, depth, _, _ = VARIANTS[name]
    depthwise, filters, repeats = name == "yolox_nano", int(64 * width), round(3 * depth)
    conv = unit(depthwise)
    inputs = keras.Input((*size, 3), name="pixels")
    x = conv_norm(Folded(name="stem_fold")(inputs), filters, 3, "stem_conv")
    for number, times in ((2, 1), (3, 3), (4, 3)):
        filters *= 2
        x = conv(x, filters, 3, f"dark{number}_0", 2)
        x = stage(x, filters, times * repeats, True, depthwise, f"dark{number}_1")
    x = conv(x, 2 * filters, 3, "dark5_0", 2)
    x = conv_norm(x, filters, 1, "dark5_1_conv1")
    pools = [layers.MaxPooling2D(n, 1, "same", name=f"dark5_1_pool{n}")(x) for n in POOLS]
    x = conv_norm(layers.Concatenate(name="dark5_1_concat")([x, *pools]), 2 * filters, 1, "dark5_1_conv2")
    x = stage(x, 2 * filters, repeats, False, depthwise, "dark5_2")
    return keras.Model(inputs, x, name=name)


def torch_names(model) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """{variable path: (name in the checkpoint, axes to transpose by or None)} of the layers of a backbone.

    The layers are called as the modules of the checkpoint, with '_' for '.'.
    """
    layers = [layer for layer in model.layers if layer.name.startswith(("stem_", "dark"))]
    return {
        path: (f"{PREFIX}{layer.name.replace('_', '.')}.{field}", axes)
        for layer in layers
        for path, field, axes in fields(layer)
    }
