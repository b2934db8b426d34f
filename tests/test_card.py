"""The model card: it says what the records say, in words for who has not seen the run, and claims nothing else.

pytest tests/test_card.py
"""

import shutil

import pytest
import yaml

import tlkeras
from tlkeras import card
from tlkeras.card.markdown import plain
from tlkeras.run import read_json


@pytest.fixture(scope="module")
def made(tmp_path_factory, colours, tiny_backbone):
    """A run, its card before anything was measured, and after evaluating and exporting."""
    folder = tmp_path_factory.mktemp("card")
    given = {
        "name": "colours",
        "task": "image-classification",
        "data": {"path": str(colours), "val": 0.2, "test": 0.3, "licence": "CC0-1.0"},
        "backbone": {"name": str(tiny_backbone)},
        "train": {"batch": 8, "phases": [{"name": "all", "train": "all", "epochs": 3, "learning_rate": 0.01}]},
    }
    (folder / "colours.yaml").write_text(yaml.safe_dump(given))
    run = tlkeras.train(folder / "colours.yaml", folder / "run", quiet=True)
    before = run.card.read_text()
    tlkeras.export(run.folder, ["tflite"], max_drop=1.0, quiet=True)
    artefact = (run.artefact("tflite") / run.card.name).read_text()
    tlkeras.evaluate(run.folder, quiet=True)
    return run, before, artefact


def test_before_evaluating_the_card_says_that_nothing_was_measured(made):
    run, before, artefact = made
    for text in (before, artefact):
        assert "**Not measured yet**" in text and f"tlkeras evaluate {run.folder}" in text
        assert "On the validation samples: accuracy" in text and "95 % interval" not in text


def test_figures_classes_and_counts_are_those_of_the_records(made):
    run = made[0]
    text, result, facts = run.card.read_text(), read_json(run.metrics)["test"], read_json(run.manifest)
    low, high = result["intervals"]["log_loss"]
    assert f"| log loss | {result['metrics']['log_loss']:.4f} | {low:.4f} to {high:.4f} |" in text
    assert (
        f"On {result['n']} test images" in text and facts["data"]["sha256"] in text and facts["model"]["sha256"] in text
    )
    assert "| red | " in text and text.count("| blue | ") == 2
    assert "Judged on" in text and "were not measured" not in text


def test_licences_limits_and_commands_stand_in_it(made):
    text = made[0].card.read_text()
    assert "Data: CC0-1.0" in text and "Weights of the backbone: " in text and "Apache-2.0" in text
    assert "It knows 3 classes" in text and "Not tested:" in text and "from elsewhere was not measured" in text
    assert "tlkeras predict" in text and "tlkeras reproduce" in text and "| keras | " in text


def test_an_artefact_has_a_card_of_its_own_that_evaluating_refreshes(made):
    run, _, before = made
    text, row = (run.artefact("tflite") / run.card.name).read_text(), read_json(run.artefact("tflite") / "parity.json")
    assert text.startswith("# Model card: colours, tflite\n") and "## This artefact" in text
    assert f"{row['bytes'] / 1e6:.2f} MB" in text and text != before and "test images" in text


def test_every_part_is_there_once_and_in_order(made):
    heads = [line for line in made[0].card.read_text().splitlines() if line.startswith("## ")]
    assert heads == [
        f"## {title}"
        for title in ("How good it is", "Limits", "Data", "How it was made", "Licences", "How to use it", "Versions")
    ]


def test_the_card_of_a_run_without_a_test_split_and_of_one_on_numbers(write_config, tmp_path, colours):
    table = tmp_path / "table.csv"
    shutil.copytree(colours, tmp_path / "colours")
    files = sorted(p.relative_to(tmp_path) for p in (tmp_path / "colours").rglob("*.png"))
    table.write_text("image,label\n" + "".join(f"{p},{i / 7}\n" for i, p in enumerate(files)))
    config = write_config(task="image-regression", data={"path": str(table), "val": 0.2, "test": 0.0})
    run = tlkeras.train(config, tmp_path / "run", quiet=True)
    text = run.card.read_text()
    assert "the data has no test split" in text and "not stated (data.licence" in text and "| Output | a number" in text
    assert card.write(run) == run.card and run.card.read_text() == text
    tlkeras.evaluate(run.folder, "val", quiet=True)
    text = run.card.read_text()
    # Nothing stopped early: the validation samples chose nothing.
    assert (
        "what its settings may have been chosen by" in text and "flatter" not in text and "Judged on 7 images" in text
    )


def test_the_card_tells_the_epoch_of_the_weights_and_who_taught_them(made, write_config, tmp_path):
    phase = {"name": "all", "train": "all", "epochs": 4, "learning_rate": 0.01}
    phase |= {"early_stopping": {"patience": 1, "min_delta": 100}}  # nothing is that much better than the first
    config = write_config(train={"batch": 8, "phases": [phase]}, distill={"from": str(made[0].folder), "features": 0.5})
    text = tlkeras.train(config, tmp_path / "run", quiet=True).card.read_text()
    assert "| 2 of 4; the weights are of epoch 1 |" in text
    assert "validation samples, which chose the epoch: " in text
    assert (
        f"Taught by the run `{made[0].folder}`: weight of its answers 0.5 at temperature 2, of its features 0.5."
        in text
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("efficientnet_lite0", "efficientnet_lite0"),
        ("_odd_ name", r"\_odd\_ name"),
        ("a|b", r"a\|b"),
        ("<b>`x`</b>", r"\<b\>\`x\`\</b\>"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_name_is_shown_as_it_is(name, shown):
    assert plain(name) == shown
