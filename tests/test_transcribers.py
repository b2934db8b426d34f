"""Whisper and Moonshine: the networks compute what transformers and keras-hub do, a decoder writes token by token what it
computes all at once, and a run from a sound to its text.

Against golden/speech.npz, which make_golden_speech.py keeps of transformers' outputs; pytest -m oracle asks transformers.

pytest tests/test_transcribers.py
"""

import base64
import functools
import json

import make_golden_speech as golden_speech
import numpy as np
import pytest
import spoken_directories
from make_golden_sound import sound

import tlkeras
from tlkeras import artefacts, backbones, evaluation, weights
from tlkeras.backbones import moonshine, spectra, spoken_tokens, transcribers, whisper
from tlkeras.data import waveforms
from tlkeras.errors import ConfigError, DataError, ModelError
from tlkeras.foreign.tensors import assign

MODULES = {"whisper": whisper, "moonshine": moonshine}
KINDS = tuple(MODULES)


@functools.lru_cache(1)
def golden() -> dict:
    with np.load(golden_speech.GOLDEN) as found:
        return dict(found)


def inputs(kind: str, x: np.ndarray, tokens=golden_speech.TOKENS) -> dict:
    given = {"samples": x[None], "tokens": tokens}
    return given if kind == "whisper" else given | {"count": np.array([len(x)], "int32")}


def heard(model, given: dict):
    encoder = transcribers.encoder(model)
    given = {n: given[n] for n in given if n != "tokens"}
    return encoder(given if len(given) > 1 else given["samples"], training=False)


def logits(model, given: dict):
    return np.asarray(model.get_layer(transcribers.EMBEDDING)(model(given, training=False), reverse=True))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """{kind: (directory, network)} of small networks with golden weights."""
    made = {}
    for kind, module in MODULES.items():
        folder = golden_speech.directory(kind, tmp_path_factory.mktemp(kind) / "small")
        made[kind] = folder, weights.load(module.from_directory(folder), "preset", None)
    return made


@pytest.mark.parametrize("mels", [80, 128])
def test_whispers_spectrogram_is_that_of_its_feature_extractor(mels):
    found = np.asarray(spectra.whisper(sound(1.0)[None], mels))[0]
    np.testing.assert_allclose(found[::7], golden()[f"mel{mels}"], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_and_decoder_compute_what_transformers_does(networks, kind):
    given = inputs(kind, sound(1.0))
    np.testing.assert_allclose(heard(networks[kind][1], given)[:, ::5], golden()[f"{kind}/states"], atol=2e-5)
    np.testing.assert_allclose(logits(networks[kind][1], given)[..., ::10], golden()[f"{kind}/logits"], atol=2e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_still_computes_so(networks, kind):
    folder, model = networks[kind]
    theirs, given = golden_speech.theirs(kind, folder, sound(1.0)), inputs(kind, sound(1.0))
    np.testing.assert_allclose(heard(model, given), theirs["states"], atol=2e-5)
    np.testing.assert_allclose(logits(model, given), theirs["logits"], atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_keras_hub_compute_the_same_here(kind):
    import keras_hub

    if kind == "whisper":
        hub = keras_hub.models.WhisperBackbone(60, 2, 2, 16, 24, 20, 0.0, 100, 12)
    else:
        hub = keras_hub.models.MoonshineBackbone(60, 36, 2, 2, 36, 24, 3, 3, partial_rotary_factor=0.9)
    rng, module, x = np.random.default_rng(0), MODULES[kind], sound(1.0)
    for v in hub.weights:
        if "inv_freq" not in v.path:
            v.assign(rng.normal(float(v.path.endswith("gamma")), 0.15, v.shape))
    config = {"registered_name": f"keras_hub>{kind.capitalize()}Backbone", "config": hub.get_config()}
    model = module.build(module.sizes_of(config, "hub"))
    tensors = transcribers.hub_tensors(hub, kind)
    assign(model, tensors, transcribers.names(model, module.OUTSIDE, module.INSIDE))
    tokens, mask = golden_speech.TOKENS, np.ones((1, 5), "int32")
    theirs = {"decoder_token_ids": tokens, "decoder_padding_mask": mask}
    if kind == "whisper":
        theirs["encoder_features"] = np.asarray(spectra.whisper(x[None], 20))
    else:
        theirs |= {"encoder_input_values": x[None, :, None], "encoder_padding_mask": np.ones((1, len(x)), bool)}
    out, given = hub(theirs, training=False), inputs(kind, x)
    np.testing.assert_allclose(heard(model, given), out["encoder_sequence_output"], atol=2e-5)
    np.testing.assert_allclose(model(given, training=False), out["decoder_sequence_output"], atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_token_by_token_is_the_same_as_all_at_once(networks, kind):
    import tensorflow as tf

    from tlkeras.backbones.encoder_decoder import silence

    model, given = networks[kind][1], inputs(kind, sound(1.0))
    states, names = heard(model, given), {x.name: x for x in model.layers}
    unheard = silence(names["heard"](states, given["count"])) if "heard" in names else None
    decoders = [names[f"decoder{n}"] for n in (1, 2, 3)]
    caches = [tf.zeros((1, 2, d.heads, 6, states.shape[-1] // d.heads)) for d in decoders]
    found = []
    for at in range(golden_speech.TOKENS.shape[1]):
        x = names["embedding"](golden_speech.TOKENS[:, at : at + 1])
        x = names["decoder_positions"](x, first=at) if "decoder_positions" in names else x
        for n, d in enumerate(decoders):
            x, caches[n] = d.step(x, caches[n], at, d.across.pair(states), unheard)
        found.append(np.asarray(names["top"](x))[:, 0])
    np.testing.assert_allclose(np.stack(found, 1), model(given, training=False), atol=1e-5)


def test_moonshine_hears_the_same_alone_and_beside_a_longer_sound(networks):
    model = transcribers.encoder(networks["moonshine"][1])
    short, long = sound(0.6), sound(1.0, seed=1)
    both = np.zeros((2, len(long)), np.float32)
    both[0, : len(short)], both[1] = short, long
    alone = np.asarray(model({"samples": short[None], "count": np.array([len(short)], "int32")}))
    beside = np.asarray(model({"samples": both, "count": np.array([len(short), len(long)], "int32")}))
    n = moonshine.frames(len(short))
    assert alone.shape[1] == n
    np.testing.assert_allclose(beside[0, :n], alone[0], atol=1e-5)


def test_the_catalogue_counts_the_parameters_of_whisper_rightly():
    sizes = whisper.Sizes(hidden=16, encoder=2, decoder=3, encoder_heads=2, decoder_heads=2, vocabulary=50, frames=20)
    assert whisper.build(sizes).count_params() == whisper.parameters(sizes)
    assert backbones.get("whisper_tiny_multi").parameters == 37_760_640


def test_sizes_that_are_not_built_here_are_listed(tmp_path):
    config = {"model_type": "moonshine", "attention_bias": True, "decoder_hidden_act": "gelu", "hidden_size": 30}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"decoder_hidden_act must be silu(.|\n)*attention_bias(.|\n)*30 does not divide"
    ):
        moonshine.from_directory(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper", "d_model": "wide"}))
    with pytest.raises(ModelError, match="a size that is missing or no number"):
        whisper.from_directory(tmp_path)


# ---------------------------------------------------------------------- tokenizers

TEXTS = ["one two three", "It's  one, TWO!", "naïve 東京 12", " two"]


def ids(tokenizer):
    import tensorflow as tf

    return tf.function(tokenizer.tokenize, autograph=False)(tf.constant(TEXTS))


def texts(tokenizer, found):
    import tensorflow as tf

    return [t.decode() for t in tf.function(tokenizer.detokenize, autograph=False)(found).numpy()]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_tokenised_comes_back(networks, kind):
    tokenizer = spoken_tokens.of_directory(networks[kind][0])
    assert texts(tokenizer, ids(tokenizer)) == [t.strip() if kind == "moonshine" else t for t in TEXTS]


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_package_tokenizers(networks, kind):
    import tokenizers

    theirs = tokenizers.Tokenizer.from_file(str(networks[kind][0] / "tokenizer.json"))
    ours = spoken_tokens.of_directory(networks[kind][0])
    assert ids(ours).to_list() == [theirs.encode(t).ids for t in TEXTS]


def test_the_decoder_begins_with_language_and_task(networks):
    tokenizer = spoken_tokens.of_directory(networks["whisper"][0])
    name = {i: t for t, i in {**tokenizer._special_token_dict, **tokenizer.language_tokens}.items()}
    begin, end = spoken_tokens.prompt(tokenizer, "de", False)
    assert [name[i].strip("<|>") for i in (*begin, end)] == [
        *("startoftranscript", "de", "transcribe", "notimestamps", "endoftext")
    ]
    with pytest.raises(ModelError, match="does not know 'dee'.*Did you mean de"):
        spoken_tokens.prompt(tokenizer, "dee", False)
    with pytest.raises(ModelError, match="writes English alone"):
        spoken_tokens.prompt(spoken_tokens.of_directory(networks["moonshine"][0]), "de", False)


# ---------------------------------------------------------------------- runs

TONES = {"one": 400, "two": 1100, "three": 2600}


def spoken(words, seed: int = 0) -> np.ndarray:
    rng, pieces = np.random.default_rng(seed), []
    for word in words:
        t = np.arange(int(0.12 * 16000)) / 16000
        tone = 0.3 * np.sin(2 * np.pi * TONES[word] * t + rng.uniform(0, 6)) * np.hanning(len(t))
        pieces += [tone + 0.005 * rng.normal(size=len(t)), np.zeros(800)]
    return np.concatenate(pieces).astype("float32")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Sounds of one to three words, a tone each, with their transcripts."""
    root, rng, lines = tmp_path_factory.mktemp("spoken"), np.random.default_rng(1), ["audio,text"]
    for n in range(80):
        words = rng.choice(list(TONES), rng.integers(1, 4))
        waveforms.write_wav(root / f"{n}.wav", spoken(words, n), 16000)
        lines.append(f"{n}.wav,{' '.join(words)}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root / "table.csv"


SMALL = {
    "whisper": {
        "num_mel_bins": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "d_model": 32,
        "max_source_positions": 100,
        "max_target_positions": 16,
    },
    "moonshine": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "encoder_num_hidden_layers": 1,
        "decoder_num_hidden_layers": 1,
        "encoder_num_attention_heads": 2,
        "decoder_num_attention_heads": 2,
    },
}


def directory(kind, folder):
    tokenizer = golden_speech.TOKENIZERS[kind](("one", "two", "three", "\u0120one", "\u0120two", "\u0120three"))
    return spoken_directories.write(kind, folder, tokenizer, SMALL[kind], spoken_directories.drawn)


@pytest.fixture(scope="module", params=KINDS)
def written(request, table, tmp_path_factory):
    """A finished run that writes down what it hears."""
    folder = tmp_path_factory.mktemp("transcriber")
    name = directory(request.param, folder / "small")
    (folder / "c.yaml").write_text(f"""
task: {{name: speech-to-text, max_tokens: 8}}
data: {{path: {table}, label: text, val: 0, test: 0.2}}
backbone: {{name: {name}, sound: {{seconds: 0.8}}}}
train:
  batch: 16
  phases:
    - {{name: all, train: all, epochs: {40 if request.param == "whisper" else 80}, learning_rate: 3e-3, clip_norm: 1}}
""")
    return tlkeras.train(folder / "c.yaml", folder / "run", quiet=True)


def test_speech_is_written_down_by_the_decoder(written):
    result = tlkeras.evaluate(written.folder, quiet=True)
    assert result["main"] == "wer" and result["metrics"]["wer"] <= 0.2, result["worst"]
    page = tlkeras.report(written.folder).read_text("utf8")
    assert "of the words said in 16 held-out sounds" in page
    card = (written.folder / "model-card.md").read_text("utf8")
    assert "with its own decoder" in card and "cut where they are quiet" in card


def test_beams_write_what_is_likeliest_and_long_recordings_are_cut_where_they_are_quiet(written, tmp_path):
    words = ["one", "three", "two", "one", "two", "three"]
    waveforms.write_wav(
        tmp_path / "long.wav", np.concatenate([spoken(words[:3]), np.zeros(4000, "f"), spoken(words[3:])]), 16000
    )
    (greedy,) = tlkeras.predict(written.folder, [tmp_path / "long.wav"], quiet=True)
    (beams,) = tlkeras.predict(written.folder, [tmp_path / "long.wav"], sets=["task.sampler=beam"], quiet=True)
    assert len(greedy["segments"]) >= 2 and greedy["segments"][0]["end"] == greedy["segments"][1]["start"]
    assert beams["text"].split() and len(greedy["text"].split()) <= 12
    assert all(s["end"] - s["start"] <= 0.8 for s in greedy["segments"])


def test_a_saved_model_writes_the_same_and_is_served(written, table):
    from starlette.testclient import TestClient

    from tlkeras.server import folders, models, rest

    (row,) = artefacts.export(written.folder, ["saved_model"], quiet=True)
    assert row["agreement"] >= 0.9
    served = models.load(folders.find(written.artefact("saved_model")), "words")
    client = TestClient(rest.build({"words": served}))

    def asked(path):
        given = {"instances": [{"b64": base64.b64encode(path.read_bytes()).decode()}]}
        return client.post("/v1/models/words:predict", json=given)

    files = [table.parent / f"{n}.wav" for n in range(3)]
    texts = [a["text"] for a in tlkeras.predict(written.folder, files, quiet=True)]
    assert [asked(path).json()["predictions"][0]["text"] for path in files] == texts
    waveforms.write_wav(table.parent / "long.wav", np.tile(spoken(["one"]), 9), 16000)
    refused = asked(table.parent / "long.wav")
    assert refused.status_code == 400 and "cut it into utterances" in refused.json()["error"]
    assert "typeof first?.text" in client.get("/").text
    with pytest.raises(tlkeras.errors.TlkerasError, match="TFLite|tflite"):
        artefacts.export(written.folder, ["tflite"], quiet=True)


def test_the_encoder_alone_classifies(table, tmp_path):
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    first = [f"{table.parent / name},{text.split()[0]}" for name, text in rows]
    (table.parent / "classes.csv").write_text(
        "\n".join(["audio,label", *(r.replace(f"{table.parent}/", "") for r in first)])
    )
    name = directory("whisper", tmp_path / "small")
    (tmp_path / "c.yaml").write_text(f"""
task: audio-classification
data: {{path: {table.parent}/classes.csv, label: label, val: 0, test: 0.2}}
backbone: {{name: {name}, sound: {{seconds: 0.8}}, until: encoder1}}
train: {{phases: [{{name: head, train: [head], epochs: 1, learning_rate: 1e-2}}]}}
""")
    run = tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)
    blocks = evaluation.open_trained(run.folder).network.blocks
    assert list(blocks) == ["features", "encoder1", "head"]
    assert tlkeras.predict(run.folder, [table.parent / "0.wav"], quiet=True)[0]["label"] in TONES


def test_networks_of_samples_classify_too(table, tmp_path):
    """wav2vec 2.0: the mean over heard frames, from a run to builtin operators of TFLite."""
    from test_sound_networks import directory as wav2vec

    (tmp_path / "net").mkdir()
    wav2vec("base", tmp_path / "net")
    names = [line.split(",") for line in table.read_text().splitlines()[1:25]]
    lines = [f"{name},{text.split()[0]}" for name, text in names]
    (table.parent / "few.csv").write_text("\n".join(["audio,label", *lines]))
    (tmp_path / "c.yaml").write_text(f"""
task: audio-classification
data: {{path: {table.parent}/few.csv, label: label, val: 0, test: 0.3}}
backbone: {{name: {tmp_path}/net}}
train: {{phases: [{{name: head, train: [head], epochs: 1, learning_rate: 0.001}}]}}
""")
    run = tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)
    (row,) = artefacts.export(run.folder, ["tflite"], quiet=True)
    assert row["max_difference"] < 1e-4


@pytest.mark.parametrize(
    ("task", "backbone", "said"),
    [
        ("speech-to-text", "wav2vec2_base", "needs an encoder-decoder"),
        ("speech-recognition", "whisper_tiny_en", "task: speech-to-text"),
    ],
)
def test_tasks_that_do_not_suit_a_network_name_the_one_that_does(table, tmp_path, task, backbone, said):
    (tmp_path / "c.yaml").write_text(
        f"task: {task}\ndata: {{path: {table}, label: text}}\nbackbone: {{name: {backbone}, weights: null}}\n"
    )
    with pytest.raises(ConfigError, match=said):
        tlkeras.plan(tmp_path / "c.yaml")


def test_transcripts_that_do_not_fit_are_refused_with_both_numbers(table, tmp_path):
    name = directory("whisper", tmp_path / "small")
    for n in range(4):
        (tmp_path / f"{n}.wav").write_bytes((table.parent / f"{n}.wav").read_bytes())
    (tmp_path / "t.csv").write_text(
        f"audio,text\n0.wav,{'supercalifragilistic'}\n" + "".join(f"{n}.wav,one\n" for n in (1, 2, 3))
    )
    (tmp_path / "c.yaml").write_text(
        f"task: speech-to-text\ndata: {{path: {tmp_path}/t.csv, label: text, val: 0, test: 0}}\nbackbone: {{name: {name}}}\n"
    )
    with pytest.raises(DataError, match=r"0.wav: its transcript is 2\d tokens, and the decoder has 16 places"):
        tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)
