"""The layers of wav2vec 2.0 that Keras does not have. Importing this module imports Keras and registers them."""

import math

import keras
from keras import layers, ops


def first(x, count):
    """1 for the first `count` (B,) places of x (B, n, ...), else 0: (B, n, 1) in the type of x."""
    places = ops.expand_dims(ops.arange(ops.shape(x)[1], dtype="int32"), 0)
    return ops.expand_dims(ops.cast(ops.less(places, ops.expand_dims(count, 1)), x.dtype), -1)


@keras.saving.register_keras_serializable("tlkeras")
class Evened(layers.Layer):
    """Samples (B, n) as (B, n, 1) with zero mean and unit variance over each sound, zeros behind it."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})

    def call(self, samples, count):
        x = ops.expand_dims(samples, -1)
        mask = first(x, count)
        n = ops.maximum(ops.sum(mask, 1, keepdims=True), 1)
        x = (x - ops.sum(x * mask, 1, keepdims=True) / n) * mask
        return x / ops.sqrt(ops.sum(ops.square(x), 1, keepdims=True) / n + 1e-7)

    def compute_output_shape(self, samples_shape, count_shape):
        return (*samples_shape, 1)


@keras.saving.register_keras_serializable("tlkeras")
class TimeNorm(layers.Layer):
    """Each channel to zero mean and unit variance over the frames of its sound: group normalisation, a channel a group."""

    axes: tuple[int, ...] = (1,)  # frames

    def __init__(self, framing, **kwargs):
        super().__init__(**kwargs)
        self.framing = framing

    def build(self, x_shape, count_shape):
        self.gamma = self.add_weight(shape=(x_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(x_shape[-1],), initializer="zeros", name="beta")

    def call(self, x, count):
        kernel, stride = self.framing
        y = ops.cast(x, "float32")
        mask = first(y, (count - kernel) // stride + 1)
        n = ops.maximum(ops.sum(mask, 1, keepdims=True), 1) * (x.shape[-1] if 2 in self.axes else 1)
        mean = ops.sum(y * mask, self.axes, keepdims=True) / n
        variance = ops.sum(ops.square(y - mean) * mask, self.axes, keepdims=True) / n
        y = (y - mean) / ops.sqrt(variance + 1e-5)
        return ops.cast(y, self.compute_dtype) * self.gamma + self.beta

    def compute_output_shape(self, x_shape, count_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "framing": self.framing}


@keras.saving.register_keras_serializable("tlkeras")
class Heard(layers.Layer):
    """Which frames hold sound: (B, f, 1), 1 or 0."""

    def __init__(self, framing, **kwargs):
        super().__init__(**kwargs)
        self.framing = framing

    def call(self, x, count):
        for kernel, stride in zip(*self.framing, strict=True):
            count = (count - kernel) // stride + 1
        return first(x, count)

    def compute_output_shape(self, x_shape, count_shape):
        return (*x_shape[:2], 1)

    def get_config(self):
        return {**super().get_config(), "framing": self.framing}


@keras.saving.register_keras_serializable("tlkeras")
class Silenced(layers.Layer):
    """Zeros in the frames behind the sound."""

    def call(self, x, heard):
        return x * heard

    def compute_output_shape(self, x_shape, heard_shape):
        return x_shape


@keras.saving.register_keras_serializable("tlkeras")
class Positions(layers.Layer):
    """GELU of a grouped convolution over time. As one convolution per group: TensorFlow 2.21 takes a hundred times as
    long for the gradient of a grouped one on a CPU (34 s against 0.34 s for two sounds of five seconds)."""

    def __init__(self, reach, groups, **kwargs):
        super().__init__(**kwargs)
        self.reach, self.groups = reach, groups

    def build(self, shape):
        width = shape[-1] // self.groups
        self.kernel = self.add_weight(shape=(self.reach, width, shape[-1]), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, x):
        # The side behind has one frame less where the reach is even.
        x = ops.pad(x, [[0, 0], [self.reach // 2, (self.reach - 1) // 2], [0, 0]])
        parts = zip(ops.split(x, self.groups, -1), ops.split(self.kernel, self.groups, -1), strict=True)
        found = ops.concatenate([ops.conv(part, kernel, 1, "valid") for part, kernel in parts], -1)
        return ops.gelu(found + self.bias, approximate=False)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "reach": self.reach, "groups": self.groups}


@keras.saving.register_keras_serializable("tlkeras")
class Relative(layers.Layer):
    """WavLM's bias of scores by how far two frames are apart: (1, heads, f, f) for x (B, f, c). Half of the buckets are for
    what comes later; near distances have one each, farther ones share them by their logarithm up to `distance`."""

    def __init__(self, heads, buckets, distance, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.buckets, self.distance = heads, buckets, distance

    def build(self, shape):
        self.embeddings = self.add_weight(shape=(self.buckets, self.heads), initializer="uniform", name="embeddings")

    def call(self, x):
        places = ops.arange(ops.shape(x)[1], dtype="int32")
        apart = ops.expand_dims(places, 0) - ops.expand_dims(places, 1)
        half = self.buckets // 2
        exact, far = half // 2, ops.cast(ops.maximum(ops.absolute(apart), 1), "float32")
        shared = ops.log(far / exact) / math.log(self.distance / exact) * (half - exact)
        shared = ops.minimum(exact + ops.cast(shared, "int32"), half - 1)
        bucket = ops.where(ops.absolute(apart) < exact, ops.absolute(apart), shared)
        bucket = bucket + half * ops.cast(apart > 0, "int32")
        return ops.expand_dims(ops.transpose(ops.take(self.embeddings, bucket, axis=0), (2, 0, 1)), 0)

    def compute_output_shape(self, shape):
        return (1, self.heads, shape[1], shape[1])

    def get_config(self):
        return {**super().get_config(), **{k: getattr(self, k) for k in ("heads", "buckets", "distance")}}


@keras.saving.register_keras_serializable("tlkeras")
class Encoder(layers.Layer):
    """A transformer layer over the frames that hold sound. `gated`: its scores have WavLM's bias by distance, that every
    frame turns up or down by a gate."""

    def __init__(self, heads, inner, epsilon, stable, gated=False, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.inner, self.epsilon, self.stable = heads, inner, epsilon, stable
        self.gated = gated

    def build(self, x_shape, heard_shape, apart_shape=None):
        shape, hidden = x_shape, x_shape[-1]
        policy = self.dtype_policy
        for name in ("query", "key", "value", "attention_output"):
            setattr(self, name, layers.Dense(hidden, name=name, dtype=policy))
        self.attention_norm = layers.LayerNormalization(epsilon=self.epsilon, name="attention_norm", dtype=policy)
        self.intermediate = layers.Dense(self.inner, name="intermediate", dtype=policy)
        self.leave = layers.Dropout(0.1, name="dropout", dtype=policy)
        self.out = layers.Dense(hidden, name="output", dtype=policy)
        self.norm = layers.LayerNormalization(epsilon=self.epsilon, name="norm", dtype=policy)
        for layer in (
            self.query,
            self.key,
            self.value,
            self.attention_output,
            self.attention_norm,
            self.intermediate,
            self.norm,
        ):
            layer.build(shape)
        self.out.build((*shape[:-1], self.inner))
        if self.gated:
            self.gate = layers.Dense(8, name="gate", dtype=policy)
            self.gate.build((None, None, None, hidden // self.heads))
            self.constant = self.add_weight(shape=(1, self.heads, 1, 1), initializer="ones", name="constant")

    def call(self, x, heard, apart=None, training=None):
        y = self.attention_norm(x) if self.stable else x
        x = x + self.leave(self.attend(y, heard, apart), training=training)
        x = x if self.stable else self.attention_norm(x)
        y = self.norm(x) if self.stable else x
        y = self.out(ops.gelu(self.intermediate(y), approximate=False))
        x = x + self.leave(y, training=training)
        return x if self.stable else self.norm(x)

    def opened(self, x):
        """How far each frame of x (B, heads, f, width) opens its gate: (B, heads, f, 1)."""
        rows, length = ops.shape(x)[0], ops.shape(x)[2]
        both = ops.sum(ops.reshape(self.gate(x), (rows, self.heads, length, 2, 4)), -1)
        first, second = ops.split(ops.sigmoid(both), 2, -1)
        return first * (second * self.constant - 1) + 2

    def attend(self, x, heard, apart=None):
        width = x.shape[-1] // self.heads
        rows, length = ops.shape(x)[0], ops.shape(x)[1]

        def split(y):
            return ops.transpose(ops.reshape(y, (rows, length, self.heads, width)), (0, 2, 1, 3))

        query, key, value = split(self.query(x) * width**-0.5), split(self.key(x)), split(self.value(x))
        scores = ops.cast(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), "float32")
        if apart is not None:
            scores = scores + ops.cast(self.opened(split(x)) * apart, "float32")
        unheard = ops.transpose(1.0 - ops.cast(heard, "float32"), (0, 2, 1))  # (B, 1, f)
        weights = ops.softmax(scores - 1e9 * ops.expand_dims(unheard, 1), -1)
        found = ops.matmul(ops.cast(weights, value.dtype), value)
        return self.attention_output(ops.reshape(ops.transpose(found, (0, 2, 1, 3)), (rows, length, x.shape[-1])))

    def compute_output_shape(self, x_shape, heard_shape, apart_shape=None):
        return x_shape

    def get_config(self):
        own = {k: getattr(self, k) for k in ("heads", "inner", "epsilon", "stable", "gated")}
        return {**super().get_config(), **own}
