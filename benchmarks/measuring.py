"""What the benchmarks share: fresh processes, contenders in turn, facts of the machine, results as JSON and Markdown."""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("tlkeras", "tensorflow", "keras", "numpy", "pillow", "scikit-learn", "click"),
    *("openvino", "simplejpeg", "torch", "timm"),
)


def arguments(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=doc.splitlines()[0],
        epilog="\n".join(doc.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="less of everything, to see that it works; kept beside the full result as NAME-quick.json",
    )
    return parser


def needs(*modules: str) -> None:
    """Ends with what to install when a contender is not there."""
    if missing := [name for name in modules if not importlib.util.find_spec(name)]:
        raise SystemExit(f"{', '.join(missing)} must be installed to be measured: pip install -e '.[test,bench]'")


def alternate(contenders: dict, rounds: int) -> dict[str, list]:
    """Calls every contender once a round (A B A B ...), so that what else the machine does hits all alike."""
    got, moving = {name: [] for name in contenders}, sys.stderr.isatty()
    for n in range(1, rounds + 1):
        for name, measure in contenders.items():
            print(f"\r\x1b[Kround {n} of {rounds}: {name}" if moving else "", end="", file=sys.stderr, flush=True)
            got[name].append(measure())
        print("\r\x1b[K" if moving else f"round {n} of {rounds}\n", end="", file=sys.stderr, flush=True)
    return got


def timed(command: list[str], **options) -> dict:
    """Runs a command: {'seconds': wall, 'cpu': seconds of computing, its children's too}. `options`: cwd, env."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def in_fresh_process(*args, **environment) -> dict:
    """Runs this very script with `--child` and these arguments; gives the JSON object of its last line."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **{k: str(v) for k, v in environment.items()}}
    done = subprocess.run(
        [sys.executable, sys.argv[0], "--child", *map(str, args)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, args))} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def usage() -> dict:
    """CPU seconds of this process and of its children that have ended, and its own peak memory so far.

    Linux counts the memory of the parent before exec too, so the parent must stay small: it imports no TensorFlow.
    """
    used, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu": used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime,
        "peak_mb": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
    }


def median(rows: list[dict], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def training_times(began: float, ends: list[float], ended: float, epochs: int) -> dict:
    """The seconds of a training of `epochs` epochs, of which the first len(ends) were measured (at least 2).

    Args:
        began, ends, ended: when it all began, when each measured epoch had ended, when it all had ended.

    The epochs that were not measured are taken to last as long as the median of those after the first.
    """
    each = [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)]
    later = statistics.median(each)
    return {
        "total_s": ended - began + (epochs - len(ends)) * later,
        "measured_epochs": len(ends),
        "measured_s": ended - began,
        "until_epoch_1_s": ends[0] - began,
        "epoch_s": later,
        "epochs_s": [round(e, 3) for e in each],
    }


def ratio(above: list[dict], below: list[dict], key: str) -> float:
    """above / below, the median over the rounds, so that both sides saw the same machine."""
    return statistics.median(a[key] / b[key] for a, b in zip(above, below, strict=True))


def judged(what: str, measured: float, *, least: float | None = None, most: float | None = None) -> dict:
    """One target and whether it was met, as a row of a table and of the JSON."""
    met = measured >= least if most is None else measured <= most
    target = f">= {least:g}" if most is None else f"<= {most:g}"
    return {"target": what, "wanted": target, "measured": round(measured, 3), "met": met}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict:
    """The facts without which a figure says nothing. `load` are the runnable processes of the last 1, 5, 15 minutes."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        cpu = next(
            (
                x.split(":", 1)[1].strip()
                for x in Path("/proc/cpuinfo").read_text().splitlines()
                if x.startswith("model name")
            ),
            cpu,
        )
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": [round(x, 2) for x in os.getloadavg()],
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def report(name: str, quick: bool, facts: dict, tables: list[tuple[str, list[dict]]], **result) -> None:
    """Writes results/NAME.json and prints the Markdown tables; `facts` were taken before measuring began."""
    path = RESULTS / f"{name}{'-quick' if quick else ''}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "schema": 1,
                "benchmark": name,
                "quick": quick,
                "machine": {**facts, "load_after": [round(x, 2) for x in os.getloadavg()]},
                **result,
            },
            indent=1,
        )
        + "\n",
        encoding="utf8",
    )
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if v)
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['date']}, Python {facts['python']}, {versions}; load {facts['load'][0]}\n"
    )
    for title, rows in tables:
        columns = list(rows[0])
        print(
            f"{title}\n\n| {' | '.join(columns)} |\n|{'|'.join('---' if i == 0 else '---:' for i in range(len(columns)))}|"
        )
        print("\n".join(f"| {' | '.join(_cell(row[c]) for c in columns)} |" for row in rows) + "\n")
    print(f"Written to {path}")


def _cell(value) -> str:
    return ("yes" if value else "NO") if isinstance(value, bool) else str(value)


def note_steps() -> list[float]:
    """The times at which steps of Keras' fit end from now on; tlkeras has no event for them, and compiling is in the first."""
    import keras

    ends, known = [], keras.callbacks.CallbackList.on_train_batch_end

    def noted(self, batch, logs=None):
        ends.append(time.time())
        return known(self, batch, logs)

    keras.callbacks.CallbackList.on_train_batch_end = noted
    return ends
