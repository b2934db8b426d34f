"""Before and after: the score on the source, that on the target where labels are known, and the proxy A-distance."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras import checkpoints
from tlkeras.adaptation import distance, layer
from tlkeras.config import Adapt, Config
from tlkeras.data import Held, pipeline, texts
from tlkeras.prefix import streams
from tlkeras.run import Run, read_json, write_json


@dataclass(frozen=True)
class Adaptation:
    """A run that adapts: what it has of the source (`held`) and of the target, of which the samples `known` have a label
    that is for the score alone. Phases from number `first` on adapt."""

    cfg: Config
    run: Run
    net: Any
    task: Any
    options: Any
    answer: dict
    held: Held
    target: Held
    known: np.ndarray
    first: int
    progress: Any

    @property
    def asked(self) -> Adapt:
        assert self.cfg.adapt is not None
        return self.cfg.adapt

    def table(self, rows=None, targets=None, weights=None):
        """Samples of the target as a pipeline reads them; with zeros for targets, whatever is known, where none are given."""
        rows = np.arange(len(self.target.ids)) if rows is None else rows
        targets = np.zeros_like(self.target.targets) if targets is None else targets
        return self.target.table(rows, targets, weights, self.net.reader)


def about(target: Held, known) -> dict:
    """What tells one target from another: counts, and a hash over the content, not the labels."""
    digest = hashlib.sha256("\n".join(target.hashes).encode()).hexdigest()
    return {"samples": len(target.ids), "labelled": len(known), "sha256": digest}


def passed(a: Adaptation, net, table) -> tuple[np.ndarray, np.ndarray]:
    """(features (n, d), finished outputs (n, k)) of the samples of a table, each the mean over the rows that a sample fills."""
    import tensorflow as tf

    def inside(outputs):
        features, raw = outputs
        flat = tf.reshape(tf.cast(features, "float32"), [tf.shape(features)[0], -1])
        return flat, a.task.finish(raw, a.answer)

    kind = pipeline.of(table)
    batch = texts.rows_at_a_time(len(table)) if net.kind == "text" else None
    stream = streams.open_stream(layer.tapped(net.model), "uint8" if net.kind == "image" else None, inside, batch)
    order = [i for i, _ in kind.arranged(table, net.input, [(i, 0) for i in range(len(table))])]
    parts = list(stream.run(kind.views(table, net.input, [(i, 0) for i in order], stream.batch, 0)))
    back = np.argsort(order, kind="stable")
    features, outputs = (np.concatenate([p[k] for p in parts])[back] for k in (0, 1))
    owners = getattr(table, "owners", np.arange(len(table)))
    counts = np.bincount(owners).astype("float32")[:, None]

    def mean(x):
        total = np.zeros((len(counts), x.shape[1]), "float32")
        np.add.at(total, owners, x)
        return total / counts

    return mean(features), mean(outputs)


def measured(a: Adaptation, net) -> dict:
    """{'source', 'target': a score or None, 'a_distance'} of a network as it is now."""
    split = next(s for s in ("test", "val", "train") if len(a.held.rows(s)))
    source = _some(len(a.held.ids), a.held.rows(split))
    features, outputs = passed(a, net, a.held.table(source, reader=net.reader))
    place = {int(row): n for n, row in enumerate(source)}
    judged = a.held.rows(split)
    scored = score(a, a.held.targets[judged], outputs[[place[int(r)] for r in judged]])
    others, answers = passed(a, net, a.target.table(np.arange(len(a.target.ids)), reader=net.reader))
    return {
        "source": {"split": split, **scored},
        "target": score(a, a.target.targets[a.known], answers[a.known]) if len(a.known) else None,
        "a_distance": round(distance.a_distance(features, others, a.cfg.train.seed), 4),
    }


def _some(n: int, needed) -> np.ndarray:
    """Numbers of the samples of the source that are looked at: those needed, and others up to what the distance takes."""
    others = np.setdiff1d(np.random.default_rng(0).permutation(n)[: distance.MOST], needed)
    return np.sort(np.concatenate([needed, others])).astype(int)


def score(a: Adaptation, targets, outputs) -> dict:
    """{'metric', 'value', 'interval', 'n', and the other metrics} of outputs, as `evaluate` counts them."""
    metric, _ = a.task.MAIN(a.answer)
    found = a.task.score(a.task.columns(targets, outputs, a.answer), a.answer)
    return {
        "metric": metric,
        "value": found["metrics"][metric],
        "interval": found["intervals"].get(metric),
        "n": found["n"],
        "metrics": found["metrics"],
    }


def at_start(a: Adaptation) -> dict:
    """What is measured with the weights that the first phase that adapts began with; those of now come back."""
    variables = a.net.model.variables
    now = [v.numpy() for v in variables]
    try:
        _assign(variables, checkpoints.start(a.run, a.first))
        return measured(a, a.net)
    finally:
        _assign(variables, now)


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def write(a: Adaptation, before: dict, after: dict) -> None:
    write_json(a.run.adapt, {**read_json(a.run.adapt), "before": before, "after": after})


def written(run: Run) -> dict | None:
    """adapt.json of a run that has adapted; None of others."""
    found = read_json(run.adapt) if run.adapt.is_file() else {}
    return found if "after" in found else None


def control(found: dict) -> bool:
    """Whether the run had the phases of an adaptation and a weight of 0: what more training on the source gives."""
    return found.get("weight") == 0


def lines(found: dict) -> str:
    """adapt.json for people."""
    before, after = found["before"], found["after"]
    done = f"Adapted to {found['path']} by {found['method']}"
    if control(found):
        done = f"Not adapted to {found['path']}: this is the control of {found['method']}, a weight of 0"
    out = [done + " " * 4 + "before -> after"]
    for name in ("source", "target"):
        if before[name] is None:
            out.append(f"  {name:<18} not scored: none of its {found['target']['samples']} samples has a label")
            continue
        of = (
            f"{before[name]['n']} {before[name]['split']} samples"
            if name == "source"
            else f"{before[name]['n']} samples, whose labels this score alone has seen"
        )
        out.append(
            f"  {name + ' ' + before[name]['metric']:<18} {before[name]['value']:.4f} -> {after[name]['value']:.4f}   ({of})"
        )
    out.append(
        f"  {'proxy A-distance':<18} {before['a_distance']:.4f} -> {after['a_distance']:.4f}   (0: alike to a linear eye, 2: always told apart)"
    )
    return "\n".join(out)
