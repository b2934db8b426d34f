"""What a path holds: tensors by name, and what the files beside them say about it. Nothing is built, nothing unpickled.

a file          .safetensors, .pth, .pt, .bin; .weights.h5 and .keras (names and shapes alone)
a directory     of timm or transformers (config.json beside the weights), a KerasHub preset, a SavedModel
PATH            with PATH.index beside it: a checkpoint of TensorFlow 1 or 2
"""

from dataclasses import dataclass, field
from pathlib import Path

from tlkeras.errors import ModelError, UsageError
from tlkeras.foreign import files, presets, torch_file

TORCH = (".pth", ".pt", ".bin")
# Where checkpoints of TensorFlow keep what is no weight of a network.
BOOKKEEPING = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter", "global_step")
MAX_GRAPH = 50_000_000


@dataclass(frozen=True)
class Found:
    """`kind` is 'torch', 'timm', 'transformers', 'tf', 'keras' or 'preset'; `shapes` {name: (shape, dtype)}; `tensors` {name: array},
    empty where only Keras reads the file; `config` what config.json says."""

    path: Path
    kind: str
    shapes: dict[str, tuple]
    tensors: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)

    @property
    def layout(self) -> str:
        """Of kernels: 'tf' or 'torch'."""
        return "tf" if self.kind in ("tf", "keras", "preset") else "torch"

    @property
    def architecture(self) -> str | None:
        """What a timm directory calls itself: 'tf_efficientnet_b0'."""
        return str(self.config["architecture"]) if self.kind == "timm" else None

    @property
    def licence(self) -> str | None:
        """What the files say of it, or None."""
        inner = self.config.get("pretrained_cfg")
        said = self.config.get("license") or (inner.get("license") if isinstance(inner, dict) else None)
        return str(said)[:100] if said else _card_licence(self.path)


def read(path) -> Found:
    """Reads what `path` holds.

    Raises:
        UsageError: when there is nothing.
        ModelError: when it is damaged, unsafe, or of another kind.
    """
    path = Path(path).expanduser()
    if files.is_checkpoint(path):
        return _found(path, "tf", variables(path))
    if path.is_dir():
        return _directory(path)
    if not path.is_file():
        raise UsageError(
            f"{path} must be a file, a directory, or the beginning of a checkpoint's names; nothing is there."
        )
    if path.name.endswith((".weights.h5", ".keras")):
        shapes = files.check_keras(path)
        kept = {n: (tuple(s), "float") for n, s in shapes.items() if not n.startswith("optimizer/")}
        return Found(path, "keras", kept)
    if path.suffix == ".safetensors":
        return _found(path, "torch", files.read_safetensors(path))
    if path.suffix in TORCH:
        return _found(path, "torch", torch_file.read(path))
    raise ModelError(
        f"{path} must end in .safetensors, {', '.join(TORCH)}, .weights.h5 or .keras; or be a directory, or a "
        f"checkpoint of TensorFlow without its .index. Received the ending {path.suffix!r}."
    )


def variables(path: Path) -> dict:
    """{name: array} of a checkpoint of TensorFlow, under the names that its variables had where it tells them.

    A checkpoint of TensorFlow 2 numbers its variables, and holds their names beside them; slots of optimizers are left out.

    Raises:
        ModelError: when it is damaged.
    """
    import numpy as np

    held = files.read_checkpoint(path)
    names: dict[str, str] = {}
    graph = held.get("_CHECKPOINTABLE_OBJECT_GRAPH")
    if graph is not None:
        names = _full_names(bytes(graph), path)
    named = {}
    for key, value in held.items():
        name = names.get(key, key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"))
        if key.startswith(BOOKKEEPING) or ".OPTIMIZER_SLOT" in key or name.startswith("optimizer/"):
            continue
        if not isinstance(value, np.ndarray | np.generic) or np.asarray(value).dtype.kind not in "fiub":
            continue
        named[name if name not in named else key] = np.asarray(value)
    return named


def _full_names(graph: bytes, path: Path) -> dict[str, str]:
    """{key in the checkpoint: name of the variable} by the object graph of TensorFlow 2."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    with files.refused(path, DecodeError, ValueError):
        if len(graph) > MAX_GRAPH:
            raise ValueError(f"its object graph must be at most {MAX_GRAPH} bytes")
        parsed = trackable_object_graph_pb2.TrackableObjectGraph.FromString(graph)
        return {
            attribute.checkpoint_key: attribute.full_name.removesuffix(":0")
            for node in parsed.nodes
            for attribute in node.attributes
            if attribute.full_name
        }


def _directory(folder: Path) -> Found:
    if (folder / "saved_model.pb").is_file():
        # Only the arrays are read; the graph, which could do anything, is not loaded.
        where = folder / "variables" / "variables"
        if not files.is_checkpoint(where):
            raise ModelError(f"{folder} must have variables/variables.index, as every SavedModel with weights has.")
        return _found(folder, "tf", variables(where))
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} must have a config.json (timm, transformers, KerasHub) or a saved_model.pb. "
            "Of other directories, name the file itself."
        )
    config = files.read_config(folder / "config.json")
    if "registered_name" in config:
        shards = presets._shards(folder, "model.weights.h5", "model.weights.json")
        shapes = {name: (tuple(shape), "float") for path in shards for name, shape in files.check_keras(path).items()}
        return Found(folder, "preset", shapes, config=config)
    if "model_type" in config or "architecture" in config:
        from tlkeras.foreign import transformers

        kind = "transformers" if "model_type" in config else "timm"
        return _found(folder, kind, transformers.read_tensors(folder), config)
    raise ModelError(
        f"{folder}/config.json must have model_type, architecture or registered_name; it has none of them."
    )


def _found(path: Path, kind: str, tensors: dict, config: dict | None = None) -> Found:
    return Found(path, kind, {n: (tuple(t.shape), t.dtype.name) for n, t in tensors.items()}, tensors, config or {})


def _card_licence(path: Path) -> str | None:
    """The line 'license: ...' of a model card in the directory."""
    card = path / "README.md" if path.is_dir() else path.parent / "README.md"
    if not card.is_file():
        return None
    with card.open(encoding="utf8", errors="replace") as file:
        head = file.read(4000)
    found = [line.partition(":")[2].strip() for line in head.splitlines() if line.lower().startswith("license:")]
    return found[0][:100] if found and found[0].isprintable() else None
