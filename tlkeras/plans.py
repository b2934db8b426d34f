"""The plan: per phase and block, frozen or trained, learning-rate factor and BatchNorm mode. Written as data,
applied to every leaf, and audited afterwards by comparing tensors.
"""

import hashlib
import math
import re
from dataclasses import dataclass

import numpy as np

from tlkeras import fused, lora
from tlkeras.blocks import HEAD, NECK, select
from tlkeras.config import Phase
from tlkeras.errors import PlanError, TlkerasError, nearest
from tlkeras.network import Network


@dataclass(frozen=True)
class BlockPlan:
    block: str
    trained: bool
    factor: float
    batchnorm: str


@dataclass(frozen=True)
class PhasePlan:
    """A phase as the blocks of one network take it; `number` is that of the phase in the config."""

    phase: Phase
    blocks: tuple[BlockPlan, ...]
    number: int = 0

    @property
    def trained(self) -> list[str]:
        return [b.block for b in self.blocks if b.trained]


@dataclass(frozen=True)
class Growth:
    """A learning rate that grows from `lowest` to `highest`, at every update by the same factor."""

    lowest: float
    highest: float
    updates: int

    def rate(self, update: int) -> float:
        return self.lowest * (self.highest / self.lowest) ** (update / max(self.updates - 1, 1))

    def schedule(self, factor: float, accumulate: int):
        import keras
        from keras import ops

        class Growing(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(growing, step):
                part = ops.cast(step // accumulate, "float32") / max(self.updates - 1, 1)
                return factor * self.lowest * ops.exp(part * math.log(self.highest / self.lowest))

        return Growing()


def make(phases: list[Phase], blocks: list[str], backbone: str, origin=None) -> list[PhasePlan]:
    """Works out every phase for a backbone with these blocks (the head last).

    `origin(path)` gives the place of a config value; see config.read.

    A phase that unfreezes gradually becomes one for each block that joins.

    Raises:
        PlanError: for every name that matches no block, with the names that exist.
    """
    mistakes: list[str] = []
    made: list[PhasePlan] = []
    for i, phase in enumerate(phases):

        def chosen(patterns, key, i=i, phase=phase):
            found = set()
            for pattern in patterns:
                names = select(pattern, blocks)
                if not names:
                    place = origin(("train", "phases", i, key)) if origin else ""
                    here = f"\n  {place}" if place and place != "default" else ""
                    mistakes.append(
                        f"phase {phase.name!r} {'trains' if key == 'train' else 'names in ' + key} {pattern!r}, which {backbone} does not have."
                        f"\n  It has: {' '.join(b for b in blocks if b != HEAD)}, and head.{nearest(pattern, blocks)}{here}"
                    )
                found |= set(names)
            return found

        trained = chosen(phase.train, "train")
        rates = {b: f for pattern, f in phase.rates.items() for b in chosen([pattern], "rates")}
        modes = phase.batchnorm if isinstance(phase.batchnorm, dict) else {"all": phase.batchnorm}
        # Statistics of blocks that begin at random are nobody's: where the config says nothing else, they are learnt.
        own = set() if phase.batchnorm != "frozen" else {NECK, HEAD}
        batchnorm = {b: mode for pattern, mode in modes.items() for b in chosen([pattern], "batchnorm")}
        if idle := sorted((set(rates) if phase.rates else set()) - trained):
            mistakes.append(
                f"phase {phase.name!r} gives a rate to {', '.join(idle)}, which it does not train. Train these blocks or take their rate out."
            )
        depth = {b: len(blocks) - 1 - n for n, b in enumerate(blocks)}
        rows = tuple(
            BlockPlan(
                b,
                b in trained,
                rates.get(b, phase.layer_decay ** depth[b]) if b in trained else 0.0,
                ("train" if b in own else batchnorm.get(b, "frozen")) if b in trained else "frozen",
            )
            for b in blocks
        )
        made += _stages(PhasePlan(phase, rows, i), mistakes) if phase.unfreeze else [PhasePlan(phase, rows, i)]
    names = [plan.phase.name for plan in made]
    if doubled := sorted({n for n in names if names.count(n) > 1}):
        mistakes.append(f"Stages of phases need different names; twice: {', '.join(doubled)}. Rename a phase.")
    if mistakes:
        raise PlanError(*mistakes)
    return made


def _stages(plan: PhasePlan, mistakes: list[str]) -> list[PhasePlan]:
    """The phases of gradual unfreezing (Howard & Ruder 2018, arXiv:1801.06146, section 3.3): head, neck and the topmost of
    the other blocks, then block by block further down, the last stage for what is left of the epochs. Each stage has a
    schedule of its own."""
    phase, own = plan.phase, {NECK, HEAD}
    joining = [row.block for row in reversed(plan.blocks) if row.trained and row.block not in own] or [HEAD]
    each, needed = phase.unfreeze or 1, len(joining) * (phase.unfreeze or 1)
    if phase.epochs < needed:
        mistakes.append(
            f"phase {phase.name!r} unfreezes {len(joining)} blocks, one every {each} epochs, so it needs at least {needed}; received {phase.epochs}. Raise its epochs, or train fewer blocks."
        )
        return []
    made = []
    for n, block in enumerate(joining):
        last = n == len(joining) - 1
        named = f"{phase.name}-{re.sub(r'[^A-Za-z0-9_-]', '_', block)}"
        stage = phase.model_copy(
            update={"name": named, "epochs": phase.epochs - n * each if last else each, "unfreeze": None}
        )
        rows = tuple(
            row
            if row.block in own or not row.trained or row.block in joining[: n + 1]
            else BlockPlan(row.block, False, 0.0, "frozen")
            for row in plan.blocks
        )
        made.append(PhasePlan(stage, rows, plan.number))
    return made


def apply(network: Network, plan: PhasePlan) -> None:
    """Sets every flag of the network. The caller compiles afterwards: Keras fixes what is trained at compile
    time and says nothing about later changes (docs/decisions/0002).

    Raises:
        PlanError: when nothing would be trained.
    """
    import keras

    # The parent stays True: with a parent set to False its children report True and nothing trains.
    network.model.trainable = True
    for row in plan.blocks:
        for layer in network.blocks[row.block]:
            layer.trainable = row.trained
            if row.trained and row.block in network.adapted:
                lora.hold(layer)
            for inner in layer._flatten_layers():
                # Calling a backbone with training=False does not hold BatchNorm's statistics under fit; only the
                # layer's own flag does.
                if row.trained and isinstance(inner, keras.layers.BatchNormalization):
                    inner.trainable = row.batchnorm != "frozen"
                    if row.batchnorm == "adapt":
                        for affine in (inner.gamma, inner.beta):
                            if affine is not None:
                                affine.trainable = False
    if not network.model.trainable_weights:
        raise PlanError(
            f"phase {plan.phase.name!r} trains {', '.join(plan.trained) or 'nothing'}, which holds no weight that can move. Train the head or another block."
        )


def optimizer(network: Network, plan: PhasePlan, steps: int, accumulate: int = 1, growth: Growth | None = None):
    """The optimizer of a phase of `steps` updates: one per learning-rate factor, behind Keras' MultiOptimizer. It
    moves weights after every `accumulate` calls, by the mean of their gradients. With `growth` the rate of the head is that.

    Each has its own schedule, so that decoupled weight decay scales with the block's rate too.
    """
    import keras

    phase = plan.phase
    groups: dict[float, list[str]] = {}
    for row in plan.blocks:
        if row.trained:
            groups.setdefault(row.factor, []).extend(
                v.path for layer in network.blocks[row.block] for v in layer.trainable_weights
            )
    groups = {factor: paths for factor, paths in groups.items() if paths}
    made = {}
    for factor, paths in groups.items():
        one = keras.optimizers.get({"class_name": phase.optimizer, "config": {}})
        settings = one.get_config() | {
            "learning_rate": 0.0,
            "weight_decay": phase.weight_decay or None,
            "clipnorm": None,
            "global_clipnorm": phase.clip_norm,
            "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
        }
        if phase.optimizer == "adamw":
            settings["weight_decay"] = phase.weight_decay
        if phase.optimizer == "sgd":
            settings |= {"momentum": 0.9, "nesterov": True}
        one = (fused.of(type(one)) or type(one)).from_config(settings)  # type: ignore[arg-type]
        peak, warmup = phase.learning_rate * factor, round(phase.warmup * steps)
        if growth:
            one.learning_rate = growth.schedule(factor, accumulate)
        else:
            one.learning_rate = schedule(phase.schedule, peak, steps, warmup, accumulate, steps / phase.epochs)
        one.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "scale", "embedding"])
        made["|".join(map(re.escape, paths))] = one
    if len(made) == 1:
        return next(iter(made.values()))
    # What no block holds, such as DANN's classifier of domains, learns at the rate of the last one, the head's.
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(list(made.values())[-1], made))


def schedule(kind: str, peak: float, steps: int, warmup: int, accumulate: int = 1, cycle: float = 1.0):
    """A learning rate that rises linearly over `warmup` steps to `peak`, then stays ('constant'), falls to 0 at `steps`
    along a line ('linear') or half a cosine ('cosine', Loshchilov & Hutter 2017, arXiv:1608.03983), falls along a line to
    peak / 32, from which it had risen ('slanted', Howard & Ruder 2018, arXiv:1801.06146, section 3.2), or falls along a
    line to peak / 100 every `cycle` steps anew ('cyclic', Izmailov et al. 2018, arXiv:1803.05407, section 3.1)."""
    import keras
    from keras import ops

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            # Keras counts calls here, not updates (3.15; tests/test_steps.py).
            step = ops.cast(step // accumulate, "float32")
            gone = ops.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
            risen = ops.minimum(1.0, (step + 1) / max(warmup, 1))
            if kind == "slanted":
                return peak / 32 * (1 + 31 * ops.minimum(step / warmup if warmup else 1.0, 1 - gone))
            if kind == "cyclic":
                passed = (ops.mod(step, cycle) + 1) / max(cycle, 1.0)
                return peak * risen * (1 - 0.99 * ops.minimum(passed, 1.0))
            fall = {"constant": ops.ones_like(gone), "linear": 1 - gone, "cosine": 0.5 * (1 + ops.cos(math.pi * gone))}[
                kind
            ]
            return peak * fall * risen

    return Schedule()


def digests(network: Network) -> dict[str, list[str]]:
    """A hash of every tensor, by block."""
    return {
        b: [hashlib.sha256(np.ascontiguousarray(v.numpy()).tobytes()).hexdigest() for v in network.variables(b)]
        for b in network.blocks
    }


def audit(network: Network, plan: PhasePlan, before: dict, after: dict) -> list[dict]:
    """Compares tensors before and after a phase with what the plan allowed: a row per block.

    Raises:
        TlkerasError: when a tensor moved that the plan froze, or a trained block did not move.
    """
    import keras

    rows, wrong = [], []
    for row in plan.blocks:
        allowed = {v.path for layer in network.blocks[row.block] for v in layer.trainable_weights}
        for layer in network.blocks[row.block]:
            for inner in layer._flatten_layers():
                if isinstance(inner, keras.layers.BatchNormalization) and inner.trainable:
                    allowed |= {inner.moving_mean.path, inner.moving_variance.path}
            if row.trained:  # what a layer is moved in without a gradient
                allowed |= {v.path for layer in network.blocks[row.block] for v in getattr(layer, "moved", ())}
        names = [v.path for v in network.variables(row.block)]
        moved = [n for n, a, b in zip(names, before[row.block], after[row.block], strict=True) if a != b]
        if stray := [n for n in moved if n not in allowed]:
            wrong.append(f"{row.block}: {len(stray)} frozen tensors moved, e.g. {stray[0]}")
        if row.trained and allowed and not moved:
            wrong.append(f"{row.block}: planned to train, but none of its {len(names)} tensors moved")
        rows.append(
            {
                "phase": plan.phase.name,
                "block": row.block,
                "trained": row.trained,
                "tensors": len(names),
                "moved": len(moved),
            }
        )
    if wrong:
        raise TlkerasError(f"The audit of phase {plan.phase.name!r} failed:\n  " + "\n  ".join(wrong))
    return rows
