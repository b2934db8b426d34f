"""Networks that hear by an encoder and write by a decoder: what Whisper and Moonshine share.

A network takes `samples`, `tokens` (the ids that the decoder is given) and, where sounds are as long as they are,
`count`, and gives the states of the tokens. Its encoder alone is a backbone like any other for audio.

Weights come from Hugging Face directories and from presets of keras-hub; both are brought to the names of transformers.
"""

import re
from pathlib import Path

import numpy as np

from tlkeras.backbones import Backbone, Boundaries, directories
from tlkeras.errors import ModelError

ENCODER_END, EMBEDDING, PLACES, END = "encoder_top", "embedding", "decoder_positions", "top"


def boundaries(first: str, model) -> Boundaries:
    """The blocks of a network, or of its encoder; `first` is the layer that the features end with."""
    names = [layer.name for layer in model.layers]
    depth = sum(bool(re.fullmatch(r"encoder\d+", n)) for n in names)
    encoder = (("features", first), *((f"encoder{i}", f"encoder{i}") for i in range(1, depth + 1)))
    if EMBEDDING not in names:
        return (*encoder, (ENCODER_END, ""))
    given = PLACES if PLACES in names else EMBEDDING
    depth = sum(bool(re.fullmatch(r"decoder\d+", n)) for n in names)
    decoder = ((f"decoder{i}", f"decoder{i}") for i in range(1, depth + 1))
    return (*encoder, (ENCODER_END, ENCODER_END), ("embeddings", given), *decoder, (END, ""))


def encoder(model):
    """The encoder of a network as a model of its own, over the same layers."""
    import keras

    given = {n: x for n, x in model.input.items() if n != "tokens"}
    return keras.Model(
        given if len(given) > 1 else given["samples"], model.get_layer(ENCODER_END).output, name=model.name
    )


def load(backbone: Backbone, folder: Path, kind: str, sizes_of, prefix: str, outside: dict, inside: dict):
    """Builds `backbone` with the weights of a Hugging Face directory or a preset of keras-hub.

    Args:
        kind: model_type of transformers; keras-hub's class is called alike.
        sizes_of: function (config, folder) -> sizes, of either.
        prefix, outside, inside: how transformers calls the weights, see `names`.

    Raises:
        ModelError: when the directory holds a network of other sizes, is damaged, or its weights do not fit.
    """
    from tlkeras.foreign import files, transformers
    from tlkeras.foreign.tensors import assign

    config = files.read_config(folder / "config.json")
    if kind_of(config) != kind:
        raise ModelError(f"{folder} must hold a network of type {kind}; it holds {kind_of(config) or 'another'}.")
    directories.check_sizes(backbone, folder, sizes_of(config, folder))
    model = backbone.build(None, None)
    found = from_hub(folder, kind) if "registered_name" in config else transformers.read_tensors(folder)
    tensors = {n.removeprefix(prefix): t for n, t in found.items()}
    tensors = {n: t for n, t in tensors.items() if n != "proj_out.weight"}  # the embeddings once more
    assign(model, tensors, names(model, outside, inside))
    return model


def kind_of(config: dict) -> str | None:
    """'whisper' or 'moonshine', of a config of transformers or of keras-hub."""
    registered = re.fullmatch(r"keras_hub>(Whisper|Moonshine)Backbone", str(config.get("registered_name")))
    found = registered[1].lower() if registered else config.get("model_type")
    return found if found in ("whisper", "moonshine") else None


def names(model, outside: dict, inside: dict) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """{variable path: (name in the state dict without prefix, axes to transpose by or None)}. `outside` are the layers
    that stand alone, `inside` the parts of 'encoder' and 'decoder' layers."""
    fields = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "embeddings": "weight"}
    found = {}
    for variable in model.weights:
        layer, *middle, field = variable.path.split("/")
        if numbered := re.fullmatch(r"(encoder|decoder)(\d+)", layer):
            side, n = numbered[1], int(numbered[2]) - 1
            part = inside[side][middle[0]] + "".join(f".{inside['attention'][m]}" for m in middle[1:])
            name = f"{side}.layers.{n}.{part}"
        else:
            name = outside[layer]
        axes = None if field != "kernel" else (2, 1, 0) if len(variable.shape) == 3 else (1, 0)
        found[variable.path] = (f"{name}.{fields[field]}", axes)
    return found


# keras-hub's layers, and what transformers calls them; of blocks a pattern with the parts inside.
_HUB = {
    "whisper": {
        "encoder_token_embedding_conv_layer_1": "encoder.conv1",
        "encoder_token_embedding_conv_layer_2": "encoder.conv2",
        "encoder_position_embedding": "encoder.embed_positions",
        "encoder_layer_norm": "encoder.layer_norm",
        "decoder_token_and_position_embedding/token_embedding": "decoder.embed_tokens",
        "decoder_token_and_position_embedding/position_embedding": "decoder.embed_positions",
        "decoder_layer_norm": "decoder.layer_norm",
        r"transformer_(encoder|decoder)_layer_(\d+)": {
            "self_attention_layer": "self_attn", "self_attention": "self_attn", "cross_attention": "encoder_attn",
            "self_attention_layer_norm": "self_attn_layer_norm", "cross_attention_layer_norm": "encoder_attn_layer_norm",
            "feedforward_intermediate_dense": "fc1", "feedforward_output_dense": "fc2",
            "feedforward_layer_norm": "final_layer_norm",
            "query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": "out_proj",
        },
    },
    "moonshine": {
        "conv1": "encoder.conv1", "conv2": "encoder.conv2", "conv3": "encoder.conv3", "group_norm": "encoder.groupnorm",
        "encoder_final_layer_norm": "encoder.layer_norm", "token_embedding": "decoder.embed_tokens",
        "decoder_post_norm": "decoder.norm",
        r"(encoder|decoder)_block_(\d+)": {
            "self_attention_layer": "self_attn", "self_attention_layer_norm": "input_layernorm",
            "feedforward_layer_norm": "post_attention_layernorm", "feedforward": "mlp",
            "moonshine_multi_head_attention0": "self_attn", "moonshine_multi_head_attention1": "encoder_attn",
            "layer_normalization0": "input_layernorm", "layer_normalization1": "post_attention_layernorm",
            "layer_normalization2": "final_layernorm", "moonshine_mlp0": "mlp", "dense_1": "fc1", "dense_2": "fc2",
            "query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": "o_proj",
        },
    },
}  # fmt: skip


_UNNAMED = r"(layer_normalization|moonshine_multi_head_attention|moonshine_mlp)(_\d+)?"


def from_hub(folder: Path, kind: str) -> dict:
    """The weights of a keras-hub preset under transformers' names and in its shapes.

    Raises:
        ModelError: when keras-hub cannot read it.
    """
    import keras_hub

    from tlkeras.foreign import files, presets

    presets.check(folder, "audio")
    cls = getattr(keras_hub.models, f"{kind.capitalize()}Backbone")
    with files.refused(folder, *presets.failures()):
        hub = cls.from_config(files.read_config(folder / "config.json")["config"] | {"dtype": "float32"})
        hub.load_weights(folder / "model.weights.h5")
    return hub_tensors(hub, kind)


def hub_tensors(hub, kind: str) -> dict:
    """The weights of a network of keras-hub under transformers' names and in its shapes."""
    found: dict[str, np.ndarray] = {}
    seen: dict[str, list[str]] = {}
    for variable in hub.weights:
        if "seed_generator" in variable.path or "rotary_embedding" in variable.path:
            continue
        *layers, field = variable.path.split("/")
        value = np.asarray(variable)
        # Layers without a name of their own are numbered through the process: the first of a block is 0.
        if len(layers) > 1 and (plain := re.fullmatch(_UNNAMED, layers[1])):
            known = seen.setdefault(f"{layers[0]}/{plain[1]}", [])
            known += [layers[1]] * (layers[1] not in known)
            layers[1] = f"{plain[1]}{known.index(layers[1])}"
        name = _hub_name(kind, layers)
        if field == "kernel":
            if layers[-1] in ("query", "key", "value"):
                value = value.reshape(value.shape[0], -1)
            elif layers[-1] == "attention_output":
                value = value.reshape(-1, value.shape[-1])
            value = value.transpose(*range(value.ndim)[::-1])
        elif field == "bias":
            value = value.reshape(-1)
        found[f"{name}.{'bias' if field in ('bias', 'beta') else 'weight'}"] = value
    return found


def _hub_name(kind: str, layers: list[str]) -> str:
    known = _HUB[kind]
    if (name := known.get("/".join(layers))) is not None:
        return name
    pattern, parts = next((k, v) for k, v in known.items() if isinstance(v, dict))
    numbered = re.fullmatch(pattern, layers[0])
    if not numbered or any(part not in parts for part in layers[1:]):
        raise ModelError(
            f"keras-hub's {kind} has a weight {'/'.join(layers)}, which is not known here (keras-hub 0.32)."
        )
    return f"{numbered[1]}.layers.{numbered[2]}." + ".".join(parts[part] for part in layers[1:])
