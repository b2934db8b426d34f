"""How large neck and head are, by name: plain data."""

from tlkeras.errors import UsageError, nearest

# The first of each is the default. Of retinanet the paper's is `large`; `medium` suits small data and CPUs.
# width: channels, for yolox as a multiple of 256, 512, 1024; depth: convolutions of the head's towers, for yolox how
# often the bottlenecks repeat, as a multiple of 3; cells: of the BiFPN; weighted: its sums learn their weights;
# anchor: size of the smallest anchor in cells.
SCALES = {
    "retinanet": {
        "medium": {"width": 128, "depth": 3, "anchor": 4.0},
        "small": {"width": 64, "depth": 2, "anchor": 4.0},
        "large": {"width": 256, "depth": 4, "anchor": 4.0},
    },
    "efficientdet": {
        name: {"width": width, "cells": cells, "depth": depth, "weighted": weighted, "anchor": anchor}
        for name, width, cells, depth, weighted, anchor in (
            ("d0", 64, 3, 3, True, 4.0),
            ("d1", 88, 4, 3, True, 4.0),
            ("d2", 112, 5, 3, True, 4.0),
            ("d3", 160, 6, 4, True, 4.0),
            ("d4", 224, 7, 4, True, 4.0),
            ("d5", 288, 7, 4, True, 4.0),
            ("d6", 384, 8, 5, False, 4.0),
            ("d7", 384, 8, 5, False, 5.0),
        )
    },
    "yolox": {
        name: {"width": width, "depth": depth, "depthwise": name == "nano"}
        for name, width, depth in (
            ("s", 0.5, 0.33),
            ("nano", 0.25, 0.33),
            ("tiny", 0.375, 0.33),
            ("m", 0.75, 0.67),
            ("l", 1.0, 1.0),
            ("x", 1.25, 1.33),
        )
    },
}


def scale_of(kind: str, scale) -> dict:
    """The numbers of a scale given by name, as a dict that changes some of the default's, or None for the default.

    Raises:
        UsageError: when there is no such name or number.
    """
    known = SCALES[kind]
    default = next(iter(known.values()))
    if scale is None:
        return dict(default)
    if isinstance(scale, dict):
        if strange := sorted(scale.keys() - default.keys()):
            raise UsageError(
                f"A scale of {kind} has no {strange[0]!r}.{nearest(strange[0], default)} It has: {', '.join(default)}."
            )
        return {**default, **scale}
    if scale not in known:
        raise UsageError(f"{kind} has no scale {scale!r}.{nearest(scale, known)} It has: {', '.join(known)}.")
    return dict(known[scale])
