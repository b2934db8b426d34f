"""The vocabulary in a Hugging Face directory, in the files that KerasHub reads it from.

transformers 5 writes tokenizer.json alone, and KerasHub asks for the files before it. A tokenizer is of one kind,
named by those files; of three kinds they are made from tokenizer.json, sentencepiece models must be there.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tlkeras.foreign import files

WORDPIECE, BYTES, STORED = ("vocab.txt",), ("vocab.json", "merges.txt"), ("tokenizer.json",)
ALBERT, XLM = ("spiece.model",), ("sentencepiece.bpe.model",)
MAX_SIZE = 100_000_000
# The patterns of pre_tokenizer that `backbones.words` can cut by.
_REST = r"\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_START = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
CUTS = {_START + _REST % "{1,3}": "llama3", _START + _REST % "": "qwen2"}
PADDED = 512  # Rows that an embedding may have beyond the vocabulary; Qwen2.5 has 399.


def read(kind: tuple[str, ...], special: tuple[str, ...], folder: Path, rows: int | None) -> tuple[dict, list[str]]:
    """The files {name: contents} for KerasHub's tokenizer, and what is amiss with them.

    `special` are tokens that must be there, or their names in tokenizer_config.json; `rows` are the embedding's,
    None when they are not known.

    Raises:
        ModelError: when a file is damaged.
        TypeError, KeyError, AttributeError: when a file holds something else than a tokenizer.
    """
    stored, said = (_json(folder / name) for name in ("tokenizer.json", "tokenizer_config.json"))
    contents = {name: (folder / name).read_bytes() for name in kind if (folder / name).is_file()}
    if len(contents) == len(kind) and kind in READ:
        ids = READ[kind](folder / kind[0])
    elif stored and kind in (WORDPIECE, BYTES, STORED):
        try:
            ids, contents = _extracted(kind, stored)
        except ValueError as e:
            return {}, [str(e)]
    else:
        return {}, [f"the tokenizer needs {' and '.join(kind)}{INSTEAD[kind]}"]
    ends = {key: said.get(key) for key in ("bos_token", "eos_token")}
    ends = {key: token["content"] if isinstance(token, dict) else token for key, token in ends.items()}
    contents["tokenizer_config.json"] = json.dumps(ends | {"do_lower_case": _casing(folder)["lowercase"]}).encode()
    faults = [f"the vocabulary lacks {token}" for token in special if ends.get(token, token) not in ids]
    try:
        words(kind, folder)
    except ValueError as e:
        faults.append(str(e))
    size = max(ids.values(), default=-1) + 1
    if rows is not None and not rows - PADDED <= size <= rows:
        faults.append(f"the vocabulary must have a token for each of the embedding's {rows} rows, it has {size}")
    return contents, faults


def options(kind: tuple[str, ...], folder: Path) -> dict:
    """Keyword arguments for KerasHub's tokenizer, see `transformers.tokenizer_options`."""
    if kind == WORDPIECE:
        return {key: value for key, value in _casing(folder).items() if key != "lowercase"}
    if kind == BYTES:
        # Outside tf.data, KerasHub 0.32 takes a text for one word unless this is forbidden.
        space = words(kind, folder)["prefix"]
        return {"unsplittable_tokens": [], "add_prefix_space": space, "_allow_python_workflow": False}
    return {"unsplittable_tokens": []} if kind == STORED else {}


def words(kind: tuple[str, ...], folder: Path) -> dict | None:
    """How texts are cut into words, for `backbones.words.correct`; None where KerasHub's own way is transformers'.

    Raises:
        ValueError: for a normalizer or pre_tokenizer that no graph here can be made of.
    """
    stored = _json(folder / "tokenizer.json")
    normal, cut = stored.get("normalizer") or {}, stored.get("pre_tokenizer") or {}
    if kind == WORDPIECE:
        if normal.get("type", "BertNormalizer") != "BertNormalizer" or not normal.get("clean_text", True):
            raise ValueError("the normalizer of tokenizer.json must be a BertNormalizer that cleans text")
        if cut.get("type", "BertPreTokenizer") != "BertPreTokenizer":
            raise ValueError(f"the pre_tokenizer of tokenizer.json must be BertPreTokenizer, it is {cut['type']}")
        how = _casing(folder)
        return {"cut": "bert", "ideographs": how.pop("split_on_cjk"), **how}
    if kind not in (BYTES, STORED):
        return None
    if normal.get("type", "NFC") != "NFC":
        raise ValueError(f"the normalizer of tokenizer.json must be NFC or none, it is {str(normal['type'])[:100]}")
    *before, last = cut.get("pretokenizers", [cut])
    prefix = bool(last.get("add_prefix_space"))
    found = {"cut": "gpt2", "digits": False, "compose": bool(normal), "prefix": prefix}
    found["whole"] = bool(stored.get("model", {}).get("ignore_merges"))
    if kind == BYTES:
        found["prefix"] = bool(_json(folder / "tokenizer_config.json").get("add_prefix_space", prefix))
    usual = last.get("use_regex", True) and last.get("type", "ByteLevel") == "ByteLevel"
    if before == [{"type": "Digits", "individual_digits": True}] and usual:
        return found | {"digits": True}
    if not before and usual:
        return found
    pattern = before[0].get("pattern", {}).get("Regex") if len(before) == 1 else None
    isolated = before and before[0].get("behavior") == "Isolated" and not before[0].get("invert")
    if pattern in CUTS and isolated and last.get("use_regex") is False and not prefix:
        return found | {"cut": CUTS[pattern]}
    raise ValueError(
        "the pre_tokenizer of tokenizer.json must cut as GPT-2's, Llama 3's or Qwen2's does, for TensorFlow to do so too; "
        f"it is {json.dumps(cut)[:300]}"
    )


def _extracted(kind: tuple[str, ...], stored: dict) -> tuple[dict, dict]:
    """The ids in a tokenizer.json, and the files that KerasHub reads in its place."""
    ids = stored["model"]["vocab"] | {token["content"]: token["id"] for token in stored.get("added_tokens") or ()}
    merges = [m if isinstance(m, str) else " ".join(m) for m in stored["model"].get("merges") or ()]
    if kind == WORDPIECE:
        tokens = sorted(ids, key=ids.get)
        if merges or [ids[token] for token in tokens] != list(range(len(ids))):
            raise ValueError("tokenizer.json must hold a WordPiece vocabulary with ids from 0 on without a gap")
        return ids, {"vocab.txt": "".join(f"{token}\n" for token in tokens).encode()}
    if "ByteLevel" not in json.dumps(stored.get("pre_tokenizer")):
        raise ValueError("tokenizer.json must hold a byte-level vocabulary; KerasHub has no other for this model")
    if kind == BYTES:
        return ids, {
            "vocab.json": json.dumps(ids).encode(),
            "merges.txt": "".join(f"{merge}\n" for merge in merges).encode(),
        }
    # Without added tokens, for KerasHub would find those in the text.
    return ids, {"tokenizer.json": json.dumps({"model": {"vocab": ids, "merges": merges}, "added_tokens": []}).encode()}


def _casing(folder: Path) -> dict:
    """What BERT's tokenizer does to a text, in KerasHub's words; tokenizer_config.json has the last one."""
    said, stored = (_json(folder / name) for name in ("tokenizer_config.json", "tokenizer.json"))
    stored = stored.get("normalizer") or {}
    lower = said.get("do_lower_case", stored.get("lowercase", True))
    accents = said.get("strip_accents", stored.get("strip_accents"))
    chinese = said.get("tokenize_chinese_chars", stored.get("handle_chinese_chars", True))
    return {"lowercase": lower, "strip_accents": lower if accents is None else accents, "split_on_cjk": chinese}


def _json(path: Path) -> dict:
    """The JSON object in a file, {} without one."""
    with files.refused(path, OSError, ValueError, RecursionError):
        if not path.is_file():
            return {}
        if path.stat().st_size > MAX_SIZE:
            raise ValueError(f"it must be at most {MAX_SIZE} bytes")
        if isinstance(value := json.loads(path.read_bytes()), dict):
            return value
        raise ValueError("it must be a JSON object")


def _lines(path: Path) -> dict:
    with path.open(encoding="utf-8") as file:
        return {line.rstrip(): i for i, line in enumerate(file)}


def _pieces(path: Path, beside: int = 0) -> dict:
    """The ids of a sentencepiece model, raised by the number of tokens that the network has beside them."""
    import sentencepiece

    with files.refused(path, OSError, RuntimeError):
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return {model.id_to_piece(i): i + beside for i in range(model.vocab_size())}


_PROTO = ", which transformers 5 leaves out; take it from where the model was published"
INSTEAD = {WORDPIECE: " or tokenizer.json", BYTES: " or tokenizer.json", STORED: "", ALBERT: _PROTO, XLM: _PROTO}
READ: dict[tuple[str, ...], Callable[[Path], dict]] = {
    WORDPIECE: _lines,
    BYTES: _json,
    ALBERT: _pieces,
    XLM: partial(_pieces, beside=2),
}
