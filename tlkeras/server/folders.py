"""What the user pointed at: a run, a folder of numbered SavedModels, or one SavedModel. Loads nothing."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkeras.errors import ModelError, UsageError
from tlkeras.run import Run

log = logging.getLogger("tlkeras.server")


@dataclass(frozen=True)
class Folder:
    """The folder of each version by number, and the contents of contract.json (None: there is none)."""

    name: str
    versions: dict[int, Path]
    contract: dict[str, Any] | None = None


def find(target: str | Path) -> Folder:
    """Reads a target of `serve`.

    Raises:
        UsageError: when no SavedModel is there; it says what is.
        ModelError: when contract.json is damaged.
    """
    path = Path(target).absolute()
    if _is_saved_model(path):
        # A numbered folder has its name and its contract one level up; any other is version 1 of itself.
        base = path.parent if _number(path.name) is not None else path
        return _folder(base, base.name, {_number(path.name) or 1: path})
    if versions := _versions(path):
        return _folder(path, path.name, versions)
    exported = Run(path).artefact("saved_model")
    if versions := _versions(exported):
        return _folder(exported, path.name, versions)
    run = target if Run(path).config.is_file() else "RUN"
    raise UsageError(
        "serve needs a run with an exported SavedModel, or a folder of numbered versions (1/saved_model.pb).\n"
        f"  {target} {_what_is_there(path)}\n"
        f"  A SavedModel comes from: tlkeras export {run} --to saved_model"
    )


def _folder(base: Path, name: str, versions: dict[int, Path]) -> Folder:
    contract = _contract(base / "contract.json")
    return Folder((contract or {}).get("name") or name, versions, contract)


def _is_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


def _number(name: str) -> int | None:
    return int(name) if re.fullmatch("[0-9]{1,30}", name) and int(name) < 2**63 else None


def _versions(base: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in sorted(base.iterdir()) if base.is_dir() else []:
        number = _number(path.name)
        if number is None:
            continue
        if not _is_saved_model(path):
            log.warning("version %s of %s is passed over: it has no saved_model.pb", path.name, base.name)
        elif number in found:
            log.warning("version %s of %s is passed over: %s is there", path.name, base.name, found[number].name)
        else:
            found[number] = path
    return found


def _contract(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        contract = json.loads(path.read_text("utf8"))
    except ValueError as error:
        raise ModelError(f"{path} must be JSON: {error}. Export again: tlkeras export RUN --to saved_model") from None
    if not isinstance(contract, dict) or not isinstance(contract.get("name", ""), str):
        raise ModelError(
            f"{path} must hold an object whose 'name' is text. Export again: tlkeras export RUN --to saved_model"
        )
    return contract


def _what_is_there(path: Path) -> str:
    if not path.exists():
        return "does not exist."
    if path.is_file():
        return "is a file."
    if Run(path).config.is_file():
        return "is a run, but no SavedModel has been exported from it."
    names = sorted(item.name for item in path.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"holds {', '.join(names[:5])}{more}." if names else "is empty."
