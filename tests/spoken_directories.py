"""Hugging Face directories of small Whispers and Moonshines, made by NumPy: config.json, weights from seeds, tokenizer.json.

Other than make_golden_sound.weight these weights can be of any scale; tests of exactness take that one.
"""

import json
from pathlib import Path

import numpy as np

from tlkeras.foreign import files

_SPECIAL = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")


_WHOLE = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def _bytes() -> list[str]:
    """The characters that byte-level vocabularies write the 256 bytes with, printable ones as themselves."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + n) for n in range(len(rest))]


def whisper_tokenizer(words: tuple[str, ...] = (), languages: tuple[str, ...] = ("en", "de")) -> dict:
    """tokenizer.json of a Whisper: bytes, the merges that make `words`, and the special tokens."""
    vocabulary, merges = {c: n for n, c in enumerate(_bytes())}, []
    for word in words:
        left = word[0]
        for letter in word[1:]:
            if left + letter not in vocabulary:
                merges.append([left, letter])
                vocabulary[left + letter] = len(vocabulary)
            left += letter
    names = ["endoftext", _SPECIAL[0], *languages, *_SPECIAL[1:], "0.00", "0.02"]
    added = [{"id": len(vocabulary) + n, "content": f"<|{name}|>", **_WHOLE} for n, name in enumerate(names)]
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte,
        "decoder": byte,
        "model": model,
    }


def moonshine_tokenizer(words: tuple[str, ...] = ()) -> dict:
    """tokenizer.json of a Moonshine: byte pairs of Llama's kind, that fall back to bytes."""
    special = ["<unk>", "<s>", "</s>"]
    vocabulary = {t: n for n, t in enumerate([*special, *(f"<0x{b:02X}>" for b in range(256))])}
    for letter in "\u2581abcdefghijklmnopqrstuvwxyz'":
        vocabulary[letter] = len(vocabulary)
    merges = []
    for word in words:
        left = "\u2581"
        for letter in word:
            if left + letter not in vocabulary:
                merges.append([left, letter])
                vocabulary[left + letter] = len(vocabulary)
            left += letter
    added = [{"id": n, "content": t, **_WHOLE} for n, t in enumerate(special)]
    normal = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}  # fmt: skip
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "byte_fallback": True, "unk_token": "<unk>"}
    model |= {"fuse_unk": True, "ignore_merges": False}
    return {"version": "1.0", "added_tokens": added, "normalizer": normal, "model": model}


def write(kind: str, folder: Path, tokenizer: dict, config: dict, weight) -> Path:
    """A directory of `kind`; weight(name, shape) gives each tensor."""
    from tlkeras.backbones import moonshine, transcribers, whisper

    module = {"whisper": whisper, "moonshine": moonshine}[kind]
    size = 1 + max([*tokenizer["model"]["vocab"].values(), *(t["id"] for t in tokenizer["added_tokens"])])
    config = {"model_type": kind, "vocab_size": size, **config}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = module.build(module.sizes_of(config, folder))
    names, tensors = transcribers.names(model, module.OUTSIDE, module.INSIDE), {}
    for variable in model.weights:
        name, axes = names[variable.path]
        shape = np.array(variable.shape)[list(axes)] if axes else variable.shape
        tensors[f"model.{name}"] = np.asarray(weight(f"model.{name}", tuple(int(n) for n in shape)), "float32")
    files.write_safetensors(folder / "model.safetensors", tensors)
    return folder


def drawn(name: str, shape) -> np.ndarray:
    """A weight to train from: scaled by what goes into it, norms 1, biases 0."""
    import zlib

    if len(shape) == 1:
        return np.full(shape, float(name.endswith("weight")))
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scale = 0.02 if "embed" in name else 1 / np.sqrt(np.prod(shape[1:]))
    return rng.normal(0, scale, shape)
