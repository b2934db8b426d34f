"""Blocks: named stretches of a backbone, cut at boundary layers.

A block is every layer upstream of its boundary that no earlier block holds; the last block is what
remains. So every weight lies in exactly one block. Layer names are not matched by pattern: Keras numbers
some layers by a process-wide counter (InceptionV3's `conv2d_4`).
"""

import fnmatch
import math
import re
import warnings

from tlkeras.errors import ModelError, nearest

NECK, HEAD = "neck", "head"


def flatten(model, inputs, pixels=None, opened=None) -> dict:
    """Applies a functional model's own layers to `pixels`, sharing its weights: {layer name: its output tensor}.

    `inputs` is the keras.Input that `pixels` was computed from, or {name of an input: keras.Input} for a network
    that takes several, which are then used as they are. The result is one flat graph, which can be
    cut at any of the tensors; '' names the model's output. `opened` maps the names of composite layers to
    functions `(layer, apply, x) -> y` that run the layers inside by `apply(inner, x)`, so that a cut can
    fall between the blocks of a transformer's encoder.
    """
    import keras

    tensors = {}

    def call(layer, *args, **kwargs):
        if pixels is not None:
            args, kwargs = keras.tree.map_structure(lambda x: pixels if x is inputs else x, (args, kwargs))
        if layer.name in (opened or {}):
            tensors[layer.name] = opened[layer.name](layer, call, *args, **kwargs)
        else:
            tensors[layer.name] = layer(*args, **kwargs)
        return tensors[layer.name]

    # A layer's own `.output` would be the tensor of the graph it was first built in, hence the table.
    given = inputs if isinstance(inputs, dict) else keras.tree.map_structure(lambda _: inputs, model.input)
    (tensors[""],) = walk(model, given, call)
    return tensors


def walk(model, inputs, call) -> list:
    """Runs a functional model's graph on `inputs` (structured as its own) by `call(operation, *args, **kwargs)`, in
    an order in which everything comes after what it needs; returns the outputs, flat."""
    import keras

    with warnings.catch_warnings():
        # keras-hub names the one input in a dict; ours has another name, which changes nothing.
        warnings.filterwarnings("ignore", "When providing `inputs` as a dict")
        # clone_model is the public way to walk a functional graph; the clone itself is not kept.
        clone = keras.models.clone_model(model, input_tensors=inputs, clone_function=lambda x: x, call_function=call)
    return clone.outputs


def split(inputs, tensors: dict, boundaries) -> dict[str, tuple]:
    """Splits a flat graph into blocks by boundary: {block: layers}, input side first.

    `boundaries` are (block, boundary layer) pairs, `tensors` is what `flatten` returned; the boundary ''
    stands for what remains.

    Raises:
        ModelError: when a boundary is no layer of the graph, a block comes out without layers, or layers
            with weights lie behind the last boundary.
    """
    import keras

    blocks, taken = {}, set()
    for block, boundary in boundaries:
        if boundary not in tensors:
            raise ModelError(
                f"Block {block!r} ends at layer {boundary!r}, which the backbone does not have.{nearest(boundary, tensors)}"
            )
        upstream = keras.Model(inputs, tensors[boundary]).layers
        layers = tuple(x for x in upstream if id(x) not in taken and not isinstance(x, keras.layers.InputLayer))
        if not layers:
            raise ModelError(f"Block {block!r} holds no layer: its boundary {boundary!r} lies inside an earlier block.")
        taken.update(map(id, layers))
        blocks[block] = layers
    whole = keras.Model(inputs, tensors[""]).layers
    if left := [x.name for x in whole if id(x) not in taken and x.weights]:
        raise ModelError(
            f"Layers behind the last boundary: {', '.join(left)}. End the list of blocks with ('top', '')."
        )
    return blocks


def until(last: str, tensors: dict, boundaries):
    """The tensors and boundaries of a graph that ends with the block `last`, as `flatten` and `split` have them.

    Raises:
        ModelError: when there is no such block.
    """
    names = [block for block, _ in boundaries]
    if last not in names:
        raise ModelError(
            f"backbone.until: there is no block {last}.{nearest(last, names)} There are: {' '.join(names)}."
        )
    kept = tuple(boundaries)[: names.index(last) + 1]
    return {**tensors, "": tensors[kept[-1][1]]}, kept


def levels(tensors: dict, boundaries, size: tuple[int, int]) -> dict:
    """The last feature map of each size, at the ends of blocks: {stride: (B, height / stride, width / stride, c)}.

    `tensors` and `boundaries` are as for `split`. A map that padding made a pixel larger or smaller than the stride
    says is brought to that size, so that maps can be laid over each other.

    Raises:
        ModelError: when the network has no maps, as a transformer of tokens.
    """
    import keras

    found = {}
    for _, boundary in boundaries:
        x = tensors[boundary]
        if len(x.shape) == 4 and x.shape[1] and x.shape[1] > 1:
            found[2 ** round(math.log2(size[0] / x.shape[1]))] = x
    if not found:
        raise ModelError(
            "The backbone gives no feature maps (B, height, width, channels), which places in a picture are found in. Choose a convolutional one: tlkeras backbones --kind image"
        )
    wanted = {stride: tuple(-(-side // stride) for side in size) for stride in found}
    return {
        stride: x
        if tuple(x.shape[1:3]) == wanted[stride]
        else keras.ops.image.resize(x, wanted[stride], interpolation="bilinear")
        for stride, x in sorted(found.items())
    }


def select(pattern: str, blocks: list[str]) -> list[str]:
    """The blocks that a pattern names: a name, a glob, 'a..b', 'blocks[-2:]' (without neck and head), or 'all'."""
    body = [b for b in blocks if b not in (NECK, HEAD)]
    if pattern == "all":
        return list(blocks)
    if found := re.fullmatch(r"blocks\[(-?\d+)?(:)?(-?\d+)?\]", pattern):
        start, colon, stop = found.groups()
        start, stop = (int(start) if start else None), (int(stop) if stop else None)
        if not colon:
            return body[start : start + 1 or None] if start is not None and -len(body) <= start < len(body) else []
        return body[start:stop]
    if found := re.fullmatch(r"(.+?)\.\.(.+)", pattern):
        first, last = found.groups()
        if first in blocks and last in blocks and blocks.index(first) <= blocks.index(last):
            return blocks[blocks.index(first) : blocks.index(last) + 1]
        return []
    return [b for b in blocks if fnmatch.fnmatchcase(b, pattern)]
