"""Words as transformers' tokenizers cut them (the package tokenizers, 0.22), in operators that a graph can hold.

keras-hub 0.32 folds case where BERT lowers it (so that "²" becomes "2"), takes words of more than 100 bytes for
unknown instead of 100 characters, and cuts the words of every byte-level vocabulary as GPT-2 does, nearly.

RE2 cannot look ahead. All that these patterns ask of what follows is that a run of blanks before a word leaves it the
last one: a mark is put before that one, and the text is cut there.

Characters newer than the Unicode tables of one side can be cut otherwise: tokenizers knows punctuation and accents of
Unicode 8. A special token spelled out in a text is text, see `weights.transformers`.
"""

import functools
import json

_WIDE = r"\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
IDEOGRAPH = (
    r"\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{2a6df}\x{2a700}-\x{2b81f}\x{2b920}-\x{2ceaf}"
    r"\x{2f800}-\x{2fa1f}"
)
_PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"
LONGEST = 100  # characters of a word; longer ones are unknown to BERT

MARK = "\ufdd0"  # Not a character, says Unicode; where a text has it, it is left out.
_LINES, _TABS = r"\r\n", r"\t\x{b}\f \x{85}" + _WIDE
_BLANK, _LETTER = _LINES + _TABS, rf"\p{{L}}\p{{N}}{MARK}"
_ENDING = "'(?:s|t|re|ve|m|ll|d)"
# Names of patterns: the words, and the blanks of which a run leaves the last one to the word behind it.
_CUTS = {
    "gpt2": (rf"{_ENDING}| ?\p{{L}}+| ?\p{{N}}+| ?[^{_BLANK}{_LETTER}]+|[{_BLANK}]+", _BLANK),
    "llama3": (
        rf"(?i:{_ENDING})|[^{_LINES}{_LETTER}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^{_BLANK}{_LETTER}]+[{_LINES}]*"
        rf"|[{_BLANK}]*[{_LINES}]+|[{_BLANK}]+",
        _TABS,
    ),
}
_CUTS["qwen2"] = (_CUTS["llama3"][0].replace("{1,3}", ""), _TABS)


def correct(tokenizer, said: dict):
    """Makes a tokenizer of keras-hub cut words as `weights.transformers.words` says of its directory; returns it."""
    tokenizer.tlkeras_words = json.dumps(said)
    if said["cut"] == "bert":
        _longer_words(tokenizer)
    tokenise = _pieces if said["cut"] == "bert" else _byte_pairs
    tokenizer.tokenize = functools.partial(_batched, functools.partial(tokenise, tokenizer, said))
    return tokenizer


def said_of(tokenizer) -> dict | None:
    """What `correct` was given; None for a tokenizer as keras-hub made it."""
    return json.loads(tokenizer.tlkeras_words) if hasattr(tokenizer, "tlkeras_words") else None


def apart(tokenizer) -> str:
    """The ideographs that a tokenizer takes for words, as the inside of a class of RE2; "" where it takes none."""
    said = said_of(tokenizer)
    split = said.get("ideographs") if said else getattr(tokenizer, "split_on_cjk", False)
    return IDEOGRAPH if split else ""


def _batched(tokenise, text):
    """Ragged ids (n, tokens) of texts (n,), or ids (tokens,) of one."""
    import tensorflow as tf

    text = tf.convert_to_tensor(text)
    return tokenise(text) if text.shape.rank else tokenise(text[None])[0]


# ---------------------------------------------------------------------- BERT


def _longer_words(tokenizer) -> None:
    import tensorflow_text as tf_text

    tokenizer._fast_word_piece = tf_text.FastWordpieceTokenizer(
        vocab=tokenizer.vocabulary,
        token_out_type=tokenizer.compute_dtype,
        suffix_indicator=tokenizer.suffix_indicator,
        unknown_token=tokenizer.oov_token,
        max_bytes_per_word=4 * LONGEST,
        no_pretokenization=True,
        support_detokenization=True,
    )


def _pieces(tokenizer, said: dict, text):
    import tensorflow as tf

    words = of_bert(text, said["lowercase"], said["strip_accents"], said["ideographs"])
    long = tf.strings.length(words.flat_values, unit="UTF8_CHAR") > LONGEST
    # One byte more than a word may have, and so unknown.
    words = words.with_flat_values(tf.where(long, "-" * (4 * LONGEST + 1), words.flat_values))
    return tokenizer._fast_word_piece.tokenize(words).merge_dims(-2, -1)


def of_bert(text, lowercase: bool, strip_accents: bool, ideographs: bool):
    """Ragged words (n, words) of texts (n,): cleaned, and `ideographs` each by itself (Devlin et al. 2019,
    arXiv:1810.04805; BertNormalizer and BertPreTokenizer)."""
    import tensorflow as tf
    import tensorflow_text as tf_text

    put = tf.strings.regex_replace
    text = put(text, rf"[\t{_LINES}{_WIDE}]", " ")
    text = put(text, r"[\p{Cc}\p{Cf}\p{Co}\x{fffd}]", "")
    if ideographs:
        text = put(text, f"[{IDEOGRAPH}]", r" \0 ")
    if strip_accents:
        text = put(tf_text.normalize_utf8(text, "NFD"), r"\p{Mn}", "")
    if lowercase:
        # TensorFlow writes the sigma that ends a word otherwise, tokenizers does not.
        text = tf.strings.lower(put(text, "Σ", "σ"), encoding="utf-8")
    return tf_text.regex_split(text, f" +|{_PUNCTUATION}", keep_delim_regex_pattern=_PUNCTUATION)


# ---------------------------------------------------------------------- bytes


def _byte_pairs(tokenizer, said: dict, text):
    import tensorflow as tf

    words = of_bytes(text, said["cut"], said["digits"], said["compose"], said["prefix"])
    flat = words.flat_values
    pieces = tokenizer.cache.lookup(flat)
    fresh = pieces == ""

    def merged():
        tokenizer._bpe_merge_and_update_cache_tf(tf.boolean_mask(flat, fresh))
        return tokenizer.cache.lookup(flat)

    pieces = tf.cond(tf.reduce_any(fresh), merged, lambda: pieces)
    if said["whole"]:
        # A word of the vocabulary is that token, even one that no merge leads to.
        letters = tf.strings.reduce_join(tokenizer.byte2unicode.lookup(tf.strings.bytes_split(flat)), axis=-1)
        pieces = tf.where(tokenizer.token_to_id_map.lookup(letters) >= 0, letters, pieces)
    ids = tokenizer.token_to_id_map.lookup(tf.strings.split(pieces, " "))
    return tf.RaggedTensor.from_row_splits(ids, words.row_splits).merge_dims(1, 2)


def of_bytes(text, cut: str, digits: bool = False, compose: bool = False, prefix: bool = False):
    """Ragged words (n, words) of texts (n,), with the blanks before them.

    Args:
        cut: 'gpt2', 'llama3' or 'qwen2', whose pattern tokenizer.json has under pre_tokenizer.
        digits: each digit is a word.
        compose: the text is brought to NFC first.
        prefix: a text begins with a space.
    """
    import tensorflow as tf
    import tensorflow_text as tf_text

    put = tf.strings.regex_replace
    pattern, blank = _CUTS[cut]
    text = put(tf_text.normalize_utf8(text, "NFC") if compose else text, MARK, "")
    if prefix:
        text = put(text, r"\A([^ ])", r" \1")
    if digits:
        text = put(text, r"\p{N}", rf"{MARK}\0{MARK}")
    text = put(text, f"([{blank}])([{blank}][^{_BLANK}{MARK}])", rf"\1{MARK}\2")
    return tf_text.regex_split(text, f"{pattern}|{MARK}", keep_delim_regex_pattern=pattern)
