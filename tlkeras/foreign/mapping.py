"""Names of one library brought to those of another: rules as data, and what they cover before anything is loaded.

A rule is (pattern, template). The pattern is a regular expression for the whole path of a Keras variable, or for that
path without its last part; the template then gives the whole name of the tensor, or the module that holds it. In a
template {2} is the second group, {2-1}, {2*2+1} a number reckoned from it, {2a} the place of a letter in the alphabet,
{2/} the number of a block as 'stage.index' by the fact `repeats`, and {top} a fact. Behind '|' stands what is done:

    |1/3         the second of three equal parts, as where query, key and value lie in one tensor
    |hwc         the input of a Dense layer behind a flattened map, from channels first to channels last
    |fold NAME   the BatchNorm NAME is folded into the convolution
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tlkeras.errors import ModelError
from tlkeras.foreign.torch_fields import FIELDS

Rules = tuple[tuple[str, str], ...]

# Counters and tables that follow from the sizes: no weights.
DERIVED = (r"(.*\.)?num_batches_tracked", r".*relative_position_index", r".*attn_mask", r"AuxLogits\..*")
EPSILON = 1e-5  # Of the BatchNorm that is folded: PyTorch's default, which VGG keeps.


@dataclass
class Coverage:
    """Which tensor fills which weight, before any is filled.

    `values` is {variable path: array of its shape}. `missing` says per weight why it has none, `unused` names tensors
    that nothing asks for, `head` those of the classifier where none was asked for, `derived` those that are no weights.
    """

    target: str
    values: dict = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    weights: int = 0
    tensors: int = 0

    @property
    def whole(self) -> bool:
        return not self.missing and not self.unused

    def rows(self) -> dict:
        """As plain data, for --json."""
        return {
            "target": self.target,
            "tensors": self.tensors,
            "used": len(self.used),
            "unused": self.unused,
            "classifier": self.head,
            "derived": len(self.derived),
            "weights": self.weights,
            "filled": len(self.values),
            "missing": self.missing,
            "left_at_random": self.allowed,
        }

    def text(self) -> str:
        """The counts, then every tensor that is not used and every weight that is not filled, by name."""
        lines = [
            f"{len(self.used):>6} of {self.tensors} tensors used",
            f"{len(self.values):>6} of {self.weights} weights of {self.target} filled",
        ]
        for what, names in (
            ("not used: classifier", self.head),
            ("not used: follow from the sizes", self.derived),
            ("left at random, as allowed", self.allowed),
            ("NOT USED", self.unused),
            ("NOT FILLED", self.missing),
        ):
            if names:
                short = len(names) > 6 and what.startswith("not used: follow")
                shown = [f"{names[0]} and {len(names) - 1} more"] if short else names
                lines += [f"{len(names):>6} {what}:", *(f"         {_safe(name)}" for name in shown)]
        return "\n".join(lines)

    def demand(self) -> None:
        """Raises ModelError with both lists unless every tensor is used and every weight filled."""
        if not self.whole:
            raise ModelError(
                f"The weights do not fit {self.target}: {len(self.missing)} of its {self.weights} weights are not "
                f"filled, {len(self.unused)} of the {self.tensors} tensors are not used. Nothing was loaded.\n{self.text()}"
            )


def cover(
    target: str,
    variables: Iterable,
    tensors: dict,
    rules: Rules,
    facts: Mapping | None = None,
    head: Iterable[str] = (),
    allow: Iterable[str] = (),
    layout: str = "torch",
) -> Coverage:
    """What `rules` fill of `variables` from `tensors` {name: array}; nothing is filled yet.

    `head` are regular expressions for tensors of a classifier that need not be used, `allow` globs for variables that
    may stay as they are. In the `layout` 'torch' kernels are transposed, in 'tf' they must have the shape they go to.
    """
    found = Coverage(target, tensors=len(tensors))
    wanted = [v for v in variables if "seed_generator" not in v.path]
    found.weights = len(wanted)
    for variable in wanted:
        names: list[str] = []
        value = None
        for name, doing in named(variable.path, rules, facts or {}, layout):
            names.append(name)
            if name in tensors:
                value = _made(tensors, name, doing, variable, layout)
                break
        shape = tuple(variable.shape)
        if value is not None and value.shape == shape:
            found.values[variable.path] = value
            found.used |= dict.fromkeys(_sources(name, doing, tensors), variable.path)
        elif any(fnmatchcase(variable.path, pattern) for pattern in allow):
            found.allowed.append(f"{variable.path} {shape}")
        else:
            why = f"from {names[-1]}, which is not there" if names else "no rule names its tensor"
            if value is not None:
                why = f"from {name}, which has {tuple(tensors[name].shape)}"
            found.missing.append(f"{variable.path} {shape} ({why})")
    for name in (name for name in tensors if name not in found.used):
        group = found.unused
        if any(re.fullmatch(pattern, name) for pattern in DERIVED):
            group = found.derived
        elif any(re.fullmatch(pattern, name) for pattern in head):
            group = found.head
        group.append(name)
    return found


def fill(model, found: Coverage) -> None:
    """Sets the weights of `model` from a coverage.

    Raises:
        ModelError: with both lists, when the coverage is not whole; then nothing is set.
    """
    import numpy as np

    found.demand()
    for variable in model.weights:
        value = found.values.get(variable.path)
        if value is not None:
            variable.assign(value if value.dtype.kind in "iub" else np.asarray(value, "float32"))


def named(path: str, rules: Rules, facts: Mapping, layout: str = "torch") -> Iterable[tuple[str, str]]:
    """(name of the tensor, what is done to it) by every rule that fits, in order; '' where nothing is done."""
    owner, _, last = path.rpartition("/")
    ending = FIELDS.get(last, last) if layout == "torch" else last
    for pattern, template in rules:
        whole, part = re.fullmatch(pattern, path), re.fullmatch(pattern, owner)
        if not whole and not part:
            continue
        name, _, doing = _filled(template, whole or part, facts).partition("|")
        yield (name if whole else f"{name}.{ending}" if layout == "torch" else f"{name}/{ending}"), doing


def renamed(tensors: dict, renames: Rules) -> dict:
    """The tensors under the names that today's version of their library gives them."""
    return {rewritten(name, renames): tensor for name, tensor in tensors.items()}


def rewritten(name: str, renames: Rules) -> str:
    """A name after every replacement of `renames`, in order."""
    for pattern, new in renames:
        name = re.sub(pattern, new, name)
    return name


_PLACE = re.compile(r"\{(\w+?)(\*\d+)?([+-]\d+)?(a|/)?\}")


def _filled(template: str, match, facts: Mapping) -> str:
    def value(place):
        name, factor, more, kind = place.groups()
        if not name.isdigit():
            return str(facts[name])
        text = match.group(int(name))
        if kind == "a":
            return str(ord(text) - ord("a"))
        if not factor and not more and not kind:
            return text
        number = int(text) * int((factor or "*1")[1:]) + int(more or 0)
        if kind != "/":
            return str(number)
        stage = 1
        for count in facts["repeats"]:
            if number < count:
                return f"{stage}.{number}"
            number, stage = number - count, stage + 1
        return f"{stage}.{number}"

    return _PLACE.sub(value, template)


def _made(tensors: dict, name: str, doing: str, variable, layout: str):
    """The tensor as the variable has it, or as it is where no turning of it gives that shape."""
    import numpy as np

    value, shape = tensors[name], tuple(variable.shape)
    if doing.startswith("fold "):
        value = _folded(tensors, name, doing[5:])
    elif "/" in doing:
        part, parts = map(int, doing.split("/"))
        if value.shape and value.shape[0] % parts == 0:
            value = np.split(value, parts)[part]
    if value is None or layout == "tf":
        return value
    if doing == "hwc" and value.ndim == 2 and len(shape) == 2:
        side = 7  # Of the map that VGG flattens.
        if value.shape[1] % (side * side) == 0:
            value = value.reshape(value.shape[0], -1, side, side)
    if variable.path.endswith("/kernel"):
        if value.ndim == 4:
            for axes in ((2, 3, 1, 0), (2, 3, 0, 1)):  # of a convolution; of a depthwise one
                turned = np.transpose(value, axes)
                if turned.shape == shape or (len(shape) == 2 and turned.size == np.prod(shape)):
                    return turned.reshape(shape)
        elif value.ndim == 2:
            turned = value.T
            # A Dense layer as a 1x1 convolution, or with heads apart: the numbers lie in the same order.
            return (
                turned.reshape(shape) if turned.size == np.prod(shape) and turned.shape[0] in _ends(shape) else turned
            )
    elif value.size == np.prod(shape) and _plain(value.shape) == _plain(shape) or doing:
        return value.reshape(shape) if value.size == np.prod(shape) else value
    elif value.ndim == 1 and len(shape) == 2 and value.size == np.prod(shape):
        return value.reshape(shape)  # A bias with heads apart.
    return value


def _ends(shape) -> tuple[int, ...]:
    """How many inputs a kernel of this shape may have: the heads may be apart on either side."""
    return (shape[0], shape[-2], shape[0] * shape[1]) if len(shape) > 2 else (shape[0],)


def _plain(shape) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _sources(name: str, doing: str, tensors: dict) -> list[str]:
    """The tensors that went into a value."""
    if not doing.startswith("fold "):
        return [name]
    return [name, *(n for n in tensors if n.rpartition(".")[0] == doing[5:])]


def _folded(tensors: dict, name: str, norm: str):
    """Weight or bias of a convolution with the BatchNorm behind it in it; None where that is not there."""
    import numpy as np

    parts = [tensors.get(f"{norm}.{end}") for end in ("weight", "bias", "running_mean", "running_var")]
    module, _, end = name.rpartition(".")
    if any(part is None for part in parts):
        return None
    gamma, beta, mean, variance = (np.asarray(part, "float64") for part in parts)
    scale = gamma / np.sqrt(variance + EPSILON)
    value = np.asarray(tensors[name], "float64")
    made = value * scale[:, None, None, None] if end == "weight" else beta + (value - mean) * scale
    return made.astype("float32")


def _safe(text: str) -> str:
    return text[:300] if text.isprintable() else repr(text[:300])
