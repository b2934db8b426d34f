"""A head that gets more classes: grown from the old run's, and judged by what it has forgotten of the old ones."""

import numpy as np

from tlkeras import data, evaluation
from tlkeras.config import Config
from tlkeras.errors import ModelError
from tlkeras.run import Run, write_json


def placed(cfg: Config) -> bool:
    """Whether a run is its class means, without a phase of training."""
    return cfg.task.get("head") == "prototypes" and not (cfg.train.phases or cfg.train.recipe)


def grow(model, cfg: Config, answer: dict) -> int:
    """Puts the head of the old run into the first columns of a new network's head, as it was; returns how many.

    Raises:
        ModelError: when the old head reads other features.
    """
    assert cfg.extend is not None  # the caller has looked
    old = evaluation.open_trained(cfg.extend.run, "float32")
    known = len(old.answer["classes"])
    layer = model.get_layer("head_logits")
    kernel, bias = layer.get_weights()
    was, shift = old.network.model.get_layer("head_logits").get_weights()
    if len(was) != len(kernel) or answer["classes"][:known] != old.answer["classes"]:
        raise ModelError(
            f"{cfg.extend.run}: its head reads {len(was)} features for {known} classes, and the new network has {len(kernel)}. Keep backbone.name, pool and the classes as tlkeras extend writes them."
        )
    kernel[:, :known], bias[:known] = was, shift
    layer.set_weights([kernel, bias])
    return known


def judge(run: Run, cfg: Config, progress) -> dict:
    """Counts what was forgotten on samples that neither network was trained on; writes extend.json.

    Recall per class: of the old run, which knows the old classes alone, and of the new one, which may take an old class
    for a new one.
    """
    assert cfg.extend is not None  # the caller has looked
    before, after = (evaluation.open_trained(f) for f in (cfg.extend.run, run.folder))
    held = data.reopen(run)
    split = "test" if len(held.rows("test")) else "val"
    truth = held.targets.argmax(1)
    known = len(before.answer["classes"])
    rows = held.rows(split)
    old, new = rows[truth[rows] < known], rows[truth[rows] >= known]
    # A sample of an old class that came with the new data was judged by nobody before; it counts all the same.
    was, now = _right(before, held, old, progress), _right(after, held, np.concatenate([old, new]), progress)
    classes = []
    for c, name in enumerate(after.answer["classes"]):
        mine = truth[np.concatenate([old, new])] == c
        classes.append(
            {
                "class": name,
                "new": c >= known,
                "n": int(mine.sum()),
                "before": _mean(was[truth[old] == c]) if c < known else None,
                "after": _mean(now[mine]),
            }
        )
    accuracy = {
        "old_before": _mean(was),
        "old_after": _mean(now[: len(old)]),
        "new": _mean(now[len(old) :]),
        "all": _mean(now),
    }
    found = {"schema": 1, "from": cfg.extend.run, "split": split, "classes": classes, "accuracy": accuracy}
    write_json(run.extended, found)
    return found


def _right(trained, held, rows, progress) -> np.ndarray:
    """Whether the network's answer to each of the samples `rows` is right."""
    if not len(rows):
        return np.zeros(0)
    table = held.table(rows, reader=trained.network.reader)
    scores = np.concatenate(list(evaluation.judgements(trained, table, [], None, progress)))
    return (scores.argmax(1) == held.targets[rows].argmax(1)).astype(float)


def _mean(values) -> float | None:
    return float(values.mean()) if len(values) else None


def line(found: dict) -> str:
    """What `judge` found, in a line."""
    a = found["accuracy"]
    if a["old_before"] is None:
        return f"cannot be told: no {found['split']} sample of an old class is there"
    new = "" if a["new"] is None else f"; {a['new']:.3f} of new ones"
    return f"of old classes {a['old_before']:.3f} was right before and {a['old_after']:.3f} is now{new}"


def text(found: dict) -> str:
    """What `judge` found, for people."""
    wide = max(len("all together"), *(len(row["class"]) for row in found["classes"]))

    def cell(value):
        return f"{'-' if value is None else format(value, '.3f'):>9}"

    out = [f"recall on {found['split']} samples, of {found['from']} before and of this run after:"]
    out.append(f"  {'class':<{wide}} {'samples':>8}{'before':>9}{'after':>9}")
    for row in found["classes"]:
        forgot = row["before"] is not None and row["after"] is not None and row["after"] < row["before"]
        note = "  new" if row["new"] else f"  {row['after'] - row['before']:+.3f}" if forgot else ""
        out.append(f"  {row['class']:<{wide}} {row['n']:>8}{cell(row['before'])}{cell(row['after'])}{note}")
    a, n = found["accuracy"], {new: sum(r["n"] for r in found["classes"] if r["new"] is new) for new in (True, False)}
    out.append(f"  {'old classes':<{wide}} {n[False]:>8}{cell(a['old_before'])}{cell(a['old_after'])}")
    out.append(f"  {'new classes':<{wide}} {n[True]:>8}{cell(None)}{cell(a['new'])}")
    out.append(f"  {'all together':<{wide}} {n[True] + n[False]:>8}{cell(None)}{cell(a['all'])}")
    return "\n".join(out)
