"""The catalogue for people: one line an entry, or one entry in full."""

import math

from tlkeras import backbones


def rows(family: str | None = None, kind: str | None = None) -> list[dict]:
    """A row per entry: name, family, input, parameters, licence. TensorFlow is not needed."""
    out = []
    for b in backbones.catalogue().values():
        if family in (None, b.family) and kind in (None, b.kind):
            source = next(iter(b.sources.values()), None)
            out.append(
                {
                    "name": b.name,
                    "family": b.family,
                    "kind": b.kind,
                    "size": list(b.pixels.size) if b.pixels else None,
                    "parameters": b.parameters,
                    "licence": source.licence if source else None,
                    "source": source.where if source else None,
                }
            )
    return out


def rows_text(found: list[dict]) -> str:
    out = [f"{'name':<42} {'family':<20} {'input':>8} {'parameters':>13}  licence of the weights"]
    for r in found:
        size = f"{r['size'][0]}x{r['size'][1]}" if r["size"] else r["kind"] if r["kind"] != "image" else "preset"
        out.append(
            f"{r['name']:<42} {r['family']:<20} {size:>8} {r['parameters'] or 0:>13,}  {r['licence'] or 'random weights only'}"
        )
    return "\n".join([*out, f"{len(found)} backbones"])


def one(name: str) -> dict:
    """Everything about one entry; its blocks and FLOPs by building it with random weights, where that is possible offline."""
    import keras

    from tlkeras import blocks
    from tlkeras.backbones import keras_hub
    from tlkeras.backbones.flops import flops
    from tlkeras.errors import ModelError

    b = backbones.get(name)
    found = {
        "name": b.name,
        "family": b.family,
        "kind": b.kind,
        "description": b.description,
        "parameters": b.parameters,
        "pool": b.pool,
        "input": {
            "size": list(b.pixels.size),
            "range": b.pixels.range,
            "crop": b.pixels.crop,
            "pad": b.pixels.pad and list(b.pixels.pad),
            "interpolation": b.pixels.interpolation,
        }
        if b.pixels
        else None,
        "sound": {"rate": b.sound.rate, "seconds": b.sound.seconds, "frame": b.sound.step / b.sound.rate}
        if b.sound
        else None,
        "sources": {
            key: {"where": s.where, "licence": s.licence, "sha256": s.sha256, "classes": s.classes}
            for key, s in b.sources.items()
        },
        "blocks": None,
        "flops": None,
    }
    try:
        model = b.build(b.pixels.size if b.pixels else None, None)
    except ModelError as e:
        found["note"] = str(e)
        return found
    if b.kind == "text":
        model = keras_hub.features(model, b.family)
        inputs = {name: keras.Input((None,), name=name, dtype="int32") for name in model.input}
        tensors = blocks.flatten(model, inputs, opened=b.opened)
    elif b.kind == "audio":
        inputs = dict(model.input)
        tensors = blocks.flatten(model, inputs, opened=b.opened)
    else:
        inputs = keras.Input(model.inputs[0].shape[1:])
        tensors = blocks.flatten(model, inputs, inputs, b.opened)
        found["flops"] = flops(model)
    cut = blocks.split(inputs, tensors, b.blocks(model) if callable(b.blocks) else b.blocks)
    found["blocks"] = {
        block: sum(math.prod(v.shape) for x in layers for v in x.weights) for block, layers in cut.items()
    }
    return found


def one_text(f: dict) -> str:
    out = [f"{f['name']}  ({f['family']}, {f['kind']})", *([f["description"]] if f["description"] else [])]
    if f["input"]:
        i = f["input"]
        how = f"centre {i['crop']:g} of the shorter side" if i["crop"] else "squashed to size"
        how = "letterboxed by detectors, else squashed to size" if i["pad"] else how
        out.append(f"input       {i['size'][0]}x{i['size'][1]}, range {i['range']}, {how}, {i['interpolation']}")
    if s := f.get("sound"):
        out.append(
            f"input       samples at {s['rate']:,} Hz, up to {s['seconds']:g} s at a time, a frame every {1000 * s['frame']:g} ms"
        )
    if f["parameters"]:
        out.append(
            f"parameters  {f['parameters']:,} without classifier"
            + (f", {f['flops'] / 1e9:.2f} GFLOPs an image" if f["flops"] else "")
        )
    out += [
        f"weights     {key}: {s['where']}, {s['licence']}" + (f", sha256 {s['sha256'][:12]}..." if s["sha256"] else "")
        for key, s in f["sources"].items()
    ]
    if f["blocks"]:
        out += [
            "blocks      parameters",
            *(f"  {block:<10}{n:>12,}" for block, n in f["blocks"].items()),
            "  head        (yours)",
        ]
    return "\n".join([*out, *([f["note"]] if f.get("note") else [])])
