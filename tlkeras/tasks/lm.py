"""What language models share: no labels, and perplexity, from the log-likelihood of the held-out tokens."""

import numpy as np

from tlkeras import metrics as m

RECIPE = "all"


def targets(labels, options, classes=None):
    """Nothing is read from labels."""
    return np.zeros((len(labels), 1), np.float32), {}


def learnt(rows, train, answer, options):
    return rows, np.ones(len(rows), np.float32), answer


def strata(rows, answer):
    return None


def loss(options):
    import keras

    # Padding and tokens that are not asked for weigh nothing; the mean is over those that are.
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


def metrics(options) -> list:
    import keras

    return [keras.metrics.SparseCategoricalAccuracy("accuracy")]


def columns(rows, found, answer) -> dict:
    """`found` (n, 3) are log-likelihood, tokens, and tokens guessed right, of each sample."""
    return {"log_likelihood": found[:, 0].tolist(), "tokens": found[:, 1].tolist(), "right": found[:, 2].tolist()}


def MAIN(answer) -> tuple[str, bool]:
    return "perplexity", False


def score(table: dict, answer) -> dict:
    likelihood, tokens, right = (np.asarray(table[k], float) for k in ("log_likelihood", "tokens", "right"))

    def figures(rows):
        n = max(tokens[rows].sum(), 1)
        loss = -likelihood[rows].sum() / n
        return {"perplexity": float(np.exp(loss)), "loss": float(loss), "accuracy": float(right[rows].sum() / n)}

    n = len(tokens)
    return {
        "metrics": figures(np.arange(n)) | {"tokens": int(tokens.sum())},
        "intervals": m.bootstrap(figures, n, times=1000 if n <= 20_000 else 200),
        "n": n,
    }


def judged(raw, y, w):
    """(rows, 3) for `columns`: log-likelihood, number, and number guessed right, of the tokens `y` with weight `w`."""
    import tensorflow as tf

    counted = tf.cast(w > 0, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.cast(raw, tf.float32))
    right = tf.cast(tf.equal(tf.argmax(raw, -1, tf.int32), y), tf.float32)
    return tf.stack([tf.reduce_sum(x * counted, 1) for x in (-loss, tf.ones_like(loss), right)], 1)


def logits(base, states):
    """Logits of the vocabulary from the states of tokens, as keras-hub's own tasks compute them: by the transposed
    embeddings, which T5 scales and T5Gemma caps."""
    from keras import ops

    embedding = getattr(base, "decoder_token_embedding", None) or base.token_embedding
    if type(base).__name__ == "T5Backbone" and base.tie_embedding_weights:
        states = states * base.hidden_dim**-0.5
    out = embedding(states, reverse=True)
    cap = getattr(base, "final_logit_softcapping", None)
    return ops.tanh(out / cap) * cap if cap else out
