"""Schedules of transfer: rates by block and gradual unfreezing in one line, and how a rate runs over a phase.

pytest tests/test_schedules.py
"""

import numpy as np
import pytest
from conftest import weights_of

import tlkeras
from tlkeras import configure, errors, plans, preview, recipe
from tlkeras.config import Phase
from tlkeras.run import read_json

BLOCKS = ["stem", "block1", "block2", "block3", "head"]
PHASE = {"name": "blocks", "train": ["all"], "epochs": 6, "learning_rate": 0.01}


def test_unfreezing_goes_from_the_head_down_block_by_block():
    made = plans.make([Phase(**PHASE, unfreeze=1, layer_decay=0.5)], BLOCKS, "n")
    assert [(p.phase.name, p.phase.epochs, p.trained) for p in made] == [
        ("blocks-block3", 1, ["block3", "head"]),
        ("blocks-block2", 1, ["block2", "block3", "head"]),
        ("blocks-block1", 1, ["block1", "block2", "block3", "head"]),
        ("blocks-stem", 3, BLOCKS),
    ]
    assert [b.factor for b in made[1].blocks] == [0.0, 0.0, 0.25, 0.5, 1.0]


def test_neck_and_head_are_trained_from_the_start():
    made = plans.make([Phase(**PHASE, unfreeze=2)], ["block1", "block2", "neck", "head"], "n")
    assert [p.trained for p in made] == [["block2", "neck", "head"], ["block1", "block2", "neck", "head"]]
    (one,) = plans.make([Phase(**(PHASE | {"train": ["head"]}), unfreeze=2)], BLOCKS, "n")
    assert (one.phase.name, one.phase.epochs, one.trained) == ("blocks-head", 6, ["head"])


def test_too_few_epochs_for_all_blocks_are_a_mistake_that_says_how_many():
    with pytest.raises(
        errors.PlanError, match="unfreezes 4 blocks, one every 2 epochs, so it needs at least 8; received 6"
    ):
        plans.make([Phase(**PHASE, unfreeze=2)], BLOCKS, "n")


def test_a_stage_called_like_another_phase_is_a_mistake():
    with pytest.raises(errors.PlanError, match="twice: blocks-stem"):
        plans.make([Phase(**PHASE, unfreeze=1), Phase(**(PHASE | {"name": "blocks-stem"}))], BLOCKS, "n")


@pytest.mark.parametrize("name", ["discriminative", "gradual"])
@pytest.mark.parametrize("samples", [100, 1500, 10_000, 100_000])
def test_one_line_makes_the_phases_of_ulmfit(name, samples):
    head, slow = recipe.phases(name, samples, 32, 9)
    assert head.train == ["head"] and slow.train == ["all"] and slow.schedule == "slanted"
    made = plans.make([head, slow], [f"b{i}" for i in range(9)] + ["head"], "n")
    assert len(made) == (2 if name == "discriminative" else 10)
    factors = [row.factor for row in made[-1].blocks]
    assert all(
        above / below == pytest.approx(2.6, rel=0.01) for below, above in zip(factors, factors[1:], strict=False)
    )
    assert all(p.phase.epochs >= 1 for p in made)
    plain = recipe.phases("discriminative", samples, 32, 9)[1].epochs
    assert sum(p.phase.epochs for p in made[1:]) == plain + 8 * (slow.unfreeze or 0)


def test_the_plan_shows_every_stage_before_training(write_config):
    rows = preview.plan(write_config(train={"recipe": "gradual", "batch": 8}))
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    body = [row["block"] for row in rows if row["phase"] == "head" and row["block"] != "head"]
    assert phases == ["head", *(f"blocks-{b}" for b in reversed(body))] and len(body) > 2
    said = preview.text(rows)
    assert "phase blocks-" in said and "slanted" in said


def test_a_stage_moves_what_has_joined_and_nothing_below(write_config, tmp_path):
    phase = {**PHASE, "epochs": 4, "unfreeze": 1, "train": ["head", "blocks[-3:]"], "average": "ema"}
    run = tlkeras.train(write_config(train={"batch": 8, "phases": [phase]}), tmp_path / "run", quiet=True)
    rows = read_json(run.audit)["rows"]
    stages = list(dict.fromkeys(row["phase"] for row in rows))
    assert len(stages) == 3
    moved = [{row["block"] for row in rows if row["phase"] == s and row["moved"]} for s in stages]
    assert moved[0] < moved[1] < moved[2] and "head" in moved[0]
    assert [p["name"] for p in read_json(run.plan)["phases"]] == stages
    assert all(np.isfinite(w).all() for w in weights_of(run))


def rates(kind, steps, warmup=0, cycle=1.0):
    made = plans.schedule(kind, 1.0, steps, warmup, 1, cycle)
    return [float(made(n)) for n in range(steps)]


def test_the_slanted_triangle_is_that_of_the_paper():
    """Howard & Ruder 2018, section 3.2, with T = 100, cut_frac = 0.1, ratio = 32."""
    cut, expected = 10, []
    for t in range(100):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / 0.1 - 1))
        expected.append((1 + p * 31) / 32)
    np.testing.assert_allclose(rates("slanted", 100, 10), expected, rtol=1e-5)
    assert rates("slanted", 4)[0] == 1.0  # too short to rise


def test_a_cycle_falls_in_every_epoch_anew():
    """Izmailov et al. 2018, section 3.1: a line from the peak to its hundredth, c steps long."""
    c = 5
    expected = [(1 - t) + t * 0.01 for i in range(1, 16) for t in [((i - 1) % c + 1) / c]]
    np.testing.assert_allclose(rates("cyclic", 15, cycle=c), expected, rtol=1e-4)


def test_a_recipe_named_in_one_line_trains(write_config, tmp_path):
    run = tlkeras.train(
        write_config(train={"recipe": "discriminative", "batch": 16}), tmp_path / "run", ["data.test=0.5"], quiet=True
    )
    factors = [row["factor"] for row in read_json(run.plan)["blocks"] if row["phase"] == "blocks"]
    assert factors[-1] == 1.0 and all(a < b for a, b in zip(factors, factors[1:], strict=False))
    assert configure.load(run.config)[0].train.recipe == "discriminative"
