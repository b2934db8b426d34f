"""A task is consistent with itself: what it learns from, what it answers and what it scores mean the same thing.

Targets, class weights, losses, predictions files and the answers of artefacts, for both tasks; weights against
scikit-learn, losses against their formulas in NumPy, and scores from the predictions file alone.
"""

import json
import os

import numpy as np
import pytest
from pydantic import ValidationError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tlkeras import metrics as m  # noqa: E402
from tlkeras import tasks  # noqa: E402
from tlkeras.errors import DataError, UsageError  # noqa: E402

classes = tasks.get("image-classification")
values = tasks.get("image-regression")
Options, Values = classes.Options, values.Options
CONTRACT = [
    "Options",
    "targets",
    "learnt",
    "head",
    "loss",
    "metrics",
    "finish",
    "strata",
    "columns",
    "score",
    "MAIN",
    "decode",
    "serving",
    "OUTPUT",
]


def answer_of(names, multi_label=False, threshold=0.5):
    return {"classes": list(names), "multi_label": multi_label, "threshold": threshold}


@pytest.mark.parametrize("name", tasks.TASKS)
def test_every_task_offers_the_contract(name):
    task = tasks.get(name)
    # What some tasks offer instead: tasks/__init__.py.
    instead = {
        "head": ("token_head", "frame_head", "maps", "heads"),
        "OUTPUT": ("named",),
        "finish": ("judged", "respond"),
        "serving": ("judged", "respond"),
        "decode": ("judged",),
    }
    assert [part for part in CONTRACT if not any(hasattr(task, n) for n in (part, *instead.get(part, ())))] == []
    assert tasks.options()[name] is tasks.get(name).Options
    assert all(field.description for field in tasks.get(name).Options.model_fields.values())


def test_a_task_that_does_not_exist_is_told_with_the_nearest():
    with pytest.raises(
        UsageError,
        match=rf"There is no task 'image-clasification'; there are {', '.join(tasks.TASKS)}\. Did you mean image-classification\?",
    ):
        tasks.get("image-clasification")


# --- Classification: targets


def test_targets_are_one_hot_in_the_order_of_the_names():
    rows, answer = classes.targets(["dog", "cat", "dog", "eel"], Options())
    assert answer == answer_of(["cat", "dog", "eel"]) and rows.dtype == np.float32
    assert rows.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    rows, answer = classes.targets(["dog", "cat"], Options(), ["dog", "cat"])
    assert answer["classes"] == ["dog", "cat"] and rows.tolist() == [[1, 0], [0, 1]]
    assert json.loads(json.dumps(answer)) == answer


def test_labels_are_texts_and_never_numbers():
    assert classes.targets(["0", "2", "10", "010"], Options())[1]["classes"] == ["0", "010", "10", "2"]


def test_multi_label_cells_list_their_classes():
    rows, answer = classes.targets(["a|b", "", " b | c |", "c|c"], Options(multi_label=True, threshold=0.3))
    assert answer == answer_of("abc", True, 0.3)
    assert rows.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert classes.targets(["a; b", "c|d"], Options(multi_label=True, separator=";"))[1]["classes"] == ["a", "b", "c|d"]
    assert classes.targets(["only", ""], Options(multi_label=True))[0].shape == (2, 1)


@pytest.mark.parametrize(
    ("labels", "names", "options", "said"),
    [
        (["a", "", "b"], None, {}, "Every sample needs a class; 1 have an empty label, the first is number 2."),
        (
            ["a", "b", "catt"],
            ["a", "b", "cat"],
            {},
            "Labels that data.classes does not list: 'catt' (1). Did you mean cat?",
        ),
        (["a", "a"], None, {}, "Classification needs at least two classes; the data has 1: a."),
        (["a", "b"], ["a", "b", "c"], {}, "Classes without a sample: c."),
        (["a|x", "b"], ["a", "b"], {"multi_label": True}, "Labels that data.classes does not list: 'x' (1)."),
        ([["a", "b"]], None, {}, "Classification reads one text per label; these labels are lists."),
        (["", ""], None, {"multi_label": True}, "the data has 0"),
    ],
)
def test_wrong_labels_are_told(labels, names, options, said):
    with pytest.raises(DataError) as caught:
        classes.targets(labels, Options(**options), names)
    assert said in str(caught.value)


# --- Classification: learning


def test_balanced_weights_equal_scikit_learn():
    compute_class_weight = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    rng = np.random.default_rng(0)
    for k in (2, 3, 7):
        y = np.concatenate([np.arange(k), rng.integers(0, k, 50) * rng.integers(0, 2, 50)])
        rows, answer = classes.targets([f"c{i}" for i in y], Options())
        train = np.concatenate([np.arange(k), rng.choice(np.arange(k, len(y)), 30, replace=False)])
        same, weights, learnt = classes.learnt(rows, train, answer, Options(class_weights="balanced"))
        want = compute_class_weight("balanced", classes=np.arange(k), y=y[train])
        assert weights == pytest.approx(want[y], rel=1e-6) and weights.dtype == np.float32
        assert weights[train].mean() == pytest.approx(1, rel=1e-6) and (same == rows).all() and learnt == answer


def test_weights_may_be_given_by_class():
    rows, answer = classes.targets(["a", "b", "c"], Options())
    weights = classes.learnt(rows, np.arange(3), answer, Options(class_weights={"b": 2.5, "c": 0}))[1]
    assert weights.tolist() == [1, 2.5, 0]
    assert classes.learnt(rows, np.arange(3), answer, Options())[1].tolist() == [1, 1, 1]
    with pytest.raises(DataError, match=r"task\.class_weights names 'bb', which is no class"):
        classes.learnt(rows, np.arange(3), answer, Options(class_weights={"bb": 1}))
    with pytest.raises(ValidationError):
        Options(class_weights="balanced", multi_label=True)


def test_a_class_without_a_training_sample_gives_no_infinite_weight():
    rows, answer = classes.targets(["a", "b", "c"], Options())
    assert np.isfinite(classes.learnt(rows, np.array([0, 1]), answer, Options(class_weights="balanced"))[1]).all()


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("gamma", [None, 1.0, 2.0, 5.0])
def test_losses_follow_their_formulas(multi_label, smoothing, gamma):
    rng = np.random.default_rng(0)
    k, logits = 4, rng.normal(size=(32, 4)) * 3
    y = (rng.random((32, k)) < 0.4).astype(float) if multi_label else np.eye(k)[rng.integers(0, k, 32)]
    options = Options(
        multi_label=multi_label, label_smoothing=smoothing, **({"loss": "focal", "focal_gamma": gamma} if gamma else {})
    )
    if multi_label:
        t, p = y * (1 - smoothing) + smoothing / 2, sigmoid(logits)
        entropy, true = -(t * np.log(p) + (1 - t) * np.log(1 - p)), t * p + (1 - t) * (1 - p)
        want = ((1 - true) ** (gamma or 0) * entropy).mean(1)
    else:
        t, p = y * (1 - smoothing) + smoothing / k, softmax(logits)
        want = ((1 - p) ** (gamma or 0) * -t * np.log(p)).sum(1)
    assert float(classes.loss(options)(y.astype(np.float32), logits.astype(np.float32))) == pytest.approx(
        want.mean(), rel=1e-4
    )
    # Weights of the samples multiply their losses.
    weights = rng.random(32)
    assert float(classes.loss(options)(y.astype(np.float32), logits.astype(np.float32), weights)) == pytest.approx(
        (want * weights).mean(), rel=1e-4
    )


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("loss", ["crossentropy", "focal"])
def test_gradients_stay_numbers_where_the_network_is_certain(multi_label, loss):
    import tensorflow as tf

    for gamma in (1.0, 1.5, 2.0):
        for smoothing in (0.0, 0.1):
            options = Options(multi_label=multi_label, loss=loss, focal_gamma=gamma, label_smoothing=smoothing)
            for scale in (20.0, 200.0, -200.0):
                logits = tf.Variable([[scale, -scale, 0.0]])
                with tf.GradientTape() as tape:
                    value = classes.loss(options)(tf.constant([[1.0, 0.0, 0.0]]), logits)
                assert np.isfinite(value) and np.isfinite(tape.gradient(value, logits)).all()
    with pytest.raises(ValidationError):  # below 1 they do not
        Options(focal_gamma=0.5)


def test_heads_have_raw_outputs_and_names_of_their_own():
    import keras

    features = keras.Input((7,))
    for task, options, answer, k in ((classes, Options(), answer_of("abc"), 3), (values, Values(), {"values": 2}, 2)):
        made = keras.Model(features, task.head(features, answer, options))
        assert made.output_shape == (None, k) and all(layer.name.startswith("head_") for layer in made.layers[1:])
        assert made.layers[-1].activation is keras.activations.linear and made.layers[-1].compute_dtype == "float32"


def test_the_accuracy_of_training_is_that_of_the_score():
    rng = np.random.default_rng(0)
    for multi_label in (False, True):
        y = (
            (rng.random((40, 3)) < 0.5).astype("float32")
            if multi_label
            else np.eye(3, dtype="float32")[rng.integers(0, 3, 40)]
        )
        raw = rng.normal(size=(40, 3)).astype("float32")
        (metric,) = classes.metrics(Options(multi_label=multi_label))
        metric.update_state(y, raw)
        want = ((raw > 0) == y).mean() if multi_label else (raw.argmax(1) == y.argmax(1)).mean()
        assert float(metric.result()) == pytest.approx(want)


def test_finished_outputs_are_probabilities():
    raw = np.random.default_rng(0).normal(size=(5, 3)).astype("float32") * 5
    assert np.asarray(classes.finish(raw, answer_of("abc"))) == pytest.approx(softmax(raw), rel=1e-5)
    assert np.asarray(classes.finish(raw, answer_of("abc", True))) == pytest.approx(sigmoid(raw), rel=1e-5)


# --- Classification: strata


def test_strata_are_classes_or_the_rarest_of_a_row():
    rows, answer = classes.targets(["b", "a", "b"], Options())
    assert classes.strata(rows, answer) == [1, 0, 1]
    labels = ["common"] * 10 + ["common|rare"] * 4 + ["rare|middle"] * 3 + ["middle"] * 5
    rows, answer = classes.targets(labels, Options(multi_label=True))
    names = [answer["classes"][c] for c in classes.strata(rows, answer)]
    assert names == ["common"] * 10 + ["rare"] * 7 + ["middle"] * 5


def test_a_frequent_class_that_is_rarest_in_one_row_only_can_be_split():
    from tlkeras.data import splits

    labels = ["a|b"] * 20 + ["b"] + [""] * 2 + ["c"] * 9
    rows, answer = classes.targets(labels, Options(multi_label=True))
    strata = classes.strata(rows, answer)
    made = splits.assign(
        [str(i) for i in range(len(labels))], strata, [None] * len(labels), [None] * len(labels), 0.2, 0.2, 0
    )
    assert set(made) == {"train", "val", "test"}
    rows, answer = classes.targets(["a"] * 9 + ["b"] * 2, Options(multi_label=True))
    assert classes.strata(rows, answer) == [0] * 9 + [1] * 2, (
        "a class that is rare itself is left to be refused by name"
    )


# --- Classification: predictions and their score


def scored(task, columns, answer, folder):
    """What evaluation makes of a predictions file with these columns."""
    from tlkeras import evaluation

    path = folder / "predictions-test.parquet"
    evaluation.write_predictions(path, [([str(i) for i in range(len(columns["label"]))], columns)], answer)
    table, read = evaluation.read_predictions(path)
    assert read == answer and table["id"][0] == "0"
    result = evaluation.score(path, task)
    assert json.loads(json.dumps(result)) == result
    return result


@pytest.mark.parametrize("k", [2, 3, 8])
def test_the_predictions_file_alone_is_scored(tmp_path, k):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(k)
    y = np.concatenate([np.arange(k), rng.integers(0, k, 60)])
    rows, answer = classes.targets([f"class {i}" for i in y], Options())
    p = softmax(rng.normal(size=rows.shape) + 1.5 * rows).astype(np.float32)
    columns = classes.columns(rows, p, answer)
    assert columns["label"] == [f"class {i}" for i in y] and columns["predicted"] == [f"class {i}" for i in p.argmax(1)]
    assert columns["score"] == p.max(1).tolist()
    result = scored(classes, columns, answer, tmp_path)
    got = result["metrics"]
    assert result["main"] == "accuracy" == classes.MAIN(answer)[0] and classes.MAIN(answer)[1] and result["n"] == len(y)
    exact = p.astype(float) / p.astype(float).sum(1, keepdims=True)
    want = {
        "accuracy": sk.accuracy_score(y, p.argmax(1)), "macro_f1": sk.f1_score(y, p.argmax(1), average="macro"), "log_loss": sk.log_loss(y, exact),
        "roc_auc": sk.roc_auc_score(y, p[:, 1]) if k == 2 else sk.roc_auc_score(y, exact, multi_class="ovr"),
        "pr_auc": sk.average_precision_score(y, p[:, 1]) if k == 2 else sk.average_precision_score(np.eye(k)[y], p),
        **{f"top_{n}_accuracy": sk.top_k_accuracy_score(y, p, k=n) for n in (2, 3, 5) if n < k},
    }  # fmt: skip
    assert {name: got[name] for name in want} == pytest.approx(want, rel=1e-5)
    assert {n for n in got if n.startswith("top")} == {f"top_{n}_accuracy" for n in (2, 3, 5) if n < k}
    assert (np.array(result["confusion"]) == sk.confusion_matrix(y, p.argmax(1))).all()
    assert result["per_class"]["class"] == answer["classes"] and sum(result["per_class"]["support"]) == len(y)
    for name, (low, high) in result["intervals"].items():
        assert low < got[name] < high


def test_the_score_of_one_wrong_sample_is_defined(tmp_path):
    rows, answer = classes.targets(["a", "b"], Options())
    result = scored(classes, classes.columns(rows[:1], np.array([[0.1, 0.9]], np.float32), answer), answer, tmp_path)
    assert result["metrics"]["accuracy"] == 0 and result["metrics"]["roc_auc"] is None and result["n"] == 1


def test_the_multi_label_predictions_file_alone_is_scored(tmp_path):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    rows, answer = classes.targets(
        ["|".join(c for c in "abc" if rng.random() < 0.5) for _ in range(50)], Options(multi_label=True, threshold=0.7)
    )
    p = np.round(sigmoid(rng.normal(size=rows.shape) + 2 * rows - 1), 1).astype(np.float32)  # many are 0.7 exactly
    columns = classes.columns(rows, p, answer)
    guess = p >= np.float32(0.7)
    assert columns["label"] == [[c for c, x in zip("abc", r, strict=True) if x] for r in rows]
    assert columns["predicted"] == [[c for c, x in zip("abc", g, strict=True) if x] for g in guess]
    result = scored(classes, columns, answer, tmp_path)
    assert result["main"] == "macro_f1"
    want = {
        "accuracy": sk.accuracy_score(rows, guess), "macro_f1": sk.f1_score(rows, guess, average="macro"), "micro_f1": sk.f1_score(rows, guess, average="micro"),
        "roc_auc": sk.roc_auc_score(rows, p, average="macro"), "pr_auc": sk.average_precision_score(rows, p, average="macro"),
    }  # fmt: skip
    assert {name: result["metrics"][name] for name in want} == pytest.approx(want, rel=1e-6)
    assert result["confusion"] is None
    for row, labels in zip(p, columns["predicted"], strict=True):
        assert sorted(classes.decode(row, answer)["labels"]) == labels, (
            "decode, columns and score draw the line at the same place"
        )


# --- Classification: answers


def test_answers_agree_with_the_predictions_file():
    rng = np.random.default_rng(0)
    answer = answer_of([f"c{i}" for i in range(8)])
    p = softmax(rng.normal(size=(20, 8))).astype(np.float32)
    p[0] = 1 / 8  # a tie
    columns = classes.columns(np.eye(8)[rng.integers(0, 8, 20)], p, answer)
    served = {name: np.asarray(tensor) for name, tensor in classes.serving(p, answer).items()}
    for i in range(20):
        one = classes.decode(p[i], answer)
        assert one["label"] == columns["predicted"][i] == served["label"][i].decode()
        assert (
            one["score"] == pytest.approx(columns["score"][i], abs=1e-6) == pytest.approx(served["score"][i], abs=1e-6)
        )
        assert (
            list(one["scores"])[0] == one["label"]
            and len(one["scores"]) == 5
            and list(one["scores"].values()) == sorted(one["scores"].values(), reverse=True)
        )
        assert json.loads(json.dumps(one)) == one
    assert served["classes"].shape == (20, 8) and [c.decode() for c in served["classes"][3]] == answer["classes"]
    assert (served[classes.OUTPUT] == p).all()


def test_serving_takes_any_batch_in_a_graph():
    import tensorflow as tf

    for answer in (answer_of("abc"), answer_of("abc", True)):
        served = tf.function(
            lambda x, answer=answer: classes.serving(x, answer), input_signature=[tf.TensorSpec((None, 3))]
        )
        for n in (0, 1, 5):
            out = served(np.full((n, 3), 1 / 3, np.float32))
            assert out["classes"].shape == out["scores"].shape == (n, 3) and ("label" in out) != answer["multi_label"]


def test_a_multi_label_answer_may_be_empty():
    answer = answer_of("abc", True, 0.5)
    assert classes.decode(np.array([0.1, 0.2, 0.3], np.float32), answer) == {
        "labels": [],
        "scores": {"c": 0.3, "b": 0.2, "a": 0.1},
    }
    assert classes.decode(np.array([0.5, 0.2, 0.9], np.float32), answer)["labels"] == ["c", "a"]


# --- Regression


def test_values_are_read_in_their_unit():
    rows, answer = values.targets(["1", " 2.5 ", "-3e2", "+.5"], Values())
    assert rows.tolist() == [[1], [2.5], [-300], [0.5]] and rows.dtype == np.float32 and answer == {"values": 1}
    rows, answer = values.targets([["1", "2"], ["3", "4"]], Values())
    assert rows.tolist() == [[1, 2], [3, 4]] and answer == {"values": 2}


@pytest.mark.parametrize(
    "cell", ["", " ", "oops", "inf", "-inf", "nan", "1,5", "1_000", "1e400", "1e39", "0x10", "1 2", "--1"]
)
def test_a_cell_that_is_no_finite_number_is_named(cell):
    with pytest.raises(DataError) as caught:
        values.targets(["1", cell, "2", cell], Values())
    text = str(caught.value)
    assert text.startswith(
        "Regression needs a finite number in every label cell; 2 are not (rows are counted without the header): row 2: "
    )
    assert ("an empty cell" if not cell.strip() else repr(cell)) in text and "row 4" in text
    assert ("decimals are written with a point" in text) == (cell == "1,5")


def test_cells_of_several_values_are_named_by_row_and_value():
    with pytest.raises(DataError, match=r"2 are not .*: row 1, value 2: an empty cell; row 2, value 1: 'x'\."):
        values.targets([["1", ""], ["x", "2"], ["3", "4"]], Values())
    for odd in (["1"], ["1", "2", "3"], []):
        with pytest.raises(DataError, match=rf"1 are not .*: row 2: {len(odd)} values instead of 2"):
            values.targets([["1", "2"], odd], Values())
    with pytest.raises(DataError, match="and 90 more"):
        values.targets(["x"] * 100, Values())


def test_targets_are_standardised_from_training_rows_only_and_finish_gives_the_unit_back():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(200, 2)) * [5, 1e-3] + [1000, -2]
    raw[100:] *= 7  # what is held out lies elsewhere
    rows, answer = values.targets([[str(x) for x in r] for r in raw], Values())
    train = np.arange(100)
    learnt, weights, answer = values.learnt(rows, train, answer, Values())
    assert learnt.dtype == np.float32 and (weights == 1).all() and len(weights) == 200
    assert learnt[train].mean(0) == pytest.approx([0, 0], abs=1e-2) and learnt[train].std(0) == pytest.approx(
        [1, 1], rel=1e-3
    )
    assert answer["mean"] == pytest.approx(rows[train].astype(float).mean(0).tolist()) and answer[
        "scale"
    ] == pytest.approx(rows[train].astype(float).std(0).tolist())
    assert json.loads(json.dumps(answer)) == answer
    assert np.asarray(values.finish(learnt, answer)) == pytest.approx(rows, rel=1e-4)


def test_values_that_are_all_equal_are_refused_in_training_only():
    rows, answer = values.targets([["1", "5"], ["2", "5"], ["3", "6"]], Values())
    with pytest.raises(DataError, match="one value only in the training samples"):
        values.learnt(rows, np.array([0, 1]), answer, Values())
    values.learnt(rows, np.arange(3), answer, Values())
    assert values.targets(["7"], Values())[0].tolist() == [[7]], "one sample can be evaluated"


@pytest.mark.parametrize("name", ["mse", "mae", "huber"])
def test_losses_of_values_follow_their_formulas(name):
    rng = np.random.default_rng(0)
    y, guess = rng.normal(size=(2, 30, 2)).astype("float32")
    error = guess - y
    want = {"mse": error**2, "mae": abs(error), "huber": np.where(abs(error) <= 1, error**2 / 2, abs(error) - 0.5)}[
        name
    ].mean()
    assert float(values.loss(Values(loss=name))(y, guess)) == pytest.approx(want, rel=1e-5)


def test_the_predictions_file_of_values_alone_is_scored(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60, 2)) * 10
    rows, answer = values.targets([[str(x) for x in r] for r in y], Values())
    answer = values.learnt(rows, np.arange(60), answer, Values())[2]
    guess = (rows + rng.normal(size=rows.shape)).astype(np.float32)
    result = scored(values, values.columns(rows, guess, answer), answer, tmp_path)
    assert result["main"] == "rmse" and values.MAIN(answer) == ("rmse", False) and result["n"] == 60
    assert result["metrics"] == pytest.approx(m.regression(rows, guess))
    assert all(low < result["metrics"][name] < high for name, (low, high) in result["intervals"].items())
    assert values.strata(rows, answer) is None
    assert values.decode(guess[0], answer)["values"] == pytest.approx(guess[0].tolist(), abs=1e-5)
    assert (values.serving(guess, answer)[values.OUTPUT] == guess).all()
