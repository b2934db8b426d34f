"""What a weight file must be before a library opens it: the file that was recorded, with nothing but numbers inside.

HDF5 can point at other files, zip can claim sizes it has not, and a Keras config can name any class. Each is
walked here first, without following, unpacking or constructing anything. Limits are counts and a multiple of
the file's own size, so that a small file cannot ask for much memory.
"""

import hashlib
import io
import itertools
import json
import math
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tlkeras.errors import ModelError

MAX_HEADER, MAX_TENSORS, MAX_DEPTH, MAX_ATTRIBUTES, MAX_RATIO = 10_000_000, 20_000, 64, 1000, 100
SPARE = 64 * 2**20

_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip
_DEFLATE_SHUFFLE_CHECKSUM = (1, 2, 3)
_DTYPES = ("DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy")
_PARTS = ("Backbone", "Encoder", "Decoder", "Tokenizer")
KINDS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def verify(path: Path, sha256: str):
    """Raises ModelError unless the file's SHA-256 is `sha256`. Most formats do not notice a flipped bit themselves."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ModelError(
            f"{path} must have the SHA-256 {sha256}, it has {found}. "
            "It is damaged or another file: remove it and fetch it again."
        )


@contextmanager
def refused(path, *errors):
    """Turns the `errors` that a damaged or hostile file causes in a reader into a ModelError that names the file."""
    try:
        yield
    except errors as e:
        raise ModelError(f"{path} cannot be used: {str(e).strip() or type(e).__name__}.") from e


def check_zip(archive: zipfile.ZipFile, path: Path, most: int = 1000) -> list[zipfile.ZipInfo]:
    """Returns the entries of an archive when unpacking them is harmless; entries are files, not folders.

    Raises:
        ModelError: for names that leave the folder or come twice, links, encryption, more than `most` entries,
            and sizes beyond 100 times what is stored or twice the file and 64 MB in all.
    """
    entries, size = archive.infolist(), path.stat().st_size
    if len(entries) > most:
        raise ModelError(f"{path} must have at most {most} entries, it has {len(entries)}.")
    if len({entry.filename for entry in entries}) != len(entries):
        raise ModelError(f"{path} must have each entry once; some names come twice.")
    if (total := sum(entry.file_size for entry in entries)) > 2 * size + SPARE:
        raise ModelError(f"{path} of {size} bytes unpacks to {total}, which no weight file does.")
    for entry in entries:
        name, parts = entry.filename, PurePosixPath(entry.filename).parts
        if not name or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
            raise ModelError(f"{path} has an entry that leaves the archive: {name[:100]!r}.")
        if (entry.external_attr >> 16) & 0o170000 == 0o120000 or entry.flag_bits & 1:
            raise ModelError(f"{path} has an entry that is a link or encrypted: {name[:100]!r}.")
        if entry.file_size > MAX_RATIO * max(entry.compress_size, 1) + 1000:
            raise ModelError(
                f"{path} has an entry that claims {entry.file_size} bytes from {entry.compress_size}: {name[:100]!r}."
            )
    return [entry for entry in entries if not entry.is_dir()]


def check_keras(path: Path) -> dict[str, tuple]:
    """The datasets {name: shape} of a .weights.h5 or .keras file, when it is safe to load weights from it.

    Raises:
        ModelError: see `check_zip` and `check_h5`.
    """
    with refused(path, OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError):
        if path.suffix != ".keras":
            with path.open("rb") as file:
                return check_h5(file, path, path.stat().st_size)
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            if file.seek(0) or file.read(4) != b"PK\x03\x04":
                raise ValueError("something stands before the zip archive")
            entries = {entry.filename: entry for entry in check_zip(archive, path)}
            if "model.weights.h5" not in entries:
                raise ValueError("the archive has no model.weights.h5")
            data = archive.read(entries["model.weights.h5"])
            return check_h5(io.BytesIO(data), path, len(data))


def check_h5(file, path, size: int) -> dict[str, tuple]:
    """Walks an open HDF5 file of `size` bytes without following a link; returns {dataset: shape}.

    Raises:
        ModelError: for links, external or virtual datasets, anything but plain numbers, filters that load
            plug-ins, and shapes larger than twice the file and 64 MB.
    """
    import h5py

    found, seen, left = {}, set(), 2 * size + SPARE

    def refuse(name, why):
        raise ModelError(f"{path} is refused: {name[:200]!r} {why}. A weight file holds groups and arrays of numbers.")

    with refused(path, OSError, KeyError, RuntimeError, TypeError, ValueError), h5py.File(file, "r") as h5:
        waiting = [("/", h5, 0)]
        while waiting:
            name, node, depth = waiting.pop()
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                refuse(name, "is reached twice")
            seen.add(address)
            if len(seen) > 4 * MAX_TENSORS or depth > MAX_DEPTH or len(node.attrs) > MAX_ATTRIBUTES:
                refuse(name, "is one object, attribute or level too many")
            if isinstance(node, h5py.Group):
                for key in node:
                    if not isinstance(node.get(key, getlink=True), h5py.HardLink):
                        refuse(f"{name}{key}", "is a link")
                    waiting.append((f"{name}{key}/", node[key], depth + 1))
            elif not isinstance(node, h5py.Dataset):
                refuse(name, "is neither group nor dataset")
            else:
                filters = node.id.get_create_plist()
                if node.external or node.is_virtual:
                    refuse(name, "lies in another file or is virtual")
                if node.dtype.kind not in "fiub" or node.shape is None:
                    refuse(name, f"has the type {node.dtype}")
                if any(
                    filters.get_filter(i)[0] not in _DEFLATE_SHUFFLE_CHECKSUM for i in range(filters.get_nfilters())
                ):
                    refuse(name, "is packed by a filter that is not built in")
                left -= math.prod(node.shape) * node.dtype.itemsize
                if left < 0:
                    refuse(name, f"of shape {node.shape} is larger than the file can be")
                found[name.strip("/")] = node.shape
    return found


def read_safetensors(path: Path) -> dict:
    """Returns {name: numpy array} of a .safetensors file, views of its bytes; needs no package.

    Raises:
        ModelError: unless the header is JSON of at most 10 MB, and its at most 20,000 tensors tile the rest.
    """
    import ml_dtypes
    import numpy as np

    with refused(path, OSError, ValueError, KeyError, TypeError, RecursionError):
        header, start = _header(path)
        data = np.memmap(path, "uint8", "r", offset=start) if path.stat().st_size > start else np.zeros(0, "uint8")
        arrays, end = {}, 0
        for name, (begin, stop), kind, shape in sorted(header, key=lambda tensor: tensor[1]):
            dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
            if begin != end or stop - begin != math.prod(shape) * dtype.itemsize or stop > data.size:
                raise ValueError(
                    f"the tensor {name[:100]!r} must start at byte {end} and fill its shape {shape}, "
                    f"it has {begin} to {stop}"
                )
            arrays[name], end = np.frombuffer(data[begin:stop], dtype).reshape(shape), stop
        if end != data.size:
            raise ValueError(f"{data.size - end} bytes follow the last tensor")
    return arrays


def is_checkpoint(path: Path) -> bool:
    """Whether a path is the beginning of the names of a TensorFlow 1 checkpoint: PATH.index and PATH.data-..."""
    return Path(f"{path}.index").is_file()


def read_checkpoint(path: Path) -> dict:
    """{name: array} of a TensorFlow 1 checkpoint.

    Raises:
        ModelError: when it is damaged.
    """
    import tensorflow as tf

    with refused(path, tf.errors.OpError, ValueError, RuntimeError):
        reader = tf.train.load_checkpoint(str(path))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _header(path: Path) -> tuple[list, int]:
    """The tensors of a safetensors header, as (name, (begin, end), dtype, shape), and where the data start."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(MAX_HEADER, path.stat().st_size):
            raise ValueError(f"its header must be at most {MAX_HEADER} bytes and inside the file, it claims {size}")
        text = file.read(size)
    if not text.startswith(b"{"):
        raise ValueError("its header is no JSON object")
    header = json.loads(text, object_pairs_hook=_once)
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it must have at most {MAX_TENSORS} tensors, it has {len(header)}")
    tensors = []
    for name, tensor in header.items():
        shape, span = tensor["shape"], tensor["data_offsets"]
        if len(span) != 2 or any(type(n) is not int or not 0 <= n < 2**48 for n in (*shape, *span)) or len(shape) > 32:
            raise ValueError(f"the tensor {name[:100]!r} has no proper shape or place")
        tensors.append((name, tuple(span), _SAFETENSORS[tensor["dtype"]], tuple(shape)))
    return tensors, 8 + size


def _once(pairs: list) -> dict:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name comes twice")
    return dict(pairs)


def read_config(path: Path) -> dict:
    """Returns the JSON object in a config of at most 10 MB."""
    with refused(path, OSError, ValueError, RecursionError):
        if path.stat().st_size > MAX_HEADER:
            raise ValueError(f"it must be at most {MAX_HEADER} bytes")
        if isinstance(config := json.loads(path.read_bytes()), dict):
            return config
        raise ValueError("it must be a JSON object")


def check_classes(config, path: Path, more: tuple[str, ...] = ()):
    """Raises ModelError when a serialized Keras config names a class that a backbone is not made of; `more` are further
    ends of the names of keras-hub's classes, and layers of Keras.

    Keras has a safe mode of its own, which a caller may have switched off; this list holds all the same.
    """
    if isinstance(config, list):
        for value in config:
            check_classes(value, path, more)
    elif isinstance(config, dict):
        if "class_name" in config:
            module, name, registered = (
                str(config.get(key) or "") for key in ("module", "class_name", "registered_name")
            )
            hub = module.startswith("keras_hub.") and (
                registered == f"keras_hub>{name}"
                and name.endswith((*_PARTS, *more))
                or registered == name  # keras-hub 0.32 registers RetinaNet's encoder of labels under no package
                and name in more
            )
            layer = module in ("keras", "keras.layers") and name in more
            policy = module in ("keras", "keras.dtype_policies") and name in _DTYPES
            if not (hub or layer or policy or module == "keras.initializers"):
                raise ModelError(
                    f"{path} is refused: it would build {module[:100]}.{name[:100]}, which is no part of a backbone."
                )
        for value in config.values():
            check_classes(value, path, more)


def write_safetensors(path: Path, tensors: dict) -> None:
    """Writes {name: array} as a .safetensors file; what is no float becomes float32."""
    import numpy as np

    tensors = {name: t if t.dtype.name in KINDS else t.astype("float32") for name, t in tensors.items()}
    ends = itertools.accumulate((t.nbytes for t in tensors.values()), initial=0)
    header = {
        name: {"dtype": KINDS[t.dtype.name], "shape": t.shape, "data_offsets": span}
        for (name, t), span in zip(tensors.items(), itertools.pairwise(ends), strict=True)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())
