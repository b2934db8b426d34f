"""PyTorch checkpoints read without PyTorch: the tensors of a state dict, and nothing else.

A checkpoint is a pickle that describes tensors, beside the raw bytes of their storages. The pickle never
reaches `pickle`: `pickled.run` interprets the few opcodes a state dict is written with, on plain data. Names
of functions stay text, so there is nothing a file could import or call, and no second, looser way to load.

Two layouts are read: the zip archive (PyTorch 1.6 and later) and the stream of pickles before it.
"""

import io
import math
import zipfile
import zlib
from pathlib import Path

from tlkeras.errors import ModelError
from tlkeras.foreign.files import check_zip
from tlkeras.foreign.pickled import MAX_SIZE, MAX_TENSORS, Storage, Tensor, run, show

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MAX_DIMENSIONS = 32
WRAPPERS = ("state_dict", "model_state_dict", "model")


def read(path) -> dict:
    """Returns {name: numpy array} of the state dict in a .pth, .pt or .bin file, in the file's order.

    The arrays are read-only views of the file's storages; bfloat16 comes as ml_dtypes.bfloat16. A state dict
    that lies under 'state_dict', 'model_state_dict' or 'model' is taken from there.

    Raises:
        ModelError: when the file is damaged, holds anything but a state dict (a pickled model object, an
            optimizer's Namespace), or a tensor reaches outside its storage. There is no fallback.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"PK\x03\x04":
            return _read_zip(path)
        if start[:1] == b"\x80":
            return _read_stream(path.read_bytes())
    except OSError as e:
        raise ModelError(f"{path} cannot be read: {e.strerror or e}.") from e
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as e:
        raise ModelError(
            f"{path} must hold the state dict of a PyTorch model and nothing else: {e}. "
            "Write such a file with: torch.save(model.state_dict(), path)"
        ) from e
    raise ModelError(f"{path} is no PyTorch checkpoint: it starts with {start!r}, neither a zip archive nor a pickle.")


def _read_zip(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in check_zip(archive, path, MAX_TENSORS + 100)}
        pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"an archive has one data.pkl, this one has {len(pickles)}")
        root = pickles[0].removesuffix("data.pkl")
        order = archive.read(entries[root + "byteorder"]) if root + "byteorder" in entries else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"the byte order is 'little' or 'big', this one is {order[:20]!r}")
        value, _ = run(io.BytesIO(archive.read(entries[pickles[0]])))

        def load(storage: Storage):
            entry = entries.get(f"{root}data/{storage.key}")
            if entry is None:
                raise ValueError(f"the storage {show(storage.key)} is missing")
            return _flat(storage, archive.read(entry), order.decode())

        return _arrays(_state_dict(value), load)


def _read_stream(data: bytes) -> dict:
    """The layout before the zip: pickles of magic, version, machine, value and storage keys, then the storages."""
    stream = io.BytesIO(data)
    magic, _ = run(stream)
    if magic != MAGIC:
        raise ValueError("it is a pickle, but not one that PyTorch wrote")
    version, _ = run(stream)
    if version != VERSION:
        raise ValueError(f"the version of its layout is {VERSION}, this one is {show(version)}")
    run(stream)  # The machine that wrote it. Storages are little-endian in this layout, whatever the machine.
    value, storages = run(stream)
    keys, _ = run(stream)
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not named or len(keys) != len(storages) or set(keys) != storages.keys():
        raise ValueError("its list of storages is not the list of those its tensors use")
    flats = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little", signed=True)
        if count != storages[key].count:
            raise ValueError(
                f"the storage {show(key)} has {storages[key].count} elements by the pickle, {count} by itself"
            )
        flats[key] = _flat(storages[key], stream.read(count * _itemsize(storages[key].dtype)), "little")
    if stream.tell() != len(data):
        raise ValueError(f"{len(data) - stream.tell()} bytes follow the last storage")
    return _arrays(_state_dict(value), lambda storage: flats[storage.key])


def _state_dict(value) -> dict[str, Tensor]:
    """The tensors by name, from the value itself or from the one wrapper that holds them."""
    if isinstance(value, dict) and not any(isinstance(v, Tensor) for v in value.values()):
        inside = [value[name] for name in WRAPPERS if isinstance(value.get(name), dict)]
        value = inside[0] if len(inside) == 1 else value
    if not value or not isinstance(value, dict):
        raise ValueError(f"its value is {show(value)}, not a dict of tensors")
    if odd := [name for name, tensor in value.items() if not isinstance(name, str) or not isinstance(tensor, Tensor)]:
        raise ValueError(f"these entries are no tensors: {', '.join(show(name) for name in odd[:5])}")
    return value


def _arrays(tensors: dict[str, Tensor], load) -> dict:
    flats = {}
    for tensor in tensors.values():
        if tensor.storage.key not in flats:
            flats[tensor.storage.key] = load(tensor.storage)
    return {name: _view(name, tensor, flats[tensor.storage.key]) for name, tensor in tensors.items()}


def _itemsize(dtype: str) -> int:
    import numpy as np

    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _flat(storage: Storage, data: bytes, order: str):
    """The elements of one storage, one-dimensional, in this machine's byte order."""
    import ml_dtypes
    import numpy as np

    if len(data) != storage.count * _itemsize(storage.dtype):
        raise ValueError(
            f"the storage {show(storage.key)} must have {storage.count} elements of {storage.dtype}, "
            f"it has {len(data)} bytes"
        )
    if storage.dtype == "bool":
        return np.frombuffer(data, "uint8") != 0
    raw = {"bfloat16": "uint16"}.get(storage.dtype, storage.dtype)
    flat = np.frombuffer(data, np.dtype(raw).newbyteorder(order)).astype(raw, copy=False)
    return flat.view(ml_dtypes.bfloat16) if storage.dtype == "bfloat16" else flat


def _view(name: str, tensor: Tensor, flat):
    """The tensor as a read-only view of its storage; its farthest element must lie inside."""
    import numpy as np

    offset, size, stride = tensor.offset, tensor.size, tensor.stride
    numbers = (offset, *size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
    if any(type(n) is not int for n in numbers) or len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise ValueError(f"the shape of {show(name)} is no shape")
    if min(numbers) < 0 or max(numbers) >= MAX_SIZE:
        raise ValueError(
            f"{show(name)} has offset {offset}, size {size}, stride {stride}; each must be 0 or more, and below 2^40"
        )
    count = math.prod(size)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if count and (last >= flat.size or count > flat.size):
        raise ValueError(
            f"{show(name)} reaches outside its storage: "
            f"offset {offset}, size {size}, stride {stride} of {flat.size} elements"
        )
    if not count:
        return np.zeros(size, flat.dtype)
    steps = [s * flat.itemsize if n > 1 else 0 for n, s in zip(size, stride, strict=True)]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
