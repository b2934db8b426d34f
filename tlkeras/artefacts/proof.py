"""The gate: what the Keras model says of held-out samples, and whether an artefact says the same in a fresh process."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlkeras import data
from tlkeras.data import pictures, sounds, texts, waveforms
from tlkeras.errors import DataError, GateError
from tlkeras.evaluation import Trained, outputs
from tlkeras.prefix import streams
from tlkeras.progress import Progress

MOST = 500  # held-out samples that judge an artefact
FILES = 50  # of those that are sounds, given to a SavedModel as files
WRITTEN = 16  # of those that are answered with text, which takes long


def held_out(trained: Trained, most: int = MOST) -> tuple:
    """The data of a run and at most so many rows of its test split, or else of its validation split.

    Raises:
        DataError: when it has neither.
    """
    held = data.reopen(trained.run)
    rows = next((r for s in ("test", "val") if len(r := held.rows(s))), None)
    if rows is None:
        raise DataError(
            "An artefact is proven on held-out samples, and this run has none. Train with data.test or data.val above 0."
        )
    return held, np.random.default_rng(0).permutation(rows)[:most] if len(rows) > most else rows


def run(form: str, folder: Path, given) -> dict:
    """Runs an artefact in a fresh process: what it answers to `given`, JSON data or arrays by name.

    Raises:
        GateError: when it does not run.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source, out = Path(temporary) / "in.json", Path(temporary) / "out.npz"
        if set(given) & {"texts", "paths"}:
            source.write_text(json.dumps(given), "ascii")
        else:
            np.savez(source := source.with_suffix(".npz"), **given)
        command = [sys.executable, "-m", "tlkeras.artefacts.probe", form, str(folder), str(source), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise GateError(f"{form}: the artefact does not run in a fresh process: {last[:300]}. It is not kept.")
        with np.load(out, allow_pickle=False) as f:
            return {k: f[k] for k in f.files}


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


class Proof:
    """The held-out samples that judge artefacts, and what the Keras model says of them."""

    def __init__(self, trained: Trained, progress: Progress):
        self.trained = trained
        self.held, self.rows = held_out(trained)
        self.table = self.held.table(self.rows, reader=trained.network.reader)
        self.outputs = self._keras(progress)
        self.name, self.higher = trained.task.MAIN(trained.answer)
        self.score = self._score(self.outputs)

    @property
    def length(self) -> int | None:
        """What the rows of texts or sounds are padded to here; None for images."""
        if self.trained.network.kind == "image":
            return None
        if self.trained.network.kind == "audio":
            return int(sounds.padded(self.table, self.trained.network.input).max())
        return int(texts.padded(self.table, self.trained.network.input).max())

    def _keras(self, progress: Progress) -> np.ndarray:
        if self.length is None:
            return np.concatenate(list(outputs(self.trained, self.table, progress=progress)))
        task, answer = self.trained.task, self.trained.answer
        stream = streams.open_stream(self.trained.network.model, finish=lambda raw: (task.finish(raw[0], answer),))
        arrays = self._arrays()
        batches = (
            tuple(arrays[name][i : i + stream.batch] for name in sorted(arrays))
            for i in range(0, len(self.table), stream.batch)
        )
        return np.concatenate([out for (out,) in stream.run(batches)])

    def _score(self, found) -> float:
        task, answer, held = self.trained.task, self.trained.answer, self.held
        if isinstance(self.table, sounds.Table):
            found = self._of_sounds(found)
        if hasattr(task, "gather"):
            found = task.gather(found, self.table, answer)
        columns = task.columns(data.at(held.targets, self.rows), found, answer)
        plain = {name: x.to_pylist() if hasattr(x, "to_pylist") else x for name, x in columns.items()}
        plain["id"] = [held.ids[i] for i in self.rows]  # what was misheard is named
        return task.score(plain, answer)["metrics"][self.name]

    def _of_sounds(self, found):
        """Outputs of the rows as those of the sounds: the mean over the windows of one."""
        owners = self.table.owners
        if len(np.unique(owners)) == len(owners):
            return found
        return np.stack([found[owners == i].mean(0) for i in range(owners.max() + 1)])

    def calibration(self):
        """Training images, the same number of every class where there are classes."""
        held, n = self.held, self.trained.config.export.calibration
        rows = held.rows("train")
        strata = np.array(self.trained.task.strata(data.at(held.targets, rows), self.trained.answer) or [0] * len(rows))
        rng = np.random.default_rng(0)
        queues = [list(rng.permutation(rows[strata == s])) for s in np.unique(strata)]
        chosen = [q[i] for i in range(max(map(len, queues))) for q in queues if i < len(q)][:n]
        for images, _, _ in pictures.in_order(held.table(np.array(chosen)), self.trained.network.input, 8):
            yield from images.numpy()

    def hold(self, form: str, folder: Path, allowed: float, contract: dict) -> dict:
        """Runs an artefact in a fresh process on the held-out samples and compares.

        Raises:
            GateError: when it crashes, answers what is no number, or scores worse than allowed.
        """
        audio = self.trained.network.kind == "audio"
        raw = form == "saved_model" and contract["input"].get("columns", True) and not audio
        out = run(form, folder, self._raw() if raw else self._arrays())
        got = self._outputs(out)
        if not np.isfinite(got).all():
            raise GateError(f"{form}: the artefact answers values that are no finite numbers. It is not kept.")
        score = self._score(got)
        drop = (self.score - score) if self.higher else (score - self.score) / max(self.score, 1e-12)
        if self.name == "wer":  # a share itself, and often none
            drop = score - self.score
            allowed = max(allowed, 1.001 / self._words()) if allowed > 0 else allowed
        # One sample more or less is within chance however few there are: with 37 of them it is 0.027. Who allows
        # no drop at all (0) gets just that.
        if self.name == "accuracy" and allowed > 0:
            allowed = max(allowed, 1.001 / len(self.rows))
        apart, explained = self._apart(got)
        row = {
            "format": form,
            "metric": self.name,
            "keras": self.score,
            "score": score,
            "drop": drop,
            "max_difference": apart,
            "agreement": self._agreement(got),
            "n": len(self.rows),
            "bytes": size(folder),
            "milliseconds": float(np.median(out["milliseconds"])),
            "allowed_drop": allowed,
        }
        # A float32 artefact computes the same function: more than rounding is a mistake, whatever the score says.
        if form in ("saved_model", "tflite") and apart > explained:
            raise GateError(
                f"{form}: the largest difference to the Keras model is {apart:.2g}; float32 rounding explains {explained:.2g}. The artefact is not kept."
            )
        if audio and form == "saved_model":
            self._hold_files(folder)
        if drop > allowed:
            raise GateError(
                f"{form}: {self.name} is {score:.4f} where the Keras model has {self.score:.4f} on the same {row['n']} samples; a drop of {drop:.4f} is more than the {allowed:g} allowed. "
                "The artefact is not kept. Allow more with --max-drop, or take another format."
            )
        return row

    def _outputs(self, out: dict) -> np.ndarray:
        """What the task judges of what an artefact gave."""
        task = self.trained.task
        if hasattr(task, "joined"):
            return task.joined({k.removeprefix("out_"): x for k, x in out.items()}, self.trained.answer)
        return out[f"out_{task.OUTPUT}"]

    def _apart(self, got) -> tuple[float, float]:
        """How far an artefact's outputs are from the Keras model's, and how much of that float32 rounding explains."""
        if hasattr(self.trained.task, "heads"):
            return self.trained.task.apart(got, self.outputs, self.trained.answer)
        if hasattr(self.trained.task, "apart"):
            return self.trained.task.apart(got, self.outputs)
        return float(np.abs(got - self.outputs).max()), 1e-3 * max(1.0, float(np.abs(self.outputs).max()))

    def _agreement(self, got) -> float | None:
        if hasattr(self.trained.task, "apart") or got.shape[-1] == 1:
            return None
        return float((got.argmax(-1) == self.outputs.argmax(-1)).mean())

    def _words(self) -> int:
        return sum(len(str(self.held.labels[i]).split()) for i in self.rows)

    def _hold_files(self, folder: Path) -> None:
        """The answers of a SavedModel to WAV files: those held out, written as 16-bit WAV at their own rate.

        Raises:
            GateError: when they are not those of the Keras model to the same sounds.
        """
        task, answer, takes = self.trained.task, self.trained.answer, self.trained.network.input
        rows = [self.held.inputs[i] for i in self.rows[:FILES]]
        with tempfile.TemporaryDirectory() as temporary:
            paths = []
            for n, path in enumerate(rows):
                told = waveforms.about(path)
                paths.append(str(Path(temporary) / f"{n}.wav"))
                waveforms.write_wav(paths[-1], waveforms.read(path, told.rate, told=told), told.rate)
            out = run("saved_model", folder, {"paths": [os.fsencode(p).hex() for p in paths]})
        mine = self._of_sounds(self.outputs)[: len(rows)]
        if "out_text" in out:
            said = [t.decode("utf8", "replace") for t in task.serving(mine, answer)["text"].numpy()]
            same = float(np.mean([a == b for a, b in zip(out["out_text"], said, strict=True)]))
        else:
            # 16 bits of a sound that had more move its scores a little.
            same = float(
                np.isclose(self._outputs(out), mine, atol=0.02 * max(1.0, float(np.abs(mine).max()))).all(-1).mean()
            )
        if same < 1 - 1.001 / len(rows):
            raise GateError(
                f"saved_model: of {len(rows)} WAV files at {takes.rate} Hz and other rates only {same:.0%} are answered as the Keras model answers their sound. The artefact is not kept."
            )

    def _raw(self) -> dict:
        samples = [self.held.inputs[i] for i in self.rows]
        if self.trained.network.reader is None:
            return {"paths": [os.fsencode(os.path.abspath(p)).hex() for p in samples]}
        alone = hasattr(self.trained.task, "together")
        return {"texts": [[t] for s in samples for t in s] if alone else samples}

    def _arrays(self) -> dict:
        takes = self.trained.network.input
        if isinstance(self.table, sounds.Table):
            return sounds.arrays(self.table, takes)
        if self.length is None:
            return {"pixels": np.concatenate([x.numpy() for x, _, _ in pictures.in_order(self.table, takes, 32)])}
        wide = replace(takes, length=self.length, padding="length")
        x, _, _ = texts.reading(self.table, wide)(np.arange(len(self.table)))
        return {name: tensor.numpy() for name, tensor in x.items()}


class Written:
    """As Proof, for networks that answer with text: the artefact must write what the Keras model writes."""

    length = None

    def __init__(self, trained: Trained, progress: Progress):
        self.trained = trained
        held, rows = held_out(trained, WRITTEN)
        # What is drawn at random is not the same twice: the likeliest words are.
        options = trained.options.model_copy(update={"sampler": "greedy"})
        likeliest = replace(trained, options=options)
        if trained.network.kind == "audio":
            self._hear(likeliest, [held.inputs[i] for i in rows])
            return
        self.samples = [held.inputs[i][:1] for i in rows]
        write = trained.task.writer(likeliest)
        self.texts = [t.decode("utf8", "replace") for t in write([s[0] for s in self.samples]).numpy()]

    def _hear(self, trained: Trained, files: list) -> None:
        """Writes the held-out files that fit into the network as 16-bit WAV, which is what an artefact takes, and writes
        down what is said in them."""
        self.folder = tempfile.TemporaryDirectory(prefix="tlkeras-")
        self.samples = []
        for n, path in enumerate(files):
            told = waveforms.about(path)
            if told.count / told.rate <= trained.network.input.seconds:
                self.samples.append(str(Path(self.folder.name) / f"{n}.wav"))
                waveforms.write_wav(self.samples[-1], waveforms.read(path, told.rate, told=told), told.rate)
        if not self.samples:
            seconds = trained.network.input.seconds
            raise GateError(f"no held-out sound is as short as the {seconds:g} s that an artefact takes at a time")
        self.texts = [a["text"] for a in trained.task.respond(trained, self.samples)]

    def calibration(self):
        return None

    def hold(self, form: str, folder: Path, allowed: float, contract: dict) -> dict:
        """Lets an artefact write in a fresh process, and compares.

        Raises:
            GateError: when it crashes or writes something else.
        """
        sounds_ = self.trained.network.kind == "audio"
        given = (
            {"paths": [os.fsencode(s).hex() for s in self.samples]}
            if sounds_
            else {"texts": [list(s) for s in self.samples]}
        )
        out = run(form, folder, given)
        same = float(np.mean([a == b for a, b in zip(out["out_greedy"], self.texts, strict=True)]))
        row = {
            "format": form,
            "metric": "same texts",
            "keras": 1.0,
            "score": same,
            "drop": 1 - same,
            "max_difference": 1 - same,
            "agreement": same,
            "n": len(self.samples),
            "bytes": size(folder),
            "milliseconds": float(np.median(out["milliseconds"])),
            "allowed_drop": allowed,
        }
        # Rounding may turn a choice between two words that are as likely; not many of sixteen.
        if 1 - same > max(allowed, 1.001 / len(self.samples)):
            raise GateError(
                f"{form}: only {same:.0%} of {len(self.samples)} texts are those that the Keras model writes. It is not kept."
            )
        return row
