"""YAML as tlkeras reads it: YAML 1.2 scalars, one meaning per text, and the place of every value.

Differs from PyYAML's own loader where that one surprises: `1e-3` is a number, `no` is a word, `010` is ten,
a duplicate key is a mistake. Aliases and tags are refused: a config is data, and 300 bytes of aliases can
stand for 9**9 nodes.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tlkeras.errors import ConfigError, nearest

MAX_BYTES, MAX_DEPTH, MAX_DIGITS = 1_000_000, 40, 300
# The same parser in C, ten times as fast: 1 MB takes 3 s instead of 30 s.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_YAML = " Look here and at the line before it: brackets, quotes, colons and indentation have to fit."
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_TAKEN = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WORDS |= dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= {s + w: float(s + "inf") for s in ("", "+", "-") for w in (".inf", ".Inf", ".INF")}
_WORDS |= dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan"))


@dataclass(frozen=True)
class Document:
    """The values of a file; `places` maps each path, e.g. ('train', 'phases', 0), to 'file:line:column'."""

    values: dict
    places: dict[tuple, str]
    mistakes: tuple[str, ...] = field(default=())

    def place(self, path: tuple) -> str:
        """The place of a path, or of the nearest thing around it that was written down."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")


def read(path) -> Document:
    """Reads a YAML file.

    Raises:
        ConfigError: when the file is missing, larger than 1 MB, not UTF-8, not YAML, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        found = (
            "this is a folder."
            if path.is_dir()
            else f"there is no such file.{nearest(path.name, [p.name for p in path.parent.glob('*.y*ml')])}"
        )
        raise ConfigError(f"{path}: a config is a YAML file; {found}")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: a config has at most {MAX_BYTES:,} bytes; this file has {path.stat().st_size:,}.")
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as e:
        raise ConfigError(f"{path}: the config cannot be read: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        line, column = raw.count(b"\n", 0, e.start) + 1, e.start - raw.rfind(b"\n", 0, e.start)
        kind = (
            "the file is UTF-16"
            if raw[:2] in (b"\xff\xfe", b"\xfe\xff")
            else f"byte {e.start} (0x{raw[e.start]:02x}) is not"
        )
        raise ConfigError(f"{path}:{line}:{column}: a config is UTF-8 text; {kind}. Save it as UTF-8.") from e
    document = parse(text, str(path))
    if not isinstance(document.values, dict):
        found = "a list" if isinstance(document.values, list) else f"the single value {document.values!r:.60}"
        raise ConfigError(f"{path}:1:1: a config is a mapping (`task: ...`, `data: ...`); this is {found}.")
    return document


def parse(text: str, name: str) -> Document:
    """Parses YAML text; `name` stands in the places. Syntax errors raise, double keys become mistakes."""
    if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line, column = text.count("\n", 0, bad.start()) + 1, bad.start() - text.rfind("\n", 0, bad.start())
        raise ConfigError(
            f"{name}:{line}:{column}: a config is text; the character {bad[0]!a} does not belong in it. Take it out."
        )
    try:
        _refuse(text, name, _LOADER)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as e:
        if "nesting depth" in (e.problem or ""):
            # libyaml of PyYAML 6.0.4 looks ahead and gives up at 1,000 levels; the parser in Python stops at the 41st.
            _refuse(text, name, yaml.SafeLoader)
        mark = e.problem_mark or e.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        tab = mark and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1])[: mark.column + 1]
        raise ConfigError(
            f"{place}: not YAML: {e.problem or e.context}.{' A tab stands here; indent with spaces.' if tab else _YAML}"
        ) from e
    places, mistakes = {(): f"{name}:1:1"}, []
    values = _value(node, (), name, places, mistakes) if node is not None else {}
    return Document(values, places, tuple(mistakes))


def _refuse(text, name, loader):
    """Raises ConfigError for what YAML allows and a config does not: aliases, tags, bottomless nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        place = f"{name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(
                f"{place}: aliases (*{event.anchor}) are not read in a config. Write the value out, or use `extends`."
            )
        if getattr(event, "tag", None) not in (None, "!"):
            raise ConfigError(f"{place}: tags ({event.tag}) are not read in a config. Write a plain value.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{place}: a config is at most {MAX_DEPTH} levels deep.")


def _value(node, path, name, places, mistakes):
    def place(of):
        return f"{name}:{of.start_mark.line + 1}:{of.start_mark.column + 1}"

    places.setdefault(path, place(node))
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else scalar(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, i), name, places, mistakes) for i, item in enumerate(node.value)]
    values = {}
    for key_node, item in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if not isinstance(key_node, yaml.ScalarNode):
            mistakes.append(f"{place(key_node)}: a key is a word, not a list or a mapping.")
        elif key in values:
            mistakes.append(
                f"{place(key_node)}: the key {key!r} stands here a second time; first at {places[(*path, key)]}. Keep one."
            )
        else:
            # A mistake in a value is best shown at the value, an unknown key at the key; both lie on one
            # line nearly always, so the key's place serves.
            places[(*path, key)] = place(key_node)
            values[key] = _value(item, (*path, key), name, places, mistakes)
    return values


def scalar(text: str):
    """The value of an unquoted scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    # Python refuses to convert very long numbers; as floats they are infinite, which no key takes.
    if _INT.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text)
    if _OTHER_INT.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def write(values, origin=None, path=(), indent="") -> str:
    """Writes values as YAML that `parse` reads back equal; `origin(path)` gives the comment behind a leaf."""
    lines = []
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        here = (*path, key)
        lead = f"{indent}{word(key)}:" if isinstance(values, dict) else f"{indent}-"
        if (
            isinstance(value, dict | list)
            and value
            and (isinstance(value, dict) or any(isinstance(x, dict | list) for x in value))
        ):
            body = write(value, origin, here, indent + "  ")
            if not isinstance(values, dict):
                lines.append(f"{lead} {body.lstrip()}".rstrip("\n"))
            else:
                lines.append(f"{lead}\n{body}".rstrip("\n"))
        else:
            note = origin(here) if origin else ""
            lines.append(f"{lead} {quoted(value)}" + (f"  # {quoted(note)[1:-1]}" if note else ""))
    return "\n".join(lines) + "\n"


def quoted(value) -> str:
    """A value on one line of YAML: JSON, with the characters escaped that YAML does not take as they are."""
    return _ESCAPED.sub(lambda c: f"\\u{ord(c[0]):04x}", json.dumps(value, ensure_ascii=False))


def word(text: str) -> str:
    """A text as YAML: as it is where no reader, of YAML 1.1 either, takes it for anything else; else quoted."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _TAKEN else quoted(text)
