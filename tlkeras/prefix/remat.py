"""Rematerialisation: activations inside a block are thrown away after the forward pass and computed again for the
gradient (Chen et al. 2016, arXiv:1604.06174). Memory against a second forward pass of what is trained.

Keras' own RematScope does not run in TensorFlow graphs (3.15), so TensorFlow's recompute_grad is used, stage by stage.
"""

from functools import partial

from tlkeras.prefix.cut import crossing, graph


def rematerialised(suffix, network):
    """What is trained as a model whose stages, one per block, are computed again for their gradients. A stage that
    draws at random or whose BatchNorm moves is not: a second pass would draw and count again."""
    import keras
    import tensorflow as tf

    stages = [(stage, not _changes(stage)) for stage in _stages(suffix, network)]

    class Rematerialised(keras.Model):
        def __init__(self):
            super().__init__(name=suffix.name)
            self.stages = [stage for stage, _ in stages]

        def call(self, x, training=None):
            for stage, again in stages:
                if again and training:
                    run = tf.recompute_grad(partial(_packed, stage))
                    x = run(*keras.tree.flatten(x))
                else:
                    x = stage(x, training=training)
            return x

    return Rematerialised()


def _packed(stage, *flat):
    import keras

    return stage(keras.tree.pack_sequence_as(stage.input, flat), training=True)


def _stages(suffix, network) -> list:
    """Models that one after the other are `suffix`, sharing its weights."""
    import keras

    inputs, nodes, outputs = graph(suffix)
    given = keras.tree.pack_sequence_as(suffix.input, inputs)  # the first stage takes what the suffix takes
    maker = {id(x): n for n, node in enumerate(nodes) for x in node.outputs}
    done: set[int] = set()
    ends, made = inputs, []
    for layers in network.blocks.values():
        own = {id(x) for x in layers}
        # Everything that the block's layers need, operations without weights among it.
        waiting = [n for n, node in enumerate(nodes) if id(node.operation) in own and n not in done]
        added = set(waiting)
        while waiting:
            for x in nodes[waiting.pop()].inputs:
                if (n := maker.get(id(x))) is not None and n not in done and n not in added:
                    added.add(n)
                    waiting.append(n)
        if not added:
            continue
        done |= added
        following = crossing(nodes, done, inputs, outputs)
        # What is only handed on: Keras does not find an input among the outputs when it copies a graph from its middle.
        through = set(map(id, ends))
        out = [keras.layers.Identity()(x) if id(x) in through else x for x in following]
        made.append(keras.Model(_one(ends) if made else given, _one(out)))
        ends = following
    return made


def _one(tensors):
    return tensors if len(tensors) > 1 else tensors[0]


def _changes(stage) -> bool:
    import keras

    if any("seed_generator" in v.path for v in stage.variables):
        return True
    return any(isinstance(x, keras.layers.BatchNormalization) and x.trainable for x in stage._flatten_layers())
