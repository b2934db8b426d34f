"""SavedModel: takes image files as they are and answers with names; preprocessing and labels are inside.

    serving_default   image_bytes: string (n,)              -> label, score, classes, scores (or values)
    pixels            pixels: uint8 (n, height, width, 3)   -> the same, for clients that decode and resize

of sound

    serving_default   audio_bytes: string (n,), WAV files of 16-bit PCM at any rate -> the answers of the task
    pcm               samples: float32 (n, m) in -1..1 at the rate of the contract, and where the network wants it
                      count: int32 (n,), how many of them are sound -> the same, for clients that decode

and of text

    serving_default   text: string (n,), or two of them     -> the answers of the task
    tokens            token_ids, padding_mask, segment_ids: int32 (n, length) -> the same, for clients that tokenise

where answers are places in the text, serving_default gives these too (places.py). The tokenizer needs the operators of tensorflow-text in the process that loads it, TensorFlow Serving's too.

The model is called with training=False said aloud: Keras' own `model.export` leaves it out, and a layer inside
may then run BatchNorm and Dropout as in training. And it is saved by TensorFlow itself: Keras' ExportArchive
writes every variable twice (27 MB instead of 14 for EfficientNet-Lite0).
"""

from pathlib import Path

from tlkeras import tasks
from tlkeras.artefacts import places, sound_signatures
from tlkeras.errors import MachineError

VERSION = "1"


def write(trained, contract: dict, folder: Path, calibration=None) -> Path:
    """Writes folder/1/, the layout TensorFlow Serving watches; returns the version's folder."""
    kind = contract["input"]["kind"]
    signatures = (
        _of_texts(trained, contract)
        if kind == "text"
        else sound_signatures.signatures(trained)
        if kind == "audio"
        else _of_images(trained)
    )
    save(trained.network.model, folder / VERSION, trained.network.reader, **signatures)
    return folder / VERSION


def _answers(trained):
    """The network's inputs to the named answers of the task."""
    model, task, answer = trained.network.model, trained.task, trained.answer
    return lambda x, *sizes: task.serving(task.finish(model(x, training=False), answer), answer, *sizes)


def _of_images(trained) -> dict:
    import tensorflow as tf

    from tlkeras.data import images

    answers, contract = _answers(trained), trained.network.input
    places = tasks.on_places(trained.task, trained.answer)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def from_bytes(image_bytes):
        # As many images at a time as there are cores: decoding is most of the work outside the network.
        batch = tf.map_fn(
            lambda x: images.load(x, contract),
            image_bytes,
            fn_output_signature=tf.TensorSpec((*contract.size, 3), tf.uint8),
            parallel_iterations=8,
        )
        if places:
            of = tf.TensorSpec((2,), tf.int32)
            sizes = tf.map_fn(images.upright_size, image_bytes, fn_output_signature=of, parallel_iterations=8)
            return answers(tf.cast(batch, tf.float32), sizes)
        return answers(tf.cast(batch, tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, *contract.size, 3], tf.uint8, name="pixels")], autograph=False)
    def from_pixels(pixels):
        if places:
            return answers(tf.cast(pixels, tf.float32), tf.tile([contract.size], [tf.shape(pixels)[0], 1]))
        return answers(tf.cast(pixels, tf.float32))

    return {"serving_default": from_bytes, "pixels": from_pixels}


def _of_texts(trained, contract: dict) -> dict:
    import tensorflow as tf

    from tlkeras.data import texts

    if hasattr(trained.task, "writer"):
        return {"serving_default": _written(trained)}
    answers, reader = _answers(trained), trained.network.reader
    inputs = trained.network.model.inputs
    rows = [tf.TensorSpec([None, None], tf.int32, name=x.name) for x in sorted(inputs, key=lambda x: x.name)]

    @tf.function(input_signature=rows, autograph=False)
    def from_tokens(*given):
        return answers({spec.name: x for spec, x in zip(rows, given, strict=True)})

    if not contract["input"]["columns"]:
        from_places = places.signature(trained, answers)
        return {"tokens": from_tokens, "serving_default": from_places or from_tokens}
    columns = [tf.TensorSpec([None], tf.string, name=c) for c in contract["input"]["columns"]]

    @tf.function(input_signature=columns, autograph=False)
    def from_texts(*given):
        return answers(texts.packed([reader.tokenizer.tokenize(t) for t in given], reader.tokens))

    return {"serving_default": from_texts, "tokens": from_tokens}


def _written(trained):
    """text: string (n,) -> `text` as the run's options say, and `greedy`, by which it can be held against another."""
    from dataclasses import replace

    import tensorflow as tf

    greedy = replace(trained, options=trained.options.model_copy(update={"sampler": "greedy"}))
    write, surest = (trained.task.writer(t) for t in (trained, greedy))
    drawn = trained.options.sampler != "greedy"

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    def from_texts(text):
        found = surest(text)
        return {"text": write(text) if drawn else tf.identity(found), "greedy": found}

    return from_texts


def save(model, folder, reader=None, **signatures) -> None:
    """Saves tf.functions that call `model`, and the tokenizer of `reader`, as the signatures of a SavedModel."""
    import tensorflow as tf

    module = tf.Module()
    module.held = [v.value for v in model.variables]
    if hasattr(reader, "tokenizer"):
        module.tokenizer = reader.tokenizer
    module.signatures_ = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures=signatures)


def load(folder: Path):
    """Returns `f(samples) -> {name: array}` that runs the artefact: samples are file bytes, texts in tuples, or arrays
    by name: tokens, or samples of sound.

    Raises:
        MachineError: when its tokenizer's operators are not installed.
    """
    import json

    import tensorflow as tf

    contract = json.loads((folder / "contract.json").read_text("utf8"))
    columns = contract["input"].get("columns")
    if contract["input"]["kind"] == "text" or contract["task"] == "speech-to-text":
        try:
            import tensorflow_text  # noqa: F401  registers the operators of tokenizers
        except ImportError as e:
            raise MachineError("A SavedModel that takes or writes text needs: pip install tensorflow-text") from e
    loaded = tf.saved_model.load(str(folder / VERSION))
    serve = loaded.signatures["serving_default"]
    of_tokens = loaded.signatures.get("tokens") or loaded.signatures.get("pcm")
    single = next(iter(serve.structured_input_signature[1]))

    def run(samples):
        if isinstance(samples, dict):
            given = {name: tf.constant(x) for name, x in samples.items()}
            return {name: value.numpy() for name, value in of_tokens(**given).items()}
        elif columns:
            given = {c: tf.constant(list(part)) for c, part in zip(columns, zip(*samples, strict=True), strict=True)}
        else:
            given = {single: tf.constant(samples)}
        return {name: value.numpy() for name, value in serve(**given).items()}

    run.keep = loaded  # the signature alone does not keep its variables alive
    return run
