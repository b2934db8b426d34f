"""A run, read top to bottom: config, data, network, plan, phases (fitting.py), result."""

import importlib.metadata
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tlkeras import (
    adaptation,
    candidates,
    card,
    config,
    configure,
    data,
    device,
    distillation,
    growth,
    lora,
    network,
    plans,
    preview,
    prototypes,
    tasks,
    tracking,
)
from tlkeras.backbones import keras_hub_tokens
from tlkeras.config import Config, Phase
from tlkeras.data import grown, known, masks, sounds, texts
from tlkeras.errors import UsageError
from tlkeras.evaluation import Trained
from tlkeras.fitting import Fitting
from tlkeras.foreign import files
from tlkeras.progress import Progress
from tlkeras.run import Run, create, free_folder, open_run, read_json, replacing, sha256, write_json, write_text


def train(
    what,
    out=None,
    sets=(),
    resume: bool = False,
    offline: bool = False,
    quiet: bool = False,
    from_scout: str | None = None,
    each_epoch=None,
) -> Run:
    """Trains what a config file says, or a folder of data with a config made for it; returns the run.

    Args:
        what: path of a config, of a folder or table of data, or with `resume` of a run folder.
        out: the run folder. None: saved_models/NAME, or NAME-2, -3, ... where that is taken.
        sets: overrides 'train.phases.0.epochs=3'.
        resume: go on with the run folder `what` after its last checkpoint.
        offline: touch no network; missing weights are an error.
        from_scout: train the backbone that `scout` found: 'best', or the name of another candidate of it.
        each_epoch: called with the number of epochs so far, of all phases, and the row of the last; what it raises ends the run.

    Raises:
        TlkerasError: see tlkeras.errors for what each stands for.
    """
    progress = Progress(quiet)
    scouted = None
    if resume:
        run = open_run(what, trained=False)
        if from_scout:
            raise UsageError("A resumed run goes on with the backbone it has. Leave out --from-scout.")
        if sets:
            raise UsageError(
                "A resumed run goes on as it was; --set changes it. Start a new run with the changed config."
            )
        cfg, origin = configure.load(run.config)
    else:
        cfg, origin = configure.load(_config_file(what), sets)
        tracking.check(cfg)
        if from_scout:
            cfg, scouted = candidates.choose(cfg, from_scout)
            progress.line(f"scout     {scouted['verdict']} Taken: {from_scout}.")
        run = create(out or free_folder("saved_models", cfg.name))
        write_text(run.config, config.render(cfg))
    with run.lock():
        if resume and run.model.is_file():
            progress.line(f"{run.folder} is finished already.")
            _settle(cfg, run, progress)
            return run
        with tracking.opened(cfg, run, progress) as told:
            told_of = [told.epoch, *([each_epoch] if each_epoch else [])]
            ready = _prepared(cfg, origin, run, resume, offline, progress, told_of, scouted)
            with ready.fitting.stopped_by_signals():
                ready.fitting.all(ready.plans, resume)
                adaptation.finish(ready.adapting)
            _keep(ready, run)
            run.record("done", seconds=round(time.monotonic() - ready.fitting.began, 1))
            _settle(cfg, run, progress)
            told.file(run.card)
    return run


def looked(path, look, sets=(), offline: bool = False, quiet: bool = False):
    """What `look(fitting, plans, phases)` finds at the network and the data of a config, prepared as for training. No
    run comes of it."""
    cfg, origin = configure.load(path, sets)
    with tempfile.TemporaryDirectory() as folder:
        run = create(Path(folder) / "run")
        write_text(run.config, config.render(cfg))
        ready = _prepared(cfg, origin, run, False, offline, Progress(quiet))
        return look(ready.fitting, ready.plans, ready.phases)


def _config_file(what) -> Path:
    path = Path(what)
    if path.suffix.lower() in (".yaml", ".yml"):
        return path
    made = Path(f"{config.slug(path.stem)}.yaml")
    if not made.exists():
        configure.init(path, made)
    return made


@dataclass(frozen=True)
class Ready:
    """A run that stands before its first phase. `cfg`: as its data and network are, which an earlier stage may have changed."""

    cfg: Config
    net: network.Network
    answer: dict
    precision: str
    fitting: Fitting
    plans: list[plans.PhasePlan]
    phases: list[Phase]
    adapting: adaptation.Adaptation | None


def _prepared(
    cfg: Config, origin, run: Run, resume: bool, offline: bool, progress: Progress, each_epoch=(), scouted=None
) -> Ready:
    import keras

    # ------------------------------------------------------------------ another domain
    cfg = adaptation.masked_lm.first(cfg, run, train, offline, progress.quiet)
    # ------------------------------------------------------------------ machine
    used, precision = device.choose(cfg.train.device, cfg.train.precision)
    keras.utils.set_random_seed(cfg.train.seed)
    run.record("start", device=used, precision=precision, resumed=resume)

    distillation.check(cfg)

    # ------------------------------------------------------------------ data
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    # What every file is decoded for once is kept for training, unless that augments it.
    pixels = network.contract(cfg, offline) if tasks.kind(cfg.task_name) == "image" and not cfg.augment.active else None
    held = (
        data.reopen(run)
        if resume and run.splits.is_file() and run.manifest.is_file()
        else (grown if cfg.extend else data).prepare(cfg, task, options, run, offline, progress, pixels)
    )
    if scouted:
        candidates.check_data(cfg, scouted, held.facts()["sha256"])
    rows = held.rows("train")
    targets, weights, answer = task.learnt(held.targets, rows, network.fitted(cfg, held.answer, offline), options)
    options = task.bind(options, answer) if hasattr(task, "bind") else options
    progress.line(f"data      {held.summary()}")
    known.note(cfg, held, run, progress)

    # ------------------------------------------------------------------ network
    net = _built(cfg, answer, used, precision, offline, progress)
    blocks = list(net.blocks)
    old = growth.grow(net.model, cfg, answer) if cfg.extend else 0
    if getattr(options, "head", None) == "prototypes":
        prototypes.place(Trained(run, cfg, task, options, answer, net), held, rows, targets, progress, old)
    targets, taught, taught_task = distillation.prepare(cfg, held, net, task, options, targets, answer, run, progress)
    train_table, val_table = (held.table(r, targets, weights, net.reader) for r in (rows, held.rows("val")))
    if cfg.augment.paste and tasks.annotations(cfg.task_name) == "boxes":
        train_table = masks.outlined(train_table, data.at(held.labels, rows))
    if net.kind == "audio":
        progress.line(f"sounds    {sounds.lengths(train_table, net.input)}")
    if net.kind == "text":
        progress.line(f"tokens    {texts.lengths(train_table, net.input)}")
    if getattr(net.reader, "tokenizer", None) is not None:
        keras_hub_tokens.save(net.reader.tokenizer, run.tokenizer)

    # ------------------------------------------------------------------ plan
    phases = configure.phases(cfg, len(rows), len(blocks) - 1)
    phase_plans = plans.make(phases, blocks, net.backbone["name"], origin)
    write_json(
        run.plan,
        {
            "schema": 1,
            "phases": [p.phase.model_dump(mode="json") for p in phase_plans],
            "blocks": preview.table(net, phase_plans),
        },
    )
    write_json(run.backbone, net.backbone)
    write_json(run.manifest, _manifest(cfg, held, answer, used, precision))

    adapting = adaptation.prepare(cfg, run, net, task, options, answer, held, phase_plans, progress, pixels)

    # ------------------------------------------------------------------ phases
    if not phases:
        write_json(run.audit, {"schema": 1, "rows": []})
    fit = Fitting(
        cfg,
        run,
        taught,
        (used, precision),
        taught_task,
        options,
        train_table,
        val_table,
        progress,
        each_epoch,
        adapting,
    )
    return Ready(cfg, net, answer, precision, fit, phase_plans, phases, adapting)


def _built(cfg: Config, answer: dict, used: str, precision: str, offline: bool, progress: Progress) -> network.Network:
    net = network.build(cfg, answer, precision, offline=offline)
    progress.line(
        f"network   {net.backbone['name']}, {net.model.count_params():,} parameters in {len(net.blocks)} blocks, {net.takes}, {precision} on the {used.upper()}"
    )
    if new := net.backbone.get("new"):
        progress.line(f"weights   neck and head too; {len(new)} begin at random, of the predictor of other classes")
    if why := net.backbone.get("random"):
        progress.line(f"weights   {why}")
    if net.kind == "audio":
        sounds.check(cfg.augment, net.input)
    return net


def _keep(ready: Ready, run: Run) -> None:
    """Keeps the network of a run whose phases are done. The model comes last: where it is, nothing is trained any more."""
    import keras

    cfg, net, answer, precision = ready.cfg, ready.net, ready.answer, ready.precision
    # A model over the same layers that was never compiled: what is saved is the network alone.
    done = net.model
    if cfg.backbone.lora:
        merged = network.rebuild(network.plain(cfg), answer, net.backbone, None, precision, run.tokenizer)
        lora.merge(done, merged.model)
        done = merged.model
        # The adapters alone, some hundred times smaller than the model, for who has its weights already.
        with replacing(run.adapters) as temporary:
            files.write_safetensors(temporary, lora.adapters(net.blocks))
    plain = keras.Model(done.inputs, done.outputs, name=done.name)
    with replacing(run.model) as temporary:
        plain.save(temporary)


def _settle(cfg: Config, run: Run, progress: Progress) -> None:
    """Writes what belongs to a finished run beside its model, and is not there: a run may have been killed in between."""
    manifest = read_json(run.manifest)
    if "model" not in manifest:
        write_json(run.manifest, {**manifest, "model": {"file": run.model.name, "sha256": sha256(run.model)}})
    if cfg.extend and not run.extended.is_file():
        progress.line(f"forgotten {growth.line(growth.judge(run, cfg, progress))}")
    if not run.card.is_file():
        card.write(run)


def _manifest(cfg: Config, held, answer: dict, used: str, precision: str) -> dict:
    return {
        "schema": 1,
        "name": cfg.name,
        "task": cfg.task,
        "answer": answer,
        "data": held.facts(),
        "device": used,
        "precision": precision,
        "weights": cfg.backbone.weights,
        "versions": versions(),
        "machine": device.describe(),
    }


def versions() -> dict[str, str]:
    """The versions of what a run's figures depend on."""
    names = ("tlkeras", "tensorflow", "keras", "keras-hub", "numpy")
    found = {name: importlib.metadata.version(name) for name in names if _installed(name)}
    return {**found, "python": platform.python_version()}


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
