"""What the report says of masks: class by class, what is taken for what, and the worst images drawn."""

import numpy as np

from tlkeras import mask_metrics
from tlkeras.reports import classes, drawing
from tlkeras.reports.page import Html, file, join, name, percent, plural, table, tag

PICTURES, BEST = 8, 3
TITLES = {
    "miou": "Mean IoU",
    "mean_dice": "Mean Dice",
    "pixel_accuracy": "Pixel accuracy",
    "mean_accuracy": "Mean accuracy",
    "frequency_iou": "Weighted IoU",
}
MEANING = {
    "miou": "what truth and answer share of what either covers, the mean over classes",
    "mean_dice": "the same with what they share counting twice; the F1 of pixels",
    "pixel_accuracy": "pixels that are named right",
    "mean_accuracy": "the same, with every class counting alike",
    "frequency_iou": "the IoU with classes counting by their pixels",
}


def by_class(result: dict) -> Html:
    per = result["per_class"]
    total = max(sum(per["support"]), 1)
    rows = []
    for c in sorted(range(len(per["class"])), key=lambda c: (per["iou"][c] is None, per["iou"][c] or 0.0)):
        shares = ["–" if per[k][c] is None else percent(per[k][c], 0) for k in ("recall", "precision")]
        dice = "–" if per["dice"][c] is None else f"{per['dice'][c]:.2f}"
        iou = "–" if per["iou"][c] is None else classes.bar(per["iou"][c])
        rows.append([name(per["class"][c]), percent(per["support"][c] / total), *shares, dice, iou])
    caption = f"Weakest first. Recall: part of its pixels that was found. Precision: part of the pixels with this name that were right. IoU: what both share of what either covers; Dice counts what they share twice.{classes.left_out(rows)}"
    head = ["Class", "Of all pixels", "Recall", "Precision", "Dice", "IoU"]

    def said(t, g, n, of):
        return join(name(per["class"][t]), " taken for ", name(per["class"][g]), f": {percent(n / of)} of its pixels")

    def shown(n, of):
        share = 100 * n / of if of else 0
        return f"{share:.0f}" if share >= 0.5 else "<1"

    cells = "A row is the truth, a column the answer, a number its part of the row in percent. Blue is right."
    return join(
        tag("h3", "Class by class"),
        table(head, rows[: classes.ROWS], caption, numbers=(1, 2, 3, 4, 5)),
        classes.confusion(per["class"], result["confusion"], said, shown, cells),
    )


def pictured(table_: dict, answer: dict, result: dict, album) -> Html:
    """The worst images and a few of the best: the picture, the truth and the answer side by side.

    Args:
        table_: the columns of a predictions file.
        album: gives the pictures by the ids of the table.
    """
    known, k = answer["classes"], len(answer["classes"])
    each = [mask_metrics.from_confusion(np.reshape(row, (k, k))) for row in table_["counts"]]
    judged = [i for i, one in enumerate(each) if one["miou"] is not None]
    order = sorted(judged, key=lambda i: each[i]["miou"])

    def card(i):
        shape = table_["height"][i], table_["width"][i]
        truth, found = (mask_metrics.unrun(table_[side][i], shape) for side in ("truth", "found"))

        def draw(image):
            return [
                ("picture", image),
                *(
                    (side, drawing.overlay(image, _sized(m, image)))
                    for side, m in (("truth", truth), ("answer", found))
                ),
            ]

        seen = [c for c in np.union1d(truth, found).tolist() if 0 < c < k]
        key = [_key(known[c], c) for c in seen]
        figures = f"mean IoU {each[i]['miou']:.2f}, {percent(each[i]['pixel_accuracy'])} of the pixels right"
        file_name = tag("p", file(table_["id"][i]), class_="file")
        return tag("li", album.drawn(table_["id"][i], draw), tag("p", key), tag("p", figures), file_name)

    shown, best = order[:PICTURES], order[PICTURES:][-BEST:][::-1]
    open_ = any(answer["ignore"] in table_["truth"][i][::2] for i in [*shown, *best])
    striped = " Striped is what the truth leaves open." if open_ else ""
    words = f"The images with the smallest mean IoU of their own first, {plural(len(shown), 'image')} of {len(each):,}.{striped}"
    parts = [tag("p", words), tag("ul", [card(i) for i in shown], class_="drawn")]
    if best:
        parts += [tag("h3", "The best"), tag("ul", [card(i) for i in best], class_="drawn")]
    return join(parts)


def _sized(mask, image):
    """A mask in the size of its picture, without classes between classes."""
    from PIL import Image

    return np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))


def _key(label: str, c: int) -> Html:
    swatch = tag("i", style="background:rgb({} {} {})".format(*drawing.colour(c - 1)), aria_hidden="true")
    return tag("span", swatch, name(label), class_="key")
