"""JSON as TensorFlow Serving's parser reads it and its writer writes it.

Reading differs from Python's own in four ways: a byte order mark is skipped, what follows the first value is
ignored, of two equal keys the first one counts, and an exponent too big for a double is an error. Nesting beyond
`MAX_DEPTH` is refused here, before Python's recursive parser sees it. `NaN` and `Infinity` are numbers in both.

Writing differs in the floats: six significant digits where those read back as the same number, the full nine
(seventeen for a double) where they do not, and `.0` behind whole numbers, so that a client sees one type per list.
"""

import base64
import json
import math
import re
from typing import Any

import numpy as np

MAX_DEPTH = 64
MAX_CONTAINERS = 1 << 22  # lists and objects; a Python list costs 64 bytes where its text costs three
ECHO = 256  # characters of a client's own JSON that an error repeats

_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1
_SPACE = re.compile(r"[ \t\n\r]*")
_REASONS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or a closing bracket.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
}


class Malformed(ValueError):
    """The text is not JSON; the message says why and where."""


def read(body: bytes) -> Any:
    """Returns the first JSON value of `body` (UTF-8, any length). Raises Malformed."""
    start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    try:
        text = body[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"JSON Parse error: Invalid encoding in string. at offset: {start + error.start}") from None
    begin = _SPACE.match(text).end()
    if begin == len(text):
        raise Malformed("JSON Parse error: The document is empty")
    containers = body.count(b"[") + body.count(b"{")
    if containers > MAX_CONTAINERS:
        raise Malformed(f"JSON Parse error: more than {MAX_CONTAINERS} lists and objects")
    if containers > MAX_DEPTH and too_deep(body):
        raise Malformed(f"JSON Parse error: more than {MAX_DEPTH} lists and objects inside each other")
    try:
        return _DECODER.raw_decode(text, begin)[0]
    except json.JSONDecodeError as error:
        offset = start + len(text[: error.pos].encode())
        reason = next((ours for theirs, ours in _REASONS.items() if error.msg.startswith(theirs)), error.msg)
        raise Malformed(f"JSON Parse error: {reason} at offset: {offset}") from None
    except Malformed:
        raise
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise Malformed("JSON Parse error: Number too big to be stored in double.") from None


def too_deep(body: bytes) -> bool:
    """True when lists and objects nest deeper than MAX_DEPTH; brackets inside strings do not count."""
    bare = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    depth = quotes = 0
    for start in range(0, len(bare), 1 << 20):
        chunk = bare[start : start + (1 << 20)]
        counted = np.cumsum(chunk == ord('"'), dtype=np.int64) + quotes
        depths = np.cumsum(_STEP[chunk] * (counted % 2 == 0), dtype=np.int64) + depth
        if depths.max() > MAX_DEPTH:
            return True
        depth, quotes = depths[-1], counted[-1]
    return False


def echo(value: Any) -> str:
    """The JSON of `value` for an error text, cut after ECHO characters; a large value is not written out first."""
    if isinstance(value, str):
        value = value[:ECHO]
    text = ""
    for piece in _ECHO.iterencode(value):
        text += piece[: ECHO + 1]
        if len(text) > ECHO:
            return text[: ECHO - 3] + "..."
    return text


def nested(array: np.ndarray, keep: int, as_bytes: bool = False) -> list[str]:
    """The JSON of `array`, one text for each index of its first `keep` dimensions (0: a single text).

    `as_bytes`: strings are written as {"b64": ...}. Raises TypeError for a dtype that JSON has no number for.
    """
    texts = leaves(array, as_bytes)
    for axis in range(array.ndim - 1, keep - 1, -1):
        size, groups = array.shape[axis], math.prod(array.shape[:axis])
        texts = ["[" + ", ".join(texts[i * size : (i + 1) * size]) + "]" for i in range(groups)]
    return texts


def leaves(array: np.ndarray, as_bytes: bool) -> list[str]:
    """One JSON text for each value of `array`, in row-major order."""
    flat = array.reshape(-1)
    if array.dtype in (np.float32, np.float64):
        return decimals(flat)
    if array.dtype == np.bool_:
        return ["true" if value else "false" for value in flat.tolist()]
    if array.dtype.kind in "iu":
        return [str(value) for value in flat.tolist()]
    if array.dtype == object and as_bytes:
        return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in flat.tolist()]
    if array.dtype == object:
        return [json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False) for value in flat.tolist()]
    raise TypeError(f"no JSON for {array.dtype}")


def decimals(flat: np.ndarray) -> list[str]:
    """The texts of float32 or float64 values of shape (n,)."""
    digits = 9 if flat.dtype == np.float32 else 17
    values = flat.tolist()
    texts = [f"{value:.6g}" for value in values]
    same = np.array([float(text) for text in texts], np.float64).astype(flat.dtype) == flat
    for i in np.flatnonzero(~same):
        texts[i] = f"{values[i]:.{digits}g}"
    return [_number(text) for text in texts]


def _number(text: str) -> str:
    if "." in text or "e" in text:
        return text
    return {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text) or text + ".0"


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        # rapidjson looks at the exponent alone: 1.8e308 passes as infinite, 1e309 does not.
        mantissa, _, exponent = text.lower().partition("e")
        if int((exponent or "0")[:9]) > 308 + len(mantissa.partition(".")[2]):
            raise Malformed("JSON Parse error: Number too big to be stored in double.")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins, parse_float=_float)
_ECHO = json.JSONEncoder(ensure_ascii=False)
