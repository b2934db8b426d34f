"""Networks that read sound, and their features: equal to librosa, to TensorFlow's operators and to transformers.

Exactness: against golden/sound.npz, which make_golden_sound.py keeps of the originals' outputs, and with
pytest -m oracle against the originals themselves, at every stage.

pytest tests/test_sound_networks.py
"""

import functools
import json

import make_golden_sound
import numpy as np
import pytest

from tlkeras import backbones, weights
from tlkeras.backbones import deepspeech, spectra, wav2vec2
from tlkeras.errors import ModelError
from tlkeras.foreign import files, transformers
from tlkeras.foreign.tensors import assign


@functools.lru_cache(1)
def golden() -> dict:
    with np.load(make_golden_sound.GOLDEN) as found:
        return dict(found)


def test_log_mel_and_cepstra_are_librosas():
    x = make_golden_sound.sound()[None]
    found = np.asarray(spectra.log_mel(x, **make_golden_sound.MEL))[0]
    np.testing.assert_allclose(found, golden()["librosa/log_mel"], atol=1e-4 * 80)
    np.testing.assert_allclose(found, golden()["librosa/log_mel"], rtol=1e-4, atol=2e-3)
    found = np.asarray(spectra.mfcc(x, **make_golden_sound.MEL, coefficients=13))[0]
    np.testing.assert_allclose(found, golden()["librosa/mfcc"], rtol=1e-4, atol=2e-3)


@pytest.mark.oracle
def test_the_golden_spectrograms_are_still_librosas():
    for name, value in make_golden_sound.heard().items():
        np.testing.assert_allclose(golden()[f"librosa/{name}"], value, atol=1e-4)


def directory(name: str, folder):
    """A Hugging Face directory of a golden network, its weights made by NumPy."""
    shapes = json.loads(str(golden()[f"{name}/shapes"]))
    (folder / "config.json").write_text(str(golden()[f"{name}/config"]))
    files.write_safetensors(
        folder / "model.safetensors", {n: make_golden_sound.weight(n, tuple(s)) for n, s in shapes.items()}
    )
    return folder


@pytest.mark.parametrize("name", make_golden_sound.NETWORKS)
def test_wav2vec_computes_what_transformers_does(tmp_path, name):
    record = wav2vec2.from_directory(directory(name, tmp_path))
    model = weights.load(record, "preset", None)
    x = make_golden_sound.sound(0.2)[None]
    found = np.asarray(model({"samples": x, "count": np.array([x.shape[1]], "int32")}))
    np.testing.assert_allclose(found, golden()[f"{name}/last"], atol=2e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("name", make_golden_sound.NETWORKS)
def test_every_stage_of_wav2vec_is_that_of_transformers(tmp_path, name):
    import keras

    theirs = make_golden_sound.stages(make_golden_sound.directory(name, tmp_path), x := make_golden_sound.sound(0.4))
    record = wav2vec2.from_directory(tmp_path)
    model = weights.load(record, "preset", None)
    first = "positions_norm" if not record.sizes["stable"] else "positions_add"
    layers = [*(f"conv{n}_gelu" for n in range(7)), first, "encoder1_out"]
    whole = keras.Model(model.input, [*(model.get_layer(n).output for n in layers), model.output])
    *ours, last = whole({"samples": x[None], "count": np.array([len(x)], "int32")})
    names = [*(f"conv{n}" for n in range(7)), "hidden0", "hidden1"]
    for stage, value in zip([*names, "last"], [*ours, last], strict=True):
        np.testing.assert_allclose(np.asarray(value), theirs[stage], atol=2e-5, err_msg=stage)


@pytest.mark.parametrize("build", ["base", "layered", "deepspeech", "deepspeech2_small"])
def test_a_sound_gives_the_same_alone_and_beside_a_longer_one(tmp_path, build):
    if build == "deepspeech":
        record, model = backbones.get(build), deepspeech.network(16)
    elif build == "deepspeech2_small":
        record = backbones.get(build)
        model = record.build(None, None)
    else:
        record = wav2vec2.from_directory(directory(build, tmp_path))
        model = weights.load(record, "preset", None)
    short, long = make_golden_sound.sound(0.25), make_golden_sound.sound(0.4, seed=1)
    both = np.zeros((2, len(long)), np.float32)
    both[0, : len(short)], both[1] = short, long
    alone = np.asarray(model({"samples": short[None], "count": np.array([len(short)], "int32")}))
    beside = np.asarray(model({"samples": both, "count": np.array([len(short), len(long)], "int32")}))
    n = int(record.frames(len(short)))
    assert alone.shape[1] == n and beside.shape[1] == record.frames(len(long))
    np.testing.assert_allclose(beside[0, :n], alone[0], atol=1e-5)


def test_the_old_names_of_the_weight_norm_are_read_too(tmp_path):
    folder = directory("base", tmp_path)
    found = transformers.read_tensors(folder)
    stem = "encoder.pos_conv_embed.conv."
    renamed = {
        f"wav2vec2.{n}".replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): np.array(t)
        for n, t in found.items()
    } | {"lm_head.weight": np.zeros((5, 32), "float32"), "quantizer.codevectors": np.zeros((1, 4), "float32")}
    new, old = wav2vec2.tensors(found, "wav2vec2"), wav2vec2.tensors(renamed, "wav2vec2")
    assert new.keys() == old.keys()
    np.testing.assert_array_equal(new[f"{stem}weight"], old[f"{stem}weight"])


def test_a_directory_of_other_sizes_or_kind_is_refused_with_what_differs(tmp_path):
    folder = directory("base", tmp_path)
    with pytest.raises(ModelError, match=r"hidden: 32, not 768(.|\n)*Name the directory itself"):
        weights.load(backbones.get("wav2vec2_base"), str(folder), None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu", "add_adapter": True}))
    with pytest.raises(
        ModelError, match="hidden_act must be gelu.*\n.*add_adapter must be False|hidden_act(.|\n)*add_adapter"
    ):
        wav2vec2.from_directory(folder)


def test_mozillas_cepstra_are_those_of_tensorflows_operators():
    import tensorflow as tf

    x = make_golden_sound.sound()
    spectrogram = tf.raw_ops.AudioSpectrogram(input=x[:, None], window_size=512, stride=320, magnitude_squared=True)
    theirs = tf.raw_ops.Mfcc(
        spectrogram=spectrogram, sample_rate=16000, upper_frequency_limit=8000.0, lower_frequency_limit=20.0,
        filterbank_channel_count=40, dct_coefficient_count=26,
    )  # fmt: skip
    ours = deepspeech._layers()["Cepstra"]()(x[None])
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_checkpoint_of_deepspeech_computes_what_tensorflow_1_did(tmp_path):
    import tensorflow as tf

    width, rng = 16, np.random.default_rng(0)
    cell = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell/"
    shapes = {
        "layer_1": (494, width),
        "layer_2": (width, width),
        "layer_3": (width, width),
        "layer_5": (width, width),
        "layer_6": (width, 29),
    }
    v = {f"{n}/weights": rng.normal(0, 1 / s[0] ** 0.5, s) for n, s in shapes.items()}
    v |= {f"{n}/bias": rng.normal(0, 0.3, s[1]) for n, s in shapes.items()}
    v |= {f"{cell}kernel": rng.normal(0, 0.3, (2 * width, 4 * width)), f"{cell}bias": rng.normal(0, 0.3, 4 * width)}
    v = {n: a.astype("float32") for n, a in v.items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.get_variable(n, initializer=a) for n, a in v.items()]
        made += [tf.compat.v1.get_variable("global_step", initializer=3)]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(made).save(session, str(tmp_path / "best_dev-3"), write_meta_graph=False)
    model, found = deepspeech.network(width), deepspeech.checkpoint(files.read_checkpoint(tmp_path / "best_dev-3"))
    assign(model, found, {x.path: (x.path, None) for x in model.weights})
    x = make_golden_sound.sound()[None]
    ours = model({"samples": x, "count": np.array([x.shape[1]], "int32")})

    features = np.asarray(deepspeech._layers()["Cepstra"]()(x))
    padded = np.pad(features, ((0, 0), (9, 9), (0, 0)))
    h = np.stack([padded[:, t : t + 19].reshape(1, -1) for t in range(features.shape[1])], 1)
    for n in (1, 2, 3):
        h = np.clip(h @ v[f"layer_{n}/weights"] + v[f"layer_{n}/bias"], 0, 20)
    nothing, none = np.zeros((1, width), "float32"), np.zeros(width, "float32")
    block = tf.raw_ops.BlockLSTM(
        seq_len_max=h.shape[1], x=h.transpose(1, 0, 2), cs_prev=nothing, h_prev=nothing, w=v[f"{cell}kernel"], wci=none,
        wcf=none, wco=none, b=v[f"{cell}bias"], forget_bias=0.0, cell_clip=-1, use_peephole=False,
    )  # fmt: skip
    h = np.clip(block.h.numpy().transpose(1, 0, 2) @ v["layer_5/weights"] + v["layer_5/bias"], 0, 20)
    np.testing.assert_allclose(ours, h, atol=1e-5)


def test_another_checkpoint_is_refused_with_what_it_lacks(tmp_path):
    with pytest.raises(ModelError, match="none of DeepSpeech 0.9; it lacks"):
        deepspeech.checkpoint({"dense/kernel": np.zeros((2, 2))})
