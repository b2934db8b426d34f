"""What brings domains together, in numbers: every loss against NumPy as its paper writes it, the proxy A-distance, what
makes an answer a label, and the batches in which two domains meet.

pytest tests/test_domain_losses.py
"""

import numpy as np
import pytest

from tlkeras.adaptation import distance, layer, losses, pseudo


def features(n, d=5, shift=0.0, seed=0):
    return (np.random.default_rng(seed).normal(shift, 1 + shift, (n, d))).astype("float32")


def test_coral_is_the_distance_of_the_covariances():
    s, t = features(9), features(7, shift=0.5, seed=1)
    # As the paper writes it: (D'D - (1'D)'(1'D) / n) / (n - 1).
    cov = [
        (x.T @ x - np.ones((1, len(x))) @ x * (np.ones((1, len(x))) @ x).T / len(x)) / (len(x) - 1)
        for x in (s.astype(float), t.astype(float))
    ]
    expected = np.linalg.norm(cov[0] - cov[1], "fro") ** 2 / (4 * 5**2)
    np.testing.assert_allclose(losses.coral(s, t), expected, rtol=1e-5)
    assert float(losses.coral(s, s)) == 0 and np.isfinite(losses.coral(s[:1], t[:1]))


def test_mmd_is_the_mean_of_five_kernels():
    s, t = features(9).astype(float), features(7, shift=0.5, seed=1).astype(float)
    both = np.concatenate([s, t])
    apart = ((both[:, None] - both[None]) ** 2).sum(-1)
    width = apart.sum() / (16 * 15)
    k = np.mean([np.exp(-apart / (f * width)) for f in (0.25, 0.5, 1, 2, 4)], axis=0)
    expected = k[:9, :9].mean() + k[9:, 9:].mean() - 2 * k[:9, 9:].mean()
    np.testing.assert_allclose(losses.mmd(s.astype("float32"), t.astype("float32")), expected, rtol=1e-4)
    np.testing.assert_allclose(losses.mmd(s.astype("float32"), s.astype("float32")), 0, atol=1e-6)


def test_the_domain_loss_is_binary_cross_entropy():
    s, t = features(6, 1), features(6, 1, shift=0.5, seed=1)
    p = 1 / (1 + np.exp(-np.concatenate([s, t]).astype(float)))
    y = np.r_[np.zeros((6, 1)), np.ones((6, 1))]
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    np.testing.assert_allclose(losses.told_apart(s, t), expected, rtol=1e-6)


def test_the_gradient_is_reversed_and_scaled_and_the_value_is_not():
    import tensorflow as tf

    x = tf.Variable([1.0, -2.0, 3.0])
    with tf.GradientTape() as tape:
        y = losses.reversed_gradient(x, 0.25)
        loss = tf.reduce_sum(y**2)
    assert (y.numpy() == x.numpy()).all()
    np.testing.assert_allclose(tape.gradient(loss, x), -0.25 * 2 * x.numpy())


def test_the_factor_of_dann_rises_from_0_to_nearly_1():
    gone = np.array([0, 0.1, 0.5, 1.0], "float32")
    np.testing.assert_allclose(losses.progress_factor(gone), 2 / (1 + np.exp(-10 * gone)) - 1, rtol=1e-6)
    assert losses.progress_factor(0.0) == 0 and losses.progress_factor(1.0) > 0.9999


def test_the_proxy_a_distance_is_0_for_one_domain_and_2_for_two():
    same = distance.a_distance(features(200, 20), features(200, 20, seed=1))
    apart = distance.a_distance(features(200, 20), features(150, 20, seed=1) + 3)
    assert same < 0.3 and apart == 2
    wide = distance.a_distance(features(30, 400), features(30, 400, seed=1))  # more features than samples
    assert wide < 0.7
    constant = np.ones((20, 3))
    assert distance.a_distance(constant, constant) == 0


def test_the_proxy_a_distance_agrees_with_a_linear_svm():
    svm = pytest.importorskip("sklearn.svm")
    from sklearn.model_selection import cross_val_score

    s, t = features(150, 10), features(150, 10, seed=1) + 0.35
    right = cross_val_score(
        svm.LinearSVC(C=0.01), np.concatenate([s, t]), np.repeat([0, 1], 150), cv=5, scoring="accuracy"
    ).mean()
    assert abs(distance.a_distance(s, t) - 2 * (1 - 2 * (1 - right))) < 0.25


def sure(n=400, k=3, sharpness=4.0, seed=0):
    """Classes drawn from probabilities, and the same probabilities made surer than they should be."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), n)
    y = np.array([rng.choice(k, p=row) for row in p])
    return pseudo.softened(p, 1 / sharpness), y


def test_the_temperature_undoes_what_made_answers_too_sure():
    p, y = sure(4000)
    t = pseudo.temperature(p, y)
    np.testing.assert_allclose(t, 4.0, rtol=0.1)
    grid = np.linspace(1, 8, 701)
    surprise = [-np.log(pseudo.softened(p, g)[np.arange(len(y)), y]).mean() for g in grid]
    np.testing.assert_allclose(t, grid[int(np.argmin(surprise))], atol=0.02)
    right = np.eye(3)[[0, 1, 2]] * 0.9 + 0.03
    assert pseudo.temperature(right, np.arange(3)) == 1.0  # all right: no reason to become surer


def test_a_class_that_is_often_wrong_needs_more_confidence():
    p = np.array([[0.95, 0.05], [0.96, 0.04], [0.97, 0.03], [0.99, 0.01], [0.08, 0.92], [0.01, 0.99]])
    y = np.array([1, 0, 0, 0, 1, 1])
    limits = pseudo.thresholds(p, y, 0.9)
    assert limits.tolist() == [0.96, 0.92]
    rows, classes = pseudo.labels(np.array([[0.95, 0.05], [0.96, 0.04], [0.07, 0.93], [0.5, 0.5]]), limits)
    assert rows.tolist() == [1, 2] and classes.tolist() == [0, 1]
    wrong = pseudo.thresholds(p[:1], y[:1], 0.9)
    assert wrong[0] > 0.95 and wrong[1] == 0.9  # never right: above its surest answer; never given: the least


# ---------------------------------------------------------------------- the second stream
def test_a_step_sees_as_many_of_the_target_which_weigh_nothing():
    import tensorflow as tf

    def stream(n, batch, first=0):
        rows = tf.data.Dataset.from_tensor_slices(tf.range(n)).repeat().skip(first * n).batch(batch)
        return rows.map(lambda i: (tf.cast(i[:, None], "float32"), tf.ones((tf.shape(i)[0], 2)), tf.ones(tf.shape(i))))

    source = tf.data.Dataset.from_tensor_slices(tf.range(10)).batch(4)
    source = source.map(lambda i: (tf.cast(i[:, None], "float32"), tf.ones((tf.shape(i)[0], 2)), tf.ones(tf.shape(i))))
    found = list(layer.paired(source, lambda e: stream(6, 4, e), 0, 3, 4, 6).as_numpy_iterator())
    assert [len(x) for x, _, _ in found] == [8, 8, 4]
    x, y, w = found[2]
    assert x[:2, 0].tolist() == [8, 9] and w.tolist() == [2, 2, 0, 0] and not y[2:].any()
    few = next(
        iter(layer.paired(source, lambda e: stream(3, 4, e).map(lambda x, y, w: (x[:3], y[:3], w[:3])), 0, 3, 4, 3))
    )
    assert len(few[0]) == 8  # three of the target fill four places


def test_texts_of_two_lengths_are_padded_to_the_longer():
    import tensorflow as tf

    spec = tf.TensorSpec((None, None), tf.int32)

    @tf.function(input_signature=[spec, spec])
    def stacked(a, b):
        return layer._stacked(a, b)

    assert stacked(tf.ones((2, 3), tf.int32), tf.ones((1, 5), tf.int32)).numpy().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
    ]
