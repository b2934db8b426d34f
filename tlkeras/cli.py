"""The command line: a verb is a name, a few options and a call. TensorFlow is imported inside the bodies only.

stdout is the result, stderr the log. `--json` gives one envelope on every verb:
{"schema": 1, "verb", "ok", "data", "next"} or {"schema": 1, "verb", "ok": false, "error": {...}}.
"""

import json

import click

from tlkeras import completion
from tlkeras.command import (
    PATH,
    Answer,
    config_argument,
    group,
    import_tensorflow_quietly,
    main,
    offline_option,
    quiet_option,
    run_argument,
    verb,
)
from tlkeras.errors import UsageError


@verb("doctor")
def doctor():
    """Is this machine ready? Takes one real training step and names what is missing."""
    from tlkeras import health

    found = health.doctor()
    return Answer(found, health.text(found), "tlkeras init DATA" if found["ok"] else "", 0 if found["ok"] else 4)


@verb("init", tensorflow=False)
@click.argument("data", type=PATH)
@click.option("-o", "--out", type=PATH, help="File to write; default: DATA's name with .yaml.")
@click.option(
    "--backbone",
    help="Default: efficientnet_lite0 for images, minilm_l6 for text.",
    shell_complete=completion.complete_backbone,
)
@click.option("--weights", default="pretrained", show_default=True)
def init(data, out, backbone, weights):
    """Looks at DATA and writes a config that runs as it is."""
    from tlkeras import configure

    path = configure.init(data, out, backbone, weights)
    return Answer({"config": str(path)}, f"{path.read_text('utf8')}\nWritten to {path}", f"tlkeras train {path}")


@verb("backbones", tensorflow=False)
@click.argument("name", required=False, shell_complete=completion.complete_backbone)
@click.option("--family", help="Only this family.")
@click.option("--kind", type=click.Choice(["image", "text", "audio"]), help="Only those that read this.")
def backbones(name, family, kind):
    """The catalogue; with NAME: blocks, parameters, FLOPs, input, licence."""
    from tlkeras.backbones import listing

    if name:
        import_tensorflow_quietly()
        found = listing.one(name)
        return Answer(found, listing.one_text(found), f"tlkeras init DATA --backbone {name}")
    rows = listing.rows(family, kind)
    return Answer(rows, listing.rows_text(rows), "tlkeras backbones NAME")


_config_verb = group("config", "Check a config, write it out in full, or print its JSON Schema.")
_cache_verb = group("cache", "Features that earlier runs computed and kept on disk.")


_data_verb = group("data", "Pack a data set for network disks; convert boxes and masks.")


@_data_verb("pack", tensorflow=True)
@click.argument("data")
@click.option("-o", "--out", type=PATH, required=True, help="Folder of the pack; one that was begun is gone on with.")
@click.option("--shard-mb", default=128.0, show_default=True, help="Size of a shard in 10^6 bytes.")
@click.option("-s", "--set", "sets", multiple=True, metavar="data.KEY=VALUE", help="Override: -s data.label=species")
@offline_option
@quiet_option
def data_pack(data, out, shard_mb, sets, offline, quiet):
    """Packs DATA into TFRecord shards with checksums; run again, it goes on where it stopped.

    DATA is a folder of classes, a table, a glob of TFRecord files, a TensorFlow Dataset (its folder, or tfds:NAME),
    or a config.
    """
    from tlkeras.data import packing

    found = packing.pack(data, out, shard_mb, sets, quiet, offline)
    return Answer(found, packing.text(found), f"tlkeras train {out}")


@_data_verb("convert")
@click.argument("data")
@click.option(
    "--to", "target", type=click.Choice(["coco", "yolo", "voc", "csv", "masks"]), required=True, help="Format to write."
)
@click.option("-o", "--out", type=PATH, required=True, help="A new folder; nothing is overwritten.")
@click.option("--kind", type=click.Choice(["boxes", "masks"]), help="What to carry over; default: what DATA holds.")
@click.option("-s", "--set", "sets", multiple=True, metavar="data.KEY=VALUE", help="Override: -s data.on_bad=skip")
def data_convert(data, target, out, kind, sets):
    """Writes the boxes or masks of DATA in another format, with copies of its pictures.

    DATA is COCO's JSON, the folder of COCO, YOLO, Pascal VOC or index masks, a table, or a config.
    """
    from tlkeras.data import convert, packing

    found = convert.convert(data, target, out, packing.section_of(data, sets), kind)
    return Answer(found, convert.text(found), "")


@_cache_verb("list")
def cache_list():
    """What is kept, longest unused first."""
    from tlkeras.prefix import store

    found = store.listing()
    return Answer(found, store.text(found), "tlkeras cache prune" if found else None)


@_cache_verb("prune")
@click.option("--older-than", type=float, metavar="DAYS", help="Only what was not used for so long.")
@click.option("--keep", metavar="SIZE", help="Only the longest unused, until so much is left: 500MB, 20GB.")
def cache_prune(older_than, keep):
    """Removes what is kept: all of it, or what the options say. The next run computes it again."""
    from tlkeras.config import size_in_bytes
    from tlkeras.prefix import store

    try:
        kept = size_in_bytes(keep) if keep else None
    except ValueError as e:
        raise UsageError(f"--keep: {e}") from e
    gone = store.prune(older_than, kept)
    size = sum(s["bytes"] for s in gone)
    return Answer(gone, f"{store.folder()}: removed {len(gone)}, {size / 1e6:,.1f} MB.")


@_config_verb("check")
@config_argument
def config_check(config, sets):
    """Lists every mistake of CONFIG with its place."""
    from tlkeras import configure

    configure.load(config, sets)
    return Answer({"config": str(config)}, f"{config}: no mistakes.", f"tlkeras plan {config}")


@_config_verb("render")
@config_argument
def config_render(config, sets):
    """CONFIG with every default filled in, and where each value comes from."""
    from tlkeras import configure
    from tlkeras.config import render

    cfg, origin = configure.load(config, sets)
    return Answer(cfg.model_dump(mode="json"), render(cfg, origin))


@_config_verb("schema")
def config_schema():
    """The JSON Schema of a config, for editors."""
    from tlkeras import configure
    from tlkeras.config import schema

    made = schema(configure.vocabulary())
    return Answer(made, json.dumps(made, indent=1))


@verb("plan")
@config_argument
@offline_option
def plan(config, sets, offline):
    """Per phase and block: frozen or trained, learning rate, parameters."""
    from tlkeras import preview

    found = preview.plan(config, sets, offline=offline)
    return Answer(found, preview.text(found), f"tlkeras train {config}")


@verb("find-rate")
@config_argument
@click.option(
    "--phase", help="Its name, as `tlkeras plan` shows it; default: the first. Earlier ones are trained first."
)
@click.option(
    "--updates", default=100, show_default=True, help="At most so many; fewer when the loss becomes too large."
)
@click.option("--lowest", default=1e-7, show_default=True, help="Rate of the head to begin with.")
@click.option("--highest", default=10.0, show_default=True, help="Rate of the head to end with.")
@click.option("-o", "--out", type=PATH, help="The picture, an SVG; default: NAME-PHASE-rate.svg.")
@offline_option
@quiet_option
def find_rate(config, sets, phase, updates, lowest, highest, out, offline, quiet):
    """The loss of CONFIG under a growing learning rate, with a picture; nothing else is kept."""
    from tlkeras import rates

    found = rates.find_rate(config, phase, sets, updates, lowest, highest, out, offline, quiet)
    following = f"tlkeras train {config}" + (f" -s {found['set']}" if found["set"] else "")
    return Answer(found, rates.text(found), following)


@verb("scout")
@config_argument
@click.option(
    "--backbones",
    metavar="A,B,...",
    help="NAME, NAME=WEIGHTS or NAME@SIZE; default: the config's, and those whose weights are on this machine.",
)
@click.option("--latency/--no-latency", default=True, help="Convert each to TFLite and time it.")
@offline_option
@quiet_option
def scout(config, sets, backbones, latency, offline, quiet):
    """Which backbone suits the data of CONFIG, before any is trained: features judged by k-NN, a linear probe, LogME.

    WEIGHTS as in a config, or 'random'; SIZE in pixels, for texts in tokens. Writes saved_models/NAME-scout.
    """
    from tlkeras import scouting

    names = [b for b in (backbones or "").split(",") if b.strip()]
    found = scouting.scout(config, names, sets, offline, latency, quiet)
    return Answer(found, scouting.text(found), f"tlkeras train {config} --from-scout best")


@verb("train")
@config_argument
@click.option("-o", "--out", type=PATH, help="Run folder; default: saved_models/NAME. A run is never overwritten.")
@click.option("--resume", is_flag=True, help="CONFIG is a run folder: go on after its last checkpoint.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), help="gpu fails where there is none.")
@click.option("--from-scout", metavar="best|NAME", help="With the backbone that `tlkeras scout CONFIG` found.")
@offline_option
@quiet_option
def train(config, sets, out, resume, device, from_scout, offline, quiet):
    """Trains CONFIG, or a config made for the folder or table of data that CONFIG is."""
    from tlkeras import adaptation, evaluation, run, training

    sets = (*sets, f"train.device={device}") if device else sets
    made = training.train(config, out, sets, resume, offline, quiet, from_scout)
    last = evaluation.last_epoch(made)
    text = f"\nTrained {made.folder}" + (f": {', '.join(f'{k} {v}' for k, v in last.items())}" if last else "")
    adapted = adaptation.written(made)
    text += f"\n{adaptation.lines(adapted)}" if adapted else ""
    return Answer(
        {"run": str(made.folder), "last": last, "audit": run.read_json(made.audit)["rows"], "adapt": adapted},
        text,
        f"tlkeras evaluate {made.folder}",
    )


@verb("soup")
@click.argument("runs", nargs=-1, required=True, type=PATH, shell_complete=completion.complete_run)
@click.option(
    "-o", "--out", type=PATH, help="Run folder; default: saved_models/NAME-soup of the first. Never overwritten."
)
@click.option(
    "--kind",
    type=click.Choice(["greedy", "uniform"]),
    default="greedy",
    show_default=True,
    help="greedy: best first, what does not lower the validation score; uniform: all.",
)
@click.option("--epochs", is_flag=True, help="Of the checkpoints that one run kept, see train.keep_checkpoints.")
@quiet_option
def soup(runs, out, kind, epochs, quiet):
    """One network with the mean weights of RUNS: same network, same data, other seeds or settings."""
    from tlkeras import soups
    from tlkeras.run import read_json

    made = soups.soup(runs, out, kind, epochs, quiet)
    facts = read_json(made.manifest)["soup"]
    return Answer({"run": str(made.folder), **facts}, soups.text(made), f"tlkeras evaluate {made.folder}")


@verb("extend")
@run_argument
@click.argument("data", type=PATH)
@click.option("-o", "--out", type=PATH, help="Run folder; default: RUN-extended. RUN itself is not changed.")
@click.option("--without-old-rows", is_flag=True, help="Do not train on RUN's samples; its answers stand for them.")
@click.option("-s", "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override: -s distill.weight=0.7")
@offline_option
@quiet_option
def extend(run, data, out, without_old_rows, sets, offline, quiet):
    """Adds the classes of DATA to RUN, and counts per class what was forgotten.

    DATA is laid out as RUN's data was; it holds the new classes, with or without the old ones.
    """
    from tlkeras import extension

    found = extension.extend(run, data, out, not without_old_rows, sets, offline, quiet)
    text = f"Extended into {found['run']}\n{extension.text(found)}"
    return Answer(found, text, f"tlkeras evaluate {found['run']}")


@verb("evaluate")
@run_argument
@click.option("--split", default="test", show_default=True, type=click.Choice(["test", "val", "train"]))
@click.option("--data", type=PATH, help="Other labelled data instead of a split.")
@click.option("--batch", type=click.IntRange(min=1), help="Samples at a time; default: what this machine does best.")
@click.option(
    "--baselines/--no-baselines",
    default=None,
    help="Compare with k-NN and a linear probe; default: where their features take at most two minutes.",
)
@click.option("--against", multiple=True, type=PATH, help="A run of one of several tasks alone: did sharing help?")
@quiet_option
def evaluate(run, split, data, batch, baselines, against, quiet):
    """Metrics on the held-out split, with confidence intervals, beside those of simple baselines."""
    from tlkeras import evaluation

    if against and data:
        raise UsageError("--against compares on a split that both runs held out. Leave --data out.")
    result = evaluation.evaluate(run, split, data, batch, quiet, baselines)
    text = evaluation.text(result)
    if against:
        from tlkeras import sharing

        result = {**result, "sharing": sharing.against(run, against, split, quiet)}
        text += "\n" + sharing.text(result["sharing"])
    return Answer(result, text, f"tlkeras report {run}, or: tlkeras export {run}")


@verb("sweep")
@click.argument("config", type=PATH)
@click.option(
    "-s", "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a value: -s sweep.trials=5",
    shell_complete=completion.complete_set,
)  # fmt: skip
@click.option("--out", type=PATH, help="Folder of the sweep; default: saved_models/NAME-sweep.")
@click.option("--resume", is_flag=True, help="CONFIG is the folder of a sweep: go on with it.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all; default: the config's.")
@offline_option
@quiet_option
def sweep(config, sets, out, resume, trials, offline, quiet):
    """Searches what section `sweep` of CONFIG says; writes the config of the best trial."""
    from tlkeras import sweeping

    found = sweeping.sweep(config, out, sets, resume, trials, offline, quiet)
    return Answer(found, sweeping.text(found), f"tlkeras evaluate {found['best']['run']}")


@verb("reproduce")
@run_argument
@click.option("--out", type=PATH, help="The new run folder; default: beside RUN, as NAME-again.")
@offline_option
@quiet_option
def reproduce(run, out, offline, quiet):
    """Trains RUN again from its own record and compares every figure; exit code 5 where one differs."""
    from tlkeras import reproduction

    found = reproduction.reproduce(run, out, offline, quiet)
    return Answer(found, reproduction.text(found), exit_code=0 if found["holds"] else 5)


@verb("predict")
@run_argument
@click.argument("files", nargs=-1, type=PATH)
@click.option("--text", "texts", multiple=True, help="A text instead of a file; repeatable.")
@click.option("-s", "--set", "sets", multiple=True, metavar="task.KEY=VALUE", help="Override: -s task.sampler=top_p")
@click.option("--batch", type=click.IntRange(min=1), help="Samples at a time; default: what this machine does best.")
@click.option("--draw", type=PATH, help="Folder for pictures with the boxes or masks in them.")
@quiet_option
def predict(run, files, texts, sets, batch, draw, quiet):
    """Answers for FILES and folders of them, or for texts.

    A run on images takes image files; a run on text takes .txt files and tables with the columns it was trained on.
    """
    from tlkeras import answers

    if not files and not texts:
        raise UsageError("Nothing to predict: give files, or texts with --text.")
    found = answers.predict(run, files, batch, quiet, texts, sets)
    failed = sum("error" in a for a in found)
    text = "\n".join(answers.line(a) for a in found) + (
        f"\n{failed} of {len(found)} could not be answered." if failed else ""
    )
    if draw:
        text += f"\nDrawn into {draw}: {len(answers.draw(run, found, draw))} pictures."
    return Answer(found, text, exit_code=3 if failed else 0)


@verb("find")
@click.argument("preset")
@click.argument("files", nargs=-1, type=PATH, required=True)
@click.option("--point", "points", multiple=True, metavar="X,Y[,0]", help="SAM: a pixel of the thing; 0: not of it.")
@click.option("--box", "boxes", multiple=True, metavar="X0,Y0,X1,Y1", help="SAM: a box around a thing; repeatable.")
@click.option("--classes", type=PATH, help="File with a name a line: presets bring none.")
@click.option("--threshold", default=0.3, show_default=True, help="Score from which a box is shown.")
@click.option("--draw", type=PATH, help="Folder for pictures with the boxes or masks in them.")
@offline_option
def find(preset, files, points, boxes, classes, threshold, draw, offline):
    """What a detector or segmenter of keras-hub finds in FILES as it comes, untrained by you.

    PRESET is a directory, a handle (kaggle://, hf://) or a name of SAM, BASNet, SegFormer, DeepLabV3+, D-FINE or
    RetinaNet, such as sam_base_sa1b. Places are in pixels of the upright picture.
    """
    from tlkeras import answers, pretrained

    prompts = [[pretrained.numbers(text) for text in given] for given in (points, boxes)]
    names = pretrained.names_in(classes) if classes else None
    found = pretrained.find(preset, files, *prompts, names, threshold, draw, offline)
    failed = sum("error" in a for a in found)
    text = "\n".join(answers.line(a) for a in found) + (f"\nDrawn into {draw}." if draw else "")
    return Answer(found, text, exit_code=3 if failed else 0)


@verb("report", tensorflow=False)
@run_argument
@quiet_option
def report(run, quiet):
    """Writes RUN/report.html: one self-contained page."""
    from tlkeras import reports

    path = reports.report(run)
    return Answer({"report": str(path)}, f"Written to {path}", f"tlkeras export {run}")


@verb("export")
@click.argument("run", type=PATH, shell_complete=completion.complete_run)
@click.option(
    "--to",
    multiple=True,
    shell_complete=completion.complete_format,
    help="Format, repeatable; default: those of the config.",
)
@click.option("--max-drop", type=float, help="Largest drop of the main metric; default: the config's.")
@click.option("--check", is_flag=True, help="RUN is a config: convert its untrained network only.")
@quiet_option
def export(run, to, max_drop, check, quiet):
    """Writes SavedModel and TFLite, each proven on the held-out files before it is kept."""
    from tlkeras import artefacts

    if check:
        forms = artefacts.check(run, to, quiet=quiet)
        return Answer(forms, f"{run}: converts to {', '.join(forms)}.", f"tlkeras train {run}")
    rows = artefacts.export(run, to, max_drop, quiet)
    following = (
        f"tlkeras serve {run}"
        if any(r["format"] == "saved_model" for r in rows)
        else f"tlkeras bench {rows[0]['path']}"
    )
    return Answer(rows, artefacts.text(rows), following)


@verb("bench")
@click.argument("artefact", type=PATH)
@click.option("--runs", default=100, show_default=True)
@click.option("--threads", type=int, help="Threads of the interpreter; default: its own.")
def bench(artefact, runs, threads):
    """Latency and size of an exported artefact on this machine."""
    from tlkeras.artefacts import bench as room

    found = room.bench(artefact, runs, threads)
    return Answer(found, room.text(found))


@verb("serve")
@click.argument("run", type=PATH, shell_complete=completion.complete_run)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8501, show_default=True)
@click.option("--name", help="Name of the model in the address; default: the config's.")
@click.option("--insecure", is_flag=True, help="Allow a host that others can reach; there is no password yet.")
def serve(run, host, port, name, insecure):
    """Answers TensorFlow Serving's REST protocol, and a page to try the model on."""
    from tlkeras import server

    server.serve(run, host=host, port=port, name=name, insecure=insecure)
    return Answer(None)


from tlkeras import weights_cli  # noqa: E402, F401, I001  # verbs are listed in the order they are made

if __name__ == "__main__":
    main()
