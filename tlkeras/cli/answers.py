"""Verbs that use a run: answers, report, artefacts, server."""

import click

from tlkeras import completion
from tlkeras.command import PATH, Answer, offline_option, quiet_option, run_argument, verb
from tlkeras.errors import UsageError


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
