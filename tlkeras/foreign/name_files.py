"""The user's own map of names, for checkpoints that no built-in map knows: a YAML file of rules.

    layout: tf                                # how kernels lie: tf (as in Keras) or torch (transposed)
    rules:
      conv*_bn: resnet/unit_{1}/batch_norm    # * stands for a part of a name, {1} for the first *
      ~block(\\d+)/(\\w+): enc/{1-1}/{2}        # behind ~ a regular expression
    unused: ["*/Momentum", global_step]       # tensors that need not be used
    missing: ["head*"]                        # weights that may stay at random

The left side is the path of a Keras variable, or that path without its last part; the right side the tensor, or what
holds it. `mapping` says what else may stand there.
"""

import re
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from tlkeras.errors import UsageError, listed, nearest
from tlkeras.foreign.mapping import Rules

KEYS = ("layout", "rules", "unused", "missing")
MAX_SIZE, MAX_RULES, MAX_LENGTH = 1_000_000, 10_000, 500


@dataclass(frozen=True)
class NameMap:
    rules: Rules
    layout: str
    unused: tuple[str, ...] = ()  # regular expressions
    missing: tuple[str, ...] = ()  # globs


def read(path) -> NameMap:
    """Reads a map of names.

    Raises:
        UsageError: with every mistake in it.
    """
    import yaml

    path = Path(path)
    try:
        if path.stat().st_size > MAX_SIZE:
            raise UsageError(f"{path} must be at most {MAX_SIZE} bytes.")
        given = yaml.safe_load(path.read_text("utf8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise UsageError(f"{path} must be a YAML file of rules: {e}") from e
    if not isinstance(given, dict):
        raise UsageError(f"{path} must hold {', '.join(KEYS)}; it holds {type(given).__name__}.")
    mistakes = [f"{key!r} is not known.{nearest(key, KEYS)}" for key in given if key not in KEYS]
    layout = given.get("layout", "tf")
    if layout not in ("tf", "torch"):
        mistakes.append(f"layout must be tf or torch, it is {layout!r}")
    rules = given.get("rules") or {}
    if not isinstance(rules, dict) or len(rules) > MAX_RULES:
        mistakes.append(f"rules must be at most {MAX_RULES} lines 'name: tensor'")
        rules = {}
    made = []
    for left, right in rules.items():
        if not isinstance(left, str) or not isinstance(right, str) or max(len(left), len(right)) > MAX_LENGTH:
            mistakes.append(f"the rule {str(left)[:80]!r} must be two texts of at most {MAX_LENGTH} characters")
            continue
        try:
            pattern = re.compile(left[1:] if left.startswith("~") else _glob(left))
        except re.error as e:
            mistakes.append(f"the rule {left!r} is no regular expression: {e}")
            continue
        asked = [int(n) for n in re.findall(r"\{(\d+)", right)]
        if asked and max(asked) > pattern.groups:
            mistakes.append(f"the rule {left!r} has {pattern.groups} parts, and {right!r} asks for number {max(asked)}")
        if odd := [
            name for name in re.findall(r"\{([^}]*)\}", right) if not re.fullmatch(r"\d(\*\d+)?([+-]\d+)?a?", name)
        ]:
            mistakes.append(f"the rule {left!r} has {{{odd[0]}}}, which is no number of a part")
        made.append((pattern.pattern, right))
    lists = {}
    for key in ("unused", "missing"):
        value = given.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            mistakes.append(f"{key} must be a list of texts, it is {value!r}")
            value = []
        lists[key] = value
    if mistakes:
        raise UsageError(listed(f"{path} has mistakes", mistakes))
    # What no rule names is called alike on both sides.
    made.append((r"(.+)", "{1}"))
    return NameMap(tuple(made), layout, tuple(translate(item) for item in lists["unused"]), tuple(lists["missing"]))


def _glob(text: str) -> str:
    return re.escape(text).replace(r"\*", r"([^/]*)")
