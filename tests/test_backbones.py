"""The catalogue keeps its word: every entry that can be built here cuts into blocks that hold each weight once and
freeze one by one, scales pixels as its source does, and comes back from a preset directory as it was saved.

keras.applications by one network of each kind (all 40 with `-m zoo`), keras-hub by a tiny configuration of each
family, with random weights. No network access, no pretrained weights.
"""

import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tlkeras import blocks
from tlkeras.backbones import catalogue, efficientdet, get, keras_applications, keras_hub, yolox
from tlkeras.backbones.keras_hub_presets import presets
from tlkeras.errors import ModelError, UsageError

APPLICATIONS = {entry.name: entry for entry in keras_applications.entries()}
OWN = {entry.name: entry for module in (efficientdet, yolox) for entry in module.entries()}
LEAST = {"inception": 75, "xception": 71}
COMMON = (
    *("densenet121", "efficientnet_b1", "efficientnet_v2_b0", "inception_v3", "mobilenet"),
    *("mobilenet_v2", "mobilenet_v3_small", "resnet50", "resnet50v2", "vgg16", "xception"),
)
FAMILIES = keras_hub.IMAGES
# Features of these need more than the last tensor of a block below; see test_a_cut_needs_one_tensor.
SEVERAL_TENSORS = ("nasnet_mobile", "nasnet_large", "mobilenetv5")


def make(name):
    """(model, boundaries, opened) of an entry of keras.applications or our own, or of a family of keras-hub, at random."""
    import keras

    # Moves Keras' counters on, so that a boundary named by one is not found.
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization(), keras.layers.Activation("relu"), keras.layers.ReLU()
    keras.layers.Add(), keras.layers.Concatenate(), keras.layers.LayerNormalization(), keras.layers.Dropout(0.1)
    if name in APPLICATIONS | OWN:
        entry = (APPLICATIONS | OWN)[name]
        return entry.build((LEAST.get(entry.family, 32),) * 2), entry.blocks, {}
    known = FAMILIES[name]
    model = known.features(known.small())
    return model, known.blocks(model), known.opened


def zoo():
    yield from COMMON
    yield pytest.param("convnext_tiny", marks=pytest.mark.slow)
    yield from ("efficientdet_d0", "yolox_nano")
    here = (*COMMON, "convnext_tiny", "efficientdet_d0", "yolox_nano")
    yield from (pytest.param(n, marks=pytest.mark.zoo) for n in APPLICATIONS | OWN if n not in here)
    yield from FAMILIES


@pytest.fixture(scope="module", params=zoo())
def built(request):
    """A model, the same layers as one flat graph behind a scaling of pixels, its blocks, and images for it."""
    import keras

    model, boundaries, opened = make(request.param)
    inputs = keras.Input(model.inputs[0].shape[1:])
    tensors = blocks.flatten(model, inputs, keras.layers.Rescaling(1 / 255, name="scaling")(inputs), opened)
    cut = blocks.split(inputs, tensors, boundaries)
    flat, x = keras.Model(inputs, tensors[""]), images(model)
    return SimpleNamespace(
        name=request.param,
        model=model,
        boundaries=boundaries,
        tensors=tensors,
        cut=cut,
        flat=flat,
        images=x,
        features=np.asarray(flat(x, training=False)),
    )


def images(model, count=2):
    shape = (count, *model.inputs[0].shape[1:])
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


def features(model, x):
    """The features of pixels already scaled, whatever keras-hub calls the input and the output."""
    import keras

    return np.asarray(keras.tree.flatten(model(keras.tree.map_structure(lambda _: x, model.input), training=False))[0])


def test_blocks_hold_every_weight_once(built):
    held = [id(v) for layers in built.cut.values() for layer in layers for v in layer.weights]
    assert len(held) == len(set(held))
    assert set(held) == {id(v) for v in built.model.weights} == {id(v) for v in built.flat.weights}
    assert all(math.prod(v.shape) for v in built.model.weights)


def test_the_flat_graph_gives_the_same_finite_features(built):
    want = features(built.model, built.images * np.float32(1 / 255))
    assert np.isfinite(built.features).all() and built.features.std() > 0
    np.testing.assert_allclose(built.features, want, atol=2e-5 * np.abs(want).max())


def test_freezing_a_block_takes_its_weights_and_no_others(built):
    everything = {id(v) for v in built.flat.trainable_weights}
    for layers in built.cut.values():
        inner = [x for layer in layers for x in layer._flatten_layers()]
        own = {id(v) for layer in layers for v in layer.trainable_weights}
        for layer in inner:
            layer.trainable = False
        assert {id(v) for v in built.flat.trainable_weights} == everything - own
        for layer in inner:
            layer.trainable = True
    assert {id(v) for v in built.flat.trainable_weights} == everything


def test_blocks_have_names_of_their_own(built):
    names = [block for block, _ in built.boundaries]
    assert len(names) == len(set(names)) >= 2 and "head" not in names


def test_no_block_of_a_family_ends_by_a_counter(built):
    """Those of keras.applications are constants, and `make` moves the counters on before each is built."""
    if built.name in FAMILIES and built.name != "mobilenetv5":  # Its blocks have none but Keras' names; found by place.
        assert make(built.name)[1] == built.boundaries


def test_a_cut_needs_one_tensor(built):
    """What lies above a boundary can be computed from the boundary's tensor alone."""
    import keras

    inside = [built.tensors[end] for _, end in built.boundaries[:-1]]
    if built.name in SEVERAL_TENSORS:
        with pytest.raises(ValueError):
            for tensor in inside:
                keras.Model(tensor, built.tensors[""])
        return
    uppers = [keras.Model(tensor, built.tensors[""]) for tensor in inside]
    middle = len(inside) // 2
    lower = keras.Model(built.flat.inputs, inside[middle])
    got = np.asarray(uppers[middle](lower(built.images, training=False), training=False))
    np.testing.assert_allclose(got, built.features, atol=2e-5 * np.abs(built.features).max())


def test_parameters_are_those_of_the_model(built):
    if built.name in APPLICATIONS | OWN:
        assert built.model.count_params() == (APPLICATIONS | OWN)[built.name].parameters


# keras.applications


def test_every_network_of_keras_applications_is_there():
    import keras

    there = {name for name, value in vars(keras.applications).items() if name[0].isupper() and callable(value)}
    assert {entry.build.args[0] for entry in APPLICATIONS.values()} == there and len(APPLICATIONS) == 40


@pytest.mark.parametrize("name", APPLICATIONS)
def test_pixels_are_scaled_as_keras_does(name):
    import keras

    entry = APPLICATIONS[name]
    module = sys.modules[getattr(keras.applications, entry.build.args[0]).__module__]
    x = np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3), dtype="uint8").astype("float32")
    want = module.preprocess_input(x.copy())
    got = x[..., ::-1] if entry.pixels.channels == "bgr" else x
    got = got * np.float32(entry.pixels.scale) + np.float32(entry.pixels.offset)
    np.testing.assert_allclose(got, want, atol=1e-6 * (want.max() - want.min()))


def test_weights_and_sizes_that_do_not_exist_are_refused():
    with pytest.raises(ModelError, match="'imagenet' and no 'noisy-student'"):
        APPLICATIONS["vgg16"].build((32, 32), "noisy-student")
    with pytest.raises(ModelError, match="31x31"):
        APPLICATIONS["vgg16"].build((31, 31))


# keras-hub


def test_the_table_names_what_keras_hub_ships():
    import keras_hub as hub

    for known in FAMILIES.values():
        ships = {n: facts["kaggle_handle"] for n, facts in getattr(hub.models, known.backbone).presets.items()}
        assert {p.name: p.handle for p in presets() if p.family == known.name and not p.whole} == ships
    assert {p.name for p in presets()} >= set(hub.models.ImageClassifier.presets)


def test_the_catalogue_lists_everything_under_its_own_name():
    assert {*APPLICATIONS, *OWN, *(p.name for p in presets())} <= set(catalogue())
    assert get("resnet_50_imagenet").sources["imagenet"].where == "kaggle://keras/resnetv1/keras/resnet_50_imagenet/3"
    with pytest.raises(UsageError, match="Did you mean resnet50v2"):
        get("resnet50v3")


def test_listing_imports_no_framework():
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from tlkeras.backbones import keras_applications, keras_hub\n"
        "count = len([*keras_applications.entries(), *keras_hub.entries()])\n"
        "print(count, time.perf_counter() - start, *{'tensorflow', 'keras', 'keras_hub', 'numpy'} & set(sys.modules))"
    )
    count, seconds, *imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(count) == 40 + 1 + len(keras_hub.presets()) and not imported
    assert float(seconds) < 0.5  # 0.08 s on a quiet machine.


def test_an_entry_without_its_preset_says_where_its_architecture_is():
    with pytest.raises(ModelError, match="kaggle://keras/vit/keras/vit_base_patch16_224_imagenet/4"):
        get("vit_base_patch16_224_imagenet").build((224, 224))


def test_a_preset_that_keras_hub_files_under_other_weights_offers_none():
    entry = get("efficientnet_el_ra_imagenet")
    assert entry.sources == {} and "files other weights" in entry.description
    with pytest.raises(ModelError, match="another network"):
        entry.build((300, 300), "imagenet")


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request, tmp_path_factory):
    """A tiny backbone of a family saved as a preset, with an image converter of random numbers."""
    import keras_hub as hub

    known, folder = FAMILIES[request.param], tmp_path_factory.mktemp(request.param)
    backbone = known.small()
    backbone.save_to_preset(folder)
    converters = [x for x in vars(hub.layers).values() if getattr(x, "backbone_cls", None) is type(backbone)]
    converter = next(x for x in converters if issubclass(x, hub.layers.ImageConverter))
    random = np.random.default_rng(len(request.param))
    crop, size = bool(random.integers(2)), tuple(int(n) for n in random.integers(8, 40, 2))
    converter = converter(
        image_size=size,
        scale=random.uniform(0.001, 0.1, 3).tolist(),
        offset=float(random.normal()),
        crop_to_aspect_ratio=crop,
        interpolation=("bicubic", "bilinear")[crop],
    )
    converter.save_to_preset(folder)
    return SimpleNamespace(known=known, folder=folder, model=known.features(backbone), converter=converter)


def test_pixels_come_from_the_presets_own_converter(saved):
    pixels = keras_hub.pixels_of(str(saved.folder))
    x = np.random.default_rng(2).integers(0, 256, (2, *pixels.size, 3)).astype("float32")
    want = np.asarray(saved.converter(x))
    assert want.shape == x.shape
    np.testing.assert_allclose(x * pixels.scale + pixels.offset, want, atol=1e-6 * (want.max() - want.min()))
    assert pixels.interpolation == saved.converter.interpolation and pixels.channels == "rgb"
    assert pixels.crop == (1.0 if saved.converter.crop_to_aspect_ratio else None)


def test_a_preset_directory_gets_the_blocks_and_weights_of_its_family(saved):
    entry = keras_hub.from_directory(saved.folder)
    model = entry.build(tuple(saved.model.inputs[0].shape[1:3]), "preset")
    x = images(model) / 255
    np.testing.assert_allclose(features(model, x), features(saved.model, x), atol=1e-6)
    assert [b for b, _ in entry.blocks(model)] == [b for b, _ in saved.known.blocks(saved.model)]
    assert (entry.family, entry.pool, entry.pixels) == (saved.known.name, saved.known.pool, None)


def test_a_preset_is_built_for_other_sizes_where_its_weights_allow(saved):
    height, _ = saved.model.inputs[0].shape[1:3]
    entry = keras_hub.from_directory(saved.folder)
    if saved.known.size is None:
        with pytest.raises(ModelError, match=f"images of {height}x{height} only"):
            entry.build((2 * height, 2 * height), "preset")
        return
    larger = entry.build((2 * height, 2 * height), "preset")
    assert np.isfinite(features(larger, images(larger) / 255)).all()


def test_a_backbone_comes_back_from_its_config(saved):
    """A finished run builds its backbone so, without the preset."""
    import keras

    model = saved.model
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)["config"]))
    again = type(model).from_config(config)
    again.set_weights(model.get_weights())
    x = images(model) / 255
    np.testing.assert_allclose(features(again, x), features(model, x), atol=1e-6)
    assert [b for b, _ in saved.known.blocks(again)] == [b for b, _ in saved.known.blocks(model)]


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "my_vgg"
    FAMILIES["vgg"].small().save_to_preset(folder)
    return folder


def test_a_preset_directory_is_built_at_random_without_weights(vgg):
    entry = keras_hub.from_directory(vgg)
    assert entry.name == "my_vgg" and entry.sources["preset"].where == str(vgg)
    first, second, own = entry.build((32, 32)), entry.build((32, 32)), entry.build((32, 32), "preset")
    kernels = [np.asarray(model.get_layer("block1_conv1").kernel) for model in (first, second, own)]
    assert not np.allclose(kernels[0], kernels[1]) and not np.allclose(kernels[0], kernels[2])


def test_a_catalogue_entry_takes_a_preset_directory_of_its_family_only(vgg):
    assert get("vgg_16_imagenet").build((32, 32), str(vgg)).count_params() < 5000
    with pytest.raises(ModelError, match="holds a VGGBackbone, and a ResNetBackbone is needed"):
        get("resnet_50_imagenet").build((32, 32), str(vgg))


def test_damaged_weights_are_refused(vgg, tmp_path):
    shutil.copytree(vgg, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match="damaged cannot be used"):
        keras_hub.from_directory(tmp_path / "damaged").build((32, 32), "preset")


def test_a_preset_without_converter_says_so(vgg):
    with pytest.raises(ModelError, match="has no image converter"):
        keras_hub.pixels_of(str(vgg))


@pytest.mark.parametrize(
    "config, family",
    [
        ({"model_type": "dinov2_with_registers"}, "dinov2"),
        ({"model_type": "swin"}, "swin_transformer"),
        ({"architecture": "mobilenetv5_300m_enc"}, "mobilenetv5"),
        ({"architecture": "mobilenetv3_small_100"}, "mobilenet"),
        ({"architecture": "cspdarknet53"}, "cspnet"),
        ({"architecture": "darknet53"}, "cspnet"),
    ],
)
def test_other_directories_are_known_by_their_config(tmp_path, config, family):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert keras_hub.identify(tmp_path)[0].name == family
    assert keras_hub.from_directory(tmp_path).family == family


@pytest.mark.parametrize("config", [{"model_type": "wav2vec2"}, {"architecture": "inception_v3"}, {}])
def test_directories_of_other_models_are_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no backbone that is read here"):
        keras_hub.from_directory(tmp_path)


def test_a_config_runs_nothing_from_its_directory(vgg, tmp_path, monkeypatch):
    (tmp_path / "intruder.py").write_text("raise SystemExit('ran')")
    config = json.loads((vgg / "config.json").read_text())
    config["config"]["name"] = {"module": "intruder", "class_name": "Thing", "config": {}, "registered_name": "Thing"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="intruder.Thing"):
        keras_hub.from_directory(tmp_path)
    assert "intruder" not in sys.modules


# Operations


def test_operations_are_counted_as_by_hand():
    import keras

    from tlkeras.backbones.flops import flops

    def of(shape, *layers):
        return flops(keras.Sequential([keras.Input(shape), *layers]))

    assert of((8, 8, 3), keras.layers.Conv2D(5, 3, padding="same")) == 2 * 8 * 8 * 5 * 3 * 3 * 3
    assert of((8, 8, 4), keras.layers.Conv2D(6, 3, 2, "same", groups=2)) == 2 * 4 * 4 * 6 * 3 * 3 * 2
    assert of((8, 8, 4), keras.layers.Conv2DTranspose(6, 2, 2)) == 2 * 8 * 8 * 4 * 2 * 2 * 6
    assert of((8, 8, 4), keras.layers.DepthwiseConv2D(3)) == 2 * 6 * 6 * 4 * 3 * 3
    assert of((3, 7), keras.layers.Dense(5)) == 2 * 3 * 7 * 5
    tokens = keras.Input((6, 8))
    attention = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4, value_dim=3)(tokens, tokens)
    queries, values, output = 6 * 8 * 8, 6 * 8 * 6, 6 * 6 * 8
    assert flops(keras.Model(tokens, attention)) == 2 * (2 * queries + values + 2 * 6 * 6 * 4 + 2 * 6 * 6 * 3 + output)


@pytest.mark.parametrize("name, published", [("mobilenet_v2", 300e6), ("resnet50", 3.86e9)])
def test_operations_agree_with_the_papers(name, published):
    """Multiply-adds at 224 px: 300 M in the paper of MobileNetV2; ResNet-50 with the stride in the first 1x1."""
    from tlkeras.backbones.flops import flops

    assert flops(APPLICATIONS[name].build((224, 224))) / 2 == pytest.approx(published, rel=0.05)


def test_operations_of_an_open_size_are_refused():
    import keras

    from tlkeras.backbones.flops import flops

    with pytest.raises(ModelError, match="fixed size"):
        flops(keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)]))
