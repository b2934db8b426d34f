"""Images per second of training steps, everything trained and the last quarter: tlkeras, Keras' fit and PyTorch.

    python benchmarks/fine_tune.py [--quick] [--photos N] [--networks a,b] [--rounds N]

160 JPEGs of 640 x 480 (--quick: 64), all of them trained on, 224 x 224 pixels, batches of 32, Adam, float32, 5 epochs
(--quick: 3); ResNet50, EfficientNet-B0 and MobileNetV3-Large with random weights. 'all': every layer, BatchNorm by
the batch. 'last': the head and about the last quarter of the backbone's blocks, BatchNorm training there and in
inference mode in what is frozen. The layers are the same in all three, as the number of trained parameters shows,
but for ResNet50: timm's has no biases, and about 6 % more to compute, for its 3 x 3 convolutions take the strides.
Each is a fresh process. Images/s are those of the median epoch after the first, for tlkeras without the checkpoint
that ends it and without what it computes once before the first; 'in all' is the time from after the imports until
training has ended, with both, where tlkeras also scans and splits the files, audits the weights and saves the model.
Targets: 'all' no slower than either; 'last' at least three times as fast as either.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measuring
import photos
import rivals

RATE = 1e-4
TLKERAS, KERAS, TORCH = "tlkeras", "plain Keras", "PyTorch, timm"
TARGETS = {"all": 1, "last": 3}
CONFIG = """\
task: {{name: image-classification, dropout: {dropout}}}
data: {{path: {folder}, val: 0, test: 0}}
backbone: {{name: {network}, weights: null}}
train:
  batch: {batch}
  precision: float32
  phases:
    - {{name: tune, train: {train}, epochs: {epochs}, learning_rate: {rate}, batchnorm: train, optimizer: adam, schedule: constant, warmup: 0}}
"""


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--photos", type=int, help="default: 160, --quick: 64")
    parser.add_argument("--networks", help=f"default: {','.join(rivals.NETWORKS)}; --quick: the last of them")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    measuring.needs("torch", "timm")
    networks = args.networks.split(",") if args.networks else list(rivals.NETWORKS)[-1 if args.quick else 0 :]
    facts, count, epochs = measuring.machine(), args.photos or (64 if args.quick else 160), 3 if args.quick else 5
    rows, result, targets = [], {}, []
    with tempfile.TemporaryDirectory(prefix="tlkeras-tune-") as temporary:
        folder = Path(temporary) / "photos"
        photos.make(folder, count)
        for network, setting in itertools.product(networks, TARGETS):
            got = measure(network, setting, folder, Path(temporary), epochs, args.rounds)
            result.setdefault(network, {})[setting] = summary(got)
            rows += table(network, setting, result[network][setting])
            targets += judge(network, setting, got)
    title = f"{count} photographs, {epochs} epochs, median of {args.rounds} rounds"
    measuring.report(
        "fine_tune",
        args.quick,
        facts,
        [(title, rows), ("Targets", targets)],
        photos=count,
        epochs=epochs,
        rounds=args.rounds,
        targets=targets,
        target_met=all(t["met"] for t in targets),
        networks=result,
    )


def measure(network: str, setting: str, folder: Path, temporary: Path, epochs: int, rounds: int) -> dict[str, list]:
    """Every contender once a round; tlkeras has an empty cache each time."""

    def run(name):
        with tempfile.TemporaryDirectory(dir=temporary) as own:
            out = Path(own) / "run"
            return measuring.in_fresh_process(
                name, network, setting, folder, out, epochs, TLKERAS_CACHE=Path(own) / "cache"
            )

    return measuring.alternate({name: lambda name=name: run(name) for name in (TLKERAS, KERAS, TORCH)}, rounds)


def summary(got: dict[str, list]) -> dict:
    return {
        name: {
            "images_per_s": round(measuring.median(runs, "images_per_s"), 2),
            "total_s": round(measuring.median(runs, "total_s"), 2),
            "until_epoch_1_s": round(measuring.median(runs, "until_epoch_1_s"), 2),
            "trained_parameters": runs[0]["trained_parameters"],
            "cpu_s": round(measuring.median(runs, "cpu_s"), 2),
            "peak_mb": round(measuring.median(runs, "peak_mb")),
            "runs": runs,
        }
        for name, runs in got.items()
    }


def table(network: str, setting: str, contenders: dict[str, dict]) -> list[dict]:
    return [
        {
            "network": rivals.NETWORKS[network].title,
            "trained": setting,
            "contender": name,
            "images/s": f"{c['images_per_s']:.1f}",
            "in all s": f"{c['total_s']:.1f}",
            "until epoch 1 has ended": f"{c['until_epoch_1_s']:.1f}",
            "CPU s": f"{c['cpu_s']:.1f}",
            "peak MB": c["peak_mb"],
            "trained parameters": f"{c['trained_parameters']:,}",
        }
        for name, c in contenders.items()
    ]


def judge(network: str, setting: str, got: dict[str, list]) -> list[dict]:
    return [
        measuring.judged(
            f"{rivals.NETWORKS[network].title}, {setting}: tlkeras / {rival}",
            measuring.ratio(got[TLKERAS], got[rival], "images_per_s"),
            least=TARGETS[setting],
        )
        for rival in (KERAS, TORCH)
    ]


# ---------------------------------------------------------------------- in the fresh process


def child(name: str, network: str, setting: str, folder: str, out: str, epochs: str) -> None:
    """One measurement; prints it as a line of JSON."""
    if name == TORCH:
        rivals.import_timm()
    else:
        rivals.import_keras()
    if name == TLKERAS:
        from tlkeras import training  # noqa: F401
    before, began = measuring.usage(), time.time()
    if name == TLKERAS:
        ends, each, trained = with_tlkeras(network, setting, folder, Path(out), int(epochs))
        total = time.time() - began
    else:
        fit = {KERAS: rivals.fit_keras, TORCH: rivals.fit_torch}[name]
        ends, trained = fit(network, folder, int(epochs), setting, RATE, 0)
        each, total = [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)], ends[-1] - began
    after, later = measuring.usage(), statistics.median(each)
    print(
        json.dumps(
            {
                "images_per_s": len(photos.paths(folder)) / later,
                "total_s": total,
                "until_epoch_1_s": ends[0] - began,
                "epochs_s": [round(e, 3) for e in each],
                "trained_parameters": trained,
                "cpu_s": after["cpu"] - before["cpu"],
                "peak_mb": after["peak_mb"],
            }
        )
    )


def with_tlkeras(network: str, setting: str, folder: str, out: Path, epochs: int) -> tuple[list, list, int]:
    """(when each epoch had ended, the seconds of those after the first, number of trained parameters)."""
    from tlkeras import training

    config, train = out.with_suffix(".yaml"), "all"
    if setting == "last":
        train = f'[head, "blocks[-{rivals.last_blocks(network)[0]}:]"]'
    asked = {"dropout": rivals.DROPOUT, "batch": rivals.BATCH, "rate": RATE, "epochs": epochs, "train": train}
    config.write_text(CONFIG.format(folder=json.dumps(folder), network=network, **asked), encoding="utf8")
    run = training.train(config, out=out, offline=True, quiet=True)
    events = [json.loads(line) for line in run.status.read_text("utf8").splitlines()]
    trained = sum(row["trainable"] for row in json.loads(run.plan.read_text("utf8"))["blocks"])
    events = [e for e in events if e["event"] == "epoch"]
    return [e["time"] for e in events], [e["seconds"] for e in events[1:]], trained


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
