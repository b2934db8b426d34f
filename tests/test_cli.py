"""The command line as a user types it: results on stdout, the log on stderr, exit codes that tell what went wrong.

pytest tests/test_cli.py
"""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tlkeras import __version__
from tlkeras.cli import main


def tlkeras(*words, cwd=None):
    """The command in this process: (exit code, stdout, stderr)."""
    before = os.getcwd()
    if cwd:
        os.chdir(cwd)
    try:
        result = CliRunner().invoke(main, [str(w) for w in words])
    finally:
        os.chdir(before)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory, colours, tiny_backbone):
    """A folder in which `tlkeras train` was run on a config; returns (folder, run)."""
    import yaml

    folder = tmp_path_factory.mktemp("cli")
    config = {
        "task": "image-classification", "data": {"path": str(colours), "val": 0.2, "test": 0.3}, "backbone": {"name": str(tiny_backbone)},
        "train": {"batch": 8, "phases": [{"name": "all", "train": "all", "epochs": 5, "learning_rate": 0.01, "batchnorm": "train"}]},
    }  # fmt: skip
    (folder / "colours.yaml").write_text(yaml.safe_dump(config))
    code, out, err = tlkeras("train", "colours.yaml", cwd=folder)
    assert code == 0, err
    assert "Next: tlkeras evaluate saved_models/colours" in out and "all 5/5" in err and "all 5/5" not in out
    return folder, folder / "saved_models" / "colours"


def test_python_m_and_the_script_are_one_command():
    said = subprocess.run(
        [sys.executable, "-m", "tlkeras", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == f"tlkeras, version {__version__}"


def test_evaluate_prints_metrics_with_intervals_and_the_next_command(trained):
    folder, run = trained
    code, out, _ = tlkeras("evaluate", run)
    assert code == 0 and "accuracy" in out and "95 % interval" in out and "Next: tlkeras report" in out
    code, out, _ = tlkeras("evaluate", run, "--split", "val", "--json")
    envelope = json.loads(out)
    assert envelope["schema"] == 1 and envelope["ok"] and envelope["data"]["split"] == "val" and envelope["next"]
    assert (run / "predictions-test.parquet").is_file() and set(json.loads((run / "metrics.json").read_text())) == {
        "schema",
        "test",
        "val",
    }


def test_evaluate_scores_other_data_and_refuses_what_was_trained_on(trained, tmp_path, colours):
    from conftest import COLOURS, draw

    _, run = trained
    code, _, err = tlkeras("evaluate", run, "--data", colours)
    assert code == 3 and "trained on as" in err and "not trained on" in err
    (tmp_path / "new" / "red").mkdir(parents=True)
    for i in range(4):
        draw(COLOURS["red"], 5000 + i).save(tmp_path / "new" / "red" / f"{i}.png")
    code, out, err = tlkeras("evaluate", run, "--data", tmp_path / "new")
    assert code == 0 and "data: 4 samples" in out, err
    (tmp_path / "new" / "purple").mkdir()
    draw((120, 30, 120), 1).save(tmp_path / "new" / "purple" / "1.png")
    code, _, err = tlkeras("evaluate", run, "--data", tmp_path / "new")
    assert code == 3 and "'purple'" in err


def test_predict_answers_good_files_names_bad_ones_and_exits_3(trained, tmp_path):
    from conftest import COLOURS, draw

    _, run = trained
    draw(COLOURS["green"], 77).save(tmp_path / "leaf.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    code, out, _ = tlkeras("predict", run, tmp_path / "leaf.png")
    assert code == 0 and "leaf.png: green" in out
    code, out, _ = tlkeras("predict", run, tmp_path, tmp_path / "absent.png", "--json")
    answers = {a["file"].rsplit("/", 1)[1]: a for a in json.loads(out)["data"]}
    assert (
        code == 3
        and answers["leaf.png"]["label"] == "green"
        and "error" in answers["broken.png"]
        and "no such file" in answers["absent.png"]["error"]
    )


def test_predictions_are_the_same_by_predict_and_by_evaluate(trained):
    from tlkeras.evaluation import read_predictions

    _, run = trained
    tlkeras("evaluate", run)
    table, _ = read_predictions(run / "predictions-test.parquet")
    import pyarrow.parquet

    split = pyarrow.parquet.read_table(run / "splits.parquet").to_pydict()
    path = dict(zip(split["id"], map(os.fsdecode, split["path"]), strict=True))
    answers = json.loads(tlkeras("predict", run, *(path[i] for i in table["id"]), "--json")[1])["data"]
    assert [a["label"] for a in answers] == table["predicted"]
    assert [a["score"] for a in answers] == pytest.approx(table["score"], abs=1e-5)


def test_mistakes_in_a_config_exit_2_all_at_once(tmp_path):
    (tmp_path / "c.yaml").write_text("task: image-clasification\ndata: {pth: x}\nbackbone: {name: resnet5}\n")
    code, out, err = tlkeras("train", tmp_path / "c.yaml")
    assert code == 2 and not out
    for text in (
        "c.yaml:1:",
        "Did you mean image-classification?",
        "data.pth",
        "Did you mean path?",
        "'resnet5'",
        "Did you mean resnet50?",
    ):
        assert text in err, err
    code, out, _ = tlkeras("config", "check", tmp_path / "c.yaml", "--json")
    assert (
        code == 2 and json.loads(out)["error"]["kind"] == "ConfigError" and json.loads(out)["error"]["exit_code"] == 2
    )


@pytest.mark.parametrize(
    "words, code, says",
    [
        (["train", "nowhere.yaml"], 2, "there is no such file"),
        (["train", "nowhere"], 3, "there is no such file or folder"),
        (["evaluate", "nowhere"], 2, "is no run folder"),
        (["backbones", "resnet5"], 2, "Did you mean resnet50"),
        (["bench", "nowhere"], 2, "is no artefact"),
        (["serve", "nowhere"], 2, "nowhere"),
        (["tain"], 2, "No such command"),
        (["train", "--resume", "nowhere"], 2, "is no run folder"),
    ],
)
def test_each_mistake_has_its_exit_code_and_says_what_to_do(tmp_path, words, code, says):
    got, out, err = tlkeras(*words, cwd=tmp_path)
    assert got == code and says in err and "Traceback" not in err, err


def test_a_failure_leaves_its_traceback_in_the_run(trained):
    _, run = trained
    code, _, err = tlkeras("export", run, "--to", "savedmodel")
    assert code == 2 and "Did you mean saved_model" in err
    assert "UsageError" in (run / "error.log").read_text()


def test_init_writes_a_config_that_checks_and_does_not_overwrite(tmp_path, colours):
    code, out, err = tlkeras("init", colours, "-o", "mine.yaml", cwd=tmp_path)
    assert code == 0 and "blue 12, green 12, red 12" in out, err
    assert tlkeras("config", "check", tmp_path / "mine.yaml")[0] == 0
    assert tlkeras("init", colours, "-o", "mine.yaml", cwd=tmp_path)[0] == 2


def test_config_render_names_the_origin_of_each_value(trained):
    folder, _ = trained
    code, out, _ = tlkeras("config", "render", folder / "colours.yaml", "-s", "train.phases.0.epochs=9")
    assert code == 0 and "epochs: 9  # --set" in out and "# default" in out and "colours.yaml:" in out


def test_backbones_lists_the_catalogue_and_shows_one_in_full():
    code, out, _ = tlkeras("backbones", "--family", "resnet")
    assert code == 0 and "resnet50" in out
    rows = json.loads(tlkeras("backbones", "--json")[1])["data"]
    assert len(rows) > 400 and {r["kind"] for r in rows} == {"image", "text", "audio"} and all(r["name"] for r in rows)
    some = json.loads(tlkeras("backbones", "--kind", "text", "--json")[1])["data"]
    assert len(some) > 200 and all(r["kind"] == "text" for r in some)
    code, out, _ = tlkeras("backbones", "efficientnet_lite0")
    assert code == 0 and "block7" in out and "GFLOPs" in out and "Apache-2.0" in out and "224x224" in out


def complete(*words):
    """What bash would offer."""
    env = os.environ | {
        "_TLKERAS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    out = subprocess.run(
        [sys.executable, "-c", "from tlkeras.cli import main; main(prog_name='tlkeras')"],
        capture_output=True,
        text=True,
        env=env,
    ).stdout
    return [line.split(",", 1)[1] for line in out.split()]


def test_completion_offers_backbones_formats_config_keys_and_blocks(tmp_path):
    assert "resnet50v2" in complete("tlkeras", "backbones", "resnet5")
    assert complete("tlkeras", "export", "r", "--to", "tflite-i") == ["tflite-int8"]
    assert "train.batch=" in complete("tlkeras", "plan", "c.yaml", "--set", "train.b")
    (tmp_path / "c.yaml").write_text(
        "task: image-classification\ndata: {path: x}\nbackbone: {name: efficientnet_lite0}\n"
    )
    assert "train.phases.0.train=block7" in complete(
        "tlkeras", "plan", str(tmp_path / "c.yaml"), "--set", "train.phases.0.train=block"
    )


def test_doctor_takes_a_real_step_and_says_ready():
    code, out, _ = tlkeras("doctor")
    assert code == 0 and "training step: works" in out and "Ready." in out and "GPU: " in out


def test_train_on_a_folder_writes_the_config_and_trains(tmp_path, tiny_backbone):
    """Data to a trained model is one command; a folder needs nothing else."""
    from conftest import write_classes

    write_classes(tmp_path / "pics", 6)
    code, out, err = tlkeras(
        "train",
        "pics",
        "-s",
        f"backbone.name={tiny_backbone}",
        "-s",
        "train.phases=[{name: a, train: head, epochs: 1, learning_rate: 0.01}]",
        cwd=tmp_path,
    )
    assert (
        code == 0
        and (tmp_path / "pics.yaml").is_file()
        and (tmp_path / "saved_models" / "pics" / "model.keras").is_file()
    ), err
