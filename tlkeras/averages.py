"""Averaged weights: what a phase is judged by and ends with, and the means of several networks.

Two means over the course of a phase: `ema` follows every update, `swa` takes in the ends of epochs (Izmailov et al. 2018,
arXiv:1803.05407). Keras' own `use_ema` (3.15) leaves BatchNorm's statistics out, counts the calls of an accumulated update one
by one, and has one decay from the first update on, which outlasts a short phase; hence a mean of our own.
"""

import numpy as np

from tlkeras.config import Average


class Averaged:
    """The mean of a phase's weights. `enter` puts it in the place of the weights, `leave` puts these back.

    Args:
        moving: the variables that the phase can change; seeds are among them and are not averaged.
        epochs: of the phase.
        parts: steps to an update.
        estimate: f(epoch), called once a mean over epochs is in place: computes BatchNorm statistics for it.
    """

    def __init__(self, how: Average, moving: list, epochs: int, parts: int, estimate):
        self.how, self.first, self.parts, self.estimate = how, how.first(epochs), parts, estimate
        self.moving = moving
        self.variables = [v for v in moving if "float" in str(v.dtype)]
        self.mean: list = []
        self.count, self.closed = 0, -1
        self.inside: list[np.ndarray] | None = None

    def begin(self, epoch: int) -> None:
        if self.how.kind == "ema" and epoch >= self.first and not self.mean:
            self._copy()

    def step(self, number: int) -> None:
        """Takes in an update; `number` counts the steps of the phase from 1."""
        if self.how.kind == "ema" and self.mean and not number % self.parts:
            # As long as they are few, the first weights would outweigh them: the decay of TensorFlow's `num_updates`.
            self._take_in(1 - min(self.how.decay, (1 + self.count) / (10 + self.count)))

    def close(self, epoch: int) -> None:
        """Takes in the end of an epoch, once."""
        if self.how.kind == "swa" and epoch >= self.first and epoch > self.closed:
            if self.mean:
                self._take_in(1 / (self.count + 1))
            else:
                self._copy()
                self.count = 1
        self.closed = max(epoch, self.closed)

    def enter(self, epoch: int) -> None:
        if self.inside is not None or not self.mean:
            return
        self.inside = [np.array(v.numpy()) for v in self.moving]
        for variable, mean in zip(self.variables, self.mean, strict=True):
            variable.assign(mean)
        if self.how.kind == "swa":
            self.estimate(epoch)

    def leave(self) -> None:
        if self.inside is not None:
            for variable, value in zip(self.moving, self.inside, strict=True):
                variable.assign(value)
        self.inside = None

    def state(self) -> dict[str, list[np.ndarray]]:
        """For a checkpoint; nothing while no weights are averaged yet."""
        return {"average": [*(m.numpy() for m in self.mean), np.array([self.count, self.closed])]} if self.mean else {}

    def restore(self, state: list[np.ndarray]) -> None:
        self._copy()
        for mean, value in zip(self.mean, state[:-1], strict=True):
            mean.assign(value)
        self.count, self.closed = (int(n) for n in state[-1])

    def _copy(self) -> None:
        import tensorflow as tf

        self.mean = [tf.Variable(v.numpy()) for v in self.variables]

        @tf.function(autograph=False)
        def moved(rate):
            for mean, variable in zip(self.mean, self.variables, strict=True):
                mean.assign_add(tf.cast(rate, mean.dtype) * (variable.value - mean))

        self._moved = moved

    def _take_in(self, rate: float) -> None:
        import tensorflow as tf

        self._moved(tf.constant(rate, tf.float32))
        self.count += 1


def following(averaged: Averaged, per_epoch: int):
    """The callback that keeps a mean up to date, and has it in place from the start of validation to the end of the epoch."""
    import keras

    class Following(keras.callbacks.Callback):
        epoch = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            averaged.begin(epoch)

        def on_train_batch_end(self, batch, logs=None):
            averaged.step(self.epoch * per_epoch + batch + 1)

        def on_test_begin(self, logs=None):
            averaged.close(self.epoch)
            averaged.enter(self.epoch)

        def on_epoch_end(self, epoch, logs=None):
            self.on_test_begin()

    return Following()


def moving(model) -> list:
    """The variables that a phase can change, as its plan was applied: BatchNorm statistics and seeds among them."""
    statistics = [v for layer in norms(model) for v in (layer.moving_mean, layer.moving_variance)]
    seeds = [v for v in model.variables if "seed_generator" in v.path]
    others = [v for layer in model.layers for v in getattr(layer, "moved", ())]
    return [*model.trainable_variables, *statistics, *seeds, *others]


def norms(model) -> list:
    """The BatchNorm layers whose statistics training moves."""
    import keras

    return [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization) and x.trainable]


def estimator(model):
    """f(batches): sets the statistics of the BatchNorm layers that training moves to their means over batches of inputs,
    with the weights as they are now; the mean weights of several networks have statistics of their own. None where
    no layer has any."""
    import tensorflow as tf

    layers = norms(model)
    if not layers:
        return None
    seeds = [v for v in model.variables if "seed_generator" in v.path]

    @tf.function(autograph=False, reduce_retracing=True)
    def forward(x):
        model(x, training=True)

    def estimate(batches) -> None:
        import keras

        kept = [(v, np.array(v.numpy())) for v in seeds]
        momenta = [layer.momentum for layer in layers]
        statistics = [v for layer in layers for v in (layer.moving_mean, layer.moving_variance)]
        total, n = [np.zeros(v.shape) for v in statistics], 0
        try:
            for layer in layers:
                layer.momentum = 0.0  # so that the statistics after a batch are those of the batch
            for x in batches:
                size = int(keras.tree.flatten(x)[0].shape[0])
                forward(x)
                total, n = [t + size * v.numpy() for t, v in zip(total, statistics, strict=True)], n + size
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
        for variable, sum_ in zip(statistics, total, strict=True):
            variable.assign((sum_ / n).astype("float32"))
        for seed, value in kept:
            seed.assign(value)

    return estimate
