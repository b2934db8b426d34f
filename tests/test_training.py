"""Training, run for real on small pictures: phases, checkpoints, resuming, what stops a run and what is left then.

pytest tests/test_training.py
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tlkeras
from tlkeras import errors
from tlkeras.run import Run, read_json

TWO_PHASES = {
    "batch": 8,
    "phases": [
        {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01},
        {"name": "top", "train": ["head", "blocks[-1:]"], "epochs": 2, "learning_rate": 0.003, "layer_decay": 0.5},
    ],
}


def weights(run) -> list[np.ndarray]:
    from tlkeras.evaluation import open_trained

    return [v.numpy() for v in open_trained(run).network.model.weights]


def test_a_run_folder_holds_everything_that_came_of_a_run(write_config, tmp_path):
    run = tlkeras.train(write_config(train=TWO_PHASES), tmp_path / "run", quiet=True)
    for path in (
        run.config,
        run.manifest,
        run.splits,
        run.plan,
        run.audit,
        run.status,
        run.history,
        run.model,
        run.data_report,
    ):
        assert path.is_file(), path
    events = [json.loads(line)["event"] for line in run.status.read_text().splitlines()]
    assert events == ["start", *["epoch"] * 4, "done"]
    rows = run.history.read_text().splitlines()
    assert rows[0].startswith("phase,epoch,seconds,") and [r.split(",")[0] for r in rows[1:]] == [
        "head",
        "head",
        "top",
        "top",
    ]
    moved = {(r["phase"], r["block"]): r["moved"] for r in read_json(run.audit)["rows"]}
    assert moved["head", "head"] and not moved["head", "stem"] and moved["top", "head"] and not moved["top", "stem"]
    with pytest.raises(errors.UsageError, match="never overwritten"):
        tlkeras.train(write_config(), tmp_path / "run", quiet=True)


def test_the_model_file_opens_in_plain_keras(write_config, tmp_path):
    import keras
    import keras_hub  # noqa: F401  its layers register themselves

    run = tlkeras.train(write_config(), tmp_path / "run", quiet=True)
    model = keras.models.load_model(run.model)
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 3)


def test_two_runs_with_one_seed_are_equal_to_the_bit(write_config, tmp_path):
    config = write_config(train=TWO_PHASES, augment={"flip": "horizontal", "mixup": 0.2})
    a, b = (weights(tlkeras.train(config, tmp_path / name, quiet=True).folder) for name in "ab")
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    c = weights(tlkeras.train(config, tmp_path / "c", ["train.seed=1"], quiet=True).folder)
    assert any((x != y).any() for x, y in zip(a, c, strict=True))


def train_in_child(config, out, *more):
    command = [sys.executable, "-m", "tlkeras", "train", str(config), *more, *(["--out", str(out)] if out else [])]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"CI": "1"}
    )


def wait_for(path, text, child, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end and child.poll() is None:
        if path.is_file() and text in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(
        f"{text} did not come; the child said:\n{child.communicate()[0] if child.poll() is not None else '(still running)'}"
    )


@pytest.mark.parametrize("after", ['"phase": "head", "epoch": 2', '"phase": "top", "epoch": 1'])
def test_a_killed_run_resumes_to_the_weights_of_one_that_was_not(write_config, tmp_path, after):
    """SIGKILL between epochs, in one phase and at the seam of two; dropout, augmentation and Adam's moments count."""
    train = {**TWO_PHASES, "phases": [{**p, "epochs": 3} for p in TWO_PHASES["phases"]]}
    config = write_config(train=train, augment={"flip": "horizontal", "crop": 0.9})
    whole = weights(tlkeras.train(config, tmp_path / "whole", quiet=True).folder)
    child = train_in_child(config, tmp_path / "killed")
    wait_for(tmp_path / "killed" / "status.jsonl", after, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not Run(tmp_path / "killed").model.exists()
    run = tlkeras.train(tmp_path / "killed", resume=True, quiet=True)
    assert all((a == b).all() for a, b in zip(whole, weights(run.folder), strict=True))
    epochs = [(r.split(",")[0], r.split(",")[1]) for r in run.history.read_text().splitlines()[1:]]
    assert epochs == [(p, str(e)) for p in ("head", "top") for e in (1, 2, 3)]


def test_sigterm_stops_with_75_and_resume_finishes(write_config, tmp_path):
    config = write_config(
        train={"batch": 2, "phases": [{"name": "head", "train": "head", "epochs": 400, "learning_rate": 0.001}]}
    )
    child = train_in_child(config, tmp_path / "run")
    wait_for(tmp_path / "run" / "status.jsonl", '"epoch": 2', child)
    child.terminate()
    said = child.communicate(timeout=60)[0]
    assert child.returncode == 75, said
    assert "tlkeras train --resume" in said
    assert list((tmp_path / "run" / "checkpoints").glob("phase-1-epoch-*"))


def test_a_damaged_checkpoint_is_passed_over_and_named(write_config, tmp_path, capsys):
    run = tlkeras.train(write_config(), tmp_path / "run", quiet=True)
    expected = weights(run.folder)
    run.model.unlink()
    newest = sorted(run.checkpoints.glob("phase-1-epoch-*"))[-1] / "moving.npz"
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw)
    tlkeras.train(run.folder, resume=True)
    assert "damaged" in capsys.readouterr().err
    assert all((a == b).all() for a, b in zip(expected, weights(run.folder), strict=True))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_good(write_config, tmp_path):
    config = write_config(
        train={
            "batch": 8,
            "phases": [
                {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01},
                {
                    "name": "wild",
                    "train": "all",
                    "epochs": 3,
                    "learning_rate": 1e30,
                    "optimizer": "sgd",
                    "batchnorm": "train",
                    "warmup": 0.0,
                },
            ],
        }
    )
    with pytest.raises(errors.Diverged, match="lower learning rate") as caught:
        tlkeras.train(config, tmp_path / "run", quiet=True)
    assert caught.value.exit_code == 6
    from tlkeras import checkpoints

    _, start, arrays, _ = checkpoints.latest(Run(tmp_path / "run"))
    assert all(np.isfinite(a).all() for values in (start, arrays or {}) for v in values.values() for a in v)


def test_early_stopping_ends_the_phase_and_goes_back_to_the_best_epoch(write_config, tmp_path):
    phase = {
        "name": "head",
        "train": "head",
        "epochs": 30,
        "learning_rate": 3.0,
        "schedule": "constant",
        "early_stopping": {"patience": 2},
    }
    run = tlkeras.train(write_config(train={"batch": 8, "phases": [phase]}), tmp_path / "run", quiet=True)
    rows = [
        dict(zip(run.history.read_text().splitlines()[0].split(","), r.split(","), strict=True))
        for r in run.history.read_text().splitlines()[1:]
    ]
    losses = [float(r["val_loss"]) for r in rows]
    assert len(rows) < 30 and len(rows) - 1 - int(np.argmin(losses)) == 2
    found = tlkeras.evaluate(run.folder, "val", quiet=True)
    assert found["metrics"]["log_loss"] == pytest.approx(min(losses), rel=1e-3, abs=1e-6)


def test_a_file_that_changes_while_training_is_named(write_config, tmp_path):
    from conftest import draw, write_classes

    data = write_classes(tmp_path / "data", 6)
    # Augmentation reads every file in every epoch; without it small data is decoded once.
    config = write_config(
        augment={"flip": "horizontal"},
        data={"path": str(data), "val": 0.2, "test": 0.2},
        train={"batch": 4, "phases": [{"name": "head", "train": "head", "epochs": 500, "learning_rate": 0.001}]},
    )
    child = train_in_child(config, tmp_path / "run")
    wait_for(tmp_path / "run" / "status.jsonl", '"epoch": 1', child)
    for i in range(6):
        draw((0, 0, 0), 99 + i).save(data / "red" / f"{i}.png")
    said = child.communicate(timeout=120)[0]
    assert child.returncode == 3, said
    assert "red/" in said and "changed while it was in use" in said


def test_mixed_precision_trains_with_a_float32_head(write_config, tmp_path):
    run = tlkeras.train(write_config(train={**TWO_PHASES, "precision": "mixed_bfloat16"}), tmp_path / "run", quiet=True)
    from tlkeras.evaluation import open_trained

    model = open_trained(run.folder, precision="mixed_bfloat16").network.model
    assert model.get_layer("head_logits").compute_dtype == "float32"
    assert any(x.compute_dtype == "bfloat16" for x in model.layers)


def test_device_gpu_fails_where_there_is_none_and_says_what_is_missing(write_config, tmp_path):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(
        errors.MachineError,
        match="TensorFlow sees none. (This TensorFlow|The environment|There is no NVIDIA|These libraries)",
    ):
        tlkeras.train(write_config(), tmp_path / "run", ["train.device=gpu"], quiet=True)


def test_a_run_that_is_being_written_cannot_be_resumed_by_a_second_process(write_config, tmp_path):
    config = write_config(
        train={"batch": 2, "phases": [{"name": "head", "train": "head", "epochs": 2000, "learning_rate": 0.001}]}
    )
    child = train_in_child(config, tmp_path / "run")
    try:
        wait_for(tmp_path / "run" / "status.jsonl", '"epoch": 1', child)
        with pytest.raises(errors.UsageError, match="another tlkeras process"):
            tlkeras.train(tmp_path / "run", resume=True, quiet=True)
    finally:
        child.kill()
        child.wait()


def test_a_finished_run_stands_without_its_preset_and_from_another_folder(
    write_config, tmp_path, tiny_backbone, monkeypatch, colours
):
    import shutil

    preset = tmp_path / "preset"
    shutil.copytree(tiny_backbone, preset)
    monkeypatch.chdir(colours.parent)
    config = write_config(backbone={"name": str(preset)}, data={"path": colours.name, "val": 0.2, "test": 0.3})
    run = tlkeras.train(config, tmp_path / "run", quiet=True)
    shutil.rmtree(preset)
    monkeypatch.chdir(tmp_path)
    before = tlkeras.evaluate("run", quiet=True)["metrics"]
    assert tlkeras.train("run", resume=True, quiet=True).folder.name == "run"
    assert tlkeras.evaluate(run.folder, quiet=True)["metrics"] == before
    assert tlkeras.export("run", ["tflite"], quiet=True)
