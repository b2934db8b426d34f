"""A preset of keras-hub on disk is a backbone by its path, as a Hugging Face directory is: Whisper and Moonshine, their
weights and their tokenizers.

pytest tests/test_spoken_presets.py
"""

import make_golden_speech as golden_speech
import numpy as np
import pytest
from make_golden_sound import sound

from tlkeras import backbones, hearing, weights
from tlkeras.backbones import spectra, spoken_tokens, transcribers
from tlkeras.errors import ModelError

KINDS = ("whisper", "moonshine")


def preset(kind: str, folder):
    """(directory of a preset, the network of keras-hub that was saved in it), weights drawn."""
    import keras_hub

    tokenizer = spoken_tokens.of_directory(golden_speech.directory(kind, folder / "theirs"))
    size = tokenizer.vocabulary_size()
    if kind == "whisper":
        hub = keras_hub.models.WhisperBackbone(size, 2, 2, 16, 24, 20, 0.0, 100, 12)
    else:
        hub = keras_hub.models.MoonshineBackbone(size, 36, 2, 2, 36, 24, 3, 3, partial_rotary_factor=0.9)
    rng = np.random.default_rng(0)
    for v in hub.weights:
        if "inv_freq" not in v.path:
            v.assign(rng.normal(float(v.path.endswith("gamma")), 0.15, v.shape))
    hub.save_to_preset(str(folder / "saved"))
    tokenizer.save_to_preset(str(folder / "saved"))
    return folder / "saved", hub


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    return request.param, *preset(request.param, tmp_path_factory.mktemp(request.param))


def test_a_preset_computes_what_keras_hub_does(saved):
    kind, folder, hub = saved
    record = hearing.found(folder)
    assert (record.name, record.family, record.writes) == ("saved", kind, True)
    x, tokens = sound(1.0), np.array([[1, 5, 9]], "int32")
    given = {"samples": x[None], "tokens": tokens}
    theirs = {"decoder_token_ids": tokens, "decoder_padding_mask": np.ones_like(tokens)}
    if kind == "whisper":
        theirs["encoder_features"] = np.asarray(spectra.whisper(x[None], 20))
    else:
        given["count"] = np.array([len(x)], "int32")
        theirs |= {"encoder_input_values": x[None, :, None], "encoder_padding_mask": np.ones((1, len(x)), bool)}
    model = weights.load(record, "preset", None)
    assert model.get_layer(transcribers.EMBEDDING).embeddings.shape == hub.token_embedding.embeddings.shape
    out = hub(theirs, training=False)["decoder_sequence_output"]
    np.testing.assert_allclose(model(given, training=False), out, atol=2e-5)


def test_its_tokenizer_comes_with_it(saved):
    import tensorflow as tf

    kind, folder, _ = saved
    here, before = (spoken_tokens.of_directory(f) for f in (folder, folder.parent / "theirs"))
    texts = tf.constant(["one two", "It's one."])
    ids = [tf.function(t.tokenize, autograph=False)(texts).to_list() for t in (here, before)]
    assert ids[0] == ids[1]
    assert spoken_tokens.prompt(here, "en", False) == spoken_tokens.prompt(before, "en", False)


def test_its_weights_are_refused_for_a_network_of_other_sizes(saved):
    kind, folder, _ = saved
    name = {"whisper": "whisper_tiny_en", "moonshine": "moonshine_tiny_en"}[kind]
    with pytest.raises(ModelError, match="has other sizes than"):
        weights.load(backbones.get(name), str(folder), None)
