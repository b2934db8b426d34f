"""Export, and the gate: an artefact is kept only after a fresh process has run it on the raw held-out files
and scored within the tolerance. Every artefact is made from a float32 network, whatever precision trained it.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlkeras import __version__, configure, data, network, tasks
from tlkeras.artefacts import saved_model, tflite
from tlkeras.data import pictures, sources, texts
from tlkeras.errors import DataError, GateError, UsageError, nearest
from tlkeras.evaluation import Trained, columns_of, open_trained, outputs
from tlkeras.progress import Progress
from tlkeras.run import Run, replacing_folder, write_json

FORMATS = configure.FORMATS
MOST = 500  # held-out samples that judge an artefact


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
    proof = Proof(trained, progress)
    rows, failed = [], []
    for form in forms:
        progress.line(f"export    {form}")
        target = trained.run.artefact(form)
        try:
            with replacing_folder(target) as temporary:
                what = contract(trained, form, proof.length)
                writer(form).write(trained, what, temporary, proof.calibration() if form == tflite.INT8 else None)
                write_json(temporary / "contract.json", what)
                row = proof.hold(form, temporary, allowed)
                write_json(temporary / "parity.json", {"schema": 1, **row})
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
    samples = sources.read(cfg.data, texts=tasks.wanted(cfg.task_name))
    rows, answer = task.targets(samples.labels, options, cfg.data.classes)
    _, _, answer = task.learnt(rows, np.arange(len(rows)), answer, options)
    net = network.build(
        cfg.model_copy(update={"backbone": cfg.backbone.model_copy(update={"weights": _architecture_only(cfg)})}),
        answer,
    )
    trained = Trained(Run(cfg.name), cfg, task, options, answer, net)  # a run that is yet to be
    length = min(128, net.input.length) if net.reader is not None else None
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
    `length` is how many tokens a TFLite file takes."""
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
        "output": trained.task.OUTPUT,
        "answer": trained.answer,
    }


def _input(trained: Trained, length: int | None) -> dict:
    takes = trained.network.input
    if trained.network.reader is not None:
        tensors = sorted(x.name for x in trained.network.model.inputs)
        columns = columns_of(trained)
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
        "interpolation": takes.interpolation,
    }


class Proof:
    """The held-out samples that judge artefacts, and what the Keras model says of them."""

    def __init__(self, trained: Trained, progress: Progress):
        self.trained, self.held = trained, data.reopen(trained.run)
        rows = next((r for s in ("test", "val") if len(r := self.held.rows(s))), None)
        if rows is None:
            raise DataError(
                "An artefact is proven on held-out samples, and this run has none. Train with data.test or data.val above 0."
            )
        self.rows = np.random.default_rng(0).permutation(rows)[:MOST] if len(rows) > MOST else rows
        self.table = self.held.table(self.rows, reader=trained.network.reader)
        self.outputs = np.concatenate(list(outputs(trained, self.table, progress=progress)))
        self.name, self.higher = trained.task.MAIN(trained.answer)
        self.score = self._score(self.outputs)

    @property
    def length(self) -> int | None:
        """What the rows of texts are padded to here; None for images."""
        if self.trained.network.reader is None:
            return None
        return int(texts.padded(self.table, self.trained.network.input).max())

    def _score(self, outputs) -> float:
        columns = self.trained.task.columns(self.held.targets[self.rows], outputs, self.trained.answer)
        return self.trained.task.score(columns, self.trained.answer)["metrics"][self.name]

    def calibration(self):
        """Training images, the same number of every class where there are classes."""
        held, n = self.held, self.trained.config.export.calibration
        rows = held.rows("train")
        strata = np.array(self.trained.task.strata(held.targets[rows], self.trained.answer) or [0] * len(rows))
        rng = np.random.default_rng(0)
        queues = [list(rng.permutation(rows[strata == s])) for s in np.unique(strata)]
        chosen = [q[i] for i in range(max(map(len, queues))) for q in queues if i < len(q)][:n]
        for images, _, _ in pictures.in_order(held.table(np.array(chosen)), self.trained.network.input, 8):
            yield from images.numpy()

    def hold(self, form: str, folder: Path, allowed: float) -> dict:
        """Runs an artefact in a fresh process on the held-out files and compares.

        Raises:
            GateError: when it crashes, answers what is no number, or scores worse than allowed.
        """
        out = self._run(form, folder)
        got = out[f"out_{self.trained.task.OUTPUT}"]
        if not np.isfinite(got).all():
            raise GateError(f"{form}: the artefact answers values that are no finite numbers. It is not kept.")
        score = self._score(got)
        drop = (self.score - score) if self.higher else (score - self.score) / max(self.score, 1e-12)
        # One sample more or less is within chance however few there are: with 37 of them it is 0.027. Who allows
        # no drop at all (0) gets just that.
        if self.name == "accuracy" and allowed > 0:
            allowed = max(allowed, 1.001 / len(self.rows))
        difference = np.abs(got - self.outputs)
        row = {
            "format": form,
            "metric": self.name,
            "keras": self.score,
            "score": score,
            "drop": drop,
            "max_difference": float(difference.max()),
            "agreement": float((got.argmax(1) == self.outputs.argmax(1)).mean()) if got.shape[1] > 1 else None,
            "n": len(self.rows),
            "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
            "milliseconds": float(np.median(out["milliseconds"])),
            "allowed_drop": allowed,
        }
        # A float32 artefact computes the same function: more than rounding is a mistake, whatever the score says.
        scale = max(1.0, float(np.abs(self.outputs).max()))
        if form in ("saved_model", "tflite") and row["max_difference"] > 1e-3 * scale:
            raise GateError(
                f"{form}: the largest difference to the Keras model is {row['max_difference']:.2g}; float32 rounding explains 1e-3. The artefact is not kept."
            )
        if drop > allowed:
            raise GateError(
                f"{form}: {self.name} is {score:.4f} where the Keras model has {self.score:.4f} on the same {row['n']} samples; a drop of {drop:.4f} is more than the {allowed:g} allowed. "
                "The artefact is not kept. Allow more with --max-drop, or take another format."
            )
        return row

    def _raw(self) -> dict:
        samples = [self.held.inputs[i] for i in self.rows]
        if self.trained.network.reader is not None:
            return {"texts": samples}
        return {"paths": [os.fsencode(os.path.abspath(p)).hex() for p in samples]}

    def _arrays(self) -> dict:
        takes = self.trained.network.input
        if self.trained.network.reader is not None:
            wide = replace(takes, length=self.length, padding="length")
            x, _, _ = texts.reading(self.table, wide)(np.arange(len(self.table)))
            return {name: tensor.numpy() for name, tensor in x.items()}
        return {"pixels": np.concatenate([x.numpy() for x, _, _ in pictures.in_order(self.table, takes, 32)])}

    def _run(self, form: str, folder: Path) -> dict:
        with tempfile.TemporaryDirectory() as temporary:
            given, out = Path(temporary) / "in", Path(temporary) / "out.npz"
            if form == "saved_model":
                given.write_text(json.dumps(self._raw()), "ascii")
            else:
                given = given.with_suffix(".npz")
                np.savez(given, **self._arrays())
            command = [sys.executable, "-m", "tlkeras.artefacts.probe", form, str(folder), str(given), str(out)]
            done = subprocess.run(
                command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                raise GateError(f"{form}: the artefact does not run in a fresh process: {last[:300]}. It is not kept.")
            with np.load(out, allow_pickle=False) as f:
                return {k: f[k] for k in f.files}


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
