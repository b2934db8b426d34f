"""A run, read top to bottom: config, data, network, plan, phases, result.

Nothing is hidden in hooks: the one Keras callback used here counts, checks for numbers that are none, and
commits a checkpoint after each epoch.
"""

import csv
import importlib.metadata
import importlib.util
import io
import signal
import threading
import time
from pathlib import Path

import numpy as np

from tlkeras import checkpoints, config, configure, data, device, network, plans, tasks
from tlkeras.config import Config, Phase
from tlkeras.data import pipeline
from tlkeras.errors import Diverged, Interrupted, ModelError, UsageError, missing_extra
from tlkeras.progress import Progress
from tlkeras.run import Run, create, free_folder, open_run, read_json, replacing, sha256, write_json, write_text


def train(what, out=None, sets=(), resume: bool = False, offline: bool = False, quiet: bool = False) -> Run:
    """Trains what a config file says, or a folder of data with a config made for it; returns the run.

    Args:
        what: path of a config, of a folder or table of data, or with `resume` of a run folder.
        out: the run folder. None: saved_models/NAME, or NAME-2, -3, ... where that is taken.
        sets: overrides 'train.phases.0.epochs=3'.
        resume: go on with the run folder `what` after its last checkpoint.
        offline: touch no network; missing weights are an error.

    Raises:
        TlkerasError: see tlkeras.errors for what each stands for.
    """
    progress = Progress(quiet)
    if resume:
        run = open_run(what, trained=False)
        if sets:
            raise UsageError(
                "A resumed run goes on as it was; --set changes it. Start a new run with the changed config."
            )
        cfg, origin = configure.load(run.config)
    else:
        cfg, origin = configure.load(_config_file(what), sets)
        run = create(out or free_folder("saved_models", cfg.name))
        write_text(run.config, config.render(cfg))
    with run.lock():
        return _train(cfg, origin, run, resume, offline, progress)


def _config_file(what) -> Path:
    path = Path(what)
    if path.suffix.lower() in (".yaml", ".yml"):
        return path
    made = Path(f"{config.slug(path.stem)}.yaml")
    if not made.exists():
        configure.init(path, made)
    return made


def _train(cfg: Config, origin, run: Run, resume: bool, offline: bool, progress: Progress) -> Run:
    import keras

    if resume and run.model.is_file():
        progress.line(f"{run.folder} is finished already.")
        return run
    # ------------------------------------------------------------------ machine
    if cfg.train.tensorboard and not importlib.util.find_spec("tensorboard"):
        raise missing_extra("tensorboard", "tensorboard")
    used, precision = device.choose(cfg.train.device, cfg.train.precision)
    keras.utils.set_random_seed(cfg.train.seed)
    run.record("start", device=used, precision=precision, resumed=resume)

    # ------------------------------------------------------------------ data
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    held = (
        data.reopen(run)
        if resume and run.splits.is_file()
        else data.prepare(cfg, task, options, run, offline, progress)
    )
    rows = held.rows("train")
    targets, weights, answer = task.learnt(held.targets, rows, held.answer, options)
    progress.line(f"data      {held.summary()}")

    # ------------------------------------------------------------------ network
    net = network.build(cfg, answer, precision, offline=offline)
    blocks = list(net.blocks)
    progress.line(
        f"network   {net.backbone['name']}, {net.model.count_params():,} parameters in {len(blocks)} blocks, {net.pixels.size[0]}x{net.pixels.size[1]}, {precision} on the {used.upper()}"
    )

    # ------------------------------------------------------------------ plan
    phases = configure.phases(cfg, len(rows), len(blocks) - 1)
    phase_plans = plans.make(phases, blocks, net.backbone["name"], origin)
    write_json(
        run.plan,
        {"schema": 1, "phases": [p.model_dump(mode="json") for p in phases], "blocks": plans.table(net, phase_plans)},
    )
    write_json(run.backbone, net.backbone)
    write_json(run.manifest, _manifest(cfg, held, answer, used, precision))

    # ------------------------------------------------------------------ phases
    fit = Fitting(
        cfg,
        run,
        net,
        task,
        options,
        _table(held, "train", targets, weights),
        _table(held, "val", targets, weights),
        progress,
    )
    with _stop_on_signals(fit):
        fit.all(phase_plans, resume)

    # ------------------------------------------------------------------ result
    # A model over the same layers that was never compiled: what is saved is the network alone.
    plain = keras.Model(net.model.inputs, net.model.outputs, name=net.model.name)
    with replacing(run.model) as temporary:
        plain.save(temporary)
    manifest = read_json(run.manifest)
    write_json(run.manifest, {**manifest, "model": {"file": run.model.name, "sha256": sha256(run.model)}})
    run.record("done", seconds=round(time.monotonic() - fit.began, 1))
    return run


def _table(held, split: str, targets, weights) -> pipeline.Table:
    rows = held.rows(split)
    return pipeline.Table([held.paths[i] for i in rows], targets[rows], weights[rows], held.fingerprints[rows])


class Fitting:
    """The phases of one run: what they share, and where they stand."""

    def __init__(
        self, cfg: Config, run: Run, net: network.Network, task, options, train_table, val_table, progress: Progress
    ):
        self.cfg, self.run, self.net, self.task, self.options = cfg, run, net, task, options
        self.train_table, self.val_table, self.progress = train_table, val_table, progress
        self.stop: str | None = None  # name of the signal that asked to stop
        self.began = time.monotonic()
        self.history: list[dict] = []
        self.audits: list[dict] = []

    def all(self, phase_plans: list, resume: bool) -> None:
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
        for i, one in enumerate(phase_plans[first:], first):
            self.phase(i, one, (state, start, arrays) if state and i == first else None)

    def phase(self, index: int, one: plans.PhasePlan, resumed) -> None:
        """Applies the plan, compiles, fits and audits one phase."""
        model, phase = self.net.model, one.phase
        per_epoch = pipeline.steps(self.train_table, self.cfg.train.batch)
        plans.apply(self.net, one)
        optimizer = plans.optimizer(self.net, one, per_epoch * phase.epochs)
        model.compile(
            optimizer=optimizer,
            loss=self.task.loss(self.options),
            weighted_metrics=self.task.metrics(self.options),
            jit_compile={"on": True, "off": False, "auto": "auto"}[self.cfg.train.xla],
        )
        model.optimizer.build(model.trainable_variables)
        if resumed:
            _assign(model.variables, resumed[1]["weights"])
        before = plans.digests(self.net)
        epoch, best = 0, None
        if resumed and resumed[2] is not None:
            state, _, arrays = resumed
            _assign(self._moving(), arrays["moving"])
            _assign(model.optimizer.variables, arrays["optimizer"])
            epoch, best = state["epoch"] + 1, state["best"] and {**state["best"], "arrays": arrays.get("best")}
        elif not resumed:
            checkpoints.save(
                self.run,
                index,
                None,
                {"weights": _values(model.variables)},
                {"history": self.history, "audits": self.audits, "best": None},
                1,
            )
        self.progress.line(f"phase     {phase.name}: {phase.epochs} epochs, {', '.join(one.trained)}")
        watch = _watch(self, index, one, best)
        done = best and phase.early_stopping and epoch - 1 - best["epoch"] >= phase.early_stopping.patience
        if epoch < phase.epochs and not done:
            args = self.net.pixels, self.cfg.train.batch, self.cfg.train.seed
            with data.changed_files():
                stream = pipeline.training(self.train_table, *args, epoch, phase.epochs, self.cfg.augment)
                val = (
                    pipeline.held_out(self.val_table, self.net.pixels, self.cfg.train.batch)
                    if len(self.val_table)
                    else None
                )
                model.fit(
                    stream,
                    steps_per_epoch=per_epoch,
                    initial_epoch=epoch,
                    epochs=phase.epochs,
                    validation_data=val,
                    callbacks=watch.callbacks(),
                    shuffle=False,
                    verbose=0,
                )
        if watch.best and phase.early_stopping:
            _assign(self._moving(), watch.best["arrays"])
        self.audits += plans.audit(self.net, one, before, plans.digests(self.net))
        write_json(self.run.audit, {"schema": 1, "rows": self.audits})

    def _moving(self) -> list:
        """The variables that a phase can change, seeds and BatchNorm statistics among them."""
        import keras

        model = self.net.model
        statistics = [
            v
            for x in model._flatten_layers()
            if isinstance(x, keras.layers.BatchNormalization) and x.trainable
            for v in (x.moving_mean, x.moving_variance)
        ]
        seeds = [v for v in model.variables if "seed_generator" in v.path]
        return [*model.trainable_variables, *statistics, *seeds]


def _watch(fitting: Fitting, index: int, one: plans.PhasePlan, best):
    """The callback of a phase, and Keras' TensorBoard where asked for."""
    import keras

    phase: Phase = one.phase
    per_epoch = pipeline.steps(fitting.train_table, fitting.cfg.train.batch)
    run, progress, total = fitting.run, fitting.progress, per_epoch * phase.epochs

    class Watch(keras.callbacks.Callback):
        def callbacks(self):
            if not fitting.cfg.train.tensorboard:
                return [self]
            return [self, keras.callbacks.TensorBoard(run.logs / phase.name, update_freq="epoch")]

        def on_train_begin(self, logs=None):
            progress.start()

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch, self.epoch_began = epoch, time.monotonic()

        def on_train_batch_end(self, batch, logs=None):
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
            row = {
                "phase": phase.name,
                "epoch": epoch + 1,
                "seconds": round(time.monotonic() - self.epoch_began, 2),
                **{k: float(v) for k, v in logs.items()},
            }
            fitting.history.append(row)
            measured = row.get("val_loss", row["loss"])
            least = phase.early_stopping.min_delta if phase.early_stopping else 0.0
            if np.isfinite(measured) and (self.best is None or measured < self.best["value"] - least):
                self.best = {
                    "epoch": epoch,
                    "value": measured,
                    "arrays": _values(fitting._moving()) if phase.early_stopping else None,
                }
            arrays = {"moving": _values(fitting._moving()), "optimizer": _values(self.model.optimizer.variables)}
            if self.best["arrays"] is not None:
                arrays["best"] = self.best["arrays"]
            kept = {k: self.best[k] for k in ("epoch", "value")}
            checkpoints.save(
                run,
                index,
                epoch,
                arrays,
                {"history": fitting.history, "audits": fitting.audits, "best": kept},
                fitting.cfg.train.keep_checkpoints,
            )
            write_text(run.history, _csv(fitting.history))
            run.record("epoch", **row)
            shown = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in ("phase", "epoch", "seconds"))
            progress.line(f"  {phase.name} {epoch + 1}/{phase.epochs}  {row['seconds']:.1f} s  {shown}")
            if phase.early_stopping and epoch - self.best["epoch"] >= phase.early_stopping.patience:
                progress.line(
                    f"  no better val_loss for {phase.early_stopping.patience} epochs; back to epoch {self.best['epoch'] + 1}"
                )
                self.model.stop_training = True

    watch = Watch()
    watch.best = best
    return watch


class _stop_on_signals:
    """SIGTERM and SIGINT ask the fitting to stop after the current step; a second SIGINT ends at once."""

    def __init__(self, fitting: Fitting):
        self.fitting = fitting
        self.before: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._handle)

    def _handle(self, number, frame):
        if self.fitting.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.fitting.stop = signal.Signals(number).name

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


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


def _manifest(cfg: Config, held, answer: dict, used: str, precision: str) -> dict:
    versions = {
        name: importlib.metadata.version(name)
        for name in ("tlkeras", "tensorflow", "keras", "keras-hub", "numpy")
        if _installed(name)
    }
    return {
        "schema": 1,
        "name": cfg.name,
        "task": cfg.task,
        "answer": answer,
        "data": held.facts(),
        "device": used,
        "precision": precision,
        "weights": cfg.backbone.weights,
        "versions": versions,
        "machine": device.describe(),
    }


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
