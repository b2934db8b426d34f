"""The command line: a verb is a name, a few options and a call. TensorFlow is imported inside the bodies only.

stdout is the result, stderr the log. `--json` gives one envelope on every verb:
{"schema": 1, "verb", "ok", "data", "next"} or {"schema": 1, "verb", "ok": false, "error": {...}}.
"""

from tlkeras.cli import setup, learning, answers, groups  # noqa: F401, I001  # verbs are listed in the order they are made
from tlkeras.command import main as main
