"""What a sweep searches, and how it is judged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.config import Config
from tlkeras.progress import Progress

# Metrics of which less is better; of all others more is.
LOWER = {"loss", "val_loss", "rmse", "mae", "log_loss", "calibration_error", "wer", "cer", "perplexity"}


@dataclass(frozen=True)
class Search:
    """A sweep under way: `space` maps each key to an Optuna distribution, `metric` is what is best, `lower` whether less
    of it is. `counted` says that the epochs measure it already, so that judging costs nothing."""

    folder: Path
    config: Config
    study: Any
    space: dict
    metric: str
    lower: bool
    counted: bool
    offline: bool
    progress: Progress

    @property
    def file(self) -> Path:
        return self.folder / "sweep.yaml"


def counted(cfg: Config, metric: str) -> bool:
    """Whether every epoch measures a metric on the validation split just as evaluating would. Weights of classes would
    count there, and values are standardised."""
    plain = cfg.task_name.endswith("-classification") and cfg.task_name != "token-classification"
    weighted = cfg.task.get("class_weights", "none") != "none" or "task.class_weights" in cfg.sweep.over
    single = not cfg.task.get("multi_label") and "task.multi_label" not in cfg.sweep.over
    return metric == "val_loss" or (metric == "accuracy" and plain and single and not weighted)


def ended(trial) -> bool:
    """Whether a trial counts: it is complete, ended early, or failed for a reason of its own. One that was killed does not."""
    return trial.state.is_finished() and (trial.state.name != "FAIL" or "why" in trial.user_attrs)
