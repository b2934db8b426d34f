"""Several tasks on one backbone: rows without a label teach nothing, weights of losses follow their papers, and one run
is trained, judged, asked, reported, exported and served for all of its tasks.

pytest tests/test_several.py
"""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import WORDS, sentence
from test_place_tasks import pyramid, write_scenes  # noqa: F401  a fixture

import tlkeras
from tlkeras import artefacts, configure, data, evaluation, sharing, tasks
from tlkeras.artefacts import saved_model, tflite
from tlkeras.errors import ConfigError, DataError, UsageError
from tlkeras.progress import Progress
from tlkeras.run import open_run, read_json
from tlkeras.tasks import balance, several

TWO = {
    "topic": {"name": "text-classification", "dropout": 0.0},
    "words": {"name": "text-regression", "label": "count", "dropout": 0.0},
}


def options(**more):
    return several.Options.model_validate({"tasks": TWO, **more})


def learnt(rows, **more):
    """Targets as learnt, and options that know what they mean, of labels [(topic, words), ...]."""
    chosen = options(**more)
    found, answer = several.targets([{"topic": t, "words": w} for t, w in rows], chosen)
    y, weights, answer = several.learnt(found, np.arange(len(rows)), answer, chosen)
    assert (weights == 1).all()
    return y, answer, several.bind(chosen, answer)


def tiny(answer, chosen, seed: int = 0):
    """A network of features (B, 3) to the heads of all tasks, and its layers as a network has them."""
    import keras

    keras.utils.set_random_seed(seed)
    x = keras.Input((3,))
    body = keras.layers.Dense(4, activation="tanh", name="body")
    model = keras.Model(x, several.heads(lambda: body(x), dict, None, answer, chosen))
    heads = [layer for layer in model.layers if layer.name.startswith("head_")]
    return SimpleNamespace(model=model, blocks={"body": [body], "head": heads})


def gradients(net, chosen, x, y):
    import tensorflow as tf

    loss = several.loss(chosen)
    with tf.GradientTape() as tape:
        total = loss(tf.constant(y), net.model(tf.constant(x), training=True))
    names = [v.path for v in net.model.trainable_weights]
    found = tape.gradient(total, [v.value for v in net.model.trainable_weights])
    return float(total), dict(zip(names, [None if g is None else g.numpy() for g in found], strict=True))


ROWS = [("a", "1"), ("b", "4"), (None, "2"), ("b", None), ("a", "9"), (None, None)]
X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


# --- Rows without a label


def test_a_row_without_a_label_has_no_gradient_for_that_task():
    y, answer, chosen = learnt(ROWS)
    net = tiny(answer, chosen)
    _, every = gradients(net, chosen, X, y)
    for task, kept in (("topic", [0, 1, 3, 4]), ("words", [0, 1, 2, 4])):
        alone = X[kept], y[kept].copy()
        # What the left out rows would say of the other task is taken away too, so that the body is pulled by one alone.
        other = 1 - list(TWO).index(task)
        alone[1][:, other] = 0
        _, without = gradients(net, chosen, *alone)
        mine = [name for name in every if name.startswith(f"{task}/")]
        assert len(mine) == 2
        for name in mine:
            np.testing.assert_allclose(every[name], without[name], rtol=1e-5, atol=1e-7)


def test_a_batch_without_any_label_moves_nothing():
    y, answer, chosen = learnt(ROWS)
    net = tiny(answer, chosen)
    total, found = gradients(net, chosen, X[5:], y[5:])
    assert total == 0 and all((g == 0).all() for g in found.values())


def test_the_loss_is_the_weighted_sum_of_the_means_over_labelled_rows():
    weighed = {**TWO, "words": {**TWO["words"], "weight": 0.3}}
    chosen = several.Options.model_validate({"tasks": weighed})
    found, answer = several.targets([{"topic": t, "words": w} for t, w in ROWS], chosen)
    y, _, answer = several.learnt(found, np.arange(6), answer, chosen)
    chosen = several.bind(chosen, answer)
    net = tiny(answer, chosen)
    total, _ = gradients(net, chosen, X, y)
    raw = np.array(net.model(X))
    logits, values = raw[:, :2], raw[:, 2]
    entropy = np.log(np.exp(logits).sum(1)) - logits[range(6), [0, 1, 0, 1, 0, 0]]
    words = np.array([1, 4, 2, 9.0])
    squares = (values[[0, 1, 2, 4]] - (words - words.mean()) / words.std()) ** 2
    assert total == pytest.approx(entropy[[0, 1, 3, 4]].mean() + 0.3 * squares.mean(), rel=1e-5)


def test_class_weights_are_those_of_the_own_task():
    weighed = {**TWO, "topic": {**TWO["topic"], "class_weights": {"a": 3.0}}}
    chosen = several.Options.model_validate({"tasks": weighed})
    found, answer = several.targets([{"topic": t, "words": w} for t, w in ROWS], chosen)
    y, _, _ = several.learnt(found, np.arange(6), answer, chosen)
    assert y[:, 0].tolist() == [3, 1, 0, 1, 3, 0] and y[:, 1].tolist() == [1, 1, 1, 0, 1, 0]


def test_only_what_has_a_label_is_judged(tmp_path):
    _, answer, _ = learnt(ROWS)
    targets, _ = several.targets([{"topic": t, "words": w} for t, w in ROWS], options())
    outputs = np.array([[0.9, 0.1, 1], [0.8, 0.2, 4], [0.5, 0.5, 3], [0.1, 0.9, 0], [0.9, 0.1, 9], [0.5, 0.5, 0]])
    answer["tasks"]["topic"]["raw"], answer["tasks"]["words"]["raw"] = [2], [1]
    parts = [([f"row {i}" for i in range(6)], several.columns(targets, outputs, answer))]
    evaluation.write_predictions(tmp_path / "p.parquet", parts, answer)
    table, read = evaluation.read_predictions(tmp_path / "p.parquet")
    result = several.score(table, read)
    assert result["tasks"]["topic"]["n"] == result["tasks"]["words"]["n"] == 4 and result["n"] == 6
    assert result["metrics"]["topic/accuracy"] == 0.75 and result["metrics"]["words/rmse"] == pytest.approx(0.5)
    assert result["metrics"]["mean"] == pytest.approx((0.75 + result["metrics"]["words/r2"]) / 2)
    assert table["topic/predicted"][2] and table["topic/label"][2] is None


# --- The weights of the losses


def test_uncertainty_is_weighed_as_kendall_says():
    y, answer, chosen = learnt(ROWS, weighting="uncertainty")
    net = tiny(answer, chosen)
    s = np.array([0.4, -0.7], np.float32)
    net.model.get_layer("head_balance").log_variances.assign(s)
    total, found = gradients(net, chosen, X, y)
    means = losses(net, chosen, X, y)
    assert total == pytest.approx(np.exp(-s[0]) * means[0] + np.exp(-s[1]) / 2 * means[1] + s.sum() / 2, rel=1e-5)
    slope = found["head_balance/log_variances"]
    np.testing.assert_allclose(slope, [0.5 - np.exp(-s[0]) * means[0], 0.5 - np.exp(-s[1]) / 2 * means[1]], rtol=1e-4)
    judged = several.loss(chosen)(y, net.model(X, training=False))
    assert float(judged) == pytest.approx(sum(means), rel=1e-5)


def losses(net, chosen, x, y) -> list[float]:
    raw = net.model(x, training=False)
    return [float(balance._mean(*term)) for term in several._terms(chosen)(y, raw).values()]


def test_gradnorm_moves_the_weights_as_a_reference_in_numpy_does():
    import keras

    labels = [("a", "1"), ("b", "4"), ("b", "2"), ("b", "5"), ("a", "9"), ("a", "3")]
    y, answer, chosen = learnt(labels, weighting="gradnorm", pace=1.2, pace_rate=0.05)
    net = tiny(answer, chosen, 3)
    body, heads = net.blocks["body"][0], {x.name: x for x in net.blocks["head"]}
    trained = several.balanced(net.model, net, chosen)
    trained.compile(keras.optimizers.SGD(0.1), loss=several.loss(chosen), weighted_metrics=several.metrics(chosen))
    w, first = np.ones(2), None
    for _ in range(4):
        mean, norm = reference(body, heads["head_topic_logits"], heads["head_words_values"], y)
        first = mean if first is None else first
        lag = (mean / first) / (mean / first).mean()
        target = (w * norm).mean() * lag**1.2
        w = w - 0.05 * np.sign(w * norm - target) * norm / (w * norm).mean()
        w *= 2 / w.sum()
        logs = trained.train_on_batch(X, y, return_dict=True)
        np.testing.assert_allclose(heads["head_balance"].paces.numpy(), w, rtol=1e-4)
    assert abs(w[0] - 1) > 0.05 and {"topic/loss", "topic/accuracy", "words/rmse"} <= set(logs)
    told = several.told(net, chosen)
    assert told == pytest.approx({"topic/weight": w[0], "words/weight": w[1]}, rel=1e-4)


def reference(body, topic, words, y):
    """The mean loss of each task and the norm of its gradient at the weights of the last shared layer."""
    (kernel, bias), (a, a0), (b, b0) = ([v.numpy().astype(float) for v in x.weights] for x in (body, topic, words))
    h = np.tanh(X @ kernel + bias)
    logits, values = h @ a + a0, (h @ b + b0)[:, 0]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mean = [-(y[:, 2:4] * np.log(p)).sum(1).mean(), ((values - y[:, 4]) ** 2).mean()]
    norm = []
    for slope in ((p - y[:, 2:4]) @ a.T / 6, 2 * (values - y[:, 4])[:, None] @ b.T / 6):
        slope = slope * (1 - h**2)
        norm.append(np.sqrt(((X.T @ slope) ** 2).sum() + (slope.sum(0) ** 2).sum()))
    return np.array(mean), np.array(norm)


# --- One run for all


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of text, topic and number of words, of which every fifth topic and every seventh number is not known."""
    path = tmp_path_factory.mktemp("several") / "topics.csv"
    with path.open("w", encoding="utf8", newline="") as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerow(["text", "topic", "count"])
        for i in range(150):
            topic = list(WORDS)[i % 3]
            text = sentence(topic, i)
            rows.writerow([text, "" if i % 5 == 0 else topic, "" if i % 7 == 0 else len(text.split())])
    return path


def write(folder, table, preset, **sections):
    given = {
        "task": {"name": "text-multitask", "weighting": "uncertainty", "shared": 16, "tasks": TWO},
        "data": {"path": str(table)},
        "backbone": {"name": str(preset), "weights": "preset"},
        "train": {
            "batch": 16,
            "phases": [
                {"name": "head", "train": "head", "epochs": 3, "learning_rate": 0.01},
                {
                    "name": "all",
                    "train": "all",
                    "epochs": 12,
                    "learning_rate": 0.003,
                    "early_stopping": {"patience": 5},
                },
            ],
        },
        "export": ["saved_model", "tflite", "tflite-dynamic"],
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, table, tiny_bert):
    folder = tmp_path_factory.mktemp("several-run")
    return tlkeras.train(write(folder, table, tiny_bert), folder / "both", quiet=True)


@pytest.fixture(scope="module")
def alone(run, tmp_path_factory):
    """The same config with one task, and one epoch."""
    sets = ["task.only=topic", "train.phases.0.epochs=1", "train.phases.1.epochs=1"]
    return tlkeras.train(run.config, tmp_path_factory.mktemp("several-alone") / "topic", sets=sets, quiet=True)


def test_both_tasks_are_learnt_and_judged_where_they_have_labels(run):
    result = tlkeras.evaluate(run.folder, quiet=True)
    found = result["metrics"]
    assert result["main"] == "mean" and found["topic/accuracy"] > 0.6 and found["words/r2"] > 0.3
    assert result["intervals"]["topic/accuracy"] and result["tasks"]["topic"]["n"] < result["n"]
    history = run.history.read_text().splitlines()
    assert {"topic/loss", "val_topic/accuracy", "words/rmse", "topic/log_variance"} <= set(history[0].split(","))
    rows = [dict(zip(history[0].split(","), x.split(","), strict=True)) for x in history[1:]]
    assert float(rows[-1]["words/log_variance"]) != 0
    # Judged by the weights of the config, whatever was learnt of them.
    for row in rows:
        parts = float(row["val_topic/loss"]) + float(row["val_words/loss"])
        assert float(row["val_loss"]) == pytest.approx(parts, rel=0.25)


def test_the_frozen_part_is_stored_for_both(run):
    assert read_json(run.plan)["prefix"]["head"]["stored"]


def test_predict_answers_by_task(run):
    texts = ["the bread and the soup", "a goal of the team"]
    found = tlkeras.predict(run.folder, given=texts, quiet=True)
    assert found[0]["topic"]["label"] == "food" and len(found[1]["words"]["values"]) == 1
    from tlkeras import answers

    assert "topic: food" in answers.line(found[0]) and "; words: " in answers.line(found[0])


def test_one_artefact_has_the_outputs_of_both_by_name(run):
    rows = artefacts.export(run.folder, quiet=True)
    assert [r["format"] for r in rows] == ["saved_model", "tflite", "tflite-dynamic"]
    assert all(r["metric"] == "mean" and r["drop"] < 0.05 for r in rows)
    texts = ["the bread and the soup", "a goal of the team"]
    out = saved_model.load(run.artefact("saved_model"))([(t,) for t in texts])
    assert {"topic_label", "topic_score", "topic_scores", "words_values"} <= set(out)
    mine = tlkeras.predict(run.folder, given=texts, quiet=True)
    np.testing.assert_allclose(out["words_values"][:, 0], [a["words"]["values"][0] for a in mine], atol=1e-4)
    contract = json.loads((run.artefact("tflite") / "contract.json").read_text())
    assert contract["output"] == ["topic_scores", "words_values"]
    length = contract["input"]["length"]
    flat = tflite.load(run.artefact("tflite"))(
        {n: np.ones((1, length), np.int32) for n in contract["input"]["tensors"]}
    )
    assert flat["topic_scores"].shape == (1, 3) and flat["words_values"].shape == (1, 1)


def test_the_server_answers_by_task(run):
    from fastapi.testclient import TestClient

    from tlkeras.server import folders, models, rest

    if not run.artefact("saved_model").is_dir():
        artefacts.export(run.folder, ["saved_model"], quiet=True)
    model = models.load(folders.find(run.artefact("saved_model")))
    client = TestClient(rest.build({"both": model}))
    body = {"instances": ["the bread and the soup"]}
    (answer,) = client.post("/v1/models/both:predict", json=body).json()["predictions"]
    assert answer["topic_label"] == "food" and len(answer["words_values"]) == 1


def test_a_run_says_whether_sharing_helped(run, alone):
    rows = sharing.against(run.folder, [alone.folder], quiet=True)
    (row,) = rows
    assert (row["task"], row["metric"]) == ("topic", "accuracy") and row["together"] > row["alone"]
    assert row["difference"] == pytest.approx(row["together"] - row["alone"])
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    assert (row["verdict"] == "helped") == (row["interval"][0] > 0)
    assert read_json(run.metrics)["test"]["sharing"] == rows and "topic" in sharing.text(rows)
    page = tlkeras.report(run.folder).read_text()
    assert "Did sharing help?" in page and row["verdict"] in page and "What it gets wrong" in page
    assert "weighed by uncertainty" in page and "Was it worth training?" not in page


def test_the_same_splits_hold_for_a_task_alone(run, alone):
    both, single = (data.reopen(open_run(r.folder)) for r in (run, alone))
    assert both.splits == single.splits and both.ids == single.ids


def test_a_run_against_itself_is_no_different(alone):
    table, answer = evaluation.read_predictions(_judged(alone))
    module, one, _ = several.members(answer)["topic"]
    mine = several.of_member(table, "topic")
    row = sharing.compare(module, one, mine, mine)
    assert row["difference"] == 0 and row["interval"] == [0, 0] and row["verdict"].startswith("no difference")


def _judged(run):
    if not run.predictions("test").is_file():
        tlkeras.evaluate(run.folder, quiet=True)
    return run.predictions("test")


def test_what_cannot_be_compared_is_said(run, alone):
    with pytest.raises(UsageError, match=r"is a run of several|must have learnt one of the tasks"):
        sharing.against(alone.folder, [run.folder], quiet=True)


def test_other_labelled_data_is_judged(run, table, tmp_path):
    lines = table.read_text().splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([lines[0], *(f"my {line}" for line in lines[2:5])]))
    result = evaluation.evaluate(run.folder, data_path=other, quiet=True)
    assert result["n"] == 3 and result["tasks"]["topic"]["n"] == 3


def test_gradnorm_is_kept_by_a_checkpoint(table, tiny_bert, tmp_path):
    task = {"name": "text-multitask", "weighting": "gradnorm", "shared": 8, "tasks": TWO}
    phases = [{"name": "head", "train": "head", "epochs": 3, "learning_rate": 0.01}]
    config = write(tmp_path, table, tiny_bert, task=task, train={"batch": 16, "phases": phases})
    whole = tlkeras.train(config, tmp_path / "whole", quiet=True)
    cut = tlkeras.train(config, tmp_path / "cut", sets=["train.phases.0.epochs=3"], quiet=True)
    cut.model.unlink()
    for newest in sorted(cut.checkpoints.iterdir())[-1:]:
        import shutil

        shutil.rmtree(newest) if newest.is_dir() else newest.unlink()
    tlkeras.train(cut.folder, resume=True, quiet=True)
    first, second = ([v.numpy() for v in evaluation.open_trained(r.folder).network.model.weights] for r in (whole, cut))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert "topic/weight" in whole.history.read_text()
    assert "weighed by GradNorm" in tlkeras.report(whole.folder).read_text()


# --- Places in pictures


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Scenes of which two training pictures are in no JSON, and three have no mask."""
    root = write_scenes(tmp_path_factory.mktemp("halves"), {"train": 16, "val": 4, "test": 5})
    path = root / "instances_train.json"
    known = json.loads(path.read_text())
    known["images"] = [i for i in known["images"] if i["id"] not in (0, 1)]
    known["annotations"] = [a for a in known["annotations"] if a["image_id"] not in (0, 1)]
    path.write_text(json.dumps(known))
    for n in (2, 3, 4):
        (root / "masks" / f"{n}.png").unlink()
    return root


def places(folder, root, preset, **sections):
    members = {
        "things": {"name": "object-detection", "scale": "small"},
        "ground": {"name": "semantic-segmentation", "width": 8},
    }
    given = {
        "task": {"name": "image-multitask", "weighting": "uncertainty", "tasks": members},
        "data": {"path": str(root), "on_bad": "skip"},
        "backbone": {"name": str(preset), "weights": "preset"},
        "augment": {"flip": "horizontal"},
        "train": {
            "batch": 8,
            "phases": [{"name": "head", "train": ["neck", "head"], "epochs": 1, "learning_rate": 0.01}],
        },
        **sections,
    }
    path = folder / "places.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def seen(tmp_path_factory, halves, pyramid):  # noqa: F811
    folder = tmp_path_factory.mktemp("places-run")
    return tlkeras.train(places(folder, halves, pyramid), folder / "seen", quiet=True)


def test_pictures_with_boxes_masks_or_both_are_one_list(halves, pyramid, tmp_path):  # noqa: F811
    cfg, _ = configure.load(places(tmp_path, halves, pyramid))
    task, chosen = tasks.get(cfg.task_name), tasks.options_of(cfg)
    held = data.collect(cfg.data, task, chosen, Progress(True), places="places")
    assert len(held.ids) == 25 and held.splits.count("train") == 16
    by = {i.rsplit("/", 1)[-1]: set(row) for i, row in zip(held.ids, held.targets, strict=True)}
    assert by["0.png"] == {"ground"} and by["2.png"] == {"things"} and by["9.png"] == {"ground", "things"}


def test_boxes_and_masks_of_a_picture_are_turned_together(halves, pyramid, tmp_path):  # noqa: F811
    import tensorflow as tf

    from tlkeras import network
    from tlkeras.data import pictures

    cfg, _ = configure.load(places(tmp_path, halves, pyramid))
    task, chosen = tasks.get(cfg.task_name), tasks.options_of(cfg)
    held = data.collect(cfg.data, task, chosen, Progress(True), places="places")
    y, w, answer = task.learnt(held.targets, held.rows("train"), held.answer, chosen)
    table = held.table(held.rows("train"), y, w)
    pixels = network.contract(cfg, True)
    view = pictures.viewer(table, pixels, 0, cfg.augment)
    plain = pictures.loader(table, pixels)
    turned = 0
    for i in range(len(table)):
        target, was = (f(*a)[1].numpy() for f, a in ((view, (tf.constant(i), 0)), (plain, (tf.constant(i),))))
        assert target.shape == was.shape
        ways = {"boxes": _flipped_boxes(target, was, answer), "mask": _flipped_mask(target, was)}
        assert len(set(ways.values()) - {None}) <= 1, (i, ways)
        turned += True in ways.values()
    assert 0 < turned < len(table)


def _flipped_boxes(target, was, answer):
    m = answer["tasks"]["things"]["target"][0]
    new, old = (x[2 : 2 + 5 * m].reshape(m, 5) for x in (target, was))
    if not (old[:, 4] >= 0).any():
        return None
    return not np.allclose(new[0, :4], old[0, :4], atol=1e-3)


def _flipped_mask(target, was):
    new, old = (x[-64 * 64 :].reshape(64, 64) for x in (target, was))
    if (old == 255).all():
        assert was[1] == 0
        return None
    same, other = ((new == x).mean() for x in (old, old[:, ::-1]))
    return bool(other > same)


def test_boxes_and_masks_come_from_one_run(seen, halves):
    result = tlkeras.evaluate(seen.folder, quiet=True)
    assert {"things/map", "ground/miou", "mean"} <= set(result["metrics"])
    (answer,) = tlkeras.predict(seen.folder, [halves / "images" / "9.png"], quiet=True)
    assert answer["ground"]["size"] == [64, 96] and "boxes" in answer["things"]
    assert tlkeras.report(seen.folder).is_file()


def test_boxes_and_masks_are_drawn_into_one_picture(seen, halves, tmp_path):
    from tlkeras import answers

    found = tlkeras.predict(seen.folder, [halves / "images" / "9.png"], quiet=True)
    drawn = answers.draw(seen.folder, found, tmp_path / "drawn")
    assert [p.name for p in drawn] == ["9.png"] and (tmp_path / "drawn" / "9.mask.png").is_file()


@pytest.mark.parametrize("form", ["saved_model", "tflite"])
def test_an_artefact_gives_boxes_and_masks_by_name(form, seen, halves):
    (row,) = artefacts.export(seen.folder, [form], quiet=True, max_drop=0.1)
    assert row["metric"] == "mean"
    if form == "saved_model":
        out = saved_model.load(seen.artefact(form))([(halves / "images" / "9.png").read_bytes()])
        assert out["things_boxes"].shape == (1, 100, 4) and out["ground_mask"].shape == (1, 64, 64)


# --- Mistakes


@pytest.mark.parametrize(
    ("task", "more", "said"),
    [
        ({"tasks": {"one": {"name": "text-classification"}}}, {}, "names two tasks or more"),
        ({"tasks": {**TWO, "third": {"name": "text-clasification"}}}, {}, "Did you mean 'text-classification'|text-classification"),
        ({"tasks": {**TWO, "third": {"name": "masked-lm"}}}, {}, "third.name must be a kind of task that can share"),
        ({"tasks": {**TWO, "third": {"name": "image-classification"}}}, {}, "reads images, and text-multitask texts"),
        ({"tasks": {**TWO, "third": {"name": "text-regression", "labell": "x"}}}, {}, "there is no such key.*label"),
        ({"tasks": TWO, "only": "topc"}, {}, "there is no task 'topc'.*topic"),
        ({"tasks": TWO}, {"data": {"path": "x.csv", "label": "y"}}, "each names its own"),
        ({"tasks": {**TWO, "words": {**TWO["words"], "weight": 2.0}}, "weighting": "uncertainty"}, {}, "weights are learnt"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_told_with_what_to_do(task, more, said, tmp_path, tiny_bert):
    path = write(tmp_path, "x.csv", tiny_bert, task={"name": "text-multitask", **task}, **more)
    with pytest.raises(ConfigError, match=said) as told:
        configure.load(path)
    assert str(told.value).startswith(str(path)) or "config.yaml" in str(told.value)


def test_a_task_alone_is_opened_again_without_what_the_others_need():
    members = {"topic": {"name": "image-classification"}, "ground": {"name": "semantic-segmentation"}}
    chosen = several.Options.model_validate({"tasks": members, "only": "topic"})
    labels = [{"topic": t, "ground": {"mask": "gone.png", "size": [4, 4], "names": []}} for t in "ab"]
    rows, answer = several.targets(labels, chosen, {"topic": ["a", "b"]})
    assert [list(row) for row in rows] == [["topic"], ["topic"]] and list(answer["tasks"]) == ["topic"]


def test_a_column_without_a_label_is_named(tmp_path):
    with pytest.raises(DataError, match="task words: no sample has a label"):
        several.targets([{"topic": "a", "words": None}, {"topic": "b", "words": None}], options())
