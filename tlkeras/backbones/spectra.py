"""Spectrograms in the graph: what training, a SavedModel and a TFLite file compute from samples is the same.

The Fourier transform is a convolution with the windowed cosines and sines: one builtin operator, on every processor,
at any window. For a second of 16 kHz sound that is 26 million multiplications at a window of 512.
Equal to librosa's melspectrogram, power_to_db and mfcc at the same settings (Slaney's mel scale and areas).
"""

import math

import numpy as np

LEAST = 1e-10  # power below which nothing is told apart; librosa's amin
RANGE = 80.0  # dB below the loudest value of a sound that are kept; librosa's top_db


def mel_filters(rate: int, window: int, mels: int, low: float, high: float) -> np.ndarray:
    """Triangles (window // 2 + 1, mels) on Slaney's mel scale, each of the same area (Auditory Toolbox, 1998)."""
    edges = _hertz(np.linspace(_mel(low), _mel(high), mels + 2))
    bins = np.fft.rfftfreq(window, 1 / rate)[:, None]
    up = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return (np.maximum(0, np.minimum(up, down)) * 2 / (edges[2:] - edges[:-2])).astype(np.float32)


def _mel(hertz: float) -> float:
    """Linear below 1000 Hz, 3 mel to 200 Hz, then logarithmic: 27 mel to a factor of 6.4."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


def fourier(window: int, weights: np.ndarray) -> np.ndarray:
    """Kernel (window, 1, 2 * bins) whose convolution gives the real and then the imaginary parts of each frame."""
    angle = 2 * np.pi * np.outer(np.arange(window), np.arange(window // 2 + 1)) / window
    both = np.concatenate([np.cos(angle), -np.sin(angle)], 1) * weights[:, None]
    return both[:, None].astype(np.float32)


def hann(window: int) -> np.ndarray:
    """The periodic Hann window (window,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def cosines(mels: int, coefficients: int) -> np.ndarray:
    """The orthonormal DCT-II as a matrix (mels, coefficients)."""
    k = np.arange(coefficients)
    matrix = np.cos(np.pi * np.outer(np.arange(mels) + 0.5, k) / mels) * math.sqrt(2 / mels)
    matrix[:, 0] /= math.sqrt(2)
    return matrix.astype(np.float32)


def power(samples, window: int, hop: int, weights: np.ndarray):
    """The power of each frame's frequencies: (B, n) to (B, 1 + (n - window) // hop, window // 2 + 1)."""
    from keras import ops

    found = ops.conv(ops.expand_dims(samples, -1), ops.convert_to_tensor(fourier(window, weights)), hop, "valid")
    bins = window // 2 + 1
    return ops.square(found[..., :bins]) + ops.square(found[..., bins:])


def logarithm(values, least: float):
    """The natural logarithm of values, at least that of `least`. Held up after the logarithm, not before: float16, in
    which some artefacts hold their constants, has no number as small as 1e-10."""
    from keras import ops

    return ops.maximum(ops.log(values), math.log(least))


def decibels(values, reference=None):
    """10 log10 of powers (B, frames, c), those more than 80 dB below the loudest of a sample raised to that.
    `reference` None: relative to the loudest, so 0 at most."""
    from keras import ops

    found = logarithm(values, LEAST)
    loudest = ops.max(found, axis=(1, 2), keepdims=True)
    found = ops.maximum((found - loudest) * (10 / math.log(10)), -RANGE)
    return found if reference is None else found + (loudest - math.log(reference)) * (10 / math.log(10))


def log_mel(samples, rate: int, window: int, hop: int, mels: int, low: float, high: float):
    """Samples (B, n) to (B, 1 + n // hop, mels) in -80..0 dB; frames are centred, silence is put around the sound."""
    from keras import ops

    padded = ops.pad(samples, [[0, 0], [window // 2, window // 2]])
    filters = ops.convert_to_tensor(mel_filters(rate, window, mels, low, high))
    return decibels(ops.matmul(power(padded, window, hop, hann(window)), filters))


def mfcc(samples, rate: int, window: int, hop: int, mels: int, low: float, high: float, coefficients: int):
    """Samples (B, n) to mel cepstra (B, 1 + n // hop, coefficients), from decibels relative to a power of 1."""
    from keras import ops

    padded = ops.pad(samples, [[0, 0], [window // 2, window // 2]])
    filters = ops.convert_to_tensor(mel_filters(rate, window, mels, low, high))
    found = decibels(ops.matmul(power(padded, window, hop, hann(window)), filters), 1.0)
    return ops.matmul(found, ops.convert_to_tensor(cosines(mels, coefficients)))


def whisper(samples, mels: int):
    """Whisper's spectrogram (Radford et al. 2022, arXiv:2212.04356) of samples (B, n) at 16 kHz: (B, n // 160, mels), log10
    of the power of bands to 8 kHz, from the loudest of the row down to eight below, then (x + 4) / 4."""
    from keras import ops

    # Mirrored at the ends, other than the spectrograms above.
    padded = ops.pad(samples, [[0, 0], [200, 200]], mode="reflect")
    found = power(padded, 400, 160, hann(400))[:, :-1]
    found = ops.matmul(found, ops.convert_to_tensor(mel_filters(16000, 400, mels, 0.0, 8000.0)))
    found = logarithm(found, LEAST) / math.log(10)
    return (ops.maximum(found, ops.max(found, axis=(1, 2), keepdims=True) - 8) + 4) / 4


def layers():
    """{name: Keras layer class} of the spectrograms, for functional models."""
    import keras
    from keras import ops

    class Featured(keras.layers.Layer):
        """A function of this module as a layer in float32, whatever the precision: decibels need the range."""

        def __init__(self, settings: dict, **kwargs):
            super().__init__(dtype="float32", trainable=False, **{k: v for k, v in kwargs.items() if k != "dtype"})
            self.settings = dict(settings)

        def get_config(self):
            return {**super().get_config(), "settings": self.settings}

    @keras.saving.register_keras_serializable("tlkeras")
    class LogMel(Featured):
        def call(self, samples):
            return log_mel(samples, **self.settings)

    @keras.saving.register_keras_serializable("tlkeras")
    class Picture(Featured):
        """A log-mel spectrogram (B, frames, mels) as RGB (B, *size, 3) in 0..255: time to the right, low bands below."""

        def call(self, spectrum):
            shades = (spectrum + RANGE) * (255 / RANGE)
            upright = ops.flip(ops.transpose(shades, (0, 2, 1)), 1)
            resized = ops.image.resize(ops.expand_dims(upright, -1), self.settings["size"], "bilinear")
            return ops.concatenate([resized] * 3, -1)

        def compute_output_shape(self, spectrum_shape):
            return (spectrum_shape[0], *self.settings["size"], 3)

    return {"LogMel": LogMel, "Picture": Picture}
