"""Averaged weights: they equal the recurrence and the mean they are named after, validation judges them, a resumed run ends
with the same ones, and what is frozen stays.

pytest tests/test_averages.py
"""

import numpy as np
import pytest
from conftest import losses, weights_of, write_classes

import tlkeras
from tlkeras import averages, errors
from tlkeras.run import Run, read_json

TOP = {
    "name": "top",
    "train": ["head", "blocks[-1:]"],
    "epochs": 4,
    "learning_rate": 0.01,
    "layer_decay": 0.5,
    "schedule": "constant",
}


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))


def trained(write_config, folder, phase, batch=64, **sections):
    """A run of one phase that keeps every checkpoint. There are fewer training samples than 64: one batch is an epoch."""
    train = {"batch": batch, "keep_checkpoints": 100, "phases": [{**TOP, **phase}], **sections.pop("train", {})}
    return tlkeras.train(write_config(f"{folder.name}.yaml", train=train, **sections), folder, quiet=True)


def kept(run) -> dict[int, dict]:
    """The arrays of every checkpoint by epoch, and at -1 what the moving variables were at the start."""
    found = {}
    for epoch in run.checkpoints.glob("phase-1-epoch-*"):
        arrays = {}
        for file in epoch.glob("*.npz"):
            with np.load(file, allow_pickle=False) as f:
                arrays[file.stem] = [f[k] for k in sorted(f.files)]
        found[int(epoch.name[-3:])] = arrays
    return found


def start_of(run) -> list[np.ndarray]:
    """All weights before the first update."""
    with np.load(run.checkpoints / "phase-1" / "weights.npz", allow_pickle=False) as f:
        return [f[k] for k in sorted(f.files)]


def floats(arrays):
    return [a for a in arrays if a.dtype.kind == "f"]


def ends_with(run, arrays) -> bool:
    """Whether each of these arrays is one of the finished model's, to float32."""
    model = weights_of(run)
    return all(any(w.shape == a.shape and np.allclose(w, a, rtol=1e-5, atol=1e-6) for w in model) for a in arrays)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_ema_is_its_recurrence(write_config, tmp_path, optimizer):
    """One update an epoch, so that the checkpoints hold the weights after each; two rates, one optimizer each."""
    run = trained(write_config, tmp_path / "run", {"average": {"kind": "ema", "decay": 0.3}, "optimizer": optimizer})
    epochs = kept(run)
    begun = start_of(run)

    def first(a):
        same = [b for b in begun if b.shape == a.shape]
        return min(same, key=lambda b: abs(a - b).mean()).astype(np.float64)

    mean = [first(a) for a in floats(epochs[1]["moving"])]
    for n in range(4):
        decay = min(0.3, (1 + n) / (10 + n))
        mean = [decay * m + (1 - decay) * a for m, a in zip(mean, floats(epochs[n + 1]["moving"]), strict=True)]
        for m, a in zip(mean, epochs[n + 1]["average"][:-1], strict=True):
            np.testing.assert_allclose(m, a, rtol=1e-5, atol=1e-6)
    assert ends_with(run, mean)


def test_swa_is_the_mean_of_the_ends_of_epochs(write_config, tmp_path):
    run = trained(write_config, tmp_path / "run", {"average": "swa"}, batch=8)
    epochs = kept(run)
    ends = [floats(epochs[n]["moving"]) for n in (3, 4)]  # the second half of four
    mean = [np.mean(same, axis=0) for same in zip(*ends, strict=True)]
    assert "average" not in epochs[2] and ends_with(run, mean)
    assert not ends_with(run, ends[-1])


def test_validation_judges_the_mean(write_config, tmp_path):
    run = trained(write_config, tmp_path / "run", {"average": "swa", "learning_rate": 0.1}, batch=4)
    found = tlkeras.evaluate(run.folder, "val", quiet=True)["metrics"]["log_loss"]
    assert found == pytest.approx(losses(run)["val_loss"][-1], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("average", ["ema", {"kind": "swa", "start": 1}])
def test_the_best_epoch_is_kept_with_its_mean(write_config, tmp_path, average):
    """The rate is so large that losses rise again."""
    phase = {"average": average, "learning_rate": 1.0, "epochs": 8, "early_stopping": {"patience": 2}}
    run = trained(write_config, tmp_path / "run", phase, batch=4)
    found = tlkeras.evaluate(run.folder, "val", quiet=True)["metrics"]["log_loss"]
    assert found == pytest.approx(min(losses(run)["val_loss"]), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("average", ["ema", {"kind": "swa", "start": 2}])
@pytest.mark.parametrize("batchnorm", ["frozen", "train"])
def test_a_resumed_run_ends_with_the_same_mean(write_config, tmp_path, average, batchnorm):
    """Dropout and BatchNorm statistics too, which the mean over epochs computes anew."""
    import shutil

    phase = {"average": average, "batchnorm": batchnorm}
    whole = trained(write_config, tmp_path / "whole", phase, batch=8)
    shutil.copytree(whole.folder, tmp_path / "cut")
    run = Run(tmp_path / "cut")
    run.model.unlink()
    for late in ("003", "004"):
        shutil.rmtree(run.checkpoints / f"phase-1-epoch-{late}")
    tlkeras.train(run.folder, resume=True, quiet=True)
    assert all((a == b).all() for a, b in zip(weights_of(whole), weights_of(run), strict=True))


def test_statistics_of_the_mean_are_those_of_the_training_samples_and_frozen_ones_stay(write_config, tmp_path):
    """The audit passes: of four BatchNorm layers only the trained block's moved. In training mode the mean network gives the
    statistics it keeps."""
    run = trained(write_config, tmp_path / "run", {"average": "swa", "batchnorm": "train"}, prefix={"store": "off"})
    assert not any(row["moved"] for row in read_json(run.audit)["rows"] if not row["trained"])
    from tlkeras import data, plans
    from tlkeras.config import Phase
    from tlkeras.data import pipeline
    from tlkeras.evaluation import open_trained

    opened = open_trained(run.folder)
    net, held = opened.network, data.reopen(run)
    plans.apply(net, plans.make([Phase.model_validate(TOP | {"batchnorm": "train"})], list(net.blocks), "n")[0])
    layers = averages.norms(net.model)
    before = [np.array(v.numpy()) for x in layers for v in (x.moving_mean, x.moving_variance)]
    table = held.table(held.rows("train"), reader=net.reader)
    averages.estimator(net.model)(x for x, *_ in pipeline.of(table).held_out(table, net.input, 64))
    after = [v.numpy() for x in layers for v in (x.moving_mean, x.moving_variance)]
    assert len(layers) and all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(before, after, strict=True))
    assert all(x.momentum > 0 for x in layers)


def test_updates_in_parts_count_once(write_config, tmp_path):
    """24 training samples in batches of 8, whole and in two parts: the same updates, the same mean."""
    sections = {
        "task": {"name": "image-classification", "dropout": 0.0},
        "data": {"path": str(write_classes(tmp_path / "data", each=11)), "val": 0.25, "test": 0.0},
    }
    phase = {"average": "ema", "optimizer": "sgd", "epochs": 2}
    whole, parts = (
        trained(write_config, tmp_path / f"in{n}", phase, 8, train={"accumulate": n}, **sections) for n in (1, 2)
    )
    assert read_json(parts.plan)["steps"]["parts"] == {"top": 2}
    assert kept(whole)[2]["average"][-1].tolist() == kept(parts)[2]["average"][-1].tolist() == [6, 1]
    for a, b in zip(weights_of(whole), weights_of(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_means_are_kept_in_float32(write_config, tmp_path, precision):
    run = trained(
        write_config, tmp_path / "run", {"average": "ema", "epochs": 1}, batch=8, train={"precision": precision}
    )
    arrays = kept(run)[1]["average"]
    assert all(a.dtype == np.float32 for a in arrays[:-1])


def test_one_line_is_enough_and_mistakes_are_named(write_config, tmp_path):
    from tlkeras import configure

    def phase(**options):
        return configure.load(write_config(train={"phases": [{**TOP, **options}]}))[0].train.phases[0]

    assert phase(average="ema").average == phase(average={"kind": "ema"}).average
    with pytest.raises(errors.ConfigError, match="must be 'ema' or 'swa'; received 'emma'. Did you mean ema?"):
        phase(average="emma")
    with pytest.raises(errors.ConfigError, match="average.start: the phase has 4 epochs; received 5"):
        phase(average={"kind": "swa", "start": 5})
