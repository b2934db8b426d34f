"""Hugging Face directories, by keras-hub's own converters: every model type they know, with the coverage they do not show.

A model is kept only when nothing is left over. Text models that `transformers` writes anew come through that, others through
`hub_reader` with what `hub_kinds` says of their type, and models of speech through the networks written here.
"""

import copy
import re
from fnmatch import fnmatchcase
from pathlib import Path

from tlkeras.errors import ModelError, UsageError, listed, nearest
from tlkeras.foreign import files, mapping, presets, transformers
from tlkeras.foreign.mapping import Coverage
from tlkeras.foreign.sources import Found
from tlkeras.weights import compared, hub_kinds, hub_reader, writing

# What keras-hub 0.32 converts, by the model_type of config.json.
TYPES = (
    *("albert", "bart", "bert", "blip-2", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "distilbert", "esm"),
    *("gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma4", "gemma4_text", "gemma4_assistant"),
    *("gpt2", "gpt_oss", "llama", "metaclip_2", "mistral", "mixtral", "paligemma", "qwen2", "qwen2_moe", "qwen3"),
    *("qwen3_moe", "qwen3_5", "qwen3_5_moe", "roberta", "sam3_video", "smollm3", "swin", "t5gemma", "t5gemma2", "vit"),
    "xlm-roberta",
)
# Networks written here, by the module of tlkeras.backbones.
SOUNDS = {
    "wav2vec2": "wav2vec2",
    "hubert": "wav2vec2",
    "wavlm": "wav2vec2",
    "whisper": "whisper",
    "moonshine": "moonshine",
}
OWN = (*SOUNDS, "electra")  # Converted by what is written here.
# Variables of keras-hub that follow from the sizes.
COMPUTED = ("inv_freq",)


def convert(found: Found, out: Path, kind: str, allow=(), say=None) -> dict:
    """Converts the directory of `found` and writes it; see `elsewhere.convert`.

    Raises:
        ModelError: with both lists, when a tensor or a weight is left over; or where keras-hub's converter fails.
        UsageError: when no converter knows the type of model.
    """
    model, coverage, corrections = converted(found, allow)
    if say and coverage.whole:
        say(f"{found.path} -> {coverage.target}\n{coverage.text()}\n{compared.said(str(found.config['model_type']))}")
    coverage.demand()
    writing.written(model, out, kind, None)
    if kind == "preset" and corrections:
        _note(out, corrections)
    made = str(found.config["model_type"])
    rows = {"out": str(out), "network": coverage.target, "compared": made in compared.COMPARED, **coverage.rows()}
    return rows | {"classifier": False, "directory": str(found.path) if made in SOUNDS else None}


def converted(found: Found, allow=()) -> tuple:
    """(model of keras-hub or of the network here, its coverage, corrections that a preset's config cannot say).

    Raises:
        UsageError, ModelError: see `convert`.
    """
    kind = str(found.config.get("model_type"))
    if kind in SOUNDS:
        return _sound(found, kind)
    if kind not in (*TYPES, *OWN):
        raise UsageError(
            f"model_type must be one of {', '.join((*TYPES, *OWN))}; it is {kind!r}.{nearest(kind, (*TYPES, *OWN))}"
        )
    presets.needs_safetensors()
    if kind in transformers.TEXT:
        return _text(found, allow)
    if kind in presets.TRANSFORMERS:
        presets._check_exact(found.path, found.config, list(found.shapes))
    made = hub_kinds.KINDS.get(kind, hub_kinds.Kind())
    with files.refused(found.path, *presets.failures()):
        faults = hub_kinds.faults(made, found.config)
        corrections = {} if faults else made.corrections(found.config)
    if faults:
        raise ModelError(
            listed(f"{found.path} holds a {kind} that keras-hub would build otherwise without a word", faults)
        )
    backbone, used, filled, lacking = _recorded(found.path, found.config, found.tensors, made)
    backbone = transformers.correct(backbone, corrections)
    return backbone, _coverage(found, backbone, used, filled, allow, lacking), corrections


def _text(found: Found, allow):
    """A text model, from the directory that is written anew: what is missing or unknown is an error there."""
    from tlkeras.backbones import keras_hub

    folder = keras_hub.prepared(found.path)
    said = transformers.corrections(found.config)
    config = files.read_config(folder / "config.json")
    if "registered_name" in config:  # ELECTRA: a preset is made of it there, from every tensor it names.
        import keras_hub as hub

        backbone = hub.models.Backbone.from_preset(str(folder))
        filled = {v.path for v in backbone.weights}
        used = {n for n in found.shapes if not _dropped(n)}
    else:
        backbone, _, filled, _ = _recorded(folder, config, transformers.read_tensors(folder))
        used = {n for n in found.shapes if not _dropped(n)}
    return transformers.correct(backbone, said), _coverage(found, backbone, used, filled, allow), said


def _sound(found: Found, kind: str):
    import importlib

    from tlkeras import weights

    module = importlib.import_module(f"tlkeras.backbones.{SOUNDS[kind]}")
    model = weights.load(module.from_directory(found.path), "preset", None)  # refuses with both lists
    # Whisper's last layer is its embedding once more.
    dropped = (*getattr(module, "DROPPED", ()), "proj_out.")
    used = {n for n in found.shapes if not n.removeprefix(f"{kind}.").startswith(dropped)}
    coverage = _coverage(found, model, used, {v.path for v in model.weights}, ())
    coverage.head += coverage.unused
    coverage.unused = []
    return model, coverage, {}


def _recorded(folder: Path, config: dict, tensors: dict, made=None) -> tuple:
    """(keras-hub's backbone of these, names of the tensors that it took, paths of the variables that were set, {path: why
    not} of others)."""
    made = made or hub_kinds.Kind()
    names = {mapping.rewritten(name, made.renames): name for name in tensors}
    given = {new: tensors[name] for new, name in names.items()}
    with files.refused(folder, *presets.failures(), IndexError, ZeroDivisionError):
        config = copy.deepcopy(config) | made.settings(config)
        made.tensors(config, given)
        backbone, asked, filled = hub_reader.read(folder, config, given, made.options(config), made.finish)
    return backbone, {names.get(name, name) for name in asked.used}, filled, asked.lacking


def _coverage(found: Found, model, used, filled, allow, lacking=None) -> Coverage:
    coverage = Coverage(model.name, tensors=len(found.shapes))
    wanted = [v for v in model.weights if "seed_generator" not in v.path and not v.path.endswith(COMPUTED)]
    coverage.weights = len(wanted)
    for variable in wanted:
        if variable.path in filled:
            coverage.values[variable.path] = None
        elif any(fnmatchcase(variable.path, pattern) for pattern in allow):
            coverage.allowed.append(variable.path)
        else:
            why = (lacking or {}).get(variable.path, "the converter does not set it")
            coverage.missing.append(f"{variable.path} {tuple(variable.shape)} ({why})")
    dropped = hub_kinds.KINDS.get(str(found.config.get("model_type")), hub_kinds.Kind()).dropped
    for name, (shape, _) in found.shapes.items():
        if 0 in shape:  # Registers of a network without any.
            coverage.derived.append(name)
        elif name in used:
            coverage.used[name] = ""
        elif _dropped(name) or re.fullmatch(dropped, name):
            coverage.head.append(name)
        else:
            coverage.unused.append(name)
    return coverage


def _dropped(name: str) -> bool:
    """Whether a tensor belongs to a head, or is no weight: what no backbone has a use for."""
    bare = re.sub(r"^(bert|roberta|distilbert|electra|albert|transformer|model|vit|deit|swin|esm)\.", "", name)
    return (
        any(re.fullmatch(transformers.DROPPED, n) for n in (name, bare))
        or re.fullmatch(
            r"(.*\.)?(pooler\..*|contact_head\..*|mask_token|masked_bias|relative_position_index|rotary_emb\.inv_freq)",
            name,
        )
        is not None
    )


def _note(folder: Path, corrections: dict) -> None:
    """Writes what the classes of keras-hub cannot say into the preset's config.json, where `backbones.keras_hub` reads it."""
    import json

    config = files.read_config(folder / "config.json")
    (folder / "config.json").write_text(json.dumps(config | {"tlkeras_corrections": corrections}, indent=4), "utf8")
