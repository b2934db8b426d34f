"""How the layers of a network of keras.applications are made again with changes; and classifiers as PyTorch has them."""

import re

from tlkeras.backbones import keras_applications
from tlkeras.backbones.keras_hub_families import FAMILIES


def from_hub(made, size: tuple[int, int], classes: int | None):
    """keras-hub's backbone by the sizes of a `torch_builds.Build`; with `classes` to logits."""
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


def from_applications(made, size: tuple[int, int], classes: int | None):
    """The network of keras.applications with the changes of a `torch_builds.Build`; with `classes` to logits."""
    import keras

    constructor = next(row[1] for *_, rows in keras_applications._TABLE for row in rows if row[0] == made.base)
    top: dict = {"include_top": False}
    if classes is not None:
        top = {"include_top": True, "classes": classes, "classifier_activation": None}
    model = getattr(keras.applications, constructor)(weights=None, input_shape=(*size, 3), **top)
    return _changed(made, model)


def _changed(made, model):
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
        if isinstance(layer, layers.Rescaling | layers.Normalization) or re.fullmatch(
            r"layer_normalization(_\d+)?", layer.name
        ):
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


def _padded(made, layer, config: dict, padding: str | None = None) -> bool:
    """Whether a convolution must be padded by a layer of its own: it strides, and Keras' 'same' pads the far side."""
    strides = config.get("strides", 1)
    strided = strides > 1 if isinstance(strides, int) else max(strides) > 1
    wide = max(getattr(layer, "kernel_size", (1,))) > 1
    return (
        made.symmetric and "kernel_size" in config and strided and wide and (padding or config.get("padding")) == "same"
    )


def _inception_names(model) -> dict[str, str]:
    """PyTorch's names for layers that Keras calls by a counter, which tells the order they were made in."""
    from keras import layers

    from tlkeras.foreign.name_maps import INCEPTION_ORDER

    def counter(layer) -> int:
        tail = layer.name.rpartition("_")[2]
        return int(tail) if tail.isdigit() else 0

    names = {}
    for kind, end in ((layers.Conv2D, "conv"), (layers.BatchNormalization, "bn")):
        own = sorted((x for x in model.layers if isinstance(x, kind)), key=counter)
        names |= {x.name: f"{n.replace('.', '_')}_{end}" for x, n in zip(own, INCEPTION_ORDER, strict=True)}
    return names
