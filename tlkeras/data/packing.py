"""A data set in a few large files: TFRecord shards for network disks, where opening many small files is slow.

    OUT/part-00000-of-00012.tfrecord   samples in the order of a hash of their content, so every shard holds all classes
    OUT/index.json                     the shards with their SHA-256, and a hash of what was packed

index.json is there from the start and grows with every shard; so a pack that was cut short goes on where it stood.
`tlkeras.data.unpacked` reads a pack: the samples, labels, groups, splits and their order are those of the source.
"""

import hashlib
import json
import os
import re
from pathlib import Path

from pydantic import ValidationError

from tlkeras import config
from tlkeras.config import Data, document
from tlkeras.config.wording import sentences
from tlkeras.data import scan_files, sources, tables
from tlkeras.data.listing import opened, printed
from tlkeras.data.packs import FORMAT, INDEX, SCHEMA, damage, read_index
from tlkeras.data.samples import Samples
from tlkeras.errors import ConfigError, DataError, UsageError, listed
from tlkeras.progress import Progress
from tlkeras.run import Run, replacing, sha256, storage, write_json

LOCK = ".lock"
# What a killed process leaves behind: temporary files of `replacing`, and the lock.
LEFT_BEHIND = re.compile(r"\.(part-.*\.tfrecord|index\.json)\.\d+\.tmp\.\w+|\.lock")


def pack(data, out, shard_mb: float = 128, sets=(), quiet: bool = False, offline: bool = False) -> dict:
    """Writes a data set as TFRecord shards into the folder `out`; the same call again goes on after an interruption.

    Args:
        data: a folder of classes, a table, a glob of TFRecord files, the folder of a prepared TensorFlow Dataset,
            'tfds:NAME', or a config file, whose section `data` is taken.
        shard_mb: size of a shard in 10**6 bytes, which only a larger sample exceeds.
        sets: overrides 'data.label=species'.
        offline: a TensorFlow Dataset that would have to be downloaded is an error.

    Returns:
        {'out', 'samples', 'shards', 'kept', 'bytes', 'skipped'}: `kept` counts the shards that were there already.

    Raises:
        UsageError: when `out` holds something else.
        DataError: with every bad file, unless `on_bad: skip`; when the data changed since `out` was begun.
    """
    section, out, progress = section_of(str(data), sets), Path(out), Progress(quiet)
    if not shard_mb > 0:
        raise UsageError(f"A shard needs a size of more than 0 MB; received {shard_mb:g}. 128 suits most disks.")
    if section.path and os.path.isdir(section.path) and out.resolve().is_relative_to(Path(section.path).resolve()):
        raise UsageError(f"{out} lies inside the data that is to be packed. Choose a folder outside with --out.")
    _begun(out)
    samples, files, skipped = _scanned(section, offline, progress)
    plan = _dealt(samples, files, shard_mb * 1e6)
    head = {"format": FORMAT, "schema": SCHEMA, "complete": False, "samples": len(samples), "shard_mb": shard_mb}
    head |= {"source": _listing_hash(samples, files), "skipped": skipped}
    with storage(out):
        out.mkdir(parents=True, exist_ok=True)
    with Run(out).lock():
        old = _begun(out)
        if old:
            _refuse_another(old, head, out)
        with storage(out):
            for name in os.listdir(out):
                if LEFT_BEHIND.fullmatch(name) and name != LOCK:
                    (out / name).unlink()
        done = _intact(out, old["shards"] if old else [], plan, progress)
        kept, missing = len(done), [name for name in plan if name not in done]
        if old != (index := _index(head, plan, done)):
            write_json(out / INDEX, index)
        progress.start()
        for n, name in enumerate(missing, 1):
            done[name] = _write(out / name, plan[name], samples, files)
            write_json(out / INDEX, _index(head, plan, done))
            progress.step("pack", n, len(missing))
    size = sum(s["bytes"] for s in done.values())
    facts = {"samples": len(samples), "shards": len(plan), "kept": kept, "bytes": size, "skipped": skipped}
    return {"out": str(out), **facts}


def text(found: dict) -> str:
    """What `pack` gives back, for people."""
    there = f", {found['kept']} of them there already" if found["kept"] else ""
    left = f" {len(found['skipped'])} files were left out." if found["skipped"] else ""
    return (
        f"{found['out']}: {found['samples']:,} samples in {found['shards']:,} shards{there}, "
        f"{found['bytes'] / 1e6:,.1f} MB.{left} In a config: data: {{path: {document.quoted(found['out'])}}}"
    )


def section_of(given: str, sets) -> Data:
    """The data section of a config, or one made for a folder, a file or 'tfds:NAME'; `sets` override it.

    Raises:
        ConfigError: when the overrides are not keys and values of a data section.
    """
    if given.lower().endswith((".yaml", ".yml")):
        return config.load(given, sets).data
    prepared = os.path.isfile(os.path.join(given, "dataset_info.json"))
    values: dict = {"tfds": given.removeprefix("tfds:")} if prepared or given.startswith("tfds:") else {"path": given}
    places: dict[tuple, str] = {(): given}
    for one in sets:
        key, _, value = one.partition("=")
        if not key.startswith("data.") or "=" not in one:
            raise ConfigError(
                f"--set {one}: only the section `data` is read here; an override is data.KEY=VALUE, e.g. data.label=species."
            )
        places["data", key.removeprefix("data.")] = f"--set {one}"
        values[key.removeprefix("data.")] = document.parse(value, f"--set {key}").values if value.strip() else None
    # As `init` does: a pack that forgot the groups of its table would let them leak over a split.
    if given.lower().endswith((".csv", ".tsv", ".parquet")) and not os.path.isdir(given):
        for name in tables.columns(Path(given))[0]:
            if name.lower() in ("group", "split"):
                values.setdefault(name.lower(), name)
    try:
        return Data.model_validate(values)
    except ValidationError as e:
        doc = document.Document({"data": values}, places)
        raise ConfigError(*sentences(e.errors(), Data, values, doc, ("data",))) from e


def _begun(out: Path) -> dict | None:
    """The index of a pack that was begun at `out`, None where nothing is there yet."""
    if not os.path.lexists(out):
        return None
    if out.is_dir():
        if found := read_index(out, whole=False):
            return found
        with storage(out):
            foreign = [printed(name) for name in sorted(os.listdir(out)) if not LEFT_BEHIND.fullmatch(name)]
        if not foreign:
            return None
    else:
        foreign = ["it is no folder"]
    raise UsageError(
        f"{out} holds something else and is not overwritten ({', '.join(foreign[:3])}); a pack needs a folder of its own. Choose another with --out."
    )


def _refuse_another(old: dict, new: dict, out: Path) -> None:
    if old["source"] != new["source"] and old["complete"]:
        raise UsageError(
            f"{out} holds a pack of other samples, or of these before they changed; it is not overwritten. Choose another folder with --out."
        )
    if old["source"] != new["source"]:
        raise DataError(
            f"The data must stay as it was when the pack {out} was begun; it changed since ({old['samples']} samples then, {new['samples']} now): "
            f"other files, labels, splits or groups. Put it back to go on, or remove {out} and pack anew."
        )
    if old["shard_mb"] != new["shard_mb"]:
        raise UsageError(
            f"{out} was begun with shards of {old['shard_mb']:g} MB; received {new['shard_mb']:g}. Go on with --shard-mb {old['shard_mb']:g}, or choose another folder with --out."
        )


def _index(head: dict, plan: dict, done: dict) -> dict:
    return head | {"complete": len(done) == len(plan), "shards": [done[name] for name in plan if name in done]}


def _scanned(section: Data, offline: bool, progress: Progress) -> tuple[Samples, list, list[str]]:
    """(the samples that can be used, what the scan knows of each file, a line for each that was left out)."""
    samples = sources.read(section, offline)
    progress.start()
    found = scan_files(samples.inputs, samples.root, section.follow_symlinks, progress)
    bad = [f"{printed(i)}: {found.bad[p]}" for i, p in zip(samples.ids, samples.inputs, strict=True) if p in found.bad]
    head = f"{len(bad)} of {len(samples)} files cannot be used"
    if bad and section.on_bad == "fail":
        said = listed(head, bad, len(bad))
        raise DataError(f"{said}\nRepair or remove them, or leave them out with --set data.on_bad=skip")
    if bad:
        progress.line("warning   " + listed(head + " and are left out", bad))
    samples = samples.keep([p in found.good for p in samples.inputs])
    if not len(samples):
        raise DataError(f"{samples.root}: no usable sample is left.")
    for i, label in zip(samples.ids, samples.labels, strict=True):
        if isinstance(label, list) and not all(isinstance(value, str) for value in label):
            raise DataError(f"{printed(i)}: a label is a text or a list of texts; received {label!r:.100}.")
    return samples, [found.good[p] for p in samples.inputs], bad


def _dealt(samples: Samples, files: list, limit: float) -> dict[str, list[int]]:
    """The rows of each shard by its name, in the order of a hash of their content."""
    shards: list[list[int]] = []
    room = 0.0
    for row in sorted(range(len(files)), key=lambda r: (files[r].sha256, samples.ids[r])):
        # Texts, names of features and the frame of a record: an upper bound, for any but very long labels.
        size = files[row].bytes + len(json.dumps([samples.ids[row], samples.labels[row], samples.groups[row]])) + 200
        if not shards or size > room:
            shards.append([])
            room = limit
        shards[-1].append(row)
        room -= size
    return {f"part-{n:05d}-of-{len(shards):05d}.tfrecord": rows for n, rows in enumerate(shards)}


def _listing_hash(samples: Samples, files: list) -> str:
    """One hash of every sample's id, label, split, group, size and bytes. Times are left out: those of unpacked
    images are those of the cache, and a copy of the data is still the same data."""
    made = hashlib.sha256()
    for *facts, file in zip(samples.ids, samples.labels, samples.splits, samples.groups, files, strict=True):
        made.update(json.dumps([*facts, file.bytes, file.sha256]).encode() + b"\n")
    return made.hexdigest()


def _intact(out: Path, entries: list[dict], plan: dict, progress: Progress) -> dict[str, dict]:
    """The entries whose shards are whole and as planned, by name."""
    found = {}
    progress.start()
    for n, entry in enumerate(entries, 1):
        name = entry["name"]
        if entry["samples"] == len(plan.get(name, ())) and not damage(out / name, entry):
            found[name] = entry
        progress.step("check", n, len(entries))
    return found


def _write(path: Path, rows: list[int], samples: Samples, files: list) -> dict:
    """Writes one shard, a sample in memory at a time; returns its entry in the index."""
    import tensorflow as tf

    with replacing(path) as temporary:
        try:
            with tf.io.TFRecordWriter(os.fspath(temporary)) as writer:
                for row in rows:
                    writer.write(_record(samples, row, _contents(samples.ids[row], files[row])))
        except tf.errors.OpError as e:  # a full disk, as TensorFlow says it
            raise OSError(e.message) from e
        # Read again while it is hot: TensorFlow's writer does not show what it writes.
        facts = {"samples": len(rows), "bytes": temporary.stat().st_size, "sha256": sha256(temporary)}
    return {"name": path.name, **facts}


def _contents(name: str, file) -> bytes:
    try:
        with opened(file.path) as (opened_file, _):
            contents = opened_file.read(file.bytes + 1) if opened_file else b""
    except OSError as e:
        raise DataError(
            f"{printed(name)} could be scanned and now cannot be read: {e.strerror or e}. Restore it and run the same command again."
        ) from e
    if hashlib.sha256(contents).hexdigest() != file.sha256:
        raise DataError(
            f"{printed(name)} changed while it was packed: its bytes are not those that were scanned. Restore it and run the same command again, or pack into another folder with --out."
        )
    return contents


def _record(samples: Samples, row: int, contents: bytes) -> bytes:
    """A tf.train.Example. Names of files need not be UTF-8; their bytes come back as they were."""
    import tensorflow as tf

    def texts(*values):
        encoded = [v.encode("utf8", "surrogateescape") for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    def number(value):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    label, split, group = samples.labels[row], samples.splits[row], samples.groups[row]
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents])),
        "label": texts(*label) if isinstance(label, list) else texts(label),
        "id": texts(samples.ids[row]),
        "row": number(row),
    }
    if isinstance(label, list):
        features["label_is_list"] = number(1)  # of one value, it would be read as a text
    features |= {name: texts(value) for name, value in (("split", split), ("group", group)) if value is not None}
    # Without `deterministic` the order of the features, and so the bytes of a shard, is left to chance.
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
