"""From the feature maps of any backbone to a class for every pixel: three decoders that differ in what they cost.

unet       Ronneberger et al. 2015 (arXiv:1505.04597): up by two at a time, beside the map of that size
deeplab    DeepLabV3+, Chen et al. 2018 (arXiv:1802.02611): context at several distances, then the fine map once
segformer  Xie et al. 2021 (arXiv:2105.15203): every map to one width, added up by one layer

Layers are named `neck_*`, the last ones `head_*`: they are blocks of their own.
"""

DECODERS = ("unet", "deeplab", "segformer")


def build(kind: str, levels: dict, width: int, dropout: float, classes: int, size: tuple[int, int]):
    """Logits (B, height, width, classes) at the size of the input, float32.

    Args:
        levels: {stride: feature map (B, height / stride, width / stride, c)}, finest first.
        width: channels of the finest map of the decoder; coarser ones of 'unet' have up to four times as many.
    """
    from keras import layers, ops

    x = {"unet": _unet, "deeplab": _deeplab, "segformer": _segformer}[kind](levels, width)
    x = layers.SpatialDropout2D(dropout, name="head_dropout")(x)
    # float32 under mixed precision too: logits of 16 bits lose what the loss needs.
    x = layers.Conv2D(classes, 1, dtype="float32", name="head_logits")(x)
    return ops.image.resize(x, size, interpolation="bilinear")


def _unet(levels, width):
    from keras import layers

    strides = sorted(levels)
    x = levels[strides[-1]]
    for n, stride in enumerate(reversed(strides[:-1])):
        channels = width * min(4, 2 ** (len(strides) - 2 - n))
        x = _to(x, levels[stride])
        x = layers.Concatenate(name=f"neck_beside{stride}")([x, levels[stride]])
        x = _conv(_conv(x, channels, 3, f"neck_up{stride}a"), channels, 3, f"neck_up{stride}b")
    return x


def _deeplab(levels, width):
    from keras import layers

    strides = sorted(levels)
    deep, fine = levels[strides[-1]], levels[4 if 4 in levels else strides[0]]
    # The paper's rates are for a map at stride 16; one of half the size sees as far at half the rate.
    rates = (6, 12, 18) if strides[-1] <= 16 else (3, 6, 9)
    seen = [_conv(deep, 2 * width, 1, "neck_near")]
    seen += [_conv(deep, 2 * width, 3, f"neck_rate{r}", dilation_rate=r) for r in rates]
    whole = layers.GlobalAveragePooling2D(keepdims=True, name="neck_whole")(deep)
    seen.append(_to(_conv(whole, 2 * width, 1, "neck_whole1"), deep))
    x = _conv(layers.Concatenate(name="neck_seen")(seen), 2 * width, 1, "neck_joined")
    x = layers.Concatenate(name="neck_beside")([_to(x, fine), _conv(fine, max(width // 2, 16), 1, "neck_fine")])
    return _conv(_conv(x, 2 * width, 3, "neck_outa"), 2 * width, 3, "neck_outb")


def _segformer(levels, width):
    from keras import layers

    used = {s: t for s, t in levels.items() if s >= 4} or levels
    fine = used[min(used)]
    maps = [
        _to(layers.Conv2D(2 * width, 1, name=f"neck_level{s}")(t), fine) for s, t in sorted(used.items(), reverse=True)
    ]
    return _conv(layers.Concatenate(name="neck_levels")(maps), 2 * width, 1, "neck_joined")


def _conv(x, channels, kernel, name, **how):
    from keras import layers

    x = layers.Conv2D(channels, kernel, padding="same", use_bias=False, name=name, **how)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _to(x, like):
    from keras import ops

    return ops.image.resize(x, like.shape[1:3], interpolation="bilinear")
