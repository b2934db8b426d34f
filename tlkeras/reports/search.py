"""The page of a sweep: how good each trial was, over its number and over each key that was searched."""

import math

from tlkeras.reports import charts
from tlkeras.reports.page import Html, command, document, figure, join, name, plural, table, tag


def page(found: dict) -> str:
    """sweep.html from what sweep.json holds."""
    complete = [row for row in found["trials"] if row["state"] == "complete"]
    metric, best = found["metric"].replace("_", " "), found["best"]
    better = "lower" if found["lower_is_better"] else "higher"
    if best:
        verdict = join(
            tag("p", figure(best["value"]), class_="verdict"),
            tag(
                "p",
                f"is the best {metric} on the validation split, of trial {best['trial']} among {plural(len(found['trials']), 'trial')}; {better} is better. "
                "It was chosen by that split, so it flatters: the test split was not looked at.",
                class_="lead",
            ),
            command(f"tlkeras evaluate {best['run']}"),
            command(f"tlkeras train {found['folder']}/best.yaml"),
        )
    else:
        verdict = tag("p", "No trial has come to its end yet.", class_="lead")
    head = join(tag("h1", name(found["name"])), tag("p", "A sweep over the config", class_="about"), verdict)
    parts = [("trials", "The trials", _table(found))]
    if complete:
        parts.insert(0, ("values", "What did well", _charts(found, complete)))
    return document(f"{found['name']}: sweep", head, parts)


def _charts(found: dict, complete: list[dict]) -> Html:
    drawn = [_over_time(found, complete)]
    drawn += [_over_key(found, complete, key) for key in found["over"]]
    dots = (
        "A dot is a trial that came to its end; the ring is the best. Look for slopes and valleys, not at single dots."
    )
    return join(tag("p", dots), tag("div", drawn, class_="charts"))


def _over_time(found: dict, complete: list[dict]) -> Html:
    rows = sorted(complete, key=lambda r: r["trial"])
    pick = min if found["lower_is_better"] else max
    best = [pick(r["value"] for r in rows[: i + 1]) for i in range(len(rows))]
    numbers = [r["trial"] for r in rows]
    axes, marks = _axes((min(numbers), max(numbers)), [r["value"] for r in rows])
    # The best stays until a better one comes.
    steps = [f"{axes.x(numbers[0])} {axes.y(best[0])}"]
    steps += [
        f"{axes.x(x)} {axes.y(y)}"
        for x, pair in zip(numbers[1:], zip(best, best[1:], strict=False), strict=True)
        for y in pair
    ]
    whole = sorted({round(v) for v in charts.ticks(axes.low_x, axes.high_x)})
    return _figure(
        "Over the trials; the line is the best so far",
        f"{found['metric']} over {len(rows)} trials, best {figure(best[-1])}",
        axes.drawn("trial", found["metric"], [v for v in whole if axes.low_x <= v <= axes.high_x], marks, str),
        tag("path", d="M" + "L".join(steps), class_="b") if len(steps) > 1 else None,
        _dots(axes, [(r["trial"], r) for r in rows], found),
    )


def _over_key(found: dict, complete: list[dict], key: str) -> Html:
    tried = found["over"][key]
    if isinstance(tried, list):
        names = [_said(v) for v in tried]
        places = [(names.index(_said(r["params"][key])), r) for r in complete if key in r["params"]]
        low, high, marks_x, show = -0.5, len(names) - 0.5, range(len(names)), lambda i: names[int(i)][:12]
    elif tried["log"]:
        places = [(math.log10(r["params"][key]), r) for r in complete]
        low, high = math.log10(tried["low"]), math.log10(tried["high"])
        marks_x = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1) or [low, high]
        show = lambda v: figure(10**v)  # noqa: E731
    else:
        places = [(r["params"][key], r) for r in complete]
        low, high = tried["low"], tried["high"]
        marks_x, show = charts.ticks(low, high), figure
    axes, marks = _axes((low, high), [r["value"] for _, r in places])
    return _figure(
        key,
        f"{found['metric']} over {key}: {len(places)} trials",
        axes.drawn("", found["metric"], marks_x, marks, show),
        _dots(axes, places, found),
    )


def _axes(x: tuple, values: list[float]):
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1) * 0.06
    axes = charts.Axes(x, (low - room, high + room))
    return axes, charts.ticks(axes.low_y, axes.high_y, 4)


def _dots(axes, places, found: dict) -> Html:
    best = found["best"] and found["best"]["trial"]
    return join(
        [
            tag("circle", tag("title", _title(r, found)), cx=axes.x(x), cy=axes.y(r["value"]), r=4, class_="dot")
            for x, r in places
        ],
        [
            tag("circle", cx=axes.x(x), cy=axes.y(r["value"]), r=7, class_="ring")
            for x, r in places
            if r["trial"] == best
        ],
    )


def _title(row: dict, found: dict) -> str:
    given = ", ".join(f"{k} {_said(v)}" for k, v in row["params"].items())
    return f"trial {row['trial']}: {found['metric']} {figure(row['value'])}; {given}"


def _figure(title: str, label: str, *content) -> Html:
    return tag("figure", tag("figcaption", title), charts.svg(label, *content))


def _said(value) -> str:
    return figure(value) if isinstance(value, float) else "null" if value is None else str(value)


def _table(found: dict) -> Html:
    keys = list(found["over"])
    rows = [
        [
            str(r["trial"]),
            figure(r["value"]) if r["state"] == "complete" else r["state"],
            "" if r["val_loss"] is None else figure(r["val_loss"]),
            "" if r["epochs"] is None else str(r["epochs"]),
            "" if r["seconds"] is None else f"{r['seconds']:.1f}",
            *(name(_said(r["params"][k])) if k in r["params"] else "" for k in keys),
        ]
        for r in found["trials"]
    ]
    head = ["Trial", found["metric"], "Validation loss", "Epochs", "Seconds", *shortened(keys)]
    failed = [r for r in found["trials"] if r["state"] == "failed"]
    reasons = [tag("li", f"Trial {r['trial']} failed: {str(r['why']).splitlines()[0]}") for r in failed]
    caption = "The best first, then those that were ended early (pruned) or failed."
    return join(table(head, rows, caption, numbers=range(1, 5)), tag("ul", reasons) if reasons else None)


def shortened(keys: list[str]) -> list[str]:
    """The last words of keys, as many as tell them apart.

    >>> shortened(["train.phases.0.epochs", "train.phases.1.epochs", "task.dropout"])
    ['0.epochs', '1.epochs', 'dropout']
    """

    def last(key, n):
        return ".".join(key.split(".")[-n:])

    return [next(last(k, n) for n in range(1, 99) if sum(last(o, n) == last(k, n) for o in keys) == 1) for k in keys]
