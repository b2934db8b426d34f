"""How PyTorch calls and orders what a layer of Keras holds."""

FIELDS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "kernel": "weight",
    "bias": "bias",
}


def fields(layer) -> list[tuple[str, str, tuple[int, ...] | None]]:
    """(path, PyTorch's name, axes to transpose by or None) of a layer's weights; a name it has not stays."""
    from keras import layers

    kernel = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    names = [(v.path, v.path.rpartition("/")[2]) for v in layer.weights]
    return [(path, FIELDS.get(name, name), kernel if name == "kernel" else None) for path, name in names]
