"""What a config would do, without training: a row per phase and block, and what is computed once."""

import math
from dataclasses import asdict

from tlkeras.network import Network
from tlkeras.plans import PhasePlan, apply, make
from tlkeras.run import open_run


def table(network: Network, phase_plans: list[PhasePlan]) -> list[dict]:
    """The plan as rows for people and for plan.json: flag, rate, BatchNorm mode and parameters per block."""
    out = []
    for plan in phase_plans:
        apply(network, plan)
        for row in plan.blocks:
            out.append(
                {
                    "phase": plan.phase.name,
                    **asdict(row),
                    "learning_rate": plan.phase.learning_rate * row.factor,
                    "parameters": network.parameters(row.block),
                    "trainable": network.parameters(row.block, trainable=True),
                }
            )
    return out


def plan(path, sets=(), offline: bool = False) -> list[dict]:
    """Works out what a config would do, without training: a row per phase and block.

    Raises:
        ConfigError, PlanError: with every mistake.
    """
    import numpy

    from tlkeras import configure, data, network, prefix, tasks
    from tlkeras.data import grown, several, sounds, splits, text_sources, texts, unlabelled
    from tlkeras.errors import DataError, listed

    cfg, origin = configure.load(path, sets)
    if cfg.distill:
        open_run(cfg.distill.run)
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    wanted = tasks.wanted(cfg.task_name)
    samples = several.samples(cfg.data, task, options, offline, wanted, tasks.annotations(cfg.task_name, options))
    if cfg.extend:
        samples = grown.listed_with_old(cfg, samples)
    text = tasks.kind(cfg.task_name) == "text"
    if text and cfg.data.on_bad == "fail":
        if bad := [
            f"{i}: {why}" for i, t in zip(samples.ids, samples.inputs, strict=True) if (why := text_sources.fault(t))
        ]:
            raise DataError(listed(f"{len(bad)} of {len(samples)} texts cannot be used", bad))
    elif text:
        samples = samples.keep([text_sources.fault(t) is None for t in samples.inputs])
    aside = unlabelled.count(cfg) if cfg.adapt else 0
    targets, answer = task.targets(
        samples.labels, options, samples.classes if cfg.extend else cfg.data.classes or samples.classes
    )
    if not (cfg.extend or cfg.data.on_bad == "skip"):
        # As if no two samples had the same bytes: that much can be told without reading them.
        strata = data.named(task.strata(targets, answer), answer, len(samples))
        splits.assign(samples.ids, strata, samples.groups, samples.splits, cfg.data.val, cfg.data.test, cfg.data.seed)
    _, _, answer = task.learnt(targets, numpy.arange(len(targets)), network.fitted(cfg, answer, offline), options)
    stated = set(filter(None, samples.splits))
    parts = {s: getattr(cfg.data, s) * (s not in stated) for s in ("val", "test")}
    loose = sum(s in (None, "train") for s in samples.splits)
    left = loose * (1 - parts["val"] - parts["test"])
    held = loose * parts["val"] + samples.splits.count("val")
    net = network.build(cfg, answer, offline=offline)
    length, tokens = None, None
    if net.kind == "audio":
        sounds.check(cfg.augment, net.input)
    elif net.kind == "text":
        # No more than a few thousand are tokenised: the statistics do not change with more.
        chosen = numpy.random.default_rng(0).permutation(len(samples))[:5000]
        some = [samples.inputs[i] for i in chosen]
        read = net.reader.table(some, data.at(targets, chosen), numpy.ones(len(some)))
        length, tokens = int(texts.padded(read, net.input).max()), texts.lengths(read, net.input)
    phases = configure.phases(cfg, round(left), len(net.blocks) - 1)
    phase_plans = make(phases, list(net.blocks), net.backbone["name"], origin)
    rows = table(net, phase_plans)
    phases = [p.phase for p in phase_plans]
    cuts = prefix.cuts(net, phase_plans)
    facts = {
        p.name: {
            "epochs": p.epochs,
            "steps": p.epochs * math.ceil(left / cfg.train.usual_batch),
            "optimizer": p.optimizer,
            "schedule": p.schedule,
            "average": p.average and p.average.kind,
            "prefix": prefix.outlook(cfg, cuts[i], prefix.passes(cuts, phases, i), round(left + held), length),
            "tokens": tokens,
            "pictures": _pictures(cfg, net),
            "weights": net.backbone.get("random"),
            "domain": _domain(cfg, phases, i, aside),
        }
        for i, p in enumerate(phases)
    }
    return [{**row, **facts[row["phase"]]} for row in rows]


def _pictures(cfg, network: Network) -> str | None:
    """How images come to the size of the input."""
    if network.kind != "image":
        return None
    takes, size = network.input, "x".join(map(str, network.input.size))
    if takes.pad:
        why = "" if cfg.backbone.resize else "; so its weights were trained, backbone.resize: squash would change it"
        colour = ", ".join(f"{v:g}" for v in takes.pad)
        return f"letterboxed to {size}: their shape is kept, top left, with {colour} (RGB) beside them{why}"
    return f"their middle, {size}" if takes.crop else f"squashed to {size}"


def _domain(cfg, phases: list, index: int, samples: int) -> str | None:
    """What a phase has to do with another domain, of which there are so many samples."""
    from tlkeras import recipe

    if cfg.adapt is None:
        return None
    method, path = cfg.adapt.method, f"the {samples:,} samples of {cfg.adapt.path}"
    if index >= len(phases) - len(recipe.adapting(cfg.adapt, phases[:1])):
        second = "" if method == "self-training" else ", as many of them as of the source in every step"
        return f"{method} on {path}{second}"
    if method == "masked-lm" and index == 0:
        return f"two runs come first: this one from the weights as they are, and masked-lm on {path}"
    return f"adabn on {path} after it" if method == "adabn" and index == len(phases) - 1 else None


def text(rows: list[dict]) -> str:
    """The plan as a table for people."""
    if not rows:
        return "No phase: the head is placed, from the means of each class's features; nothing is trained."
    out = []
    for phase in dict.fromkeys(row["phase"] for row in rows):
        here = [row for row in rows if row["phase"] == phase]
        first = here[0]
        moving = sum(row["trainable"] for row in here)
        out.append(
            f"phase {phase}: {first['epochs']} epochs, {first['steps']} steps, {first['optimizer']}, {first['schedule']}{', ' + first['average'] if first['average'] else ''}; {moving:,} of {sum(r['parameters'] for r in here):,} parameters trained"
        )
        out.append(f"  {'block':<12} {'':<8} {'rate':>9}  {'batchnorm':<9} {'parameters':>12} {'trained':>12}")
        for row in here:
            rate = f"{row['learning_rate']:.2e}" if row["trained"] else ""
            out.append(
                f"  {row['block']:<12} {'trained' if row['trained'] else 'frozen':<8} {rate:>9}  {row['batchnorm'] if row['trained'] else '':<9} {row['parameters']:>12,} {row['trainable']:>12,}"
            )
        if first["pictures"]:
            out.append(f"  pictures: {first['pictures']}")
        if first["tokens"]:
            out.append(f"  tokens: {first['tokens']}")
        if first["weights"]:
            out.append(f"  weights: {first['weights']}")
        if first["domain"]:
            out.append(f"  another domain: {first['domain']}")
        out.append(f"  below the first trained layer: {first['prefix']}")
        out.append(
            f"  memory for weights and optimizer: {(sum(r['parameters'] for r in here) + 3 * moving) * 4 / 1e6:,.0f} MB, activations on top"
        )
    return "\n".join(out)
