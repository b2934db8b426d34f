"""What came of a sweep: sweep.json, sweep.html, best.yaml, and a table for people."""

import json
import math
from pathlib import Path

from tlkeras.config.document import quoted
from tlkeras.reports import search as page
from tlkeras.reports.search import shortened
from tlkeras.run import Run, write_json, write_text
from tlkeras.sweeping.search import Search


def written(search: Search, seconds: float | None = None) -> dict:
    """Writes sweep.json, sweep.html and best.yaml as things stand; returns the first."""
    rows = [_row(search, t) for t in search.study.get_trials(deepcopy=False) if t.state.name != "WAITING"]
    complete = [r for r in rows if r["state"] == "complete"]
    sign = 1 if search.lower else -1
    # Few samples give many equal figures; of those the lower loss knows better.
    complete.sort(key=lambda r: (sign * r["value"], math.inf if r["val_loss"] is None else r["val_loss"], r["trial"]))
    own = [r for r in complete if Path(r["run"]).is_dir()]
    found = {
        "schema": 1,
        "name": search.config.name,
        "folder": str(search.folder),
        "metric": search.metric,
        "lower_is_better": search.lower,
        "over": search.config.sweep.model_dump(mode="json")["over"],
        "best": own[0] if own else None,
        "trials": complete + [r for r in rows if r["state"] != "complete"],
        "seconds": None if seconds is None else round(seconds, 1),
    }
    write_json(search.folder / "sweep.json", found)
    write_text(search.folder / "sweep.html", page.page(found))
    if best := found["best"]:
        head = (
            f"# The best of {len(rows)} trials: number {best['trial']}, {search.metric} {best['value']:.6g} on the validation split.\n"
            f"#   tlkeras train {search.folder / 'best.yaml'}\n"
        )
        write_text(search.folder / "best.yaml", head + Run(best["run"]).config.read_text("utf8"))
    return found


def _row(search: Search, trial) -> dict:
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    return {
        "trial": trial.number,
        "state": states[trial.state.name],
        "value": trial.value,
        "val_loss": trial.user_attrs.get("val_loss"),
        "epochs": trial.user_attrs.get("epochs"),
        "seconds": trial.user_attrs.get("seconds"),
        "why": trial.user_attrs.get("why") or ("interrupted" if trial.state.name == "FAIL" else None),
        "params": {k: json.loads(v) if isinstance(v, str) else v for k, v in trial.params.items()},
        "run": str(search.folder / f"trial-{trial.number:04d}"),
    }


def short(value) -> str:
    """A value of a key for people: four digits, long ones cut."""
    text = f"{value:.4g}" if isinstance(value, float) else quoted(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:39]}…"


def text(found: dict, most: int = 20) -> str:
    """A result of `sweep` as a table for people, the best first."""
    keys = list(found["over"])
    heads = [
        "trial",
        found["metric"],
        *(["val_loss"] if found["metric"] != "val_loss" else []),
        "epochs",
        "s",
        *shortened(keys),
    ]
    lines = [heads]
    for row in found["trials"][:most]:
        value = f"{row['value']:.4f}" if row["value"] is not None and row["state"] == "complete" else row["state"]
        loss = (
            [f"{row['val_loss']:.4f}" if row["val_loss"] is not None else ""] if found["metric"] != "val_loss" else []
        )
        figures = ["" if row[k] is None else str(row[k]) for k in ("epochs", "seconds")]
        lines.append([str(row["trial"]), value, *loss, *figures, *(short(row["params"].get(k, "")) for k in keys)])
    wide = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    out = ["  ".join(cell.rjust(w) for cell, w in zip(line, wide, strict=True)) for line in lines]
    if len(found["trials"]) > most:
        out.append(f"... and {len(found['trials']) - most} more in sweep.json")
    for row in found["trials"]:
        if row["state"] == "failed":
            out.append(f"trial {row['trial']} failed: {str(row['why']).splitlines()[0]}")
    if best := found["best"]:
        out.append(
            f"Best: trial {best['trial']}, {found['metric']} {best['value']:.4f} on the validation split. Its config: {found['folder']}/best.yaml"
        )
    return "\n".join([*out, f"Picture: {found['folder']}/sweep.html"])
