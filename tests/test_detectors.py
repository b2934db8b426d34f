"""Detectors of every kind: they learn to find coloured squares, suppress exactly, and leave for TFLite and clients.

On a backbone of four convolutions.

    pytest tests/test_detectors.py
"""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from tlkeras import detectors
from tlkeras.detectors import decode_client, scales
from tlkeras.errors import ModelError, UsageError

SIDE = 64
SMALL = {
    "retinanet": {"width": 24, "depth": 1},
    "efficientdet": {"width": 24, "cells": 1, "depth": 1},
    "yolox": {"width": 0.0625, "depth": 0.33},
}
STEPS = {"retinanet": 50, "efficientdet": 60, "yolox": 80}


def features(pixels, widths=(16, 24, 32)):
    """Maps of strides 8, 16 and 32."""
    from keras import layers

    x = layers.Rescaling(1 / 127.5, -1.0)(pixels)
    for width in (8, 12):
        x = layers.Conv2D(width, 3, 2, "same", activation="relu")(x)
    found = []
    for width in widths:
        x = layers.Conv2D(width, 3, 2, "same", activation="relu")(x)
        found.append(x)
    return found


def build(kind, size=(SIDE, SIDE), classes=2, scale=None):
    import keras

    inputs = keras.Input((*size, 3), name="pixels")
    return keras.Model(inputs, detectors.raw(kind, features(inputs), size, classes, scale or SMALL[kind]), name=kind)


def squares(count=8):
    """Images with a red or a blue square each, and the rows that a loss takes, with a padded one."""
    rng = np.random.default_rng(0)
    x = rng.normal(128, 10, (count, SIDE, SIDE, 3)).astype("float32")
    y = np.full((count, 2, 5), -1, "float32")
    for image, rows in zip(x, y, strict=True):
        side, colour = rng.integers(SIDE // 3, SIDE // 2), rng.integers(2)
        left, top = rng.integers(0, SIDE - side, 2)
        image[top : top + side, left : left + side] = ((220, 30, 30), (30, 30, 220))[colour]
        rows[0] = [left / SIDE, top / SIDE, (left + side) / SIDE, (top + side) / SIDE, colour]
    return x, y


@pytest.fixture(scope="module", params=detectors.DETECTORS)
def trained(request):
    import keras

    keras.utils.set_random_seed(1)
    kind, (x, y) = request.param, squares()
    model = build(kind)
    model.compile(keras.optimizers.Adam(3e-3), loss=detectors.loss(kind))
    losses = model.fit(x, y, batch_size=8, epochs=STEPS[kind], verbose=0).history["loss"]
    return SimpleNamespace(kind=kind, model=model, x=x, y=y, losses=losses, raw=model.predict(x, verbose=0))


def test_a_detector_learns_where_squares_are_and_of_which_colour(trained):
    first, *_, last = trained.losses
    assert last < 0.5 * first
    found = np.asarray(detectors.finish(trained.kind, trained.raw))
    best = found[:, 0]
    for row, want in zip(best, trained.y[:, 0], strict=True):
        assert decode_client.overlap(row[:4], want[None, :4])[0] > 0.5
    np.testing.assert_array_equal(best[:, 4], trained.y[:, 0, 4])


def test_raw_begins_with_constants_that_parts_gives_too(trained):
    _, locations = detectors.parts(trained.kind, trained.model)
    np.testing.assert_array_equal(trained.raw[..., :4], np.tile(locations, (len(trained.x), 1, 1)))


def test_a_client_finds_the_same_boxes_in_the_parts(trained):
    model, locations = detectors.parts(trained.kind, trained.model)
    offsets, scores = model.predict(trained.x, verbose=0)
    assert scores.min() >= 0 and scores.max() <= 1 and scores.shape[-1] == 2
    found = np.asarray(detectors.finish(trained.kind, trained.raw, most=20))
    for rows, *parts in zip(found, offsets, scores, strict=True):
        got = decode_client.decode(locations, *parts, most=20)
        assert len(got) == (rows[:, 4] >= 0).sum() > 0
        np.testing.assert_allclose(got, rows[: len(got)], atol=1e-5)


def test_a_client_refuses_arrays_of_other_shapes():
    with pytest.raises(ValueError, match=r"of one image. Got \(3, 4\), \(1, 3, 4\) and \(3, 2\)"):
        decode_client.decode(np.zeros((3, 4)), np.zeros((1, 3, 4)), np.zeros((3, 2)))


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The SavedModel and the TFLite file of network and `finish` together, for one image."""
    import tensorflow as tf

    folder = str(tmp_path_factory.mktemp(trained.kind))

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), name="pixels")], autograph=False)
    def forward(pixels):
        return {"boxes": detectors.finish(trained.kind, trained.model(pixels, training=False), most=20)}

    module = tf.Module()
    module.held = [v.value for v in trained.model.variables]
    module.forward = forward
    tf.saved_model.save(module, folder, signatures=forward)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return SimpleNamespace(folder=folder, lite=converter.convert())


def test_artefacts_of_builtin_operators_find_the_same_boxes(trained, exported):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=exported.lite)
    lite = interpreter.get_signature_runner()
    assert not [op for op in interpreter._get_ops_details() if "Flex" in op["op_name"] or "CUSTOM" in op["op_name"]]
    loaded = tf.saved_model.load(exported.folder)
    want = np.asarray(detectors.finish(trained.kind, trained.raw, most=20))
    for n in range(3):
        image = trained.x[n : n + 1]
        np.testing.assert_allclose(lite(pixels=image)["boxes"][0], want[n], atol=2e-5)
        np.testing.assert_allclose(loaded.signatures["serving_default"](pixels=image)["boxes"][0], want[n], atol=2e-5)


def test_no_artefact_carries_a_matrix_of_candidates(trained, exported):
    assert len(exported.lite) < 4 * trained.model.count_params() + 400_000


# What is built


@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_layers_say_whether_they_are_of_the_neck_or_the_head(kind):
    import keras

    inputs = keras.Input((64, 96, 3))
    given = features(inputs)
    before = {id(x) for x in keras.Model(inputs, given).layers}
    model = keras.Model(inputs, detectors.raw(kind, given, (64, 96), 3, SMALL[kind]))
    added = [x.name for x in model.layers if id(x) not in before]
    assert all(name.startswith(("neck_", "head_")) for name in added)
    assert {name[:5] for name in added} == {"neck_", "head_"}
    assert not [op.name for op in model.operations if not isinstance(op, keras.layers.Layer)]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_raw_outputs_are_float32_whatever_the_precision(kind, policy):
    from tlkeras.network import dtype_policy

    with dtype_policy(policy):
        model = build(kind)
    assert model.output.dtype == "float32"
    x, y = squares(2)
    raw = model(x, training=False)
    assert raw.dtype == "float32" and np.isfinite(np.asarray(detectors.loss(kind)(y, raw))).all()


@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_a_saved_detector_comes_back(kind, tmp_path):
    import keras

    import tlkeras.detectors.layers  # noqa: F401

    model = build(kind)
    model.compile("sgd", loss=detectors.loss(kind, box_weight=2.0))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == model.loss.get_config()
    x, _ = squares(2)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_maps_of_odd_sizes_are_taken(kind):
    """299 pixels under a backbone without padding: 35, 17 and 8, which twice make no 17."""
    import keras

    inputs = [keras.Input((n, n + 1, 4)) for n in (35, 17, 8)]
    model = keras.Model(inputs, detectors.raw(kind, inputs, (299, 306), 1, SMALL[kind]))
    assert np.isfinite(model([np.ones((1, *x.shape[1:]), "float32") for x in inputs])).all()


@pytest.mark.parametrize("kind", detectors.DETECTORS)
def test_every_scale_has_the_same_numbers(kind):
    known = detectors.SCALES[kind]
    assert len({tuple(numbers) for numbers in known.values()}) == 1
    assert scales.scale_of(kind, None) == next(iter(known.values()))


def test_what_does_not_exist_is_refused_with_what_does():
    import keras

    maps = [keras.Input((n, n, 4)) for n in (8, 4, 2)]
    with pytest.raises(UsageError, match="no detector 'yolo'; there are .* Did you mean yolox"):
        detectors.raw("yolo", maps, (64, 64), 2)
    with pytest.raises(UsageError, match="retinanet has no scale 'larg'. Did you mean large"):
        detectors.raw("retinanet", maps, (64, 64), 2, "larg")
    with pytest.raises(UsageError, match="no 'widht'. Did you mean width"):
        detectors.raw("retinanet", maps, (64, 64), 2, {"widht": 3})
    with pytest.raises(UsageError, match="no option 'gama'. Did you mean gamma"):
        detectors.loss("efficientdet", gama=2)
    with pytest.raises(UsageError, match="one class or more; received 0"):
        detectors.raw("yolox", maps, (64, 64), 0)
    with pytest.raises(ModelError, match="for 128x128 pixels about 16x16 8x8 4x4; received 8x8x4 4x4x4 2x2x4"):
        detectors.raw("yolox", maps, (128, 128), 2)
    with pytest.raises(ModelError, match="no layer 'head_offsets'"):
        detectors.parts("yolox", keras.Model(maps[0], keras.layers.Flatten()(maps[0])))


# Suppression


@functools.cache
def crowded_raw(classes=3, images=3):
    """Raw outputs with many boxes on top of each other."""
    rng = np.random.default_rng(3)
    places = np.tile(rng.uniform(0.1, 0.9, (1, 400, 4)), (images, 1, 1)) * [1, 1, 0.4, 0.4]
    return np.concatenate([places, rng.normal(0, 0.2, (images, 400, 4)), rng.normal(-1, 2, (images, 400, classes))], 2)


@pytest.mark.parametrize("iou, least_score", [(0.5, 0.05), (0.2, 0.3), (0.0, 0.9), (0.9, 0.0)])
def test_suppression_is_that_of_tensorflow_class_by_class(iou, least_score):
    import tensorflow as tf

    from tlkeras.detectors import boxes

    raw = tf.constant(crowded_raw(), tf.float32)
    got = detectors.finish("retinanet", raw, 50, iou, least_score, candidates=1200).numpy()
    found, scores = boxes.decoded(raw[..., :4], raw[..., 4:8]), tf.sigmoid(raw[..., 8:]).numpy()
    for n in range(len(raw)):
        rows = []
        for c in range(3):
            stay = tf.image.non_max_suppression(found[n], scores[n, :, c], 400, iou, least_score).numpy()
            rows += [[*found[n][i].numpy(), c, scores[n, i, c]] for i in stay]
        rows = np.array(sorted(rows, key=lambda row: -row[5])[:50])
        assert len(rows) > 10
        np.testing.assert_allclose(got[n, : len(rows)], rows, atol=1e-6)
        np.testing.assert_array_equal(got[n, len(rows) :], np.tile([-1, -1, -1, -1, -1, 0], (50 - len(rows), 1)))


def test_suppression_of_the_client_is_the_same():
    raw = crowded_raw().astype("float32")
    for most in (5, 300):
        got = np.asarray(detectors.finish("retinanet", raw, most))
        for rows, x in zip(got, raw, strict=True):
            scores = 1 / (1 + np.exp(-x[:, 8:]))
            want = decode_client.decode(x[:, :4], x[:, 4:8], scores, most)
            np.testing.assert_allclose(rows[: len(want)], want, atol=1e-5)
            assert (rows[len(want) :, 4] == -1).all()


def test_few_candidates_give_the_boxes_of_the_best_pairs():
    """The best pairs of place and class lie in the best places, which is where they are looked for."""
    raw = crowded_raw().astype("float32")
    got = np.asarray(detectors.finish("retinanet", raw, most=40, iou=1.0, least_score=0.0, candidates=40))
    want = np.sort((1 / (1 + np.exp(-raw[..., 8:]))).reshape(len(raw), -1))[:, :-41:-1]
    np.testing.assert_allclose(got[..., 5], want, atol=1e-6)


def test_a_long_chain_of_boxes_is_decided_one_by_one():
    """Each overlaps the next alone: every second one stays."""
    count = 60
    places = np.stack(
        [np.arange(count) / count + 0.01, np.full(count, 0.5), np.full(count, 1.6 / count), np.full(count, 0.1)], 1
    )
    scores = np.linspace(3, 1, count)[:, None]
    raw = np.concatenate([places, np.zeros((count, 4)), scores], 1)[None].astype("float32")
    found = np.asarray(detectors.finish("retinanet", raw, iou=0.2))
    assert (found[0, :, 4] == 0).sum() == count // 2


def test_an_image_without_boxes_has_none():
    raw = np.concatenate([np.full((2, 30, 8), 0.5), np.full((2, 30, 3), -20.0)], 2).astype("float32")
    found = np.asarray(detectors.finish("yolox", raw))
    assert found.shape == (2, 100, 6)
    assert (found == [-1, -1, -1, -1, -1, 0]).all()


def test_boxes_stay_inside_the_image_and_finite():
    raw = np.concatenate([np.full((1, 4, 4), 0.9), np.full((1, 4, 4), 300.0), np.full((1, 4, 2), 5.0)], 2).astype(
        "float32"
    )
    found = np.asarray(detectors.finish("retinanet", raw))
    assert np.isfinite(found).all() and found.max() <= 1 and found[..., :4].min() >= -1
