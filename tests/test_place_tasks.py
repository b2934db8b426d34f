"""Detection and segmentation from config to artefact, on small pictures of squares and discs with boxes and masks."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

import tlkeras
from tlkeras import answers, artefacts, configure, data, evaluation, mask_metrics, network, tasks
from tlkeras.artefacts import saved_model
from tlkeras.data import mask_files
from tlkeras.errors import ConfigError, DataError, ModelError, UsageError
from tlkeras.progress import Progress
from tlkeras.run import read_json

HEAD = {"name": "head", "train": ["neck", "head"], "epochs": 8, "learning_rate": 0.01, "warmup": 0}
CLASSES = {"disc": (210, 60, 50), "square": (50, 80, 210)}


def write_scenes(root, counts, wide: int = 96, high: int = 64):
    """root/{images, masks}/N, instances_SPLIT.json: one or two things on grey noise, other ones in each picture."""
    rng, number = np.random.default_rng(3), 0
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for split, count in counts.items():
        images, notes = [], []
        for _ in range(count):
            image = Image.fromarray(rng.normal(128, 12, (high, wide, 3)).clip(0, 255).astype(np.uint8))
            mask = Image.new("L", image.size)
            for slot in range(int(rng.integers(1, 3))):
                c, side = int(rng.integers(2)), int(rng.integers(20, 30))
                x, y = slot * wide // 2 + int(rng.integers(0, wide // 2 - side)), int(rng.integers(0, high - side))
                shape = "ellipse" if c == 0 else "rectangle"
                box = (x, y, x + side - 1, y + side - 1)
                getattr(ImageDraw.Draw(image), shape)(box, fill=list(CLASSES.values())[c])
                getattr(ImageDraw.Draw(mask), shape)(box, fill=c + 1)
                about = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
                notes.append({"id": len(notes) + 1, "image_id": number, "category_id": c + 1, **about})
            image.save(root / "images" / f"{number}.png")
            mask.save(root / "masks" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": wide, "height": high})
            number += 1
        categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
        found = {"images": images, "annotations": notes, "categories": categories}
        (root / f"instances_{split}.json").write_text(json.dumps(found))
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), {"train": 24, "val": 4, "test": 6})


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """A keras-hub preset directory: a ResNet of strides 4 to 32 with random weights, 64x64."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("preset") / "pyramid"
    keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16, 16, 16],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    ).save_to_preset(str(folder))
    keras_hub.layers.ResNetImageConverter(image_size=(64, 64), scale=1 / 127.5, offset=-1.0).save_to_preset(str(folder))
    return folder


def write(path, scenes, pyramid, task, **sections):
    given = {
        "task": task,
        "data": {"path": str(scenes)},
        "backbone": {"name": str(pyramid)},
        "train": {
            "batch": 8,
            "phases": [HEAD, {**HEAD, "name": "all", "train": ["all"], "epochs": 14, "learning_rate": 0.004}],
        },
        **sections,
    }
    path.write_text(yaml.safe_dump(given))
    return path


TASKS = {
    "boxes": {"name": "object-detection", "scale": "small", "threshold": 0.05, "most": 20},
    "masks": {"name": "semantic-segmentation", "width": 16, "decoder": "segformer"},
}


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tmp_path_factory, scenes, pyramid):
    """(kind, a finished and evaluated run)."""
    folder = tmp_path_factory.mktemp("runs")
    config = write(folder / "c.yaml", scenes, pyramid, TASKS[request.param])
    run = tlkeras.train(config, folder / request.param, quiet=True)
    evaluation.evaluate(run.folder, quiet=True)
    return request.param, run


def test_the_metric_is_that_of_the_predictions_file_and_better_than_nothing(trained):
    kind, run = trained
    found = read_json(run.metrics)["test"]
    table, answer = evaluation.read_predictions(run.predictions("test"))
    task = tasks.get(TASKS[kind]["name"])
    again = task.score(table, answer)["metrics"]
    assert again == found["metrics"]
    assert found["main"] == task.MAIN(answer)[0] and found["n"] == 6
    # A grey ground alone has a mIoU of less than a third here, and no box an mAP of 0.
    assert found["metrics"][found["main"]] > {"boxes": 0.02, "masks": 0.4}[kind]


def test_the_card_names_what_sits_on_the_backbone_and_counts_what_is_shown(trained):
    from tlkeras import data

    kind, run = trained
    text, held = run.card.read_text(), data.reopen(run)
    counted = {"boxes": "Objects of each class:", "masks": "Images that show each class:"}[kind]
    assert counted in text and "--draw FOLDER" in text
    assert {"boxes": "with the detector retinanet (small)", "masks": "with the decoder segformer"}[kind] in text
    first = held.answer["classes"][-1]
    shown = [label["names"] if kind == "boxes" else set(label["names"]) for label in held.labels]
    cells = [str(sum(list(shown[i]).count(first) for i in held.rows(s))) for s in ("train", "val", "test")]
    assert f"| {first} | {' | '.join(cells)} |" in text


def test_neck_and_head_learn_while_the_backbone_stands_still(trained):
    _, run = trained
    rows = {(r["phase"], r["block"]): r for r in read_json(run.audit)["rows"]}
    assert rows["head", "neck"]["moved"] and rows["head", "head"]["moved"]
    assert not sum(
        r["moved"] for (phase, block), r in rows.items() if phase == "head" and block not in ("neck", "head")
    )
    assert any(r["moved"] for (phase, block), r in rows.items() if phase == "all" and block not in ("neck", "head"))


def test_truths_in_the_predictions_file_are_the_annotations(trained, scenes):
    kind, run = trained
    table, answer = evaluation.read_predictions(run.predictions("test"))
    if kind == "masks":
        first = mask_metrics.unrun(table["truth"][0], (int(table["height"][0]), int(table["width"][0])))
        assert (first == mask_files.load(scenes / "masks" / f"{table['id'][0].split('/')[-1]}")).all()
        return
    notes = json.loads((scenes / "instances_test.json").read_text())
    ids = {f"images/{i['file_name']}": i["id"] for i in notes["images"]}
    for name, boxes, labels in zip(table["id"], table["truth_boxes"], table["truth_labels"], strict=True):
        own = [a for a in notes["annotations"] if a["image_id"] == ids[name]]
        assert boxes == [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in own)]
        assert labels == [answer["classes"][a["category_id"] - 1] for a in own]


def test_artefacts_answer_as_the_model_does_and_in_pixels_of_the_picture(trained, scenes):
    import tensorflow as tf

    kind, run = trained
    # XNNPACK of ai-edge-litert 2.3 refuses int8 convolutions on the one-pixel maps that a pyramid has at 64 pixels.
    forms = ["saved_model", "tflite", *["tflite-int8"] * (kind == "masks")]
    rows = artefacts.export(run.folder, forms, max_drop=1.0, quiet=True)
    assert [r["format"] for r in rows] == forms
    picture = scenes / "images" / "30.png"
    loaded = tf.saved_model.load(str(run.artefact("saved_model") / saved_model.VERSION))
    given = loaded.signatures["serving_default"](image_bytes=tf.constant([picture.read_bytes()] * 2))
    (answer,) = answers.predict(run.folder, [picture], quiet=True)
    if kind == "masks":
        assert given["mask"].shape == (2, 64, 64) and given["sizes"].numpy().tolist() == [[64, 96]] * 2
        return
    n = int(given["count"][1])
    assert n and float(tf.reduce_max(given["boxes"][1, :n, 2])) <= 96
    served = [
        (label.decode(), *np.round(box, 1))
        for label, box, score in zip(given["labels"][1].numpy(), given["boxes"][1].numpy(), given["scores"][1].numpy(), strict=True)
        if score >= 0.05
    ]  # fmt: skip
    np.testing.assert_allclose([row[1:] for row in served], [np.round(b["box"], 1) for b in answer["boxes"]], atol=0.3)
    assert [row[0] for row in served] == [b["label"] for b in answer["boxes"]]


def test_answers_are_drawn_and_never_over_a_file(trained, scenes, tmp_path):
    kind, run = trained
    found = answers.predict(run.folder, [scenes / "images" / "30.png"], quiet=True)
    written = answers.draw(run.folder, found, tmp_path / "drawn")
    with Image.open(written[0]) as image:
        assert image.width == 96
    if kind == "masks":
        with Image.open(tmp_path / "drawn" / "30.mask.png") as mask:
            assert mask.size == (96, 64) and set(np.unique(mask)) <= {0, 1, 2}
    with pytest.raises(UsageError, match="is there already and is not overwritten"):
        answers.draw(run.folder, found, tmp_path / "drawn")


@pytest.mark.parametrize("kind", TASKS)
def test_stored_features_give_the_losses_of_live_ones(kind, tmp_path, scenes, pyramid):
    # The maps of the frozen blocks cross the cuts of both phases.
    # At the rate of the others a rounding of the last digit is a percent of the loss after nine steps.
    low = {**HEAD, "learning_rate": 0.001}
    phases = [{**low, "epochs": 2}, {**low, "name": "last", "train": ["neck", "head", "blocks[-1]"], "epochs": 1}]
    losses = {}
    for store in ("on", "off"):
        given = {"prefix": {"store": store}, "train": {"batch": 8, "phases": phases}}
        run = tlkeras.train(
            write(tmp_path / f"{store}.yaml", scenes, pyramid, TASKS[kind], **given), tmp_path / store, quiet=True
        )
        losses[store] = [float(row.split(",")[3]) for row in run.history.read_text().splitlines()[1:]]
    np.testing.assert_allclose(losses["on"], losses["off"], rtol=2e-4)


@pytest.mark.parametrize("kind", TASKS)
def test_augmented_boxes_and_masks_stay_with_their_things(kind, tmp_path, scenes, pyramid):
    augment = {"flip": "both", "crop": 0.7, "mosaic": 0.5}
    cfg, _ = configure.load(write(tmp_path / "c.yaml", scenes, pyramid, TASKS[kind], augment=augment))
    task, options = tasks.get(cfg.task_name), tasks.options_of(cfg)
    held = data.collect(cfg.data, task, options, Progress(True), places=kind)
    rows = held.rows("train")
    targets, weights, _ = task.learnt(held.targets, rows, held.answer, options)
    from tlkeras.data import pictures

    table = held.table(rows, targets, weights)
    batches = pictures.training(table, network.contract(cfg), 8, 0, 0, 1, cfg.augment)
    colours = np.array(list(CLASSES.values()))
    hits = []
    for images, truth, _ in batches.take(3):
        for image, target in zip(images.numpy(), truth.numpy(), strict=True):
            near = np.abs(image[:, :, None] - colours).sum(-1) < 60  # (64, 64, 2)
            if kind == "masks":
                sure = target != 255
                hits.append(np.mean(near.any(-1)[sure] == (target > 0)[sure]))
                continue
            for x0, y0, x1, y1, c in target[target[:, 4] >= 0]:
                x, y = int((x0 + x1) * 32), int((y0 + y1) * 32)
                hits.append(near[min(y, 63), min(x, 63), int(c)])
    assert np.mean(hits) > 0.93 and len(hits) > 12


def test_a_recipe_trains_neck_and_head_first(tmp_path, scenes, pyramid):
    config = write(tmp_path / "c.yaml", scenes, pyramid, TASKS["masks"], train={"batch": 8})
    rows = tlkeras.plan(config)
    first = {r["block"]: r for r in rows if r["phase"] == rows[0]["phase"]}
    assert first["neck"]["trained"] and first["head"]["trained"] and first["neck"]["batchnorm"] == "train"
    assert not any(r["trained"] for b, r in first.items() if b not in ("neck", "head"))


def test_augmentation_that_leaves_the_boxes_behind_is_refused_with_its_place(tmp_path, scenes, pyramid):
    config = write(tmp_path / "c.yaml", scenes, pyramid, TASKS["boxes"], augment={"mixup": 0.2, "rand_augment": 2})
    with pytest.raises(ConfigError) as said:
        configure.load(config)
    assert len(said.value.mistakes) == 2
    assert "augment.mixup does not keep boxes with their picture; flip, rotate" in str(said.value)
    config = write(tmp_path / "d.yaml", scenes, pyramid, "image-classification", augment={"mosaic": 0.5})
    with pytest.raises(ConfigError, match=r"augment\.mosaic is for boxes and masks"):
        configure.load(config)


def test_a_detector_on_too_few_feature_maps_is_refused_with_those_that_there_are():
    from tlkeras.tasks import object_detection

    with pytest.raises(ModelError, match="none of 16, 32, but of 4, 8. Take backbone.until away"):
        object_detection.maps({4: None, 8: None}, (64, 64), {"classes": ["disc"]}, object_detection.Options())


def test_a_network_without_feature_maps_is_refused(tmp_path, scenes, pyramid):
    config = write(
        tmp_path / "c.yaml", scenes, pyramid, TASKS["masks"], backbone={"name": "vit_tiny_patch16_224", "weights": None}
    )
    with pytest.raises((ConfigError, UsageError, DataError)) as said:
        tlkeras.plan(config)
    assert "catalogue" in str(said.value) or "feature maps" in str(said.value)
