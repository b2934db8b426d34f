"""How far apart two domains are for a linear eye: the proxy A-distance (Ben-David et al. 2007, Analysis of
Representations for Domain Adaptation, NIPS 19)."""

import numpy as np

MOST = 500  # samples of a domain; more change the second digit and take a cubic time
FOLDS = 5
RIDGE = 0.1  # of the regularised least squares, as part of the mean squared norm of a sample


def a_distance(source, target, seed: int = 0) -> float:
    """2 (1 - 2 e), where e is the cross-validated error of a linear classifier that tells features (n, d) of the source
    from features (m, d) of the target: 0 where it can only guess, 2 where it is always right.

    Both domains count alike: of the larger one a part is drawn. An error above one half is chance and counts as that.
    """
    rng = np.random.default_rng(seed)
    n = min(len(source), len(target), MOST)
    x = np.concatenate([np.asarray(d, float)[rng.permutation(len(d))[:n]] for d in (source, target)])
    y = np.repeat([-1.0, 1.0], n)
    fold = np.concatenate([rng.permutation(np.arange(n) % FOLDS) for _ in range(2)])
    wrong = 0
    for k in range(min(FOLDS, n)):
        train, held = fold != k, fold == k
        mean, scale = x[train].mean(0), x[train].std(0)
        z = (x - mean) / np.where(scale > 1e-9 * (1 + np.abs(mean)), scale, np.inf)  # what never varies tells nothing
        wrong += int((np.sign(_least_squares(z[train], y[train], z[held])) != y[held]).sum())
    return max(0.0, 2 * (1 - 2 * wrong / (2 * n)))


def _least_squares(x, y, new) -> np.ndarray:
    """What regularised least squares of labels y (n,) on x (n, d) say of `new` (m, d); solved for the samples, of
    which there are mostly fewer than features."""
    kernel = x @ x.T
    ridge = RIDGE * max(np.trace(kernel) / len(x), 1e-12)
    mean = y.mean()
    return new @ (x.T @ np.linalg.solve(kernel + ridge * np.eye(len(x)), y - mean)) + mean
