"""What is different in a phase that adapts: another table to learn from, or a second stream and the layer that it meets."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tlkeras import prefix
from tlkeras.adaptation import layer, pseudo
from tlkeras.adaptation.measure import Adaptation, passed
from tlkeras.data import pipeline
from tlkeras.run import read_json, write_json


@dataclass
class Stage:
    """`table` is what the phase learns from. `between` is the method whose loss joins that of the task; None: no second
    stream."""

    a: Adaptation
    table: Any
    between: str | None = None
    variables: list = field(default_factory=list)

    def model(self, suffix, steps: int):
        """What is trained, from what crosses the cut to the outputs, with the layer in which the domains meet."""
        if self.between is None:
            return suffix
        asked = self.a.asked
        made = layer.meeting(self.between, 1.0 if asked.weight is None else asked.weight, steps, self.a.cfg.train.seed)
        model = layer.inserted(suffix, made, asked.on)
        self.variables = made.weights
        return model

    def stream(self, source, first: int, per_epoch: int, batch: int, cut, stored: bool):
        """Batches of both domains from `source`, those of the source from epoch `first` on."""
        if self.between is None:
            return source
        a, table = self.a, self.a.table()
        given = table, a.net.input, batch, a.cfg.train.seed + 1
        features = self._features(table, cut) if stored else None
        endless = 2**31

        def target(epoch):
            if features:
                return features.training(*given, epoch, endless)
            return pipeline.of(table).training(*given, epoch, endless, a.cfg.augment)

        return layer.paired(source, target, first, per_epoch, batch, len(table))

    def _features(self, table, cut):
        """The stored tensors of the target below the cut of the phase, as those of the source."""
        job = prefix.Job(self.a.cfg, self.a.net, table, table.keep([]), [cut], [self.a.asked.epochs])
        return prefix.prepare(job, self.a.progress, decided=True)[0]


def stage(fitting, index: int) -> Stage | None:
    """What phase `index` of a run adapts by; None where it learns the task alone."""
    a = fitting.adaptation
    if a is None or index < a.first:
        return None
    if a.asked.method != "self-training":
        return Stage(a, fitting.train_table, a.asked.method)
    return Stage(a, _with_own_labels(a, fitting, index))


def _with_own_labels(a: Adaptation, fitting, index: int):
    """The training samples, and those of the target that the network as it is now is sure of."""
    val = a.held.rows("val")
    _, p = passed(a, a.net, a.held.table(val, reader=a.net.reader))
    y = a.held.targets[val].argmax(1)
    t = pseudo.temperature(p, y)
    limits = pseudo.thresholds(pseudo.softened(p, t), y, a.asked.threshold)
    _, answers = passed(a, a.net, a.table())
    rows, classes = pseudo.labels(pseudo.softened(answers, t), limits)
    name, names = fitting.plans[index].phase.name, a.answer["classes"]
    counts = np.bincount(classes, minlength=len(names))
    taken = {
        c: {"labels": int(n), "from": round(float(limit), 4)} for c, n, limit in zip(names, counts, limits, strict=True)
    }
    told: dict = {"phase": name, "temperature": round(t, 4), "labels": len(rows), "classes": taken}
    both = np.isin(rows, a.known)
    if both.any():
        told["right"] = float((a.target.targets[rows[both]].argmax(1) == classes[both]).mean())
    kept = read_json(a.run.adapt)
    rounds = [r for r in kept.get("rounds", []) if r["phase"] != name]
    write_json(a.run.adapt, {**kept, "rounds": [*rounds, told]})
    each = ", ".join(f"{c} {n}" for c, n in zip(names, counts, strict=True) if n)
    a.progress.line(
        f"labels    {name}: {len(rows)} of {len(a.target.ids)} of its own making{' (' + each + ')' if each else ''}; temperature {t:.2f}"
    )
    if not len(rows):
        return fitting.train_table
    targets = np.zeros_like(a.target.targets)
    targets[rows, classes] = 1
    weights = np.full(len(targets), 1.0 if a.asked.weight is None else a.asked.weight, np.float32)
    return fitting.train_table.join(a.table(rows, targets, weights))
