"""What a model was made from, and what it takes to use it or make it again."""

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
        ("Left out", f"{facts.get('skipped', 0):,} that could not be used"),
        ("SHA-256", f"`{facts.get('sha256', 'unknown')}`, over the content, label and split of every sample"),
    ]
    parts = [table(["", ""], rows)]
    counts = records.counts()
    if counts and len(records.classes) <= MOST:
        cells = [(plain(c), *(f"{counts[s][i]:,}" for s in counts)) for i, c in enumerate(records.classes)]
        parts.append(table(["class", *(SPLITS[s] for s in counts)], cells))
    return "\n\n".join(parts)


def making(records: Records) -> str:
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
    if artefact and records.thing == "sound":
        told += _sounds(records, artefact["format"])
    return "```\n" + "\n".join(lines) + f"\n```\n\nThe same model again, to check: `tlkeras reproduce {folder}`.{told}"


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
