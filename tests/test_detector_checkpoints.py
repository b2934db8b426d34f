"""Proves that public checkpoints of EfficientDet and YOLOX are read whole, and that the networks compute what theirs do.

Exactness: against golden/detectors.npz, which make_golden_detectors.py keeps of effdet's and YOLOX's own outputs, and
with `oracle` against these themselves (YOLOX's sources on PYTHONPATH).

    pytest tests/test_detector_checkpoints.py
    pytest tests/test_detector_checkpoints.py -m oracle
"""

import json
from types import SimpleNamespace

import make_golden_detectors as golden
import numpy as np
import pytest

from tlkeras import detectors, weights
from tlkeras.backbones import efficientdet, get, yolox
from tlkeras.errors import ModelError

# How many times the largest error of the reference in float32 ours may be; both are measured from float64. Measured:
# 1.9e-6 of the largest output for efficientdet_d0, where the reference has 1.6e-6; 8.4e-6 and 5.3e-6 for _d1, 1.3e-6
# and 7e-7 for _sum, 4.6e-6 and 4.4e-6 for yolox_nano, 3.1e-6 and 1.8e-6 for _tiny, 3.5e-6 and 2.4e-6 for _s.
NOISE = 3
STRIDED = {"efficientdet": ("block3", "block5", "block7"), "yolox": ("dark3", "dark4", "dark5")}


def assembled(name: str, classes=golden.CLASSES, size=golden.SIZE, scale=None):
    """Backbone, neck and head of a case."""
    import keras

    kind, _, which = name.partition("_")
    if which == "sum":
        name, scale = "efficientdet_d0", {"weighted": False}
    entry = get(name)
    base = entry.build(size)
    ends = dict(entry.blocks)
    features = [base.get_layer(ends[b]).output if ends[b] else base.output for b in STRIDED[kind]]
    return keras.Model(base.input, detectors.raw(kind, features, size, classes, scale or which))


def computed(kind: str, model) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and logits, in the order of `golden.compute`."""
    found = np.asarray(model(golden.pixels(), training=False))
    offsets = found[..., 4:8]
    return (offsets[..., [1, 0, 3, 2]] if kind == "efficientdet" else offsets), found[..., 8:]


def tensors_of(shapes: dict) -> dict:
    return {key: golden.tensor(key, tuple(shape)) for key, shape in shapes.items()}


@pytest.fixture(scope="module", params=golden.KEPT)
def case(request):
    name, kind = request.param, request.param.partition("_")[0]
    with np.load(golden.GOLDEN) as kept:
        shapes = json.loads(str(kept[f"{name}/shapes"]))
        expected = [(kept[f"{name}/{what}"], kept[f"{name}/{what}/error"]) for what in ("offsets", "logits")]
    model, tensors = assembled(name), tensors_of(shapes)
    report = detectors.load(kind, model, tensors)
    return SimpleNamespace(name=name, kind=kind, model=model, tensors=tensors, report=report, expected=expected)


def test_a_checkpoint_is_used_whole_and_fills_everything(case):
    used, unused, missing = case.report
    assert (unused, missing) == ([], [])
    assert {*used} == {name for name in case.tensors if not name.endswith("num_batches_tracked")}
    assert len(used) == len(case.model.weights)


def test_outputs_are_those_of_the_reference(case):
    for got, (want, error) in zip(computed(case.kind, case.model), case.expected, strict=True):
        np.testing.assert_allclose(golden.sampled(got), want, rtol=0, atol=NOISE * error)


def test_another_number_of_classes_leaves_the_predictor_alone_and_says_so(case):
    if case.kind == "efficientdet":
        wrong = {"class_net.predict.conv_pw.weight": (45, 64, 1, 1), "class_net.predict.conv_pw.bias": (45,)}
    else:
        wrong = {f"head.cls_preds.{k}.weight": (5, 64, 1, 1) for k in range(3)}
        wrong |= {f"head.cls_preds.{k}.bias": (5,) for k in range(3)}
    before = [np.asarray(v) for v in case.model.weights]
    used, unused, missing = detectors.load(case.kind, case.model, case.tensors | tensors_of(wrong))
    assert {*unused} == {*wrong} and len(missing) == len(wrong)
    assert all(path.startswith("head_c") for path in missing)
    for old, variable in zip(before, case.model.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(variable))


def test_a_checkpoint_of_another_scale_changes_nothing_and_is_refused(case):
    name = (
        "fpn.cell.2.fnode.7.combine.edge_weights" if case.kind == "efficientdet" else "backbone.C3_n4.conv3.conv.weight"
    )
    before = np.asarray(case.model.weights[0])
    changed = {key: value + 1 for key, value in case.tensors.items() if key != name}
    with pytest.raises(ModelError, match=r"of another scale[\s\S]*no tensor"):
        detectors.load(case.kind, case.model, changed)
    np.testing.assert_array_equal(before, np.asarray(case.model.weights[0]))


@pytest.mark.parametrize("bare", [False, True], ids=["of the detector", "of its own"])
def test_the_backbone_alone_reads_a_checkpoint(case, bare, tmp_path):
    """The detector's, or one that holds the backbone alone, as timm's of ImageNet do."""
    module = {"efficientdet": efficientdet, "yolox": yolox}[case.kind]
    tensors = case.tensors
    if bare:
        tensors = {n.removeprefix(module.PREFIX): x for n, x in tensors.items() if n.startswith(module.PREFIX)}
        if case.kind == "efficientdet":
            tensors |= tensors_of(
                {"conv_head.weight": (1280, 320, 1, 1), "bn2.weight": (1280,), "classifier.bias": (9,)}
            )
    base = weights.load(get(case.name), str(write(tmp_path / "x.safetensors", tensors)), (32, 32))
    held = {v.path: np.asarray(v) for v in case.model.weights}
    for variable in base.weights:
        np.testing.assert_array_equal(np.asarray(variable), held[variable.path])
    odd = {
        f"{'' if bare else module.PREFIX}{name}": np.zeros(3, "float32") for name in ("dark2.9.bias", "blocks.0.9.bias")
    }
    with pytest.raises(ModelError, match=r"Not used: .*dark2.9.bias, .*blocks.0.9.bias"):
        weights.load(get(case.name), str(write(tmp_path / "y.safetensors", tensors | odd)), (32, 32))


def write(path, tensors: dict):
    """A .safetensors file: the length of a header, the header, the numbers."""
    header, ends = {}, 0
    for name, x in tensors.items():
        start, ends = ends, ends + x.nbytes
        kind = {"float32": "F32", "int64": "I64"}[str(x.dtype)]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [start, ends]}
    text = json.dumps(header).encode()
    path.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *(x.tobytes() for x in tensors.values())]))
    return path


def test_retinanet_has_no_checkpoint(case):
    with pytest.raises(ModelError, match="efficientdet, yolox are"):
        detectors.load("retinanet", case.model, case.tensors)


@pytest.mark.oracle
@pytest.mark.parametrize("name", golden.KEPT + golden.MORE)
def test_every_output_is_that_of_the_reference_itself(name):
    golden.oracle()
    pytest.importorskip("yolox" if name.startswith("yolox") else "effdet")
    kind, reference, model = name.partition("_")[0], golden.build(name), assembled(name)
    tensors = {key: value.numpy() for key, value in reference.state_dict().items()}
    used, unused, missing = detectors.load(kind, model, tensors)
    assert (unused, missing) == ([], []) and len(used) == len(model.weights)
    assert sum(p.numel() for p in reference.parameters()) == sum(int(np.prod(v.shape)) for v in model.trainable_weights)
    for got, (want, error) in zip(computed(kind, model), golden.exact(name, reference), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=NOISE * error)


@pytest.mark.oracle
def test_the_anchors_are_those_of_effdet():
    golden.oracle()
    effdet = pytest.importorskip("effdet")
    from tlkeras.detectors import boxes
    from tlkeras.detectors.efficientdet import units

    for size in ((512, 512), (96, 160), (896, 640)):
        anchors = effdet.anchors.Anchors(3, 7, 3, [(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)], 4.0, size).boxes.numpy()
        shapes = effdet.anchors.get_feat_sizes(size, 7)[3:]
        low, high = anchors[:, 1::-1] / size[::-1], anchors[:, :1:-1] / size[::-1]
        want = np.concatenate([(low + high) / 2, high - low], 1)
        np.testing.assert_allclose(boxes.places(shapes, units(4.0), 0.5), want, rtol=2e-6, atol=1e-6)


def scaled(name: str, rgb: np.ndarray) -> np.ndarray:
    """Pixels (h, w, 3) as the entry's contract says."""
    pixels = get(name).pixels
    x = rgb[..., ::-1] if pixels.channels == "bgr" else rgb
    return x * np.float32(pixels.scale) + np.float32(pixels.offset)


@pytest.mark.oracle
def test_pixels_are_scaled_as_the_references_do():
    golden.oracle()
    effdet = pytest.importorskip("effdet")
    pytest.importorskip("yolox")
    from effdet.data import resolve_input_config
    from yolox.data.data_augment import ValTransform

    rgb = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype="uint8")
    want, _ = ValTransform()(rgb[..., ::-1], None, (32, 64))
    np.testing.assert_array_equal(scaled("yolox_s", rgb), want.transpose(1, 2, 0))
    for name in ("efficientdet_d0", "efficientdet_d7"):
        config = effdet.get_efficientdet_config(f"tf_{name}")
        said = resolve_input_config({}, config)
        want = (rgb / 255 - np.array(said["mean"])) / np.array(said["std"])
        np.testing.assert_allclose(scaled(name, rgb), want, atol=1e-5)
        assert get(name).pixels.size == tuple(config.image_size)


@pytest.mark.oracle
@pytest.mark.parametrize("name", efficientdet.VARIANTS)
def test_numbers_of_every_scale_are_those_of_effdet(name):
    golden.oracle()
    effdet = pytest.importorskip("effdet")
    config = effdet.get_efficientdet_config(f"tf_{name}")
    scale = detectors.SCALES["efficientdet"][name[-2:]]
    assert scale == {
        "width": config.fpn_channels,
        "cells": config.fpn_cell_repeats,
        "depth": config.box_class_repeats,
        "weighted": config.fpn_name != "bifpn_sum",
        "anchor": config.anchor_scale,
    }
    widths = {"b0": 1.0, "b1": 1.0, "b2": 1.1, "b3": 1.2, "b4": 1.4, "b5": 1.6, "b6": 1.8, "b7": 2.0}
    assert efficientdet.VARIANTS[name][0] == widths[config.backbone_name[-2:]]
