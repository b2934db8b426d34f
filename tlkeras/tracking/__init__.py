"""Trackers: what a run tells besides its own files, all of it on this machine.

A tracker is a module with `begin(run, name, facts, known)`, which gives an object with these, and `id` to be found by again:

    epoch(step, row)            the figures of an epoch; steps count over all phases
    result(split, metrics)      what evaluating came to
    file(path)                  a file to keep, the model card
    end(how)                    'finished', 'failed' or 'killed'

Nothing is sent anywhere: TensorBoard's event files lie in the run, W&B's offline files too, MLflow's database beside it.
"""

import contextlib
import importlib
import importlib.util

from tlkeras.config import Config
from tlkeras.errors import Interrupted, missing_extra
from tlkeras.progress import Progress
from tlkeras.run import Run, read_json, write_json

NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy"), "wandb": ("wandb",)}


def chosen(cfg: Config) -> list[str]:
    """The trackers of a config; left to tlkeras, TensorBoard where it is installed."""
    if cfg.train.track is None:
        return ["tensorboard"] if importlib.util.find_spec("tensorboard") else []
    return list(cfg.train.track)


def check(cfg: Config) -> None:
    """
    Raises:
        MachineError: when a tracker that was asked for is not installed.
    """
    for name in chosen(cfg):
        if absent := _absent(name):
            raise missing_extra(absent, name)


def _absent(name: str) -> str | None:
    return next((module for module in NEEDS[name] if not importlib.util.find_spec(module)), None)


class Told:
    """The trackers of one run. One that fails is named once and left out: it is not worth a run of hours."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.live: dict = {}

    def begin(self, name: str, *given) -> None:
        self._do(
            name, lambda: self.live.update({name: importlib.import_module(f"tlkeras.tracking.{name}").begin(*given)})
        )

    def epoch(self, step: int, row: dict) -> None:
        self._each(lambda tracker: tracker.epoch(step, row))

    def result(self, split: str, metrics: dict) -> None:
        known = {k: float(v) for k, v in metrics.items() if v is not None}
        self._each(lambda tracker: tracker.result(split, known))

    def file(self, path) -> None:
        self._each(lambda tracker: tracker.file(path))

    def end(self, how: str) -> None:
        self._each(lambda tracker: tracker.end(how))

    def _each(self, act) -> None:
        for name, tracker in list(self.live.items()):
            self._do(name, lambda tracker=tracker: act(tracker))

    def _do(self, name: str, act) -> None:
        try:
            act()
        except Exception as e:  # each package has errors of its own, and SQLite's and the disk's show through
            self.live.pop(name, None)
            self.progress.line(f"warning   {name} is told no more of this run: {type(e).__name__}: {e}")


@contextlib.contextmanager
def opened(cfg: Config, run: Run, progress: Progress):
    """The trackers of a config for a run, begun, or gone on with where the run has them; ended when the block is left."""
    told = Told(progress)
    known = read_json(run.tracking) if run.tracking.is_file() else {"schema": 1}
    facts = flat(cfg.model_dump(mode="json", exclude={"sweep"}))
    for name in chosen(cfg):
        if not _absent(name):
            told.begin(name, run, cfg.name, facts, known.get(name))
    ids = {name: tracker.id for name, tracker in told.live.items() if tracker.id}
    if ids.items() - known.items():
        write_json(run.tracking, {**known, **ids})
    try:
        yield told
    except BaseException as e:
        told.end("killed" if isinstance(e, Interrupted | KeyboardInterrupt) else "failed")
        raise
    told.end("finished")


def flat(values, lead: str = "") -> dict:
    """Nested values as {'train.phases.0.epochs': 3}: text, numbers and booleans; None is 'null'.

    >>> flat({"a": {"b": [1, None]}})
    {'a.b.0': 1, 'a.b.1': 'null'}
    """
    if isinstance(values, dict | list):
        pairs = values.items() if isinstance(values, dict) else enumerate(values)
        return {k: v for key, value in pairs for k, v in flat(value, f"{lead}{key}.").items()}
    return {lead[:-1]: "null" if values is None else values}
