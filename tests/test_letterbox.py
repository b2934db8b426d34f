"""Letterboxed pictures keep their shape, and boxes and masks come back in the pixels of the file.

pytest tests/test_letterbox.py
"""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from test_place_tasks import CLASSES, HEAD, TASKS, pyramid, write, write_scenes  # noqa: F401  pyramid is a fixture

import tlkeras
from tlkeras import answers, artefacts, configure, evaluation, network, tasks
from tlkeras.artefacts import saved_model
from tlkeras.backbones import Pixels
from tlkeras.data import images, pictures
from tlkeras.detectors import decode_client
from tlkeras.errors import ConfigError
from tlkeras.run import read_json

PAD = (114.0, 60.0, 20.0)
PIXELS = Pixels(size=(64, 64), pad=PAD)
SHAPES = {"portrait": (96, 50), "landscape": (41, 120), "square": (32, 32), "line": (1, 300), "large": (801, 603)}


def jpeg(image) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_keeps_its_shape_top_left_and_the_rest_is_the_colour(shape):
    height, width = SHAPES[shape]
    image = np.full((height, width, 3), (10, 200, 90), np.uint8)
    found = images.resize(image, PIXELS).numpy()
    high, wide = decode_client.inner(height, width, (64, 64))
    assert max(high, wide) == 64 and abs(high / wide - height / width) <= 1.01 / min(high, wide)
    assert (found[:high, :wide] == (10, 200, 90)).all()
    assert (found[high:] == PAD).all() and (found[:, wide:] == PAD).all()
    np.testing.assert_array_equal(images.fit(image, PIXELS), found)


def test_numpy_and_the_graph_round_alike():
    rng = np.random.default_rng(0)
    for size in ((64, 64), (416, 640), (511, 513)):
        for sides in rng.integers(1, 5000, (200, 2)):
            assert tuple(images.inner(sides, size).numpy()) == decode_client.inner(*sides.tolist(), size)
    # What a quotient of floats would round one too low.
    assert decode_client.inner(49, 7, (512, 512)) == (512, 73) and decode_client.inner(600, 600, (512, 512)) == (
        512,
        512,
    )


@pytest.mark.parametrize("shape", ["portrait", "landscape", "large"])
def test_a_jpeg_that_is_decoded_smaller_ends_at_the_same_pixel(shape):
    height, width = (side * 4 + 3 for side in SHAPES[shape])
    file = jpeg(np.full((height, width, 3), (10, 200, 90), np.uint8))
    found = images.load(file, PIXELS, jpeg=True).numpy().astype(int)
    high, wide = decode_client.inner(height, width, (64, 64))
    assert np.abs(found[:high, :wide] - (10, 200, 90)).max() <= 3
    assert (found[high:] == PAD).all() and (found[:, wide:] == PAD).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_go_there_and_back_to_the_pixel(shape):
    height, width = SHAPES[shape]
    boxes = np.array([[0, 0, width, height], [width * 0.2, height * 0.1, width * 0.7, height * 0.9]])
    row = {"size": (height, width), "boxes": boxes, "classes": np.array([0, 0]), "crowd": np.zeros(2, bool)}
    task = tasks.get("object-detection")
    answer = {"classes": ["a"], "threshold": 0.0, "letterbox": [64, 64]}
    learnt, _, _ = task.learnt([row], [0], answer, task.Options())
    high, wide = decode_client.inner(height, width, (64, 64))
    np.testing.assert_allclose(learnt[0, 0, :4], [0, 0, wide / 64, high / 64])
    found = np.concatenate([learnt[0], np.ones((2, 1))], 1)
    back = [one["box"] for one in task.decode(found, answer, (height, width))["boxes"]]
    np.testing.assert_allclose(back, boxes, atol=0.01)
    served = task.serving(found[None].astype("float32"), answer, np.array([[height, width]], np.int32))
    np.testing.assert_allclose(served["boxes"][0], boxes, atol=1e-3 * max(height, width))


def test_a_mask_is_void_beside_its_picture_and_comes_back_without_it(tmp_path):
    import tensorflow as tf

    numbers = np.zeros((90, 40), np.uint8)
    numbers[10:60, 5:30] = 3
    Image.fromarray(numbers).save(tmp_path / "m.png")
    table = pictures.Table(["-"], np.array([str(tmp_path / "m.png")]), np.ones(1, "f"), np.zeros(1, int), ["-"])
    small = pictures.answering(table, PIXELS)(tf.constant([0]))[0][0].numpy()
    high, wide = decode_client.inner(90, 40, (64, 64))
    assert (small[:, wide:] == 255).all() and (high, wide) == (64, 28) and set(np.unique(small[:, :wide])) == {0, 3}
    back = decode_client.in_picture(small, (90, 40), (64, 64))
    assert back.shape == (90, 40) and (back != numbers).mean() < 0.05 and not (back == 255).any()


def test_pixels_beside_a_picture_change_no_loss():
    task = tasks.get("semantic-segmentation")
    y, raw = np.zeros((1, 8, 8), np.uint8), np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("f")
    y[:, :, 5:] = 255
    other = raw.copy()
    other[:, :, 5:] = 9
    loss = task.loss(task.Options())
    assert float(loss(y, raw)) == pytest.approx(float(loss(y, other)))


# --- From config to artefact


@pytest.fixture(scope="module")
def tall(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("tall"), {"train": 24, "val": 4, "test": 6}, wide=64, high=128)


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tmp_path_factory, tall, pyramid):  # noqa: F811
    folder = tmp_path_factory.mktemp("runs")
    # Of a backbone with random weights boxes are not found without training it too.
    phase = HEAD if request.param == "masks" else {**HEAD, "train": ["all"], "epochs": 16, "learning_rate": 0.006}
    given = {"backbone": {"name": str(pyramid), "resize": "letterbox"}, "train": {"batch": 8, "phases": [phase]}}
    run = tlkeras.train(
        write(folder / "c.yaml", tall, pyramid, TASKS[request.param], **given), folder / "r", quiet=True
    )
    evaluation.evaluate(run.folder, quiet=True)
    return request.param, run


def test_a_run_learns_and_knows_how_its_pictures_were_laid(trained, tall):
    kind, run = trained
    assert read_json(run.backbone)["input"]["pad"] == [114.0] * 3
    assert read_json(run.manifest)["answer"]["letterbox"] == [64, 64]
    found = read_json(run.metrics)["test"]
    assert found["metrics"][found["main"]] > {"boxes": 0.01, "masks": 0.35}[kind]
    table, _ = evaluation.read_predictions(run.predictions("test"))
    assert set(table["height"]) == {128} and set(table["width"]) == {64}
    if kind == "masks":  # every pixel of the file is judged once, and none beside it
        assert {int(np.sum(counts)) for counts in table["counts"]} == {128 * 64}


def test_the_saved_model_says_what_predict_says_in_pixels_of_the_file(trained, tall):
    kind, run = trained
    rows = artefacts.export(run.folder, ["saved_model", "tflite"], quiet=True)
    assert [r["drop"] for r in rows] == [0, 0]
    files = [str(p) for p in sorted((tall / "images").glob("*.png"))[-3:]]
    wide = Image.open(files[0]).rotate(90, expand=True)
    wide.save(tall / "wide.png")
    files.append(str(tall / "wide.png"))
    said = answers.predict(run.folder, files, quiet=True)
    served = saved_model.load(run.artefact("saved_model"))([Path(f).read_bytes() for f in files])
    for n, (file, one) in enumerate(zip(files, said, strict=True)):
        width, height = Image.open(file).size
        if kind == "boxes":
            n_boxes = len(one["boxes"])
            assert n_boxes
            np.testing.assert_allclose(served["boxes"][n][:n_boxes], [b["box"] for b in one["boxes"]], atol=0.02)
            assert max(b["box"][3] for b in one["boxes"]) <= height
        else:
            from tlkeras import mask_metrics

            high, broad = served["shown"][n]
            assert one["size"] == [height, width] and (high, broad) == decode_client.inner(height, width, (64, 64))
            same = decode_client.in_picture(served["mask"][n], (height, width), (64, 64))
            np.testing.assert_array_equal(mask_metrics.unrun(one["mask"], one["size"]), same)
    assert (run.artefact("tflite") / "decode.py").is_file()
    contract = read_json(run.artefact("tflite") / "contract.json")
    assert contract["answer"]["letterbox"] == [64, 64] and contract["input"]["pad"] == [114.0] * 3


# --- Which way is taken


def config_of(tmp_path, task="object-detection", **backbone):
    given = {"task": task, "data": {"path": "none"}, "backbone": backbone}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given))
    return configure.load(tmp_path / "c.yaml")[0]


def test_checkpoints_of_yolox_and_efficientdet_see_what_they_were_trained_on(tmp_path):
    whole = {"name": "yolox_nano", "weights": "nano.pth"}
    assert network.contract(config_of(tmp_path, **whole)).pad == (114.0,) * 3
    efficientdet = network.contract(config_of(tmp_path, name="efficientdet_d0", weights="d0.pth"))
    assert efficientdet.pad == (124.0, 116.0, 104.0)
    assert network.contract(config_of(tmp_path, **whole, resize="squash")).pad is None
    assert network.contract(config_of(tmp_path, name="yolox_nano", weights=None)).pad is None
    assert network.contract(config_of(tmp_path, "semantic-segmentation", **whole)).pad is None
    assert network.contract(config_of(tmp_path, name="efficientnet_lite0")).pad is None


def test_any_backbone_and_classification_take_it_with_any_grey(tmp_path):
    asked = {"name": "efficientnet_lite0", "resize": "letterbox"}
    assert network.contract(config_of(tmp_path, **asked)).pad == (114.0,) * 3
    found = network.contract(config_of(tmp_path, "image-classification", **asked, pad=0))
    assert found.pad == (0.0,) * 3 and found.crop is None
    assert (images.resize(np.full((10, 20, 3), 9, np.uint8), found).numpy()[-1] == 0).all()
    with pytest.raises(ConfigError, match=r"pad is the grey beside letterboxed images"):
        config_of(tmp_path, name="efficientnet_lite0", resize="crop", pad=0)


@pytest.mark.oracle
def test_pictures_end_where_effdet_ends_them():
    """effdet/data/transforms.py, ResizePad: int(side * min(target / side))."""
    for height, width in np.random.default_rng(1).integers(20, 3000, (500, 2)).tolist():
        scale = min(512 / height, 512 / width)
        theirs = int(height * scale), int(width * scale)
        ours = decode_client.inner(height, width, (512, 512))
        assert all(a - b in (0, 1) for a, b in zip(ours, theirs, strict=True)) and max(ours) == 512
