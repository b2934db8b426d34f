"""Makes golden/torch.npz: what torchvision and timm compute for networks with seeded weights.

Weights are made from their names and shapes by numpy on both sides, so that only names, shapes and logits are kept. Needs
PyTorch, torchvision and timm:

    python tests/make_golden_torch.py
"""

import json
import re
import zlib
from pathlib import Path

import make_golden
import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "torch.npz"
CLASSES = 11
# Entry of the catalogue (or of SMALL), PyTorch's model, pixels a side. One of each family, and of each way to name or pad.
KEPT = (
    ("resnet18_torch", "torchvision:resnet18", 64),
    ("resnet50_torch", "torchvision:resnet50", 64),
    ("densenet121_torch", "torchvision:densenet121", 64),
    ("efficientnet_b0_torchvision", "torchvision:efficientnet_b0", 64),
    ("efficientnet_b0_timm", "timm:efficientnet_b0", 64),
    ("efficientnet_b0_tf", "timm:tf_efficientnet_b0", 64),
    ("mobilenet_v2_torch", "torchvision:mobilenet_v2", 64),
    ("mobilenet_v3_small_torchvision", "torchvision:mobilenet_v3_small", 64),
    ("mobilenet_v3_small_timm", "timm:mobilenetv3_small_100", 64),
    ("convnext_tiny_torch", "torchvision:convnext_tiny", 32),
    ("inception_v3_torch", "torchvision:inception_v3", 96),
    ("vit_small_test_torchvision", "torchvision:vit", 32),
    ("vit_small_test_timm", "timm:vit", 32),
    ("swin_small_test_torch", "torchvision:swin", 64),
    ("swin_small_test_torch", "timm:swin", 64),
)
# Compared where PyTorch is installed, too large or too like the others to be kept.
MORE = (
    ("resnet50_torch", "timm:resnet50", 64),
    ("vgg11_torch", "torchvision:vgg11", 224),
    ("vgg11_bn_torch", "timm:vgg11_bn", 224),
    ("vgg16_torch", "torchvision:vgg16", 224),
    ("densenet121_torch", "timm:densenet121", 64),
    ("efficientnet_b5_torchvision", "torchvision:efficientnet_b5", 64),
    ("efficientnet_v2_s_torchvision", "torchvision:efficientnet_v2_s", 64),
    ("efficientnet_v2_s_tf", "timm:tf_efficientnetv2_s", 64),
    ("mobilenet_v2_torch", "timm:mobilenetv2_100", 64),
    ("mobilenet_v3_large_torchvision", "torchvision:mobilenet_v3_large", 64),
    ("mobilenet_v3_large_timm", "timm:mobilenetv3_large_100", 64),
    ("mobilenet_v3_small_tf", "timm:tf_mobilenetv3_small_100", 64),
    ("convnext_tiny_torch", "timm:convnext_tiny", 64),
    ("inception_v3_torch", "timm:inception_v3", 96),
    ("vit_tiny_16_timm", "timm:vit_tiny_patch16_224", 64),
    ("vit_base_32_torchvision", "torchvision:vit_b_32", 64),
    ("swin_tiny_torch", "torchvision:swin_t", 224),
)
_VIT = {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
_SWIN = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
# Transformers as small as their classes allow: entry, the one it is a small one of, its config.
SMALL = {
    "vit_small_test_torchvision": ("vit_base_16_torchvision", _VIT),
    "vit_small_test_timm": ("vit_base_16_timm", _VIT),
    "swin_small_test_torch": ("swin_tiny_torch", _SWIN),
}


def small_builds() -> dict:
    """Those of SMALL as entries of `torch_builds.BUILDS`."""
    from dataclasses import replace

    from tlkeras.backbones import torch_builds

    return {name: replace(torch_builds.BUILDS[of], name=name, config=config) for name, (of, config) in SMALL.items()}


def state(shapes: dict[str, list[int]]) -> dict:
    """{name: float32 array} for these shapes, the same wherever it is made."""
    made = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("running_var"):
            value = rng.uniform(0.3, 1.5, shape)
        elif name.endswith(("layer_scale", "gamma")) or (len(shape) == 1 and name.endswith("weight")):
            value = rng.uniform(0.5, 1.3, shape)
        elif len(shape) == 1:
            value = rng.normal(0, 0.2, shape)
        else:
            value = rng.normal(0, 1 / np.sqrt(max(1, np.prod(shape[1:]))), shape)
            # Logits of ordinary size, so that an absolute difference tells something.
            value = value * (4 if re.match(r"(fc|classifier|heads?)\.", name) else 1)
        made[name] = value.astype("float32")
    return made


def pixels(side: int) -> np.ndarray:
    return np.random.default_rng(side).normal(0, 1, (2, side, side, 3)).astype("float32")


def model(spec: str, side: int):
    """The PyTorch model of a case, with CLASSES classes."""
    from tlkeras.weights import verified

    if spec == "torchvision:vit":
        from torchvision.models import VisionTransformer

        return VisionTransformer(side, 16, 2, 2, 16, 32, num_classes=CLASSES).eval()
    if spec == "timm:vit":
        from timm.models.vision_transformer import VisionTransformer

        sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
        return VisionTransformer(img_size=side, patch_size=16, num_classes=CLASSES, **sizes).eval()
    if spec == "torchvision:swin":
        from torchvision.models import SwinTransformer

        return SwinTransformer([4, 4], 8, [2, 2], [1, 2], [4, 4], num_classes=CLASSES).eval()
    if spec == "timm:swin":
        from timm.models.swin_transformer import SwinTransformer

        sizes = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
        return SwinTransformer(img_size=side, num_classes=CLASSES, **sizes).eval()
    return verified.torch_model(spec, CLASSES, side)


def compute(spec: str, side: int) -> tuple[dict, np.ndarray]:
    """({name: shape} of the floating tensors, logits) of a case, by PyTorch."""
    torch, _ = make_golden.oracle()
    theirs = model(spec, side)
    shapes = {n: list(t.shape) for n, t in theirs.state_dict().items() if t.dtype.is_floating_point}
    theirs.load_state_dict({n: torch.tensor(a) for n, a in state(shapes).items()}, strict=False)
    with torch.no_grad():
        return shapes, theirs(torch.tensor(pixels(side).transpose(0, 3, 1, 2))).numpy()


def main():
    kept = {}
    for name, spec, side in KEPT:
        shapes, logits = compute(spec, side)
        kept[f"{name} {spec}/shapes"] = json.dumps(shapes)
        kept[f"{name} {spec}/logits"] = logits
    np.savez_compressed(GOLDEN, **kept)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
