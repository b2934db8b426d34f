"""Pickles of PyTorch state dicts, interpreted as data: nothing is imported, called or constructed.

`run` knows the few opcodes that a state dict is written with. A function's name stays text, a tensor becomes
a record of what it says about its storage, and every other name or opcode is refused by a ValueError.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

MAX_OPCODES, MAX_TENSORS, MAX_SIZE = 1_000_000, 20_000, 2**40

_STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_DICT, _TENSOR, _PARAMETER = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)
_OLD_TENSOR = "torch._utils._rebuild_tensor"
_ALLOWED = {_DICT, _TENSOR, _OLD_TENSOR, _PARAMETER, *_STORAGES}

_IGNORED = {"PROTO", "FRAME"}
_VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINSTRING",
    "SHORT_BINSTRING",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclass(frozen=True)
class _Global:
    """A name of the file's own; what it would stand for in Python is never looked up."""

    name: str


@dataclass(frozen=True)
class Storage:
    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    storage: Storage
    offset: Any
    size: Any
    stride: Any


def run(stream) -> tuple[Any, dict[str, Storage]]:
    """Interprets one pickle up to its STOP; returns its value and the storages it refers to, by key."""
    stack, memo, storages, tensors = [], {}, {}, 0
    for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
        name = opcode.name
        if count >= MAX_OPCODES:
            raise ValueError(f"its pickle has more than {MAX_OPCODES:,} opcodes")
        if name in _IGNORED:
            continue
        if name in _VALUES:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        elif name in _TUPLES:
            stack.append(tuple(_pop(stack, _TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = _top(stack)
        elif name == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif name in ("BINGET", "LONG_BINGET"):
            if arg not in memo:
                raise ValueError(f"its pickle asks for memo {arg}, which it never stored")
            stack.append(memo[arg])
        elif name == "GLOBAL":
            stack.append(_allowed(arg.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_allowed(".".join(part for part in _pop(stack, 2) if isinstance(part, str))))
        elif name in ("APPEND", "APPENDS"):
            items = _pop_to_mark(stack) if name == "APPENDS" else _pop(stack, 1)
            if not isinstance(_top(stack), list):
                raise ValueError("its pickle appends to what is no list")
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            _set_items(stack, _pop_to_mark(stack) if name == "SETITEMS" else _pop(stack, 2))
        elif name == "BINPERSID":
            storage = _storage(*_pop(stack, 1))
            if storages.setdefault(storage.key, storage) != storage:
                raise ValueError(f"the storage {show(storage.key)} is described twice, differently")
            stack.append(storage)
        elif name == "REDUCE":
            stack.append(_rebuild(*_pop(stack, 2)))
            tensors += isinstance(stack[-1], Tensor)
            if tensors > MAX_TENSORS:
                raise ValueError(f"it has more than {MAX_TENSORS:,} tensors")
        elif name == "BUILD":
            # Attributes of an OrderedDict: PyTorch keeps the versions of its modules there. Not needed.
            _pop(stack, 1)
            if not isinstance(_top(stack), dict):
                raise ValueError("its pickle sets attributes of what is no OrderedDict")
        elif name == "STOP":
            value = _top(stack)
            if len(stack) != 1:
                raise ValueError("its pickle ends in the middle of a value")
        else:
            raise ValueError(f"its pickle uses the opcode {name}, which no state dict needs")
    return value, storages


def _top(stack: list):
    if not stack or stack[-1] is _MARK:
        raise ValueError("its pickle takes a value that is not there")
    return stack[-1]


def _pop(stack: list, count: int) -> list:
    items = stack[-count:]
    if len(items) < count or any(item is _MARK for item in items):
        raise ValueError("its pickle takes a value that is not there")
    del stack[-count:]
    return items


def _pop_to_mark(stack: list) -> list:
    items = []
    while stack:
        if (item := stack.pop()) is _MARK:
            return items[::-1]
        items.append(item)
    raise ValueError("its pickle takes values down to a mark that is not there")


def _allowed(name: str) -> _Global:
    if name not in _ALLOWED:
        raise ValueError(f"it refuses to load {show(name)}, which is no part of a state dict")
    return _Global(name)


def _set_items(stack: list, items: list):
    target = _top(stack)
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("its pickle sets items of what is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_checked_key(key)] = value


def _checked_key(key):
    if isinstance(key, str | int):
        return key
    raise ValueError(f"a key of its dicts is neither text nor a number but {show(key)}")


def _storage(pid) -> Storage:
    """The storage a persistent id stands for: ('storage', type, key, device, number of elements[, None])."""
    shaped = isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and pid[5:] in ((), (None,))
    if not shaped or not isinstance(pid[1], _Global) or pid[1].name not in _STORAGES or not isinstance(pid[2], str):
        raise ValueError("a tensor refers to what is no storage")
    if type(pid[4]) is not int or not 0 <= pid[4] < MAX_SIZE:
        raise ValueError(f"the storage {show(pid[2])} has the size {show(pid[4])}")
    return Storage(_STORAGES[pid[1].name], pid[2], pid[4])


def _rebuild(function, args):
    """What an allowed call gives: an empty dict, a dict of pairs (Python 2 wrote those), or a tensor."""
    name = getattr(function, "name", None) if isinstance(function, _Global) else None
    if name == _DICT and args == ():
        return {}
    if name == _DICT and isinstance(args, tuple) and len(args) == 1 and isinstance(args[0], list):
        pairs = [
            pair for pair in args[0] if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        ]
        if len(pairs) == len(args[0]):
            return dict(pairs)
    lengths = {_TENSOR: (6, 7), _OLD_TENSOR: (4,)}.get(name, ())
    if isinstance(args, tuple) and len(args) in lengths and isinstance(args[0], Storage):
        return Tensor(*args[:4])
    if name == _PARAMETER and isinstance(args, tuple) and len(args) == 3 and isinstance(args[0], Tensor):
        return args[0]
    raise ValueError(
        "its pickle calls what is no part of a state dict" if name is None else f"{name} is called wrongly"
    )


def show(value) -> str:
    """A value of the file, fit to be printed: text escaped and cut, numbers, and of all else the type."""
    if isinstance(value, str):
        return repr(value[:100])
    # Nothing nested is printed: 100 bytes of a pickle can nest tuples that print to gigabytes.
    return str(value)[:100] if value is None or isinstance(value, int) else f"a {type(value).__name__}"
