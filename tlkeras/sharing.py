"""Whether sharing helped: a run of several tasks against runs of one of them alone, on the same held-out samples.

The difference is judged by a paired bootstrap: both runs are scored on the same resampled samples, so that what is hard
for both does not count. It speaks of the chance in which samples were held out, not of that in training: another seed
moves a figure too (docs/multitask.md).
"""

import numpy as np

from tlkeras import box_metrics, mask_metrics, tasks
from tlkeras import metrics as m
from tlkeras.errors import UsageError
from tlkeras.evaluation import evaluate, read_predictions
from tlkeras.run import open_run, read_json, write_json
from tlkeras.tasks import several

TIMES = 1000
SHOWN = {"map": "mAP", "miou": "mean IoU"}


def against(folder, others, split: str = "test", quiet: bool = False) -> list[dict]:
    """Compares each task of a run with the run among `others` that learnt it alone.

    Returns:
        A row a task, also written into metrics.json: {'task', 'run', 'metric', 'alone', 'together', 'difference',
        'interval', 'verdict', 'n'}. The difference is positive where sharing helped, whatever the metric; 'verdict' is
        'helped', 'hurt' or 'no difference that chance does not explain'.

    Raises:
        UsageError: when `folder` is no run of several tasks, or another run fits none of them.
    """
    table, answer = _predictions(folder, split, quiet)
    if "tasks" not in answer:
        raise UsageError(f"{folder} is a run of one task; --against is for runs of several, such as text-multitask.")
    rows = []
    for other in others:
        single, alone = _predictions(other, split, quiet)
        name = _member(folder, answer, other, alone)
        module, one, _ = several.members(answer)[name]
        mine = several.of_member(table, name)
        theirs = several.of_member(single, name) if "tasks" in alone else single
        rows.append({"task": name, "run": str(other), **compare(module, one, mine, theirs, str(other))})
    run = open_run(folder)
    everything = read_json(run.metrics)
    everything[split] = {**everything[split], "sharing": rows}
    write_json(run.metrics, everything)
    return rows


def _predictions(folder, split: str, quiet: bool) -> tuple[dict, dict]:
    """The predictions of a split, made where they are missing."""
    path = open_run(folder).predictions(split)
    if not path.is_file():
        evaluate(folder, split, quiet=quiet)
    return read_predictions(path)


def _member(folder, answer: dict, other, alone: dict) -> str:
    """Which task of `answer` another run learnt."""
    members = several.members(answer)
    if "tasks" in alone:
        found = [name for name in alone["tasks"] if name in members]
        if len(alone["tasks"]) == 1 and found:
            return found[0]
        raise UsageError(
            f"{other} must have learnt one of the tasks of {folder} alone: {', '.join(members)}; it learnt {', '.join(alone['tasks'])}. Train one with: tlkeras train CONFIG -s task.only={next(iter(members))}"
        )
    module = tasks.get(read_json(open_run(other).manifest)["task"]["name"])
    found = [name for name, (mine, one, _) in members.items() if mine is module and _alike(one, alone)]
    if len(found) != 1:
        which = f"fits {' and '.join(found)}" if found else f"fits none of {', '.join(members)}"
        raise UsageError(
            f"{other} {which}: its kind of task and its classes must be those of one task of {folder}. Train one alone with: tlkeras train CONFIG -s task.only={next(iter(members))}"
        )
    return found[0]


def _alike(one: dict, other: dict) -> bool:
    return all(one.get(key) == other.get(key) for key in ("classes", "values", "multi_label"))


def compare(module, answer: dict, together: dict, alone: dict, other: str = "the other run") -> dict:
    """The main metric of two predictions of one task on the samples that both have.

    Raises:
        UsageError: when they have none in common, or their labels differ.
    """
    where = {i: n for n, i in enumerate(alone["id"])}
    common = [(n, where[i]) for n, i in enumerate(together["id"]) if i in where]
    if not common:
        raise UsageError(
            f"{other} was not judged on one sample that this run was judged on: their splits differ. Train the task alone on the same splits: tlkeras train CONFIG -s task.only=TASK"
        )
    mine, theirs = (
        {k: [v[pair[side]] for pair in common] for k, v in t.items()} for side, t in enumerate((together, alone))
    )
    truth = [k for k in mine if k == "label" or k.startswith("truth")]
    if any(_plain(mine[k]) != _plain(theirs[k]) for k in truth):
        raise UsageError(f"{other} was judged by other labels of the same samples. Train both from the same data.")
    metric, higher = module.MAIN(answer)
    measures, sign = [_measure(module, answer, t) for t in (mine, theirs)], 1 if higher else -1
    everyone = np.arange(len(common))
    shared, single = (measure(everyone) for measure in measures)

    def difference(rows):
        a, b = (measure(rows) for measure in measures)
        return {} if a is None or b is None else {"difference": sign * (a - b)}

    low, high = m.bootstrap(difference, len(common), times=TIMES)["difference"]
    verdict = "helped" if low > 0 else "hurt" if high < 0 else "no difference that chance does not explain"
    return {
        "metric": metric,
        "alone": single,
        "together": shared,
        "difference": sign * (shared - single),
        "interval": [low, high],
        "verdict": verdict,
        "n": len(common),
    }


def _plain(values) -> list:
    return [v.tolist() if hasattr(v, "tolist") else v for v in values]


def _measure(module, answer: dict, table: dict):
    """f(row numbers) -> the main metric of a task on these samples, fast enough for a thousand calls."""
    classes = answer.get("classes") or []
    number = {c: n for n, c in enumerate(classes)}
    if module is several.object_detection:
        matched = box_metrics.match(*box_metrics.samples(table, answer), len(classes))
        return lambda rows: box_metrics.resampled(matched, rows).get("map")
    if module is several.semantic_segmentation:
        counts = np.array([np.reshape(row, (len(classes),) * 2) for row in table["counts"]])
        return lambda rows: mask_metrics.from_confusion(counts[rows].sum(0))["miou"]
    if module is several.regression:
        y, guess = (np.array(_plain(table[k]), float) for k in ("label", "predicted"))
        return lambda rows: m.regression(y[rows], guess[rows])["rmse"]
    if not answer["multi_label"]:
        right = np.array([a == b for a, b in zip(table["label"], table["predicted"], strict=True)], float)
        return lambda rows: float(right[rows].mean())
    sets = np.zeros((2, len(table["label"]), len(classes)), int)
    for side, column in enumerate(("label", "predicted")):
        for i, names in enumerate(table[column]):
            sets[side, i, [number[c] for c in names]] = 1
    return lambda rows: m.multi_label(sets[0][rows], sets[1][rows])["macro_f1"]


def text(rows: list[dict]) -> str:
    """The rows of `against` for people."""
    wide = max(len(row["task"]) for row in rows)
    out = [
        f"did sharing help, on {rows[0]['n']:,} samples that both runs held out:",
        f"  {'':<{wide}} {'metric':>9} {'alone':>9} {'together':>9} {'better by':>10}   95 % interval",
    ]
    for row in rows:
        low, high = row["interval"]
        metric = SHOWN.get(row["metric"], row["metric"].replace("_", " "))
        figures = (
            f"{row['alone']:>9.4f} {row['together']:>9.4f} {row['difference']:>+10.4f}   {low:+.4f} .. {high:+.4f}"
        )
        out.append(f"  {row['task']:<{wide}} {metric:>9} {figures}   {row['verdict']}")
    return "\n".join(out)
