"""TensorFlow Serving's REST protocol as pure functions: paths and bodies in, records and JSON texts out.

Nothing here loads a model or speaks HTTP. What the protocol refuses is raised as `Refused`. Texts and the order in
which faults are noticed follow json_tensor.cc, http_rest_api_util.cc and http_rest_api_handler.cc.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from tlkeras.server import jsontext
from tlkeras.server.status import Refused, invalid
from tlkeras.server.tensors import TensorInfo, columns, json_type, rows

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Signature:
    """`method` is TensorFlow's method name, such as 'tensorflow/serving/predict'."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method: str = ""


@dataclass(frozen=True)
class Target:
    """What a path asks for: `verb` is predict, classify, regress, status or metadata; no `version` means the latest."""

    model: str
    verb: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        name = self.model[:256]
        return f"Latest({name})" if self.version is None else f"Specific({name}, {self.version})"


@dataclass(frozen=True)
class Request:
    """A `:predict` body; `form` is 'instances' (rows) or 'inputs' (columns) and decides the form of the answer."""

    signature: str
    form: str
    tensors: dict[str, np.ndarray]


# --- Paths

_PATHS = {
    "POST": re.compile(rb"(?i)/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?:(classify|regress|predict)"),
    "GET": re.compile(rb"(?i)/v1/models(?:/([^/:]+))?(?:/versions/([0-9]+)|/labels/([^/:]+))?(?:/(metadata))?"),
}


def route(method: str, path: bytes) -> Target:
    """Reads a path as it came over the wire; names are percent-decoded only after the split. Raises Refused."""
    found = _PATHS[method].fullmatch(path) if method in _PATHS else None
    if not found or (found[4] and not found[4].islower()):  # `:PREDICT` has the form of a verb, but is none
        raise invalid(f"Malformed request: {method[:32]} {path[:1024].decode('latin-1')}")
    name, version, label, verb = found.groups()
    if version and (len(version) > 4000 or int(version) >= 2**63):
        raise invalid(f"Failed to convert version: {version[:64].decode()} to numeric.")
    if not name:
        raise invalid("Missing model name in request.")
    return Target(
        model=_unquote(name),
        verb=verb.decode() if verb else "status",
        version=int(version) if version else None,
        label=_unquote(label) if label else None,
    )


def _unquote(name: bytes) -> str:
    return unquote_to_bytes(name).decode("utf-8", "replace")


# --- Requests


def predict_request(body: bytes, inputs_of: Callable[[str], dict[str, TensorInfo]]) -> Request:
    """Reads a `:predict` body. `inputs_of(signature name)` finds model, version and inputs, or raises Refused."""
    document = _document(body)
    signature = _signature_name(document)
    inputs = inputs_of(signature)
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {signature}")
    if "instances" in document and "inputs" in document:
        raise _format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "inputs" in document:
        return Request(signature, "inputs", columns(document["inputs"], inputs))
    if "instances" not in document:
        raise invalid("Missing 'inputs' or 'instances' key")
    if not isinstance(document["instances"], list):
        raise _format_error(document, "Expecting 'instances' to be an list/array")
    if not document["instances"]:
        raise _format_error(document, "No values in 'instances' array")
    return Request(signature, "instances", rows(document["instances"], inputs))


def examples_request(body: bytes) -> str:
    """Reads the frame of a `:classify` or `:regress` body, not its features; returns the signature's name."""
    document = _document(body)
    signature = _signature_name(document)
    if "context" in document:
        _example(document["context"])
    if "examples" not in document:
        raise _format_error(document, "When method is classify, key 'examples' is expected and was not found")
    if not isinstance(document["examples"], list):
        raise _format_error(document, "Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise _format_error(document, "'examples' value is an empty array")
    for example in document["examples"]:
        _example(example)
    return signature


def refuse_examples(verb: str, name: str, signatures: dict[str, Signature]) -> Refused:
    """Why `:classify` or `:regress` cannot be answered: exports of TF 2 and Keras have neither kind of signature."""
    if name not in signatures:
        return invalid(f"No signature was found with the name: {name[:256]}")
    kind, method = {"classify": "classification", "regress": "regression"}[verb], f"tensorflow/serving/{verb}"
    found = signatures[name].method
    if found != method:
        return invalid(f"Expected {kind} signature method_name to be {method}. Was: {found}")
    return Refused("UNIMPLEMENTED", f"Signatures with the method_name {method} are not served; use :predict.")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = jsontext.read(body)
    except jsontext.Malformed as fault:
        raise invalid(str(fault)) from None
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    return document


def _signature_name(document: dict[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name or DEFAULT_SIGNATURE


def _example(value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")


def _format_error(document: Any, text: str) -> Refused:
    return invalid(f"JSON Value: {jsontext.echo(document)} {text}")


# --- Answers


def predict_answer(form: str, outputs: dict[str, np.ndarray], infos: dict[str, TensorInfo]) -> str:
    """The JSON of a `:predict` answer, in the form of its request. Raises Refused where rows cannot be told apart."""
    keep = 1 if form == "instances" else 0
    if keep:
        _check_batch(outputs)
    texts = {}
    for name, array in outputs.items():
        try:
            texts[name] = jsontext.nested(array, keep, as_bytes=name.endswith("_bytes"))
        except TypeError:
            raise invalid(f"Failed to write JSON value for tensor type: {infos[name].kind}") from None
    if len(texts) == 1:
        items = next(iter(texts.values()))
    else:
        keys = [json.dumps(name) for name in texts]
        items = [
            "{" + ", ".join(f"{key}: {value}" for key, value in zip(keys, row, strict=True)) + "}"
            for row in zip(*texts.values(), strict=True)
        ]
    return f'{{"predictions": [{", ".join(items)}]}}' if keep else f'{{"outputs": {items[0]}}}'


def _check_batch(outputs: dict[str, np.ndarray]) -> None:
    size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information")
        if size is not None and len(array) != size:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)


def status_answer(versions: list[int]) -> str:
    """The JSON of a status answer, newest first. Every known version is loaded: else the server does not start."""
    fine = {"error_code": "OK", "error_message": ""}
    states = [
        {"version": str(number), "state": "AVAILABLE", "status": fine} for number in sorted(versions, reverse=True)
    ]
    return json.dumps({"model_version_status": states})


def metadata_answer(model: str, version: int, signatures: dict[str, Signature]) -> str:
    """The JSON of a metadata answer: what protobuf prints for a SignatureDefMap, defaults included."""
    definitions = {
        name: {
            "inputs": {key: _tensor(info) for key, info in signature.inputs.items()},
            "outputs": {key: _tensor(info) for key, info in signature.outputs.items()},
            "method_name": signature.method,
            "defaults": {},
        }
        for name, signature in signatures.items()
    }
    spec = {"name": model, "signature_name": "", "version": str(version)}
    return json.dumps({"model_spec": spec, "metadata": {"signature_def": {"signature_def": definitions}}})


def _tensor(info: TensorInfo) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in info.shape or ()]
    shape = {"dim": sizes, "unknown_rank": info.shape is None}
    return {"dtype": info.dtype, "tensor_shape": shape, "name": info.tensor}
