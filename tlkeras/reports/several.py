"""The report of a run of several tasks: what each would say of itself, and whether sharing helped it."""

from dataclasses import replace

import numpy as np

from tlkeras.reports import charts, measured, mistakes
from tlkeras.reports.facts import Facts
from tlkeras.reports.page import Html, command, figure, join, name, percent, plural, table, tag
from tlkeras.sharing import SHOWN
from tlkeras.tasks import several

WEIGHED = {
    "uncertainty": "Losses were weighed by uncertainty: each times exp(−s), where s, the logarithm of the task's variance, is learnt. A task whose errors stay large counts less.",
    "gradnorm": "Losses were weighed by GradNorm: a task that pulls the shared layers less than the others, or lags behind, counts more. The weights add up to the number of tasks.",
}
COMMON = "accuracy, macro F1, mAP and mean IoU as they are, of values R²: the part of their variation that is explained"


def members(facts: Facts) -> dict[str, Facts]:
    """What each task would have written into a run of its own."""
    return {m: _member(facts, m) for m in facts.answer.get("tasks", {})} if facts.answer.get("tasks") else {}


def _member(facts: Facts, m: str) -> Facts:
    own, about = facts.config.task["tasks"][m], facts.answer["tasks"][m]
    cfg = facts.config.model_copy(
        update={
            "task": {"name": about["task"]},
            "data": facts.config.data.model_copy(update={"label": own.get("label") or m}),
        }
    )
    judged = {s: {"split": s, **r["tasks"][m]} for s, r in facts.metrics.items() if m in r.get("tasks", {})}
    split = facts.split if facts.split in judged else None
    rows = several.of_member(facts.predictions, m) if facts.predictions and split else None
    return replace(
        facts, config=cfg, metrics=judged, split=split, predictions=rows, answer=about["answer"], held=_held(facts, m)
    )


def _held(facts: Facts, m: str):
    """The samples that have a label for the task."""
    held = facts.held
    if held is None:
        return None
    rows = [i for i, row in enumerate(held.targets) if m in row]
    targets = [held.targets[i][m] for i in rows]
    plain = targets and isinstance(targets[0], np.ndarray)
    names = ("ids", "inputs", "labels", "splits", "groups", "hashes")
    return replace(
        held,
        **{k: [getattr(held, k)[i] for i in rows] for k in names},
        fingerprints=held.fingerprints[rows],
        targets=np.stack(targets) if plain else targets,
        answer=facts.answer["tasks"][m]["answer"],
        images=None,
    )


def verdict(facts: Facts) -> Html:
    """The headline: a figure for each task, and whether sharing helped."""
    cells = []
    for m, one in members(facts).items():
        if one.split is None:
            cells.append([name(m), "no sample with a label", "", ""])
            continue
        main = one.result["main"]
        value, between = one.result["metrics"][main], one.result["intervals"].get(main)
        shown = percent if main == "accuracy" else lambda v: figure(round(v, 3), 3)
        band = f"{shown(between[0])} – {shown(between[1])}" if between else ""
        cells.append([name(m), _called(main), tag("b", "–" if value is None else shown(value)), band])
    mean = facts.result["metrics"]["mean"]
    return join(
        tag("p", figure(round(mean, 3)) if mean is not None else "–", class_="verdict"),
        tag(
            "p",
            f"is the mean over {plural(len(cells), 'task')} on {facts.result['n']:,} {facts.samples()}: {COMMON}. It is 1 when every task is solved.",
            class_="lead",
        ),
        table(["Task", "Measure", "Value", "95 % interval"], cells, numbers=(2, 3)),
        _helped(facts),
    )


def _called(metric: str) -> str:
    return SHOWN.get(metric) or measured.TITLES.get(metric, metric.replace("_", " "))


def _helped(facts: Facts) -> Html:
    rows = facts.result.get("sharing")
    if not rows:
        alone = " ".join(f"--against RUN-OF-{m.upper()}" for m in facts.answer["tasks"])
        return join(
            tag("p", "Whether sharing helped is not measured. Train each task alone (task.only), then:", class_="soft"),
            command(f"tlkeras evaluate {facts.run.folder} {alone}"),
        )
    cells = []
    for row in rows:
        low, high = row["interval"]
        cells.append(
            [
                name(row["task"]),
                _called(row["metric"]),
                f"{row['alone']:.4f}",
                f"{row['together']:.4f}",
                f"{row['difference']:+.4f}",
                f"{low:+.4f} – {high:+.4f}",
                row["verdict"],
            ]
        )
    caption = f"Did sharing help? On the {rows[0]['n']:,} samples that both runs held out; the interval is of the paired difference, positive where sharing helped."
    head = ["Task", "Measure", "Alone", "Together", "Better by", "95 % interval", ""]
    return table(head, cells, caption, numbers=(2, 3, 4, 5))


def titled(metric: str) -> str:
    """What a column of the history is called over its chart; of one among several tasks 'section: loss'."""
    return metric.replace("_", " ").replace("/", ": ")


def weight(column: str) -> bool:
    """Whether a column of the history says how a loss was weighed."""
    return column.endswith(("/log_variance", "/weight"))


def weighed(facts: Facts, kept: list[int]) -> Html | None:
    """What the loss of each task counted, epoch by epoch, where that is learnt; None where it is not."""
    rows, way = facts.history, facts.config.task.get("weighting")
    columns = [k for k in rows[0] if weight(k)]
    if not columns or way not in WEIGHED:
        return None
    phases, drawn = [row["phase"] for row in rows], []
    for column in columns:
        found = [row[column] for row in rows]
        if column.endswith("/log_variance"):
            found = [None if s is None else float(np.exp(-s)) for s in found]
        drawn.append(charts.curves(column.split("/")[0], {"weight of its loss": found}, phases, kept))
    return join(
        tag("h3", "What each loss counted"), tag("p", WEIGHED[way], class_="soft"), tag("div", drawn, class_="charts")
    )


def figures(facts: Facts) -> Html | None:
    return _each(facts, measured.figures)


def pictured(facts: Facts) -> Html | None:
    return _each(facts, mistakes.pictured)


def _each(facts: Facts, part) -> Html | None:
    shown = [(m, part(one)) for m, one in members(facts).items()]
    return join(*(join(tag("h2", name(m)), content) for m, content in shown if content)) or None


def labels(facts: Facts) -> Html:
    """How many samples of each split have a label for each task."""
    held = facts.held
    splits = [s for s in ("train", "val", "test") if len(held.rows(s))]
    cells = [
        [name(m), *(f"{sum(m in held.targets[i] for i in held.rows(s)):,}" for s in splits)]
        for m in facts.answer["tasks"]
    ]
    titles = {"train": "Training", "val": "Validation", "test": "Test"}
    return table(["Labels for", *(titles[s] for s in splits)], cells, numbers=range(1, len(splits) + 1))
