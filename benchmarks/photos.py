"""Photographs made on the spot, and the floors: the fastest simple ways to read them and to run a network over them."""

import importlib.util
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import measuring
import numpy as np
from PIL import Image

CLASSES, SIDE = 4, 224


def make(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> None:
    """Writes JPEGs of `size` (width, height) in class folders: about 100 kB at 640 x 480, 3 MB at 4000 x 3000.

    Pictures with a coarse texture, grain like a camera's, and a tint that tells the class; an hour old, because
    tlkeras' cache trusts no newer file. In processes of their own: the parent must stay small, see measuring.usage.
    """
    workers = measuring.cores()
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_make, *zip(*((folder, range(n, count, workers), size) for n in range(workers)), strict=True)))


def _make(folder: Path, numbers: range, size: tuple[int, int]) -> None:
    hour_ago = time.time() - 3600
    grain = np.random.default_rng(0).normal(0, 6, (*size[::-1], 1)).astype(np.float32)
    for i in numbers:
        random, c = np.random.default_rng(i), i % CLASSES
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32) * 0.7
        pixels += np.roll(grain, random.integers(0, size[::-1]), (0, 1))
        pixels[..., c % 3] += 20 * (c + 1)
        path = folder / f"class{c}" / f"{i:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        os.utime(path, (hour_ago, hour_ago))


def paths(folder) -> list[str]:
    return sorted(map(str, Path(folder).glob("*/*.jpg")))


def decode(path: str) -> np.ndarray:
    """At least 224 pixels a side: libjpeg-turbo leaves out the DCT coefficients that a smaller picture does not need."""
    import simplejpeg

    return simplejpeg.decode_jpeg(Path(path).read_bytes(), min_height=SIDE, min_width=SIDE)


def decode_and_resize(path: str) -> np.ndarray:
    """uint8 (224, 224, 3)."""
    return np.asarray(Image.fromarray(decode(path)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def by_every_core(function, values) -> list:
    """function(value) for all, one thread per core; libjpeg-turbo and Pillow let go of Python's lock."""
    with ThreadPoolExecutor(measuring.cores()) as pool:
        return list(pool.map(function, values))


def fastest_engine(features, paths: list[str], batches=(4, 8, 16, 32)) -> dict:
    """The engine that runs `features` (a tf.function of uint8 (B, 224, 224, 3)) fastest, measured on some photographs.

    Returns:
        {'engine': its name, 'batch': the best, 'images_per_s': by batch, 'forward': a function of a list of pictures}.
    """
    pictures = by_every_core(decode_and_resize, paths)
    name, engine = ("OpenVINO", _openvino) if importlib.util.find_spec("openvino") else ("TensorFlow", _tensorflow)
    start, rates = engine(features), {}
    for batch in batches:
        forward = start(batch)
        forward(pictures[: 2 * batch])  # once not counted: what is compiled and allocated when first used
        rates[batch] = len(paths) / min(_seconds(forward, pictures) for _ in range(2))
        del forward  # one at a time: for each batch size the engine holds gigabytes
    best = max(rates, key=rates.get)
    forward = start(best)
    forward(pictures[: 2 * best])
    return {
        "engine": name,
        "batch": best,
        "images_per_s": {k: round(v, 1) for k, v in rates.items()},
        "forward": forward,
    }


def _openvino(features):
    """batch -> function of a list of pictures: float32, requests side by side, the last batch filled up."""
    import openvino

    model, core = openvino.convert_model(features.get_concrete_function()), openvino.Core()
    # Without the second hint a processor that knows bfloat16 would compute in it.
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}

    def start(batch):
        model.reshape({0: [batch, SIDE, SIDE, 3]})
        queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", hints))

        def forward(pictures):
            for i in range(0, len(pictures), batch):
                some = pictures[i : i + batch]
                queue.start_async({0: np.stack(some + some[:1] * (batch - len(some)))})
            queue.wait_all()

        return forward

    return start


def _tensorflow(features):
    def run(pictures, batch):
        for i in range(0, len(pictures), batch):
            features(np.stack(pictures[i : i + batch])).numpy()

    return lambda batch: lambda pictures: run(pictures, batch)


def _seconds(function, argument) -> float:
    began = time.perf_counter()
    function(argument)
    return time.perf_counter() - began
