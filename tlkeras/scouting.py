"""Scout: which backbone suits the data, before any is trained.

Each candidate passes over the training samples once, through the store of frozen features, and is judged by what simple
methods make of these: no test sample is looked at. A later `train` of the head finds the same features stored.
"""

import gc
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import artefacts, candidates, configure, data, device, network, prefix, tasks, weights
from tlkeras import backbones as catalogue
from tlkeras import metrics as m
from tlkeras import transferability as scores
from tlkeras.artefacts import bench, tflite
from tlkeras.backbones.flops import flops
from tlkeras.candidates import Candidate
from tlkeras.config import Config
from tlkeras.data import sounds, splits, texts
from tlkeras.errors import GateError, MachineError, ModelError, UsageError, listed
from tlkeras.evaluation import Trained
from tlkeras.progress import Progress, quiet_descriptor
from tlkeras.reports import pareto
from tlkeras.run import Run, storage, write_json, write_text

MOST = 4000  # training samples that candidates are judged by
RUNS = 20  # of the TFLite file, to time it
METRICS = {"one": "accuracy", "several": "macro_f1", "values": "r2"}


@dataclass(frozen=True)
class _Bench:
    """What all candidates are judged by: the data as it was split, the training rows that count, and their folds."""

    held: Any
    targets: np.ndarray
    weights: np.ndarray
    answer: dict
    rows: np.ndarray
    judged: np.ndarray
    folds: np.ndarray
    kind: str

    @property
    def Y(self) -> np.ndarray:
        return self.held.targets[self.rows[self.judged]]


def scout(path, backbones=(), sets=(), offline: bool = False, latency: bool = True, quiet: bool = False) -> dict:
    """Compares backbones for the data of a config, and writes saved_models/NAME-scout with scout.json and pareto.svg.

    Args:
        backbones: 'NAME', 'NAME=WEIGHTS' or 'NAME@SIZE'. Empty: that of the config, and all that suit its task and whose
            weights are on this machine.
        sets: overrides of the config.
        offline: touch no network; a candidate whose weights are missing is left out.
        latency: convert each candidate to TFLite and time it.

    Returns:
        What was written into scout.json.

    Raises:
        UsageError: when the task is none of one answer a sample, or no candidate could be judged.
        DataError: see tlkeras.data.
    """
    progress = Progress(quiet)
    cfg, _ = configure.load(path, sets)
    if not tasks.plain(cfg.task_name):
        able = [name for name in tasks.TASKS if tasks.plain(name)]
        raise UsageError(
            f"scout judges features by one answer a sample, and {cfg.task_name} has others. It can: {', '.join(able)}."
        )
    cfg = network.plain(cfg)
    left: dict[str, str] = {}
    if backbones:
        chosen = [candidates.named(text, cfg) for text in dict.fromkeys(backbones)]
    else:
        chosen, left = candidates.usual(cfg)
    _, precision = device.choose(cfg.train.device, cfg.train.precision)
    shared = _prepared(cfg, offline, progress)
    progress.line(
        f"data      {shared.held.summary()}; judged by {len(shared.judged)} training samples, in {shared.folds.max() + 1} parts"
    )
    rows, outputs = [], {}
    for candidate in chosen:
        try:
            row, outputs[candidate.label] = _judged(cfg, candidate, shared, precision, offline, latency, progress)
        except (MachineError, ModelError, UsageError) as e:
            left[candidate.label] = str(e).splitlines()[0]
            progress.line(f"left out  {candidate.label}: {left[candidate.label]}")
            continue
        rows.append(row)
        gc.collect()  # the network of the one before is not needed beside the next
    if not rows:
        raise UsageError(listed("No candidate could be judged", [f"{name}: {why}" for name, why in left.items()]))
    found = {
        "schema": 1,
        "name": cfg.name,
        "task": cfg.task,
        "metric": METRICS[shared.kind],
        "data": {
            "path": cfg.data.path or cfg.data.tfds,
            "sha256": shared.held.facts()["sha256"],
            "judged": len(shared.judged),
        },
        "machine": device.describe(),
        "made": round(time.time()),
        **_ranked(rows, outputs, shared),
        "left_out": [{"name": name, "why": why} for name, why in left.items()],
    }
    with storage(place := candidates.folder(cfg)):
        place.mkdir(parents=True, exist_ok=True)
    write_json(place / "scout.json", found)
    write_text(place / "pareto.svg", pareto.picture(found))
    return found | {"folder": str(place)}


def _prepared(cfg: Config, offline: bool, progress: Progress) -> _Bench:
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    held = data.collect(cfg.data, task, options, progress, offline=offline, texts=tasks.wanted(cfg.task_name))
    rows = held.rows("train")
    targets, weight, answer = task.learnt(held.targets, rows, held.answer, options)
    judged = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST])
    mine = rows[judged]
    strata = task.strata(held.targets[mine], held.answer)
    units = splits.together([held.hashes[i] for i in mine], [held.groups[i] for i in mine])
    if len(set(units)) < 2:
        raise UsageError(f"scout needs at least two different training samples; there is {len(set(units))}.")
    return _Bench(held, targets, weight, answer, rows, judged, scores.folds(units, strata), scores.kind(answer))


def _judged(
    cfg: Config, one: Candidate, shared: _Bench, precision: str, offline: bool, latency: bool, progress: Progress
):
    """The row of one candidate, and the outputs of its probe for each judged sample."""
    import keras

    began = time.monotonic()
    cfg = cfg.model_copy(update={"backbone": one.backbone})
    keras.utils.set_random_seed(cfg.train.seed)  # random weights are those that `train` would begin with
    try:
        net = network.build(cfg, shared.answer, precision, offline=offline)
    except ValueError as e:  # of Keras: an input too small for so many strides
        raise ModelError(f"it cannot be built for these settings: {str(e).splitlines()[0]}") from e
    train, val = (
        shared.held.table(r, shared.targets, shared.weights, net.reader) for r in (shared.rows, shared.held.rows("val"))
    )
    found = prefix.vectors(prefix.head_job(cfg, net, train, val), progress)
    X, Y, metric = found.train[shared.judged], shared.Y, METRICS[shared.kind]
    out, strength = scores.probe(X, Y, shared.folds, shared.kind)
    near = scores.out_of_fold(X, Y, shared.folds, _nearest)
    said = scores.measure(metric, Y, out, shared.answer.get("threshold", 0.5))
    notes: dict[str, str] = {}
    row = {
        "name": one.label,
        "backbone": one.backbone.model_dump(mode="json"),
        "weights": net.backbone["weights"] or "random",
        "licence": net.backbone["licence"] if net.backbone["weights"] else None,
        "takes": net.takes,
        "probe": said,
        "strength": strength,
        "knn": scores.measure(metric, Y, near, shared.answer.get("threshold", 0.5)),
        "logme": scores.logme(X, _unit_variance(Y, shared.kind)),
        "leep": _leep(one, net, X, Y, shared.kind, notes),
        "features": X.shape[1],
        "computed": found.computed,
        "parameters": sum(net.parameters(block) for block in net.blocks if block != "head"),
    }
    length = _length(net, train)
    row["flops"] = _counted(net, length, notes)
    row |= (
        _timed(cfg, net, shared.answer, precision, length, notes) if latency else {"milliseconds": None, "bytes": None}
    )
    row |= {"seconds": round(time.monotonic() - began, 1), "notes": notes}
    stored = "found stored" if not found.computed else f"{found.computed} rows computed"
    progress.line(f"scouted   {one.label}: {metric} {said:.3f} by a linear probe, {row['seconds']:.0f} s, {stored}")
    return row, out


def _nearest(X, Y, Z):
    middle = X.mean(0)
    return scores.neighbours(X - middle, Y, Z - middle)


def _unit_variance(Y, kind: str):
    """Values around 0 with a variance of 1, so that their unit does not enter LogME; classes as they are."""
    return (Y - Y.mean(0)) / np.maximum(Y.std(0), 1e-12) if kind == "values" else Y


def _leep(one: Candidate, net, X, Y, kind: str, notes: dict) -> float | None:
    """LEEP where the weights bring the classifier of the classes they were trained on."""
    if kind != "one" or net.kind != "image" or one.backbone.pool not in (None, "avg"):
        notes["leep"] = "it is for images of one class each, under pooled features"
        return None
    entry = catalogue.catalogue().get(one.backbone.name)
    source = entry.sources.get(net.backbone["weights"] or "") if entry else None
    if entry is None or source is None or not source.classes:
        notes["leep"] = "these weights bring no classifier"
        return None
    try:
        kernel, bias = weights.classifier(entry)
    except (ModelError, MachineError) as e:
        notes["leep"] = str(e)
        return None
    return scores.leep(scores.softmax(X @ kernel + bias), Y)


def _length(net, table) -> int | None:
    """Tokens or samples of sound of the longest training sample, for which operations are counted and time is taken."""
    if net.kind == "image":
        return None
    padded = texts.padded if net.kind == "text" else sounds.padded
    return int(padded(table, net.input).max())


def _counted(net, length: int | None, notes: dict) -> int | None:
    """Operations of one sample."""
    import keras

    try:
        if length is None or len(net.model.inputs) == 1 and None not in net.model.inputs[0].shape[1:]:
            return flops(net.model)
        sized = {
            x.name: keras.Input([length if d is None else d for d in x.shape[1:]], name=x.name, dtype=x.dtype)
            for x in net.model.inputs
        }
        given = sized if isinstance(net.model.input, dict) else next(iter(sized.values()))
        return flops(keras.Model(given, net.model(given), name=net.model.name))
    except ModelError as e:
        notes["flops"] = str(e)
        return None


def _timed(cfg: Config, net, answer: dict, precision: str, length: int | None, notes: dict) -> dict:
    """Milliseconds of one sample, the median, and bytes of the float32 TFLite file of the network with an untrained head."""
    if precision != "float32":
        net = network.build(cfg, answer, offline=True)
    trained = Trained(Run(cfg.name), cfg, tasks.get(cfg.task_name), tasks.options_of(cfg), answer, net)
    try:
        with tempfile.TemporaryDirectory() as folder, quiet_descriptor():
            tflite.write(trained, artefacts.contract(trained, "tflite", length), Path(folder))
            found = bench.bench(folder, RUNS)
            size = (Path(folder) / tflite.FILE).stat().st_size
    except (GateError, MachineError) as e:
        notes["milliseconds"] = str(e).splitlines()[0]
        return {"milliseconds": None, "bytes": None}
    return {"milliseconds": found["milliseconds"]["median"], "bytes": size}


def _ranked(rows: list[dict], outputs: dict, shared: _Bench) -> dict:
    """The rows by their probe, best first, with intervals, what chance may explain, and the Pareto front."""
    Y, metric, threshold = shared.Y, METRICS[shared.kind], shared.answer.get("threshold", 0.5)
    rows = sorted(rows, key=lambda r: (-r["probe"], -r["logme"]))
    best = rows[0]["name"]

    def again(chosen):
        said = {name: scores.measure(metric, Y[chosen], out[chosen], threshold) for name, out in outputs.items()}
        return said | {f"{name} behind": said[best] - said[name] for name in said}

    between = m.bootstrap(again, len(Y), times=500)
    cost = next((c for c in ("milliseconds", "flops") if all(r[c] is not None for r in rows)), "parameters")
    for row in rows:
        row["interval"] = between[row["name"]]
        row["behind"] = between[f"{row['name']} behind"]
        row["like_best"] = row["behind"][0] <= 0
        row["front"] = not any(
            o["probe"] >= row["probe"] and o[cost] <= row[cost] and (o["probe"], o[cost]) != (row["probe"], row[cost])
            for o in rows
        )
    return {"best": best, "cost": cost, "verdict": _verdict(rows, cost), "candidates": rows}


def _verdict(rows: list[dict], cost: str) -> str:
    best, like = rows[0], [r for r in rows[1:] if r["like_best"]]
    if len(rows) == 1:
        return f"{best['name']} is the only candidate."
    if not like:
        return f"{best['name']} is best, by more than chance explains."
    cheap = min(like, key=lambda r: r[cost])
    said = f"{best['name']} is best; these samples do not tell it from {', '.join(r['name'] for r in like)}"
    which = "which" if len(like) == 1 else f"of which {cheap['name']}"
    if cheap[cost] and cheap[cost] < best[cost] / 1.2:
        said += f", {which} takes {best[cost] / cheap[cost]:.1f} times less {COSTS[cost]}"
    return f"{said}."


COSTS = {"milliseconds": "time", "flops": "operations", "parameters": "parameters"}


def text(found: dict) -> str:
    """A scout as a table for people, best first; * marks the Pareto front."""
    wide = max(len("backbone"), *(len(r["name"]) for r in found["candidates"])) + 2
    lines = [
        f"{'backbone':<{wide}} {found['metric']:>9} {'95 % interval':>16} {'k-NN':>6} {'LogME':>7} {'LEEP':>7} "
        f"{'parameters':>12} {'GFLOPs':>7} {'ms':>7} {'MB':>7}  licence of the weights"
    ]
    for r in found["candidates"]:
        low, high = r["interval"]
        lines.append(
            f"{r['name'] + ('*' if r['front'] else ''):<{wide}} {r['probe']:>9.3f} {f'{low:.3f} .. {high:.3f}':>16} {r['knn']:>6.3f} {r['logme']:>7.3f} "
            f"{_or_none(r['leep'], '.3f'):>7} {r['parameters']:>12,} {_or_none(r['flops'] and r['flops'] / 1e9, '.3f'):>7} "
            f"{_or_none(r['milliseconds'], '.1f'):>7} {_or_none(r['bytes'] and r['bytes'] / 1e6, '.2f'):>7}  {r['licence'] or 'random weights'}"
        )
    longest = "" if tasks.kind(found["task"]["name"]) == "image" else ", as long as the longest,"
    lines += [
        f"{found['metric']} of a linear probe and k-NN in cross-validation on {found['data']['judged']} training samples; ms: one sample{longest} in TFLite, "
        f"float32, median of {RUNS}. * no other is both as good and as cheap in {COSTS[found['cost']]}.",
        found["verdict"],
    ]
    notes = sorted(
        {f"{r['name']}: {k}: {v}" for r in found["candidates"] for k, v in r["notes"].items() if k != "leep"}
    )
    lines += [f"Not measured: {note}" for note in notes]
    lines += _reasons("No LEEP", [(r["name"], r["notes"]["leep"]) for r in found["candidates"] if "leep" in r["notes"]])
    lines += _reasons("Left out", [(left["name"], left["why"]) for left in found["left_out"]])
    return "\n".join([*lines, f"Written to {found['folder']}"])


def _reasons(what: str, named: list[tuple[str, str]]) -> list[str]:
    """A line for each reason, with whom it concerns."""
    of: dict[str, list[str]] = {}
    for name, why in named:
        of.setdefault(why, []).append(name)
    shown = {
        why: ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for why, names in of.items()
    }
    return [f"{what}: {names}: {why}.".replace("..", ".") for why, names in shown.items()]


def _or_none(value, form: str) -> str:
    return "-" if value is None else format(value, form)
