"""YOLOX: one box a cell on strides 8, 16 and 32, classes and boxes in towers of their own, no anchors.

The pyramid (PAFPN) goes down and up again by CSP stages; `nano` has depthwise convolutions. Layers are called as in
the checkpoints (Megvii-BaseDetection/YOLOX, Apache-2.0), whose padding is symmetric and whose BatchNorm has epsilon
1e-3. The loss assigns cells to boxes by SimOTA.

Source: Ge et al., YOLOX (arXiv:2107.08430).
"""

from tlkeras.backbones.csp import conv_norm, stage, unit
from tlkeras.detectors import simota
from tlkeras.detectors.retinanet import PRIOR, enlarged, fitted

# radius: how far from a box's centre a cell may be to answer for it, in cells; box_weight: of 1 - IoU squared.
OPTIONS = {"radius": 1.5, "box_weight": 5.0}


def build(features, classes: int, scale: dict):
    """The detector on three feature maps; `scale`: width, depth, depthwise."""
    from keras import layers

    from tlkeras.detectors.layers import Levels, Raw

    levels = neck(features, scale)
    width, conv = int(256 * scale["width"]), unit(scale["depthwise"])
    boxes, logits = [], []
    for k, x in enumerate(levels):
        x = conv_norm(x, width, 1, f"head_stems_{k}")
        of_classes = of_boxes = x
        for i in range(2):
            of_classes = conv(of_classes, width, 3, f"head_cls_convs_{k}_{i}")
            of_boxes = conv(of_boxes, width, 3, f"head_reg_convs_{k}_{i}")
        boxes.append(_predict(of_boxes, 4, 0.0, f"head_reg_preds_{k}"))
        found = (
            _predict(of_boxes, 1, PRIOR, f"head_obj_preds_{k}"),
            _predict(of_classes, classes, PRIOR, f"head_cls_preds_{k}"),
        )
        logits.append(layers.Concatenate(dtype="float32", name=f"head_both_{k}")(found))
    logits = Levels(1 + classes, dtype="float32", name="head_logits")(logits)
    offsets = Levels(4, dtype="float32", name="head_offsets")(boxes)
    return Raw([x.shape[1:3] for x in levels], shift=0.0, dtype="float32", name="head_raw")(offsets, logits)


def _predict(x, filters: int, bias: float, name: str):
    from keras import initializers, layers

    start = initializers.Constant(bias)
    return layers.Conv2D(filters, 1, bias_initializer=start, dtype="float32", name=name)(x)


def neck(features, scale: dict) -> list:
    """Three maps (B, h, w, c) of strides 8, 16, 32 to as many with 256, 512, 1024 x width channels."""
    from keras import layers

    fine, middle, coarse = features
    low, mid, high = (int(n * scale["width"]) for n in (256, 512, 1024))
    repeats, depthwise, conv = round(3 * scale["depth"]), scale["depthwise"], unit(scale["depthwise"])

    def csp(parts, filters, name):
        x = layers.Concatenate(name=f"neck_{name}_concat")(parts)
        return stage(x, filters, repeats, False, depthwise, f"neck_{name}")

    top = conv_norm(coarse, mid, 1, "neck_lateral_conv0")
    x = csp([enlarged(top, middle.shape[1:3], "neck_up_p4"), middle], mid, "C3_p4")
    between = conv_norm(x, low, 1, "neck_reduce_conv1")
    first = csp([enlarged(between, fine.shape[1:3], "neck_up_p3"), fine], low, "C3_p3")
    down = fitted(conv(first, low, 3, "neck_bu_conv2", 2), between.shape[1:3], "neck_bu_conv2")
    second = csp([down, between], mid, "C3_n3")
    down = fitted(conv(second, mid, 3, "neck_bu_conv1", 2), top.shape[1:3], "neck_bu_conv1")
    third = csp([down, top], high, "C3_n4")
    return [first, second, third]


def loss(y, raw, **options):
    """(B,): each image's loss by the number of cells that answer for a box in the mean image of the batch."""
    return simota.loss(y, raw, **options)
