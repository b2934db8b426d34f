"""Presets of keras-hub's detectors and segmenters: the image encoder inside them is a backbone of the catalogue.

keras-hub files SegFormer, DeepLabV3+ and RetinaNet as backbones that hold another one, `image_encoder` (MiT, ResNet),
and decoder or pyramid around it. The encoder is taken out with its weights, which are those trained for places. Of
SegFormer the decoder is the one of tlkeras/decoders.py and can be taken too; DeepLabV3+ of keras-hub has one
convolution where ours has two, and RetinaNet's pyramid has no BatchNorm, so theirs stay behind.
"""

from pathlib import Path

WHOLE = ("SegFormerBackbone", "DeepLabV3Backbone", "RetinaNetBackbone")


def whole(config: dict) -> str | None:
    """The class in a preset's config.json, where that holds an image encoder and more; else None."""
    said = str(config.get("registered_name", "")).removeprefix("keras_hub>")
    return said if said in WHOLE else None


def inner(config: dict) -> str:
    """The class of the encoder in the config.json of such a preset, '' when there is none."""
    held = config.get("config")
    encoder = held.get("image_encoder") if isinstance(held, dict) else None
    return str(encoder.get("registered_name", "")).removeprefix("keras_hub>") if isinstance(encoder, dict) else ""


def encoder(folder: Path, kind: str, load_weights: bool, options: dict):
    """The image encoder of a preset whose class is `kind`, built anew with `options` in its config: the name, and the
    size of the images."""
    import keras_hub

    found = getattr(keras_hub.models, kind).from_preset(str(folder), load_weights=load_weights).image_encoder
    # Without the precision it was saved with: the policy in force decides, as for every backbone.
    config = {key: value for key, value in found.get_config().items() if key != "dtype"}
    made = type(found).from_config({**config, **options})
    if load_weights:
        made.set_weights(found.get_weights())
    return made


def width(config: dict) -> int | None:
    """The `task.width` at which decoders.build('segformer', width) is the decoder of a preset; None where it has no such
    decoder."""
    filters = config["config"].get("projection_filters") if whole(config) == "SegFormerBackbone" else None
    return filters // 2 if filters else None


def decoder(folder: Path, config: dict, wide: int) -> dict[str, list] | None:
    """The decoder of a SegFormer preset as {layer of decoders.build('segformer', wide): its arrays}; None for other
    presets and widths.

    The classifier is among them where the preset is a whole segmenter, with task.json.

    Raises:
        ModelError: when its files are damaged or unsafe.
    """
    import keras_hub
    import numpy as np

    from tlkeras.foreign import files, presets

    if width(config) != wide:
        return None
    presets.check_task(folder)
    with files.refused(folder, *presets.failures()):
        if (Path(folder) / "task.json").is_file():
            task = keras_hub.models.SegFormerImageSegmenter.from_preset(str(folder), preprocessor=None)
            body, head = task.backbone, task.output_segmentation_head.get_weights()
        else:
            body, head = keras_hub.models.SegFormerBackbone.from_preset(str(folder)), None
    found: dict[str, list] = {}
    stride = 1
    for dense, step in zip(body.mlp_blocks, body.image_encoder.layerwise_strides, strict=True):
        stride *= step
        kernel, bias = dense.get_weights()
        found[f"neck_level{stride}"] = [kernel[None, None], bias]
    conv, norm, _ = body.linear_fuse.layers
    # keras-hub lays the coarsest map first, we the finest.
    (kernel,) = conv.get_weights()
    parts = np.split(kernel, len(body.mlp_blocks), axis=2)
    found["neck_joined"] = [np.concatenate(parts[::-1], axis=2)]
    gamma, beta, mean, variance = norm.get_weights()
    # Its epsilon is 1e-5, ours Keras' 1e-3: what lies between goes into gamma.
    found["neck_joined_bn"] = [gamma * np.sqrt((variance + 1e-3) / (variance + norm.epsilon)), beta, mean, variance]
    return found | ({"head_logits": head} if head else {})


def fill(model, arrays: dict[str, list]) -> list[str] | None:
    """Puts a decoder into an assembled network; returns the layers that keep their random weights: the classifier of
    other classes. None, and nothing is changed, when the network's decoder is another, or has another width or other maps.
    """
    have = {layer.name: layer for layer in model.layers if layer.name.startswith(("neck_", "head_")) and layer.weights}
    fits = {
        name: [tuple(v.shape) for v in layer.weights] == [v.shape for v in arrays.get(name, ())]
        for name, layer in have.items()
    }
    if not all(fits.get(name) for name in {*have, *arrays} if name.startswith("neck_")):
        return None
    for name in have:
        if fits[name]:
            have[name].set_weights(arrays[name])
    return [name for name in have if not fits[name]]
