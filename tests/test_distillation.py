"""A finished run teaches another: what is learnt from it, that it is asked once, and that nothing of it is kept.

pytest tests/test_distillation.py
"""

import csv

import numpy as np
import pytest
from conftest import weights_of, write_classes

import tlkeras
from tlkeras import distillation, evaluation
from tlkeras.config import Distill
from tlkeras.errors import ConfigError, UsageError
from tlkeras.run import open_run

HEAD = {"name": "head", "train": "head", "epochs": 12, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, colours, tiny_backbone):
    """A run that tells colours apart."""
    import yaml

    folder = tmp_path_factory.mktemp("teacher")
    config = {
        "task": "image-classification",
        "data": {"path": str(colours), "val": 0.25, "test": 0.25},
        "backbone": {"name": str(tiny_backbone)},
        "train": {"batch": 8, "phases": [HEAD]},
    }
    (folder / "teacher.yaml").write_text(yaml.safe_dump(config))
    return tlkeras.train(folder / "teacher.yaml", folder / "run", quiet=True)


@pytest.fixture
def taught(write_config, teacher, tmp_path):
    """Returns `f(name, distill, **sections) -> run`: a student of the teacher, on pictures of half the size."""

    def train(name, distill, epochs=2, **sections):
        backbone = {"name": str(teacher.folder), "weights": None, "size": 16}
        phases = [HEAD | {"epochs": epochs, "train": "all", "learning_rate": 0.01, "batchnorm": "train"}]
        task = {"name": "image-classification", "dropout": 0.0}
        sections = {"task": task, "backbone": backbone, "train": {"batch": 8, "phases": phases}} | sections
        path = write_config(f"{name}.yaml", distill={"from": str(teacher.folder)} | distill, **sections)
        return tlkeras.train(path, tmp_path / name)

    return train


def columns(run) -> dict[str, list[float]]:
    with run.history.open(newline="") as f:
        rows = list(csv.DictReader(f))
    return {k: [float(r[k]) for r in rows] for k in rows[0] if k != "phase"}


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def lesson(kind, own, columns, **asked):
    return distillation.Lesson(Distill.model_validate({"from": "x", **asked}), kind, own, tuple(columns))


def test_the_loss_of_classes_is_that_of_hinton_et_al():
    import keras

    rng = np.random.default_rng(0)
    raw, told = rng.normal(0, 3, (5, 3)), rng.normal(0, 3, (5, 2))
    features, student = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    truth = np.eye(3)[[0, 1, 2, 1, 0]]
    one = lesson("classes", 3, (2, 0), temperature=3.0, weight=0.7, features=0.2)
    soft = distillation.soften(told, one, {}, {})
    np.testing.assert_allclose(soft, softmax(told / 3), rtol=1e-12)
    made = distillation.loss(keras.losses.CategoricalCrossentropy(from_logits=True), one)
    got = made.call(
        np.concatenate([truth, soft, features], 1).astype("float32"),
        np.concatenate([raw, student], 1).astype("float32"),
    )
    own = -np.log((softmax(raw) * truth).sum(1))
    apart = (soft * np.log(soft / softmax(raw[:, [2, 0]] / 3))).sum(1) * 9
    hint = np.square(features - student).mean(1)
    np.testing.assert_allclose(got, 0.3 * own + 0.7 * apart + 0.2 * hint, rtol=2e-5)


def test_several_labels_are_taught_one_by_one_and_values_by_their_distance():
    rng = np.random.default_rng(1)
    raw, told = rng.normal(0, 2, (4, 3)).astype("float32"), rng.normal(0, 2, (4, 3))
    p = distillation.soften(told, lesson("labels", 3, (0, 1, 2), temperature=2.0), {}, {})
    q = 1 / (1 + np.exp(-raw / 2))
    expected = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(1)
    np.testing.assert_allclose(distillation.apart(p.astype("float32"), raw, "labels", 2.0), expected, rtol=2e-4)
    value = distillation.soften(
        np.array([[1.0]]), lesson("values", 1, (0,)), {"mean": [10.0], "scale": [4.0]}, {"mean": [12.0], "scale": [2.0]}
    )
    assert value == [[1.0]]  # 1 * 4 + 10 = 14 in the data's unit, one deviation above the student's mean
    assert float(distillation.apart(value, np.array([[3.0]]), "values", 2.0)[0]) == pytest.approx(4.0)


def test_a_teacher_that_was_trained_on_samples_that_judge_is_told_of(teacher, write_config, colours, tmp_path, capsys):
    section = {"path": str(colours), "val": 0.25, "test": 0.25}
    for seed, told in ((0, False), (1, True)):
        config = write_config(data=section | {"seed": seed}, distill={"from": str(teacher.folder)})
        run = tlkeras.train(config, tmp_path / f"run{seed}")
        said = capsys.readouterr().err
        assert ("of the 9 test samples, so their figures flatter" in said) is told
        assert (f"It learnt from `{teacher.folder}`, which was trained on " in run.card.read_text()) is told


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_the_loss_is_finite_and_0_where_both_agree_however_sure_they_are(kind):
    z = np.array([[90.0, -90.0, 0.0]], "float32")
    told = distillation.soften(z, lesson(kind, 3, (0, 1, 2), temperature=1.0), {}, {}).astype("float32")
    assert abs(float(distillation.apart(told, z, kind, 1.0)[0])) < 1e-6
    assert np.isfinite(float(distillation.apart(told, -z, kind, 1.0)[0]))


def test_a_student_comes_near_its_teacher_and_the_second_one_finds_the_answers_stored(
    taught, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path))  # where no other test has left answers
    first = taught("first", {"weight": 1.0}, epochs=20)
    said = capsys.readouterr().err
    assert "its answers to 27 samples, 27 of them computed now" in said
    agreement = columns(first)["agreement"]
    assert agreement[-1] > agreement[0] and agreement[-1] > 0.9
    assert columns(first)["loss"][-1] < columns(first)["loss"][0]
    taught("second", {"temperature": 5.0})
    assert "its answers to 27 samples, found on disk" in capsys.readouterr().err


def test_the_saved_student_has_nothing_of_its_teacher(taught, teacher):
    import keras

    run = taught("hinted", {"features": 0.1})
    model = keras.models.load_model(run.model)
    assert [y.shape for y in model.outputs] == [(None, 3)] and not [
        x.name for x in model.layers if x.name.startswith("distill")
    ]
    assert [w.shape for w in weights_of(run)] == [w.shape for w in weights_of(teacher)]
    assert evaluation.evaluate(run.folder, quiet=True)["n"] == 9


def test_features_alone_teach_the_backbone(taught):
    """Without the labels' loss and with no weight on answers only the hint moves the blocks."""
    from tlkeras.run import read_json

    run = taught("features", {"features": 1.0, "weight": 0.0})
    assert all(r["moved"] for r in read_json(run.audit)["rows"] if r["trained"])
    losses = columns(run)["loss"]
    assert losses[-1] < losses[0]


def test_a_student_that_was_interrupted_goes_on_with_its_teacher(taught, tmp_path):
    whole = taught("whole", {"features": 0.1})
    (tmp_path / "whole" / "model.keras").unlink()
    import shutil

    last = sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1]
    shutil.rmtree(last) if last.is_dir() else last.unlink()
    again = tlkeras.train(whole.folder, resume=True, quiet=True)
    assert again.model.is_file()


def test_a_teacher_must_know_every_class(taught, tmp_path):
    from PIL import Image

    other = write_classes(tmp_path / "more", each=6)
    (other / "rde").mkdir()
    for i in range(6):
        Image.new("RGB", (16, 16), (i, 200, i)).save(other / "rde" / f"{i}.png")
    with pytest.raises(ConfigError, match=r"does not know rde\. Did you mean red\? It knows: blue, green, red\."):
        taught("unknown", {}, data={"path": str(other)})


def test_classes_in_another_order_are_taught_by_name(taught, teacher, colours):
    names = ["red", "blue", "green"]
    run = taught("turned", {"weight": 1.0}, epochs=20, data={"path": str(colours), "val": 0.25, "classes": names})
    evaluation.evaluate(run.folder, "train", quiet=True)
    table, answer = evaluation.read_predictions(run.predictions("train"))
    assert answer["classes"] == names
    assert np.mean([a == b for a, b in zip(table["label"], table["predicted"], strict=True)]) > 0.8


def test_what_cannot_be_taught_is_said_before_the_data_is_read(write_config, teacher, tmp_path):
    with pytest.raises(UsageError, match="is no run folder"):
        tlkeras.train(write_config("a.yaml", distill={"from": str(tmp_path / "nothing")}), tmp_path / "a", quiet=True)
    given = {"task": "object-detection", "distill": {"from": str(teacher.folder)}}
    with pytest.raises(ConfigError, match="a teacher answers to whole samples, as in image-classification"):
        tlkeras.train(write_config("b.yaml", **given), tmp_path / "b", quiet=True)
    given = {"task": {"name": "image-classification", "multi_label": True}, "distill": {"from": str(teacher.folder)}}
    with pytest.raises(ConfigError, match="this config image-classification with several labels"):
        tlkeras.train(write_config("c.yaml", **given), tmp_path / "c", quiet=True)


def test_a_text_is_taught_as_a_picture_is(configured, tmp_path, capsys):
    one = tlkeras.train(configured("teacher"), tmp_path / "teacher", quiet=True)
    given = {"from": str(open_run(one.folder).folder), "weight": 0.5, "features": 0.1}
    tlkeras.train(configured("student", distill=given), tmp_path / "student")
    assert "teacher   " in capsys.readouterr().err
