"""The tf.data pipelines: from files to batches of uint8 pixels, without Python in the loop.

The order of an epoch is a permutation computed from (seed, epoch), and a sample's augmentation from (seed,
sample, epoch): a pipeline can start at any epoch and give what it would have given without interruption.
"""

from dataclasses import dataclass, replace

import numpy as np

from tlkeras.backbones import Pixels
from tlkeras.config import Augmentation


@dataclass(frozen=True)
class Table:
    """What a pipeline reads: paths, float32 targets (n, k), float32 weights (n,) and the fingerprints that the
    scan saw. A file that changed since makes the pipeline fail with its name."""

    paths: list[str]
    targets: np.ndarray
    weights: np.ndarray
    fingerprints: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


def training(table: Table, pixels: Pixels, batch: int, seed: int, first: int, epochs: int, options: Augmentation):
    """Batches of (pixels, targets, weights) for the epochs first, ..., epochs - 1, each in its own order."""
    import tensorflow as tf

    from tlkeras.data import augment

    n, size = len(table), pixels.size
    mix = augment.batch_augmenter(options)
    one = (
        augment.sample_augmenter(options, size)
        if options.model_copy(update={"mixup": 0.0, "cutmix": 0.0}).active
        else None
    )
    # A random crop needs something to crop from: the image is made larger by what the crop takes away.
    larger = replace(pixels, size=tuple(round(s / options.crop) for s in size))
    if one:
        load = loader(table, larger)
    else:
        load = decoded(table, pixels) if _fits(table, pixels) else loader(table, pixels)

    def epoch(e):
        def sample(i):
            image, target, weight = load(i)
            if one:
                image = tf.ensure_shape(one(image, tf.stack([tf.cast(seed, tf.int64), e * n + i])), (*size, 3))
            return image, target, weight

        def mixed(k, batch):
            images, targets, weights = batch
            images, targets = mix(images, targets, tf.stack([tf.cast(seed, tf.int64) + 1, e * n + k]))
            return images, targets, weights

        key = tf.stack([tf.cast(seed, tf.int64), e])
        order = tf.data.Dataset.range(n).map(lambda i: tf.random.experimental.index_shuffle(i, key, n - 1))
        batches = order.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch)
        return batches.enumerate().map(mixed) if mix else batches

    stream = tf.data.Dataset.range(first, epochs).flat_map(epoch)
    # An unknown number of elements would make Keras run past the end of an epoch; steps_per_epoch cuts it.
    return stream.prefetch(tf.data.AUTOTUNE)


def steps(table: Table, batch: int) -> int:
    return -(-len(table) // batch)


def in_order(table: Table, pixels: Pixels, batch: int):
    """Batches of (pixels, targets, weights) once, in the table's order."""
    import tensorflow as tf

    data = tf.data.Dataset.range(len(table)).map(
        loader(table, pixels), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return data.batch(batch).prefetch(tf.data.AUTOTUNE)


def _fits(table: Table, pixels: Pixels, memory: int = 1 << 29) -> bool:
    """Whether all pixels together stay below half a GiB: what may be decoded once and kept."""
    return len(table) * pixels.size[0] * pixels.size[1] * 3 <= memory


def decoded(table: Table, pixels: Pixels):
    """As `loader`, with every image decoded now and kept in memory as uint8."""
    import tensorflow as tf

    images = tf.concat([x for x, _, _ in in_order(table, pixels, 64)], 0)
    targets, weights = tf.constant(table.targets, tf.float32), tf.constant(table.weights, tf.float32)
    return lambda i: (images[i], targets[i], weights[i])


def held_out(table: Table, pixels: Pixels, batch: int):
    """As `in_order`, for data that is read every epoch: decoded once where its pixels fit into memory."""
    import tensorflow as tf

    data = tf.data.Dataset.range(len(table)).map(
        loader(table, pixels), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    if _fits(table, pixels):
        data = data.cache()
    return data.batch(batch).prefetch(tf.data.AUTOTUNE)


def loader(table: Table, pixels: Pixels):
    """Returns `f(i) -> (uint8 (h, w, 3), target, weight)` for tf.data."""
    import tensorflow as tf

    from tlkeras.data import images

    paths = tf.constant([p.encode("utf8", "surrogateescape") for p in table.paths])
    targets, weights = tf.constant(table.targets, tf.float32), tf.constant(table.weights, tf.float32)
    prints = tf.constant(table.fingerprints, tf.int64)

    def load(i):
        contents = tf.io.read_file(paths[i])
        same = tf.equal(images.fingerprint(contents), prints[i])
        with tf.control_dependencies([tf.debugging.Assert(same, ["CHANGED", paths[i]])]):
            image = images.resize(images.decode(contents), pixels)
        return tf.ensure_shape(image, (*pixels.size, 3)), targets[i], weights[i]

    return load
