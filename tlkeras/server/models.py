"""Loads SavedModels and runs their signatures.

TensorFlow is imported when the first model is loaded, and nothing of tlkeras that trains ever is. (TensorFlow 2.21
imports a part of Keras by itself.)
"""

import logging
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import MachineError, ModelError, UsageError
from tlkeras.server.folders import Folder
from tlkeras.server.protocol import Request, Signature, Target
from tlkeras.server.status import CANONICAL, Refused, invalid
from tlkeras.server.tensors import TensorInfo

log = logging.getLogger("tlkeras.server")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Version:
    """One loaded SavedModel; `run(signature name, input arrays)` gives the output arrays or raises Refused."""

    number: int
    signatures: dict[str, Signature]
    run: Callable[[str, Arrays], Arrays]


@dataclass(frozen=True)
class Model:
    name: str
    versions: dict[int, Version]
    contract: dict[str, Any] | None = None

    @property
    def latest(self) -> Version:
        return self.versions[max(self.versions)]


def choose(models: dict[str, Model], target: Target) -> tuple[Model, Version]:
    """The model and version that a path asks for. Raises Refused. No labels are kept, so any label is unknown."""
    if target.label is not None:
        raise invalid(f"Unrecognized servable version label: {target.label[:256]}")
    model = models.get(target.model)
    if model is None or (target.version is not None and target.version not in model.versions):
        raise Refused("NOT_FOUND", f"Servable not found for request: {target}")
    return model, model.latest if target.version is None else model.versions[target.version]


# --- Loading


def load(folder: Folder, name: str | None = None, versions: str | Sequence[int] = "latest") -> Model:
    """Loads versions of a model: the 'latest' (as TensorFlow Serving does by default), 'all', or those numbered.

    Raises:
        UsageError: when a version is not there.
        ModelError: when a SavedModel is damaged.
        MachineError: when it needs operators of a package that is not installed.
    """
    named = {"latest": [max(folder.versions)], "all": sorted(folder.versions)}
    wanted = named.get(versions, []) if isinstance(versions, str) else list(versions)
    if not wanted or not set(wanted) <= folder.versions.keys():
        there = ", ".join(map(str, sorted(folder.versions)))
        raise UsageError(f"versions must be 'latest', 'all', or a list of some of {there}. Received: {versions!r}.")
    loaded = {number: _version(number, folder.versions[number]) for number in sorted(wanted)}
    return Model(name or folder.name, loaded, folder.contract)


def _version(number: int, path: Path) -> Version:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        signatures = _signatures(path)
        saved = _saved_model(path)
    except (OSError, ValueError, KeyError, RuntimeError, DecodeError, tf.errors.OpError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{path} must be a whole SavedModel; TensorFlow cannot load it: {reason}\n"
            "  Export it again: tlkeras export RUN --to saved_model"
        ) from error

    def run(signature: str, inputs: Arrays) -> Arrays:
        # Through `saved`, which owns the variables: with only its functions at hand they would be gone.
        function, names = saved.signatures[signature], signatures[signature].outputs
        try:
            tensors = {key: tf.convert_to_tensor(array, _tf_dtype(tf, array)) for key, array in inputs.items()}
            outputs = function(**tensors)
            return {key: _array(outputs[key].numpy()) for key in names}
        except tf.errors.OpError as error:
            raise _refusal(error.error_code, error.message) from error

    return Version(number, signatures, run)


def _saved_model(path: Path):
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(path))
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        if "Op type not registered" not in str(error):
            raise
    # Tokenizers are operators of another package, which registers them on import.
    try:
        import tensorflow_text  # noqa: F401
    except ImportError:
        raise MachineError(
            f"{path} needs the operators of 'tensorflow-text', which is not installed. "
            "Install it with: pip install tensorflow-text"
        ) from None
    return tf.saved_model.load(str(path))


def _signatures(path: Path) -> dict[str, Signature]:
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    def infos(tensors) -> dict[str, TensorInfo]:
        found = {}
        for key, tensor in sorted(tensors.items()):
            shape = tensor.tensor_shape
            sizes = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
            found[key] = TensorInfo(types_pb2.DataType.Name(tensor.dtype), sizes, tensor.name)
        return found

    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs:
        raise ValueError("it has no graph with the tag 'serve'")
    return {
        name: Signature(infos(definition.inputs), infos(definition.outputs), definition.method_name)
        for name, definition in sorted(graphs[0].signature_def.items())
    }


def _tf_dtype(tf, array: np.ndarray):
    return tf.string if array.dtype == object else tf.as_dtype(array.dtype)


def _array(value: Any) -> np.ndarray:
    if isinstance(value, bytes):  # a scalar string; np.asarray would make text of it
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


# --- Faults of a run


def _refusal(code: int, message: str) -> Refused:
    name = CANONICAL[code - 1] if 1 <= code <= len(CANONICAL) else "UNKNOWN"
    if name not in ("UNKNOWN", "INTERNAL", "DATA_LOSS"):
        return Refused(name, clean(message))
    mark = secrets.token_hex(4)
    log.error("the model failed (%s): %s", mark, message)
    return Refused(name, f"The model failed; the server's log says why under {mark}.")


def clean(message: str) -> str:
    """The sentences of a TensorFlow error for a client: no node, stack or path, at most 512 characters."""
    noise = re.compile(r'\s*(Graph execution error|Detected at node|<stack traces|Stack trace|File "|\d+ root error)')
    bare = re.sub(r"\[\[.*?\]\]|\[Op:[^\]]*\]", "", message)
    text = " ".join(line.strip() for line in bare.splitlines() if line.strip() and not noise.match(line))
    return re.sub(r"(?:[A-Za-z]:)?(?:[\\/][\w.+-]+){2,}", "...", text)[:512] or "The model refused its input."


def explain(version: Version, request: Request, fault: Refused) -> Refused:
    """What a client can act on when a batch failed: the shape that is odd, or the first instance that fails alone."""
    inputs = request.tensors
    odd = _odd_shape(version.signatures[request.signature].inputs, inputs)
    if odd:
        return Refused(fault.code, f"{odd} {fault}")
    sizes = {len(array) if array.ndim else 0 for array in inputs.values()}
    first, last = 0, sizes.pop() if len(sizes) == 1 else 0
    if not last:
        return fault
    # Halves and not one by one: six runs find the bad image of 64, and together they are as long as one run more.
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (first, middle) if _failure(version, request, first, middle) else (middle, last)
    alone = _failure(version, request, first, last)
    if not alone:  # the instances do not go together, though each is fine
        return fault
    text = f"Failed to process element: {first} of '{request.form}' list. Error: {alone.code}: {alone}"
    return Refused(alone.code, text)


def _failure(version: Version, request: Request, first: int, last: int) -> Refused | None:
    try:
        version.run(request.signature, {name: array[first:last] for name, array in request.tensors.items()})
    except Refused as fault:
        return fault
    return None


def _odd_shape(infos: dict[str, TensorInfo], inputs: Arrays) -> str | None:
    # Looked at only after a failure. TensorFlow Serving leaves shapes to the graph, which may take more than its
    # signature says: half_plus_two, TensorFlow's own example, declares [-1,1] and is asked with [3] everywhere.
    for name, array in inputs.items():
        shape = infos[name].shape
        if shape is None:
            continue
        if len(shape) != array.ndim or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)):
            return f"Input {name} must have shape {list(shape)}, received {list(array.shape)}."
    return None
