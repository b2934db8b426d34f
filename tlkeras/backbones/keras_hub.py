"""The image backbones of keras-hub: one entry per preset, and entries for presets on disk.

Architecture, input and weights live in the preset, so an entry without one on this machine cannot be built, not
even at random. What the presets of an architecture share is in keras_hub_families, the list in keras_hub_presets.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from tlkeras.backbones import Backbone, Pixels, Source
from tlkeras.backbones.keras_hub_families import FAMILIES, Family, family
from tlkeras.backbones.keras_hub_presets import Preset, presets
from tlkeras.errors import ModelError

__all__ = ["FAMILIES", "Family", "build", "entries", "family", "from_directory", "identify", "pixels_of"]

_UNKNOWN_LICENCE = "see the model page"

# config.json's `model_type` (transformers), and beginnings of its `architecture` (timm), longest first.
_TRANSFORMERS = {
    "deit": "deit",
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "dinov3_vit": "dinov3",
    "metaclip_2": "metaclip_2",
    "swin": "swin_transformer",
    "vit": "vit",
}
_TIMM = {
    "mobilenetv5": "mobilenetv5",
    "efficientnet": "efficientnet",
    "densenet": "densenet",
    "mobilenet": "mobilenet",
    "hgnetv2": "hgnetv2",
    "resnet": "resnet",
    "dark": "cspnet",
    "csp": "cspnet",
    "vgg": "vgg",
}


def entries() -> Iterable[Backbone]:
    """One entry per preset; its input (`pixels`) is known from the preset alone, see `pixels_of`."""
    for preset in presets():
        known = family(preset.family)
        note = " keras-hub 0.32 files other weights under this name, so it offers none." if preset.misfiled else ""
        yield Backbone(
            name=preset.name,
            family=known.name,
            build=partial(_build_preset, preset),
            blocks=known.blocks,
            pixels=None,
            pool=known.pool,
            sources={} if preset.misfiled else {preset.data: Source(preset.handle, preset.licence)},
            parameters=preset.parameters,
            opened=known.opened,
            description=preset.description + note,
        )


def from_directory(path, offline: bool = False) -> Backbone:
    """The entry of a Keras preset, Hugging Face or timm directory, or of a handle (kaggle://, hf://), which is fetched.

    Only config.json is read here. Its weights are the source 'preset'; without them it is built at random.

    Raises:
        ModelError: when it is none of these, or no image backbone that keras-hub knows.
        MachineError: when a handle cannot be fetched.
    """
    folder = _folder(path, offline)
    known, config = identify(folder)
    inner = config.get("config")
    # A vision transformer may be configured without the class token that the family pools.
    no_token = isinstance(inner, dict) and inner.get("use_class_token") is False
    return Backbone(
        name=str(path) if "://" in str(path) else folder.name,
        family=known.name,
        build=partial(build, known, folder),
        blocks=known.blocks,
        pixels=None,
        pool="avg" if no_token else known.pool,
        sources={"preset": Source(str(folder), _UNKNOWN_LICENCE)},
        opened=known.opened,
        description=f"A {known.backbone} in {folder}.",
    )


def identify(folder: Path) -> tuple[Family, dict]:
    """The family of a model directory, and its config.json.

    Raises:
        ModelError: when there is none, it names classes that are no part of a backbone, or keras-hub has no such
            image backbone.
    """
    from tlkeras.weights import files

    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} must have a config.json; so it is no Keras preset, Hugging Face or timm directory.")
    config = files.read_config(path)
    if "registered_name" in config:
        files.check_classes(config, path)
        said = str(config["registered_name"])
        name = next((f.name for f in FAMILIES.values() if f.backbone == said.removeprefix("keras_hub>")), None)
    elif "model_type" in config:
        said = f"transformers' {config['model_type']}"
        name = _TRANSFORMERS.get(str(config["model_type"]))
    else:
        said = f"timm's {config.get('architecture')}"
        name = next((f for start, f in _TIMM.items() if str(config.get("architecture")).startswith(start)), None)
    if name is None:
        raise ModelError(f"{path} says {said}, which is no image backbone of keras-hub. Known: {' '.join(FAMILIES)}")
    return FAMILIES[name], config


def build(known: Family, where, size: tuple[int, int], weights: str | None = None):
    """Builds the preset in the directory or handle `where` for images of `size` (height, width).

    The model takes (B, height, width, 3) pixels already scaled. `weights` is None (random), 'preset' (those in
    `where`), or another directory or handle of the same architecture.

    Raises:
        ModelError: when the directory holds another architecture or damaged weights, or the network takes no
            images of that size.
        MachineError: when a handle cannot be fetched.
    """
    import keras_hub

    folder = _folder(where if weights in (None, "preset") else weights)
    if (found := identify(folder)[0]) != known:
        raise ModelError(f"{folder} holds a {found.backbone}, and a {known.backbone} is needed.")
    # A fixed name: layers that keras-hub names after the backbone are opened by name.
    options = {"name": known.name} | ({known.size: (*size, 3)} if known.size else {})
    cls = getattr(keras_hub.models, known.backbone)
    try:
        backbone = cls.from_preset(str(folder), load_weights=weights is not None, **options)
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise ModelError(f"{folder} cannot be used for images of {size[0]}x{size[1]}: {e}") from e
    model = known.features(backbone)
    takes = tuple(model.inputs[0].shape[1:3])
    if takes != tuple(size):
        raise ModelError(
            f"{folder} takes images of {takes[0]}x{takes[1]} only, since its position embeddings are of that size; "
            f"{size[0]}x{size[1]} was asked for."
        )
    return model


def pixels_of(preset: str, size: tuple[int, int] | None = None, offline: bool = False) -> Pixels:
    """The input contract in a preset's own image converter; `preset` is a name, a handle or a directory.

    `size` (height, width) holds where the converter leaves the size open. A converter that resizes with
    antialiasing is taken as one without: Pixels does not tell them apart.

    Raises:
        ModelError: when the preset has no converter, or one that Pixels cannot express.
        MachineError: when the preset cannot be fetched.
    """
    import keras_hub

    folder = _folder(next((p.handle for p in presets() if p.name == preset and not p.misfiled), preset), offline)
    identify(folder)
    missing = f"{preset} has no image converter, so the size and value range of its input are not known."
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise ModelError(f"{missing} keras-hub says: {e}") from e
    if not isinstance(converter, keras_hub.layers.ImageConverter):
        raise ModelError(missing)
    if converter.pad_to_aspect_ratio:
        raise ModelError(f"{preset} pads images to their aspect ratio, which no input here does.")
    if (size := converter.image_size or size) is None:
        raise ModelError(f"The image converter of {preset} leaves the size open; state it.")
    return Pixels(
        size=tuple(size),
        scale=_per_channel(converter.scale, 1.0),
        offset=_per_channel(converter.offset, 0.0),
        interpolation=converter.interpolation,
        crop=1.0 if converter.crop_to_aspect_ratio else None,
    )


def _build_preset(preset: Preset, size: tuple[int, int], weights: str | None = None):
    if weights is None:
        raise ModelError(
            f"The architecture of {preset.name} is in its preset, {preset.handle}, needed for random weights too. "
            "Give its weights, or the directory of a preset."
        )
    own = weights == preset.data
    if own and preset.misfiled:
        raise ModelError(
            f"keras-hub files the weights of {preset.name} under {preset.handle}, which is another network. "
            "Give the directory of a preset."
        )
    return build(family(preset.family), preset.handle if own else weights, size, "preset")


def _folder(where, offline: bool = False) -> Path:
    """A directory as it is; a handle is brought to one."""
    from tlkeras.weights import presets as stored

    return stored.fetch(where, offline) if stored.is_handle(str(where)) else Path(where).expanduser().absolute()


def _per_channel(value, default: float) -> tuple[float, float, float]:
    if value is None:
        return (default,) * 3
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(v) for v in value)
