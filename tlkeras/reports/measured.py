"""The figures behind the verdict: every metric, the classes, what is taken for what, and how far its confidence goes."""

import numpy as np

from tlkeras.reports import charts, classes, detection, segmentation, simple
from tlkeras.reports.facts import FEW, Facts
from tlkeras.reports.page import PERCENT, Html, details, figure, join, name, percent, table, tag

# What a kind of task shows in its own way: TITLES, MEANING, by_class and pictured.
KINDS = {"object-detection": detection, "semantic-segmentation": segmentation}
SHARES = (
    "accuracy",
    "balanced_accuracy",
    "top_2_accuracy",
    "top_3_accuracy",
    "top_5_accuracy",
    "pixel_accuracy",
    "mean_accuracy",
    "wer",
    "cer",
    "sentences_wrong",
    "wer_plain",
)
TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "weighted_f1": "Weighted F1",
    "top_2_accuracy": "Top-2 accuracy",
    "top_3_accuracy": "Top-3 accuracy",
    "top_5_accuracy": "Top-5 accuracy",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "wer": "Word error rate (WER)",
    "cer": "Character error rate (CER)",
    "sentences_wrong": "Transcripts with an error",
    "wer_plain": "WER, plain",
}
MEANING = {
    "accuracy": "answers that are right",
    "balanced_accuracy": "the same, with every class counting alike",
    "macro_f1": "finding classes and not inventing them, in one figure; classes count alike",
    "micro_f1": "the same over all answers; equals accuracy with one class each",
    "weighted_f1": "the same, with classes counting by their size",
    "top_2_accuracy": "the true class is among the two most confident answers",
    "top_3_accuracy": "… among the three",
    "top_5_accuracy": "… among the five",
    "roc_auc": "how well the scores put a class above the others; 0.5 is guessing",
    "pr_auc": "precision averaged over every recall",
    "log_loss": "how surprising the truth is to the model; 0 is best",
    "calibration_error": "how sure it is against how often it is right; 0 is best",
    "rmse": "typical error; large errors weigh more; lower is better",
    "mae": "mean distance from the true value; lower is better",
    "r2": "part of the variation explained; 1 is best, 0 is no better than answering the mean",
    "wer": "words that are wrong, missing or too many, by those said; 0 is best, and more than 100 % is possible",
    "cer": "the same of characters",
    "sentences_wrong": "sounds in whose transcript a word or more is wrong",
    "wer_plain": "the same of words, without case and punctuation",
}


def figures(facts: Facts) -> Html | None:
    if facts.split is None:
        return None
    result, kind = facts.result, KINDS.get(facts.config.task_name)
    other = [
        f"{facts.samples(s)}: {r['main']} {_value(r['main'], r['metrics'][r['main']])} ({r['n']:,})"
        for s, r in facts.metrics.items()
        if s != facts.split and r["metrics"].get(r["main"]) is not None
    ]
    return join(
        _metrics(result, facts.samples(), facts.answer.get("multi_label", False), kind),
        simple.compared(facts),
        tag("p", f"Also measured, on {'; '.join(other)}.", class_="soft") if other else None,
        kind.by_class(result) if kind else _by_class(result),
        _calibration(result, facts.answer.get("multi_label", False)) if result.get("calibration") else None,
        _errors(facts) if "per_class" not in result and facts.predictions and "values" in facts.answer else None,
    )


def _by_class(result: dict) -> Html:
    names = result.get("per_class", {}).get("class")
    return join(
        classes.per_class(result) if names else None,
        classes.confusion(names, result["confusion"]) if result.get("confusion") else None,
    )


def _value(metric: str, value) -> str:
    return (
        "not defined here"
        if value is None
        else percent(value)
        if metric in SHARES
        else f"{round(value, 3) + 0.0:.3f}"
        if abs(value) < 10
        else figure(value)
    )


def _metrics(result: dict, images: str, multi_label: bool, kind=None) -> Html:
    rows = []
    titles, meanings = (TITLES, MEANING) if kind is None else (kind.TITLES, kind.MEANING)
    for metric, value in sorted(result["metrics"].items(), key=lambda item: item[0] != result["main"]):
        between = result["intervals"].get(metric)
        meaning = (
            "samples whose labels are all found and none invented"
            if multi_label and metric == "accuracy"
            else meanings.get(metric)
        )
        # A band without width comes from answers that are all alike; the headline says what it is worth.
        band = (
            f"{_value(metric, between[0]).removesuffix(PERCENT)} – {_value(metric, between[1])}"
            if between and between[0] < between[1]
            else ""
        )
        term = tag(
            "span", tag("span", titles.get(metric, metric)), tag("small", meaning) if meaning else None, class_="term"
        )
        shown = _value(metric, value)
        rows.append([term, tag("b", shown) if metric == result["main"] else shown, band])
    caption = f"On {result['n']:,} {images}. The interval holds the true figure with 95 % confidence, as far as the choice of samples goes."
    return table(["Metric", "Value", "95 % interval"], rows, caption, numbers=(1, 2))


def _calibration(result: dict, multi_label: bool) -> Html:
    bins = result["calibration"]
    n = sum(b["n"] for b in bins)
    sure, right = (sum(b["n"] * b[k] for b in bins) / n for k in ("confidence", "accuracy"))
    gap = right - sure
    verdict = "too modest" if gap > 0.05 else "too sure of itself" if gap < -0.05 else "about as sure as it should be"
    words = f"On average it is {percent(sure, 0)} sure and right in {percent(right, 0)} of the cases: {verdict}."
    if multi_label:
        words = (
            f"On average a label gets {percent(sure, 0)} and applies in {percent(right, 0)} of the cases: {verdict}."
        )
    many = "" if n >= FEW else f" With {n:,} answers a dot stands for a handful; read the direction, not the details."
    rows = [[percent(b["confidence"], 0), percent(b["accuracy"], 0), f"{b['n']:,}"] for b in bins]
    return join(
        tag("h3", "Can its confidence be believed?"),
        tag(
            "p",
            words,
            " Dots on the dotted line are honest, dots below it claim too much; larger dots hold more answers.",
            many,
        ),
        tag("div", charts.reliability(bins, f"Reliability diagram. {words}"), class_="charts"),
        details("The numbers", table(["Sure", "Right", "Answers"], rows, numbers=(0, 1, 2))),
    )


def _errors(facts: Facts) -> Html:
    y, guess = (np.asarray(facts.predictions[k], float) for k in ("label", "predicted"))
    parts = []
    for k, value in enumerate(value_names(facts)):
        off = np.abs(guess[:, k] - y[:, k])
        half, most = (figure(float(np.quantile(off, q))) for q in (0.5, 0.9))
        parts += [
            tag("h3", name(value)),
            tag("p", f"Half of the answers are off by at most {half}, nine in ten by at most {most}."),
            tag(
                "div",
                charts.scatter(y[:, k].tolist(), guess[:, k].tolist(), "true", "answered", "Answered over true", True),
                charts.scatter(
                    y[:, k].tolist(),
                    (guess[:, k] - y[:, k]).tolist(),
                    "true",
                    "answered minus true",
                    "Error over true",
                    False,
                ),
                class_="charts",
            ),
        ]
    return join(parts)


def value_names(facts: Facts) -> list[str]:
    label = facts.config.data.label
    return (
        label
        if isinstance(label, list)
        else [label or "value"]
        if facts.answer.get("values") == 1
        else [f"value {k + 1}" for k in range(facts.answer["values"])]
    )
