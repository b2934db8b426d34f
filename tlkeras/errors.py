"""The errors tlkeras raises on purpose, each with the exit code of the command that meets it.

TlkerasError            1   the work could not be done
|- UsageError           2   the command line asks for something that does not exist
|  |- ConfigError       2   the config is wrong; every mistake is listed
|     |- PlanError      2   a plan names blocks that are not there
|- DataError            3   the data is wrong; every bad file is listed
|- MachineError    4   this machine lacks something (a GPU, an extra, the network)
|- ModelError           4   a model, checkpoint or weight file cannot be used
|- GateError            5   the result is not good enough to be kept
|- Diverged             6   the loss or a weight stopped being a number
|- StorageError        74   the disk refused
|- Interrupted         75   stopped by a signal; `train --resume RUN` goes on from there
"""

import difflib


class TlkerasError(Exception):
    """What must hold, what was received, what to do next."""

    exit_code = 1


class UsageError(TlkerasError):
    exit_code = 2


class ConfigError(UsageError):
    """All mistakes of one config; `mistakes` holds one text each."""

    def __init__(self, *mistakes: str):
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


class PlanError(ConfigError):
    pass


class DataError(TlkerasError):
    exit_code = 3


class MachineError(TlkerasError):
    exit_code = 4


class ModelError(TlkerasError):
    exit_code = 4


class GateError(TlkerasError):
    exit_code = 5


class Diverged(TlkerasError):
    exit_code = 6


class StorageError(TlkerasError):
    exit_code = 74


class Interrupted(TlkerasError):
    exit_code = 75


def nearest(word: str, known, start: str = "Did you mean") -> str:
    """Returns ' Did you mean X?' for the known name nearest to `word`, or '' when none is near."""
    found = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.6)
    return f" {start} {found[0]}?" if found else ""


def missing_extra(module: str, extra: str) -> MachineError:
    """The error for an optional package that is not installed, with the line that installs it."""
    return MachineError(
        f"This needs the package {module!r}, which is not installed. Install it with: pip install 'tlkeras[{extra}]'"
    )


def listed(head: str, lines: list[str], most: int = 20) -> str:
    """An error text of a head and a line for each thing, at most `most` of them."""
    more = f"\n  ... and {len(lines) - most} more" if len(lines) > most else ""
    return head + ":\n  " + "\n  ".join(lines[:most]) + more
