"""The report's verdict, what to know before relying on it, and the figures behind it."""

import datetime
import shlex

import numpy as np

from tlkeras.reports import charts
from tlkeras.reports.facts import Facts
from tlkeras.reports.page import (
    PERCENT,
    Html,
    command,
    details,
    figure,
    join,
    name,
    names,
    percent,
    plural,
    table,
    tag,
)

FEW = 300  # below this many samples the width of the interval is the message
MATRIX = 40  # classes that fit into a confusion matrix
ROWS = 200
SHARES = ("accuracy", "balanced_accuracy", "top_2_accuracy", "top_3_accuracy", "top_5_accuracy")
TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "weighted_f1": "Weighted F1",
    "top_2_accuracy": "Top-2 accuracy",
    "top_3_accuracy": "Top-3 accuracy",
    "top_5_accuracy": "Top-5 accuracy",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
MEANING = {
    "accuracy": "answers that are right",
    "balanced_accuracy": "the same, with every class counting alike",
    "macro_f1": "finding classes and not inventing them, in one figure; classes count alike",
    "micro_f1": "the same over all answers; equals accuracy with one class each",
    "weighted_f1": "the same, with classes counting by their size",
    "top_2_accuracy": "the true class is among the two most confident answers",
    "top_3_accuracy": "… among the three",
    "top_5_accuracy": "… among the five",
    "roc_auc": "how well the scores put a class above the others; 0.5 is guessing",
    "pr_auc": "precision averaged over every recall",
    "log_loss": "how surprising the truth is to the model; 0 is best",
    "calibration_error": "how sure it is against how often it is right; 0 is best",
    "rmse": "typical error; large errors weigh more; lower is better",
    "mae": "mean distance from the true value; lower is better",
    "r2": "part of the variation explained; 1 is best, 0 is no better than answering the mean",
}


# ---------------------------------------------------------------------- the verdict
def headline(facts: Facts, anchors: set) -> Html:
    run, cfg, manifest = facts.run, facts.config, facts.manifest
    kind = cfg.task_name.replace("-", " ")
    trained = [e for e in facts.events if e.get("event") == "done"]
    seconds = sum(row.get("seconds") or 0 for row in facts.history)
    counts = manifest.get("data", {})
    splits = ", ".join(
        f"{counts['splits'][s]} {w}"
        for s, w in (("train", "to train on"), ("val", "to steer by"), ("test", "held out"))
        if counts.get("splits", {}).get(s)
    )
    known = [
        ("Network", f"{cfg.backbone.name}, {cfg.backbone.weights or 'random'} weights"),
        (
            "Data",
            join(
                name(cfg.data.path or cfg.data.tfds),
                f": {plural(counts['samples'], facts.things[:-1])}, {splits}" if counts else "",
            ),
        ),
        (
            "Trained",
            f"{_date(trained[-1]['time'])}, {_duration(seconds)} on the {manifest['device'].upper()}"
            if trained and "device" in manifest
            else None,
        ),
        (
            "Versions",
            ", ".join(
                f"{k} {v}" for k, v in manifest.get("versions", {}).items() if k in ("tlkeras", "tensorflow", "keras")
            ),
        ),
    ]
    about = tag("dl", [(tag("dt", k), tag("dd", v)) for k, v in known if v], class_="facts")
    of = f" into {plural(len(facts.classes), 'class', 'classes')}" if facts.classes else ""
    return join(
        tag("h1", name(run.name)),
        tag("p", f"{kind[0].upper()}{kind[1:]}{of}, with {cfg.backbone.name}", class_="about"),
        _verdict(facts),
        _mind(facts, anchors),
        about,
    )


def _verdict(facts: Facts) -> Html:
    folder = shlex.quote(str(facts.run.folder))
    if not facts.finished:
        last = facts.events[-1] if facts.events else {}
        ended = {"diverged": "The loss stopped being a number.", "interrupted": "It was interrupted."}.get(
            last.get("event"), ""
        )
        return join(
            tag("p", f"Training is not finished. {ended} Go on with:", class_="lead"),
            command(f"tlkeras train --resume {folder}"),
        )
    if facts.split is None:
        return join(
            tag("p", f"Not evaluated yet. Measure it on the {facts.things} it has never seen:", class_="lead"),
            command(f"tlkeras evaluate {folder}"),
            _last(facts),
        )
    result = facts.result
    main, n = result["main"], result["n"]
    value, between = result["metrics"][main], result["intervals"].get(main)
    images = facts.samples().replace(facts.things, facts.things[:-1]) if n == 1 else facts.samples()
    if main == "accuracy":
        return _verdict_share(facts, value, between, n, images)
    if main == "rmse" and facts.predictions:
        return _verdict_error(facts, value, between, n, images)
    if value is None:
        return tag("p", f"{main} is not defined on these {n:,} {images}.", class_="lead")
    words = f"{main.replace('_', ' ')} on {n:,} {images}."
    if main == "macro_f1":
        words = f"macro F1 on {n:,} {images}. It is 1 when every label is found and none is invented, on average over {plural(len(facts.classes), 'class', 'classes')}."
    parts = [
        tag("p", figure(round(value, 3)), class_="verdict"),
        tag("p", words, " ", _between(between, n, lambda v: f"{v:.2f}"), class_="lead"),
    ]
    if main == "macro_f1":
        parts.append(charts.scale(value, between, 0, 1, None, str, f"macro F1 {value:.3f} on a scale from 0 to 1"))
    return join(parts)


def _verdict_share(facts: Facts, value, between, n, images) -> Html:
    support = facts.result["per_class"]["support"]
    most = int(np.argmax(support))
    base = support[most] / n
    if value in (0.0, 1.0):
        # Every resample of answers that are all right is all right too: the bootstrap has nothing to say here.
        bound = 0.05 ** (1 / n)
        between = (bound, 1.0) if value else (0.0, 1 - bound)
        seen, limit = (
            ("none was wrong", f"as low as {percent(bound, 0)}")
            if value
            else ("all were wrong", f"as high as {percent(1 - bound, 0)}")
        )
        sure = f"That {seen} among {n:,} still allows a true figure {limit}, with 95 % confidence."
    else:
        sure = _between(between, n, lambda v: percent(v, 0 if n < 2000 else 1))
    label = f"{percent(value)} on a scale from 0 to 100 %" + (
        f"; the true figure lies between {percent(between[0], 0)} and {percent(between[1], 0)}" if between else ""
    )
    return join(
        tag("p", percent(value), class_="verdict"),
        tag("p", f"of {n:,} {images} {'are' if n > 1 else 'is'} named right. ", sure, class_="lead"),
        charts.scale(
            value,
            between,
            0,
            1,
            (base, join("always ", name(_short(facts.result["per_class"]["class"][most])), f": {percent(base, 0)}")),
            charts.share,
            label,
        ),
        tag(
            "p",
            "Dot: measured. Band: where the true figure lies. Mark: what you would get without looking, by always answering the class that these hold most of.",
            class_="soft",
        ),
    )


def _verdict_error(facts: Facts, value, between, n, images) -> Html:
    y = np.asarray(facts.predictions["label"], float)
    blind = float(y.std(0).mean())
    low, high = figure(float(y.min()), 3), figure(float(y.max()), 3)
    top = max(blind, value, *(between or ())) * 1.1 or 1.0
    label = f"RMSE {figure(value)}; always answering the mean gives {figure(blind)}"
    return join(
        tag("p", figure(value, 3), class_="verdict"),
        tag(
            "p",
            f"is the typical error (RMSE) on {n:,} {images}, whose values run from {low} to {high}. ",
            _between(between, n, lambda v: figure(v, 3)),
            class_="lead",
        ),
        charts.scale(
            value, between, 0, top, (blind, f"always the mean: {figure(blind, 3)}"), lambda v: figure(v, 3), label
        ),
        tag(
            "p",
            "Dot: measured; further left is better. Band: where the true figure lies. Mark: what you would get without looking, by always answering their mean.",
            class_="soft",
        ),
    )


def _between(between, n: int, show) -> str:
    if not between:
        return ""
    low, high = (show(v) for v in between)
    if low.endswith(PERCENT) and high.endswith(PERCENT):
        low = low.removesuffix(PERCENT)
    begin = "With so few samples the" if n < FEW else "The"
    return f"{begin} true figure lies between {low} and {high}, with 95 % confidence."


def _short(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}…"


def _last(facts: Facts) -> Html | None:
    row = facts.history[-1] if facts.history else {}
    seen = [f"{k.removeprefix('val_')} {figure(v)}" for k, v in row.items() if k.startswith("val_") and v is not None]
    return (
        tag(
            "p", f"On the {facts.things} that steered training, after the last epoch: {', '.join(seen)}.", class_="soft"
        )
        if seen
        else None
    )


def _date(time: float) -> str:
    when = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} seconds"
        if seconds < 120
        else f"{seconds / 60:.0f} minutes"
        if seconds < 7200
        else f"{seconds / 3600:.1f} hours"
    )


def _mind(facts: Facts, anchors: set) -> Html | None:
    """What to know before relying on the figure."""
    said: list = []
    if near := facts.found.get("near_duplicates"):
        said.append(
            (
                f"{plural(len(near), 'image')} nearly {'equals' if len(near) == 1 else 'equal'} one in another split, so the figure may flatter.",
                "data",
                "See which",
            )
        )
    if facts.split == "val":
        said.append(
            (
                f"These {facts.things} steered training, so the figure flatters a little. The test split shows the true one.",
                None,
                None,
            )
        )
    if facts.split == "train":
        said.append(
            (f"These are the {facts.things} it was trained on. The figure says nothing about new ones.", None, None)
        )
    n = facts.result.get("n", FEW)
    if n < 100 and facts.result.get("main") == "accuracy":
        said.append(
            (f"Few {facts.things}: one answer more or less moves the figure by {100 / n:.1f} points.", None, None)
        )
    per = facts.result.get("per_class") or {"class": [], "support": [], "recall": []}
    if scarce := [c for c, s in zip(per["class"], per["support"], strict=True) if s < 5]:
        said.append(
            (join(f"Fewer than five {facts.things} to judge: ", names(scarce), "."), "results", "See per class")
        )
    if lost := [c for c, s, r in zip(per["class"], per["support"], per["recall"], strict=True) if s and not r]:
        said.append((join("Never recognised: ", names(lost), "."), "results", "See per class"))
    if facts.held is not None and facts.classes and isinstance(facts.held.targets, np.ndarray):
        counts = facts.held.targets[facts.held.rows("train")].sum(0)
        if len(counts) and counts.max() >= 10 * max(counts.min(), 1):
            large, small = facts.classes[int(counts.argmax())], facts.classes[int(counts.argmin())]
            said.append(
                (
                    join(
                        "Uneven classes: ",
                        name(large),
                        f" has {counts.max():,.0f} training {facts.things}, ",
                        name(small),
                        f" {counts.min():,.0f}.",
                    ),
                    "data",
                    "See the counts",
                )
            )
    if skipped := facts.found.get("skipped"):
        said.append(
            (
                f"{plural(len(skipped), 'file')} could not be used and {'was' if len(skipped) == 1 else 'were'} left out.",
                "data",
                "See why",
            )
        )
    if not said:
        return None
    items = [
        tag("li", words, tag("a", where, href=f"#{anchor}") if anchor in anchors else None)
        for words, anchor, where in ((join(w, " "), a, x) for w, a, x in said)
    ]
    return tag("aside", tag("h2", "Before you rely on it"), tag("ul", items), class_="mind")


# ---------------------------------------------------------------------- the figures
def measured(facts: Facts) -> Html | None:
    if facts.split is None:
        return None
    result = facts.result
    other = [
        f"{facts.samples(s)}: {r['main']} {_value(r['main'], r['metrics'][r['main']])} ({r['n']:,})"
        for s, r in facts.metrics.items()
        if s != facts.split and r["metrics"].get(r["main"]) is not None
    ]
    return join(
        _metrics(result, facts.samples(), facts.answer.get("multi_label", False)),
        tag("p", f"Also measured, on {'; '.join(other)}.", class_="soft") if other else None,
        _per_class(result) if "per_class" in result else None,
        _confusion(result) if result.get("confusion") else None,
        _calibration(result, facts.answer.get("multi_label", False)) if result.get("calibration") else None,
        _errors(facts) if "per_class" not in result and facts.predictions and "values" in facts.answer else None,
    )


def _value(metric: str, value) -> str:
    return (
        "not defined here"
        if value is None
        else percent(value)
        if metric in SHARES
        else f"{round(value, 3) + 0.0:.3f}"
        if abs(value) < 10
        else figure(value)
    )


def _metrics(result: dict, images: str, multi_label: bool) -> Html:
    rows = []
    for metric, value in sorted(result["metrics"].items(), key=lambda item: item[0] != result["main"]):
        between = result["intervals"].get(metric)
        meaning = (
            "samples whose labels are all found and none invented"
            if multi_label and metric == "accuracy"
            else MEANING.get(metric)
        )
        # A band without width comes from answers that are all alike; the headline says what it is worth.
        band = (
            f"{_value(metric, between[0]).removesuffix(PERCENT)} – {_value(metric, between[1])}"
            if between and between[0] < between[1]
            else ""
        )
        term = tag(
            "span", tag("span", TITLES.get(metric, metric)), tag("small", meaning) if meaning else None, class_="term"
        )
        shown = _value(metric, value)
        rows.append([term, tag("b", shown) if metric == result["main"] else shown, band])
    caption = f"On {result['n']:,} {images}. The interval holds the true figure with 95 % confidence, as far as the choice of samples goes."
    return table(["Metric", "Value", "95 % interval"], rows, caption, numbers=(1, 2))


def _per_class(result: dict) -> Html:
    per = result["per_class"]
    named = np.sum(result["confusion"], axis=0) if result.get("confusion") else None
    rows = []
    for i in sorted(range(len(per["class"])), key=lambda i: (per["support"][i] == 0, per["f1"][i])):
        n = int(per["support"][i])
        f1 = (
            join(
                f"{per['f1'][i]:.2f}",
                tag("span", tag("i", style=f"width:{100 * per['f1'][i]:.0f}%"), class_="bar", aria_hidden="true"),
            )
            if n
            else "–"
        )
        precision = "–" if named is not None and not named[i] else percent(per["precision"][i], 0)
        rows.append([name(per["class"][i]), f"{n:,}", percent(per["recall"][i], 0) if n else "–", precision, f1])
    left = f" The {len(rows) - ROWS:,} best are left out here; metrics.json has them." if len(rows) > ROWS else ""
    caption = f"Weakest first. Recall: part of the class that was found. Precision: part of the answers with this name that were right. F1: both in one figure.{left}"
    return join(
        tag("h3", "Class by class"),
        table(["Class", "Samples", "Recall", "Precision", "F1"], rows[:ROWS], caption, numbers=(1, 2, 3, 4)),
    )


def _confusion(result: dict) -> Html:
    classes, counts = result["per_class"]["class"], np.asarray(result["confusion"])
    total = counts.sum(1)
    off = [(counts[t, g], t, g) for t, g in zip(*np.nonzero(counts), strict=True) if t != g]
    off.sort(key=lambda x: (-x[0], -x[0] / total[x[1]]))
    words = [
        tag("li", name(classes[t]), " taken for ", name(classes[g]), f": {n} of {total[t]}")
        for n, t, g in off[: 5 if len(classes) <= MATRIX else 30]
    ]
    parts = [
        tag("h3", "What is taken for what"),
        tag("ol", words) if words else tag("p", "Nothing was taken for anything else."),
    ]
    if len(classes) > MATRIX:
        return join(
            *parts,
            tag("p", f"A matrix of {len(classes):,} classes would not fit here; metrics.json has it.", class_="soft"),
        )
    rows = []
    for t, row in enumerate(counts):
        cells = [
            (
                {
                    "class_": "none" if not n else "right" if t == g else "wrong",
                    "style": f"--a:{n / max(total[t], 1):.2f}",
                },
                n,
            )
            for g, n in enumerate(row)
        ]
        rows.append([name(classes[t]), *((str(n), attributes) for attributes, n in cells)])
    caption = "A row is the truth, a column the answer, a number how many. Blue is right; the deeper, the larger the part of the row."
    return join(
        *parts,
        table(
            ["truth ↓  answer →", *map(name, classes)],
            rows,
            caption,
            class_="confusion many" if sum(map(len, classes)) > 60 else "confusion",
        ),
    )


def _calibration(result: dict, multi_label: bool) -> Html:
    bins = result["calibration"]
    n = sum(b["n"] for b in bins)
    sure, right = (sum(b["n"] * b[k] for b in bins) / n for k in ("confidence", "accuracy"))
    gap = right - sure
    verdict = "too modest" if gap > 0.05 else "too sure of itself" if gap < -0.05 else "about as sure as it should be"
    words = f"On average it is {percent(sure, 0)} sure and right in {percent(right, 0)} of the cases: {verdict}."
    if multi_label:
        words = (
            f"On average a label gets {percent(sure, 0)} and applies in {percent(right, 0)} of the cases: {verdict}."
        )
    many = "" if n >= FEW else f" With {n:,} answers a dot stands for a handful; read the direction, not the details."
    rows = [[percent(b["confidence"], 0), percent(b["accuracy"], 0), f"{b['n']:,}"] for b in bins]
    return join(
        tag("h3", "Can its confidence be believed?"),
        tag(
            "p",
            words,
            " Dots on the dotted line are honest, dots below it claim too much; larger dots hold more answers.",
            many,
        ),
        tag("div", charts.reliability(bins, f"Reliability diagram. {words}"), class_="charts"),
        details("The numbers", table(["Sure", "Right", "Answers"], rows, numbers=(0, 1, 2))),
    )


def _errors(facts: Facts) -> Html:
    y, guess = (np.asarray(facts.predictions[k], float) for k in ("label", "predicted"))
    parts = []
    for k, value in enumerate(value_names(facts)):
        off = np.abs(guess[:, k] - y[:, k])
        half, most = (figure(float(np.quantile(off, q))) for q in (0.5, 0.9))
        parts += [
            tag("h3", name(value)),
            tag("p", f"Half of the answers are off by at most {half}, nine in ten by at most {most}."),
            tag(
                "div",
                charts.scatter(y[:, k].tolist(), guess[:, k].tolist(), "true", "answered", "Answered over true", True),
                charts.scatter(
                    y[:, k].tolist(),
                    (guess[:, k] - y[:, k]).tolist(),
                    "true",
                    "answered minus true",
                    "Error over true",
                    False,
                ),
                class_="charts",
            ),
        ]
    return join(parts)


def value_names(facts: Facts) -> list[str]:
    label = facts.config.data.label
    return (
        label
        if isinstance(label, list)
        else [label or "value"]
        if facts.answer.get("values") == 1
        else [f"value {k + 1}" for k in range(facts.answer["values"])]
    )
