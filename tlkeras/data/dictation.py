"""What a decoder is given and is to write, for networks that write what they hear, and the stretches that long files are read in."""

import numpy as np

from tlkeras.backbones import Sound
from tlkeras.data import waveforms


def preceding(table):
    """Returns `f(rows) -> tokens (b, t)` that a decoder is given: those that begin, and the targets but the last."""
    import tensorflow as tf

    ragged, begin = table.targets.tensor(), tf.constant([table.begin], tf.int32)

    def given(rows):
        ids = tf.gather(ragged, rows).to_tensor(0)[:, :-1]
        return tf.concat([tf.tile(begin, [tf.shape(ids)[0], 1]), ids], 1)

    return given


def following(ragged, before: int, weights, rows):
    """What a decoder is to write (b, t) and the weights (b, t) of it: none of what it is given to begin with, nor of
    what is behind the end."""
    import tensorflow as tf

    y = tf.pad(tf.gather(ragged, rows).to_tensor(-1), [[0, 0], [before, 0]], constant_values=-1)
    w = tf.expand_dims(tf.gather(weights, rows), 1) * tf.cast(y >= 0, tf.float32)
    return tf.maximum(y, 0), w


def stretches(path: str, sound: Sound):
    """Yields (start, samples) of a file that is read for its words: whole, or cut where it is quietest in the second
    half of what fits the network. No more than that is in memory."""
    told = waveforms.about(path)
    first, last = 0, waveforms.samples(told, sound.rate)
    if sound.trim is not None:
        first, last = waveforms.loud(waveforms.read(path, sound.rate, told=told), sound.rate, sound.trim)
    while last - first > sound.length:
        x = waveforms.read(path, sound.rate, first, sound.length)
        size = sound.rate // 10
        loudness = np.square(x[: len(x) // size * size].reshape(-1, size)).mean(1)
        half = len(loudness) // 2
        cut = (half + int(loudness[half:].argmin())) * size + size // 2
        yield first, x[:cut]
        first += cut
    yield first, waveforms.read(path, sound.rate, first, last - first)
