"""Weights from elsewhere: what a file holds, and what becomes of it in a network of the catalogue.

`inspect` looks, `convert` writes a file that Keras reads. Coverage comes first: which tensor fills which weight is
known, and printed, before any weight is filled; where a tensor or a weight is left over, nothing is written.
"""

import re
from dataclasses import replace
from pathlib import Path

from tlkeras import backbones
from tlkeras.backbones import Backbone, Pixels, torch_builds
from tlkeras.errors import ModelError, UsageError
from tlkeras.foreign import mapping, name_files, name_maps, sources
from tlkeras.foreign.sources import Found
from tlkeras.weights import hugging_face, writing

SHOWN = 40
# What other networks of the catalogue are known by: a tensor they have.
LIKE = (
    (r"_blocks\.0\._depthwise_conv\.weight", "efficientnet_lite*"),
    (r"(backbone\.)?blocks\.0\.0\.conv_dw\.weight", "efficientdet_d* or a timm EfficientNet"),
    (r"backbone\.backbone\.stem\.conv\.conv\.weight", "yolox_*"),
    (r"(wav2vec2\.)?feature_extractor\.conv_layers\.0\.conv\.weight", "wav2vec2_* or hubert_*"),
)


def inspect(path) -> dict:
    """What `path` holds: tensors, numbers, the networks of the catalogue it looks like, the licence if its files say one.

    Raises:
        UsageError, ModelError: see `sources.read`.
    """
    found = sources.read(path)
    rows = [{"name": n, "shape": list(shape), "dtype": dtype} for n, (shape, dtype) in found.shapes.items()]
    weights = {n: _size(shape) for n, (shape, _) in found.shapes.items() if not _derived(n)}
    head = [n for n in weights if any(re.fullmatch(p, n) for p in name_maps.HEADS)] if found.layout == "torch" else []
    return {
        "path": str(path),
        "kind": found.kind,
        "tensors": rows,
        "parameters": sum(weights.values()),
        "classifier": head,
        "classes": _classes(found),
        "looks_like": looks_like(found),
        "licence": found.licence,
    }


def inspect_text(found: dict) -> str:
    """`inspect` for people: the first and last tensors of a long list."""
    rows = found["tensors"]
    shown = rows if len(rows) <= SHOWN else [*rows[: SHOWN // 2], None, *rows[-SHOWN // 2 :]]
    width = min(70, max((len(r["name"]) for r in shown if r), default=0))
    lines = [f"{found['path']}: {found['kind']}, {len(rows)} tensors, {found['parameters']:,} numbers"]
    for row in shown:
        if row is None:
            lines.append(f"  ... {len(rows) - SHOWN} more; all of them with --json")
        else:
            shape = "x".join(map(str, row["shape"])) or "one number"
            lines.append(f"  {mapping._safe(row['name']):<{width}}  {shape:<16} {row['dtype']}")
    lines.append(f"looks like   {', '.join(found['looks_like']) or 'nothing in the catalogue'}")
    if found["classifier"]:
        lines.append(f"classifier   {len(found['classifier'])} tensors, {found['classes'] or '?'} classes")
    lines.append(f"licence      {found['licence'] or 'the files do not say'}")
    return "\n".join(lines)


def looks_like(found: Found) -> list[str]:
    """Names of the catalogue whose names and number of weights these are; more than one where only padding differs."""
    if found.kind == "transformers":
        return [f"transformers' {found.config['model_type']}"]
    if found.kind == "preset":
        return [str(found.config["registered_name"])]
    names = set(found.shapes)
    made = [
        b
        for b in torch_builds.BUILDS.values()
        if found.kind in ("torch", "timm") and any(torch_builds.speaks(rules, names) for rules in name_maps.of(b))
    ]
    if made:
        counted = [b for b in made if torch_builds.COUNTS[b.name] == _body(found, b.head)]
        if found.architecture:
            counted = [b for b in counted if f"timm:{found.architecture.split('.')[0]}" in b.oracle] or counted
        if counted:
            return [b.name for b in counted]
    if found.layout == "tf":
        total = sum(_size(shape) for shape, _ in found.shapes.values())
        return [b.name for b in backbones.catalogue().values() if b.parameters == total]
    return [words for pattern, words in LIKE if any(re.fullmatch(pattern, name) for name in names)]


def _body(found: Found, head: tuple[str, ...]) -> int:
    """Numbers of the file without counters and classifier."""
    outside = (*mapping.DERIVED, *name_maps.HEADS, *head)
    names = mapping.renamed({n: n for n in found.shapes}, name_maps.RENAMES).items()
    left = (n for new, n in names if not any(re.fullmatch(p, new) for p in outside))
    return sum(_size(found.shapes[n][0]) for n in left)


def _derived(name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in mapping.DERIVED)


def _size(shape) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _classes(found: Found) -> int | None:
    """Of the last tensor of a classifier, or None where there is none."""
    if found.layout == "tf":
        return None
    last = [
        shape for n, (shape, _) in found.shapes.items() if n.endswith(".weight") and re.fullmatch(name_maps.HEADS[0], n)
    ]
    return last[-1][0] if last and len(last[-1]) in (2, 4) else None


def target(found: Found, to: str | None) -> Backbone:
    """The entry that `to` names, built as these weights need it; without `to` the one they look like.

    Raises:
        UsageError: when it is none, or several.
    """
    if to is None:
        like = [name for name in looks_like(found) if name in backbones.catalogue()]
        if len(like) != 1:
            said = f"It looks like {', '.join(like)}" if like else "It looks like nothing in the catalogue"
            raise UsageError(f"{said}: say which network {found.path} goes to, with --to NAME.")
        return backbones.get(like[0])
    if found.layout == "tf":
        return backbones.get(to)
    return torch_builds.suited(to, found.shapes, found.architecture)


def covered(found: Found, record: Backbone, model, names=None, whole: bool = False, allow=()) -> mapping.Coverage:
    """What the tensors of `found` fill of `model`; `names` is a map of the user's, `whole`: the classifier too."""
    if names is not None:
        return mapping.cover(
            record.name,
            model.weights,
            found.tensors,
            names.rules,
            {},
            names.unused,
            (*allow, *names.missing),
            names.layout,
        )
    if found.layout == "tf":
        return mapping.cover(record.name, model.weights, found.tensors, ((r"(.+)", "{1}"),), {}, (), allow, "tf")
    if record.name in torch_builds.BUILDS:
        return torch_builds.covered(record.name, model, found.tensors, whole, allow)
    return _by_module(found, record, model, allow)


def _by_module(found: Found, record: Backbone, model, allow) -> mapping.Coverage:
    """By the map that the module of a network written here has: {variable path: (name, axes)}."""
    from tlkeras import weights

    module = weights.module_of(record)
    if not hasattr(module, "torch_names"):
        near = [n for n in torch_builds.BUILDS if n.startswith(record.name.split("_")[0])]
        raise UsageError(
            f"No map leads from these names to {record.name}. Give one with --map FILE"
            + (f", or take {', '.join(near[:6])}." if near else ".")
        )
    pairs = module.torch_names(model)
    prefix = getattr(module, "PREFIX", "")
    if not any(name.startswith(prefix) for name in found.tensors):
        pairs = {path: (name.removeprefix(prefix), axes) for path, (name, axes) in pairs.items()}
    rules = tuple((re.escape(path), name) for path, (name, _) in pairs.items())
    head = tuple(f"{re.escape(start)}.*" for start in module.CLASSIFIER)
    return mapping.cover(record.name, model.weights, found.tensors, rules, {}, head, allow)


def convert(
    path,
    to: str | None,
    out,
    names=None,
    size: int | None = None,
    whole: bool = False,
    allow: tuple[str, ...] = (),
    say=None,
) -> dict:
    """Writes the weights of `path` into `out`, as the network `to` has them; returns the coverage and what was written.

    `out` ends in .weights.h5 or .keras, or is a new directory for a KerasHub preset. `names` is a map of names (a path), `size`
    the pixels a side, `whole` keeps the classifier, `allow` are globs for weights that may stay random. `say(text)` is
    given the coverage before anything is filled.

    Raises:
        ModelError: with both lists, when a tensor or a weight is left over; nothing is written then.
        UsageError: when `to`, `out` or the map is wrong.
    """
    out, found = Path(out), sources.read(path)
    kind = _kind(out)
    if found.kind == "transformers" and names is None:
        return hugging_face.convert(found, out, kind, allow, say)
    if not found.tensors:
        raise UsageError(f"{path} is a file of Keras, which needs no conversion: name it with backbone.weights.")
    record = target(found, to)
    model, pixels = built(found, record, size, whole)
    mapped = name_files.read(names) if names else None
    coverage = covered(found, record, model, mapped, whole, allow)
    if say and coverage.whole:
        say(f"{path} -> {record.name}\n{coverage.text()}")
    mapping.fill(model, coverage)
    writing.written(model, out, kind, pixels)
    return {"out": str(out), "network": record.name, **coverage.rows(), "classifier": whole}


def converted_text(found: dict) -> str:
    """`convert` for people: what was written, and how a config names it."""
    lines = [
        f"Written to {found['out']}: {found['filled']} weights of {found['network']}, from {found['used']} of {found['tensors']} tensors"
    ]
    if (
        found["network"] in backbones.catalogue()
        and not found["classifier"]
        and found["out"].endswith((".h5", ".keras"))
    ):
        lines.append(f"In a config: backbone: {{name: {found['network']}, weights: {found['out']}}}")
    elif found.get("directory"):
        lines.append(f"A config takes the directory itself: backbone: {{name: {found['directory']}, weights: preset}}")
    elif not found["out"].endswith((".h5", ".keras")):
        lines.append(_named_in_a_config(Path(found["out"])))
    return "\n".join(lines)


def _named_in_a_config(preset: Path) -> str:
    from tlkeras.backbones import keras_hub

    try:
        keras_hub.identify(preset)
    except ModelError:
        return "keras-hub reads it; no config can name it, since networks of this kind are not trained here."
    return f"In a config: backbone: {{name: {preset}, weights: preset}}"


def built(found: Found, record: Backbone, size: int | None, whole: bool = False):
    """(the network with random weights, its Pixels): of the size asked for, or that of the entry."""
    pixels = record.pixels or Pixels()
    if found.kind == "timm":
        pixels = torch_builds.stated(found.config, pixels)
    pixels = replace(pixels, size=(size, size)) if size else pixels
    if record.name not in torch_builds.BUILDS:
        if whole:
            raise UsageError(
                f"{record.name} is built without a classifier. Take one of: {' '.join(torch_builds.BUILDS)}"
            )
        return record.build(pixels.size if record.kind == "image" else None, None), pixels
    classes = _classes(found) if whole else None
    if whole and classes is None:
        raise ModelError(f"{found.path} must hold a classifier for --classifier; no tensor is called as one.")
    return torch_builds.build(record.name, pixels.size, None, classes), pixels


def _kind(out: Path) -> str:
    """'weights', 'keras' or 'preset'.

    Raises:
        UsageError: when `out` ends otherwise, or is there already.
    """
    kind = "weights" if out.name.endswith(".weights.h5") else "keras" if out.suffix == ".keras" else "preset"
    if kind == "preset" and out.suffix in (".h5", ".pth", ".safetensors", ".pb", ".tflite"):
        raise UsageError(
            f"--out must end in .weights.h5 or .keras, or be a new directory for a preset; received {out}."
        )
    if out.exists():
        raise UsageError(f"{out} is there already, and nothing is overwritten. Give another name.")
    return kind
