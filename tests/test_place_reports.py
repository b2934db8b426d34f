"""What the report says of boxes and masks is what the predictions hold, in words, figures and pictures."""

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from tlkeras import box_metrics, config, data, mask_metrics
from tlkeras.reports import measured, mistakes, page, results
from tlkeras.reports.facts import Facts
from tlkeras.run import Run

CLASSES = ["bird", "<b>flower</b>", "果物"]


def facts(folder, task, table, answer, score, pictures) -> Facts:
    """A run that was trained and evaluated, as far as its results go; pictures are (h, w) of its images."""
    paths = [folder / f"{i}.png" for i in range(len(pictures))]
    for i, (path, (h, w)) in enumerate(zip(paths, pictures, strict=True)):
        pixels = np.random.default_rng(i).integers(90, 160, (h, w, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    n = len(paths)
    held = data.Held(
        table["id"],
        [str(p) for p in paths],
        [""] * n,
        ["test"] * n,
        [None] * n,
        [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths],
        np.zeros(n, np.int64),
        [None] * n,
        answer,
        {},
    )
    cfg = {"name": "built", "task": {"name": task}, "data": {"path": "photos"}, "backbone": {"name": "tiny"}}
    return Facts(
        run=Run(folder),
        config=config.Config.model_validate(cfg),
        manifest={"device": "cpu", "task": {"name": task}},
        plan={},
        audit=[],
        found={},
        history=[],
        events=[],
        metrics={"test": {"split": "test", "main": "map" if "boxes" in table else "miou", **score(table, answer)}},
        baselines={},
        split="test",
        predictions=table,
        answer=answer,
        held=held,
        artefacts=[],
        finished=True,
    )


def boxes_table():
    """Image 0 is right; in image 1 a bird is called a fruit and a flower is missed; in image 2 a bird is invented."""
    return {
        "id": ["a.png", "b.png", "c.png"], "height": [60, 80, 60], "width": [90, 120, 90],
        "truth_boxes": [[[5, 5, 40, 40]], [[10, 10, 50, 50], [60, 20, 110, 70]], []],
        "truth_labels": [["bird"], ["bird", CLASSES[1]], []],
        "truth_crowd": [[False], [False, False], []], "truth_areas": [[1200.0], [1600.0, 2500.0], []],
        "boxes": [[[5, 5, 40, 41]], [[10, 10, 50, 50]], [[20, 20, 60, 50], [0, 0, 5, 5]]],
        "labels": [["bird"], [CLASSES[2]], ["bird", "bird"]], "scores": [[0.7], [0.8], [0.85, 0.06]],
    }  # fmt: skip


def masks_table():
    rng = np.random.default_rng(0)
    truth, found = [], []
    for h, w in ((60, 90), (80, 120), (60, 90)):
        t = np.zeros((h, w), np.uint8)
        t[10:40, 10:50] = 1
        f = t.copy()
        f[:20] = 0
        t[50:, :20] = 255
        truth.append(t)
        found.append(np.where(rng.random(t.shape) < 0.1 * len(truth), 2, f).astype(np.uint8))
    pairs = list(zip(truth, found, strict=True))
    return {
        "id": ["a.png", "b.png", "c.png"], "height": [60, 80, 60], "width": [90, 120, 90],
        "truth": [mask_metrics.runs(t) for t in truth], "found": [mask_metrics.runs(f) for f in found],
        "counts": [mask_metrics.confusion(t, f, 4).ravel().tolist() for t, f in pairs],
    }  # fmt: skip


@pytest.fixture(scope="module")
def detected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    sizes = [(60, 90), (80, 120), (60, 90)]
    return facts(folder, "object-detection", boxes_table(), {"classes": CLASSES}, box_metrics.score, sizes)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    folder, answer = tmp_path_factory.mktemp("masks"), {"classes": ["ground", *CLASSES], "ignore": 255}
    sizes = [(60, 90), (80, 120), (60, 90)]
    return facts(folder, "semantic-segmentation", masks_table(), answer, mask_metrics.score, sizes)


def words(html: str) -> str:
    html = html.replace("<wbr>", "")
    return (
        re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
        .replace(" ,", ",")
        .replace(" :", ":")
        .replace(" ;", ";")
        .replace("\u00a0", " ")
    )


def test_the_headline_names_the_figure_and_where_boxes_count(detected):
    said = words(results.headline(detected, set()))
    assert "Object detection of 3 classes" in said
    assert re.search(r"mAP on 3 held-out images", said) and "From a score of" in said
    assert "Never recognised: &lt;b&gt;flower&lt;/b&gt;" in said


def test_every_class_and_metric_of_boxes_is_in_the_tables(detected):
    html = measured.figures(detected)
    said = words(html)
    for title in ("mAP", "mAP at 75 %", "Recall, 100 boxes", "Precision"):
        assert title in said
    assert "<b>flower" not in html and said.count("果物") >= 2
    assert "bird found where nothing is" in said and "bird taken for 果物: 1 of 2" in said
    assert html.count("<figure>") == 2, "a curve for each class that has objects"


def test_the_worst_images_are_drawn_and_their_faults_named(detected):
    html = mistakes.pictured(detected)
    said = words(html)
    assert said.index("b.png") < said.index("c.png") < said.index("a.png"), "the worst first, the right one last"
    assert "bird called 果物, 80 % sure; missed &lt;b&gt;flower&lt;/b&gt;" in said
    assert "no bird here, 85 % sure" in said
    assert html.count("<img") == 6, "truth and answer of each"


def test_masks_have_their_classes_their_matrix_and_their_pictures(segmented):
    said = words(measured.figures(segmented))
    assert "Mean IoU" in said and "Class by class" in said
    assert re.search(r"ground taken for &lt;b&gt;flower.{0,20}: \d+\.\d % of its pixels", said)
    assert "mean IoU on 3 held-out images" in words(results.headline(segmented, set()))
    html = mistakes.pictured(segmented)
    assert html.count("<img") == 9, "picture, truth and answer of each"
    assert words(html).index("c.png") < words(html).index("a.png")


def test_a_picture_that_changed_is_not_drawn_into(detected, tmp_path):
    path = tmp_path / "0.png"
    Image.new("RGB", (9, 9)).save(path)
    held = detected.held
    other = data.Held(held.ids, [str(path)] * 3, *[getattr(held, f) for f in list(held.__dataclass_fields__)[2:]])
    changed = Facts(**{f: getattr(detected, f) for f in Facts.__dataclass_fields__} | {"held": other})
    html = mistakes.pictured(changed)
    assert "<img" not in html and html.count("file changed since training") == 3


def test_predictions_without_a_fault_say_so(detected):
    table = {k: [v[0]] for k, v in boxes_table().items()}
    score = {"split": "test", "main": "map", **box_metrics.score(table, detected.answer)}
    right = Facts(
        **{f: getattr(detected, f) for f in Facts.__dataclass_fields__}
        | {"predictions": table, "metrics": {"test": score}}
    )
    assert "No object was missed, and no box is wrong." in words(mistakes.pictured(right))
    assert page.document("x", results.headline(right, set()), [("results", "Results", measured.figures(right))])
