"""One forward pass over many samples, as fast as this machine allows.

On a CPU as many single-threaded streams as there are cores beat one stream with as many threads, and a graph
whose weights are constants beats one that reads variables: measured 1.2 to 1.7 times Keras' own predict
(docs/log.md). OpenVINO, where it is installed, is faster again. A GPU gets one stream of larger batches.
"""

import importlib.metadata
import importlib.util
import math
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkeras.data.parallel import in_order
from tlkeras.device import cores

# A GraphDef with constants must stay below 2 GB, and TensorFlow folds a second copy of them.
MOST_CONSTANTS = 1_000_000_000


@dataclass(frozen=True)
class Stream:
    """`call(*arrays) -> list of arrays` may be called from `workers` threads at a time; every array has `batch` rows.
    `slower` says why TensorFlow computes although OpenVINO is installed; None where that is not so."""

    name: str
    batch: int
    workers: int
    call: Callable
    slower: str | None = None

    def run(self, batches: Iterable[tuple]) -> Iterator[tuple]:
        """Yields the outputs of each batch, in order: a tuple of arrays (b, ...), one per output. A batch is a tuple of
        arrays (b, ...), b <= batch, one per input."""

        def one(arrays):
            # Every call has the same number of rows, so that what a sample gives does not depend on its neighbours.
            n = len(arrays[0])
            full = [np.concatenate([x, np.repeat(x[-1:], self.batch - n, 0)]) if n < self.batch else x for x in arrays]
            return tuple(y[:n] for y in self.call(*full))

        with ThreadPoolExecutor(self.workers) as pool:
            yield from in_order(pool, one, batches, 2 * self.workers)


def open_stream(model, dtype: str | None = None, finish: Callable = tuple, batch: int | None = None) -> Stream:
    """Compiles a functional model for inference as it is now; later changes of its weights do not show.

    Args:
        dtype: of the batches, e.g. 'uint8' for pixels; cast to what the model wants. None: what the model wants.
        finish: applied to the list of outputs inside the graph; returns a tuple of tensors.
        batch: rows per call. None: 8 on a CPU, 64 on a GPU.
    """
    import tensorflow as tf

    gpu = bool(tf.config.get_visible_devices("GPU"))
    batch = batch or (64 if gpu else 8)
    if gpu or sum(math.prod(v.shape) for v in model.weights) * 4 > MOST_CONSTANTS:
        forward, _ = _traced(model, dtype, finish, batch, held=None)
        call = lambda *x: [y.numpy() for y in forward(*map(tf.constant, x))]  # noqa: E731
        return Stream(f"tensorflow {tf.__version__}", batch, 1, call)
    held = [[v.numpy() for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
    forward, given = _traced(model, dtype, finish, batch, held)
    floats = all(x.compute_dtype == "float32" for x in model.layers)
    # Sounds as long as they are: no noise of eight samples would tell whether OpenVINO agrees.
    floats = floats and not any("float" in x.dtype and None in x.shape[1:] for x in model.inputs)
    slower = None
    if importlib.util.find_spec("openvino") and floats:
        quick, slower = _tried(forward, given, model, finish)
        if quick:
            return Stream(f"openvino {importlib.metadata.version('openvino')}", batch, cores(), quick)
    graph, feeds, fetches = _graph(forward, given)
    settings = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores(), use_per_session_threads=True
    )
    session = tf.compat.v1.Session(graph=graph, config=settings)
    return Stream(f"tensorflow {tf.__version__}", batch, cores(), session.make_callable(list(fetches), feeds), slower)


def _traced(model, dtype: str | None, finish, batch: int, held):
    """The model as a concrete function of one batch, and the values of its further inputs: the weights that are `held`,
    trainable and other, and tensors that a layer keeps outside of its weights (Normalization's mean). `held` None: it
    reads its variables."""
    import keras
    import tensorflow as tf

    specs = [tf.TensorSpec((batch, *x.shape[1:]), dtype or x.dtype) for x in model.inputs]

    def forward(*arrays, weights=None):
        cast = [tf.cast(x, given.dtype) for x, given in zip(arrays, model.inputs, strict=True)]
        x = keras.tree.pack_sequence_as(model.input, cast)
        if held is not None:
            outputs, _ = model.stateless_call(*weights, x, training=False)
        else:
            outputs = model(x, training=False)
        return [tf.identity(y) for y in finish(outputs if isinstance(outputs, list | tuple) else [outputs])]

    function = tf.function(forward, autograph=False)
    if held is None:
        return function.get_concrete_function(*specs), []
    # As inputs, since a graph with 90 MB of constants takes a second to make, to write and to read again.
    weights = [[tf.TensorSpec(a.shape, a.dtype) for a in group] for group in held]
    concrete = function.get_concrete_function(*specs, weights=weights)
    return concrete, [a for group in held for a in group] + [x.numpy() for x in concrete.captured_inputs]


def _graph(concrete, given):
    """A concrete function as a graph of its own, with the values `given` of its last inputs: (graph, inputs, outputs)."""
    import tensorflow as tf

    own = concrete.inputs[: len(concrete.inputs) - len(given)]
    graph = tf.Graph()
    with graph.as_default():
        feeds = [tf.compat.v1.placeholder(x.dtype, x.shape, f"samples{i}") for i, x in enumerate(own)]
        fetches = tf.graph_util.import_graph_def(
            concrete.graph.as_graph_def(),
            input_map=dict(zip([x.name for x in concrete.inputs], [*feeds, *map(tf.constant, given)], strict=True)),
            return_elements=[y.name for y in concrete.outputs],
            name="",
        )
    return graph, feeds, fetches


def _openvino(concrete, given):
    """A concrete function in OpenVINO, with the values `given` of its last inputs. Read from a file: its convert_model
    reports every use to its maker."""
    import openvino
    from openvino import opset13

    core, samples = openvino.Core(), concrete.inputs[: len(concrete.inputs) - len(given)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.pb"
        path.write_bytes(concrete.graph.as_graph_def().SerializeToString())
        read = core.read_model(path)
    # Inputs and outputs are named, since what the graph holds besides counts as one too.
    named = {p.get_friendly_name(): p for p in read.get_parameters()}
    inputs = [named.get(x.op.name) or named.get(x.name) for x in concrete.inputs]
    for place, value in zip(inputs[len(samples) :], given, strict=True):
        if place is None:  # Nothing that is asked for depends on it.
            continue
        constant = opset13.constant(value, shared_memory=True)
        for user in place.output(0).get_target_inputs():
            user.replace_source_output(constant.output(0))
    model = openvino.Model([read.output(y.name) for y in concrete.outputs], inputs[: len(samples)])
    model.reshape({i: openvino.PartialShape([-1 if d is None else d for d in x.shape]) for i, x in enumerate(samples)})
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"})
    own = threading.local()

    def call(*arrays):
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        answer = own.request.infer(dict(enumerate(arrays)))
        return [np.array(answer[i]) for i in range(len(concrete.outputs))]

    return call


def _tried(forward, given, model, finish) -> tuple[Callable | None, str | None]:
    """OpenVINO's call where it gives what the model gives, else None and the reason."""
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(_openvino, forward, given)
        noise, expected = _expected(model, finish, forward.inputs)
        try:
            call = made.result()
            pairs = list(zip(call(*noise), expected, strict=True))
        except RuntimeError as e:  # what OpenVINO raises for an operation that it does not know
            return None, f"OpenVINO cannot run this network, so TensorFlow computes it, which is slower ({_telling(e)})"
    if all(np.abs(a - b).max() <= 1e-4 * (1 + np.abs(a).max()) for a, b in pairs):
        return call, None
    off = max(float(np.abs(a - b).max()) for a, b in pairs)
    return None, f"OpenVINO differs from TensorFlow by {off:.1g} on this network, so TensorFlow computes it"


def _telling(e: Exception) -> str:
    """The line of OpenVINO's report that says what is wrong; the others are places in its sources."""
    lines = [line.strip("- \t") for line in str(e).splitlines() if line.strip()]
    told = [
        line
        for line in lines
        if not line.startswith(("Exception from", "Check ", "FrontEnd API", "Model wasn't", "Summary"))
    ]
    return (told or lines or ["no reason given"])[0][:160]


def _expected(model, finish, feeds):
    """Noise in the form of `feeds`, the model's inputs and what follows them: bytes as pixels, any token, zeros and ones
    as masks; and what the model gives for it."""
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    tokens = max((x.input_dim for x in model.layers if hasattr(x, "input_dim")), default=2)

    def noise(x, given):
        shape = [8 if d is None else d for d in x.shape]
        drawn = rng.integers(0, tokens if given.name.endswith("token_ids") else 255 if len(shape) == 4 else 2, shape)
        # Ones at the front keep a mask from hiding a row.
        drawn[..., :1] = np.maximum(drawn[..., :1], 1)
        return drawn.astype(x.dtype.as_numpy_dtype)

    arrays = [noise(x, given) for x, given in zip(feeds, model.inputs, strict=False)]
    cast = [tf.cast(x, given.dtype) for x, given in zip(arrays, model.inputs, strict=True)]
    # The model itself, operation by operation: a graph of constants takes seconds to be optimised.
    outputs = model(keras.tree.pack_sequence_as(model.input, cast), training=False)
    found = finish(outputs if isinstance(outputs, list | tuple) else [outputs])
    return arrays, [np.asarray(y) for y in found]
