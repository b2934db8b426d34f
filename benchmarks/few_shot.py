"""A few labelled samples a class: class means against a trained linear head, on the same frozen features.

    python benchmarks/few_shot.py configs/images/few-shot.yaml --shots 1 5 --draws 10
    python benchmarks/few_shot.py configs/text/sections.yaml --shots 1 5 10
    python benchmarks/few_shot.py configs/audio/language.yaml -s data.path=FOLDER

Places the head of a config of classification once, takes its features of every sample, and draws the labelled ones
from all of them; what is not drawn is judged by. The linear head learns 100 epochs by Adam and cosine, as long as it
takes: with so few samples none is left to stop by. A class of fewer than twice as many samples is left out.
Prints the mean accuracy over the draws, the lowest and highest.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import tlkeras
from tlkeras import data, evaluation, kept, prototypes
from tlkeras.progress import Progress

PLACED = ("task.head=prototypes", "task.dropout=0", "task.start=random", "train.phases=null", "train.recipe=null")


def features(config, sets) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(n, c), the class of each, and the names of the classes, of every sample of the data."""
    with tempfile.TemporaryDirectory() as folder:
        trained = evaluation.open_trained(tlkeras.train(config, Path(folder) / "run", [*PLACED, *sets]).folder)
        held = data.reopen(trained.run)
        tensor = kept.entering(trained.network.model)
        found, _ = kept.rows(trained, tensor, held, np.arange(len(held.ids)), "few_shot", Progress(True))
        return found, held.targets.argmax(1), held.answer["classes"]


def by_means(x, y, k: int):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[y == c].mean(0) for c in range(k)])
    s = prototypes.sharpness(unit, y, means)
    return lambda new: 2 * s * (new / np.linalg.norm(new, axis=1, keepdims=True)) @ means.T - s * (means**2).sum(1)


def by_training(x, y, k: int, seed: int):
    """Keras' Dense as it begins, under its Adam; in NumPy, where a step of so few samples takes no time."""
    rng, n, (epochs, batch) = np.random.default_rng(seed), len(x), (100, 32)
    kernel = rng.uniform(-1, 1, (x.shape[1], k)) * np.sqrt(6 / (x.shape[1] + k))
    weights, one = [kernel, np.zeros(k)], np.eye(k)[y]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    steps, t = epochs * -(-n // batch), 0
    warm = steps // 10
    for _ in range(epochs):
        order = rng.permutation(n)
        for at in range(0, n, batch):
            rows = order[at : at + batch]
            wave = 0.5 + 0.5 * np.cos(np.pi * (t - warm) / (steps - warm))
            rate = 5e-3 * (t / warm if t < warm else wave)
            t += 1
            apart = (softmax(x[rows] @ weights[0] + weights[1]) - one[rows]) / len(rows)
            for i, g in enumerate((x[rows].T @ apart, apart.sum(0))):
                first[i] += 0.1 * (g - first[i])
                second[i] += 0.001 * (g**2 - second[i])
                step = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
                weights[i] = weights[i] - step * first[i] / (np.sqrt(second[i]) + 1e-7)
    return lambda new: new @ weights[0] + weights[1]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def judged(logits, y) -> tuple[float, float]:
    """Accuracy and log loss."""
    z = logits - logits.max(1, keepdims=True)
    surprise = np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]
    return float((logits.argmax(1) == y).mean()), float(surprise.mean())


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("config")
    asked.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE")
    asked.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    asked.add_argument("--draws", type=int, default=20)
    args = asked.parse_args()
    x, y, names = features(args.config, args.set)
    counts = np.bincount(y, minlength=len(names))
    enough = np.flatnonzero(counts >= 2 * max(args.shots))
    if len(enough) < len(names):
        print("left out, too few samples:", ", ".join(n for c, n in enumerate(names) if c not in enough))
        x, y = x[np.isin(y, enough)], np.searchsorted(enough, y[np.isin(y, enough)])
    k = len(enough)
    print(f"{len(y)} samples, {k} classes, {x.shape[1]} features")
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
