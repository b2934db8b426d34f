"""The whole network: pixels -> scaling -> backbone -> pooling -> head, as one flat graph cut into blocks."""

import contextlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tlkeras import backbones, blocks, tasks, weights
from tlkeras.backbones import Backbone, Pixels, Source
from tlkeras.errors import ConfigError, ModelError

HEAD = "head"


@dataclass(frozen=True)
class Network:
    """A model from uint8-valued pixels (B, height, width, 3) to raw outputs (B, k), and its layers by block,
    input side first, the head last. `backbone` is what `build` needs to make it again without weights."""

    model: Any
    blocks: dict[str, tuple]
    pixels: Pixels
    backbone: dict

    def variables(self, block: str) -> list:
        """All weights of a block, BatchNorm statistics too."""
        return [v for layer in self.blocks[block] for v in layer.weights]

    def parameters(self, block: str, trainable: bool = False) -> int:
        """How many numbers a block holds; with `trainable`, those that training moves as things stand."""
        of = (
            [v for layer in self.blocks[block] for v in layer.trainable_weights] if trainable else self.variables(block)
        )
        return sum(math.prod(v.shape) for v in of)


def entry(config, offline: bool = False) -> Backbone:
    """The catalogue entry of a config's backbone, or one made from the preset directory or handle it names."""
    name = config.backbone.name
    if name not in backbones.catalogue() and (Path(name).is_dir() or "://" in name):
        from tlkeras.backbones import keras_hub

        return keras_hub.from_directory(name, offline)
    return backbones.get(name)


def source(config, record: Backbone) -> str | None:
    """The weights a config asks for: 'pretrained' stands for the first source of the backbone.

    Raises:
        ModelError: when the backbone has none.
    """
    if config.backbone.weights != "pretrained":
        return config.backbone.weights
    if not record.sources:
        raise ModelError(
            f"{record.name} has no pretrained weights in the catalogue. Name a weight file with backbone.weights, or set it to null for random ones."
        )
    return next(iter(record.sources))


def contract(config, offline: bool = False) -> Pixels:
    """What the backbone of a config reads, with the size and the way of resizing that the config asks for."""
    record = entry(config, offline)
    pixels = record.pixels or _preset_pixels(record, source(config, record), offline)
    size = (config.backbone.size,) * 2 if config.backbone.size else pixels.size
    return replace(pixels, size=size, crop=(pixels.crop or 1.0) if config.backbone.resize == "crop" else None)


def build(config, answer: dict, precision: str = "float32", offline: bool = False) -> Network:
    """Builds the network of a config, with the backbone's pretrained weights in it.

    Raises:
        ModelError, MachineError: when the weights cannot be had.
    """
    record = entry(config, offline)
    wanted, pixels = source(config, record), contract(config, offline)
    with dtype_policy(precision):
        base = weights.load(record, wanted, pixels.size, offline=offline)
        return _assemble(config, answer, record, base, pixels, wanted)


def rebuild(config, answer: dict, backbone: dict, weight_file=None, precision: str = "float32") -> Network:
    """Builds the network of a finished run again, from its backbone.json, and loads `weight_file` into it.

    Nothing is downloaded, and no object is taken from the weight file: only arrays.

    Raises:
        ModelError: when the file does not fit.
    """
    from tlkeras.weights import files

    record = _recorded(backbone)
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in backbone["pixels"].items()}
    pixels = Pixels(**known)
    with dtype_policy(precision):
        if backbone["hub"] is None:
            base = record.build(pixels.size, None)
        else:
            base = _from_hub_config(backbone["hub"])
        network = _assemble(config, answer, record, base, pixels, backbone["weights"])
    if weight_file is not None:
        files.check_keras(Path(weight_file))
        try:
            network.model.load_weights(weight_file)
        except (ValueError, KeyError, OSError) as e:
            raise ModelError(f"{weight_file} does not fit the network of this run: {e}") from e
    return network


def _assemble(config, answer, record: Backbone, base, pixels: Pixels, weights_name: str | None) -> Network:
    import keras

    from tlkeras.data import images

    task, options = tasks.get(config.task_name), tasks.options_of(config)
    inputs = keras.Input((*pixels.size, 3), name="pixels", dtype="float32")
    tensors = blocks.flatten(base, inputs, images.normalise(inputs, pixels), record.opened)
    boundaries = record.blocks(base) if callable(record.blocks) else record.blocks
    cut = blocks.split(inputs, tensors, boundaries)
    raw = task.head(_pooled(tensors[""], record.pool), answer, options)
    model = keras.Model(inputs, raw, name=record.name.replace("/", "_").replace(":", "_"))
    held = {id(x) for layers in cut.values() for x in layers}
    cut[HEAD] = tuple(x for x in model.layers if id(x) not in held and not isinstance(x, keras.layers.InputLayer))
    hub = None
    if type(base).__module__.startswith("keras_hub."):
        hub = {
            "class": type(base).__name__,
            "config": json.loads(json.dumps(keras.saving.serialize_keras_object(base)["config"])),
        }
        # The precision of the run that trained is not that of the export: rebuild chooses its own.
        hub["config"].pop("dtype", None)
    known = record.sources.get(weights_name or "")
    about = {
        "catalogued": backbones.catalogue().get(record.name) is record,
        "name": record.name,
        "family": record.family,
        "pool": record.pool,
        "weights": weights_name,
        "licence": known.licence if known else "unknown",
    }
    return Network(model, cut, pixels, {**about, "hub": hub, "pixels": vars(pixels)})


def _recorded(backbone: dict) -> Backbone:
    """The entry of a run's backbone.json; a preset directory that the run came from need not be there any more."""
    if backbone["catalogued"]:
        return backbones.get(backbone["name"])
    from tlkeras.backbones import keras_hub

    known = keras_hub.family(backbone["family"])
    source = {backbone["weights"]: Source("", backbone["licence"])} if backbone["weights"] else {}
    return Backbone(
        backbone["name"],
        known.name,
        _no_build,
        known.blocks,
        None,
        backbone["pool"],
        sources=source,
        opened=known.opened,
    )


def _no_build(size, weights):
    raise ModelError(
        "The backbone of this run was built from a preset directory, whose configuration is not in the run. Train again from the directory."
    )


def _pooled(features, pool: str):
    """Features as (B, c): the mean over space or tokens, the first token, or as they are."""
    from keras import layers, ops

    if len(features.shape) == 2 or pool == "none":
        return features
    if pool == "token":
        return ops.take(features, 0, axis=1)
    return (layers.GlobalAveragePooling1D if len(features.shape) == 3 else layers.GlobalAveragePooling2D)(
        name="head_pool"
    )(features)


def _from_hub_config(hub: dict):
    import keras_hub

    from tlkeras.backbones import keras_hub_families

    cls = getattr(keras_hub.models, hub["class"], None)
    if cls is None:
        raise ModelError(
            f"The installed keras-hub has no {hub['class']}; install the version that manifest.json names."
        )
    return keras_hub_families.corrected(cls.from_config(hub["config"]))


def _preset_pixels(record: Backbone, wanted, offline: bool) -> Pixels:
    from tlkeras.backbones import keras_hub

    if wanted is None:
        raise ConfigError(
            f"backbone: the input of {record.name} is known from its preset only. Name the preset with backbone.weights."
        )
    known = record.sources.get(wanted)
    return keras_hub.pixels_of(known.where if known else wanted, offline=offline)


@contextlib.contextmanager
def dtype_policy(name: str):
    """Builds what is inside under a Keras dtype policy; keras.applications know no other way."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
