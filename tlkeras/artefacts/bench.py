"""Latency and size of one artefact on this machine."""

import json
import time
from pathlib import Path

import numpy as np

from tlkeras.artefacts import metadata, saved_model, tflite
from tlkeras.errors import UsageError


def bench(artefact, runs: int = 100, threads: int | None = None) -> dict:
    """Times an artefact's folder, or a .tflite file, on one sample at a time.

    Returns:
        {'format', 'bytes', 'runs', 'threads', 'milliseconds': {'median', 'p95', 'min'}}; `threads` None: the runtime's choice.

    Raises:
        UsageError: when the path is no artefact.
    """
    path = Path(artefact)
    folder = path.parent if path.suffix == ".tflite" else path
    rng = np.random.default_rng(0)
    sample: list | dict
    if (folder / tflite.FILE).is_file():
        contract, _ = metadata.read((folder / tflite.FILE).read_bytes())
        run = tflite.load(folder, threads)
        sample = _arrays(contract["input"], rng)
    elif (folder / saved_model.VERSION / "saved_model.pb").is_file():
        import tensorflow as tf

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        contract = json.loads((folder / "contract.json").read_text("utf8"))
        run = saved_model.load(folder)
        columns = contract["input"].get("columns")
        sample = (
            [_wav(contract["input"], rng)]
            if contract["input"]["kind"] == "audio"
            else [("a few words of text " * 6,) * len(columns)]
            if columns
            else [tf.io.encode_jpeg(rng.integers(0, 256, (480, 640, 3)).astype(np.uint8)).numpy()]
        )
    else:
        raise UsageError(
            f"{artefact} is no artefact: expected a folder with {tflite.FILE} or {saved_model.VERSION}/saved_model.pb. Make one with: tlkeras export RUN"
        )
    for _ in range(3):
        run(sample)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run(sample)
        times.append(1000 * (time.perf_counter() - began))
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    figures = {"median": float(np.median(times)), "p95": float(np.percentile(times, 95)), "min": float(np.min(times))}
    return {"format": contract["format"], "bytes": size, "runs": runs, "threads": threads, "milliseconds": figures}


def _arrays(takes: dict, rng) -> dict:
    if takes["kind"] == "audio":
        found = {"samples": rng.uniform(-1, 1, (1, takes["length"])).astype(np.float32)}
        return found | ({"count": np.array([takes["length"]], np.int32)} if "count" in takes["tensors"] else {})
    if takes["kind"] == "text":
        return {name: np.ones((1, takes["length"]), np.int32) for name in takes["tensors"]}
    return {"pixels": rng.integers(0, 256, (1, *takes["size"], 3)).astype(np.uint8)}


def _wav(takes: dict, rng) -> bytes:
    """A WAV file of at most four seconds of noise."""
    import tensorflow as tf

    noise = rng.uniform(-1, 1, (min(takes["length"], 4 * takes["rate"]), 1)).astype(np.float32)
    return tf.audio.encode_wav(noise, takes["rate"]).numpy()


def text(found: dict) -> str:
    ms = found["milliseconds"]
    return f"{found['format']}: {found['bytes'] / 1e6:.2f} MB; one sample: median {ms['median']:.1f} ms, 95 % within {ms['p95']:.1f} ms, fastest {ms['min']:.1f} ms ({found['runs']} runs)"
