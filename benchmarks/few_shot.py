"""A few labelled samples a class: class means against a trained head, on the same frozen features.

    python benchmarks/few_shot.py examples/photos --backbone efficientnet_lite0 --shots 1 5 --draws 5

DATA is a folder of class folders, or a table with --text. What is not drawn is judged by. Prints the mean accuracy
over the draws, and the lowest and highest.
"""

import argparse
import csv
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

import tlkeras
from tlkeras.config import Data, document
from tlkeras.data import sources
from tlkeras.tasks import wanted

LINEAR = [{"name": "head", "train": ["head"], "epochs": 100, "learning_rate": 5e-3, "schedule": "cosine"}]


def drawn(samples, shots: int, seed: int) -> list[str]:
    """The split of each sample: `shots` of each class to train on, the rest to judge by."""
    rng, of = np.random.default_rng(seed), defaultdict(list)
    for i, label in enumerate(samples.labels):
        of[label].append(i)
    chosen = {int(i) for rows in of.values() for i in rng.permutation(rows)[:shots]}
    return ["train" if i in chosen else "test" for i in range(len(samples))]


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data")
    asked.add_argument("--task", default="image-classification")
    asked.add_argument("--backbone", default="efficientnet_lite0")
    asked.add_argument("--label", default=None)
    asked.add_argument("--pool", default=None)
    asked.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    asked.add_argument("--draws", type=int, default=5)
    args = asked.parse_args()
    samples = sources.read(Data(path=args.data, label=args.label), texts=wanted(args.task))
    kind = args.task.split("-")[0]
    for shots in args.shots:
        found = defaultdict(list)
        for seed in range(args.draws):
            with tempfile.TemporaryDirectory() as folder:
                table = Path(folder) / "drawn.csv"
                with table.open("w", newline="", encoding="utf8") as f:
                    rows = csv.writer(f)
                    rows.writerow([kind, "label", "split"])
                    for x, label, split in zip(
                        samples.inputs, samples.labels, drawn(samples, shots, seed), strict=True
                    ):
                        cell = x[0] if kind == "text" else "files/" + str(Path(x).relative_to(args.data))
                        rows.writerow([cell, label, split])
                if kind != "text":
                    shutil.copytree(args.data, Path(folder) / "files")
                for head, phases in (("prototypes", None), ("linear", LINEAR)):
                    config = {
                        "name": head,
                        "task": {"name": args.task, "head": head, "dropout": 0.0},
                        "data": {
                            "path": str(table),
                            kind: kind,
                            "label": "label",
                            "split": "split",
                            "val": 0.0,
                        },
                        "backbone": {"name": args.backbone, "pool": args.pool},
                        "prefix": {"store": "on"},
                        "train": {"phases": phases, "seed": seed},
                    }
                    path = Path(folder) / f"{head}.yaml"
                    path.write_text(document.write(config), encoding="utf8")
                    run = tlkeras.train(path, Path(folder) / head, quiet=True)
                    scored = tlkeras.evaluate(run.folder, quiet=True)["metrics"]
                    found[head].append((scored["accuracy"], scored["log_loss"]))
                    print(f"{shots} shots, draw {seed}, {head}: {found[head][-1]}", flush=True)
        for head, values in found.items():
            accuracy = np.array(values)
            print(
                f"{shots:>3} a class  {head:<11} accuracy {accuracy[:, 0].mean():.3f} ({accuracy[:, 0].min():.3f} to {accuracy[:, 0].max():.3f}), "
                f"log loss {accuracy[:, 1].mean():.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
