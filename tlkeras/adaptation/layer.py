"""The second, unlabelled stream of a training step, and the layer in which the two domains meet.

A batch holds as many samples of the source as of the target, the source first. Those of the target weigh nothing in the
loss of the task; the layer sees both halves and adds the loss between them. Outside of training it hands on what it is given.
"""

from tlkeras import blocks
from tlkeras.adaptation import losses
from tlkeras.data import pipeline

FIRST = "head_dropout"  # the layer that the features of a classification or regression go into
WIDTH = 256  # of the two hidden layers of DANN's classifier of domains


def meeting(method: str, weight: float, steps: int, seed: int):
    """A layer for features (2 b, d) that adds the loss of `method`, times `weight`, and keeps its mean as the metric
    adapt_loss. `steps` are those of the phase, over which DANN's factor rises; `seed` is that of its first weights."""
    import keras
    from keras import ops

    class Meeting(keras.layers.Layer):
        def __init__(self):
            # In float32 whatever the policy: covariances of 16 bits lose what the loss needs.
            super().__init__(name="adapt_meeting", dtype="float32", autocast=False)
            self.seen = keras.metrics.Mean("adapt_loss")
            self.domain = []

        def build(self, shape):
            if method == "dann":
                self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="adapt_step")
                for n, width in enumerate((WIDTH, WIDTH, 1)):
                    start = keras.initializers.GlorotUniform(seed=seed + n)
                    made = keras.layers.Dense(
                        width,
                        activation="relu" if width > 1 else None,
                        kernel_initializer=start,
                        dtype="float32",
                        name=f"adapt_domain{n + 1}",
                    )
                    made.build((None, shape[-1] if n == 0 else WIDTH))
                    self.domain.append(made)

        def call(self, x, training=None):
            if training:
                flat = ops.cast(x, "float32")
                half = ops.shape(flat)[0] // 2
                loss = self.between(flat[:half], flat[half:])
                self.seen.update_state(loss)
                self.add_loss(weight * loss)
            return x

        def between(self, source, target):
            if method != "dann":
                return getattr(losses, method)(source, target)
            factor = losses.progress_factor(self.step / steps)
            self.step.assign_add(1.0)
            logits = [losses.reversed_gradient(x, factor) for x in (source, target)]
            for layer in self.domain:
                logits = [layer(x) for x in logits]
            return losses.told_apart(*logits)

        def compute_output_shape(self, shape):
            return shape

    return Meeting()


def inserted(model, layer, on: str):
    """A functional model with `layer` in front of the head ('features') or behind it ('outputs'); all other layers
    are the model's own."""
    import keras

    given, outputs = _through(model, layer if on == "features" else None)
    return keras.Model(given, layer(outputs[0]) if on == "outputs" else outputs[0], name=model.name)


def tapped(model):
    """A model that gives the features that the head is given, and the raw outputs, of a network's inputs."""
    import keras

    kept: list = []
    given, outputs = _through(model, lambda x: kept.append(x) or x)
    return keras.Model(given, [kept[0], outputs[0]])


def _through(model, front):
    """The graph of a model on new inputs with `front` applied to what its head is given: (inputs, outputs)."""
    import keras

    named = isinstance(model.input, dict)
    if model.compiled:  # Keras writes a compiled model's optimizer down when it walks it, and our schedules refuse that
        model = keras.Model(model.input, model.output, name=model.name)
    new = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name if named else None) for x in model.inputs]
    many = isinstance(model.input, dict | list | tuple)
    given = keras.tree.pack_sequence_as(model.input, new) if many else new[0]

    def call(operation, *args, **kwargs):
        if front is not None and operation.name == FIRST:
            args = (front(args[0]), *args[1:])
        return operation(*args, **kwargs)

    return given, blocks.walk(model, given, call)


def paired(source, target, first: int, per_epoch: int, batch: int, samples: int):
    """Batches (x, y, w) of both domains, the source's first half.

    Args:
        source: batches of the source from epoch `first` on, `per_epoch` of them each.
        target: `target(epoch)` gives batches of `samples` samples from that pass over them on.
        batch: samples of a full batch of one domain.
    """
    import tensorflow as tf

    whole = max(samples // batch, 1)  # batches of a pass; the small last one is left out, each time other samples
    gone = first * per_epoch
    stream = target(gone // whole)
    if samples >= batch:
        stream = stream.filter(pipeline.plain(lambda x, y, w: tf.equal(tf.shape(w)[0], batch)))
    return pipeline.steady(tf.data.Dataset.zip(source, stream.skip(gone % whole)).map(pipeline.plain(_joined)))


def _joined(source, target):
    import tensorflow as tf

    (x, y, w), (other, _, _) = source, target
    n, m = tf.shape(w)[0], tf.shape(tf.nest.flatten(other)[0])[0]
    rows = tf.range(n) % m  # as many as of the source, some twice where there are fewer
    x = tf.nest.map_structure(lambda a, b: _stacked(a, tf.gather(b, rows)), x, other)
    # Keras' mean of a loss counts samples that weigh nothing too.
    return x, tf.concat([y, tf.zeros_like(y)], 0), tf.concat([2 * w, tf.zeros_like(w)], 0)


def _stacked(a, b):
    """Both along the batch, texts and sounds padded to the longer of the two."""
    import tensorflow as tf

    if any(d is None for d in a.shape[1:]):
        sides = tf.maximum(tf.shape(a), tf.shape(b))[1:]

        def padded(t):
            after = tf.stack([tf.zeros_like(sides), sides - tf.shape(t)[1:]], 1)
            return tf.pad(t, tf.concat([[[0, 0]], after], 0))

        a, b = padded(a), padded(b)
    return tf.concat([a, b], 0)
