"""JSON values to numpy arrays, by the rules of TensorFlow Serving's json_tensor.cc.

A list nests as deep as its tensor has dimensions, every list of one level is equally long, and a value must be of
the JSON type that its dtype asks for: no rounding, no truth values for numbers, no text for either. Strings become
object arrays of bytes. Other than TensorFlow Serving, which narrows them later, int8, int16 and uint8 refuse what
does not fit.
"""

import binascii
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras.server.jsontext import echo
from tlkeras.server.status import Refused, invalid

MAX_BYTES = 64 << 20  # of one tensor: `0,` is two bytes of JSON and eight of int64
ROWS_AT_ONCE = 4096

# What JSON can fill: the dtype as error texts spell it, numpy's name for it, its bytes, the Python types it takes.
_NUMBER, _INTEGER = {int, float}, {int}
DTYPES = {
    "DT_FLOAT": ("float", np.float32, 4, _NUMBER),
    "DT_DOUBLE": ("double", np.float64, 8, _NUMBER),
    "DT_INT8": ("int8", np.int8, 1, _INTEGER),
    "DT_INT16": ("int16", np.int16, 2, _INTEGER),
    "DT_INT32": ("int32", np.int32, 4, _INTEGER),
    "DT_INT64": ("int64", np.int64, 8, _INTEGER),
    "DT_UINT8": ("uint8", np.uint8, 1, _INTEGER),
    "DT_UINT32": ("uint32", np.uint32, 4, _INTEGER),
    "DT_UINT64": ("uint64", np.uint64, 8, _INTEGER),
    "DT_BOOL": ("bool", np.bool_, 1, {bool}),
    "DT_STRING": ("string", object, 24, {str, dict}),
}


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a signature.

    `dtype` is TensorFlow's name ('DT_FLOAT'); `shape` has -1 for an unknown size and is None for an unknown rank;
    `tensor` is its name in the graph.
    """

    dtype: str
    shape: tuple[int, ...] | None
    tensor: str = ""

    @property
    def kind(self) -> str:
        return DTYPES[self.dtype][0] if self.dtype in DTYPES else self.dtype.removeprefix("DT_").lower()


def columns(value: Any, inputs: dict[str, TensorInfo]) -> dict[str, np.ndarray]:
    """Reads the value of 'inputs': an object with a tensor for each name, or the tensor itself if there is but one."""
    if not is_object(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                f"required as per tensorinfo_map: {','.join(inputs)}"
            )
        return {name: dense(value, info) for name, info in inputs.items()}
    for name in inputs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: dense(value[name], info) for name, info in inputs.items()}


def rows(instances: list, inputs: dict[str, TensorInfo]) -> dict[str, np.ndarray]:
    """Stacks 'instances' on a new first dimension. One pass where all is well; a fault is then looked for by row."""
    named = is_object(instances[0])
    if len(inputs) > 1 and not named:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            f"required as per tensorinfo_map: {','.join(inputs)}"
        )
    try:
        return _stack(instances, inputs, named)
    except Refused as fault:
        if fault.code != "TOO_LARGE":
            _find_bad_row(instances, inputs, named)
        raise


def _stack(instances: list, inputs: dict[str, TensorInfo], named: bool) -> dict[str, np.ndarray]:
    # A set of types first: a plain request may hold millions of rows, and a call for each of them is seconds.
    if (named or dict in set(map(type, instances))) and any(is_object(row) != named for row in instances):
        raise invalid("objects and values are mixed")
    if not named:
        return {name: dense(instances, info) for name, info in inputs.items()}
    if any(row.keys() != inputs.keys() for row in instances):
        raise invalid("keys differ")
    return {name: dense([row[name] for row in instances], info) for name, info in inputs.items()}


def _find_bad_row(instances: list, inputs: dict[str, TensorInfo], named: bool) -> None:
    """Raises for the first bad row, with its number. Whole chunks first: a request may hold millions of rows."""
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(instances), ROWS_AT_ONCE):
        chunk = instances[start : start + ROWS_AT_ONCE]
        try:
            stacked = _stack(chunk, inputs, named)
            if all(shapes.setdefault(name, array.shape[1:]) == array.shape[1:] for name, array in stacked.items()):
                continue
        except Refused:
            pass
        for i, row in enumerate(chunk, start):
            _check_row(i, row, inputs, named, shapes)


def _check_row(i: int, row: Any, inputs: dict[str, TensorInfo], named: bool, shapes: dict) -> None:
    if is_object(row) != named:
        text = "Expecting object but got list" if named else "Expecting value/list but got object"
        raise invalid(f"{text} at item {i} of input list")
    for name, value in row.items() if named else [(next(iter(inputs)), row)]:
        try:
            if name not in inputs:
                raise invalid(f"JSON object: does not have named input: {name[:256]}")
            shape = dense(value, inputs[name]).shape
            wanted = shapes.setdefault(name, shape)
            if math.prod(shape) != math.prod(wanted):
                raise invalid(f"Expecting tensor size: {math.prod(wanted)} but got: {math.prod(shape)}")
            if shape != wanted:
                raise invalid(f"Expecting shape {_text(wanted)} but got: {_text(shape)}")
        except Refused as fault:
            # TensorFlow Serving wraps every fault of a row, so even UNIMPLEMENTED leaves as INVALID_ARGUMENT.
            key = f" key: {name[:256]}" if named else ""
            text = f"Failed to process element: {i}{key} of 'instances' list. Error: {fault.code}: {fault}"
            raise invalid(text) from None
    if named and row.keys() != inputs.keys():
        raise invalid(
            f"Failed to process element: {i} of 'instances' list. JSON object: {echo(row)} "
            f"keys must be equal to: {','.join(inputs)}"
        )


def dense(value: Any, info: TensorInfo) -> np.ndarray:
    """The array of a scalar or of nested lists; its shape is read off the first element of each level."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    if info.dtype not in DTYPES:
        raise Refused("UNIMPLEMENTED", f"Conversion of JSON Value: {echo(first)} to type: {info.kind}")
    if math.prod(shape) * DTYPES[info.dtype][2] > MAX_BYTES:
        raise Refused("TOO_LARGE", f"A tensor of shape {_text(shape)} and type {info.kind} is over {MAX_BYTES} bytes.")
    leaves = _leaves(value, shape)
    array = _strings(leaves) if info.dtype == "DT_STRING" else _numbers(leaves, info)
    return array.reshape(shape)


def _leaves(value: Any, shape: list[int]) -> list:
    level = [value]
    for depth, size in enumerate(shape):
        below: list = []
        for item in level:
            if not isinstance(item, list):
                raise invalid(
                    f"JSON Value: {echo(item)} found at incorrect level: {depth + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}"
                )
            if len(item) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: {depth} expected size: {size}"
                )
            below.extend(item)
        level = below
    if list in set(map(type, level)):
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}")
    return level


def _numbers(leaves: list, info: TensorInfo) -> np.ndarray:
    _, dtype, _, types = DTYPES[info.dtype]
    if not set(map(type, leaves)) <= types:
        raise _type_error(next(leaf for leaf in leaves if type(leaf) not in types), info)
    if types is _NUMBER:
        try:
            wide = np.array(leaves, np.float64)
        except OverflowError:  # an integer of more than 308 digits
            raise invalid("JSON Parse error: Number too big to be stored in double.") from None
        with np.errstate(over="ignore"):  # 1e300 is infinite as a float, here as there
            return wide.astype(dtype)
    if types is _INTEGER and leaves:
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if min(leaves) < least or max(leaves) > most:
            raise _type_error(next(leaf for leaf in leaves if not least <= leaf <= most), info)
    return np.array(leaves, dtype)


def _strings(leaves: list) -> np.ndarray:
    array = np.empty(len(leaves), object)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, str):
            try:
                array[i] = leaf.encode()
            except UnicodeEncodeError:
                raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
        elif isinstance(leaf, dict):
            array[i] = _unbase64(leaf)
        else:
            raise _type_error(leaf, TensorInfo("DT_STRING", None))
    return array


def is_b64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def is_object(value: Any) -> bool:
    """True for an object that names tensors; {"b64": ...} is a value."""
    return isinstance(value, dict) and not is_b64(value)


def _unbase64(value: dict) -> bytes:
    """Takes the standard alphabet, padded or not, with blanks anywhere, as absl's decoder does."""
    if not is_b64(value):
        raise invalid(f"JSON Value: {echo(value)} not formatted correctly for base64 data")
    try:
        text = value["b64"].encode("ascii").translate(None, b" \t\n\v\f\r")
        if b"=" not in text:
            text += b"=" * (-len(text) % 4)
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are both one
        raise invalid("Unable to base64 decode") from None


def _type_error(value: Any, info: TensorInfo) -> Refused:
    text = f"JSON Value: {echo(value)} Type: {json_type(value)} is not of expected type: {info.kind}"
    return invalid(text)


def json_type(value: Any) -> str:
    """The type of a parsed JSON value in rapidjson's words."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    return {dict: "Object", list: "Array", str: "String"}.get(type(value), "Number")


def _text(shape: Iterable[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
