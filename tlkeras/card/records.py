"""The records of a run that a card is written from."""

import csv
import json
import shlex

import numpy as np

from tlkeras import config, data, tasks
from tlkeras.run import Run, read_json

THINGS = {"image": "image", "text": "text", "audio": "sound"}
SPLITS = {"test": "test", "val": "validation", "train": "training", "data": "other"}


class Records:
    """A run folder as a card reads it; what is not there is empty."""

    def __init__(self, run: Run):
        def found(path):
            return read_json(path) if path.is_file() else {}

        self.run, self.config = run, config.load(run.config)
        self.manifest, self.plan, self.metrics = found(run.manifest), found(run.plan), found(run.metrics)
        self.backbone, self.report = found(run.backbone), found(run.data_report)
        self.answer = self.manifest.get("answer", {})
        self.classes = self.answer.get("classes") or []
        self.thing = THINGS[tasks.kind(self.config.task_name)]
        self.held = data.reopen(run) if run.splits.is_file() else None
        self.test = self.metrics.get("test")

        self.history = []
        if run.history.is_file():
            with run.history.open(encoding="utf8", newline="") as f:
                self.history = list(csv.DictReader(f))

    def epochs(self, phase: str) -> int:
        return sum(row["phase"] == phase for row in self.history)

    @property
    def last(self) -> dict:
        return self.history[-1] if self.history else {}

    @property
    def reproduced(self) -> dict | None:
        """The event of the last time that the run was trained again."""
        lines = self.run.status.read_text("utf8").splitlines() if self.run.status.is_file() else []
        return next((json.loads(x) for x in reversed(lines) if '"event": "reproduced"' in x), None)

    def artefact(self, form: str) -> dict:
        path = self.run.artefact(form) / "parity.json"
        return read_json(path) if path.is_file() else {}

    @property
    def folder(self) -> str:
        """The run folder as a shell takes it."""
        return shlex.quote(str(self.run.folder))

    def counts(self) -> dict | None:
        """Samples of each class by split, where samples have classes as a whole."""
        held = self.held
        if held is None or not self.classes or not isinstance(held.targets, np.ndarray):
            return None
        return {s: held.targets[held.rows(s)].sum(0).astype(int) for s in data.SPLITS if len(held.rows(s))}
