"""The verbs of `tlkeras weights`: weights from elsewhere."""

import click

from tlkeras import completion
from tlkeras.command import PATH, Answer, group

_weights_verb = group("weights", "Weights of PyTorch, Hugging Face and TensorFlow checkpoints: look, convert, compare.")
_map_option = click.option("--map", "names", type=PATH, help="YAML file of rules between names; docs/weights.md.")
_size_option = click.option("--size", type=click.IntRange(min=8), help="Pixels a side; default: those of the network.")


@_weights_verb("inspect")
@click.argument("file", type=PATH)
def weights_inspect(file):
    """What FILE holds: tensors, numbers, the network it looks like, its licence. FILE may be a directory or a checkpoint."""
    from tlkeras.weights import elsewhere

    found = elsewhere.inspect(file)
    return Answer(
        found, elsewhere.inspect_text(found), f"tlkeras weights convert {file} --to NAME --out OUT.weights.h5"
    )


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
    return Answer(found, elsewhere.converted_text(found), f"tlkeras weights verify {file} {found['network']}")


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
