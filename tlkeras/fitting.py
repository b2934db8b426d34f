"""The phases of a run: each is planned, compiled, fitted, recorded and audited.

Nothing is hidden in hooks: the one Keras callback used here counts, checks for numbers that are none, and
commits a checkpoint after each epoch.
"""

import contextlib
import csv
import io
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

import numpy as np

from tlkeras import adaptation, averages, checkpoints, data, network, plans, prefix, steps
from tlkeras.config import Config, Phase
from tlkeras.data import pipeline, sounds
from tlkeras.errors import ConfigError, Diverged, Interrupted, ModelError
from tlkeras.progress import Progress
from tlkeras.run import Run, read_json, write_json, write_text


class Fitting:
    """The phases of one run: what they share, and where they stand."""

    def __init__(
        self,
        cfg: Config,
        run: Run,
        net: network.Network,
        machine,
        task,
        options,
        train_table,
        val_table,
        progress: Progress,
        each_epoch: Sequence = (),
        adapting: adaptation.Adaptation | None = None,
    ):
        self.cfg, self.run, self.net, self.task, self.options = cfg, run, net, task, options
        self.device, self.precision = machine
        self.train_table, self.val_table, self.progress = train_table, val_table, progress
        self.each_epoch = each_epoch  # each is told the number of epochs so far and the row of the last
        self.adaptation = adapting
        self.stage: adaptation.Stage | None = None  # what a phase that adapts does otherwise
        self.stop: str | None = None  # name of the signal that asked to stop
        self.start: Future | None = None  # the checkpoint of a phase's start, while it is written
        self.began = time.monotonic()
        self.history: list[dict] = []
        self.audits: list[dict] = []

    def all(self, phase_plans: list, resume: bool, before: int | None = None) -> None:
        """Fits every phase, or those `before` one of them."""
        self.plans, self.cuts = phase_plans, prefix.cuts(self.net, phase_plans)
        state, start, arrays, notes = checkpoints.latest(self.run) if resume else (None, None, None, [])
        for note in notes:
            self.progress.line(f"warning   {note} An older checkpoint is used.")
        if resume and state is None and notes:
            raise ModelError(
                f"No checkpoint of {self.run.folder} can be used. Train again with: tlkeras train {self.run.config}"
            )
        first = 0
        if state:
            first, self.history, self.audits = state["phase"], state["history"], state["audits"]
            self.progress.line(
                f"resumed   phase {first + 1}, after epoch {(state['epoch'] if state['epoch'] is not None else -1) + 1}"
            )
        for i, one in enumerate(phase_plans[first:before], first):
            self.phase(i, one, (state, start, arrays) if state and i == first else None)

    def compiled(self, index: int, one: plans.PhasePlan, resumed=None, growth: plans.Growth | None = None):
        """Applies the plan of a phase, finds or computes what is frozen, and compiles: (what is trained, f(epoch) -> the
        batches from there on, f() -> those of validation or None, steps an epoch, steps an update). With `growth` the
        learning rate is that instead of the phase's."""
        model, phase, seed = self.net.model, one.phase, self.cfg.train.seed
        kind, drawn = pipeline.of(self.train_table), {}
        if hasattr(self.task, "change"):
            drawn = {"change": self.task.change(self.net.reader, self.options)}
        plans.apply(self.net, one)
        if resumed:
            _assign(model.variables, resumed[1]["weights"])
        self.stage = stage = adaptation.stage(self, index)
        table = stage.table if stage else self.train_table
        features = self._features(index, table, resumed and resumed[0].get("stored"))
        batch, parts = self._batch(index)
        per_epoch = pipeline.steps(table, batch)
        cut = self.cuts[index]
        suffix = prefix.rematerialised(cut.suffix, self.net) if self._remat(parts) and not stage else cut.suffix
        suffix = stage.model(suffix, per_epoch * phase.epochs) if stage else suffix
        trained = suffix if features else prefix.whole(cut, suffix, model.name)
        if hasattr(self.task, "balanced"):
            trained = self.task.balanced(trained, self.net, self.options)

        def stream(first):
            args = self.net.input, batch, seed, first, phase.epochs
            if features:
                made = features.training(table, *args)
            else:
                made = kind.training(table, *args, self.cfg.augment, **drawn)
            return stage.stream(made, first, per_epoch, batch, cut, bool(features)) if stage else made

        def held_out():
            if not len(self.val_table):
                return None
            if features:
                return features.held_out(self.val_table, self.net.input, batch)
            return kind.held_out(self.val_table, self.net.input, batch, **drawn)

        def compiled(jit):
            trained.compile(
                optimizer=plans.optimizer(self.net, one, per_epoch * phase.epochs // parts, parts, growth),
                loss=self.task.loss(self.options),
                weighted_metrics=self.task.metrics(self.options),
                jit_compile=jit,
                steps_per_execution=1
                if not features or growth or _every_step(phase)
                else _executed_together(per_epoch),
            )
            return trained

        compiled(self._xla(compiled, stream))
        trained.optimizer.build(trained.trainable_variables)
        return trained, stream, held_out, per_epoch, parts

    def phase(self, index: int, one: plans.PhasePlan, resumed) -> None:
        """Compiles, fits and audits one phase."""
        # Whatever ends the phase, the checkpoint of its start is whole before it is left.
        with ThreadPoolExecutor(1) as aside:
            self._phase(index, one, resumed, aside)
            self.started()

    def _phase(self, index: int, one: plans.PhasePlan, resumed, aside: ThreadPoolExecutor) -> None:
        model, phase = self.net.model, one.phase
        trained, stream, held_out, per_epoch, parts = self.compiled(index, one, resumed)
        average = self._average(phase, trained, stream, per_epoch, parts)
        before = plans.digests(self.net)
        epoch, best = 0, None
        if resumed and resumed[2] is not None:
            state, _, arrays = resumed
            _assign(self._moving(), arrays["moving"])
            _assign(trained.optimizer.variables, arrays["optimizer"])
            epoch, best = state["epoch"] + 1, state["best"] and {**state["best"], "arrays": arrays.get("best")}
            if average and "average" in arrays:
                average.restore(arrays["average"])
        elif not resumed:
            # Written while the first step is traced.
            self.start = aside.submit(self._save, index, None, {"weights": _values(model.variables)}, best=None)
        self.progress.line(f"phase     {phase.name}: {phase.epochs} epochs, {', '.join(one.trained)}")
        watch = _watch(self, index, one, per_epoch, best, average)
        done = best and phase.early_stopping and epoch - 1 - best["epoch"] >= phase.early_stopping.patience
        if epoch < phase.epochs and not done:
            with data.changed_files():
                trained.fit(
                    stream(epoch),
                    steps_per_epoch=per_epoch,
                    initial_epoch=epoch,
                    epochs=phase.epochs,
                    validation_data=held_out(),
                    callbacks=[*([averages.following(average, per_epoch)] if average else []), watch],
                    shuffle=False,
                    verbose=0,
                )
        if watch.best and phase.early_stopping:
            _assign(self._moving(), watch.best["arrays"])
        elif average:
            average.enter(average.closed)
        self.audits += plans.audit(self.net, one, before, plans.digests(self.net))
        write_json(self.run.audit, {"schema": 1, "rows": self.audits})

    def _average(self, phase: Phase, trained, stream, per_epoch: int, parts: int):
        """The mean of the phase's weights that its config asks for, or None."""
        if phase.average is None:
            return None
        estimate = averages.estimator(trained)

        def estimated(epoch):
            if estimate:
                estimate(x for x, *_ in stream(epoch).take(per_epoch))

        return averages.Averaged(phase.average, self._moving(), phase.epochs, parts, estimated)

    def _features(self, index: int, table, decided: bool | None):
        """The stored tensors of a phase or None; what was chosen and why goes to plan.json and the progress."""
        phases = [p.phase for p in self.plans]
        passes = [prefix.passes(self.cuts, phases, i) for i in range(len(phases))]
        chosen = prefix.shared(self.cuts, index)
        job = prefix.Job(
            self.cfg,
            self.net,
            table,
            self.val_table,
            [self.cuts[i] for i in chosen],
            [passes[i] for i in chosen],
        )
        features, choice = prefix.prepare(job, self.progress, decided)
        self.stored = features is not None
        plan = read_json(self.run.plan)
        plan.setdefault("prefix", {})[phases[index].name] = asdict(choice)
        write_json(self.run.plan, plan)
        self.progress.line(f"prefix    {choice.text()}")
        return features

    def _batch(self, index: int) -> tuple[int, int]:
        """Samples a step, and steps an update; what `auto` came to goes to plan.json, for resuming and the report."""
        plan, asked = read_json(self.run.plan), self.cfg.train
        known = plan.setdefault("steps", {})
        length = _length(self.net.input, self.train_table)
        deepest = min(self.cuts, key=lambda cut: len(cut.held)).suffix
        if "batch" not in known:
            known["batch"] = steps.size(asked.batch, deepest, len(self.train_table), self.precision, length)
        parts = known.setdefault("parts", {})
        name, batch = self.plans[index].phase.name, known["batch"]
        if name not in parts:
            own = self.cuts[index].suffix
            auto = asked.accumulate == "auto"
            parts[name] = steps.parts(batch, own, self.precision, length) if auto else asked.accumulate
            if batch % parts[name]:
                raise ConfigError(
                    f"train.accumulate: {parts[name]} does not divide the batch of {batch} that auto came to."
                )
            if parts[name] > 1 and asked.accumulate == "auto":
                self.progress.line(f"memory    a batch of {batch} does not fit; it is taken in {parts[name]} parts")
        write_json(self.run.plan, plan)
        return batch // parts[name], parts[name]

    def _remat(self, parts: int) -> bool:
        asked = self.cfg.train.remat
        return asked == "on" or (asked == "auto" and self.cfg.train.accumulate == "auto" and parts > 1)

    def _xla(self, compiled, stream) -> bool:
        """Whether to compile with XLA. On a CPU it is 6 to 18 times slower for convolutions (docs/log.md)."""
        asked = self.cfg.train.xla
        if asked != "auto" or self.device != "gpu":
            return asked == "on"
        return steps.xla_pays(compiled, next(iter(stream(0))))

    def _save(self, index: int, epoch: int | None, arrays: dict, best) -> None:
        state = {"history": [*self.history], "audits": [*self.audits], "best": best, "stored": self.stored}
        checkpoints.save(self.run, index, epoch, arrays, state, self.cfg.train.keep_checkpoints)

    def started(self, wait: bool = True) -> None:
        """Raises what went wrong with the checkpoint of the phase's start; with `wait` only when it is written."""
        if (start := self.start) and (wait or start.done()):
            self.start = None
            start.result()

    @contextlib.contextmanager
    def stopped_by_signals(self):
        """SIGTERM and SIGINT ask to stop after the current step; a second SIGINT ends at once."""
        before = {}

        def handle(number, frame):
            if self.stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop = signal.Signals(number).name

        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _moving(self) -> list:
        return [*averages.moving(self.net.model), *(self.stage.variables if self.stage else [])]


def _length(takes, table) -> int | None:
    """What the open dimensions of a network come to: tokens of a text, frames of a sound; None where it has none."""
    if isinstance(table, sounds.Table):
        if takes.fixed and table.begin:
            return int(table.targets.lengths.max()) + len(table.begin)
        return None if takes.fixed else int(table.counts.max()) // takes.step
    return getattr(takes, "length", None)


def _watch(fitting: Fitting, index: int, one: plans.PhasePlan, per_epoch: int, best, average=None):
    """The callback of a phase."""
    import keras

    phase: Phase = one.phase
    run, progress, total = fitting.run, fitting.progress, per_epoch * phase.epochs

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            progress.start()

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch, self.epoch_began = epoch, time.monotonic()

        def on_train_batch_end(self, batch, logs=None):
            fitting.started(wait=False)
            loss = logs["loss"]
            if not np.isfinite(loss):
                run.record("diverged", phase=phase.name, epoch=self.epoch, step=batch)
                raise Diverged(
                    f"The loss of phase {phase.name!r} became {loss} in epoch {self.epoch + 1}, step {batch + 1}. The weights before this epoch are kept. "
                    f"Try a lower learning rate (now {phase.learning_rate:g}), clip_norm: 1, or precision: float32."
                )
            if fitting.stop:
                run.record("interrupted", signal=fitting.stop)
                raise Interrupted(
                    f"Stopped by {fitting.stop}. Epochs that were finished are kept. Go on with: tlkeras train --resume {run.folder}"
                )
            progress.step(
                f"  epoch {self.epoch + 1}/{phase.epochs}",
                self.epoch * per_epoch + batch + 1,
                total,
                f"loss {loss:.4f}",
            )

        def on_epoch_end(self, epoch, logs=None):
            fitting.started()
            row = {
                "phase": phase.name,
                "epoch": epoch + 1,
                "seconds": round(time.monotonic() - self.epoch_began, 2),
                **{k: float(v) for k, v in logs.items() if k != "val_adapt_loss"},  # there is no target to validate on
            }
            if hasattr(fitting.task, "told"):
                row |= fitting.task.told(fitting.net, fitting.options)
            fitting.history.append(row)
            measured = row.get("val_loss", row["loss"])
            # Training may be finite where validation, by BatchNorm's statistics, is not: the worst there is, and no end.
            measured = measured if np.isfinite(measured) else np.inf
            least = phase.early_stopping.min_delta if phase.early_stopping else 0.0
            if self.best is None or measured < self.best["value"] - least:
                self.best = {
                    "epoch": epoch,
                    "value": measured,
                    "arrays": _values(fitting._moving()) if phase.early_stopping else None,
                }
            if average:
                average.leave()
            moving = _values(fitting._moving())
            arrays = {"moving": moving, "optimizer": _values(self.model.optimizer.variables)}
            if average:
                arrays |= average.state()
            if self.best["arrays"] is not None:
                arrays["best"] = self.best["arrays"]
            fitting._save(index, epoch, arrays, {k: self.best[k] for k in ("epoch", "value")})
            write_text(run.history, _csv(fitting.history))
            run.record("epoch", **row)
            shown = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in ("phase", "epoch", "seconds"))
            progress.line(f"  {phase.name} {epoch + 1}/{phase.epochs}  {row['seconds']:.1f} s  {shown}")
            if phase.early_stopping and epoch - self.best["epoch"] >= phase.early_stopping.patience:
                progress.line(
                    f"  no better val_loss for {phase.early_stopping.patience} epochs; back to epoch {self.best['epoch'] + 1}"
                )
                self.model.stop_training = True
            for told in fitting.each_epoch:
                told(len(fitting.history), row)

    watch = Watch()
    watch.best = best
    return watch


def _every_step(phase: Phase) -> bool:
    """Whether something is done after each step of a phase."""
    return phase.average is not None and phase.average.kind == "ema"


def _executed_together(steps: int, most: int = 64) -> int:
    """How many steps run in one call: a divisor of an epoch, since Keras runs past the end of one otherwise. Steps on
    stored tensors take less time than the calls around them."""
    return max(n for n in range(1, most + 1) if steps % n == 0)


def _values(variables) -> list[np.ndarray]:
    return [np.array(v.numpy() if hasattr(v, "numpy") else v) for v in variables]


def _assign(variables, values) -> None:
    if len(variables) != len(values) or any(tuple(v.shape) != a.shape for v, a in zip(variables, values, strict=True)):
        raise ModelError(
            "The checkpoint belongs to another network or optimizer; it was made with other versions or a changed config. Start a new run."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _csv(rows: list[dict]) -> str:
    out = io.StringIO()
    names = list(dict.fromkeys(k for row in rows for k in row))
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
