"""How well frozen features suit labels, without training a network: k-NN, a linear probe, LogME and LEEP.

NumPy alone. `X` are features (n, d); `Y` targets (n, k): one-hot rows ('one'), 0/1 rows ('several') or values ('values').
What is drawn follows the seed, so the same features always get the same score.
"""

from collections import Counter

import numpy as np

from tlkeras import metrics as m

NEIGHBOURS = 5
FOLDS = 5
# L2 on the mean loss, of features scaled to a mean variance of 1; from the strongest, which is solved fastest.
STRENGTHS = tuple(10.0**e for e in (1, 0, -1, -2, -3, -4))


def kind(answer: dict) -> str:
    """What the targets of a task are, from its answer: 'one', 'several' or 'values'."""
    return "values" if "values" in answer else "several" if answer["multi_label"] else "one"


def measure(metric: str, Y, outputs, threshold: float = 0.5) -> float:
    """'accuracy', 'macro_f1' (of several labels), 'rmse' or 'r2' of outputs (n, k): probabilities or values."""
    if metric == "accuracy":
        return float((outputs.argmax(1) == Y.argmax(1)).mean())
    if metric == "macro_f1":
        return m.multi_label(Y > 0, np.asarray(outputs, np.float32) >= np.float32(threshold))["macro_f1"]
    return m.regression(Y, outputs)[metric]


def majority(Y, rows: int) -> np.ndarray:
    """What is answered without looking, `rows` times: the class shares, or the mean, of the training targets."""
    return np.repeat(np.asarray(Y, float).mean(0, keepdims=True), rows, 0)


def neighbours(X, Y, Z, k: int = NEIGHBOURS) -> np.ndarray:
    """The mean target of the k rows of X nearest to each row of Z (m, d), by the cosine of the angle between them."""
    known, asked = _unit(np.asarray(X, np.float64)), _unit(np.asarray(Z, np.float64))
    k, found = min(k, len(known)), []
    for start in range(0, len(asked), 1024):
        near = asked[start : start + 1024] @ known.T
        found.append(np.asarray(Y, float)[np.argsort(-near, axis=1, kind="stable")[:, :k]].mean(1))
    return np.concatenate(found) if found else np.zeros((0, Y.shape[1]))


def folds(units, strata, count: int = FOLDS, seed: int = 0) -> np.ndarray:
    """A fold (n,) per sample: samples of one unit together, each stratum spread over the folds as evenly as that allows.

    `units` (n,) names what must stay together, `strata` (n,) the class, or None.
    """
    rows: dict = {}
    for i, unit in enumerate(units):
        rows.setdefault(unit, []).append(i)
    names = list(rows)
    count = max(2, min(count, len(names)))
    held: Counter = Counter()
    sizes: Counter = Counter()
    out = np.zeros(len(units), int)
    for n in np.random.default_rng(seed).permutation(len(names)):
        mine = rows[names[n]]
        stratum = None if strata is None else strata[mine[0]]
        fold = min(range(count), key=lambda f: (held[stratum, f], sizes[f], f))
        out[mine] = fold
        held[stratum, fold] += len(mine)
        sizes[fold] += len(mine)
    return out


def out_of_fold(X, Y, fold, predict) -> np.ndarray:
    """`predict(X, Y, Z)` of every fold from the others: (n, k)."""
    out = np.zeros(Y.shape)
    for f in np.unique(fold):
        out[fold == f] = predict(X[fold != f], Y[fold != f], X[fold == f])
    return out


def probe(X, Y, fold, what: str) -> tuple[np.ndarray, float]:
    """A linear probe in cross-validation: outputs (n, k), each from a probe that has not seen its fold, and the strength
    of the L2 regularisation whose loss was least there."""
    parts = [(fold == f, _Scaled(X[fold != f])) for f in np.unique(fold)]
    starts: list = [None] * len(parts)
    best, least, worse = None, np.inf, 0
    for strength in STRENGTHS:
        out = np.zeros(Y.shape)
        for n, (held, scaled) in enumerate(parts):
            W, b = solve(scaled.rows, Y[~held], what, strength, starts[n])
            starts[n] = W, b
            out[held] = _finished(scaled.of(X[held]) @ W + b, what)
        loss = _loss(Y, out, what)
        if loss < least:
            best, least, worse = (out, strength), loss, 0
        else:
            worse += 1
        if worse == 2:  # the weaker ones take longest, and the loss only rises from here
            break
    assert best is not None  # the first strength always gives a finite loss
    return best


def fitted(X, Y, what: str, strength: float):
    """A linear probe fitted to all rows: a function from features (m, d) to outputs (m, k)."""
    scaled = _Scaled(X)
    W, b = solve(scaled.rows, Y, what, strength)
    return lambda Z: _finished(scaled.of(Z) @ W + b, what)


class _Scaled:
    """Features around their mean, scaled to a mean variance of 1, and turned into at most n directions: a penalised
    linear model has no weight along those in which the samples do not differ, so its solution is the same."""

    def __init__(self, X):
        X = np.asarray(X, np.float32)
        self.mean = X.mean(0)
        X = X - self.mean
        self.scale = float(np.sqrt(X.var(0).mean())) or 1.0
        X /= self.scale
        self.turn = np.linalg.qr(X.T)[0] if len(X) < X.shape[1] else None
        self.rows = self._turned(X)

    def of(self, Z):
        return self._turned((np.asarray(Z, np.float32) - self.mean) / self.scale)

    def _turned(self, X):
        return X if self.turn is None else X @ self.turn


def solve(X, Y, what: str, strength: float, start=None, tolerance: float = 1e-4, most: int = 100):
    """(W (d, k), b (k,)) that make the mean loss of X @ W + b plus strength / 2 * |W|² least; b is not penalised.

    The loss is cross-entropy of a softmax ('one'), of sigmoids summed over the classes ('several'), or half the squared
    error ('values'). `start` is a solution near by; the search ends when no gradient exceeds `tolerance`.
    """
    X, Y = np.asarray(X), np.asarray(Y, X.dtype)
    n, d = X.shape
    if what == "values":
        mean, middle = X.mean(0), Y.mean(0)
        left = (X - mean).T @ (X - mean) / n + strength * np.eye(d, dtype=X.dtype)
        W = np.linalg.solve(left, (X - mean).T @ (Y - middle) / n)
        return W, middle - mean @ W
    shape = (d + 1, Y.shape[1])

    def value(flat):
        W = flat.reshape(shape)
        raw = X @ W[:-1] + W[-1]
        p = _finished(raw, what)
        off = (p - Y) / n
        gradient = np.concatenate([X.T @ off + strength * W[:-1], off.sum(0, keepdims=True)])
        if what == "one":
            top = raw.max(1)
            loss = (np.log(np.exp(raw - top[:, None]).sum(1)) + top - (raw * Y).sum(1)).mean()
        else:
            loss = (np.logaddexp(0, raw) - raw * Y).sum(1).mean()
        return float(loss) + strength / 2 * float((W[:-1] ** 2).sum()), gradient.ravel()

    flat = np.zeros(shape, X.dtype) if start is None else np.concatenate([start[0], start[1][None]])
    W = _descend(value, flat.ravel(), tolerance, most).reshape(shape)
    return W[:-1], W[-1]


def _descend(value, x, tolerance: float, most: int, memory: int = 10):
    """Limited-memory BFGS (Nocedal & Wright 2006, algorithm 7.4) with a line search by halves, for convex functions."""
    loss, gradient = value(x)
    steps: list = []
    for _ in range(most):
        if np.abs(gradient).max() <= tolerance:
            break
        direction, kept = gradient.copy(), []
        for s, y, rho in reversed(steps):
            kept.append(rho * (s @ direction))
            direction -= kept[-1] * y
        if steps:
            s, y, _ = steps[-1]
            direction *= (s @ y) / (y @ y)
        for (s, y, rho), a in zip(steps, reversed(kept), strict=True):
            direction += (a - rho * (y @ direction)) * s
        slope, size = float(gradient @ direction), 1.0 if steps else min(1.0, 1 / float(np.abs(gradient).sum()))
        while size > 1e-8:
            moved = x - np.asarray(size, x.dtype) * direction
            there, turned = value(moved)
            if there <= loss - 1e-4 * size * slope:
                break
            size /= 2
        else:
            break  # as low as this precision sees
        s, y = moved - x, turned - gradient
        if (curved := float(s @ y)) > 1e-10 * float(y @ y):
            steps = [*steps[1 - memory :], (s, y, 1 / curved)]
        x, loss, gradient = moved, there, turned
    return x


def logme(X, Y) -> float:
    """The log evidence per sample of Y given X under a Bayesian linear model, at the precisions of weights and noise that
    make it greatest; the mean over the columns of Y (LogME: You et al. 2021, arXiv:2102.11005). Higher is better."""
    X, Y = np.asarray(X, float), np.asarray(Y, float)
    n, d = X.shape
    # The smaller Gram matrix has the squares of the singular values; only directions that are there count.
    if d <= n:
        squares, turn = np.linalg.eigh(X.T @ X)
        inside = (X @ turn).T @ Y
    else:
        squares, turn = np.linalg.eigh(X @ X.T)
        inside = turn.T @ Y
    there = squares > squares.max(initial=0) * 1e-12
    squares, inside = squares[there], inside[there]
    inside = inside / np.sqrt(squares)[:, None] if d <= n else inside
    return float(np.mean([_evidence(squares, inside[:, c], float(Y[:, c] @ Y[:, c]), n, d) for c in range(Y.shape[1])]))


def _evidence(squares, inside, total: float, n: int, d: int) -> float:
    """The greatest log evidence / n of one column: `inside` are its parts along the singular directions, `total` its
    squared length. alpha and beta are the precisions of weights and noise; each round is MacKay's fixed point."""
    outside = max(total - float(inside @ inside), 1e-12 * max(total, 1e-300))
    alpha = beta = 1.0
    before = -np.inf
    for _ in range(200):
        shrunk = squares / (squares + alpha / beta)
        free = float(shrunk.sum())
        weights = max(float((shrunk**2 * inside**2 / squares).sum()), 1e-300)
        error = float((((1 - shrunk) * inside) ** 2).sum()) + outside
        value = 0.5 * (
            n * np.log(beta)
            + len(squares) * np.log(alpha)
            - n * np.log(2 * np.pi)
            - beta * error
            - alpha * weights
            - np.log(alpha + beta * squares).sum()
        )
        if value - before < 1e-7 * n:
            break
        before = value
        alpha, beta = free / weights, max(n - free, 1e-9) / error
    return float(value) / n


def leep(source, Y) -> float:
    """The mean log probability of the classes Y (n, k) given by what a classifier of other classes says of the same
    samples, `source` (n, z), through their joint frequencies (LEEP: Nguyen et al. 2020, arXiv:2002.12462). At most 0;
    higher is better."""
    source, Y = np.asarray(source, float), np.asarray(Y, float)
    joint = Y.T @ source / len(Y)  # (k, z)
    given = joint / np.maximum(joint.sum(0, keepdims=True), np.finfo(float).tiny)
    return float(np.log(np.maximum((source @ given.T * Y).sum(1), np.finfo(float).tiny)).mean())


def softmax(raw) -> np.ndarray:
    made = np.exp(raw - raw.max(1, keepdims=True))
    return made / made.sum(1, keepdims=True)


def _finished(raw, what: str):
    if what == "values":
        return raw
    return softmax(raw) if what == "one" else 1 / (1 + np.exp(-np.clip(raw, -60, 60)))


def _loss(Y, out, what: str) -> float:
    if what == "values":
        return float(((out - Y) ** 2).mean())
    p = np.clip(out, 1e-7, 1 - 1e-7)
    return float(-(Y * np.log(p) + (what == "several") * (1 - Y) * np.log(1 - p)).sum(1).mean())


def _unit(X):
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
