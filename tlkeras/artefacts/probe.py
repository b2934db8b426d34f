"""Runs one artefact in a process of its own: python -m tlkeras.artefacts.probe FORMAT FOLDER IN.npz OUT.npz

A fresh process sees what a user's would, and a file that crashes its runtime takes nobody with it. IN holds
`paths` (of raw files, for a SavedModel) or `pixels` (uint8, for TFLite); OUT gets the outputs and milliseconds
for one sample at a time after a warm-up.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np


def main(form: str, folder: str, given: str, out: str) -> None:
    with np.load(given, allow_pickle=False) as f:
        data = {k: f[k] for k in f.files}
    if form == "saved_model":
        from tlkeras.artefacts import saved_model

        run = saved_model.load(Path(folder))
        samples, batch = data["paths"], 16

        def read(paths):
            return [Path(os.fsdecode(p)).read_bytes() for p in paths]
    else:
        from tlkeras.artefacts import tflite

        run = tflite.load(Path(folder))
        samples, batch = data["pixels"], 1

        def read(pixels):
            return pixels

    parts = [run(read(samples[i : i + batch])) for i in range(0, len(samples), batch)]
    times, one = [], read(samples[:1])
    for _ in range(30):
        began = time.perf_counter()
        run(one)
        times.append(1000 * (time.perf_counter() - began))
    names = [n for n in parts[0] if parts[0][n].dtype.kind == "f"]
    np.savez(out, milliseconds=np.array(times), **{f"out_{n}": np.concatenate([p[n] for p in parts]) for n in names})


if __name__ == "__main__":
    main(*sys.argv[1:])
