"""Tokenizers of keras-hub, and what their ids and special ids mean to a network."""

import json
from pathlib import Path

from tlkeras.backbones import Tokens, words
from tlkeras.backbones.keras_hub import Family, directory, from_transformers, identify, prepared, presets
from tlkeras.errors import ModelError

# A network without an end to its positions is cut off here, for memory's sake.
_LONGEST = 4096
_WORDS = "words.json"


def of_preset(preset: str, offline: bool = False):
    """The tokenizer of a text preset, keras-hub's; `preset` is a name, a handle or a directory.

    Raises:
        ModelError: when the preset has no tokenizer.
        MachineError: when the preset cannot be fetched.
    """
    import keras_hub

    from tlkeras.foreign import transformers

    folder = directory(next((p.handle for p in presets() if p.name == preset and not p.misfiled), preset), offline)
    converted, made = from_transformers(folder), prepared(folder)
    options = transformers.tokenizer_options(folder) if converted else {}
    # Of a directory of type llama KerasHub makes a Llama 3, whose tokenizer is another one.
    name = "Tokenizer" if converted else identify(folder)[0].backbone.replace("Backbone", "Tokenizer")
    cls = getattr(keras_hub.models, name)
    try:
        tokenizer = cls.from_preset(str(made), **options)
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise ModelError(f"{preset} has no tokenizer that keras-hub can read: {e}") from e
    said = transformers.words(folder) if converted else None
    return words.correct(tokenizer, said) if said else tokenizer


def contract(known: Family, tokenizer, backbone) -> Tokens:
    """The input contract of a text backbone with a tokenizer.

    Raises:
        ModelError: when the tokenizer has more ids than the backbone has embeddings.
    """
    size, rows = tokenizer.vocabulary_size(), backbone.token_embedding.input_dim
    if size > rows:
        raise ModelError(
            f"The tokenizer has {size} ids, the network {rows} embeddings: they do not belong together. Give the tokenizer that the network was trained with."
        )
    start, middle, end = (
        tuple(int(i) for name in names if (i := getattr(tokenizer, name, None)) is not None) for names in known.special
    )
    names = backbone.input if isinstance(backbone.input, dict) else {}
    mask = getattr(tokenizer, "mask_token_id", None)
    return Tokens(
        length=min(getattr(backbone, "max_sequence_length", None) or _LONGEST, _LONGEST),
        vocabulary=rows,
        start=start,
        middle=middle,
        end=end,
        pad=int(tokenizer.pad_token_id or 0),
        segments="segment_ids" in names,
        mask=None if mask is None else int(mask),
        masked=any("padding_mask" in name for name in names),
    )


def save(tokenizer, folder: Path) -> None:
    """Keeps a tokenizer in a folder of a run: a preset of keras-hub, and how it cuts words where that is not keras-hub's
    way."""
    import keras_hub

    tokenizer.save_to_preset(folder)
    if isinstance(tokenizer, keras_hub.models.Llama3Tokenizer):
        # Its own config forgets what the special tokens are called (keras-hub 0.32).
        path = folder / "tokenizer.json"
        config = json.loads(path.read_text("utf8"))
        known = {name: getattr(tokenizer, name) for name in set(tokenizer._special_token_attrs)}
        config["config"] |= {"bos_token": known.pop("start_token"), "eos_token": known.pop("end_token")}
        config["config"]["misc_special_tokens"] = sorted(known.values())
        path.write_text(json.dumps(config), "utf8")
    if said := words.said_of(tokenizer):
        (folder / _WORDS).write_text(json.dumps(said), "utf8")


def of_run(folder):
    """The tokenizer that `save` kept.

    Raises:
        ModelError: when it is damaged or names classes that are no tokenizer.
    """
    import keras_hub

    from tlkeras.foreign import files

    path = Path(folder) / "tokenizer.json"
    config = files.read_config(path)
    files.check_classes(config, path)
    with files.refused(folder, OSError, ValueError, TypeError, KeyError, AttributeError):
        if "misc_special_tokens" in config["config"]:
            config["config"]["misc_special_tokens"] = set(config["config"]["misc_special_tokens"])
        # Its from_preset would want the config of a backbone beside it.
        tokenizer = getattr(keras_hub.tokenizers, config["class_name"]).from_config(config["config"])
        tokenizer.load_preset_assets(str(folder))
        said = path.with_name(_WORDS)
        return words.correct(tokenizer, files.read_config(said)) if said.is_file() else tokenizer
