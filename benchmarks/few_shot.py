"""A few labelled samples a class: class means against a trained linear head, on the same frozen features.

    python benchmarks/few_shot.py examples/photos --backbone efficientnet_lite0 --shots 1 5 --draws 20

Trains one run with task.head: prototypes, takes its features of every sample, and draws the labelled ones from all
of them; what is not drawn is judged by. The linear head is Keras' Dense under AdamW, 100 epochs, cosine, as long as
it takes: with so few samples none is left to stop by. Prints the mean accuracy over the draws, the lowest and highest.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np

import tlkeras
from tlkeras import data, evaluation, kept, prototypes
from tlkeras.config import document
from tlkeras.progress import Progress


def features(args) -> tuple[np.ndarray, np.ndarray]:
    """(n, c) and the class of each, of every sample of the data."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "task": {"name": args.task, "head": "prototypes"},
            "data": {"path": args.data, "label": args.label},
            "backbone": {"name": args.backbone, "pool": args.pool, "resize": args.resize},
        }
        path = Path(folder) / "few.yaml"
        path.write_text(document.write(config), encoding="utf8")
        trained = evaluation.open_trained(tlkeras.train(path, Path(folder) / "run", quiet=True).folder)
        held = data.reopen(trained.run)
        tensor = kept.entering(trained.network.model)
        found, _ = kept.rows(trained, tensor, held, np.arange(len(held.ids)), "few_shot", Progress(True))
        return found, held.targets.argmax(1)


def by_means(x, y, k: int):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[y == c].mean(0) for c in range(k)])
    s = prototypes.sharpness(unit, y, means)
    return lambda new: 2 * s * (new / np.linalg.norm(new, axis=1, keepdims=True)) @ means.T - s * (means**2).sum(1)


def by_training(x, y, k: int, seed: int):
    keras.utils.set_random_seed(seed)
    epochs, batch = 100, 32
    steps = epochs * -(-len(x) // batch)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps * 9 // 10, warmup_target=5e-3, warmup_steps=steps // 10)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(k)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.0), loss)
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0)
    kernel, bias = model.get_weights()
    return lambda new: new @ kernel + bias


def judged(logits, y) -> tuple[float, float]:
    """Accuracy and log loss."""
    z = logits - logits.max(1, keepdims=True)
    surprise = np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]
    return float((logits.argmax(1) == y).mean()), float(surprise.mean())


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data")
    asked.add_argument("--task", default="image-classification")
    asked.add_argument("--backbone", default="efficientnet_lite0")
    asked.add_argument("--label", default=None)
    asked.add_argument("--pool", default=None)
    asked.add_argument("--resize", default="squash")
    asked.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    asked.add_argument("--draws", type=int, default=20)
    args = asked.parse_args()
    x, y = features(args)
    k = int(y.max()) + 1
    for shots in args.shots:
        found: dict = {"class means": [], "linear head": []}
        for seed in range(args.draws):
            order = np.random.default_rng(seed).permutation(len(y))
            drawn = np.concatenate([order[y[order] == c][:shots] for c in range(k)])
            rest = np.setdiff1d(order, drawn)
            found["class means"].append(judged(by_means(x[drawn], y[drawn], k)(x[rest]), y[rest]))
            found["linear head"].append(judged(by_training(x[drawn], y[drawn], k, seed)(x[rest]), y[rest]))
        for name, values in found.items():
            a, surprise = np.array(values).T
            print(
                f"{shots:>3} a class  {name}  accuracy {a.mean():.3f} ({a.min():.3f} to {a.max():.3f}), log loss {surprise.mean():.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
