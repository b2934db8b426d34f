"""Networks that read sound: their input contract, and the graph from samples to what the backbone takes."""

from dataclasses import replace
from pathlib import Path

from tlkeras import tasks
from tlkeras.backbones import Backbone, Pixels, Sound, Spectrum, moonshine, spectra, transcribers, wav2vec2, whisper
from tlkeras.errors import ConfigError

SPECTROGRAM_SECONDS = 4.0
# The modules of networks that are built by their sizes, by family.
SIZED = {"wav2vec2": wav2vec2, "whisper": whisper, "moonshine": moonshine}


def contract(config, record: Backbone, pixels: Pixels | None) -> Sound:
    """What the network of a config reads: the spectrogram as `pixels` of an image backbone, or samples.

    Raises:
        ConfigError: when the backbone cannot do what the config asks for.
    """
    asked, usual = config.backbone.sound, record.sound or Sound()
    if pixels is None and asked.rate not in (None, usual.rate):
        raise ConfigError(
            f"backbone.sound.rate: {record.name} reads {usual.rate} samples a second; received {asked.rate}."
        )
    rate = asked.rate or usual.rate
    step = max(1, round(asked.hop * rate)) if pixels else usual.step
    seconds = asked.seconds or (SPECTROGRAM_SECONDS if pixels else usual.seconds)
    if usual.fixed and pixels is None and seconds > usual.seconds:
        raise ConfigError(
            f"backbone.sound.seconds: {record.name} has positions for {usual.seconds:g} s; received {seconds:g}."
        )
    length = max(1, round(seconds * rate / step)) * step
    common = {"rate": rate, "length": length, "overlap": asked.overlap, "step": step, "trim": asked.trim}
    if pixels is None:
        return replace(usual, **common)
    high = asked.high or rate / 2
    if not asked.low < high <= rate / 2:
        raise ConfigError(
            f"backbone.sound: bands from {asked.low:g} to {high:g} Hz; at {rate} samples a second they must rise and end at {rate / 2:g} or below."
        )
    window = round(asked.window * rate)
    if length < window:
        raise ConfigError(f"backbone.sound.seconds: {seconds:g} is shorter than one frame of {asked.window:g}.")
    return Sound(**common, fixed=True, spectrum=Spectrum(window, step, asked.mels, asked.low, high), pixels=pixels)


def recorded(facts: dict) -> Sound:
    """The contract from its fields as JSON."""
    spectrum, pixels = facts["spectrum"], facts["pixels"]
    if pixels:
        pixels = Pixels(**{k: tuple(v) if isinstance(v, list) else v for k, v in pixels.items()})
    return Sound(**{**facts, "spectrum": Spectrum(**spectrum) if spectrum else None, "pixels": pixels or None})


def found(folder: Path) -> Backbone | None:
    """The entry of a directory that holds a network for audio; None where it holds another.

    Raises:
        ModelError: when its config asks for what is not built here.
    """
    return next((record for module in SIZED.values() if (record := module.from_directory(folder))), None)


def rebuilt(about: dict) -> Backbone:
    """The entry of a backbone.json that names the sizes of the network."""
    module = SIZED[about["family"]]
    return module.recorded(about["name"], about["sizes"], about["weights"], about["licence"])


def check_frames(config, record: Backbone, sound: Sound) -> None:
    """Raises ConfigError where targets are written along frames and the network has them behind the sound too."""
    if sound.fixed:
        raise ConfigError(
            f"task {config.task_name} needs a network that reads sounds as long as they are, and {record.name} reads windows of "
            f"{sound.seconds:g} s. Whisper writes by its decoder: task: speech-to-text"
        )


def writes(config, record: Backbone) -> bool:
    """Whether the task of a config writes by the network's decoder.

    Raises:
        ConfigError: when it does and the network has none.
    """
    asked = hasattr(tasks.get(config.task_name), "prompt")
    if asked and not record.writes:
        raise ConfigError(
            f"task {config.task_name} needs an encoder-decoder, a Whisper or Moonshine, and {record.name} is none. "
            "Networks that hear alone learn by task: speech-recognition"
        )
    return asked


def tokenizer(where: str, offline: bool):
    """keras-hub's tokenizer of a network that writes, from its preset or directory, or of the run that it was trained in."""
    from tlkeras.backbones import keras_hub, keras_hub_tokens, spoken_tokens

    if where.startswith("run:"):
        return keras_hub_tokens.of_run(Path(where.removeprefix("run:")) / "tokenizer")
    return spoken_tokens.of_directory(keras_hub.directory(where, offline))


def body(base, record: Backbone, task):
    """What a task uses of a backbone: of one that writes the encoder alone, unless the task writes."""
    return transcribers.encoder(base) if record.writes and not hasattr(task, "prompt") else base


def reader(sound: Sound, record: Backbone, task, tokenizer=None, options=None):
    """How sound files become the rows of this network."""
    from tlkeras.data import sounds

    if hasattr(task, "prompt"):
        begin, end = task.prompt(tokenizer, options)
        return sounds.Reader(sound, None, tokenizer, tuple(begin), end, record.sizes.get("places"))
    return sounds.Reader(sound, record.frames if hasattr(task, "frame_head") else None)


def tensors(base, sound: Sound, record: Backbone):
    """(inputs, {layer: tensor}) of the backbone on samples, as blocks.flatten gives them."""
    import keras

    from tlkeras import blocks
    from tlkeras.data import images

    if not sound.spectrum:
        samples = keras.Input((sound.length if sound.fixed else None,), name="samples", dtype="float32")
        if not isinstance(base.input, dict):
            return samples, blocks.flatten(base, samples, opened=record.opened)
        inputs = {
            "samples": samples,
            "count": keras.Input((), name="count", dtype="int32"),
            "tokens": keras.Input((None,), name="tokens", dtype="int32"),
        }
        inputs = {name: x for name, x in inputs.items() if name in base.input}
        return inputs, blocks.flatten(base, inputs, opened=record.opened)
    inputs = keras.Input((sound.length,), name="samples", dtype="float32")
    made = spectra.layers()
    s = sound.spectrum
    settings = {"rate": sound.rate, "window": s.window, "hop": s.hop, "mels": s.mels, "low": s.low, "high": s.high}
    heard = made["LogMel"](settings, name="log_mel")(inputs)
    seen = made["Picture"]({"size": list(sound.pixels.size)}, name="spectrogram")(heard)
    return inputs, blocks.flatten(base, inputs, images.normalise(seen, sound.pixels), record.opened)


def over_time(features, sound):
    """The mean over time of the features (B, h, w, c) of a spectrogram, band by band: (B, h * c).

    Raises:
        ConfigError: when the features are none of a spectrogram.
    """
    from keras import layers, ops

    if len(features.shape) != 4 or not getattr(sound, "spectrum", None):
        raise ConfigError("backbone.pool: time is for spectrograms in a network of convolutions; leave it out here.")
    return layers.Flatten(name="head_bands")(ops.mean(features, axis=2))


def pooled(features, frames):
    """The mean of features (B, f, c) over the first `frames` (B,) of each row."""
    import keras
    from keras import layers, ops

    @keras.saving.register_keras_serializable("tlkeras")
    class MeanHeard(layers.Layer):
        """A layer of its own: how many frames there are is known only when there are some."""

        def call(self, x, frames):
            places = ops.expand_dims(ops.arange(ops.shape(x)[1], dtype="int32"), 0)
            mask = ops.expand_dims(ops.cast(ops.less(places, ops.expand_dims(frames, 1)), "float32"), -1)
            total = ops.sum(ops.cast(x, "float32") * mask, axis=1)
            return ops.cast(total / ops.maximum(ops.sum(mask, axis=1), 1), self.compute_dtype)

        def compute_output_shape(self, x_shape, frames_shape):
            return (x_shape[0], x_shape[2])

    return MeanHeard(name="head_pool")(features, frames)
