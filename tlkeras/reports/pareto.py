"""What a scout found as one picture: how good over how expensive, and the front of those that nothing beats in both."""

import math

from tlkeras.reports.charts import share
from tlkeras.reports.page import Html, escaped, figure, tag

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 56
TITLES = {
    "milliseconds": "milliseconds a sample in TFLite on this machine",
    "flops": "floating-point operations a sample",
    "parameters": "parameters",
}
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "r2": "R²"}
# Drawn on its own, so it cannot take the colours of a page.
STYLE = """
svg{background:#fdfdfb;font-family:system-ui,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
text{fill:#62615b;font-size:12px}.title{fill:#1e1e1c;font-size:16px}.name{fill:#1e1e1c}
.grid{stroke:#dedcd4}.axis{stroke:#62615b}.front{fill:none;stroke:#0062a0;stroke-width:2;stroke-dasharray:5 4}
.between{stroke:#62615b;stroke-opacity:.55}.on{fill:#0062a0}.off{fill:#fdfdfb;stroke:#62615b;stroke-width:1.5}
"""


def picture(scout: dict) -> str:
    """An SVG file of its own of what scout.json holds; costs are drawn to a logarithmic scale."""
    rows, cost = scout["candidates"], scout["cost"]
    shares = scout["metric"] != "r2"
    lows, highs = zip(*(r["interval"] for r in rows), strict=True)
    low, high = min(lows), max(highs)
    room = max((high - low) * 0.08, 0.02)
    low, high = low - room, high + room
    if shares:
        low, high = max(low, 0.0), min(high, 1.0 + room / 2)
    least, most = (math.log10(f(max(r[cost], 1e-3) for r in rows)) for f in (min, max))
    spread = max(most - least, 0.3)
    least, most = least - 0.12 * spread, most + 0.3 * spread

    def x(value) -> float:
        return round(LEFT + (math.log10(max(value, 1e-3)) - least) / (most - least) * (WIDTH - LEFT - RIGHT), 1)

    def y(value) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [_frame(x, y, (least, most), (low, high), shares), _labels(scout)]
    front = sorted((r for r in rows if r["front"]), key=lambda r: r[cost])
    if len(front) > 1:
        parts.append(tag("path", d="M" + "L".join(f"{x(r[cost])} {y(r['probe'])}" for r in front), class_="front"))
    taken: list[tuple[float, float, float]] = []
    for r in rows:
        at, (bottom, top) = x(r[cost]), r["interval"]
        words = f"{r['name']}: {r['probe']:.3f}, {figure(r[cost])} {TITLES[cost]}"
        parts += [
            tag("line", x1=at, x2=at, y1=y(bottom), y2=y(top), class_="between"),
            tag("circle", tag("title", words), cx=at, cy=y(r["probe"]), r=5.5, class_="on" if r["front"] else "off"),
            _name(r["name"], at, y(r["probe"]), taken),
        ]
    label = f"{METRICS[scout['metric']]} of {len(rows)} backbones over {TITLES[cost]}. {scout['verdict']}"
    made = tag("svg", tag("style", Html(STYLE)), *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    return (
        str(made).replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" ', 1)
        + "\n"
    )


def _labels(scout: dict) -> Html:
    title = f"{scout['name']}: backbones by a linear probe on {scout['data']['judged']} training samples"
    return Html(
        tag("text", title if len(title) <= 86 else f"{title[:85]}…", x=LEFT, y=24, class_="title")
        + tag(
            "text",
            f"{METRICS[scout['metric']]}, with 95 % intervals; joined: no other is as good and as cheap",
            x=LEFT,
            y=43,
        )
        + tag("text", TITLES[scout["cost"]], x=WIDTH - RIGHT, y=HEIGHT - 14, text_anchor="end")
    )


def _frame(x, y, costs: tuple[float, float], scores: tuple[float, float], shares: bool) -> Html:
    floor, parts = HEIGHT - BOTTOM, []
    decades = [10.0**e for e in range(math.floor(costs[0]) - 1, math.ceil(costs[1]) + 1)]
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(n / 10 for n in range(10, 100, 4))):
        marks = [v for d in decades for v in (s * d for s in steps) if costs[0] <= math.log10(v) <= costs[1]]
        if len(marks) >= 3:  # the coarsest that says enough
            break
    for v in marks:
        parts.append(tag("line", x1=x(v), x2=x(v), y1=floor, y2=floor + 4, class_="axis"))
        parts.append(tag("text", _short(v), x=x(v), y=floor + 18, text_anchor="middle"))
    span = scores[1] - scores[0]
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100, math.inf) if span / s <= 8)
    for n in range(math.ceil(scores[0] / step), math.floor(scores[1] / step) + 1):
        v = n * step
        if shares and v > 1:
            continue
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(v), y2=y(v), class_="grid"))
        parts.append(tag("text", share(v) if shares else f"{v:.2f}", x=LEFT - 8, y=y(v) + 4, text_anchor="end"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
    return Html("".join(parts))


def _short(value: float) -> str:
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g}"


def _name(name: str, at: float, height: float, taken: list) -> Html:
    """A label beside its dot, moved down where it would lie on another."""
    shown = name if len(name) <= 40 else f"{name[:39]}…"
    length = 6.8 * len(shown)
    left = at + 10 if at + 10 + length < WIDTH - 4 else at - 10 - length
    place = height + 18  # below the dot: the front may lie beside it
    while any(abs(place - b) < 14 and left < e and s < left + length for s, e, b in taken):
        place += 14
    taken.append((left, left + length, place))
    return tag("text", Html(escaped(shown)), x=round(left, 1), y=round(place, 1), class_="name")
