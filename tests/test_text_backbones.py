"""The text families keep their word: a tiny network of each cuts into blocks that hold every weight once and freeze
one by one, gives the same states as one flat graph, and is told of the special tokens that keras-hub puts.

Random weights, no network access. The table of presets is compared with the installed keras-hub.
"""

import inspect
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tlkeras import blocks
from tlkeras.backbones import keras_hub_presets, keras_hub_text_presets
from tlkeras.backbones.keras_hub_text import TEXT_FAMILIES

# keras-hub's FNet takes no mask; its RoFormer V2 masks queries instead of keys, so real tokens see the padding.
UNMASKED = ("f_net", "roformer_v2")
PRESETS = keras_hub_text_presets.presets()
TAKE_IMAGES = {
    *(f"gemma3_{kind}{size}" for kind in ("", "instruct_") for size in ("4b", "12b", "27b")),
    *("medgemma_4b", "medgemma_instruct_4b", "medgemma_1.5_instruct_4b", "medgemma_instruct_27b"),
    *(f"translategemma_{size}_it" for size in ("4b", "12b", "27b")),
}


def make(name):
    """(backbone, model of its states) of a family, after Keras' counters of unnamed layers have moved on."""
    import keras

    keras.layers.Dropout(0.1), keras.layers.Dense(1), keras.layers.LayerNormalization(), keras.layers.Add()
    keras.layers.RMSNormalization(), keras.layers.Embedding(2, 2)
    backbone = TEXT_FAMILIES[name].small()
    return backbone, TEXT_FAMILIES[name].features(backbone)


def batch(model, length=9):
    """Two rows, the second of six tokens and padding, of every input that the model takes."""
    random, real = np.random.default_rng(0), np.arange(length) < np.array([[9], [6]])
    ids = np.where(real, np.pad(random.integers(1, 60, (2, 9)), ((0, 0), (0, length - 9))), 0)
    segments = np.where(real, np.arange(length) > 3, 0)
    every = {"token_ids": ids, "padding_mask": real, "segment_ids": segments}
    return {name: every[re.sub("^(en|de)coder_", "", name)].astype("int32") for name in model.input}


def states(model, x):
    return np.asarray(model(x, training=False))


@pytest.fixture(scope="module", params=TEXT_FAMILIES)
def built(request):
    """A tiny network of a family, its layers as one flat graph, and its blocks."""
    import keras

    known = TEXT_FAMILIES[request.param]
    backbone, model = make(request.param)
    boundaries = known.blocks(model)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in model.input}
    tensors = blocks.flatten(model, inputs, opened=known.opened)
    return SimpleNamespace(
        known=known,
        backbone=backbone,
        model=model,
        boundaries=boundaries,
        cut=blocks.split(inputs, tensors, boundaries),
        flat=keras.Model(inputs, tensors[""]),
    )


def test_every_weight_lies_in_exactly_one_block(built):
    held = [id(v) for layers in built.cut.values() for layer in layers for v in layer.weights]
    assert len(held) == len(set(held))
    assert set(held) == {id(v) for v in built.model.weights} == {id(v) for v in built.flat.weights}
    assert all(any(layer.weights for layer in layers) for layers in built.cut.values())


def test_the_flat_graph_gives_exactly_what_the_backbone_gives(built):
    x = batch(built.model)
    want = built.backbone(x, training=False)
    if isinstance(want, dict):
        want = want["decoder_sequence_output" if built.known.role == "encoder-decoder" else "sequence_output"]
    got = states(built.flat, x)
    assert got.shape == (2, 9, 8) and np.isfinite(got).all() and got.std() > 0
    np.testing.assert_array_equal(got, np.asarray(want))


def test_each_block_freezes_alone(built):
    everything = {id(v) for v in built.flat.trainable_weights}
    for layers in built.cut.values():
        own = {id(v) for layer in layers for v in layer.trainable_weights}
        for layer in layers:
            layer.trainable = False
        assert {id(v) for v in built.flat.trainable_weights} == everything - own
        for layer in layers:
            layer.trainable = True
    assert {id(v) for v in built.flat.trainable_weights} == everything


def test_blocks_go_from_the_embeddings_to_the_output(built):
    names = [name for name, _ in built.boundaries]
    one = "embeddings layer0 layer1( top)?"
    two = "embeddings encoder0 encoder1( encoder_top)?( decoder_embeddings)? decoder0 decoder1( top)?"
    assert re.fullmatch(two if built.known.role == "encoder-decoder" else one, " ".join(names))
    assert [end for _, end in built.boundaries].index("") == len(names) - 1


def test_a_layer_ends_its_own_block(built):
    """Nothing of a layer falls into the block of its neighbour: all layers of a stack have the same weights, but for
    T5's first ones, which hold the biases by distance."""
    for stack in ("layer", "encoder", "decoder"):
        shapes = [
            sorted(tuple(v.shape) for layer in layers for v in layer.weights)
            for name, layers in built.cut.items()
            if re.fullmatch(rf"{stack}\d", name)
        ]
        if built.known.name == "t5":
            shapes = [[shape for shape in of if shape != (32, 2)] for of in shapes]
        assert all(of == shapes[0] for of in shapes)


def test_no_block_ends_by_a_counter(built):
    if built.known.name != "t5gemma":  # Its norms have none but Keras' names; found by their order.
        assert built.known.blocks(make(built.known.name)[1]) == built.boundaries


def test_padding_leaves_the_states_of_real_tokens_alone(built):
    short, long = (states(built.model, batch(built.model, length)) for length in (9, 14))
    real = batch(built.model, 9)
    real = real.get("padding_mask", real.get("decoder_padding_mask", np.arange(9) < np.array([[9], [6]]))) != 0
    same = np.allclose(short[real], long[:, :9][real], atol=1e-5)
    assert same == (built.known.name not in UNMASKED)


def test_a_backbone_comes_back_from_its_config(built):
    """A finished run builds its backbone so, without the preset."""
    config = json.loads(json.dumps(built.backbone.get_config()))
    again = type(built.backbone).from_config(config)
    again.set_weights(built.backbone.get_weights())
    model = built.known.features(again)
    np.testing.assert_allclose(states(model, batch(model)), states(built.model, batch(built.model)), atol=1e-6)
    assert [name for name, _ in built.known.blocks(model)] == [name for name, _ in built.boundaries]


def test_a_presets_config_names_the_class_of_its_family(built):
    import keras

    assert keras.saving.get_registered_name(type(built.backbone)) == f"keras_hub>{built.known.backbone}"


@pytest.mark.parametrize("known", TEXT_FAMILIES.values(), ids=TEXT_FAMILIES)
def test_pooling_suits_the_role(known):
    assert known.kind == "text" and known.size is None
    assert known.pool == {"encoder": "avg", "decoder": "last", "encoder-decoder": "none"}[known.role]


def of_family(known, base):
    """The subclasses of `base` that keras-hub made for the family's backbone."""
    import keras_hub as hub

    cls = getattr(hub.models, known.backbone)
    every = [x for x in vars(hub.models).values() if inspect.isclass(x) and issubclass(x, base)]
    return [x for x in every if vars(x).get("backbone_cls") is cls]


def tokenizer(known):
    """One without a vocabulary, where the id of a special token is the token itself."""
    import keras_hub as hub

    cls = of_family(known, hub.tokenizers.Tokenizer)[0]
    needed = [
        p.name for p in inspect.signature(cls).parameters.values() if p.default is p.empty and p.kind != p.VAR_KEYWORD
    ]
    made = cls(**dict.fromkeys(needed))
    for name in getattr(made, "_special_token_attrs", ()):
        setattr(made, f"{name}_id", getattr(made, name))
    return made


def listed(value):
    return () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)


@pytest.mark.parametrize("known", TEXT_FAMILIES.values(), ids=TEXT_FAMILIES)
def test_special_tokens_are_those_that_keras_hub_puts(known):
    import keras_hub as hub

    base = {
        "encoder": hub.models.TextClassifierPreprocessor,
        "decoder": hub.models.CausalLMPreprocessor,
        "encoder-decoder": hub.models.Seq2SeqLMPreprocessor,
    }[known.role]
    words = tokenizer(known)
    preprocessor = (of_family(known, base) or [base])[0](words)
    preprocessor.build(None)
    packer = getattr(preprocessor, "encoder_packer", None) or preprocessor.packer
    start, middle, end = (tuple(getattr(words, name) for name in names) for names in known.special)
    assert start == (listed(packer.start_value) if getattr(preprocessor, "add_start_token", True) else ())
    assert end == listed(packer.end_value) and middle
    if known.role == "encoder":
        assert middle == listed(packer.sep_value)


# Presets


def test_the_table_names_what_keras_hub_ships():
    import keras_hub as hub

    classes = {name: getattr(hub.models, known.backbone) for name, known in TEXT_FAMILIES.items()}
    for name, cls in classes.items():
        heirs = {n for x in classes.values() if issubclass(x, cls) and x is not cls for n in x.presets}
        ships = {n: facts["kaggle_handle"] for n, facts in cls.presets.items() if n not in heirs | TAKE_IMAGES}
        assert {p.name: p.handle for p in PRESETS if p.family == name} == ships
    assert {p.family for p in PRESETS} <= set(TEXT_FAMILIES)
    assert not any(p.misfiled for p in PRESETS)


def test_preset_names_are_unique_beside_those_of_images():
    names = [p.name for p in PRESETS]
    assert len(names) == len(set(names)) and not set(names) & {p.name for p in keras_hub_presets.presets()}


def test_parameters_are_about_those_that_keras_hub_states():
    """Without the pooled layer, and computed where its number is rounded or wrong."""
    import keras_hub as hub

    for preset in PRESETS:
        facts = getattr(hub.models, TEXT_FAMILIES[preset.family].backbone).presets[preset.name]
        assert preset.parameters == pytest.approx(facts["metadata"]["params"], rel=0.1), preset.name


def test_every_preset_says_its_training_licence_and_size_in_words():
    for preset in PRESETS:
        assert re.fullmatch("[a-z0-9]+", preset.data) and preset.licence
        assert preset.description.endswith(".") and len(preset.description) < 80


def test_listing_imports_no_framework():
    code = (
        "import sys; from tlkeras.backbones import keras_hub_text, keras_hub_text_presets\n"
        "print(len(keras_hub_text_presets.presets()), {'tensorflow', 'keras', 'keras_hub', 'numpy'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(len(PRESETS)), "set()"]
