"""MLflow: a SQLite database `mlflow.db` in the folder that holds the run, an experiment for each name of a config.

`mlflow ui --backend-store-uri sqlite:///saved_models/mlflow.db` shows it. The client asks no server, and its telemetry is off.
"""

import os
import re
import time
from pathlib import Path

STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
LONGEST = 6000  # characters that a parameter holds


def begin(run, name: str, facts: dict, known: str | None):
    # Read when mlflow is imported; without it the package counts its uses at its makers'.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient
    from mlflow.entities import Param

    folder = run.folder.resolve().parent
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    if known:
        client.set_terminated(known, "RUNNING")
        return Client(client, known)
    found = client.get_experiment_by_name(name)
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment(name, artifact_location=(folder / "mlartifacts" / name).as_uri())
    )
    made = client.create_run(experiment, run_name=run.name, tags={"tlkeras.run": str(run.folder)}).info.run_id
    params = [Param(_key(k), str(v)[:LONGEST]) for k, v in facts.items()]
    for start in range(0, len(params), 100):  # as many as one call takes
        client.log_batch(made, params=params[start : start + 100])
    return Client(client, made)


class Client:
    def __init__(self, client, run_id: str):
        self.client, self.id = client, run_id

    def epoch(self, step: int, row: dict) -> None:
        self._log({k: v for k, v in row.items() if k not in ("phase", "epoch")}, step)

    def result(self, split: str, metrics: dict) -> None:
        self._log({f"{split}.{k}": v for k, v in metrics.items()}, 0)

    def file(self, path: Path) -> None:
        self.client.log_artifact(self.id, str(path))

    def end(self, how: str) -> None:
        self.client.set_terminated(self.id, STATUS[how])

    def _log(self, figures: dict, step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.id, metrics=[Metric(_key(k), v, now, step) for k, v in figures.items()])


def _key(name: str) -> str:
    """A key in the letters that MLflow takes."""
    return re.sub(r"[^\w.\- :/]", "_", name)[:250]
