"""The building blocks of YOLOX, which its backbone and its neck share."""

from functools import partial


def conv_norm(x, filters: int, kernel: int, name: str, stride: int = 1, depthwise: bool = False):
    """Convolution without bias, BatchNorm, SiLU; padded by kernel // 2 on every side, also where the stride is 2."""
    from keras import layers

    if stride > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    settings = {"padding": "valid" if stride > 1 else "same", "use_bias": False, "name": f"{name}_conv"}
    if depthwise:
        x = layers.DepthwiseConv2D(kernel, stride, **settings)(x)
    else:
        x = layers.Conv2D(filters, kernel, stride, **settings)(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.Activation("silu", name=f"{name}_act")(x)


def separable(x, filters: int, kernel: int, name: str, stride: int = 1):
    x = conv_norm(x, x.shape[-1], kernel, f"{name}_dconv", stride, depthwise=True)
    return conv_norm(x, filters, 1, f"{name}_pconv")


def unit(depthwise: bool):
    """The 3x3 convolution of a network: f(x, filters, kernel, name, stride=1)."""
    return separable if depthwise else partial(conv_norm, depthwise=False)


def stage(x, filters: int, repeats: int, shortcut: bool, depthwise: bool, name: str):
    """Cross stage partial: half the channels through `repeats` bottlenecks, half past them, then both mixed."""
    from keras import layers

    half = filters // 2
    inside, past = conv_norm(x, half, 1, f"{name}_conv1"), conv_norm(x, half, 1, f"{name}_conv2")
    for i in range(repeats):
        y = conv_norm(inside, half, 1, f"{name}_m_{i}_conv1")
        y = unit(depthwise)(y, half, 3, f"{name}_m_{i}_conv2")
        inside = layers.Add(name=f"{name}_m_{i}_add")([y, inside]) if shortcut else y
    x = layers.Concatenate(name=f"{name}_both")([inside, past])
    return conv_norm(x, filters, 1, f"{name}_conv3")
