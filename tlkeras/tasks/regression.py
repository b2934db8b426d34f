"""Image regression: one or several values per image. Learned standardised, answered in the data's own unit."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tlkeras import metrics as m
from tlkeras.config import Section
from tlkeras.errors import DataError

OUTPUT = "values"


class Options(Section):
    loss: Literal["mse", "mae", "huber"] = Field(
        "mse", description="huber and mae mind outliers less. On standardised values."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="Part of the features left out before the head while training."
    )


def targets(labels, options: Options, classes=None):
    """Values (n, k) in the data's unit, and {'values': k}.

    Raises:
        DataError: naming every cell that is not a finite number; an empty cell is not 0.
    """
    rows = [label if isinstance(label, list) else [label] for label in labels]
    out, bad = np.zeros((len(rows), max(1, len(rows[0]))), np.float32), []
    for i, row in enumerate(rows):
        if len(row) != out.shape[1]:
            bad.append(f"row {i + 1}: {len(row)} values instead of {out.shape[1]}")
            continue
        for j, cell in enumerate(map(str, row)):
            where = f"row {i + 1}" + (f", value {j + 1}" if len(row) > 1 else "")
            try:
                # Python reads 1_5 as fifteen. What is infinite as float32 is refused too.
                if "_" in cell or not abs(value := float(cell)) < 3e38:
                    raise ValueError(cell)
                out[i, j] = value
            except ValueError:
                hint = " (decimals are written with a point)" if "," in cell else ""
                bad.append(f"{where}: {cell!r}{hint}" if cell.strip() else f"{where}: an empty cell")
    if bad:
        more = f", and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise DataError(
            f"Regression needs a finite number in every label cell; {len(bad)} are not (rows are counted without the header): {'; '.join(bad[:10])}{more}. Correct them or take the rows out."
        )
    return out, {"values": out.shape[1]}


def learnt(rows, train, answer, options: Options):
    """Values in standard deviations from the mean of the training samples, weights of 1, and that mean and scale.

    Raises:
        DataError: when a value is the same in all training samples.
    """
    known = rows[train].astype(float)
    if (known.max(0) == known.min(0)).any():
        raise DataError(
            "Regression needs values that differ; a label column holds one value only in the training samples."
        )
    mean, scale = known.mean(0), known.std(0)
    answer = {**answer, "mean": mean.tolist(), "scale": scale.tolist()}
    return ((rows - mean) / scale).astype(np.float32), np.ones(len(rows), np.float32), answer


def head(features, answer, options: Options):
    from keras import layers

    x = layers.Dropout(options.dropout, name="head_dropout")(features)
    return layers.Dense(answer["values"], dtype="float32", name="head_values")(x)


def loss(options: Options):
    import keras

    return {"mse": keras.losses.MeanSquaredError, "mae": keras.losses.MeanAbsoluteError, "huber": keras.losses.Huber}[
        options.loss
    ]()


def metrics(options: Options) -> list:
    import keras

    return [keras.metrics.RootMeanSquaredError("rmse"), keras.metrics.MeanAbsoluteError("mae")]


def finish(raw, answer):
    from keras import ops

    return raw * ops.cast(answer["scale"], "float32") + ops.cast(answer["mean"], "float32")


def strata(rows, answer):
    return None


def columns(rows, outputs, answer) -> dict:
    return {"label": rows.tolist(), "predicted": outputs.tolist()}


def MAIN(answer) -> tuple[str, bool]:
    return "rmse", False


def score(table: dict, answer) -> dict:
    y, guess = np.asarray(table["label"], float), np.asarray(table["predicted"], float)
    intervals = m.bootstrap(
        lambda rows: m.regression(y[rows], guess[rows]), len(y), times=1000 if len(y) <= 20_000 else 200
    )
    return {"metrics": m.regression(y, guess), "intervals": intervals, "n": len(y)}


def decode(values, answer) -> dict:
    return {"values": [round(float(v), 6) for v in values]}


def serving(values, answer) -> dict:
    """What an artefact answers, as named TensorFlow tensors of (B, k)."""
    return {"values": values}
