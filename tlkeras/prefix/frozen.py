"""One vector per sample: what the head of a network sees of it while the backbone is as it was built.

These are the rows that a phase with `train: [head]` is trained from, under the same key: what a run has stored is found
here, and what is stored here is found by a run.
"""

import math
from dataclasses import dataclass

import numpy as np

from tlkeras import plans
from tlkeras.config import Augmentation, Config, Phase
from tlkeras.errors import ModelError
from tlkeras.network import Network
from tlkeras.prefix.cut import cuts
from tlkeras.prefix.features import Job, missing, prepare
from tlkeras.progress import Progress

HEAD_ALONE = Phase(name="head", train=["head"], epochs=100, learning_rate=1e-3)


@dataclass(frozen=True)
class Vectors:
    """Features (n, d) float32 of the training and validation samples and of further ones, and how many rows of all these
    were `computed`, the others being stored already."""

    train: np.ndarray
    val: np.ndarray
    more: np.ndarray
    computed: int


def head_job(cfg: Config, network: Network, train, val, more=None) -> Job:
    """The job that a head-only phase of this network has, with the rows of a further table where there is one.

    The network must be as it was built: its weights are part of the key.
    """
    plan = plans.make([HEAD_ALONE], list(network.blocks), network.backbone["name"])
    plain = cfg.model_copy(
        update={"augment": Augmentation(), "prefix": cfg.prefix.model_copy(update={"store": "on", "views": "live"})}
    )
    made = Job(plain, network, train, val, cuts(network, plan), [HEAD_ALONE.epochs])
    if more is None:
        return made
    return Job(plain, network, train, val.join(more), made.cuts, made.passes, wide=made.length)


def vectors(asked: Job, progress: Progress, beside: int = 0) -> Vectors:
    """The rows of a `head_job`, computed where they are missing; `beside` is the number of further rows in it. Sounds that are
    read in several windows get the mean over them.

    Raises:
        ModelError: when nothing of the network lies below its head.
        StorageError: when the disk refuses, or the rows exceed prefix.limit.
    """
    computed = missing(asked) if asked.cuts[0].prefix is not None else 0
    features, choice = prepare(asked, progress)
    if features is None:
        raise ModelError(f"{asked.network.backbone['name']} has no features to keep: {choice.why}.")
    import tensorflow as tf

    def rows(numbers):
        parts = [tf.gather(t, tf.constant(numbers, tf.int64)).numpy() for t in features.tensors]
        return np.concatenate([p.reshape(len(numbers), math.prod(p.shape[1:])).astype(np.float32) for p in parts], 1)

    middle = len(asked.val) - beside
    tables = asked.train, asked.val.keep(np.arange(middle)), asked.val.keep(np.arange(middle, len(asked.val)))
    numbers = features.train[0], features.val[:middle], features.val[middle:]
    train, val, more = (_by_sample(rows(n), table) for n, table in zip(numbers, tables, strict=True))
    return Vectors(train, val, more, computed)


def _by_sample(rows: np.ndarray, table) -> np.ndarray:
    """The mean of each sample's rows, where it has several."""
    owners = getattr(table, "owners", None)
    if owners is None or not len(rows):
        return rows
    _, place, counts = np.unique(owners, return_inverse=True, return_counts=True)
    if counts.max() == 1:
        return rows
    total = np.zeros((len(counts), rows.shape[1]), np.float32)
    np.add.at(total, place, rows)
    return total / counts[:, None]
