"""Words and ids are those of transformers, in a graph as in the pure-Python client.

The reference is the package tokenizers, which transformers calls and keras-hub needs; with `oracle` transformers itself.

    pytest tests/test_words.py
"""

import csv
import itertools
import json
from pathlib import Path

import make_golden
import numpy as np
import pytest
from test_tokenizer_client import AWKWARD, in_graph, lines, pairs, pieces  # noqa: F401
from test_transformers import directory, golden, load, needs_minilm, needs_torch  # noqa: F401

import tlkeras
from tlkeras import evaluation
from tlkeras.artefacts import places, tokenizer_client, tokenizer_file
from tlkeras.backbones import Tokens, keras_hub_tokens, words
from tlkeras.data import texts
from tlkeras.errors import ModelError
from tlkeras.foreign import transformers, vocabularies

PACKAGES = Path(__file__).parents[1] / "examples" / "packages" / "packages.csv"
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
RUNS = ["".join(run) for run in itertools.product("a1!中'", " \t\n\u00a0s", " \r\v\u2003S", " \n\u3000é", "a1. ")]
# A NUL ends a text where bytes are cut, and U+FDD0 stands for a border.
TEXTS = [t for t in AWKWARD if "\0" not in t] + ["ΟΔΟΣ Σ", "١٢٣٤ 12345", "'ſ 'S 'LL", "ก" * 60, "я" * 100, "я" * 101, "e\u0301\u0323", "a\u000bb\u0085c"]  # fmt: skip


def isolated(pattern: str) -> dict:
    """A pre_tokenizer as tokenizer.json of Llama 3 and Qwen2 has it."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**GPT2, "use_regex": False}]}


LLAMA3, QWEN2 = (isolated(next(p for p, n in vocabularies.CUTS.items() if n == name)) for name in ("llama3", "qwen2"))
SEQUENCE = {"type": "Sequence", "pretokenizers": [DIGITS, GPT2]}
BYTES = {
    "gpt2": (GPT2, None),
    "gpt2 after a space": ({**GPT2, "add_prefix_space": True}, None),
    "gpt2 by digits": (SEQUENCE, None),
    "llama3": (LLAMA3, None),
    "qwen2": (QWEN2, {"type": "NFC"}),
}


def real_and_awkward() -> list[str]:
    with PACKAGES.open(encoding="utf8", newline="") as file:
        return [*(row["text"] for row in csv.DictReader(file)), *AWKWARD, *TEXTS]


@pytest.fixture(scope="module")
def packages() -> list[str]:
    return real_and_awkward()


def of_tokenizers(model: dict, cut: dict, normal: dict | None):
    """Returns `f(texts) -> ids` of a tokenizer.json."""
    from tokenizers import Tokenizer

    stored = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None}
    stored |= {"normalizer": normal, "pre_tokenizer": cut, "decoder": None, "model": model}
    made = Tokenizer.from_str(json.dumps(stored))
    return lambda texts: [made.encode(t, add_special_tokens=False).ids for t in texts]


def of_client(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_file.describe(tokenizer, Tokens(length=9, vocabulary=9))), "utf8")
    reader = tokenizer_client.Tokenizer(path)
    return lambda texts: [reader.ids(t) for t in texts]


def equal(texts, wanted, *found):
    for got in found:
        wrong = [(t, w, g) for t, w, g in zip(texts, wanted, got, strict=True) if w != g]
        assert not wrong, f"{len(wrong)} of {len(texts)}: {wrong[:5]}"


# BERT.


@pytest.mark.parametrize("chinese", [True, False])
@pytest.mark.parametrize(("lowercase", "accents"), [(True, True), (True, False), (False, True), (False, False)])
def test_bert_reads_text_as_transformers_does(pieces, packages, tmp_path, lowercase, accents, chinese):  # noqa: F811
    import keras_hub

    said = {"cut": "bert", "lowercase": lowercase, "strip_accents": accents, "ideographs": chinese}
    tokenizer = words.correct(keras_hub.models.BertTokenizer(vocabulary=pieces), said)
    model = {"type": "WordPiece", "vocab": {p: i for i, p in enumerate(pieces)}, "unk_token": "[UNK]"}
    model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    normal = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": chinese}
    normal |= {"strip_accents": accents, "lowercase": lowercase}
    wanted = of_tokenizers(model, {"type": "BertPreTokenizer"}, normal)
    given = packages[900:]
    equal(given, wanted(given), in_graph(tokenizer, given), of_client(tokenizer, tmp_path)(given))


@needs_minilm
def test_minilm_gives_the_ids_of_transformers_on_every_line(packages, tmp_path):
    tokenizer = keras_hub_tokens.of_preset(str(make_golden.minilm()))
    for ids in (in_graph(tokenizer, packages), of_client(tokenizer, tmp_path)(packages)):
        equal(packages, golden()["minilm/checksums"].tolist(), [make_golden.checksum(row) for row in ids])


@needs_torch
@needs_minilm
@pytest.mark.oracle
def test_the_golden_ids_are_those_of_transformers(packages):
    np.testing.assert_array_equal(make_golden.checksums(packages), golden()["minilm/checksums"])


# Bytes.


@pytest.mark.parametrize(("kind", "whole"), [*((kind, False) for kind in BYTES), ("llama3", True)])
def test_byte_pairs_are_those_of_transformers(directory, pairs, packages, tmp_path, kind, whole):  # noqa: F811
    import keras_hub

    cut, normal = BYTES[kind]
    trained = pairs(["<|endoftext|>"])
    # The last merges are forgotten, so that what they made is a word that merges no longer lead to.
    merges = trained["merges"][:-100] if whole else trained["merges"]
    model = {"type": "BPE", "vocab": trained["vocabulary"], "merges": merges, "ignore_merges": whole}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"model": model, "pre_tokenizer": cut, "normalizer": normal, "added_tokens": []})
    )
    said = vocabularies.words(vocabularies.STORED, tmp_path)
    made = keras_hub.models.QwenTokenizer(vocabulary=trained["vocabulary"], merges=merges, unsplittable_tokens=[])
    tokenizer = words.correct(made, said)
    given = [*packages[:100], *TEXTS, *RUNS[::7]]
    equal(
        given,
        of_tokenizers(model, cut, normal)(given),
        in_graph(tokenizer, given),
        of_client(tokenizer, tmp_path)(given),
    )


# Places of tokenizers do not count the space that is put before a text.
@pytest.mark.parametrize("kind", [kind for kind in BYTES if "space" not in kind])
def test_words_are_cut_where_transformers_cuts_them(packages, kind):
    from tokenizers import Tokenizer, models

    cut, normal = BYTES[kind]
    made = Tokenizer(models.BPE())
    stored = json.loads(made.to_str()) | {"pre_tokenizer": cut, "normalizer": normal}
    made = Tokenizer.from_str(json.dumps(stored))
    given = [t for t in packages if "\0" not in t] + RUNS
    said = {"cut": kind.split()[0], "digits": cut is SEQUENCE, "compose": bool(normal)}
    wanted = []
    for text in given:
        text = made.normalizer.normalize_str(text) if normal else text
        wanted.append([text[b:e].encode() for _, (b, e) in made.pre_tokenizer.pre_tokenize_str(text)])
    equal(given, wanted, words.of_bytes(given, **said).to_list())


# Places.


@pytest.mark.parametrize("apart", [True, False])
def test_words_stand_in_the_same_places_in_a_graph_and_outside(packages, pieces, apart):  # noqa: F811
    import keras_hub
    import tensorflow as tf

    said = {"cut": "bert", "lowercase": True, "strip_accents": True, "ideographs": apart}
    tokenizer = words.correct(keras_hub.models.BertTokenizer(vocabulary=pieces), said)
    # Control characters are blanks to one and not to the other.
    found = [t for t in packages[1800:] if t.isprintable()] + ["नमस्ते दुनिया", "cafe\u0301s", "می\u200cخواهم", "a漢字b漢"]
    _, *ends = places._words(tf.constant(found), tokenizer)
    begins, ends = (places._characters(tf.constant(found), e).to_list() for e in ends)
    got = [list(zip(*row, strict=True)) for row in zip(begins, ends, strict=True)]
    equal(found, [texts.places(t, tokenizer) for t in found], got)
    assert len(texts.places("a漢字b", tokenizer)) == (4 if apart else 1)


def test_tokens_of_words_are_those_of_the_text(packages, pieces):  # noqa: F811
    import keras_hub

    said = {"cut": "bert", "lowercase": True, "strip_accents": True, "ideographs": True}
    tokenizer = words.correct(keras_hub.models.BertTokenizer(vocabulary=pieces), said)
    # Symbols that are no punctuation ("€5") and what else BERT leaves out part a word here alone.
    found = packages[1200:1980] + ["नमस्ते दुनिया", "cafe\u0301s", "a漢字b漢"]
    cut = [[t[b:e] for b, e in texts.places(t, tokenizer)] for t in found]
    ids = in_graph(tokenizer, [word for row in cut for word in row])
    ends = np.cumsum([len(row) for row in cut])
    joined = [sum(ids[end - len(row) : end], []) for row, end in zip(cut, ends, strict=True)]
    equal(found, in_graph(tokenizer, found), joined)


# Directories and runs.


def test_a_run_keeps_how_words_are_cut(directory, tmp_path):  # noqa: F811
    tokenizer = keras_hub_tokens.of_preset(str(directory("bert")))
    keras_hub_tokens.save(tokenizer, tmp_path / "tokenizer")
    again = keras_hub_tokens.of_run(tmp_path / "tokenizer")
    assert words.said_of(again) == words.said_of(tokenizer) is not None
    given = ["abc ² Éa", "ΟΔΟΣ", ""]
    assert in_graph(again, given) == in_graph(tokenizer, given)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_training_predict_saved_model_and_client_read_the_same_tokens(configured, directory, tmp_path, name):  # noqa: F811
    import tensorflow as tf

    run = tlkeras.train(configured(backbone={"name": str(directory(name))}), tmp_path / "run", quiet=True)
    tlkeras.export(run.folder, ["saved_model", "tflite"], max_drop=1, quiet=True)
    given = ["abc a\tÉab² ΟΔ", "It's 12345  we'll", "  a  b \n\n c", "漢字 a"]
    trained = evaluation.open_trained(run.folder)
    said = tlkeras.predict(run.folder, given=given, quiet=True)
    served = tf.saved_model.load(run.artefact("saved_model") / "1").signatures["serving_default"]
    wanted = [[one["scores"][c] for c in trained.answer["classes"]] for one in said]
    np.testing.assert_allclose(served(text=tf.constant(given))["scores"], wanted, atol=1e-5)
    client = tokenizer_client.Tokenizer(run.artefact("tflite") / "tokenizer.json")
    reader = trained.network.reader
    equal(given, reader.ids(given).tensor().to_list(), [client.ids(t) for t in given])
    assert words.said_of(reader.tokenizer)["cut"] == {"bert": "bert", "llama": "gpt2"}[name]


@pytest.mark.parametrize("name", ["bert", "electra", "distilbert", "roberta", "gpt2", "llama", "qwen2"])
def test_a_directory_of_transformers_is_read_as_transformers_cuts(directory, name):  # noqa: F811
    folder = directory(name)
    assert words.said_of(keras_hub_tokens.of_preset(str(folder))) == transformers.words(folder) is not None


@pytest.mark.parametrize(
    ("name", "said", "finding"),
    [
        ("llama", {"pre_tokenizer": isolated(r"\w+|\s+")}, "must cut as GPT-2's, Llama 3's or Qwen2's"),
        ("llama", {"pre_tokenizer": {**LLAMA3, "pretokenizers": [DIGITS, *LLAMA3["pretokenizers"]]}}, "must cut as"),
        ("roberta", {"pre_tokenizer": {"type": "Whitespace"}}, "must hold a byte-level vocabulary|must cut as GPT-2's"),
        ("gpt2", {"pre_tokenizer": isolated(r"\w+|\s+")}, "must cut as GPT-2's"),
        ("roberta", {"pre_tokenizer": ["ByteLevel"]}, "cannot be used"),
        ("qwen2", {"normalizer": {"type": "NFKC"}}, "must be NFC or none, it is NFKC"),
        ("bert", {"normalizer": {"type": "Sequence", "normalizers": []}}, "must be a BertNormalizer"),
        ("bert", {"normalizer": {"type": "BertNormalizer", "clean_text": False}}, "that cleans text"),
        ("bert", {"pre_tokenizer": {"type": "Whitespace"}}, "must be BertPreTokenizer, it is Whitespace"),
    ],
)
def test_text_that_no_graph_would_cut_alike_is_refused(directory, name, said, finding):  # noqa: F811
    folder = directory(name)
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(stored | said))
    with pytest.raises(ModelError, match=finding):
        keras_hub_tokens.of_preset(str(folder))
