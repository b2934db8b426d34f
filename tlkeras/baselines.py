"""Baselines: what simple answers are worth on the samples that judge a run, so that its figure can be read.

The majority (or the mean), and k-NN and a linear probe on the features of the backbone as it was before training, from the
store of frozen features where they are there. `evaluate` keeps them in baselines.json; the report reads that file alone.
"""

import time

import numpy as np

from tlkeras import device, network, prefix, tasks
from tlkeras import metrics as m
from tlkeras import transferability as scores
from tlkeras.data import splits
from tlkeras.errors import TlkerasError
from tlkeras.plans import HEAD
from tlkeras.progress import Progress
from tlkeras.run import read_json, write_json

PATIENCE = 120.0  # seconds that computing missing features may take, where nobody asked for them
MOST_FOLDED = 4000  # training samples that choose the strength of the probe
MOST_FITTED = 20_000  # those that it is fitted to


def write(
    trained, held, rows, other, split: str, outputs, seconds: float, asked: bool | None, progress: Progress
) -> dict:
    """Works out the baselines of an evaluated split, and writes them into baselines.json of the run.

    Args:
        trained: the finished run, as evaluation.open_trained gives it.
        held: its own data; `rows` number the judged samples in `other`, which is `held` or labelled data from elsewhere.
        outputs: what the tuned network answers to each of them (n, k).
        seconds: what a sample took the tuned network, to reckon what missing features would take.
        asked: True computes features whatever it takes, None within PATIENCE.

    Returns:
        What was written for the split: {'metric', 'rows', 'gain', 'worth', 'verdict'}, or {'why'} where there is none.
    """
    began = time.monotonic()
    try:
        found = _compared(trained, held, rows, other, outputs, seconds, asked, progress)
    except TlkerasError as e:
        found = {"why": str(e).splitlines()[0]}
    found["seconds"] = round(time.monotonic() - began, 1)
    known = read_json(trained.run.baselines) if trained.run.baselines.is_file() else {"schema": 1}
    write_json(trained.run.baselines, {**known, split: found})
    return found


def forget(run, split: str) -> None:
    """Takes out what an earlier evaluation left: other data may be other data every time."""
    if run.baselines.is_file():
        write_json(run.baselines, {k: v for k, v in read_json(run.baselines).items() if k != split})


def _compared(trained, held, rows, other, outputs, seconds, asked, progress) -> dict:
    metric, higher = trained.task.MAIN(trained.answer)
    kind, threshold = scores.kind(trained.answer), trained.answer.get("threshold", 0.5)
    mine = held.rows("train")
    Y, truth = held.targets[mine], other.targets[rows]
    given = {"majority": scores.majority(Y, len(rows))}
    reason = _features(trained, held, mine, other, rows, seconds, asked, progress, Y, kind, given)
    given["tuned"] = np.asarray(outputs, float)
    rival = "probe" if "probe" in given else "majority"

    def again(chosen):
        said = {name: scores.measure(metric, truth[chosen], out[chosen], threshold) for name, out in given.items()}
        return said | {"gain": (said["tuned"] - said[rival]) * (1 if higher else -1)}

    between, values = (
        m.bootstrap(again, len(rows), times=1000 if len(rows) <= 20_000 else 200),
        again(np.arange(len(rows))),
    )
    low, high = between["gain"]
    worth = "yes" if low > 0 else "no" if high < 0 else "unclear"
    found = {
        "metric": metric,
        "n": len(rows),
        "trained_on": len(mine),
        "rows": [{"name": name, "value": values[name], "interval": between[name]} for name in given],
        "rival": rival,
        "gain": {"value": values["gain"], "interval": between["gain"]},
        "worth": worth,
        "head_only": _head_only(trained),
        "random": trained.config.backbone.weights is None,
    }
    return found | ({"why": reason} if reason else {}) | {"verdict": verdict(found)}


def _features(trained, held, mine, other, rows, seconds, asked, progress, Y, kind: str, given: dict) -> str | None:
    """Adds what k-NN and the probe answer to `given`; or the reason why they are left out."""
    try:
        net = _untouched(trained)
        train, val = (held.table(r, reader=net.reader) for r in (mine, held.rows("val")))
        more = other.table(rows, reader=net.reader)
        job = prefix.head_job(trained.config, net, train, val, more)
        wait = seconds * prefix.missing(job)
        if asked is None and wait > PATIENCE:
            return f"computing the frozen features of {prefix.missing(job):,} samples would take about {wait / 60:.0f} minutes; tlkeras evaluate RUN --baselines computes them"
        found = prefix.vectors(job, progress, beside=len(more))
    except TlkerasError as e:
        return str(e).splitlines()[0]
    X, Z = found.train, found.more
    few = np.sort(np.random.default_rng(0).permutation(len(X))[:MOST_FOLDED])
    strata = trained.task.strata(Y[few], trained.answer)
    units = splits.together([held.hashes[mine[i]] for i in few], [held.groups[mine[i]] for i in few])
    middle = X.mean(0)
    given["knn"] = scores.neighbours(X - middle, Y, Z - middle)
    if len(set(units)) < 2:
        return "a probe needs at least two different training samples"
    _, strength = scores.probe(X[few], Y[few], scores.folds(units, strata), kind)
    most = np.random.default_rng(0).permutation(len(X))[:MOST_FITTED]
    given["probe"] = scores.fitted(X[most], Y[most], kind, strength)(Z)
    return None


def _untouched(trained):
    """The network of a run as it was before training: its own where the backbone did not move, else built again."""
    import keras

    if _head_only(trained) and not trained.config.backbone.lora:
        return trained.network
    cfg = network.plain(trained.config)
    keras.utils.set_random_seed(cfg.train.seed)  # random weights are those that training began with
    _, precision = device.choose(cfg.train.device, cfg.train.precision)
    return network.build(cfg, trained.answer, precision, offline=True)


def _head_only(trained) -> bool:
    """Whether no phase trained a block of the backbone, by the plan."""
    rows = read_json(trained.run.plan).get("blocks", [])
    return bool(rows) and all(row["block"] == HEAD for row in rows if row["trained"])


def possible(trained, split: str) -> bool:
    """Whether an evaluation can be held against baselines: tasks of one answer a sample, on samples not trained on."""
    return tasks.plain(trained.config.task_name) and split != "train"


NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "rmse": "RMSE"}


def verdict(found: dict) -> str:
    """The sentence that says whether tuning was worth it."""
    gain, (low, high) = found["gain"]["value"], found["gain"]["interval"]
    metric, show = NAMES[found["metric"]], _points if found["metric"] == "accuracy" else _plain
    unit = " points" if found["metric"] == "accuracy" else ""
    whose = "backbone with random weights" if found["random"] else "pretrained backbone"
    rival = f"a linear probe on the {whose}" if found["rival"] == "probe" else "the same answer to everything"
    what = "Training the head step by step" if found["head_only"] else "Tuning"
    better = "higher" if (gain >= 0) == (found["metric"] != "rmse") else "lower"
    figures = (
        f"{metric} is {show(abs(gain))}{unit} {better} than with {rival}" if gain else f"{metric} is that of {rival}"
    )
    sure = f"with 95 % confidence the gain lies between {show(low)} and {show(high)}{unit}"
    if low == high == 0:
        return f"{what} was not shown to be worth it: {figures}, and no choice of the samples would tell them apart."
    if found["worth"] == "unclear":
        return f"{what} was not shown to be worth it: {figures}, and {sure}."
    return f"{what} was {'' if found['worth'] == 'yes' else 'not '}worth it: {figures}; {sure}."


def _points(value: float) -> str:
    return f"{100 * value + 0.0:.1f}"


def _plain(value: float) -> str:
    return f"{value:.3g}"


LABELS = {"majority": "majority", "knn": "k-NN", "probe": "linear probe", "tuned": "this model"}


def text(found: dict) -> str:
    """The baselines of a split for people."""
    if "rows" not in found:
        return f"Baselines: none, {found['why']}"
    lines = [f"Baselines, by {found['metric']}:"]
    for row in found["rows"]:
        name = "mean" if row["name"] == "majority" and found["metric"] == "rmse" else LABELS[row["name"]]
        low, high = row["interval"]
        lines.append(f"  {name:<18} {row['value']:.4f}   95 % interval {low:.4f} .. {high:.4f}")
    if why := found.get("why"):
        lines.append(f"  No k-NN and no probe: {why}.")
    return "\n".join([*lines, found["verdict"]])
