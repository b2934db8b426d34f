"""What a tensor of a network is for each sample: computed once, kept in the store of features by content."""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np

from tlkeras import __version__, data, evaluation
from tlkeras.evaluation import Trained
from tlkeras.prefix import features
from tlkeras.prefix.store import Store
from tlkeras.progress import Progress

CHUNK = 1000  # samples between two waits for the disk


def entering(model):
    """The pooled features (B, c) of a model, as they enter its head; None where it has no head of that kind."""
    found = [x for x in model.layers if x.name == "head_dropout"]
    shaped = [x.input for x in found if len(x.input.shape) == 2]
    return shaped[0] if shaped else None


def rows(trained: Trained, tensor, held, numbers, digest: str, progress: Progress) -> tuple[np.ndarray, int]:
    """What `tensor` (B, c) of the network is for the samples `numbers` of `held`, without augmentation: (float32 (n, c),
    how many were computed now). A sound that is read in several windows has their mean.

    `digest` is of everything below the tensor: layers and weights. Nothing is kept where prefix.store is off, or would
    not fit.
    """
    import tensorflow as tf

    net, asked = trained.network, trained.config.prefix
    # Pixels may have been decoded for a network of another size or another way of resizing.
    table = replace(held, images=None).table(numbers, reader=net.reader)
    # Tokens rather than texts: another tokenizer makes other rows of the same text.
    names = table.hashes if net.kind == "text" else [held.hashes[i] for i in numbers]
    keys = [(bytes.fromhex(h), 0) for h in names]
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")} | {"tlkeras": __version__}
    facts = {
        "backbone": net.backbone["name"],
        "tensor": digest,
        "input": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(net.input).items()},
        "versions": versions,
    }
    width = int(tensor.shape[-1])
    store = Store(facts, [((width,), "float32")])
    missing = [k for k in dict.fromkeys(keys) if k not in store.rows]
    size = store.row_bytes * len(set(keys))
    kept = asked.store != "off" and not features.refused(asked, size, store.row_bytes * len(missing), 2)
    if not kept and missing:
        found: dict = {}
        for some, arrays in _computed(trained, tensor, held, numbers, keys, set(keys), progress):
            found |= dict(zip(some, arrays, strict=True))
        return np.stack([found[k] for k in keys]), len(found)
    if missing:
        with store.lock():
            store.refresh()
            wanted = {k for k in missing if k not in store.rows}
            for some, arrays in _computed(trained, tensor, held, numbers, keys, wanted, progress):
                store.append(some, [arrays])
    return tf.gather(store.tensors()[0], [store.rows[k] for k in keys]).numpy(), len(missing)


def told(new: int) -> str:
    """How many rows were computed, in words."""
    return f"{new:,} of them computed now" if new else "found on disk"


def _computed(trained, tensor, held, numbers, keys, wanted: set, progress) -> Iterator[tuple[list, np.ndarray]]:
    """(keys, rows (m, c)) of the samples whose keys are wanted, each once, some at a time."""
    import keras

    first = {k: i for i, k in reversed(list(zip(numbers, keys, strict=True))) if k in wanted}
    if not first:
        return
    names = list(first)
    net = replace(trained.network, model=keras.Model(trained.network.model.inputs, tensor))
    # The network's own way of reading and passing samples, with the tensor in place of its answers.
    asked = replace(trained, network=net, task=SimpleNamespace(finish=lambda raw, answer: raw))
    table = replace(held, images=None).table(np.array(list(first.values()), int), reader=net.reader)
    waiting: list = []
    done = 0
    with data.changed_files():
        for part in evaluation.judgements(asked, table, [], None, progress):
            waiting.append(part)
            if (count := sum(map(len, waiting))) >= CHUNK or done + count == len(names):
                yield names[done : done + count], np.concatenate(waiting).astype(np.float32)
                done, waiting = done + count, []
