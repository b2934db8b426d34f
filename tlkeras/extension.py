"""More classes for a finished run: the head grows, the old run teaches the old classes, and what is forgotten is counted.

Learning without forgetting (Li & Hoiem 2016, arXiv:1606.09282): the old network's answers are learnt beside the new
labels. Old samples are trained on too where they are there, which helps more than anything else.
"""

import tempfile
from pathlib import Path

from tlkeras import config, configure, growth
from tlkeras.config import Config
from tlkeras.run import Run, create, free_folder, open_run, read_json, write_text


def extend(
    folder,
    source,
    out=None,
    old_rows: bool = True,
    sets=(),
    offline: bool = False,
    quiet: bool = False,
) -> dict:
    """Adds the classes of `source` to a finished run; the result is a run of its own, trained as the old one was.

    Args:
        folder: the run. It is not changed.
        source: a folder or table laid out as its data was, with the new classes, with or without the old ones.
        out: the new run folder. None: beside the old one, with -extended behind its name.
        old_rows: train on the old run's samples too; they must be where they were. False: its answers alone stand for
            the old classes.
        sets: overrides of the old run's config, e.g. 'distill.weight=0.7'.

    Returns:
        What was written into extend.json: {'run', 'from', 'split', 'classes': [{'class', 'new', 'n', 'before', 'after'}],
        'accuracy'}.

    Raises:
        TlkerasError: see tlkeras.errors for what each stands for.
    """
    from tlkeras import training

    cfg = _config(open_run(folder), Path(source), Path(out) if out else None, old_rows, sets)
    run = create(out or free_folder(Path(folder).parent, cfg.name))
    write_text(run.config, config.render(cfg))
    # The new run is begun as one that was interrupted before its first step.
    training.train(run.folder, resume=True, offline=offline, quiet=quiet)
    return {"run": str(run.folder), **read_json(run.extended)}


def _config(old: Run, source: Path, out: Path | None, old_rows: bool, sets) -> Config:
    """The config of the old run with the run as its backbone and teacher, and the new data."""
    before, _ = configure.load(old.config)
    folder = str(old.folder)
    about: dict = {"path": str(source), "tfds": None, "classes": None}
    if source.is_dir():  # these name columns of a table
        about |= {"group": None, "split": None}
    values = before.model_dump(mode="json")
    values |= {
        "extends": None,
        "name": config.slug((out or Path(f"{before.name}-extended")).name),
        "data": values["data"] | about,
        "backbone": values["backbone"] | {"name": folder, "weights": "pretrained"},
        "extend": {"from": folder, "old_rows": old_rows},
        "distill": None if growth.placed(before) else values["distill"] or {},
    }
    if values["distill"] is not None:
        values["distill"] |= {"from": folder}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "extend.yaml"
        write_text(path, config.document.write(values))
        return configure.load(path, sets)[0]
