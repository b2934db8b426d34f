"""Text models in Hugging Face directories, made into directories that KerasHub reads exactly.

KerasHub 0.32 converts most of these models by itself, but builds its own activation and epsilon whatever the config
says, and asks for names and files that many directories do not have. `prepared` writes a directory that it reads
rightly, `correct` gives the built backbone what its config cannot say, and what neither can express is refused.

Measured against transformers 5.23 where no position is padded, in float32: 2e-6 of outputs up to 4.5 for every type
with random weights, bare and with the heads of its tasks; 3e-6 of 5.9 for the real weights of all-MiniLM-L6-v2.

Ids of tokens are equal on 1,980 lines of package descriptions, once `backbones.words` cuts as `words` says.
"""

import itertools
import json
import re
from pathlib import Path

from tlkeras.errors import ModelError, listed
from tlkeras.foreign import files, presets, torch_file, vocabularies
from tlkeras.foreign.transformers_models import TEXT, Text

MAX_LAYERS = 1000
READERS = {"model.safetensors": files.read_safetensors, "pytorch_model.bin": torch_file.read}

# What transformers calls an activation, and what `correct` calls it.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu",
    "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu", "silu": "silu", "swish": "silu",
}  # fmt: skip
# Tensors of task heads, and buffers that are no weights.
DROPPED = (
    r"(cls|classifier|pre_classifier|qa_outputs|score|lm_head|vocab_(transform|layer_norm|projector)|predictions"
    r"|sop_classifier|(discriminator|generator)_predictions|generator_lm_head|sequence_summary|multiple_choice_head"
    r"|classification_head|final_logits_bias)(\..*)?|(.*\.)?(position_ids|token_type_ids|inv_freq|attn\.(masked_)?bias)"
)


def prepared(folder: Path, into: Path) -> None:
    """Writes into the empty directory `into` what KerasHub reads of the transformers model in `folder`.

    Raises:
        ModelError: with all that KerasHub's model cannot express, is missing or unknown; or for a damaged file.
    """
    with files.refused(folder, OSError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        config = files.read_config(folder / "config.json")
        text = _text(config)
        tensors: dict = {}
        if not (faults := _config_faults(text, config)):
            tensors, faults = _named(text, config, read_tensors(folder))
        rows = None if faults else len(next(iter(tensors.values())))
        contents, more = vocabularies.read(text.vocabulary, text.special, folder, rows)
        if faults + more:
            head = f"{folder} holds a model of type {config['model_type']} that KerasHub cannot be given exactly"
            raise ModelError(f"{listed(head, faults + more)}\n  Correct its files, or take another model.")
        text.adapt(config, tensors)
    for name, data in (contents | {"config.json": json.dumps(config).encode()}).items():
        (into / name).write_bytes(data)
    files.write_safetensors(into / "model.safetensors", tensors)
    text.rewrite(config, into)


def corrections(config: dict) -> dict:
    """What `correct` gives the backbone that KerasHub builds for a transformers config, as plain JSON data.

    Raises:
        ModelError: when the model type or its activation is not known.
    """
    text = _text(config)
    found: dict = {}
    if text.activation:
        key, default, built = text.activation
        name = str(config.get(key, default))
        if name not in ACTIVATIONS:
            raise ModelError(f"{key} must be one of {', '.join(ACTIVATIONS)}; it is {name!r}.")
        if ACTIVATIONS[name] != built:
            found["activation"] = ACTIVATIONS[name]
    if text.epsilon:
        key, default_epsilon, built_epsilon = text.epsilon
        if (epsilon := float(config.get(key, default_epsilon))) != built_epsilon:
            found["epsilon"] = epsilon
    return found


def correct(backbone, corrections: dict):
    """Gives a KerasHub backbone, as it was built or rebuilt from its config, its `corrections`; returns it."""
    import keras

    name = corrections.get("activation")
    tanh = keras.saving.get_registered_object("keras_hub>gelu_approximate")
    activation = tanh if name == "gelu_tanh" else keras.activations.get(name)
    for layer in backbone._flatten_layers():
        for key in ("epsilon", "layer_norm_epsilon"):
            if "epsilon" in corrections and hasattr(layer, key):
                setattr(layer, key, corrections["epsilon"])
        if name and hasattr(layer, "_feedforward_intermediate_dense"):
            layer.activation = layer._feedforward_intermediate_dense.activation = activation
    for layer, window in zip(getattr(backbone, "transformer_layers", ()), corrections.get("windows", ()), strict=False):
        layer.sliding_window = layer.self_attention_layer.sliding_window = window
    return backbone


def tokenizer_options(folder: Path) -> dict:
    """Keyword arguments for `from_preset` of the tokenizer that `prepared` writes of the model in `folder`.

    With them and `words` ids are transformers', but for special tokens: a text cannot hold any.
    """
    return vocabularies.options(_text(files.read_config(folder / "config.json")).vocabulary, folder)


def words(folder: Path) -> dict | None:
    """How the tokenizer of the model in `folder` cuts words, for `backbones.words.correct`; None: as KerasHub does."""
    return vocabularies.words(_text(files.read_config(folder / "config.json")).vocabulary, folder)


def _text(config: dict) -> Text:
    if (kind := str(config.get("model_type"))) not in TEXT:
        raise ModelError(f"model_type must be one of {', '.join(TEXT)}; it is {kind!r}, which is not read.")
    return TEXT[kind]


def read_tensors(folder: Path) -> dict:
    """{name: array} of the weight files of a directory.

    Raises:
        ModelError: when there are none, or they are damaged.
    """
    for name, read in READERS.items():
        index = f"{name}.index.json"
        if (folder / name).is_file() or (folder / index).is_file():
            return {n: t for path in presets._shards(folder, name, index) for n, t in read(path).items()}
    raise ModelError(f"{folder} must have {' or '.join(READERS)}. Save the model with save_pretrained.")


def _config_faults(text: Text, config: dict) -> list[str]:
    for key in text.counted:
        if type(config.get(key)) is not int or not 0 < config[key] <= MAX_LAYERS:
            return [f"{key} must be a number from 1 to {MAX_LAYERS}, it is {config.get(key)!r}"]
    demands = {"quantization_config": (None,)} | text.demands
    if text.activation:
        demands[text.activation[0]] = tuple(ACTIVATIONS)
    faults = []
    for key in (key for key in demands if key in config):
        values = demands[key](config) if callable(demands[key]) else demands[key]
        if config[key] not in values:
            faults.append(
                f"{key} must be {' or '.join(map(json.dumps, values))}, it is {json.dumps(config[key])[:200]}"
            )
    return faults


def _named(text: Text, config: dict, tensors: dict) -> tuple[dict, list[str]]:
    """The tensors that KerasHub reads, named and ordered as in a model with a head; and what is missing or unknown."""
    names: list[str] = []
    found: dict = {}
    faults = []
    for template in text.tensors.split():
        for key in text.counted:
            template = template.replace("#", f"{{{','.join(map(str, range(config[key])))}}}", 1)
        names += map("".join, itertools.product(*(part.split(",") for part in re.split("[{}]", template))))
    known = set(names)
    for name, tensor in tensors.items():
        # The first files of BERT have TensorFlow's names of scale and shift.
        new = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        new = new if new in known else text.prefix + new
        if new in known and new not in found:
            found[new] = tensor
        elif not re.fullmatch(f"{text.dropped}|{DROPPED}", name.removeprefix(text.prefix)):
            faults.append(f"the weights hold {name[:200]!r}, which is no part of it")
    optional = text.optional(config)
    faults += [f"the weights lack {name}" for name in names if name not in found and not re.search(optional, name)]
    return {name: found[name] for name in names if name in found}, faults
