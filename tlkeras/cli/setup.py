"""Verbs before a run: the machine, a config, the catalogue, what to train and how fast."""

import shlex

import click

from tlkeras import completion
from tlkeras.command import PATH, Answer, config_argument, import_tensorflow_quietly, offline_option, quiet_option, verb


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
    following = f"tlkeras train {config}{_again(sets)}" + (f" -s {found['set']}" if found["set"] else "")
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
    return Answer(found, scouting.text(found), f"tlkeras train {config}{_again(sets)} --from-scout best")


def _again(sets) -> str:
    """The overrides that were given, as a shell takes them once more."""
    return "".join(f" -s {shlex.quote(one)}" for one in sets)
