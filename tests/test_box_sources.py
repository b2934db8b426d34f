"""Where boxes come from: what is read, what is refused and where it stands, and formats that carry it over.

pytest tests/test_box_sources.py
"""

import copy
import json
import os
import shutil

import numpy as np
import pytest
from conftest import draw, write
from PIL import Image

from tlkeras.config import Data
from tlkeras.data import box_sources, convert
from tlkeras.errors import DataError, UsageError

SIDES = {"a.png": (40, 30), "b.png": (60, 50), "c.png": (20, 20)}
BOXES = {
    "a.png": [("cat", (2.0, 3.0, 12.0, 23.0)), ("dog", (10.0, 5.0, 40.0, 30.0))],
    "b.png": [("cat", (0.5, 0.25, 60.0, 10.75))],
    "c.png": [],
}


def pictures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for n, (name, size) in enumerate(SIDES.items()):
        draw((90, 120, 40), n, 64).resize(size).save(folder / name)
    return folder


def document():
    """COCO's JSON of the three pictures."""
    numbers = {"cat": 7, "dog": 3}
    images = [
        {"id": n, "file_name": name, "width": w, "height": h} for n, (name, (w, h)) in enumerate(SIDES.items(), 1)
    ]
    marks = [
        {"image_id": i["id"], "category_id": numbers[label], "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for i in images
        for label, (x0, y0, x1, y1) in BOXES[i["file_name"]]
    ]
    return {
        "images": images,
        "annotations": [{"id": 10 + n, **m} for n, m in enumerate(marks)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


@pytest.fixture
def coco(tmp_path):
    """Returns `f(change) -> path` of COCO's JSON that `change(document)` was applied to, beside its pictures."""
    pictures(tmp_path / "images")

    def make(change=lambda made: None, name="instances.json"):
        made = document()
        made = change(made) or made
        return write(tmp_path / name, made if isinstance(made, str | bytes) else json.dumps(made))

    return make


def read(path, **section):
    return box_sources.read(Data(path=str(path), **section), "boxes")


def refused(path, *words, **section):
    with pytest.raises(DataError) as caught:
        read(path, **section)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def boxes_of(samples):
    return {
        os.path.basename(i): sorted((n, tuple(b)) for n, b in zip(x["names"], x["boxes"], strict=True))
        for i, x in zip(samples.ids, samples.labels, strict=True)
    }


def is_whole(samples, classes=("cat", "dog")):
    assert boxes_of(samples) == {name: sorted(marks) for name, marks in BOXES.items()}
    assert sorted(samples.classes) == sorted(classes) and not samples.bad
    for i, label in zip(samples.ids, samples.labels, strict=True):
        assert label["size"] == list(SIDES[os.path.basename(i)][::-1])
        assert json.loads(json.dumps(label)) == label
    return samples


# --- COCO


def test_coco_gives_boxes_in_pixels_and_classes_by_the_number_of_their_category(coco):
    found = is_whole(read(coco()))
    assert found.classes == ["dog", "cat"] and found.ids == ["images/a.png", "images/b.png", "images/c.png"]
    assert found.splits == [None] * 3 and found.labels[0]["areas"] == [200.0, 750.0]
    assert found.notes == ["pictures without an annotation: 1 (instances.json: image 3)"]
    assert all(os.path.isfile(p) for p in found.inputs)
    is_whole(read(coco().parent))
    assert read(coco(), classes=["cat", "dog"]).classes == ["cat", "dog"]
    refused(coco(), "no category 'cow'", "dog, cat", classes=["cow"])


def test_areas_and_crowds_are_those_that_coco_states(coco):
    def change(made):
        made["annotations"][0] |= {"area": 17.5, "iscrowd": 1}

    label = read(coco(change)).labels[0]
    assert label["areas"] == [17.5, 750.0] and label["crowd"] == [1, 0]


@pytest.mark.parametrize(
    "files, images",
    [
        (("instances_train.json", "instances_val.json"), ("images", "images")),
        (("train.json", "valid.json"), ("images", "images")),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ("train", "valid")),
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), ("train2017", "val2017")),
    ],
)
def test_files_named_after_splits_give_splits(files, images, tmp_path):
    parts = document(), document()
    for part, keep in zip(parts, ((1, 2), (3,)), strict=True):
        part["images"] = [i for i in part["images"] if i["id"] in keep]
        part["annotations"] = [a for a in part["annotations"] if a["image_id"] in keep]
    for part, file, folder in zip(parts, files, images, strict=True):
        write(tmp_path / file, json.dumps(part))
        pictures(tmp_path / folder)
    if files[0].startswith("annotations/"):
        # COCO's own folder holds more than instances.
        write(tmp_path / "annotations/captions_train2017.json", "{}")
    found = is_whole(read(tmp_path))
    assert found.splits == ["train", "train", "val"]
    assert [i.split("/")[0] for i in found.ids] == [images[0], images[0], images[1]]


def test_the_folder_of_the_pictures_is_found_or_named(coco, tmp_path):
    path = coco()
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    said = refused(path, "must lie in one of these folders", "'a.png'", "data.images")
    assert str(tmp_path / "images") in said
    is_whole(read(path, images=str(tmp_path / "elsewhere")))
    refused(path, "there is no such folder", images=str(tmp_path / "nowhere"))
    moved = tmp_path / "set" / "annotations"
    moved.mkdir(parents=True)
    shutil.move(path, moved)
    shutil.move(tmp_path / "elsewhere", tmp_path / "set" / "images")
    assert is_whole(read(moved / path.name)).root == tmp_path / "set" / "images"
    assert is_whole(read(tmp_path / "set")).ids[0] == "images/a.png"


def set_(*path_and_value):
    *path, last, value = path_and_value

    def change(made):
        for key in path:
            made = made[key]
        made[last] = value

    return change


def repeat(key, n, **changes):
    return lambda made: made[key].append({**copy.deepcopy(made[key][n]), **changes})


NAN, INF = float("nan"), float("inf")
# What is wrong, what is said, and how many pictures and boxes are left with on_bad: skip.
HOSTILE = {
    "missing image": (set_("images", 0, "file_name", "x.png"), ["images/x.png: no such file", "image 1"], 2, 1),
    "image id twice": (repeat("images", 0, file_name="d.png"), ["the id 1 belongs to several images"], 2, 1),
    "file twice": (repeat("images", 0, id=9), ["listed more than once", "image 1, instances.json: image 9"], 2, 1),
    "up and away": (set_("images", 0, "file_name", "../x.png"), ["images[0]", "leaves the folder"], 2, 1),
    "absolute": (set_("images", 0, "file_name", "/etc/hostname"), ["leaves the folder"], 2, 1),
    "half a character": (set_("images", 0, "file_name", "\ud800.png"), ["leaves the folder"], 2, 1),
    "no file name": (set_("images", 0, "file_name", 3), ["must have a file_name", "3"], 2, 1),
    "image is a list": (set_("images", 0, [1]), ["images[0]: must be an object; it is a list"], 2, 1),
    "image id is a list": (set_("images", 0, "id", [1]), ["images[0]: must have an id"], 2, 1),
    "another size": (set_("images", 0, "width", 41), ["says 41 x 30 pixels, the file has 40 x 30"], 2, 1),
    "size is text": (set_("images", 0, "width", "40"), ["must be whole numbers"], 2, 1),
    "annotation id twice": (set_("annotations", 1, "id", 10), ["annotations[0]: its id 10 stands there twice"], 2, 1),
    "unknown image": (set_("annotations", 0, "image_id", 99), ["annotation 10: there is no usable image", "99"], 3, 2),
    "image number as text": (set_("annotations", 0, "image_id", "1"), ["no usable image with the id '1'"], 3, 2),
    "unknown category": (set_("annotations", 0, "category_id", 99), ["no category with the id 99"], 3, 2),
    "category is a list": (set_("annotations", 0, "category_id", []), ["no category with the id []"], 3, 2),
    "annotation is text": (set_("annotations", 0, "x"), ["annotations[0]: must be an object; it is a text"], 3, 2),
    "annotation id is a list": (set_("annotations", 0, "id", []), ["is no number"], 3, 2),
    "no box": (lambda made: made["annotations"][0].pop("bbox") and None, ["annotation 10: bbox must be a list"], 3, 2),
    "three numbers": (set_("annotations", 0, "bbox", [1, 2, 3]), ["bbox must be a list [x, y, width, height]"], 3, 2),
    "a number as text": (set_("annotations", 0, "bbox", [1, 2, "3", 4]), ["bbox must hold four numbers"], 3, 2),
    "a truth value": (set_("annotations", 0, "bbox", [1, 2, True, 4]), ["bbox must hold four numbers"], 3, 2),
    "NaN": (set_("annotations", 0, "bbox", [1, NAN, 3, 4]), ["bbox must hold four numbers"], 3, 2),
    "infinite": (set_("annotations", 0, "bbox", [1, INF, 3, 4]), ["bbox must hold four numbers"], 3, 2),
    "huge": (set_("annotations", 0, "bbox", [1, 10**400, 3, 4]), ["bbox must hold four numbers"], 3, 2),
    "no width": (set_("annotations", 0, "bbox", [1, 1, 0, 4]), ["an empty box, 0 wide and 4 high"], 3, 2),
    "negative width": (set_("annotations", 0, "bbox", [9, 1, -3, 4]), ["an empty box, -3 wide"], 3, 2),
    "outside": (set_("annotations", 0, "bbox", [40, 1, 3, 4]), ["lies outside the picture of 40 x 30"], 3, 2),
    "parts of the sides": (set_("annotations", 0, "bbox", [0.1, 0.1, 0.3, 0.4]), ["pixels are expected"], 3, 2),
    "iscrowd": (set_("annotations", 0, "iscrowd", 2), ["iscrowd must be 0 or 1"], 3, 2),
    "area": (set_("annotations", 0, "area", "big"), ["area must be a number"], 3, 2),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_wrong_in_coco_is_listed_with_its_place_and_can_be_left_out(what, coco):
    change, words, images, boxes = HOSTILE[what]
    path = coco(change)
    refused(path, *words, "cannot be used", "data.on_bad: skip")
    found = read(path, on_bad="skip")
    assert (len(found), sum(len(x["boxes"]) for x in found.labels)) == (images, boxes)
    said = "\n".join(f"{where}: {why}" for where, why in found.bad.items())
    assert all(word in said for word in words)


def test_all_that_is_wrong_is_said_at_once_and_counted(coco):
    def change(made):
        made["images"][0]["file_name"] = "x.png"
        made["annotations"][2]["bbox"] = [1, 1, 0, 0]

    refused(coco(change), "1 picture and 1 annotation cannot be used, of 3 pictures", "x.png", "annotation 12")


def test_a_picture_that_lost_all_its_annotations_does_not_count_as_empty(coco):
    for change in (set_("annotations", 2, "bbox", [1, 1, 0, 0]), set_("annotations", 2, "bbox", "x")):
        found = read(coco(change), on_bad="skip")
        assert found.ids == ["images/a.png", "images/c.png"]
        assert found.bad["images/b.png"] == "none of its annotations can be used"


def test_a_box_that_reaches_out_is_clipped_and_noted(coco):
    found = read(coco(set_("annotations", 0, "bbox", [-2, 3, 12, 100])))
    assert found.labels[0]["boxes"][0] == [0, 3, 10, 30] and not found.bad
    assert "boxes cut off where they left their picture: 1 (instances.json: annotation 10)" in found.notes


WHOLE = {
    "broken": (lambda made: '{"images": [\n\n1,,]}', ["instances.json:3: not JSON"]),
    "no JSON at all": (lambda made: "hello", ["instances.json:1: not JSON"]),
    "not UTF-8": (lambda made: b"\xff{}", ["UTF-8"]),
    "deep": (lambda made: "[" * 200_000, ["nested too deep"]),
    "digits": (lambda made: '{"images": ' + "1" * 10_000 + "}", ["cannot be read"]),
    "a list": (lambda made: [1], ["is an object with images, annotations, categories; received a list"]),
    "no categories": (lambda made: {k: made[k] for k in ("images", "annotations")}, ["received images, annotations"]),
    "annotations by id": (set_("annotations", {}), ["annotations must be a list; received an object"]),
    "no images": (set_("images", []), ["list of images is empty"]),
    "category twice": (repeat("categories", 0), ["categories[2]", "twice"]),
    "category without a name": (set_("categories", 0, "name", None), ["categories[0] must have a name"]),
    "category is a number": (set_("categories", 0, 5), ["categories[0] must be an object; it is a number"]),
    "no category": (set_("categories", []), ["list of categories is empty"]),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_file_that_is_no_coco_is_refused_even_where_bad_things_are_skipped(what, coco):
    change, words = WHOLE[what]
    refused(coco(change), *words, on_bad="skip")


def test_files_of_no_clear_split_are_listed(coco, tmp_path):
    coco(name="train_a.json"), coco(name="train_b.json")
    refused(tmp_path, "one for each split", "train_a.json", "train_b.json", "data.path")


def test_a_file_in_two_splits_is_refused(coco, tmp_path):
    coco(name="train.json"), coco(name="val.json")
    refused(tmp_path, "images/a.png: listed more than once: train.json: image 1, val.json: image 1")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_pictures_outside_the_folder_are_not_followed(coco, tmp_path):
    path = coco()
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    shutil.move(tmp_path / "images" / "a.png", outside)
    os.symlink(outside, tmp_path / "images" / "a.png")
    refused(path, "symbolic link")
    refused(path, "symbolic link out of the data folder", follow_symlinks=True)


def test_boxes_belong_to_the_upright_picture(coco, tmp_path):
    def lying(made):
        made["images"][0] |= {"file_name": "lying.jpg", "width": 30, "height": 40}
        made["annotations"][0]["bbox"] = [20, 30, 10, 10]
        del made["annotations"][1]

    image = Image.new("RGB", (40, 30), (9, 9, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "images" / "lying.jpg", exif=exif)
    assert read(coco(lying)).labels[0]["size"] == [40, 30]

    def as_stored(made):
        lying(made)
        made["images"][0] |= {"width": 40, "height": 30}

    refused(coco(as_stored), "says 40 x 30 pixels, the file has 30 x 40; it is turned by its EXIF orientation")


def test_a_picture_that_is_none_is_said_before_anything_is_decoded(coco, tmp_path):
    write(tmp_path / "images" / "a.png", "hello")
    write(tmp_path / "images" / "b.png", "")
    refused(coco(), "images/a.png: not an image, though named .png", "images/b.png: empty file")


STRANGE = [None, True, -1, 0, 1e308, NAN, 10**30, "", "x", "\ud800", "../x", [], [[]], {}, [1, 2, 3, 4], {"id": 1}]


def test_whatever_stands_in_the_json_it_is_read_or_refused(coco):
    rng = np.random.default_rng(0)

    def spoil(node):
        """Exchanges something in a tree for something strange."""
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = keys[rng.integers(len(keys))]
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.9:
            spoil(node[key])
        else:
            node[key] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])

    good = 0
    for _ in range(300):
        path = coco(lambda made: [spoil(made) for _ in range(rng.integers(1, 4))] and None)
        for on_bad in ("fail", "skip"):
            try:
                good += len(read(path, on_bad=on_bad)) > 0
            except DataError as e:
                assert str(e)
    assert good > 100


# --- Other formats


@pytest.mark.parametrize("target", ["coco", "yolo", "voc", "csv"])
def test_every_format_carries_boxes_there_and_back(target, coco, tmp_path):
    out = tmp_path / "out" / target
    found = convert.convert(coco(), target, out)
    assert (found["samples"], found["annotations"], found["classes"]) == (3, 3, ["dog", "cat"])
    path = out / "boxes.csv" if target == "csv" else out
    again = read(path)
    for name, marks in boxes_of(again).items():
        assert [n for n, _ in marks] == [n for n, _ in sorted(BOXES[name])]
        np.testing.assert_allclose([b for _, b in marks], [b for _, b in sorted(BOXES[name])], atol=1e-4)
    convert.convert(path, "coco", tmp_path / "back")
    assert len(read(tmp_path / "back")) == 3


@pytest.mark.parametrize("target", ["coco", "yolo", "voc", "csv"])
def test_splits_and_classes_survive_a_conversion(target, tmp_path, coco):
    parts = document(), document()
    for part, keep, split in zip(parts, ((1, 2), (3,)), ("train", "val"), strict=True):
        part["images"] = [i for i in part["images"] if i["id"] in keep]
        part["annotations"] = [a for a in part["annotations"] if a["image_id"] in keep]
        coco(lambda made, part=part: part, f"{split}.json")
    out = tmp_path.parent / f"{tmp_path.name}-out"
    convert.convert(tmp_path, target, out)
    again = read(out / "boxes.csv", split="split") if target == "csv" else read(out)
    splits = {os.path.basename(i): s for i, s in zip(again.ids, again.splits, strict=True)}
    assert splits == {"a.png": "train", "b.png": "train", "c.png": "val"}
    assert again.classes == (["dog", "cat"] if target in ("coco", "yolo") else ["cat", "dog"])


def test_a_conversion_overwrites_nothing_and_says_what_a_format_cannot_hold(coco, tmp_path):
    path = coco(set_("annotations", 0, "iscrowd", 1))
    out = tmp_path.parent / f"{tmp_path.name}-out"
    found = convert.convert(path, "yolo", out)
    assert (
        found["annotations"] == 2
        and "crowds or difficult objects left out, for which the format has no mark: 1" in found["notes"][-1]
    )
    with pytest.raises(UsageError, match="there already and is not overwritten"):
        convert.convert(path, "voc", out)
    with pytest.raises(UsageError, match="inside the data"):
        convert.convert(path.parent, "voc", path.parent / "new")
    with pytest.raises(UsageError, match="Did you mean yolo"):
        convert.convert(path, "yoloo", out)
    with pytest.raises(UsageError, match="cannot hold masks"):
        convert.convert(path, "yolo", tmp_path.parent / "x", kind="masks")
    # A crowd of COCO is a difficult object of VOC.
    convert.convert(path, "voc", out / "voc")
    assert read(out / "voc").labels[0]["crowd"] == [1, 0]
    assert not list(out.glob(".*"))


def yolo(root, names="names: [cat, dog]", **texts):
    pictures(root / "images")
    if names:
        write(root / "data.yaml", names)
    for stem, text in {"a": "0 0.5 0.5 0.5 0.5\n", "b": "", **texts}.items():
        write(root / "labels" / f"{stem}.txt", text)
    return root


def test_yolo_reads_parts_of_sides_polygons_and_missing_texts(tmp_path):
    root = yolo(tmp_path, b="1 0.1 0.2 0.5 0.2 0.3 0.6\n\n0 0.5 0.5 1.0 1.0\n")
    found = read(root)
    assert boxes_of(found)["a.png"] == [("cat", (10, 7.5, 30, 22.5))]
    np.testing.assert_allclose(found.labels[1]["boxes"], [[6, 10, 30, 30], [0, 0, 60, 50]])
    assert found.labels[1]["names"] == ["dog", "cat"] and found.labels[2]["boxes"] == []
    assert "pictures without a file of boxes, which count as empty: 1 (images/c.png)" in found.notes
    assert read(root / "data.yaml").ids == found.ids
    assert read(yolo(tmp_path / "n", names="names: {0: cat, 1: dog}")).classes == ["cat", "dog"]
    assert read(yolo(tmp_path / "m", names=None)).classes == ["class_0"]


@pytest.mark.parametrize(
    "line, words",
    [
        ("2 0.5 0.5 0.1 0.1", "there is no class 2; 2 are named"),
        ("-1 0.5 0.5 0.1 0.1", "begins with the number of a class"),
        ("0.5 0.5 0.5 0.1 0.1", "begins with the number of a class"),
        ("0 0.5 nan 0.1 0.1", "'nan' is no number"),
        ("0 0.5 0.5 0.1", "five numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "five numbers"),
        ("cat 0.5 0.5 0.1 0.1", "'cat' is no number"),
        ("0 0.5 0.5 0 0.1", "an empty box"),
        ("0 12 20 10 10", "lies outside"),
        ("0 0.5 0.5 9 9", "holds pixels"),
    ],
)
def test_a_bad_line_of_yolo_is_named(line, words, tmp_path):
    root = yolo(tmp_path, a=f"0 0.5 0.5 0.5 0.5\n{line}\n")
    refused(root, "labels/a.txt:2: ", words)
    assert len(read(root, on_bad="skip").labels[0]["boxes"]) == 1


def test_texts_without_a_picture_and_names_that_are_none_are_refused(tmp_path):
    refused(yolo(tmp_path / "1", d="0 0.5 0.5 0.5 0.5"), "labels/d.txt: there is no picture of this name in images")
    refused(yolo(tmp_path / "2", names="names: [cat, cat]"), "different names", "'cat'")
    refused(yolo(tmp_path / "3", names="names: {0: cat, 2: dog}"), "without a gap")
    refused(yolo(tmp_path / "4", names="nc: 3"), "'names' must list the classes")
    refused(yolo(tmp_path / "5", names="a: [b\n"), "not YAML")
    refused(yolo(tmp_path / "6", a=b"\xff\xfe0"), "images/a.png", "UTF-16")
    refused(yolo(tmp_path / "7"), "leave data.images out", images=str(tmp_path))


def voc(root, **xml):
    pictures(root / "JPEGImages")
    for name in "abc":
        w, h = SIDES[f"{name}.png"]
        made = f"<annotation><filename>{name}.png</filename><size><width>{w}</width><height>{h}</height></size></annotation>"
        write(root / "Annotations" / f"{name}.xml", xml.get(name, made))
    return root


def thing(box="<xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>20</ymax>", name="cat", more=""):
    inner = f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"
    return f"<annotation><filename>a.png</filename>{inner}</annotation>"


def test_voc_counts_pixels_from_one_and_marks_what_is_difficult(tmp_path):
    found = read(voc(tmp_path, a=thing(more="<difficult>1</difficult>")))
    assert found.labels[0] == {
        "size": [30, 40],
        "boxes": [[0, 1, 11, 20]],
        "names": ["cat"],
        "crowd": [1],
        "areas": [209.0],
    }
    assert found.classes == ["cat"] and found.ids[0] == "JPEGImages/a.png"


BILLION = '<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY a "&b;&b;">]><annotation>&a;</annotation>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    "xml, words",
    [
        (BILLION, "line 2: a document type"),
        (OUTSIDE, "line 1: a document type"),
        ("<annotation>", "not XML"),
        ("hello", "not XML"),
        ("<a>" * 5000 + "</a>" * 5000, "nested more than 100 deep"),
        ("<folder/>", "must be an <annotation>"),
        ("<annotation><filename>../../x.png</filename></annotation>", "leaves the folder"),
        (thing(name=""), "an object has a <name>"),
        (thing(box="<xmin>1</xmin>"), "must hold four numbers"),
        (thing(box="<xmin>inf</xmin><ymin>2</ymin><xmax>11</xmax><ymax>20</ymax>"), "must hold four numbers"),
        (thing(box="<xmin>20</xmin><ymin>2</ymin><xmax>11</xmax><ymax>20</ymax>"), "an empty box"),
        ("<annotation><size><width>41</width><height>30</height></size></annotation>", "says 41 x 30 pixels"),
    ],
)
def test_a_bad_file_of_voc_is_named(xml, words, tmp_path):
    root = voc(tmp_path, a=xml)
    refused(root, "a.xml", words)
    assert len(read(root, on_bad="skip")) >= 2


def test_a_table_says_by_its_columns_what_its_numbers_are(tmp_path):
    pictures(tmp_path)

    def table(text):
        return write(tmp_path / "t.csv", text)

    found = read(table("filename,class,xmin,ymin,xmax,ymax\na.png,cat,1,2,11,20\nc.png,,,,,\na.png,dog,5,5,9,9\n"))
    assert boxes_of(found) == {"a.png": [("cat", (1, 2, 11, 20)), ("dog", (5, 5, 9, 9))], "c.png": []}
    assert boxes_of(read(table("image,label,x,y,width,height\na.png,cat,1,2,10,18\n")))["a.png"] == [
        ("cat", (1, 2, 11, 20))
    ]
    found = read(table("image,label,XMin,XMax,YMin,YMax\na.png,cat,0.25,0.5,0.5,1.0\n"))
    assert boxes_of(found)["a.png"] == [("cat", (10, 15, 20, 30))]
    refused(table("image,label,xmin,ymin,xmax,ymax\na.png,cat,0.1,0.2,0.5,1.0\n"), "is 1 or less", "rel_xmin")
    refused(table("image,label,left,top\na.png,cat,1,2\n"), "four columns of one of these sets", "XMin")
    refused(table("picture,label,xmin,ymin,xmax,ymax\n"), "no column 'image'")
    bad = table(
        "image,label,xmin,ymin,xmax,ymax\na.png,cat,1,x,5,6\n../b.png,cat,1,2,3,4\na.png,,1,2,30,30\nb.png,cat,1,,3,4\n"
    )
    said = refused(
        bad, "line 2: ymin holds 'x'", "line 3: '../b.png' is no file in the folder", "line 4: a box has a label"
    )
    assert "line 5: ymin holds ''" in said and "annotations cannot be used" in said
    assert read(
        table("image,label,xmin,ymin,xmax,ymax,split\na.png,cat,1,2,9,9,train\nb.png,cat,1,2,9,9,val\n"), split="split"
    ).splits == ["train", "val"]
    refused(
        table("image,label,xmin,ymin,xmax,ymax,split\na.png,cat,1,2,9,9,train\na.png,cat,1,2,9,9,val\n"),
        "line 2 and line 3 give it different splits",
        split="split",
    )


def test_two_formats_in_one_folder_and_none_are_refused(coco, tmp_path):
    path = coco()
    for name in ("a", "b"):
        write(tmp_path / "labels" / f"{name}.txt", "0 0.5 0.5 0.5 0.5")
    refused(tmp_path, "more than one format: YOLO's texts, JSON")
    is_whole(read(path))
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "looked for COCO's JSON", "found nothing")
    pictures(empty)
    refused(empty, "found a.png, b.png, c.png")
    refused(tmp_path / "instances.jso", "Did you mean instances.json?")
    refused(path, "name columns of a table", group="plate")


def test_convert_is_a_command(coco, tmp_path):
    from click.testing import CliRunner

    from tlkeras.cli import main

    given = ["data", "convert", str(coco()), "--to", "voc", "-o", str(tmp_path / "voc"), "--json"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["data"]["annotations"] == 3 and (tmp_path / "voc/Annotations/a.xml").is_file()
    assert CliRunner().invoke(main, given).exit_code == 2
