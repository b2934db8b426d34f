"""The 40 networks of keras.applications, as facts.

Boundaries are layers that Keras names itself; no name here comes from its process-wide counter. The one
exception is Xception, whose residual sums have no name: `build` gives them one (`block3_add`), because no
other layer carries everything that passes from one block to the next.

Licences: the Keras 2.3 documentation of applications states them for VGG, ResNet, ResNetV2, Inception,
InceptionResNetV2, MobileNet, MobileNetV2, DenseNet, NASNet and Xception. For the later networks Keras states
none; what is given is the licence of the release that the weights were ported from.
"""

import math
from collections.abc import Iterable
from functools import partial

from tlkeras.backbones import Backbone, Boundaries, Pixels, Source
from tlkeras.errors import ModelError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AS_IT_IS = {}
_SYMMETRIC = {"scale": (1 / 127.5,) * 3, "offset": (-1.0,) * 3}
_STANDARD = {
    "scale": tuple(1 / (255 * s) for s in _STD),
    "offset": tuple(-m / s for m, s in zip(_MEAN, _STD, strict=True)),
}
_CAFFE = {"offset": (-103.939, -116.779, -123.68), "channels": "bgr"}

_UNSTATED_APACHE = "Apache-2.0 (the original release; Keras states none)"
_UNSTATED_MIT = "MIT (the original release; Keras states none)"


def _named(stem, *ends, top=True) -> Boundaries:
    """A stem and blocks numbered from 1; without `top` the last block holds what remains."""
    blocks = [("stem", stem), *((f"block{i}", end) for i, end in enumerate(ends, 1))]
    return (*blocks, ("top", "")) if top else (*blocks[:-1], (blocks[-1][0], ""))


def _convnext(name) -> Boundaries:
    return _named(f"{name}_stem", *(f"{name}_downsampling_block_{i}" for i in range(3)), "", top=False)


def _densenet(last) -> Boundaries:
    return _named("pool1", "pool2_pool", "pool3_pool", "pool4_pool", f"conv5_block{last}_concat")


def _efficientnet(depth, repeats=(1, 2, 2, 3, 3, 4, 1), first="project_bn") -> Boundaries:
    """Stages end with the sum of their last repeat; one of a single repeat has none, and `first` ends the first."""
    ends = []
    for stage, count in enumerate(repeats, 1):
        count = math.ceil(depth * count)
        last = "add" if count > 1 else first if stage == 1 else "project_bn"
        ends.append(f"block{stage}{chr(ord('a') + count - 1)}_{last}")
    return _named("stem_activation", *ends)


def _efficientnet_v2(depth, *repeats) -> Boundaries:
    return _efficientnet(depth, repeats or (1, 2, 2, 3, 5, 8), "project_activation")


def _nasnet(cells) -> Boundaries:
    return _named("reduction_concat_stem_2", f"normal_concat_{cells - 1}", f"normal_concat_{2 * cells}", "", top=False)


def _resnet(*counts, v2=False) -> Boundaries:
    return _named("pool1_pool", *(f"conv{i}_block{n}_out" for i, n in enumerate(counts, 2)), top=v2)


_INCEPTION = _named("mixed0", *(f"mixed{i}" for i in range(1, 11)), top=False)
_INCEPTION_RESNET = _named("mixed_5b", "block35_10_ac", "block17_10_ac", "block17_20_ac", "block8_9_ac")
_MOBILENET = _named("conv1_relu", *(f"conv_pw_{i}_relu" for i in (1, 3, 5, 11)), "", top=False)
_MOBILENET_V2 = _named(
    "Conv1_relu", "expanded_conv_project_BN", *(f"block_{i}_add" for i in (2, 5, 9, 12, 15)), "block_16_project_BN"
)
_MOBILENET_V3_LARGE = _named("conv_bn", "expanded_conv_add", *(f"expanded_conv_{i}_add" for i in (2, 5, 9, 11, 14)))
_MOBILENET_V3_SMALL = _named("conv_bn", "expanded_conv_project_bn", *(f"expanded_conv_{i}_add" for i in (2, 5, 7, 10)))
_VGG = tuple((f"block{i}", f"block{i}_pool") for i in range(1, 6))
_XCEPTION = (("stem", "block1_conv2_act"), *((f"block{i}", f"block{i}_add") for i in range(2, 14)), ("block14", ""))

# Family, pixels, licence, and rows of: name, constructor, side of the input, weights without the classifier
# (BatchNorm statistics too; measured), blocks.
_TABLE = (
    ("convnext", _AS_IT_IS, _UNSTATED_MIT, (
        ("convnext_tiny", "ConvNeXtTiny", 224, 27_820_128, _convnext("convnext_tiny")),
        ("convnext_small", "ConvNeXtSmall", 224, 49_454_688, _convnext("convnext_small")),
        ("convnext_base", "ConvNeXtBase", 224, 87_566_464, _convnext("convnext_base")),
        ("convnext_large", "ConvNeXtLarge", 224, 196_230_336, _convnext("convnext_large")),
        ("convnext_xlarge", "ConvNeXtXLarge", 224, 348_147_968, _convnext("convnext_xlarge")),
    )),
    ("densenet", _STANDARD, "BSD-3-Clause", (
        ("densenet121", "DenseNet121", 224, 7_037_504, _densenet(16)),
        ("densenet169", "DenseNet169", 224, 12_642_880, _densenet(32)),
        ("densenet201", "DenseNet201", 224, 18_321_984, _densenet(32)),
    )),
    ("efficientnet", _AS_IT_IS, _UNSTATED_APACHE, (
        ("efficientnet_b0", "EfficientNetB0", 224, 4_049_571, _efficientnet(1.0)),
        ("efficientnet_b1", "EfficientNetB1", 240, 6_575_239, _efficientnet(1.1)),
        ("efficientnet_b2", "EfficientNetB2", 260, 7_768_569, _efficientnet(1.2)),
        ("efficientnet_b3", "EfficientNetB3", 300, 10_783_535, _efficientnet(1.4)),
        ("efficientnet_b4", "EfficientNetB4", 380, 17_673_823, _efficientnet(1.8)),
        ("efficientnet_b5", "EfficientNetB5", 456, 28_513_527, _efficientnet(2.2)),
        ("efficientnet_b6", "EfficientNetB6", 528, 40_960_143, _efficientnet(2.6)),
        ("efficientnet_b7", "EfficientNetB7", 600, 64_097_687, _efficientnet(3.1)),
    )),
    ("efficientnet_v2", _AS_IT_IS, _UNSTATED_APACHE, (
        ("efficientnet_v2_b0", "EfficientNetV2B0", 224, 5_919_312, _efficientnet_v2(1.0)),
        ("efficientnet_v2_b1", "EfficientNetV2B1", 240, 6_931_124, _efficientnet_v2(1.1)),
        ("efficientnet_v2_b2", "EfficientNetV2B2", 260, 8_769_374, _efficientnet_v2(1.2)),
        ("efficientnet_v2_b3", "EfficientNetV2B3", 300, 12_930_622, _efficientnet_v2(1.4)),
        ("efficientnet_v2_s", "EfficientNetV2S", 384, 20_331_360, _efficientnet_v2(1.0, 2, 4, 4, 6, 9, 15)),
        ("efficientnet_v2_m", "EfficientNetV2M", 480, 53_150_388, _efficientnet_v2(1.0, 3, 5, 5, 7, 14, 18, 5)),
        ("efficientnet_v2_l", "EfficientNetV2L", 480, 117_746_848, _efficientnet_v2(1.0, 4, 7, 7, 10, 19, 25, 7)),
    )),
    ("inception", _SYMMETRIC, "Apache-2.0", (
        ("inception_v3", "InceptionV3", 299, 21_802_784, _INCEPTION),
        ("inception_resnet_v2", "InceptionResNetV2", 299, 54_336_736, _INCEPTION_RESNET),
    )),
    ("mobilenet", _SYMMETRIC, "Apache-2.0", (
        ("mobilenet", "MobileNet", 224, 3_228_864, _MOBILENET),
        ("mobilenet_v2", "MobileNetV2", 224, 2_257_984, _MOBILENET_V2),
    )),
    ("mobilenet_v3", _AS_IT_IS, _UNSTATED_APACHE, (
        ("mobilenet_v3_large", "MobileNetV3Large", 224, 2_996_352, _MOBILENET_V3_LARGE),
        ("mobilenet_v3_small", "MobileNetV3Small", 224, 939_120, _MOBILENET_V3_SMALL),
    )),
    ("nasnet", _SYMMETRIC, "Apache-2.0", (
        ("nasnet_large", "NASNetLarge", 331, 84_916_818, _nasnet(6)),
        ("nasnet_mobile", "NASNetMobile", 224, 4_269_716, _nasnet(4)),
    )),
    ("resnet", _CAFFE, "MIT", (
        ("resnet50", "ResNet50", 224, 23_587_712, _resnet(3, 4, 6, 3)),
        ("resnet101", "ResNet101", 224, 42_658_176, _resnet(3, 4, 23, 3)),
        ("resnet152", "ResNet152", 224, 58_370_944, _resnet(3, 8, 36, 3)),
    )),
    ("resnet_v2", _SYMMETRIC, "BSD", (
        ("resnet50v2", "ResNet50V2", 224, 23_564_800, _resnet(3, 4, 6, 3, v2=True)),
        ("resnet101v2", "ResNet101V2", 224, 42_626_560, _resnet(3, 4, 23, 3, v2=True)),
        ("resnet152v2", "ResNet152V2", 224, 58_331_648, _resnet(3, 8, 36, 3, v2=True)),
    )),
    ("vgg", _CAFFE, "CC-BY-4.0", (
        ("vgg16", "VGG16", 224, 14_714_688, _VGG),
        ("vgg19", "VGG19", 224, 20_024_384, _VGG),
    )),
    ("xception", _SYMMETRIC, "MIT", (
        ("xception", "Xception", 299, 20_861_480, _XCEPTION),
    )),
)  # fmt: skip


def entries() -> Iterable[Backbone]:
    """The 40 networks, with the ImageNet weights that Keras fetches."""
    for family, pixels, licence, rows in _TABLE:
        for name, constructor, side, parameters, blocks in rows:
            yield Backbone(
                name=name,
                family=family,
                build=partial(build, constructor),
                blocks=blocks,
                pixels=Pixels(size=(side, side), **pixels),
                sources={"imagenet": Source("keras", licence, classes=1000)},
                parameters=parameters,
                description=f"keras.applications.{constructor}, ImageNet-1k at {side} px.",
            )


def build(constructor: str, size: tuple[int, int], weights: str | None = None):
    """Builds keras.applications' `constructor` without its classifier: pixels (B, height, width, 3) to features.

    `size` is (height, width); `weights` is None (random) or 'imagenet', which Keras fetches into its cache.

    Raises:
        ModelError: when there are no such weights, or the network does not take images of that size.
    """
    import keras

    if weights not in (None, "imagenet"):
        raise ModelError(f"keras.applications.{constructor} has the weights 'imagenet' and no {weights!r}.")
    try:
        model = getattr(keras.applications, constructor)(include_top=False, weights=weights, input_shape=(*size, 3))
    except ValueError as e:
        raise ModelError(f"keras.applications.{constructor} for images of {size[0]}x{size[1]}: {e}") from e
    if constructor == "Xception":
        for number, layer in enumerate((x for x in model.layers if isinstance(x, keras.layers.Add)), 2):
            layer.name = f"block{number}_add"
    return model
