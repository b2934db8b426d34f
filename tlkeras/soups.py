"""Soups: one network whose weights are the mean of several's (Wortsman et al. 2022, arXiv:2203.05482), of runs or of the
epochs of one run. It is as large and as fast as one of them."""

import json
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkeras import averages, checkpoints, config, configure, data, device, evaluation, lora, network, plans, prefix
from tlkeras.config import Phase
from tlkeras.data import pipeline
from tlkeras.errors import ModelError, UsageError, listed
from tlkeras.evaluation import Trained
from tlkeras.progress import Progress
from tlkeras.run import Run, create, free_folder, open_run, read_json, replacing, sha256, write_json, write_text


@dataclass(frozen=True)
class Member:
    """A network that may come into a soup: its weights, in the order of the model's."""

    name: str
    arrays: list[np.ndarray]
    facts: dict


def soup(folders, out=None, kind: str = "greedy", epochs: bool = False, quiet: bool = False) -> Run:
    """Averages the weights of runs, or with `epochs` of the checkpoints that one run kept of its last phase; returns the
    run that holds the mean.

    Args:
        folders: finished runs of one network on one split of the data, with the same blocks trained.
        out: the run folder. None: saved_models/NAME-soup of the first one.
        kind: 'uniform' takes all; 'greedy' goes through them from the best validation score down and takes in what does not
            make the score of the mean fall, so that it ends no lower than the best of them.

    Raises:
        UsageError: when they do not fit together, with everything that differs.
        ModelError: when weights differ that none of them trained.
    """
    progress = Progress(quiet)
    runs = [open_run(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]
    _enough(runs, epochs)
    _alike(runs)
    trained = evaluation.open_trained(runs[0].folder)
    held = data.reopen(runs[0])
    rows = held.rows("val")
    if kind == "greedy" and not len(rows):
        raise UsageError(
            "A greedy soup is chosen on the validation samples, and these runs have none (data.val: 0). Ask for the mean of all with --kind uniform."
        )
    members = _of_epochs(runs[0], trained) if epochs else _of_runs(runs, trained)
    made = create(out or free_folder("saved_models", f"{runs[0].name}-soup"))
    with made.lock():
        estimate = _estimate(trained, held)
        metric, higher = trained.task.MAIN(trained.answer)

        def score(arrays, mixed: bool) -> float:
            """The main metric on the validation samples, the larger the better; the mean of several has it from
            BatchNorm statistics of its own."""
            _put(trained.network.model, arrays)
            if mixed and estimate:
                estimate()
            if not len(rows):
                return math.nan
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "predictions.parquet"
                evaluation.predict_rows(trained, held, rows, file, progress=progress)
                found = evaluation.score(file, trained.task)["metrics"][metric]
            return -math.inf if found is None else found if higher else -found

        scores = []
        for member in members:
            scores.append(score(member.arrays, False))
            progress.line(f"  {member.name}  {_shown(metric, scores[-1], higher)}")
        chosen, best = _greedy(members, scores, score) if kind == "greedy" else (list(range(len(members))), None)
        mixed = len(chosen) > 1
        value = score(mean([members[i].arrays for i in chosen]), mixed) if best is None or mixed else best
        if not mixed:
            _put(trained.network.model, members[chosen[0]].arrays)
        facts = {
            "kind": kind,
            "metric": metric,
            "val": _number(value, higher),
            "members": [
                {**m.facts, "name": m.name, "val": _number(s, higher), "taken": i in chosen}
                for i, (m, s) in enumerate(zip(members, scores, strict=True))
            ],
        }
        _write(made, runs[0], trained, facts)
    return made


def mean(weights: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The mean of each array over several networks; of what is no float, such as a seed, the first one's."""
    return [
        np.mean(same, axis=0, dtype=np.float64).astype(same[0].dtype) if same[0].dtype.kind == "f" else same[0]
        for same in zip(*weights, strict=True)
    ]


def text(run: Run) -> str:
    """What a soup was made of, for people."""
    facts = read_json(run.manifest)["soup"]
    wide = max(len(m["name"]) for m in facts["members"])
    taken = sum(m["taken"] for m in facts["members"])
    out = [f"{facts['kind']} soup of {taken} of {len(facts['members'])}, {facts['metric']} on the validation samples:"]
    for m in sorted(facts["members"], key=lambda m: not m["taken"]):
        out.append(f"  {m['name']:<{wide}}  {_figure(m['val'])}  {'taken' if m['taken'] else 'left out'}")
    out.append(f"  {'their mean':<{wide}}  {_figure(facts['val'])}")
    return "\n".join([*out, f"Written to {run.folder}"])


def _enough(runs: list[Run], epochs: bool) -> None:
    if epochs and len(runs) != 1:
        raise UsageError(
            f"The epochs of one run make a soup; received {len(runs)} runs. Name one, or leave --epochs out."
        )
    if not epochs and len(runs) < 2:
        raise UsageError(
            f"A soup takes two runs or more; received {len(runs)}. Train others with -s train.seed=1, or give --epochs for the checkpoints of this one."
        )
    folders = [run.folder.resolve() for run in runs]
    if doubled := sorted({str(run.folder) for run in runs if folders.count(run.folder.resolve()) > 1}):
        raise UsageError(f"A soup takes each run once; twice: {', '.join(doubled)}.")


def _alike(runs: list[Run]) -> None:
    """Raises UsageError with everything in which runs differ that a mean of their weights needs alike."""
    wrong = []
    first = _described(runs[0])
    for run in runs[1:]:
        other = _described(run)
        for what in first | other:
            a, b = first.get(what), other.get(what)
            if a != b:
                wrong.append(f"{what}: {_cut(a)} in {runs[0].folder}, {_cut(b)} in {run.folder}")
    if wrong:
        raise UsageError(
            listed(
                "Runs of a soup must have the same network, trained blocks and split of the data; these differ", wrong
            )
            + "\nTrain them from one config; they may differ in train.seed, rates, epochs and augmentation."
        )


def _described(run: Run) -> dict:
    """What must be alike: {what: value}."""
    cfg = config.load(run.config)
    manifest, about, plan = (read_json(path) for path in (run.manifest, run.backbone, run.plan))
    trained = sorted({row["block"] for row in plan["blocks"] if row["trained"]})
    return {
        "task": cfg.task,
        **{f"backbone {k}": v for k, v in about.items() if k not in ("new", "licence")},
        "backbone.pool": cfg.backbone.pool,
        "answer": manifest["answer"],
        "samples and their splits (SHA-256)": manifest["data"]["sha256"],
        "parameters": {row["block"]: row["parameters"] for row in plan["blocks"]} if not cfg.backbone.lora else None,
        "trained blocks": trained,
    }


def _cut(value) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= 120 else said[:117] + "..."


def _of_runs(runs: list[Run], trained: Trained) -> list[Member]:
    """The networks of runs. Blocks that none of them trained must be alike to the bit.

    Raises:
        ModelError: when they are not.
    """
    rows = read_json(runs[0].plan)["blocks"]
    still = {row["block"] for row in rows} - {row["block"] for row in rows if row["trained"]}
    members, expected = [], None
    for run in runs:
        opened = trained if run is runs[0] else evaluation.open_trained(run.folder)
        found = {b: plans.digests(opened.network)[b] for b in still}
        expected = expected or found
        if other := sorted(b for b in still if found[b] != expected[b]):
            raise ModelError(
                f"Nothing trained {', '.join(other)}, but the weights there are others in {run.folder} than in {runs[0].folder}: they began from other weights, whose mean is neither. Train them from the same ones."
            )
        arrays = [np.array(v.numpy()) for v in opened.network.model.weights]
        members.append(Member(str(run.folder), arrays, {"sha256": read_json(run.manifest)["model"]["sha256"]}))
    return members


def _of_epochs(run: Run, trained: Trained) -> list[Member]:
    """The networks of the checkpoints that were kept of the last phase of a run."""
    cfg, _ = configure.load(run.config)
    phases = [Phase.model_validate(p) for p in read_json(run.plan)["phases"]]
    start, found = checkpoints.of_phase(run, len(phases) - 1)
    if len(found) < 2:
        raise UsageError(
            f"{run.folder} keeps {len(found)} checkpoints of its last phase, and a soup takes two or more. Train with -s train.keep_checkpoints=10."
        )
    net = trained.network
    if cfg.backbone.lora:
        about, answer = read_json(run.backbone), trained.answer
        _, precision = device.choose(cfg.train.device, cfg.train.precision)
        net = network.rebuild(cfg, answer, about, None, precision, run.tokenizer)
    plans.apply(net, plans.make(phases, list(net.blocks), net.backbone["name"])[-1])
    members = []
    for epoch, arrays in found:
        _set(net.model.variables, start["weights"])
        _set(averages.moving(net.model), arrays["moving"])
        if cfg.backbone.lora:
            lora.merge(net.model, trained.network.model)
        weights = [np.array(v.numpy()) for v in trained.network.model.weights]
        members.append(Member(f"epoch {epoch + 1}", weights, {"run": str(run.folder), "epoch": epoch + 1}))
    return members


def _greedy(members: list[Member], scores: list[float], score) -> tuple[list[int], float]:
    """The numbers of the members that a greedy soup takes, and its score (algorithm 1 of the paper)."""
    order = sorted(range(len(members)), key=lambda i: -scores[i])
    chosen, best = [order[0]], scores[order[0]]
    for i in order[1:]:
        found = score(mean([members[k].arrays for k in [*chosen, i]]), True)
        if found >= best:
            chosen, best = [*chosen, i], found
    return chosen, best


def _estimate(trained: Trained, held):
    """f(): BatchNorm statistics of the network as it is now, from the training samples; None where no run moved any."""
    net = trained.network
    plan = read_json(trained.run.plan)
    phases = [Phase.model_validate(p) for p in plan["phases"]]
    phase_plans = plans.make(phases, list(net.blocks), net.backbone["name"])
    cuts = prefix.cuts(net, phase_plans)
    for one, cut in reversed(list(zip(phase_plans, cuts, strict=True))):
        plans.apply(net, one)
        if averages.norms(net.model):
            model = prefix.whole(cut, cut.suffix, net.model.name)
            table = held.table(held.rows("train"), reader=net.reader)
            batches = pipeline.of(table).held_out(table, net.input, plan.get("steps", {}).get("batch", 32))
            estimate = averages.estimator(model)
            return lambda: estimate(x for x, *_ in batches)
    return None


def _put(model, arrays: list[np.ndarray]) -> None:
    _set(model.weights, arrays)


def _set(variables, arrays) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _write(made: Run, first: Run, trained: Trained, facts: dict) -> None:
    """The run folder of a soup: that of its first member with other weights, and without a history of its own."""
    import keras

    write_text(made.config, config.render(trained.config.model_copy(update={"name": config.slug(made.name)})))
    for name in ("splits", "data_report", "backbone", "plan"):
        source = getattr(first, name)
        if source.is_file():
            with replacing(getattr(made, name)) as temporary:
                shutil.copyfile(source, temporary)
    if first.tokenizer.is_dir():
        shutil.copytree(first.tokenizer, made.tokenizer)
    model = trained.network.model
    plain = keras.Model(model.inputs, model.outputs, name=model.name)
    with replacing(made.model) as temporary:
        plain.save(temporary)
    about = {"file": made.model.name, "sha256": sha256(made.model)}
    manifest = read_json(first.manifest) | {"name": config.slug(made.name), "soup": facts, "model": about}
    write_json(made.manifest, manifest)
    made.record("soup", kind=facts["kind"], members=[m["name"] for m in facts["members"] if m["taken"]])


def _number(score: float, higher: bool) -> float | None:
    return (score if higher else -score) if math.isfinite(score) else None


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _shown(metric: str, score: float, higher: bool) -> str:
    return f"val {metric} {_figure(_number(score, higher))}"
