"""What the report says of found boxes: class by class, how sure against how right, and the worst images drawn."""

import numpy as np

from tlkeras import box_metrics
from tlkeras.reports import charts, classes, drawing
from tlkeras.reports.page import Html, file, join, name, percent, plural, table, tag

CURVES = 12  # classes with a curve
PICTURES, BEST = 10, 3
TITLES = {
    "map": "mAP",
    "map_50": "mAP at 50\u00a0%",
    "map_75": "mAP at 75\u00a0%",
    "map_small": "mAP, small",
    "map_medium": "mAP, medium",
    "map_large": "mAP, large",
    "ar_1": "Recall, 1 box",
    "ar_10": "Recall, 10 boxes",
    "ar_100": "Recall, 100 boxes",
    "ar_small": "Recall, small",
    "ar_medium": "Recall, medium",
    "ar_large": "Recall, large",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
}
MEANING = {
    "map": "precision over every recall, the mean over classes and over overlaps of 50 to 95\u00a0%",
    "map_50": "the same where boxes must overlap their object by half",
    "map_75": "… by three quarters",
    "map_small": "objects of up to 32 × 32 pixels",
    "map_medium": "… between that and 96 × 96 pixels",
    "map_large": "… of 96 × 96 pixels and more",
    "ar_1": "objects found by the surest box of a class and image, over the same overlaps",
    "ar_10": "… by the ten surest",
    "ar_100": "… by the hundred surest",
    "ar_small": "… of these, small objects",
    "ar_medium": "… medium objects",
    "ar_large": "… large objects",
    "precision": "boxes that are right, from the score with the best F1 on",
    "recall": "objects that are found, from that score on",
    "f1": "both in one figure",
}


def by_class(result: dict) -> Html:
    per = result["per_class"]
    order = sorted(range(len(per["class"])), key=lambda c: (not per["support"][c], per["ap"][c] or 0.0))
    rows = []
    for c in order:
        figures = [
            "–" if v is None else f"{v:.2f}" if k != "ap" else classes.bar(v)
            for k, v in ((k, per[k][c]) for k in ("ar", "ap_50", "ap"))
        ]
        rows.append([name(per["class"][c]), f"{per['support'][c]:,}", *figures])
    caption = f"Weakest first. AP: precision over every recall, the mean over overlaps of 50 to 95 %; AP at 50 %: where half must overlap. Recall: over the same overlaps.{classes.left_out(rows)}"
    return join(
        tag("h3", "Class by class"),
        table(["Class", "Objects", "Recall", "AP at 50 %", "AP"], rows[: classes.ROWS], caption, numbers=(1, 2, 3, 4)),
        _curves(result, order),
        _confusion(result),
    )


def _curves(result: dict, order: list[int]) -> Html | None:
    per, lines = result["per_class"], result["curves"]["precision"]
    shown = [c for c in order if lines[c]]
    drawn = [
        charts.precision_recall(per["class"][c], result["curves"]["recall"], lines[c], per["ap_50"][c])
        for c in shown[:CURVES]
    ]
    if not drawn:
        return None
    left = f" These are the {CURVES} weakest of {len(shown):,} classes." if len(shown) > CURVES else ""
    words = f"From left to right boxes of lower scores come in: more objects are found, and fewer boxes are right. The area under a line is the AP at an overlap of 50 %.{left}"
    return join(
        tag("h3", "How many are found, how many are right"),
        tag("p", words, class_="soft"),
        tag("div", drawn, class_="charts"),
    )


def _confusion(result: dict) -> Html:
    known, k = result["per_class"]["class"], len(result["per_class"]["class"])

    def said(t, g, n, of):
        if t == k:
            return join(
                name(known[g]), f" found where nothing is: {n} times" if n > 1 else " found where nothing is: once"
            )
        return join(name(known[t]), " missed" if g == k else join(" taken for ", name(known[g])), f": {n} of {of}")

    caption = f"{classes.CAPTION} The last row are boxes where nothing is, the last column objects without a box. Boxes count from a score of {percent(threshold(result), 0)} on and an overlap of 50 %."
    return classes.confusion([*known, "nothing"], result["confusion"], said, None, caption, columns=[*known, "missed"])


def threshold(result: dict) -> float:
    """The score from which boxes are counted and drawn."""
    found = result.get("threshold")
    return box_metrics.LEAST if found is None else found


def pictured(table_: dict, answer: dict, result: dict, album) -> Html:
    """The worst images, and a few where all is right, truth and answer side by side.

    Args:
        table_: the columns of a predictions file.
        album: gives the pictures by the ids of the table.
    """
    truth, found = box_metrics.samples(table_, answer)
    known, least = answer["classes"], threshold(result)
    pairs = [box_metrics.pairs(t, f, least=least) for t, f in zip(truth, found, strict=True)]
    blame = np.zeros(len(truth))
    for i, (there, seen) in enumerate(pairs):
        wrong = _wrong(truth[i], found[i], there, seen)
        # An object that was missed counts 1, a wrong box by how sure it was.
        blame[i] = (there[wrong] >= 0).sum() + sum(found[i]["scores"][j] for j in seen[wrong] if j >= 0)
    worst = [int(i) for i in np.argsort(-blame, kind="stable") if blame[i] > 0]
    right = [int(i) for i in np.flatnonzero(blame == 0) if len(pairs[i][0])]
    right.sort(key=lambda i: -len(pairs[i][0]))

    def card(i):
        there, seen = pairs[i]
        wrong = _wrong(truth[i], found[i], there, seen)
        missed = there[(seen < 0)].tolist()
        sure = [j for j, s in enumerate(found[i]["scores"]) if s >= least]

        def draw(image):
            scale = np.tile([image.width / table_["width"][i], image.height / table_["height"][i]], 2)
            at = {
                k: (np.reshape(np.asarray(one["boxes"], float), (-1, 4)) * scale).tolist()
                for k, one in (("t", truth[i]), ("f", found[i]))
            }
            labels, said = table_["truth_labels"][i], table_["labels"][i]
            lost = ([at["t"][j] for j in missed], [labels[j] for j in missed])
            chosen = [at["f"][j] for j in sure], [said[j] for j in sure], [found[i]["scores"][j] for j in sure]
            return [
                ("truth", drawing.boxes(image, at["t"], labels, classes=known)),
                ("answer", drawing.boxes(image, *chosen, truth=lost, classes=known)),
            ]

        faults = [
            _fault(known, truth[i], found[i], a, b)
            for a, b in zip(there[wrong].tolist(), seen[wrong].tolist(), strict=True)
        ]
        words = join(*(join("; " if n else "", f) for n, f in enumerate(faults[:6])), "; …" if len(faults) > 6 else "")
        summed = words or f"all {len(there)} right" if len(there) != 1 else words or "right"
        return tag(
            "li", album.drawn(table_["id"][i], draw), tag("p", summed), tag("p", file(table_["id"][i]), class_="file")
        )

    parts = []
    if worst:
        shown = worst[:PICTURES]
        more = f" These are {len(shown)} of them." if len(worst) > len(shown) else ""
        words = f"{plural(len(worst), 'image')} of {len(truth):,} {'has' if len(worst) == 1 else 'have'} an object that was missed, or a box that is wrong; most of it first.{more} Boxes are drawn from a score of {percent(least, 0)} on; dashed is what was missed."
        parts += [tag("p", words), tag("ul", [card(i) for i in shown], class_="drawn")]
    else:
        parts.append(tag("p", "No object was missed, and no box is wrong."))
    if right:
        parts += [
            tag("h3", "All right, with the most objects"),
            tag("ul", [card(i) for i in right[:BEST]], class_="drawn"),
        ]
    return join(parts)


def _wrong(truth: dict, found: dict, there, seen) -> np.ndarray:
    """Which pairs of an image are no object under its own name."""
    return np.array(
        [a < 0 or b < 0 or truth["classes"][a] != found["classes"][b] for a, b in zip(there, seen, strict=True)], bool
    )


def _fault(known, truth: dict, found: dict, a: int, b: int) -> Html:
    true = tag("span", name(known[truth["classes"][a]]), class_="true") if a >= 0 else None
    if b < 0:
        return join("missed ", true)
    said, sure = (
        tag("span", name(known[found["classes"][b]]), class_="said"),
        f", {percent(found['scores'][b], 0)} sure",
    )
    return join(true, " called ", said, sure) if a >= 0 else join("no ", said, " here", sure)
