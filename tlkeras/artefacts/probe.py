"""Runs one artefact in a process of its own: python -m tlkeras.artefacts.probe FORMAT FOLDER IN OUT.npz

A fresh process sees what a user's would, and a file that crashes its runtime takes nobody with it. IN is JSON:
{"paths": [...]} of image or WAV files as hex, or {"texts": [[...], ...]}; or an .npz of the inputs by name. OUT gets the outputs and milliseconds for one sample at a time after a warm-up.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np


def main(form: str, folder: str, given: str, out: str) -> None:
    if form == "saved_model":
        from tlkeras.artefacts import saved_model

        run = saved_model.load(Path(folder))
    else:
        from tlkeras.artefacts import tflite

        run = tflite.load(Path(folder))
    if given.endswith(".json"):
        asked = json.loads(Path(given).read_text("ascii"))
        samples = asked.get("texts") or [bytes.fromhex(p).decode("utf8", "surrogateescape") for p in asked["paths"]]
        count, batch = len(samples), 16

        def part(start, stop):
            chosen = samples[start:stop]
            return chosen if "texts" in asked else [Path(p).read_bytes() for p in chosen]
    else:
        with np.load(given, allow_pickle=False) as f:
            arrays = {k: f[k] for k in f.files}
        count, batch = len(next(iter(arrays.values()))), 1

        def part(start, stop):
            return {name: x[start:stop] for name, x in arrays.items()}

    parts = [run(part(i, i + batch)) for i in range(0, count, batch)]
    times, one = [], part(0, 1)
    for _ in range(30):
        began = time.perf_counter()
        run(one)
        times.append(1000 * (time.perf_counter() - began))
    found = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
    for name in ("greedy", "text"):  # bytes of any length, which an .npz holds as letters
        if name in found:
            found[name] = np.array([t.decode("utf8", "replace") for t in found[name]])
    kept = {f"out_{n}": x for n, x in found.items() if x.dtype.kind in "fuiU"}
    np.savez(out, milliseconds=np.array(times), **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
