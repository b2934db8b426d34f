"""Masked language modelling: adapts an encoder to the texts of a domain, before it learns a task from few labels
(Devlin et al. 2019, arXiv:1810.04805; Gururangan et al. 2020, arXiv:2004.10964).

Of each text a part of the tokens is to be told from the others: four in five are replaced by the mask, one in ten by
another token, and one in ten stays. Which ones is drawn anew for every batch. Logits are computed for those alone.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from tlkeras.config import Section
from tlkeras.data import texts
from tlkeras.errors import ConfigError
from tlkeras.tasks.lm import MAIN, RECIPE, columns, judged, learnt, logits, loss, metrics, score, strata, targets

__all__ = ["MAIN", "RECIPE", "columns", "judged", "learnt", "logits", "loss", "metrics", "score", "strata", "targets"]

INPUTS = ("mask_positions",)
OUTPUT = "logits"


class Options(Section):
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="Part of the tokens that are to be guessed.")


def encode(samples, rows, reader):
    """Rows of as much text as the network takes; the targets come with the masks."""
    ids, owners = texts.chunks(samples, reader)
    return texts.plain_inputs(ids, reader.tokens), np.zeros((len(ids), 1), np.float32), owners, None


def token_head(states, inputs, base, answer, options):
    """Logits (B, guessed, vocabulary), by BERT's head: a layer, its norm, and the transposed embeddings."""
    from keras import layers, ops

    place = ops.expand_dims(inputs["mask_positions"], -1)
    chosen = ops.take_along_axis(states, place, axis=1)
    x = layers.Dense(chosen.shape[-1], activation="gelu", name="head_dense")(chosen)
    x = layers.LayerNormalization(epsilon=1e-12, name="head_norm")(x)
    return logits(base, x)


def change(reader, options: Options):
    """Returns `f(x, y, w, key) -> (x, y, w)`: masks tokens of a batch."""
    import tensorflow as tf

    tokens = reader.tokens
    if tokens.mask is None:
        raise ConfigError("task masked-lm needs a tokenizer with a mask token, and this one has none. Use causal-lm.")
    special = tf.constant([*tokens.start, *tokens.middle, *tokens.end, tokens.pad], tf.int32)

    def masked(x, y, w, key):
        ids = x["token_ids"]
        shape = tf.shape(ids)
        free = tf.reduce_all(tf.not_equal(ids[:, :, None], special), -1)
        if "padding_mask" in x:
            free &= x["padding_mask"] > 0
        draws = tf.random.stateless_uniform((3, shape[0], shape[1]), key)
        count = tf.maximum(tf.math.round(options.rate * tf.reduce_sum(tf.cast(free, tf.float32), 1)), 1)
        most = tf.maximum(tf.cast(tf.reduce_max(count), tf.int32), 1)
        scores, places = tf.math.top_k(tf.where(free, draws[0], -1.0), most)
        chosen = (scores >= 0) & (tf.cast(tf.range(most), tf.float32) < count[:, None])
        guessed = tf.gather(ids, places, batch_dims=1)
        how = tf.gather(draws[1], places, batch_dims=1)
        other = tf.cast(tf.gather(draws[2], places, batch_dims=1) * tokens.vocabulary, tf.int32)
        new = tf.where(how < 0.8, tokens.mask, tf.where(how < 0.9, other, guessed))
        rows = tf.repeat(tf.range(shape[0])[:, None], most, 1)
        where = tf.boolean_mask(tf.stack([rows, places], -1), chosen)
        ids = tf.tensor_scatter_nd_update(ids, where, tf.boolean_mask(new, chosen))
        weights = tf.cast(chosen, tf.float32) * w[:, None]
        return {**x, "token_ids": ids, "mask_positions": places}, guessed, weights

    return masked
