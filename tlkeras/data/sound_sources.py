"""Where sounds come from: folders of classes, tables with labels or transcripts, Common Voice, TensorFlow Datasets; and
what is wrong with files that cannot be used."""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import listing, table_sources, tables, waveforms
from tlkeras.data.samples import SPLIT_FOLDERS, Samples, cache_folder
from tlkeras.device import cores
from tlkeras.errors import DataError, MachineError
from tlkeras.tasks import Wanted

COMMON_VOICE = ("path", "sentence", "client_id", "clips")  # columns, and the folder of the files


def read(data: Data, wanted: Wanted, offline: bool = False) -> Samples:
    """Lists the samples of a data section, each the path of a sound file.

    Raises:
        DataError: when nothing is there, or it is not what the config says.
    """
    if data.tfds:
        return _tfds(data, wanted, offline)
    path = Path(data.path or "")
    if path.is_dir() and wanted.whole:
        return _common_voice_folder(path, data)
    if path.is_dir():
        return _folder(path, data)
    if not path.is_file():
        raise tables.absent(path)
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".parquet"):
        raise DataError(
            f"{path}: sounds come in a folder of class folders, or are listed in a .csv, .tsv, .jsonl or .parquet table."
        )
    rows, _ = tables.columns(path)
    if _is_common_voice(path, rows):
        return _common_voice(path, data)
    return table_sources.read(path, data, data.audio, data.label or ("text" if wanted.whole else "label"))


def _folder(root: Path, data: Data) -> Samples:
    """root/CLASS/**.wav, or root/{train,val,test}/CLASS/**.wav."""
    if named := [f"data.{k}" for k in ("label", "group", "split") if getattr(data, k)]:
        raise DataError(
            f"{' and '.join(named)} name columns of a table, and {root} is none. Leave them out, or list the files in a table."
        )
    found, ignored = files(root)
    top = {p.relative_to(root).parts[0] for p in found}
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in top if name.lower() in SPLIT_FOLDERS}
    splits = splits if "train" in splits.values() else {}
    ids, paths, labels, given = [], [], [], []
    for path in found:
        parts = path.relative_to(root).parts[:-1]
        split = splits.get(parts[0]) if parts else None
        parts = parts[1:] if split else parts
        if not parts or (splits and not split):
            ignored["not in a class folder"] = ignored.get("not in a class folder", 0) + 1
            continue
        ids.append(path.relative_to(root).as_posix()), paths.append(str(path))
        labels.append(parts[0]), given.append(split)
    if not ids:
        raise DataError(
            f"{root}: expected class folders with sounds in them (CLASS/*.wav); found {len(found)} sounds outside class folders."
        )
    return Samples(root, ids, paths, labels, given, [None] * len(ids), ignored)


def files(root: Path) -> tuple[list[Path], dict[str, int]]:
    """The sound files below a folder by suffix, in the order of their names, and how many others there are, by reason."""
    found, ignored = [], Counter()
    for path in sorted(root.rglob("*")):
        if path.is_dir() or any(p.startswith(".") for p in path.relative_to(root).parts):
            continue
        if path.suffix.lower() in waveforms.SUFFIXES:
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                ignored["symbolic link out of the data folder"] += 1
            else:
                found.append(path)
        else:
            ignored[f"suffix {listing.printed(path.suffix)}" if path.suffix else "no suffix"] += 1
    return found, dict(ignored)


def _is_common_voice(path: Path, rows) -> bool:
    return (
        path.suffix.lower() == ".tsv"
        and set(COMMON_VOICE[:2]) <= set(rows)
        and (path.parent / COMMON_VOICE[3]).is_dir()
    )


def _common_voice(path: Path, data: Data, split: str | None = None) -> Samples:
    """A table of Mozilla's Common Voice: files in clips/ beside it; the utterances of a speaker are one group."""
    name, sentence, client, folder = COMMON_VOICE
    rows, _ = tables.columns(path)
    section = data.model_copy(update={"group": data.group or (client if client in rows else None)})
    found = table_sources.read(path, section, name, data.label or sentence, folder)
    return replace(found, splits=[split or s for s in found.splits])


def _common_voice_folder(root: Path, data: Data) -> Samples:
    """The folder of a language of Common Voice: its train.tsv, dev.tsv and test.tsv as splits."""
    parts = [
        (s, root / f"{n}.tsv")
        for n, s in (("train", "train"), ("dev", "val"), ("test", "test"))
        if (root / f"{n}.tsv").is_file()
    ]
    if not parts or not (root / COMMON_VOICE[3]).is_dir():
        raise DataError(
            f"{root}: transcripts come in a table (.csv, .tsv, .jsonl, .parquet), or a folder of Common Voice with train.tsv and clips/."
        )
    found = [_common_voice(path, data, split) for split, path in parts]
    lists = ([v for p in found for v in getattr(p, f)] for f in ("ids", "inputs", "labels", "splits", "groups"))
    return Samples(root, *lists)


def _tfds(data: Data, wanted: Wanted, offline: bool) -> Samples:
    """An audio dataset of TensorFlow Datasets, its sounds written as WAV files into the cache once."""
    import numpy as np
    import tensorflow_datasets as tfds

    from tlkeras.data import unpacked

    builder = unpacked.prepared(tfds, data.tfds, offline)
    features, label = builder.info.features, data.label or ("text" if wanted.whole else "label")
    if missing := [c for c in (data.audio, label) if c not in features]:
        raise DataError(
            f"data: {data.tfds} has no feature {missing[0]!r}; it has: {', '.join(features)}. Name features with data.audio and data.label."
        )
    kind, names = features[data.audio], getattr(features[label], "names", None)
    if not (rate := getattr(kind, "sample_rate", None)):
        raise MachineError(
            f"data: {data.tfds} does not say how many samples a second its {data.audio!r} has, so it cannot be used."
        )
    root = (
        cache_folder() / "sounds" / hashlib.sha256(f"{builder.info.full_name} {data.audio}".encode()).hexdigest()[:16]
    )
    root.mkdir(parents=True, exist_ok=True)
    ids, paths, labels, splits = [], [], [], []
    for split in builder.info.splits:
        for n, example in enumerate(tfds.as_numpy(builder.as_dataset(split=split))):
            path = root / f"{split}-{n}.wav"
            wave = np.asarray(example[data.audio])
            wave = wave / 32768 if wave.dtype.kind in "iu" else wave
            if not path.is_file():
                waveforms.write_wav(temporary := path.with_suffix(".part"), wave.reshape(len(wave), -1).mean(1), rate)
                temporary.rename(path)
            value = example[label]
            labels.append(
                names[int(value)] if names else value.decode("utf8") if isinstance(value, bytes) else str(value)
            )
            ids.append(f"{split}: {n}"), paths.append(str(path)), splits.append(SPLIT_FOLDERS.get(split))
    return Samples(root, ids, paths, labels, splits, [None] * len(ids))


def look(paths: list[str], progress=None) -> list[tuple[str | None, str, int]]:
    """Reads every file once: why it cannot be used or None, SHA-256 of its bytes as hex, and its fingerprint.

    Raises:
        MachineError: when a format needs a package that is not installed.
    """

    def one(path: str):
        try:
            waveforms.check(path, waveforms.about(path))
            with open(path, "rb") as f:
                digest = hashlib.file_digest(f, "sha256").digest()
        except (DataError, OSError) as e:
            return str(e).removeprefix(f"{path}: "), "", 0
        return None, digest.hex(), int.from_bytes(digest[:8], "little", signed=True)

    out = []
    if progress:
        progress.start()
    with ThreadPoolExecutor(cores()) as pool:
        for found in pool.map(one, paths):
            out.append(found)
            if progress:
                progress.step("scan", len(out), len(paths))
    return out
