"""What this machine computes on: the device, the precision it is good at, and what is missing for a GPU."""

import ctypes
import ctypes.util
import os
from pathlib import Path

from tlkeras.errors import MachineError


def choose(device: str, precision: str) -> tuple[str, str]:
    """Returns ('cpu' or 'gpu', Keras dtype policy) for the settings of a config; hides the GPUs for 'cpu'.

    Raises:
        MachineError: when 'gpu' is asked for and there is none; the text names what is missing.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise MachineError(f"device: gpu was asked for, and TensorFlow sees none. {missing_for_gpu()}")
    if device == "cpu" and gpus:
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if precision == "auto":
        precision = (
            _good_precision(tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)))
            if gpus
            else "float32"
        )
    return ("gpu" if gpus else "cpu"), precision


def _good_precision(capability: tuple[int, int]) -> str:
    """Tensor cores read float16 from compute capability 7.0 on and bfloat16 from 8.0 on; bfloat16 needs no loss scaling."""
    return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"


def missing_for_gpu() -> str:
    """Says why TensorFlow sees no GPU, and what to do: driver, CUDA libraries, or a CPU-only build."""
    import tensorflow as tf

    if not tf.sysconfig.get_build_info().get("is_cuda_build", False):
        return "This TensorFlow is built without CUDA. Install: pip install 'tlkeras[gpu]' (Linux)"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "The environment variable CUDA_VISIBLE_DEVICES hides every GPU. Unset it."
    if not Path("/proc/driver/nvidia/version").exists() and not _loads("libcuda.so.1"):
        return "There is no NVIDIA driver (no libcuda.so.1). Install the driver of your GPU, then: nvidia-smi"
    if absent := [name for name in ("libcudart.so.12", "libcublas.so.12", "libcudnn.so.9") if not _loads(name)]:
        return f"These libraries cannot be loaded: {', '.join(absent)}. Install: pip install 'tlkeras[gpu]'"
    return "The driver is there, but no GPU answers it. Look at: nvidia-smi"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict:
    """Cores, memory and GPUs, for doctor and the manifest."""
    import platform

    import tensorflow as tf

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    gpus = [
        tf.config.experimental.get_device_details(g).get("device_name", g.name)
        for g in tf.config.list_physical_devices("GPU")
    ]
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": cores(),
        "memory_gb": round(memory / 2**30, 1),
        "gpus": gpus,
    }
