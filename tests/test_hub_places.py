"""keras-hub's detectors and segmenters: their image encoders as backbones, SegFormer's decoder, and answers to pictures
by presets that are not trained here. Tiny random presets on disk; keras-hub itself is the oracle."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tlkeras import network, tasks
from tlkeras.backbones import catalogue, keras_hub, keras_hub_places
from tlkeras.backbones.keras_hub_presets import presets
from tlkeras.config import Config
from tlkeras.errors import ModelError

SIZE = 64


def randomised(model, seed=0):
    """Every weight another number, BatchNorm's statistics too, so that nothing fits by being 0 or 1."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        v.assign(rng.uniform(0.5, 1.5, v.shape) if "variance" in v.path else rng.normal(0, 0.15, v.shape))
    return model


def resnet(**config):
    import keras_hub as hub

    return hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        **config,
    )


def segformer(classes):
    import keras_hub as hub

    mit = hub.models.MiTBackbone(
        layerwise_depths=[1, 1, 1, 1],
        num_layers=4,
        layerwise_num_heads=[1, 2, 2, 2],
        layerwise_sr_ratios=[4, 2, 1, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        hidden_dims=[8, 16, 24, 32],
        image_shape=(SIZE, SIZE, 3),
    )
    body = hub.models.SegFormerBackbone(image_encoder=mit, projection_filters=32)
    converter = hub.layers.SegFormerImageConverter(image_size=(SIZE, SIZE), scale=1 / 127.5, offset=-1.0)
    return hub.models.SegFormerImageSegmenter(
        backbone=body,
        num_classes=classes,
        preprocessor=hub.models.SegFormerImageSegmenterPreprocessor(image_converter=converter),
    )


def deeplab():
    import keras_hub as hub

    body = hub.models.DeepLabV3Backbone(
        image_encoder=resnet(),
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[1, 2],
        low_level_feature_key="P2",
        projection_filters=8,
        image_shape=(SIZE, SIZE, 3),
    )
    converter = hub.layers.DeepLabV3ImageConverter(image_size=(SIZE, SIZE), scale=1 / 127.5, offset=-1.0)
    return hub.models.DeepLabV3ImageSegmenter(
        backbone=body,
        num_classes=3,
        preprocessor=hub.models.DeepLabV3ImageSegmenterPreprocessor(image_converter=converter),
    )


def retinanet():
    import keras_hub as hub

    body = hub.models.RetinaNetBackbone(
        image_encoder=resnet(), min_level=3, max_level=7, use_p5=False, image_shape=(SIZE, SIZE, 3)
    )
    converter = hub.layers.RetinaNetImageConverter(
        image_size=(SIZE, SIZE), scale=1 / 127.5, offset=-1.0, pad_to_aspect_ratio=True, crop_to_aspect_ratio=False
    )
    return hub.models.RetinaNetObjectDetector(
        backbone=body,
        num_classes=3,
        bounding_box_format="xyxy",
        preprocessor=hub.models.RetinaNetObjectDetectorPreprocessor(image_converter=converter),
    )


MODELS = {"segformer": lambda: segformer(3), "deeplab": deeplab, "retinanet": retinanet}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """(name) -> (a task of keras-hub, the directory it was saved to)."""
    import keras

    kept = {}

    def of(name):
        if name not in kept:
            keras.utils.set_random_seed(1)
            model = randomised(MODELS[name]())
            folder = tmp_path_factory.mktemp("presets") / name
            model.save_to_preset(str(folder))
            kept[name] = model, folder
        return kept[name]

    return of


def config(folder, **task):
    task = {"name": "semantic-segmentation", "decoder": "segformer", "width": 16, "dropout": 0.0, **task}
    return Config.model_validate({"task": task, "data": {"path": "x"}, "backbone": {"name": str(folder)}})


ANSWER = {"classes": ["ground", "disc", "square"], "ignore": 255}


def relative(got, want) -> float:
    return float(np.abs(np.asarray(got) - np.asarray(want)).max() / np.abs(np.asarray(want)).max())


# Encoders as backbones


@pytest.mark.parametrize("name", MODELS)
def test_the_encoder_comes_out_with_its_weights_at_any_size(preset, name):
    model, folder = preset(name)
    entry = keras_hub.from_directory(folder)
    assert entry.family == ("mit" if name == "segformer" else "resnet") and model.backbone.name not in entry.description
    built = entry.build((96, 96), "preset")
    assert built.inputs[0].shape[1:] == (96, 96, 3)
    for got, want in zip(built.get_weights(), model.backbone.image_encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)
    other = entry.build((96, 96), None).get_weights()
    assert any((a != b).any() for a, b in zip(other, built.get_weights(), strict=True))
    pixels = keras_hub.pixels_of(str(folder))
    assert pixels.size == (SIZE, SIZE) and pixels.range == "-1..1 rgb"


def test_the_encoder_is_built_again_without_the_preset(preset):
    _, folder = preset("deeplab")
    built = keras_hub.from_directory(folder).build((64, 64), "preset")
    again = keras_hub.from_config(keras_hub.configured(built))
    again.set_weights(built.get_weights())
    x = np.random.default_rng(0).normal(0, 1, (1, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(again(x, training=False), built(x, training=False))


def test_an_encoder_that_is_no_backbone_here_is_refused(preset, tmp_path):
    _, folder = preset("deeplab")
    about = json.loads((folder / "config.json").read_text())
    about["config"]["image_encoder"]["registered_name"] = "keras_hub>OtherBackbone"
    about["config"]["image_encoder"]["class_name"] = "OtherBackbone"
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="DeepLabV3Backbone on OtherBackbone"):
        keras_hub.from_directory(tmp_path)


def test_the_catalogue_lists_the_presets_that_keras_hub_ships():
    import keras_hub as hub

    for kind in keras_hub_places.WHOLE:
        # SegFormer's are registered with the task.
        cls = hub.models.SegFormerImageSegmenter if kind == "SegFormerBackbone" else getattr(hub.models, kind)
        ships = {n: facts["kaggle_handle"] for n, facts in cls.presets.items()}
        assert {p.name: p.handle for p in presets() if p.whole == kind} == ships
    assert not catalogue()["segformer_b1_cityscapes_1024"].sources  # keras-hub files another preset under its name
    assert catalogue()["segformer_b0_ade20k_512"].family == "mit"


# SegFormer's decoder


@pytest.mark.parametrize("classes", [3, 2])
def test_segformers_decoder_gives_what_keras_hub_gives(preset, classes):
    import keras

    model, folder = preset("segformer")
    net = network.build(config(folder), {**ANSWER, "classes": ANSWER["classes"][:classes]})
    assert net.backbone["new"] == ([] if classes == 3 else ["head_logits"])
    pixels = np.random.default_rng(2).integers(0, 256, (2, SIZE, SIZE, 3)).astype("float32")
    # The converter by itself: inside a model it would switch BatchNorm to training.
    scaled = np.asarray(model.preprocessor.image_converter(pixels))
    if classes == 3:
        want = model(scaled, training=False)
        got = net.model(pixels, training=False)
    else:
        want = model.backbone(scaled, training=False)
        got = keras.Model(net.model.inputs, net.model.get_layer("neck_joined_relu").output)(pixels, training=False)
    assert relative(got, want) < 1e-5


def test_a_decoder_of_another_width_begins_at_random(preset):
    _, folder = preset("segformer")
    assert "new" not in network.build(config(folder, width=8), ANSWER).backbone
    assert "new" not in network.build(config(folder, stride=8), ANSWER).backbone
    assert "new" not in network.build(config(folder, decoder="unet", width=8), ANSWER).backbone
