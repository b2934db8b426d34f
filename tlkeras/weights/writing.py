"""Converted models as files: weights, a .keras file, or a KerasHub preset."""

import os
import shutil
import tempfile
from pathlib import Path

from tlkeras.backbones import Pixels
from tlkeras.errors import UsageError


def written(model, out: Path, kind: str, pixels: Pixels | None) -> None:
    """Writes a model whole or not at all.

    Raises:
        UsageError: when a preset is asked for of what is no model of keras-hub.
    """
    if kind == "preset" and not type(model).__module__.startswith("keras_hub."):
        raise UsageError(
            f"{out} would be a KerasHub preset, and {model.name} is no model of keras-hub. Give --out FILE.weights.h5."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tlkeras-", dir=out.parent) as folder:
        made = Path(folder) / out.name
        if kind == "weights":
            model.save_weights(made)
        elif kind == "keras":
            model.save(made)
        else:
            model.save_to_preset(str(made))
            _converter(model, made, pixels)
        if made.is_dir():
            shutil.copytree(made, out)
        else:
            os.replace(made, out)


def _converter(model, folder: Path, pixels: Pixels | None) -> None:
    """What scales the images goes with the weights, in the preset."""
    import keras_hub

    if pixels is None:
        return
    layers = keras_hub.layers
    own = [c for c in vars(layers).values() if isinstance(c, type) and issubclass(c, layers.ImageConverter)]
    cls = next((c for c in own if getattr(c, "backbone_cls", None) is type(model)), None)
    if cls is not None:
        interpolation = (
            pixels.interpolation if pixels.interpolation in ("bilinear", "bicubic", "nearest") else "bilinear"
        )
        cls(
            image_size=pixels.size,
            scale=list(pixels.scale),
            offset=list(pixels.offset),
            interpolation=interpolation,
            crop_to_aspect_ratio=pixels.crop is not None,
        ).save_to_preset(str(folder))
