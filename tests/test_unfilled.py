"""Weights that are replaced right after are not drawn at random, and nothing else changes by that.

pytest tests/test_unfilled.py
"""

import keras
import numpy as np
import pytest

from tlkeras.weights import unfilled

KERNEL = np.ones((3, 4), np.float32)


def network(kernel=None):
    layers = [keras.layers.Dense(4, name="filled"), keras.layers.Dense(2, name="left")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    if kernel is not None:
        layers[0].kernel.assign(kernel)
    return model


def values(model):
    return [v.numpy() for v in model.weights]


def equal(a, b):
    return all((x == y).all() for x, y in zip(values(a), values(b), strict=True))


def test_what_no_file_fills_begins_as_ever():
    keras.utils.set_random_seed(1)
    plain = network(KERNEL)
    keras.utils.set_random_seed(1)
    assert equal(unfilled.filled(lambda: network(KERNEL)), plain)


def test_what_is_built_after_a_filled_network_begins_as_ever():
    def build():
        model = network(KERNEL)
        model.layers[-1].kernel.assign(np.ones((4, 2)))
        return model

    keras.utils.set_random_seed(2)
    first, after = build(), network()
    keras.utils.set_random_seed(2)
    assert equal(unfilled.filled(build), first) and equal(network(), after)


def test_initialisers_are_back_when_the_building_failed():
    def build():
        network()
        raise ValueError

    with pytest.raises(ValueError):
        unfilled.filled(build)
    assert all(np.isfinite(v).all() for v in values(network()))


def test_a_draw_that_moves_a_generator_is_made():
    def build(generator):
        drawn = keras.initializers.RandomNormal(seed=generator)
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_initializer=drawn)])

    one, two = keras.random.SeedGenerator(3), keras.random.SeedGenerator(3)
    assert equal(unfilled.filled(lambda: build(one)), build(two))
    assert (one.state.numpy() == two.state.numpy()).all()
