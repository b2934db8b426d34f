"""One trial: a run that is judged after each epoch, ended early or measured at its end."""

import gc
import json
import shutil
import time

from tlkeras import evaluation, training
from tlkeras.config.document import quoted
from tlkeras.errors import ConfigError, Diverged, Interrupted, MachineError, ModelError, UsageError, nearest
from tlkeras.reports.search import shortened
from tlkeras.run import Run
from tlkeras.sweeping.result import short
from tlkeras.sweeping.search import Search, ended


class Pruned(Interrupted):
    """A trial that is ended early, because others did better by then."""


def attempt(search: Search, trial) -> None:
    """Trains and judges one trial, and tells the study how it ended."""
    import keras
    from optuna.trial import TrialState

    study, began, epochs = search.study, time.monotonic(), 0
    folder = search.folder / f"trial-{trial.number:04d}"
    given = {key: json.loads(v) if isinstance(v, str) else v for key, v in trial.params.items()}
    told = ", ".join(f"{k} {short(v)}" for k, v in zip(shortened(list(given)), given.values(), strict=True))
    label = f"trial {trial.number:<4}"

    def judged(step: int, row: dict) -> None:
        nonlocal epochs
        epochs = step
        if "val_loss" not in row:
            raise UsageError(
                "A sweep is judged on the validation split, and there is none. Set data.val to a part of the samples, e.g. 0.2."
            )
        if search.counted:
            value = row["val_loss" if search.metric == "val_loss" else f"val_{search.metric}"]
        else:  # what only evaluating would tell; the loss says whether to go on
            value = row["val_loss"] if search.lower else -row["val_loss"]
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned("ended early")

    def end(state, why: str | None = None, value: float | None = None) -> None:
        trial.set_user_attr("epochs", epochs)
        trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
        if why:
            trial.set_user_attr("why", why)
        study.tell(trial, value, state=state)
        result = f"{search.metric} {value:.4f}" if value is not None else why
        search.progress.line(f"{label} {result}   ({told}; {epochs} epochs, {time.monotonic() - began:.1f} s)")

    twin = next((t for t in study.get_trials(deepcopy=False) if ended(t) and t.params == trial.params), None)
    if twin is not None:
        if "val_loss" in twin.user_attrs:
            trial.set_user_attr("val_loss", twin.user_attrs["val_loss"])
        return end(twin.state, f"the same as trial {twin.number}", twin.value)
    sets = ["sweep=null", *(f"{key}={quoted(value)}" for key, value in given.items())]
    try:
        run = training.train(search.file, folder, sets, offline=search.offline, quiet=True, each_epoch=judged)
        row = run.kept()
        trial.set_user_attr("val_loss", row["val_loss"])
        if search.counted:
            value = row["val_loss" if search.metric == "val_loss" else f"val_{search.metric}"]
        else:
            value = _measured(search, run)
    except Pruned:
        end(TrialState.PRUNED, f"ended early after {epochs} epochs")
    except Diverged as e:  # a place to keep away from, which a failure would not tell the sampler
        end(TrialState.PRUNED, f"diverged: {e}")
    except (ConfigError, ModelError, MachineError) as e:
        end(TrialState.FAIL, f"{type(e).__name__}: {e}")
    except Exception as e:
        if not _out_of_memory(e):
            raise
        end(TrialState.FAIL, "out of memory")
    else:
        end(TrialState.COMPLETE, value=value)
    finally:
        shutil.rmtree(Run(folder).checkpoints, ignore_errors=True)
        # Keras keeps every graph and counts the names of layers on.
        keras.backend.clear_session()
        gc.collect()


def _out_of_memory(e: Exception) -> bool:
    import tensorflow as tf

    return isinstance(e, MemoryError | tf.errors.ResourceExhaustedError)


def _measured(search: Search, run: Run) -> float:
    metrics = evaluation.evaluate(run.folder, "val", quiet=True)["metrics"]
    if search.metric not in metrics:
        raise UsageError(
            f"sweep.metric: this task has no {search.metric!r}; it has val_loss, {', '.join(metrics)}.{nearest(search.metric, metrics)}"
        )
    if metrics[search.metric] is None:
        raise ModelError(f"{search.metric} is not defined on the validation split")
    return metrics[search.metric]
