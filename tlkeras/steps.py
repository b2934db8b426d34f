"""The training step that suits the machine: how many samples at a time, in how many parts, with XLA or without."""

import math
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

LARGEST = 256
FEWEST_STEPS = 10  # updates an epoch that `batch: auto` leaves


def size(asked, model, samples: int, precision: str, length: int | None = None) -> int:
    """The batch of a config: its own, or for 'auto' the largest power of two up to 256 that memory holds and that
    leaves ten updates an epoch, but 8 at least.

    Args:
        model: what is trained, from what crosses the cut to the outputs.
        samples: in the training split.
        precision: the Keras dtype policy.
        length: tokens of the longest text; None for images.
    """
    if asked != "auto":
        return asked
    most = min(LARGEST, max(8, samples // FEWEST_STEPS), fitting(model, precision, length) or 32)
    return 2 ** int(math.log2(max(most, 1)))


def parts(batch: int, model, precision: str, length: int | None = None) -> int:
    """Into how many parts a batch is cut so that one fits into memory: 1, or a divisor of it, whose gradients are
    added up before the weights move."""
    room = fitting(model, precision, length)
    if room is None or room >= batch:
        return 1
    return next(k for k in range(1, batch + 1) if batch % k == 0 and batch // k <= max(room, 1))


def fitting(model, precision: str, length: int | None = None) -> int | None:
    """How many samples a training step can hold in half of the memory that is free; None where that is unknown."""
    free = free_memory()
    if free is None:
        return None
    return int(free / 2 // max(activation_bytes(model, 2 if "16" in precision else 4, length), 1))


def activation_bytes(model, width: int, length: int | None = None) -> int:
    """Bytes of one sample in a training step: every operation's output, kept for its gradient, and the gradient.
    An upper estimate: what is trained in place or not needed again is counted too."""
    import keras

    outputs = [x for op in model.operations for x in keras.tree.flatten(op.output)]
    # A layer of a transformer is one operation here: its heads' scores and inner states are some ten times its output.
    inside = 10 if length else 1
    return 2 * width * inside * sum(math.prod(d or length or 1 for d in x.shape[1:]) for x in outputs)


def free_memory() -> int | None:
    """Bytes that are free on the GPU that TensorFlow sees, else in this machine; None where that is unknown."""
    import tensorflow as tf

    if tf.config.get_visible_devices("GPU"):
        if not shutil.which("nvidia-smi"):
            return None
        asked = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        said = subprocess.run(asked, capture_output=True, text=True).stdout.split()
        return int(said[0]) * 2**20 if said and said[0].isdigit() else None
    about = Path("/proc/meminfo")
    if about.is_file():
        facts = dict(line.split(":", 1) for line in about.read_text().splitlines())
        return int(facts["MemAvailable"].split()[0]) * 1024
    names = os.sysconf_names if hasattr(os, "sysconf") else {}
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if "SC_PHYS_PAGES" in names else None


def xla_pays(compiled, batch, steps: int = 5) -> bool:
    """Whether a step compiled by XLA is faster, measured; the model and its optimizer are left as they were.

    Args:
        compiled: `compiled(jit) -> model`, compiled with that setting.
        batch: (x, targets, weights) of one step.
    """
    seconds = {}
    for jit in (False, True):
        model = compiled(jit)
        model.optimizer.build(model.trainable_variables)
        kept = [(v, np.array(v.numpy())) for v in (*model.variables, *model.optimizer.variables)]
        model.train_on_batch(*batch)  # pays for tracing and compiling
        began = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(*batch)
        seconds[jit] = time.perf_counter() - began
        for variable, value in kept:
            variable.assign(value)
    return seconds[True] < 0.95 * seconds[False]
