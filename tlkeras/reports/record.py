"""The report's second half: how the run came about, what it was given, and what came of it."""

import itertools
import shlex

import numpy as np

from tlkeras.reports import charts, several, soups
from tlkeras.reports.classes import ROWS
from tlkeras.reports.facts import Facts
from tlkeras.reports.measured import SHARES, value_names
from tlkeras.reports.page import (
    Html,
    command,
    details,
    figure,
    file,
    join,
    name,
    names,
    percent,
    plural,
    size,
    table,
    tag,
)

SPLITS = (("train", "Training"), ("val", "Validation"), ("test", "Test"))


# ---------------------------------------------------------------------- training
def training(facts: Facts) -> Html | None:
    if not facts.history and not facts.plan:
        return None
    return join(
        soups.members(facts.manifest["soup"]) if "soup" in facts.manifest else None,
        _curves(facts) if facts.history else None,
        _plan(facts) if facts.plan else None,
    )


def _curves(facts: Facts) -> Html:
    rows = facts.history
    phases = [row["phase"] for row in rows]
    apart = ("phase", "epoch", "seconds")
    metrics = [k for k in rows[0] if not (k in apart or k.startswith("val_") or several.weight(k))]
    kept = _kept(facts)
    drawn = []
    for metric in sorted(metrics, key=lambda k: k != "loss"):
        series = {"training": [row[metric] for row in rows], "validation": [row.get(f"val_{metric}") for row in rows]}
        series = {k: v for k, v in series.items() if any(x is not None for x in v)}
        if series:
            drawn.append(charts.curves(several.titled(metric), series, phases, kept, metric.split("/")[-1] in SHARES))
    columns = [k for k in rows[0] if k != "phase"]
    cells = [
        [
            row["phase"],
            *(("" if row[k] is None else f"{row[k]:.0f}" if k == "epoch" else figure(row[k])) for k in columns),
        ]
        for row in rows[:ROWS]
    ]
    numbers = table(["phase", *(k.replace("_", " ") for k in columns)], cells, numbers=range(1, len(columns) + 1))
    more = tag("p", f"{len(rows) - ROWS} more are in history.csv.", class_="soft") if len(rows) > ROWS else None
    ring = " A ring marks the epoch whose weights were kept." if kept else ""
    return join(
        tag(
            "p",
            f"{plural(len(rows), 'epoch')} in {plural(len(set(phases)), 'phase')}.{ring} ",
            " ".join(_remarks(facts)),
        ),
        tag("div", drawn, class_="charts"),
        several.weighed(facts, kept),
        details("The numbers", numbers, more),
    )


def _kept(facts: Facts) -> list[int]:
    """Row numbers of the epochs that early stopping went back to."""
    stopping = {p["name"]: p.get("early_stopping") for p in facts.plan.get("phases", [])}
    best: dict[str, tuple[float, int]] = {}
    for i, row in enumerate(facts.history):
        rule, value = stopping.get(row["phase"]), row.get("val_loss", row["loss"])
        if (
            rule
            and value is not None
            and (row["phase"] not in best or value < best[row["phase"]][0] - rule["min_delta"])
        ):
            best[row["phase"]] = value, i
    return [i for _, i in best.values()]


def _remarks(facts: Facts) -> list[str]:
    """What the curves say to somebody who has not read many."""
    last = facts.history[-1]
    said = []
    if (
        (seen := last.get("accuracy")) is not None
        and (new := last.get("val_accuracy")) is not None
        and seen - new > 0.1
    ):
        said.append(
            f"At the end it named {percent(seen)} of the training {facts.things} right and {percent(new)} of the validation {facts.things}: some is learnt by heart. "
            f"More {facts.things}{', augmentation' if facts.things == 'images' else ''} or fewer trained blocks help."
        )
    phase = [row for row in facts.history if row["phase"] == last["phase"]]
    losses = [row["val_loss"] for row in phase if row.get("val_loss") is not None]
    if len(losses) > 2 and losses[-1] == min(losses) and losses[-1] < 0.99 * losses[-2]:
        said.append("The validation loss was still falling at the end: more epochs may help.")
    elif len(losses) > 2 and losses[-1] > 1.1 * min(losses) and not _kept(facts):
        said.append(
            f"The validation loss was lowest in epoch {int(phase[int(np.argmin(losses))]['epoch'])} of the last phase and rose after it: early_stopping keeps the best epoch."
        )
    return said


def _plan(facts: Facts) -> Html:
    moved = {(row["phase"], row["block"]): row for row in facts.audit}
    phases = facts.plan["phases"]
    if not phases:
        return tag("p", "Nothing was trained: the head holds the mean of each class's features.")
    parts = [tag("h3", "What was allowed to move, and what moved"), _audit(facts)]
    for phase in phases:
        rows = _gathered([row | _moved(moved, row) for row in facts.plan["blocks"] if row["phase"] == phase["name"]])
        cells = [_plan_row(row) for row in rows]
        trained, every = (sum(row[k] for row in rows) for k in ("trainable", "parameters"))
        mean = f", judged and kept as {kind['kind'].upper()}" if (kind := phase.get("average")) else ""
        about = f": {plural(phase['epochs'], 'epoch')}, {phase['optimizer']}, {phase['schedule']} schedule{mean}, {trained:,} of {every:,} parameters trained"
        source = (
            tag("p", _source(facts.plan["prefix"][phase["name"]]))
            if phase["name"] in facts.plan.get("prefix", {})
            else None
        )
        head = ["Block", "", "Rate", "Parameters", "Trained", "BatchNorm", "Tensors moved"]
        parts.append(
            details(
                join(tag("b", phase["name"]), about),
                join(source, table(head, cells, numbers=(2, 3, 4, 6))),
                open_=len(phases) <= 3,
            )
        )
    return join(parts)


def _source(choice: dict) -> str:
    """Where a phase had its numbers from: stored features, and how many views of each sample; or the pixels."""
    if not choice["stored"]:
        return f"Every step computed the frozen part anew: {choice['why']}."
    views = f", {choice['views']} augmented views of each training sample in turn" if choice["views"] else ""
    return f"Trained from features that were computed once and stored: {choice['bytes'] / 1e6:,.1f} MB{views}."


def _plan_row(row: dict) -> list:
    moved = f"{row['moved']} of {row['tensors']}" if row["tensors"] else ""
    if row["trained"]:
        rate = figure(row["learning_rate"], 3)
        return [
            name(row["block"]),
            "trained",
            rate,
            f"{row['parameters']:,}",
            f"{row['trainable']:,}",
            row["batchnorm"],
            moved,
        ]
    return [
        tag("span", text, class_="off") if text else ""
        for text in (name(row["block"]), "frozen", "", f"{row['parameters']:,}", "", "", moved)
    ]


def _moved(audit: dict, row: dict) -> dict:
    found = audit.get((row["phase"], row["block"]), {"moved": 0, "tensors": 0})
    return {"moved": found["moved"], "tensors": found["tensors"]}


def _gathered(rows: list[dict]) -> list[dict]:
    """The rows of a phase with three or more frozen blocks in a row as one; plan.json has them apart."""
    out: list[dict] = []
    for frozen, group in itertools.groupby(rows, key=lambda row: not row["trained"]):
        some = list(group)
        if not frozen or len(some) < 3:
            out += some
            continue
        sums = {k: sum(row[k] for row in some) for k in ("parameters", "trainable", "moved", "tensors")}
        out.append(some[0] | sums | {"block": f"{some[0]['block']} … {some[-1]['block']}"})
    return out


def _audit(facts: Facts) -> Html | None:
    if not facts.audit:
        return None
    frozen = [row for row in facts.audit if not row["trained"]]
    if stray := [f"{row['block']} ({row['phase']})" for row in frozen if row["moved"]]:
        return tag("p", "The audit failed: frozen blocks moved: ", names(stray), ".")
    tensors = sum(row["tensors"] for row in frozen)
    return tag(
        "p",
        f"Audited after every phase: {f'all {tensors:,} frozen tensors are bit for bit what they were' if tensors else 'no block was frozen'}, and every trained block moved.",
    )


# ---------------------------------------------------------------------- data
def data(facts: Facts) -> Html | None:
    if facts.held is None and not facts.found:
        return None
    return join(_counts(facts) if facts.held is not None else None, _left_out(facts.found))


def _counts(facts: Facts) -> Html:
    held = facts.held
    rows_of = {s: held.rows(s) for s, _ in SPLITS if len(held.rows(s))}
    if not (isinstance(held.targets, np.ndarray) and {"classes", "values"} & set(held.answer)):
        # Targets of other forms than a class or a number: only how many samples there are.
        cells = [[title, f"{len(rows_of[s]):,}"] for s, title in SPLITS if s in rows_of]
        counted = table(["Split", facts.things.capitalize()], cells, caption="How the data was split.")
        return join(counted, several.labels(facts)) if "tasks" in facts.answer else counted
    if not held.answer.get("classes"):
        cells = []
        for k, value in enumerate(value_names(facts) if facts.answer else ["value"]):
            for s, title in SPLITS:
                if s in rows_of:
                    y = held.targets[rows_of[s], k]
                    cells.append(
                        [
                            join(name(value), f", {title.lower()}"),
                            f"{len(y):,}",
                            *(figure(float(v)) for v in (y.min(), np.median(y), y.max())),
                        ]
                    )
        return table(["Values", facts.things.capitalize(), "Least", "Middle", "Largest"], cells, numbers=(1, 2, 3, 4))
    counts = {s: held.targets[rows].sum(0).astype(int) for s, rows in rows_of.items()}
    total = sum(counts.values())
    order = sorted(range(len(total)), key=lambda c: -total[c])
    cells = [
        [
            name(held.answer["classes"][c]),
            *(f"{counts[s][c]:,}" for s in counts),
            f"{total[c]:,}",
            _share(total[c], total.max()),
        ]
        for c in order
    ]
    if len(cells) > ROWS:
        cells = [*cells[: ROWS // 2], ["…", *[""] * (len(counts) + 2)], *cells[-ROWS // 2 :]]
    cells.append(
        [
            tag("b", f"All {facts.things}"),
            *(tag("b", f"{len(r):,}") for r in rows_of.values()),
            tag("b", f"{len(held.ids):,}"),
            "",
        ]
    )
    more = " An image counts for each of its classes." if held.answer.get("multi_label") else ""
    return table(
        ["Class", *(t for s, t in SPLITS if s in counts), "All", ""],
        cells,
        f"Images per class and split.{more}",
        numbers=range(1, len(counts) + 2),
    )


def _share(n, most) -> Html:
    return tag("span", tag("i", style=f"width:{100 * n / max(most, 1):.0f}%"), class_="bar", aria_hidden="true")


def _left_out(found: dict) -> Html:
    parts = []
    if near := found.get("near_duplicates"):
        parts += [
            tag("h3", "Nearly the same image in two splits"),
            tag(
                "p",
                "What was trained on and then asked about is easily answered. Remove one of each pair, or keep them together with data.group. "
                "Mirrored and turned copies are found too; drawings and series may be named without cause.",
            ),
            _listed([file(text) for text in near]),
        ]
    if skipped := found.get("skipped"):
        parts += [
            tag("h3", f"{plural(len(skipped), 'file')} left out"),
            _listed([join(file(s["file"]), f": {s['reason']}") for s in skipped]),
        ]
    if ignored := found.get("ignored"):
        parts += [tag("h3", "Passed over"), _listed([f"{reason}: {n:,}" for reason, n in ignored.items()])]
    if notes := found.get("notes"):
        parts += [
            tag("h3", "Used, but odd"),
            _listed(
                [join(f"{note}: {about['count']:,}, e.g. ", file(about["files"][0])) for note, about in notes.items()]
            ),
        ]
    return join(parts)


def _listed(items, most: int = 20) -> Html:
    more = (
        tag("li", f"and {len(items) - most:,} more, in data_report.json", class_="soft") if len(items) > most else None
    )
    return tag("ul", [tag("li", item) for item in items[:most]], more)


# ---------------------------------------------------------------------- artefacts
def artefacts(facts: Facts) -> Html | None:
    folder = shlex.quote(str(facts.run.folder))
    if not facts.artefacts:
        return (
            join(tag("p", "Nothing is exported yet."), command(f"tlkeras export {folder}")) if facts.finished else None
        )
    first = facts.artefacts[0]
    shown = percent if first["metric"] in SHARES else figure
    rows = [["Keras, as trained", shown(first["keras"]), "", "", "", "", ""]]
    for a in facts.artefacts:
        agree = "" if a.get("agreement") is None else percent(a["agreement"])
        rows.append(
            [
                a["format"],
                shown(a["score"]),
                _drop(a, shown),
                figure(a["max_difference"], 2),
                agree,
                size(a["bytes"]),
                f"{a['milliseconds']:.1f} ms",
            ]
        )
    missing = [f for f in facts.config.export.to if f not in {a["format"] for a in facts.artefacts}]
    metric = first["metric"].replace("_", " ")
    caption = (
        f"Each was run in a fresh process on {first['n']:,} held-out files and kept because its {metric} held. Difference: the largest between its outputs and those of Keras. "
        "Same answer: how often the best class is the same. Time: one image, median, on the machine that exported."
    )
    return join(
        table(
            ["Format", metric.capitalize(), "Drop", "Difference", "Same answer", "Size", "Time"],
            rows,
            caption,
            numbers=range(1, 7),
        ),
        tag(
            "p",
            "Asked for and not here: ",
            names(missing),
            ". The reason comes from ",
            tag("code", f"tlkeras export {folder}"),
            ".",
        )
        if missing
        else None,
    )


def _drop(a: dict, shown) -> str:
    return "none" if abs(a["drop"]) < 5e-5 else shown(a["drop"])


# ---------------------------------------------------------------------- to do it again
def repeat(facts: Facts) -> Html:
    run, manifest = facts.run, facts.manifest
    folder = shlex.quote(str(run.folder))
    known = [
        (
            "Data",
            join(tag("code", manifest["data"]["sha256"][:16]), ", a hash of all samples, labels and splits")
            if "sha256" in manifest.get("data", {})
            else None,
        ),
        ("Model", tag("code", manifest["model"]["sha256"][:16]) if "model" in manifest else None),
        ("Seed", facts.config.train.seed),
        ("Precision", manifest.get("precision")),
        ("Machine", _machine(manifest.get("machine", {}))),
        *manifest.get("versions", {}).items(),
    ]
    return join(
        tag(
            "p",
            "The config below is complete: every default is written out. With the same data, seed, versions and kind of machine it gives this model again.",
        ),
        command(f"tlkeras train {shlex.quote(str(run.config))}"),
        command(f"tlkeras evaluate {folder}"),
        tag(
            "dl",
            [
                (tag("dt", k), tag("dd", str(v) if not isinstance(v, Html) else v))
                for k, v in known
                if v not in (None, "")
            ],
        ),
        details("config.yaml", tag("pre", tag("code", run.config.read_text("utf8")), tabindex=0)),
    )


def _machine(machine: dict) -> str:
    words = [machine.get("system"), machine.get("machine"), *machine.get("gpus", [])]
    words += [
        f"{machine[k]:g} {unit}" for k, unit in (("cores", "cores"), ("memory_gb", "GB of memory")) if k in machine
    ]
    return ", ".join(str(w) for w in words if w)
