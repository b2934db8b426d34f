"""Phases from the size of the data, by a pure function.

Two sources, one idea each: BiT-HyperRule (Kolesnikov et al. 2020, arXiv:1912.11370) takes everything from the
number of samples, in few classes of size; fastai's fine_tune trains the head first, then the blocks below with
rates that fall towards the input. The step counts here are smaller than BiT's 500 steps of 512 images: they
are meant to finish on a CPU, and small data stops improving sooner (configs/README.md).

'discriminative' and 'gradual' are ULMFiT's (Howard & Ruder 2018, arXiv:1801.06146, section 3): all blocks are trained, each
2.6 times slower than the one above it, by a slanted triangle; the second block by block from the head down.
"""

import math

from tlkeras.config import Adapt, EarlyStopping, Phase
from tlkeras.errors import ConfigError

# samples up to -> (steps of the head, steps of the blocks, blocks that are trained)
SIZES = (
    (500, 120, 60, "blocks[-2:]"),
    (2_000, 250, 150, "blocks[-2:]"),
    (20_000, 500, 800, "blocks[-4:]"),
    (math.inf, 2_000, 8_000, "all"),
)

FACTOR = 0.385  # 1 / 2.6, from a block to the one below it
STAGE = 12  # updates at least until the next block joins: an epoch of a hundred samples has four

# Step counts are upper bounds: a phase ends when validation stops getting better, and keeps its best.
STOP = EarlyStopping(patience=5)


def phases(recipe: str, samples: int, batch: int, blocks: int, new: list[str] | None = None) -> list[Phase]:
    """The phases of `recipe` ('fine_tune', 'discriminative', 'gradual', 'head', 'all', 'scratch' or 'places') for this many training samples and backbone blocks; `new`
    are the blocks that begin at random, None: the head.

    >>> [(p.name, p.epochs, p.train) for p in phases("fine_tune", 109, 32, 9)]
    [('head', 30, ['head']), ('blocks', 15, ['head', 'blocks[-2:]'])]
    """
    head_steps, block_steps, trained = next(row[1:] for row in SIZES if samples <= row[0])
    if trained != "all" and int(trained[8:-2]) >= blocks:
        trained = "all"
    per_epoch = max(1, math.ceil(samples / batch))

    def epochs(steps):
        return min(30, max(1, math.ceil(steps / per_epoch)))

    if recipe == "scratch":
        # The updates that 144 spoken digit strings took to be learnt by Deep Speech 2, and no fewer passes.
        return [
            Phase(
                name="all",
                train=["all"],
                epochs=min(200, max(30, math.ceil(300 / per_epoch))),
                learning_rate=3e-3,
                clip_norm=1.0,
            )
        ]
    if recipe == "places":
        # What 200 pictures with boxes took (configs/README.md), and no fewer passes: neck and head begin at random.
        rows = (("head", list(new or ["head"]), 375, 4, 2e-3), ("blocks", ["all"], 500, 12, 1e-3))
        return [
            Phase(
                name=name,
                train=named,
                epochs=min(30, max(least, math.ceil(steps / per_epoch))),
                learning_rate=rate,
                layer_decay=0.9,
                clip_norm=10.0,
            )
            for name, named, steps, least, rate in rows
        ]
    if recipe == "all":
        # Nothing new is learnt from nothing: one rate for all, as low as pretraining ended.
        return [
            Phase(
                name="all",
                train=["all"],
                epochs=epochs(block_steps),
                learning_rate=5e-5,
                weight_decay=0.01,
                clip_norm=1.0,
                early_stopping=STOP,
            )
        ]
    new = new or ["head"]
    head = Phase(name="head", train=new, epochs=epochs(head_steps), learning_rate=5e-3, early_stopping=STOP)
    if recipe == "head":
        return [head]
    if recipe in ("discriminative", "gradual"):
        each = max(1, math.ceil(STAGE / per_epoch)) if recipe == "gradual" else None
        slow = Phase(
            name="blocks",
            train=["all"],
            epochs=epochs(block_steps) + (blocks - 1) * (each or 0),
            learning_rate=2.6e-4,
            layer_decay=FACTOR,
            unfreeze=each,
            schedule="slanted",
            weight_decay=1e-4,
            early_stopping=STOP,
        )
        return [head, slow]
    # Weight decay only where there is enough to overfit with; a lower rate than the head's, as the head has settled.
    return [
        head,
        Phase(
            name="blocks",
            train=[*new, trained],
            epochs=epochs(block_steps),
            learning_rate=1e-4,
            layer_decay=0.7,
            weight_decay=1e-4,
            early_stopping=STOP,
        ),
    ]


def adapting(asked: Adapt | None, learnt: list[Phase]) -> list[Phase]:
    """The phases that adapt to another domain after those that learn the task: as the last of these, with what the
    config says. Without early stopping: the loss of the source's validation split says nothing of the target.

    Raises:
        ConfigError: when a phase has the name of one of these.
    """
    if asked is None or asked.method in ("adabn", "masked-lm"):
        return []
    names = [f"adapt-{n + 1}" for n in range(asked.rounds)] if asked.method == "self-training" else ["adapt"]
    if taken := [p.name for p in learnt if p.name in names]:
        raise ConfigError(f"train.phases: {taken[0]} is the name of a phase that `adapt` adds. Choose another.")
    changed: dict = {"early_stopping": None, "epochs": asked.epochs}
    if asked.learning_rate:
        changed["learning_rate"] = asked.learning_rate
    if asked.train:
        changed |= {"train": asked.train, "rates": {}}
    return [learnt[-1].model_copy(update={**changed, "name": name}) for name in names]
