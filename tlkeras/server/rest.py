"""The ASGI application: HTTP in, `protocol` and `models` in the middle, HTTP out.

Model paths are matched by `protocol.route` on the bytes that came over the wire, because a framework decodes %2F
before it splits. Bodies are bounded while they arrive; parsing and inference happen in a few threads, so that the
loop goes on answering /healthz meanwhile.
"""

import asyncio
import functools
import json
import logging
import os
import re
import secrets
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from tlkeras.server import page, protocol
from tlkeras.server.models import Model, choose, explain
from tlkeras.server.status import Refused, invalid

log = logging.getLogger("tlkeras.server")

MAX_BODY = 32 << 20  # bytes, as sent and once more when inflated
BODY_SECONDS = 10  # for a body to arrive
MAX_WAITING = 64  # requests with a body at a time; each may hold MAX_BODY


def build(models: dict[str, Model]) -> FastAPI:
    """The application for loaded models, by the name they are asked for."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    html, policy = page.render(models)
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    numbers = {name: list(model.versions) for name, model in models.items()}

    async def try_it(request: Request) -> Response:
        return HTMLResponse(html, headers=headers)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:  # models are loaded before the application is built
        return JSONResponse({"status": "ready", "models": numbers})

    app.add_route("/", try_it)
    app.add_route("/healthz", health)
    app.add_route("/readyz", ready)
    app.router.default = _model_paths(models, app.router.default)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(Exception, _unforeseen)
    return app


def _model_paths(models: dict[str, Model], otherwise: Callable) -> Callable:
    """The ASGI application behind every path that has no route of its own; `otherwise` says 404."""
    threads = ThreadPoolExecutor(os.cpu_count() or 2, "tlkeras-serve")
    waiting = 0

    async def respond(request: Request, path: bytes) -> Response:
        nonlocal waiting
        target = protocol.route(request.method, path)
        if request.method == "GET":
            return _json(_about(models, target))
        if waiting >= MAX_WAITING:
            raise Refused("RESOURCE_EXHAUSTED", f"{MAX_WAITING} requests are waiting already; try again.")
        waiting += 1
        try:
            body = await read_body(request)
            encoding = request.headers.get("content-encoding", "")
            loop = asyncio.get_running_loop()
            return _json(await loop.run_in_executor(threads, lambda: _infer(models, target, inflate(body, encoding))))
        finally:
            waiting -= 1

    async def app(scope, receive, send) -> None:
        path = scope.get("raw_path") or scope.get("path", "").encode()
        if scope["type"] != "http" or not re.match(rb"(?i)/v1/", path):
            return await otherwise(scope, receive, send)
        request = Request(scope, receive)
        try:
            response = _preflight(request) if request.method == "OPTIONS" else await respond(request, path)
        except Refused as fault:
            response = _error(fault)
        except ClientDisconnect:
            return None
        return await response(scope, receive, send)

    return app


def _about(models: dict[str, Model], target: protocol.Target) -> str:
    if target.verb == "metadata":
        model, version = choose(models, target)
        return protocol.metadata_answer(target.model, version.number, version.signatures)
    if target.model not in models:
        raise Refused("NOT_FOUND", f"Could not find any versions of model {target.model[:256]}")
    if target.version is not None and target.version not in models[target.model].versions:
        raise Refused("NOT_FOUND", f"Could not find version {target.version} of model {target.model[:256]}")
    # TensorFlow Serving ignores a label here and lists everything; its documentation says only that version.
    asked = target.version is not None or target.label is not None
    numbers = [choose(models, target)[1].number] if asked else list(models[target.model].versions)
    return protocol.status_answer(numbers)


def _infer(models: dict[str, Model], target: protocol.Target, body: bytes) -> str:
    # Looked up once, but not before the body has been read: a body that is no JSON is the first fault to be told.
    chosen = functools.cache(lambda: choose(models, target)[1])
    if target.verb != "predict":
        signature = protocol.examples_request(body)
        raise protocol.refuse_examples(target.verb, signature, chosen().signatures)

    def inputs_of(signature: str):
        signatures = chosen().signatures
        if signature not in signatures:
            raise invalid(f'Serving signature name: "{signature[:256]}" not found in signature def')
        return signatures[signature].inputs

    request = protocol.predict_request(body, inputs_of)
    version = chosen()
    try:
        outputs = version.run(request.signature, request.tensors)
    except Refused as fault:
        raise (explain(version, request, fault) if fault.http == 400 else fault) from None
    return protocol.predict_answer(request.form, outputs, version.signatures[request.signature].outputs)


# --- Bodies


async def read_body(request: Request) -> bytes:
    """Reads a body of at most MAX_BODY bytes within BODY_SECONDS. Raises Refused, before reading if it can be told."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise invalid("Content-Length must be a number of bytes.")
    too_large = Refused("TOO_LARGE", f"A body may have {MAX_BODY} bytes.")
    if len(declared) > 18 or int(declared) > MAX_BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                if len(body) + len(chunk) > MAX_BODY:
                    raise too_large
                body += chunk
    except TimeoutError:
        raise Refused("TOO_SLOW", f"A body must arrive within {BODY_SECONDS} seconds.") from None
    return bytes(body)


def inflate(body: bytes, encoding: str) -> bytes:
    """Undoes a Content-Encoding: 'gzip', one stream of at most MAX_BODY bytes, or '' for none. Raises Refused."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise Refused("UNKNOWN_ENCODING", f"Content-Encoding must be gzip or absent. Received: {encoding[:64]}")
    stream = zlib.decompressobj(wbits=31)
    try:
        inflated = stream.decompress(body, MAX_BODY + 1)
    except zlib.error:
        raise invalid("The body is not what gzip writes.") from None
    if len(inflated) > MAX_BODY:
        raise Refused("TOO_LARGE", f"A body may have {MAX_BODY} bytes when inflated.")
    if not stream.eof or stream.unused_data:
        raise invalid("The body must be one whole gzip stream with nothing behind it.")
    return inflated


# --- Answers


def _json(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type="application/json")


def _error(fault: Refused) -> Response:
    headers = {}
    if fault.http in (408, 413):
        headers["Connection"] = "close"  # what is left of the body is not read
    if fault.http == 429:
        headers["Retry-After"] = "1"
    # Not JSONResponse: it writes UTF-8, which has no bytes for half a surrogate pair out of a client's own text.
    return _json(json.dumps({"error": str(fault)}), fault.http, headers)


def _preflight(request: Request) -> Response:
    known = re.match(r"https?://", request.headers.get("origin", ""))
    return _json("", 200 if known else 400)


async def _http_error(request: Request, error: HTTPException) -> Response:
    """404 and 405 of paths outside /v1/: plain text, as TensorFlow Serving's HTTP layer gives them."""
    return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)


async def _unprocessable(request: Request, error: RequestValidationError) -> Response:
    return _error(invalid("The request is malformed."))


async def _unforeseen(request: Request, error: Exception) -> Response:
    mark = secrets.token_hex(4)
    log.error("unforeseen (%s)", mark, exc_info=error)
    return _error(Refused("INTERNAL", f"An error inside the server; its log says more under {mark}."))
