"""W&B: offline files in RUN/wandb, which `wandb sync` would send if somebody asked for it.

Left off: W&B's own reports of errors, its readings of the machine, the code, the Git repository and the console.
"""

import os
import shutil
from pathlib import Path


def begin(run, name: str, facts: dict, known: str | None):
    # Read when wandb is imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, save_code=False, x_disable_stats=True
    )
    begun = wandb.init(
        mode="offline",
        dir=str(run.folder),
        project=name,
        name=run.name,
        id=known,
        resume="allow" if known else None,
        config=facts,
        settings=settings,
    )
    return Offline(begun)


class Offline:
    def __init__(self, begun):
        self.begun, self.id = begun, begun.id

    def epoch(self, step: int, row: dict) -> None:
        # The step is a figure here: W&B's own counts calls, and a run that goes on would begin below it.
        self.begun.log({**{k: v for k, v in row.items() if k != "epoch"}, "epoch": step})

    def result(self, split: str, metrics: dict) -> None:
        self.begun.summary.update({f"{split}/{k}": v for k, v in metrics.items()})

    def file(self, path: Path) -> None:
        shutil.copy(path, self.begun.dir)

    def end(self, how: str) -> None:
        self.begun.finish(exit_code=0 if how == "finished" else 1)
