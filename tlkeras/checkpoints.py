"""Checkpoints: what a run needs to go on as if it had never stopped.

    checkpoints/phase-1/            all weights at the start of the phase
    checkpoints/phase-1-epoch-007/  what that phase can move: weights, BatchNorm statistics, optimizer, seeds;
                                    the best weights so far; and state.json with the position

A folder appears by one rename, so that it is whole or absent; each file's SHA-256 stands in state.json and is
compared before use. Frozen weights are written once a phase, not once an epoch.
"""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tlkeras.errors import Diverged, ModelError
from tlkeras.run import Run, read_json, replacing_folder, sha256, sync, write_json


def save(run: Run, phase: int, epoch: int | None, arrays: dict[str, list[np.ndarray]], state: dict, keep: int) -> None:
    """Commits a checkpoint; `epoch` None is the start of the phase. Keeps the `keep` newest of the phase.

    Raises:
        Diverged: when an array holds something that is no number; nothing is written then.
        StorageError: when the disk refuses; older checkpoints are untouched.
    """
    for name, values in arrays.items():
        if bad := [i for i, v in enumerate(values) if v.dtype.kind == "f" and not np.isfinite(v).all()]:
            raise Diverged(
                f"Tensor {bad[0]} of the {name} holds a value that is no finite number; it is not saved. The checkpoint before is kept: tlkeras train --resume {run.folder}"
            )
    folder = run.checkpoints / (f"phase-{phase + 1}" if epoch is None else f"phase-{phase + 1}-epoch-{epoch + 1:03d}")
    with replacing_folder(folder) as temporary:

        def write(name):
            path = temporary / f"{name}.npz"
            np.savez(path, allow_pickle=False, **{f"{i:05d}": v for i, v in enumerate(arrays[name])})
            sync(path)
            return path.name, sha256(path)

        # All that takes time here, sums, hashes and the disk, lets go of the interpreter.
        with ThreadPoolExecutor() as pool:
            hashes = dict(pool.map(write, arrays))
        write_json(temporary / "state.json", {"schema": 1, "phase": phase, "epoch": epoch, "hashes": hashes, **state})
    if epoch is not None:
        for _, _, old in sorted(_epochs(run), reverse=True)[keep:]:
            shutil.rmtree(old)


def latest(run: Run):
    """The newest whole checkpoint as (state, arrays of the phase's start, arrays of the epoch or None), and a
    note for each damaged one that was passed over; (None, None, None, notes) when there is none."""
    notes: list[str] = []
    found = [*sorted(_epochs(run), reverse=True), *sorted(_starts(run), reverse=True)]
    for phase, epoch, folder in sorted(found, key=lambda f: (f[0], f[1]), reverse=True):
        try:
            state, arrays = _load(folder)
            if epoch < 0:
                return state, arrays, None, notes
            _, start = _load(run.checkpoints / f"phase-{phase + 1}")
        except ModelError as e:
            notes.append(str(e))
            continue
        return state, start, arrays, notes
    return None, None, None, notes


def of_phase(run: Run, phase: int) -> tuple[dict, list[tuple[int, dict]]]:
    """What was kept of one phase: (arrays of its start, [(epoch, arrays)], the oldest first).

    Raises:
        ModelError: when one of them is damaged.
    """
    found = sorted((epoch, folder) for number, epoch, folder in _epochs(run) if number == phase)
    start = _load(run.checkpoints / f"phase-{phase + 1}")[1] if found else {}
    return start, [(epoch, _load(folder)[1]) for epoch, folder in found]


def start(run: Run, phase: int) -> list[np.ndarray]:
    """All weights of the network at the start of a phase.

    Raises:
        ModelError: when that checkpoint is damaged or gone.
    """
    return _load(run.checkpoints / f"phase-{phase + 1}")[1]["weights"]


def _load(folder):
    state = read_json(folder / "state.json")
    arrays = {}
    for name, digest in state["hashes"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            raise ModelError(f"{path} is damaged or missing: its SHA-256 is not the one in state.json.")
        with np.load(path, allow_pickle=False) as f:
            arrays[name.removesuffix(".npz")] = [f[k] for k in sorted(f.files)]
    return state, arrays


def _epochs(run: Run):
    for folder in run.checkpoints.glob("phase-*-epoch-*") if run.checkpoints.is_dir() else ():
        if found := re.fullmatch(r"phase-(\d+)-epoch-(\d+)", folder.name):
            yield int(found[1]) - 1, int(found[2]) - 1, folder


def _starts(run: Run):
    for folder in run.checkpoints.glob("phase-*") if run.checkpoints.is_dir() else ():
        if found := re.fullmatch(r"phase-(\d+)", folder.name):
            yield int(found[1]) - 1, -1, folder
