"""Evaluate and predict: one predictions file, and every metric from that file alone."""

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import configure, data, device, network, tasks
from tlkeras.config import Config, Data
from tlkeras.data import pipeline, scan
from tlkeras.errors import DataError, ModelError, UsageError
from tlkeras.prefix import streams
from tlkeras.progress import Progress
from tlkeras.run import Run, open_run, read_json, replacing, sha256, write_json


@dataclass(frozen=True)
class Trained:
    """A finished run, opened: its config, its task, what its outputs mean, and its network with the weights."""

    run: Run
    config: Config
    task: Any
    options: Any
    answer: dict
    network: Any


def open_trained(folder, precision: str | None = None) -> Trained:
    """Opens a finished run and builds its network; `precision` None is that of the run.

    Raises:
        UsageError, ModelError: when the run is not there, not finished, or its model file was changed.
    """
    run = open_run(folder)
    cfg, _ = configure.load(run.config)
    manifest = read_json(run.manifest)
    if manifest.get("model", {}).get("sha256") != sha256(run.model):
        raise ModelError(
            f"{run.model} is not the file this run wrote: its SHA-256 differs from manifest.json. Restore it, or train again."
        )
    _, hardware = device.choose(cfg.train.device, cfg.train.precision)
    net = network.rebuild(cfg, manifest["answer"], read_json(run.backbone), run.model, precision or hardware)
    return Trained(run, cfg, tasks.get(cfg.task_name), tasks.options_of(cfg), manifest["answer"], net)


def evaluate(folder, split: str = "test", data_path=None, batch: int | None = None, quiet: bool = False) -> dict:
    """Predicts a held-out split of a run, or other labelled data, and scores the predictions.

    Args:
        folder: the run.
        split: 'test', 'val' or 'train'; ignored with `data_path`.
        data_path: a folder or table laid out as the training data was.
        batch: samples at a time. None: as many as this machine does best.

    Returns:
        What was written into metrics.json: {'split', 'n', 'main', 'metrics', 'intervals', ...}.

    Raises:
        DataError: when `data_path` holds files that the run was trained on.
    """
    progress = Progress(quiet)
    trained = open_trained(folder)
    held = data.reopen(trained.run)
    if data_path is not None:
        name, held = "data", _other(trained, held, data_path, progress)
        rows = np.arange(len(held.paths))
    else:
        name, rows = split, held.rows(split)
    if not len(rows):
        raise UsageError(
            f"The run has no {split} split; it has {held.summary()}. Choose with --split, or give labelled data with --data."
        )
    path = trained.run.predictions(name)
    table, ids = held.table(rows), [held.ids[i] for i in rows]

    def parts():
        done = 0
        for output in outputs(trained, table, batch, progress):
            chosen = slice(done, done := done + len(output))
            yield ids[chosen], trained.task.columns(table.targets[chosen], output, trained.answer)

    write_predictions(path, parts(), trained.answer)
    result = {"split": name, **score(path, trained.task)}
    everything = read_json(trained.run.metrics) if trained.run.metrics.is_file() else {"schema": 1}
    write_json(trained.run.metrics, {**everything, name: result})
    trained.run.record("evaluated", split=name, **{result["main"]: result["metrics"][result["main"]]})
    return result


def score(path, task) -> dict:
    """Every metric of a predictions file."""
    table, answer = read_predictions(path)
    return {"main": task.MAIN(answer)[0], **task.score(table, answer)}


def outputs(trained: Trained, table: pipeline.Table, batch: int | None = None, progress: Progress | None = None):
    """Yields the finished outputs (b, k) of the samples of a table, in order, `batch` at a time; None: as many as
    this machine does best."""
    finish, answer = trained.task.finish, trained.answer
    stream = streams.open_stream(trained.network.model, "uint8", lambda raw: (finish(raw[0], answer),), batch)
    done = 0
    if progress:
        progress.start()
    with data.changed_files():
        images = pipeline.in_order(table, trained.network.pixels, stream.batch).map(lambda x, *_: x)
        for (output,) in stream.run(images.as_numpy_iterator()):
            done += len(output)
            if progress:
                progress.step("predict", done, len(table))
            yield output


def predict(folder, files, batch: int | None = None, quiet: bool = False) -> list[dict]:
    """Answers for image files and folders of them: [{'file', 'label', 'score', 'scores'} or {'file', 'error'}]."""
    trained = open_trained(folder)
    paths: list[str] = []
    answers: dict[str, dict] = {}
    for given in map(Path, files):
        if given.is_dir():
            paths += map(str, scan.list_images(given)[0])
        elif given.exists():
            paths.append(str(given))
        else:
            answers[str(given)] = {"file": str(given), "error": "there is no such file"}
    found = data.scan_files(paths)
    good = [p for p in paths if p in found.good]
    answers |= {p: {"file": p, "error": found.bad[p]} for p in paths if p in found.bad}
    if good:
        prints = np.array([found.good[p].fingerprint for p in good], np.int64)
        empty = np.zeros((len(good), 1), np.float32)
        table = pipeline.Table(good, empty, empty[:, 0], prints, [found.good[p].sha256 for p in good])
        rows = (row for output in outputs(trained, table, batch, Progress(quiet)) for row in output)
        for path, output in zip(good, rows, strict=True):
            answers[path] = {"file": path, **trained.task.decode(output, trained.answer)}
    return list(answers.values())


def _other(trained: Trained, held, data_path, progress):
    """Labelled data from elsewhere, held against what the run was trained on."""
    asked = trained.config.data.model_dump() | {"path": str(data_path), "tfds": None, "val": 0.0, "test": 0.0}
    if trained.answer.get("classes"):
        asked["classes"] = trained.answer["classes"]
    other = data.collect(Data.model_validate(asked), trained.task, trained.options, progress, every_class=False)
    known = {held.hashes[i]: held.ids[i] for i in held.rows("train")}
    if seen := [f"{other.ids[i]} (trained on as {known[h]})" for i, h in enumerate(other.hashes) if h in known]:
        more = f"\n  ... and {len(seen) - 20} more" if len(seen) > 20 else ""
        raise DataError(
            f"{data_path}: a score needs files that the run was not trained on; {len(seen)} of {len(other.ids)} were:\n  "
            + "\n  ".join(seen[:20])
            + more
        )
    return other


def write_predictions(path, parts, answer: dict) -> None:
    """Writes a predictions file as Parquet from an iterable of (ids, columns), with the meaning of the outputs in
    its metadata. About 10,000 rows are in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    meta = {"tlkeras": json.dumps({"schema": 1, "answer": answer, "time": time.time()})}
    with replacing(path) as temporary, contextlib.ExitStack() as opened:
        waiting: list = []
        writer = None

        def flush():
            if writer is not None and waiting:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting.clear()

        for ids, columns in parts:
            table = pyarrow.table({"id": ids, **columns}).replace_schema_metadata(meta)
            # A part in which every list is empty does not tell what they are lists of.
            empty = [n for n, c in enumerate(table.columns) if c.type == pyarrow.list_(pyarrow.null())]
            for n in empty:
                texts = table.column(n).cast(pyarrow.list_(pyarrow.string()))
                table = table.set_column(n, table.column_names[n], texts)
            waiting.append(table)
            if writer is None:
                writer = opened.enter_context(pyarrow.parquet.ParquetWriter(temporary, waiting[0].schema))
            if sum(map(len, waiting)) >= 10_000:
                flush()
        flush()


def read_predictions(path) -> tuple[dict, dict]:
    """Reads a predictions file: ({column: array (n,) or (n, k) of numbers, list of anything else}, answer).

    Raises:
        ModelError: when it is none.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        meta = json.loads((table.schema.metadata or {})[b"tlkeras"])
    except (OSError, pyarrow.ArrowException, KeyError, ValueError) as e:
        raise ModelError(f"{path} is no predictions file of tlkeras: {e}. Make one with: tlkeras evaluate RUN") from e
    return {name: _column(table[name]) for name in table.column_names}, meta["answer"]


def _column(column):
    import pyarrow

    if pyarrow.types.is_floating(column.type):
        return column.to_numpy()
    if pyarrow.types.is_list(column.type) and pyarrow.types.is_floating(column.type.value_type):
        return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
    return column.to_pylist()


def last_epoch(run: Run) -> dict:
    """The figures of the last epoch of a run's history."""
    import csv

    if not run.history.is_file():
        return {}
    with run.history.open(encoding="utf8", newline="") as f:
        row = list(csv.DictReader(f))[-1]
    return {
        k: row[k] if k in ("phase", "epoch") else round(float(row[k]), 4)
        for k in row
        if row[k] != "" and k != "seconds"
    }


def text(result: dict) -> str:
    """A result of `evaluate` for people: the metrics with their intervals, then the classes."""
    out = [f"{result['split']}: {result['n']} samples"]
    for name, value in sorted(result["metrics"].items(), key=lambda item: item[0] != result["main"]):
        if value is None:
            out.append(f"  {name:<18} not defined here")
            continue
        between = result["intervals"].get(name)
        out.append(
            f"  {name:<18} {value:.4f}" + (f"   95 % interval {between[0]:.4f} .. {between[1]:.4f}" if between else "")
        )
    if per := result.get("per_class"):
        wide = max(len(c) for c in per["class"])
        out.append(f"  {'class':<{wide}}  precision  recall      f1  support")
        out += [
            f"  {c:<{wide}}     {p:.4f}  {r:.4f}  {f:.4f}  {int(s):>7}"
            for c, p, r, f, s in zip(*per.values(), strict=True)
        ]
    return "\n".join(out)


def answer_line(answer: dict) -> str:
    """One answer of `predict` as a line."""
    if "error" in answer:
        return f"{scan.printed(answer['file'])}: error: {answer['error']}"
    if "label" in answer:
        others = ", ".join(f"{c} {s:.3f}" for c, s in list(answer["scores"].items())[1:3])
        return f"{scan.printed(answer['file'])}: {answer['label']} {answer['score']:.3f}   ({others})"
    if "labels" in answer:
        return f"{scan.printed(answer['file'])}: {', '.join(answer['labels']) or 'none'}"
    return f"{scan.printed(answer['file'])}: {', '.join(f'{v:g}' for v in answer['values'])}"
