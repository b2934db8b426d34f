"""Export, and the gate: an artefact is kept only after a fresh process has run it on the raw held-out files
and scored within the tolerance. Every artefact is made from a float32 network, whatever precision trained it.
"""

import tempfile
from pathlib import Path

import numpy as np

from tlkeras import __version__, card, configure, network, tasks
from tlkeras.artefacts import saved_model, tflite
from tlkeras.artefacts.proof import Proof, Written
from tlkeras.data import several
from tlkeras.errors import GateError, UsageError, nearest
from tlkeras.evaluation import Trained, columns_of, open_trained
from tlkeras.progress import Progress
from tlkeras.run import Run, replacing_folder, write_json, write_text

FORMATS = configure.FORMATS


def writer(form: str):
    """The module that writes and loads a format.

    Raises:
        UsageError: when there is no such format.
    """
    if form not in FORMATS:
        raise UsageError(f"There is no export format {form!r}; there are {', '.join(FORMATS)}.{nearest(form, FORMATS)}")
    return saved_model if form == "saved_model" else tflite


def export(folder, to=(), max_drop: float | None = None, quiet: bool = False) -> list[dict]:
    """Writes artefacts of a run, proves each, keeps those that hold.

    Args:
        folder: the run.
        to: formats. Empty: those of the run's config.
        max_drop: largest allowed drop of the main metric (relative where lower is better). None: the config's.

    Returns:
        A row per artefact: format, score, drop, largest difference, size, latency.

    Raises:
        GateError: when an artefact fell behind the Keras model or could not be made; it is not kept, the others are.
    """
    progress = Progress(quiet)
    trained = open_trained(folder, precision="float32")
    forms = list(to) or trained.config.export.to
    if not forms:
        raise UsageError(
            f"No format is named, neither on the command line nor in the config. Name some with --to: {', '.join(FORMATS)}"
        )
    for form in forms:
        writer(form)
    allowed = trained.config.export.max_drop if max_drop is None else max_drop
    proof = (Written if hasattr(trained.task, "respond") else Proof)(trained, progress)
    rows, failed = [], []
    for form in forms:
        progress.line(f"export    {form}")
        target = trained.run.artefact(form)
        try:
            with replacing_folder(target) as temporary:
                what = contract(trained, form, proof.length)
                writer(form).write(trained, what, temporary, proof.calibration() if form == tflite.INT8 else None)
                write_json(temporary / "contract.json", what)
                row = proof.hold(form, temporary, allowed, what)
                write_json(temporary / "parity.json", {"schema": 1, **row})
                write_text(temporary / trained.run.card.name, card.text(card.Records(trained.run), row))
        except GateError as e:
            failed.append(str(e))
            continue
        rows.append({**row, "path": str(target)})
        trained.run.record("exported", **{k: row[k] for k in ("format", "score", "drop", "max_difference", "bytes")})
    if failed:
        raise GateError("\n".join(failed))
    return rows


def check(config_path, to=(), sets=(), quiet: bool = False) -> list[str]:
    """Converts the untrained network of a config to every format, so that an impossible target fails now.

    Returns the formats that convert.

    Raises:
        GateError: with what is in the way of the others.
    """
    progress = Progress(quiet)
    cfg, _ = configure.load(config_path, sets)
    forms = list(to) or cfg.export.to
    if not forms:
        raise UsageError(
            f"No format is named, neither on the command line nor in the config. Name some with --to: {', '.join(FORMATS)}"
        )
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    wanted, places = tasks.wanted(cfg.task_name), tasks.annotations(cfg.task_name, options)
    samples = several.samples(cfg.data, task, options, texts=wanted, places=places)
    rows, answer = task.targets(samples.labels, options, cfg.data.classes or samples.classes)
    _, _, answer = task.learnt(rows, np.arange(len(rows)), network.fitted(cfg, answer), options)
    net = network.build(
        cfg.model_copy(update={"backbone": cfg.backbone.model_copy(update={"weights": _architecture_only(cfg)})}),
        answer,
    )
    trained = Trained(Run(cfg.name), cfg, task, options, answer, net)  # a run that is yet to be
    length = min(128, net.input.length) if net.kind == "text" else None
    failed = []
    for form in forms:
        progress.line(f"check     {form}")
        with tempfile.TemporaryDirectory() as temporary:
            try:
                writer(form).write(trained, contract(trained, form, length), Path(temporary))
            except GateError as e:
                failed.append(str(e))
    if failed:
        raise GateError("\n".join(failed))
    return forms


def _architecture_only(cfg):
    """Random weights where the architecture is known without them; a hub preset's lies in the preset."""
    return cfg.backbone.weights if network.entry(cfg).pixels is None else None


def contract(trained: Trained, form: str, length: int | None = None) -> dict:
    """What an artefact takes and gives, as data: written beside it, inside the TFLite file, and read by `serve`.
    `length` is how many tokens or samples a TFLite file takes."""
    cfg, backbone = trained.config, trained.network.backbone
    return {
        "schema": 1,
        "name": cfg.name,
        "format": form,
        "task": cfg.task_name,
        "backbone": backbone["name"],
        "weights": backbone["weights"],
        "licence": backbone["licence"],
        "tlkeras": __version__,
        "input": _input(trained, length),
        "output": list(trained.task.described(trained.answer)) if "tasks" in trained.answer else trained.task.OUTPUT,
        "answer": trained.answer,
    }


def _input(trained: Trained, length: int | None) -> dict:
    takes = trained.network.input
    if trained.network.kind == "audio":
        return {
            "kind": "audio",
            "rate": takes.rate,
            "length": length or takes.length,
            "fixed": takes.fixed,
            "trim": takes.trim,
            "tensors": sorted(x.name for x in trained.network.model.inputs),
            "dtype": "float32",
        }
    if trained.network.reader is not None:
        tensors = sorted(x.name for x in trained.network.model.inputs)
        task, columns = trained.task, columns_of(trained)
        if hasattr(task, "together"):
            columns = columns[:1]  # texts are embedded one at a time, whatever pairs were learnt from
        if hasattr(task, "encode") and not (getattr(task, "STRINGS", False) or hasattr(task, "respond")):
            columns = []  # answers are places in the text, which a client that tokenises can name
        return {
            "kind": "text",
            "columns": columns,
            "length": length or takes.length,
            "tensors": tensors,
            "dtype": "int32",
        }
    return {
        "kind": "image",
        "size": list(takes.size),
        "dtype": "uint8",
        "channels": "RGB",
        "crop": takes.crop,
        "pad": takes.pad and list(takes.pad),
        "interpolation": takes.interpolation,
    }


def text(rows: list[dict]) -> str:
    """The rows of `export` as a table for people."""
    name = rows[0]["metric"]
    out = [
        f"{'format':<15} {name:>10} {'drop':>8} {'largest diff.':>13} {'MB':>7} {'ms/sample':>9}",
        f"{'keras':<15} {rows[0]['keras']:>10.4f}",
    ]
    for row in rows:
        out.append(
            f"{row['format']:<15} {row['score']:>10.4f} {row['drop']:>8.4f} {row['max_difference']:>13.2g} {row['bytes'] / 1e6:>7.2f} {row['milliseconds']:>9.1f}"
        )
    out.append(
        f"Each was run in a fresh process on {rows[0]['n']} held-out samples; ms/sample is the median of 30, one at a time."
    )
    return "\n".join([*out, *(f"  {row['path']}" for row in rows)])
