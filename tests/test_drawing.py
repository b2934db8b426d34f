"""Pictures of boxes and masks: the picture given stays as it was, every box is framed where it lies, and every name can be read."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tlkeras.reports import drawing


def grey(size=(120, 90)):
    return Image.new("RGB", size, (128, 128, 128))


def pixels(image):
    return np.asarray(image)


def test_a_box_is_framed_in_the_colour_of_its_class_and_the_picture_given_is_kept():
    picture = grey()
    drawn = pixels(drawing.boxes(picture, [[20, 30, 80, 70]], ["b"], [0.9], classes=["a", "b"]))
    assert (drawn[30, 50] == drawing.colour(1)).all() and (drawn[50, 20] == drawing.colour(1)).all()
    assert (drawn[50, 50] == 128).all(), "the inside stays as it is"
    assert (pixels(picture) == 128).all()


def test_truth_is_dashed():
    drawn = pixels(drawing.boxes(grey(), [], [], [], truth=([[20, 20, 100, 80]], ["a"])))
    line = {tuple(p) for p in drawn[79, 30:90].tolist()}
    assert line == {drawing.INK, drawing.PAPER}


@pytest.mark.parametrize(
    "box", [[-50, -50, 500, 400], [0, 0, 0, 0], [119, 89, 119, 89], [80, 60, 20, 30], [3.4, 2.6, 4.5, 90]]
)
def test_boxes_beyond_the_picture_and_without_a_size_are_drawn_as_far_as_they_go(box):
    for size in ((120, 90), (8, 8), (1, 1)):
        assert drawing.boxes(grey(size), [box], ["a" * 60], [1.0], truth=([box], ["b"])).size == size


def test_names_of_boxes_that_lie_together_do_not_cover_each_other():
    taken = []
    picture = grey((300, 300))
    for _ in range(4):
        drawing._named(picture, ImageDraw.Draw(picture), [100, 100, 200, 200], "mammal 90%", (0, 0, 0), 2, taken)
    assert not any(drawing._meet(a, b) for i, a in enumerate(taken) for b in taken[:i])


def test_classes_have_colours_that_differ_and_words_that_stand_out():
    colours = [drawing.colour(c) for c in range(21)]
    assert len(set(colours)) == 21
    for rgb in colours:
        light = [sum(w * (v / 255) ** 2.2 for w, v in zip((0.2126, 0.7152, 0.0722), c, strict=True)) for c in (rgb, drawing._on(rgb))]  # fmt: skip
        assert (max(light) + 0.05) / (min(light) + 0.05) > 3, rgb


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bird", "bird"), ("Übergröße", "Ubergrosse"), ("Łódź", "Lodz"), ("日本語", "class 7"), ("кошка", "class 7"), ("", "class 7"),
        ("🐈", "class 7"), ("two\nlines", "two lines"), ("x" * 30, "x" * 23 + "…"),
    ],
)  # fmt: skip
def test_a_name_is_drawn_in_letters_that_the_font_has(name, shown):
    assert drawing.legible(name, 7) == shown


def test_the_font_has_every_letter_that_is_drawn():
    font = ImageFont.load_default(20)
    absent = bytes(font.getmask("\uffff"))
    assert not [g for g in drawing.GLYPHS if bytes(font.getmask(g)) == absent]


def test_a_mask_colours_its_classes_and_leaves_the_ground_clear():
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 20:60], mask[60:80, 80:110] = 1, 255
    drawn = drawing.overlay(grey(), mask)
    assert drawn.size == (120, 90)
    assert (pixels(drawn)[5, 5] == 128).all()
    inside = np.array(drawing.colour(0)) * 0.55 + 128 * 0.45
    assert np.abs(pixels(drawn)[40, 40] - inside).max() <= 1
    assert (pixels(drawn)[20, 40] == drawing.colour(0)).all(), "the outline"


def test_the_legend_names_the_classes_of_the_mask_below_the_picture():
    mask = np.zeros((90, 120), np.uint8)
    assert drawing.mask(grey(), mask, ["ground", "a", "b"]).size == (120, 90)
    mask[:10] = 2
    one = drawing.mask(grey(), mask, ["ground", "a", "b"])
    assert one.width == 120 and one.height > 100
    assert tuple(drawing.colour(1)) in {tuple(p) for p in pixels(one)[90:].reshape(-1, 3).tolist()}
    mask[:, :20], mask[:, 20:40], mask[50:, 40:] = 1, 3, 4
    many = drawing.mask(grey(), mask, ["ground", *("a long name " + c for c in "abcd")])
    assert many.height > one.height, "what does not fit into a line goes on below"
