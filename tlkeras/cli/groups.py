"""Verbs that come in groups: config, cache, data, weights."""

import json

import click

from tlkeras import completion
from tlkeras.command import PATH, Answer, config_argument, group, offline_option, quiet_option
from tlkeras.errors import UsageError

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
    return Answer(
        {"config": str(config)},
        f"{config}: no mistakes in keys and values. Data and names of blocks are looked at by plan.",
        f"tlkeras plan {config}",
    )


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


_weights_verb = group("weights", "Weights of PyTorch, Hugging Face and TensorFlow checkpoints: look, convert, compare.")
_map_option = click.option("--map", "names", type=PATH, help="YAML file of rules between names; docs/weights.md.")
_size_option = click.option("--size", type=click.IntRange(min=8), help="Pixels a side; default: those of the network.")


@_weights_verb("inspect")
@click.argument("file", type=PATH)
def weights_inspect(file):
    """What FILE holds: tensors, numbers, the network it looks like, its licence. FILE may be a directory or a checkpoint."""
    from tlkeras.weights import elsewhere

    found = elsewhere.inspect(file)
    # A directory of Hugging Face names its network itself.
    to = "--out OUT" if found["kind"] == "transformers" else "--to NAME --out OUT.weights.h5"
    return Answer(found, elsewhere.inspect_text(found), f"tlkeras weights convert {file} {to}")


@_weights_verb("convert", tensorflow=True)
@click.argument("file", type=PATH)
@click.option(
    "--to",
    "target",
    help="Network of the catalogue; default: the one it looks like.",
    shell_complete=completion.complete_backbone,
)
@click.option(
    "-o", "--out", type=PATH, required=True, help="FILE.weights.h5, FILE.keras, or a new directory for a preset."
)
@_map_option
@_size_option
@click.option("--classifier", is_flag=True, help="The classifier too: a network to logits.")
@click.option(
    "--allow-missing", multiple=True, metavar="GLOB", help="Weights that may stay random, by path; repeatable."
)
def weights_convert(file, target, out, names, size, classifier, allow_missing):
    """Writes the weights of FILE as Keras reads them; the coverage first, and nothing where something is left over."""
    from tlkeras.weights import elsewhere

    found = elsewhere.convert(
        file, target, out, names, size, classifier, allow_missing, lambda text: click.echo(text, err=True)
    )
    return Answer(
        found,
        elsewhere.converted_text(found),
        f"tlkeras weights verify {file}{'' if 'compared' in found else ' ' + found['network']}",
    )


@_weights_verb("verify", tensorflow=True)
@click.argument("file", type=PATH)
@click.argument("target", required=False, shell_complete=completion.complete_backbone)
@_map_option
@_size_option
def weights_verify(file, target, names, size):
    """FILE in the network TARGET beside the PyTorch model: the largest difference of logits and features."""
    from tlkeras.weights import verified

    found = verified.verify(file, target, names, size, lambda text: click.echo(text, err=True))
    return Answer(found, verified.text(found), exit_code=5 if found["compared"] and not found["exact"] else 0)
