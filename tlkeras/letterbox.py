"""Which networks see letterboxed pictures, with what beside them, and how their answers say so.

The geometry stands in data/images.py for the graph, and in detectors/decode_client.py for who has NumPy alone.
"""

from collections.abc import Callable
from dataclasses import replace

from tlkeras import tasks
from tlkeras.backbones import Pixels

GREY = 114.0  # where the backbone was trained on none


def taken(config, pixels: Pixels) -> Pixels:
    """A backbone's contract with the way of resizing that a config asks for, or that suits a detector's weights."""
    asked, weights = config.backbone, config.backbone.weights
    learnt = config.task_name == "object-detection" and pixels.pad is not None and weights is not None
    how = asked.resize or ("letterbox" if learnt else "squash")
    colour = pixels.pad or (GREY,) * 3 if asked.pad is None else (float(asked.pad),) * 3
    crop = (pixels.crop or 1.0) if how == "crop" else None
    return replace(pixels, crop=crop, pad=colour if how == "letterbox" else None)


def told(config, answer: dict, contract: Callable[[], Pixels]) -> dict:
    """What outputs mean (a task's `answer`), with the size of the letterbox that boxes and masks lie in, if any; `contract`
    is asked only where there are such."""
    if not tasks.annotations(config.task_name, tasks.options_of(config)) or (takes := contract()).pad is None:
        return answer
    own = {"letterbox": list(takes.size)}
    if "tasks" not in answer:
        return answer | own
    parts = {
        m: one | {"answer": one["answer"] | own} if tasks.annotations(one["task"]) else one
        for m, one in answer["tasks"].items()
    }
    return answer | {"tasks": parts}
