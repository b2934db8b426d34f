"""Answers to pictures by keras-hub's own detectors and segmenters as they come, without a run: prediction only.

    SAM            points or boxes that are given to a mask each (Kirillov et al. 2023, arXiv:2304.02643)
    BASNet         the thing that stands out (Qin et al. 2019)
    SegFormer, DeepLabV3+     a class for every pixel
    D-FINE, RetinaNet         boxes

Pictures are decoded as for training; all places are pixels of the upright picture. Where a preset's converter of images
would cut off what is wider than its input, the picture is padded instead, so that every pixel has an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import answers, data
from tlkeras.detectors import decode_client
from tlkeras.errors import ModelError, UsageError, listed
from tlkeras.tasks import object_detection, semantic_segmentation

# The backbone that a preset's config.json names: the task over it.
TASKS = {
    "SAMBackbone": "SAMImageSegmenter",
    "BASNetBackbone": "BASNetImageSegmenter",
    "SegFormerBackbone": "SegFormerImageSegmenter",
    "DeepLabV3Backbone": "DeepLabV3ImageSegmenter",
    "DFineBackbone": "DFineObjectDetector",
    "RetinaNetBackbone": "RetinaNetObjectDetector",
}
# These need no task.json: they have nothing behind their backbone.
_BARE = ("SAMBackbone", "BASNetBackbone")


@dataclass(frozen=True)
class Opened:
    """A preset that can answer: its class in TASKS, the task, what makes (1, height, width, 3) pixels its input, the
    (height, width) of that, and whether pictures are padded to it or squashed."""

    kind: str
    task: Any
    converter: Any
    size: tuple[int, int]
    padded: bool


@dataclass(frozen=True)
class View:
    """What the network sees of a picture of `size` (height, width), in its pixels: `height` and `width` of the whole, of
    which the picture begins at `top` and `left`. `scale` are (x, y) pixels of the network by pixels of the picture."""

    size: tuple[int, int]
    top: int
    left: int
    height: int
    width: int
    scale: tuple[float, float]


def find(
    preset,
    files: Sequence,
    points: Sequence = (),
    boxes: Sequence = (),
    classes: Sequence[str] | None = None,
    threshold: float = 0.3,
    draw=None,
    offline: bool = False,
) -> list[dict]:
    """What a detector or segmenter of keras-hub finds: [{'file', 'boxes' or 'mask', ...} or {'file', 'error'}].

    Args:
        preset: a directory, a kaggle:// or hf:// handle, or the name of a preset of keras-hub ('sam_base_sa1b').
        files: image files and folders of them.
        points: of SAM, x y or x y 0 in pixels; 0 says that the point is not part of it. All belong to one thing, or to
            that in each of the boxes.
        boxes: of SAM, x0 y0 x1 y1 in pixels; a thing each.
        classes: names of the preset's classes, which it does not bring; None: 'class 0' and so on.
        threshold: score from which a box is shown.
        draw: folder for pictures with what was found. None: none are drawn.

    Answers are as those of `predict`; SAM's have 'scores' too, the overlap it expects of each mask with the thing. Where two
    masks meet, the surer one wins.

    Raises:
        UsageError: for prompts that do not suit, or no such preset.
        ModelError: when the preset is of another kind, damaged, or unsafe.
        MachineError: when a handle cannot be fetched.
    """
    opened = open_preset(preset, offline)
    _check_prompts(opened.kind, points, boxes)
    names = _names(opened, points, boxes, classes)
    sizes, found = answers.pictures_of(files)
    for name, size in sizes.items():
        if wrong := _outside(points, boxes, size):
            found[name] = {"file": name, "error": wrong}
            continue
        pixels = np.asarray(data.picture(name), np.float32)[None]
        x, view = opened.converter(pixels), _view(pixels.shape[1:3], opened)
        found[name] = {"file": name, **_answer(opened, x, view, points, boxes, names, threshold)}
    if draw:
        answers.drawn(list(found.values()), draw, names)
    return list(found.values())


def numbers(text: str) -> tuple[float, ...]:
    """'10,20' as numbers.

    Raises:
        UsageError: when it is none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as e:
        raise UsageError(f"A point or box is numbers between commas, such as 10,20; received {text!r}.") from e


def names_in(path) -> list[str]:
    """The names in a text file, one a line.

    Raises:
        UsageError: when there is no such text.
    """
    try:
        return Path(path).read_text("utf8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path} must be a text with a name a line: {e}") from e


def open_preset(preset, offline: bool = False) -> Opened:
    """Loads a preset and looks at how it wants its pictures.

    Raises: as `find`.
    """
    import keras_hub

    from tlkeras.foreign import files, presets

    folder = _folder(preset, offline)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} must have a config.json; so it is no preset of keras-hub.")
    kind = _class_in(folder / "config.json")
    if kind not in TASKS:
        raise ModelError(
            f"{folder} holds {kind or 'no class of keras-hub'}; presets that answer as they come: {', '.join(TASKS)}. "
            "Others are backbones, to be trained: backbone: {name: ...}"
        )
    presets.check_task(folder)
    if kind not in _BARE and _class_in(folder / "task.json") != TASKS[kind]:
        raise ModelError(
            f"{folder} must hold a whole {TASKS[kind]}, with task.json; it holds the backbone alone, whose head "
            "would be random. Save the task with save_to_preset, or train on it: backbone: {name: ...}"
        )
    with files.refused(folder, *presets.failures()):
        task = getattr(keras_hub.models, TASKS[kind]).from_preset(str(folder), preprocessor=None)
        if not (folder / "image_converter.json").is_file():
            raise ValueError("it has no image_converter.json, so the value range of its input is not known")
        own = keras_hub.layers.ImageConverter.from_preset(str(folder))
        images = task.input["images"] if isinstance(task.input, dict) else task.input
        size = images.shape[1:3] if None not in images.shape[1:3] else own.image_size
        if size is None:
            raise ValueError("neither its network nor its converter of images says what size the input has")
        padded = own.pad_to_aspect_ratio or own.crop_to_aspect_ratio
        how = {"image_size": tuple(size), "pad_to_aspect_ratio": padded, "crop_to_aspect_ratio": False}
        converter = keras_hub.layers.ImageConverter.from_preset(str(folder), **how)
    return Opened(kind, task, converter, tuple(size), padded)


def _folder(preset, offline: bool) -> Path:
    from tlkeras.foreign import presets

    if presets.is_handle(str(preset)):
        return presets.fetch(str(preset), offline)
    if (path := Path(preset).expanduser()).is_dir():
        return path
    if handle := presets.builtin(str(preset)):
        return presets.fetch(handle, offline)
    raise UsageError(
        f"{preset} is no directory, no handle (kaggle://, hf://) and no preset of keras-hub. "
        "Presets that answer as they come are those of SAM, BASNet, SegFormer, DeepLabV3+, D-FINE and RetinaNet."
    )


def _class_in(path: Path) -> str:
    """The class of keras-hub that a config names; '' without one."""
    from tlkeras.foreign import files

    return str(files.read_config(path).get("registered_name", "")).removeprefix("keras_hub>") if path.is_file() else ""


def _check_prompts(kind: str, points, boxes) -> None:
    if kind == "SAMBackbone" and not (points or boxes):
        raise UsageError("SAM needs to be told what to outline: give points or boxes (--point x,y  --box x0,y0,x1,y1).")
    if kind != "SAMBackbone" and (points or boxes):
        raise UsageError(f"Points and boxes are for SAM; {TASKS[kind]} finds things by itself. Leave them out.")
    wrong = [
        f"point {p}: must be x, y and perhaps 0 or 1"
        for p in points
        if len(p) not in (2, 3) or tuple(p[2:]) not in ((), (0,), (1,))
    ]
    wrong += [
        f"box {b}: must be x0, y0, x1, y1 with x0 < x1 and y0 < y1"
        for b in boxes
        if len(b) != 4 or b[0] >= b[2] or b[1] >= b[3]
    ]
    if len(boxes) > 254:
        wrong.append(f"{len(boxes)} boxes: a mask tells at most 254 things apart")
    if points and not boxes and all(tuple(p[2:]) == (0,) for p in points):
        wrong.append("all points say what is not part of the thing; one must lie on it")
    if wrong:
        raise UsageError(listed("These prompts do not hold", wrong))


def _outside(points, boxes, size) -> str | None:
    """What is wrong with prompts for a picture of (height, width)."""
    height, width = size
    corners = [*(tuple(p[:2]) for p in points), *(c for b in boxes for c in (tuple(b[:2]), tuple(b[2:])))]
    out = [c for c in corners if not (0 <= c[0] <= width and 0 <= c[1] <= height)]
    return f"the picture is {width}x{height}, and {', '.join(map(str, out))} lies outside" if out else None


def _names(opened: Opened, points, boxes, classes) -> list[str]:
    """Names by number; of masks number 0 is what belongs to nothing."""
    if opened.kind == "SAMBackbone":
        return ["ground", *(f"thing {n}" for n in range(1, max(len(boxes), 1) + 1))]
    if opened.kind == "BASNetBackbone":
        return ["ground", "thing"]
    count = opened.task.num_classes
    if classes is not None and len(classes) != count:
        raise UsageError(f"The preset has {count} classes; received the names of {len(classes)}.")
    return list(classes) if classes is not None else [f"class {n}" for n in range(count)]


def _view(size, opened: Opened) -> View:
    height, width = size
    rows, columns = opened.size
    top = left = 0
    if opened.padded:  # as keras.layers.Resizing does it, both sides alike
        top = max(int(width * rows / columns) - height, 0) // 2
        left = max(int(height * columns / rows) - width, 0) // 2
    tall, wide = height + 2 * top, width + 2 * left
    return View((height, width), top, left, tall, wide, (columns / wide, rows / tall))


def _answer(opened: Opened, x, view: View, points, boxes, names, threshold: float) -> dict:
    """The answer to one picture. The network is always called with training=False: without it, layers of Keras inside
    that resize would switch BatchNorm to the statistics of the batch."""
    if opened.kind in ("DFineBackbone", "RetinaNetBackbone"):
        rows = _rows(opened, x)
        rows[:, :4] -= np.array([view.left / view.width, view.top / view.height] * 2)
        rows[:, :4] *= np.array([view.width / view.size[1], view.height / view.size[0]] * 2)
        rows[:, :4] = rows[:, :4].clip(0, 1)
        return object_detection.decode(rows, {"classes": names, "threshold": threshold}, view.size)
    if opened.kind == "SAMBackbone":
        mask, scores = _outlined(opened.task, x, view, points, boxes)
        found = semantic_segmentation.decode(mask, {"classes": names})
        return {**found, "scores": [round(float(s), 6) for s in scores]}
    raw = np.asarray(opened.task(x, training=False))[0]
    mask = (raw[..., 0] > 0.5) if raw.shape[-1] == 1 else raw.argmax(-1)
    whole = decode_client.in_picture(mask.astype(np.uint8), (view.height, view.width))
    return semantic_segmentation.decode(_cut(whole, view), {"classes": names})


def _cut(whole, view: View):
    return whole[view.top : view.top + view.size[0], view.left : view.left + view.size[1]]


def _rows(opened: Opened, x) -> np.ndarray:
    """The boxes a detector finds, the surest first: (n, 6), x0, y0, x1, y1 as parts of its input, class, score."""
    import keras
    from keras import ops

    from tlkeras.detectors import boxes as places

    task, (height, width) = opened.task, opened.size
    raw = task(x, training=False)
    if opened.kind == "DFineBackbone":
        found, logits = places.corners(raw["pred_boxes"]), raw["logits"]
        overlap = 1.0  # its queries already suppress each other
    else:
        anchors, logits = ops.concatenate(list(task.anchor_generator(x).values()), axis=0), raw["cls_logits"]
        found = keras.utils.bounding_boxes.decode_deltas_to_boxes(
            anchors=anchors,
            boxes_delta=raw["bbox_regression"],
            encoded_format="center_xywh",
            anchor_format=task.anchor_generator.bounding_box_format,
            box_format="xyxy",
            image_shape=(height, width, 3),
        ) / np.array([width, height] * 2, "float32")
        overlap = 0.5
    rows = np.array(places.best(ops.clip(found, 0, 1), ops.sigmoid(logits), 100, overlap, 0.0, 1000)[0], np.float64)
    return rows[rows[:, 5] > 0]


def _outlined(sam, x, view: View, points, boxes) -> tuple[np.ndarray, list[float]]:
    """An index mask (height, width) of the picture, 1 for the first thing and so on, and a score per thing."""
    from keras import ops

    move, scale = np.array([view.left, view.top]), np.array(view.scale)
    spots = [(np.array(p[:2]) + move) * scale for p in points]
    marks = [float(p[2]) if len(p) == 3 else 1.0 for p in points]
    if not boxes:  # keras-hub wants a point that is none where no box is
        spots, marks = [*spots, np.zeros(2)], [*marks, -1.0]
    corners = [(np.reshape(b, (2, 2)) + move) * scale for b in boxes]
    things = max(len(boxes), 1)
    # The picture once, the prompts of each thing behind one another: the decoder lays them over the same features.
    given = {
        "images": x,
        "points": np.tile(np.reshape(spots, (1, -1, 2)), (things, 1, 1)),
        "labels": np.tile(np.reshape(marks, (1, -1)), (things, 1)),
        "boxes": np.reshape(corners, (things, len(boxes) and 1, 2, 2)),
        "masks": np.zeros((things, 0, 256, 256, 1)),
    }
    raw = sam({name: ops.convert_to_tensor(value, "float32") for name, value in given.items()}, training=False)
    logits, sure = np.asarray(raw["masks"]), np.asarray(raw["iou_pred"])
    # One point may mean a part or the whole: of its several masks the surest. Else the first, made for clear prompts.
    one = len(points) == 1 and not boxes and logits.shape[1] > 1
    chosen = [1 + int(s[1:].argmax()) if one else 0 for s in sure]
    scores = [float(s[c]) for s, c in zip(sure, chosen, strict=True)]
    mask = np.zeros(view.size, np.uint8)
    for n in sorted(range(things), key=lambda n: scores[n]):
        whole = ops.image.resize(logits[n, chosen[n]][..., None], (view.height, view.width), interpolation="bilinear")
        mask[_cut(np.asarray(whole)[..., 0], view) > 0] = n + 1
    return mask, scores
