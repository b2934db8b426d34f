"""Things cut out of one picture and put down on another take their labels along and cover what was there.

pytest tests/test_paste.py
"""

import json

import numpy as np
import pytest
from PIL import Image
from test_spatial_augment import BLUE, RED, SIZE, _border, coloured, options, scene

from tlkeras import configure, data, network, tasks
from tlkeras.data import masks, paste, pictures, rle
from tlkeras.errors import ConfigError, DataError
from tlkeras.progress import Progress


def batch(n=6):
    """(images, boxes with no crowd, masks, owner maps) of pictures that each hold a red and a blue rectangle."""
    images, rows, numbers = (np.stack(x) for x in zip(*[scene(k) for k in range(n)], strict=True))
    rows[rows[..., 4] == -3, 4] = 1
    return images, rows, numbers, numbers.copy()


def test_a_mask_says_where_the_colours_are_after_pasting():
    images, _, numbers, _ = batch()
    f = paste.paste_augmenter(options(paste=1.0), "masks")
    for seed in range(3):
        out, moved = (x.numpy() for x in f(images, numbers, (seed, 0)))
        assert out.shape == images.shape and out.dtype == "float32" and moved.dtype == np.uint8
        for picture, mask, before in zip(out, moved, numbers, strict=True):
            assert (mask != before).any() and set(np.unique(mask)) <= {0, 1, 2}
            for number, colour in ((1, RED), (2, BLUE)):
                assert (coloured(picture, colour, 90) ^ (mask == number)).sum() <= 0.7 * _border(mask == number)


def test_ground_and_void_are_never_cut_out_and_void_is_covered():
    images, _, numbers, _ = batch(2)
    numbers[1] = np.where(numbers[1] == 0, 255, 0)  # no thing at all
    f = paste.paste_augmenter(options(paste=1.0), "masks")
    out, moved = (x.numpy() for x in f(images, numbers, (0, 0)))
    assert (out[0] == images[0]).all() and (moved[0] == numbers[0]).all()
    things = set(np.unique(moved[1])) - {0, 255}
    assert things and things <= {1, 2}


def test_a_thing_lies_whole_in_the_picture_within_a_factor_of_two():
    ground = np.zeros((1, *SIZE), np.uint8)
    thing = ground.copy()
    thing[0, 20:60, 30:70] = 1
    images = np.zeros((2, *SIZE, 3), np.uint8)
    f = paste.paste_augmenter(options(paste=1.0), "masks")
    sizes, places = [], []
    for seed in range(30):
        moved = f(images, np.concatenate([ground, thing]), (seed, 1))[1][0].numpy()
        sizes.append((moved == 1).sum() / 1600)
        places.append(np.argwhere(moved == 1).mean(0))
    assert 0.2 < min(sizes) < 0.5 and 1.8 < max(sizes) < 4.3
    assert np.std(places, 0).min() > 5


def test_boxes_are_around_what_is_seen_of_their_things():
    images, rows, _, owners = batch()
    f = paste.paste_augmenter(options(paste=1.0, flip="horizontal"), "boxes")
    scale, covered = np.array([SIZE[1], SIZE[0]] * 2), 0
    for seed in range(4):
        out, boxes = (x.numpy() for x in f(images, (rows, owners), (seed, 0)))
        assert boxes.shape == (6, 8, 5)
        for picture, found in zip(out, boxes, strict=True):
            there = found[found[:, 4] >= 0]
            assert (found[:, :4] <= 1).all() and len(there) >= 1
            covered += (found[:2, 4] == -1).sum()
            for c, colour in ((0, RED), (1, BLUE)):
                # Every pixel of a colour lies in a box of its class, but for what is left of a thing that is nearly covered.
                inside = np.zeros(SIZE, bool)
                for x0, y0, x1, y1 in np.round(there[there[:, 4] == c, :4] * scale).astype(int):
                    inside[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = True
                assert (coloured(picture, colour, 60) & ~inside).mean() < 0.03
    assert covered  # some things vanished under others


def test_a_half_covered_thing_keeps_a_smaller_box_and_one_without_a_shape_its_own():
    boxes = np.array([[0.2, 0.2, 0.6, 0.6, 0], [0.0, 0.0, 0.1, 0.1, 1], [0.7, 0.7, 0.9, 0.9, 2]], "f")
    owners, cut = np.zeros((100, 100), np.uint8), np.zeros((100, 100), bool)
    owners[20:60, 20:60], owners[70:90, 70:90] = 1, 3
    cut[:, :40] = True
    cut[70:88, 70:90] = True
    found = paste._seen(boxes, owners, cut).numpy()
    np.testing.assert_allclose(found[0], [0.4, 0.2, 0.6, 0.6, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], boxes[1])
    assert (found[2] == -1).all()


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_pasting_is_the_same_eager_and_in_a_pipeline_and_another_seed_is_another(kind):
    import tensorflow as tf

    images, rows, numbers, owners = batch(4)
    target = numbers if kind == "masks" else (rows, owners)
    f = paste.paste_augmenter(options(paste=0.7, flip="horizontal"), kind)
    stream = tf.data.Dataset.from_tensors((images, target)).repeat(3).enumerate()
    piped = list(stream.map(lambda n, xy: f(*xy, tf.stack([n * 0 + 9, n]))).as_numpy_iterator())
    for n, (a, b) in enumerate(piped):
        x, y = f(images, target, tf.constant([9, n], tf.int64))
        np.testing.assert_allclose(a, x, atol=1e-3)
        np.testing.assert_allclose(b, y, atol=1e-6)
    assert len({a.tobytes() for a, _ in piped}) == 3


def test_a_chance_of_none_is_none_and_others_stay_as_they_are():
    images, _, numbers, _ = batch(6)
    assert paste.paste_augmenter(options(), "masks") is None
    out, moved = (x.numpy() for x in paste.paste_augmenter(options(paste=0.5), "masks")(images, numbers, (1, 1)))
    same = (out == images).all((1, 2, 3))
    assert 0 < same.sum() < 6 and (moved == numbers).all((1, 2))[same].all()


# --- From files to batches


@pytest.fixture(scope="module")
def polygons(tmp_path_factory):
    """A folder of COCO with polygons: a red and a blue rectangle in each of ten pictures."""
    root = tmp_path_factory.mktemp("polygons")
    (root / "images").mkdir()
    pictures_, notes = [], []
    for n in range(10):
        image, rows, _ = scene(n)
        Image.fromarray(image).save(root / "images" / f"{n}.png")
        pictures_.append({"id": n, "file_name": f"{n}.png", "width": SIZE[1], "height": SIZE[0]})
        for c in (0, 1):
            x0, y0, x1, y1 = (rows[c, :4] * np.array([SIZE[1], SIZE[0]] * 2)).tolist()
            about = {"id": len(notes) + 1, "image_id": n, "category_id": c + 1, "iscrowd": 0}
            shape = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            notes.append({**about, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": 1, "segmentation": shape})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    (root / "a.json").write_text(json.dumps({"images": pictures_, "annotations": notes, "categories": categories}))
    return root


def written(path, root, augment, task="object-detection"):
    text = f"task: {task}\ndata: {{path: {root}, test: 0}}\nbackbone: {{name: efficientnet_lite0, size: 96, weights: null}}\n"
    path.write_text(f"{text}augment: {json.dumps(augment)}\n")
    return configure.load(path)[0]


def test_owner_maps_are_the_shapes_the_smaller_one_seen(tmp_path):
    large, small = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    large[2:18, 2:28], small[5:9, 5:9] = 1, 1
    packed = [rle.encode(small)["counts"], None, rle.encode(large)["counts"]]
    [path] = masks.outlines([{"size": [20, 30], "outlines": packed}], tmp_path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.where(small, 1, large * 3))


@pytest.mark.parametrize("more", [{}, {"mosaic": 1.0, "crop": 0.8, "flip": "both"}])
def test_boxes_of_polygons_are_pasted_from_config_to_batch(polygons, tmp_path, monkeypatch, more):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))
    cfg = written(tmp_path / "c.yaml", polygons, {"paste": 1.0, **more})
    task, chosen = tasks.get(cfg.task_name), tasks.options_of(cfg)
    held = data.collect(cfg.data, task, chosen, Progress(True), places="outlines")
    rows = held.rows("train")
    targets, weights, _ = task.learnt(held.targets, rows, held.answer, chosen)
    table = masks.outlined(held.table(rows, targets, weights), data.at(held.labels, rows))
    batches = list(pictures.training(table, network.contract(cfg), 4, 0, 0, 1, cfg.augment).take(2).as_numpy_iterator())
    hits = []
    for images, boxes, _ in batches:
        assert boxes.shape[1] == (16 if more else 4) and (boxes[..., 4] >= 0).sum() > 8
        for image, found in zip(images, boxes, strict=True):
            for x0, y0, x1, y1, c in found[found[:, 4] >= 0]:
                part = image[int(y0 * 96) : int(np.ceil(y1 * 96)), int(x0 * 96) : int(np.ceil(x1 * 96))]
                hits.append(coloured(part, (RED, BLUE)[int(c)], 90).mean() > 0.2)
    assert np.mean(hits) > 0.95
    again = data.collect(cfg.data, task, chosen, Progress(True), places="boxes")
    assert held.facts()["sha256"] == again.facts()["sha256"]


def test_boxes_without_shapes_and_labels_without_places_are_refused(polygons, tmp_path):
    found = json.loads((polygons / "a.json").read_text())
    for note in found["annotations"]:
        note["segmentation"] = []
    bare = polygons.parent / "bare"
    bare.mkdir()
    (bare / "a.json").write_text(json.dumps(found))
    (bare / "images").symlink_to(polygons / "images")
    cfg = written(tmp_path / "c.yaml", polygons, {"paste": 0.5})
    labels = [{"size": [4, 4], "outlines": [None]}]
    with pytest.raises(DataError, match=r"No box of the training split has one; take it out"):
        masks.outlined(None, labels)
    assert cfg.augment.paste == 0.5
    with pytest.raises(ConfigError, match=r"augment\.paste is for boxes and masks"):
        written(tmp_path / "d.yaml", polygons, {"paste": 0.5}, "image-classification")
