"""Domain adaptation: every method on small pictures for real, what labels of the target may not do, and what is told of it.

pytest tests/test_adaptation.py
"""

import copy
import csv
import json
import shutil

import numpy as np
import pytest
from conftest import weights_of, write, write_classes

import tlkeras
from tlkeras import adaptation, configure, errors
from tlkeras.adaptation import batchnorm
from tlkeras.run import Run, read_json, write_json

PHASES = [
    {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01},
    {"name": "top", "train": ["head", "blocks[-1:]"], "epochs": 1, "learning_rate": 0.003},
]
TRAIN = {"batch": 8, "phases": PHASES}


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """The colours, darker and with less of them: the other domain, in class folders."""
    from PIL import Image

    root = write_classes(tmp_path_factory.mktemp("data") / "dark", each=5)
    for path in root.rglob("*.png"):
        pixels = np.asarray(Image.open(path)).astype(float)
        Image.fromarray((0.35 * pixels + 20).astype(np.uint8)).save(path)
    return root


def history(run):
    with run.history.open(newline="") as f:
        return list(csv.DictReader(f))


def test_a_loss_between_the_domains_is_learnt_from_and_recorded(write_config, tmp_path, dark):
    config = write_config(train=TRAIN, adapt={"method": "coral", "path": str(dark), "epochs": 2, "weight": 2.0})
    run = tlkeras.train(config, tmp_path / "run", quiet=True)
    rows = history(run)
    assert [r["phase"] for r in rows] == ["head", "head", "top", "adapt", "adapt"]
    assert not rows[2]["adapt_loss"] and float(rows[3]["adapt_loss"]) > 0 and "val_adapt_loss" not in rows[0]
    found = read_json(run.adapt)
    assert found["target"] == {**found["target"], "samples": 15, "labelled": 15}
    for side in ("before", "after"):
        assert 0 <= found[side]["a_distance"] <= 2 and found[side]["target"]["n"] == 15
        assert found[side]["source"]["split"] == "test" and found[side]["source"]["metric"] == "accuracy"
    scored = tlkeras.evaluate(run.folder, quiet=True)
    assert scored["metrics"]["accuracy"] == found["after"]["source"]["value"]
    other = tlkeras.evaluate(run.folder, data_path=dark, quiet=True)
    assert other["metrics"] == pytest.approx(found["after"]["target"]["metrics"], abs=1e-6)
    from tlkeras.evaluation import open_trained

    model = open_trained(run.folder).network.model
    assert not [x.name for x in model._flatten_layers() if x.name.startswith("adapt")]


def test_labels_of_the_target_move_no_weight(write_config, tmp_path, dark):
    """The same pictures in shuffled class folders, under other names: the very same weights, to the bit."""
    shuffled = tmp_path / "shuffled"
    rng = np.random.default_rng(0)
    for n, path in enumerate(sorted(dark.rglob("*.png"))):
        write(shuffled / str(rng.choice(["blue", "green", "red"])) / f"{99 - n}.png", path.read_bytes())
    runs = []
    for name, folder in (("own", dark), ("shuffled", shuffled)):
        asked = {"method": "self-training", "path": str(folder), "epochs": 1, "rounds": 1, "threshold": 0.34}
        phases = [{**PHASES[0], "epochs": 4}]
        config = write_config(train={"batch": 8, "phases": phases}, adapt=asked)
        runs.append(tlkeras.train(config, tmp_path / f"run-{name}", quiet=True))
    assert all((a == b).all() for a, b in zip(*map(weights_of, runs), strict=True))
    own, other = (read_json(run.adapt) for run in runs)
    assert own["rounds"][0]["labels"] == other["rounds"][0]["labels"] > 0
    assert own["after"]["target"]["value"] != other["after"]["target"]["value"]
    assert own["after"]["a_distance"] == other["after"]["a_distance"]


def test_statistics_over_batches_are_those_over_all_samples():
    """Two batches of unlike size and mean, one BatchNorm: mean and variance as NumPy takes them over everything."""
    import keras

    from tlkeras.backbones import Pixels
    from tlkeras.data import pictures
    from tlkeras.network import Network

    x = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3)).astype("uint8")
    x[3:] //= 3
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(inputs)))
    pixels = Pixels((8, 8))
    empty = np.zeros((5, 1), np.float32)
    table = pictures.Table([str(i) for i in range(5)], empty, empty[:, 0], np.zeros(5, int), [""] * 5, images=list(x))
    batchnorm.adapt(Network(model, {}, pixels, {}), table, batch=3)
    norm = model.layers[1]
    np.testing.assert_allclose(norm.moving_mean, x.astype(float).mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, x.astype(float).var((0, 1, 2)), rtol=1e-4)
    assert model.layers[2].rate == 0.5 and norm.momentum == 0.99


def test_a_weight_of_0_is_the_training_without_it(write_config, tmp_path, dark):
    """The control learns from the source as if no target were there."""
    top, more = PHASES[1], {**copy.deepcopy(PHASES[1]), "name": "more"}
    task = {"name": "image-classification", "dropout": 0.0}
    control = write_config(
        "a.yaml",
        task=task,
        train={"batch": 8, "phases": [top]},
        adapt={"method": "dann", "path": str(dark), "epochs": 1, "weight": 0},
    )
    plain = write_config("b.yaml", task=task, train={"batch": 8, "phases": [top, more]})
    a, b = (tlkeras.train(c, tmp_path / c.stem, quiet=True) for c in (control, plain))
    for x, y in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5)
    assert float(history(a)[-1]["loss"]) == pytest.approx(float(history(b)[-1]["loss"]), rel=1e-4)
    assert adaptation.lines(read_json(a.adapt)).startswith(f"Not adapted to {dark}: this is the control of dann")
    assert "This is the control of dann" in tlkeras.report(a.folder).read_text()


def test_stored_features_of_both_domains_give_the_losses_of_a_live_run(write_config, tmp_path, dark):
    asked = {"method": "mmd", "path": str(dark), "epochs": 1}
    task = {"name": "image-classification", "dropout": 0.0}
    rows = []
    for store in ("on", "off"):
        config = write_config(task=task, train={"batch": 8, "phases": PHASES[1:]}, adapt=asked, prefix={"store": store})
        rows.append(history(tlkeras.train(config, tmp_path / store, quiet=True)))
    for a, b in zip(*rows, strict=True):
        for key in ("loss", "adapt_loss", "val_loss"):
            assert (a[key] == b[key] == "") or float(a[key]) == pytest.approx(float(b[key]), rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("method", ["dann", "self-training"])
def test_a_run_cut_off_while_it_adapts_resumes_to_the_same_weights(write_config, tmp_path, dark, method):
    """As SIGKILL in the last epoch leaves it: the classifier of domains and its clock, and labels of its own making, come back."""
    asked = {"method": method, "path": str(dark), "epochs": 2, "rounds": 2, "threshold": 0.34}
    config = write_config(train={"batch": 8, "phases": PHASES[1:]}, adapt=asked, augment={"flip": "horizontal"})
    run = tlkeras.train(config, tmp_path / "run", quiet=True)
    whole, told, last = weights_of(run), read_json(run.adapt), {"dann": 2, "self-training": 3}[method]
    shutil.rmtree(run.checkpoints / f"phase-{last}-epoch-002")
    run.model.unlink()
    write_json(run.adapt, {k: v for k, v in told.items() if k not in ("before", "after")})
    resumed = tlkeras.train(run.folder, resume=True, quiet=True)
    assert all((a == b).all() for a, b in zip(whole, weights_of(resumed), strict=True))
    assert read_json(resumed.adapt) == told and [r["phase"] for r in history(run)].count("top") == 1
    new = dark / "red" / "new.png"
    try:
        new.write_bytes((dark / "red" / "0.png").read_bytes() + b"\0")
        resumed.model.unlink()
        with pytest.raises(errors.DataError, match="changed since this run began: 15 samples then, 16 now"):
            tlkeras.train(run.folder, resume=True, quiet=True)
    finally:
        new.unlink()


def test_texts_are_brought_together_and_learn_their_language_first(configured, tmp_path):
    """coral with padded batches, and masked-lm as three runs by one command."""
    from conftest import records, sentence

    target = records(
        tmp_path / "other.jsonl",
        [{"text": "new " + sentence(t, 5000 + i)} for t in ("food", "sport") for i in range(10)],
    )
    all_ = {"name": "all", "train": "all", "epochs": 1, "learning_rate": 0.001}
    asked = {"method": "coral", "path": str(target), "epochs": 1}
    run = tlkeras.train(
        configured("coral", train={"batch": 16, "phases": [all_]}, adapt=asked), tmp_path / "coral", quiet=True
    )
    found = read_json(run.adapt)
    assert float(history(run)[-1]["adapt_loss"]) > 0 and found["after"]["target"] is None
    asked = {"method": "masked-lm", "path": str(target), "epochs": 1}
    run = tlkeras.train(
        configured("lm", train={"batch": 16, "phases": [all_]}, adapt=asked), tmp_path / "lm", quiet=True
    )
    assert Run(run.folder / "before").model.is_file() and Run(run.folder / "masked-lm").model.is_file()
    found = read_json(run.adapt)
    assert found["before"]["source"]["n"] == found["after"]["source"]["n"] == 24
    assert tlkeras.predict(run.folder, given=["we like soup"], quiet=True)[0]["label"] in ("food", "music", "sport")
    asked = {"method": "masked-lm", "path": str(tmp_path / "othr.jsonl")}
    with pytest.raises(errors.DataError, match=r"Did you mean other\.jsonl"):
        tlkeras.train(configured("gone", adapt=asked), tmp_path / "gone", quiet=True)
    assert not (tmp_path / "gone" / "before").exists()
    with pytest.raises(errors.PlanError, match="has no BatchNorm"):
        tlkeras.train(configured("bn", adapt={"method": "adabn", "path": str(target)}), tmp_path / "bn", quiet=True)


def test_values_are_adapted_too_and_scored_from_a_table(write_config, tmp_path, colours):
    paths = sorted(colours.rglob("*.png"))
    link = tmp_path / "pictures"
    for path in paths:
        write(link / path.parent.name / path.name, path.read_bytes())
    rows = [f"pictures/{p.parent.name}/{p.name},{n % 7 + n / 50}" for n, p in enumerate(paths)]
    write(tmp_path / "source.csv", "image,value\n" + "\n".join(rows[:24]) + "\n")
    write(tmp_path / "target.csv", "image,value\n" + "\n".join([*rows[24:], "pictures/red/0.png,"]) + "\n")
    config = write_config(
        task="image-regression",
        data={"path": str(tmp_path / "source.csv"), "label": "value"},
        train={"batch": 8, "phases": PHASES[1:]},
        adapt={"method": "mmd", "path": str(tmp_path / "target.csv"), "epochs": 1},
    )
    found = read_json(tlkeras.train(config, tmp_path / "run", quiet=True).adapt)
    assert found["target"]["samples"] == 13 and found["target"]["labelled"] == 12
    assert found["after"]["target"]["metric"] == "rmse" and found["after"]["target"]["value"] > 0


# ---------------------------------------------------------------------- what is refused, and how
@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"task": "object-detection"},
            "suits classification and regression of images, texts and sounds; this task is object-detection",
        ),
        (
            {"adapt": {"method": "masked-lm", "path": "x"}},
            "masked-lm learns the language of texts; image-classification reads images",
        ),
        (
            {"task": "image-regression", "adapt": {"method": "self-training", "path": "x"}},
            "needs a classification without multi_label",
        ),
        ({"adapt": {"method": "coral"}}, "adapt.path is missing"),
        ({"adapt": {"method": "corall", "path": "x"}}, "Did you mean coral?"),
    ],
)
def test_what_does_not_suit_is_said_before_anything_is_read(write_config, sections, said):
    config = write_config(**{"adapt": {"method": "coral", "path": "x"}, **sections})
    with pytest.raises(errors.ConfigError, match=said.replace("?", r"\?")):
        configure.load(config)


def test_a_plan_says_how_much_there_is_of_the_target_and_what_is_not_there(write_config, tmp_path, dark):
    train = {"batch": 8, "phases": PHASES[1:]}
    rows = tlkeras.plan(write_config(train=train, adapt={"method": "coral", "path": str(dark)}))
    assert rows[-1]["domain"].startswith(f"coral on the 15 samples of {dark}, as many of them as of the source")
    with pytest.raises(errors.UsageError, match="gone is no run folder"):
        tlkeras.plan(write_config(distill={"from": str(tmp_path / "gone")}))
    with pytest.raises(errors.UsageError, match=r"gone is neither a folder here nor in the catalogue"):
        tlkeras.plan(write_config(backbone={"name": str(tmp_path / "gone")}))
    with pytest.raises(errors.DataError, match="Did you mean dark"):
        tlkeras.plan(write_config(train=train, adapt={"method": "coral", "path": str(dark.with_name("drk"))}))


def test_what_cannot_work_is_said_before_training(write_config, tmp_path, dark):
    head = {"batch": 8, "phases": PHASES[:1]}
    (tmp_path / "empty").mkdir()
    cases = [
        ({"method": "coral", "path": str(dark)}, errors.PlanError, "so a block below the head must be trained"),
        ({"method": "adabn", "path": str(tmp_path / "empty")}, errors.DataError, "holds no images"),
        (
            {"method": "adabn", "path": str(tmp_path / "emty")},
            errors.DataError,
            "no such file or folder. Did you mean empty",
        ),
    ]
    for n, (asked, kind, said) in enumerate(cases):
        with pytest.raises(kind, match=said):
            tlkeras.train(write_config(train=head, adapt=asked), tmp_path / f"run{n}", quiet=True)
    data = {"path": str(dark), "val": 0.0, "test": 0.25}
    with pytest.raises(errors.DataError, match="calibrates its labels on the validation split"):
        tlkeras.train(
            write_config(data=data, train=head, adapt={"method": "self-training", "path": str(dark)}),
            tmp_path / "x",
            quiet=True,
        )
    taken = {"batch": 8, "phases": [{**PHASES[1], "name": "adapt"}]}
    with pytest.raises(errors.ConfigError, match="adapt is the name of a phase that `adapt` adds"):
        tlkeras.train(
            write_config(train=taken, adapt={"method": "dann", "path": str(dark)}), tmp_path / "y", quiet=True
        )


def test_adabn_moves_statistics_alone_and_the_command_and_the_report_tell_before_and_after(
    write_config, tmp_path, dark
):
    from click.testing import CliRunner

    from tlkeras import checkpoints
    from tlkeras.cli import main
    from tlkeras.evaluation import open_trained

    path = write_config(train={"batch": 8, "phases": PHASES[:1]}, adapt={"method": "adabn", "path": str(dark)})
    said = CliRunner().invoke(main, ["train", str(path), "--out", str(tmp_path / "run")])
    assert said.exit_code == 0, said.output
    for word in (
        "before -> after",
        "source accuracy",
        "target accuracy",
        "proxy A-distance",
        "labels this score alone has seen",
    ):
        assert word in said.output
    run = Run(tmp_path / "run")
    variables = open_trained(run.folder).network.model.variables
    began = checkpoints.start(run, 0)
    moved = {
        v.path
        for v, old in zip(variables, began, strict=True)
        if (v.numpy() != old).any() and "seed" not in v.path and not v.path.startswith("head")
    }
    assert moved and all(p.endswith(("moving_mean", "moving_variance")) for p in moved)
    rows = [row for row in read_json(run.audit)["rows"] if row["phase"] == "adabn"]
    assert any(row["moved"] for row in rows) and not rows[-1]["moved"]
    page = tlkeras.report(run.folder).read_text()
    assert "Before and after adapting" in page and "Proxy A-distance" in page and "The audit failed" not in page
    found = json.loads(CliRunner().invoke(main, ["train", "--resume", str(run.folder), "--json"]).stdout)
    assert found["data"]["adapt"]["method"] == "adabn"
