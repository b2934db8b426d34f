"""Pipelines: the order of an epoch and the augmentation of a sample depend on the seed, the epoch and the sample alone.

pytest tests/test_pipeline.py
"""

from dataclasses import replace

import numpy as np
import pytest

from tlkeras import errors
from tlkeras.backbones import Pixels
from tlkeras.config import Augmentation
from tlkeras.data import augment, changed_files, pictures, pipeline, scan_files

PIXELS = Pixels(size=(24, 24))
EVERYTHING = Augmentation(flip="both", rotate=20, crop=0.8, brightness=0.2, contrast=0.2, rand_augment=2, erase=0.5)


@pytest.fixture(scope="module")
def table(colours):
    paths = sorted(str(p) for p in colours.glob("*/*.png"))
    found = scan_files(paths)
    prints = np.array([found.good[p].fingerprint for p in paths])
    targets = np.eye(len(paths), dtype=np.float32)  # one column a sample: the target tells which it is
    hashes = [found.good[p].sha256 for p in paths]
    return pictures.Table(paths, targets, np.ones(len(paths), np.float32), prints, hashes)


PLAIN = Augmentation()


def epochs(table, first, last, options=PLAIN, batch=8, seed=0):
    """[(images, targets)] per epoch."""
    stream = pictures.training(table, PIXELS, batch, seed, first, last, options)
    batches = [(x.numpy(), y.numpy()) for x, y, _ in stream]
    n = pipeline.steps(table, batch)
    assert len(batches) == n * (last - first)
    return [tuple(map(np.concatenate, zip(*batches[i : i + n], strict=True))) for i in range(0, len(batches), n)]


def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own(table):
    orders = [y.argmax(1).tolist() for _, y in epochs(table, 0, 3)]
    assert all(sorted(o) == list(range(len(table))) for o in orders)
    assert len({tuple(o) for o in orders}) == 3 and orders[0] != sorted(orders[0])


@pytest.mark.parametrize(
    "options", [Augmentation(), EVERYTHING, Augmentation(mixup=0.4, cutmix=1.0)], ids=["plain", "augmented", "mixed"]
)
def test_a_stream_that_starts_later_gives_what_it_would_have_given(table, options):
    whole, late = epochs(table, 0, 3, options), epochs(table, 2, 3, options)
    assert all((a == b).all() for a, b in zip(whole[2], late[0], strict=True))


def test_another_seed_gives_another_order_and_other_pictures(table):
    (xa, ya), (xb, yb) = epochs(table, 0, 1, EVERYTHING)[0], epochs(table, 0, 1, EVERYTHING, seed=1)[0]
    assert ya.argmax(1).tolist() != yb.argmax(1).tolist()
    a, b = xa[ya.argmax(1).argsort()], xb[yb.argmax(1).argsort()]
    assert np.mean(np.abs(a - b).max((1, 2, 3)) > 0) > 0.9


def test_each_view_of_a_sample_differs_and_none_depends_on_the_batch(table):
    small, large = epochs(table, 0, 2, EVERYTHING, batch=3), epochs(table, 0, 2, EVERYTHING, batch=16)
    for (xa, ya), (xb, yb) in zip(small, large, strict=True):
        assert (xa[ya.argmax(1).argsort()] == xb[yb.argmax(1).argsort()]).all()
    (x0, y0), (x1, y1) = small
    same = (x0[y0.argmax(1).argsort()] == x1[y1.argmax(1).argsort()]).all((1, 2, 3))
    assert same.mean() < 0.1


@pytest.mark.parametrize(
    "name, value",
    [
        ("flip", "horizontal"),
        ("rotate", 30.0),
        ("crop", 0.7),
        ("brightness", 0.3),
        ("contrast", 0.3),
        ("rand_augment", 2),
        ("erase", 0.9),
    ],
)
def test_each_augmentation_changes_pictures_within_the_range(table, name, value):
    plain, changed = epochs(table, 0, 1)[0][0], epochs(table, 0, 1, Augmentation(**{name: value}))[0][0]
    assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 255
    assert changed.shape == plain.shape and (np.abs(changed - plain.astype(np.float32)) > 1).any()


def test_eager_and_tf_data_augment_alike(table):
    import tensorflow as tf

    one = augment.sample_augmenter(EVERYTHING, (24, 24))
    image = tf.constant(np.random.default_rng(0).integers(0, 255, (30, 30, 3)), tf.uint8)
    seed = tf.constant([3, 5], tf.int64)
    (mapped,) = tf.data.Dataset.from_tensors(0).map(lambda _: one(image, seed))
    assert np.allclose(one(image, seed), mapped, atol=1e-3)


def test_mixup_mixes_pictures_and_labels_by_one_weight(table):
    x, y = epochs(table, 0, 1, Augmentation(mixup=1.0))[0]
    assert np.allclose(y.sum(1), 1, atol=1e-5) and ((y > 0).sum(1) == 2).mean() > 0.5


def test_a_sample_weighs_what_the_table_says(table):
    heavy = replace(table, weights=np.arange(len(table), dtype=np.float32))
    for _, y, w in pictures.training(heavy, PIXELS, 8, 0, 0, 1, Augmentation()):
        assert (y.numpy().argmax(1) == w.numpy()).all()


def test_in_order_keeps_the_order_and_held_out_repeats_it(table):
    order = np.concatenate([y.numpy().argmax(1) for _, y, _ in pictures.in_order(table, PIXELS, 7)])
    assert order.tolist() == list(range(len(table)))
    held = pictures.held_out(table, PIXELS, 7)
    first, second = ([x.numpy() for x, _, _ in held] for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_a_file_that_changed_or_vanished_since_the_scan_is_named(table, tmp_path):
    import shutil

    copy = tmp_path / "copy.png"
    shutil.copy(table.paths[0], copy)
    one = replace(table.keep([0]), paths=[str(copy)])
    assert len(list(pictures.in_order(one, PIXELS, 1))) == 1
    shutil.copy(table.paths[1], copy)
    with pytest.raises(errors.DataError, match="copy.png changed while it was in use"), changed_files():
        list(pictures.in_order(one, PIXELS, 1))
    copy.unlink()
    with pytest.raises(errors.DataError, match="vanished.*copy.png"), changed_files():
        list(pictures.in_order(one, PIXELS, 1))
