"""Training a linear head on a frozen network: `tlkeras train`, the first time and again, beside Keras, PyTorch and the floor.

    python benchmarks/feature_extraction.py [--quick] [--photos N] [--networks a,b] [--measured EPOCHS] [--rounds N]

600 JPEGs of 640 x 480 (--quick: 60), 80 % to train and 20 % to validate on, 224 x 224 pixels, batches of 32,
Adam, float32, 10 epochs; ResNet50, EfficientNet-B0 and MobileNetV3-Large with random weights: nothing is
downloaded, and the time is the same. Each is timed in a fresh process, from after the imports until training has
ended, validation included. tlkeras checks, hashes and splits the files too, writes checkpoints, audits the weights
and saves the model; 'again' is the same command with the cache of the first. Keras is as in its transfer-learning
guide, once with Dataset.cache(); PyTorch is a timm network, channels_last, with Pillow in two DataLoader workers.
Of these three the first 3 epochs are measured, and the others taken to last as long as the median of those after
the first. The floor: every photograph decoded and resized once by libjpeg-turbo, then one forward pass of the
network by the fastest engine at its best batch size; no start, no head, no check.
Targets: tlkeras at most 1.15 of the floor; plain Keras at least 12 times as long (ResNet50: 9), PyTorch 8 times;
again, the first training step of the head has ended within 3 s after the imports.
"""

import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import measuring
import photos
import rivals

EPOCHS, RATE, VAL = 10, 1e-3, 0.2
TLKERAS, AGAIN, FLOOR = "tlkeras train", "tlkeras train, again", "floor"
KERAS, CACHED, TORCH = "plain Keras", "Keras, Dataset.cache()", "PyTorch, timm"
OF_FLOOR, OF_TORCH, HEAD_WITHIN = 1.15, 8, 3
OF_KERAS = {"resnet50": 9, "efficientnet_b0": 12, "mobilenet_v3_large": 12}
CONFIG = """\
task: {{name: image-classification, dropout: {dropout}}}
data: {{path: {folder}, val: {val}, test: 0}}
backbone: {{name: {network}, weights: null}}
train:
  batch: {batch}
  precision: float32
  phases:
    - {{name: head, train: [head], epochs: {epochs}, learning_rate: {rate}, optimizer: adam, schedule: constant, warmup: 0}}
"""


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--photos", type=int, help="default: 600, --quick: 60")
    parser.add_argument("--networks", help=f"default: {','.join(rivals.NETWORKS)}; --quick: the last of them")
    parser.add_argument("--measured", type=int, default=3, help="epochs of Keras and PyTorch to measure, from 2 to 10")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    measuring.needs("simplejpeg", "torch", "timm")
    networks = args.networks.split(",") if args.networks else list(rivals.NETWORKS)[-1 if args.quick else 0 :]
    facts, count = measuring.machine(), args.photos or (60 if args.quick else 600)
    tables, result, ratios, targets = [], {}, {}, []
    with tempfile.TemporaryDirectory(prefix="tlkeras-features-") as temporary:
        folder = Path(temporary) / "photos"
        photos.make(folder, count)
        for network in networks:
            got = measure(network, folder, Path(temporary) / network, args.measured, args.rounds)
            title = rivals.NETWORKS[network].title
            result[network], rows = summary(got)
            ratios[network] = compare(got)
            targets += judge(network, ratios[network])
            tables.append((f"{title}, {count} photographs, {EPOCHS} epochs, median of {args.rounds} rounds", rows))
    tables.append(("Ratios", [{"network": n, **r} for n, r in ratios.items()]))
    tables.append(("Targets", targets))
    measuring.report(
        "feature_extraction",
        args.quick,
        facts,
        tables,
        photos=count,
        epochs=EPOCHS,
        rounds=args.rounds,
        targets=targets,
        target_met=all(t["met"] for t in targets),
        ratios=ratios,
        networks=result,
    )


def measure(network: str, folder: Path, temporary: Path, measured: int, rounds: int) -> dict[str, list]:
    """Every contender once a round; tlkeras begins each round with an empty cache, and goes on with it 'again'."""
    temporary.mkdir()
    cache, numbers = temporary / "cache", itertools.count()

    def run(name):
        epochs = EPOCHS if name in (TLKERAS, AGAIN) else min(measured, EPOCHS)
        out = temporary / f"run-{next(numbers)}"
        return measuring.in_fresh_process(name, network, folder, out, epochs, TLKERAS_CACHE=cache)

    def first():
        shutil.rmtree(cache, ignore_errors=True)
        return run(TLKERAS)

    others = {name: lambda name=name: run(name) for name in (AGAIN, KERAS, CACHED, TORCH, FLOOR)}
    return measuring.alternate({TLKERAS: first, **others}, rounds)


def summary(got: dict[str, list]) -> tuple[dict, list[dict]]:
    """Medians by contender, and the rows of their table."""
    keys = {
        "total_s": "total s",
        "measured_epochs": "measured epochs",
        "until_epoch_1_s": "until epoch 1 has ended",
        "epoch_s": "epoch (median of the others)",
        "first_step_s": "until the head's first step",
        "cpu_s": "CPU s",
        "peak_mb": "peak MB",
    }
    result, rows = {}, []
    for name, runs in got.items():
        figures = {k: round(measuring.median(runs, k), 3) for k in keys if k in runs[0]}
        result[name] = {**figures, "runs": runs}
        row = {
            title: f"{figures[k]:.{0 if k == 'peak_mb' else 2}f}" if k in figures else "" for k, title in keys.items()
        }
        row["measured epochs"] = f"{figures['measured_epochs']:.0f} of {EPOCHS}" if "measured_epochs" in figures else ""
        note = f" ({runs[0]['engine']}, batches of {runs[0]['batch']})" if name == FLOOR else ""
        rows.append({"contender": name + note, **row})
    return result, rows


def compare(got: dict[str, list]) -> dict:
    return {
        "tlkeras / floor": round(measuring.ratio(got[TLKERAS], got[FLOOR], "total_s"), 3),
        "Keras / tlkeras": round(measuring.ratio(got[KERAS], got[TLKERAS], "total_s"), 2),
        "Keras cached / tlkeras": round(measuring.ratio(got[CACHED], got[TLKERAS], "total_s"), 2),
        "PyTorch / tlkeras": round(measuring.ratio(got[TORCH], got[TLKERAS], "total_s"), 2),
        "again: s until the head's first step": round(measuring.median(got[AGAIN], "first_step_s"), 2),
    }


def judge(network: str, ratios: dict) -> list[dict]:
    title = rivals.NETWORKS[network].title

    def target(what, **bound):
        return measuring.judged(f"{title}: {what}", ratios[what], **bound)

    return [
        target("tlkeras / floor", most=OF_FLOOR),
        target("Keras / tlkeras", least=OF_KERAS[network]),
        target("PyTorch / tlkeras", least=OF_TORCH),
        target("again: s until the head's first step", most=HEAD_WITHIN),
    ]


# ---------------------------------------------------------------------- in the fresh process


def child(name: str, network: str, folder: str, out: str, epochs: str) -> None:
    """One measurement; prints it as a line of JSON. Times of day, because tlkeras writes these into status.jsonl."""
    if name == TORCH:
        rivals.import_timm()
    else:
        rivals.import_keras()
    if name in (TLKERAS, AGAIN):
        from tlkeras import training  # noqa: F401
    before, began = measuring.usage(), time.time()
    if name == FLOOR:
        got = floor(network, folder)
    elif name in (TLKERAS, AGAIN):
        got = with_tlkeras(network, folder, Path(out), int(epochs), began)
    else:
        fit = rivals.fit_torch if name == TORCH else rivals.fit_keras
        ends, _ = fit(network, folder, int(epochs), "head", RATE, VAL, **({"cached": True} if name == CACHED else {}))
        got = measuring.training_times(began, ends, ends[-1], EPOCHS)
    after = measuring.usage()
    used = {"cpu_s": after["cpu"] - before["cpu"], "peak_mb": after["peak_mb"]} if name != FLOOR else {}
    print(json.dumps({**got, **used}))


def with_tlkeras(network: str, folder: str, out: Path, epochs: int, began: float) -> dict:
    from tlkeras import training

    config, steps = out.with_suffix(".yaml"), measuring.note_steps()
    asked = {"dropout": rivals.DROPOUT, "batch": rivals.BATCH, "epochs": epochs, "rate": RATE, "val": VAL}
    config.write_text(CONFIG.format(folder=json.dumps(folder), network=network, **asked), encoding="utf8")
    run = training.train(config, out=out, offline=True, quiet=True)
    ended, events = time.time(), [json.loads(line) for line in run.status.read_text("utf8").splitlines()]
    events = [e for e in events if e["event"] == "epoch"]
    times = measuring.training_times(began, [e["time"] for e in events], ended, epochs)
    return {
        **times,
        "head_began_s": events[0]["time"] - events[0]["seconds"] - began,
        # Without a step of Keras' fit, the end of the first epoch is what is known.
        "first_step_s": steps[0] - began if steps else times["until_epoch_1_s"],
        "after_s": ended - events[-1]["time"],
    }


def floor(network: str, folder: str) -> dict:
    """One reading of every file and one forward pass; starting the engine and choosing the batch are not in its time."""
    paths, began = photos.paths(folder), time.time()
    engine = photos.fastest_engine(rivals.keras_features(network), (paths * 64)[:64])
    started = time.time() - began

    cpu, began = measuring.usage()["cpu"], time.time()
    pixels = photos.by_every_core(photos.decode_and_resize, paths)
    decoded = time.time()
    engine.pop("forward")(pixels)
    ended = time.time()
    return {
        "total_s": ended - began,
        "decode_s": decoded - began,
        "forward_s": ended - decoded,
        "cpu_s": measuring.usage()["cpu"] - cpu,
        **engine,
        "engine_start_s": started,
    }


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
