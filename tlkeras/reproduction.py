"""reproduce: the same data, config, seed and versions, trained again from the run's own record; the same figures?

What is compared, and how close it has to be:

    same versions, same kind of machine, CPU      1e-6
    otherwise, figures up to 1                    0.02, or one sample where that is more
    otherwise, larger ones                        5 %
"""

import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from tlkeras import card, configure, data, device, evaluation, tasks, training
from tlkeras.config import Config
from tlkeras.data import grown
from tlkeras.errors import DataError, ModelError, UsageError, listed
from tlkeras.progress import Progress
from tlkeras.run import Run, create, free_folder, open_run, read_json, sha256, write_json

EXACT, SHARE, PART = 1e-6, 0.02, 0.05


def reproduce(folder, out=None, offline: bool = False, quiet: bool = False) -> dict:
    """Trains a run again in a new folder and compares every figure with the recorded one.

    Args:
        folder: the run.
        out: the new run folder. None: beside the run, as NAME-again.
        offline: touch no network.

    Returns:
        What reproduce.json of the new folder holds: {'holds', 'exact', 'differences', 'rows', 'weights', ...}.

    Raises:
        DataError: when samples changed, are gone, or are new; each is named.
        ModelError: when the run's model is not the one that it wrote.
        UsageError: for a soup, which no training made.
    """
    progress = Progress(quiet)
    run = open_run(folder)
    cfg, _ = configure.load(run.config, ["sweep=null"])
    manifest = read_json(run.manifest)
    if made := manifest.get("soup"):
        members = ", ".join(m["name"] for m in made["members"] if m["taken"])
        raise UsageError(
            f"{folder} is a soup, the mean of {members}; no training makes it again. Reproduce those, and stir them anew with tlkeras soup."
        )
    if manifest.get("model", {}).get("sha256") != sha256(run.model):
        raise ModelError(f"{run.model} is not the file this run wrote: its SHA-256 differs from manifest.json.")
    if wrong := changed(run, cfg, offline, progress):
        raise DataError(
            listed(f"{len(wrong)} of the samples are not those that the run was made from", wrong)
            + f"\nRestore them. To train on what is there now: tlkeras train {run.config}"
        )
    progress.line(f"data      {manifest['data']['samples']:,} samples are the same, split alike")
    now = {"versions": training.versions(), "machine": device.describe()}
    for line in differing(manifest, now):
        progress.line(f"warning   {line}")
    again = training.train(
        run.config,
        out or free_folder(run.folder.parent, f"{run.name}-again"),
        _as_it_was(run, cfg, manifest),
        offline=offline,
        quiet=quiet,
    )
    found = compared(run, again, progress)
    write_json(again.folder / "reproduce.json", found)
    run.record("reproduced", again=str(again.folder), holds=found["holds"], largest=found["largest"])
    card.write(run)
    return found


def changed(run: Run, cfg: Config, offline: bool, progress: Progress) -> list[str]:
    """What differs between the samples of a run and those that its config finds now, a line each."""
    before, now = data.reopen(run), _found(cfg, offline, progress)

    def records(held):
        facts = zip(held.hashes, map(json.dumps, held.labels), held.splits, strict=True)
        return dict(zip(held.ids, facts, strict=True))

    old, new = records(before), records(now)
    out = []
    for name, (content, label, split) in old.items():
        if name not in new:
            out.append(f"{name}: is gone")
        elif new[name][0] != content:
            out.append(f"{name}: holds other bytes")
        elif new[name][1] != label:
            out.append(f"{name}: had the label {label:.60}, has {new[name][1]:.60}")
        elif new[name][2] != split:
            out.append(f"{name}: was in {split}, would be in {new[name][2]}")
    return out + [f"{name}: is new" for name in new if name not in old]


def _found(cfg: Config, offline: bool, progress: Progress):
    """The samples that a config finds now, split as it says."""
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    if cfg.extend:
        with tempfile.TemporaryDirectory() as folder:
            return grown.prepare(cfg, task, options, create(Path(folder) / "run"), offline, progress)
    wanted, places = tasks.wanted(cfg.task_name), tasks.annotations(cfg.task_name)
    return data.collect(cfg.data, task, options, progress, offline=offline, texts=wanted, places=places)


def differing(before: dict, now: dict) -> list[str]:
    """What differs between two manifests in versions and machine, a line each."""
    out = []
    for name in sorted({*before.get("versions", {}), *now["versions"]}):
        old, new = before.get("versions", {}).get(name), now["versions"].get(name)
        if old != new:
            out.append(f"{name}: {old or 'not recorded'} then, {new or 'not installed'} now")
    for name in ("system", "machine", "cores", "gpus"):
        old, new = before.get("machine", {}).get(name), now["machine"].get(name)
        if old != new:
            out.append(f"{name}: {old} then, {new} now")
    for name in ("device", "precision"):
        if name in now and before.get(name) != now[name]:
            out.append(f"{name}: {before.get(name)} then, {now[name]} now")
    return out


def _as_it_was(run: Run, cfg: Config, manifest: dict) -> list[str]:
    """Overrides that fix what the config left to the machine, as the run decided it; and no tracking."""
    sets = ["sweep=null", "train.track=[]", f"train.precision={manifest['precision']}"]
    if manifest["device"] == "cpu":
        sets.append("train.device=cpu")
    if cfg.train.batch == "auto" and (steps := read_json(run.plan).get("steps")):
        sets.append(f"train.batch={steps['batch']}")
    return sets


def compared(run: Run, again: Run, progress: Progress) -> dict:
    """Every recorded figure beside that of the new run: the metrics of the splits that were evaluated, and the last epoch."""
    manifests = read_json(run.manifest), read_json(again.manifest)
    differences = differing(*manifests)
    exact = not differences and manifests[0]["device"] == "cpu"
    before = read_json(run.metrics) if run.metrics.is_file() else {}
    counts = manifests[0]["data"]["splits"]
    rows = []
    for split in (s for s in ("test", "val", "train") if s in before):
        new = evaluation.evaluate(again.folder, split, quiet=True)["metrics"]
        rows += [_row(split, k, v, new.get(k), before[split]["n"], exact) for k, v in before[split]["metrics"].items()]
    # A soup has no epochs of its own.
    old, new = (([{}, *r.epochs()])[-1] for r in (run, again))
    for k, v in old.items():
        if k not in ("phase", "epoch", "seconds"):
            n = counts.get("val" if k.startswith("val_") else "train", 1)
            rows.append(_row("last epoch", k, v, new.get(k), n, exact))
    if "data" in before:
        progress.line("note      figures on other data are not compared: where it lay is not recorded")
    return {
        "schema": 1,
        "run": str(run.folder),
        "again": str(again.folder),
        "holds": all(r["holds"] for r in rows),
        "exact": exact,
        "tolerance": f"{EXACT:g}" if exact else f"{SHARE:g} or one sample; {PART:.0%} of figures above 1",
        "differences": differences,
        "data": manifests[0]["data"]["sha256"],
        "seed": configure.load(run.config)[0].train.seed,
        "largest": max((r["difference"] for r in rows if r["difference"] is not None), default=0.0),
        "weights": apart(run, again),
        "rows": rows,
    }


def _row(split: str, metric: str, before, after, n: int, exact: bool) -> dict:
    row = {"split": split, "metric": metric, "before": before, "after": after, "tolerance": None, "difference": None}
    if before is None or after is None:
        return row | {"holds": before is after}
    allowed = EXACT if exact else max(SHARE, 1.001 / n) if abs(before) <= 1 else PART * abs(before)
    difference = 0.0 if before == after else abs(after - before)
    return row | {"tolerance": allowed, "difference": difference, "holds": bool(difference <= allowed)}


def apart(run: Run, again: Run) -> float | None:
    """The largest difference between the weights of two runs; None when their shapes differ."""
    a, b = _arrays(run), _arrays(again)
    if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
        return None
    return max((float(np.abs(a[k] - b[k]).max(initial=0)) for k in a if a[k].dtype.kind == "f"), default=0.0)


def _arrays(run: Run) -> dict[str, np.ndarray]:
    import h5py

    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(run.model) as archive:
        raw = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(raw, "r") as file:
        file.visititems(lambda name, x: found.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None)
    return found


def text(found: dict) -> str:
    """A result of `reproduce` as a table for people."""
    out = [f"{'':<11} {'metric':<20} {'then':>10} {'now':>10} {'apart':>9} {'allowed':>9}"]
    for row in found["rows"]:
        figures = ["-" if row[k] is None else f"{row[k]:.4f}" for k in ("before", "after")]
        small = ["-" if row[k] is None else f"{row[k]:.1e}" if row[k] else "0" for k in ("difference", "tolerance")]
        wrong = "" if row["holds"] else "   DIFFERS"
        out.append(
            f"{row['split']:<11} {row['metric']:<20} {figures[0]:>10} {figures[1]:>10} {small[0]:>9} {small[1]:>9}{wrong}"
        )
    if found["weights"] is None:
        out.append("The weights have other shapes.")
    elif found["weights"] == 0:
        out.append("The weights are equal to the bit.")
    else:
        out.append(f"The weights are at most {found['weights']:.1e} apart.")
    for line in found["differences"]:
        out.append(f"Not as then: {line}")
    wrong = sum(not r["holds"] for r in found["rows"])
    said = (
        f"{wrong} of {len(found['rows'])} figures differ" if wrong else f"All {len(found['rows'])} figures are the same"
    )
    out.append(f"{said}, within {found['tolerance']}. Written to {found['again']}/reproduce.json")
    return "\n".join(out)
