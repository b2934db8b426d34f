"""Tokenizers of keras-hub, and what their ids and special ids mean to a network."""

from pathlib import Path

from tlkeras.backbones import Tokens
from tlkeras.backbones.keras_hub import Family, directory, from_transformers, identify, prepared, presets
from tlkeras.errors import ModelError

# A network without an end to its positions is cut off here, for memory's sake.
_LONGEST = 4096


def of_preset(preset: str, offline: bool = False):
    """The tokenizer of a text preset, keras-hub's; `preset` is a name, a handle or a directory.

    Raises:
        ModelError: when the preset has no tokenizer.
        MachineError: when the preset cannot be fetched.
    """
    import keras_hub

    from tlkeras.weights import transformers

    folder = directory(next((p.handle for p in presets() if p.name == preset and not p.misfiled), preset), offline)
    options = transformers.tokenizer_options(folder) if from_transformers(folder) else {}
    cls = getattr(keras_hub.models, identify(folder)[0].backbone.replace("Backbone", "Tokenizer"))
    try:
        return cls.from_preset(str(prepared(folder)), **options)
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise ModelError(f"{preset} has no tokenizer that keras-hub can read: {e}") from e


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


def of_run(folder):
    """The tokenizer that a run keeps in its folder.

    Raises:
        ModelError: when it is damaged or names classes that are no tokenizer.
    """
    import keras_hub

    from tlkeras.weights import files

    path = Path(folder) / "tokenizer.json"
    config = files.read_config(path)
    files.check_classes(config, path)
    with files.refused(folder, OSError, ValueError, TypeError, KeyError, AttributeError):
        # Its from_preset would want the config of a backbone beside it.
        tokenizer = getattr(keras_hub.tokenizers, config["class_name"]).from_config(config["config"])
        tokenizer.load_preset_assets(str(folder))
        return tokenizer
