"""The model card: what somebody should know who is handed a model, from the run's own records and from nothing else.

Markdown, `model-card.md` in the run and in each artefact's folder. The headings follow Mitchell et al. 2019
(arXiv:1810.03993): what it does, how good it is, what it was made from, and what nobody has tried.
"""

import csv
import datetime
import json
import re
import shlex
from pathlib import Path

import numpy as np

from tlkeras import backbones, config, data, tasks
from tlkeras.run import Run, read_json, write_text

FEW = 300  # as in the report: below this many samples the width of the interval is the message
MOST = 40  # classes that are listed one by one
THINGS = {"image": "image", "text": "text", "audio": "sound"}
SPLITS = {"test": "test", "val": "validation", "train": "training", "data": "other"}
MEANS = {
    "accuracy": "part of the answers that are right",
    "macro_f1": "finding a class and not inventing it in one figure, the mean over classes; 1 is best",
    "map": "finding every object in its exact frame, the mean over classes and strictness; 1 is best",
    "miou": "what truth and answer share of what either covers, the mean over classes; 1 is best",
    "rmse": "typical error in the unit of the values; 0 is best",
    "wer": "words that are wrong, missing or too many, as a part of those said; 0 is best",
    "rouge_l": "how much of the wanted text is there in its order; 1 is best",
    "f1": "precision and recall in one figure; 1 is best",
    "perplexity": "among how many tokens it seems to choose; 1 is best",
    "recall_at_1": "part of the texts whose own pair is the nearest; 1 is best",
}


class Records:
    """A run folder as a card reads it; what is not there is empty."""

    def __init__(self, run: Run):
        def found(path):
            return read_json(path) if path.is_file() else {}

        self.run, self.config = run, config.load(run.config)
        self.manifest, self.plan, self.metrics = found(run.manifest), found(run.plan), found(run.metrics)
        self.backbone, self.report = found(run.backbone), found(run.data_report)
        self.answer = self.manifest.get("answer", {})
        self.classes = self.answer.get("classes") or []
        self.thing = THINGS[tasks.kind(self.config.task_name)]
        self.held = data.reopen(run) if run.splits.is_file() else None
        self.test = self.metrics.get("test")

        self.history = []
        if run.history.is_file():
            with run.history.open(encoding="utf8", newline="") as f:
                self.history = list(csv.DictReader(f))

    def epochs(self, phase: str) -> int:
        return sum(row["phase"] == phase for row in self.history)

    @property
    def last(self) -> dict:
        return self.history[-1] if self.history else {}

    @property
    def reproduced(self) -> dict | None:
        """The event of the last time that the run was trained again."""
        lines = self.run.status.read_text("utf8").splitlines() if self.run.status.is_file() else []
        return next((json.loads(x) for x in reversed(lines) if '"event": "reproduced"' in x), None)

    def artefact(self, form: str) -> dict:
        path = self.run.artefact(form) / "parity.json"
        return read_json(path) if path.is_file() else {}


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
        "## How good it is\n\n" + _quality(records),
        "## Limits\n\n" + bullets(_limits(records)),
        "## Data\n\n" + _data(records),
        "## How it was made\n\n" + _making(records),
        "## Licences\n\n" + _licences(records),
        "## How to use it\n\n" + _use(records, artefact),
        "## Versions\n\n" + _versions(records),
        "Written by tlkeras from the records of the run: config, data, history and metrics. Nothing here was written by hand.",
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _purpose(records: Records) -> str:
    task, backbone = records.config.task_name.replace("-", " "), records.backbone
    named = f" into {len(records.classes)} classes" if records.classes and "classification" in task else ""
    rows = [
        ("Task", f"{task}{named}"),
        ("Input", _input(records)),
        ("Output", _output(records)),
        ("Network", f"{plain(backbone.get('name', records.config.backbone.name))} with a head of its own"),
    ]
    if 0 < len(records.classes) <= MOST:
        rows.insert(2, ("Classes", ", ".join(map(plain, records.classes))))
    return table(["", ""], rows)


def _input(records: Records) -> str:
    takes = records.backbone.get("input", {})
    reads = records.backbone.get("reads", records.backbone.get("kind"))
    if reads == "image":
        high, wide = takes["size"]
        how = "the middle of it, cut to that shape" if takes.get("crop") else "the whole of it, bent to that shape"
        return f"an image, {high}x{wide} pixels in colour: {how}"
    if reads == "text":
        return f"text, at most {takes['length']} tokens at a time"
    if reads == "audio":
        at_a_time = f"{takes['length'] / takes['rate']:g} seconds at a time"
        return f"sound, one channel at {takes['rate']:,} Hz, {'' if takes.get('fixed') else 'at most '}{at_a_time}"
    return f"one {records.thing}"


def _output(records: Records) -> str:
    task, answer = records.config.task_name, records.answer
    if task == "object-detection":
        return "boxes, each with a class and a score"
    if task == "semantic-segmentation":
        return "a class for every pixel"
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
        "speech-recognition": "what was said, as text",
    }.get(task, "text")


# ---------------------------------------------------------------------- quality
def _quality(records: Records) -> str:
    parts = []
    if not records.test:
        counted = records.manifest.get("data", {}).get("splits", {}).get("test", 0)
        parts.append(
            f"**Not measured yet** on the {counted:,} {records.thing}s that were kept apart for it. "
            f"Measure: `tlkeras evaluate {_folder(records)}`"
            if counted
            else "**Never measured on samples apart**: the data has no test split."
        )
        if "val" not in records.metrics and (last := records.last):
            shown = ", ".join(
                f"{k[4:].replace('_', ' ')} {float(v):.4f}" for k, v in last.items() if k.startswith("val_") and v
            )
            parts.append(
                f"On the validation samples after the last epoch, which steered training: {shown}." if shown else ""
            )
    for split, result in records.metrics.items():
        if split in SPLITS:
            parts.append(_measured(records, split, result))
    if (shown := records.test or records.metrics.get("data")) and shown.get("per_class"):
        parts.append(_by_class(records, shown))
    if done := records.reproduced:
        day = datetime.datetime.fromtimestamp(done["time"], datetime.UTC).date()
        came = "the same figures" if done["holds"] else "other figures"
        parts.append(f"Trained again from its own record on {day}: {came}, at most {done['largest']:.1g} apart.")
    return "\n\n".join(p for p in parts if p)


def _measured(records: Records, split: str, result: dict) -> str:
    told = {
        "test": "It was not trained on these, and nothing was chosen by them.",
        "val": "These steered training, so the figures flatter.",
        "train": "It was trained on these: the figures say nothing about new ones.",
        "data": "These are from elsewhere and were not trained on.",
    }[split]
    rows = []
    for name, value in sorted(result["metrics"].items(), key=lambda item: item[0] != result["main"]):
        between = result["intervals"].get(name)
        band = f"{between[0]:.4f} to {between[1]:.4f}" if between and between[0] < between[1] else ""
        rows.append((name.replace("_", " "), "not defined" if value is None else f"{value:.4f}", band))
    main = result["main"]
    meaning = f" {main.replace('_', ' ')}: {MEANS[main]}." if main in MEANS else ""
    head = f"On {result['n']:,} {SPLITS[split]} {records.thing}s. {told}{meaning}"
    return f"{head}\n\n{table(['metric', 'value', '95 % interval'], rows)}"


def _by_class(records: Records, result: dict) -> str:
    per = result["per_class"]
    figures = [k for k in per if k not in ("class", "support")]
    first = next((k for k in ("f1", "ap", "iou", "recall") if k in figures), figures[0])
    order = sorted(range(len(per["class"])), key=lambda i: (per[first][i] is None, per[first][i]))
    counted = {"object-detection": "objects", "semantic-segmentation": "pixels", "token-classification": "entities"}
    named = counted.get(records.config.task_name, f"{records.thing}s")
    rows = [
        (
            plain(per["class"][i]),
            f"{int(per['support'][i]):,}",
            *("-" if per[k][i] is None else f"{per[k][i]:.3f}" for k in figures),
        )
        for i in order[:MOST]
    ]
    more = f"\n\n{len(order) - MOST:,} better ones are left out; metrics.json has them." if len(order) > MOST else ""
    head = f"Class by class, the weakest by {first.replace('_', ' ')} first:"
    return f"{head}\n\n{table(['class', named, *(k.replace('_', ' ') for k in figures)], rows)}{more}"


def _limits(records: Records) -> list[str]:
    said, thing, result = [], records.thing, records.test
    source = f"`{records.config.data.path or records.config.data.tfds}`"
    if result and result["n"] < FEW:
        said.append(f"Judged on {result['n']:,} {thing}s only: look at the intervals, not at the last digits.")
    if records.config.task_name.endswith("-classification") and "token" not in records.config.task_name:
        other = "scores for these alone" if records.answer.get("multi_label") else "one of these"
        said.append(f"It knows {len(records.classes)} classes and answers {other}, whatever it is shown.")
    elif records.classes:
        said.append(f"It knows {len(records.classes)} classes; anything else is missed, or taken for one of these.")
    for words, names in _weak(result, records.config.task_name) if result else ():
        said.append(f"{words}: {', '.join(map(plain, names[:20]))}{' and more' if len(names) > 20 else ''}.")
    if isinstance(counts := _counts(records), dict) and "train" in counts:
        most, least = counts["train"].argmax(), counts["train"].argmin()
        if counts["train"][most] >= 10 * max(counts["train"][least], 1):
            said.append(
                f"Uneven training data: {counts['train'][most]:,} of {plain(records.classes[most])}, {counts['train'][least]:,} of {plain(records.classes[least])}."
            )
    if near := records.report.get("near_duplicates"):
        said.append(f"{len(near)} {thing}s are nearly the same in two splits, so the figures may flatter.")
    if "data" not in records.metrics:
        said.append(f"All samples come from {source}; how it does on {thing}s from elsewhere was not measured.")
    if records.backbone.get("reads") == "text" or thing == "text":
        said.append("Which languages the texts are in is not recorded; others than theirs were not tried.")
    if thing == "sound":
        said.append("Voices, rooms, microphones and languages other than those of the data were not tried.")
    said.append("Not tested: disturbed or hostile inputs, drift over time, and differences between groups of people.")
    said.append("One training with one seed on one split; another gives other figures.")
    return said


def _weak(result: dict, task: str) -> list[tuple[str, list]]:
    per = result.get("per_class")
    if not per or task == "semantic-segmentation":
        return []
    found = per.get("ar") or per.get("recall")
    pairs = list(zip(per["class"], per["support"], found or [1] * len(per["class"]), strict=True))
    scarce = [c for c, s, _ in pairs if s < 5]
    lost = [c for c, s, r in pairs if s and not r]
    return [
        *([("Fewer than five test samples, so their figures mean little", scarce)] if scarce else []),
        *([("Never recognised in the test", lost)] if lost else []),
    ]


# ---------------------------------------------------------------------- origin
def _counts(records: Records) -> dict | None:
    """Samples of each class by split, where samples have classes as a whole."""
    held = records.held
    if held is None or not records.classes or not isinstance(held.targets, np.ndarray):
        return None
    return {s: held.targets[held.rows(s)].sum(0).astype(int) for s in data.SPLITS if len(held.rows(s))}


def _data(records: Records) -> str:
    cfg, facts = records.config.data, records.manifest.get("data", {})
    rows = [
        ("Source", f"`{cfg.path or cfg.tfds}`"),
        ("Samples", f"{facts.get('samples', 0):,} {records.thing}s"),
        *((SPLITS[s].capitalize(), f"{n:,}") for s in data.SPLITS if (n := facts.get("splits", {}).get(s))),
        ("Left out", f"{facts.get('skipped', 0):,} that could not be used"),
        ("SHA-256", f"`{facts.get('sha256', 'unknown')}`, over the content, label and split of every sample"),
    ]
    parts = [table(["", ""], rows)]
    counts = _counts(records)
    if counts and len(records.classes) <= MOST:
        cells = [(plain(c), *(f"{counts[s][i]:,}" for s in counts)) for i, c in enumerate(records.classes)]
        parts.append(table(["class", *(SPLITS[s] for s in counts)], cells))
    return "\n\n".join(parts)


def _making(records: Records) -> str:
    about, plan, manifest = records.backbone, records.plan, records.manifest
    blocks = plan.get("blocks", [])
    lines = [
        f"Backbone: {plain(about.get('name', 'unknown'))}, {_weights(records)}.",
        f"Seed {records.config.train.seed}, {manifest.get('precision', '')} on the {manifest.get('device', '').upper()}, batches of {plan.get('steps', {}).get('batch', records.config.train.batch)}.",
    ]
    if records.config.backbone.lora:
        lines.append(
            f"Adapted by LoRA of rank {records.config.backbone.lora.rank}, merged into the weights afterwards."
        )
    if records.config.augment.active:
        changed = records.config.augment.model_dump(exclude_defaults=True)
        lines.append("Augmented: " + ", ".join(f"{k} {v}" for k, v in changed.items()) + ".")
    rows = []
    for phase in plan.get("phases", []):
        mine = [b for b in blocks if b["phase"] == phase["name"]]
        moved, every = (sum(b[k] for b in mine) for k in ("trainable", "parameters"))
        rows.append(
            (
                phase["name"],
                plain(", ".join(b["block"] for b in mine if b["trained"])),
                f"{moved:,} of {every:,}",
                f"{records.epochs(phase['name'])} of {phase['epochs']}",
                f"{phase['optimizer']}, {phase['learning_rate']:g}",
            )
        )
    return (
        f"{bullets(lines)}\n\n{table(['phase', 'trained blocks', 'parameters', 'epochs', 'optimizer and rate'], rows)}"
    )


def _weights(records: Records) -> str:
    name = records.backbone.get("weights")
    if not name:
        return "from random weights"
    entry = backbones.catalogue().get(records.backbone["name"])
    where = entry.sources[name].where if entry and name in entry.sources else ""
    return f"weights {plain(name)}" + (f" from `{where}`" if where and where != name else "")


def _licences(records: Records) -> str:
    weights = records.backbone.get("licence", "unknown") if records.backbone.get("weights") else "none: random weights"
    return (
        bullets(
            [
                f"Data: {plain(records.config.data.licence or 'not stated (data.licence in the config)')}",
                f"Weights of the backbone: {plain(weights)}",
                "tlkeras, which trained it: Apache-2.0",
            ]
        )
        + "\n\nThe model was made from the data and the weights; read their licences before you pass it on."
    )


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


def _use(records: Records, artefact: dict | None) -> str:
    folder = _folder(records)
    text_ = records.thing == "text"
    given = '--text "..."' if text_ else "FILE"
    lines = [f"tlkeras predict {folder} {given}", f"tlkeras evaluate {folder} --data OTHER", f"tlkeras serve {folder}"]
    if artefact is not None:
        form = artefact["format"]
        lines = (
            [f"tlkeras serve {folder}", f"tlkeras bench {folder}/artefacts/{form}"]
            if form == "saved_model"
            else [f"tlkeras bench {folder}/artefacts/{form}"]
        )
    told = " What goes in and comes out stands in `contract.json` beside this file." if artefact else ""
    return "```\n" + "\n".join(lines) + f"\n```\n\nThe same model again, to check: `tlkeras reproduce {folder}`.{told}"


def _versions(records: Records) -> str:
    machine = records.manifest.get("machine", {})
    rows = [*records.manifest.get("versions", {}).items()]
    if machine:
        gpus = "".join(f", {g}" for g in machine.get("gpus", []))
        rows.append(("machine", f"{machine['system']} {machine['machine']}, {machine['cores']} cores{gpus}"))
    if "model" in records.manifest:
        rows.append(("model.keras", f"SHA-256 `{records.manifest['model']['sha256']}`"))
    return table(["", ""], rows)


def _folder(records: Records) -> str:
    return shlex.quote(str(records.run.folder))


# ---------------------------------------------------------------------- Markdown
def table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def plain(value) -> str:
    """A name as Markdown that shows it as it is, on one line."""
    shown = " ".join(str(value).split())
    shown = "".join(f"\\{c}" if c in "\\`*[]<>|#" else c for c in shown if c.isprintable())
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", shown)  # inside a word it means nothing
