"""Directories that hold a model: KerasHub presets, Hugging Face models, timm models, here or on a hub.

A handle is brought to a directory first, and the directory is checked before KerasHub reads it. What KerasHub
0.32 converts inexactly without a word is refused. The lists below say what was compared with transformers and
timm (features of random weights, float32), and what is let through untried because it shares their converter.
"""

import os
import re
import sys
from pathlib import Path

from tlkeras.errors import MachineError, ModelError, missing_extra
from tlkeras.foreign import files
from tlkeras.foreign.transformers_models import TEXT

KAGGLE, HUGGING_FACE = "kaggle://", "hf://"
WEIGHTS = ("model.weights.h5", "model.weights.json", "model.safetensors", "model.safetensors.index.json")

# What the config must say, because KerasHub builds that and nothing else whatever it says; and the prefix it reads.
TRANSFORMERS = {
    # Public ViTs have epsilon 1e-12 where KerasHub builds 1e-6: 2.4e-5 apart.
    "vit": ({"hidden_act": ("gelu",), "qkv_bias": (True,), "layer_norm_eps": (1e-12, 1e-6)}, "vit."),
    "deit": ({"hidden_act": ("gelu",), "qkv_bias": (True,)}, "deit."),
    "swin": ({"hidden_act": ("gelu",), "layer_norm_eps": (1e-5,), "use_absolute_embeddings": (False,)}, ""),
    "dinov2": ({"hidden_act": ("gelu",), "layer_norm_eps": (1e-6,), "qkv_bias": (True,)}, ""),
    "dinov2_with_registers": ({"hidden_act": ("gelu",), "layer_norm_eps": (1e-6,), "qkv_bias": (True,)}, ""),
    "dinov3_vit": ({}, ""),
}
# Compared: resnet18, 34, 50, efficientnet_b0, b3, vgg11 (2e-6), cspdarknet53 (9e-6), efficientnet_lite0 (5e-5 of 6),
# resnetv2_50 (6e-4 of 253). The other depths and widths take the same code and were not compared.
# densenet, mobilenet, hgnetv2, the EdgeTPU and v2 EfficientNets and vgg*_bn come out wrong or not at all.
TIMM = r"resnet(18|26|34|50|101|152)|resnetv2_(50|101|152)|efficientnet_(b[0-5]|lite0)|vgg(11|13|16|19)|cspdarknet53"

# Ends of the names of keras-hub's classes that detectors and segmenters are made of, and layers of Keras in BASNet's config.
TASK_PARTS = (
    *("ImageSegmenter", "ObjectDetector", "Preprocessor", "ImageConverter", "AnchorGenerator", "NonMaxSuppression"),
    *("RetinaNetLabelEncoder", "Sequential", "InputLayer", "Conv2D", "UpSampling2D"),
)


def is_handle(weights: str) -> bool:
    """Whether `weights` names a model on Kaggle or Hugging Face."""
    return weights.startswith((KAGGLE, HUGGING_FACE))


def builtin(name: str) -> str | None:
    """The handle of a preset that KerasHub ships the name of ('resnet_18_imagenet'), or None.

    Raises:
        ModelError: when KerasHub files another preset under that name, as 0.32 does with a few.
    """
    import keras_hub

    models = keras_hub.models
    # SegFormer's are known to its task alone.
    known = {**models.ImageSegmenter.presets, **models.ObjectDetector.presets, **models.Backbone.presets}
    if name not in known:
        return None
    handle = known[name]["kaggle_handle"]
    if name not in handle.split("/"):
        raise ModelError(
            f"KerasHub files the preset {name!r} under {handle}, which is another one. Give the right handle."
        )
    return handle


def fetch(handle: str, offline: bool = False) -> Path:
    """Returns the local directory of a kaggle:// or hf:// handle, downloading it unless `offline` or cached.

    Raises:
        MachineError: when it must be downloaded and is not: `offline` is set, or the hub does not answer.
        ModelError: when the handle has another form.
    """
    return _kaggle(handle, offline) if handle.startswith(KAGGLE) else _hugging_face(handle, offline)


def check(folder: Path, kind: str = "image"):
    """Checks a model directory before KerasHub reads it: no foreign classes, no pickles, nothing read wrongly. `kind` is what
    the model is to read.

    Raises:
        ModelError: with the first finding.
        MachineError: when the package that reads it is missing.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} must have a config.json; so it is no KerasHub preset, Hugging Face or timm directory."
        )
    config = files.read_config(folder / "config.json")
    if kind == "text" and config.get("model_type") in TEXT:
        return  # checked while it is written anew
    found = [name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise ModelError(
            f"{folder} must have one of {', '.join(WEIGHTS)}. A pytorch_model.bin is not read from a directory; "
            "name the file itself, or save the model as safetensors."
        )
    if "registered_name" in config:
        files.check_classes(config, folder / "config.json")
        for path in _shards(folder, "model.weights.h5", "model.weights.json"):
            files.check_keras(path)
        return
    names = [
        name
        for path in _shards(folder, "model.safetensors", "model.safetensors.index.json")
        for name in files.read_safetensors(path)
    ]
    _check_exact(folder, config, names)
    needs_safetensors()


def check_task(folder: Path):
    """Checks what a preset of a detector or segmenter has beside its backbone, as `check` does: head, converter of images.

    Raises:
        ModelError: with the first finding.
    """
    for name in ("config.json", "task.json", "preprocessor.json", "image_converter.json"):
        if (folder / name).is_file():
            files.check_classes(files.read_config(folder / name), folder / name, TASK_PARTS)
    weights = _shards(folder, "model.weights.h5", "model.weights.json")
    for path in (*weights, *(p for p in [folder / "task.weights.h5"] if p.is_file())):
        files.check_keras(path)


def needs_safetensors():
    """Raises MachineError without the package by which KerasHub reads Hugging Face and timm directories."""
    try:
        import safetensors  # noqa: F401
    except ImportError as e:
        raise missing_extra("safetensors", "hf") from e


def failures() -> tuple[type[Exception], ...]:
    """What KerasHub raises for a directory that it cannot make a model of."""
    package = sys.modules.get("safetensors")  # Its error has no base but Exception.
    return ValueError, TypeError, KeyError, AttributeError, OSError, *((package.SafetensorError,) if package else ())


def _check_exact(folder: Path, config: dict, names: list[str]):
    if "model_type" in config:
        kind = str(config["model_type"])
        if kind not in TRANSFORMERS:
            raise ModelError(
                f"{folder} holds a transformers model of type {kind!r}. "
                f"Image backbones that are read: {', '.join(TRANSFORMERS)}."
            )
        demands, prefix = TRANSFORMERS[kind]
        if wrong := [key for key, values in demands.items() if key in config and config[key] not in values]:
            said = ", ".join(f"{key} {config[key]!r} (must be {' or '.join(map(str, demands[key]))})" for key in wrong)
            raise ModelError(f"{folder} holds a {kind} that KerasHub would build otherwise without a word: {said}.")
        if not any(name.startswith(prefix) for name in names):
            raise ModelError(
                f"{folder} has no tensor that starts with {prefix!r}: it was saved from the bare model. "
                "Save the model with its classification head (transformers' ...ForImageClassification)."
            )
    else:
        kind = str(config.get("architecture"))
        if not re.fullmatch(TIMM, kind):
            raise ModelError(f"{folder} holds the timm model {kind!r}. Those that are read: {TIMM.replace('|', ', ')}.")
        if config.get("model_args"):
            raise ModelError(
                f"{folder} changes {kind} by model_args {config['model_args']}, which KerasHub would ignore."
            )


def _shards(folder: Path, single: str, index: str) -> list[Path]:
    """The weight files of a directory; an index may only name files beside it."""
    if (folder / index).is_file():
        names = files.read_config(folder / index).get("weight_map", {}).values()
        names = sorted({name for value in names for name in (value if isinstance(value, list) else [value])})
    else:
        names = [single]
    for name in names:
        if Path(str(name)).name != name or not (folder / name).is_file():
            raise ModelError(f"{folder / index} names {name!r}, which must be a file of this directory.")
    return [folder / name for name in names]


def _kaggle(handle: str, offline: bool) -> Path:
    parts = handle.removeprefix(KAGGLE).split("/")
    if len(parts) not in (4, 5) or not all(re.fullmatch(r"[\w.-]*\w[\w.-]*", part) for part in parts):
        raise ModelError(f"A Kaggle handle is kaggle://OWNER/MODEL/keras/VARIATION or .../VERSION, not {handle!r}.")
    home = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub").joinpath(
        "models", *parts[:4]
    )
    versions = parts[4:] or sorted((p.name for p in home.glob("*") if p.name.isdigit()), key=int, reverse=True)
    for version in versions:
        if _cached(home, version):
            return home / version
    if offline:
        where = home / (versions[0] if versions else "VERSION")
        raise MachineError(
            f"{handle} is not on this machine and --offline forbids fetching it. "
            f"Put its config.json and model.weights.h5 in {where}"
        )
    try:
        import kagglehub
        from kagglehub import exceptions
    except ImportError as e:
        raise missing_extra("kagglehub", "hf") from e
    failures = (OSError, ValueError, exceptions.BackendError, exceptions.NotFoundError, exceptions.UnauthenticatedError)
    try:
        return Path(kagglehub.model_download("/".join(parts)))
    except (*failures, exceptions.CredentialError, exceptions.DataCorruptionError) as e:
        raise _unreachable(handle, home / (parts[4] if len(parts) == 5 else "VERSION"), e) from e


def _cached(home: Path, version: str) -> bool:
    """Whether kagglehub finished fetching a version, as a whole or file by file, or somebody put it there by hand."""
    folder, marks = home / version, home / ".complete" / version
    weights = [name for name in WEIGHTS if (folder / name).is_file()]
    if not weights or not (folder / "config.json").is_file():
        return False
    # A file that kagglehub is still writing has no mark; other files of that version may have theirs.
    return (
        (home / f"{version}.complete").is_file() or not marks.is_dir() or (marks / f"{weights[0]}.complete").is_file()
    )


def _hugging_face(handle: str, offline: bool) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError as e:
        raise missing_extra("huggingface_hub", "hf") from e
    repo, _, revision = handle.removeprefix(HUGGING_FACE).partition("@")
    wanted = ["*.json", "*.txt", "*.safetensors", "*.weights.h5", "assets/*"]
    try:
        folder = huggingface_hub.snapshot_download(
            repo, revision=revision or None, allow_patterns=wanted, local_files_only=offline
        )
    except errors.HFValidationError as e:
        raise ModelError(
            f"A Hugging Face handle is hf://OWNER/MODEL or hf://OWNER/MODEL@REVISION, not {handle!r}."
        ) from e
    except (OSError, errors.EntryNotFoundError) as e:
        where = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
        if offline:
            raise MachineError(
                f"{handle} is not on this machine and --offline forbids fetching it. Fetch it into {where} "
                f"on a machine with a network (hf download {repo}), "
                "or give a directory that holds its config.json and weights."
            ) from e
        raise _unreachable(handle, where, e) from e
    return Path(folder)


def _unreachable(handle: str, where: Path, error: Exception) -> MachineError:
    reason = str(error).strip().split("\n")[0][:300]
    return MachineError(
        f"{handle} is not on this machine and could not be fetched: {reason}\n"
        f"  Put it in {where}, or give a directory that holds its config.json and weights."
    )
