"""The model card: what somebody should know who is handed a model, from the run's own records and from nothing else.

Markdown, `model-card.md` in the run and in each artefact's folder. The headings follow Mitchell et al. 2019
(arXiv:1810.03993): what it does, how good it is, what it was made from, and what nobody has tried.
"""

from pathlib import Path

from tlkeras import tasks
from tlkeras.card import origin, quality
from tlkeras.card.markdown import bullets, plain, table
from tlkeras.card.records import Records
from tlkeras.run import Run, write_text

__all__ = ["Records", "text", "write"]


def write(run: Run) -> Path:
    """Writes the card of a run, and that of each of its artefacts; returns the path of the run's."""
    records = Records(run)
    for folder in sorted((run.folder / "artefacts").glob("*/")):
        if row := records.artefact(folder.name):
            write_text(folder / run.card.name, text(records, row))
    write_text(run.card, text(records))
    return run.card


def text(records: Records, artefact: dict | None = None) -> str:
    """The card as Markdown; with `artefact`, a row of `export`, that of the artefact."""
    cfg = records.config
    title = cfg.name if artefact is None else f"{cfg.name}, {artefact['format']}"
    parts = [
        f"# Model card: {plain(title)}",
        _purpose(records),
        _artefact(artefact) if artefact else "",
        "## How good it is\n\n" + quality.quality(records),
        "## Limits\n\n" + bullets(quality.limits(records)),
        "## Data\n\n" + origin.samples(records),
        "## How it was made\n\n" + origin.making(records),
        "## Licences\n\n" + origin.licences(records),
        "## How to use it\n\n" + origin.use(records, artefact),
        "## Versions\n\n" + origin.versions(records),
        "Written by tlkeras from the records of the run: config, data, history and metrics. Nothing here was written by hand.",
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _purpose(records: Records) -> str:
    task = records.config.task_name.replace("-", " ")
    named = f" into {len(records.classes)} classes" if records.classes and "classification" in task else ""
    speaks = records.config.task_name == "speech-recognition"
    rows = [
        ("Task", f"{task}{named}"),
        ("Input", _input(records)),
        ("Output", _output(records)),
        ("Network", _network(records)),
    ]
    if 0 < len(records.classes) <= quality.MOST:
        shown = ["space" if c == " " else plain(c) for c in records.classes]
        rows.insert(2, ("It writes" if speaks else "Classes", ", ".join(shown)))
    return table(["", ""], rows)


def _network(records: Records) -> str:
    """The backbone and what sits on it."""
    cfg, options = records.config, tasks.options_of(records.config).model_dump()
    name = plain(records.backbone.get("name", cfg.backbone.name))
    part = f"{name} up to its block {cfg.backbone.until}" if cfg.backbone.until else name
    if detector := options.get("detector"):
        return f"{part}, with the detector {detector} ({options['scale']})"
    if decoder := options.get("decoder"):
        return f"{part}, with the decoder {decoder} of masks"
    if cfg.task_name == "speech-to-text":
        return f"{part} with its own decoder"
    means = options.get("head") == "prototypes"
    return f"{part} with a head of {'class means' if means else 'its own'}"


def _input(records: Records) -> str:
    takes = records.backbone.get("input", {})
    reads = records.backbone.get("reads", records.backbone.get("kind"))
    if reads == "image":
        high, wide = takes["size"]
        how = "the middle of it, cut to that shape" if takes.get("crop") else "the whole of it, stretched to that shape"
        how = "the whole of it, its shape kept, top left" if takes.get("pad") else how
        return f"an image, {high}x{wide} pixels in colour: {how}"
    if reads == "text":
        return f"text, at most {takes['length']} tokens at a time"
    if reads == "audio":
        at_a_time = f"{takes['length'] / takes['rate']:g} seconds at a time"
        longer = "cut where they are quiet" if records.config.task_name == "speech-to-text" else "read in windows"
        return (
            f"sound, one channel at {takes['rate']:,} Hz, {'' if takes.get('fixed') else 'at most '}{at_a_time}; "
            f"tlkeras resamples what has another rate, averages channels, and has longer recordings {longer}"
        )
    return f"one {records.thing}"


def _output(records: Records) -> str:
    task, answer = records.config.task_name, records.answer
    if task == "object-detection":
        return f"at most {answer['most']} boxes, each with a class and a score from {answer['threshold']:g} up"
    if task == "semantic-segmentation":
        return "a class for every pixel"
    if "tasks" in answer:
        return "an answer to each of its tasks: " + ", ".join(map(plain, answer["tasks"]))
    if answer.get("multi_label"):
        return f"a score for each class; those from {answer['threshold']:g} on are given"
    if records.classes and "classification" in task and "token" not in task:
        return "a score for each class; the highest is the answer"
    if task.endswith("regression"):
        return (
            "numbers, in the unit of the data" if answer.get("values", 1) > 1 else "a number, in the unit of the data"
        )
    return {
        "token-classification": "a tag for every word",
        "question-answering": "the place of the answer in the text",
        "sentence-embedding": "a vector for each text",
        "masked-lm": "what words may stand in a gap",
        "speech-recognition": "what was said, as text; each word with its beginning and end in seconds",
        "speech-to-text": "what was said, as text",
    }.get(task, "text")


def _artefact(row: dict) -> str:
    agree = row.get("agreement")
    rows = [
        ("Format", row["format"]),
        (row["metric"].replace("_", " "), f"{row['score']:.4f}; the Keras model has {row['keras']:.4f}"),
        ("Largest difference", f"{row['max_difference']:.2g} between its outputs and those of the Keras model"),
        *([("Same answer", f"{100 * agree:.1f} % of the samples")] if agree is not None else []),
        ("Size", f"{row['bytes'] / 1e6:.2f} MB"),
        ("Time", f"{row['milliseconds']:.1f} ms a sample, one at a time, on the machine that exported"),
    ]
    head = f"## This artefact\n\nRun in a fresh process on {row['n']:,} held-out samples before it was kept."
    return f"{head}\n\n{table(['', ''], rows)}"
