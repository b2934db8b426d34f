"""`tlkeras serve`: SavedModels over HTTP, in TensorFlow Serving's own REST protocol, and a page to try them on.

    jsontext   JSON as TensorFlow Serving reads and writes it        folders   what the user pointed at
    tensors    JSON values to numpy arrays                           models    loading and running SavedModels
    protocol   paths, requests, answers                              rest      the ASGI application
    status     how a request fails                                   page      the page at /

Importing this loads neither TensorFlow nor FastAPI.
"""

import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tlkeras.errors import MachineError, UsageError, missing_extra
from tlkeras.server.folders import Folder, find

__all__ = ["app", "serve"]

log = logging.getLogger("tlkeras.server")


def app(models: dict[str, str | Path], *, versions: str | Sequence[int] = "latest"):
    """Loads models (name -> target, as `serve` takes it) and returns the ASGI application that answers for them.

    `versions` is 'latest', 'all' or a list of numbers. Raises UsageError, ModelError or MachineError as `serve` does.
    """
    _needs("fastapi")
    return _load({name: find(target) for name, target in models.items()}, versions)


def _load(folders: dict[str, Folder], versions: str | Sequence[int]):
    from tlkeras.server import models, rest

    return rest.build({name: models.load(folder, name, versions) for name, folder in folders.items()})


def serve(
    target: str | Path,
    host: str = "127.0.0.1",
    port: int = 8501,
    name: str | None = None,
    *,
    versions: str | Sequence[int] = "latest",
    insecure: bool = False,
) -> None:
    """Serves one model until SIGTERM or SIGINT; returns when the requests under way have been answered.

    `target` is a run folder, a folder of numbered versions, or one version; `name` (None: the contract's, else the
    folder's) is what clients ask for; `port` 0 takes a free one; `insecure` allows a host that other machines reach,
    where anybody may ask, since there is no token yet.

    Raises:
        UsageError: when the target holds no SavedModel, or the host is not this machine and `insecure` is False.
        ModelError: when the SavedModel is damaged.
        MachineError: when FastAPI or uvicorn is missing, or the port is taken.
    """
    _needs("fastapi")
    _needs("uvicorn")
    import uvicorn

    if not 0 <= port < 65536:
        raise UsageError(f"port must be a number from 0 (any free one) to 65535. Received: {port}.")
    folder = find(target)
    called = name or folder.name
    # The port is taken before the model is loaded, which takes seconds, and listened on after: nobody waits in vain.
    with _bound(host, port, insecure) as bound:
        config = uvicorn.Config(
            _load({called: folder}, versions),
            log_level="warning",
            ws="none",
            lifespan="off",
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=30,
        )
        shown = f"[{host}]" if ":" in host else host
        place = f"http://{shown}:{bound.getsockname()[1]}"
        with _signals_end_well():
            print(f"Serving {called} at {place}/v1/models/{quote(called, safe='')}:predict", flush=True)
            print(f"Try it in a browser: {place}/   End it with Ctrl-C.", flush=True)
            uvicorn.Server(config).run(sockets=[bound])


def _needs(package: str) -> None:
    try:
        __import__(package)
    except ModuleNotFoundError:
        raise missing_extra(package, "serve") from None


@contextmanager
def _bound(host: str, port: int, insecure: bool):
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError, UnicodeError) as error:
        raise UsageError(f"host must be an address of this machine. Received: {host} ({error}).") from None
    # 'localhost' is both 127.0.0.1 and ::1: the first is what clients write.
    family, kind, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    if not insecure and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UsageError(
            f"host must be this machine alone (127.0.0.1), since there is no token yet. Received: {host}.\n"
            "  To let everybody who reaches this machine ask the model, say so with --insecure."
        )
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not SO_REUSEPORT, by which two servers share one
        try:
            bound.bind(address)
        except OSError as error:
            raise MachineError(
                f"port {port} of {host} cannot be had: {error.strerror}. "
                "End the server that has it, or choose another with --port."
            ) from None
        yield bound
    finally:
        bound.close()


@contextmanager
def _signals_end_well():
    """uvicorn answers what is under way and then raises the signal again, for whoever started it: here, for nobody."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ends = (signal.SIGTERM, signal.SIGINT)
    before = {end: signal.signal(end, lambda number, frame: None) for end in ends}
    try:
        yield
    finally:
        for end, handler in before.items():
            signal.signal(end, handler)
