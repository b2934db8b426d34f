"""Scores of frozen features: each against scikit-learn, or against the formula written out another way.

pytest tests/test_transferability.py
"""

import numpy as np
import pytest

from tlkeras import transferability as t


def blobs(n=90, d=12, k=3, seed=0, apart=1.0):
    """Features (n, d) around a centre per class, one-hot targets."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return rng.normal(0, 1, (n, d)) + apart * rng.normal(0, 1, (k, d))[y], np.eye(k)[y]


@pytest.mark.parametrize("strength", [1.0, 1e-2])
def test_the_softmax_probe_is_logistic_regression(strength):
    linear = pytest.importorskip("sklearn.linear_model")
    X, Y = blobs()
    W, b = t.solve(X, Y, "one", strength, tolerance=1e-8, most=2000)
    theirs = linear.LogisticRegression(C=1 / (strength * len(X)), tol=1e-9, max_iter=5000).fit(X, Y.argmax(1))
    np.testing.assert_allclose(t.softmax(X @ W + b), theirs.predict_proba(X), atol=1e-5)


def test_the_sigmoid_probe_is_a_logistic_regression_for_each_label():
    linear = pytest.importorskip("sklearn.linear_model")
    X, Y = blobs()
    Y[::7, 0] = 1
    W, b = t.solve(X, Y, "several", 0.05, tolerance=1e-8, most=2000)
    for c in range(3):
        theirs = linear.LogisticRegression(C=1 / (0.05 * len(X)), tol=1e-9, max_iter=5000).fit(X, Y[:, c])
        np.testing.assert_allclose(1 / (1 + np.exp(-X @ W - b))[:, c], theirs.predict_proba(X)[:, 1], atol=1e-5)


def test_the_probe_of_values_is_ridge_regression():
    linear = pytest.importorskip("sklearn.linear_model")
    X, _ = blobs()
    Y = X @ np.random.default_rng(1).normal(0, 1, (12, 2)) + 5
    W, b = t.solve(X, Y, "values", 0.3)
    np.testing.assert_allclose(X @ W + b, linear.Ridge(alpha=0.3 * len(X)).fit(X, Y).predict(X), atol=1e-8)


def test_fewer_samples_than_features_give_the_same_probe():
    X, Y = blobs(n=20, d=50)
    centred = (X - X.mean(0)) / np.sqrt(X.var(0).mean())
    W, b = t.solve(centred, Y, "one", 0.1, tolerance=1e-9, most=5000)
    scaled = t._Scaled(X)
    fewer, c = t.solve(scaled.rows.astype(float), Y, "one", 0.1, tolerance=1e-9, most=5000)
    assert scaled.rows.shape == (20, 20)
    np.testing.assert_allclose(scaled.rows @ fewer + c, centred @ W + b, atol=1e-4)


def test_neighbours_are_those_of_scikit_learn():
    neighbours = pytest.importorskip("sklearn.neighbors")
    X, Y = blobs()
    Z, _ = blobs(seed=1)
    theirs = neighbours.KNeighborsClassifier(5, metric="cosine").fit(X, Y.argmax(1))
    np.testing.assert_allclose(t.neighbours(X, Y, Z), theirs.predict_proba(Z))
    values = X[:, :2] * 3
    theirs = neighbours.KNeighborsRegressor(5, metric="cosine").fit(X, values)
    np.testing.assert_allclose(t.neighbours(X, values, Z), theirs.predict(Z))


def marginal(X, y, alpha, beta):
    """The log density of y under weights N(0, 1/alpha) and noise N(0, 1/beta): a Gaussian of n dimensions."""
    spread = X @ X.T / alpha + np.eye(len(X)) / beta
    _, volume = np.linalg.slogdet(spread)
    return -0.5 * (len(X) * np.log(2 * np.pi) + volume + y @ np.linalg.solve(spread, y))


@pytest.mark.parametrize(("n", "d"), [(60, 8), (25, 40)])
def test_logme_is_the_greatest_evidence_of_the_gaussian_it_stands_for(n, d):
    optimize = pytest.importorskip("scipy.optimize")
    X, Y = blobs(n, d, 2)
    best = [
        max(
            -optimize.minimize(lambda p, y=y: -marginal(X, y, *np.exp(p)), at, method="Nelder-Mead", tol=1e-9).fun
            for at in ([0.0, 0.0], [3.0, 3.0])
        )
        for y in Y.T
    ]
    assert t.logme(X, Y) == pytest.approx(np.mean(best) / n, abs=1e-4)


def test_leep_is_its_formula_sample_by_sample():
    rng = np.random.default_rng(0)
    source, y = rng.dirichlet(np.ones(4), 30), rng.integers(0, 3, 30)
    joint = np.zeros((3, 4))
    for probabilities, label in zip(source, y, strict=True):
        joint[label] += probabilities / 30
    wanted = np.mean(
        [
            np.log(sum(p[z] * joint[label, z] / joint[:, z].sum() for z in range(4)))
            for p, label in zip(source, y, strict=True)
        ]
    )
    assert t.leep(source, np.eye(3)[y]) == pytest.approx(wanted)


def test_leep_of_a_source_that_knows_the_classes_is_nearly_none():
    y = np.arange(30) % 3
    assert t.leep(np.eye(3)[y], np.eye(3)[y]) == pytest.approx(0)
    assert t.leep(np.full((30, 3), 1 / 3), np.eye(3)[y]) == pytest.approx(np.log(1 / 3))


def test_what_belongs_together_is_never_in_two_folds_and_classes_are_spread():
    units = [i // 2 for i in range(60)]
    strata = [(i // 2) % 3 for i in range(60)]
    fold = t.folds(units, strata)
    assert all(fold[i] == fold[i + 1] for i in range(0, 60, 2)) and len(set(fold)) == 5
    counts = [[sum(fold[i] == f and strata[i] == c for i in range(60)) for f in range(5)] for c in range(3)]
    assert all(max(row) - min(row) <= 2 for row in counts)


@pytest.mark.parametrize("what", ["one", "several", "values"])
def test_better_features_score_better_whatever_the_targets(what):
    X, Y = blobs(120, 20, apart=1.2)
    metric = {"one": "accuracy", "several": "macro_f1", "values": "r2"}[what]
    noise = np.random.default_rng(5).normal(0, 1, X.shape)
    fold = t.folds(range(120), Y.argmax(1).tolist())

    def score(features):
        return t.measure(metric, Y, t.probe(features, Y, fold, what)[0])

    assert score(X) > score(X + 3 * noise) > score(noise) - 0.1
    assert t.logme(X, Y) > t.logme(X + 3 * noise, Y) > t.logme(noise, Y) - 0.01


def test_noise_gets_the_strongest_regularisation():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(0, 1, (100, 30)), np.eye(2)[rng.integers(0, 2, 100)]
    _, strength = t.probe(X, Y, t.folds(range(100), Y.argmax(1).tolist()), "one")
    assert strength >= 1
