"""How good a model is, and what nobody has tried."""

import datetime

from tlkeras.baselines import LABELS
from tlkeras.card.markdown import plain, table
from tlkeras.card.records import SPLITS, Records

FEW = 300  # as in the report: below this many samples the width of the interval is the message
MOST = 40  # classes that are listed one by one
COUNTED = {"object-detection": "objects", "semantic-segmentation": "pixels", "token-classification": "entities"}
MEANS = {
    "accuracy": "part of the answers that are right",
    "macro_f1": "finding a class and not inventing it in one figure, the mean over classes; 1 is best",
    "map": "finding every object in its exact frame, the mean over classes and strictness; 1 is best",
    "miou": "what truth and answer share of what either covers, the mean over classes; 1 is best",
    "rmse": "typical error in the unit of the values; 0 is best",
    "wer": "words that are wrong, missing or too many, as a part of those said; 0 is best. cer is the same of characters, sentences wrong the part of the sounds with an error",
    "rouge_l": "how much of the wanted text is there in its order; 1 is best",
    "f1": "precision and recall in one figure; 1 is best",
    "perplexity": "among how many tokens it seems to choose; 1 is best",
    "recall_at_1": "part of the texts whose own pair is the nearest; 1 is best",
}

BOXES = (
    "map 50 and map 75 ask a frame to share 50 or 75 % with the true one; map is the mean over 50 to 95 %. Small, medium "
    "and large objects cover less than 32x32, less than 96x96, and more pixels. ar 10: what is found by 10 boxes an image."
)


def quality(records: Records) -> str:
    parts = []
    if "test" not in records.metrics:
        counted = records.manifest.get("data", {}).get("splits", {}).get("test", 0)
        parts.append(
            f"**Not measured yet** on the {counted:,} {records.thing}s that were kept apart for it. "
            f"Measure: `tlkeras evaluate {records.folder}`"
            if counted
            else "**Never measured on samples apart**: the data has no test split."
        )
        if "val" not in records.metrics:
            shown = ", ".join(
                f"{k[4:].replace('_', ' ')} {v:.4f}" for k, v in records.kept.items() if k.startswith("val_")
            )
            chose = ", which chose the epoch" if records.steered else ""
            parts.append(f"On the validation samples{chose}: {shown}." if shown else "")
    for split, result in records.metrics.items():
        if split in SPLITS:
            parts.append(_measured(records, split, result))
    if (shown := records.judged) and shown.get("per_class"):
        parts.append(_by_class(records, shown))
    if shown and "rows" in (beside := records.baselines.get(shown["split"], {})):
        parts.append(_beside(beside))
    if done := records.reproduced:
        day = datetime.datetime.fromtimestamp(done["time"], datetime.UTC).date()
        came = "the same figures" if done["holds"] else "other figures"
        apart = f"at most {done['largest']:.1g} apart" if done["largest"] else "to the last digit"
        parts.append(f"Trained again from its own record on {day}: {came}, {apart}.")
    return "\n\n".join(p for p in parts if p)


def _measured(records: Records, split: str, result: dict) -> str:
    told = {
        "test": "Training saw none of these, nor was it steered by them.",
        "val": "These chose what was kept of training, so the figures flatter."
        if records.steered
        else "Training saw none of these; they are what its settings may have been chosen by.",
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
    if records.config.task_name == "object-detection":
        meaning += f" {BOXES}"
        if (best := result.get("threshold")) is not None:
            meaning += f" Precision, recall and f1 are those at the score where f1 is best, {best:.3g}."
    head = f"On {result['n']:,} {SPLITS[split]} {records.thing}s. {told}{meaning}"
    return f"{head}\n\n{table(['metric', 'value', '95 % interval'], rows)}"


def _by_class(records: Records, result: dict) -> str:
    per = result["per_class"]
    figures = [k for k in per if k not in ("class", "support")]
    first = next((k for k in ("f1", "ap", "iou", "recall") if k in figures), figures[0])
    order = sorted(range(len(per["class"])), key=lambda i: (per[first][i] is None, per[first][i]))
    named = COUNTED.get(records.config.task_name, f"{records.thing}s")
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


def _beside(found: dict) -> str:
    """What simple answers to the same samples are worth."""
    rows = []
    for row in found["rows"]:
        name = "mean" if row["name"] == "majority" and found["metric"] == "rmse" else LABELS[row["name"]]
        rows.append((name, f"{row['value']:.4f}", f"{row['interval'][0]:.4f} to {row['interval'][1]:.4f}"))
    metric = found["metric"].replace("_", " ")
    head = "Beside simple answers to the same samples, without training any block:"
    return f"{head}\n\n{table(['', metric, '95 % interval'], rows)}\n\n{found['verdict']}"


def limits(records: Records) -> list[str]:
    said, thing, result = [], records.thing, records.judged
    source = f"`{records.config.data.path or records.config.data.tfds}`"
    if result and result["n"] < FEW:
        said.append(f"Judged on {result['n']:,} {thing}s only: look at the intervals, not at the last digits.")
    if records.config.task_name.endswith("-classification") and "token" not in records.config.task_name:
        other = "scores for these alone" if records.answer.get("multi_label") else "one of these"
        said.append(f"It knows {len(records.classes)} classes and answers {other}, whatever it is shown.")
    elif records.config.task_name == "speech-recognition":
        what = "characters" if records.answer.get("units") == "characters" else "words"
        said.append(f"It writes {len(records.classes)} {what}, whatever is said.")
    elif records.classes:
        said.append(f"It knows {len(records.classes)} classes; anything else is missed, or taken for one of these.")
    for words, names in _weak(records, result) if result else ():
        said.append(f"{words}: {', '.join(map(plain, names[:20]))}{' and more' if len(names) > 20 else ''}.")
    if isinstance(counts := records.counts(), dict) and "train" in counts:
        most, least = counts["train"].argmax(), counts["train"].argmin()
        if counts["train"][most] >= 10 * max(counts["train"][least], 1):
            said.append(
                f"Uneven training data: {counts['train'][most]:,} of {plain(records.classes[most])}, {counts['train'][least]:,} of {plain(records.classes[least])}."
            )
    if near := records.report.get("near_duplicates"):
        said.append(f"{len(near)} {thing}s are nearly the same in two splits, so the figures may flatter.")
    for folder, seen in records.report.get("known", {}).items():
        counted = " and ".join(f"{n:,} of the {SPLITS[split]} {thing}s" for split, n in seen.items())
        said.append(f"It learnt from `{folder}`, which was trained on {counted}: figures on these flatter.")
    if "data" not in records.metrics:
        said.append(f"All samples come from {source}; how it does on {thing}s from elsewhere was not measured.")
    if records.backbone.get("reads") == "text" or thing == "text":
        said.append("Which languages the texts are in is not recorded; others than theirs were not tried.")
    if thing == "sound":
        said.append("Voices, rooms, microphones and languages other than those of the data were not tried.")
    said.append("Not tested: disturbed or hostile inputs, drift over time, and differences between groups of people.")
    if "soup" not in records.manifest:
        said.append("One training with one seed on one split; another gives other figures.")
    return said


def _weak(records: Records, result: dict) -> list[tuple[str, list]]:
    per, task = result.get("per_class"), records.config.task_name
    if not per or task == "semantic-segmentation":
        return []
    counted = f"{SPLITS[result['split']]} {COUNTED.get(task, records.thing + 's')}"
    found = per.get("ar") or per.get("recall")
    pairs = list(zip(per["class"], per["support"], found or [1] * len(per["class"]), strict=True))
    scarce = [c for c, s, _ in pairs if s < 5]
    lost = [c for c, s, r in pairs if s and not r]
    return [
        *([(f"Fewer than five {counted}, so their figures mean little", scarce)] if scarce else []),
        *([(f"Never recognised among the {counted}", lost)] if lost else []),
    ]
