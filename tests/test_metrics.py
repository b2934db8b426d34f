"""Every metric equals scikit-learn's on random cases, ties and absent classes among them; the intervals cover the truth."""

import itertools

import numpy as np
import pytest

from tlkeras import metrics as m

sk = pytest.importorskip("sklearn.metrics")
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore::RuntimeWarning"
)

CASES = 120
AT_MOST = 300  # curves of one class each: scikit-learn's own checks take most of the time


def cases(k):
    """(y, p) of many shapes: few and many samples, tied scores, classes that are absent or alone, all right, all wrong."""
    rng = np.random.default_rng(k)
    for case in range(CASES):
        n = int(rng.integers(1, 60)) if case % 3 else int(rng.integers(60, 300))
        y = rng.integers(0, k, n)
        p = rng.dirichlet(np.ones(k) * rng.choice([0.3, 1, 5]), n)
        if case % 4 == 1:  # many ties: few different scores
            p = np.maximum(np.round(p * 4), 0.5)
            p /= p.sum(1, keepdims=True)
        if case % 8 == 2:
            y = y * (y < k - 1)  # the last class is absent
        if case % 8 == 3:
            y[:] = rng.integers(k)  # one class alone
        if case % 8 == 4:
            p = (p + 3 * np.eye(k)[y]) / 4  # all right
        if case % 8 == 5:
            p = np.roll((p + 3 * np.eye(k)[y]) / 4, 1, axis=1)  # all wrong
        yield y, p


@pytest.mark.parametrize("k", [2, 3, 10])
def test_scores_of_the_confusion_matrix_equal_scikit_learn(k):
    for y, p in cases(k):
        guess = p.argmax(1)
        counts = m.confusion(y, guess, k)
        assert (counts == sk.confusion_matrix(y, guess, labels=range(k))).all()
        got = m.from_confusion(counts)
        want = {
            "accuracy": sk.accuracy_score(y, guess), "balanced_accuracy": sk.balanced_accuracy_score(y, guess),
            **{f"{how}_f1": sk.f1_score(y, guess, average=how, zero_division=0) for how in ("macro", "micro", "weighted")},
        }  # fmt: skip
        assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-12)
        for name, values in zip(
            ("precision", "recall", "f1", "support"),
            sk.precision_recall_fscore_support(y, guess, labels=range(k), zero_division=0),
            strict=True,
        ):
            assert got["per_class"][name] == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_multi_label_scores_equal_scikit_learn(k):
    rng = np.random.default_rng(k)
    for case in range(min(CASES, AT_MOST // k)):
        n = int(rng.integers(1, 80))
        Y = (rng.random((n, k)) < rng.random()).astype(int) * (case % 9 != 0)
        p = np.round(rng.random((n, k)), 1 if case % 2 else 6)
        guess = Y if case % 7 == 0 else 1 - Y if case % 7 == 1 else (p >= 0.5).astype(int)
        got = m.multi_label(Y, guess)
        want = {"accuracy": (guess == Y).all(1).mean()}
        if k > 1:  # scikit-learn takes one column for a binary problem
            want = {
                "accuracy": sk.accuracy_score(Y, guess),
                **{
                    f"{how}_f1": sk.f1_score(Y, guess, average=how, zero_division=0)
                    for how in ("macro", "micro", "weighted")
                },
            }
            for name, values in zip(
                ("precision", "recall", "f1", "support"),
                sk.precision_recall_fscore_support(Y, guess, zero_division=0),
                strict=True,
            ):
                assert got["per_class"][name] == pytest.approx(values, abs=1e-12)
        assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-12)
        defined = [c for c in range(k) if 0 < Y[:, c].sum() < n]
        assert m.mean_over_classes(m.roc_auc, Y, p) == (
            pytest.approx(np.mean([sk.roc_auc_score(Y[:, c], p[:, c]) for c in defined]), abs=1e-12)
            if defined
            else None
        )
        positive = [c for c in range(k) if Y[:, c].any()]
        assert m.mean_over_classes(m.average_precision, Y, p) == (
            pytest.approx(np.mean([sk.average_precision_score(Y[:, c], p[:, c]) for c in positive]), abs=1e-12)
            if positive
            else None
        )


@pytest.mark.parametrize("k", [2, 3, 10])
def test_curves_equal_scikit_learn(k):
    whole = 0
    for y, p in itertools.islice(cases(k), AT_MOST // k):
        for c in range(k):
            is_c = y == c
            assert m.roc_auc(is_c, p[:, c]) == (
                pytest.approx(sk.roc_auc_score(is_c, p[:, c]), abs=1e-12) if 0 < is_c.sum() < len(y) else None
            )
            assert m.average_precision(is_c, p[:, c]) == (
                pytest.approx(sk.average_precision_score(is_c, p[:, c]), abs=1e-12) if is_c.any() else None
            )
        if k > 2 and len(set(y)) == k:
            whole += 1
            assert m.mean_over_classes(m.roc_auc, np.eye(k, dtype=int)[y], p) == pytest.approx(
                sk.roc_auc_score(y, p, multi_class="ovr", average="macro"), abs=1e-12
            )
    assert k == 2 or whole > 9


def test_curves_of_equal_scores_are_those_of_chance():
    y = [0, 1, 1, 0, 1]
    assert m.roc_auc(y, [0.5] * 5) == 0.5 and m.average_precision(y, [0.5] * 5) == 0.6
    assert m.roc_auc([1, 1], [0, 1]) is None and m.average_precision([0, 0], [0, 1]) is None
    assert m.mean_over_classes(m.roc_auc, np.zeros((3, 2)), np.zeros((3, 2))) is None


@pytest.mark.parametrize("k", [2, 3, 10])
def test_log_loss_equals_scikit_learn(k):
    for y, p in cases(k):
        p = p.copy()
        p[0] = np.eye(k)[(y[0] + 1) % k]  # certain and wrong: the logarithm is clipped
        assert m.log_loss(y, p) == pytest.approx(sk.log_loss(y, p, labels=range(k)), rel=1e-9)


@pytest.mark.parametrize("k", [3, 10])
def test_top_k_equals_scikit_learn_with_ties_too(k):
    for y, p in cases(k):
        for n in range(1, k):
            assert m.top_k(y, p, n) == pytest.approx(sk.top_k_accuracy_score(y, p, k=n, labels=range(k)), abs=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_equals_scikit_learn(outputs):
    rng = np.random.default_rng(outputs)
    for case in range(CASES):
        n = int(rng.integers(2, 100))
        y = rng.normal(size=(n, outputs)) * 10.0 ** rng.integers(-3, 6)
        guess = y + rng.normal(size=y.shape) * rng.choice([0, 0.1, 10])
        if case % 5 == 0:
            y[:, 0] = 3.0  # nothing to explain: R2 is 0, or 1 where it is met
            guess[:, 0] = 3.0 if case % 10 else 4.0
        want = {
            "rmse": sk.root_mean_squared_error(y, guess),
            "mae": sk.mean_absolute_error(y, guess),
            "r2": sk.r2_score(y, guess),
        }
        assert m.regression(y, guess) == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_calibration_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(CASES):
        n, bins = int(rng.integers(1, 300)), int(rng.integers(1, 20))
        confidence = np.round(rng.random(n), int(rng.integers(1, 6)))
        correct = rng.random(n) < confidence
        total = 0.0
        for b in range(bins):
            inside = [i for i in range(n) if int(confidence[i] * bins) == b or (b == bins - 1 and confidence[i] == 1)]
            if inside:
                total += (
                    abs(
                        sum(correct[i] for i in inside) / len(inside) - sum(confidence[i] for i in inside) / len(inside)
                    )
                    * len(inside)
                    / n
                )
        got, rows = m.calibration(confidence, correct, bins)
        assert got == pytest.approx(total, abs=1e-12) and sum(r["n"] for r in rows) == n
    assert m.calibration([1.0, 1.0, 0.0], [True, True, False])[0] == 0 and m.calibration([1.0], [False])[0] == 1


def test_the_interval_contains_the_truth_about_95_times_in_100():
    rng, covered, trials = np.random.default_rng(0), 0, 300
    for trial in range(trials):
        right = rng.random(150) < 0.8
        low, high = m.bootstrap(
            lambda rows, right=right: {"accuracy": float(right[rows].mean())}, len(right), seed=trial, times=300
        )["accuracy"]
        covered += low <= 0.8 <= high
    assert 0.90 <= covered / trials <= 0.99


def test_the_interval_repeats_and_leaves_out_what_is_not_defined():
    right = np.arange(50) % 3 == 0

    def measure(rows):
        return {"accuracy": float(right[rows].mean()), "sometimes": 1.0 if rows[0] % 2 else None, "never": None}

    first = m.bootstrap(measure, 50, times=50)
    assert first == m.bootstrap(measure, 50, times=50) != m.bootstrap(measure, 50, seed=1, times=50)
    assert first["sometimes"] == [1.0, 1.0] and "never" not in first
