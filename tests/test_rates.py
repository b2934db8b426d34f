"""Finding a learning rate: the curve tells where the loss falls and where it breaks out, and nothing is left behind.

pytest tests/test_rates.py
"""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from tlkeras import errors, plans, rates, training

PHASES = [
    {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01},
    {"name": "top", "train": ["head", "blocks[-2:]"], "epochs": 2, "learning_rate": 0.003, "layer_decay": 0.5},
]


def curve(fastest=1e-3, broken=1.0):
    """Losses over rates that fall around one rate and break out at another."""
    grid = np.logspace(-7, 1, 100)
    return grid.tolist(), (2 - 1.5 / (1 + (fastest / grid) ** 2) + (grid / broken) ** 2).tolist()


def test_the_curve_tells_where_the_loss_falls_fastest_and_where_it_breaks_out():
    found = rates.judged(*curve())
    assert 3e-4 < found["steepest"] < 3e-3 and 0.2 < found["diverged"] < 3
    assert found["suggested"] == pytest.approx(found["steepest"], rel=0.1)
    early = rates.judged(*curve(1e-2, 3e-2))
    assert (
        early["suggested"] == pytest.approx(early["diverged"] / 10, rel=0.1) and early["suggested"] < early["steepest"]
    )


def test_noise_does_not_move_what_is_found():
    grid, losses = curve()
    noisy = np.array(losses) + np.random.default_rng(0).normal(0, 0.05, len(losses))
    assert abs(np.log10(rates.judged(grid, noisy.tolist())["steepest"] / rates.judged(grid, losses)["steepest"])) < 0.5


def test_a_mean_from_both_ends_comes_no_later_than_what_it_is_of():
    step = [1.0] * 50 + [0.0] * 50
    assert abs(int(np.argmin(np.gradient(rates.smoothed(step)))) - 49.5) <= 1


def test_losses_that_tell_nothing_are_said_to():
    with pytest.raises(errors.DataError, match="no number after 3 updates"):
        rates.judged([1e-7, 1e-6, 1e-5], [1.0, 1.0, 1.0])
    with pytest.raises(errors.DataError, match="did not fall at any rate"):
        rates.judged(np.logspace(-7, 1, 30).tolist(), np.linspace(1, 9, 30).tolist())


def test_a_rate_grows_by_the_same_factor_per_update_and_by_block():
    growth = plans.Growth(1e-6, 1e-2, 5)
    made = growth.schedule(0.5, accumulate=2)
    np.testing.assert_allclose([float(made(2 * n + 1)) for n in range(5)], 0.5 * 10.0 ** np.arange(-6, -1), rtol=1e-4)
    assert [growth.rate(n) for n in range(5)] == pytest.approx([10.0**n for n in range(-6, -1)])


@pytest.mark.parametrize("store", ["auto", "off"])
def test_weights_are_as_they_were_and_no_run_is_left(write_config, tmp_path, monkeypatch, store):
    monkeypatch.chdir(tmp_path)
    config = write_config(train={"batch": 8, "phases": PHASES}, prefix={"store": store})

    def look(fitting, phase_plans, phases):
        fitting.all(phase_plans, resume=False, before=0)
        before = [np.array(v.numpy()) for v in fitting.net.model.variables]
        tried = rates.search(fitting, 1, phase_plans[1], plans.Growth(1e-6, 100.0, 40))
        after = [v.numpy() for v in fitting.net.model.variables]
        return before, after, tried

    before, after, (grid, losses) = training.looked(config, look, quiet=True)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert len(grid) == len(losses) and max(losses) > losses[0]
    assert not (tmp_path / "saved_models").exists()


def test_the_command_draws_and_prints_what_to_run_next(write_config, tmp_path, monkeypatch):
    from tlkeras.cli import main

    monkeypatch.chdir(tmp_path)
    config = write_config(name="small.yaml", train={"batch": 8, "phases": PHASES})
    words = ["find-rate", str(config), "--phase", "top", "--updates", "30", "--json", "-q", "-s", "data.seed=1"]
    result = CliRunner().invoke(main, words)
    envelope = json.loads(result.stdout)
    assert result.exit_code == 0 and envelope["ok"], result.output
    found = envelope["data"]
    assert envelope["next"] == f"tlkeras train {config} -s data.seed=1 -s {found['set']}"
    assert found["set"] == f"train.phases.1.learning_rate={found['suggested']:g}" and found["phase"] == "top"
    drawn = ElementTree.parse(tmp_path / "small-top-rate.svg").getroot()
    assert drawn.tag.endswith("svg") and "top" in "".join(drawn.itertext())
    result = CliRunner().invoke(main, ["find-rate", str(config), "--phase", "tops"])
    assert result.exit_code == 2 and "There is no phase 'tops'; there are head, top. Did you mean top?" in result.stderr
    result = CliRunner().invoke(main, ["find-rate", str(config), "--lowest", "1", "--highest", "0.1"])
    assert result.exit_code == 2 and "received 1 to 0.1" in result.stderr


def test_phases_of_a_recipe_are_written_out_with_the_rate(write_config):
    from tlkeras import configure, recipe
    from tlkeras.config import document

    cfg, _ = configure.load(write_config(train={"recipe": "gradual"}))
    taken = rates._taken(0.002, 0, cfg, recipe.phases("gradual", 100, 32, 5))
    written = document.parse(taken["phases"], "f").values["train"]["phases"]
    assert written[0]["learning_rate"] == 0.002 and written[1]["unfreeze"] and taken["set"] is None
    assert configure.load(write_config(train={"phases": written}))[0].train.phases[1].schedule == "slanted"
