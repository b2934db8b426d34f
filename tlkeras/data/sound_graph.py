"""Sound in the graph: WAV bytes to samples, resampling, silence, and augmentation. Pure TensorFlow, for tf.data and SavedModels."""

import math

from tlkeras.config import Augmentation
from tlkeras.data.waveforms import BETA, CROSSINGS, ROLLOFF

# What is drawn at random for a view, each from a key of its own.
SPEED, SHIFT, GAIN, NOISE, LEVEL, TIMES, BANDS = range(7)
TIME, BAND = 0.1, 0.15  # largest part of the time and of the frequencies that one mask silences


def decode(contents, rate: int):
    """The bytes of a WAV file of 16-bit PCM as samples (n,) at `rate`, channels averaged."""
    import tensorflow as tf

    found, own = tf.audio.decode_wav(contents)
    mono = tf.reduce_mean(found, 1)
    return tf.cond(tf.equal(own, rate), lambda: mono, lambda: resample(mono, own, rate))


def resample(x, old, new, count=None, crossings: int = CROSSINGS):
    """As waveforms.resample for samples (n,), at rates that may be tensors and floats; `count` None: as many as that makes."""
    import tensorflow as tf

    old, new = tf.cast(old, tf.float64), tf.cast(new, tf.float64)
    n = tf.cast(tf.size(x), tf.float64)
    count = tf.cast(tf.math.ceil(n * new / old - 1e-9), tf.int32) if count is None else count
    cut = ROLLOFF * tf.minimum(tf.constant(1.0, tf.float64), new / old)
    reach = tf.cast(tf.math.ceil(crossings / cut), tf.int32) + 1
    taps = tf.range(1 - reach, reach + 1)

    def stretch(first, size):
        place = tf.cast(tf.range(first, first + size), tf.float64) * old / new
        left = tf.floor(place + 1e-9)
        # In float32 from here on: the distances are small numbers.
        t = tf.cast((tf.cast(taps, tf.float64) - tf.expand_dims(place - left, 1)) * cut, tf.float32)
        inside = tf.maximum(0.0, 1 - tf.square(t / crossings))
        kaiser = tf.math.bessel_i0(BETA * tf.sqrt(inside)) / tf.math.bessel_i0(BETA)
        angle = math.pi * tf.where(tf.abs(t) < 1e-6, tf.ones_like(t), t)
        sinc = tf.where(tf.abs(t) < 1e-6, tf.ones_like(t), tf.sin(angle) / angle)
        weights = sinc * kaiser * tf.cast(cut, tf.float32) * tf.cast(tf.abs(t) < crossings, tf.float32)
        at = tf.expand_dims(tf.cast(left, tf.int32), 1) + taps
        there = tf.cast((at >= 0) & (at < tf.size(x)), tf.float32)
        return tf.reduce_sum(tf.gather(x, tf.clip_by_value(at, 0, tf.size(x) - 1)) * there * weights, 1)

    # A second at a time, so that memory does not grow with the sound.
    size = 16_000
    starts = tf.range(0, tf.maximum(count, 1), size)
    parts = tf.map_fn(lambda first: stretch(first, size), starts, fn_output_signature=tf.TensorSpec([size], tf.float32))
    return tf.reshape(parts, [-1])[:count]


def trimmed(x, rate: int, below: float):
    """As waveforms.loud: the samples (n,) without the silence at both ends."""
    import tensorflow as tf

    size = max(1, rate // 40)
    frames = tf.reshape(tf.pad(x, [[0, -tf.size(x) % size]]), [-1, size])
    energy = tf.reduce_mean(tf.square(tf.cast(frames, tf.float64)), 1)
    over = tf.where(energy > tf.reduce_max(energy) * 10 ** (-below / 10))[:, 0]
    over = tf.cond(tf.size(over) > 0, lambda: over, lambda: tf.range(tf.size(energy, tf.int64)))
    return x[over[0] * size : (over[-1] + 1) * size]


def augmenter(options: Augmentation):
    """Returns `f(samples (n,), count, key (2,)) -> (samples, count)`: one view of a sound whose first `count` samples are
    sound. n must leave room for the slowest speed.

    What SpecAugment (arXiv:1904.08779) does to a spectrogram is done to the samples: a stretch of time is silenced, and
    a band of frequencies. So it suits networks that read samples too, and features that are stored hold it.
    """
    import tensorflow as tf

    def draw(key, what, low, high, shape=()):
        return tf.random.stateless_uniform(shape, tf.stack([key[0], key[1] * 16 + what]), low, high)

    def masked(key, what, many, most, n):
        """Which of n places in a row lie under one of `many` masks."""
        places = draw(key, what, 0.0, 1.0, (many, 2))
        at = tf.cast(tf.range(n), tf.float32) / tf.cast(n, tf.float32)
        width = most * places[:, 1:]
        begin = places[:, :1] * (1 - width)
        return tf.reduce_any((at >= begin) & (at < begin + width), 0)

    def view(x, count, key):
        # Of the sound alone: how far its batch is padded must not show.
        n, x = tf.size(x), x[:count]
        if options.speed:
            factor = draw(key, SPEED, 1 - options.speed, 1 + options.speed)
            count = tf.minimum(tf.cast(tf.round(tf.cast(count, tf.float32) / factor), tf.int32), n)
            x = resample(x, 1e4 * factor, 1e4, count, crossings=8)
        if options.time_masks:
            x = tf.where(masked(key, TIMES, options.time_masks, TIME, count), 0.0, x)
        if options.band_masks:
            spectrum = tf.signal.rfft(x)
            silent = masked(key, BANDS, options.band_masks, BAND, tf.size(spectrum))
            x = tf.signal.irfft(tf.where(silent, tf.zeros_like(spectrum), spectrum), [count])
        if options.noise:
            level = draw(key, LEVEL, 0.0, options.noise) * tf.sqrt(tf.reduce_mean(tf.square(x)))
            x = x + level * tf.random.stateless_normal([count], tf.stack([key[0], key[1] * 16 + NOISE]))
        if options.gain:
            x = x * 10 ** (draw(key, GAIN, -options.gain, options.gain) / 20)
        x = tf.pad(x, [[0, n - count]])
        if options.shift:
            steps = tf.cast(draw(key, SHIFT, -options.shift, options.shift) * tf.cast(n, tf.float32), tf.int32)
            wide = tf.pad(x, [[tf.maximum(steps, 0), tf.maximum(-steps, 0)]])
            x = tf.cond(steps >= 0, lambda: wide[:n], lambda: wide[-n:])
            count = n
        return x, count

    return view
