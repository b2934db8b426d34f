"""How long the command line takes to answer `--help`, beside what its parts take to import.

    python benchmarks/start.py [--quick]

Every command is a fresh process; one round is not counted, so that files lie in the page cache and are compiled.
Target: every `tlkeras VERB --help` in less than 0.4 s.
"""

import sys
from pathlib import Path

import click
import measuring

TARGET = 0.4


def main() -> None:
    args = measuring.arguments(__doc__).parse_args()
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
    measuring.alternate({name: lambda c=c: measuring.timed(c) for name, c in commands.items()}, 1)
    got = measuring.alternate({name: lambda c=c: measuring.timed(c) for name, c in commands.items()}, rounds)

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
        held = ("yes" if seconds < TARGET else "NO") if name.startswith("tlkeras") else ""
        rows.append(
            {
                "command": f"`{name}`",
                "median s": f"{seconds:.3f}",
                "least s": f"{result[name]['least_s']:.3f}",
                "CPU s": f"{cpu:.3f}",
                "of click": f"{seconds / click_alone:.2f}",
                f"< {TARGET} s": held,
            }
        )
    slow = [name for name, r in result.items() if name.startswith("tlkeras") and r["median_s"] >= TARGET]
    measuring.report(
        "start",
        args.quick,
        facts,
        [(f"Median of {rounds} rounds", rows)],
        rounds=rounds,
        target_s=TARGET,
        target_met=not slow,
        too_slow=slow,
        commands=result,
    )


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
