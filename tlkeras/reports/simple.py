"""Was training worth it? The figure of a run beside those of simple answers to the same samples."""

from tlkeras import tasks
from tlkeras.reports import charts
from tlkeras.reports.facts import Facts
from tlkeras.reports.page import PERCENT, Html, figure, join, percent, table, tag

NAMES = {"knn": "k-NN", "probe": "Linear probe", "tuned": "This model"}
BY = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "rmse": "RMSE, lower is better"}


def compared(facts: Facts) -> Html | None:
    """The baselines of the split that the page speaks of, or why there are none; None for tasks that have none, and for
    one among several, which is held against itself alone."""
    if not tasks.plain(facts.manifest["task"]["name"]) or facts.split == "train":
        return None
    found, head = facts.baselines, tag("h3", "Was it worth training?")
    if "rows" not in found:
        why = found.get("why", "they come with an evaluation: tlkeras evaluate")
        return join(
            head, tag("p", f"Not held against simple answers: {why}{'' if why.endswith('.') else '.'}", class_="soft")
        )
    if found["n"] != facts.result["n"]:
        return join(
            head,
            tag("p", "The baselines are of another evaluation. Make both anew with: tlkeras evaluate", class_="soft"),
        )
    show = percent if found["metric"] == "accuracy" else lambda v: figure(v, 3)
    rows = [(_term(r["name"], found), r["value"], r["interval"]) for r in found["rows"]]
    shown = [
        [term, show(value), f"{show(low).removesuffix(PERCENT)} – {show(high)}"] for term, value, (low, high) in rows
    ]
    plain = [(NAMES.get(r["name"]) or _blind(found), r["value"], r["interval"]) for r in found["rows"]]
    label = f"{BY[found['metric']]}: " + "; ".join(f"{name} {show(value)}" for name, value, _ in plain)
    missing = f"Without k-NN and a linear probe: {found['why']}." if found.get("why") else None
    return join(
        head,
        tag("p", found["verdict"]),
        tag("p", missing, class_="soft") if missing else None,
        tag("div", charts.intervals(plain, BY[found["metric"]], show, label), class_="charts"),
        table(["Answered by", BY[found["metric"]], "95 % interval"], shown, _caption(found), numbers=(1, 2)),
    )


def _blind(found: dict) -> str:
    return "Always the mean" if found["metric"] == "rmse" else "Majority class"


def _term(name: str, found: dict) -> Html:
    weights = "random" if found["random"] else "pretrained"
    meaning = {
        "majority": "without looking: the mean of the training samples"
        if found["metric"] == "rmse"
        else "without looking: what most training samples are",
        "knn": f"the five training samples most alike, by features of the {weights} backbone",
        "probe": "a linear model on the same features, its regularisation chosen by cross-validation",
        "tuned": "the head alone was trained" if found["head_only"] else "as trained",
    }[name]
    return tag("span", tag("span", NAMES.get(name) or _blind(found)), tag("small", meaning), class_="term")


def _caption(found: dict) -> str:
    return f"All answer the same {found['n']:,} samples and know the same {found['trained_on']:,} training samples; validation samples serve this model alone."
