"""SavedModel: takes image files as they are and answers with names; preprocessing and labels are inside.

    serving_default   image_bytes: string (n,)              -> label, score, classes, scores (or values)
    pixels            pixels: uint8 (n, height, width, 3)   -> the same, for clients that decode and resize

The model is called with training=False said aloud: Keras' own `model.export` leaves it out, and a layer inside
may then run BatchNorm and Dropout as in training. And it is saved by TensorFlow itself: Keras' ExportArchive
writes every variable twice (27 MB instead of 14 for EfficientNet-Lite0).
"""

from pathlib import Path

VERSION = "1"


def write(trained, contract: dict, folder: Path, calibration=None) -> Path:
    """Writes folder/1/, the layout TensorFlow Serving watches; returns the version's folder."""
    import tensorflow as tf

    from tlkeras.data import images

    model, pixels, task, answer = trained.network.model, trained.network.pixels, trained.task, trained.answer

    def answers(batch):
        return task.serving(task.finish(model(tf.cast(batch, tf.float32), training=False), answer), answer)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def from_bytes(image_bytes):
        # As many images at a time as there are cores: decoding is most of the work outside the network.
        batch = tf.map_fn(
            lambda x: images.load(x, pixels),
            image_bytes,
            fn_output_signature=tf.TensorSpec((*pixels.size, 3), tf.uint8),
            parallel_iterations=8,
        )
        return answers(batch)

    @tf.function(input_signature=[tf.TensorSpec([None, *pixels.size, 3], tf.uint8, name="pixels")], autograph=False)
    def from_pixels(pixels):
        return answers(pixels)

    save(model, folder / VERSION, serving_default=from_bytes, pixels=from_pixels)
    return folder / VERSION


def save(model, folder, **signatures) -> None:
    """Saves tf.functions that call `model` as the signatures of a SavedModel."""
    import tensorflow as tf

    module = tf.Module()
    module.held = [v.value for v in model.variables]
    module.signatures_ = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures=signatures)


def load(folder: Path):
    """Returns `f(list of file bytes) -> {name: array}` that runs the artefact."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / VERSION))
    serve = loaded.signatures["serving_default"]

    def run(contents):
        out = serve(image_bytes=tf.constant(contents))
        return {name: value.numpy() for name, value in out.items()}

    run.keep = loaded  # the signature alone does not keep its variables alive
    return run
