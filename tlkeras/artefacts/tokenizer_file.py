"""tokenizer.json: what tokenizer_client.py must know to give the ids of a keras-hub tokenizer."""

import base64

import numpy as np

from tlkeras.backbones import words
from tlkeras.errors import GateError

SCHEMA = 1


def describe(tokenizer, tokens) -> dict:
    """The facts of a keras-hub tokenizer and of its backbones.Tokens, as tokenizer.json holds them.

    Raises:
        GateError: when the client cannot do what this tokenizer does.
    """
    import keras_hub

    known = {
        keras_hub.tokenizers.WordPieceTokenizer: _word_piece,
        keras_hub.tokenizers.BytePairTokenizer: _byte_pairs,
        keras_hub.tokenizers.SentencePieceTokenizer: _sentence_piece,
        keras_hub.tokenizers.XLMRobertaTokenizer: _shifted,
        keras_hub.tokenizers.MetaCLIP2Tokenizer: _shifted,
    }
    for cls, facts in known.items():
        if isinstance(tokenizer, cls) and not _cuts_its_own_way(type(tokenizer), cls):
            around = {name: list(getattr(tokens, name)) for name in ("start", "middle", "end")}
            shape = {name: getattr(tokens, name) for name in ("pad", "length", "segments", "masked")}
            said = words.said_of(tokenizer)
            return {"schema": SCHEMA, **facts(tokenizer), **({"words": said} if said else {}), **around, **shape}
    raise _refusal(tokenizer, "it does not cut text as keras-hub's WordPiece, byte-level BPE and SentencePiece do")


def _refusal(tokenizer, why: str) -> GateError:
    return GateError(
        f"{type(tokenizer).__name__} cannot be written for use without TensorFlow: {why}. Leave the formats that need it out of `export`."
    )


def _cuts_its_own_way(cls: type, known: type) -> bool:
    return any(getattr(cls, name) is not getattr(known, name) for name in ("call", "tokenize", "_tokenize_tf"))


def _word_piece(tokenizer) -> dict:
    flags = ("lowercase", "strip_accents", "split", "split_on_cjk")
    return {
        "kind": "wordpiece",
        "vocabulary": list(tokenizer.vocabulary),
        "unknown": tokenizer.token_to_id(tokenizer.oov_token),
        "suffix": tokenizer.suffix_indicator,
        "special": tokenizer._special_tokens_for_splitting() or [],
        **{name: bool(getattr(tokenizer, name)) for name in flags},
    }


def _byte_pairs(tokenizer) -> dict:
    return {
        "kind": "byte-bpe",
        "vocabulary": dict(tokenizer.vocabulary),
        "merges": list(tokenizer.merges),
        "prefix": " " if tokenizer.add_prefix_space else "",
        "special": list(tokenizer.unsplittable_tokens or []),
    }


def _shifted(tokenizer) -> dict:
    """Of the two families that number pieces one higher than their model does, and the unknown one 3."""
    return _sentence_piece(tokenizer, lambda i: i + 1 if i else tokenizer.unk_token_id)


def _sentence_piece(tokenizer, final=int) -> dict:
    """`final` turns the model's number of a piece into the tokenizer's."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.proto)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    space = "\u2581" if normalizer.escape_whitespaces else " "
    kind = {trainer.UNIGRAM: "unigram", trainer.BPE: "bpe"}.get(trainer.model_type)
    if kind is None or trainer.treat_whitespace_as_suffix:
        raise _refusal(tokenizer, "its model is neither unigram nor BPE with spaces before words")

    kinds = model.SentencePiece
    ids = {p.piece: final(i) for i, p in enumerate(model.pieces)}
    scores = {t: {p.piece: p.score for p in model.pieces if p.type == t} for t in set(kinds.Type.values())}
    normal = np.array(list(scores[kinds.NORMAL].values()), np.float32)
    (unknown,) = scores[kinds.UNKNOWN]
    user, unused = scores[kinds.USER_DEFINED], scores[kinds.UNUSED]
    if kind == "unigram":
        # Such a model does without unused pieces, and scores those of the user so that they always win.
        best = max(normal.max(), np.finfo(np.float32).tiny)
        user, unused = {piece: float(len(piece.encode()) * best) - 0.1 for piece in user}, {}
    pieces = {**scores[kinds.NORMAL], **user, **unused}
    return {
        "kind": "sentencepiece",
        "model": kind,
        "pieces": {piece: [ids[piece], score] for piece, score in pieces.items()},
        "user": list(user),
        "unused": list(unused),
        "unknown": ids[unknown],
        "unknown_score": float(normal.min() - np.float32(10)),
        "bytes": [ids.get(f"<0x{b:02X}>", ids[unknown]) for b in range(256)] if trainer.byte_fallback else [],
        "before": [ids[trainer.bos_piece]] if tokenizer.add_bos else [],
        "behind": [ids[trainer.eos_piece]] if tokenizer.add_eos else [],
        "charsmap": base64.b64encode(normalizer.precompiled_charsmap).decode(),
        "prefix": space if normalizer.add_dummy_prefix else "",
        "space": space,
        "remove_extra_whitespaces": normalizer.remove_extra_whitespaces,
    }
