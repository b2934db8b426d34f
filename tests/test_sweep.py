"""Sweeps, run for real on small pictures: what is tried, what judges it, what an interruption leaves, what comes out.

pytest tests/test_sweep.py
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from click.testing import CliRunner

import tlkeras
from tlkeras import configure, errors, sweeping
from tlkeras.cli import main
from tlkeras.reports import search as page
from tlkeras.run import Run, read_json

RATES = {"train.phases.0.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}, "task.dropout": [0.0, 0.3]}
HEAD = {"name": "head", "train": "head", "epochs": 3, "learning_rate": 0.01}


def configured(folder, colours, tiny_backbone, train=None, data=None, **section):
    """A config with a section `sweep` in `folder`; returns its path."""
    given = {
        "task": "image-classification",
        "data": {"path": str(colours), "val": 0.25, "test": 0.25} | (data or {}),
        "backbone": {"name": str(tiny_backbone)},
        "prefix": {"store": "on"},
        "train": {"batch": 8, "track": [], "phases": [HEAD | (train or {})]},
        "sweep": {"over": RATES, "trials": 3, **section},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def swept(tmp_path_factory, colours, tiny_backbone):
    """A sweep of three trials, by the command: (folder, what --json gave)."""
    folder = tmp_path_factory.mktemp("sweep")
    path, out = configured(folder, colours, tiny_backbone), folder / "swept"
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("TLKERAS_CACHE", str(folder / "cache"))
    result = CliRunner().invoke(main, ["sweep", str(path), "--out", str(out), "--json"])
    monkeypatch.undo()
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)["data"]


def test_trials_are_ordinary_runs_and_the_best_is_found(swept):
    folder, found = swept
    assert [t["state"] for t in found["trials"]] == ["complete"] * 3
    assert sorted(t["trial"] for t in found["trials"]) == [0, 1, 2]
    assert found["metric"] == "accuracy" and not found["lower_is_better"]
    assert found["best"]["value"] == max(t["value"] for t in found["trials"])
    assert found == read_json(folder / "sweep.json")
    for trial in found["trials"]:
        run = Run(trial["run"])
        assert run.model.is_file() and run.card.is_file() and not run.checkpoints.exists()
        given = yaml.safe_load(run.config.read_text())
        assert given["sweep"] is None and given["task"]["dropout"] == trial["params"]["task.dropout"]


def test_trials_are_judged_on_the_validation_split_alone_and_as_evaluating_would(swept):
    _, found = swept
    for trial in found["trials"]:
        assert not Run(trial["run"]).metrics.exists() and not Run(trial["run"]).predictions("test").exists()
    best = Run(found["best"]["run"])
    measured = tlkeras.evaluate(best.folder, "val", quiet=True)["metrics"]
    assert measured["accuracy"] == pytest.approx(found["best"]["value"], abs=1e-6)
    best.metrics.unlink()


def test_trials_over_a_head_share_the_features_that_the_first_computed(swept):
    _, found = swept
    why = {t["trial"]: read_json(Run(t["run"]).plan)["prefix"]["head"]["why"] for t in found["trials"]}
    assert "computed now" in why.pop(0)
    assert set(why.values()) == {"found on disk"}


def test_the_best_config_trains_to_the_figures_of_its_trial(swept, tmp_path):
    folder, found = swept
    run = tlkeras.train(folder / "best.yaml", tmp_path / "again", quiet=True)

    def figures(history):
        return [[c for n, c in enumerate(line.split(",")) if n != 2] for line in history.read_text().splitlines()]

    assert figures(run.history) == figures(Run(found["best"]["run"]).history)


def test_the_page_shows_every_trial_and_loads_nothing(swept):
    folder, found = swept
    html = (folder / "sweep.html").read_text()
    assert html.count('class="dot"') == 3 * (1 + len(found["over"]))
    assert "http://" not in html and "https://" not in html and "<script" not in html
    assert "best.yaml" in sweeping.text(found)


def test_a_killed_sweep_goes_on_and_uses_no_number_twice(swept, tmp_path, colours, tiny_backbone):
    """SIGKILL within the second trial; the third tries what it would have tried."""
    path, out = configured(tmp_path, colours, tiny_backbone), tmp_path / "killed"
    command = [sys.executable, "-m", "tlkeras", "sweep", str(path), "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"CI": "1"})
    status, end = out / "trial-0001" / "status.jsonl", time.monotonic() + 300
    while not (status.is_file() and "start" in status.read_text()):
        assert child.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    found = sweeping.sweep(out, resume=True, quiet=True)
    states = {t["trial"]: (t["state"], t["why"]) for t in found["trials"]}
    assert states == {0: ("complete", None), 1: ("failed", "interrupted"), 2: ("complete", None), 3: ("complete", None)}
    whole = {t["trial"]: t["params"] for t in swept[1]["trials"]}
    assert {t["trial"]: t["params"] for t in found["trials"]}[2] == whole[2]
    with pytest.raises(errors.UsageError, match="goes on as it was"):
        sweeping.sweep(out, sets=["sweep.trials=5"], resume=True)


def test_what_does_worse_than_the_others_is_ended_early(tmp_path, colours, tiny_backbone):
    over = {"train.phases.0.learning_rate": [0.03, 1e-9], "train.seed": [0, 1]}
    path = configured(
        tmp_path,
        colours,
        tiny_backbone,
        {"epochs": 5},
        over=over,
        trials=3,
        metric="val_loss",
        sampler="grid",
        startup=2,
        grace=2,
    )
    found = sweeping.sweep(path, tmp_path / "swept", quiet=True)
    assert [(t["trial"], t["state"], t["epochs"]) for t in sorted(found["trials"], key=lambda t: t["trial"])] == [
        (0, "complete", 5),
        (1, "complete", 5),
        (2, "pruned", 3),
    ]
    assert not Run(tmp_path / "swept" / "trial-0002").model.exists()


def test_a_grid_is_tried_once_and_a_trial_that_fails_ends_nothing(tmp_path, colours, tiny_backbone):
    over = {"backbone.weights": ["pretrained", str(tmp_path / "gone.h5")]}
    path = configured(tmp_path, colours, tiny_backbone, {"epochs": 1}, over=over, trials=20, metric="macro_f1")
    found = sweeping.sweep(path, tmp_path / "swept", quiet=True)
    assert [t["state"] for t in found["trials"]] == ["complete", "failed"]
    assert "gone.h5" in found["trials"][1]["why"] and "gone.h5" in sweeping.text(found)
    # A metric that no epoch measures comes from evaluating, on the validation split.
    assert set(read_json(Run(found["best"]["run"]).metrics)) == {"schema", "val"}


def test_without_a_validation_split_nothing_can_be_judged(tmp_path, colours, tiny_backbone):
    path = configured(tmp_path, colours, tiny_backbone, {"epochs": 1}, data={"val": 0.0})
    with pytest.raises(errors.UsageError, match="data.val"):
        sweeping.sweep(path, tmp_path / "swept", quiet=True)


def test_every_mistake_in_what_is_searched_has_its_place_and_the_nearest_name(tmp_path, colours, tiny_backbone):
    over = {
        "train.phases.0.learning_rat": {"low": 1e-4, "high": 1e-2},
        "task.dropout": [0.1, 1.5],
        "backbone.name": [str(tiny_backbone), "resnet51"],
        "name": ["a", "b"],
        "train.phases.0.epochs": {"low": 5, "high": 2},
    }
    with pytest.raises(errors.ConfigError) as wrong:
        configure.load(configured(tmp_path, colours, tiny_backbone, over=over))
    assert len(wrong.value.mistakes) == 1 and "low must be less than high" in str(wrong.value)
    del over["train.phases.0.epochs"]
    path = configured(tmp_path, colours, tiny_backbone, over=over)
    with pytest.raises(errors.ConfigError) as wrong:
        configure.load(path)
    said = "\n".join(wrong.value.mistakes)
    assert len(wrong.value.mistakes) == 4 and all(m.startswith(f"{path}:") for m in wrong.value.mistakes)
    assert "Did you mean learning_rate?" in said and "must be less than 1" in said and "resnet5" in said
    assert "name is the same in every trial" in said


def test_a_sweep_needs_a_section_that_says_what_to_search(write_config):
    with pytest.raises(errors.UsageError, match="learning_rate"):
        sweeping.sweep(write_config())


def test_ends_of_a_range_are_whole_where_the_key_is(tmp_path, colours, tiny_backbone):
    over = {
        "train.phases.0.epochs": {"low": 1, "high": 9},
        "train.batch": {"low": 8, "high": 32, "step": 8},
        "augment.rotate": {"low": 0, "high": 30},
        "task.dropout": {"low": 0, "high": 0.5},
    }
    path = configured(tmp_path, colours, tiny_backbone, over=over)
    kinds = {k: type(d).__name__ for k, d in sweeping._space(path, configure.load(path)[0]).items()}
    assert kinds == {
        "train.phases.0.epochs": "IntDistribution",
        "train.batch": "IntDistribution",
        "augment.rotate": "FloatDistribution",
        "task.dropout": "FloatDistribution",
    }


def test_keys_are_shortened_as_far_as_they_stay_apart():
    assert page.shortened(["train.phases.0.epochs", "train.phases.1.epochs", "task.dropout"]) == [
        "0.epochs",
        "1.epochs",
        "dropout",
    ]
