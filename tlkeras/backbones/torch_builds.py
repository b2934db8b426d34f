"""Networks of keras.applications and keras-hub built as torchvision or timm builds them, for their weights.

Keras' own differ in details that move every number: convolutions of stride 2 pad at the far side, BatchNorm has another
epsilon, ResNet strides in the first convolution of a block and not in the second, and some scale their input
themselves. Here the layers of keras.applications are made again with what differs changed; they keep their names and
so their blocks. keras-hub's ResNet, VGG, ViT and Swin need no change, and are built from their sizes without a preset.

There are no weights in the catalogue: `weights` is a file of torchvision or timm. Input is what their weights were
trained on: pixels in 0..1 less the mean of ImageNet, by its deviation, unless noted.

Sources: torchvision 0.28 (BSD-3-Clause), timm 1.0.31 (Apache-2.0), read for padding, strides, epsilon and sizes.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tlkeras import backbones
from tlkeras.backbones import Backbone, Pixels, keras_applications, torch_changes
from tlkeras.backbones.keras_applications import _MEAN, _STD
from tlkeras.backbones.keras_hub_families import FAMILIES
from tlkeras.errors import ModelError, UsageError


@dataclass(frozen=True)
class Build:
    """How one network is built, and whose names its weights have.

    `base` is an entry of keras.applications or a family of keras-hub, `config` what the class of the latter takes.
    `maps` are names of lists in `weights.name_maps`, the first that fits a file is used. `symmetric` pads both sides
    alike where a stride is taken, `epsilon` is that of BatchNorm (None: as Keras has it), `changes` are (pattern of a
    layer's name, settings), `facts` what name maps ask for, `head` patterns of tensors that belong
    to the classifier besides `name_maps.HEADS`. `oracle` says which networks of PyTorch these are:
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
    head: tuple[str, ...] = ()
    hub: bool = False
    words: str = ""


def _pixels(side: int, crop: float = 0.875, interpolation: str = "bilinear", half: bool = False) -> Pixels:
    mean, std = ((0.5,) * 3, (0.5,) * 3) if half else (_MEAN, _STD)
    scale: Any
    offset: Any
    scale, offset = tuple(1 / (255 * s) for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True))
    return Pixels((side, side), scale, offset, "rgb", interpolation, crop)


# torchvision and timm stride in the second convolution of a block (ResNet "v1.5"), and have no biases before a norm.
_RESNET: tuple[tuple[str, dict], ...] = ((r".*_conv", {"use_bias": False}), *((f"conv{i}_block1_1_conv", {"strides": 1}) for i in (3, 4, 5)),
           *((f"conv{i}_block1_2_conv", {"strides": 2}) for i in (3, 4, 5)))  # fmt: skip
_INCEPTION = ((r"batch_normalization(_\d+)?", {"scale": True}),)
_VGGS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
# Number; pixels a side and part of the shorter side of torchvision's weights, of timm's own, of its tf_ ones.
_EFFICIENTNETS = (
    (0, (224, 0.875), (224, 0.875), (224, 0.875)), (1, (240, 0.9375), (240, 0.9), (240, 0.882)),
    (2, (288, 1.0), (256, 0.875), (260, 0.89)), (3, (300, 0.9375), (288, 0.875), (300, 0.904)),
    (4, (380, 0.99), (320, 0.875), (380, 0.922)), (5, (456, 1.0), (448, 1.0), (456, 0.934)),
    (6, (528, 1.0), (528, 0.942), (528, 0.942)), (7, (600, 1.0), (600, 0.949), (600, 0.949)),
)  # fmt: skip
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
    config: dict[str, Any]
    of: tuple[str, ...]
    counts: tuple[int, ...]
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
    for b, first, theirs, tf in _EFFICIENTNETS:
        name, low = f"efficientnet_b{b}", 1e-5 if b < 5 else 1e-3
        yield Build(
            f"{name}_torchvision", name, ("EFFICIENTNET",), (f"torchvision:{name}",), _pixels(*first, "bicubic"),
            epsilon=low, facts={"top": 8},
        )  # fmt: skip
        yield Build(
            f"{name}_timm", name, ("EFFICIENTNET_TIMM",), (f"timm:{name}",), _pixels(*theirs, "bicubic", half=b == 1), epsilon=1e-5
        )  # fmt: skip
        yield Build(
            f"{name}_tf", name, ("EFFICIENTNET_TIMM",), (f"timm:tf_{name}",), _pixels(*tf, "bicubic"),
            symmetric=False, words="Pads as TensorFlow does: timm's tf_ weights.",
        )  # fmt: skip
    for size, side, top in (("s", 384, 7), ("m", 480, 8), ("l", 480, 8)):
        name = f"efficientnet_v2_{size}"
        yield Build(
            f"{name}_torchvision", name, ("EFFICIENTNET_V2",), (f"torchvision:{name}",),
            _pixels(side, 1.0, "bicubic" if size == "l" else "bilinear", half=size == "l"), epsilon=1e-3, facts={"top": top},
        )  # fmt: skip
        yield Build(
            f"{name}_tf", name, ("EFFICIENTNET_V2_TIMM",), (f"timm:tf_efficientnetv2_{size}",), _pixels(300 if size == "s" else 384, 1.0, "bicubic", half=True),
            symmetric=False, words="Pads as TensorFlow does: timm's tf_ weights.",
        )  # fmt: skip
    yield Build(
        "mobilenet_v2_torch", "mobilenet_v2", ("MOBILENET_V2", "MOBILENET_V2_TIMM"),
        ("torchvision:mobilenet_v2", "timm:mobilenetv2_100"), _pixels(224), epsilon=1e-5, facts={"repeats": (2, 3, 4, 3, 3, 1)},
    )  # fmt: skip
    for size, facts in (("large", {"top": 16, "last": 6, "repeats": (2, 3, 4, 2, 3)}), ("small", {"top": 12, "last": 5, "repeats": (2, 3, 2, 3)})):  # fmt: skip
        name, timm = f"mobilenet_v3_{size}", f"mobilenetv3_{size}_100"
        own = f"MOBILENET_V3_{size.upper()}"
        yield Build(
            f"{name}_torchvision", name, (own,), (f"torchvision:{name}",), _pixels(224), epsilon=1e-3, facts=facts
        )
        yield Build(
            f"{name}_timm", name, ("MOBILENET_V3_TIMM",), (f"timm:{timm}",), _pixels(224, interpolation="bicubic"), epsilon=1e-5, facts=facts, head=(r"conv_head\..*",),
        )  # fmt: skip
        yield Build(
            f"{name}_tf", name, ("MOBILENET_V3_TIMM",), (f"timm:tf_{timm}",), _pixels(224, half=True), symmetric=False, facts=facts, head=(r"conv_head\..*",),
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
        timms = (f"timm:{'_patch'.join(name.rsplit('_', 1))}_224",)
        if short:
            of = (f"torchvision:vit_{short}_{patch}",)
            yield Build(f"{name}_torchvision", "vit", ("VIT",), of, _pixels(224), config, hub=True)
        yield Build(
            f"{name}_timm", "vit", ("VIT_TIMM",), timms, _pixels(224, 0.9, "bicubic", half=True), config, hub=True
        )
    for name, (width, depths, several, window, side) in _SWINS.items():
        config = {"embed_dim": width, "depths": depths, "num_heads": several, "window_size": window}
        size = name.split("_")[1]
        of = (f"timm:swin_{size}_patch4_window{window}_{side}",)
        if window == 7 and size != "large":
            of = (f"torchvision:swin_{size[0]}", *of)
        yield Build(
            f"{name}_torch", "swin_transformer", ("SWIN", "SWIN_TIMM"), of, _pixels(side, 0.9 if side == 224 else 1.0, "bicubic"), config, hub=True
        )  # fmt: skip


def _both(name: str) -> tuple[str, ...]:
    return f"torchvision:{name}", f"timm:{name}"


# Numbers in the file of PyTorch, BatchNorm statistics too, counters and classifier not; counted. By them a file is known.
COUNTS = {
    "resnet18_torch": 11_186_112, "resnet34_torch": 21_301_696, "resnet50_torch": 23_561_152,
    "resnet101_torch": 42_605_504, "resnet152_torch": 58_295_232, "vgg11_torch": 9_220_480,
    "vgg11_bn_torch": 9_231_488, "vgg13_torch": 9_404_992, "vgg13_bn_torch": 9_416_768, "vgg16_torch": 14_714_688,
    "vgg16_bn_torch": 14_731_584, "vgg19_torch": 20_024_384, "vgg19_bn_torch": 20_046_400,
    "densenet121_torch": 7_037_504, "densenet169_torch": 12_642_880, "densenet201_torch": 18_321_984,
    "efficientnet_b0_torchvision": 4_049_564, "efficientnet_b0_timm": 4_049_564, "efficientnet_b0_tf": 4_049_564,
    "efficientnet_b1_torchvision": 6_575_232, "efficientnet_b1_timm": 6_575_232, "efficientnet_b1_tf": 6_575_232,
    "efficientnet_b2_torchvision": 7_768_562, "efficientnet_b2_timm": 7_768_562, "efficientnet_b2_tf": 7_768_562,
    "efficientnet_b3_torchvision": 10_783_528, "efficientnet_b3_timm": 10_783_528, "efficientnet_b3_tf": 10_783_528,
    "efficientnet_b4_torchvision": 17_673_816, "efficientnet_b4_timm": 17_673_816, "efficientnet_b4_tf": 17_673_816,
    "efficientnet_b5_torchvision": 28_513_520, "efficientnet_b5_timm": 28_513_520, "efficientnet_b5_tf": 28_513_520,
    "efficientnet_b6_torchvision": 40_960_136, "efficientnet_b6_timm": 40_960_136, "efficientnet_b6_tf": 40_960_136,
    "efficientnet_b7_torchvision": 64_097_680, "efficientnet_b7_timm": 64_097_680, "efficientnet_b7_tf": 64_097_680,
    "efficientnet_v2_s_torchvision": 20_331_360, "efficientnet_v2_s_tf": 20_331_360,
    "efficientnet_v2_m_torchvision": 53_150_388, "efficientnet_v2_m_tf": 53_150_388,
    "efficientnet_v2_l_torchvision": 117_746_848, "efficientnet_v2_l_tf": 117_746_848,
    "mobilenet_v2_torch": 2_257_984, "mobilenet_v3_large_torchvision": 2_996_352,
    "mobilenet_v3_large_timm": 2_996_352, "mobilenet_v3_large_tf": 2_996_352,
    "mobilenet_v3_small_torchvision": 939_120, "mobilenet_v3_small_timm": 939_120, "mobilenet_v3_small_tf": 939_120,
    "convnext_tiny_torch": 27_818_592, "convnext_small_torch": 49_453_152, "convnext_base_torch": 87_564_416,
    "convnext_large_torch": 196_227_264, "convnext_xlarge_torch": 348_143_872, "inception_v3_torch": 21_820_000,
    "vit_tiny_16_timm": 5_524_416, "vit_small_16_timm": 21_665_664, "vit_small_32_timm": 22_493_952,
    "vit_base_16_torchvision": 85_798_656, "vit_base_16_timm": 85_798_656, "vit_base_32_torchvision": 87_455_232,
    "vit_base_32_timm": 87_455_232, "vit_large_16_torchvision": 303_301_632, "vit_large_16_timm": 303_301_632,
    "vit_large_32_torchvision": 305_510_400, "vit_large_32_timm": 305_510_400, "vit_huge_14_torchvision": 630_764_800,
    "vit_huge_14_timm": 630_764_800, "swin_tiny_torch": 27_519_354, "swin_small_torch": 48_837_258,
    "swin_base_torch": 86_743_224, "swin_large_torch": 194_995_476, "swin_base_384_torch": 86_878_584,
    "swin_large_384_torch": 195_198_516,
}  # fmt: skip
BUILDS = {made.name: made for made in _builds()}


def entries() -> Iterable[Backbone]:
    """One entry a build; without weights of its own."""
    applications = {entry.name: entry for entry in keras_applications.entries()}
    for made in BUILDS.values():
        words = f"As in {' and '.join(sorted({o.split(':')[0] for o in made.oracle}))}, for their weights. {made.words}".strip()
        if made.hub:
            known = FAMILIES[made.base]
            yield Backbone(
                made.name, known.name, partial(build, made.name), known.blocks, made.pixels, known.pool, parameters=_parameters(made), opened=known.opened,
                description=f"keras-hub's {known.backbone}. {words}",
            )  # fmt: skip
        else:
            yield replace(
                applications[made.base], name=made.name, build=partial(build, made.name), pixels=made.pixels, sources={},
                parameters=_parameters(made), description=f"{applications[made.base].description.split(',')[0]}. {words}",
            )  # fmt: skip


def _parameters(made: Build) -> int:
    """Of the network here: BatchNorms that are folded into VGG are not there."""
    return COUNTS[made.name.replace("_bn_torch", "_torch")]


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
        return (
            torch_changes.from_hub(made, size, classes)
            if made.hub
            else torch_changes.from_applications(made, size, classes)
        )
    except ValueError as e:
        raise ModelError(f"{name} for images of {size[0]}x{size[1]}: {e}") from e


def known() -> set[str]:
    """All names that `suited` takes: of builds, without the ending that says whose they are, and what they are built of."""
    return {*BUILDS, *(name.rpartition("_")[0] for name in BUILDS), *(b.base for b in BUILDS.values() if not b.hub)}


def suited(name: str, tensors: Iterable[str], architecture: str | None = None) -> Backbone:
    """The entry that weights with these names of tensors need where `name` is asked for: itself, or a build of it.

    `architecture` is what a timm directory says it is: 'tf_efficientnet_b0'.

    Raises:
        UsageError: when there is no such entry, or when two builds have these names and only their padding tells them apart.
    """
    from tlkeras.foreign import name_maps

    made = [b for b in BUILDS.values() if name in ("" if b.hub else b.base, b.name.rpartition("_")[0])]
    if name in BUILDS or not made:
        return backbones.get(name)
    present = set(tensors)
    fitting = [b for b in made if any(speaks(rules, present) for rules in name_maps.of(b))]
    if architecture:
        fitting = [b for b in fitting if f"timm:{architecture.split('.')[0]}" in b.oracle] or fitting
    if len(fitting) > 1:
        normed = any(t.startswith("features.1.running") for t in present)
        fitting = [
            b
            for b in fitting
            if b.base != "vgg" and not b.base.startswith("vgg") or bool(b.facts.get("norm")) == normed
        ]
    if len(fitting) > 1:
        raise UsageError(
            f"These weights fit {len(fitting)} builds of {name}, which pad differently: {', '.join(b.name for b in fitting)}. "
            "Name one of them: _tf for timm's tf_ weights, _timm for its others."
        )
    return backbones.get(fitting[0].name if fitting else name)


def speaks(rules, names: set[str]) -> bool:
    """Whether a file with these names is of the dialect of these rules: it names the first convolution so."""
    first = next(template for _, template in rules).partition("|")[0]
    return f"{first}.weight" in names or first in names


def covered(name: str, model, tensors: dict, whole: bool = False, allow: Iterable[str] = ()):
    """What tensors of torchvision or timm fill of a `model` that was built by `name`; see `mapping.cover`. `whole`: with its
    classifier."""
    from tlkeras.foreign import mapping, name_maps

    made, tensors = BUILDS[name], mapping.renamed(tensors, name_maps.RENAMES)
    head = () if whole else (*name_maps.HEADS, *made.head)
    tries = [
        mapping.cover(name, model.weights, tensors, rules, made.facts, head, allow) for rules in name_maps.of(made)
    ]
    return min(tries, key=lambda c: len(c.missing))


def stated(config: dict, pixels: Pixels) -> Pixels:
    """The input contract that a timm directory states in its pretrained_cfg."""
    given = config.get("pretrained_cfg")
    if not isinstance(given, dict):
        return pixels
    with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        mean, std = (tuple(float(n) for n in given[key]) for key in ("mean", "std"))
        scale: Any
        offset: Any
        scale, offset = tuple(1 / (255 * s) for s in std), tuple(0.0 - m / s for m, s in zip(mean, std, strict=True))
        side: Any
        side, crop = given.get("input_size", (3, *pixels.size))[1:], float(given.get("crop_pct") or 1.0)
        interpolation = given.get("interpolation", pixels.interpolation)
        return Pixels((int(side[0]), int(side[1])), scale, offset, "rgb", interpolation, crop)
    return pixels
