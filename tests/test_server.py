"""`serve` keeps TensorFlow Serving's REST protocol, survives what is thrown at it, and says what it refuses and why.

The cases are in serving_cases.yaml, each with where it was read; they are asked of the application in this process.
The same table can be asked of a real TensorFlow Serving: `--export DIR` writes the models, `--base-url URL` replays.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tlkeras.errors import MachineError, ModelError, UsageError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

CASES = yaml.safe_load(Path(__file__).with_name("serving_cases.yaml").read_text("utf8"))
TABLE = [
    pytest.param(case, id=f"{group}-{i}")
    for group, cases in CASES.items()
    if group not in ("grid", "floats")
    for i, case in enumerate(cases)
]
ODD_NAME = "modelname!#$%&'()*+,/:;=?@[]"
DTYPES = ["float", "double", "half", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string"]


# --- The models


def png(value: int, size: int = 4) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (size, size), (value,) * 3).save(file, "PNG")
    return file.getvalue()


def export(folder: Path) -> dict[str, Path]:
    """Writes the models of the table under `folder` and returns their base paths by name."""
    import tensorflow as tf

    def save(path, **functions):
        module = tf.Module()
        module.tables = [function for function, _ in functions.values()]
        module.bias = tf.Variable(0.0)
        concrete = {
            name.rstrip("_"): tf.function(function).get_concrete_function(**specs)
            for name, (function, specs) in functions.items()
        }
        module.functions = list(concrete.values())
        tf.saved_model.save(module, str(folder / path), signatures=concrete)

    def spec(dtype, *shape, name="x"):
        return {name: tf.TensorSpec(None if shape == ("any",) else shape, dtype, name=name)}

    anything = spec(tf.float32, "any")
    save("half/00000123", serving_default=(lambda x: {"y": x / 2 + 2}, anything))
    save("half/5", serving_default=(lambda x: {"y": x / 2 + 5}, anything))
    (folder / "half" / "7").mkdir()  # an upload that has only begun
    (folder / "half" / "notes").mkdir()

    pair = spec(tf.float32, "any", name="a") | spec(tf.float32, "any", name="b")
    save("two/1", serving_default=(lambda a, b: {"sum": a + b, "product": a * b}, pair))

    words = spec(tf.string, "any", name="text")
    save(
        "text/1",
        serving_default=(lambda text: {"upper": tf.strings.upper(text, encoding="utf-8")}, words),
        bytes=(lambda text: {"raw_bytes": tf.identity(text)}, words),
    )
    save("grid/1", **{name: (lambda x: {"y": tf.identity(x)}, spec(tf.as_dtype(name), "any")) for name in DTYPES})

    def answer(pixels):
        mean = tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2, 3]) / 255.0
        return {"label": tf.where(mean > 0.5, "bright", "dark"), "score": mean}

    def decode(image_bytes):
        def one(data):
            image = tf.io.decode_image(data, 3, expand_animations=False)
            return tf.image.resize(image, (2, 2), "nearest")

        return answer(tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec((2, 2, 3), tf.uint8)))

    save(
        "image/1",
        serving_default=(decode, spec(tf.string, None, name="image_bytes")),
        pixels=(answer, spec(tf.uint8, None, 2, 2, 3, name="pixels")),
    )

    def fussy(x):
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "x must not be negative")]):
            return {"y": tf.identity(x)}

    def fails(x):
        def raises(value):
            raise RuntimeError("secret place: /srv/models/odd/1/model.py")

        return {"y": tf.numpy_function(raises, [x], tf.float32)}

    row = spec(tf.float32, None)
    save(
        "odd/1",
        scalar=(lambda x: {"y": 7.0 + 0 * tf.reduce_sum(x)}, row),
        uneven=(lambda x: {"y": x, "z": tf.zeros(3)}, row),
        complex=(lambda x: {"y": tf.complex(x, x)}, row),
        none=(lambda x: {"y": x[:0]}, row),
        fussy=(fussy, row),
        fixed=(lambda x: {"y": tf.linalg.matvec(x, tf.ones(3))}, spec(tf.float32, None, 3)),
        fails=(fails, row),
    )
    return {name: folder / name for name in ("half", "two", "text", "grid", "image", "odd")} | {
        ODD_NAME: folder / "half"
    }


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return export(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def app(bases):
    import tlkeras.server

    return tlkeras.server.app(bases, versions="all")


# --- A client in this process, which sends paths and bodies as they are


def ask(app, method: str, path: str, body=b"", headers=None, fault=None) -> tuple[int, dict[str, str], bytes]:
    """Asks the ASGI application; `body` is bytes or a list of chunks. Returns status, headers and body.

    `fault`: the exception that the application must raise once it has answered.
    """
    chunks = list(body) if isinstance(body, (list, tuple)) else [body]
    raw, _, query = path.encode().partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw.decode("latin-1"),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8501),
    }
    sent = []

    async def receive():
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    with pytest.raises(fault) if fault else contextlib.nullcontext():
        asyncio.run(app(scope, receive, send))
    status, back = sent[0]["status"], {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return status, back, b"".join(message.get("body", b"") for message in sent[1:])


def request_of(case: dict) -> tuple[str, str, bytes, dict[str, str]]:
    path = case.get("path") or f"/v1/models/{case['model']}:predict"
    body = case.get("body", "")
    for word, value in (("WHITE", 255), ("BLACK", 0)):
        body = body.replace(f'"{word}"', json.dumps(base64.b64encode(png(value)).decode()))
    return case.get("method", "POST"), path, body.encode(), case.get("headers", {})


def check(case: dict, status: int, headers: dict[str, str], body: bytes) -> None:
    assert status == case.get("status", 200), body[:500]
    if case.get("plain"):
        return
    assert headers["content-type"] == "application/json"
    answer = json.loads(body)
    if "answer" in case:
        assert json.dumps(answer, sort_keys=True) == json.dumps(case["answer"], sort_keys=True)
    if status != 200:
        assert list(answer) == ["error"]
        assert case["error"] in answer["error"]
        check_secrets(answer["error"])


def check_secrets(text: str) -> None:
    assert len(text) < 1400
    assert not re.search(r"Traceback|File \"|\.py\b|site-packages|\[\[\{\{|/tmp|/home", text)


def test_the_table_is_as_large_as_promised():
    at_least = {"routing": 30, "precedence": 9, "row": 25, "columnar": 15, "base64": 12, "floats": 15, "about": 12}
    assert {group: len(CASES[group]) for group in at_least if len(CASES[group]) < at_least[group]} == {}


@pytest.mark.parametrize("case", TABLE)
def test_answers_as_tensorflow_serving_does(app, case):
    check(case, *ask(app, *request_of(case)))


@pytest.mark.parametrize("dtype", [dtype for dtype in CASES["grid"] if dtype != "others"])
def test_each_dtype_takes_its_own_values_and_no_others(app, dtype):
    values = {value for taken in CASES["grid"].values() for value in taken}
    assert len(values) >= 20
    for value in values - {"[]"}:
        body = f'{{"signature_name": "{dtype}", "inputs": {value}}}'.encode()
        status, _, back = ask(app, "POST", "/v1/models/grid:predict", body)
        expected = CASES["grid"][dtype].get(value)
        if expected is None:
            assert status == 400, f"{dtype} took {value}: {back}"
            assert json.loads(back)["error"]
        else:
            assert (status, back.decode()) == (200, f'{{"outputs": {expected}}}'), value


@pytest.mark.parametrize("dtype, value, printed", CASES["floats"])
def test_floats_are_printed_as_tensorflow_serving_prints_them(app, dtype, value, printed):
    body = f'{{"signature_name": "{dtype}", "instances": [{value}]}}'.encode()
    assert ask(app, "POST", "/v1/models/grid:predict", body)[2].decode() == f'{{"predictions": [{printed}]}}'


def test_printed_floats_read_back_as_the_same_numbers():
    from tlkeras.server.jsontext import decimals

    rng = np.random.default_rng(3)
    for dtype, bits in ((np.float32, np.uint32), (np.float64, np.uint64)):
        values = rng.integers(0, np.iinfo(bits).max, 20_000, bits, endpoint=True).view(dtype)
        values = values[np.isfinite(values)]
        back = np.array([float(text) for text in decimals(values)]).astype(dtype)
        assert np.array_equal(back, values)
        assert all("." in text or "e" in text for text in decimals(values))


def test_empty_tensors_keep_their_shape(app):
    for value, shape in (("[]", "[]"), ("[[],[]]", "[[], []]"), ("[[[]]]", "[[[]]]")):
        for dtype in ("float", "int64", "string", "bool"):
            body = f'{{"signature_name": "{dtype}", "inputs": {value}}}'.encode()
            assert ask(app, "POST", "/v1/models/grid:predict", body)[2].decode() == f'{{"outputs": {shape}}}'


def test_metadata_is_what_protobuf_prints(app, bases):
    from google.protobuf import json_format
    from tensorflow.core.protobuf import saved_model_pb2

    for name, number in (("half", 123), ("two", 1), ("image", 1), ("grid", 1)):
        folder = next(path for path in bases[name].iterdir() if path.name.isdecimal() and int(path.name) == number)
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        expected = {
            key: json_format.MessageToDict(
                value, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
            )
            for key, value in saved.meta_graphs[0].signature_def.items()
        }
        answer = json.loads(ask(app, "GET", f"/v1/models/{name}/versions/{number}/metadata")[2])
        assert answer["model_spec"] == {"name": name, "signature_name": "", "version": str(number)}
        assert answer["metadata"] == {"signature_def": {"signature_def": expected}}


# --- Versions and targets


def test_the_latest_version_alone_is_loaded_unless_more_are_asked_for(bases):
    import tlkeras.server

    latest = tlkeras.server.app({"half": bases["half"]})
    assert json.loads(ask(latest, "POST", "/v1/models/half:predict", b'{"instances":[0]}')[2]) == {"predictions": [2.0]}
    assert ask(latest, "POST", "/v1/models/half/versions/5:predict", b'{"instances":[0]}')[0] == 404
    one = tlkeras.server.app({"half": bases["half"]}, versions=[5])
    assert json.loads(ask(one, "POST", "/v1/models/half:predict", b'{"instances":[0]}')[2]) == {"predictions": [5.0]}
    with pytest.raises(UsageError, match=r"some of 5, 123.*Received: \[6\]"):
        tlkeras.server.app({"half": bases["half"]}, versions=[6])


def test_a_run_a_base_path_and_a_version_are_targets(tmp_path, bases):
    from tlkeras.server.folders import find

    run = tmp_path / "flowers-2"
    artefact = run / "artefacts" / "saved_model"
    artefact.mkdir(parents=True)
    (run / "config.yaml").write_text("task: image-classification\n")
    (artefact / "1").symlink_to(bases["image"] / "1")
    assert (find(run).name, find(artefact).name, find(artefact / "1").name) == (
        "flowers-2",
        "saved_model",
        "saved_model",
    )
    (artefact / "contract.json").write_text('{"name": "flowers", "labels": ["dark", "bright"]}')
    for target in (run, str(run), artefact, artefact / "1"):
        assert find(target).name == "flowers"
        assert find(target).contract["labels"] == ["dark", "bright"]
        assert list(find(target).versions) == [1]
    assert sorted(find(bases["half"]).versions) == [5, 123]
    assert find(bases["half"] / "00000123").versions.keys() == {123}
    (tmp_path / "plain").symlink_to(bases["two"] / "1")
    assert find(tmp_path / "plain").versions.keys() == {1}


def test_a_wrong_target_says_what_is_there_and_what_to_run(tmp_path):
    from tlkeras.server.folders import find

    run = tmp_path / "run"
    run.mkdir()
    for make, words in (
        (lambda: None, "is empty"),
        (lambda: (run / "model.keras").touch(), "holds model.keras"),
        (lambda: (run / "config.yaml").touch(), rf"no SavedModel has been exported(.|\n)*tlkeras export {run} --to"),
    ):
        make()
        with pytest.raises(UsageError, match=words):
            find(run)
    with pytest.raises(UsageError, match="is a file"):
        find(run / "model.keras")
    with pytest.raises(UsageError, match=r"does not exist(.|\n)*tlkeras export RUN --to saved_model"):
        find(tmp_path / "nowhere")


def test_a_damaged_model_or_contract_is_named(tmp_path, bases):
    import tlkeras.server

    broken = tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    whole = (bases["two"] / "1" / "saved_model.pb").read_bytes()
    for content in (whole, whole[: len(whole) // 2], b"no protobuf", b""):
        (broken / "saved_model.pb").write_bytes(content)
        with pytest.raises(ModelError, match="must be a whole SavedModel"):
            tlkeras.server.app({"broken": broken.parent})
    (broken.parent / "contract.json").write_text("{")
    with pytest.raises(ModelError, match="contract.json must be JSON"):
        tlkeras.server.app({"broken": broken.parent})


def test_a_missing_extra_answers_with_its_install_line(bases, monkeypatch):
    import tlkeras.server

    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(MachineError, match=r"fastapi.*pip install 'tlkeras\[serve\]'"):
        tlkeras.server.app(bases)


def test_other_machines_are_let_in_only_when_asked_for(bases):
    import tlkeras.server

    for host, words in (("0.0.0.0", "--insecure"), ("::", "--insecure"), ("", "address of this machine")):
        with pytest.raises(UsageError, match=words):
            tlkeras.server.serve(bases["half"], host=host, port=0)
    with pytest.raises(UsageError, match="port must be"):
        tlkeras.server.serve(bases["half"], port=70000)


def test_a_taken_port_is_said_before_the_model_is_loaded(bases):
    import tlkeras.server

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(MachineError, match=r"cannot be had.*--port"):
        tlkeras.server.serve(bases["half"], port=taken.getsockname()[1])


# --- Limits


def predict(app, body, **headers):
    status, _, back = ask(app, "POST", "/v1/models/half:predict", body, headers)
    return status, json.loads(back)


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, 1)


def padded(size: int) -> bytes:
    body = b'{"instances":[1],"pad":""}'
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


GOOD = b'{"instances":[1]}'
FULL = 32 << 20
ENCODED = {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    "body, headers, status",
    [
        (lambda: padded(FULL - 1), {}, 200),
        (lambda: padded(FULL), {}, 200),
        (lambda: padded(FULL + 1), {}, 413),
        (lambda: [padded(FULL), b" "], {}, 413),
        (lambda: GOOD, {"content-length": str(FULL + 1)}, 413),
        (lambda: GOOD, {"content-length": "9" * 20}, 413),
        (lambda: GOOD, {"content-length": "-1"}, 400),
        (lambda: [bytes([byte]) for byte in GOOD + b" " * 70_000], {}, 200),
        (lambda: gzipped(GOOD), ENCODED, 200),
        (lambda: gzipped(GOOD), {"content-encoding": "GZIP"}, 200),
        (lambda: GOOD, {"content-encoding": "identity"}, 200),
        (lambda: gzipped(padded(FULL)), ENCODED, 200),
        (lambda: gzipped(padded(FULL + 1)), ENCODED, 413),
        (lambda: gzipped(b"[" * (FULL + 1)), ENCODED, 413),
        (lambda: gzipped(GOOD)[:-9], ENCODED, 400),
        (lambda: gzipped(GOOD) * 2, ENCODED, 400),
        (lambda: gzipped(GOOD) + b"rest", ENCODED, 400),
        (lambda: GOOD, ENCODED, 400),
        (lambda: b"", ENCODED, 400),
        (lambda: gzipped(GOOD), {}, 400),
        (lambda: GOOD, {"content-encoding": "br"}, 415),
        (lambda: gzipped(gzipped(GOOD)), {"content-encoding": "gzip, gzip"}, 415),
    ],
)
def test_bodies_are_bounded_as_sent_and_as_inflated(app, body, headers, status):
    got, answer = predict(app, body(), **headers)
    assert got == status, answer
    assert list(answer) == (["predictions"] if status == 200 else ["error"])


def test_a_body_that_is_too_long_is_not_read(app):
    def endless():
        for _ in range(40):
            yield b"x" * (1 << 20)
        raise AssertionError("read on after 32 MiB")

    class Chunks(list):
        def __init__(self):
            self.source, self.read = endless(), 0

        def __bool__(self):
            return True

        def pop(self, _):
            self.read += 1
            return next(self.source)

    from starlette.requests import Request

    from tlkeras.server.rest import read_body
    from tlkeras.server.status import Refused

    chunks = Chunks()

    async def receive():
        return {"type": "http.request", "body": chunks.pop(0), "more_body": True}

    with pytest.raises(Refused) as refused:
        asyncio.run(read_body(Request({"type": "http", "method": "POST", "headers": []}, receive)))
    assert (refused.value.http, chunks.read) == (413, 33)


def test_a_body_that_does_not_arrive_is_given_up(app, monkeypatch):
    from starlette.requests import Request

    from tlkeras.server import rest
    from tlkeras.server.status import Refused

    monkeypatch.setattr(rest, "BODY_SECONDS", 0.05)

    async def receive():
        await asyncio.sleep(60)

    with pytest.raises(Refused) as refused:
        asyncio.run(rest.read_body(Request({"type": "http", "method": "POST", "headers": []}, receive)))
    assert refused.value.http == 408


@pytest.mark.parametrize(
    "body", [b"[" * 250_000, b'{"a":' * 250_000, b'{"instances":' + b"[" * 63 + b"1" + b"]" * 63 + b"}"]
)
def test_deep_nesting_is_refused_at_once(app, body):
    began = time.monotonic()
    for text in (body, b'{"x":' + body, b'{"signature_name":' + body, b'{"x":"[","instances":' + body):
        status, answer = predict(app, text)
        assert status == 400 or (len(body) < 1000 and status == 200), answer
    assert time.monotonic() - began < 2


def test_nesting_stops_at_64_and_brackets_in_strings_do_not_count(app):
    def deep(levels):
        return b'{"instances":[1],"pad":' + b"[" * levels + b"]" * levels + b"}"

    assert predict(app, deep(63))[0] == 200
    assert predict(app, deep(64)) == (
        400,
        {"error": "JSON Parse error: more than 64 lists and objects inside each other"},
    )
    assert predict(app, b'{"instances":[1],"pad":"' + b"[" * 1000 + b'\\"[[[["}')[0] == 200


def test_a_number_of_many_digits_is_no_reason_to_fail(app):
    for digits, status in ((300, 200), (400, 400), (5000, 400), (100_000, 400)):
        assert predict(app, b'{"instances":[' + b"1" * digits + b"]}")[0] == status
        assert predict(app, b'{"instances":[1.' + b"1" * digits + b"]}")[0] == 200


def test_tensors_that_grow_in_memory_are_refused(app):
    body = b'{"signature_name":"string","inputs":[' + b'"",' * 2_900_000 + b'""]}'
    status, _, back = ask(app, "POST", "/v1/models/grid:predict", body)
    assert (status, "over 67108864 bytes" in back.decode()) == (413, True)


def test_a_fault_in_the_last_of_many_rows_is_found_quickly(app):
    began = time.monotonic()
    status, answer = predict(app, b'{"instances":[' + b"0," * 500_000 + b'"a"]}')
    assert status == 400
    assert "Failed to process element: 500000 of 'instances' list" in answer["error"]
    assert time.monotonic() - began < 10


def test_errors_repeat_little_of_what_was_sent(app):
    status, answer = predict(app, json.dumps({"instances": ["x" * 1_000_000]}).encode())
    assert status == 400
    assert len(answer["error"]) < 500
    status, answer = predict(app, json.dumps({"instances": {"k": list(range(100_000))}}).encode())
    assert len(answer["error"]) < 500


def test_more_requests_than_can_wait_are_sent_away(app):
    from tlkeras.server import rest

    async def crowd():
        gate = asyncio.Event()
        statuses, headers = [], []

        async def one():
            async def receive():
                await gate.wait()
                return {"type": "http.request", "body": GOOD, "more_body": False}

            async def send(message):
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    headers.append(dict(message["headers"]))

            path = "/v1/models/half:predict"
            scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": []}
            await app(scope | {"query_string": b"", "root_path": ""}, receive, send)

        requests = [asyncio.create_task(one()) for _ in range(rest.MAX_WAITING + 5)]
        while len(statuses) < 5:
            await asyncio.sleep(0.01)
        assert statuses == [429] * 5
        assert headers[0][b"retry-after"] == b"1"
        gate.set()
        await asyncio.gather(*requests)
        return statuses

    assert asyncio.run(crowd()).count(200) == rest.MAX_WAITING


# --- Faults


def test_a_model_that_fails_is_a_500_that_tells_nothing(app, caplog):
    body = b'{"signature_name":"fails","instances":[1]}'
    status, _, back = ask(app, "POST", "/v1/models/odd:predict", body)
    answer = json.loads(back)
    assert status == 500
    mark = re.fullmatch(r"The model failed; the server's log says why under ([0-9a-f]{8})\.", answer["error"])[1]
    assert mark in caplog.text
    assert "secret place" in caplog.text


def test_a_fault_of_the_server_itself_is_a_500_that_tells_nothing(app, monkeypatch, caplog):
    from tlkeras.server import rest

    def broken(*_):
        raise ZeroDivisionError("secret place: /srv")

    monkeypatch.setattr(rest, "_infer", broken)
    status, _, back = ask(app, "POST", "/v1/models/half:predict", GOOD, fault=ZeroDivisionError)
    answer = json.loads(back)
    assert (status, list(answer)) == (500, ["error"])
    assert re.search("under ([0-9a-f]{8})", answer["error"])[1] in caplog.text
    check_secrets(answer["error"])
    assert "secret" not in answer["error"]


def test_texts_of_tensorflow_lose_their_places():
    from tlkeras.server.models import clean

    message = (
        "Graph execution error:\n\nDetected at node map/while/DecodeImage defined at (most recent call last):\n"
        "<stack traces unavailable>\nCannot open /srv/models/x/1/assets/words.txt for 3/4 of it\n"
        "\t [[{{node map/while/DecodeImage}}]] [Op:__inference_signature_wrapper_225]"
    )
    assert clean(message) == "Cannot open ... for 3/4 of it"
    assert clean("\t [[{{node a}}]]") == "The model refused its input."


def test_bodies_that_are_not_utf8_are_refused(app):
    for body in (b'{"instances":["\xff"]}', GOOD.decode().encode("utf-16"), b"\xef\xbb\xbf", b"\x00", b'{"\x00":1}'):
        status, answer = predict(app, body)
        assert status == 400, body
        assert "JSON Parse error" in answer["error"]


def mutations(count: int, seed: int):
    """Bodies of the protocol's own grammar with damage done to them."""
    rng = random.Random(seed)
    names = [
        "instances",
        "inputs",
        "signature_name",
        "examples",
        "context",
        "x",
        "a",
        "b",
        "text",
        "b64",
        "image_bytes",
    ]
    scraps = ["null", "true", "-", "1e999", "NaN", "-Infinity", '"', "[", "]", "{", "}", ",", ":", "\\", "\\ud800"]
    scraps += ['{"b64":"QQ"}', "9" * 400, "\u202e", "\x00", "[[]]", "0x1", '"\\u0000"', "18446744073709551616", "é"]
    signatures = ["serving_default", "bytes", "pixels", "fussy", "fixed", "uneven", "none", "", *DTYPES]
    signatures.remove("half")  # has its 501, and a test of its own

    def value(depth):
        kind = rng.randrange(9 if depth < 5 else 6)
        if kind >= 7:
            return [value(depth + 1) for _ in range(rng.randrange(4))]
        if kind == 6:
            return {rng.choice(names): value(depth + 1) for _ in range(rng.randrange(3))}
        return [
            rng.randrange(-300, 300),
            rng.uniform(-1e10, 1e10),
            rng.choice(names),
            None,
            True,
            2 ** rng.randrange(80),
        ][kind]

    for _ in range(count):
        body = {rng.choice(["instances", "inputs", "examples"]): value(0)}
        if rng.random() < 0.5:
            body["signature_name"] = rng.choice(signatures)
        text = json.dumps(body)
        for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(scraps) + text[at + rng.randrange(4) :]
        data = bytearray(text.encode("utf-8", "surrogatepass"))
        if rng.random() < 0.2 and data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        verb = rng.choice(["predict"] * 8 + ["classify", "regress"])
        yield rng.choice(["half", "two", "text", "grid", "image", "odd"]), verb, bytes(data)


def test_five_hundred_damaged_bodies_give_no_answer_of_500_or_more(app):
    seen = set()
    for model, verb, body in mutations(500, seed=11):
        status, headers, back = ask(app, "POST", f"/v1/models/{model}:{verb}", body)
        assert status < 500, (model, body, back)
        assert headers["content-type"] == "application/json"
        answer = json.loads(back)
        if status != 200:
            assert list(answer) == ["error"]
            check_secrets(answer["error"])
        seen.add(status)
    assert seen >= {200, 400}
    assert predict(app, GOOD) == (200, {"predictions": [2.5]})


# --- Health and the page


def test_health_and_readiness(app):
    assert json.loads(ask(app, "GET", "/healthz")[2]) == {"status": "ok"}
    status, _, back = ask(app, "GET", "/readyz")
    assert (status, json.loads(back)["models"]["half"]) == (200, [5, 123])
    assert ask(app, "POST", "/healthz")[0] == 405


def test_the_page_needs_nothing_from_elsewhere(app):
    status, headers, back = ask(app, "GET", "/")
    html, policy = back.decode(), headers["content-security-policy"]
    assert status == 200
    assert not re.search(r"""(src|href)=["']?(?!data:)[a-z/]|url\(|@import|https?://(?!www\.w3\.org)""", html)
    for tag in ("style", "script"):
        inner = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        assert base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy
    assert "prefers-color-scheme:dark" in html


def test_the_page_shows_the_contract_and_no_name_becomes_markup(tmp_path, bases):
    import tlkeras.server

    (tmp_path / "1").symlink_to(bases["image"] / "1")
    name = "</script><script>alert(1)</script>"
    (tmp_path / "contract.json").write_text(json.dumps({"name": "x", "labels": [name, "dark"]}))
    html = ask(tlkeras.server.app({name: tmp_path}), "GET", "/")[2].decode()
    assert html.count("</script>") == 2
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', html, re.DOTALL)[1])
    assert facts[0]["name"] == name
    assert facts[0]["image"]
    assert facts[0]["contract"]["labels"] == [name, "dark"]
    assert list(facts[0]["signatures"]) == ["serving_default", "pixels"]


def test_the_example_on_the_page_is_a_request_that_is_answered(app):
    html = ask(app, "GET", "/")[2].decode()
    for facts in json.loads(re.search(r'id="facts">(.*?)</script>', html, re.DOTALL)[1]):
        if facts["name"] in ("half", "two", "text"):
            assert ask(app, "POST", f"/v1/models/{facts['name']}:predict", facts["body"].encode())[0] == 200


# --- A server of its own


SERVER = """
import sys
import tlkeras.server
early = sorted(name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras", "fastapi", "uvicorn"))
import tensorflow
keras = {name for name in sys.modules if name.split(".")[0] == "keras"}
tlkeras.server.serve(sys.argv[1], port=0)
ours = {name.split(".")[1] for name in sys.modules if name.startswith("tlkeras.")}
more = {name for name in sys.modules if name.split(".")[0] in ("keras", "keras_hub")} - keras
print("early", early, "more", sorted(more), "ours", sorted(ours))
"""


def test_a_server_of_its_own_answers_and_ends_well(bases):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(bases["image"])],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        first = process.stdout.readline()
        port = int(re.match(r"Serving image at http://127\.0\.0\.1:(\d+)/v1/models/image:predict\n", first)[1])
        while b"ready" not in (raw(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") or b""):
            time.sleep(0.05)

        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for case in CASES["image"][:6]:
            method, path, body, headers = request_of(case)
            client.request(method, path, body, headers)
            answer = client.getresponse()
            check(case, answer.status, {"content-type": answer.getheader("content-type")}, answer.read())
        client.request("POST", "/v1/models/image:predict", gzipped(b'{"instances":[1]}'), ENCODED)
        assert client.getresponse().read().startswith(b'{"error": "Failed to process element: 0')
        client.close()

        # Odd requests of which no client library writes.
        head = b"POST /v1/models/image:predict HTTP/1.1\r\nHost: x\r\n"
        large = raw(port, head + b"Content-Length: 40000000\r\n\r\n")
        assert large.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in large.lower()
        assert raw(port, head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert raw(port, head + b"Content-Length: -5\r\n\r\n").startswith(b"HTTP/1.1 400")
        name = raw(port, b"GET /v1/models/a%2Fb HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"Could not find any versions of model a/b" in name

        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=10)
        assert process.returncode == 0
        assert rest.splitlines()[-1] == "early [] more [] ours ['errors', 'run', 'server']"
    finally:
        process.kill()
        process.wait()


def raw(port: int, request: bytes) -> bytes | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))
    except ConnectionRefusedError:
        return None


# --- The same table asked of another server


def replay(url: str) -> int:
    import httpx

    failed = 0
    for group, cases in CASES.items():
        for i, case in enumerate(cases if isinstance(cases, list) and group != "floats" else []):
            if case.get("ours"):
                continue
            method, path, body, headers = request_of(case)
            answer = httpx.request(method, url.rstrip("/") + path, content=body, headers=headers, timeout=30)
            try:
                check(case, answer.status_code, answer.headers, answer.content)
            except (AssertionError, ValueError) as difference:
                failed += 1
                print(f"{group}-{i} ({case['source']}): {str(difference).splitlines()[0][:300]}")
    print(f"{failed} differences")
    return 1 if failed else 0


def write_models(folder: Path) -> int:
    bases = export(folder)
    policy = "model_version_policy { all {} }"
    configs = [
        f'config {{ name: "{name}" base_path: "{path.resolve()}" model_platform: "tensorflow" {policy} }}'
        for name, path in bases.items()
    ]
    (folder / "models.config").write_text("model_config_list {\n" + "\n".join(configs) + "\n}\n")
    print(f"tensorflow_model_server --rest_api_port=8501 --model_config_file={folder.resolve() / 'models.config'}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path)
    parser.add_argument("--base-url")
    arguments = parser.parse_args()
    sys.exit(write_models(arguments.export) if arguments.export else replay(arguments.base_url))
