"""Deep Speech, twice: Mozilla's network of 0.9 (after Hannun et al. 2014, arXiv:1412.5567), whose checkpoints can be loaded,
and Deep Speech 2 (Amodei et al. 2015, arXiv:1512.02595), an architecture without canonical weights.

Frames behind a sound are zero before every layer that looks at neighbours, so that what a sound gives does not depend on
how far its batch is padded. For the same reason Deep Speech 2 has layer normalisation here where the paper has batch
normalisation, and pads its convolutions by itself.

    deepspeech         MFCC, 19 frames of 20 ms together, three dense layers, LSTM, dense
    deepspeech2        log-mel, two convolutions, five bidirectional GRUs of 800
    deepspeech2_small  the same with fewer channels and two GRUs of 128, to be trained from scratch on little
"""

import math
from functools import partial

import numpy as np

from tlkeras.backbones import Backbone, Sound, spectra
from tlkeras.errors import ModelError, listed

RATE = 16000
WINDOW, STEP = 512, 320  # samples of a frame of MFCC, and from one to the next
CONTEXT, COEFFICIENTS, WIDTH = 9, 26, 2048
CLIP = 20.0

# Name: mel bands, channels of the convolutions, GRUs, their units.
SECOND = {"deepspeech2": (80, 32, 5, 800), "deepspeech2_small": (40, 16, 2, 128)}
HOP = 160
PARAMETERS = {"deepspeech": 47_165_440, "deepspeech2": 53_308_448, "deepspeech2_small": 586_960}


def entries() -> tuple[Backbone, ...]:
    return (
        Backbone(
            name="deepspeech",
            family="deepspeech",
            build=build,
            blocks=(
                ("layer1", "layer_1_relu"),
                ("layer2", "layer_2_relu"),
                ("layer3", "layer_3_relu"),
                ("lstm", "lstm"),
                ("top", ""),
            ),
            pixels=None,
            kind="audio",
            sound=Sound(RATE, RATE * 30 // STEP * STEP, step=STEP),
            frames=frames,
            parameters=PARAMETERS["deepspeech"],
            description="Mozilla's DeepSpeech 0.9; weights from a release's checkpoint: weights: DIRECTORY/best_dev-1466475.",
        ),
        *(
            Backbone(
                name=name,
                family="deepspeech2",
                build=partial(build_second, name),
                blocks=(
                    ("conv1", "conv1_quiet"),
                    ("conv2", "conv2_quiet"),
                    *((f"gru{i + 1}", f"gru{i + 1}") for i in range(n - 1)),
                    ("top", ""),
                ),
                pixels=None,
                kind="audio",
                sound=Sound(RATE, RATE * 30, step=2 * HOP),
                frames=frames_second,
                parameters=PARAMETERS[name],
                description=f"Deep Speech 2 with {n} bidirectional GRUs of {units}; no weights.",
            )
            for name, (_, _, n, units) in SECOND.items()
        ),
    )


def frames(count):
    """Whole frames of so many samples, of MFCC."""
    return (count - WINDOW) // STEP + 1


def frames_second(count):
    """Frames that Deep Speech 2 makes of so many samples: every other of the centred ones."""
    return count // HOP // 2 + 1


def build(size=None, weights=None):
    """Samples float32 (B, n) and count int32 (B,) to features (B, f, 2048)."""
    return network(WIDTH)


def network(width: int):
    """Mozilla's network at any width of its layers; dropout of 0.05 as its releases were trained with."""
    import keras
    from keras import layers

    made = _layers()
    samples, count = _inputs()
    x = made["Cepstra"](name="mfcc")(samples)
    x = made["Quiet"](frames, name="mfcc_quiet")(x, count)
    for n in (1, 2, 3):
        # The first layer sees each frame with nine to both sides: a convolution.
        kind = (
            partial(layers.Conv1D, width, 2 * CONTEXT + 1, padding="same") if n == 1 else partial(layers.Dense, width)
        )
        x = kind(name=f"layer_{n}")(x)
        x = layers.ReLU(CLIP, name=f"layer_{n}_relu")(x)
        x = layers.Dropout(0.05, name=f"layer_{n}_dropout")(x)
    # The checkpoint's LSTM adds nothing to the forget gate.
    x = layers.LSTM(width, return_sequences=True, unit_forget_bias=False, name="lstm")(x)
    x = layers.Dense(width, name="layer_5")(x)
    x = layers.ReLU(CLIP, name="layer_5_relu")(x)
    return keras.Model({"samples": samples, "count": count}, x, name="deepspeech")


def build_second(name: str, size=None, weights=None):
    """Samples float32 (B, n) and count int32 (B,) to features (B, f, 2 * units)."""
    import keras
    from keras import layers

    mels, channels, depth, units = SECOND[name]
    made = _layers()
    samples, count = _inputs()
    settings = {"rate": RATE, "window": 400, "hop": HOP, "mels": mels, "low": 20.0, "high": 8000.0}
    x = spectra.layers()["LogMel"](settings, name="log_mel")(samples)
    x = layers.Rescaling(1 / 40, 1.0, name="log_mel_scale")(x)  # -80..0 dB to -1..1
    x = made["Quiet"](_all_frames, name="log_mel_quiet")(x, count)
    x = layers.Reshape((-1, mels, 1), name="bands")(x)
    for n, (kernel, stride) in enumerate((((11, 41), (2, 2)), ((11, 21), (1, 2))), 1):
        pads = tuple((k // 2, k // 2) for k in kernel)
        x = layers.ZeroPadding2D(pads, name=f"conv{n}_pad")(x)
        x = layers.Conv2D(channels, kernel, stride, name=f"conv{n}")(x)
        x = layers.LayerNormalization(name=f"conv{n}_norm")(x)
        x = layers.ReLU(CLIP, name=f"conv{n}_relu")(x)
        x = made["Quiet"](frames_second, name=f"conv{n}_quiet")(x, count)
    x = layers.Reshape((-1, x.shape[2] * channels), name="frames")(x)
    heard = made["Heard"](frames_second, name="heard")(x, count)
    for n in range(1, depth + 1):
        x = layers.LayerNormalization(name=f"gru{n}_norm")(x)
        x = layers.Bidirectional(layers.GRU(units, return_sequences=True, name="gru"), name=f"gru{n}")(x, mask=heard)
    x = layers.LayerNormalization(name="top_norm")(x)
    return keras.Model({"samples": samples, "count": count}, x, name=name)


def _all_frames(count):
    return count // HOP + 1


def _inputs():
    import keras

    return keras.Input((None,), name="samples", dtype="float32"), keras.Input((), name="count", dtype="int32")


def mozilla_mel(mels: int = 40, low: float = 20.0, high: float = 8000.0) -> np.ndarray:
    """Weights (257, 40) of TensorFlow's Mfcc operator: triangles in mel, not in Hz, without equal areas."""

    def mel(hertz):
        return 1127 * math.log1p(hertz / 700)

    bins = WINDOW // 2 + 1
    width = RATE / 2 / (bins - 1)
    edges = mel(low) + (mel(high) - mel(low)) / (mels + 1) * np.arange(1, mels + 2)
    found = np.zeros((bins, mels), np.float32)
    for i in range(int(1.5 + low / width), int(high / width) + 1):
        at = mel(i * width)
        below = int(np.searchsorted(edges[:mels], at)) - 1
        first = edges[below] if below >= 0 else mel(low)
        part = (edges[below + 1] - at) / (edges[below + 1] - first)
        if below >= 0:
            found[i, below] += part
        if below + 1 < mels:
            found[i, below + 1] += 1 - part
    return found


def _layers():
    """{name: Keras layer class} that only these networks have."""
    import keras
    from keras import ops

    @keras.saving.register_keras_serializable("tlkeras")
    class Cepstra(keras.layers.Layer):
        """Samples (B, n) to MFCC (B, frames, 26) as TensorFlow's AudioSpectrogram and Mfcc make them."""

        def __init__(self, **kwargs):
            super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})

        def call(self, samples):
            found = ops.sqrt(spectra.power(samples, WINDOW, STEP, spectra.hann(WINDOW)))
            found = spectra.logarithm(ops.matmul(found, ops.convert_to_tensor(mozilla_mel())), 1e-12)
            # Other than the orthonormal transform this one scales its first coefficient as the others.
            cosines = spectra.cosines(40, COEFFICIENTS)
            cosines[:, 0] *= math.sqrt(2)
            return ops.matmul(found, ops.convert_to_tensor(cosines))

    class Framed(keras.layers.Layer):
        def __init__(self, frames, **kwargs):
            super().__init__(**kwargs)
            self.frames = frames

        def mask(self, x, count):
            places = ops.expand_dims(ops.arange(ops.shape(x)[1], dtype="int32"), 0)
            return ops.less(places, ops.expand_dims(self.frames(count), 1))

        def get_config(self):
            return {**super().get_config(), "frames": self.frames.__name__}

    @keras.saving.register_keras_serializable("tlkeras")
    class Quiet(Framed):
        """(B, f, ...) with zeros in the frames behind the sound."""

        def call(self, x, count):
            mask = ops.cast(self.mask(x, count), x.dtype)
            for _ in x.shape[2:]:
                mask = ops.expand_dims(mask, -1)
            return x * mask

        def compute_output_shape(self, x_shape, count_shape):
            return x_shape

    @keras.saving.register_keras_serializable("tlkeras")
    class Heard(Framed):
        """Which frames hold sound: bool (B, f)."""

        def call(self, x, count):
            return self.mask(x, count)

        def compute_output_spec(self, x, count):
            return keras.KerasTensor(x.shape[:2], "bool")

    return {"Cepstra": Cepstra, "Quiet": Quiet, "Heard": Heard}


def checkpoint(found: dict) -> dict:
    """{variable path: array} of the network from the variables of a DeepSpeech 0.9 checkpoint. Its last layer, which
    writes one alphabet, is left out, and so is what its optimizer kept.

    Raises:
        ModelError: when it is another checkpoint.
    """
    lstm = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
    layers = {f"layer_{n}": f"layer_{n}" for n in (1, 2, 3, 5)}
    wanted = [f"{n}/{part}" for n in layers for part in ("weights", "bias")] + [f"{lstm}/kernel", f"{lstm}/bias"]
    if missing := [n for n in wanted if n not in found]:
        raise ModelError(
            listed("The checkpoint is none of DeepSpeech 0.9; it lacks", missing)
            + f"\n  It has: {', '.join(sorted(found)[:20])}"
        )
    out = {}
    for name in layers:
        kernel = found[f"{name}/weights"]
        width = kernel.shape[-1]
        out[f"{name}/kernel"] = kernel.reshape(2 * CONTEXT + 1, -1, width) if name == "layer_1" else kernel
        out[f"{name}/bias"] = found[f"{name}/bias"]
    # Its gates are input, candidate, forget and output; Keras has the forget gate before the candidate.
    kernel, bias = (np.stack(np.split(found[f"{lstm}/{n}"], 4, -1))[[0, 2, 1, 3]] for n in ("kernel", "bias"))
    kernel = np.concatenate(list(kernel), -1)
    given = kernel.shape[0] - kernel.shape[1] // 4
    out["lstm/lstm_cell/kernel"], out["lstm/lstm_cell/recurrent_kernel"] = kernel[:given], kernel[given:]
    out["lstm/lstm_cell/bias"] = np.concatenate(list(bias))
    return out
