"""What a run folder holds, read once for the report. Whatever the run does not hold yet is None or empty."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow

from tlkeras import config, configure, data, tasks
from tlkeras.config import Config
from tlkeras.errors import ModelError
from tlkeras.evaluation import read_predictions
from tlkeras.run import Run, open_run, read_json

FEW = 300  # below this many samples the width of the interval is the message
# The headline speaks of the first of these that was evaluated.
SPLITS = {
    "test": "held-out {}",
    "data": "{} of other data",
    "val": "validation {}",
    "train": "training {}",
}


@dataclass(frozen=True)
class Facts:
    """The contents of a run folder.

    `metrics` holds a result per evaluated split, `baselines` what simple answers are worth on it, and `split` the one to speak of; `predictions` are the columns of
    that split's file, `answer` what the outputs mean. `held` are the samples as they were split, `history` a row per epoch, `artefacts` what
    export proved. `finished` is whether training came to its end.
    """

    run: Run
    config: Config
    manifest: dict
    plan: dict
    audit: list[dict]
    found: dict
    history: list[dict]
    events: list[dict]
    metrics: dict
    baselines: dict
    split: str | None
    predictions: dict | None
    answer: dict
    held: data.Held | None
    artefacts: list[dict]
    finished: bool

    @property
    def result(self) -> dict:
        return self.metrics[self.split] if self.split else {}

    @property
    def classes(self) -> list[str]:
        return self.answer.get("classes", [])

    @property
    def things(self) -> str:
        """What the samples are: 'images', 'texts' or 'sounds'."""
        return {"image": "images", "text": "texts", "audio": "sounds"}[tasks.kind(self.config.task_name)]

    def samples(self, split: str | None = None) -> str:
        """The samples of a split in words; None: of the split to speak of."""
        return SPLITS[split or self.split].format(self.things)

    def texts(self) -> dict[str, str]:
        """The text by id, of a run on texts."""
        if self.held is None or self.split == "data" or self.things != "texts":
            return {}
        return {i: " / ".join(t) for i, t in zip(self.held.ids, self.held.inputs, strict=True)}

    def files(self) -> dict[str, tuple[str, str]]:
        """(path, SHA-256) by id. Ids of other data may repeat those of the run, and where it lay is not recorded."""
        if self.held is None or self.split == "data" or self.things == "texts":
            return {}
        return {i: (p, h) for i, p, h in zip(self.held.ids, self.held.inputs, self.held.hashes, strict=True)}


def read(folder) -> Facts:
    """Reads a run folder, finished and evaluated or not.

    Raises:
        UsageError: when it is none.
        ModelError: when a file in it is damaged.
    """
    run = open_run(folder, trained=False)
    cfg = config.load(run.config)
    metrics = {k: v for k, v in _json(run.metrics).items() if k in SPLITS}
    split = next((s for s in SPLITS if s in metrics), None)
    manifest = _json(run.manifest)
    predictions, answer = _predictions(run, split, metrics)
    return Facts(
        run=run,
        config=cfg,
        manifest=manifest,
        plan=_json(run.plan),
        audit=_json(run.audit).get("rows", []),
        found=_json(run.data_report),
        history=_history(run.history),
        events=_events(run.status),
        metrics=metrics,
        baselines=_json(run.baselines).get(split or "", {}),
        split=split,
        predictions=predictions,
        answer=answer or manifest.get("answer", {}),
        held=_held(run),
        artefacts=[_json(path) for form in configure.FORMATS if (path := run.artefact(form) / "parity.json").is_file()],
        finished=run.model.is_file(),
    )


def _json(path: Path) -> dict:
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged: it holds no JSON object; restore it from a copy of the run.")
    return found


def _history(path: Path) -> list[dict]:
    """The epochs: 'phase' as text, everything else as a number, None where it is none."""
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf8", newline="") as f:
            rows = [{k: v if k == "phase" else _number(v) for k, v in row.items()} for row in csv.DictReader(f)]
    except (ValueError, TypeError, csv.Error) as e:
        raise ModelError(f"{path} is damaged ({e}); restore it from a copy of the run.") from e
    if rows and not {"phase", "epoch", "loss"} <= set(rows[0]):
        raise ModelError(
            f"{path} is damaged: it has the columns {', '.join(map(str, rows[0]))} and needs phase, epoch and loss."
        )
    return rows


def _number(cell: str) -> float | None:
    return float(cell) if cell and math.isfinite(float(cell)) else None


def _events(path: Path) -> list[dict]:
    """The lines of status.jsonl; a last line that was cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text("utf8", errors="replace").splitlines()
    events = []
    for n, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
        except ValueError as e:
            if n < len(lines):
                raise ModelError(f"{path}:{n} is damaged ({e}); restore it from a copy of the run.") from e
    return events


def _predictions(run: Run, split: str | None, metrics: dict) -> tuple[dict | None, dict | None]:
    if split is None or not run.predictions(split).is_file():
        return None, None
    path, counted = run.predictions(split), metrics[split]["n"]
    table, answer = read_predictions(path)
    if len(table["id"]) != counted:
        again = "--data PATH" if split == "data" else f"--split {split}"
        raise ModelError(
            f"{path} holds {len(table['id'])} samples where metrics.json counts {counted}. Make both anew with: tlkeras evaluate {run.folder} {again}"
        )
    return table, answer


def _held(run: Run) -> data.Held | None:
    if not run.splits.is_file():
        return None
    try:
        return data.reopen(run)
    except (OSError, pyarrow.ArrowException, KeyError, ValueError) as e:
        raise ModelError(f"{run.splits} is damaged ({e}); restore it from a copy of the run.") from e
