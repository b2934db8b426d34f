"""The report on another domain: scores before and after, and how far the two lie apart."""

from tlkeras import adaptation
from tlkeras.reports.facts import Facts
from tlkeras.reports.measured import SHARES, TITLES
from tlkeras.reports.page import PERCENT, Html, details, figure, file, join, name, percent, plural, table, tag

MEANING = {
    "adabn": "BatchNorm takes its statistics from the target; nothing was learnt",
    "coral": "a loss brought the covariances of both domains together (Deep CORAL)",
    "mmd": "a loss brought the distributions of both domains together (maximum mean discrepancy)",
    "dann": "a classifier tried to tell the domains apart while the network learnt to deceive it (DANN)",
    "self-training": "answers that the network was sure of became labels",
    "masked-lm": "the backbone learnt the language of the target before the task",
}


def adapted(facts: Facts) -> Html | None:
    found = adaptation.written(facts.run)
    if found is None:
        return None
    before, after, target = found["before"], found["after"], found["target"]
    rows = []
    for side in ("source", "target"):
        if before[side] is None:
            rows.append([f"{side.capitalize()}: no labels, no score", "", "", ""])
            continue
        a, b = before[side], after[side]
        of = f"{a['n']:,} {a['split']} {facts.things}" if side == "source" else f"{a['n']:,} {facts.things}"
        title = TITLES.get(a["metric"], a["metric"])
        label = tag("span", tag("span", f"{title} on the {side}"), tag("small", of), class_="term")
        rows.append([label, _shown(a), _shown(b), _interval(b)])
    distance = tag(
        "span",
        tag("span", "Proxy A-distance"),
        tag("small", "0: alike to a linear eye; 2: always told apart"),
        class_="term",
    )
    rows.append([distance, *(f"{side['a_distance']:.2f}" for side in (before, after)), ""])
    seen = (
        f"{target['labelled']:,} have a label, which was used for this score and nothing else."
        if target["labelled"]
        else "None has a label."
    )
    return join(
        tag(
            "p",
            f"Target: {plural(target['samples'], facts.things[:-1])} of ",
            file(found["path"]),
            f". {seen} {_done(found)}",
        ),
        table(["", "Before", "After", "95 % interval after"], rows, numbers=(1, 2, 3)),
        _verdict(before["target"], after["target"], found),
        _rounds(found.get("rounds", [])),
    )


def _done(found: dict) -> str:
    if adaptation.control(found):
        return f"This is the control of {found['method']}: the same phases with a weight of 0, which learnt nothing from the target."
    return f"By {found['method']}: {MEANING[found['method']]}."


def _shown(score: dict) -> str:
    return percent(score["value"]) if score["metric"] in SHARES else figure(score["value"], 3)


def _interval(score: dict) -> str:
    between = score["interval"]
    if not between:
        return ""
    low, high = (_shown({**score, "value": v}) for v in between)
    return f"{low.removesuffix(PERCENT)} – {high}"


def _verdict(before: dict | None, after: dict | None, found: dict) -> Html | None:
    """Whether the change is more than chance, as far as the interval tells, and what it may be owed to."""
    if not before or not after or not after["interval"]:
        return None
    low, high = after["interval"]
    if low <= before["value"] <= high:
        words = "The score before lies inside the interval after: the change may be the choice of samples alone."
    else:
        words = "The score before lies outside the interval after: the change is more than the choice of samples."
    if found.get("weight"):
        words += (
            " A part of it may be owed to more training on the source; the control shows how much: -s adapt.weight=0."
        )
    return tag("p", words, " The scores are of the samples that were adapted to, without their labels.", class_="soft")


def _rounds(rounds: list[dict]) -> Html | None:
    if not rounds:
        return None
    classes = list(rounds[0]["classes"])
    head = ["Round", "Labels", "Right", "Temperature", *map(name, classes)]
    rows = [
        [
            name(r["phase"]),
            f"{r['labels']:,}",
            percent(r["right"]) if "right" in r else "",
            f"{r['temperature']:.2f}",
            *(f"{r['classes'][c]['labels']:,}" for c in classes),
        ]
        for r in rounds
    ]
    note = tag(
        "p",
        "Right: how many of its own labels are the true ones, where these are known; the run itself did not see that.",
        class_="soft",
    )
    return details("Labels of its own making, round by round", table(head, rows, numbers=range(1, len(head))), note)
