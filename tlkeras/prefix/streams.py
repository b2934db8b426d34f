"""One forward pass over many samples, as fast as this machine allows.

On a CPU as many single-threaded streams as there are cores beat one stream with as many threads, and a graph
whose weights are constants beats one that reads variables: measured 1.2 to 1.7 times Keras' own predict
(docs/log.md). OpenVINO, where it is installed, is faster again. A GPU gets one stream of larger batches.
"""

import contextlib
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
    """`call(batch) -> tuple of arrays` may be called from `workers` threads at a time; every batch has `batch` rows."""

    name: str
    batch: int
    workers: int
    call: Callable

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple]:
        """Yields the outputs of each batch (b, ...), b <= batch, in order: a tuple of arrays, one per output."""

        def one(x):
            # Every call has the same shape, so that what a sample gives does not depend on its neighbours.
            n = len(x)
            full = np.concatenate([x, np.repeat(x[-1:], self.batch - n, 0)]) if n < self.batch else x
            return tuple(y[:n] for y in self.call(full))

        with ThreadPoolExecutor(self.workers) as pool:
            yield from in_order(pool, one, batches, 2 * self.workers)


def open_stream(model, dtype: str, finish: Callable = tuple, batch: int | None = None) -> Stream:
    """Compiles a functional model of one input for inference as it is now; later changes of its weights do not show.

    Args:
        dtype: of the batches, e.g. 'uint8' for pixels; cast to what the model wants.
        finish: applied to the list of outputs inside the graph; returns a tuple of tensors.
        batch: rows per call. None: 8 on a CPU, 64 on a GPU.
    """
    import tensorflow as tf

    gpu = bool(tf.config.get_visible_devices("GPU"))
    batch = batch or (64 if gpu else 8)
    if gpu or sum(math.prod(v.shape) for v in model.weights) * 4 > MOST_CONSTANTS:
        forward = _traced(model, dtype, finish, batch, constants=False)
        return Stream(f"tensorflow {tf.__version__}", batch, 1, lambda x: [y.numpy() for y in forward(tf.constant(x))])
    forward = _traced(model, dtype, finish, batch, constants=True)
    graph, feed, fetches = _graph(forward)
    if importlib.util.find_spec("openvino") and all(x.compute_dtype == "float32" for x in model.layers):
        with contextlib.suppress(RuntimeError):  # what OpenVINO raises for an operation that it does not know
            call = _openvino(graph, feed, fetches)
            if _agree(call, forward, feed):
                return Stream(f"openvino {importlib.metadata.version('openvino')}", batch, cores(), call)
    settings = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores(), use_per_session_threads=True
    )
    session = tf.compat.v1.Session(graph=graph, config=settings)
    return Stream(f"tensorflow {tf.__version__}", batch, cores(), session.make_callable(list(fetches), [feed]))


def _traced(model, dtype: str, finish, batch: int, constants: bool):
    """The model as a concrete function of one batch; with `constants` its weights are part of the graph."""
    import tensorflow as tf

    spec = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), dtype)
    held = [[v.numpy() for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]

    @tf.function(input_signature=[spec], autograph=False)
    def forward(x):
        x = tf.cast(x, model.inputs[0].dtype)
        if constants:
            outputs, _ = model.stateless_call(*([tf.constant(a) for a in group] for group in held), x, training=False)
        else:
            outputs = model(x, training=False)
        return [tf.identity(y) for y in finish(outputs if isinstance(outputs, list | tuple) else [outputs])]

    return forward.get_concrete_function()


def _graph(concrete):
    """A concrete function as a graph of its own: (graph, input, outputs)."""
    import tensorflow as tf

    spec, captured = concrete.inputs[0], [x.numpy() for x in concrete.captured_inputs]
    graph = tf.Graph()
    with graph.as_default():
        feed = tf.compat.v1.placeholder(spec.dtype, spec.shape, "samples")
        # Tensors that a layer keeps outside its weights (Normalization's mean) come in as further inputs.
        given = [feed, *map(tf.constant, captured)]
        fetches = tf.graph_util.import_graph_def(
            concrete.graph.as_graph_def(),
            input_map=dict(zip([x.name for x in concrete.inputs], given, strict=True)),
            return_elements=[y.name for y in concrete.outputs],
            name="",
        )
    return graph, feed, fetches


def _openvino(graph, feed, fetches):
    """The graph in OpenVINO. Read from a file: its convert_model reports every use to its maker."""
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.pb"
        path.write_bytes(graph.as_graph_def().SerializeToString())
        read = core.read_model(path)
        # Inputs and outputs are named, since what the graph holds besides counts as one too.
        given = [p for p in read.get_parameters() if p.get_friendly_name() == feed.name]
        model = openvino.Model([read.output(y.name) for y in fetches], given)
        model.reshape(list(feed.shape))
        compiled = core.compile_model(
            model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        )
    own = threading.local()

    def call(x):
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        answer = own.request.infer({0: x})
        return [np.array(answer[i]) for i in range(len(fetches))]

    return call


def _agree(call, forward, feed) -> bool:
    """Whether OpenVINO gives what TensorFlow gives, on noise."""
    import tensorflow as tf

    noise = np.random.default_rng(0).integers(0, 255, feed.shape).astype(feed.dtype.as_numpy_dtype)
    pairs = zip(call(noise), forward(tf.constant(noise)), strict=True)
    return all(np.abs(a - b.numpy()).max() <= 1e-4 * (1 + np.abs(a).max()) for a, b in pairs)
