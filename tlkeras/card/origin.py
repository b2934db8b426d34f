"""What a model was made from, and what it takes to use it or make it again."""

import numpy as np

from tlkeras import backbones, data, tasks
from tlkeras.card.markdown import bullets, plain, table
from tlkeras.card.records import SPLITS, Records

MOST = 40  # classes that are listed one by one


def samples(records: Records) -> str:
    cfg, facts = records.config.data, records.manifest.get("data", {})
    rows = [
        ("Source", f"`{cfg.path or cfg.tfds}`"),
        ("Samples", f"{facts.get('samples', 0):,} {records.thing}s"),
        *((SPLITS[s].capitalize(), f"{n:,}") for s in data.SPLITS if (n := facts.get("splits", {}).get(s))),
        *_read(records),
        ("Left out", f"{facts.get('skipped', 0):,} that could not be used"),
        ("SHA-256", f"`{facts.get('sha256', 'unknown')}`, over the content, label and split of every sample"),
    ]
    parts = [table(["", ""], rows)]
    counts = records.counts()
    if counts and len(records.classes) <= MOST:
        cells = [(plain(c), *(f"{counts[s][i]:,}" for s in counts)) for i, c in enumerate(records.classes)]
        parts.append(COUNTED.get(tasks.annotations(records.config.task_name), ""))
        parts.append(table(["class", *(SPLITS[s] for s in counts)], cells))
    return "\n\n".join(p for p in parts if p)


COUNTED = {"boxes": "Objects of each class:", "masks": "Images that show each class:"}


def _read(records: Records) -> list[tuple]:
    """What is read of a table, and how long texts are."""
    cfg, held, rows = records.config.data, records.held, []
    if cfg.label or cfg.text:
        read, learnt = (x if isinstance(x, list) else [x] for x in (cfg.text, cfg.label))
        named = [f"`{n}` is read" for n in read if n] + [f"`{n}` is learnt" for n in learnt if n]
        rows.append(("Columns", ", ".join(named)))
    if cfg.group:
        rows.append(("Groups", f"samples of one `{cfg.group}` lie in one split"))
    if held is not None and records.thing == "text":
        words = np.array([sum(len(x.split()) for x in texts) for texts in held.inputs])
        rows.append(
            ("Length", f"{words.min():,} to {words.max():,} words, half of the texts up to {np.median(words):,.0f}")
        )
    return rows


def making(records: Records) -> str:
    about, plan, manifest = records.backbone, records.plan, records.manifest
    blocks = plan.get("blocks", [])
    lines = [
        f"Backbone: {plain(about.get('name', 'unknown'))}, {_weights(records)}.",
        f"Seed {records.config.train.seed}, {manifest.get('precision', '')} on the {manifest.get('device', '').upper()}, batches of {plan.get('steps', {}).get('batch', records.config.train.batch)}.",
    ]
    lines += _learnt_from(records)
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
                _epochs(records, phase),
                f"{phase['optimizer']}, {phase['learning_rate']:g}",
            )
        )
    if not rows:
        return f"{bullets(lines)}\n\nNothing was trained: the head holds the mean of each class's features."
    return (
        f"{bullets(lines)}\n\n{table(['phase', 'trained blocks', 'parameters', 'epochs', 'optimizer and rate'], rows)}"
    )


def _epochs(records: Records, phase: dict) -> str:
    """How many epochs of a phase were trained, and which one the weights are from."""
    if "soup" in records.manifest:  # whose members have histories, and it has none
        return f"up to {phase['epochs']}"
    done = records.epochs(phase["name"])
    kept = records.kept if records.kept.get("phase") == phase["name"] else {}
    stopped = f"; the weights are of epoch {kept['epoch']:.0f}" if kept and kept["epoch"] < done else ""
    average = phase.get("average")
    return f"{done} of {phase['epochs']}{stopped}{', averaged by ' + average['kind'] if average else ''}"


def _learnt_from(records: Records) -> list[str]:
    """Other runs, and other data, that this one learnt from."""
    cfg, lines = records.config, []
    if cfg.extend:
        rows = "with its samples" if cfg.extend.old_rows else "without its samples"
        lines.append(f"Extends the run `{cfg.extend.run}` by more classes, {rows}.")
    if asked := cfg.distill:
        features = f", of its features {asked.features:g}" if asked.features else ""
        lines.append(
            f"Taught by the run `{asked.run}`: weight of its answers {asked.weight:g} at temperature {asked.temperature:g}{features}."
        )
    if cfg.adapt:
        lines.append(f"Adapted to `{cfg.adapt.path}` by {cfg.adapt.method}, without labels.")
    if made := records.manifest.get("soup"):
        taken = ", ".join(f"`{m['name']}`" for m in made["members"] if m["taken"])
        lines.append(f"Its weights are the mean of those of {taken}: a {made['kind']} soup.")
    return lines


def _weights(records: Records) -> str:
    name = records.backbone.get("weights")
    if not name:
        return "from random weights"
    entry = backbones.catalogue().get(records.backbone["name"])
    where = entry.sources[name].where if entry and name in entry.sources else ""
    return f"weights {plain(name)}" + (f" from `{where}`" if where and where != name else "")


def licences(records: Records) -> str:
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


def use(records: Records, artefact: dict | None) -> str:
    folder = records.folder
    given = '--text "..."' if records.thing == "text" else "FILE"
    if tasks.annotations(records.config.task_name):
        given = "FILE --draw FOLDER"
    lines = [f"tlkeras predict {folder} {given}", f"tlkeras evaluate {folder} --data OTHER", f"tlkeras serve {folder}"]
    if artefact is not None:
        form = artefact["format"]
        lines = (
            [f"tlkeras serve {folder}", f"tlkeras bench {folder}/artefacts/{form}"]
            if form == "saved_model"
            else [f"tlkeras bench {folder}/artefacts/{form}"]
        )
    again = "" if "soup" in records.manifest else f"\n\nThe same model again, to check: `tlkeras reproduce {folder}`."
    return "```\n" + "\n".join(lines) + f"\n```{again}{_elsewhere(records, artefact) if artefact else ''}"


def _elsewhere(records: Records, artefact: dict) -> str:
    """How an artefact runs where tlkeras is not."""
    folder, text = records.run.artefact(artefact["format"]), records.thing == "text"
    if artefact["format"] == "saved_model":
        said = "Without tlkeras: `tf.saved_model.load`" + (" after `import tensorflow_text`" if text else "")
        said += ", or TensorFlow Serving with this folder as the model's."
    else:
        said = "Without tlkeras: any interpreter of TensorFlow Lite takes `model.tflite`."
        if (folder / "tokenizer.py").is_file():
            said += ' Numbers for a text: `python tokenizer.py "..."`, beside it.'
        if records.thing != "sound" and (folder / "decode.py").is_file():
            said += " `decode.py` beside it makes boxes of what comes out."
    if records.thing == "sound":
        said += _sounds(records, artefact["format"])
    return f"\n\n{said} What goes in and comes out stands in `contract.json`."


def _sounds(records: Records, form: str) -> str:
    """What an artefact takes of sound."""
    takes = records.backbone.get("input", {})
    if form == "saved_model":
        most = "" if tasks.plain(records.config.task_name) else f", at most {takes['length'] / takes['rate']:g} seconds"
        return f" It takes WAV files of 16 bits, of any rate and number of channels{most}; over HTTP in base64."
    speaks = (
        " `python decode.py SOUND.wav` writes down what is said."
        if records.config.task_name == "speech-recognition"
        else ""
    )
    return f" It takes float samples in -1..1 at {takes['rate']:,} Hz, as many as the contract says, silence behind.{speaks}"


def versions(records: Records) -> str:
    machine = records.manifest.get("machine", {})
    rows = [*records.manifest.get("versions", {}).items()]
    if machine:
        gpus = "".join(f", {g}" for g in machine.get("gpus", []))
        rows.append(("machine", f"{machine['system']} {machine['machine']}, {machine['cores']} cores{gpus}"))
    if "model" in records.manifest:
        rows.append(("model.keras", f"SHA-256 `{records.manifest['model']['sha256']}`"))
    return table(["", ""], rows)
