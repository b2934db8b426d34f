"""More classes for a finished run: what stays, what is asked again, and that held-out samples stay held out.

pytest tests/test_extension.py
"""

import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from click.testing import CliRunner
from conftest import draw, write_classes

import tlkeras
from tlkeras import cli, configure, data, evaluation, growth, network, reports, reproduction
from tlkeras.errors import ConfigError, DataError
from tlkeras.run import open_run, read_json, write_json

HEAD = {"name": "head", "train": "head", "epochs": 3, "learning_rate": 0.02}


def new_class(root, name="yellow", colour=(220, 210, 60), each=12, seed=9000):
    (root / name).mkdir(parents=True)
    for i in range(each):
        draw(colour, seed + i).save(root / name / f"{i}.png")
    return root


def trained(folder, source, backbone, **sections):
    config = {
        "task": "image-classification",
        "data": {"path": str(source), "val": 0.25, "test": 0.25},
        "backbone": {"name": str(backbone)},
        "train": {"batch": 8, "phases": [HEAD]},
        **sections,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "old.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
    return tlkeras.train(folder / "old.yaml", folder / "old", quiet=True)


@pytest.fixture(scope="module")
def old(tmp_path_factory, tiny_backbone):
    """A run on three colours, whose pictures are its own."""
    folder = tmp_path_factory.mktemp("extension")
    return trained(folder, write_classes(folder / "colours"), tiny_backbone)


@pytest.fixture(scope="module")
def placed(tmp_path_factory, tiny_backbone):
    """The same as class means."""
    folder = tmp_path_factory.mktemp("placed")
    task = {"name": "image-classification", "head": "prototypes"}
    return trained(folder, write_classes(folder / "colours"), tiny_backbone, task=task, train={"batch": 8})


@pytest.fixture(scope="module")
def grown(old, tmp_path_factory):
    """The run with a fourth colour, as the command line makes it: (what it answered, the run)."""
    folder = tmp_path_factory.mktemp("grown")
    source = new_class(folder / "new")
    args = ["extend", str(old.folder), str(source), "-o", str(folder / "four"), "-q", "--json"]
    result = CliRunner().invoke(cli.main, args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["data"], open_run(folder / "four")


def rows(run) -> dict[str, tuple[str, str]]:
    """{SHA-256: (split, label)} of a run."""
    table = pyarrow.parquet.read_table(run.splits).to_pydict()
    return {h: (s, json.loads(x)) for h, s, x in zip(table["sha256"], table["split"], table["label"], strict=True)}


def head(run):
    return evaluation.open_trained(run.folder).network.model.get_layer("head_logits").get_weights()


def test_old_samples_stay_on_their_side_and_new_ones_are_split_by_the_same_rule(old, grown):
    before, after = rows(old), rows(grown[1])
    assert {h: after[h] for h in before} == before
    fresh = [s for h, (s, label) in after.items() if h not in before]
    assert sorted(fresh) == ["test"] * 3 + ["train"] * 6 + ["val"] * 3


def test_the_result_is_a_whole_run_that_repeats_from_its_own_config(grown, tmp_path):
    _, run = grown
    assert evaluation.evaluate(run.folder, quiet=True)["n"] == 12
    found = reproduction.reproduce(run.folder, tmp_path / "again", quiet=True)
    assert found["holds"] and found["weights"] == 0
    again = open_run(found["again"])
    assert rows(again) == rows(run)
    assert all((a == b).all() for a, b in zip(head(again), head(run), strict=True))
    assert read_json(again.extended) == read_json(run.extended)


def test_forgetting_is_reported_per_class(grown, old):
    found, run = grown
    assert [(r["class"], r["new"], r["n"]) for r in found["classes"]] == [
        ("blue", False, 3), ("green", False, 3), ("red", False, 3), ("yellow", True, 3),
    ]  # fmt: skip
    table, _ = evaluation.read_predictions(_evaluated(run))
    for row in found["classes"]:
        right = [a == b for a, b in zip(table["label"], table["predicted"], strict=True) if a == row["class"]]
        assert row["after"] == pytest.approx(np.mean(right))
    before = evaluation.evaluate(old.folder, quiet=True)["per_class"]
    assert [r["before"] for r in found["classes"][:3]] == pytest.approx(before["recall"])
    said = growth.text(found)
    assert "yellow" in said and "  new" in said and "old classes" in said
    page = reports.report(run.folder).read_text("utf8")
    assert "What was forgotten" in page and "yellow" in page


def test_what_a_killed_run_did_not_write_beside_its_model_is_written_when_it_goes_on(grown, tmp_path):
    shutil.copytree(grown[1].folder, tmp_path / "killed")
    run = open_run(tmp_path / "killed")
    manifest = read_json(run.manifest)
    # As it lies there when the process dies after the model was saved.
    write_json(run.manifest, {k: v for k, v in manifest.items() if k != "model"})
    run.extended.unlink()
    run.card.unlink()
    tlkeras.train(run.folder, resume=True, quiet=True)
    assert read_json(run.extended) == read_json(grown[1].extended)
    assert read_json(run.manifest) == manifest
    assert run.card.is_file()


def _evaluated(run):
    evaluation.evaluate(run.folder, quiet=True)
    return run.predictions("test")


def test_the_head_grows_by_columns_and_keeps_the_old_ones_exactly(old, grown):
    cfg, _ = configure.load(grown[1].config)
    answer = read_json(grown[1].manifest)["answer"]
    assert answer["classes"] == ["blue", "green", "red", "yellow"]
    model = network.build(cfg, answer).model
    assert growth.grow(model, cfg, answer) == 3
    made, was = model.get_layer("head_logits").get_weights(), head(old)
    assert (made[0][:, :3] == was[0]).all() and (made[1][:3] == was[1]).all() and made[0].shape[1] == 4


def test_a_sample_that_was_held_out_is_not_trained_on_when_it_comes_again(old, tmp_path, tiny_backbone):
    table = pyarrow.parquet.read_table(old.splits).to_pydict()
    source = new_class(tmp_path / "new", seed=9500)
    for path, label in zip(table["path"], table["label"], strict=True):  # all the old ones, under other names
        folder = source / json.loads(label)
        folder.mkdir(exist_ok=True)
        shutil.copy(path.decode(), folder / f"again-{path.decode().rpartition('/')[2]}")
    found = tlkeras.extend(old.folder, source, tmp_path / "run", sets=["train.phases.0.epochs=1"], quiet=True)
    after, before = rows(open_run(found["run"])), rows(old)
    assert {h: after[h] for h in before} == before and len(after) == len(before) + 12


def test_a_group_of_the_old_run_stays_together(tmp_path):
    from tlkeras.data import grown as room

    old = _held(["a", "b"], ["train", "test"], ["g", "h"], ["x", "y"])
    new = _held(["c", "d", "e", "f"], ["train"] * 4, ["h", None, None, None], ["z"] * 4)
    cfg = type("C", (), {"data": configure.config.Data(path="x", val=0.25, test=0.25)})
    sides = room._sides(old, new, [0, 1, 2, 3], cfg, ["x", "y", "z"])
    assert sides[0] == "test" and sorted(sides[1:]) == ["test", "train", "val"]
    new = _held(["c"], ["val"], ["h"], ["z"])
    with pytest.raises(DataError, match=r"c \(group h\): test there, val here"):
        room._sides(old, new, [0], cfg, ["x", "y", "z"])


def _held(names, sides, groups, labels):
    classes = ["x", "y", "z"]
    hashes = [n.encode().hex() * 8 for n in names]
    targets = np.eye(3)[[classes.index(x) for x in labels]]
    answer = {"classes": ["x", "y"]}
    return data.Held(names, names, labels, sides, groups, hashes, np.zeros(len(names), int), targets, answer, {})


def test_old_files_that_are_gone_are_named_and_without_them_the_answers_alone_teach(tmp_path, tiny_backbone):
    run = trained(tmp_path, write_classes(tmp_path / "colours"), tiny_backbone)
    source = new_class(tmp_path / "new")
    gone = tmp_path / "colours" / "red"
    shutil.rmtree(gone)
    with pytest.raises(DataError, match=r"12 of its 36 samples are gone or changed(.|\n)*--without-old-rows"):
        tlkeras.extend(run.folder, source, tmp_path / "a", quiet=True)
    found = tlkeras.extend(run.folder, source, tmp_path / "b", old_rows=False, quiet=True)
    after = rows(open_run(found["run"]))
    assert {label for s, label in after.values() if s == "train"} == {"yellow"}
    assert [(r["class"], r["n"]) for r in found["classes"]] == [("blue", 3), ("green", 3), ("red", 0), ("yellow", 3)]
    assert evaluation.evaluate(found["run"], quiet=True)["n"] == 9


def test_a_prototype_head_is_extended_without_training_and_forgets_no_column(placed, tmp_path):
    found = tlkeras.extend(placed.folder, new_class(tmp_path / "new"), tmp_path / "run", quiet=True)
    run = open_run(found["run"])
    made, was = head(run), head(placed)
    assert (made[0][:, :3] == was[0]).all() and (made[1][:3] == was[1]).all() and made[0].shape[1] == 4
    assert not run.history.exists() and configure.load(run.config)[0].distill is None
    # The new class is as sharp as the old ones.
    s = np.square(made[0]).sum(0) / (-4 * made[1])
    np.testing.assert_allclose(s, s[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({}, DataError, "brings nothing new"),
        ({"old.yaml": "multi"}, ConfigError, "gives several labels"),
    ],
)
def test_what_cannot_be_extended_is_refused(old, tmp_path, change, error, said, monkeypatch):
    source = open_run(old.folder)
    if change:
        task = source.config.read_text().replace("multi_label: false", "multi_label: true")
        shutil.copytree(old.folder, tmp_path / "multi")
        (tmp_path / "multi" / "config.yaml").write_text(task)
        source = open_run(tmp_path / "multi")
    colours = configure.load(old.config)[0].data.path
    with pytest.raises(error, match=said):
        tlkeras.extend(source.folder, colours, tmp_path / "run", quiet=True)


def test_a_file_with_another_label_than_before_is_refused(old, tmp_path):
    source = new_class(tmp_path / "new", seed=9700)
    first = pyarrow.parquet.read_table(old.splits).to_pydict()["path"][0].decode()
    shutil.copy(first, source / "yellow" / "liar.png")
    with pytest.raises(DataError, match=r"yellow/liar\.png is yellow, and was blue"):
        tlkeras.extend(old.folder, source, tmp_path / "run", quiet=True)


def test_the_plan_of_an_extended_run_knows_all_classes(grown):
    from tlkeras import preview

    rows_ = preview.plan(grown[1].config)
    assert next(r for r in rows_ if r["block"] == "head")["parameters"] == 4 * 65


def test_texts_are_extended_too(configured, topics, tmp_path):
    import csv

    with topics.open(newline="", encoding="utf8") as f:
        lines = list(csv.reader(f))
    parts = {"few": [r for r in lines[1:] if r[1] != "sport"], "more": [r for r in lines[1:] if r[1] == "sport"]}
    for name, chosen in parts.items():
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf8") as f:
            csv.writer(f).writerows([lines[0], *chosen])
    run = tlkeras.train(configured("few", data={"path": str(tmp_path / "few.csv")}), tmp_path / "run", quiet=True)
    found = tlkeras.extend(run.folder, tmp_path / "more.csv", tmp_path / "more", quiet=True)
    assert [(r["class"], r["new"]) for r in found["classes"]] == [("food", False), ("music", False), ("sport", True)]
    made = open_run(found["run"])
    table = pyarrow.parquet.read_table(made.splits).to_pydict()
    assert {h: s for h, (s, _) in rows(run).items()}.items() <= dict(
        zip(table["sha256"], table["split"], strict=True)
    ).items()
    assert configure.load(made.config)[0].distill.run == str(run.folder)
    with made.history.open(newline="") as f:
        assert "agreement" in next(csv.reader(f))
    assert tlkeras.predict(made.folder, given=["the coach and the team"], quiet=True)[0]["label"] in (
        "food", "music", "sport",
    )  # fmt: skip
