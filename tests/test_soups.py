"""Soups: the mean of several networks, chosen on the validation samples, is a run like any other; what does not fit
together is refused by name.

pytest tests/test_soups.py
"""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import weights_of, write_classes

import tlkeras
from tlkeras import errors, evaluation, reproduction, soups
from tlkeras.run import Run, read_json, write_json

PHASE = {"name": "top", "train": ["head", "blocks[-2:]"], "epochs": 3, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, colours, tiny_backbone):
    """Three runs of one config with other seeds, the second one spoilt by a large rate; {name: Run}."""
    import yaml

    folder = tmp_path_factory.mktemp("soups")
    config = folder / "base.yaml"
    given = {
        "task": "image-classification",
        "data": {"path": str(colours), "val": 0.3, "test": 0.2},
        "backbone": {"name": str(tiny_backbone)},
        "train": {"batch": 8, "keep_checkpoints": 9, "phases": [PHASE]},
    }
    config.write_text(yaml.safe_dump(given))
    more = {"a": [], "b": ["train.phases.0.learning_rate=3", "train.seed=1"], "c": ["train.seed=2"]}
    made = {name: tlkeras.train(config, folder / name, sets, quiet=True) for name, sets in more.items()}
    return made | {"config": config}


def member(runs, *names):
    return [runs[name].folder for name in names]


def mean_of(*runs):
    return [np.mean(same, axis=0) for same in zip(*map(weights_of, runs), strict=True)]


def val(run):
    return tlkeras.evaluate(run.folder, "val", quiet=True)["metrics"]["accuracy"]


def test_a_uniform_soup_is_the_mean(runs, tmp_path):
    made = soups.soup(member(runs, "a", "b", "c"), tmp_path / "soup", "uniform", quiet=True)
    for got, expected in zip(weights_of(made), mean_of(runs["a"], runs["b"], runs["c"]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
    assert all(m["taken"] for m in read_json(made.manifest)["soup"]["members"])


def test_a_greedy_soup_is_never_below_its_best_member(runs, tmp_path):
    made = soups.soup(member(runs, "b", "c", "a"), tmp_path / "soup", quiet=True)
    facts = read_json(made.manifest)["soup"]
    assert val(made) == pytest.approx(facts["val"]) and facts["val"] >= max(m["val"] for m in facts["members"])
    taken = [m["name"] for m in facts["members"] if m["taken"]]
    chosen = [r for r in (runs["a"], runs["b"], runs["c"]) if str(r.folder) in taken]
    for got, expected in zip(weights_of(made), mean_of(*chosen), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def test_greedy_takes_what_does_not_lower_the_score_from_the_best_down():
    """Weights are single numbers, and the score of a mean is known: 3 is best, with 1 it falls, with 4 it stays."""
    members = [soups.Member(str(w), [np.array([w], np.float32)], {}) for w in (1.0, 3.0, 4.0)]
    known = {1.0: 0.4, 3.0: 0.9, 4.0: 0.8, 3.5: 0.9, 2.0: 0.5, 8 / 3: 0.7}
    asked = []

    def score(arrays, mixed):
        asked.append(round(float(arrays[0][0]), 4))
        return next(v for k, v in known.items() if abs(k - arrays[0][0]) < 1e-3)

    assert soups._greedy(members, [known[1.0], known[3.0], known[4.0]], score) == ([1, 2], 0.9)
    assert asked == [3.5, 2.6667]


def test_a_soup_is_a_run_like_any_other(runs, tmp_path):
    from tlkeras.cli import main

    words = ["soup", *map(str, member(runs, "a", "c")), "--out", str(tmp_path / "soup"), "--kind", "uniform", "-q"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "uniform soup of 2 of 2, accuracy on the validation samples" in result.stdout
    assert f"Next: tlkeras evaluate {tmp_path / 'soup'}" in result.stdout
    run = tmp_path / "soup"
    assert tlkeras.evaluate(run, quiet=True)["n"] > 0
    said = (run / "model-card.md").read_text()
    assert "the mean of those of" in said and "a uniform soup" in said and "tlkeras reproduce" not in said
    with pytest.raises(errors.UsageError, match="is a soup"):
        reproduction.reproduce(run)
    picture = next((runs["config"].parent.parent).rglob("colours*/red/0.png"))
    assert tlkeras.predict(run, [picture], quiet=True)[0]["label"] in ("blue", "green", "red")
    assert "soup" in tlkeras.report(run).read_text("utf8")
    (row,) = [r for r in tlkeras.export(run, ["tflite"], max_drop=1.0, quiet=True) if r["format"] == "tflite"]
    assert row["largest_difference"] < 1e-3 if "largest_difference" in row else row
    assert tlkeras.train(run, resume=True, quiet=True).folder == run
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "never overwritten" in result.stderr


def test_the_epochs_of_one_run_make_a_soup(runs, tmp_path):
    made = soups.soup([runs["a"].folder], tmp_path / "soup", "uniform", epochs=True, quiet=True)
    facts = read_json(made.manifest)["soup"]
    assert [m["name"] for m in facts["members"]] == ["epoch 1", "epoch 2", "epoch 3"]
    ends = []
    for n in (1, 2, 3):
        with np.load(runs["a"].checkpoints / f"phase-1-epoch-00{n}" / "moving.npz", allow_pickle=False) as f:
            ends.append([f[k] for k in sorted(f.files) if f[k].dtype.kind == "f"])
    mean = [np.mean(same, axis=0) for same in zip(*ends, strict=True)]
    model = weights_of(made)
    assert all(any(w.shape == m.shape and np.allclose(w, m, rtol=1e-5, atol=1e-6) for w in model) for m in mean)
    assert np.allclose(facts["members"][-1]["val"], val(runs["a"]))


def test_everything_that_differs_is_named(runs, tmp_path):
    data = write_classes(tmp_path / "data", 9)
    sets = ['train.phases.0.train=["head"]', f"data.path={data}", "train.phases.0.epochs=1"]
    other = tlkeras.train(runs["config"], tmp_path / "other", sets, quiet=True)
    with pytest.raises(errors.UsageError) as caught:
        soups.soup([runs["a"].folder, other.folder], tmp_path / "soup", quiet=True)
    said = str(caught.value)
    assert "samples and their splits" in said and "trained blocks" in said and str(other.folder) in said
    assert "backbone name" not in said and "Train them from one config" in said and not (tmp_path / "soup").exists()


def test_frozen_blocks_that_differ_are_refused(runs, tmp_path):
    """The same in every word, but pretrained otherwise."""
    import keras

    from tlkeras.run import sha256

    copy = Run(shutil.copytree(runs["c"].folder, tmp_path / "copy"))
    opened = evaluation.open_trained(copy.folder)
    first = next(iter(opened.network.blocks))
    opened.network.variables(first)[0].assign_add(np.full(opened.network.variables(first)[0].shape, 1e-3))
    keras.Model(opened.network.model.inputs, opened.network.model.outputs).save(copy.model)
    manifest = read_json(copy.manifest)
    write_json(copy.manifest, manifest | {"model": {**manifest["model"], "sha256": sha256(copy.model)}})
    with pytest.raises(errors.ModelError, match=f"Nothing trained {first}"):
        soups.soup([runs["a"].folder, copy.folder], tmp_path / "soup", quiet=True)


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["a"], {}, "takes two runs or more; received 1"),
        (["a", "a"], {}, "takes each run once"),
        (["a", "b"], {"epochs": True}, "received 2 runs"),
    ],
)
def test_too_few_and_too_many_are_refused(runs, tmp_path, names, options, said):
    with pytest.raises(errors.UsageError, match=said):
        soups.soup(member(runs, *names), tmp_path / "soup", quiet=True, **options)


def test_statistics_of_trained_batchnorm_are_computed_for_the_mean(runs, tmp_path):
    """The mean of statistics is not the statistics of the mean."""
    sets = ["train.phases.0.batchnorm=train", "train.phases.0.epochs=1"]
    made = [
        tlkeras.train(runs["config"], tmp_path / str(seed), [*sets, f"train.seed={seed}"], quiet=True)
        for seed in (3, 4)
    ]
    soup = soups.soup([run.folder for run in made], tmp_path / "soup", "uniform", quiet=True)
    net = evaluation.open_trained(soup.folder).network
    pairs = list(zip(weights_of(soup), mean_of(*made), net.model.weights, strict=True))
    moving = [(a, b) for a, b, v in pairs if "moving_" in v.path]
    others = [(a, b) for a, b, v in pairs if "moving_" not in v.path]
    assert any(abs(a - b).max() > 1e-4 for a, b in moving)
    assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in others)
    assert json.loads(soup.manifest.read_text())["soup"]["members"][0]["sha256"]


def test_epochs_of_adapters_are_merged_and_averaged(configured, tmp_path):
    """A BERT with LoRA: the mean of merged kernels, in the network without adapters."""
    phase = {"name": "all", "train": "all", "epochs": 2, "learning_rate": 0.01}
    config = configured(train={"batch": 16, "keep_checkpoints": 5, "phases": [phase]})
    sets = ["backbone.lora.rank=2", "data.val=0.3"]
    run = tlkeras.train(config, tmp_path / "run", sets, quiet=True)
    made = soups.soup(run.folder, tmp_path / "soup", "uniform", epochs=True, quiet=True)
    facts = read_json(made.manifest)["soup"]
    assert facts["members"][-1]["val"] == pytest.approx(val(run)) and facts["val"] == pytest.approx(val(made))
    last, mean = weights_of(run), weights_of(made)
    assert len(last) == len(mean) and any(abs(a - b).max() > 1e-5 for a, b in zip(last, mean, strict=True))
