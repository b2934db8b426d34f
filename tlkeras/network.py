"""The whole network: pixels, tokens or samples of sound -> backbone -> pooling -> head, as one flat graph cut into blocks."""

import contextlib
import functools
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tlkeras import backbones, blocks, detectors, hearing, letterbox, lora, recorded, tasks, weights
from tlkeras.backbones import (
    Backbone,
    Pixels,
    Sound,
    Source,
    Tokens,
    keras_hub,
    keras_hub_places,
    keras_hub_tokens,
    torch_builds,
)
from tlkeras.blocks import HEAD, NECK
from tlkeras.errors import ConfigError, ModelError
from tlkeras.foreign.tensors import TORCH, read
from tlkeras.run import open_run, read_json

KINDS = {Pixels: "image", Tokens: "text", Sound: "audio"}


@dataclass(frozen=True)
class Network:
    """A model from uint8-valued pixels (B, height, width, 3), a dict of int32 tokens (B, length), or samples of sound
    (B, length) or a dict of these, to raw outputs, and its layers by block, input side first, the head last. `input` is
    the contract (Pixels, Tokens or Sound), `reader` turns texts or sounds into rows (None for images), `base` is the backbone as its source built it. `backbone` is what `rebuild` needs to make it
    again without weights, `adapted` are the blocks that learn by adapters alone."""

    model: Any
    blocks: dict[str, tuple]
    input: Any
    backbone: dict
    reader: Any = None
    base: Any = None
    adapted: frozenset[str] = frozenset()

    @property
    def takes(self) -> str:
        """The size of the input in words: '224x224', 'up to 128 tokens' or '4 s at 16,000 Hz'."""
        if isinstance(self.input, Tokens):
            return f"up to {self.input.length} tokens"
        if isinstance(self.input, Sound):
            return f"{'' if self.input.fixed else 'up to '}{self.input.seconds:g} s at {self.input.rate:,} Hz"
        return f"{self.input.size[0]}x{self.input.size[1]}{', letterboxed' if self.input.pad else ''}"

    @property
    def kind(self) -> str:
        """Of the input: 'image', 'text' or 'audio'."""
        return KINDS[type(self.input)]

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
    """The catalogue entry of a config's backbone, or one made from the run, preset directory or handle it names.

    Raises:
        ConfigError: when the backbone reads another kind of input than the task.
    """
    name = config.backbone.name
    if name in backbones.catalogue() or name in torch_builds.known():
        record = weights.suited(name, config.backbone.weights)
    elif (Path(name) / "backbone.json").is_file():
        record = _of_run(Path(name))
    elif Path(name).is_dir() or "://" in name:
        folder = keras_hub.directory(name, offline)
        record = hearing.found(folder) or keras_hub.from_directory(name, offline)
    else:
        record = backbones.get(name)
    if record.kind not in (kinds := tasks.backbones(config.task_name)):
        raise ConfigError(
            f"task {config.task_name} needs a backbone for {' or '.join(kinds)}, and {record.name} reads {record.kind}. List them with: tlkeras backbones --kind {kinds[0]}"
        )
    return record


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
    """What an image backbone of a config reads, with the size and the way of resizing that the config asks for."""
    record = entry(config, offline)
    asked = (config.backbone.size,) * 2 if config.backbone.size else None
    pixels = record.pixels or keras_hub.pixels_of(_preset(record, source(config, record)), asked, offline)
    return letterbox.taken(config, replace(pixels, size=asked or pixels.size))


def fitted(config, answer: dict, offline: bool = False) -> dict:
    """What the outputs of a config's network mean, where they lie in pictures: of those as it takes them."""
    return letterbox.told(config, answer, functools.partial(contract, config, offline))


def build(config, answer: dict, precision: str = "float32", offline: bool = False) -> Network:
    """Builds the network of a config, with the backbone's pretrained weights in it.

    Raises:
        ConfigError, ModelError, MachineError: when the backbone does not suit or its weights cannot be had.
    """
    record = entry(config, offline)
    wanted = source(config, record)
    with dtype_policy(precision):
        if record.kind == "text":
            where = _preset(record, wanted)
            tokenizer = (
                keras_hub_tokens.of_run(Path(where.removeprefix("run:")) / "tokenizer")
                if where.startswith("run:")
                else keras_hub_tokens.of_preset(where, offline)
            )
            base = weights.load(record, wanted, None, offline=offline)
            tokens = keras_hub_tokens.contract(keras_hub.family(record.family), tokenizer, base)
            return _assemble(config, answer, record, base, _limited(config, tokens), wanted, tokenizer)
        if tasks.kind(config.task_name) == "audio":
            sound = hearing.contract(config, record, contract(config, offline) if record.kind == "image" else None)
            words = hearing.tokenizer(_preset(record, wanted), offline) if hearing.writes(config, record) else None
            base = weights.load(record, wanted, sound.pixels.size if sound.pixels else None, offline=offline)
            return _assemble(config, answer, record, base, sound, wanted, words)
        pixels = contract(config, offline)
        base = weights.load(record, wanted, pixels.size, offline=offline)
        network = _assemble(config, answer, record, base, pixels, wanted)
        return _decoding(config, _filled(config, network, wanted), record, wanted, offline)


def _decoding(config, network: Network, record: Backbone, wanted: str | None, offline: bool) -> Network:
    """A segmenter with the decoder of its backbone's preset, where that is the same: SegFormer's. Where it is another,
    `random` of the backbone says so."""
    if wanted is None or record.pixels or tasks.annotations(config.task_name) != "masks":
        return network
    options, where = tasks.options_of(config), _preset(record, wanted)
    if where.startswith("run:"):
        return network
    folder = keras_hub.directory(where, offline)
    if not folder.is_dir():  # a file of weights
        return network
    about = keras_hub.identify(folder)[1]
    width = keras_hub_places.width(about)
    if width is None:
        return network
    if (options.decoder, options.width) == ("segformer", width):
        arrays = keras_hub_places.decoder(folder, about, width)
        new = keras_hub_places.fill(network.model, arrays) if arrays else None
        if new is not None:
            return replace(network, backbone=network.backbone | {"new": new})
    why = (
        f"the decoder begins at random: that of the preset is `decoder: segformer, width: {width}, stride: 4`, "
        f"and the task asks for decoder {options.decoder}, width {options.width}, stride {options.stride}"
    )
    return replace(network, backbone=network.backbone | {"random": why})


def _filled(config, network: Network, wanted: str | None) -> Network:
    """A detector with neck and head from the file of its backbone, where that holds a whole detector."""
    path = Path(wanted or "")
    if (
        tasks.annotations(config.task_name) != "boxes"
        or path.suffix not in (".safetensors", *TORCH)
        or not path.is_file()
    ):
        return network
    kind, tensors = tasks.options_of(config).detector, read(path)
    if not detectors.whole(kind, tensors):
        return network
    _, _, missing = detectors.load(kind, network.model, tensors)
    return replace(network, backbone=network.backbone | {"new": missing})


def plain(config):
    """The config of a network without adapters, as a finished run has it: they are added to its kernels."""
    return config.model_copy(update={"backbone": config.backbone.model_copy(update={"lora": None})})


def _limited(config, tokens: Tokens) -> Tokens:
    """The contract with the length that the config asks for.

    Raises:
        ConfigError: when the network has not so many positions.
    """
    asked = config.backbone.length
    if asked and asked > tokens.length:
        raise ConfigError(f"backbone.length: {config.backbone.name} has {tokens.length} positions; received {asked}.")
    # A network that is not told what is padding mixes it in: as much of it as there is, which must always be the same.
    padding = config.backbone.padding if tokens.masked else "length"
    return replace(tokens, length=asked or min(tokens.length, 512), padding=padding)


def rebuild(config, answer: dict, backbone: dict, weight_file=None, precision: str = "float32", folder=None) -> Network:
    """Builds the network of a finished run again, from its backbone.json, and loads `weight_file` into it.

    Nothing is downloaded, and no object is taken from the weight file: only arrays. `folder` holds the tokenizer of a
    network for text.

    Raises:
        ModelError: when the file does not fit.
    """
    from tlkeras.foreign import files

    record = recorded.entry(backbone)
    takes = recorded.contract(backbone)
    tokenizer = keras_hub_tokens.of_run(folder) if record.kind == "text" or hearing.writes(config, record) else None
    with dtype_policy(precision):
        if backbone["hub"] is None:
            base = record.build(getattr(getattr(takes, "pixels", None) or takes, "size", None), None)
        else:
            base = keras_hub.from_config(backbone["hub"])
        network = _assemble(config, answer, record, base, takes, backbone["weights"], tokenizer)
    if weight_file is not None:
        files.check_keras(Path(weight_file))
        try:
            network.model.load_weights(weight_file)
        except (ValueError, KeyError, OSError) as e:
            raise ModelError(f"{weight_file} does not fit the network of this run: {e}") from e
    return network


def _assemble(config, answer, record: Backbone, base, contract, weights_name: str | None, tokenizer=None) -> Network:
    import keras

    from tlkeras.data import images, texts

    task, options = tasks.get(config.task_name), tasks.options_of(config)
    if record.kind == "text":
        body = keras_hub.features(base, record.family)
        inputs: Any = {name: keras.Input((None,), name=name, dtype="int32") for name in body.input}
        tensors = blocks.flatten(body, inputs, opened=record.opened)
        chosen = {name: getattr(options, name) for name in getattr(task, "ENCODING", ())}
        encode = functools.partial(getattr(task, "encode", texts.encode), **chosen)
        reader = texts.Reader(contract, tokenizer, encode, getattr(task, "together", None))
    elif isinstance(contract, Sound):
        body, reader = hearing.body(base, record, task), hearing.reader(contract, record, task, tokenizer, options)
        inputs, tensors = hearing.tensors(body, contract, record)
    else:
        body, reader = base, None
        inputs = keras.Input((*contract.size, 3), name="pixels", dtype="float32")
        tensors = blocks.flatten(base, inputs, images.normalise(inputs, contract), record.opened)
    boundaries = record.blocks(body) if callable(record.blocks) else record.blocks
    if config.backbone.until:
        tensors, boundaries = blocks.until(config.backbone.until, tensors, boundaries)
    cut = blocks.split(inputs, tensors, boundaries)
    size: Any = getattr(contract, "size", None)  # of images
    pool = config.backbone.pool or record.pool
    whole = functools.partial(_pooled, tensors[""], pool, inputs, contract, record.frames)
    levels = functools.partial(blocks.levels, tensors, boundaries, size)
    if hasattr(task, "heads"):
        raw = task.heads(whole, levels, contract, answer, options)
    elif hasattr(task, "token_head"):
        inputs |= {name: keras.Input((None,), name=name, dtype="int32") for name in getattr(task, "INPUTS", ())}
        raw = task.token_head(tensors[""], inputs, base, answer, options)
    elif hasattr(task, "maps"):
        raw = task.maps(levels(), size, answer, options)
    elif hasattr(task, "frame_head"):
        assert record.frames is not None  # entries for audio have it
        hearing.check_frames(config, record, contract)
        raw = task.frame_head(tensors[""], record.frames(inputs["count"]), answer, options)
    else:
        raw = task.head(whole(), answer, options)
    model = keras.Model(inputs, raw, name=record.name.replace("/", "_").replace(":", "_"))
    held = {id(x) for layers in cut.values() for x in layers}
    new = [x for x in model.layers if id(x) not in held and not isinstance(x, keras.layers.InputLayer)]
    # Layers of the backbone that no map was taken behind are not in the model.
    there = {id(x) for x in model.layers}
    cut = {block: kept for block, layers in cut.items() if (kept := tuple(x for x in layers if id(x) in there))}
    if neck := tuple(x for x in new if x.name.startswith("neck_")):
        cut[NECK] = neck
    cut[HEAD] = tuple(x for x in new if not x.name.startswith("neck_"))
    adapted = lora.enable(cut, config.backbone.lora) if config.backbone.lora else frozenset()
    about = {
        "catalogued": record.name in backbones.catalogue() and "preset" not in record.sources,
        "name": record.name,
        "family": record.family,
        "kind": record.kind,
        "pool": record.pool,
        "weights": weights_name,
        "licence": getattr(record.sources.get(weights_name or ""), "licence", "unknown"),
        "hub": keras_hub.configured(base),
        "sizes": record.sizes or None,
        "reads": KINDS[type(contract)],
        "input": asdict(contract),
    }
    return Network(model, cut, contract, about, reader, base, adapted)


def _of_run(folder: Path) -> Backbone:
    """The backbone of a finished run as an entry, with what the run made of its weights."""
    run = open_run(folder)
    about = read_json(run.backbone)

    def trained(size, weights):
        from tlkeras import configure

        cfg, _ = configure.load(run.config)
        answer, file = read_json(run.manifest)["answer"], run.model if weights else None
        return rebuild(plain(cfg), answer, about, file, folder=run.tokenizer).base

    record = recorded.entry(about)
    takes = recorded.contract(about)
    pixels = takes if isinstance(takes, Pixels) else getattr(takes, "pixels", None)
    sources = {"run": Source(f"run:{folder}", about["licence"])}
    return replace(record, build=trained, pixels=pixels, sources=sources)


def _pooled(features, pool: str, inputs, contract, frames=None):
    """Features as (B, c): the mean over space, tokens or frames, the first token, the last, or as they are."""
    from keras import layers, ops

    if isinstance(contract, Sound) and not contract.fixed:
        return hearing.pooled(features, frames(inputs["count"]))
    if len(features.shape) == 2 or pool == "none":
        return features
    if pool == "token":
        return ops.take(features, 0, axis=1)
    if pool == "time":
        return hearing.over_time(features, contract)
    if len(features.shape) == 4:
        return layers.GlobalAveragePooling2D(name="head_pool")(features)
    if not isinstance(inputs, dict):
        return layers.GlobalAveragePooling1D(name="head_pool")(features)
    if "padding_mask" in inputs:
        mask = ops.cast(inputs["padding_mask"], features.dtype)
    else:  # FNet is not told, and mixes padding in; the mean need not
        mask = ops.cast(ops.not_equal(inputs["token_ids"], contract.pad), features.dtype)
    if pool == "last":
        mask = mask * ops.cast(ops.equal(ops.cumsum(mask, 1), ops.sum(mask, 1, keepdims=True)), mask.dtype)
    total = ops.sum(features * ops.expand_dims(mask, -1), axis=1)
    return total / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1)


def _preset(record: Backbone, wanted: str | None) -> str:
    """Where the preset lies that the input of a backbone is known from.

    Raises:
        ConfigError: when none is named.
    """
    if wanted is None and {"preset", "run"} & set(record.sources):
        wanted = next(iter(record.sources))  # a directory, of which random weights of that architecture are asked for
    if wanted is None:
        raise ConfigError(
            f"backbone: the input of {record.name} is known from its preset only. Name the preset with backbone.weights."
        )
    known = record.sources.get(wanted)
    return known.where if known else wanted


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
