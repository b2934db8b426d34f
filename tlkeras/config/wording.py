"""Mistakes in words: what must hold, what was received, which name is near. Nothing of pydantic's own wording shows."""

import re
import types
import typing

from tlkeras.config.document import Document
from tlkeras.config.section import Section
from tlkeras.errors import nearest

# What a value must be, by pydantic's type of error; {names} come from the error's context.
_MUST = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list with something in it",
    "string_too_short": "text with something in it",
    "string_pattern_mismatch": "made of letters, digits, '-', '_' (and, in the name of the run, '.'), beginning with a letter or digit",
}


def sentences(errors: list[dict], record: type[Section], values, doc: Document, prefix: tuple = ()) -> list[str]:
    """Pydantic's errors on `values`, which lie at `prefix` of the document, as 'place: key: sentence', one a key."""
    found, must = [], {}
    for error in errors:
        path = _path(error, values)
        where, dotted = prefix + path, ".".join(map(str, prefix + path))
        if error["type"] == "extra_forbidden":
            known = fields(record, path[:-1])
            found.append(
                line(
                    doc,
                    where,
                    f"{dotted}: there is no such key.{nearest(path[-1], known)} Known here: {', '.join(known)}.",
                )
            )
        elif error["type"] == "missing":
            found.append(line(doc, where[:-1], f"{dotted} is missing.{_about(record, path)}"))
        elif error["type"] == "value_error":
            found.append(line(doc, where, f"{dotted}: {error['ctx']['error']}."))
        else:
            must.setdefault(where, []).append(error)
    for where, tried in must.items():
        # Of a choice between forms, each form tried complains; the one that got furthest into the value knows best.
        if not any(other[: len(where)] == where for other in must if other != where):
            found.append(line(doc, where, f"{'.'.join(map(str, where))}: {_must(tried)}"))
    return found


def line(doc: Document, path: tuple, text: str) -> str:
    """`text` behind the place of `path`."""
    return f"{doc.place(path)}: {text}"


def fields(record: type[Section], path: tuple) -> list[str]:
    """The keys that a config may have at a path."""
    return list(dict.fromkeys(name for one in _at(record, path) for name in one.model_fields))


def _about(record: type[Section], path: tuple) -> str:
    """' It means: ...' for the key at a path, where it has a description."""
    told = next((f.description for one in _at(record, path[:-1]) if (f := one.model_fields.get(path[-1]))), None)
    return f" It means: {told}" if told else ""


def _at(record: type[Section], path: tuple) -> list[type[Section]]:
    """The sections that may stand at a path."""
    named, found = False, [record]
    for part in path:
        if isinstance(part, int) or named:
            named = False  # a name that the user gave: below it are sections of one of several forms
            continue
        own = found[0].model_fields.get(part)
        found = _sections(own.annotation) if own else []
        if not own or not found:
            return []
        named = typing.get_origin(own.annotation) is dict
    return found


def _must(tried: list[dict]) -> str:
    forms = {}
    for error in tried:
        limits = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in error.get("ctx", {}).items()}
        forms[error["type"]] = _MUST.get(error["type"], error["msg"]).format_map(limits)
    value = tried[0]["input"]
    hint = ""
    if isinstance(value, str) and "literal_error" in forms:
        hint = nearest(value, re.findall("'([^']+)'", forms["literal_error"]))
    elif isinstance(value, int | float) and "string_type" in forms:
        hint = " Put quotes around it."
    return f"must be {' or '.join(forms.values())}; received {_shown(value)}.{hint}"


def _shown(value) -> str:
    words = {True: "true", False: "false", None: "nothing"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 200 else text[:200] + " ..."


def _path(error: dict, values) -> tuple:
    """The error's place in the document. Pydantic names the form of a choice in it too ('list[str]'); that is no key."""
    path = ()
    for i, part in enumerate(error["loc"]):
        if (isinstance(values, dict) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            values, path = values[part], (*path, part)
        elif error["type"] == "missing" and i == len(error["loc"]) - 1:
            path = (*path, part)
    return path


def _section(annotation) -> type[Section] | None:
    """The Section inside an annotation such as `list[Phase] | None`, or None."""
    return next(iter(_sections(annotation)), None)


def _sections(annotation) -> list[type[Section]]:
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, Section)
    ):
        return [annotation]
    return [found for arg in typing.get_args(annotation) for found in _sections(arg)]
