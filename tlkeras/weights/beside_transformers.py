"""A converted Hugging Face model and transformers' own, given the same ids, pixels or sounds at random.

Needs PyTorch and transformers. Which inputs and outputs belong together is known by the names of the inputs.
"""

import contextlib
import importlib
from pathlib import Path

import numpy as np

BATCH, LENGTH, PADDED = 2, 12, 3


def outputs(folder: Path, model, config: dict) -> list[tuple] | None:
    """[(ours, theirs)] of all that both give, where no position is padded; None where the inputs are of no known kind.

    `model` is what was made of the directory, of keras-hub or of the networks here.
    """
    given = {tensor.name for tensor in model.inputs}
    rng = np.random.default_rng(0)
    for names, compared in KINDS.items():
        if names == given or (names == TEXT and {"token_ids"} <= given <= names | {"segment_ids"}):
            return compared(_theirs(folder), model, config, rng)
    if len(given) == 1 and len(model.inputs[0].shape) == 4:
        return _pixels(_theirs(folder), model, config, rng)
    return None


def importable(library: str) -> bool:
    """Whether torchvision or timm is there and can be imported, also a torchvision that was built for another torch."""
    import torch

    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass
    except RuntimeError:  # Its C++ operators are missing; no classifier needs them, only their names.
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
    try:
        return importlib.import_module(library) is not None
    except (ImportError, RuntimeError):
        return False


def _theirs(folder: Path):
    importable("torchvision")  # One that was built for another torch would keep transformers from its models.
    import torch
    import transformers

    return transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def answer(model, **given):
    """What a PyTorch model gives for arrays, channels last in ours and first in theirs."""
    import torch

    with torch.no_grad():
        return model(**{name: torch.tensor(np.ascontiguousarray(array)) for name, array in given.items()})


def _special(config: dict) -> set[int]:
    """Ids with a meaning of their own in any part of a config: pads, ends, places of images."""
    found: set[int] = set()
    for key, value in config.items():
        if isinstance(value, dict):
            found |= _special(value)
        elif key.endswith(("_token_id", "_token_index")):
            found |= {n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)}
    return found


def ids_of(config: dict, rng, size: int):
    """Ids int32 (BATCH, LENGTH) and what is no padding, of which the last row has some at its end."""
    free = [n for n in range(size) if n not in _special(config)]
    mask = np.ones((BATCH, LENGTH), "int32")
    mask[-1, -PADDED:] = 0
    pad = config.get("pad_token_id")
    return np.where(mask, rng.choice(free, mask.shape), pad if isinstance(pad, int) else 0).astype("int32"), mask


def _rows_of(config: dict) -> int:
    """Of the embedding."""
    parts = [
        config,
        *(part for key in ("text_config", "decoder", "encoder") if isinstance(part := config.get(key), dict)),
    ]
    return min(int(part["vocab_size"]) for part in parts if "vocab_size" in part)


def _shown(ours, theirs, mask):
    ours, theirs = (np.asarray(a, "float32") for a in (ours, theirs))
    return ours[mask == 1], theirs[mask == 1]


def _text(theirs, model, config, rng):
    ids, mask = ids_of(config, rng, _rows_of(config))
    if all(
        tensor.name != "padding_mask" for tensor in model.inputs
    ):  # ESM's network of keras-hub masks the wrong side.
        ids, mask = ids[:-1], mask[:-1]
    given = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
    given["position_ids"] = np.tile(np.arange(LENGTH, dtype="int32"), (len(ids), 1))
    ours = model({tensor.name: given[tensor.name] for tensor in model.inputs}, training=False)
    ours = ours.get("sequence_output", next(iter(ours.values()))) if isinstance(ours, dict) else ours
    found = answer(theirs, input_ids=ids.astype("int64"), attention_mask=mask.astype("int64"))
    return [_shown(ours, found.last_hidden_state, mask)]


def _pair(theirs, model, config, rng):
    """An encoder-decoder: the decoder reads the rows in the other order."""
    ids, mask = ids_of(config, rng, _rows_of(config))
    given = {f"encoder_{name}": a for name, a in (("token_ids", ids), ("padding_mask", mask))}
    given |= {f"decoder_{name}": a[::-1] for name, a in (("token_ids", ids), ("padding_mask", mask))}
    ours = model(given, training=False)
    asked = {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": ids[::-1],
        "decoder_attention_mask": mask[::-1],
    }
    found = answer(theirs, **{name: a.astype("int64") for name, a in asked.items()})
    return [
        _shown(ours["encoder_sequence_output"], found.encoder_last_hidden_state, mask),
        _shown(ours["decoder_sequence_output"], found.last_hidden_state, mask[::-1]),
    ]


def _pixels(theirs, model, config, rng):
    pixels = rng.normal(0, 1, (BATCH, *model.inputs[0].shape[1:])).astype("float32")
    ours = model(pixels, training=False)
    states = answer(theirs, pixel_values=pixels.transpose(0, 3, 1, 2)).last_hidden_state.numpy()
    ours = ours.get("sequence_output", next(iter(ours.values()))) if isinstance(ours, dict) else ours
    return [(np.asarray(ours).reshape(states.shape), states)]


def _sound(theirs, model, config, rng):
    samples = rng.normal(0, 1, (1, 1600)).astype("float32")
    ours = model({"samples": samples, "count": np.array([1600], "int32")}, training=False)
    even = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return [(np.asarray(ours), answer(theirs, input_values=even).last_hidden_state.numpy())]


def _contrast(theirs, model, config, rng):
    """Images and texts, and how near each is to each."""
    size = _rows_of(config)
    ids, mask = ids_of(config, rng, size)
    ids[:, -1] = config["text_config"]["eos_token_id"]  # What stands for the text.
    shape = next(t.shape for t in model.inputs if t.name == "images")
    pixels = rng.normal(0, 1, (BATCH, *shape[1:])).astype("float32")
    ours = model({"images": pixels, "token_ids": ids}, training=False)
    found = answer(theirs, input_ids=ids.astype("int64"), pixel_values=pixels.transpose(0, 3, 1, 2))
    return [
        (np.asarray(ours["vision_logits"]), found.logits_per_image.numpy()),
        (np.asarray(ours["text_logits"]), found.logits_per_text.numpy()),
    ]


def _text_alone(theirs, model, config, rng):
    """The text of a network that reads images too: through its own layers, without the places of images."""
    ids, mask = ids_of(config, rng, _rows_of(config))
    states = model.token_embedding(ids)
    for layer in model.transformer_layers:
        states = layer(states, decoder_padding_mask=mask)
    found = answer(theirs.language_model, input_ids=ids.astype("int64"), attention_mask=mask.astype("int64"))
    return [_shown(model.layer_norm(states), found.last_hidden_state, mask)]


def _questions(theirs, model, config, rng):
    """An image asked about, in tokens of their own before the text for transformers."""
    ids, _ = ids_of(config, rng, _rows_of(config))
    shape = next(t.shape for t in model.inputs if t.name == "images")
    pixels = rng.normal(0, 1, (BATCH, *shape[1:])).astype("float32")
    places = np.full((BATCH, config["num_query_tokens"]), config["image_token_index"], "int32")
    ours = model({"images": pixels, "token_ids": ids, "padding_mask": np.ones_like(ids)}, training=False)
    whole = np.concatenate([places, ids], 1).astype("int64")
    given = {"pixel_values": pixels.transpose(0, 3, 1, 2), "input_ids": whole, "attention_mask": np.ones_like(whole)}
    seen: list = []
    theirs.language_model.model.decoder.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    answer(theirs, **given)
    return [(np.asarray(ours), seen[-1].numpy())]


def _pair_with_images(theirs, model, config, rng):
    """An encoder that reads an image in its text, and a decoder."""
    ids, mask = ids_of(config, rng, _rows_of(config))
    shape = next(t.shape for t in model.inputs if t.name == "images")
    pixels = rng.normal(0, 1, (BATCH, 1, *shape[2:])).astype("float32")
    places = np.tile(2 + np.arange(config["encoder"]["mm_tokens_per_image"], dtype="int32"), (BATCH, 1))
    read = ids.copy()
    read[:, places[0]] = config["encoder"]["image_token_index"]
    given = {"encoder_token_ids": read, "encoder_padding_mask": mask, "images": pixels, "vision_indices": places}
    given |= {"decoder_token_ids": ids[::-1], "decoder_padding_mask": mask[::-1]}
    ours = model(given, training=False)
    asked = {
        "input_ids": read,
        "attention_mask": mask,
        "decoder_input_ids": ids[::-1],
        "decoder_attention_mask": mask[::-1],
    }
    asked = {name: a.astype("int64") for name, a in asked.items()}
    found = answer(theirs, **asked, pixel_values=pixels[:, 0].transpose(0, 3, 1, 2))
    return [
        _shown(ours["encoder_sequence_output"], found.encoder_last_hidden_state, mask),
        _shown(ours["decoder_sequence_output"], found.last_hidden_state, mask[::-1]),
    ]


def _written(theirs, model, config, rng):
    """A sound, and the tokens that a decoder wrote of it."""
    import transformers

    from tlkeras.backbones import transcribers

    seconds = 1
    if config["model_type"] == "whisper":
        seconds = max(1, 2 * config["max_source_positions"] // 100)
    samples = rng.normal(0, 0.1, (1, 16000 * seconds)).astype("float32")
    tokens = rng.integers(3, _rows_of(config), (1, 5)).astype("int32")
    given = {"samples": samples, "tokens": tokens, "count": np.array([samples.shape[1]], "int32")}
    given = {tensor.name: given[tensor.name] for tensor in model.inputs}
    asked = {"decoder_input_ids": tokens.astype("int64"), "input_values": samples}
    if config["model_type"] == "whisper":
        extract = transformers.WhisperFeatureExtractor(feature_size=config["num_mel_bins"], chunk_length=seconds)
        del asked["input_values"]
        asked["input_features"] = extract(samples[0], sampling_rate=16000, return_tensors="np")["input_features"]
    found = answer(theirs, **asked)
    heard = {name: a for name, a in given.items() if name != "tokens"}
    heard = transcribers.encoder(model)(heard if len(heard) > 1 else heard["samples"], training=False)
    return [
        (np.asarray(heard), found.encoder_last_hidden_state.numpy()),
        (np.asarray(model(given, training=False)), found.last_hidden_state.numpy()),
    ]


def _with_images(theirs, model, config, rng):
    """Texts, and an image in the middle of each: keras-hub is told where, transformers by tokens of their own."""
    ids, mask = ids_of(config, rng, _rows_of(config))
    shape = next(t.shape for t in model.inputs if t.name == "images")
    pixels = rng.normal(0, 1, (BATCH, 1, *shape[2:])).astype("float32")
    places = np.tile(2 + np.arange(config["mm_tokens_per_image"], dtype="int32"), (BATCH, 1))
    shown = np.zeros_like(mask)
    shown[:, places[0]] = 1
    ids = np.where(shown, config["image_token_index"], ids).astype("int32")
    given = {"token_ids": ids, "padding_mask": mask, "images": pixels, "vision_indices": places, "vision_mask": shown}
    ours = model(given, training=False)
    asked = {"input_ids": ids, "attention_mask": mask, "token_type_ids": shown}
    asked = {name: a.astype("int64") for name, a in asked.items()}
    found = answer(theirs, **asked, pixel_values=pixels[:, 0].transpose(0, 3, 1, 2))
    return [_shown(ours, found.last_hidden_state, mask)]


def _image_first(theirs, model, config, rng):
    """An image and the text behind it, of which each part sees each."""
    ids, mask = ids_of(config, rng, _rows_of(config))
    shape = next(t.shape for t in model.inputs if t.name == "images")
    pixels = rng.normal(0, 1, (BATCH, *shape[1:])).astype("float32")
    count = (config["vision_config"]["image_size"] // config["vision_config"]["patch_size"]) ** 2
    image = np.full((BATCH, count), config["image_token_index"], "int32")
    whole, mask = np.concatenate([image, ids], 1), np.concatenate([np.ones_like(image), mask], 1)
    given = {"images": pixels, "token_ids": ids, "padding_mask": mask, "response_mask": np.zeros_like(mask)}
    ours = model(given, training=False)
    asked = {"input_ids": whole, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
    asked = {name: a.astype("int64") for name, a in asked.items()}
    found = answer(theirs, **asked, pixel_values=pixels.transpose(0, 3, 1, 2))
    return [_shown(ours, found.last_hidden_state, mask)]


TEXT = frozenset({"token_ids", "padding_mask"})
PAIR = frozenset(f"{side}_{name}" for side in ("encoder", "decoder") for name in TEXT)
KINDS = {
    TEXT: _text,
    PAIR: _pair,
    frozenset({"samples", "count"}): _sound,
    frozenset({"images", "token_ids"}): _contrast,
    TEXT | {"images", "vision_indices", "vision_mask"}: _with_images,
    TEXT | {"images", "response_mask"}: _image_first,
    TEXT | {"images"}: _questions,
    TEXT | {"position_ids"}: _text,
    TEXT | {"pixel_values", "image_grid_thw", "vision_indices"}: _text_alone,
    PAIR | {"images", "vision_indices"}: _pair_with_images,
    frozenset({"samples", "tokens"}): _written,
    frozenset({"samples", "tokens", "count"}): _written,
}
