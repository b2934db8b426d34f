"""Training a linear head on a frozen MobileNetV2: `tlkeras train` beside plain Keras as in its transfer-learning guide.

    python benchmarks/feature_extraction.py [--quick]

200 JPEGs of 640 x 480, 160 to train and 40 to validate on, 224 x 224 pixels, batches of 32, Adam, float32, 10 epochs
(--quick: 3). Random weights: nothing is downloaded, and the time is the same. Both are timed in a fresh process,
from after the imports until training has ended, validation included. tlkeras also checks, hashes and splits
the files, writes a checkpoint an epoch, audits the weights and saves the model; plain Keras does none of that.
Target: tlkeras no slower.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measuring

N, CLASSES, BATCH, RATE, DROPOUT = 200, 4, 32, 1e-3, 0.2
TLKERAS, KERAS = "tlkeras train", "plain Keras"
CONFIG = """\
task: {{name: image-classification, dropout: {dropout}}}
data: {{path: {folder}, val: 0.2, test: 0}}
backbone: {{name: mobilenet_v2, weights: null}}
train:
  batch: {batch}
  precision: float32
  phases:
    - {{name: head, train: [head], epochs: {epochs}, learning_rate: {rate}, optimizer: adam, schedule: constant, warmup: 0}}
"""


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--rounds", type=int, help="default: 3, --quick: 1")
    args = parser.parse_args()
    facts, epochs, rounds = measuring.machine(), 3 if args.quick else 10, args.rounds or (1 if args.quick else 3)
    with tempfile.TemporaryDirectory(prefix="tlkeras-features-") as temporary:
        folder = Path(temporary) / "photos"
        make_photos(folder)
        fresh = iter(range(1000))

        def run(name):
            n = next(fresh)
            # A cache of its own: nothing is known of the files from an earlier run.
            return measuring.in_fresh_process(
                name, folder, Path(temporary) / f"run-{n}", epochs, TLKERAS_CACHE=Path(temporary) / f"cache-{n}"
            )

        got = measuring.alternate({TLKERAS: lambda: run(TLKERAS), KERAS: lambda: run(KERAS)}, rounds)

    result, ratios, rows = summary(got)
    title = f"{epochs} epochs, median of {rounds} rounds"
    settings = {"epochs": epochs, "rounds": rounds, "target_ratio": 1.0, "target_met": ratios["total_s"] <= 1.0}
    measuring.report(
        "feature_extraction", args.quick, facts, [(title, rows)], **settings, ratios=ratios, contenders=result
    )


def summary(got: dict[str, list]) -> tuple[dict, dict, list[dict]]:
    """Medians by contender, the ratios tlkeras / Keras, and both as the rows of a table.

    A ratio is the median over the rounds, so that both of its sides saw the same machine; that of CPU seconds
    says most where other work shares the cores.
    """
    keys = {
        "total_s": "total s",
        "least_total_s": "least of the rounds",
        "until_epoch_1_s": "until epoch 1 has ended",
        "epoch_s": "epoch (median of the others)",
        "after_s": "after the last",
        "cpu_s": "CPU s",
        "peak_mb": "peak MB",
    }
    result, rows = {}, []
    for name, runs in got.items():
        least = min(r["total_s"] for r in runs)
        figures = {k: round(least if k == "least_total_s" else measuring.median(runs, k), 3) for k in keys}
        result[name] = {**figures, "runs": runs}
        rows.append(
            {"contender": name, **{title: f"{figures[k]:.{0 if k == 'peak_mb' else 1}f}" for k, title in keys.items()}}
        )
    pairs = list(zip(got[TLKERAS], got[KERAS], strict=True))
    ratios = {
        key: round(statistics.median(a[key] / b[key] for a, b in pairs), 3)
        for key in ("total_s", "epoch_s", "cpu_s", "peak_mb")
    }
    ratios["least_total_s"] = round(result[TLKERAS]["least_total_s"] / result[KERAS]["least_total_s"], 3)
    rows.append(
        {
            "contender": "tlkeras / Keras",
            **{title: f"{ratios[k]:.2f}" if k in ratios else "" for k, title in keys.items()},
        }
    )
    return result, ratios, rows


def make_photos(folder: Path) -> None:
    """Pictures with a coarse texture, grain like a camera's, and a tint that tells the class; about 100 kB each."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(N):
        c = i % CLASSES
        (folder / f"class{c}").mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (640, 480), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(coarse, np.float32) * 0.7 + random.normal(0, 6, (480, 640, 1))
        pixels[..., c % 3] += 20 * (c + 1)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"class{c}" / f"{i:03d}.jpg", quality=90)


def with_tlkeras(folder: str, out: str, epochs: int) -> list[float]:
    """Trains; the times at which epochs had ended, checkpoint written."""
    from tlkeras import training

    config = Path(out).with_suffix(".yaml")
    config.write_text(
        CONFIG.format(folder=json.dumps(folder), batch=BATCH, epochs=epochs, rate=RATE, dropout=DROPOUT),
        encoding="utf8",
    )
    run = training.train(config, out=out, offline=True, quiet=True)
    events = [json.loads(line) for line in run.status.read_text("utf8").splitlines()]
    return [e["time"] for e in events if e["event"] == "epoch"]


def with_keras(folder: str, out: str, epochs: int) -> list[float]:
    """After https://keras.io/guides/transfer_learning/, its dataset read by image_dataset_from_directory."""
    import keras

    keras.utils.set_random_seed(0)
    train, val = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="categorical",
        batch_size=BATCH,
        image_size=(224, 224),
        validation_split=0.2,
        subset="both",
        seed=0,
        verbose=False,
    )
    base = keras.applications.MobileNetV2(input_shape=(224, 224, 3), include_top=False, weights=None)
    base.trainable = False
    inputs = keras.Input((224, 224, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    outputs = keras.layers.Dense(CLASSES)(keras.layers.Dropout(DROPOUT)(x))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy()],
    )
    ends = []
    model.fit(
        train,
        validation_data=val,
        epochs=epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.time()))],
    )
    return ends


def child(name: str, folder: str, out: str, epochs: str) -> None:
    """One measurement; prints it as a line of JSON. Times of day, because tlkeras writes these into status.jsonl."""
    import keras  # noqa: F401
    import tensorflow as tf

    from tlkeras import training  # noqa: F401

    tf.constant(0)
    before, began = measuring.usage(), time.time()
    ends = {TLKERAS: with_tlkeras, KERAS: with_keras}[name](folder, out, int(epochs))
    total, after = time.time() - began, measuring.usage()
    each = [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)]
    print(
        json.dumps(
            {
                "total_s": total,
                "until_epoch_1_s": ends[0] - began,
                "epoch_s": statistics.median(each),
                "after_s": total - (ends[-1] - began),
                "cpu_s": after["cpu"] - before["cpu"],
                "peak_mb": after["peak_mb"],
                "epochs_s": [round(e, 3) for e in each],
            }
        )
    )


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
