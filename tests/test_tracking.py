"""Trackers, the real packages: what reaches their files, that nothing else changes, and that none can end a run.

pytest tests/test_tracking.py; those of MLflow and W&B run where the packages are: pip install 'tlkeras[mlflow,wandb]'
"""

import json
import socket

import pytest
from conftest import weights_of

import tlkeras
from tlkeras import errors, tracking
from tlkeras.progress import Progress
from tlkeras.run import read_json

PHASES = [
    {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01},
    {"name": "top", "train": ["head", "blocks[-1:]"], "epochs": 1, "learning_rate": 0.001},
]


@pytest.fixture
def trained(write_config, tmp_path):
    """Returns `f(track, name) -> run`, a run of two phases with these trackers."""

    def make(track, name="run"):
        return tlkeras.train(
            write_config(train={"batch": 8, "track": track, "phases": PHASES}), tmp_path / name, quiet=True
        )

    return make


def scalars(folder) -> dict:
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    read = {
        tag: [(e.step, tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }
    return {
        tag: [(step, float(v)) for step, v in pairs]
        for tag, pairs in read.items()
        if pairs[0][1].shape == () and pairs[0][1].dtype.kind == "f"
    }


def test_tensorboard_is_told_without_being_asked_and_changes_no_weight(trained):
    told, silent = trained(None), trained([], "silent")
    assert not silent.logs.exists() and not silent.tracking.exists()
    assert all((a == b).all() for a, b in zip(weights_of(told), weights_of(silent), strict=True))
    rows = [dict(zip(("phase", "epoch"), x.split(",")[:2], strict=True)) for x in told.history.read_text().splitlines()]
    assert len(rows) == 4
    train, val = scalars(told.logs / "train"), scalars(told.logs / "validation")
    assert [step for step, _ in train["loss"]] == [1, 2, 3] and [step for step, _ in val["accuracy"]] == [1, 2, 3]
    assert "val_loss" not in train
    result = tlkeras.evaluate(told.folder, quiet=True)
    assert scalars(told.logs / "test")["evaluated/accuracy"][0][1] == pytest.approx(result["metrics"]["accuracy"])


def test_mlflow_gets_parameters_metrics_and_the_card_without_a_server(trained, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")

    def connect(self, address):
        raise AssertionError(f"a tracker connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    run = trained(["mlflow"])
    result = tlkeras.evaluate(run.folder, quiet=True)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run.folder.parent / 'mlflow.db'}")
    got = client.get_run(read_json(run.tracking)["mlflow"])
    assert got.info.status == "FINISHED" and got.info.run_name == "run"
    assert got.data.params["train.phases.1.learning_rate"] == "0.001" and got.data.params["task.name"]
    assert [m.step for m in client.get_metric_history(got.info.run_id, "val_loss")] == [1, 2, 3]
    assert got.data.metrics["test.accuracy"] == pytest.approx(result["metrics"]["accuracy"])
    assert [f.path for f in client.list_artifacts(got.info.run_id)] == ["model-card.md"]


def test_wandb_writes_offline_files_into_the_run(trained):
    wandb = pytest.importorskip("wandb")
    run = trained(["wandb"])
    tlkeras.evaluate(run.folder, quiet=True)
    known = read_json(run.tracking)["wandb"]
    wandb.teardown()  # ends its service, which writes what it still holds
    files = sorted((run.folder / "wandb").glob(f"offline-run-*-{known}/run-{known}.wandb"))
    assert files and any(b"val_loss" in f.read_bytes() for f in files)
    assert any(b"test/accuracy" in f.read_bytes() for f in files)
    assert list((run.folder / "wandb").glob("offline-run-*/files/model-card.md"))


def test_a_tracker_that_is_not_installed_is_named_before_a_run_begins(trained, monkeypatch, tmp_path):
    monkeypatch.setitem(tracking.NEEDS, "wandb", ("no_such_package",))
    with pytest.raises(errors.MachineError, match=r"pip install 'tlkeras\[wandb\]'"):
        trained(["wandb"])
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_is_named_once_and_ends_nothing(capsys):
    class Full:
        def epoch(self, step, row):
            raise OSError("No space left on device")

    told = tracking.Told(Progress())
    told.live = {"tensorboard": Full()}
    told.epoch(1, {})
    told.epoch(2, {})
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_config_is_flat_for_those_who_take_no_other(write_config):
    assert tracking.flat({"a": {"b": [1, None, {"c": "x"}]}, "d": {}}) == {"a.b.0": 1, "a.b.1": "null", "a.b.2.c": "x"}
    with pytest.raises(errors.ConfigError, match="tensorboard"):
        tlkeras.train(write_config(train={"track": ["tensorbord"]}))


def test_each_epoch_is_told_to_whoever_asked(write_config, tmp_path):
    seen = []
    tlkeras.train(
        write_config(), tmp_path / "run", quiet=True, each_epoch=lambda n, row: seen.append((n, row["phase"]))
    )
    assert seen == [(1, "head"), (2, "head")]
    events = [json.loads(x)["event"] for x in (tmp_path / "run" / "status.jsonl").read_text().splitlines()]
    assert events == ["start", "epoch", "epoch", "done"]
