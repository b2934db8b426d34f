"""The training step: a batch in parts gives the weights of a whole one, `auto` fits the machine, measuring leaves no trace.

pytest tests/test_steps.py
"""

import numpy as np
import pytest

import tlkeras
from tlkeras import errors, steps
from tlkeras.run import read_json

PHASE = {
    "name": "top",
    "train": ["head", "blocks[-1:]"],
    "epochs": 2,
    "learning_rate": 0.01,
    "layer_decay": 0.5,
    "optimizer": "sgd",
}


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))


def weights(run) -> list[np.ndarray]:
    from tlkeras.evaluation import open_trained

    return [v.numpy() for v in open_trained(run.folder).network.model.weights]


@pytest.mark.parametrize("store", ["auto", "off"])
def test_a_batch_in_parts_gives_the_weights_of_a_whole_one(write_config, tmp_path, store):
    """With the rates of two blocks behind one optimizer each. 24 training samples make three whole batches."""
    sections = {
        "task": {"name": "image-classification", "dropout": 0.0},
        "data": {"path": str(tmp_path / "data"), "val": 0.25, "test": 0.0},
        "prefix": {"store": store},
    }
    from conftest import write_classes

    write_classes(tmp_path / "data", each=11)
    whole = write_config("whole.yaml", train={"batch": 8, "accumulate": 1, "phases": [PHASE]}, **sections)
    cut = write_config("parts.yaml", train={"batch": 8, "accumulate": 4, "phases": [PHASE]}, **sections)
    a, b = (tlkeras.train(c, tmp_path / c.stem, quiet=True) for c in (whole, cut))
    assert read_json(a.manifest)["data"]["splits"]["train"] == 24
    assert read_json(b.plan)["steps"] == {"batch": 8, "parts": {"top": 4}}
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_parts_must_divide_the_batch(write_config, tmp_path):
    with pytest.raises(errors.ConfigError, match="accumulate must divide batch; received 3 and 8"):
        tlkeras.train(
            write_config(train={"batch": 8, "accumulate": 3, "phases": [PHASE]}), tmp_path / "run", quiet=True
        )


def test_batch_auto_leaves_updates_and_is_kept_for_resuming(write_config, tmp_path):
    run = tlkeras.train(write_config(train={"batch": "auto", "phases": [PHASE]}), tmp_path / "run", quiet=True)
    assert read_json(run.plan)["steps"] == {"batch": 8, "parts": {"top": 1}}


def test_auto_takes_what_fits_and_cuts_what_does_not():
    import keras

    small = keras.Sequential([keras.Input((32,)), keras.layers.Dense(4)])
    small = keras.Model(small.inputs, small.outputs)
    assert steps.activation_bytes(small, 4) == 2 * 4 * (32 + 4)
    assert steps.size("auto", small, 100_000, "float32") == 256
    assert steps.size("auto", small, 500, "float32") == 32
    assert steps.size(48, small, 500, "float32") == 48
    assert steps.parts(48, small, "float32") == 1
    image = keras.Input((8192, 8192, 3))
    huge = keras.Model(image, keras.layers.Conv2D(512, 3)(image))  # 0.3 TB a sample; it is never run
    assert steps.fitting(huge, "float32") == 0
    assert steps.parts(48, huge, "float32") == 48


@pytest.mark.parametrize("store", ["auto", "off"])
def test_activations_computed_again_give_the_same_weights(write_config, tmp_path, store):
    train = {"batch": 8, "phases": [{**PHASE, "train": "all"}, {**PHASE, "name": "again", "batchnorm": "train"}]}
    runs = [
        tlkeras.train(
            write_config(f"{remat}.yaml", train={**train, "remat": remat}, prefix={"store": store}),
            tmp_path / remat,
            quiet=True,
        )
        for remat in ("off", "on")
    ]
    for x, y in zip(*map(weights, runs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_stages_hold_every_layer_once_and_those_that_draw_are_run_once(write_config):
    import keras

    from tlkeras import configure, network, prefix

    cfg, _ = configure.load(write_config())
    net = network.build(cfg, {"classes": ["a", "b", "c"], "multi_label": False, "threshold": 0.5})
    model = prefix.rematerialised(net.model, net)
    held = [x for stage in model.stages for x in stage.layers if not isinstance(x, keras.layers.InputLayer)]
    assert len(held) == len(set(map(id, held))) == len(net.model.layers) - 1
    x = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(model(x), net.model(x), rtol=1e-5, atol=1e-6)


def test_measuring_xla_leaves_weights_and_optimizer_as_they_were():
    import keras

    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(64, 3, activation="relu")(image)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    before = [v.numpy().copy() for v in model.variables]

    def compiled(jit):
        model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=jit)
        return model

    batch = np.ones((8, 32, 32, 3), "float32"), np.ones((8, 3), "float32"), np.ones(8, "float32")
    assert steps.xla_pays(compiled, batch) in (True, False)
    assert all((v.numpy() == b).all() for v, b in zip(model.variables, before, strict=True))
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize("clip", [None, 0.5])
def test_rows_of_a_token_that_comes_twice_are_added_up_before_adam_squares_them(clip):
    import keras
    import tensorflow as tf

    from tlkeras import fused

    made = [fused.of(keras.optimizers.AdamW), fused.of(keras.optimizers.AdamW), keras.optimizers.AdamW]
    by_rows, whole, known = (cls(learning_rate=0.1, global_clipnorm=clip) for cls in made)
    rows, gradient = tf.constant([[1.0, 2], [3, 4], [5, 6]]), np.zeros((5, 2), "float32")
    gradient[1], gradient[3] = [4, 6], [5, 6]
    weights = [keras.Variable(np.ones((5, 2), "float32")) for _ in made]
    for part in (1.0, -0.5, 2.0):
        by_rows.apply([tf.IndexedSlices(part * rows, tf.constant([1, 1, 3]), tf.constant([5, 2]))], weights[:1])
        whole.apply([tf.constant(part * gradient)], weights[1:2])
        known.apply([tf.constant(part * gradient)], weights[2:])
    assert (weights[0].numpy() == weights[1].numpy()).all()
    # TensorFlow's kernel takes 1 - beta_2 of a float32, which is 1.3e-5 off: a hundredth of a thousandth of a step.
    np.testing.assert_allclose(weights[0], weights[2], atol=1e-5 * 0.3)
