"""keras-hub's detectors and segmenters: their image encoders as backbones, SegFormer's decoder, and answers to pictures
by presets that are not trained here. Tiny random presets on disk; keras-hub itself is the oracle."""

import json
import shutil

import numpy as np
import pytest

import tlkeras
from tlkeras import data, mask_metrics, network
from tlkeras.backbones import catalogue, keras_hub, keras_hub_places
from tlkeras.backbones.keras_hub_presets import presets
from tlkeras.config import Config
from tlkeras.errors import ModelError, UsageError

SIZE = 64


def randomised(model, seed=0):
    """Every weight another number, BatchNorm's too, so that nothing fits by being 0 or 1; what flows through stays small."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        if v.path.endswith(("variance", "gamma")):
            v.assign(rng.uniform(0.5, 1.5, v.shape))
        else:
            v.assign(rng.normal(0, 1 / np.sqrt(np.prod(v.shape[:-1])) if len(v.shape) > 1 else 0.1, v.shape))
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


def segformer():
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
        num_classes=3,
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


ENCODERS = ("segformer", "deeplab", "retinanet")


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


@pytest.mark.parametrize("name", ENCODERS)
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
    about = network.build(config(folder, width=8), ANSWER).backbone
    assert "new" not in about
    # A stranger who asks for a SegFormer expects that it is one: what is not taken is said.
    assert "begins at random: that of the preset is `decoder: segformer, width: 16, stride: 4`" in about["random"]
    assert about["random"].endswith("asks for decoder segformer, width 8, stride 4")
    assert "random" not in network.build(config(folder), ANSWER).backbone
    about = json.loads((folder / "config.json").read_text())
    assert keras_hub_places.decoder(folder, about, 16) and not keras_hub_places.decoder(folder, about, 8)


# Answers of presets as they come


def sam():
    import keras_hub as hub

    body = hub.models.SAMBackbone(
        image_encoder=hub.models.ViTDetBackbone(
            hidden_size=16,
            num_layers=2,
            intermediate_dim=32,
            num_heads=2,
            global_attention_layer_indices=[1],
            patch_size=16,
            num_output_channels=8,
            window_size=2,
            image_shape=(SIZE, SIZE, 3),
        ),
        prompt_encoder=hub.layers.SAMPromptEncoder(
            hidden_size=8, image_embedding_size=(4, 4), input_image_size=(SIZE, SIZE), mask_in_channels=16
        ),
        mask_decoder=hub.layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=8,
            intermediate_dim=16,
            num_heads=2,
            embedding_dim=8,
            num_multimask_outputs=3,
            iou_head_depth=2,
            iou_head_hidden_dim=8,
        ),
    )
    converter = hub.layers.SAMImageConverter(
        image_size=(SIZE, SIZE), scale=1 / 127.5, offset=-1.0, pad_to_aspect_ratio=True, crop_to_aspect_ratio=False
    )
    return hub.models.SAMImageSegmenter(
        backbone=body, preprocessor=hub.models.SAMImageSegmenterPreprocessor(image_converter=converter)
    )


def basnet():
    import keras_hub as hub

    body = hub.models.BASNetBackbone(image_encoder=resnet(), num_classes=1, image_shape=(SIZE, SIZE, 3))
    converter = hub.layers.BASNetImageConverter(image_size=(SIZE, SIZE), scale=1 / 255, crop_to_aspect_ratio=False)
    return hub.models.BASNetImageSegmenter(
        backbone=body, preprocessor=hub.models.BASNetPreprocessor(image_converter=converter)
    )


def dfine():
    import keras_hub as hub

    stages = {"out_features": ["stage3", "stage4"], "image_shape": (SIZE, SIZE, 3)}
    encoder = hub.models.HGNetV2Backbone(
        stem_channels=[3, 4, 4],
        stackwise_stage_filters=[[4, 4, 8, 1, 1, 3], [8, 4, 8, 1, 1, 3], [8, 4, 16, 1, 1, 3], [16, 8, 16, 1, 1, 3]],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        embedding_size=4,
        use_learnable_affine_block=True,
        hidden_act="relu",
        **stages,
    )
    body = hub.models.DFineBackbone(
        backbone=encoder,
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=0,
        num_labels=4,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=10,
        anchor_image_size=(SIZE, SIZE),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[16, 16],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=16,
        num_encoder_layers=1,
        hidden_expansion=0.34,
        depth_multiplier=0.34,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=8,
        num_lqe_layers=2,
        **stages,
    )
    converter = hub.layers.DFineImageConverter(image_size=(SIZE, SIZE), scale=1 / 255, crop_to_aspect_ratio=False)
    return hub.models.DFineObjectDetector(
        backbone=body,
        num_classes=4,
        bounding_box_format="yxyx",
        preprocessor=hub.models.DFineObjectDetectorPreprocessor(image_converter=converter),
    )


MODELS = {
    "segformer": segformer,
    "deeplab": deeplab,
    "retinanet": retinanet,
    "sam": sam,
    "basnet": basnet,
    "dfine": dfine,
}


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A picture twice as wide as high that its EXIF says lies on its side: upright it is 60x120."""
    from PIL import Image

    path = tmp_path_factory.mktemp("photos") / "lying.jpg"
    pixels = np.random.default_rng(4).integers(0, 256, (6, 12, 3)).astype("uint8")
    image, exif = Image.fromarray(pixels).resize((120, 60)), Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    return path


def upright(path):
    return np.asarray(data.picture(path), "float32")[None]


@pytest.mark.parametrize("name", ["segformer", "deeplab", "basnet"])
def test_masks_are_those_of_keras_hub_laid_over_the_whole_picture(preset, photo, name):
    model, folder = preset(name)
    (answer,) = tlkeras.find(folder, [photo], classes=None)
    assert answer["size"] == [120, 60]
    mask = mask_metrics.unrun(answer["mask"], answer["size"])
    pixels = upright(photo)
    if name != "basnet":  # padded to a square, since its converter would have cut the picture to one
        pixels = np.pad(pixels, ((0, 0), (0, 0), (30, 30), (0, 0)))
    raw = np.asarray(model(model.preprocessor.image_converter(pixels), training=False))[0]
    want = raw.argmax(-1) if name != "basnet" else (raw[..., 0] > 0.5).astype(int)
    want = np.repeat(np.repeat(want, 2, 0), 2, 1)  # far enough apart from rounding to be compared by share
    rows, cols = np.arange(120) * 64 // 120, np.arange(120 if name != "basnet" else 60)
    want = want[::2, ::2][rows][:, cols * 64 // len(cols)]
    want = want[:, 30:90] if name != "basnet" else want
    assert (mask == want).mean() > 0.95
    assert set(answer["shares"]) <= ({"class 0", "class 1", "class 2"} if name != "basnet" else {"ground", "thing"})


@pytest.mark.parametrize("name", ["retinanet", "dfine"])
def test_the_surest_box_is_that_of_keras_hub_in_pixels_of_the_picture(preset, photo, name):
    model, folder = preset(name)
    (answer,) = tlkeras.find(folder, [photo], threshold=0.0)
    best = answer["boxes"][0]
    x = model.preprocessor.image_converter(upright(photo))
    model.prediction_decoder.confidence_threshold = 0.0
    found = model.decode_predictions(model(x, training=False), x)
    box = np.asarray(found["boxes"])[0, 0]
    box = box if name == "retinanet" else box[[1, 0, 3, 2]]
    # RetinaNet's picture is padded from 60x120 to 120x120; D-FINE's is squashed.
    box = box * 120 / 64 - [30, 0, 30, 0] if name == "retinanet" else box * np.array([60, 120, 60, 120]) / 64
    np.testing.assert_allclose(best["box"], box.clip(0, [60, 120, 60, 120]), atol=0.1)
    assert best["score"] == pytest.approx(float(np.asarray(found["confidence"])[0, 0].max()), abs=1e-4)
    assert best["label"] == f"class {int(np.asarray(found['labels'])[0, 0])}"


def test_sam_outlines_what_a_box_or_points_mean(preset, photo):
    import tensorflow as tf

    model, folder = preset("sam")

    def asked(**prompts):
        prompts = {k: tf.convert_to_tensor(v, "float32") for k, v in prompts.items()}
        return {k: v.numpy() for k, v in model(model._add_placeholder_prompts(prompts), training=False).items()}

    boxes = [(5, 10, 30, 50), (20, 60, 50, 110)]
    both = tlkeras.find(folder, [photo], boxes=boxes)[0]
    each = [tlkeras.find(folder, [photo], boxes=[b])[0] for b in boxes]
    np.testing.assert_allclose(both["scores"], [e["scores"][0] for e in each], atol=1e-5)
    masks = [mask_metrics.unrun(e["mask"], e["size"]) for e in each]
    mask = mask_metrics.unrun(both["mask"], both["size"])
    assert mask.shape == (120, 60) and ((mask > 0) == ((masks[0] > 0) | (masks[1] > 0))).mean() > 0.999

    # keras-hub's own answer to the first, in the pixels of its padded input.
    x = model.preprocessor.image_converter(upright(photo))
    prompt = ((np.array(boxes[0]).reshape(2, 2) + [30, 0]) * 64 / 120)[None, None].astype("float32")
    raw = asked(images=x, boxes=prompt)
    assert both["scores"][0] == pytest.approx(float(raw["iou_pred"][0, 0]), abs=1e-4)
    small = raw["masks"][0, 0] > 0
    rows, cols = np.arange(120) * 16 // 120, (np.arange(60) + 30) * 16 // 120
    assert (small[rows][:, cols] == masks[0]).mean() > 0.8  # nearest against bilinear at the rims

    one = tlkeras.find(folder, [photo], points=[(30, 60)])[0]
    points = np.array([[[30 + 30, 60], [0, 0]]]) * 64 / 120
    raw = asked(images=x, points=points, labels=np.array([[1, -1]]))
    assert one["scores"][0] == pytest.approx(float(raw["iou_pred"][0, 1:].max()), abs=1e-4)
    two = tlkeras.find(folder, [photo], points=[(30, 60), (3, 3, 0)])[0]
    assert two["scores"] != one["scores"]


def test_prompts_that_cannot_be_meant_are_named(preset, photo):
    sam, others = preset("sam")[1], preset("deeplab")[1]
    with pytest.raises(UsageError, match="give points or boxes"):
        tlkeras.find(sam, [photo])
    with pytest.raises(UsageError, match="DeepLabV3ImageSegmenter finds things by itself"):
        tlkeras.find(others, [photo], points=[(1, 1)])
    with pytest.raises(UsageError, match=r"box \(9, 0, 3, 4\)(.|\n)*not part of the thing|point(.|\n)*box"):
        tlkeras.find(sam, [photo], points=[(1,)], boxes=[(9, 0, 3, 4)])
    with pytest.raises(UsageError, match="one must lie on it"):
        tlkeras.find(sam, [photo], points=[(1, 1, 0)])
    (answer,) = tlkeras.find(sam, [photo], points=[(100, 5)])
    assert "the picture is 60x120" in answer["error"]
    with pytest.raises(UsageError, match="has 3 classes; received the names of 2"):
        tlkeras.find(others, [photo], classes=["a", "b"])


def test_presets_of_other_kinds_are_refused(preset, photo, tmp_path):
    resnet(image_shape=(32, 32, 3)).save_to_preset(str(tmp_path / "resnet"))
    with pytest.raises(ModelError, match="ResNetBackbone; presets that answer as they come: SAMBackbone"):
        tlkeras.find(tmp_path / "resnet", [photo])
    with pytest.raises(UsageError, match="no directory, no handle"):
        tlkeras.find("sam_bass_sa1b", [photo])
    shutil.copytree(preset("deeplab")[1], tmp_path / "bare")
    (tmp_path / "bare" / "task.json").unlink()
    with pytest.raises(ModelError, match="holds the backbone alone"):
        tlkeras.find(tmp_path / "bare", [photo])
    (tmp_path / "foreign").mkdir()
    config = json.loads((preset("basnet")[1] / "config.json").read_text())
    config["config"]["refinement_head"]["config"]["layers"][-1]["class_name"] = "Lambda"
    (tmp_path / "foreign" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="Lambda"):
        tlkeras.find(tmp_path / "foreign", [photo])


def test_the_shell_answers_and_draws(preset, photo, tmp_path):
    from click.testing import CliRunner

    from tlkeras.cli import main

    def run(*words):
        return CliRunner().invoke(main, ["find", *map(str, words)])

    done = run(preset("sam")[1], photo, "--box", "5,10,30,50", "--draw", tmp_path / "sam", "--json")
    answer = json.loads(done.stdout)["data"][0]
    assert done.exit_code == 0 and answer["size"] == [120, 60] and len(answer["scores"]) == 1
    assert (tmp_path / "sam" / "lying.png").is_file() and (tmp_path / "sam" / "lying.mask.png").is_file()
    (tmp_path / "names.txt").write_text("cat\ndog\nfox\n")
    more = "--threshold", "0", "--classes", tmp_path / "names.txt", "--draw", tmp_path / "boxes"
    done = run(preset("retinanet")[1], photo, tmp_path / "absent.jpg", *more)
    assert done.exit_code == 3 and "there is no such file" in done.stdout
    assert any(name in done.stdout for name in ("cat", "dog", "fox")) and (tmp_path / "boxes" / "lying.png").is_file()
    assert "numbers between commas" in run(preset("sam")[1], photo, "--point", "a,b").stderr
