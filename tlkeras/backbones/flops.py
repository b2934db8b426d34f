"""Operations of a forward pass, counted from the graph that TensorFlow runs."""

import math

from tlkeras.errors import ModelError


def flops(model) -> int:
    """Floating-point operations of one forward pass at the model's input size, batch 1: 2 per multiply-add.

    Convolutions, depthwise convolutions and matrix products count; additions, norms and activations do not,
    nor does what keras-hub or Keras computes once as a constant. The body of a loop counts once.

    Raises:
        ModelError: when the input's size, or that of an operation inside, is not fixed.
    """
    import keras
    import tensorflow as tf

    takes = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    specs = keras.tree.map_structure(lambda x: tf.TensorSpec((1, *x.shape[1:]), x.dtype), takes)
    if any(None in spec.shape.as_list() for spec in keras.tree.flatten(specs)):
        raise ModelError(f"{model.name} takes inputs of any size; build it for a fixed size to count its operations.")
    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(specs)
    graph = concrete.graph.as_graph_def(add_shapes=True)
    functions = {function.signature.name: function for function in graph.library.function}
    return _count(graph.node, {}, functions)


def _count(nodes, arguments: dict, functions: dict) -> int:
    shapes = dict(arguments)
    for node in nodes:
        for index, shape in enumerate(node.attr["_output_shapes"].list.shape):
            shapes[node.name, index] = [dim.size for dim in shape.dim]
    total = 0
    for node in nodes:
        if node.op in _COUNTED:
            inputs = [shapes[_source(name)] for name in node.input if not name.startswith("^")]
            operations = 2 * _COUNTED[node.op](node.attr, inputs, shapes[node.name, 0])
            if operations < 0:  # An unknown size is -1.
                raise ModelError(f"The sizes of {node.name} ({node.op}) are not known before the model runs.")
            total += operations
        for attribute in node.attr.values():
            for called in [attribute.func.name] if attribute.func.name else [f.name for f in attribute.list.func]:
                total += _count_function(functions[called], functions)
    return total


def _count_function(function, functions: dict) -> int:
    arguments = {}
    for index, argument in enumerate(function.signature.input_arg):
        for shape in function.arg_attr[index].attr["_output_shapes"].list.shape:
            arguments[argument.name, 0] = [dim.size for dim in shape.dim]
    return _count(function.node_def, arguments, functions)


def _source(name: str) -> tuple[str, int]:
    """The (node, output) behind an input: 'node', 'node:1', or 'node:output:0' inside a function."""
    node, *rest = name.split(":")
    return node, int(rest[-1]) if rest else 0


def _convolution(attr, inputs, output) -> int:
    height, width, channels, _ = inputs[1]  # Channels of one group.
    return math.prod(output) * height * width * channels


def _depthwise(attr, inputs, output) -> int:
    height, width, _, _ = inputs[1]
    return math.prod(output) * height * width


def _transposed(attr, inputs, output) -> int:
    height, width, channels, _ = inputs[1]
    return math.prod(inputs[2]) * height * width * channels


def _product(transpose: str):
    def count(attr, inputs, output) -> int:
        return math.prod(output) * inputs[0][-2 if attr[transpose].b else -1]

    return count


def _einsum(attr, inputs, output) -> int:
    """Every combination of the labels is one multiply-add; an ellipsis stands for the axes of the output it keeps."""
    operands, _, result = attr["equation"].s.decode().replace(" ", "").partition("->")
    sizes = {}
    for labels, shape in zip(operands.split(","), inputs, strict=True):
        before, _, after = labels.partition("...")
        sizes.update(zip(before, shape, strict=False))
        sizes.update(zip(reversed(after), reversed(shape), strict=False))
    kept = len(result.replace("...", ""))
    start = result.find("...")
    shared = output[start : start + len(output) - kept] if start >= 0 else []
    return math.prod(sizes.values()) * math.prod(shared)


_COUNTED = {
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "MatMul": _product("transpose_a"),
    "BatchMatMulV2": _product("adj_x"),
    "Einsum": _einsum,
}
