"""A search over keys of a config. Each trial is an ordinary run; the validation split alone judges it, the test split is not looked at.

    FOLDER/sweep.yaml     the config with what is searched, resolved
    FOLDER/study.db       Optuna's study in SQLite, from which an interrupted sweep goes on
    FOLDER/trial-0003/    the run folder of a trial, without its checkpoints
    FOLDER/best.yaml      the config of the best trial so far; `tlkeras train` takes it as it is
    FOLDER/sweep.json, sweep.html

Trials run one after the other in this process: TensorFlow's import alone, some four seconds, takes longer than a trial
of a head on stored features. Whatever a sampler draws follows from the seed and the number of the trial, so that a
sweep that was killed goes on with what it would have tried.
"""

import importlib.util
import itertools
import math
import time
from pathlib import Path

from tlkeras import config, configure, tasks
from tlkeras.config import Config
from tlkeras.config.document import quoted
from tlkeras.data import sources
from tlkeras.errors import ConfigError, GateError, Interrupted, UsageError, missing_extra
from tlkeras.progress import Progress
from tlkeras.run import Run, create, free_folder, write_text
from tlkeras.sweeping.result import text, written
from tlkeras.sweeping.search import LOWER, Search, counted, ended
from tlkeras.sweeping.trial import attempt

__all__ = ["sweep", "text"]

EXAMPLE = (
    "sweep: {over: {train.phases.0.learning_rate: {low: 1e-4, high: 1e-2, log: true}, task.dropout: [0.0, 0.2, 0.5]}}"
)
SPLITTING = ("data.path", "data.tfds", "data.val", "data.test", "data.seed", "data.split", "data.group", "data.classes")


def sweep(what, out=None, sets=(), resume: bool = False, trials: int | None = None, offline: bool = False, quiet=False):
    """Searches what section `sweep` of a config says, and writes the config of the best trial.

    Args:
        what: path of a config, or with `resume` of the folder of a sweep.
        out: the folder of the sweep. None: saved_models/NAME-sweep, or NAME-sweep-2, ... where that is taken.
        sets: overrides 'sweep.trials=5'.
        resume: go on with the sweep in the folder `what`.
        trials: how many there are to be in all. None: as the config says.

    Returns:
        What sweep.json holds: {'metric', 'lower_is_better', 'over', 'trials', 'best', ...}.

    Raises:
        UsageError: when the config searches nothing, or has no validation split to judge by.
        GateError: when no trial came to its end.
    """
    if not importlib.util.find_spec("optuna"):
        raise missing_extra("optuna", "sweep")
    progress = Progress(quiet)
    if resume:
        folder, file = Path(what), Path(what) / "sweep.yaml"
        if not file.is_file():
            raise UsageError(
                f"{folder} is no folder of a sweep: it has no sweep.yaml. One comes from: tlkeras sweep CONFIG"
            )
        if sets:
            raise UsageError("A sweep goes on as it was; --set changes it. Start a new one with the changed config.")
        cfg, _ = configure.load(file)
    else:
        cfg, _ = configure.load(what, sets)
        if cfg.sweep is None:
            raise UsageError(
                f"{what} says nothing of what is to be searched. Add a section, for instance:\n  {EXAMPLE}"
            )
        folder = create(out or free_folder("saved_models", f"{cfg.name}-sweep")).folder
        file = folder / "sweep.yaml"
        write_text(file, config.render(cfg))
    with Run(folder).lock():
        search = _opened(folder, cfg, offline, progress)
        return _trials(search, trials or cfg.sweep.trials)


def _opened(folder: Path, cfg: Config, offline: bool, progress: Progress) -> Search:
    import optuna
    import tensorflow as tf

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tf.get_logger().setLevel("ERROR")  # every trial is a graph of its own, which TensorFlow takes for a mistake
    asked = cfg.sweep
    metric = asked.metric or _main(cfg, offline)
    lower = metric in LOWER
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name=cfg.name,
        direction="minimize" if lower else "maximize",
        pruner={
            "median": optuna.pruners.MedianPruner(n_startup_trials=asked.startup, n_warmup_steps=asked.grace + 1),
            "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=asked.grace, reduction_factor=3),
            "none": optuna.pruners.NopPruner(),
        }[asked.pruner],
        load_if_exists=True,
    )
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        # The process that ran it is gone: this one holds the lock.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        progress.line(f"trial {trial.number:<4} was interrupted; its number is not used again")
    for key in asked.over:
        if key.startswith(SPLITTING):
            progress.line(f"warning   {key} changes which samples judge: the trials cannot be held against each other")
    return Search(
        folder, cfg, study, _space(folder / "sweep.yaml", cfg), metric, lower, counted(cfg, metric), offline, progress
    )


def _main(cfg: Config, offline: bool) -> str:
    """The main metric of a config's task, which can depend on its labels."""
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    samples = sources.read(cfg.data, offline, tasks.wanted(cfg.task_name), tasks.annotations(cfg.task_name))
    _, answer = task.targets(samples.labels, options, cfg.data.classes or samples.classes)
    return task.MAIN(answer)[0]


def _space(file: Path, cfg: Config) -> dict:
    """An Optuna distribution for each key; values of lists as the YAML that --set takes, for a database of texts."""
    from optuna import distributions as d

    found = {}
    for key, tried in cfg.sweep.over.items():
        if isinstance(tried, list):
            found[key] = d.CategoricalDistribution([quoted(v) for v in tried])
            continue
        whole = all(isinstance(v, int) for v in (tried.low, tried.high, tried.step or 1))
        # 0 and 1 may be the ends of a rate or of a count: what lies between them tells.
        if whole and not configure.takes(file, (), key, (tried.low + tried.high) / 2 + 0.25):
            found[key] = d.IntDistribution(tried.low, tried.high, log=tried.log, step=int(tried.step or 1))
        else:
            found[key] = d.FloatDistribution(float(tried.low), float(tried.high), log=tried.log, step=tried.step)
    return found


def _trials(search: Search, wanted: int) -> dict:
    from optuna.trial import TrialState

    begun = time.monotonic()
    asked, sizes = search.config.sweep, [len(getattr(s, "choices", ())) for s in search.space.values()]
    grid = asked.sampler == "grid" or (asked.sampler == "auto" and 0 < math.prod(sizes) <= wanted)
    if asked.sampler == "grid" and not all(sizes):
        ranges = [k for k, n in zip(search.space, sizes, strict=True) if not n]
        raise ConfigError(f"sweep.sampler: a grid needs lists of values; {', '.join(ranges)} are ranges.")
    if grid:
        wanted = min(wanted, math.prod(sizes))
    search.progress.line(
        f"sweep     {wanted} trials over {', '.join(search.space)}; best is the {'least' if search.lower else 'largest'} "
        f"{search.metric} on the validation split"
    )
    while len(done := [t for t in search.study.get_trials(deepcopy=False) if ended(t)]) < wanted:
        if grid and not search.study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            known = [t.params for t in done]
            every = (
                dict(zip(search.space, v, strict=True))
                for v in itertools.product(*(s.choices for s in search.space.values()))
            )
            if (following := next((p for p in every if p not in known), None)) is None:
                break
            search.study.enqueue_trial(following)
        search.study.sampler = _sampler(asked, len(search.study.get_trials(deepcopy=False)))
        trial = search.study.ask(fixed_distributions=search.space)
        try:
            attempt(search, trial)
        except (Interrupted, KeyboardInterrupt) as e:
            search.study.tell(trial, state=TrialState.FAIL)
            written(search)
            raise Interrupted(
                f"Stopped in trial {trial.number}. Go on with: tlkeras sweep --resume {search.folder}"
            ) from e
        written(search)
        failed = [t for t in search.study.get_trials(deepcopy=False) if t.state == TrialState.FAIL and ended(t)]
        if len(failed) == 3 and len(failed) == len(done) + 1:
            reasons = "\n  ".join(f"trial {t.number}: {t.user_attrs['why']}" for t in failed)
            raise GateError(f"The first three trials all failed:\n  {reasons}\nMend the config and start a new sweep.")
    found = written(search, time.monotonic() - begun)
    if found["best"] is None:
        raise GateError(f"No trial came to its end; {search.folder}/sweep.json has the reasons.")
    return found


def _sampler(asked, number: int):
    from optuna import samplers

    seed = (asked.seed * 1_000_003 + number) % 2**32
    return samplers.RandomSampler(seed=seed) if asked.sampler == "random" else samplers.TPESampler(seed=seed)
