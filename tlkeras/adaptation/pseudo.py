"""Self-training: answers that a network is sure of become labels, its sureness first brought in line with how often it
is right (Guo et al. 2017, arXiv:1706.04599)."""

import numpy as np


def temperature(p, y) -> float:
    """By what the logits of probabilities `p` (n, k) are divided so that classes `y` (n,) are least surprising; 1 to 20.

    Never below 1: a few held-out samples that are all right would make any answer certain.
    """
    p, rows = np.log(np.clip(np.asarray(p, float), 1e-12, 1)), np.arange(len(y))

    def surprise(t):
        return -np.log(softened(np.exp(p), t)[rows, y]).mean()

    # The loss has one valley in the logarithm of the temperature: golden section.
    low, high, part = 0.0, np.log(20.0), (5**0.5 - 1) / 2
    for _ in range(60):
        a, b = high - part * (high - low), low + part * (high - low)
        low, high = (low, b) if surprise(np.exp(a)) <= surprise(np.exp(b)) else (a, high)
    return float(np.exp((low + high) / 2)) if low > 1e-9 else 1.0


def softened(p, t: float) -> np.ndarray:
    """Probabilities (n, k) with their logits divided by `t`."""
    logits = np.log(np.clip(np.asarray(p, float), 1e-12, 1)) / t
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def thresholds(p, y, least: float) -> np.ndarray:
    """Per class the confidence from which its answers are right in `least` of the cases, and `least` at least: (k,).

    Args:
        p: calibrated probabilities (n, k) of held-out samples of the source.
        y: their classes (n,).
    """
    guess, sure = p.argmax(1), p.max(1)
    out = np.full(p.shape[1], least)
    for c in range(p.shape[1]):
        order = np.argsort(-sure[guess == c], kind="stable")
        s, right = sure[guess == c][order], (y[guess == c] == c)[order]
        if not len(s):
            continue
        share = np.cumsum(right) / np.arange(1, len(s) + 1)
        ends = np.r_[s[1:] < s[:-1], True]  # answers that are as sure as each other are taken together
        good = s[ends & (share >= least)]
        # Where no threshold is good enough, above the surest answer.
        out[c] = max(least, good.min() if len(good) else np.nextafter(s[0], 2))
    return out


def labels(p, limits) -> tuple[np.ndarray, np.ndarray]:
    """(rows, classes): the samples of calibrated probabilities (n, k) whose class is at least as sure as its limit."""
    guess = p.argmax(1)
    rows = np.nonzero(p.max(1) >= np.asarray(limits)[guess])[0]
    return rows, guess[rows]
