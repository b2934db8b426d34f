"""Evaluate and predict: one predictions file, and every metric from that file alone."""

import contextlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import configure, data, device, lora, network, tasks
from tlkeras.config import Config, Data
from tlkeras.data import pictures, pipeline, scan, tables, text_sources, texts
from tlkeras.errors import DataError, ModelError, UsageError
from tlkeras.prefix import streams
from tlkeras.progress import Progress
from tlkeras.run import Run, open_run, read_json, replacing, sha256, write_json

PART = 4096  # rows whose outputs are held at a time


@dataclass(frozen=True)
class Trained:
    """A finished run, opened: its config, its task, what its outputs mean, and its network with the weights."""

    run: Run
    config: Config
    task: Any
    options: Any
    answer: dict
    network: Any


def open_trained(folder, precision: str | None = None, sets=()) -> Trained:
    """Opens a finished run and builds its network; `precision` None is that of the run. `sets` overrides its config,
    e.g. 'task.sampler=top_p'.

    Raises:
        UsageError, ModelError: when the run is not there, not finished, or its model file was changed.
    """
    run = open_run(folder)
    cfg, _ = configure.load(run.config, sets)
    manifest = read_json(run.manifest)
    if manifest.get("model", {}).get("sha256") != sha256(run.model):
        raise ModelError(
            f"{run.model} is not the file this run wrote: its SHA-256 differs from manifest.json. Restore it, or train again."
        )
    _, hardware = device.choose(cfg.train.device, cfg.train.precision)
    precision = precision or hardware
    about, answer = read_json(run.backbone), manifest["answer"]
    net = network.rebuild(cfg, answer, about, run.model, precision, run.tokenizer)
    if cfg.backbone.lora:
        plain = cfg.model_copy(update={"backbone": cfg.backbone.model_copy(update={"lora": None})})
        merged = network.rebuild(plain, answer, about, None, precision, run.tokenizer)
        lora.merge(net.model, merged.model)
        net = merged
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
        rows = np.arange(len(held.ids))
    else:
        name, rows = split, held.rows(split)
    if not len(rows):
        raise UsageError(
            f"The run has no {split} split; it has {held.summary()}. Choose with --split, or give labelled data with --data."
        )
    path = trained.run.predictions(name)
    table = held.table(rows, reader=trained.network.reader)

    def parts():
        done = 0
        for output in judgements(trained, table, [held.inputs[i] for i in rows], batch, progress):
            chosen = rows[slice(done, done := done + len(output))]
            targets = (
                held.targets[chosen] if isinstance(held.targets, np.ndarray) else [held.targets[i] for i in chosen]
            )
            yield [held.ids[i] for i in chosen], trained.task.columns(targets, output, trained.answer)

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


def judgements(trained: Trained, table, samples: list, batch: int | None = None, progress: Progress | None = None):
    """Yields what the task's `columns` and `decode` take, a list or array with an entry a sample, part by part."""
    task = trained.task
    if hasattr(task, "judged"):
        yield _judged(trained, table, batch or 16, progress)
    elif hasattr(task, "respond"):
        yield list(task.respond(trained, samples, batch, progress))
    elif hasattr(task, "gather"):
        rows = [row for part in outputs(trained, table, batch, progress) for row in part]
        yield task.gather(rows, table, trained.answer)
    else:
        yield from outputs(trained, table, batch, progress)


def outputs(trained: Trained, table, batch: int | None = None, progress: Progress | None = None):
    """Yields the finished outputs (b, k) of the rows of a table, in order, `batch` at a time; None: as many as this
    machine does best."""
    finish, answer, net = trained.task.finish, trained.answer, trained.network
    dtype = "uint8" if net.reader is None else None
    stream = streams.open_stream(net.model, dtype, lambda raw: (finish(raw[0], answer),), batch)
    kind, done = pipeline.of(table), 0
    if progress:
        progress.start()
    with data.changed_files():
        # Texts are passed by length, so their order is put right again part by part.
        for start in range(0, len(table), PART):
            part = [(i, 0) for i in range(start, min(start + PART, len(table)))]
            order = [i for i, _ in kind.arranged(table, net.input, part)]
            rows = []
            for (output,) in stream.run(kind.views(table, net.input, [(i, 0) for i in order], stream.batch, 0)):
                rows += list(output)
                done += len(output)
                if progress:
                    progress.step("predict", done, len(table))
            found = [rows[k] for k in np.argsort(order, kind="stable")]
            yield np.stack(found) if len({r.shape for r in found}) == 1 else found


def _judged(trained: Trained, table, batch: int, progress: Progress | None) -> np.ndarray:
    """What a language model makes of the tokens of each sample, summed over the rows of the sample."""
    import tensorflow as tf

    task, net = trained.task, trained.network
    read = texts.reading(table, net.input)
    change = task.change(net.reader, trained.options) if hasattr(task, "change") else None

    @tf.function(autograph=False, reduce_retracing=True)
    def judge(x, y, w):
        return task.judged(net.model(x, training=False), y, w)

    found = np.zeros((int(table.owners.max(initial=0)) + 1, 3))
    order = np.argsort(table.lengths, kind="stable")
    if progress:
        progress.start()
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        x, y, w = read(rows)
        if change is not None:
            x, y, w = change(x, y, w, tf.constant([0, start], tf.int64))
        np.add.at(found, table.owners[rows], judge(x, y, w).numpy())
        if progress:
            progress.step("judge", start + len(rows), len(order))
    return found


def predict(folder, files=(), batch: int | None = None, quiet: bool = False, given=(), sets=()) -> list[dict]:
    """Answers for files and texts: [{'file', ..., the answer of the task} or {'file', 'error'}].

    Args:
        folder: the run.
        files: of an image task image files and folders of them. Of a text task .txt files, each one text, and tables
            (.csv, .tsv, .jsonl, .parquet) with the columns that the run was trained on, but no labels.
        batch: samples at a time. None: as many as this machine does best.
        given: texts themselves; where a sample is a pair, both behind each other.
        sets: overrides of the run's config, such as 'task.sampler=top_p' for what is written.
    """
    trained = open_trained(folder, sets=sets)
    if trained.network.reader is not None:
        return _predict_texts(trained, files, given, batch, Progress(quiet))
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
        table = pictures.Table(good, empty, empty[:, 0], prints, [found.good[p].sha256 for p in good])
        rows = (row for output in outputs(trained, table, batch, Progress(quiet)) for row in output)
        for path, output in zip(good, rows, strict=True):
            answers[path] = {"file": path, **trained.task.decode(output, trained.answer)}
    return list(answers.values())


def _predict_texts(trained: Trained, files, typed, batch, progress) -> list[dict]:
    wanted = replace(tasks.wanted(trained.config.task_name), labelled=False)
    given: list[tuple[str, tuple | None, str | None]] = []  # id, texts, what is wrong
    alone = hasattr(trained.task, "together")  # embeds each text, whatever pairs it learnt from
    many = 1 if alone else len(columns_of(trained))
    if len(typed) % many:
        raise UsageError(f"{many} texts make a sample ({', '.join(columns_of(trained))}); received {len(typed)}.")
    for n in range(0, len(typed), many):
        given.append((f"text {n // many + 1}", tuple(typed[n : n + many]), None))
    for path in map(Path, files):
        try:
            if path.suffix.lower() == ".txt":
                given.append((str(path), (tables.decoded(path),), None))
            else:
                section = Data(path=str(path), text=columns_of(trained)[0] if alone else trained.config.data.text)
                found = text_sources.read(section, replace(wanted, texts=("text",)) if alone else wanted)
                given += [(f"{path}: {i}", t, None) for i, t in zip(found.ids, found.inputs, strict=True)]
        except (DataError, OSError) as e:
            given.append((str(path), None, str(e)))
    for n, (i, t, _) in enumerate(given):
        if t is not None:
            short = f"{many} texts make a sample; received {len(t)}" if len(t) != many else None
            given[n] = (i, t, short or text_sources.fault(t))
    good = [t for _, t, wrong in given if wrong is None]
    found = iter(_answers(trained, good, batch, progress))
    return [
        {"file": i, "error": wrong} if wrong else {"file": i, "text": t[0] if many == 1 else list(t), **next(found)}
        for i, t, wrong in given
    ]


def columns_of(trained: Trained) -> list[str]:
    """The columns of text that a run reads."""
    named = trained.config.data.text
    wanted = tasks.wanted(trained.config.task_name).texts
    return list(wanted) if named is None else [named] if isinstance(named, str) else list(named)


def _answers(trained: Trained, samples: list[tuple[str, ...]], batch, progress):
    """The decoded answer of each sample of texts, in order."""
    if not samples:
        return
    if hasattr(trained.task, "respond"):
        yield from trained.task.respond(trained, samples, batch, progress)
        return
    if hasattr(trained.task, "judged"):
        raise UsageError(
            "A masked-lm run has no answers: it adapts a backbone. Train a task from it: backbone: {name: RUN}"
        )
    empty = np.zeros((len(samples), 1), np.float32)
    table = trained.network.reader.table(samples, empty, empty[:, 0])
    for part in judgements(trained, table, samples, batch, progress):
        yield from (trained.task.decode(output, trained.answer) for output in part)


def _other(trained: Trained, held, data_path, progress):
    """Labelled data from elsewhere, held against what the run was trained on."""
    asked = trained.config.data.model_dump() | {"path": str(data_path), "tfds": None, "val": 0.0, "test": 0.0}
    if trained.answer.get("classes"):
        asked["classes"] = trained.answer["classes"]
    wanted = tasks.wanted(trained.config.task_name)
    other = data.collect(
        Data.model_validate(asked), trained.task, trained.options, progress, every_class=False, texts=wanted
    )
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
    return f"{scan.printed(answer['file'])}: {_said(answer)}"


def _said(answer: dict) -> str:
    if "error" in answer:
        return f"error: {answer['error']}"
    if "label" in answer:
        others = ", ".join(f"{c} {s:.3f}" for c, s in list(answer["scores"].items())[1:3])
        return f"{answer['label']} {answer['score']:.3f}   ({others})"
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    if "entities" in answer:
        return ", ".join(f"{e['text']} ({e['type']} {e['score']:.3f})" for e in answer["entities"]) or "no entity"
    if "answer" in answer:
        return f"{answer['answer'] or 'no answer'} {answer['score']:.3f}   (characters {answer['start']} to {answer['end']})"
    if "embedding" in answer:
        shown = ", ".join(f"{v:g}" for v in answer["embedding"][:4])
        return f"[{shown}, ...] of {len(answer['embedding'])}"
    return (
        answer["text"] if "text" in answer and "values" not in answer else ", ".join(f"{v:g}" for v in answer["values"])
    )
