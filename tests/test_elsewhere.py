"""Proves that weights of torchvision, timm, Hugging Face and TensorFlow mean in Keras what they meant there, and that what
does not fit is named on both sides before anything is written.

Exactness: against golden/torch.npz, which make_golden_torch.py keeps of PyTorch's own logits, and with `oracle` against
PyTorch itself.

    pytest tests/test_elsewhere.py
    pytest tests/test_elsewhere.py -m oracle
"""

import importlib.util
import json
from dataclasses import replace
from functools import cache

import make_golden_torch
import numpy as np
import pytest

from tlkeras.backbones import torch_builds
from tlkeras.errors import ModelError, UsageError
from tlkeras.foreign import files, mapping, name_files, name_maps, sources
from tlkeras.weights import elsewhere, hugging_face, verified

EXACT = 1e-4
needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "torchvision", "timm")),
    reason="torch, torchvision and timm are not installed",
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(torch_builds, "BUILDS", torch_builds.BUILDS | make_golden_torch.small_builds())


@cache
def golden() -> dict:
    with np.load(make_golden_torch.GOLDEN, allow_pickle=False) as found:
        return dict(found)


def logits(name: str, tensors: dict, side: int) -> np.ndarray:
    model = torch_builds.build(name, (side, side), None, make_golden_torch.CLASSES)
    mapping.fill(model, torch_builds.covered(name, model, tensors, whole=True))
    return np.asarray(model(make_golden_torch.pixels(side), training=False))


@pytest.mark.parametrize("name, spec, side", make_golden_torch.KEPT, ids=lambda value: str(value))
def test_logits_are_those_of_pytorch(small, name, spec, side):
    kept, key = golden(), f"{name} {spec}"
    want = kept[f"{key}/logits"]
    assert np.abs(want).max() > 0.5  # An absolute difference of small numbers would tell nothing.
    got = logits(name, make_golden_torch.state(json.loads(str(kept[f"{key}/shapes"]))), side)
    np.testing.assert_allclose(got, want, rtol=0, atol=EXACT)


@pytest.mark.oracle
@needs_torch
@pytest.mark.parametrize("name, spec, side", (*make_golden_torch.KEPT, *make_golden_torch.MORE), ids=lambda v: str(v))
def test_logits_are_those_of_the_installed_pytorch(small, name, spec, side):
    shapes, want = make_golden_torch.compute(spec, side)
    got = logits(name, make_golden_torch.state(shapes), side)
    np.testing.assert_allclose(got, want, rtol=0, atol=EXACT)


def shapes_of(case: str) -> dict:
    return json.loads(str(golden()[f"{case}/shapes"]))


MOBILE = "mobilenet_v3_small_torchvision torchvision:mobilenet_v3_small"


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A .safetensors file of MobileNetV3-Small as torchvision writes it."""
    path = tmp_path_factory.mktemp("mobile") / "small.safetensors"
    files.write_safetensors(path, make_golden_torch.state(shapes_of(MOBILE)))
    return path


# What is covered.


def test_convert_shows_the_coverage_first_and_what_it_writes_comes_back(mobile, tmp_path):
    import keras

    said, out = [], tmp_path / "small.keras"
    found = elsewhere.convert(mobile, "mobilenet_v3_small", out, size=64, whole=True, say=said.append)
    assert found["network"] == "mobilenet_v3_small_torchvision" and found["filled"] == found["weights"]
    assert "210 of 210 tensors used" in said[0] and "NOT" not in said[0]
    got = np.asarray(keras.models.load_model(out)(make_golden_torch.pixels(64), training=False))
    np.testing.assert_allclose(got, golden()[f"{MOBILE}/logits"], rtol=0, atol=EXACT)


def test_a_backbone_names_the_classifier_as_what_it_does_not_use(mobile, tmp_path):
    said, out = [], tmp_path / "small.weights.h5"
    found = elsewhere.convert(mobile, None, out, size=64, say=said.append)
    assert found["classifier"] is False and out.is_file()
    assert "4 not used: classifier:" in said[0] and "classifier.3.bias" in said[0]


def test_both_lists_come_and_nothing_is_written_when_something_is_left_over(mobile, tmp_path):
    tensors = dict(sources.read(mobile).tensors)
    del tensors["features.0.0.weight"]
    tensors["features.1.block.0.0.weight"] = np.zeros((3, 1, 3, 3), "float32")
    tensors["extra.weight"] = np.zeros(3, "float32")
    path, out = tmp_path / "broken.safetensors", tmp_path / "out.weights.h5"
    files.write_safetensors(path, tensors)
    with pytest.raises(ModelError) as refused:
        elsewhere.convert(path, "mobilenet_v3_small_torchvision", out, size=64)
    text = str(refused.value)
    assert "conv/kernel (3, 3, 3, 16) (from features.0.0.weight, which is not there)" in text
    assert (
        "expanded_conv_depthwise/kernel (3, 3, 16, 1) (from features.1.block.0.0.weight, which has (3, 1, 3, 3))"
        in text
    )
    assert "extra.weight" in text and not out.exists() and list(tmp_path.iterdir()) == [path]


def test_what_may_stay_random_is_named(mobile, tmp_path):
    tensors = {n: t for n, t in sources.read(mobile).tensors.items() if not n.startswith("features.12.")}
    path, out = tmp_path / "short.safetensors", tmp_path / "out.weights.h5"
    files.write_safetensors(path, tensors)
    found = elsewhere.convert(path, "mobilenet_v3_small_torchvision", out, size=64, allow=("conv_1*",))
    assert len(found["left_at_random"]) == 5 and not found["missing"] and out.is_file()


def test_inspect_names_the_network_and_the_classes(mobile):
    found = elsewhere.inspect(mobile)
    assert found["looks_like"] == ["mobilenet_v3_small_torchvision"] and found["classes"] == make_golden_torch.CLASSES
    assert "features.0.0.weight" in elsewhere.inspect_text(found)


@pytest.mark.parametrize("case", [f"{name} {spec}" for name, spec, _ in make_golden_torch.KEPT if "test" not in name])
def test_every_network_is_known_by_its_names_and_size(case):
    shapes = {name: (tuple(shape), "float32") for name, shape in shapes_of(case).items()}
    assert case.split()[0] in elsewhere.looks_like(sources.Found(None, "torch", shapes))


def test_timms_two_paddings_must_be_told_apart_by_whoever_asks():
    names = shapes_of("efficientnet_b0_timm timm:efficientnet_b0")
    with pytest.raises(UsageError, match="efficientnet_b0_timm, efficientnet_b0_tf"):
        torch_builds.suited("efficientnet_b0", names)
    assert torch_builds.suited("efficientnet_b0", names, "tf_efficientnet_b0.ns_jft_in1k").name == "efficientnet_b0_tf"
    assert torch_builds.suited("efficientnet_b0", shapes_of("efficientnet_b0_torchvision torchvision:efficientnet_b0")).name == "efficientnet_b0_torchvision"  # fmt: skip


def test_names_of_older_files_are_brought_up_to_date():
    old = {
        "module.features.denseblock1.denselayer1.norm.1.weight": 1,
        "encoder.layers.encoder_layer_0.mlp.linear_2.bias": 2,
    }
    assert list(mapping.renamed(old, name_maps.RENAMES)) == [
        "features.denseblock1.denselayer1.norm1.weight",
        "encoder.layers.encoder_layer_0.mlp.3.bias",
    ]


def test_the_first_dense_layer_of_vgg_reads_its_map_row_by_row():
    """PyTorch flattens channels first, Keras channels last."""

    class Kernel:
        path, shape = "fc1/kernel", (2 * 49, 3)

    weight = np.arange(3 * 2 * 49, dtype="float32").reshape(3, 98)
    cover = mapping.cover("vgg", [Kernel], {"classifier.0.weight": weight}, name_maps.vgg((1,)))
    features = np.random.default_rng(0).normal(size=(7, 7, 2)).astype("float32")
    want = weight @ features.transpose(2, 0, 1).ravel()
    np.testing.assert_allclose(features.ravel() @ cover.values["fc1/kernel"], want, rtol=1e-4)


def test_the_input_contract_changes_with_the_weights(mobile, tmp_path):
    from tlkeras import backbones, weights

    before = backbones.get("mobilenet_v3_small").pixels
    after = weights.suited("mobilenet_v3_small", str(mobile)).pixels
    assert before.range == "0..255 rgb" and after.range != before.range
    assert after.offset == pytest.approx((-2.1179, -2.0357, -1.8044), abs=1e-4)
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "mobilenetv3_small_100", "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1], "input_size": [3, 96, 96], "crop_pct": 1}})
    )  # fmt: skip
    pixels = torch_builds.stated(json.loads((tmp_path / "config.json").read_text()), after)
    assert pixels.size == (96, 96) and pixels.range == "0..1 rgb" and pixels.crop == 1.0


def test_verify_without_pytorch_says_what_it_cannot_say(mobile, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else there(name))
    found = verified.verify(mobile, "mobilenet_v3_small")
    assert not found["compared"] and "torch is not installed" in verified.text(found)
    assert found["coverage"]["missing"] == [] and found["statistics"]["not_finite"] == []


@pytest.mark.oracle
@needs_torch
def test_verify_finds_the_model_and_compares_logits_and_features(mobile):
    found = verified.verify(mobile, "mobilenet_v3_small")
    assert found["compared"] and found["exact"] and found["with"] == "torchvision:mobilenet_v3_small"
    assert max(found["logits"]["difference"], found["features"]["difference"]) < EXACT


# Hugging Face directories, by keras-hub's converters.


@pytest.fixture(scope="module")
def mistral(tmp_path_factory):
    """The directory of a Mistral of one layer."""
    pytest.importorskip("safetensors")
    folder, layer = tmp_path_factory.mktemp("mistral"), "model.layers.0"
    shapes = {"model.embed_tokens.weight": [32, 16], "lm_head.weight": [32, 16], "model.norm.weight": [16]}
    shapes |= {f"{layer}.{name}_layernorm.weight": [16] for name in ("input", "post_attention")}
    shapes |= {
        f"{layer}.self_attn.{name}_proj.weight": [n, 16] for name, n in (("q", 16), ("k", 8), ("v", 8), ("o", 16))
    }
    shapes |= {f"{layer}.mlp.{name}_proj.weight": [24, 16] for name in ("gate", "up")}
    shapes |= {f"{layer}.mlp.down_proj.weight": [16, 24]}
    files.write_safetensors(folder / "model.safetensors", make_golden_torch.state(shapes))
    config = {
        "model_type": "mistral",
        "vocab_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 16,
    }
    config |= {"intermediate_size": 24, "num_key_value_heads": 1, "rope_theta": 10000.0, "rms_norm_eps": 1e-6}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_hugging_face_directory_becomes_a_preset_with_every_tensor_accounted_for(mistral, tmp_path):
    import keras_hub

    said = []
    found = elsewhere.convert(mistral, None, tmp_path / "preset", say=said.append)
    assert found["used"] == found["tensors"] == 12 and found["compared"] and "12 of 12 tensors used" in said[0]
    again = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    embedding = sources.read(mistral).tensors["model.embed_tokens.weight"]
    np.testing.assert_array_equal(np.asarray(again.token_embedding.embeddings), embedding)  # keras-hub alone halves it


def test_what_keras_hubs_converter_leaves_is_named(mistral, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "config.json").write_bytes((mistral / "config.json").read_bytes())
    tensors = dict(sources.read(mistral).tensors) | {"model.layers.1.input_layernorm.weight": np.ones(16, "float32")}
    files.write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(ModelError, match=r"(?s)1 NOT USED:\s+model.layers.1.input_layernorm.weight"):
        elsewhere.convert(folder, None, tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


def test_every_type_that_is_promised_has_a_converter():
    from keras_hub.src.utils.transformers import preset_loader

    for kind in hugging_face.TYPES:
        loader = preset_loader.TransformersPresetLoader("", {"model_type": kind})
        assert hasattr(loader.converter, "convert_weights"), kind


# Checkpoints of TensorFlow, by a map of names.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of TensorFlow 2 whose variables have names of their own, and a SavedModel with the same."""
    import tensorflow as tf

    folder, rng = tmp_path_factory.mktemp("tf"), np.random.default_rng(0)

    class Net(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(rng.normal(size=(3, 3, 3, 4)).astype("float32"), name="enc/layer_0/weights")
            self.bias = tf.Variable(rng.normal(size=4).astype("float32"), name="enc/layer_0/bias")
            self.steps = tf.Variable(np.int64(7), name="steps")

    net = Net()
    where = tf.train.Checkpoint(net=net).write(str(folder / "ckpt"))
    tf.saved_model.save(net, str(folder / "saved"))
    return where, folder / "saved", net.kernel.numpy()


def small_model():
    import keras

    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Conv2D(4, 3, name="block1_conv")(inputs), name="small")


RULES = """
layout: tf
rules:
  ~block(\\d)_conv/kernel: enc/layer_{1-1}/weights
  block*_conv: enc/layer_0
unused: [steps]
"""


def test_a_checkpoint_and_a_saved_model_fill_by_a_map_of_names(checkpoint, tmp_path):
    (tmp_path / "names.yaml").write_text(RULES)
    names = name_files.read(tmp_path / "names.yaml")
    entry = replace(torch_builds.backbones.get("resnet50"), name="small")
    for path in checkpoint[:2]:
        found, model = sources.read(path), small_model()
        assert found.kind == "tf" and set(found.shapes) == {"enc/layer_0/weights", "enc/layer_0/bias", "steps"}
        mapping.fill(model, elsewhere.covered(found, entry, model, names))
        np.testing.assert_array_equal(np.asarray(model.layers[1].kernel), checkpoint[2])


def test_without_the_map_both_lists_come(checkpoint):
    found, model = sources.read(checkpoint[0]), small_model()
    entry = replace(torch_builds.backbones.get("resnet50"), name="small")
    with pytest.raises(ModelError, match=r"(?s)NOT USED.*enc/layer_0/weights.*NOT FILLED.*block1_conv/kernel"):
        mapping.fill(model, elsewhere.covered(found, entry, model))


def test_a_map_of_names_with_mistakes_lists_them_all(tmp_path):
    (tmp_path / "names.yaml").write_text(
        "rulse: {}\nlayout: caffe\nrules: {'a*': 'b{2}', '~(': x, c: '{0.__class__}'}\n"
    )
    with pytest.raises(UsageError) as refused:
        name_files.read(tmp_path / "names.yaml")
    for finding in ("Did you mean rules?", "'caffe'", "asks for number 2", "no regular expression", "{0.__class__}"):
        assert finding in str(refused.value)


# What is refused.


@pytest.mark.parametrize("name", ["x.onnx", "nothing.pth"])
def test_what_is_no_weight_file_is_refused(tmp_path, name):
    if name.endswith("onnx"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises((ModelError, UsageError), match="must end in|nothing is there"):
        sources.read(tmp_path / name)


def test_a_truncated_file_is_refused(mobile, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(mobile.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"cut.safetensors cannot be used: the tensor"):
        elsewhere.convert(tmp_path / "cut.safetensors", "mobilenet_v3_small", tmp_path / "out.weights.h5")
    assert not (tmp_path / "out.weights.h5").exists()


def test_a_pickle_with_code_is_refused_and_the_function_named(tmp_path):
    path = tmp_path / "evil.bin"
    path.write_bytes(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00hi\x85R.")
    with pytest.raises(ModelError, match="posix.system"):
        elsewhere.inspect(path)


def test_nothing_is_overwritten(mobile, tmp_path):
    (tmp_path / "there.keras").write_bytes(b"")
    with pytest.raises(UsageError, match="there already"):
        elsewhere.convert(mobile, "mobilenet_v3_small", tmp_path / "there.keras")
