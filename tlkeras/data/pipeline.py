"""What every tf.data pipeline shares: the order of an epoch, and how a pipeline is run.

The order is computed from (seed, epoch): a pipeline can start at any epoch and give what it would have given without
interruption. What a sample is, and how a batch of them becomes tensors, is the business of the kind of input:
pictures.py, texts.py and sounds.py offer the same names.
"""

import sys

from tlkeras.device import cores


def of(table):
    """The module of a table's kind of input: the one that its class stands in."""
    return sys.modules[type(table).__module__]


def steps(table, batch: int) -> int:
    side = getattr(table, "together", 1)
    return -(-(len(table) // side) // max(batch // side, 1))


def order(n: int, seed: int, epoch):
    """The numbers 0..n - 1 in the order of an epoch, as a dataset."""
    import tensorflow as tf

    key = _key(seed, epoch)
    return tf.data.Dataset.range(n).map(lambda i: tf.random.experimental.index_shuffle(i, key, n - 1))


def batches(table, batch: int, seed: int, epoch):
    """The row numbers of an epoch's batches, as a dataset of vectors: at random, texts with others of like length."""
    import tensorflow as tf

    lengths = getattr(table, "lengths", None)
    if lengths is None:
        return order(len(table), seed, epoch).batch(batch)
    side, key = table.together, _key(seed, epoch)
    units, size = lengths.reshape(-1, side).max(1), max(batch // side, 1)
    # Up to a tenth longer or shorter than it is: which samples meet is another matter every epoch.
    blur = tf.random.stateless_uniform([len(units)], key, 0.9, 1.1)
    order_ = tf.argsort(tf.cast(tf.constant(units), tf.float32) * blur)
    rows = tf.reshape(tf.cast(order_, tf.int64)[:, None] * side + tf.range(side, dtype=tf.int64), [-1])
    count = -(-len(units) // size)

    def one(k):
        place = tf.random.experimental.index_shuffle(k, key, count - 1)
        return rows[place * size * side : (place + 1) * size * side]

    return tf.data.Dataset.range(count).map(one)


def in_turn(table, batch: int):
    """The row numbers of the batches of a table that is read the same way every time, texts by length."""
    import numpy as np
    import tensorflow as tf

    lengths = getattr(table, "lengths", None)
    if lengths is None:
        return tf.data.Dataset.range(len(table)).batch(batch)
    side = table.together
    units = np.argsort(lengths.reshape(-1, side).max(1), kind="stable")
    rows = (units[:, None] * side + np.arange(side)).ravel()
    return tf.data.Dataset.from_tensor_slices(rows).batch(max(batch // side, 1) * side)


def _key(seed: int, epoch):
    import tensorflow as tf

    return tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])


def steady(dataset, ahead: int = 4):
    """A finished pipeline that works `ahead` elements before they are asked for.

    Without tf.data's autotuning: with it one pass in four took 1.6 times as long, both cores idle a third of the
    time (TensorFlow 2.21, docs/log.md).
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(ahead).with_options(options)


def mapped(dataset, function):
    """`dataset.map(function)` on every core, in order."""
    return dataset.map(plain(function), num_parallel_calls=cores(), deterministic=True)


def epochs(first: int, last: int, epoch):
    """The datasets epoch(first), ..., epoch(last - 1) as one."""
    import tensorflow as tf

    return tf.data.Dataset.range(first, last).flat_map(plain(epoch))


def plain(function):
    """The function without autograph, which would read and rewrite the source of everything that is called and find
    nothing to do."""
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)
