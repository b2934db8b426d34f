"""Time per sample and memory of scanning and splitting 1,000, 10,000 and 100,000 small JPEGs.

    python benchmarks/scale.py [--quick]

tlkeras does what training does before the network is built: list, open, hash and decode every file, look for
near duplicates, split, and write splits.parquet; once with nothing known, once with what a scan before left
in the cache. Beside it, what a user would write instead: a loop in Pillow that decodes and hashes every
file (one thread per core) and scikit-learn's stratified split; and Keras' own listing, which opens no file.
Every measurement is a fresh process; imports are not in its time, but in its memory.
Target: less than 1 GB of memory at 100,000 files.
"""

import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import measuring

TARGET_MB, CLASSES, SIDE = 1000, 10, 96
COLD, WARM, PILLOW, LISTING = (
    "tlkeras, nothing known",
    "tlkeras, scanned before",
    "Pillow and scikit-learn",
    "Keras listing (opens nothing)",
)


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument(
        "--textures",
        type=int,
        help="draw the pictures from so many, so that most have near duplicates; default: every file its own",
    )
    args = parser.parse_args()
    facts = measuring.machine()
    sizes = {1_000: 1, 5_000: 1} if args.quick else {1_000: 3, 10_000: 3, 100_000: 1}
    rows, result = [], []
    for n, rounds in sizes.items():
        with tempfile.TemporaryDirectory(prefix="tlkeras-scale-") as temporary:
            folder = Path(temporary) / "photos"
            make_photos(folder, n, args.textures)
            got = measure(folder, Path(temporary), rounds)
        base = measuring.median(got[PILLOW], "seconds")
        for name, runs in got.items():
            seconds, cpu, peak, start = (
                measuring.median(runs, key) for key in ("seconds", "cpu", "peak_mb", "start_mb")
            )
            result.append(
                {
                    "files": n,
                    "rounds": rounds,
                    "contender": name,
                    "seconds": round(seconds, 3),
                    "ms_per_sample": round(1000 * seconds / n, 4),
                    "cpu_ms_per_sample": round(1000 * cpu / n, 4),
                    "of_pillow": round(seconds / base, 3),
                    "peak_mb": round(peak),
                    "imports_mb": round(start),
                    "runs": runs,
                }
            )
            rows.append(
                {
                    "contender": name,
                    "files": f"{n:,}",
                    "s": f"{seconds:.2f}",
                    "ms per file": f"{1000 * seconds / n:.3f}",
                    "CPU ms per file": f"{1000 * cpu / n:.3f}",
                    "of Pillow": f"{seconds / base:.2f}",
                    "peak MB": f"{peak:.0f}",
                    "of it imports": f"{start:.0f}",
                }
            )
    most = max(sizes)
    met = all(r["peak_mb"] < TARGET_MB for r in result if r["files"] == most and r["contender"] in (COLD, WARM))
    measuring.report(
        "scale",
        args.quick,
        facts,
        [("Medians of " + ", ".join(f"{r} rounds at {n:,}" for n, r in sizes.items()), rows)],
        textures=args.textures,
        side=SIDE,
        target_mb=TARGET_MB,
        target_met=met,
        measured=result,
    )


def measure(folder: Path, temporary: Path, rounds: int) -> dict[str, list]:
    fresh = iter(range(1000))

    def run(name, cache):
        return measuring.in_fresh_process(
            name, folder, temporary / f"run-{next(fresh)}", TLKERAS_CACHE=temporary / cache
        )

    # What a round's cold scan has left is what its warm scan finds.
    def warm():
        got = run(WARM, "cache")
        shutil.rmtree(temporary / "cache")
        return got

    contenders = {
        COLD: lambda: run(COLD, "cache"),
        PILLOW: lambda: run(PILLOW, "none"),
        WARM: warm,
        LISTING: lambda: run(LISTING, "none"),
    }
    return measuring.alternate(contenders, rounds)


def make_photos(folder: Path, n: int, textures: int | None) -> None:
    """Writes n small JPEGs in class folders, no two with the same bytes, an hour old: the cache trusts no newer file."""
    import numpy as np
    from PIL import Image

    random, hour_ago, drawn = np.random.default_rng(0), time.time() - 3600, []
    for c in range(CLASSES):
        (folder / f"class{c}").mkdir(parents=True)
    for i in range(n):
        if textures is None or i < textures:
            coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
            encoded = io.BytesIO()
            coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=85)
            drawn = [*drawn, encoded.getvalue()] if textures else [encoded.getvalue()]
        picture = drawn[i % len(drawn)]
        if textures:
            # A comment with the number makes the bytes differ; behind the first table, where it costs no reader anything.
            table = picture.index(b"\xff\xdb") + 2
            table += int.from_bytes(picture[table : table + 2])
            picture = picture[:table] + b"\xff\xfe\x00\x0a%08d" % i + picture[table:]
        path = folder / f"class{i % CLASSES}" / f"{i:06d}.jpg"
        path.write_bytes(picture)
        os.utime(path, (hour_ago, hour_ago))


def with_tlkeras(folder: str, out: str) -> list[str]:
    """What `tlkeras train` does with its data; the splits of the samples."""
    from tlkeras import data, run, tasks
    from tlkeras.config import Data
    from tlkeras.progress import Progress

    class AsConfig:
        data = Data(path=folder)

    task = tasks.get("image-classification")
    return data.prepare(
        AsConfig, task, task.Options(), run.create(out), offline=True, progress=Progress(quiet=True)
    ).splits


def with_pillow(folder: str, out: str) -> list[str]:
    import hashlib
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image
    from sklearn.model_selection import train_test_split

    def look(path):
        contents = path.read_bytes()
        with Image.open(io.BytesIO(contents)) as image:
            image.convert("RGB").load()
        return hashlib.sha256(contents).hexdigest()

    paths = sorted(Path(folder).glob("*/*.jpg"))
    labels = [p.parent.name for p in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(pool.map(look, paths))
    if len(set(hashes)) != len(paths):
        raise SystemExit("two files have the same bytes")
    rest, test = train_test_split(range(len(paths)), test_size=0.2, random_state=0, stratify=labels)
    train, val = train_test_split(rest, test_size=0.25, random_state=0, stratify=[labels[i] for i in rest])
    split = dict.fromkeys(train, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return [split[i] for i in range(len(paths))]


def with_listing(folder: str, out: str) -> list[str]:
    import keras

    train, val = keras.utils.image_dataset_from_directory(
        folder, validation_split=0.4, subset="both", seed=0, verbose=False
    )
    return ["train"] * len(train.file_paths) + ["val"] * len(val.file_paths)


def child(name: str, folder: str, out: str) -> None:
    """One measurement; prints it as a line of JSON."""
    if name == PILLOW:
        import PIL.Image  # noqa: F401
        import sklearn.model_selection  # noqa: F401
    else:
        import keras  # noqa: F401
        import tensorflow as tf

        tf.constant(0)
    start, began = measuring.usage(), time.perf_counter()
    work = {COLD: with_tlkeras, WARM: with_tlkeras, PILLOW: with_pillow, LISTING: with_listing}[name]
    splits = work(folder, out)
    seconds, end = time.perf_counter() - began, measuring.usage()
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu": end["cpu"] - start["cpu"],
                "peak_mb": end["peak_mb"],
                "start_mb": start["peak_mb"],
                "train": splits.count("train"),
                "samples": len(splits),
            }
        )
    )


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
