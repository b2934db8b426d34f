"""Detectors: a training step and inference, tlkeras beside the PyTorch implementation of the same network.

    python benchmarks/detect.py [--quick] [--networks a,b] [--side N] [--rounds N] [--yolox FOLDER]

EfficientDet-D0 at 512 x 512 beside effdet, YOLOX-s at 416 x 416 beside YOLOX 0.3.0 (--quick: 128, YOLOX-nano);
float32, 80 classes. Installing YOLOX pulls in packages of 2021 (onnx 1.8.1),
so its sources do: --yolox, or TLKERAS_YOLOX in the environment, names the folder that holds yolox/, which imports
loguru, cv2, thop, tabulate and psutil. A reference that is not there is left out, and the JSON says so.
The weights are random, drawn by the reference, with BatchNorm's statistics of one batch, so that what comes out
varies; tlkeras reads them as it reads any checkpoint. How far its offsets and scores are from the reference's is a
target too. Images are noise, uint8; both sides normalise them within what is timed, and neither decodes a file.
'step': a batch of 4 images with 8 random boxes each: forward, assignment and loss, backward, Adam; everything trained,
BatchNorm by the batch. The median of the steps after the first, in which tlkeras compiles. effdet drops no paths here,
as tlkeras does not. YOLOX 0.3.0 chooses the cells that may answer for a box otherwise than tlkeras, which follows its
successor; so losses are equal for EfficientDet only.
'one': a batch of 1, the time of a call; tlkeras as in its SavedModel. 'many': images/s in batches of what tlkeras takes
by itself, as `tlkeras evaluate` does it: several streams, OpenVINO where it is installed; the reference, eager, takes
batches as large one after the other.
Both 'to raw': to the offsets and logits of all places (YOLOX: sigmoid of the logits). And 'to boxes': with decoding,
the 1,000 best candidates by score and no least score, suppression by class above an IoU of 0.5, and for
EfficientDet the best 100. YOLOX does not limit the candidates: it gets the score of the 1,000th best cell as its
threshold. The suppression of both references is an operator of torchvision; where the one installed was built for
another torch it is not there, and 'to boxes' is measured for tlkeras alone.
CPU seconds and peak memory are those of a whole process, imports and building the network included.
Targets: no slower than the reference.
"""

import importlib.metadata
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import measuring
import numpy as np
import rivals

TLKERAS, REFERENCE, WEIGHTS = "tlkeras", "reference", "weights"
CLASSES, BATCH, BOXES, RATE, IOU, CANDIDATES, MOST = 80, 4, 8, 1e-4, 0.5, 1000, 100
MOST_APART = 1000  # Millionths.
YOLOX_IMPORTS = ("loguru", "cv2", "thop", "tabulate", "psutil")  # What its sources import before any network is built.
TIMES = {
    "step_s": "a step",
    "one_raw_s": "one to raw",
    "one_boxes_s": "one to boxes",
    "many_raw_s": "many to raw",
    "many_boxes_s": "many to boxes",
}
CONFIG = """\
task: {{name: object-detection, detector: {detector}, scale: {scale}, least_score: 0, iou: {iou}, most: {most}}}
data: {{path: .}}
backbone: {{name: {network}, weights: {weights}, size: {side}}}
train:
  batch: {batch}
  precision: float32
  phases:
    - {{name: all, train: [all], epochs: 1, learning_rate: {rate}, batchnorm: train, optimizer: adam, schedule: constant, warmup: 0}}
"""


@dataclass(frozen=True)
class Names:
    """A network in tlkeras; `package` is what holds the reference, `depth` and `width` are YOLOX's."""

    title: str
    package: str
    side: int
    depth: float = 0.0
    width: float = 0.0


NETWORKS = {
    "efficientdet_d0": Names("EfficientDet-D0", "effdet", 512),
    "yolox_s": Names("YOLOX-s", "yolox", 416, 0.33, 0.5),
    "yolox_nano": Names("YOLOX-nano", "yolox", 416, 0.33, 0.25),
}


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--networks", help="default: efficientdet_d0,yolox_s; --quick: efficientdet_d0,yolox_nano")
    parser.add_argument("--side", type=int, help="of the images; default: 512 and 416, --quick: 128")
    parser.add_argument("--steps", type=int, help="measured of each kind; default: 8, --quick: 3")
    parser.add_argument("--rounds", type=int, help="default: 3, --quick: 1")
    parser.add_argument("--yolox", help="folder that holds yolox/; default: $TLKERAS_YOLOX")
    args = parser.parse_args()
    measuring.needs("torch", "timm")
    if args.yolox:
        os.environ["TLKERAS_YOLOX"] = str(Path(args.yolox).resolve())
    usual = ("efficientdet_d0", "yolox_nano" if args.quick else "yolox_s")
    networks = args.networks.split(",") if args.networks else usual
    rounds, steps = args.rounds or (1 if args.quick else 3), args.steps or (3 if args.quick else 8)
    facts, rows, targets, result = measuring.machine(), [], [], {}
    facts["versions"] |= {name: version(name) for name in ("effdet", "torchvision")}
    for network in networks:
        side = args.side or (128 if args.quick else NETWORKS[network].side)
        absent = missing(network)
        got = measure(network, side, steps, rounds, not absent)
        result[network] = {"side": side, "reference": absent or NETWORKS[network].package, **summary(got)}
        rows += table(network, result[network])
        targets += [] if absent else judge(network, got)
        if absent:
            print(f"{NETWORKS[network].title}: {absent}", file=sys.stderr)
    tables = [(f"Batches of {BATCH} to train on, {CLASSES} classes, median of {rounds} rounds", rows)]
    measuring.report(
        "detect",
        args.quick,
        facts,
        tables + ([("Targets", targets)] if targets else []),
        batch=BATCH,
        boxes=BOXES,
        classes=CLASSES,
        steps=steps,
        rounds=rounds,
        targets=targets,
        target_met=all(t["met"] for t in targets) if targets else None,
        networks=result,
    )


def missing(network: str) -> str | None:
    """Why the reference of a network is left out; None where it is there."""
    package, folder = NETWORKS[network].package, os.environ.get("TLKERAS_YOLOX")
    if package == "yolox" and folder and not (Path(folder) / "yolox" / "models").is_dir():
        return "left out: the folder of --yolox or TLKERAS_YOLOX holds no yolox/models"
    needed = YOLOX_IMPORTS if package == "yolox" else ("effdet",)
    needed += ("yolox",) if package == "yolox" and not folder else ()
    absent = [name for name in needed if not importlib.util.find_spec(name)]
    return f"left out: {', '.join(absent)} cannot be imported" if absent else None


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def measure(network: str, side: int, steps: int, rounds: int, compared: bool) -> dict[str, dict[str, list]]:
    """{setting: {contender: a row a round}}; the weights are drawn once."""
    with tempfile.TemporaryDirectory(prefix="tlkeras-detect-") as folder:
        if compared:
            measuring.in_fresh_process(WEIGHTS, network, "", side, folder, steps)
        contenders = (TLKERAS, REFERENCE) if compared else (TLKERAS,)

        def in_turn(setting):
            def run(name):
                return measuring.in_fresh_process(name, network, setting, side, folder, steps)

            return measuring.alternate({name: lambda name=name: run(name) for name in contenders}, rounds)

        return {setting: in_turn(setting) for setting in ("train", "predict")}


def summary(got: dict[str, dict[str, list]]) -> dict:
    def middle(runs, key):
        return None if runs[0][key] is None else round(measuring.median(runs, key), 6)

    def one(name):
        found = {}
        for setting, contenders in got.items():
            runs = contenders[name]
            found |= {key: middle(runs, key) for key in TIMES if key in runs[0]}
            found |= {key: runs[0][key] for key in ("loss", "parameters", "many_by", "apart") if key in runs[0]}
            found[setting] = {"cpu_s": middle(runs, "cpu_s"), "peak_mb": middle(runs, "peak_mb"), "runs": runs}
        return found

    return {"contenders": {name: one(name) for name in got["train"]}}


def table(network: str, result: dict) -> list[dict]:
    def shown(seconds, per=1e3, form=".1f"):
        return "-" if seconds is None else f"{per * seconds:{form}}"

    return [
        {
            "network": f"{NETWORKS[network].title}, {result['side']}",
            "contender": name if name == TLKERAS else NETWORKS[network].package,
            "step ms": shown(c["step_s"], form=".0f"),
            "one to raw ms": shown(c["one_raw_s"]),
            "one to boxes ms": shown(c["one_boxes_s"]),
            "many to raw images/s": shown(c["many_raw_s"] and 1 / c["many_raw_s"], 1),
            "many to boxes images/s": shown(c["many_boxes_s"] and 1 / c["many_boxes_s"], 1),
            "many by": c["many_by"],
            "loss of the first step": f"{c['loss']:.4f}",
            "trained parameters": f"{c['parameters']:,}",
            "peak MB, train": f"{c['train']['peak_mb']:.0f}",
            "predict": f"{c['predict']['peak_mb']:.0f}",
        }
        for name, c in result["contenders"].items()
    ]


def judge(network: str, got: dict) -> list[dict]:
    """How many times as long the reference takes as tlkeras, and how far their outputs are apart."""
    title, package = NETWORKS[network].title, NETWORKS[network].package
    found = []
    for contenders in got.values():
        ours, theirs = contenders[TLKERAS], contenders[REFERENCE]
        for key, what in TIMES.items():
            if theirs[0].get(key) is not None:
                measured = measuring.ratio(theirs, ours, key)
                found.append(measuring.judged(f"{title}, {what}: {package} / tlkeras", measured, least=1))
    apart = 1e6 * max(row["apart"] for row in got["predict"][TLKERAS])
    return [*found, measuring.judged(f"{title}: millionths that outputs differ by", apart, most=MOST_APART)]


# ---------------------------------------------------------------------- in the fresh process


def child(name: str, network: str, setting: str, side: str, folder: str, steps: str) -> None:
    """One measurement; prints it as a line of JSON."""
    folder, what = Path(folder), (network, int(side), int(steps))
    if name == WEIGHTS:
        print(json.dumps(draw(network, int(side), folder)))
        return
    function = {
        (TLKERAS, "train"): train_tlkeras,
        (TLKERAS, "predict"): predict_tlkeras,
        (REFERENCE, "train"): train_torch,
        (REFERENCE, "predict"): predict_torch,
    }[name, setting]
    found = function(*what, folder)
    used = measuring.usage()
    print(json.dumps({**found, "cpu_s": used["cpu"], "peak_mb": used["peak_mb"]}))


def images(side: int, count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), np.uint8)


def truth() -> np.ndarray:
    """Boxes of a batch: float32 (B, n, 5), x0, y0, x1, y1 as parts of the image, class."""
    rng = np.random.default_rng(2)
    size = rng.uniform(0.1, 0.5, (BATCH, BOXES, 2))
    start = rng.uniform(0, 1 - size)
    return np.concatenate([start, start + size, rng.integers(CLASSES, size=(BATCH, BOXES, 1))], 2).astype("float32")


def seconds(call, times: int) -> float:
    """The median after two calls that are not counted."""
    for _ in range(2):
        call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


# ---------------------------------------------------------------------- tlkeras


def tlkeras_network(network: str, side: int, folder: Path):
    """(config, network, task, options, answer), as `tlkeras train` would build them."""
    from tlkeras import configure, tasks
    from tlkeras import network as networks

    detector, scale = network.split("_")
    weights = folder / f"{network}.pth"
    given = json.dumps(str(weights)) if weights.is_file() else "null"
    about = {"detector": detector, "scale": scale, "network": network, "weights": given, "side": side}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(CONFIG.format(**about, iou=IOU, most=MOST, batch=BATCH, rate=RATE))
        file.flush()
        config, _ = configure.load(file.name)
    task, options = tasks.get(config.task_name), tasks.options_of(config)
    shown = options.model_dump(include={"detector", "most", "iou", "least_score", "threshold"})
    answer = {"classes": [str(c) for c in range(CLASSES)], **shown}
    return config, networks.build(config, answer, offline=True), task, options, answer


def train_tlkeras(network: str, side: int, steps: int, folder: Path) -> dict:
    """Compiled and fitted as a phase that trains everything is."""
    import keras
    import tensorflow as tf

    from tlkeras import configure, plans

    keras.utils.set_random_seed(0)
    config, net, task, options, _ = tlkeras_network(network, side, folder)
    phases = configure.phases(config, BATCH, len(net.blocks) - 1)
    (plan,) = plans.make(phases, list(net.blocks), network)
    plans.apply(net, plan)
    net.model.compile(
        optimizer=plans.optimizer(net, plan, steps + 1), loss=task.loss(options), weighted_metrics=[], jit_compile=False
    )
    batch = (images(side, BATCH).astype("float32"), truth(), np.ones(BATCH, "float32"))
    ended = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda n, logs: ended.append((time.perf_counter(), float(logs["loss"])))
    )
    data = tf.data.Dataset.from_tensors(batch).repeat(steps + 1).prefetch(1)
    net.model.fit(data, epochs=1, verbose=0, shuffle=False, callbacks=[watch])
    taken = [b[0] - a[0] for a, b in zip(ended[:-1], ended[1:], strict=True)]
    return {
        "step_s": statistics.median(taken),
        "steps_s": [round(t, 4) for t in taken],
        "loss": ended[0][1],
        "parameters": sum(int(np.prod(v.shape)) for v in net.model.trainable_variables),
    }


def predict_tlkeras(network: str, side: int, steps: int, folder: Path) -> dict:
    import tensorflow as tf

    from tlkeras.detectors import boxes
    from tlkeras.prefix import streams

    _, net, task, _, answer = tlkeras_network(network, side, folder)
    pixels = [tf.TensorSpec((None, side, side, 3), tf.uint8)]

    @tf.function(input_signature=pixels, autograph=False)
    def to_raw(x):
        return net.model(tf.cast(x, tf.float32), training=False)

    @tf.function(input_signature=pixels, autograph=False)
    def to_boxes(x):
        return task.finish(net.model(tf.cast(x, tf.float32), training=False), answer)

    finish = tf.function(lambda raw: task.finish(raw, answer), autograph=False)
    one = images(side, 1)
    found = {
        "one_raw_s": seconds(lambda: to_raw(one).numpy(), steps),
        "one_boxes_s": seconds(lambda: to_boxes(one).numpy(), steps),
    }
    stream = streams.open_stream(net.model, "uint8")
    count = stream.batch * max(2, steps)
    many = images(side, stream.batch)

    def all_of_them(last):
        for (raw,) in stream.run((many,) for _ in range(count // stream.batch)):
            last(raw)

    found |= {
        "many_raw_s": seconds(lambda: all_of_them(lambda raw: raw), 1) / count,
        "many_boxes_s": seconds(lambda: all_of_them(lambda raw: finish(raw).numpy()), 1) / count,
        "many_by": f"{stream.name}, {stream.workers} at a time, batches of {stream.batch}",
        "batch": stream.batch,
    }
    if (folder / "raw.npz").is_file():
        with np.load(folder / "raw.npz") as want:
            raw = to_raw(one).numpy()
            scores = np.asarray(boxes.scores(answer["detector"], raw[..., 8:]))
            found["apart"] = float(
                max(np.abs(raw[..., 4:8] - want["offsets"]).max(), np.abs(scores - want["scores"]).max())
            )
    return found


# ---------------------------------------------------------------------- PyTorch


def torch_model(network: str, side: int, folder: Path):
    """The reference with the weights of `draw` where they are."""
    import torch

    names = NETWORKS[network]
    if names.package == "effdet":
        import effdet

        config = effdet.get_efficientdet_config("tf_efficientdet_d0")
        config.image_size, config.num_classes = (side, side), CLASSES
        config.backbone_args = {"drop_path_rate": 0.0}
        config.max_detection_points, config.max_det_per_image = CANDIDATES, MOST
        model = effdet.EfficientDet(config, pretrained_backbone=False)
    else:
        sys.path += [folder for folder in [os.environ.get("TLKERAS_YOLOX")] if folder]
        from yolox.models import YOLOPAFPN, YOLOX, YOLOXHead

        asked = {"depthwise": network.endswith("nano")}
        model = YOLOX(YOLOPAFPN(names.depth, names.width, **asked), YOLOXHead(CLASSES, names.width, **asked))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                # As the reference's own experiments set it.
                module.eps, module.momentum = 1e-3, 0.03
        model.head.initialize_biases(1e-2)
    if (folder / f"{network}.pth").is_file():
        model.load_state_dict(torch.load(folder / f"{network}.pth", weights_only=True))
    return model.to(memory_format=torch.channels_last)


def torch_pixels(network: str, pixels: np.ndarray):
    """uint8 (B, h, w, 3) as the reference takes it; it is channels_last already."""
    import torch

    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    if NETWORKS[network].package == "yolox":
        return x[:, [2, 1, 0]]
    mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x - mean) / std


def torch_loss(network: str, model, side: int):
    """A function of pixels to the loss, of assignment too."""
    import torch

    rows = truth()
    if NETWORKS[network].package == "effdet":
        from effdet.bench import DetBenchTrain

        bench = DetBenchTrain(model)
        given = {
            "bbox": [torch.tensor(r[:, [1, 0, 3, 2]] * side) for r in rows],
            "cls": [torch.tensor(r[:, 4] + 1) for r in rows],
        }
        return lambda x: bench(x, given)["loss"]
    middle, size = (rows[..., :2] + rows[..., 2:4]) / 2 * side, (rows[..., 2:4] - rows[..., :2]) * side
    labels = torch.tensor(np.concatenate([rows[..., 4:], middle, size], 2))
    return lambda x: model(x, labels)["total_loss"]


def draw(network: str, side: int, folder: Path) -> dict:
    """Writes weights, and what the reference makes of an image with them."""
    rivals.import_timm()
    import torch

    torch.manual_seed(0)
    model = torch_model(network, side, folder).train()
    normal = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for module in normal:
        module.momentum = 1.0
    with torch.no_grad():
        torch_loss(network, model, side)(torch_pixels(network, images(side, BATCH)))
        model.eval()
        torch.save({k: v.contiguous() for k, v in model.state_dict().items()}, folder / f"{network}.pth")
        x = torch_pixels(network, images(side, 1))
        if NETWORKS[network].package == "effdet":
            scores, offsets = (
                torch.cat([m.permute(0, 2, 3, 1).reshape(1, -1, depth) for m in maps], 1)
                for maps, depth in zip(model(x), (CLASSES, 4), strict=True)
            )
            offsets, scores = offsets[..., [1, 0, 3, 2]], scores.sigmoid()
        else:
            model.head.decode_in_inference = False
            found = model(x)
            offsets, scores = found[..., :4], found[..., 4:5] * found[..., 5:]
    np.savez(folder / "raw.npz", offsets=offsets.numpy(), scores=scores.numpy())
    return {"places": offsets.shape[1]}


def train_torch(network: str, side: int, steps: int, folder: Path) -> dict:
    rivals.import_timm()
    import torch

    model = torch_model(network, side, folder).train()
    loss_of, optimizer = torch_loss(network, model, side), torch.optim.Adam(model.parameters(), RATE)
    pixels, taken, losses = images(side, BATCH), [], []
    for _ in range(steps + 1):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(torch_pixels(network, pixels))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        taken.append(time.perf_counter() - began)
    return {
        "step_s": statistics.median(taken[1:]),
        "steps_s": [round(t, 4) for t in taken[1:]],
        "loss": losses[0],
        "parameters": sum(p.numel() for p in model.parameters() if p.grad is not None),
        "threads": torch.get_num_threads(),
    }


def predict_torch(network: str, side: int, steps: int, folder: Path) -> dict:
    rivals.import_timm()
    import torch

    model, package = torch_model(network, side, folder).eval(), NETWORKS[network].package
    suppresses, batch = has_suppression(), 8
    one, many = images(side, 1), images(side, batch)

    def timed(to):
        with torch.inference_mode():
            # As many images as of tlkeras, in the same batches.
            count = batch * max(2, steps)
            in_all = seconds(lambda: [to(torch_pixels(network, many)) for _ in range(count // batch)], 1)
            return seconds(lambda: to(torch_pixels(network, one)), steps), in_all / count

    if package == "effdet":
        from effdet.bench import DetBenchPredict

        to_raw, to_boxes = model, DetBenchPredict(model)
    else:
        from yolox.utils import postprocess

        model.head.decode_in_inference = False
        with torch.inference_mode():
            found = model(torch_pixels(network, one))[0]
        best = (found[:, 4] * found[:, 5:].max(1).values).topk(min(CANDIDATES, len(found))).values[-1].item()

        def to_raw(x):
            model.head.decode_in_inference = False
            return model(x)

        def to_boxes(x):
            model.head.decode_in_inference = True
            return postprocess(model(x), CLASSES, best, IOU)

    one_raw, many_raw = timed(to_raw)
    one_boxes, many_boxes = timed(to_boxes) if suppresses else (None, None)
    return {
        "one_raw_s": one_raw,
        "one_boxes_s": one_boxes,
        "many_raw_s": many_raw,
        "many_boxes_s": many_boxes,
        "many_by": f"torch {torch.__version__}, {torch.get_num_threads()} threads, batches of {batch}",
        "batch": batch,
        "suppression": "torchvision" if suppresses else "left out: torchvision's operators are not there",
    }


def has_suppression() -> bool:
    """Whether torchvision brings its operators; built for another torch, it does not."""
    import torch
    import torchvision

    try:
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (RuntimeError, NotImplementedError):
        return False
    return True


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
