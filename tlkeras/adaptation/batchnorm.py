"""AdaBN: the statistics of BatchNorm are taken from the target, nothing is learnt (Li et al. 2016, arXiv:1603.04779)."""

import numpy as np

from tlkeras import plans
from tlkeras.data import pipeline
from tlkeras.errors import TlkerasError
from tlkeras.run import read_json, write_json

BATCH = 64  # samples that are normalised together while the statistics are taken


def layers(model) -> list:
    """All BatchNorm layers of a network, those inside of other layers too."""
    import keras

    return [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]


def adapt(net, table, batch: int = BATCH) -> int:
    """Sets the moving statistics of every BatchNorm to mean and variance over the samples of a table; returns how many
    layers there are.

    Each layer sees what the layers below make of a batch with the statistics of that batch, as in training; the means
    of the batches give the mean, and the variance follows from their second moments. Dropout is off.
    """
    import keras
    import tensorflow as tf

    model, norms = net.model, layers(net.model)
    drops = [x for x in model._flatten_layers() if hasattr(x, "rate") and hasattr(x, "seed_generator")]
    before = [(x, x.trainable, x.momentum) for x in norms], [(x, x.rate) for x in drops]
    for layer in norms:
        # A momentum of 0 leaves the statistics of the last batch to be read; only the layer's own flag makes it take them.
        layer.trainable, layer.momentum = True, 0.0
    for layer in drops:
        layer.rate = 0.0

    @tf.function(autograph=False, reduce_retracing=True)
    def forward(arrays):
        cast = [tf.cast(x, given.dtype) for x, given in zip(arrays, model.inputs, strict=True)]
        return model(keras.tree.pack_sequence_as(model.input, cast), training=True)

    seen, first, second = 0, [0.0] * len(norms), [0.0] * len(norms)
    batches = -(-len(table) // batch)
    size = -(-len(table) // batches)  # of like size: statistics of a handful would count as much per sample
    try:
        for arrays in pipeline.of(table).views(table, net.input, [(i, 0) for i in range(len(table))], size, 0):
            forward([tf.constant(a) for a in arrays])
            n = len(arrays[0])
            seen += n
            for k, layer in enumerate(norms):
                mean, variance = (np.asarray(v.numpy(), float) for v in (layer.moving_mean, layer.moving_variance))
                first[k] = first[k] + n * mean
                second[k] = second[k] + n * (variance + mean**2)
    finally:
        for layer, trainable, momentum in before[0]:
            layer.trainable, layer.momentum = trainable, momentum
        for layer, rate in before[1]:
            layer.rate = rate
    for layer, a, b in zip(norms, first, second, strict=True):
        layer.moving_mean.assign((a / seen).astype("float32"))
        layer.moving_variance.assign((b / seen - (a / seen) ** 2).astype("float32"))
    return len(norms)


def adapted(a) -> None:
    """Adapts the network of a run to its target, and adds to its audit what moved.

    Raises:
        TlkerasError: when something else than the statistics moved.
    """
    before = plans.digests(a.net)
    count = adapt(a.net, a.table())
    a.progress.line(f"adabn     statistics of {count} BatchNorm layers over {len(a.target.ids)} samples of the target")
    statistics = {v.path for x in layers(a.net.model) for v in (x.moving_mean, x.moving_variance)}
    after, rows, stray = plans.digests(a.net), [], []
    for block in a.net.blocks:
        names = [v.path for v in a.net.variables(block)]
        moved = [n for n, x, y in zip(names, before[block], after[block], strict=True) if x != y]
        stray += [n for n in moved if n not in statistics]
        rows.append(
            {"phase": "adabn", "block": block, "trained": bool(moved), "tensors": len(names), "moved": len(moved)}
        )
    if stray:
        raise TlkerasError(
            f"AdaBN moves statistics of BatchNorm alone, but {len(stray)} other tensors moved, e.g. {stray[0]}."
        )
    audit = read_json(a.run.audit)
    write_json(a.run.audit, {**audit, "rows": [*audit["rows"], *rows]})
