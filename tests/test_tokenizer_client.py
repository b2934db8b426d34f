"""The tokenizer client gives the ids that a network was trained with, without TensorFlow.

The reference is always keras-hub inside a tf.function, which is what pipelines and SavedModels run: outside of one
it takes other paths, which give other ids for some texts.

pytest tests/test_tokenizer_client.py
"""

import ast
import collections
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tlkeras.artefacts import tokenizer_client, tokenizer_file
from tlkeras.backbones import Tokens
from tlkeras.errors import GateError

ROOT = Path(__file__).parents[1]
AWKWARD = [
    # nothing, and what looks like it
    "", " ", "   ", "\t", "\n", " \n ", "\r\n\r\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u00ad", "\x00", "\x01\x7f",
    # spaces and control characters between words
    "  leading", "trailing  ", "a  b   c    d", "tab\tsep", "a\nb\n\nc", "a\x0bb\x0cc", "a\x00b c", "a\u00a0b", "a\u3000b",
    "\u2009\u202f x", " \u00a0\u2009\u202f\u3000", "\u2028a\u2029b", "a\u200bb\u200dc", "soft\u00adhyphen", "\ufeffmark",
    # accents, marks, case and compatible forms
    "é", "e\u0301", "e\u034f\u0301", "ÀÉÎÕÜ ñandú", "a\u0315\u0300\u05aeb", "q\u0307\u0323", "Straße STRASSE ẞ", "İstanbul ıI I\u0307",
    "ﬁne ﬂow ﬃ ﬀ\u0301", "Ⅷ ½ ² ㎏ ℡", "ǅ ǆ Ǳ", "ά ᾳ ᾼ \u0345\u0301a", "\u1e9b\u0323", "Å \u212b", "ﷺ", "¨ ´ ˚", "𝒜𝓑𝓒 𝟙𝟚", "ＡＢＣ１２３",
    # scripts
    "中文字符，标点。", "日本語テキスト、カタカナ", "ﾊﾝｶｸ ｶﾞ", "豈 \U0002f800 \U00020000", "한국어 텍스트", "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "שלום עולם", "مرحبا بالعالم ١٢٣", "\u200fabc\u200e \u202eabc\u202c", "नमस्ते दुनिया", "สวัสดี ทำ", "Привет, Мир!", "Ꭰ ᏸ ჯ Ჯ",
    "mixedСмешанный漢字한글", "\uffa0\u3164",
    # pictures
    "😀 ok 👍🏽!", "👨\u200d👩\u200d👧", "🇩🇪🇫🇷", "a❤\ufe0fb", "\ufffd",
    # apostrophes and punctuation
    "don't I'll we've you're I'm he'd it's 'tis", "DON'T I'LL", "it’s “quoted” – dash…", "`tf.data`'s 'tlkeras 'verb", "....", "--==--==",
    "http://a.b/c?d=e&f=g#h", "C++ #include <stdio.h>", "`code` $x^2$ ~ | \\", "1234567890 3.14 1,000 5 a",
    # long words
    "x" * 99, "x" * 100, "x" * 101, "é" * 50, "é" * 51, "w" * 300, "-" * 120, "word" * 40,
    # what means something to a tokenizer
    "[CLS] [SEP] [UNK] [MASK]", "a[SEP]b", "<s> </s> <pad> <mask>", "a</s>b", "<|endoftext|>", "▁under ▁ ▁▁", "##ing ##", "Ġ Ċ",
    "ĴA ĴB xĴC", "६ ९ a६b ६", "5६ a", "<0x41> <unk>",
]  # fmt: skip


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """A thousand lines that people wrote for people, or for Python."""
    files = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")]
    files += [*sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("tlkeras/*.py"))]
    texts = (line for file in files for line in file.read_text("utf8").splitlines() if line.strip())
    return list(itertools.islice(dict.fromkeys(texts), 1000))


@pytest.fixture
def client(tmp_path):
    """Returns `f(keras-hub tokenizer, facts of Tokens)`: the client of that tokenizer, by way of its file."""

    def make(tokenizer, **facts):
        described = tokenizer_file.describe(tokenizer, Tokens(**{"length": 12, "vocabulary": 9, **facts}))
        (tmp_path / "tokenizer.json").write_text(json.dumps(described), "utf8")
        return tokenizer_client.Tokenizer(tmp_path / "tokenizer.json")

    return make


def in_graph(tokenizer, texts) -> list[list[int]]:
    """The ids that a tf.function gives, of a few texts at a time, because BPE takes a step for each merge of any.

    A WordPiece tokenizer that does not split takes a batch for one text.
    """
    import tensorflow as tf

    spec = tf.TensorSpec([None], tf.string)
    tokenise = tf.function(lambda x: tokenizer(x), input_signature=[spec])
    if not getattr(tokenizer, "split", True):
        return [tokenise(tf.constant([text])).numpy().tolist() for text in texts]
    parts = [tokenise(tf.constant(texts[i : i + 100])) for i in range(0, len(texts), 100)]
    return [row for part in parts for row in part.to_list()]


def same(client, tokenizer, texts):
    """Whether ids are equal for every text; the failure shows the first few that differ."""
    wrong = [
        (text, expected, got)
        for text, expected in zip(texts, in_graph(tokenizer, texts), strict=True)
        if (got := client.ids(text)) != expected
    ]
    return not wrong or pytest.fail(f"{len(wrong)} of {len(texts)} differ: {wrong[:5]}")


# --- WordPiece ---


@pytest.fixture(scope="module")
def pieces(lines) -> list[str]:
    """Characters that occur, rare ones left out, and common words with their endings."""
    text = "\n".join(lines + AWKWARD)
    characters = [c for c, n in collections.Counter(text + text.casefold()).items() if n > 1 and c > " "]
    words = [w for w, _ in collections.Counter(re.findall(r"\w+", text.lower())).most_common(600)]
    suffixes = [f"##{w[3:]}" for w in words if len(w) > 4]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys([*special, *characters, *(f"##{c}" for c in characters), *words, *suffixes]))


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"lowercase": True},
        {"lowercase": True, "strip_accents": True},
        {"strip_accents": True, "split_on_cjk": False},
        {"lowercase": True, "split": False},
    ],
    ids=" ".join,
)
def test_wordpiece_gives_the_ids_of_keras_hub(setting, client, pieces, lines):
    import keras_hub

    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(vocabulary=pieces, **setting)
    assert same(client(tokenizer), tokenizer, lines + AWKWARD)


def test_wordpiece_marks_suffixes_and_unknown_words_as_its_vocabulary_does(client, pieces, lines):
    import keras_hub

    other = [p.replace("##", "zz").replace("[UNK]", "<?>") for p in pieces]
    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(
        vocabulary=list(dict.fromkeys(other)), suffix_indicator="zz", oov_token="<?>"
    )
    assert same(client(tokenizer), tokenizer, [*lines[:100], *AWKWARD, "zz", "zza", "azz", "zzzz zzz"])


def test_bert_reads_special_tokens_in_a_text_only_when_told_to(client, pieces, lines):
    import keras_hub

    texts = [*lines[:100], *AWKWARD, "a [MASK]b[[SEP]] [mask]"]
    for told in (False, True):
        tokenizer = keras_hub.models.BertTokenizer(vocabulary=pieces, lowercase=True, special_tokens_in_strings=told)
        assert same(client(tokenizer), tokenizer, texts)
        assert (tokenizer.mask_token_id in client(tokenizer).ids("a [MASK] b")) == told


# --- byte-level BPE ---


@pytest.fixture(scope="module")
def pairs(lines):
    """Returns `f(special tokens)`: vocabulary and merges, trained on the lines."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def train(special):
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        letters = pre_tokenizers.ByteLevel.alphabet()
        trained.train_from_iterator(
            lines,
            trainers.BpeTrainer(vocab_size=900, initial_alphabet=letters, special_tokens=special, show_progress=False),
        )
        model = json.loads(trained.to_str())["model"]
        return {"vocabulary": model["vocab"], "merges": [" ".join(pair) for pair in model["merges"]]}

    return train


@pytest.mark.parametrize("prefix", [False, True])
def test_byte_bpe_gives_the_ids_of_keras_hub(prefix, client, pairs, lines):
    import keras_hub

    trained = pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer = keras_hub.models.RobertaTokenizer(**trained, add_prefix_space=prefix)
    assert same(client(tokenizer), tokenizer, lines + AWKWARD)


def test_gpt2_cuts_every_run_of_spaces_like_keras_hub(client, pairs):
    import keras_hub

    tokenizer = keras_hub.models.GPT2Tokenizer(**pairs(["<|endoftext|>"]))
    runs = ["".join(run) for run in itertools.product("a1!\n६", " \t\n\xa0६'", " \r\v\u2003s", "a1. \n६\u3000")]
    assert same(client(tokenizer), tokenizer, runs + AWKWARD)


def test_special_tokens_are_read_in_a_text_unless_the_file_lists_none(client, pairs, tmp_path):
    import keras_hub

    special = [f"<{n}>" for n in range(12)] + ["a b"]
    tokenizer = keras_hub.tokenizers.BytePairTokenizer(**pairs(special), unsplittable_tokens=special)
    texts = ["x <1> <11>y<10>", "a b", "xa b c", "<1><1>", "ĴBA ĴB ĴBB", "five of <5>"]
    reader, path = client(tokenizer), tmp_path / "tokenizer.json"
    assert same(reader, tokenizer, texts)
    one = tokenizer.vocabulary["<1>"]
    assert one in reader.ids("x<1>")
    path.write_text(json.dumps({**json.loads(path.read_text("utf8")), "special": []}), "utf8")
    assert one not in tokenizer_client.Tokenizer(path).ids("x<1>")


def test_a_byte_that_the_vocabulary_lacks_has_the_id_that_keras_hub_gives_it(client):
    import keras_hub

    tokenizer = keras_hub.tokenizers.BytePairTokenizer({"a": 0, "b": 1, "ab": 2}, ["a b"])
    assert same(client(tokenizer), tokenizer, ["ab", "abc", "ba"])
    assert client(tokenizer).ids("abc") == [2, -1]


# --- SentencePiece ---


@pytest.fixture(scope="module")
def model(lines):
    """Returns `f(options)`: a SentencePiece model trained on the lines."""
    import sentencepiece

    def train(**options):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            minloglevel=2,
            **{"vocab_size": 700, "hard_vocab_limit": False, **options},
        )
        return out.getvalue()

    return train


USER = ["[MASK]", "don", "...", "  ", "é", "漢字"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byte_fallback": True, "normalization_rule_name": "nmt_nfkc_cf"},
        {"user_defined_symbols": USER, "normalization_rule_name": "nfkc", "remove_extra_whitespaces": False},
        {"add_dummy_prefix": False, "normalization_rule_name": "identity"},
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sentencepiece_gives_the_ids_of_keras_hub(kind, options, client, model, lines):
    import keras_hub

    tokenizer = keras_hub.tokenizers.SentencePieceTokenizer(model(model_type=kind, **options))
    assert same(client(tokenizer), tokenizer, lines + AWKWARD)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_pieces_marked_unused_are_taken_apart_again(kind, client, model, lines):
    import keras_hub
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model(model_type=kind))
    normal = [piece for piece in proto.pieces if piece.type == piece.NORMAL]
    for piece in normal[::5]:
        piece.type = piece.UNUSED
    tokenizer = keras_hub.tokenizers.SentencePieceTokenizer(proto.SerializeToString())
    assert same(client(tokenizer), tokenizer, lines[:300] + AWKWARD)


BERT = {"bos_piece": "[CLS]", "eos_piece": "[SEP]"}
FAMILIES = {
    "XLMRobertaTokenizer": {"unk_id": 0, "bos_id": 1, "eos_id": 2, "byte_fallback": True},
    "MetaCLIP2Tokenizer": {"unk_id": 0, "bos_id": 1, "eos_id": 2, "model_type": "bpe"},
    "T5Tokenizer": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "AlbertTokenizer": {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "user_defined_symbols": "[MASK]", **BERT},
    "DebertaV3Tokenizer": {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", **BERT},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_number_their_pieces_as_keras_hub_does(family, client, model, lines):
    import keras_hub

    tokenizer = getattr(keras_hub.tokenizers, family)(model(**FAMILIES[family]))
    assert same(client(tokenizer), tokenizer, lines[:300] + AWKWARD)


def test_a_tokenizer_that_puts_marks_around_a_text_keeps_doing_so(client, model, lines):
    import keras_hub

    tokenizer = keras_hub.tokenizers.SentencePieceTokenizer(model(), add_bos=True, add_eos=True)
    assert same(client(tokenizer), tokenizer, lines[:50] + AWKWARD)


# --- examples ---

WORDS = ["[PAD]", "[UNK]", *"abcdefghi"]
SPECIAL = {"start": (90,), "middle": (91, 92), "end": (93,), "pad": 7, "segments": True}


@pytest.fixture
def letters(client):
    """Returns `f(facts)`: a client of a tokenizer whose words are single letters, a to i being 2 to 10."""
    import keras_hub

    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(vocabulary=WORDS)
    return lambda **facts: client(tokenizer, **{**SPECIAL, **facts})


def test_a_short_example_is_padded(letters):
    assert letters(length=8).encode("a b") == {
        "token_ids": [90, 2, 3, 93, 7, 7, 7, 7],
        "padding_mask": [1, 1, 1, 1, 0, 0, 0, 0],
        "segment_ids": [0] * 8,
    }
    assert letters(length=9).encode("a b", "c") == {
        "token_ids": [90, 2, 3, 91, 92, 4, 93, 7, 7],
        "padding_mask": [1] * 7 + [0] * 2,
        "segment_ids": [0] * 5 + [1] * 2 + [0] * 2,
    }


@pytest.mark.parametrize(
    ("text", "pair", "length", "expected"),
    [
        ("a b c d", None, 4, [90, 2, 3, 93]),
        ("a b c d", None, 2, [90, 93]),
        ("a b c d", "e f g h", 9, [90, 2, 3, 4, 91, 92, 6, 7, 93]),  # of equals the second is cut
        ("a b c d", "e", 8, [90, 2, 3, 4, 91, 92, 6, 93]),
        ("a", "e f g h", 8, [90, 2, 91, 92, 6, 7, 8, 93]),
        ("a b", "", 8, [90, 2, 3, 91, 92, 93, 7, 7]),
        ("a b c", "d", 4, [90, 91, 92, 93]),
    ],
)
def test_the_longer_text_is_cut_off_at_its_end(letters, text, pair, length, expected):
    assert letters().encode(text, pair, length)["token_ids"] == expected


def test_what_the_network_does_not_take_is_left_out(letters):
    assert set(letters(segments=False).encode("a")) == {"token_ids", "padding_mask"}
    assert set(letters(masked=False).encode("a")) == {"token_ids", "segment_ids"}


def test_a_length_too_short_for_the_special_tokens_is_refused(letters):
    with pytest.raises(ValueError, match="4 or more"):
        letters().encode("a", "b", length=3)


def test_examples_equal_those_of_the_pipeline(letters):
    import tensorflow as tf

    from tlkeras.data import texts

    samples = [("a b c d e", "f g"), ("a", "b c d e f"), ("", "a"), ("a b c", "d e f")]
    reader, tokens = letters(), Tokens(length=8, vocabulary=99, padding="length", **SPECIAL)
    parts = [tf.ragged.constant([reader.ids(s[k]) for s in samples], dtype=tf.int32) for k in (0, 1)]
    expected = {name: x.numpy().tolist() for name, x in texts.packed(parts, tokens).items()}
    got = [reader.encode(*sample, length=8) for sample in samples]
    assert {name: [one[name] for one in got] for name in expected} == expected


# --- the file on its own ---


def test_the_copied_file_runs_where_nothing_is_installed(letters, tmp_path):
    reader = letters()
    shutil.copy(tokenizer_client.__file__, tmp_path / "tokenizer.py")
    command = [sys.executable, "-S", "-I", str(tmp_path / "tokenizer.py")]
    for texts in (["a b z"], ["a é", "c 漢"]):
        out = subprocess.run([*command, *texts], capture_output=True, text=True, check=True).stdout
        assert json.loads(out) == reader.encode(*texts)


def test_the_client_is_python_3_9_and_imports_the_standard_library_alone():
    tree = ast.parse(Path(tokenizer_client.__file__).read_text("utf8"), feature_version=(3, 9))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names)


def test_a_file_of_another_schema_or_kind_is_refused(tmp_path):
    for facts in ({"schema": 2, "kind": "wordpiece"}, {"schema": 1, "kind": "words"}, {}):
        (tmp_path / "tokenizer.json").write_text(json.dumps(facts), "utf8")
        with pytest.raises(ValueError, match="schema 1"):
            tokenizer_client.Tokenizer(tmp_path / "tokenizer.json")


def test_tokenizers_that_the_client_cannot_follow_are_refused_by_name(client, pairs, model):
    import keras_hub

    clip = keras_hub.models.CLIPTokenizer(**pairs(["<|startoftext|>", "<|endoftext|>"]))
    words = keras_hub.tokenizers.SentencePieceTokenizer(model(model_type="word"))
    for tokenizer in (keras_hub.tokenizers.ByteTokenizer(), clip, words):
        with pytest.raises(GateError, match=type(tokenizer).__name__):
            client(tokenizer)
