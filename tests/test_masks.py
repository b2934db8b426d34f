"""Masks: runs and polygons as pycocotools has them, index masks that are read and refused, and what is made of them.

pytest tests/test_masks.py
"""

import io
import json
import os
import zlib

import numpy as np
import pytest
from conftest import draw, write
from hostile_images import chunk, png
from PIL import Image

from tlkeras.config import Data
from tlkeras.data import box_sources, convert, mask_files, masks, rle
from tlkeras.errors import DataError

# --- Runs


def blob(seed, height=23, width=31):
    rng = np.random.default_rng(seed)
    return (rng.random((height, width)) < rng.random()).astype(np.uint8)


def star(seed, height, width):
    """A polygon of 3 to 11 points, part of it outside."""
    rng = np.random.default_rng(seed)
    points = rng.random((rng.integers(3, 12), 2)) * [1.4 * width, 1.4 * height] - [0.2 * width, 0.2 * height]
    points = np.round(points) if seed % 3 == 0 else points
    return (np.concatenate([points, points[:1]]) if seed % 5 == 0 else points).ravel().tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_survives_its_runs_as_text_and_as_a_list(seed):
    mask = blob(seed)
    made = rle.encode(mask)
    np.testing.assert_array_equal(rle.decode(made), mask)
    listed = {**made, "counts": rle.counts(made).tolist()}
    np.testing.assert_array_equal(rle.decode(json.loads(json.dumps(listed))), mask)
    assert rle.area(rle.counts(made)) == mask.sum()


@pytest.mark.parametrize("mask", [np.zeros((3, 4)), np.ones((3, 4)), np.eye(1), np.eye(7)[:, :1]])
def test_masks_at_the_limits_survive_too(mask):
    np.testing.assert_array_equal(rle.decode(rle.encode(mask)), mask)


def test_runs_polygons_and_unions_are_those_of_pycocotools():
    reference = pytest.importorskip("pycocotools.mask")
    for seed in range(300):
        height, width = (int(n) for n in np.random.default_rng(seed).integers(1, 80, 2))
        mask, points = blob(seed, height, width), star(seed, height, width)
        want = reference.frPyObjects([points], height, width)[0]
        runs = rle.polygon(points, height, width)
        assert rle.packed(runs) == want["counts"].decode()
        made, theirs = rle.encode(mask), reference.encode(np.asfortranarray(mask))
        assert made["counts"] == theirs["counts"].decode() and made["size"] == theirs["size"]
        np.testing.assert_array_equal(rle.decode({**want, "counts": want["counts"].decode()}), reference.decode(want))
        other = reference.frPyObjects([star(seed + 1000, height, width)], height, width)[0]
        united = rle.union(
            [runs, rle.counts(made), rle.counts({**other, "counts": other["counts"].decode()})], mask.size
        )
        np.testing.assert_array_equal(
            rle.decode({"size": [height, width], "counts": united.tolist()}),
            reference.decode(reference.merge([want, theirs, other])),
        )
        if mask.any():
            x, y, w, h = reference.toBbox(theirs)
            assert rle.bounds(made) == (x, y, x + w, y + h)


def test_known_polygons_cover_known_pixels():
    """Values that pycocotools 2.0.11 gives, kept here for where it is not installed."""
    assert rle.packed(rle.polygon([1, 1, 5, 1, 5, 4, 1, 4], 6, 7)) == "73300000;"
    assert rle.packed(rle.polygon([0.5, 0.2, 8.3, 3.1, 2.2, 7.7], 8, 9)) == "9354LO2N1O101N6"
    assert rle.bounds(rle.encode(np.zeros((2, 2)))) is None


@pytest.mark.parametrize(
    "made, words",
    [
        ({"size": [4, 4], "counts": [15]}, "add up to the 16 pixels"),
        ({"size": [4, 4], "counts": [17]}, "numbers from 0 to 16"),
        ({"size": [4, 4], "counts": [-1, 17]}, "numbers from 0 to 16"),
        ({"size": [4, 4], "counts": [1.5, 14.5]}, "numbers from 0 to 16"),
        ({"size": [4, 4], "counts": ["8", 8]}, "numbers from 0 to 16"),
        ({"size": [4, 4], "counts": None}, "a text or a list"),
        ({"size": [4, 4], "counts": ""}, "add up"),
        ({"size": [4, 4], "counts": []}, "add up"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "at most 50,000,000"),
        ({"size": [-4, -4], "counts": [16]}, "must be [height, width]"),
        ({"size": [4.0, 4], "counts": [16]}, "must be [height, width]"),
        ({"size": 16, "counts": [16]}, "must be [height, width]"),
        ({"counts": [16]}, "'size' and 'counts'"),
        ([16], "'size' and 'counts'"),
        ({"size": [4, 4], "counts": "oooooooooooooooo0"}, "larger than any picture"),
        ({"size": [4, 4], "counts": "oo"}, "break off"),
        ({"size": [4, 4], "counts": "é"}, "character"),
        ({"size": [4, 4], "counts": "@0"}, "add up"),
    ],
)
def test_runs_that_are_none_are_refused_before_anything_is_allocated(made, words):
    with pytest.raises(ValueError) as caught:
        rle.decode(made)
    assert words in str(caught.value)


# --- Index masks


def layout(root, **files):
    """images/{a,b}.png of 12 x 9 pixels, and masks of them; `files` exchanges the bytes of masks."""
    for n, name in enumerate("ab"):
        (root / "images").mkdir(parents=True, exist_ok=True)
        draw((90, 120, 40), n, 64).resize((12, 9)).save(root / "images" / f"{name}.png")
        if (contents := files.get(name, encoded(numbers(n)))) is not None:
            write(root / "masks" / f"{name}.png", contents)
    return root


def numbers(n=0):
    """A mask of 0, 1 + n and some void."""
    made = np.zeros((9, 12), np.uint8)
    made[2:5, 3:8], made[0, 0] = 1 + n, 255
    return made


def encoded(values, **options):
    file = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(file, "PNG", **options)
    return file.getvalue()


def palette(values):
    image = Image.fromarray(values, "P")
    image.putpalette([n for i in range(256) for n in (i * 7 % 256, 255 - i, 3)])
    return image


def few_bits(values, depth):
    """A grey PNG of 1, 2 or 4 bits a pixel."""
    bits = np.unpackbits(values[..., None], -1)[..., -depth:].reshape(len(values), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    return png(values.shape[1], values.shape[0], depth, 0, rows)


def read(path, **section):
    return box_sources.read(Data(path=str(path), **section), "masks")


def refused(path, *words, **section):
    with pytest.raises(DataError) as caught:
        read(path, **section)
    for word in words:
        assert word in str(caught.value)


def test_masks_are_found_by_the_names_of_their_pictures_and_name_their_classes(tmp_path):
    found = read(layout(tmp_path))
    assert found.classes == ["ground", "class_1", "class_2"] and found.splits == [None, None]
    assert found.labels[1] == {"size": [9, 12], "mask": str(tmp_path / "masks/b.png"), "names": ["ground", "class_2"]}
    write(tmp_path / "classes.txt", "road\ncar\n\nsky\n")
    assert read(tmp_path).classes == ["road", "car", "sky"] and read(tmp_path).labels[1]["names"] == ["road", "sky"]
    assert read(tmp_path, classes=["a", "b", "c", "d"]).classes == ["a", "b", "c", "d"]
    refused(tmp_path, "its mask masks/b.png holds 2", "numbered 0 to 1", "data.ignore", classes=["road", "car"])
    np.testing.assert_array_equal(masks.index(found.labels[1], found.classes), numbers(1))


@pytest.mark.parametrize("places", ["images/{}|masks/{}", "{}/images|{}/masks", "{}|{}annot"])
def test_folders_of_splits_give_splits(places, tmp_path):
    images, annotations = places.split("|")
    for n, split in enumerate(("train", "val")):
        for place, made in ((images, draw((1, 2, 3), n).resize((12, 9))), (annotations, Image.fromarray(numbers()))):
            folder = tmp_path / place.format(split)
            folder.mkdir(parents=True)
            made.save(folder / f"{n}.png")
    assert read(tmp_path).splits == ["train", "val"]


def test_a_table_names_pictures_and_masks(tmp_path):
    layout(tmp_path)
    path = write(tmp_path / "t.csv", "image,mask,part\nimages/a.png,masks/b.png,train\nimages/b.png,masks/a.png,val\n")
    found = read(path, split="part")
    assert found.splits == ["train", "val"] and found.labels[0]["names"] == ["ground", "class_2"]
    refused(write(tmp_path / "t.csv", "image,mask\nimages/a.png,/etc/hostname\n"), "line 2", "no file in the folder")
    refused(write(tmp_path / "t.csv", "image,label\nimages/a.png,masks/a.png\n"), "no column 'mask'")
    assert len(read(tmp_path / "t.csv", label="label")) == 1


SMALL = np.where(numbers() == 255, 0, numbers())


@pytest.mark.parametrize(
    "contents, want, plain",
    [
        (encoded(numbers()), numbers(), True),
        (encoded(palette(numbers())), numbers(), False),
        (encoded(palette(SMALL), bits=2), SMALL, False),
        (few_bits(SMALL, 1), SMALL, False),
        (few_bits(3 * SMALL, 2), 3 * SMALL, False),
        (few_bits(9 * SMALL, 4), 9 * SMALL, False),
    ],
    ids=["grey", "palette", "palette of 2 bits", "1 bit", "2 bits", "4 bits"],
)
def test_grey_and_palette_masks_are_numbers_and_become_files_that_tensorflow_reads(contents, want, plain, tmp_path):
    import tensorflow as tf

    found = read(layout(tmp_path, a=contents, b=contents))
    np.testing.assert_array_equal(masks.index(found.labels[0], found.classes), want)
    paths = masks.materialise(found.labels, found.classes, tmp_path / "made")
    assert (paths[0] == found.labels[0]["mask"]) == plain
    np.testing.assert_array_equal(tf.io.decode_png(tf.io.read_file(paths[0]), channels=1)[..., 0], want)
    before = os.stat(paths[1]).st_mtime_ns
    assert masks.materialise(found.labels, found.classes, tmp_path / "made") == paths
    assert os.stat(paths[1]).st_mtime_ns == before


def test_another_value_can_be_void(tmp_path):
    import tensorflow as tf

    values = np.where(numbers() == 255, 1, 0).astype(np.uint8)
    values[3:, 3:] = 2
    found = read(layout(tmp_path, a=encoded(values), b=encoded(values)), ignore=0, classes=["ground", "x", "y"])
    assert found.labels[0]["ignore"] == 0 and found.labels[0]["names"] == ["x", "y"]
    (path, _) = masks.materialise(found.labels, found.classes, tmp_path / "made")
    made = tf.io.decode_png(tf.io.read_file(path), channels=1)[..., 0].numpy()
    assert ((made == 255) == (values == 0)).all() and (made[values > 0] == values[values > 0]).all()


COLOURED = Image.fromarray(np.dstack([numbers()] * 3))


@pytest.mark.parametrize(
    "contents, words",
    [
        (None, "there is no mask a.png in masks"),
        (b"", "this is empty"),
        (b"hello" * 20, "this is no PNG"),
        (encoded(numbers()[:, :-1]), "has 11 x 9 pixels, the picture 12 x 9"),
        (encoded(COLOURED), "it has colours (RGB or transparency)"),
        (encoded(COLOURED.convert("LA")), "it has colours"),
        (encoded(Image.fromarray(numbers().astype(np.uint16))), "it has 16 bits a pixel"),
        (encoded(np.full((9, 12), 255, np.uint8)), "is void: every pixel has the value 255"),
        (encoded(np.random.default_rng(0).integers(0, 3, (9, 12)).astype(np.uint8))[:-30], "damaged"),
        (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\1\0\0\0\1\0\0\x08\0\0\0\0") + chunk(b"IDAT", zlib.compress(b"")),
            "pixels",
        ),
    ],
    ids=["missing", "empty", "text", "size", "RGB", "alpha", "16 bits", "void", "truncated", "bomb"],
)
def test_a_bad_mask_is_named_and_can_be_left_out(contents, words, tmp_path):
    root = layout(tmp_path, a=contents)
    refused(root, "1 picture cannot be used", "images/a.png", words)
    found = read(root, on_bad="skip")
    assert found.ids == ["images/b.png"] and words in found.bad["images/a.png"]


def test_a_jpeg_is_no_mask_and_masks_without_pictures_are_counted(tmp_path):
    layout(tmp_path, a=None)
    Image.fromarray(numbers()).save(tmp_path / "masks" / "a.jpg")
    refused(tmp_path, "this is a JPEG, which blurs the numbers")
    layout(tmp_path)
    (tmp_path / "masks" / "a.jpg").unlink()
    write(tmp_path / "masks" / "z.png", encoded(numbers()))
    assert read(tmp_path).ignored == {"masks without a picture": 1}


# --- COCO


def coco(root, segmentations, size=(9, 12)):
    layout(root)
    marks = [
        {"id": n, "image_id": 1, "category_id": 1 + n % 2, "segmentation": s, "iscrowd": 0}
        for n, s in enumerate(segmentations)
    ]
    images = [{"id": 1, "file_name": "images/a.png", "height": size[0], "width": size[1]}]
    made = {"images": images, "annotations": marks, "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
    return write(root / "instances.json", json.dumps(made))


WHOLE = [[0, 0, 12, 0, 12, 9, 0, 9]]
PART = [[2, 2, 6, 2, 6, 5, 2, 5]]


def test_shapes_become_an_index_mask_on_which_the_smaller_one_is_seen(tmp_path):
    import tensorflow as tf

    corner = np.zeros((9, 12), np.uint8)
    corner[7:, 10:] = 1
    found = read(coco(tmp_path, [PART, WHOLE, rle.encode(corner)]))
    assert found.classes == ["ground", "cat", "dog"] and found.labels[0]["names"] == ["cat", "dog", "cat"]
    assert json.loads(json.dumps(found.labels)) == found.labels
    want = np.full((9, 12), 2)
    want[2:5, 2:6] = want[7:, 10:] = 1
    np.testing.assert_array_equal(masks.index(found.labels[0], found.classes), want)
    (path,) = masks.materialise(found.labels, found.classes, tmp_path / "made")
    np.testing.assert_array_equal(tf.io.decode_png(tf.io.read_file(path), channels=1)[..., 0], want)


@pytest.mark.parametrize(
    "shape, words",
    [
        ([[1, 1, 5, 5]], "three points or more, two numbers each; this has 4 numbers"),
        ([[1, 1, 5, 5, 3, 2, 1]], "this has 7 numbers"),
        ([[1, 1, 5, "5", 3, 2]], "no number"),
        ([[1, 1, 5, float("nan"), 3, 2]], "no number"),
        ([[1, 1, 5, 10**6, 3, 2]], "absurd|100,000 pixels outside"),
        ([1, 1, 5, 5, 3, 2], "a polygon is a list"),
        ([[50, 50, 60, 50, 60, 60]], "covers no pixel"),
        ([], "it has no segmentation"),
        (None, "it has no segmentation"),
        ("x", "it has no segmentation"),
        ({"size": [12, 9], "counts": [108]}, "has the size [12, 9], the picture [9, 12]"),
        ({"size": [9, 12], "counts": [10**9]}, "numbers from 0 to 108"),
        ({"size": [9, 12]}, "'size' and 'counts'"),
    ],
)
def test_a_bad_shape_is_named_and_left_out_alone(shape, words, tmp_path):
    path = coco(tmp_path, [shape, PART])
    refused(path, "instances.json: annotation 0: ", words.split("|")[-1])
    found = read(path, on_bad="skip")
    assert found.labels[0]["names"] == ["dog"] and list(found.bad) == ["instances.json: annotation 0"]


def test_boxes_alone_make_no_masks(tmp_path):
    refused(coco(tmp_path, [None]), "masks need annotations with a 'segmentation'")
    # A folder with masks in it is read as such, whatever lies beside it.
    assert "mask" in read(tmp_path).labels[0]


def test_nothing_to_read_is_said_with_what_was_looked_for(tmp_path):
    (tmp_path / "images").mkdir()
    refused(tmp_path, "looked for folders images/ and masks/", "found images/")


def test_masks_go_to_coco_and_back_without_the_void(tmp_path):
    root = layout(tmp_path / "data")
    write(root / "classes.txt", "ground\ncat\ndog\n")
    assert convert.convert(root, "coco", tmp_path / "coco")["kind"] == "masks"
    again = read(tmp_path / "coco")
    assert again.classes == ["ground", "cat", "dog"]
    assert convert.convert(tmp_path / "coco", "masks", tmp_path / "back")["samples"] == 2
    for n, name in enumerate("ab"):
        want = np.where(numbers(n) == 255, 0, numbers(n))
        np.testing.assert_array_equal(mask_files.load(tmp_path / "back/masks" / f"{name}.png"), want)
    assert read(tmp_path / "back").classes == ["ground", "cat", "dog"]
