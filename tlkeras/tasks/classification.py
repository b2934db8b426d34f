"""Image classification: one class per image, or with `multi_label` any number of them."""

from collections import Counter
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from tlkeras import metrics as m
from tlkeras.config import Section
from tlkeras.errors import DataError, nearest

OUTPUT = "scores"


class Options(Section):
    multi_label: bool = Field(False, description="Any number of classes per image; the label cell lists them.")
    separator: str = Field("|", min_length=1, description="Between the classes of a multi-label cell.")
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Multi-label: score from which a class is given."
    )
    loss: Literal["crossentropy", "focal"] = Field(
        "crossentropy", description="focal looks more at what is hard (arXiv:1708.02002)."
    )
    # Below 1 the gradient of (1 - p) ** gamma is infinite at p = 1, where sigmoids arrive: NaN (Keras 3.15, tested).
    focal_gamma: Annotated[float, Field(ge=1)] = Field(
        2.0, description="Focal loss: higher looks more at what is hard; 1 or more."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Part of the target spread over all classes."
    )
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0)]] = Field(
        "none", description="balanced: rare classes weigh more; or a weight per class."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="Part of the features left out before the head while training."
    )
    head: Literal["linear", "prototypes"] = Field(
        "linear",
        description="prototypes: the means of each class's features, placed without training (arXiv:1703.05175); for a few samples a class. Phases or a recipe, where given, go on from there.",
    )
    start: Literal["random", "zeros"] = Field(
        "random",
        description="The head before training. zeros: where there are more features than samples, what was drawn at random is never unlearnt.",
    )

    @model_validator(mode="after")
    def _single(self):
        if self.multi_label and self.head == "prototypes":
            raise ValueError(
                "a sample belongs to the nearest class mean, so head: prototypes gives one class; leave it out with multi_label"
            )
        if self.multi_label and self.class_weights != "none":
            raise ValueError(
                "class_weights are per image and need one class per image; leave them out with multi_label"
            )
        return self


def targets(labels, options: Options, classes=None):
    """One-hot or 0/1 rows, and {'classes', 'multi_label', 'threshold'}.

    Raises:
        DataError: for empty labels, labels not among `classes`, or fewer than two classes.
    """
    sets = [
        [part.strip() for part in label.split(options.separator) if part.strip()] if options.multi_label else [label]
        for label in map(_text, labels)
    ]
    if empty := [i for i, s in enumerate(sets) if not options.multi_label and not s[0]]:
        raise DataError(
            f"Every sample needs a class; {len(empty)} have an empty label, the first is number {empty[0] + 1}."
        )
    found = Counter(c for s in sets for c in s)
    names = list(classes) if classes else sorted(found)
    if strange := [c for c in found if c not in set(names)]:
        listed = ", ".join(f"{c!r} ({found[c]})" for c in sorted(strange)[:10])
        raise DataError(f"Labels that data.classes does not list: {listed}.{nearest(strange[0], names)}")
    if absent := [c for c in names if not found[c]]:
        raise DataError(f"Classes without a sample: {', '.join(absent)}. Add samples or take them out of data.classes.")
    if len(names) < (1 if options.multi_label else 2):
        raise DataError(f"Classification needs at least two classes; the data has {len(names)}: {', '.join(names)}.")
    number = {c: i for i, c in enumerate(names)}
    rows = np.zeros((len(sets), len(names)), np.float32)
    for i, s in enumerate(sets):
        rows[i, [number[c] for c in s]] = 1
    return rows, {"classes": names, "multi_label": options.multi_label, "threshold": options.threshold}


def _text(label) -> str:
    if isinstance(label, list | dict):
        raise DataError(
            f"Classification reads one text per label; these labels are {'lists' if isinstance(label, list) else 'records'}. Name one column with data.label; several classes are written in one cell as 'a|b', with task.multi_label."
        )
    return label


def learnt(rows, train, answer, options: Options):
    """The rows, a weight per sample, and the answer. 'balanced' is n / (k * count of the class) in training."""
    if options.class_weights == "none":
        return rows, np.ones(len(rows), np.float32), answer
    counts = rows[train].sum(0)
    if options.class_weights == "balanced":
        per_class = counts.sum() / (len(counts) * np.maximum(counts, 1))
    else:
        if strange := set(options.class_weights) - set(answer["classes"]):
            name = sorted(strange)[0]
            raise DataError(f"task.class_weights names {name!r}, which is no class.{nearest(name, answer['classes'])}")
        per_class = np.array([options.class_weights.get(c, 1.0) for c in answer["classes"]])
    return rows, (rows @ per_class).astype(np.float32), answer


def head(features, answer, options: Options):
    from keras import layers

    # The head computes in float32 under mixed precision: logits of 16 bits lose what the loss needs.
    x = layers.Dropout(options.dropout, name="head_dropout")(features)
    if options.head == "prototypes":
        x = layers.UnitNormalization(dtype="float32", name="head_unit")(x)
    drawn = "zeros" if options.start == "zeros" else "glorot_uniform"
    return layers.Dense(len(answer["classes"]), kernel_initializer=drawn, dtype="float32", name="head_logits")(x)


def loss(options: Options):
    from keras import losses

    kind = "Binary" if options.multi_label else "Categorical"
    shared = {"from_logits": True, "label_smoothing": options.label_smoothing}
    if options.loss == "focal":
        # Keras weighs the categorical one by 0.25 and the binary one not; that would only divide the learning rate.
        return getattr(losses, f"{kind}FocalCrossentropy")(alpha=1.0, gamma=options.focal_gamma, **shared)
    return getattr(losses, f"{kind}Crossentropy")(**shared)


def metrics(options: Options) -> list:
    import keras

    return [
        keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
        if options.multi_label
        else keras.metrics.CategoricalAccuracy("accuracy")
    ]


def finish(raw, answer):
    from keras import ops

    return ops.sigmoid(raw) if answer["multi_label"] else ops.softmax(raw, axis=-1)


def strata(rows, answer):
    """The class; multi-label: the rarest class of the row, so that rare ones reach every split, or -1 without one."""
    if not answer["multi_label"]:
        return rows.argmax(1).tolist()
    totals = rows.sum(0)
    rare = np.argsort(totals, kind="stable")
    found = [next((int(c) for c in rare if row[c]), -1) for row in rows]
    # A class may be frequent and yet the rarest of one row only, which three splits cannot share: such rows join the
    # largest stratum. A class that is itself that rare stays, to be named.
    counts = Counter(found)
    small = {c for c, n in counts.items() if n < 3 and (c < 0 or totals[c] >= 3)}
    return [max(counts, key=counts.get) if c in small else c for c in found]


def columns(rows, scores, answer) -> dict:
    names = np.array(answer["classes"], object)
    if answer["multi_label"]:
        return {
            "label": [names[r > 0].tolist() for r in rows],
            "predicted": [names[s >= answer["threshold"]].tolist() for s in scores],
            "scores": scores.tolist(),
        }
    return {
        "label": names[rows.argmax(1)].tolist(),
        "predicted": names[scores.argmax(1)].tolist(),
        "score": scores.max(1).tolist(),
        "scores": scores.tolist(),
    }


def MAIN(answer) -> tuple[str, bool]:
    return ("macro_f1" if answer["multi_label"] else "accuracy"), True


def score(table: dict, answer) -> dict:
    """Every metric of a predictions file: {'metrics', 'intervals', 'per_class', 'confusion', 'calibration'}."""
    names = answer["classes"]
    number = {c: i for i, c in enumerate(names)}
    p = np.asarray(table["scores"], float)
    if answer["multi_label"]:
        Y = np.zeros(p.shape, int)
        for i, label in enumerate(table["label"]):
            Y[i, [number[c] for c in label]] = 1
        return _score_multi(Y, p, answer)
    y = np.array([number[c] for c in table["label"]])
    Y, k, guess = np.eye(len(names), dtype=int)[y], len(names), p.argmax(1)
    counts = m.confusion(y, guess, k)
    values = m.from_confusion(counts)
    per_class = values.pop("per_class")
    ece, bins = m.calibration(p.max(1), guess == y)
    values |= {f"top_{n}_accuracy": m.top_k(y, p, n) for n in (2, 3, 5) if n < k}
    # Two classes: the usual binary figures, of the second class.
    values["roc_auc"] = m.roc_auc(Y[:, 1], p[:, 1]) if k == 2 else m.mean_over_classes(m.roc_auc, Y, p)
    values["pr_auc"] = (
        m.average_precision(Y[:, 1], p[:, 1]) if k == 2 else m.mean_over_classes(m.average_precision, Y, p)
    )
    values |= {"log_loss": m.log_loss(y, p), "calibration_error": ece}
    true_p = np.clip(p[np.arange(len(y)), y] / p.sum(1), np.finfo(float).eps, 1)

    def again(rows):
        redone = m.from_confusion(m.confusion(y[rows], guess[rows], k))
        return {
            "accuracy": redone["accuracy"],
            "macro_f1": redone["macro_f1"],
            "log_loss": float(-np.log(true_p[rows]).mean()),
        }

    return {
        "metrics": values,
        "intervals": m.bootstrap(again, len(y), times=1000 if len(y) <= 20_000 else 200),
        "per_class": {"class": names, **per_class},
        "confusion": counts.tolist(),
        "calibration": bins,
        "n": len(y),
    }


def _score_multi(Y, p, answer):
    # In float32, as everywhere else: 0.7 of a float32 is less than 0.7.
    guess = p.astype(np.float32) >= np.float32(answer["threshold"])
    values = m.multi_label(Y, guess)
    per_class = values.pop("per_class")
    values["roc_auc"] = m.mean_over_classes(m.roc_auc, Y, p)
    values["pr_auc"] = m.mean_over_classes(m.average_precision, Y, p)
    values["calibration_error"], bins = m.calibration(p.ravel(), Y.ravel())

    def again(rows):
        return {
            name: value
            for name, value in m.multi_label(Y[rows], guess[rows]).items()
            if name in ("accuracy", "macro_f1", "micro_f1")
        }

    intervals = m.bootstrap(again, len(Y), times=1000 if len(Y) <= 20_000 else 200)
    return {
        "metrics": values,
        "intervals": intervals,
        "per_class": {"class": answer["classes"], **per_class},
        "confusion": None,
        "calibration": bins,
        "n": len(Y),
    }


def decode(scores, answer) -> dict:
    names = answer["classes"]
    order = np.argsort(-np.asarray(scores), kind="stable")
    best = {names[i]: round(float(scores[i]), 6) for i in order[:5]}
    if answer["multi_label"]:
        return {"labels": [names[i] for i in order if scores[i] >= answer["threshold"]], "scores": best}
    return {"label": names[order[0]], "score": round(float(scores[order[0]]), 6), "scores": best}


def serving(scores, answer) -> dict:
    """What an artefact answers, as named TensorFlow tensors of (B, ...): the best class and all scores."""
    import tensorflow as tf

    names = tf.constant(answer["classes"])
    out = {"classes": tf.tile(names[None], [tf.shape(scores)[0], 1]), "scores": scores}
    if not answer["multi_label"]:
        out |= {"label": tf.gather(names, tf.argmax(scores, axis=1)), "score": tf.reduce_max(scores, axis=1)}
    return out
