"""The pictures of the report: the worst mistakes, the narrowest right answers, and a few of everything."""

import numpy as np

from tlkeras.reports import pictures
from tlkeras.reports.facts import Facts
from tlkeras.reports.measured import KINDS
from tlkeras.reports.page import Html, figure, file, join, name, names, percent, plural, tag


def pictured(facts: Facts) -> Html | None:
    if not facts.predictions:
        return None
    if "worst" in facts.result:
        return _misheard(facts)
    album = pictures.Album(facts.files(), facts.texts())
    if kind := KINDS.get(facts.config.task_name):
        return kind.pictured(facts.predictions, facts.answer, facts.result, album)
    drawn = (
        _pictured_classes if "scores" in facts.predictions else _pictured_values if "values" in facts.answer else None
    )
    if drawn is None:
        return None
    seen = "A picture is the first ten seconds of a sound: time to the right, low tones below, loud ones bright."
    return join(tag("p", seen, class_="soft") if facts.things == "sounds" else None, drawn(facts, album))


def _misheard(facts: Facts) -> Html:
    """Transcripts with most errors a word: what was said above what was understood."""
    if not facts.result["worst"]:
        return tag("p", "Every transcript is right.")
    parts = [
        tag(
            "p",
            "The transcripts with most errors a word. Above what was said, below it what was understood: ",
            tag("span", "missed or taken for another", class_="true"),
            ", ",
            tag("span", "understood instead or put in", class_="said"),
            ". These are in capitals, and a dash stands where the other has a word.",
        )
    ]
    for one in facts.result["worst"]:
        above, below = (line.split(" ") for line in one["alignment"])
        above, below = ([word for word in line if word] for line in (above, below))
        parts += [
            tag("h3", file(one["id"]), f": {percent(one['wer'], 0)} of its words"),
            tag("p", [_pair(*pair) for pair in zip(above, below, strict=True)], class_="aligned"),
        ]
    return join(*parts)


def _pair(true: str, said: str) -> Html:
    """Two words, one below the other; a row of such breaks anywhere, however narrow the page."""
    if true == said:
        return join(tag("span", name(true), name(said)), " ")
    true, said = ("–" if set(word) == {"*"} else word for word in (true, said))
    return join(tag("span", tag("b", name(true), class_="true"), tag("b", name(said), class_="said")), " ")


def _pictured_classes(facts: Facts, album) -> Html:
    table_, multi = facts.predictions, facts.answer["multi_label"]
    scores = np.asarray(table_["scores"], float)
    number = {c: k for k, c in enumerate(facts.classes)}
    truth = np.zeros(scores.shape, bool)
    for i, label in enumerate(table_["label"]):
        truth[i, [number[c] for c in label] if multi else number[label]] = True
    if multi:
        right = np.array([set(p) == set(t) for p, t in zip(table_["predicted"], table_["label"], strict=True)])
        # How wrong the worst label of an image is, and how near a right image was to a mistake.
        blame, margin = np.abs(truth - scores).max(1), np.abs(scores - facts.answer["threshold"]).min(1)
    else:
        right = np.array([p == t for p, t in zip(table_["predicted"], table_["label"], strict=True)])
        blame = margin = np.asarray(table_["score"], float)
    wrong = sorted(np.flatnonzero(~right), key=lambda i: -blame[i])
    close = sorted(np.flatnonzero(right), key=lambda i: margin[i])[:6]

    def card(i):
        said, true = (list(table_[k][i]) if multi else [table_[k][i]] for k in ("predicted", "label"))
        sure = float(scores[i].max() if not multi else blame[i])
        alt = f"truth: {', '.join(true) or 'none'}; answer: {', '.join(said) or 'none'}"
        if right[i]:
            lines = [
                tag(
                    "p",
                    tag("span", names(true) if true else "no label", class_="true"),
                    f", {percent(sure, 0)}" if not multi else None,
                )
            ]
            if not multi:
                second = int(np.argsort(-scores[i], kind="stable")[1])
                lines.append(tag("p", "then ", name(facts.classes[second]), f", {percent(scores[i][second], 0)}"))
        else:
            lines = [
                tag(
                    "p",
                    "said ",
                    tag("span", names(said) if said else "nothing", class_="said"),
                    f", {percent(sure, 0)}" if not multi else None,
                ),
                tag("p", "is ", tag("span", names(true) if true else "nothing", class_="true")),
            ]
        bar = (
            tag("span", tag("i", style=f"width:{100 * sure:.0f}%"), class_="sure", aria_hidden="true")
            if not multi
            else None
        )
        return tag(
            "li", album.picture(table_["id"][i], alt), bar, lines, tag("p", file(table_["id"][i]), class_="file")
        )

    shown = wrong[:12]
    how = "" if multi else " The percentage is how sure it was."
    more = f" These are {len(shown)} of them." if len(wrong) > len(shown) else ""
    parts = [tag("p", "No answer was wrong.")]
    if wrong:
        words = f"{plural(len(wrong), 'answer')} of {len(right):,} {'is' if len(wrong) == 1 else 'are'} wrong, the most confident first.{more}{how}"
        parts = [tag("p", words), tag("ul", [card(i) for i in shown], class_="pictures")]
    if close:
        parts += [tag("h3", "Right, with the least confidence"), tag("ul", [card(i) for i in close], class_="pictures")]
    return join(parts, _by_class(facts, album, scores, truth, {*shown, *close}))


def _by_class(facts: Facts, album, scores, truth, seen: set) -> Html | None:
    """A few samples of each class that were not shown yet, from the most to the least convincing."""
    each = min(4, album.left // max(len(facts.classes), 1))
    rows = []
    for c, label in enumerate(facts.classes) if each else ():
        left = sorted((i for i in np.flatnonzero(truth[:, c]) if i not in seen), key=lambda i: -scores[i, c])
        chosen = (
            [left[int(k)] for k in np.unique(np.linspace(0, len(left) - 1, min(each, len(left))).round())]
            if left
            else []
        )
        if chosen:
            sure = {i: percent(scores[i, c], 0) for i in chosen}
            items = [
                tag("li", album.picture(facts.predictions["id"][i], f"{label}, {sure[i]} sure"), tag("p", sure[i]))
                for i in chosen
            ]
            rows.append(tag("div", tag("h3", name(label)), tag("ul", items, class_="pictures strip"), class_="class"))
    if not rows:
        return None
    words = tag("p", "Under each, how sure the model is of the true class.", class_="soft")
    return join(tag("h3", "A few of every class"), words, tag("div", rows, class_="classes", style=f"--each:{each}"))


def _pictured_values(facts: Facts, album) -> Html:
    ids = facts.predictions["id"]
    y, guess = (np.asarray(facts.predictions[k], float) for k in ("label", "predicted"))
    off = (np.abs(guess - y) / np.maximum(y.std(0), 1e-12)).mean(1)
    worst = np.argsort(-off, kind="stable")[:12].tolist()
    others = [int(i) for i in np.argsort(y[:, 0], kind="stable") if i not in set(worst)]
    across = (
        [others[int(k)] for k in np.unique(np.linspace(0, len(others) - 1, min(12, len(others))).round())]
        if others
        else []
    )

    def card(i):
        said, true = (", ".join(figure(float(v)) for v in values[i]) for values in (guess, y))
        lines = [
            tag("p", "said ", tag("span", said, class_="said")),
            tag("p", "is ", tag("span", true, class_="true")),
            tag("p", file(ids[i]), class_="file"),
        ]
        return tag("li", album.picture(ids[i], f"truth: {true}; answer: {said}"), lines)

    parts = [
        tag("p", "The largest errors first" + (", in standard deviations of each value." if y.shape[1] > 1 else ".")),
        tag("ul", [card(i) for i in worst], class_="pictures"),
    ]
    if across:
        parts += [
            tag("h3", "Others, from the smallest value to the largest"),
            tag("ul", [card(i) for i in across], class_="pictures"),
        ]
    return join(parts)
