"""Reproducing: the same figures again from a run's own record, and what is said when that cannot be.

pytest tests/test_reproduce.py
"""

import json
import shutil

import pytest
import yaml
from click.testing import CliRunner

import tlkeras
from tlkeras import configure, errors, reproduction
from tlkeras.cli import main
from tlkeras.progress import Progress
from tlkeras.run import Run, read_json, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory, colours, tiny_backbone):
    """A run that was evaluated, on a copy of the pictures: (run, the pictures)."""
    folder = tmp_path_factory.mktemp("reproduce")
    pictures = folder / "pictures"
    shutil.copytree(colours, pictures)
    given = {
        "task": "image-classification",
        "data": {"path": str(pictures), "val": 0.25, "test": 0.25},
        "backbone": {"name": str(tiny_backbone)},
        "augment": {"flip": "horizontal"},
        "train": {"batch": 8, "phases": [{"name": "all", "train": "all", "epochs": 2, "learning_rate": 0.003}]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    run = tlkeras.train(folder / "config.yaml", folder / "run", quiet=True)
    tlkeras.evaluate(run.folder, quiet=True)
    return run, pictures


@pytest.fixture(scope="module")
def repeated(made):
    """What `tlkeras reproduce` gave, and the new run."""
    run, _ = made
    result = CliRunner().invoke(main, ["reproduce", str(run.folder), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["data"], Run(run.folder.parent / "run-again")


def test_the_same_figures_and_the_same_weights_come_again(made, repeated):
    run, found = made[0], repeated[0]
    assert found["holds"] and found["exact"] and not found["differences"] and found["weights"] == 0
    assert {r["split"] for r in found["rows"]} == {"test", "last epoch"}
    recorded = read_json(run.metrics)["test"]["metrics"]
    assert {r["metric"]: r["before"] for r in found["rows"] if r["split"] == "test"} == recorded
    assert all(r["before"] == r["after"] for r in found["rows"])
    assert found == read_json(repeated[1].folder / "reproduce.json")
    assert (
        '"event": "reproduced"' in run.status.read_text()
        and "Trained again from its own record" in run.card.read_text()
    )
    assert not repeated[1].logs.exists()


def test_a_figure_that_differs_ends_with_the_code_of_the_gate(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made[0].folder, copy)
    metrics = read_json(copy / "metrics.json")
    metrics["test"]["metrics"]["log_loss"] += 1e-3
    write_json(copy / "metrics.json", metrics)
    result = CliRunner().invoke(main, ["reproduce", str(copy), "--out", str(tmp_path / "again"), "-q"])
    assert result.exit_code == 5
    assert "log_loss" in result.stdout and "DIFFERS" in result.stdout and "1 of 1" in result.stdout
    assert not read_json(tmp_path / "again" / "reproduce.json")["holds"]


def test_samples_that_changed_are_named_before_anything_is_trained(made, tmp_path):
    run, pictures = made
    shutil.copytree(pictures, tmp_path / "kept")
    try:
        (pictures / "red" / "0.png").write_bytes((pictures / "red" / "1.png").read_bytes() + b" ")
        (pictures / "blue" / "3.png").unlink()
        shutil.copy(tmp_path / "kept" / "green" / "4.png", pictures / "green" / "new.png")
        with pytest.raises(errors.DataError) as wrong:
            reproduction.reproduce(run.folder, tmp_path / "again", quiet=True)
    finally:
        shutil.rmtree(pictures)
        shutil.copytree(tmp_path / "kept", pictures)
    said = str(wrong.value)
    assert "red/0.png: holds other bytes" in said and "blue/3.png: is gone" in said and "green/new.png: is new" in said
    assert not (tmp_path / "again").exists()
    cfg, _ = configure.load(run.config)
    assert not reproduction.changed(run, cfg, False, Progress(quiet=True))


def test_another_model_file_is_refused(made, tmp_path):
    shutil.copytree(made[0].folder, tmp_path / "copy")
    (tmp_path / "copy" / "model.keras").write_bytes(b"other")
    with pytest.raises(errors.ModelError, match="SHA-256"):
        reproduction.reproduce(tmp_path / "copy", quiet=True)


def test_other_versions_and_machines_are_named_and_loosen_the_tolerance():
    machine = {"system": "Linux", "machine": "x86_64", "cores": 2, "gpus": []}
    then = {
        "versions": {"keras": "3.15.0", "numpy": "2.4"},
        "machine": machine,
        "device": "cpu",
        "precision": "float32",
    }
    now = {"versions": {"keras": "3.15.1", "numpy": "2.4"}, "machine": machine | {"cores": 8}}
    assert reproduction.differing(then, now) == ["keras: 3.15.0 then, 3.15.1 now", "cores: 2 then, 8 now"]
    assert reproduction.differing(then, then) == []


@pytest.mark.parametrize(
    ("before", "after", "n", "exact", "holds"),
    [
        (0.9, 0.9, 50, True, True),
        (0.9, 0.90001, 50, True, False),
        (0.9, 0.915, 1000, False, True),
        (0.9, 0.925, 1000, False, False),
        (0.90, 0.86, 20, False, True),
        (40.0, 41.9, 1000, False, True),
        (40.0, 42.1, 1000, False, False),
        (None, None, 10, True, True),
        (0.5, None, 10, False, False),
        (0.5, float("nan"), 10, False, False),
    ],
)
def test_the_tolerance_is_what_is_stated(before, after, n, exact, holds):
    assert reproduction._row("test", "metric", before, after, n, exact)["holds"] is holds
