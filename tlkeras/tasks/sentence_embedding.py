"""Sentence embedding: texts that say the same come to lie near each other (contrastive learning with the other texts
of the batch as negatives: Henderson et al. 2017, arXiv:1705.00652; Khosla et al. 2020, arXiv:2004.11362).

A sample is a pair of texts that belong together. Judged by search: the first text of each held-out pair must find the
second among the second texts of all.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from tlkeras import metrics as m
from tlkeras.config import Section
from tlkeras.data import texts
from tlkeras.tasks.lm import learnt, strata, targets

__all__ = ["learnt", "strata", "targets"]

OUTPUT = "embedding"
STRINGS = True  # an artefact can pack its texts itself, one at a time


class Options(Section):
    dimension: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Length of the vectors, by a further layer. None: that of the backbone."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        0.05, description="Smaller looks more at the nearest of the wrong texts."
    )


def encode(samples, rows, reader):
    """Two rows a sample, one behind the other; the target is the number of the pair. A single text is one row."""
    parts = len(samples[0]) if samples else 1
    flat = [(text,) for s in samples for text in s]
    inputs, _, owners, _ = texts.encode(flat, None, reader)
    pair = owners // parts
    return inputs, pair[:, None].astype(np.float32), pair, None


def together(samples) -> int:
    """Rows that stay side by side in every batch."""
    return len(samples[0]) if samples else 1


def head(features, answer, options: Options):
    from keras import layers

    if options.dimension:
        features = layers.Dense(options.dimension, name="head_project")(features)
    return layers.UnitNormalization(dtype="float32", name="head_unit")(features)


def loss(options: Options):
    import keras
    from keras import ops

    class Contrast(keras.losses.Loss):
        """-log of the part that texts of the same pair have in the similarity to all others of the batch."""

        def call(self, pair, vectors):
            near = ops.matmul(vectors, ops.transpose(vectors)) / options.temperature
            n = ops.shape(near)[0]
            self_ = ops.eye(n, dtype=near.dtype)
            same = ops.cast(ops.equal(pair, ops.transpose(pair)), near.dtype) - self_
            odds = ops.log_softmax(near - self_ * 1e9, axis=-1)
            return -ops.sum(odds * same, axis=-1) / ops.maximum(ops.sum(same, axis=-1), 1)

    return Contrast()


def metrics(options) -> list:
    return []


def finish(raw, answer):
    return raw


def gather(rows, table, answer) -> list:
    """The vectors of each sample: (texts of the sample, length)."""
    found: dict[int, list] = {}
    for row, owner in zip(rows, table.owners, strict=True):
        found.setdefault(int(owner), []).append(row)
    return [np.stack(found[k]) for k in sorted(found)]


def columns(rows, outputs, answer) -> dict:
    """The rank of each first text's own second text among all second texts; a tie counts against it."""
    first, second = (np.stack([o[k] for o in outputs]) for k in (0, 1))
    near = first @ second.T
    own = np.diag(near)[:, None]
    rank = near.shape[1] - (near < own).sum(1)
    return {"similarity": own[:, 0].astype(float).tolist(), "rank": rank.astype(int).tolist()}


def MAIN(answer) -> tuple[str, bool]:
    return "recall_at_1", True


def score(table: dict, answer) -> dict:
    rank = np.asarray(table["rank"])

    def figures(rows):
        some = rank[rows]
        hits = {f"recall_at_{k}": float((some <= k).mean()) for k in (1, 5, 10)}
        return hits | {"mean_reciprocal_rank": float((1 / some).mean())}

    n = len(rank)
    return {"metrics": figures(np.arange(n)) | {"documents": n}, "intervals": m.bootstrap(figures, n), "n": n}


def decode(output, answer) -> dict:
    return {"embedding": [round(float(v), 6) for v in output[0]]}


def serving(vectors, answer) -> dict:
    return {"embedding": vectors}
