"""Networks of keras.applications and keras-hub built as torchvision or timm builds them, for their weights.

Keras' own differ in details that move every number: convolutions of stride 2 pad at the far side, BatchNorm has another
epsilon, ResNet strides in the first convolution of a block and not in the second, and some scale their input
themselves. Here the layers of keras.applications are made again with what differs changed; they keep their names and
so their blocks. keras-hub's ResNet, VGG, ViT and Swin need no change, and are built from their sizes without a preset.

There are no weights in the catalogue: `weights` is a file of torchvision or timm. Input is what their weights were
trained on: pixels in 0..1 less the mean of ImageNet, by its deviation, unless noted.

Sources: torchvision 0.28 (BSD-3-Clause), timm 1.0.31 (Apache-2.0), read for padding, strides, epsilon and sizes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tlkeras import backbones
from tlkeras.backbones import Backbone, Pixels, keras_applications
from tlkeras.backbones.keras_applications import _MEAN, _STD
from tlkeras.backbones.keras_hub_families import FAMILIES
from tlkeras.errors import ModelError, UsageError


@dataclass(frozen=True)
class Build:
    """How one network is built, and whose names its weights have.

    `base` is an entry of keras.applications or a family of keras-hub, `config` what the class of the latter takes.
    `maps` are names of lists in `weights.name_maps`, the first that fits a file is used. `symmetric` pads both sides
    alike where a stride is taken, `epsilon` is that of BatchNorm (None: as Keras has it), `changes` are (pattern of a
    layer's name, settings), `facts` what name maps ask for. `oracle` says which networks of PyTorch these are:
    'torchvision:NAME' or 'timm:NAME'.
    """

    name: str
    base: str
    maps: tuple[str, ...]
    oracle: tuple[str, ...]
    pixels: Pixels
    config: dict = field(default_factory=dict)
    symmetric: bool = True
    epsilon: float | None = None
    changes: tuple[tuple[str, dict], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    hub: bool = False
    words: str = ""


def _pixels(side: int, crop: float = 0.875, interpolation: str = "bilinear", half: bool = False) -> Pixels:
    mean, std = ((0.5,) * 3, (0.5,) * 3) if half else (_MEAN, _STD)
    scale, offset = tuple(1 / (255 * s) for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True))
    return Pixels((side, side), scale, offset, "rgb", interpolation, crop)


# torchvision and timm stride in the second convolution of a block (ResNet "v1.5"), and have no biases before a norm.
_RESNET = ((r".*_conv", {"use_bias": False}), *((f"conv{i}_block1_1_conv", {"strides": 1}) for i in (3, 4, 5)),
           *((f"conv{i}_block1_2_conv", {"strides": 2}) for i in (3, 4, 5)))  # fmt: skip
_INCEPTION = ((r"batch_normalization(_\d+)?", {"scale": True}),)
_VGGS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
# Width, pixels of torchvision's weights, of timm's.
_EFFICIENTNETS = ((0, 224, 224), (1, 240, 240), (2, 288, 260), (3, 300, 300), (4, 380, 380), (5, 456, 456),
                  (6, 528, 528), (7, 600, 600))  # fmt: skip
# Patch, layers, heads, width, of the MLP.
_VITS = {
    "vit_tiny_16": (16, 12, 3, 192, 768), "vit_small_16": (16, 12, 6, 384, 1536), "vit_small_32": (32, 12, 6, 384, 1536),
    "vit_base_16": (16, 12, 12, 768, 3072), "vit_base_32": (32, 12, 12, 768, 3072),
    "vit_large_16": (16, 24, 16, 1024, 4096), "vit_large_32": (32, 24, 16, 1024, 4096),
    "vit_huge_14": (14, 32, 16, 1280, 5120),
}  # fmt: skip
# Width, depths, heads, window, pixels.
_SWINS = {
    "swin_tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 224), "swin_small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7, 224),
    "swin_base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 7, 224), "swin_large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 7, 224),
    "swin_base_384": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 384),
    "swin_large_384": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12, 384),
}  # fmt: skip


def _builds() -> Iterable[Build]:
    for depth, counts in ((18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))):
        config = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7], "stackwise_num_filters": [64, 128, 256, 512],
                  "stackwise_num_blocks": list(counts), "stackwise_num_strides": [1, 2, 2, 2], "block_type": "basic_block"}  # fmt: skip
        name = f"resnet{depth}"
        yield Build(f"{name}_torch", "resnet", ("RESNET",), _both(name), _pixels(224), config, hub=True)
    for depth in (50, 101, 152):
        name = f"resnet{depth}"
        yield Build(
            f"{name}_torch", name, ("RESNET",), _both(name), _pixels(224), epsilon=1e-5, changes=_RESNET,
            words="Strides in the second convolution of a block.",
        )  # fmt: skip
    for name, counts in _VGGS.items():
        for norm in ("", "_bn"):
            config = {"stackwise_num_repeats": list(counts), "stackwise_num_filters": [64, 128, 256, 512, 512]}
            hub = name in ("vgg11", "vgg13")
            yield Build(
                f"{name}{norm}_torch", "vgg" if hub else name, ("vgg",), _both(f"{name}{norm}"), _pixels(224), config if hub else {},
                hub=hub, facts={"repeats": counts, "norm": bool(norm)}, words="BatchNorms are folded into the convolutions." if norm else "",
            )  # fmt: skip
    for depth in (121, 169, 201):
        name = f"densenet{depth}"
        yield Build(f"{name}_torch", name, ("DENSENET",), _both(name), _pixels(224), epsilon=1e-5)
    for b, side, timm in _EFFICIENTNETS:
        name, low = f"efficientnet_b{b}", 1e-5 if b < 5 else 1e-3
        yield Build(
            f"{name}_torchvision", name, ("EFFICIENTNET",), (f"torchvision:{name}",), _pixels(side, interpolation="bicubic"),
            epsilon=low, facts={"top": 8},
        )  # fmt: skip
        yield Build(
            f"{name}_timm", name, ("EFFICIENTNET_TIMM",), (f"timm:{name}",), _pixels(timm, interpolation="bicubic"), epsilon=1e-5
        )  # fmt: skip
        yield Build(
            f"{name}_tf", name, ("EFFICIENTNET_TIMM",), (f"timm:tf_{name}",), _pixels(timm, interpolation="bicubic"),
            symmetric=False, words="Pads as TensorFlow does: timm's tf_ weights.",
        )  # fmt: skip
    for size, side, top in (("s", 384, 7), ("m", 480, 8), ("l", 480, 8)):
        name = f"efficientnet_v2_{size}"
        yield Build(
            f"{name}_torchvision", name, ("EFFICIENTNET_V2",), (f"torchvision:{name}",),
            _pixels(side, 1.0, "bicubic" if size == "l" else "bilinear", half=size == "l"), epsilon=1e-3, facts={"top": top},
        )  # fmt: skip
        yield Build(
            f"{name}_tf", name, ("EFFICIENTNET_V2_TIMM",), (f"timm:tf_efficientnetv2_{size}",), _pixels(side, 1.0, "bicubic", half=True),
            symmetric=False, words="Pads as TensorFlow does: timm's tf_ weights.",
        )  # fmt: skip
    yield Build(
        "mobilenet_v2_torch", "mobilenet_v2", ("MOBILENET_V2", "MOBILENET_V2_TIMM"),
        ("torchvision:mobilenet_v2", "timm:mobilenetv2_100"), _pixels(224), epsilon=1e-5, facts={"repeats": (2, 3, 4, 3, 3, 1)},
    )  # fmt: skip
    for size, facts in (("large", {"top": 16, "last": 6, "repeats": (2, 3, 4, 2, 3)}), ("small", {"top": 12, "last": 5, "repeats": (2, 3, 2, 3)})):  # fmt: skip
        name, timm = f"mobilenet_v3_{size}", f"mobilenetv3_{size}_100"
        own = f"MOBILENET_V3_{size.upper()}"
        yield Build(f"{name}_torchvision", name, (own,), (f"torchvision:{name}",), _pixels(224), epsilon=1e-3, facts=facts)
        yield Build(
            f"{name}_timm", name, ("MOBILENET_V3_TIMM",), (f"timm:{timm}",), _pixels(224, interpolation="bicubic"), epsilon=1e-5, facts=facts
        )  # fmt: skip
        yield Build(
            f"{name}_tf", name, ("MOBILENET_V3_TIMM",), (f"timm:tf_{timm}",), _pixels(224, half=True), symmetric=False, facts=facts,
            words="Pads as TensorFlow does: timm's tf_ weights.",
        )  # fmt: skip
    for size in ("tiny", "small", "base", "large", "xlarge"):
        name = f"convnext_{size}"
        of = (f"timm:{name}",) if size == "xlarge" else _both(name)
        yield Build(f"{name}_torch", name, ("CONVNEXT", "CONVNEXT_TIMM"), of, _pixels(224))
    yield Build(
        "inception_v3_torch", "inception_v3", ("INCEPTION",), _both("inception_v3"), _pixels(299, half=True), changes=_INCEPTION,
        words="Its average pooling counts the border. Input is -1..1: torchvision's transform_input is in that.",
    )  # fmt: skip
    for name, (patch, layers, heads, width, mlp) in _VITS.items():
        config = {"patch_size": patch, "num_layers": layers, "num_heads": heads, "hidden_dim": width, "mlp_dim": mlp}
        short = {"base": "b", "large": "l", "huge": "h"}.get(name.split("_")[1])
        timm = (f"timm:{'_patch'.join(name.rsplit('_', 1))}_224",)
        if short:
            of = (f"torchvision:vit_{short}_{patch}",)
            yield Build(f"{name}_torchvision", "vit", ("VIT",), of, _pixels(224), config, hub=True)
        yield Build(f"{name}_timm", "vit", ("VIT_TIMM",), timm, _pixels(224, 0.9, "bicubic", half=True), config, hub=True)
    for name, (width, depths, heads, window, side) in _SWINS.items():
        config = {"embed_dim": width, "depths": depths, "num_heads": heads, "window_size": window}
        size = name.split("_")[1]
        of = (f"timm:swin_{size}_patch4_window{window}_{side}",)
        if window == 7 and size != "large":
            of = (f"torchvision:swin_{size[0]}", *of)
        yield Build(
            f"{name}_torch", "swin_transformer", ("SWIN", "SWIN_TIMM"), of, _pixels(side, 0.9 if side == 224 else 1.0, "bicubic"), config, hub=True
        )  # fmt: skip


def _both(name: str) -> tuple[str, ...]:
    return f"torchvision:{name}", f"timm:{name}"


BUILDS = {made.name: made for made in _builds()}


def entries() -> Iterable[Backbone]:
    """One entry a build; without weights of its own."""
    applications = {entry.name: entry for entry in keras_applications.entries()}
    for made in BUILDS.values():
        words = f"As in {' and '.join(sorted({o.split(':')[0] for o in made.oracle}))}, for their weights. {made.words}".strip()
        if made.hub:
            known = FAMILIES[made.base]
            yield Backbone(
                made.name, known.name, partial(build, made.name), known.blocks, made.pixels, known.pool, opened=known.opened,
                description=f"keras-hub's {known.backbone}. {words}",
            )  # fmt: skip
        else:
            yield replace(
                applications[made.base], name=made.name, build=partial(build, made.name), pixels=made.pixels, sources={},
                parameters=None, description=f"{applications[made.base].description.split(',')[0]}. {words}",
            )  # fmt: skip


def build(name: str, size: tuple[int, int], weights: str | None = None, classes: int | None = None):
    """Builds the entry called `name`: (B, height, width, 3) normalised pixels to features, or with `classes` to logits.

    `size` is (height, width); `tlkeras.weights.load` reads files, so `weights` is None.

    Raises:
        ModelError: when the network does not take images of that size.
    """
    made = BUILDS[name]
    if weights is not None:
        raise ModelError(f"{name} has no weights {weights!r} of its own. Give a file of torchvision or timm.")
    try:
        return _from_hub(made, size, classes) if made.hub else _from_applications(made, size, classes)
    except ValueError as e:
        raise ModelError(f"{name} for images of {size[0]}x{size[1]}: {e}") from e


def _from_hub(made: Build, size, classes):
    import keras
    import keras_hub

    known = FAMILIES[made.base]
    backbone = getattr(keras_hub.models, known.backbone)(image_shape=(*size, 3), name=known.name, **made.config)
    if classes is None:
        return backbone
    x = backbone.output
    if made.base == "vgg":
        x = keras.layers.Flatten(name="flatten")(x)
        for layer in ("fc1", "fc2"):
            x = keras.layers.Dense(4096, activation="relu", name=layer)(x)
    elif known.pool == "token":
        x = x[:, 0]
    elif len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    else:
        x = keras.layers.GlobalAveragePooling1D(name="avg_pool")(x)
    return keras.Model(backbone.input, keras.layers.Dense(classes, name="predictions")(x), name=made.name)


def _from_applications(made: Build, size, classes):
    import keras

    constructor = next(row[1] for *_, rows in keras_applications._TABLE for row in rows if row[0] == made.base)
    top: dict = {"include_top": False}
    if classes is not None:
        top = {"include_top": True, "classes": classes, "classifier_activation": None}
    model = getattr(keras.applications, constructor)(weights=None, input_shape=(*size, 3), **top)
    return _changed(made, model)


def _changed(made: Build, model):
    """The same layers under the same names, with the changes of the build."""
    import keras
    from keras import layers

    convolutions = (layers.Conv2D, layers.DepthwiseConv2D)
    names = _inception_names(model) if made.base == "inception_v3" else {}

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, layers.BatchNormalization) and made.epsilon is not None:
            config["epsilon"] = made.epsilon
        for pattern, settings in made.changes:
            if re.fullmatch(pattern, layer.name):
                config |= {key: value for key, value in settings.items() if key in config}
        if made.symmetric and isinstance(layer, layers.ZeroPadding2D):
            config["padding"] = max(n for pair in layer.padding for n in pair)
        if _padded(made, layer, config) or isinstance(layer, layers.AveragePooling2D) and layer.padding == "same":
            config["padding"] = "valid"
        config["name"] = names.get(layer.name, layer.name)
        return type(layer).from_config(config)

    originals = {names.get(layer.name, layer.name): layer for layer in model.layers}

    def call(layer, *args, **kwargs):
        padding = getattr(originals.get(layer.name), "padding", None)
        if isinstance(layer, layers.Rescaling | layers.Normalization) or re.fullmatch(r"layer_normalization(_\d+)?", layer.name):
            return args[0]  # What scales the input; and ConvNeXt's norm, which torchvision has behind the pooling.
        if isinstance(layer, convolutions) and _padded(made, layer, layer.get_config(), padding):
            pad = tuple(n // 2 for n in layer.kernel_size)
            args = (layers.ZeroPadding2D(pad, name=f"{layer.name}_symmetric")(args[0]), *args[1:])
        elif isinstance(layer, layers.AveragePooling2D) and padding == "same":
            args = (layers.ZeroPadding2D(1, name=f"{layer.name}_border")(args[0]), *args[1:])
        return layer(*args, **kwargs)

    made_model = keras.models.clone_model(model, clone_function=clone, call_function=call)
    made_model.name = made.name
    return made_model


def _padded(made: Build, layer, config: dict, padding: str | None = None) -> bool:
    """Whether a convolution must be padded by a layer of its own: it strides, and Keras' 'same' pads the far side."""
    strides = config.get("strides", 1)
    strided = strides > 1 if isinstance(strides, int) else max(strides) > 1
    wide = max(getattr(layer, "kernel_size", (1,))) > 1
    return made.symmetric and "kernel_size" in config and strided and wide and (padding or config.get("padding")) == "same"


def _inception_names(model) -> dict[str, str]:
    """PyTorch's names for layers that Keras calls by a counter, which tells the order they were made in."""
    from keras import layers

    from tlkeras.weights.name_maps import INCEPTION_ORDER

    def counter(layer) -> int:
        tail = layer.name.rpartition("_")[2]
        return int(tail) if tail.isdigit() else 0

    names = {}
    for kind, end in ((layers.Conv2D, "conv"), (layers.BatchNormalization, "bn")):
        own = sorted((x for x in model.layers if isinstance(x, kind)), key=counter)
        names |= {x.name: f"{n.replace('.', '_')}_{end}" for x, n in zip(own, INCEPTION_ORDER, strict=True)}
    return names


def suited(record: Backbone, names: Iterable[str], architecture: str | None = None) -> Backbone:
    """The entry that weights with these names of tensors need where `record` is asked for: itself, or a build of it.

    `architecture` is what a timm directory says it is: 'tf_efficientnet_b0'.

    Raises:
        UsageError: when two builds have these names, and only their padding tells them apart.
    """
    from tlkeras.weights import name_maps

    made = [b for b in BUILDS.values() if record.name in (b.base, b.name.rpartition("_")[0])]
    if record.name in BUILDS or not made:
        return record
    present = set(names)
    fitting = [b for b in made if any(_speaks(rules, present) for rules in name_maps.of(b))]
    if architecture:
        fitting = [b for b in fitting if f"timm:{architecture.split('.')[0]}" in b.oracle] or fitting
    if len(fitting) > 1:
        raise UsageError(
            f"These weights fit {len(fitting)} builds of {record.name}, which pad differently: "
            f"{', '.join(b.name for b in fitting)}. Name one: _tf for timm's tf_ weights, _timm for its others."
        )
    return backbones.get(fitting[0].name) if fitting else record


def _speaks(rules, names: set[str]) -> bool:
    """Whether a file with these names is of the dialect of these rules: it names the first convolution so."""
    first = next(template for _, template in rules)
    return f"{first.partition('|')[0]}.weight" in names
