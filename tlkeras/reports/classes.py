"""What the report says class by class: a table of their figures, and what is taken for what."""

import numpy as np

from tlkeras.reports.page import Html, join, name, percent, table, tag

MATRIX = 40  # classes that fit into a confusion matrix
ROWS = 200
CAPTION = "A row is the truth, a column the answer, a number how many. Blue is right; the deeper, the larger the part of the row."


def bar(value: float) -> Html:
    """A figure of 0..1 with a bar of its length."""
    drawn = tag("span", tag("i", style=f"width:{100 * value:.0f}%"), class_="bar", aria_hidden="true")
    return join(f"{value:.2f}", drawn)


def left_out(rows: list) -> str:
    return f" The {len(rows) - ROWS:,} best are left out here; metrics.json has them." if len(rows) > ROWS else ""


def per_class(result: dict) -> Html:
    per = result["per_class"]
    named = np.sum(result["confusion"], axis=0) if result.get("confusion") else None
    rows = []
    for i in sorted(range(len(per["class"])), key=lambda i: (per["support"][i] == 0, per["f1"][i])):
        n = int(per["support"][i])
        precision = "–" if named is not None and not named[i] else percent(per["precision"][i], 0)
        recall, f1 = (percent(per["recall"][i], 0), bar(per["f1"][i])) if n else ("–", "–")
        rows.append([name(per["class"][i]), f"{n:,}", recall, precision, f1])
    caption = f"Weakest first. Recall: part of the class that was found. Precision: part of the answers with this name that were right. F1: both in one figure.{left_out(rows)}"
    return join(
        tag("h3", "Class by class"),
        table(["Class", "Samples", "Recall", "Precision", "F1"], rows[:ROWS], caption, numbers=(1, 2, 3, 4)),
    )


def confusion(classes: list[str], counts, said=None, shown=None, caption: str = CAPTION, columns=None) -> Html:
    """The largest mistakes in words, by their counts or, with `shown`, their parts of the row; and all in a matrix.

    Args:
        classes: names of the rows; `columns` those of the columns, None: the same.
        counts: (rows, columns).
        said: (row, column, count, count of the row) -> words. None: what is taken for what.
        shown: (count, count of the row) -> text of a cell. None: the count.
    """
    counts = np.asarray(counts)
    total, few = counts.sum(1), len(classes) <= MATRIX
    off = [(int(counts[t, g]), t, g) for t, g in zip(*np.nonzero(counts), strict=True) if t != g]
    off.sort(key=lambda x: (-x[0], -x[0] / total[x[1]])[:: -1 if shown else 1])
    said = said or (lambda t, g, n, of: join(name(classes[t]), " taken for ", name(classes[g]), f": {n} of {of}"))
    words = [tag("li", said(t, g, n, int(total[t]))) for n, t, g in off[: 5 if few else 30]]
    parts = [
        tag("h3", "What is taken for what"),
        tag("ol", words) if words else tag("p", "Nothing was taken for anything else."),
    ]
    if not few:
        too_many = f"A matrix of {len(classes):,} classes would not fit here; metrics.json has it."
        return join(*parts, tag("p", too_many, class_="soft"))
    rows = []
    for t, row in enumerate(counts):
        cells = [
            (
                str(n) if shown is None else shown(n, total[t]),
                {
                    "class_": "none" if not n else "right" if t == g else "wrong",
                    "style": f"--a:{n / max(total[t], 1):.2f}",
                },
            )
            for g, n in enumerate(row)
        ]
        rows.append([name(classes[t]), *cells])
    many = " many" if sum(map(len, classes)) > 60 else ""
    head = ["truth ↓  answer →", *map(name, columns or classes)]
    return join(*parts, table(head, rows, caption, class_=f"confusion{many}"))
