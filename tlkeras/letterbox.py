"""Which networks see letterboxed pictures, with what beside them, and how their answers say so.

The geometry stands in data/images.py for the graph, and in detectors/decode_client.py for who has NumPy alone.
"""

from tlkeras import tasks
from tlkeras.backbones import Pixels

GREY = 114.0  # where the backbone was trained on none


def way(config, pixels: Pixels, weights: str | None) -> str:
    """'squash', 'crop' or 'letterbox': what a config says, or what suits a detector's weights."""
    learnt = config.task_name == "object-detection" and pixels.pad is not None and weights is not None
    return config.backbone.resize or ("letterbox" if learnt else "squash")


def colour(config, pixels: Pixels) -> tuple[float, float, float]:
    """What lies beside letterboxed pictures, RGB in 0..255."""
    asked = config.backbone.pad
    if asked is None:
        return pixels.pad or (GREY, GREY, GREY)
    return (float(asked),) * 3


def told(answer: dict, takes: Pixels) -> dict:
    """What outputs mean (a task's `answer`), with the size of the letterbox that boxes and masks lie in, if any."""
    if takes.pad is None:
        return answer
    own = {"letterbox": list(takes.size)}
    if "tasks" not in answer:
        return answer | own
    parts = {
        m: one | {"answer": one["answer"] | own} if tasks.annotations(one["task"]) else one
        for m, one in answer["tasks"].items()
    }
    return answer | {"tasks": parts}
