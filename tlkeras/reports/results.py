"""The report's verdict, and what to know before relying on it."""

import datetime
import shlex

import numpy as np

from tlkeras.reports import charts, several
from tlkeras.reports.facts import FEW, Facts
from tlkeras.reports.page import (
    PERCENT,
    Html,
    command,
    figure,
    join,
    name,
    names,
    percent,
    plural,
    tag,
)

MAIN = {
    "macro_f1": ("macro F1", "every label is found and none is invented"),
    "map": ("mAP", "every object is found in its exact frame and none is invented"),
    "miou": ("mean IoU", "every pixel is named right"),
}


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
                f" and what {cfg.extend.run} had" if cfg.extend else None,
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
    into = "of" if cfg.task_name == "object-detection" else "into"
    of = f" {into} {plural(len(facts.classes), 'class', 'classes')}" if facts.classes else ""
    if facts.config.task_name == "speech-recognition":
        of = f" in {plural(len(facts.classes), 'character' if facts.answer['units'] == 'characters' else 'word')}"
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
    if "tasks" in result:
        return several.verdict(facts)
    main, n = result["main"], result["n"]
    value, between = result["metrics"][main], result["intervals"].get(main)
    images = facts.samples().replace(facts.things, facts.things[:-1]) if n == 1 else facts.samples()
    if main == "accuracy":
        return _verdict_share(facts, value, between, n, images)
    if main == "rmse" and facts.predictions:
        return _verdict_error(facts, value, between, n, images)
    if main == "wer":
        return _verdict_words(value, between, n, images)
    if value is None:
        return tag("p", f"{main} is not defined on these {n:,} {images}.", class_="lead")
    words = f"{main.replace('_', ' ')} on {n:,} {images}."
    if main in MAIN:
        called, best = MAIN[main]
        words = f"{called} on {n:,} {images}. It is 1 when {best}, on average over {plural(len(facts.classes), 'class', 'classes')}."
    parts = [
        tag("p", figure(round(value, 3)), class_="verdict"),
        tag("p", words, " ", _between(between, n, lambda v: f"{v:.2f}"), class_="lead"),
    ]
    if main in MAIN:
        parts.append(charts.scale(value, between, 0, 1, None, str, f"{called} {value:.3f} on a scale from 0 to 1"))
    if main == "map" and facts.result.get("threshold") is not None:
        f = facts.result["metrics"]
        parts.append(
            tag(
                "p",
                f"From a score of {percent(facts.result['threshold'], 0)} on, {percent(f['recall'], 0)} of the objects are found, and {percent(f['precision'], 0)} of the boxes are right; at that score both together are best on these {facts.things}.",
            )
        )
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


def _verdict_words(value, between, n, images) -> Html:
    """Of transcripts: the word error rate."""
    sure = _between(between, n, lambda v: percent(v, 0 if n < 2000 else 1)) if value else ""
    return join(
        tag("p", percent(value), class_="verdict"),
        tag(
            "p",
            f"of the words said in {n:,} {images} were understood wrong or not at all, or were put in (word error rate). ",
            sure,
            class_="lead",
        ),
        charts.scale(
            value,
            between if value else None,
            0,
            max(1.0, value, *(between or ())),
            None,
            charts.share,
            f"word error rate {percent(value)}; 0 is best",
        ),
        tag("p", "Dot: measured; further left is better. Band: where the true figure lies.", class_="soft"),
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
    counted, found = ("objects", per["ar"]) if "ar" in per else (facts.things, per["recall"])
    pixels = "iou" in per
    if scarce := [c for c, s in zip(per["class"], per["support"], strict=True) if s < 5 and not pixels]:
        said.append((join(f"Fewer than five {counted} to judge: ", names(scarce), "."), "results", "See per class"))
    if lost := [c for c, s, r in zip(per["class"], per["support"], found, strict=True) if s and not r]:
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
