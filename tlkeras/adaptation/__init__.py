"""Another domain: the same task on data that looks otherwise, and of which no label is known (docs/adaptation.md).

`prepare` reads the target and refuses what cannot work, `stage` says what is different in a phase that adapts
(layer.py, losses.py, pseudo.py), and `finish` adapts what no phase does (batchnorm.py) and measures before and after
(measure.py, distance.py).
"""

from tlkeras.adaptation import batchnorm, masked_lm, measure
from tlkeras.adaptation.measure import Adaptation, control, lines, written
from tlkeras.adaptation.stage import Stage, stage
from tlkeras.data import unlabelled
from tlkeras.errors import DataError, PlanError
from tlkeras.run import read_json, write_json

__all__ = ["Adaptation", "Stage", "control", "finish", "lines", "masked_lm", "prepare", "stage", "written"]

MEETING = ("coral", "mmd", "dann")


def prepare(cfg, run, net, task, options, answer, held, phase_plans: list, progress, pixels=None) -> Adaptation | None:
    """Reads the target of a config; None without one.

    Raises:
        DataError: when it cannot be read, or is not what an interrupted run adapted to.
        PlanError: when the network has nothing that the method can adapt.
    """
    asked = cfg.adapt
    if asked is None:
        return None
    rounds = {"self-training": asked.rounds}.get(asked.method, 1 if asked.method in MEETING else 0)
    first = len(phase_plans) - rounds
    if asked.method == "adabn" and not batchnorm.layers(net.model):
        raise PlanError(
            f"adapt.method: {net.backbone['name']} has no BatchNorm, so adabn has nothing to adapt. Choose coral, mmd or dann."
        )
    trained = {block for one in phase_plans[first:] for block in one.trained}
    if asked.method in MEETING and asked.on == "features" and trained <= {"head"}:
        raise PlanError(
            f'adapt.train: {asked.method} moves the features, so a block below the head must be trained while adapting; these phases train the head alone. Name some, as [head, "blocks[-2:]"], or bring the outputs together: adapt.on: outputs'
        )
    if asked.method == "self-training" and not len(held.rows("val")):
        raise DataError(
            "adapt: self-training calibrates its labels on the validation split, and there is none. Set data.val: 0.2"
        )
    target, known = unlabelled.collect(cfg, task, options, answer, progress, pixels)
    learnt = {held.hashes[i] for i in held.rows("train")}
    known = known[[target.hashes[i] not in learnt for i in known]]  # a score needs samples that were not trained on
    told = measure.about(target, known)
    if run.adapt.is_file() and (before := read_json(run.adapt)["target"]) != told:
        raise DataError(
            f"{asked.path} changed since this run began: {before['samples']} samples then, {told['samples']} now, or others. Restore it, or start a new run."
        )
    if not run.adapt.is_file():
        weight = (
            {} if asked.method in ("adabn", "masked-lm") else {"weight": 1.0 if asked.weight is None else asked.weight}
        )
        write_json(run.adapt, {"schema": 1, "method": asked.method, **weight, "path": asked.path, "target": told})
    of = (
        f"{len(known)} with a label, which the scores alone will see"
        if len(known)
        else "without labels, so without a score"
    )
    progress.line(f"target    {len(target.ids)} samples of {asked.path}, {of}")
    return Adaptation(cfg, run, net, task, options, answer, held, target, known, first, progress)


def finish(a: Adaptation | None) -> None:
    """After the phases: adapts BatchNorm where that is the method, and writes the scores before and after."""
    if a is None:
        return
    if a.asked.method == "adabn":
        before = measure.measured(a, a.net)
        batchnorm.adapted(a)
    elif a.asked.method == "masked-lm":
        before = measure.measured(a, masked_lm.unadapted(a))
    else:
        before = measure.at_start(a)
    after = measure.measured(a, a.net)
    measure.write(a, before, after)
