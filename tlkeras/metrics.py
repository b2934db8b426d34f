"""Metrics from arrays, each equal to scikit-learn's of the same name (tests/test_metrics.py).

Written here because every one is recomputed a thousand times for its bootstrap interval: counts and ranks
once, then arithmetic. `y` are true class numbers (n,), `p` probabilities (n, k), `Y` 0/1 rows (n, k).
"""

import numpy as np


def confusion(y, guess, k: int) -> np.ndarray:
    """Counts (k, k): rows are true classes, columns are guesses."""
    return np.bincount(np.asarray(y) * k + np.asarray(guess), minlength=k * k).reshape(k, k)


def from_confusion(c) -> dict:
    """accuracy, balanced accuracy, precision, recall and F1 per class, and F1 macro, micro and weighted.

    As in scikit-learn with zero_division=0, over classes that occur in the truth or among the guesses.
    """
    hit, true, guessed = np.diag(c).astype(float), c.sum(1), c.sum(0)
    precision, recall = _divide(hit, guessed), _divide(hit, true)
    f1 = _divide(2 * hit, true + guessed)
    seen, present = (true + guessed) > 0, true > 0
    return {
        "accuracy": float(hit.sum() / c.sum()),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[seen].mean()),
        "micro_f1": float(hit.sum() / c.sum()),
        "weighted_f1": float((f1 * true).sum() / true.sum()),
        "per_class": {
            "precision": precision.tolist(),
            "recall": recall.tolist(),
            "f1": f1.tolist(),
            "support": true.tolist(),
        },
    }


def multi_label(Y, guess) -> dict:
    """Subset accuracy and F1 of 0/1 rows (n, k), as scikit-learn's multilabel averages with zero_division=0."""
    Y, guess = np.asarray(Y, bool), np.asarray(guess, bool)
    hit, true, guessed = (Y & guess).sum(0).astype(float), Y.sum(0), guess.sum(0)
    f1 = _divide(2 * hit, true + guessed)
    return {
        "accuracy": float((guess == Y).all(1).mean()),
        "macro_f1": float(f1.mean()),
        "micro_f1": float(_divide(2 * hit.sum(), true.sum() + guessed.sum())),
        "weighted_f1": float(_divide((f1 * true).sum(), true.sum())),
        "per_class": {
            "precision": _divide(hit, guessed).tolist(),
            "recall": _divide(hit, true).tolist(),
            "f1": f1.tolist(),
            "support": true.tolist(),
        },
    }


def top_k(y, p, k: int) -> float:
    """Part of the samples whose class is among the k most probable; ties go to the higher class number, as in scikit-learn."""
    order = np.argsort(np.asarray(p), axis=1, kind="stable")[:, ::-1][:, :k]
    return float((order == np.asarray(y)[:, None]).any(1).mean())


def roc_auc(y, score) -> float | None:
    """Area under the ROC curve of 0/1 truth; None when only one of the two occurs."""
    y = np.asarray(y, bool)
    if y.all() or not y.any():
        return None
    ranks = _ranks(np.asarray(score, float))
    n1 = int(y.sum())
    return float((ranks[y].sum() - n1 * (n1 + 1) / 2) / (n1 * (len(y) - n1)))


def average_precision(y, score) -> float | None:
    """Area under the precision-recall curve as average precision; None without a positive."""
    y = np.asarray(y, bool)
    if not y.any():
        return None
    order = np.argsort(-np.asarray(score, float), kind="stable")
    s, hits = np.asarray(score)[order], np.cumsum(y[order])
    last = np.r_[np.nonzero(np.diff(s))[0], len(s) - 1]
    recall = hits[last] / hits[-1]
    return float(np.sum(np.diff(np.r_[0, recall]) * hits[last] / (last + 1)))


def mean_over_classes(metric, Y, p) -> float | None:
    """The mean of a binary metric, one class against the rest, over the classes where it is defined."""
    values = [v for c in range(p.shape[1]) if (v := metric(Y[:, c], p[:, c])) is not None]
    return float(np.mean(values)) if values else None


def log_loss(y, p) -> float:
    """Mean negative log probability of the true class."""
    p = np.asarray(p, float)
    p = p / p.sum(1, keepdims=True)
    return float(-np.log(np.clip(p[np.arange(len(y)), y], np.finfo(float).eps, 1)).mean())


def calibration(confidence, correct, bins: int = 15) -> tuple[float, list[dict]]:
    """Expected calibration error and its bins of equal width (Guo et al. 2017, arXiv:1706.04599)."""
    confidence, correct = np.asarray(confidence, float), np.asarray(correct, float)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for b in range(bins):
        inside = which == b
        if n := int(inside.sum()):
            rows.append(
                {"confidence": float(confidence[inside].mean()), "accuracy": float(correct[inside].mean()), "n": n}
            )
    return float(sum(r["n"] * abs(r["confidence"] - r["accuracy"]) for r in rows) / max(len(confidence), 1)), rows


def regression(y, guess) -> dict:
    """RMSE, MAE and R2 of (n, k) values, each the mean over the k outputs as scikit-learn's uniform average."""
    y, guess = np.asarray(y, float), np.asarray(guess, float)
    error = guess - y
    spread = ((y - y.mean(0)) ** 2).sum(0)
    r2 = np.where(
        spread > 0, 1 - (error**2).sum(0) / np.where(spread > 0, spread, 1), np.where((error**2).sum(0) > 0, 0.0, 1.0)
    )
    return {
        "rmse": float(np.sqrt((error**2).mean(0)).mean()),
        "mae": float(np.abs(error).mean(0).mean()),
        "r2": float(r2.mean()),
    }


def bootstrap(measure, n: int, seed: int = 0, times: int = 1000) -> dict[str, list[float]]:
    """95 % percentile intervals: `measure(rows) -> {name: value}` over resampled row numbers.

    Efron & Tibshirani 1993, ch. 13. The interval speaks of the chance in which samples were held out, not of
    the chance in training.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, list] = {}
    for _ in range(times):
        for name, value in measure(rng.integers(0, n, n)).items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: [float(x) for x in np.percentile(v, (2.5, 97.5))] for name, v in values.items()}


def _divide(a, b):
    b = np.asarray(b, float)
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def _ranks(values) -> np.ndarray:
    """Ranks from 1, ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    return ((upper - counts + 1 + upper) / 2)[inverse]
