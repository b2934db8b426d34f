"""A head of class means: what it computes, that nothing is trained, and that every verb takes it as any other run.

pytest tests/test_prototypes.py
"""

import csv

import numpy as np
import pytest

import tlkeras
from tlkeras import artefacts, configure, evaluation, kept, preview, prototypes, reports
from tlkeras.errors import ConfigError
from tlkeras.run import read_json

TASK = {"name": "image-classification", "head": "prototypes"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, colours, tiny_backbone):
    import yaml

    folder = tmp_path_factory.mktemp("prototypes")
    config = {
        "task": TASK,
        "data": {"path": str(colours), "val": 0.25, "test": 0.25},
        "backbone": {"name": str(tiny_backbone)},
        "train": {"batch": 8},
        "export": ["saved_model", "tflite"],
    }
    (folder / "few.yaml").write_text(yaml.safe_dump(config))
    return tlkeras.train(folder / "few.yaml", folder / "run", quiet=True)


def test_scores_are_those_of_the_distances_to_the_class_means(run):
    """softmax of -s |u - c|^2, as Snell, Swersky & Zemel 2017 write it."""
    import keras

    from tlkeras import data

    trained = evaluation.open_trained(run.folder)
    held, model = data.reopen(run), trained.network.model
    pixels = keras.Model(model.inputs, kept.entering(model))

    def unit(rows):
        table = held.table(rows)
        from tlkeras.data import pictures

        x = np.concatenate([x for x, _, _ in pictures.in_order(table, trained.network.input, 8).as_numpy_iterator()])
        found = pixels.predict(x.astype("float32"), verbose=0)
        return x, found / np.linalg.norm(found, axis=1, keepdims=True)

    train, test = held.rows("train"), held.rows("test")
    _, u = unit(train)
    means = np.stack([u[held.targets[train].argmax(1) == c].mean(0) for c in range(3)])
    x, asked = unit(test)
    kernel, bias = model.get_layer("head_logits").get_weights()
    s = prototypes.sharpness_of(kernel, bias)
    z = -s * np.square(asked[:, None] - means[None]).sum(2)
    expected = np.exp(z - z.max(1, keepdims=True))
    got = keras.ops.softmax(model.predict(x.astype("float32"), verbose=0))
    np.testing.assert_allclose(got, expected / expected.sum(1, keepdims=True), atol=2e-4)


def test_nothing_is_trained_and_the_verbs_take_it(run):
    assert not run.history.exists() and read_json(run.audit)["rows"] == []
    assert evaluation.evaluate(run.folder, quiet=True)["metrics"]["accuracy"] > 0.5
    assert "Nothing was trained" in reports.report(run.folder).read_text("utf8")
    assert preview.text(preview.plan(run.config)).startswith("No phase: the head is placed")
    assert {r["format"] for r in artefacts.export(run.folder, quiet=True)} == {"saved_model", "tflite"}
    assert tlkeras.train(run.folder, resume=True, quiet=True).folder == run.folder


def test_the_sharpness_can_be_read_off_the_head_and_suits_the_samples():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, 6))
    labels = np.arange(80) % 4
    unit = means[labels] + rng.normal(0, 0.8, (80, 6))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    made = np.stack([unit[labels == c].mean(0) for c in range(4)])
    s = prototypes.sharpness(unit, labels, made)
    assert s in prototypes.TRIED and 1 < s < 256
    assert prototypes.sharpness_of(2 * s * made.T, -s * np.square(made).sum(1)) == pytest.approx(s)
    assert prototypes.sharpness(unit[:4], labels[:4], unit[:4]) == prototypes.SHARPNESS


def test_one_sample_a_class_is_enough(colours, tiny_backbone, tmp_path, write_config):
    source = tmp_path / "one.csv"
    with (colours / "one.csv").open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["image", "label", "split"])
        for c in ("blue", "green", "red"):
            for i in range(12):
                rows.writerow([f"{c}/{i}.png", c, "train" if i == 0 else "test"])
    try:
        section = {"path": str(colours / "one.csv"), "split": "split", "val": 0.0}
        run = tlkeras.train(
            write_config(task=TASK, data=section, train={"batch": 8}), source.with_suffix(""), quiet=True
        )
        assert evaluation.evaluate(run.folder, quiet=True)["metrics"]["accuracy"] > 0.5
    finally:
        (colours / "one.csv").unlink()


def test_phases_go_on_from_the_means(write_config, tmp_path, run):
    phase = {"name": "head", "train": "head", "epochs": 1, "learning_rate": 1e-9, "optimizer": "sgd"}
    other = tlkeras.train(write_config(task=TASK, train={"batch": 8, "phases": [phase]}), tmp_path / "run", quiet=True)
    assert other.history.is_file()
    made, was = (evaluation.open_trained(r.folder).network.model.get_layer("head_logits").kernel for r in (other, run))
    np.testing.assert_allclose(made, was, atol=1e-4)


def test_several_labels_have_no_nearest_mean(write_config):
    with pytest.raises(ConfigError, match="a sample belongs to the nearest class mean"):
        configure.load(write_config(task=TASK | {"multi_label": True}))


def test_sounds_are_learnt_from_a_few_too(tmp_path, tiny_backbone):
    import yaml

    from tlkeras.data import waveforms

    rate = 8000
    for name, pitch in (("high", 1800), ("low", 300)):
        (tmp_path / "tones" / name).mkdir(parents=True)
        for i in range(6):
            t = np.arange(rate) / rate
            wave = 0.3 * np.sin(2 * np.pi * (pitch + 20 * i) * t) + 0.01 * np.random.default_rng(i).normal(size=rate)
            waveforms.write_wav(tmp_path / "tones" / name / f"{i}.wav", wave.astype("float32"), rate)
    config = {
        "task": {"name": "audio-classification", "head": "prototypes"},
        "data": {"path": str(tmp_path / "tones"), "val": 0.0, "test": 0.34},
        "backbone": {"name": str(tiny_backbone), "sound": {"seconds": 0.4, "rate": rate, "mels": 32}},
    }
    (tmp_path / "tones.yaml").write_text(yaml.safe_dump(config))
    run = tlkeras.train(tmp_path / "tones.yaml", tmp_path / "run", quiet=True)
    assert evaluation.evaluate(run.folder, quiet=True)["metrics"]["accuracy"] == 1.0
