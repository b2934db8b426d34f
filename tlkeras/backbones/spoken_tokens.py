"""Tokenizers of networks that write what they hear, as keras-hub's, from presets of keras-hub and Hugging Face directories."""

import re
from pathlib import Path

from tlkeras.backbones import transcribers, words
from tlkeras.errors import ModelError, nearest

# Whisper cuts words as GPT-2 does, keras-hub's own cut differs from that (see words.py).
_CUT = {"cut": "gpt2", "digits": False, "compose": False, "prefix": False, "whole": False}
_NEEDED = ("<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>", "<|translate|>", "<|transcribe|>")
ENGLISH_END = 50256  # <|endoftext|> of the vocabulary that is GPT-2's; in the others it is one more


def of_directory(folder: Path):
    """The tokenizer of a Whisper or Moonshine in `folder`.

    Raises:
        ModelError: when there is none, or it is damaged.
    """
    from tlkeras.backbones import keras_hub_tokens
    from tlkeras.foreign import files

    config = files.read_config(folder / "config.json")
    kind = transcribers.kind_of(config)
    if kind is None:
        raise ModelError(f"{folder} holds neither a Whisper nor a Moonshine; it has no tokenizer for what is heard.")
    with files.refused(folder, OSError, ValueError, TypeError, KeyError, AttributeError):
        if "registered_name" in config:
            # Moonshine's from_preset does not know its own backbone (keras-hub 0.32).
            made = keras_hub_tokens.of_run(folder)
            if type(made).__name__ != f"{kind.capitalize()}Tokenizer":
                raise ModelError(f"{folder}/tokenizer.json must be that of a {kind}; it is a {type(made).__name__}.")
        else:
            made = _whisper(folder) if kind == "whisper" else _moonshine(folder)
    return words.correct(made, _CUT) if kind == "whisper" else made


def prompt(tokenizer, language: str | None, translate: bool) -> tuple[list[int], int]:
    """(ids that the decoder is given first, id of the end).

    Raises:
        ModelError: for a language that the network does not know, or where it knows one alone.
    """
    if not hasattr(tokenizer, "no_timestamps_token_id"):
        if translate or language not in (None, "en"):
            raise ModelError("task.language and task.translate: Moonshine writes English alone. Leave them out.")
        return [int(tokenizer.start_token_id)], int(tokenizer.end_token_id)
    begin = [tokenizer.bos_token_id]
    if known := tokenizer.language_tokens:
        names = {t.strip("<|>"): i for t, i in known.items()}
        asked = language or "en"
        if asked not in names:
            raise ModelError(
                f"task.language: this Whisper does not know {asked!r}.{nearest(asked, names)} It knows: {' '.join(names)}"
            )
        begin += [names[asked], tokenizer.translate_token_id if translate else tokenizer.transcribe_token_id]
    elif translate or language not in (None, "en"):
        raise ModelError("task.language and task.translate: this Whisper writes English alone. Leave them out.")
    return [int(i) for i in (*begin, tokenizer.no_timestamps_token_id)], int(tokenizer.eos_token_id)


def _whisper(folder: Path):
    """keras-hub's WhisperTokenizer of tokenizer.json, or of vocab.json, merges.txt and added_tokens.json."""
    from keras_hub.models import WhisperTokenizer

    from tlkeras.foreign import files

    if (folder / "tokenizer.json").is_file():
        stored = files.read_config(folder / "tokenizer.json")
        vocabulary = dict(stored["model"]["vocab"])
        merges = [m if isinstance(m, str) else " ".join(m) for m in stored["model"]["merges"]]
        added = {t["content"]: int(t["id"]) for t in stored.get("added_tokens") or ()}
    elif all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        vocabulary = dict(files.read_config(folder / "vocab.json"))
        lines = (folder / "merges.txt").read_text("utf8").split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
        path = folder / "added_tokens.json"
        added = {t: int(i) for t, i in files.read_config(path).items()} if path.is_file() else {}
    else:
        raise ModelError(
            f"{folder} must have tokenizer.json, or vocab.json and merges.txt; save the tokenizer beside the model."
        )
    special = {t: i for t, i in {**vocabulary, **added}.items() if re.fullmatch(r"<\|.*\|>", t)}
    if missing := [t for t in _NEEDED if t not in special]:
        raise ModelError(f"the tokenizer in {folder} is none of Whisper; it lacks {', '.join(missing)}")
    languages = {t: i for t, i in special.items() if re.fullmatch(r"<\|[a-z]{2,3}\|>", t)}
    single = special["<|endoftext|>"] == ENGLISH_END or not languages
    plain = {t: i for t, i in vocabulary.items() if t not in special}
    rest = {t: i for t, i in special.items() if t not in languages} if not single else special
    # Outside tf.data, keras-hub 0.32 takes a text for one word unless this is forbidden.
    how = {"unsplittable_tokens": [], "_allow_python_workflow": False}
    return WhisperTokenizer(plain, merges, rest, None if single else languages, **how)


def _moonshine(folder: Path):
    """keras-hub's MoonshineTokenizer, a sentencepiece model, of tokenizer.json: byte pairs of Llama's kind."""
    from keras_hub.models import MoonshineTokenizer
    from sentencepiece import sentencepiece_model_pb2 as pieces

    from tlkeras.foreign import files

    stored = files.read_config(folder / "tokenizer.json")
    if stored["model"].get("type") != "BPE" or not stored["model"].get("byte_fallback"):
        raise ModelError(f"{folder}/tokenizer.json must hold byte pairs that fall back to bytes, as Moonshine's do.")
    ids = {**stored["model"]["vocab"], **{t["content"]: int(t["id"]) for t in stored.get("added_tokens") or ()}}
    special = {t["content"] for t in stored.get("added_tokens") or ()}
    merges = ("".join(m.split(" ") if isinstance(m, str) else m) for m in stored["model"]["merges"])
    rank: dict[str, int] = {}
    for n, whole in enumerate(merges):
        rank.setdefault(whole, n)
    kinds = pieces.ModelProto.SentencePiece
    proto = pieces.ModelProto()
    for place, (text, number) in enumerate(sorted(ids.items(), key=lambda pair: pair[1])):
        if place != number:
            raise ModelError(f"{folder}/tokenizer.json: ids must count from 0 without a gap; {text!r} has {number}.")
        kind = (
            kinds.BYTE if re.fullmatch(r"<0x[0-9A-F]{2}>", text) else kinds.CONTROL if text in special else kinds.NORMAL
        )
        kind = kinds.UNKNOWN if text == "<unk>" else kind
        # Sentencepiece merges what scores best first.
        proto.pieces.add(piece=text, score=-float(rank.get(text, len(rank))), type=kind)
    trainer, normal = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = trainer.BPE, True, len(ids)
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = ids["<unk>"], ids["<s>"], ids["</s>"], -1
    normal.name, normal.add_dummy_prefix, normal.remove_extra_whitespaces = "identity", True, False
    return MoonshineTokenizer(proto.SerializeToString())
