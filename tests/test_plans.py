"""Plans: what a config freezes stays frozen, what it trains moves, at the rate it gives, and mistakes are named.

Each claim about freezing trains a step and compares weights, because flags alone have lied before
(docs/decisions/0002-freezing.md). The last tests pin what Keras itself does; they fail when a new Keras changes it.
"""

import keras
import numpy as np
import pytest

from tlkeras import configure, errors, network, plans, preview
from tlkeras.config import Phase

ANSWER = {"classes": ["a", "b", "c"], "multi_label": False, "threshold": 0.5}
BLOCKS = ["stem", "block1", "block2", "block3", "top", "head"]


@pytest.fixture
def net(write_config):
    keras.utils.set_random_seed(0)
    return network.build(configure.load(write_config())[0], ANSWER)


def phase(**options) -> Phase:
    return Phase(**{"name": "p", "train": ["head"], "epochs": 1, "learning_rate": 0.01, "warmup": 0.0, **options})


def step(net, options: Phase, steps: int = 2):
    """Trains `steps` steps of a phase; returns {block: {variable: change}}."""
    one = plans.make([options], list(net.blocks), "tiny")[0]
    plans.apply(net, one)
    net.model.compile(plans.optimizer(net, one, steps), keras.losses.CategoricalCrossentropy(from_logits=True))
    before = {b: {v.path: v.numpy().copy() for v in net.variables(b)} for b in net.blocks}
    rng = np.random.default_rng(0)
    net.model.fit(
        rng.integers(0, 255, (8 * steps, 32, 32, 3)).astype("float32"),
        np.eye(3)[rng.integers(0, 3, 8 * steps)],
        batch_size=8,
        epochs=1,
        verbose=0,
    )
    return {b: {v.path: np.abs(v.numpy() - before[b][v.path]).max() for v in net.variables(b)} for b in net.blocks}


def moved(changes: dict) -> bool:
    return any(c > 0 for c in changes.values())


@pytest.mark.parametrize(
    "pattern, blocks",
    [
        ("head", "head"), ("block*", "block1 block2 block3"), ("blocks[-2:]", "block3 top"), ("blocks[:1]", "stem"), ("blocks[-1]", "top"),
        ("block1..block3", "block1 block2 block3"), ("block2..head", "block2 block3 top head"), ("all", " ".join(BLOCKS)), ("block9", ""), ("block3..block1", ""), ("blocks[9]", ""),
    ],
)  # fmt: skip
def test_patterns_name_blocks(pattern, blocks):
    assert plans.select(pattern, BLOCKS) == blocks.split()


def test_an_unknown_block_names_the_blocks_and_the_nearest_and_the_place(write_config):
    path = write_config(
        train={"phases": [{"name": "top", "train": ["head", "stack9"], "epochs": 1, "learning_rate": 0.1}]}
    )
    _, origin = configure.load(path)
    with pytest.raises(errors.PlanError) as caught:
        plans.make([phase(name="top", train=["head", "block9"]), phase(train=["hed"])], BLOCKS, "some_net", origin)
    text = str(caught.value)
    assert "phase 'top' trains 'block9', which some_net does not have" in text
    assert (
        "It has: stem block1 block2 block3 top, and head" in text
        and "Did you mean block" in text
        and "Did you mean head?" in text
    )
    assert f"{path}:" in text


def test_a_rate_for_a_block_that_is_not_trained_is_a_mistake():
    with pytest.raises(errors.PlanError, match="gives a rate to stem, which it does not train"):
        plans.make([phase(rates={"stem": 0.1})], BLOCKS, "n")


def test_layer_decay_falls_towards_the_input_and_rates_override_it():
    one = plans.make([phase(train=["all"], layer_decay=0.5, rates={"block1": 0.9})], BLOCKS, "n")[0]
    assert [round(b.factor, 5) for b in one.blocks] == [0.03125, 0.9, 0.125, 0.25, 0.5, 1.0]


def test_frozen_weights_stay_put_and_trained_ones_move(net):
    changes = step(net, phase())
    assert moved(changes["head"]) and not any(moved(c) for b, c in changes.items() if b != "head")


def test_a_second_phase_moves_what_it_unfroze(net):
    assert not moved(step(net, phase())[list(net.blocks)[-2]])
    changes = step(net, phase(train=["head", "blocks[-1:]"]))
    assert moved(changes[list(net.blocks)[-2]]) and not moved(changes["stem"])


def statistics(changes: dict) -> dict:
    return {path: c for path, c in changes.items() if "moving_" in path}


def affine(changes: dict) -> dict:
    return {path: c for path, c in changes.items() if path.endswith(("gamma", "beta")) and "layer_norm" not in path}


@pytest.mark.parametrize(
    "mode, stats_move, affine_moves", [("frozen", False, False), ("train", True, True), ("adapt", True, False)]
)
def test_batchnorm_follows_its_mode_in_a_trained_block(net, mode, stats_move, affine_moves):
    changes = step(net, phase(train=["all"], batchnorm=mode))
    body = {p: c for b, block in changes.items() if b != "head" for p, c in block.items()}
    assert moved(statistics(body)) is stats_move and moved(affine(body)) is affine_moves
    assert moved({p: c for p, c in body.items() if p.endswith("kernel")})


def test_a_batchnorm_mode_per_block_holds_for_that_block_alone(net):
    first = next(b for b in net.blocks if statistics({v.path: 0 for v in net.variables(b)}))
    changes = step(net, phase(train=["all"], batchnorm={first: "train"}))
    assert moved(statistics(changes[first])) and not any(moved(statistics(c)) for b, c in changes.items() if b != first)


def test_each_block_learns_at_its_own_rate(net):
    """Plain SGD: the first step is rate x gradient, so half the factor is half the step."""
    start = [v.numpy() for v in net.model.variables]

    def first_step(factor):
        for variable, value in zip(net.model.variables, start, strict=True):
            variable.assign(value)
        return step(
            net,
            phase(train=["head", "blocks[-1:]"], optimizer="sgd", schedule="constant", rates={"blocks[-1:]": factor}),
            steps=1,
        )

    whole, half = first_step(1.0), first_step(0.5)
    last = list(net.blocks)[-2]
    ratios = [half[last][p] / c for p, c in whole[last].items() if c > 1e-7]
    assert ratios and np.allclose(ratios, 0.5, rtol=0.02)
    assert all(half["head"][p] == pytest.approx(c, rel=1e-4) for p, c in whole["head"].items())


def test_weight_decay_scales_with_the_rate_of_the_block_and_spares_biases(net):
    """Without a gradient AdamW moves a weight by rate x decay x weight, and by nothing else."""
    one = plans.make(
        [phase(train=["head", "blocks[-1:]"], weight_decay=0.1, schedule="constant", rates={"blocks[-1:]": 0.1})],
        list(net.blocks),
        "n",
    )[0]
    plans.apply(net, one)
    optimizer = plans.optimizer(net, one, 10)
    optimizer.build(net.model.trainable_variables)
    before = {v.path: v.numpy().copy() for v in net.model.trainable_variables}
    optimizer.apply([keras.ops.zeros(v.shape) for v in net.model.trainable_variables], net.model.trainable_variables)
    for v in net.model.trainable_variables:
        factor = 1.0 if v.path.startswith("head") else 0.1
        expected = (
            before[v.path] if v.path.endswith(("bias", "gamma", "beta")) else before[v.path] * (1 - 0.01 * factor * 0.1)
        )
        assert np.allclose(v.numpy(), expected, rtol=1e-5, atol=1e-8), v.path


@pytest.mark.parametrize(
    "kind, expected",
    [("constant", [0.5, 1, 1, 1, 1]), ("linear", [0.5, 1, 1, 2 / 3, 1 / 3]), ("cosine", [0.5, 1, 1, 0.75, 0.25])],
)
def test_schedules_rise_then_fall(kind, expected):
    rate = plans.schedule(kind, 1.0, 5, 2)
    assert np.allclose([float(rate(i)) for i in range(5)], expected)


def test_a_plan_that_trains_nothing_is_refused(net):
    one = plans.make([phase(train=["stem"])], list(net.blocks), "n")[0]
    for layer in net.blocks["stem"]:
        for inner in layer._flatten_layers():
            inner._trainable_variables = []
    with pytest.raises(errors.PlanError, match="holds no weight that can move"):
        plans.apply(net, one)


def test_the_audit_names_a_frozen_tensor_that_moved_and_a_trained_block_that_did_not(net):
    one = plans.make([phase()], list(net.blocks), "n")[0]
    plans.apply(net, one)
    before = plans.digests(net)
    with pytest.raises(errors.TlkerasError, match="head: planned to train, but none of its 2 tensors moved"):
        plans.audit(net, one, before, plans.digests(net))
    head, stem = net.variables("head")[0], net.variables("stem")[0]
    head.assign(head + 1)
    assert plans.audit(net, one, before, plans.digests(net))[-1]["moved"] == 1
    stem.assign(stem + 1)
    with pytest.raises(errors.TlkerasError, match="stem: 1 frozen tensors moved"):
        plans.audit(net, one, before, plans.digests(net))


def test_plan_lists_every_phase_and_block(write_config):
    rows = preview.plan(
        write_config(
            train={
                "phases": [
                    {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01},
                    {"name": "all", "train": "all", "epochs": 1, "learning_rate": 0.001},
                ]
            }
        )
    )
    assert {r["phase"] for r in rows} == {"head", "all"}
    assert all(r["trainable"] == 0 for r in rows if not r["trained"])
    text = preview.text(rows)
    assert "phase head: 2 epochs" in text and "frozen" in text


# ---------------------------------------------------------------------- what Keras does, pinned
def _model():
    keras.utils.set_random_seed(0)
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    inputs = keras.Input((4,))
    return base, keras.Model(inputs, keras.layers.Dense(1)(base(inputs, training=False)))


def _fit(model):
    model.fit(np.random.default_rng(0).normal(3, 2, (16, 4)), np.ones((16, 1)), verbose=0)


def test_keras_moves_batchnorm_statistics_although_the_base_was_called_with_training_false():
    base, model = _model()
    model.compile("sgd", "mse")
    _fit(model)
    assert np.abs(base.layers[-1].moving_mean.numpy()).max() > 0


def test_keras_trains_nothing_of_a_layer_unfrozen_without_a_new_compile():
    base, model = _model()
    base.trainable = False
    model.compile("adam", "mse")
    _fit(model)
    base.trainable = True
    before = base.layers[0].kernel.numpy().copy()
    _fit(model)
    assert (before == base.layers[0].kernel.numpy()).all()


def test_keras_counts_no_weight_of_a_true_child_below_a_false_parent():
    base, _ = _model()
    base.trainable = False
    base.layers[0]._trainable = True
    assert base.layers[0].trainable and not base.trainable_weights
