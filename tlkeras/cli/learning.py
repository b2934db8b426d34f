"""Verbs that train, judge and train again."""

import click

from tlkeras import completion
from tlkeras.command import PATH, Answer, config_argument, offline_option, quiet_option, run_argument, verb
from tlkeras.errors import UsageError


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
    from tlkeras import adaptation, run, training

    sets = (*sets, f"train.device={device}") if device else sets
    made = training.train(config, out, sets, resume, offline, quiet, from_scout)
    kept = {k: v if k == "phase" else round(v, 4) for k, v in made.kept().items() if k != "seconds"}
    kept |= {"epoch": int(kept["epoch"])} if kept else {}
    text = f"\nTrained {made.folder}" + (f": {', '.join(f'{k} {v}' for k, v in kept.items())}" if kept else "")
    adapted = adaptation.written(made)
    text += f"\n{adaptation.lines(adapted)}" if adapted else ""
    return Answer(
        {"run": str(made.folder), "kept": kept, "audit": run.read_json(made.audit)["rows"], "adapt": adapted},
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
    from tlkeras import extension, growth

    found = extension.extend(run, data, out, not without_old_rows, sets, offline, quiet)
    text = f"Extended into {found['run']}\n{growth.text(found)}"
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
@click.option("-o", "--out", type=PATH, help="Folder of the sweep; default: saved_models/NAME-sweep.")
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
@click.option("-o", "--out", type=PATH, help="The new run folder; default: beside RUN, as NAME-again.")
@offline_option
@quiet_option
def reproduce(run, out, offline, quiet):
    """Trains RUN again from its own record and compares every figure; exit code 5 where one differs."""
    from tlkeras import reproduction

    found = reproduction.reproduce(run, out, offline, quiet)
    return Answer(found, reproduction.text(found), exit_code=0 if found["holds"] else 5)
