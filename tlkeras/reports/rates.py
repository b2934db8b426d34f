"""The picture of a search for a learning rate: the loss over the rate, as an SVG that stands alone."""

import math

from tlkeras.reports.charts import BOTTOM, HEIGHT, TOP, WIDTH, Axes, text, ticks
from tlkeras.reports.page import Html, figure, tag

# A file of its own has no page to take its colours from: those of the report, on white.
STYLE = """text{fill:#62615b;font:11px system-ui,"Noto Sans","Liberation Sans",sans-serif}
.axis{stroke:#62615b}.grid{stroke:#dedcd4}.rule{stroke:#62615b;stroke-dasharray:2 3}
.a{fill:none;stroke:#0062a0;stroke-width:2;stroke-linejoin:round}.b{fill:none;stroke:#be4a00;stroke-width:1;opacity:.45}
.dot{fill:#0062a0;stroke:none}.said{fill:#1e1e1c;paint-order:stroke;stroke:#fdfdfb;stroke-width:4px}"""  # readable over the line of the other mark
MARGIN = 12
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def picture(found: dict) -> str:
    """The SVG of what rates.find_rate found."""
    places = [math.log10(rate) for rate in found["rates"]]
    smooth = found["smoothed"]
    least, first = min(smooth), smooth[0]
    # A loss that diverges would flatten everything else: what lies above twice the fall is cut off.
    top = min(max(*smooth, *found["losses"]), first + 1.0 * (first - least) + 1e-9)
    bottom = max(min(*found["losses"], least), least - 0.3 * (top - least))
    axes = Axes((places[0], places[-1]), (bottom, top))
    powers = list(range(math.ceil(places[0] - 1e-9), math.floor(places[-1] + 1e-9) + 1))
    inside = TOP - MARGIN

    def line(values, kind):
        points = (f"{axes.x(x)} {max(axes.y(y), inside)}" for x, y in zip(places, values, strict=True))
        return tag("path", d="M" + "L".join(points), class_=kind)

    def mark(rate, words, y):
        x = axes.x(math.log10(rate))
        side = "end" if x > WIDTH / 2 else "start"
        return [
            tag("line", x1=x, x2=x, y1=inside, y2=HEIGHT - BOTTOM, class_="rule"),
            text(x + (-4 if side == "end" else 4), y, words, side, "said"),
        ]

    suggested = found["suggested"]
    marks = [*mark(suggested, f"to take {figure(suggested, 3)}", HEIGHT - BOTTOM - 6)]
    if found["diverged"]:
        marks += mark(found["diverged"], f"too large {figure(found['diverged'], 3)}", inside + 10)
    at = smooth[min(range(len(places)), key=lambda i: abs(places[i] - math.log10(suggested)))]
    dot = tag("circle", cx=axes.x(math.log10(suggested)), cy=max(axes.y(at), inside), r=4, class_="dot")
    frame = axes.drawn("learning rate", "loss", powers, ticks(bottom, top), lambda v: f"10{str(v).translate(RAISED)}")
    said = f"Loss over the learning rate of phase {found['phase']}; to take: {suggested:g}."
    # The frame of the report's charts, with a margin, since nothing stands around it.
    box = f"{-MARGIN} {-2 * MARGIN} {WIDTH + 2 * MARGIN} {HEIGHT + 3 * MARGIN}"
    whole = tag(
        "svg",
        tag("title", said),
        tag("style", Html(STYLE)),
        tag("rect", x=-MARGIN, y=-2 * MARGIN, width=WIDTH + 2 * MARGIN, height=HEIGHT + 3 * MARGIN, fill="#fdfdfb"),
        text(WIDTH - 10, -8, f"phase {found['phase']}", "end", "said"),
        frame,
        line(found["losses"], "b"),
        line(smooth, "a"),
        marks,
        dot,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=box,
        width=2 * WIDTH,
        role="img",
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}\n'
