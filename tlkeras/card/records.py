"""The records of a run that a card is written from."""

import json
import shlex
from collections import Counter

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
        self.baselines = found(run.baselines)
        self.history, self.kept = run.epochs(), run.kept()

    @property
    def judged(self) -> dict | None:
        """The result that says most of new samples: of the test split, else of other data, else of validation."""
        return next((self.metrics[s] for s in ("test", "data", "val") if s in self.metrics), None)

    @property
    def steered(self) -> bool:
        """Whether the validation samples chose an epoch or a member."""
        stopped = any(p.get("early_stopping") for p in self.plan.get("phases", []))
        return stopped or self.manifest.get("soup", {}).get("kind") == "greedy"

    def epochs(self, phase: str) -> int:
        return sum(row["phase"] == phase for row in self.history)

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
        """Of each class by split: samples, objects in pictures with boxes, or pictures with masks that show it. None where
        a label is neither."""
        held = self.held
        if held is None or not self.classes:
            return None
        parts = {s: held.rows(s) for s in data.SPLITS if len(held.rows(s))}
        if places := tasks.annotations(self.config.task_name):
            shown = list if places == "boxes" else set
            found = {s: Counter(n for i in rows for n in shown(held.labels[i]["names"])) for s, rows in parts.items()}
            return {s: np.array([count[c] for c in self.classes]) for s, count in found.items()}
        if not isinstance(held.targets, np.ndarray):
            return None
        return {s: held.targets[rows].sum(0).astype(int) for s, rows in parts.items()}
