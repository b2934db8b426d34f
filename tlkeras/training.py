"""A run, read top to bottom: config, data, network, plan, phases (fitting.py), result."""

import importlib.metadata
import importlib.util
import time
from pathlib import Path

from tlkeras import config, configure, data, device, lora, network, plans, preview, tasks
from tlkeras.backbones import keras_hub_tokens
from tlkeras.config import Config
from tlkeras.data import sounds, texts
from tlkeras.errors import UsageError, missing_extra
from tlkeras.fitting import Fitting
from tlkeras.progress import Progress
from tlkeras.run import Run, create, free_folder, open_run, read_json, replacing, sha256, write_json, write_text
from tlkeras.weights import transformers as files


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
    # What every file is decoded for once is kept for training, unless that augments it.
    pixels = network.contract(cfg, offline) if tasks.kind(cfg.task_name) == "image" and not cfg.augment.active else None
    held = (
        data.reopen(run)
        if resume and run.splits.is_file() and run.manifest.is_file()
        else data.prepare(cfg, task, options, run, offline, progress, pixels)
    )
    rows = held.rows("train")
    targets, weights, answer = task.learnt(held.targets, rows, held.answer, options)
    options = task.bind(options, answer) if hasattr(task, "bind") else options
    progress.line(f"data      {held.summary()}")

    # ------------------------------------------------------------------ network
    net = network.build(cfg, answer, precision, offline=offline)
    blocks = list(net.blocks)
    progress.line(
        f"network   {net.backbone['name']}, {net.model.count_params():,} parameters in {len(blocks)} blocks, {net.takes}, {precision} on the {used.upper()}"
    )
    if new := net.backbone.get("new"):
        progress.line(f"weights   neck and head too; {len(new)} begin at random, of the predictor of other classes")
    if net.kind == "audio":
        sounds.check(cfg.augment, net.input)
    train_table, val_table = (held.table(r, targets, weights, net.reader) for r in (rows, held.rows("val")))
    if net.kind == "audio":
        progress.line(f"sounds    {sounds.lengths(train_table, net.input)}")
    if net.kind == "text":
        progress.line(f"tokens    {texts.lengths(train_table, net.input)}")
        keras_hub_tokens.save(net.reader.tokenizer, run.tokenizer)

    # ------------------------------------------------------------------ plan
    phases = configure.phases(cfg, len(rows), len(blocks) - 1)
    phase_plans = plans.make(phases, blocks, net.backbone["name"], origin)
    write_json(
        run.plan,
        {"schema": 1, "phases": [p.model_dump(mode="json") for p in phases], "blocks": preview.table(net, phase_plans)},
    )
    write_json(run.backbone, net.backbone)
    write_json(run.manifest, _manifest(cfg, held, answer, used, precision))

    # ------------------------------------------------------------------ phases
    fit = Fitting(
        cfg,
        run,
        net,
        (used, precision),
        task,
        options,
        train_table,
        val_table,
        progress,
    )
    with fit.stopped_by_signals():
        fit.all(phase_plans, resume)

    # ------------------------------------------------------------------ result
    # A model over the same layers that was never compiled: what is saved is the network alone.
    done = net.model
    if cfg.backbone.lora:
        merged = network.rebuild(network.plain(cfg), answer, net.backbone, None, precision, run.tokenizer)
        lora.merge(done, merged.model)
        done = merged.model
    plain = keras.Model(done.inputs, done.outputs, name=done.name)
    with replacing(run.model) as temporary:
        plain.save(temporary)
    if cfg.backbone.lora:
        # The adapters alone, some hundred times smaller than the model, for who has its weights already.
        with replacing(run.adapters) as temporary:
            files.write_safetensors(temporary, lora.adapters(net.blocks))
    manifest = read_json(run.manifest)
    write_json(run.manifest, {**manifest, "model": {"file": run.model.name, "sha256": sha256(run.model)}})
    run.record("done", seconds=round(time.monotonic() - fit.began, 1))
    return run


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
