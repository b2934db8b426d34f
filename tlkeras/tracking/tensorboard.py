"""TensorBoard: event files in RUN/logs, with the config as hyperparameters. `tensorboard --logdir saved_models` shows all runs.

Keras' own callback is not used: it writes the graph too, megabytes a phase, and begins counting anew with each.
"""

from pathlib import Path


def begin(run, name: str, facts: dict, known: str | None):
    return Events(run.logs, facts)


class Events:
    id = None

    def __init__(self, folder: Path, facts: dict):
        self.folder, self.facts = folder, facts
        self.writers: dict = {}
        self.step = 0

    def _writer(self, side: str):
        import tensorflow as tf

        if side not in self.writers:
            self.writers[side] = tf.summary.create_file_writer(str(self.folder / side))
        return self.writers[side]

    def epoch(self, step: int, row: dict) -> None:
        if not self.writers:
            self._hyperparameters()
        self.step = step
        figures = {k: v for k, v in row.items() if k not in ("phase", "epoch")}
        self._write("train", {k: v for k, v in figures.items() if not k.startswith("val_")})
        self._write("validation", {k[4:]: v for k, v in figures.items() if k.startswith("val_")})

    def result(self, split: str, metrics: dict) -> None:
        self._write(split, {f"evaluated/{k}": v for k, v in metrics.items()})

    def file(self, path: Path) -> None:
        import tensorflow as tf

        with self._writer("train").as_default():
            tf.summary.text("model card", path.read_text("utf8"), step=self.step)

    def end(self, how: str) -> None:
        for writer in self.writers.values():
            writer.close()

    def _write(self, side: str, figures: dict) -> None:
        import tensorflow as tf

        if figures:
            with self._writer(side).as_default():
                for k, v in figures.items():
                    tf.summary.scalar(k, v, step=self.step)
            self._writer(side).flush()

    def _hyperparameters(self) -> None:
        from tensorboard.plugins.hparams import api

        with self._writer("train").as_default():
            api.hparams(self.facts, trial_id=self.folder.parent.name)
