"""The layers of networks that hear by an encoder and write by a decoder. Importing this module imports Keras and registers them.

A decoder layer runs over all tokens at once, as in training, or on one token with the keys and values of those before
(`step`), as in writing. Both give the same numbers.
"""

import keras
from keras import layers, ops

from tlkeras.backbones import spectra
from tlkeras.backbones.wav2vec2_layers import TimeNorm

FAR = -1e9


def silence(heard):
    """What is added to the scores of frames behind the sound: (B, 1, 1, f) from `heard` (B, f, 1); None where all are."""
    if heard is None:
        return None
    return ops.expand_dims(ops.transpose(1.0 - ops.cast(heard, "float32"), (0, 2, 1)), 1) * FAR


def later(length):
    """What is added to the scores of tokens that come later: (1, 1, length, length)."""
    places = ops.arange(length, dtype="int32")
    hidden = ops.cast(ops.less(ops.expand_dims(places, 1), ops.expand_dims(places, 0)), "float32")
    return ops.expand_dims(ops.expand_dims(hidden, 0), 0) * FAR


def turned(x, first, dims: int, theta: float):
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): neighbours among the first `dims` of x (B, heads, n, width)
    are turned by an angle that grows with the place; the first of x is place `first`."""
    if not dims:
        return x
    pairs = (dims + 1) // 2
    places = ops.expand_dims(ops.cast(ops.arange(ops.shape(x)[2], dtype="int32") + first, "float32"), 1)
    speed = ops.convert_to_tensor([[theta ** (-2 * i / dims) for i in range(pairs)]], "float32")
    angle = ops.expand_dims(places * speed, -1)  # (n, pairs, 1)
    cos, sin = ops.cast(ops.cos(angle), x.dtype), ops.cast(ops.sin(angle), x.dtype)
    moved, rest = ops.split(x, [2 * pairs], -1)
    rows, heads, n = (ops.shape(x)[i] for i in range(3))
    even, odd = ops.split(ops.reshape(moved, (rows, heads, n, pairs, 2)), 2, -1)
    both = ops.concatenate([even * cos - odd * sin, odd * cos + even * sin], -1)
    return ops.concatenate([ops.reshape(both, (rows, heads, n, 2 * pairs)), rest], -1)


@keras.saving.register_keras_serializable("tlkeras")
class WhisperMel(layers.Layer):
    """Samples (B, n) to Whisper's spectrogram (B, n // 160, mels)."""

    def __init__(self, mels, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        self.mels = mels

    def call(self, samples):
        return spectra.whisper(samples, self.mels)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] // 160, self.mels)

    def get_config(self):
        return {**super().get_config(), "mels": self.mels}


@keras.saving.register_keras_serializable("tlkeras")
class Whole(TimeNorm):
    """All values of a sound to zero mean and unit variance, over the frames that hold sound: group normalisation with
    one group."""

    axes = (1, 2)


@keras.saving.register_keras_serializable("tlkeras")
class Places(layers.Layer):
    """Adds what belongs to each place to x (B, n, c), n at most `length`; `learnt`: training may move it."""

    def __init__(self, length, learnt=True, **kwargs):
        super().__init__(**kwargs)
        self.length, self.learnt = length, learnt

    def build(self, shape):
        self.embeddings = self.add_weight(
            shape=(self.length, shape[-1]), initializer="uniform", trainable=self.learnt, name="embeddings"
        )

    def call(self, x, first=0):
        n = ops.shape(x)[1]
        return x + ops.expand_dims(ops.take(self.embeddings, ops.arange(n, dtype="int32") + first, axis=0), 0)

    def get_config(self):
        return {**super().get_config(), "length": self.length, "learnt": self.learnt}


@keras.saving.register_keras_serializable("tlkeras")
class Tokens(layers.Layer):
    """Ids (B, n) to states (B, n, c); with `reverse` states to logits of the vocabulary, in float32."""

    def __init__(self, vocabulary, hidden, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary, self.hidden = vocabulary, hidden

    def build(self, shape):
        shape = (self.vocabulary, self.hidden)
        self.embeddings = self.add_weight(
            shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.02), name="embeddings"
        )

    def call(self, x, reverse=False):
        if reverse:
            return ops.cast(ops.matmul(x, ops.cast(ops.transpose(self.embeddings), x.dtype)), "float32")
        return ops.take(ops.cast(self.embeddings, self.compute_dtype), x, axis=0)

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "hidden": self.hidden}


class Attention(layers.Layer):
    """Attention of states to others: `pair` makes keys and values of those, `attend` looks at them."""

    def __init__(self, heads, how, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.how = heads, how

    def build(self, shape):
        self.width = shape[-1] // self.heads
        for name in ("query", "key", "value", "out"):
            # Whisper's keys have no bias: it would change all scores of a query alike.
            biased = self.how["biased"] and name != "key"
            setattr(self, name, layers.Dense(shape[-1], use_bias=biased, name=name, dtype=self.dtype_policy))
            getattr(self, name).build(shape)

    def _split(self, x):
        return ops.transpose(ops.reshape(x, (ops.shape(x)[0], -1, self.heads, self.width)), (0, 2, 1, 3))

    def pair(self, memory, first=None):
        """Keys and values (B, heads, n, width) of states; `first`, the place of the first of them, where they turn."""
        key, value = self._split(self.key(memory)), self._split(self.value(memory))
        return (key if first is None else turned(key, first, self.how["turned"], self.how["theta"])), value

    def attend(self, x, pair, bias=None, first=None):
        key, value = pair
        query = self._split(self.query(x) * self.width**-0.5)
        if first is not None:
            query = turned(query, first, self.how["turned"], self.how["theta"])
        scores = ops.cast(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), "float32")
        weights = ops.softmax(scores if bias is None else scores + bias, -1)
        found = ops.transpose(ops.matmul(ops.cast(weights, value.dtype), value), (0, 2, 1, 3))
        return self.out(ops.reshape(found, (ops.shape(x)[0], -1, self.heads * self.width)))


class _Layer(layers.Layer):
    """What encoder and decoder layers share: attention, each behind its norm, and a dense part.

    `how` says how: `biased` attention, `centred` norms, `turned` dimensions of a head that have rotary positions and
    their `theta`, `gated`: the dense part is a gate by SiLU, else GELU.
    """

    attentions: tuple[str, ...] = ()

    def __init__(self, heads, inner, how, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.inner, self.how, self.rate = heads, inner, dict(how), dropout

    def _build(self, shape):
        policy = self.dtype_policy
        made = {name: Attention(self.heads, self.how, name=name, dtype=policy) for name in self.attentions}
        for name in (*(f"{a}_norm" for a in self.attentions), "norm"):
            made[name] = layers.LayerNormalization(epsilon=1e-5, center=self.how["centred"], name=name, dtype=policy)
        made["intermediate"] = layers.Dense(self.inner * (1 + self.how["gated"]), name="intermediate", dtype=policy)
        made["output_"] = layers.Dense(shape[-1], name="output", dtype=policy)
        for name, layer in made.items():
            setattr(self, name, layer)
            layer.build((*shape[:-1], self.inner) if name == "output_" else shape)
        self.leave = layers.Dropout(self.rate, name="dropout", dtype=policy)

    def _feed(self, x, training):
        y = self.intermediate(self.norm(x))
        if self.how["gated"]:
            y, gate = ops.split(y, 2, -1)
            y = ops.silu(gate) * y
        else:
            y = ops.gelu(y, approximate=False)
        return x + self.leave(self.output_(y), training=training)

    def get_config(self):
        own = {"heads": self.heads, "inner": self.inner, "how": self.how, "dropout": self.rate}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tlkeras")
class Listening(_Layer):
    """An encoder layer over frames x (B, f, c), of which `heard` (B, f, 1) are sound; None: all."""

    attentions = ("own",)

    def build(self, x_shape, heard_shape=None):
        self._build(x_shape)

    def call(self, x, heard=None, training=None):
        y = self.own_norm(x)
        y = self.own.attend(y, self.own.pair(y, 0), silence(heard), 0)
        return self._feed(x + self.leave(y, training=training), training)

    def compute_output_shape(self, x_shape, heard_shape=None):
        return x_shape


@keras.saving.register_keras_serializable("tlkeras")
class Writing(_Layer):
    """A decoder layer over tokens x (B, n, c) and the frames `states` (B, f, c), of which `heard` are sound."""

    attentions = ("own", "across")

    def build(self, x_shape, states_shape, heard_shape=None):
        self._build(x_shape)

    def call(self, x, states, heard=None, training=None):
        y = self.own_norm(x)
        y = self.own.attend(y, self.own.pair(y, 0), later(ops.shape(x)[1]), 0)
        x = x + self.leave(y, training=training)
        y = self.across.attend(self.across_norm(x), self.across.pair(states), silence(heard))
        return self._feed(x + self.leave(y, training=training), training)

    def step(self, x, cache, index, frames, unheard):
        """One token x (B, 1, c) at place `index`: its state, and `cache` (B, 2, heads, length, width) with its key and
        value. `frames` are what `across.pair` made of the states, `unheard` what `silence` did."""
        y = self.own_norm(x)
        new = ops.cast(ops.stack(self.own.pair(y, index), 1), cache.dtype)
        cache = ops.slice_update(cache, [0, 0, 0, index, 0], new)
        key, value = (ops.squeeze(part, 1) for part in ops.split(cache, 2, 1))
        places = ops.arange(ops.shape(cache)[3], dtype="int32")
        hidden = ops.cast(ops.greater(places, index), "float32") * FAR
        x = x + self.own.attend(y, (key, value), ops.reshape(hidden, (1, 1, 1, -1)), index)
        x = x + self.across.attend(self.across_norm(x), frames, unheard)
        return self._feed(x, False), cache

    def compute_output_shape(self, x_shape, states_shape, heard_shape=None):
        return x_shape
