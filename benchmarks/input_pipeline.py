"""From JPEG files to batches of 32 pictures of 224 x 224: tlkeras, Keras, Pillow in a DataLoader, and the floor.

    python benchmarks/input_pipeline.py [--quick] [--rounds N]

600 JPEGs of 640 x 480 and 48 of 4000 x 3000 (--quick: 64 and 8). Each contender is a fresh process that reads all
files once without counting, so that they lie in the page cache and everything is compiled, and then five times
(--quick: twice), of which the median counts. tlkeras reads as its pipeline does in order (uint8, antialiased, each
file compared with what the scan saw); Keras is image_dataset_from_directory as it is (float32, not antialiased);
Pillow is Image.open and a bilinear resize, without draft(), in a torch DataLoader of two workers. The floor is a
plain loop of libjpeg-turbo's decoding on every core, scaled by the DCT to no less than 224 pixels: no resizing.
'In one go' is the rate of as many passes read by one iterator: what a pass costs to start is in it once.
Targets: tlkeras at least 0.9 of the floor for the large ones, and at least twice as fast as Pillow.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measuring
import photos
import rivals

TLKERAS, KERAS, PILLOW, FLOOR = "tlkeras", "image_dataset_from_directory", "Pillow, DataLoader", "floor: decoding alone"
SMALL, LARGE = "640 x 480", "4000 x 3000"
OF_FLOOR, OF_PILLOW = 0.9, 2


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    measuring.needs("simplejpeg", "torch")
    facts, passes = measuring.machine(), 2 if args.quick else 5
    counts = {SMALL: 64, LARGE: 8} if args.quick else {SMALL: 600, LARGE: 48}
    rows, result, targets = [], {}, []
    with tempfile.TemporaryDirectory(prefix="tlkeras-input-") as temporary:
        for size, count in counts.items():
            folder = Path(temporary) / size.replace(" ", "")
            photos.make(folder, count, tuple(map(int, size.split(" x "))))
            got = measure(folder, passes, args.rounds)
            result[size] = {"photos": count, "contenders": {name: summary(runs, count) for name, runs in got.items()}}
            rows += table(size, result[size]["contenders"])
            targets += judge(size, got)
    measuring.report(
        "input_pipeline",
        args.quick,
        facts,
        [(f"Median of {passes} passes, {args.rounds} rounds", rows), ("Targets", targets)],
        passes=passes,
        rounds=args.rounds,
        targets=targets,
        target_met=all(t["met"] for t in targets),
        sizes=result,
    )


def measure(folder: Path, passes: int, rounds: int) -> dict[str, list]:
    def run(name):
        return measuring.in_fresh_process(name, folder, passes, TLKERAS_CACHE=folder.parent / "cache")

    return measuring.alternate({n: lambda n=n: run(n) for n in (TLKERAS, KERAS, PILLOW, FLOOR)}, rounds)


def summary(runs: list[dict], count: int) -> dict:
    return {
        "images_per_s": round(count / measuring.median(runs, "pass_s"), 1),
        "in_one_go_images_per_s": round(count / measuring.median(runs, "in_one_go_s"), 1),
        "cpu_ms_per_image": round(1000 * measuring.median(runs, "cpu_s") / count, 3),
        "peak_mb": round(measuring.median(runs, "peak_mb")),
        "runs": runs,
    }


def table(size: str, contenders: dict[str, dict]) -> list[dict]:
    floor = contenders[FLOOR]["images_per_s"]
    return [
        {
            "contender": name,
            "photographs": size,
            "images/s": f"{c['images_per_s']:.0f}",
            "of the floor": f"{c['images_per_s'] / floor:.2f}",
            "in one go": f"{c['in_one_go_images_per_s']:.0f}",
            "of the floor's": f"{c['in_one_go_images_per_s'] / contenders[FLOOR]['in_one_go_images_per_s']:.2f}",
            "CPU ms per image": f"{c['cpu_ms_per_image']:.2f}",
            "peak MB": c["peak_mb"],
        }
        for name, c in contenders.items()
    ]


def judge(size: str, got: dict[str, list]) -> list[dict]:
    """A ratio of images/s is the inverse ratio of seconds."""
    floor = measuring.ratio(got[FLOOR], got[TLKERAS], "pass_s")
    pillow = measuring.ratio(got[PILLOW], got[TLKERAS], "pass_s")
    of_floor = [measuring.judged(f"{size}: tlkeras / floor", floor, least=OF_FLOOR)] if size == LARGE else []
    return [*of_floor, measuring.judged(f"{size}: tlkeras / Pillow", pillow, least=OF_PILLOW)]


# ---------------------------------------------------------------------- in the fresh process


def with_tlkeras(folder: str):
    """A function that reads everything so many times and counts pictures, as the others below; scanning and splitting are not in its time."""
    import numpy as np

    from tlkeras import config, data, tasks
    from tlkeras.backbones import Pixels
    from tlkeras.data import pictures
    from tlkeras.progress import Progress

    task, section = tasks.get("image-classification"), config.Data(path=folder, val=0.0, test=0.0)
    held = data.collect(section, task, task.Options(), Progress(quiet=True))
    table = held.table(np.arange(len(held.ids)), held.targets, np.ones(len(held.ids), np.float32))
    batches = pictures.in_order(table, Pixels(size=(photos.SIDE, photos.SIDE)), rivals.BATCH)
    return lambda times: sum(len(pixels) for pixels, *_ in batches.repeat(times))


def with_keras(folder: str):
    batches, _ = rivals.keras_photos(folder, val=0)
    return lambda times: sum(len(pixels) for pixels, _ in batches.repeat(times))


def with_pillow(folder: str):
    batches = rivals.torch_photos(photos.paths(folder), shuffle=False)
    return lambda times: sum(len(pixels) for _ in range(times) for pixels, _ in batches)


def decoding_alone(folder: str):
    paths = photos.paths(folder)
    return lambda times: len(photos.by_every_core(decode_and_forget, paths * times))


def decode_and_forget(path: str) -> None:
    photos.decode(path)


def child(name: str, folder: str, passes: str) -> None:
    """One measurement; prints it as a line of JSON."""
    read = {TLKERAS: with_tlkeras, KERAS: with_keras, PILLOW: with_pillow, FLOOR: decoding_alone}[name](folder)
    count, passes = len(photos.paths(folder)), int(passes)
    if read(1) != count:
        raise SystemExit(f"{name} does not read {count} pictures")
    before, each = measuring.usage(), [seconds(read, 1) for _ in range(passes)]
    in_one_go = seconds(read, passes) / passes
    del read  # ends the workers of a DataLoader, so that their time is counted
    after = measuring.usage()
    print(
        json.dumps(
            {
                "pass_s": statistics.median(each),
                "in_one_go_s": in_one_go,
                "cpu_s": (after["cpu"] - before["cpu"]) / (2 * passes),
                "peak_mb": after["peak_mb"],
                "passes_s": each,
            }
        )
    )


def seconds(function, argument) -> float:
    began = time.perf_counter()
    function(argument)
    return time.perf_counter() - began


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
