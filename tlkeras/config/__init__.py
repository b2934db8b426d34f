"""The config: from YAML to a validated, frozen record, with every mistake reported at once.

Nothing else in tlkeras reads YAML. Names that only higher rooms know (tasks and their options, backbones,
export formats) come in as a `Vocabulary`, so that this room imports none of them.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from tlkeras.config import document
from tlkeras.config.document import Document
from tlkeras.config.phases import Average, EarlyStopping, Phase
from tlkeras.config.records import (
    Adapt,
    Augmentation,
    Backbone,
    Config,
    Data,
    Export,
    Lora,
    Prefix,
    Train,
    size_in_bytes,
    slug,
)
from tlkeras.config.section import Section
from tlkeras.config.sweeps import Range, Sweep
from tlkeras.config.teachers import Distill, Extend
from tlkeras.config.wording import fields, line, sentences
from tlkeras.errors import ConfigError, nearest

__all__ = [
    "Adapt",
    "Augmentation",
    "Average",
    "Backbone",
    "Config",
    "Data",
    "Distill",
    "EarlyStopping",
    "Export",
    "Extend",
    "Lora",
    "Phase",
    "Prefix",
    "Range",
    "Section",
    "Sweep",
    "Train",
    "Vocabulary",
    "fields",
    "load",
    "read",
    "render",
    "schema",
    "size_in_bytes",
    "slug",
]


@dataclass(frozen=True)
class Vocabulary:
    """Names a config may use: tasks with the record of their options, backbones, export formats."""

    tasks: Mapping[str, type[Section]] = field(default_factory=dict)
    backbones: Iterable[str] = ()
    formats: Iterable[str] = ()


def load(path, sets: Iterable[str] = (), vocabulary: Vocabulary | None = None) -> Config:
    """Reads, overrides and validates a config file; see `read`."""
    return read(path, sets, vocabulary)[0]


def read(path, sets: Iterable[str] = (), vocabulary: Vocabulary | None = None):
    """Reads a config file: (Config, origin), where `origin(path)` tells where a value comes from.

    `sets` are overrides 'a.b.0.c=VALUE' with VALUE in YAML.

    Raises:
        ConfigError: with every mistake, each as 'file:line:column: what'.
    """
    doc = _written_out(_override(_extended(Path(path), ()), sets))
    mistakes = list(doc.mistakes)
    values = dict(doc.values)
    if values.get("name") is None:
        values["name"] = slug(Path(path).stem)
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as e:
        mistakes += sentences(e.errors(), Config, values, doc)
    if vocabulary:
        task, wrong = _check_names(values, vocabulary, doc)
        mistakes += wrong
        if config and task:
            config = config.model_copy(update={"task": task})
    if mistakes:
        raise ConfigError(*sorted(dict.fromkeys(mistakes), key=_by_place))
    return config, lambda path: doc.places.get(path, "") or "default"


def render(config: Config, origin=None) -> str:
    """The resolved config as YAML; with `origin`, each value is followed by where it comes from."""
    return document.write(config.model_dump(mode="json"), origin)


def schema(vocabulary: Vocabulary) -> dict:
    """The JSON Schema of a config file, for editors."""
    out = Config.model_json_schema()
    tasks = [{"enum": list(vocabulary.tasks)}]
    for name, options in vocabulary.tasks.items():
        one = options.model_json_schema()
        out["$defs"] |= one.pop("$defs", {})
        one["properties"] = {"name": {"const": name}, **one.get("properties", {})}
        tasks.append(one)
    out["properties"]["task"] = {"description": "What is learned.", "anyOf": tasks}
    # Both short forms that the reader accepts are valid for editors too.
    formats = {"type": "array", "items": {"enum": list(vocabulary.formats)}}
    out["$defs"]["Export"]["properties"]["to"] |= formats
    out["properties"]["export"] = {"anyOf": [formats, {"$ref": "#/$defs/Export"}]}
    # What a config must have may lie in the one that it extends.
    alone = {
        "backbone": {"required": out["$defs"]["Backbone"].pop("required")},
        "task": {"anyOf": [{"type": "string"}, {"required": ["name"]}]},
    }
    out["anyOf"] = [{"required": ["extends"]}, {"required": out.pop("required"), "properties": alone}]
    out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return out


def _extended(path: Path, seen: tuple) -> Document:
    """The document of a file over the one that it extends: mappings are merged, lists replaced."""
    doc = _written_out(document.read(path))
    base = doc.values.get("extends")
    if not isinstance(base, str):
        return doc
    place, seen, base = doc.place(("extends",)), (*seen, path.resolve()), path.parent / base
    if not base.is_file():
        near = nearest(base.name, [p.name for p in base.parent.glob("*.y*ml")])
        raise ConfigError(f"{place}: extends: there is no file {base}.{near}")
    if base.resolve() in seen:
        raise ConfigError(
            f"{place}: `extends` goes in a circle: {' -> '.join(p.name for p in (*seen, base.resolve()))}."
        )
    below = _extended(base, seen)
    above = {k: v for k, v in doc.values.items() if k != "extends"}
    old, new = below.values.get("task"), above.get("task")
    other = isinstance(old, dict) and isinstance(new, dict) and new.get("name", old.get("name")) != old.get("name")
    # The options of one task mean nothing to another.
    values = _merge({k: v for k, v in below.values.items() if not (other and k == "task")}, above)
    # Places of the lower file that the upper one replaces wholesale (lists) must not show through.
    kept = {p: where for p, where in below.places.items() if _at(values, p) is _at(below.values, p)}
    return Document(values, kept | doc.places, below.mistakes + doc.mistakes)


_MISSING = object()


def _at(values, path):
    for key in path:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return values


def _merge(below, above):
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {k: _merge(below[k], v) if k in below else v for k, v in above.items()}
    return above


def _written_out(doc: Document) -> Document:
    """`task: NAME` and `export: [...]` in their long form, so that one key below them can be changed."""
    values, places = dict(doc.values), dict(doc.places)
    for key, short, inner in (("task", str, "name"), ("export", list, "to")):
        if isinstance(values.get(key), short):
            values[key] = {inner: values[key]}
            places |= {(key, inner, *p[1:]): where for p, where in places.items() if p[:1] == (key,)}
    return Document(values, places, doc.mistakes)


def _override(doc: Document, sets: Iterable[str]) -> Document:
    values, places, mistakes = copy.deepcopy(doc.values), dict(doc.places), list(doc.mistakes)
    for text in sets:
        key, equals, value = text.partition("=")
        keys = key.strip().split(".")
        try:
            if not equals or not key.strip():
                raise ConfigError(f"--set {text}: an override is KEY=VALUE, e.g. train.batch=16.")
            if keys[0] == "extends":
                raise ConfigError(
                    f"--set {text}: a config is extended from within a file only; write `extends` into one."
                )
            given = document.parse(value, f"--set {key}")
            path, there = _put(values, keys, given.values if value.strip() else None, text)
        except ConfigError as e:
            mistakes += e.mistakes
            continue
        mistakes += given.mistakes
        # Whatever the override made or replaced comes from it.
        places = {p: where for p, where in places.items() if p[: there + 1] != path[: there + 1]}
        places |= {path[:n]: f"--set {text}" for n in range(there + 1, len(path) + 1)}
    return Document(values, places, tuple(mistakes))


def _put(values: dict, keys: list[str], value, text: str) -> tuple[tuple, int]:
    """Puts a value at keys and numbers of lists, making mappings on the way: (path, how many parts of it stood before)."""
    here, path, there = values, (), 0
    for n, key in enumerate(keys):
        if isinstance(here, list):
            if not key.isdecimal() or int(key) >= len(here):
                raise ConfigError(
                    f"--set {text}: {'.'.join(keys[:n])} is a list of {len(here)}; {key!r} is not one of its numbers."
                )
            key = int(key)
        path = (*path, key)
        if n == len(keys) - 1:
            here[key] = value
        elif isinstance(below := here[key] if isinstance(here, list) else here.get(key), dict | list):
            here, there = below, n + 1
        else:
            here[key] = here = {}
    return path, there


def _check_names(values, vocabulary, doc):
    """Task options, backbone and formats: ({name, options} or None, mistakes)."""
    mistakes, task = [], None
    given = values.get("task")
    if isinstance(given, dict):
        name = given.get("name")
        options = vocabulary.tasks.get(name) if isinstance(name, str) else None
        if name is None:
            mistakes.append(line(doc, ("task",), f"task.name is missing; there are {', '.join(vocabulary.tasks)}."))
        elif options is None:
            mistakes.append(
                line(
                    doc,
                    ("task", "name"),
                    f"task: there is no task {name!r}; there are {', '.join(vocabulary.tasks)}.{nearest(name, vocabulary.tasks)}",
                )
            )
        else:
            asked = {k: v for k, v in given.items() if k != "name"}
            try:
                task = {"name": name, **options.model_validate(asked).model_dump(mode="json")}
            except ValidationError as e:
                mistakes += sentences(e.errors(), options, asked, doc, ("task",))
    name = values.get("backbone", {}).get("name") if isinstance(values.get("backbone"), dict) else None
    known = list(vocabulary.backbones)
    if isinstance(name, str) and name not in known and not any(c in name for c in "/:\\") and not Path(name).is_dir():
        mistakes.append(
            line(
                doc,
                ("backbone", "name"),
                f"backbone.name: the catalogue has no {name!r}.{nearest(name, known)} List: tlkeras backbones",
            )
        )
    to = values["export"].get("to") if isinstance(values.get("export"), dict) else []
    for i, form in enumerate(to if isinstance(to, list) else []):
        if isinstance(form, str) and form not in vocabulary.formats:
            mistakes.append(
                line(
                    doc,
                    ("export", "to", i),
                    f"export: there is no format {form!r}; there are {', '.join(vocabulary.formats)}.{nearest(form, vocabulary.formats)}",
                )
            )
    return task, mistakes


def _by_place(text: str):
    parts = text.split(":")
    return (parts[0], *(int(p) if p.isdecimal() else 0 for p in parts[1:3])) if len(parts) > 2 else (text, 0, 0)
