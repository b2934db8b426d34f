"""Makes golden/detectors.npz: what effdet and YOLOX compute with weights that hang on nothing but their names.

Needs PyTorch, effdet, and YOLOX's sources on PYTHONPATH:

    python tests/make_golden_detectors.py
"""

import contextlib
import json
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "detectors.npz"
SIZE, CLASSES = (96, 160), 3
KEPT = ("efficientdet_d0", "yolox_nano")
MORE = ("efficientdet_d1", "efficientdet_sum", "yolox_tiny", "yolox_s")
YOLOX = {"yolox_nano": (0.33, 0.25), "yolox_tiny": (0.33, 0.375), "yolox_s": (0.33, 0.5)}
SAMPLES = 60


def tensor(name: str, shape) -> np.ndarray:
    """The weight called `name`: random, and such that what comes out of the network varies and stays in bounds."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, "int64")
    if name.endswith(("running_var", "edge_weights")) or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    if len(shape) == 4:
        return (rng.normal(size=shape) * np.sqrt(1.8 / np.prod(shape[1:]))).astype("float32")
    return rng.normal(0, 0.3, shape).astype("float32")


def pixels() -> np.ndarray:
    """Two images as the networks take them: (2, height, width, 3)."""
    return np.random.default_rng(7).normal(0, 1, (2, *SIZE, 3)).astype("float32")


def oracle():
    """torch, with a torchvision that can be imported also where it was built for another torch."""
    import torch

    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # It is there.
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return torch


def build(name: str):
    """The PyTorch model of a case, with the weights of `tensor`."""
    torch = oracle()
    if name.startswith("yolox"):
        from yolox.models import YOLOPAFPN, YOLOXHead
        from yolox.models import YOLOX as Yolox

        depth, width = YOLOX[name]
        settings = {"depthwise": name == "yolox_nano"}
        model = Yolox(YOLOPAFPN(depth, width, **settings), YOLOXHead(CLASSES, width, **settings))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-3
        model.head.decode_in_inference = False
    else:
        import effdet

        config = effdet.get_efficientdet_config("tf_efficientdet_d1" if name.endswith("d1") else "tf_efficientdet_d0")
        config.image_size, config.num_classes = SIZE, CLASSES
        if name.endswith("sum"):
            config.fpn_name = "bifpn_sum"
        model = effdet.EfficientDet(config, pretrained_backbone=False)
    given = {key: torch.tensor(tensor(key, tuple(value.shape))) for key, value in model.state_dict().items()}
    model.load_state_dict(given)
    return model.eval()


def compute(name: str, model) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, logits) of all places; effdet's offsets are y, x, height, width."""
    torch = oracle()
    if name.startswith("yolox"):
        # What it returns has gone through the sigmoid already.
        kinds = (("reg_preds",), ("obj_preds", "cls_preds"))
        modules = [getattr(model.head, kind)[k] for k in range(3) for kind in ("reg_preds", "obj_preds", "cls_preds")]
        kept: dict = {}
        for module in modules:
            module.register_forward_hook(lambda module, given, found: kept.update({module: found}))
    with torch.no_grad():
        dtype = next(model.parameters()).dtype
        found = model(torch.tensor(pixels().transpose(0, 3, 1, 2).copy(), dtype=dtype))
    if name.startswith("yolox"):
        maps = [
            [torch.cat([kept[getattr(model.head, kind)[k]] for kind in group], 1) for k in range(3)] for group in kinds
        ]
        depths = (4, 1 + CLASSES)
    else:
        maps, depths = found[::-1], (4, CLASSES)
    offsets, logits = (
        np.concatenate([x.numpy().transpose(0, 2, 3, 1).reshape(len(x), -1, depth) for x in levels], 1)
        for levels, depth in zip(maps, depths, strict=True)
    )
    return offsets, logits


def exact(name: str, model) -> list[tuple[np.ndarray, float]]:
    """Offsets and logits in float64, and the largest error that the reference itself makes in float32."""
    rounded = compute(name, model)
    return [(true, np.abs(true - x).max()) for true, x in zip(compute(name, model.double()), rounded, strict=True)]


def sampled(x) -> np.ndarray:
    """A few numbers of an array, its mean and its deviation."""
    x = np.asarray(x, "float64")
    return np.append(x.ravel()[:: x.size // SAMPLES][:SAMPLES], [x.mean(), x.std()])


def main():
    found = {}
    for name in KEPT:
        model = build(name)
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        found[f"{name}/shapes"] = np.array(json.dumps(shapes))
        for what, (array, error) in zip(("offsets", "logits"), exact(name, model), strict=True):
            found |= {f"{name}/{what}": sampled(array), f"{name}/{what}/error": error}
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
