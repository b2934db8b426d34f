"""The index of a pack, and its shards held against it; written by packing.py."""

import json
import os
import re
from collections import defaultdict
from pathlib import Path

from tlkeras.errors import DataError, listed
from tlkeras.run import sha256

INDEX, FORMAT, SCHEMA = "index.json", "tlkeras pack", 1
SHARD = re.compile(r"part-\d{5,}-of-\d{5,}\.tfrecord")


def read_index(folder, whole: bool = True) -> dict | None:
    """The index of the pack in a folder, None where there is none; another program's index.json is none.

    Raises:
        DataError: when it is damaged, written by a newer tlkeras, or (with `whole`) that of an unfinished pack.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        return None
    damaged = DataError(
        f"{path}: the index of a pack is damaged. Copy it again from where it was packed, or pack the data anew into another folder."
    )
    try:
        found = json.loads(path.read_text("utf8"))
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror or e}.") from e
    except ValueError as e:
        if any(map(SHARD.fullmatch, os.listdir(path.parent))):
            raise damaged from e
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    if not isinstance(found.get("schema"), int) or found["schema"] > SCHEMA:
        raise DataError(
            f"{path} was written by a newer tlkeras (format {found.get('schema')}; this one reads {SCHEMA}). Update tlkeras."
        )
    # A name is a name in this folder: an index may come from strangers.
    kinds = {"complete": bool, "samples": int, "shard_mb": (int, float), "source": str, "shards": list}
    of_shards = {"name": str, "samples": int, "bytes": int, "sha256": str}
    if not _has(found, kinds) or not all(_has(e, of_shards) and SHARD.fullmatch(e["name"]) for e in found["shards"]):
        raise damaged
    if whole and not (found["complete"] and found["shards"]):
        raise DataError(
            f"{path.parent}: this pack was not finished. Run the same `tlkeras data pack` again; it goes on where it stood."
        )
    return found


def _has(record, kinds: dict) -> bool:
    return isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in kinds.items())


def promised(files: list[str]) -> dict[str, dict]:
    """What the indexes beside TFRecord files say of them, by path; files without an index are not in it.

    Raises:
        DataError: when a pack is not complete, or shards are missing, of another size, or not of the pack.
    """
    folders: dict[str, list] = defaultdict(list)
    found: dict[str, dict] = {}
    for file in files:
        folders[os.path.dirname(file)].append(file)
    for folder, inside in folders.items():
        index = read_index(folder)
        if index is None:
            continue
        folder = folder or "."
        entries = {e["name"]: e for e in index["shards"]}
        if missing := [n for n in entries if not os.path.isfile(os.path.join(folder, n))]:
            raise DataError(
                listed(f"{folder}: {len(missing)} of {len(entries)} shards of this pack are missing", missing)
                + "\nCopy them again from where they were packed."
            )
        if strange := [f for f in inside if os.path.basename(f) not in entries]:
            raise DataError(
                listed(f"{folder}: index.json lists the shards of a pack; these files are none of them", strange)
                + "\nMove them to another folder."
            )
        found |= {f: entries[os.path.basename(f)] for f in inside}
    return found


def verify(file: str, entry: dict) -> None:
    """Checks the bytes of a shard against its entry in the index.

    Raises:
        DataError: naming the shard.
    """
    if wrong := damage(Path(file), entry):
        raise DataError(
            f"{file}: a damaged shard: {wrong}. Copy it again from where it was packed, or run the same `tlkeras data pack` again, which writes damaged shards anew."
        )


def damage(path: Path, entry: dict) -> str:
    """What is wrong with a shard, '' where nothing is."""
    if not path.is_file():
        return "it is missing"
    if (size := path.stat().st_size) != entry["bytes"]:
        return f"index.json says {entry['bytes']:,} bytes, it has {size:,}"
    return "" if sha256(path) == entry["sha256"] else "its SHA-256 is not the one in index.json"
