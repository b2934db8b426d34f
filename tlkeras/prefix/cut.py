"""Where a network is cut for a phase: below lies what no step of the phase can change, above what is trained.

The cut follows the graph, not the blocks: pooling before a trained head lies below, though it is part of the
head. What lies below is run in inference mode, stored or not: its dropout is off, its BatchNorm stands.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras import blocks, plans


@dataclass(frozen=True)
class Cut:
    """One phase's cut. `tensors` cross it; `prefix` gives them from the network's inputs, and is None where
    nothing worth keeping lies below; `suffix` gives the network's outputs from them. `held` numbers the
    operations below, `text` describes them."""

    tensors: list
    prefix: Any
    suffix: Any
    held: frozenset
    text: str

    @property
    def specs(self) -> list[tuple[tuple, str]]:
        """(shape of one sample, dtype) of each tensor; None is the length of a text."""
        return [(tuple(t.shape[1:]), t.dtype) for t in self.tensors]

    def shaped(self, length: int | None) -> list[tuple[tuple[int, ...], str]]:
        """`specs` with the padded length of texts in place of None."""
        return [(tuple(length if d is None else d for d in shape), dtype) for shape, dtype in self.specs]

    def digest(self) -> str:
        """SHA-256 over what lies below: its operations, how they are connected, and their weights as they are now."""
        made = hashlib.sha256(self.text.encode())
        for variable in self.prefix.weights:
            made.update(np.ascontiguousarray(variable.numpy()).tobytes())
        return made.hexdigest()


@dataclass(frozen=True)
class _Node:
    operation: Any
    inputs: tuple
    outputs: tuple
    text: str


def cuts(network, phase_plans: list) -> list[Cut]:
    """The cut of every phase, all in one graph, so that one forward pass can give the tensors of several."""
    import keras

    inputs, nodes, outputs = graph(network.model)
    given = keras.tree.pack_sequence_as(network.model.input, inputs)
    made = []
    for plan in phase_plans:
        plans.apply(network, plan)
        roots = {id(layer) for row in plan.blocks if row.trained for layer in network.blocks[row.block] if _acts(layer)}
        held = _below(nodes, roots)
        _lift(nodes, held, inputs)
        tensors = _cheapest(nodes, held, inputs, outputs)
        kept = any(nodes[n].operation.weights for n in held if hasattr(nodes[n].operation, "weights"))
        ends = tensors if len(tensors) > 1 else tensors[0]
        below, above = (keras.Model(given, ends), keras.Model(ends, outputs[0])) if kept else (None, network.model)
        text = json.dumps([[nodes[n].text for n in sorted(held)], [_number(nodes, inputs, t) for t in tensors]])
        made.append(Cut(tensors, below, above, frozenset(held if kept else ()), text))
    return made


def graph(model):
    """A functional model's graph on new inputs: (inputs, nodes in an order of execution, outputs)."""
    import keras

    names = [x.name if isinstance(model.input, dict) else None for x in model.inputs]
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=n) for x, n in zip(model.inputs, names, strict=True)]
    nodes: list[_Node] = []
    numbers = {id(x): f"input{i}" for i, x in enumerate(inputs)}

    def call(operation, *args, **kwargs):
        result = operation(*args, **kwargs)
        flat = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        outputs = keras.tree.flatten(result)
        # Names are left out: Keras numbers some by a counter of the process.
        asked = keras.tree.map_structure(lambda x: numbers.get(id(x), str(x)), (args, kwargs))
        text = f"{type(operation).__name__} {_settings(operation)} {asked}"
        numbers.update({id(x): f"{len(nodes)}.{i}" for i, x in enumerate(outputs)})
        nodes.append(_Node(operation, tuple(flat), tuple(outputs), text))
        return result

    return inputs, nodes, blocks.walk(model, _like(model, inputs), call)


def _like(model, inputs):
    import keras

    return (
        keras.tree.pack_sequence_as(model.input, inputs) if isinstance(model.input, dict | list | tuple) else inputs[0]
    )


def _settings(operation) -> str:
    try:
        config = operation.get_config()
    except NotImplementedError:  # an operation whose arguments Keras cannot write down; they stand in its call
        return ""
    return json.dumps(_computing({k: v for k, v in config.items() if k != "name"}), sort_keys=True, default=str)


def _computing(config):
    """A configuration without the flags that say what is trained: below the cut nothing is, whatever phase set them last."""
    if isinstance(config, dict):
        return {k: _computing(v) for k, v in config.items() if k != "trainable"}
    return [_computing(v) for v in config] if isinstance(config, list | tuple) else config


def _acts(layer) -> bool:
    """Whether a layer of a trained block can move or draws at random in this phase."""
    import keras

    if isinstance(
        layer, keras.layers.Dropout
    ):  # of a rate of 0 too: runs that differ in it alone share what lies below
        return True
    if layer.trainable_weights or any("seed_generator" in v.path for v in layer.variables):
        return True
    return any(isinstance(x, keras.layers.BatchNormalization) and x.trainable for x in layer._flatten_layers())


def _below(nodes: list[_Node], roots: set) -> set:
    """Numbers of the operations that neither act nor depend on one that does."""
    live: set[int] = set()
    held = set()
    for n, node in enumerate(nodes):
        if id(node.operation) in roots or any(id(x) in live for x in node.inputs):
            live.update(map(id, node.outputs))
        else:
            held.add(n)
    return held


def _lift(nodes: list[_Node], held: set, inputs) -> None:
    """Moves what is made of the inputs alone, without weights, above the cut where nothing below needs it. What follows
    from a mask must follow from the mask of the batch: stored with a text, it would end where the text did."""
    plain, made = set(), set(map(id, inputs))
    for n, node in enumerate(nodes):
        if not getattr(node.operation, "weights", ()) and all(id(x) in made for x in node.inputs):
            plain.add(n)
            made.update(map(id, node.outputs))
    while True:
        needed = {id(x) for n in held for x in nodes[n].inputs}
        loose = {n for n in plain & held if not any(id(x) in needed for x in nodes[n].outputs)}
        if not loose:
            return
        held -= loose


def crossing(nodes, held, inputs, outputs) -> list:
    """The tensors that are made below and used above, in order, each once."""
    above = {id(x) for n, node in enumerate(nodes) if n not in held for x in node.inputs} | set(map(id, outputs))
    below = [*inputs, *(x for n in sorted(held) for x in nodes[n].outputs)]
    return [x for x in below if id(x) in above]


def _cheapest(nodes, held: set, inputs, outputs) -> list:
    """Moves operations that cost next to nothing (paddings, activations, normalisations) above the cut while that
    makes what crosses smaller; changes `held`. A pre-activation network would keep its features twice otherwise."""
    import keras

    given = set(map(id, inputs))

    def size(tensors):
        # The inputs of an image network are bytes, whatever the graph says.
        return sum(math.prod(d or 1 for d in x.shape[1:]) * (1 if id(x) in given else 4) for x in tensors)

    def light(node):
        operation = node.operation
        norm = isinstance(operation, keras.layers.BatchNormalization | keras.layers.LayerNormalization)
        random = any("seed_generator" in v.path for v in getattr(operation, "variables", ()))
        return (norm or not getattr(operation, "weights", ())) and not random

    best = crossing(nodes, held, inputs, outputs)
    while True:
        ends = [
            n
            for n in held
            if light(nodes[n])
            and not any(id(x) in set(map(id, nodes[n].outputs)) for m in held for x in nodes[m].inputs)
        ]
        moves = [(size(found := crossing(nodes, held - {n}, inputs, outputs)), n, found) for n in ends]
        least, n, found = min(moves, key=lambda m: m[:2], default=(None, None, None))
        if least is None or least >= size(best):
            return best
        held.discard(n)
        best = found


def _number(nodes, inputs, tensor) -> str:
    """A name for a tensor that does not depend on names."""
    for i, x in enumerate(inputs):
        if x is tensor:
            return f"input{i}"
    return next(f"{n}.{i}" for n, node in enumerate(nodes) for i, x in enumerate(node.outputs) if x is tensor)


def whole(cut: Cut, suffix, name: str):
    """The network as a phase trains it when nothing is stored: below the cut in inference mode, above it `suffix`, in
    which training changes what it changes. Its variables are the network's own."""
    import keras

    if cut.prefix is None:
        return suffix

    class Whole(keras.Model):
        def __init__(self):
            super().__init__(name=name)
            self.prefix, self.suffix = cut.prefix, suffix

        def call(self, x, training=None):
            return self.suffix(self.prefix(x, training=False), training=training)

    return Whole()
