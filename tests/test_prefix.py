"""The frozen prefix: stored or not, the same numbers; a changed pixel, weight or option is a miss; a death costs nothing.

pytest tests/test_prefix.py
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import losses, weights_of

import tlkeras
from tlkeras import errors, network, plans, prefix
from tlkeras.prefix import store
from tlkeras.run import read_json

PHASES = [
    {"name": "head", "train": "head", "epochs": 3, "learning_rate": 0.01},
    {"name": "top", "train": ["head", "blocks[-1:]"], "epochs": 2, "learning_rate": 0.003, "layer_decay": 0.5},
]


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))


def preset(folder, family: str, converter: str):
    """A preset directory of the smallest network of a family, with random weights."""
    import keras
    import keras_hub

    from tlkeras.backbones import keras_hub as room

    keras.utils.set_random_seed(3)
    backbone = room.IMAGES[family].small()
    backbone.save_to_preset(str(folder))
    size = backbone.inputs[0].shape[1:3] if isinstance(backbone.inputs, list) else (32, 32)
    make = getattr(keras_hub.layers, converter)
    make(image_size=tuple(d or 32 for d in size), scale=1 / 127.5, offset=-1.0).save_to_preset(str(folder))
    return folder


@pytest.fixture(scope="module")
def tiny_efficientnet(tmp_path_factory):
    return preset(tmp_path_factory.mktemp("preset") / "tiny_efficientnet", "efficientnet", "EfficientNetImageConverter")


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory):
    return preset(tmp_path_factory.mktemp("preset") / "tiny_vit", "vit", "ViTImageConverter")


# The last has dropout in every block: below the cut it is off, stored or not.
KINDS = {"batchnorm": "tiny_backbone", "squeeze_excitation": "tiny_efficientnet", "vit": "tiny_vit"}
BACKBONES = {k: lambda request, name=name: {"name": str(request.getfixturevalue(name))} for k, name in KINDS.items()}


@pytest.mark.parametrize("kind", BACKBONES)
def test_training_from_stored_features_gives_the_numbers_of_training_without(kind, request, write_config, tmp_path):
    config = write_config(
        backbone=BACKBONES[kind](request),
        train={"batch": 8, "phases": [{**p, "optimizer": "sgd"} for p in PHASES]},
    )
    stored = tlkeras.train(config, tmp_path / "stored", quiet=True)
    live = tlkeras.train(config, tmp_path / "live", ["prefix.store=off"], quiet=True)
    chosen = read_json(stored.plan)["prefix"]
    assert chosen["head"]["stored"] and chosen["top"]["stored"] and not read_json(live.plan)["prefix"]["head"]["stored"]
    for key, values in losses(stored).items():
        assert values == pytest.approx(losses(live)[key], rel=1e-4, abs=1e-5)
    for a, b in zip(weights_of(stored), weights_of(live), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def phase_plans(net, phases=PHASES):
    from tlkeras.config import Phase

    return plans.make([Phase.model_validate(p) for p in phases], list(net.blocks), "tiny")


def build(config):
    from tlkeras import configure

    cfg, _ = configure.load(config)
    return network.build(cfg, {"classes": ["a", "b", "c"], "multi_label": False, "threshold": 0.5})


@pytest.mark.parametrize("kind", BACKBONES)
def test_prefix_then_suffix_is_the_whole_network(kind, request, write_config):
    net = build(write_config(backbone=BACKBONES[kind](request)))
    x = np.random.default_rng(0).integers(0, 255, (4, *net.input.size, 3)).astype("float32")
    expected = np.array(net.model(x, training=False))
    for cut in prefix.cuts(net, phase_plans(net)):
        out = cut.suffix(cut.prefix(x, training=False), training=False)
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
        assert not set(map(id, cut.suffix.trainable_weights)) & set(map(id, cut.prefix.weights))


def test_pooling_lies_below_a_trained_head_and_nothing_below_a_trained_stem(write_config):
    net = build(write_config())
    head, everything = prefix.cuts(net, phase_plans(net, [PHASES[0], {**PHASES[1], "train": "all"}]))
    assert head.specs == [((64,), "float32")]
    assert everything.prefix is None and everything.suffix is net.model


def test_a_second_run_and_a_later_phase_find_what_was_computed(write_config, tmp_path):
    config = write_config(train={"batch": 8, "phases": PHASES})
    first = read_json(tlkeras.train(config, tmp_path / "a", quiet=True).plan)["prefix"]
    assert "computed now" in first["head"]["why"] and "found on disk" in first["top"]["why"]
    again = read_json(tlkeras.train(config, tmp_path / "b", quiet=True).plan)["prefix"]
    assert all("found on disk" in again[p]["why"] for p in ("head", "top"))


def computed(run) -> str:
    return read_json(run.plan)["prefix"]["head"]["why"]


def test_a_changed_pixel_weight_or_option_is_a_miss(write_config, tmp_path, colours, tiny_backbone):
    import shutil

    import keras_hub
    from PIL import Image

    data = tmp_path / "data"
    shutil.copytree(colours, data)
    section = {"path": str(data), "val": 0.25, "test": 0.25}
    train = {"batch": 8, "phases": PHASES[:1]}
    n = iter(range(9))

    def run(**sections):
        return computed(
            tlkeras.train(write_config(data=section, train=train, **sections), tmp_path / f"r{next(n)}", quiet=True)
        )

    assert run() == "27 of 27 computed now" and run() == "found on disk"
    with Image.open(data / "red" / "0.png") as image:
        image.putpixel((3, 3), (1, 2, 3))
        image.save(data / "red" / "0.png")
    assert run() in (
        "1 of 27 computed now",
        "found on disk",
        "2 of 27 computed now",
    )  # it may be in test now
    preset = tmp_path / "other"
    shutil.copytree(tiny_backbone, preset)
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    kernel = next(v for v in backbone.weights if v.path.endswith("kernel"))
    kernel.assign(kernel + np.float32(1e-3))
    backbone.save_to_preset(str(preset))
    keras_hub.layers.ResNetImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0).save_to_preset(str(preset))
    assert run(backbone={"name": str(preset)}) == "27 of 27 computed now"
    assert run(backbone={"name": str(tiny_backbone), "resize": "crop"}) == "27 of 27 computed now"
    assert run(prefix={"dtype": "float16"}) == "27 of 27 computed now"


def test_views_keep_so_many_and_walk_through_them(write_config, tmp_path):
    sections = {"augment": {"flip": "horizontal", "crop": 0.8}, "train": {"batch": 8, "phases": PHASES[:1]}}
    kept = tlkeras.train(write_config(prefix={"views": 2}, **sections), tmp_path / "kept", quiet=True)
    choice = read_json(kept.plan)["prefix"]["head"]
    assert choice["stored"] and choice["views"] == 2 and choice["why"] == "45 of 45 computed now"
    live = read_json(tlkeras.train(write_config(**sections), tmp_path / "live", quiet=True).plan)["prefix"]["head"]
    assert not live["stored"] and "augmentation" in live["why"]
    # With as many views as epochs the pictures are those of live training.
    many = tlkeras.train(write_config(prefix={"views": 3}, **sections), tmp_path / "many", quiet=True)
    assert losses(many)["loss"] == pytest.approx(
        losses(tlkeras.train(write_config(**sections), tmp_path / "again", quiet=True))["loss"], rel=1e-4
    )


def test_what_does_not_pay_is_not_stored_and_the_plan_says_why(write_config, tmp_path):
    once = write_config(train={"batch": 8, "phases": [{**PHASES[0], "epochs": 1}]})
    assert "met once" in computed(tlkeras.train(once, tmp_path / "once", quiet=True))
    small = write_config(prefix={"limit": "0.001MB"}, train={"batch": 8, "phases": PHASES[:1]})
    assert "exceed prefix.limit" in computed(tlkeras.train(small, tmp_path / "small", quiet=True))
    on = write_config(prefix={"limit": "0.001MB", "store": "on"}, train={"batch": 8, "phases": PHASES[:1]})
    with pytest.raises(errors.StorageError, match="prefix.limit"):
        tlkeras.train(on, tmp_path / "on", quiet=True)
    assert prefix.features._does_not_pay(compute=1e-3, disk=5e-3, passes=5).startswith("a sample takes 1 ms")
    assert prefix.features._does_not_pay(compute=5e-3, disk=1e-3, passes=5) is None


def test_features_too_large_for_float16_are_not_rounded_to_infinity(write_config, tmp_path, tiny_backbone):
    import shutil

    import keras_hub

    preset = tmp_path / "large"
    shutil.copytree(tiny_backbone, preset)
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    for v in backbone.weights:
        if v.path.endswith("gamma"):
            v.assign(v * 1000)
    backbone.save_to_preset(str(preset))
    keras_hub.layers.ResNetImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0).save_to_preset(str(preset))
    config = write_config(
        backbone={"name": str(preset)}, prefix={"dtype": "float16"}, train={"batch": 8, "phases": PHASES[:1]}
    )
    assert "more than float16 holds" in computed(tlkeras.train(config, tmp_path / "run", quiet=True))


FILL = """
import os, signal, sys
from tlkeras.prefix import store
append, left = store.Store.append, [2]
def dying(self, samples, arrays):
    append(self, samples, arrays)
    left[0] -= 1
    if not left[0]:
        open(self.folder / "0.bin", "ab").write(b"half a row")
        os.kill(os.getpid(), signal.SIGKILL)
store.Store.append = dying
from tlkeras.prefix import features
features.CHUNK = 1
import tlkeras
tlkeras.train(sys.argv[1], sys.argv[2], quiet=True)
"""


def test_killed_while_filling_the_next_run_goes_on_where_it_stopped(write_config, tmp_path):
    config = write_config(train={"batch": 8, "phases": PHASES[:1]})
    whole = weights_of(tlkeras.train(config, tmp_path / "whole", quiet=True))
    for one in store.prune():
        assert one["rows"] == 27
    done = subprocess.run([sys.executable, "-c", FILL, str(config), str(tmp_path / "killed")], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert [s["rows"] for s in store.listing()] == [16]
    began = time.monotonic()
    run = tlkeras.train(tmp_path / "killed", resume=True, quiet=True)
    assert time.monotonic() - began < 60 and computed(run) == "11 of 27 computed now"
    assert all((a == b).all() for a, b in zip(whole, weights_of(run), strict=True))


def test_a_row_whose_bytes_changed_on_the_disk_is_computed_again(write_config, tmp_path):
    config = write_config(train={"batch": 8, "phases": PHASES[:1]})
    whole = weights_of(tlkeras.train(config, tmp_path / "a", quiet=True))
    (one,) = store.listing()
    path = store.folder() / one["key"] / "0.bin"
    raw = bytearray(path.read_bytes())
    raw[300] ^= 1
    path.write_bytes(raw)
    run = tlkeras.train(config, tmp_path / "b", quiet=True)
    assert computed(run) == "1 of 27 computed now"
    assert all((a == b).all() for a, b in zip(whole, weights_of(run), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "int32"])
def test_rows_come_back_as_they_were_stored(dtype):
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    rows = np.random.default_rng(0).integers(0, 200, (5, 2, 3)).astype(kind)
    one = store.Store({"test": dtype}, [((2, 3), dtype), ((), "int32")])
    with one.lock():
        one.append([(bytes([i]) * 32, 0) for i in range(5)], [rows, np.arange(5, dtype=np.int32)])
    again = store.Store({"test": dtype}, [((2, 3), dtype), ((), "int32")])
    assert again.rows == one.rows == {(bytes([i]) * 32, 0): i for i in range(5)}
    a, b = again.tensors()
    assert (a.numpy() == rows).all() and b.numpy().tolist() == list(range(5))


def test_two_processes_share_one_store_and_compute_each_row_once(write_config, tmp_path):
    config = write_config(train={"batch": 8, "phases": PHASES[:1]})
    children = [
        subprocess.Popen([sys.executable, "-m", "tlkeras", "train", str(config), "--out", str(tmp_path / f"r{i}")])
        for i in range(2)
    ]
    assert [c.wait(300) for c in children] == [0, 0]
    assert [s["rows"] for s in store.listing()] == [27]


def test_the_fast_pass_gives_what_the_network_gives(write_config):
    from tlkeras.prefix import streams

    model = build(write_config()).model
    x = np.random.default_rng(0).integers(0, 255, (21, 32, 32, 3)).astype("uint8")
    stream = streams.open_stream(model, "uint8")
    batches = [x[i : i + stream.batch] for i in range(0, len(x), stream.batch)]
    out = np.concatenate([y for (y,) in stream.run((x,) for x in batches)])
    np.testing.assert_allclose(out, model(x.astype("float32"), training=False), rtol=1e-4, atol=1e-5)
    # What a sample gives does not depend on its neighbours: resuming must not change a bit.
    alone = np.concatenate([y for (y,) in stream.run((x[i : i + 1],) for i in range(len(x)))])
    assert (alone == out).all()


def test_what_openvino_cannot_run_is_said_and_computed_by_tensorflow():
    import keras
    import tensorflow as tf

    from tlkeras.prefix import streams

    pytest.importorskip("openvino")

    class Gamma(keras.layers.Layer):
        def call(self, x):
            return tf.math.igamma(x + 1.0, x + 2.0)

        def compute_output_shape(self, shape):
            return shape

    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(Gamma()(image)))
    stream = streams.open_stream(model, "uint8")
    assert stream.name.startswith("tensorflow")
    assert "OpenVINO cannot run this network" in stream.slower
    assert "Igamma" in stream.slower
    x = np.random.default_rng(0).integers(0, 255, (8, 4, 4, 3)).astype("uint8")
    np.testing.assert_allclose(stream.call(x)[0], model(x.astype("float32")), rtol=1e-4)


def test_cache_lists_and_prunes(write_config, tmp_path):
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}

    def call(*words):
        done = subprocess.run(
            [sys.executable, "-m", "tlkeras", "cache", *words], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "empty" in call("list")
    tlkeras.train(write_config(train={"batch": 8, "phases": PHASES}), tmp_path / "run", quiet=True)
    listed = json.loads(call("list", "--json"))["data"]
    assert sorted(s["rows"] for s in listed) == [27, 27]
    assert "removed 0" in call("prune", "--older-than", "1") and len(store.listing()) == 2
    assert "removed 2" in call("prune") and store.listing() == []
