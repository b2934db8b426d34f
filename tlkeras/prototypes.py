"""A head of class means, placed in one pass over frozen features: few-shot learning without a gradient.

Prototypical networks (Snell, Swersky & Zemel 2017, arXiv:1703.05175): a sample belongs to the class whose mean is
nearest. With features u of length 1 and a class mean c, -s |u - c|^2 is linear in u but for a term that all classes
share (their section 2.4): a kernel 2 s c and a bias -s |c|^2. So the head is an ordinary dense layer behind a
normalisation. The sharpness s turns distances into probabilities; it stands in the layer and can be read off it.
"""

import hashlib
import json

import numpy as np

from tlkeras import kept, plans
from tlkeras.blocks import HEAD

SHARPNESS = 16.0  # where every class has one sample, so that nothing can be left out and asked about
TRIED = np.geomspace(1, 256, 33)


def place(trained, held, numbers, targets, progress, known: int = 0) -> None:
    """Puts the means of the samples `numbers` of each class into the head of a network. The first `known` columns, of a
    run that this one extends, stay as they are, and their sharpness holds for the new ones.

    `targets` are one-hot (n, k) for all samples of `held`.
    """
    net = trained.network
    labels = targets.argmax(1)
    numbers = np.array([i for i in numbers if labels[i] >= known], int)
    if not len(numbers):
        return
    found, new = kept.rows(trained, kept.entering(net.model), held, numbers, _digest(trained), progress)
    unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    layer = net.model.get_layer("head_logits")
    kernel, bias = layer.get_weights()
    classes = labels[numbers]
    means = np.stack([unit[classes == c].mean(0) for c in range(known, targets.shape[1])])
    s = sharpness_of(kernel[:, :known], bias[:known]) if known else sharpness(unit, classes, means)
    kernel[:, known:], bias[known:] = 2 * s * means.T, -s * np.square(means).sum(1)
    layer.set_weights([kernel, bias])
    counts = np.bincount(classes, minlength=targets.shape[1])[known:]
    each = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
    progress.line(
        f"head      {len(means)} class means of {each} samples each; features of {len(numbers):,}, {kept.told(new)}; sharpness {s:.3g}"
    )


def sharpness(unit, labels, means) -> float:
    """The s that makes the truth least surprising when each sample is asked about with itself left out of its mean."""
    counts = np.bincount(labels, minlength=len(means))
    asked = np.flatnonzero(counts[labels] > 1)
    if not len(asked):
        return SHARPNESS
    u, own = unit[asked].astype(float), labels[asked]
    distance = np.square(u[:, None] - means[None]).sum(2)
    n = counts[own][:, None]
    without = (n * means[own] - u) / (n - 1)
    distance[np.arange(len(asked)), own] = np.square(u - without).sum(1)
    best, least = SHARPNESS, np.inf
    for s in TRIED:
        z = -s * (distance - distance.min(1, keepdims=True))
        surprise = float((np.log(np.exp(z).sum(1)) - z[np.arange(len(asked)), own]).mean())
        if surprise < least:
            best, least = float(s), surprise
    return best


def sharpness_of(kernel, bias) -> float:
    """The s of a head that was placed: |2 s c|^2 / (4 s |c|^2). Where training moved the head, that of most columns."""
    found = np.square(kernel).sum(0) / np.maximum(-4 * bias, 1e-12)
    return float(np.median(found[bias < 0])) if (bias < 0).any() else SHARPNESS


def _digest(trained) -> str:
    """Of everything that the features of a network depend on."""
    net = trained.network
    below = {b: made for b, made in plans.digests(net).items() if b != HEAD}
    pool = trained.config.backbone.pool or net.backbone["pool"]
    return "features of " + hashlib.sha256(json.dumps([below, pool]).encode()).hexdigest()
