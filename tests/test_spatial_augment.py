"""Boxes and masks move with their pictures: after any augmentation they are where the coloured pixels are.

pytest tests/test_spatial_augment.py
"""

import numpy as np
import pytest

from tlkeras.config import Augmentation
from tlkeras.data import spatial
from tlkeras.errors import ConfigError

RED, BLUE = (250, 10, 10), (10, 10, 250)
SIZE = (96, 128)


def scene(seed: int = 0, size=SIZE):
    """A green picture with a red and a blue rectangle that do not touch: (pixels, boxes (4, 5), mask)."""
    rng = np.random.default_rng(seed)
    height, width = size
    image, mask = np.full((height, width, 3), (10, 200, 10), np.uint8), np.zeros((height, width), np.uint8)
    rows = np.full((4, 5), -1, np.float32)
    for n, (colour, left) in enumerate(((RED, 0), (BLUE, width // 2))):
        x0, y0 = left + int(rng.integers(2, width // 6)), int(rng.integers(2, height // 3))
        x1, y1 = x0 + int(rng.integers(14, width // 4)), y0 + int(rng.integers(14, height // 2))
        image[y0:y1, x0:x1], mask[y0:y1, x0:x1] = colour, n + 1
        # The blue one is a crowd of class 1.
        rows[n] = x0 / width, y0 / height, x1 / width, y1 / height, (0, -3)[n]
    return image, rows, mask


def coloured(image, colour, near=60):
    """Where an image has a colour, bool (h, w)."""
    return (np.abs(np.asarray(image, float) - colour) < near).all(-1)


def around(where):
    """x0, y0, x1, y1 in pixels around the true pixels."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def options(**given):
    return Augmentation.model_validate(given)


MOVES = {
    "flip": {"flip": "both"},
    "crop": {"crop": 0.5},
    "rotate": {"rotate": 30.0},
    "all": {"flip": "both", "crop": 0.6, "rotate": 20.0},
}


def same_place(boxes, image, size=SIZE):
    """How many boxes there are; each must be where its colour is."""
    scale = np.array([size[1], size[0]] * 2)
    seen = 0
    for colour, number in ((RED, 0), (BLUE, -3)):
        rows = boxes[boxes[:, 4] == number]
        assert len(rows) <= 1
        if len(rows):
            assert np.abs(around(coloured(image, colour)) - rows[0, :4] * scale).max() <= 2
            seen += 1
        else:
            # It was cut off: little of it is left.
            assert coloured(image, colour).sum() < 0.5 * size[0] * size[1]
    return seen


@pytest.mark.parametrize("move", MOVES)
def test_a_box_is_where_its_colour_is(move):
    f = spatial.spatial_augmenter(options(**MOVES[move]), SIZE, "boxes")
    seen, views = 0, set()
    for n in range(12):
        image, rows, _ = scene(n)
        out, boxes = f(image, rows, (5, n))
        assert out.shape == (*SIZE, 3) and out.dtype == "float32" and boxes.shape == (4, 5) and boxes.dtype == "float32"
        boxes = boxes.numpy()
        seen += same_place(boxes, out)
        views.add(boxes.tobytes())
        assert (boxes[boxes[:, 4] == -1] == -1).all() and (boxes[boxes[:, 4] != -1, :4] >= 0).all()
        assert boxes[:, :4].max() <= 1
    assert seen >= 12 and len(views) > 6


@pytest.mark.parametrize("move", MOVES)
def test_a_mask_is_where_the_colours_are(move):
    f = spatial.spatial_augmenter(options(**MOVES[move]), SIZE, "masks")
    for n in range(8):
        image, _, mask = scene(n)
        out, moved = f(image, mask, (5, n))
        out, moved = out.numpy(), moved.numpy()
        assert moved.shape == SIZE and moved.dtype == np.uint8 and set(np.unique(moved)) <= {0, 1, 2, 255}
        for number, colour in ((1, RED), (2, BLUE)):
            # Between two colours a pixel is a mixture, so one pixel at the border may go either way.
            wrong = coloured(out, colour, 90) ^ (moved == number)
            assert wrong.sum() <= 0.5 * _border(moved == number)
        grey = coloured(out, (spatial.FILL,) * 3, 1)
        assert (moved[grey] == 255).mean() > 0.98 if grey.sum() > 20 else True
        assert ((moved == 255) & ~grey).sum() <= _border(moved == 255)


def _border(where):
    padded = np.pad(where, 1)
    return sum((where & ~np.roll(padded, s, a)[1:-1, 1:-1]).sum() for a in (0, 1) for s in (-1, 1)) + 4


def test_a_flip_is_exact_to_the_pixel_and_nothing_is_nothing():
    image, rows, mask = scene(3)
    seen = set()
    for n in range(12):
        out, moved = spatial.spatial_augmenter(options(flip="both"), SIZE, "masks")(image, mask, (0, n))
        _, boxes = spatial.spatial_augmenter(options(flip="both"), SIZE, "boxes")(image, rows, (0, n))
        steps = [
            (y, x)
            for y in (1, -1)
            for x in (1, -1)
            if (np.asarray(out) == image[::y, ::x]).all() and (np.asarray(moved) == mask[::y, ::x]).all()
        ]
        assert len(steps) == 1
        y, x = steps[0]
        want = rows[:2, :4].copy()
        want[:, 0::2] = want[:, 0::2] if x == 1 else 1 - want[:, 2::-2]
        want[:, 1::2] = want[:, 1::2] if y == 1 else 1 - want[:, 3::-2]
        np.testing.assert_allclose(boxes[:2, :4], want, atol=1e-6)
        seen.add(steps[0])
    assert len(seen) == 4
    out, boxes = spatial.spatial_augmenter(options(), SIZE, "boxes")(image, rows, (0, 0))
    assert (np.asarray(out) == image).all() and np.allclose(boxes, rows, atol=1e-6)


def test_a_box_that_is_mostly_cut_off_is_dropped_and_one_that_is_not_is_clipped():
    import tensorflow as tf

    boxes = np.array(
        [[0, 0, 0.41, 0.5, 7], [-1, -1, -1, -1, -1], [0.6, 0.2, 1.0, 0.5, -2], [0.0, 0, 0.305, 0.1, 1]], "f"
    )
    # The picture moves to the left by 0.3.
    moved = spatial.move_boxes(boxes, spatial.axes_matrix(tf.ones(2), tf.constant([0.3, 0.0])), (100, 100)).numpy()
    np.testing.assert_allclose(moved[0], [0, 0, 0.11, 0.5, 7], atol=1e-6)
    np.testing.assert_allclose(moved[2], [0.3, 0.2, 0.7, 0.5, -2], atol=1e-6)
    assert (moved[[1, 3]] == -1).all()
    moved = spatial.move_boxes(boxes, spatial.axes_matrix(tf.ones(2), tf.constant([0.32, 0.0])), (100, 100)).numpy()
    assert (moved[0] == -1).all()


def test_any_size_comes_in_and_a_larger_picture_gives_the_same_boxes():
    f = spatial.spatial_augmenter(options(crop=0.7, flip="horizontal"), (64, 64), "boxes")
    image, rows, _ = scene(1, (192, 192))
    out, boxes = f(image, rows, (1, 1))
    small, same = f(image[::2, ::2], rows, (1, 1))
    np.testing.assert_array_equal(boxes, same)
    assert out.shape == small.shape == (64, 64, 3)
    same_place(boxes.numpy(), out, (64, 64))


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_a_view_is_the_same_eager_and_in_a_pipeline_and_another_key_is_another(kind):
    import tensorflow as tf

    given = {**MOVES["all"], "brightness": 0.2, "contrast": 0.2, "erase": 0.5}
    f = spatial.spatial_augmenter(options(**given), SIZE, kind)
    image, rows, mask = scene(2)
    target = rows if kind == "boxes" else mask
    data = tf.data.Dataset.range(6).map(lambda n: f(image, target, tf.stack([n * 0 + 3, n])), num_parallel_calls=2)
    piped = list(data.as_numpy_iterator())
    for n, (a, b) in enumerate(piped):
        x, y = f(image, target, tf.constant([3, n], tf.int64))
        np.testing.assert_allclose(a, x, atol=1e-3)
        np.testing.assert_allclose(b, y, atol=1e-6)
    assert len({a.tobytes() for a, _ in piped}) == len({b.tobytes() for _, b in piped}) == 6


def test_colours_and_erasing_leave_boxes_and_masks_alone():
    image, rows, mask = scene(4)
    given = options(brightness=0.3, contrast=0.3, erase=0.9)
    out, boxes = spatial.spatial_augmenter(given, SIZE, "boxes")(image, rows, (1, 2))
    again, moved = spatial.spatial_augmenter(given, SIZE, "masks")(image, mask, (1, 2))
    np.testing.assert_allclose(boxes, rows, atol=1e-6)
    assert (np.asarray(moved) == mask).all() and (np.asarray(out) == np.asarray(again)).all()
    assert np.abs(np.asarray(out) - image).mean() > 1


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_what_would_leave_the_annotation_behind_is_refused_by_name(kind):
    with pytest.raises(ConfigError) as caught:
        spatial.spatial_augmenter(options(rand_augment=2, cutmix=1.0), SIZE, kind)
    assert len(caught.value.mistakes) == 2 and f"augment.rand_augment does not keep {kind}" in str(caught.value)


# --- Mosaic


def batch(n=4):
    scenes = [scene(k) for k in range(n)]
    return [np.stack(x) for x in zip(*scenes, strict=True)]


def test_a_mosaic_shows_boxes_where_its_colours_are():
    images, rows, _ = batch()
    f = spatial.mosaic_augmenter(options(mosaic=1.0), "boxes")
    scale = np.array([SIZE[1], SIZE[0]] * 2)
    total = 0
    for n in range(4):
        out, boxes = (x.numpy() for x in f(images, rows, (3, n)))
        assert out.shape == images.shape and boxes.shape == (4, 16, 5)
        for picture, marks in zip(out, boxes, strict=True):
            there = marks[:, 4] != -1
            assert (np.diff(there.astype(int)) <= 0).all() and (marks[~there] == -1).all()
            total += there.sum()
            for *box, number in marks[there]:
                x0, y0, x1, y1 = np.round(np.array(box) * scale).astype(int)
                inside = coloured(picture, RED if number == 0 else BLUE, 100)[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
                assert inside.all()
            assert not coloured(picture, (spatial.FILL,) * 3, 5).any()
            for colour, number in ((RED, 0), (BLUE, -3)):
                covered = np.zeros(SIZE, bool)
                for *box, _ in marks[marks[:, 4] == number]:
                    x0, y0, x1, y1 = np.round(np.array(box) * scale).astype(int)
                    covered[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = True
                # What is not in a box is the rest of one that was cut off.
                assert (coloured(picture, colour, 60) & ~covered).mean() < 0.03
    assert total > 16 * 4


def test_the_masks_of_a_mosaic_are_where_its_colours_are():
    images, _, masks = batch()
    out, moved = (x.numpy() for x in spatial.mosaic_augmenter(options(mosaic=1.0), "masks")(images, masks, (3, 0)))
    assert moved.shape == masks.shape and moved.dtype == np.uint8 and not (moved == 255).any()
    for picture, mask in zip(out, moved, strict=True):
        for number, colour in ((1, RED), (2, BLUE)):
            assert (coloured(picture, colour, 90) ^ (mask == number)).sum() <= 0.5 * _border(mask == number)


def test_pictures_that_a_mosaic_passes_over_stay_as_they_are():
    images, rows, masks = batch(8)
    out, boxes = (x.numpy() for x in spatial.mosaic_augmenter(options(mosaic=0.5), "boxes")(images, rows, (1, 1)))
    same = (out == images).all((1, 2, 3))
    assert 0 < same.sum() < 8
    for n in np.flatnonzero(same):
        np.testing.assert_allclose(boxes[n, :2], rows[n, :2], atol=1e-6)
        assert (boxes[n, 2:] == -1).all()
    _, moved = spatial.mosaic_augmenter(options(mosaic=0.5), "masks")(images, masks, (1, 1))
    assert ((moved.numpy() == masks).all((1, 2)) >= same).all()
    assert spatial.mosaic_augmenter(options(), "boxes") is None


def test_a_mosaic_is_the_same_in_a_pipeline_and_keeps_at_most_two_hundred_boxes():
    import tensorflow as tf

    images, rows, _ = batch()
    many = np.tile(rows[:, :2], (1, 40, 1))
    f = spatial.mosaic_augmenter(options(mosaic=1.0), "boxes")
    data = tf.data.Dataset.from_tensors((images, many)).map(lambda x, y: f(x, y, tf.constant([7, 7], tf.int64)))
    (a, b), (x, y) = next(data.as_numpy_iterator()), f(images, many, (7, 7))
    np.testing.assert_allclose(a, x, atol=1e-3)
    np.testing.assert_allclose(b, y, atol=1e-6)
    assert b.shape == (4, 200, 5)
