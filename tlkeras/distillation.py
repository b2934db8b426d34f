"""Knowledge distillation: a finished run teaches another network what it makes of every sample.

The teacher is no part of what is trained. What it answers to a sample, and its features, are computed once (kept.py)
and travel as further columns of the targets: [the task's own | the teacher's answer | its features].

Answers: Hinton, Vinyals & Dean 2015 (arXiv:1503.02531), the divergence of softened outputs times T^2, so that its
gradient keeps its size whatever T is. Features: FitNets (Romero et al. 2015, arXiv:1412.6550), with a linear layer of
the student's that is not kept. What is said of an image is said of it as it is, not of its augmented views.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from tlkeras import evaluation, kept, tasks
from tlkeras.blocks import HEAD
from tlkeras.config import Config, Distill
from tlkeras.errors import ConfigError, nearest
from tlkeras.run import open_run, read_json

TAUGHT = ("classification", "regression")  # modules of tasks whose answers are of a whole sample


@dataclass(frozen=True)
class Lesson:
    """What the columns of the targets mean: the first `own` are the task's, then come the teacher's answers to the
    student's outputs `columns`, the rest are features. `kind` is 'classes', 'labels' or 'values'."""

    asked: Distill
    kind: str
    own: int
    columns: tuple[int, ...]

    @property
    def end(self) -> int:
        """Where the features begin."""
        return self.own + len(self.columns)


def check(cfg: Config) -> None:
    """Says early what would come out only after the data was read.

    Raises:
        UsageError: when the teacher is no finished run.
        ConfigError: when the task cannot be taught.
    """
    if cfg.distill is None:
        return
    if tasks.TASKS[cfg.task_name][1] not in TAUGHT:
        able = [name for name, row in tasks.TASKS.items() if row[1] in TAUGHT]
        raise ConfigError(
            f"distill: a teacher answers to whole samples, as in {', '.join(able)}; the task is {cfg.task_name}. Leave distill out."
        )
    open_run(cfg.distill.run)


def prepare(cfg: Config, held, net, task, options, targets, answer: dict, run, progress) -> tuple[Any, Any, Any]:
    """(targets, network, task) with a teacher in them; as they are where the config names none.

    `targets` are the task's (n, k) for all samples; the rows of the test split get no teacher.

    Raises:
        ConfigError: when the teacher does another task, or does not know a class.
    """
    if cfg.distill is None:
        return targets, net, task
    teacher = evaluation.open_trained(cfg.distill.run, "float32")
    lesson, theirs = _lesson(cfg, teacher, answer, progress)
    told, features = answers(teacher, held, progress, run)
    columns = soften(told[:, theirs], lesson, teacher.answer, answer)
    if cfg.distill.features:
        columns = np.concatenate([columns, _standardised(features, held.rows("train"))], 1)
        net = with_features(net, features.shape[1])
    own = SimpleNamespace(
        loss=lambda options: loss(task.loss(options), lesson),
        metrics=lambda options: metrics(task.metrics(options), lesson),
    )
    return np.concatenate([targets, columns], 1).astype(np.float32), net, own


def _lesson(cfg: Config, teacher, answer: dict, progress) -> tuple[Lesson, list[int]]:
    """What is taught, and the teacher's outputs that teach it."""
    asked, known = cfg.distill, teacher.answer
    assert asked is not None  # the caller has looked
    if teacher.config.task_name != cfg.task_name or known.get("multi_label") != answer.get("multi_label"):
        said = [
            f"{name} with several labels" if a.get("multi_label") else name
            for name, a in ((teacher.config.task_name, known), (cfg.task_name, answer))
        ]
        raise ConfigError(
            f"distill.from: a teacher does what the student does; {asked.run} does {said[0]}, this config {said[1]}."
        )
    if "values" in answer:
        if known["values"] != answer["values"]:
            raise ConfigError(
                f"distill.from: {asked.run} gives {known['values']} values a sample, and the data has {answer['values']}."
            )
        numbers = list(range(answer["values"]))
        return Lesson(asked, "values", len(numbers), tuple(numbers)), numbers
    names, others = answer["classes"], known["classes"]
    if (missing := [c for c in names if c not in others]) and not cfg.extend:
        raise ConfigError(
            f"distill.from: {asked.run} must know every class of the data; it does not know {', '.join(missing)}.{nearest(missing[0], others)} It knows: {', '.join(others)}."
        )
    if more := [c for c in others if c not in names]:
        progress.line(f"note      {asked.run} knows {', '.join(more)} too, which are left out of what it teaches")
    shared = [c for c in names if c in others]
    kind = "labels" if answer["multi_label"] else "classes"
    columns = tuple(names.index(c) for c in shared)
    return Lesson(asked, kind, len(names), columns), [others.index(c) for c in shared]


def answers(teacher, held, progress, run=None) -> tuple[np.ndarray, np.ndarray]:
    """The teacher's raw outputs (n, k) and pooled features (n, c) of the samples that are trained on or steer training;
    zeros for the others."""
    from keras import layers

    model = teacher.network.model
    pooled = kept.entering(model)
    both = layers.Concatenate(dtype="float32", name="kept")([model.output, pooled])
    numbers = np.concatenate([held.rows("train"), held.rows("val")])
    model_hash = read_json(teacher.run.manifest)["model"]["sha256"]
    found, new = kept.rows(teacher, both, held, numbers, f"answers and features of {model_hash}", progress)
    progress.line(f"teacher   {teacher.run.folder}: its answers to {len(numbers):,} samples, {kept.told(new)}")
    if run is not None:
        run.record("taught", by=str(teacher.run.folder), model=model_hash, samples=len(numbers), computed=new)
    whole = np.zeros((len(held.ids), found.shape[1]), np.float32)
    whole[numbers] = found
    k = model.output.shape[-1]
    return whole[:, :k], whole[:, k:]


def soften(raw, lesson: Lesson, known: dict, answer: dict) -> np.ndarray:
    """The teacher's raw outputs as targets: probabilities at the lesson's temperature, or values as the student learns
    them. Of probabilities, unlike of logits, mixup makes a sensible mean."""
    if lesson.kind == "values":
        value = raw * np.asarray(known["scale"]) + np.asarray(known["mean"])
        return (value - np.asarray(answer["mean"])) / np.asarray(answer["scale"])
    z = raw.astype(float) / lesson.asked.temperature
    if lesson.kind == "labels":
        return 1 / (1 + np.exp(-z))
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _standardised(features, train) -> np.ndarray:
    """Features with mean 0 and deviation 1 over the training samples: their weight means the same for every teacher."""
    mean, scale = features[train].mean(0), features[train].std(0)
    return (features - mean) / np.where(scale > 0, scale, 1)


def with_features(net, width: int):
    """The network with its features, taken linearly to `width` numbers, behind its outputs. Only that layer is new; the
    network's own model stays without it."""
    import keras
    from keras import layers

    mapped = layers.Dense(width, dtype="float32", name="distill_features")
    output = layers.Concatenate(dtype="float32", name="distill_output")(
        [net.model.output, mapped(kept.entering(net.model))]
    )
    blocks = net.blocks | {HEAD: (*net.blocks[HEAD], mapped)}
    return replace(net, model=keras.Model(net.model.input, output, name=net.model.name), blocks=blocks)


def loss(own, lesson: Lesson):
    """The task's loss and the teacher's, per sample, on targets and outputs as a Lesson lays them out."""
    import keras
    from keras import ops

    asked, k, end = lesson.asked, lesson.own, lesson.end

    class Distilled(keras.losses.Loss):
        def call(self, y, raw):
            said = ops.take(raw[:, :k], lesson.columns, axis=1)
            total = (1 - asked.weight) * own.call(y[:, :k], raw[:, :k])
            total += asked.weight * apart(y[:, k:end], said, lesson.kind, asked.temperature)
            if asked.features:
                total += asked.features * ops.mean(ops.square(y[:, end:] - raw[:, k:]), axis=-1)
            return total

    return Distilled(name="distilled")


def apart(told, said, kind: str, temperature: float):
    """How far raw outputs (B, m) are from what the teacher told (B, m), per sample; 0 where they agree."""
    from keras import ops

    if kind == "values":
        return ops.mean(ops.square(told - said), axis=-1)
    z = said / temperature
    if kind == "classes":
        surprise = _times_log(told, told) - told * ops.log_softmax(z, axis=-1)
        return temperature**2 * ops.sum(surprise, axis=-1)
    surprise = _times_log(told, told) + _times_log(1 - told, 1 - told)
    surprise -= told * ops.log_sigmoid(z) + (1 - told) * ops.log_sigmoid(-z)
    return temperature**2 * ops.mean(surprise, axis=-1)


def _times_log(p, q):
    """p log q, 0 where q is 0."""
    from keras import ops

    return p * ops.log(ops.maximum(q, 1e-30))


def metrics(own: list, lesson: Lesson) -> list:
    """The task's metrics on the task's own columns; of classes also how often student and teacher agree."""
    import keras
    from keras import ops

    k, end = lesson.own, lesson.end

    def on_own_columns(metric):
        class Own(type(metric)):  # type: ignore[misc]
            def update_state(self, y, raw, sample_weight=None):
                return super().update_state(y[:, :k], raw[:, :k], sample_weight)

        return Own.from_config(metric.get_config())

    class Agreement(keras.metrics.CategoricalAccuracy):
        def update_state(self, y, raw, sample_weight=None):
            said = ops.take(raw[:, :k], lesson.columns, axis=1)
            return super().update_state(y[:, k:end], said, sample_weight)

    agreement = [Agreement("agreement")] if lesson.kind == "classes" else []
    return [*map(on_own_columns, own), *agreement]
