"""A converted network beside the PyTorch model: the largest difference of logits and features on random input.

Needs PyTorch with torchvision or timm, or transformers; where they are not installed, what can be said without them is
said: coverage, and the statistics of the tensors. Nothing of PyTorch reads the file: the tensors come from the reader here.
"""

import importlib
import importlib.util

from tlkeras.backbones import Backbone, torch_builds
from tlkeras.errors import ModelError
from tlkeras.foreign import mapping, name_files, name_maps, sources
from tlkeras.foreign.sources import Found
from tlkeras.weights import beside_transformers, elsewhere

EXACT = 1e-4
BATCH = 2


def verify(path, to: str | None = None, names=None, size: int | None = None, say=None) -> dict:
    """Compares the network `to` with the weights of `path` to the PyTorch model that these weights are of.

    Returns for `logits` and `features` the largest difference and the largest number, `exact` (within 1e-4, of numbers above 10
    within a hundred thousandth of the largest), or `why` there is nothing to compare with.

    Raises:
        ModelError: when the weights do not fit, with both lists.
    """
    found = sources.read(path)
    out: dict = {"path": str(path), "statistics": statistics(found)}
    if found.kind == "transformers" and names is None:
        return out | _hugging_face(found, say)
    record = elsewhere.target(found, to)
    whole = record.name in torch_builds.BUILDS and elsewhere._classes(found) is not None and names is None
    size = size or _smallest(found, record)
    model, pixels = elsewhere.built(found, record, size, whole)
    coverage = elsewhere.covered(found, record, model, name_files.read(names) if names else None, whole)
    if say:
        say(f"{path} -> {record.name}\n{coverage.text()}")
    mapping.fill(model, coverage)
    out |= {"network": record.name, "coverage": coverage.rows()}
    if reason := _unable(found, record, names):
        return out | {"compared": False, "why": reason}
    oracle, which = _oracle(found, record, pixels.size[0])
    if oracle is None:
        return out | {"compared": False, "why": which}
    rows = _differences(model, oracle, pixels.size, whole)
    if not rows["features"]["scale"]:
        why = (
            f"{which} with these weights gives nothing but zeros for random input, so equal numbers would tell nothing."
        )
        return out | {"compared": False, "why": why}
    return out | {"compared": True, "with": which, **rows}


def text(found: dict) -> str:
    """`verify` for people."""
    lines = []
    for what in ("logits", "features"):
        if what in found:
            row = found[what]
            lines.append(f"{what:<9} largest difference {row['difference']:.2g} of numbers up to {row['scale']:.3g}")
    if found["compared"]:
        verdict = "exact" if found["exact"] else "NOT EXACT"
        lines.append(f"{found['network']} is {verdict}, compared with {found['with']} on random input")
    else:
        lines.append(f"Not compared with PyTorch: {found['why']}")
        lines.append(
            "Coverage is whole, so each tensor lies where its name says; that the arithmetic is the same is not shown."
        )
    total = found["statistics"]
    lines.append(f"{total['tensors']} tensors, numbers from {total['least']:.3g} to {total['most']:.3g}")
    if total["not_finite"]:
        lines.append(f"NOT FINITE: {', '.join(total['not_finite'][:10])}")
    if total["constant"]:
        lines.append(
            f"{len(total['constant'])} tensors hold one number throughout, as untrained ones do: {total['constant'][0]} ..."
        )
    return "\n".join(lines)


def statistics(found: Found) -> dict:
    """Least and most number of all tensors, which are not finite, which of more than 16 numbers are constant."""
    import numpy as np

    least, most, odd, constant = 0.0, 0.0, [], []
    for name, tensor in found.tensors.items():
        values = np.asarray(tensor, "float32")
        if not values.size:
            continue
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            odd.append(name)
            continue
        least, most = min(least, low), max(most, high)
        if low == high and values.size > 16:
            constant.append(name)
    return {"tensors": len(found.tensors), "least": least, "most": most, "not_finite": odd, "constant": constant}


def _smallest(found: Found, record: Backbone) -> int | None:
    """Pixels a side that are enough to tell: less than those of the entry, where the network takes any size."""
    made = torch_builds.BUILDS.get(record.name)
    if made is None or made.base in ("vit", "swin_transformer") or made.base.startswith("vgg"):
        return None
    return 96 if made.base == "inception_v3" else 64


def _unable(found: Found, record: Backbone, names) -> str | None:
    if record.name not in torch_builds.BUILDS or names is not None:
        return f"no PyTorch model is known for {record.name} with these names."
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed. Install it with timm or torchvision, then verify again."
    if not any(importlib.util.find_spec(spec.split(":")[0]) for spec in torch_builds.BUILDS[record.name].oracle):
        return "neither timm nor torchvision is installed."
    return None


def torch_model(spec: str, classes: int, side: int):
    """The PyTorch model 'torchvision:NAME' or 'timm:NAME' with random weights, for inference; None where it is not installed."""
    library, _, name = spec.partition(":")
    if not beside_transformers.importable(library):
        return None
    options: dict = {"num_classes": classes}
    if library == "timm":
        import timm

        sized = name.startswith(("vit_", "swin_"))
        return timm.create_model(name, pretrained=False, **options, **({"img_size": side} if sized else {})).eval()
    import torchvision

    if name == "inception_v3":
        options |= {"init_weights": False, "transform_input": False}
    if name.startswith("vit_"):
        options["image_size"] = side
    return getattr(torchvision.models, name)(weights=None, **options).eval()


def _oracle(found: Found, record: Backbone, side: int):
    """(the PyTorch model with the weights in it, its name), or (None, why none has these names)."""
    import torch

    tensors = mapping.renamed(found.tensors, name_maps.RENAMES)
    classes = elsewhere._classes(found) or 1000
    for spec in torch_builds.BUILDS[record.name].oracle:
        model = torch_model(spec, classes, side)
        if model is None:
            continue
        given = {n: torch.tensor(_copied(t)) for n, t in tensors.items()}
        wanted = {n: tuple(t.shape) for n, t in model.state_dict().items()}
        free = {n for n in wanted if elsewhere._derived(n)} | {n for n in wanted if n not in given and _head(n)}
        if all(n in given and tuple(given[n].shape) == shape for n, shape in wanted.items() if n not in free):
            model.load_state_dict(given, strict=False)
            return model, spec
    return None, "no model of an installed timm or torchvision has exactly these names and shapes."


def _head(name: str) -> bool:
    import re

    return any(re.fullmatch(pattern, name) for pattern in name_maps.HEADS)


def _copied(tensor):
    import numpy as np

    return np.array(tensor if tensor.dtype.kind in "iub" else np.asarray(tensor, "float32"))


def _differences(model, oracle, size, whole: bool) -> dict:
    """Of the logits, and of what the last layer before them is given; without a classifier of the pooled features."""
    import keras
    import numpy as np
    import torch

    seen: list = []
    last = [m for m in oracle.modules() if isinstance(m, torch.nn.Linear)][-1]
    hook = last.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    pixels = np.random.default_rng(0).normal(0, 1, (BATCH, *size, 3)).astype("float32")
    with torch.no_grad():
        logits = oracle(torch.tensor(pixels.transpose(0, 3, 1, 2))).numpy()
    hook.remove()
    features = seen[-1].numpy()
    out = {}
    if whole:
        layer = [x for x in model.layers if x.weights][-1]
        both = keras.Model(model.input, [layer.input, model.output])
        ours, answers = (np.asarray(x) for x in both(pixels, training=False))
        out["logits"] = _row(answers, logits)
        out["features"] = _row(ours.reshape(features.shape), features)
    else:
        ours = np.asarray(model(pixels, training=False))
        ours = ours.mean(axis=(1, 2)) if ours.ndim == 4 else ours
        if ours.shape != features.shape:
            raise ModelError(
                "These weights have no classifier, and the features of this network cannot be compared without one."
            )
        out["features"] = _row(ours, features)
    return out | {"exact": all(row["difference"] <= max(EXACT, 1e-5 * row["scale"]) for row in out.values())}


def _row(ours, theirs) -> dict:
    import numpy as np

    return {"difference": float(np.abs(ours - theirs).max()), "scale": float(np.abs(theirs).max())}


def _hugging_face(found: Found, say) -> dict:
    """The states of a Hugging Face model, of ids, pixels or sounds at random."""
    from tlkeras.weights import hugging_face

    model, coverage, _ = hugging_face.converted(found)
    if say:
        say(f"{found.path} -> {coverage.target}\n{coverage.text()}")
    coverage.demand()
    out = {"network": coverage.target, "coverage": coverage.rows(), "compared": False}
    missing = [n for n in ("torch", "transformers") if importlib.util.find_spec(n) is None]
    if missing:
        return out | {"why": f"{' and '.join(missing)} not installed."}
    both = beside_transformers.outputs(found.path, model, found.config)
    if both is None:
        inputs = ", ".join(sorted(tensor.name for tensor in model.inputs))
        return out | {"why": f"models that take {inputs} are not compared here."}
    rows = [_row(ours, theirs) for ours, theirs in both]
    row = max(rows, key=lambda row: row["difference"])
    exact = all(row["difference"] <= max(EXACT, 1e-5 * row["scale"]) for row in rows)
    return out | {
        "compared": True,
        "with": f"transformers' {found.config['model_type']}",
        "features": row,
        "exact": exact,
    }
