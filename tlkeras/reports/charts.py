"""Charts as inline SVG, drawn in the colours of the page's style sheet; each says in words what it shows."""

import math

from tlkeras.reports.page import Html, figure, join, name, percent, tag

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 16, 34
MOST_POINTS = 600


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers between `low` and `high`."""
    raw = (high - low) / max(wanted - 1, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


class Axes:
    """A frame with round numbers along both sides: `x` and `y` turn values into places."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: int = HEIGHT):
        self.height = height
        self.low_x, self.high_x = _opened(*x)
        self.low_y, self.high_y = _opened(*y)

    def x(self, value: float) -> float:
        return round(LEFT + (value - self.low_x) / (self.high_x - self.low_x) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(
            self.height - BOTTOM - (value - self.low_y) / (self.high_y - self.low_y) * (self.height - TOP - BOTTOM), 1
        )

    def drawn(self, x_title: str, y_title: str, x_ticks, y_ticks, show_x=figure, show_y=figure) -> Html:
        floor = self.height - BOTTOM
        return join(
            [tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=self.y(v), y2=self.y(v), class_="grid") for v in y_ticks],
            [text(LEFT - 6, self.y(v) + 4, show_y(v), "end") for v in y_ticks],
            [tag("line", x1=self.x(v), x2=self.x(v), y1=floor, y2=floor + 4, class_="axis") for v in x_ticks],
            [text(self.x(v), floor + 16, show_x(v), "middle") for v in x_ticks],
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"),
            text(WIDTH - RIGHT, self.height - 4, x_title, "end"),
            text(0, 8, y_title, "start"),
        )


def _opened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def text(x, y, content, anchor: str = "start", class_: str | None = None) -> Html:
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def svg(label: str, *content, height: int = HEIGHT) -> Html:
    return tag("svg", *content, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label)


def share(value: float) -> str:
    return percent(value, 0)


def curves(title: str, series: dict[str, list], phases: list[str], kept: list[int] = (), shares: bool = False) -> Html:
    """One metric over the epochs of all phases.

    Args:
        series: 'training' and 'validation', a value or None per epoch.
        phases: name of the phase of each epoch; a line is drawn where it changes.
        kept: numbers of the epochs whose weights were kept by early stopping.
        shares: values are parts of 1 and shown as percent.
    """
    values = [v for s in series.values() for v in s if v is not None]
    low, high = min(values), max(values)
    low, high = (max(0.0, min(low, 0.98) - 0.02), 1.0) if shares else (min(0.0, low), max(0.0, high))
    marks = ticks(*_opened(low, high))
    if marks[-1] < high and len(marks) > 1:
        marks.append(2 * marks[-1] - marks[-2])
    axes = Axes((1, len(phases)), (low, max(high, marks[-1])))
    show = share if shares else figure
    changes = [i for i in range(len(phases)) if i == 0 or phases[i] != phases[i - 1]]
    places = [axes.x(1) if i == 0 else (axes.x(i) + axes.x(i + 1)) / 2 for i in changes]
    ends = [*places[1:], WIDTH - RIGHT]
    parts = [axes.drawn("epoch", "", _epochs(len(phases)), marks, show_x=lambda v: str(int(v)), show_y=show)]
    for i, (place, end) in enumerate(zip(places, ends, strict=True)):
        if i:
            parts.append(tag("line", x1=place, x2=place, y1=TOP - 8, y2=HEIGHT - BOTTOM, class_="rule"))
        label = phases[changes[i]]
        if 6.5 * len(label) < end - place:
            parts.append(text(place + 4 if i else LEFT, TOP - 5, label))
    for line, kind in zip(series.values(), "ba" if len(series) == 2 else "a", strict=True):
        runs = _unbroken(line)
        parts += [
            tag("path", d="M" + "L".join(f"{axes.x(i + 1)} {axes.y(v)}" for i, v in run), class_=kind)
            for run in runs
            if len(run) > 1
        ]
        if len(phases) <= 30:
            parts += [tag("circle", cx=axes.x(i + 1), cy=axes.y(v), r=2.5, class_=kind) for run in runs for i, v in run]
        parts += [
            tag("circle", cx=axes.x(i + 1), cy=axes.y(line[i]), r=6, class_="ring")
            for i in kept
            if kind == "a" and line[i] is not None
        ]
    said = "; ".join(
        f"{name} from {show(found[0])} to {show(found[-1])}"
        for name, line in series.items()
        if (found := [v for v in line if v is not None])
    )
    return tag(
        "figure",
        tag("figcaption", title, " ", legend(series)),
        svg(f"{title} over {len(phases)} epochs: {said}.", *parts),
    )


def legend(series) -> Html:
    kinds = "ba" if len(series) == 2 else "a"
    keys = []
    for words, kind in zip(series, kinds, strict=True):
        stroke = tag(
            "svg",
            tag("path", d="M1 5H21", class_=kind),
            viewBox="0 0 22 10",
            aria_hidden="true",
            style="display:inline-block;width:22px;height:10px;margin:0 .3rem 0 .8rem",
        )
        keys.append(tag("span", stroke, words, class_="soft", style="white-space:nowrap"))
    return join(keys)


def _epochs(n: int) -> list[int]:
    return (
        list(range(1, n + 1))
        if n <= 12
        else sorted({1, *(int(v) for v in ticks(1, n, 6) if v >= 1 and v == int(v) and n / 20 < v)})
    )


def _unbroken(line) -> list[list[tuple[int, float]]]:
    """The stretches of a line between values that are missing or no numbers."""
    runs: list[list] = [[]]
    for i, v in enumerate(line):
        if v is None:
            runs.append([])
        else:
            runs[-1].append((i, v))
    return [run for run in runs if run]


def scale(value: float, between, low: float, high: float, mark: tuple[float, str] | None, show, label: str) -> Html:
    """A line from `low` to `high` with the value, the band it may lie in, and another figure to hold it against.

    HTML, not SVG: it is as wide as the page and its words stay readable on a phone.
    """

    def at(v, side="left"):
        return f"{side}:{100 * (min(max(v, low), high) - low) / (high - low):.1f}%"

    band = (
        tag("i", class_="band", style=f"{at(between[0])};right:{100 - float(at(between[1])[5:-1]):.1f}%")
        if between
        else None
    )
    held = None
    if mark:
        where = float(at(mark[0])[5:-1])
        words = tag("span", mark[1], class_="words", style=f"transform:translateX(-{where:.0f}%)")
        held = tag("span", words, class_="mark", style=at(mark[0]))
    ends = tag("div", tag("span", show(low)), tag("span", show(high)), class_="ends")
    return tag(
        "div",
        ends,
        tag("div", band, held, tag("i", class_="dot", style=at(value)), class_="track"),
        class_="scale",
        role="img",
        aria_label=label,
    )


def reliability(bins: list[dict], label: str) -> Html:
    """How often answers of a confidence are right: a dot per bin on or off the diagonal, its area the number of answers."""
    axes = Axes((0, 1), (0, 1), height=300)
    most = max(b["n"] for b in bins)
    marks = [0, 0.25, 0.5, 0.75, 1]
    parts = [
        axes.drawn("how sure the model was", "how often it was right", marks, marks, share, share),
        tag("line", x1=axes.x(0), y1=axes.y(0), x2=axes.x(1), y2=axes.y(1), class_="rule"),
    ]
    for b in bins:
        x, y = axes.x(b["confidence"]), axes.y(b["accuracy"])
        words = f"{b['n']} answers, {share(b['confidence'])} sure, {share(b['accuracy'])} right"
        parts += [
            tag("line", x1=x, x2=x, y1=y, y2=axes.y(b["confidence"]), class_="gap"),
            tag("circle", tag("title", words), cx=x, cy=y, r=round(2 + 6 * math.sqrt(b["n"] / most), 1), class_="a"),
        ]
    return tag("figure", svg(label, *parts, height=300))


def intervals(rows: list[tuple[str, float, tuple[float, float]]], title: str, show, label: str) -> Html:
    """A line for each (name, value, interval): the dot is the value, the last one in the second colour."""
    left, height = 110, TOP + 30 * len(rows) + BOTTOM
    low, high = min(r[2][0] for r in rows), max(r[2][1] for r in rows)
    low, high = _opened(low, high)
    marks = ticks(low, high, 4)

    def x(value):
        return round(left + (value - low) / (high - low) * (WIDTH - left - RIGHT - 14), 1)

    parts: list = []
    for v in marks:
        parts.append(tag("line", x1=x(v), x2=x(v), y1=TOP, y2=height - BOTTOM, class_="grid"))
        parts.append(text(x(v), height - BOTTOM + 16, show(v), "middle"))
    for n, (name_, value, between) in enumerate(rows):
        y, kind = TOP + 15 + 30 * n, "b" if n == len(rows) - 1 else "a"
        said = tag("title", f"{name_}: {show(value)}, {show(between[0])} to {show(between[1])}")
        parts += [
            text(left - 10, y + 4, name_, "end"),
            tag(
                "line", x1=x(between[0]), x2=x(between[1]), y1=y, y2=y, class_=kind, style="stroke-width:4;opacity:.45"
            ),
            tag("circle", said, cx=x(value), cy=y, r=5, class_=kind),
        ]
    return tag("figure", tag("figcaption", title), svg(label, *parts, height=height))


def precision_recall(title: str, recall: list[float], precision: list[float], area: float) -> Html:
    """The precision of one class at every recall; the line ends where no more is found."""
    axes, marks = Axes((0, 1), (0, 1)), [0, 0.25, 0.5, 0.75, 1]
    reached = [(r, p) for r, p in zip(recall, precision, strict=True) if p > 0]
    # Where the precision stays, the ends of the stretch are enough.
    bends = [
        point
        for i, point in enumerate(reached)
        if i in (0, len(reached) - 1) or not reached[i - 1][1] == point[1] == reached[i + 1][1]
    ]
    if bends:
        bends.append((bends[-1][0], 0.0))
    line = tag("path", d="M" + "L".join(f"{axes.x(r)} {axes.y(p)}" for r, p in bends), class_="a") if bends else None
    most = max((r for r, _ in reached), default=0.0)
    said = f"{title}: an area of {area:.2f}; at most {share(most)} of the objects are found."
    frame = axes.drawn("found", "right", marks, marks, share, share)
    return tag("figure", tag("figcaption", name(title), tag("small", f" {area:.2f}")), svg(said, frame, line))


def scatter(xs, ys, x_title: str, y_title: str, title: str, diagonal: bool) -> Html:
    """Points, with the diagonal or the line at 0 where they should lie; at most MOST_POINTS of them, evenly taken."""
    step = -(-len(xs) // MOST_POINTS)
    low, high = min(xs), max(xs)
    if diagonal:
        low, high = min(low, *ys), max(high, *ys)
        axes = Axes((low, high), (low, high), height=300)
        guide = (axes.low_x, axes.low_x, axes.high_x, axes.high_x)
    else:
        reach = max(map(abs, ys)) or 1.0
        axes = Axes((low, high), (-reach, reach), height=300)
        guide = (axes.low_x, 0, axes.high_x, 0)
    parts = [
        axes.drawn(x_title, y_title, ticks(axes.low_x, axes.high_x), ticks(axes.low_y, axes.high_y)),
        tag("line", x1=axes.x(guide[0]), y1=axes.y(guide[1]), x2=axes.x(guide[2]), y2=axes.y(guide[3]), class_="rule"),
        [
            tag("circle", cx=axes.x(x), cy=axes.y(y), r=3, class_="dot")
            for x, y in zip(xs[::step], ys[::step], strict=True)
        ],
    ]
    shown = f", {len(xs[::step])} of {len(xs)} points" if step > 1 else ""
    return tag(
        "figure", tag("figcaption", title, tag("small", shown)), svg(f"{title}: {len(xs)} points.", *parts, height=300)
    )
