"""Evaluate: one predictions file, and every metric from that file alone."""

import contextlib
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkeras import baselines, card, configure, data, device, network, tasks, tracking
from tlkeras.config import Config, Data
from tlkeras.data import pipeline, sounds, texts
from tlkeras.errors import DataError, ModelError, UsageError
from tlkeras.prefix import streams
from tlkeras.progress import Progress
from tlkeras.run import Run, open_run, read_json, replacing, sha256, write_json

PART, FEW = 4096, 64  # rows whose outputs are held at a time; where each is a mask or many boxes


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
    net = network.rebuild(network.plain(cfg), answer, about, run.model, precision, run.tokenizer)
    options = tasks.options_of(cfg)
    if sets:  # what an answer is made of, such as a threshold, follows the options that were overridden
        answer = answer | {k: v for k, v in options.model_dump().items() if k in answer}
    return Trained(run, cfg, tasks.get(cfg.task_name), options, answer, net)


def evaluate(
    folder,
    split: str = "test",
    data_path=None,
    batch: int | None = None,
    quiet: bool = False,
    compare: bool | None = None,
) -> dict:
    """Predicts a held-out split of a run, or other labelled data, and scores the predictions.

    Args:
        folder: the run.
        split: 'test', 'val' or 'train'; ignored with `data_path`.
        data_path: a folder or table laid out as the training data was.
        batch: samples at a time. None: as many as this machine does best.
        compare: whether to hold the result against simple baselines. None: where their features take at most two minutes.

    Returns:
        What was written into metrics.json: {'split', 'n', 'main', 'metrics', 'intervals', ...}, and 'baselines' where there are.

    Raises:
        DataError: when `data_path` holds files that the run was trained on.
    """
    progress = Progress(quiet)
    trained = open_trained(folder)
    own = held = data.reopen(trained.run)
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
    began = time.monotonic()
    predict_rows(trained, held, rows, path, batch, progress)
    each = progress.pace or (time.monotonic() - began) / len(rows)
    result = {"split": name, **score(path, trained.task)}
    everything = read_json(trained.run.metrics) if trained.run.metrics.is_file() else {"schema": 1}
    write_json(trained.run.metrics, {**everything, name: result})
    trained.run.record("evaluated", split=name, **{result["main"]: result["metrics"][result["main"]]})
    found = {}
    if compare is not False and baselines.possible(trained, name):
        columns, _ = read_predictions(path)
        answers = columns.get("scores", columns["predicted"])
        found = {"baselines": baselines.write(trained, own, rows, held, name, answers, each, compare, progress)}
    elif name == "data":
        baselines.forget(trained.run, name)
    written = card.write(trained.run)
    with tracking.opened(trained.config, trained.run, progress) as told:
        told.result(name, result["metrics"])
        told.file(written)
    return result | found


def predict_rows(
    trained: Trained, held, rows, path, batch: int | None = None, progress: Progress | None = None
) -> None:
    """Writes the predictions file of samples of `held`, by the network as its weights are now."""
    table = held.table(rows, reader=trained.network.reader)

    def parts():
        done = 0
        for output in judgements(trained, table, [held.inputs[i] for i in rows], batch, progress):
            chosen = rows[slice(done, done := done + len(output))]
            targets = data.at(held.targets, chosen)
            yield [held.ids[i] for i in chosen], trained.task.columns(targets, output, trained.answer)

    write_predictions(path, parts(), trained.answer)


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
    elif hasattr(task, "gather") and isinstance(table, sounds.Table):
        yield from _gathered(trained, table, outputs(trained, table, batch, progress))
    elif hasattr(task, "gather"):
        rows = [row for part in outputs(trained, table, batch, progress) for row in part]
        yield task.gather(rows, table, trained.answer)
    elif isinstance(table, sounds.Table) and len(np.unique(table.owners)) < len(table):
        yield from _of_windows(outputs(trained, table, batch, progress), table.owners)
    else:
        yield from outputs(trained, table, batch, progress)


def _gathered(trained: Trained, table, parts):
    """What the task gathers of each sound, one after the other: an hour has many frames."""
    rows = (row for part in parts for row in part)
    for _, mine in itertools.groupby(range(len(table)), key=lambda i: table.owners[i]):
        numbers = list(mine)
        yield trained.task.gather([next(rows) for _ in numbers], table.keep(numbers), trained.answer)


def _of_windows(parts, owners):
    """The mean output (1, k) of each sound over the windows it was read in, one sound after the other."""
    rows = (row for part in parts for row in part)
    for _, mine in itertools.groupby(zip(owners, rows, strict=True), key=lambda pair: pair[0]):
        total, n = 0.0, 0
        for _, row in mine:
            total, n = total + row.astype(float), n + 1
        yield (total / n).astype("float32")[None]


def outputs(trained: Trained, table, batch: int | None = None, progress: Progress | None = None):
    """Yields the finished outputs (b, k) of the rows of a table, in order, `batch` at a time; None: as many as this
    machine does best."""
    finish, answer, net = trained.task.finish, trained.answer, trained.network
    # What makes boxes and masks of maps stays outside of the graph: OpenVINO and TensorFlow break ties differently.
    maps = tasks.on_places(trained.task, answer)
    last = _compiled(lambda raw: finish(raw, answer)) if maps else None
    dtype = "uint8" if net.kind == "image" else None
    batch = batch or (texts.rows_at_a_time(len(table)) if net.kind == "text" else None)
    inside = tuple if maps else lambda raw: (finish(raw[0], answer),)
    stream = streams.open_stream(net.model, dtype, inside, batch)
    kind, done = pipeline.of(table), 0
    if progress:
        if stream.slower:
            progress.line(stream.slower)
        progress.start()
    with data.changed_files():
        # Texts are passed by length, so their order is put right again part by part.
        size = FEW if maps else PART
        for start in range(0, len(table), size):
            part = [(i, 0) for i in range(start, min(start + size, len(table)))]
            order = [i for i, _ in kind.arranged(table, net.input, part)]
            rows = []
            for (output,) in stream.run(kind.views(table, net.input, [(i, 0) for i in order], stream.batch, 0)):
                rows += list(last(output).numpy() if last else output)
                done += len(output)
                if progress:
                    progress.step("predict", done, len(table))
            found = [rows[k] for k in np.argsort(order, kind="stable")]
            yield np.stack(found) if len({r.shape for r in found}) == 1 else found


def _compiled(function):
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


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


def columns_of(trained: Trained) -> list[str]:
    """The columns of text that a run reads."""
    named = trained.config.data.text
    wanted = tasks.wanted(trained.config.task_name)
    return list(wanted.texts if wanted else ()) if named is None else [named] if isinstance(named, str) else list(named)


def _other(trained: Trained, held, data_path, progress):
    """Labelled data from elsewhere, held against what the run was trained on."""
    asked = trained.config.data.model_dump() | {"path": str(data_path), "tfds": None, "val": 0.0, "test": 0.0}
    if trained.answer.get("classes"):
        asked["classes"] = trained.answer["classes"]
    wanted, options = tasks.wanted(trained.config.task_name), trained.options
    if hasattr(trained.task, "taught"):
        options = trained.task.taught(options, trained.answer)
    other = data.collect(
        Data.model_validate(asked),
        trained.task,
        options,
        progress,
        every_class=False,
        texts=wanted,
        places=tasks.annotations(trained.config.task_name, options),
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
    Lists of numbers that differ in length stay lists.

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
    import pyarrow.compute

    if pyarrow.types.is_floating(column.type):
        return column.to_numpy()
    if pyarrow.types.is_list(column.type) and pyarrow.types.is_floating(column.type.value_type):
        lengths = set(pyarrow.compute.list_value_length(column).to_pylist())
        if len(lengths) == 1:
            return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
    return column.to_pylist()


def text(result: dict) -> str:
    """A result of `evaluate` for people: the metrics with their intervals, then the classes."""
    out = [f"{result['split']}: {result['n']} samples"]
    column = max(18, *map(len, result["metrics"]))
    for name, value in sorted(result["metrics"].items(), key=lambda item: item[0] != result["main"]):
        if value is None:
            out.append(f"  {name:<{column}} not defined here")
            continue
        between = result["intervals"].get(name)
        out.append(
            f"  {name:<{column}} {value:.4f}"
            + (f"   95 % interval {between[0]:.4f} .. {between[1]:.4f}" if between else "")
        )
    if per := result.get("per_class"):
        wide = max(len(c) for c in per["class"])
        figures = [k for k in per if k not in ("class", "support")]
        out.append(f"  {'class':<{wide}}" + "".join(f"{k:>11}" for k in figures) + "    support")
        for i, c in enumerate(per["class"]):
            shown = ("-" if per[k][i] is None else f"{per[k][i]:.4f}" for k in figures)
            out.append(f"  {c:<{wide}}" + "".join(f"{v:>11}" for v in shown) + f"{int(per['support'][i]):>11}")
    if found := result.get("baselines"):
        out.append(baselines.text(found))
    return "\n".join(out)
