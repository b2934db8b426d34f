"""The run folder: one folder holds everything that came of a run, and only this module knows its paths.

    config.yaml        what was asked, resolved           plan.json, audit.json   what was to move, what moved
    manifest.json      data, splits, weights, versions    status.jsonl            progress, a line an event
    history.csv        a row an epoch                     checkpoints/            to resume from
    backbone.json      the backbone's own configuration   model.keras             the result
    predictions-SPLIT.parquet, metrics.json, baselines.json, report.html, artefacts/FORMAT/, error.log
    model-card.md      what to know of the model       tracking.json, logs/   what trackers call the run
    extend.json        what a run with more classes forgot
    adapt.json         scores before and after adapting to another domain

Every file appears whole or not at all: it is written beside its place, synced, and renamed.
"""

import contextlib
import csv
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from pathlib import Path

from tlkeras.errors import ModelError, StorageError, UsageError, nearest

SCHEMA = 1


class Run:
    """The paths and files of one run folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.config = self.folder / "config.yaml"
        self.manifest = self.folder / "manifest.json"
        self.splits = self.folder / "splits.parquet"
        self.plan = self.folder / "plan.json"
        self.audit = self.folder / "audit.json"
        self.status = self.folder / "status.jsonl"
        self.history = self.folder / "history.csv"
        self.checkpoints = self.folder / "checkpoints"
        self.backbone = self.folder / "backbone.json"
        self.tokenizer = self.folder / "tokenizer"
        self.model = self.folder / "model.keras"
        self.adapters = self.folder / "lora.safetensors"
        self.adapt = self.folder / "adapt.json"
        self.metrics = self.folder / "metrics.json"
        self.baselines = self.folder / "baselines.json"
        self.report = self.folder / "report.html"
        self.extended = self.folder / "extend.json"
        self.data_report = self.folder / "data_report.json"
        self.error_log = self.folder / "error.log"
        self.logs = self.folder / "logs"
        self.tracking = self.folder / "tracking.json"
        self.card = self.folder / "model-card.md"

    def predictions(self, split: str) -> Path:
        return self.folder / f"predictions-{split}.parquet"

    def artefact(self, form: str) -> Path:
        return self.folder / "artefacts" / form

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def epochs(self) -> list[dict]:
        """The rows of history.csv: the phase as text, the rest as numbers; a figure that an epoch has not is left out."""
        if not self.history.is_file():
            return []
        with self.history.open(encoding="utf8", newline="") as f:
            return [{k: v if k == "phase" else float(v) for k, v in row.items() if v} for row in csv.DictReader(f)]

    def kept(self) -> dict:
        """The row of history.csv whose weights a finished run has: its last epoch, or the best of its last phase where
        that stops early. Empty where nothing was trained."""
        rows = self.epochs()
        if not rows:
            return {}
        last = [row for row in rows if row["phase"] == rows[-1]["phase"]]
        rules = {p["name"]: p["early_stopping"] for p in read_json(self.plan)["phases"]}
        if (rule := rules.get(last[0]["phase"])) is None:
            return last[-1]
        best, least = last[0], math.inf
        for row in last:
            if (measured := row.get("val_loss", row["loss"])) < least - rule["min_delta"]:
                best, least = row, measured
        return best

    def record(self, event: str, **facts) -> None:
        """Appends one line to status.jsonl: {"time", "event", ...}. A full disk here stops nothing."""
        with contextlib.suppress(OSError), self.status.open("a", encoding="utf8") as f:
            f.write(json.dumps({"time": round(time.time(), 3), "event": event, **facts}) + "\n")

    @contextlib.contextmanager
    def lock(self):
        """Holds the run for this process; the kernel lets go of it when the process dies.

        Raises:
            UsageError: when another process holds it.
        """
        import filelock

        lock = filelock.FileLock(self.folder / ".lock", timeout=0)
        try:
            with lock:
                yield
        except filelock.Timeout as e:
            raise UsageError(
                f"{self.folder} is being written by another tlkeras process. Wait for it, or choose another folder with --out."
            ) from e


def create(folder) -> Run:
    """Makes a new run folder and proves that it can be written.

    Raises:
        UsageError: when the folder holds something already.
        StorageError: when it cannot be made or written.
    """
    run = Run(folder)
    if run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise UsageError(
            f"{run.folder} exists already; a run is never overwritten. Choose another folder with --out, or go on with: tlkeras train --resume {run.folder}"
        )
    with storage(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
        write_text(run.folder / ".probe", "ok")
        (run.folder / ".probe").unlink()
    return run


def free_folder(parent, name: str) -> Path:
    """The folder parent/name, or parent/name-2, -3, ... when that is taken."""
    n, folder = 1, Path(parent) / name
    while folder.exists():
        n += 1
        folder = Path(parent) / f"{name}-{n}"
    return folder


def open_run(folder, trained: bool = True) -> Run:
    """Opens an existing run folder.

    Raises:
        UsageError: when there is none, or (with `trained`) when it holds no finished model.
    """
    run = Run(folder)
    if not run.config.is_file():
        here = sorted(
            str(p.parent) for p in Path(run.folder.parent if run.folder.parent.is_dir() else ".").glob("*/config.yaml")
        )
        listed = f" There are: {', '.join(here[:8])}." if here else ""
        raise UsageError(
            f"{folder} is no run folder: it has no config.yaml.{nearest(str(folder), here)}{listed} A run comes from: tlkeras train CONFIG"
        )
    if trained and not run.model.is_file():
        raise UsageError(f"{folder} holds no finished model. Finish it with: tlkeras train --resume {folder}")
    return run


def read_json(path) -> dict:
    """Reads one of the run's JSON files.

    Raises:
        ModelError: when it is missing, damaged, or written by a newer tlkeras.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text("utf8"))
    except FileNotFoundError as e:
        raise ModelError(f"{path} is missing; the run is not complete.") from e
    except ValueError as e:
        raise ModelError(f"{path} is damaged ({e}); restore it from a copy of the run.") from e
    if isinstance(data, dict) and data.get("schema", SCHEMA) > SCHEMA:
        raise ModelError(
            f"{path} was written by a newer tlkeras (format {data['schema']}; this one reads {SCHEMA}). Update tlkeras."
        )
    return data


def write_json(path, data) -> None:
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def write_text(path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf8")


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary path beside `path`; what is written there replaces `path` when the block ends well.

    Raises:
        StorageError: when the disk refuses; the file that was at `path` is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    with storage(path):
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder):
    """As `replacing`, for a folder: it appears whole or not at all, and takes the place of an older one."""
    folder = Path(folder)
    with storage(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield temporary
            for path in temporary.rglob("*"):
                sync(path)
            temporary.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def storage(path):
    """Turns the operating system's refusals into StorageError with the path and the free space."""
    try:
        yield
    except OSError as e:
        near = next((p for p in (Path(path), *Path(path).parents) if p.exists()), Path("."))
        free = shutil.disk_usage(near).free / 1e6
        raise StorageError(
            f"{path} cannot be written: {e.strerror or e}. {free:,.0f} MB are free there. Free some space or choose another folder with --out."
        ) from e


def sync(path) -> None:
    """Flushes a file or folder to the disk; file systems that cannot do folders are left alone."""
    path = Path(path)
    flags = os.O_RDONLY if path.is_file() else os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path) -> str:
    """The SHA-256 of a file, as hex."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
