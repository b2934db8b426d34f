"""Markdown as text."""

import re


def table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def plain(value) -> str:
    """A name as Markdown that shows it as it is, on one line."""
    shown = " ".join(str(value).split())
    shown = "".join(f"\\{c}" if c in "\\`*[]<>|#" else c for c in shown if c.isprintable())
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", shown)  # inside a word it means nothing
