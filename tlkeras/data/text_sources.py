"""Where texts come from: tables, folders of .txt files, SQuAD's JSON, datasets saved by Hugging Face, TensorFlow
Datasets; and what is wrong with those that cannot be used."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tlkeras.config import Data
from tlkeras.data import tables
from tlkeras.data.samples import SPLIT_FOLDERS, Samples
from tlkeras.errors import DataError, listed, nearest
from tlkeras.tasks import Wanted

MOST_CHARACTERS = 10_000_000  # of one text; more is a file that was taken for a text


@dataclass(frozen=True)
class Unread:
    """In place of the texts of a sample that cannot be read."""

    why: str


def read(data: Data, wanted: Wanted, offline: bool = False) -> Samples:
    """Lists the samples of a data section, each a tuple of texts.

    Raises:
        DataError: when nothing is there, or it is not what the config says.
        MachineError: when a dataset would have to be downloaded with `offline`.
    """
    if data.tfds:
        return _tfds(data, wanted, offline)
    path = Path(data.path or "")
    if path.is_dir():
        if saved := _saved_parts(path):
            return _join([_arrow(folder, split, data, wanted) for split, folder in saved])
        return _folder(path, data, wanted)
    if not path.is_file():
        raise tables.absent(path)
    if path.suffix.lower() == ".json":
        return _squad(path, data, wanted)
    if path.suffix.lower() not in tables.SUFFIXES:
        raise DataError(
            f"{path}: texts come in a {', '.join(tables.SUFFIXES)} table, SQuAD's .json, a folder of CLASS/*.txt, or a folder that Hugging Face's datasets saved."
        )
    rows, lines = tables.columns(path, strip=False)
    word = "row" if path.suffix.lower() == ".parquet" else "line"
    return _table(str(path), path.parent, rows, lines, word, data, wanted)


def _names(data: Data, wanted: Wanted) -> tuple[str, ...]:
    if data.text is None:
        return wanted.texts
    names = (data.text,) if isinstance(data.text, str) else tuple(data.text)
    if len(names) > len(wanted.texts) and not wanted.pairs:
        raise DataError(f"data.text: this task reads one column of text; received {', '.join(names)}.")
    if len(wanted.texts) > 1 and len(names) != len(wanted.texts):
        raise DataError(
            f"data.text must name {len(wanted.texts)} columns for this task, such as [{', '.join(wanted.texts)}]; received {', '.join(names)}."
        )
    return names


def _table(where: str, root: Path, rows: dict, lines: list[int], word: str, data: Data, wanted: Wanted) -> Samples:
    texts = _names(data, wanted)
    targets = [data.label or "label"] if not isinstance(data.label, list) else data.label
    columns = [*texts, *(targets if wanted.labelled else ()), *filter(None, (data.group, data.split))]
    if missing := [c for c in columns if c not in rows]:
        raise DataError(
            f"{where}: there is no column {', '.join(map(repr, missing))}.{nearest(missing[0], rows)} It has: {', '.join(rows)}. Name columns with data.text and data.label."
        )
    n = len(lines)
    if not n:
        raise DataError(f"{where}: the table has a header and no rows.")
    bad = [
        f"{word} {lines[i]}: {name!r} holds {'a record' if isinstance(cell, dict) else 'no text'}"
        for name in texts
        for i, cell in enumerate(rows[name])
        if not isinstance(cell, str | list) or (isinstance(cell, list) and not all(isinstance(c, str) for c in cell))
    ]
    splits = [None] * n
    if data.split:
        splits, odd = tables.splits([tables.stripped(c) for c in rows[data.split]], lines, word)
        bad += odd
    if bad:
        raise DataError(listed(f"{where}: {len(bad)} rows cannot be used", bad))
    labels = [tables.stripped(c) for c in tables.labels(rows, data.label)] if wanted.labelled else [""] * n
    groups = [tables.stripped(c) for c in tables.groups(rows, data.group, n)]
    for what, cells in (("label", labels), ("group", groups)):
        bad = [f"{word} {lines[i]}" for i, c in enumerate(cells) if _halved(json.dumps(c, ensure_ascii=False))]
        if bad:
            raise DataError(listed(f"{where}: half of a character (a lone surrogate) stands in the {what}", bad))
    if bad := [f"{word} {lines[i]}" for i, g in enumerate(groups) if not isinstance(g, str | None)]:
        raise DataError(listed(f"{where}: a group must be one text", bad))
    inputs = [tuple(map(_joined, cells)) for cells in zip(*(rows[t] for t in texts), strict=True)]
    ids = [f"{word} {line}" for line in lines]
    return Samples(root, ids, inputs, labels, splits, [g or None for g in groups])


def _joined(cell) -> str:
    """A text; words in a list are one text with a blank between, from which a task takes them apart again."""
    return cell if isinstance(cell, str) else " ".join(cell)


def _folder(root: Path, data: Data, wanted: Wanted) -> Samples:
    """root/CLASS/**.txt or root/SPLIT/CLASS/**.txt; without labels root/**.txt."""
    _no_columns(data)
    files = sorted(
        p
        for p in root.rglob("*.[tT][xX][tT]")
        if not p.is_dir() and not any(x.startswith(".") for x in p.relative_to(root).parts)
    )
    top = {p.relative_to(root).parts[0] for p in files}
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in top if name.lower() in SPLIT_FOLDERS}
    if "train" not in splits.values():
        splits = {}
    ids, inputs, labels, given, loose = [], [], [], [], []
    for path in files:
        relative = path.relative_to(root)
        parts = relative.parts[:-1]
        split = splits.get(parts[0]) if parts else None
        parts = parts[1:] if split else parts
        if wanted.labelled and (not parts or (splits and not split)):
            loose.append(str(relative))
            continue
        ids.append(relative.as_posix()), inputs.append(_one_file(path))
        labels.append(parts[0] if wanted.labelled else ""), given.append(split)
    if not ids:
        kind = "class folders with texts in them (CLASS/*.txt)" if wanted.labelled else "*.txt files"
        raise DataError(f"{root}: expected {kind}; found {len(loose)} texts outside class folders.")
    ignored = {"not in a class folder": len(loose)} if loose else {}
    return Samples(root, ids, inputs, labels, given, [None] * len(ids), ignored)


def _no_columns(data: Data) -> None:
    """Passed over in silence, a group would sit on both sides of a split."""
    if named := [k for k in ("text", "label", "group", "split") if getattr(data, k)]:
        raise DataError(
            f"data.{' and data.'.join(named)} name columns of a table, and {data.path} is none. Leave them out."
        )


def _one_file(path: Path) -> tuple[str] | Unread:
    try:
        return (tables.decoded(path),)
    except DataError as e:
        return Unread(str(e).removeprefix(str(path)).removeprefix(": "))
    except OSError as e:
        return Unread(f"cannot be read: {e.strerror}")


def _squad(path: Path, data: Data, wanted: Wanted) -> Samples:
    """SQuAD's JSON: data > paragraphs > qas; a paragraph's questions are one group."""
    _no_columns(data)
    try:
        articles = json.loads(tables.decoded(path))["data"]
        rows = [
            (str(qa["id"]), qa["question"], paragraph["context"], _answers(qa.get("answers", [])), f"{a}.{p}")
            for a, article in enumerate(articles)
            for p, paragraph in enumerate(article["paragraphs"])
            for qa in paragraph["qas"]
        ]
        if not all(isinstance(x, str) for row in rows for x in row[1:3]):
            raise TypeError("a question or context is no text")
        if any(map(_halved, (row[0] for row in rows))):
            raise ValueError("half of a character (a lone surrogate) stands in an id")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        raise DataError(f"{path}: not in SQuAD's form (data, paragraphs, qas, answers): {e!r}.") from e
    if len(wanted.texts) != 2:
        raise DataError(f"{path}: SQuAD's form holds questions and contexts, which the task question-answering reads.")
    ids, questions, contexts, answers, groups = map(list, zip(*rows, strict=True)) if rows else ([],) * 5
    inputs = list(zip(questions, contexts, strict=True))
    return Samples(path.parent, ids, inputs, answers, [None] * len(ids), groups)


def _answers(answers) -> dict:
    return {"text": [a["text"] for a in answers], "answer_start": [a["answer_start"] for a in answers]}


def _saved_parts(root: Path) -> list[tuple[str | None, Path]]:
    """(split, folder) of a dataset that Hugging Face's `save_to_disk` wrote, read here without that package."""
    if (listing := root / "dataset_dict.json").is_file():
        try:
            names = json.loads(tables.decoded(listing))["splits"]
            found = [(SPLIT_FOLDERS.get(s.lower()), root / s) for s in names if (root / s).is_dir()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise DataError(f"{listing}: not as Hugging Face's save_to_disk writes it: {e!r}.") from e
        if not found:
            raise DataError(f"{listing}: none of the splits that it names has a folder beside it.")
        return found
    return [(None, root)] if (root / "state.json").is_file() and (root / "dataset_info.json").is_file() else []


def _arrow(folder: Path, split: str | None, data: Data, wanted: Wanted) -> Samples:
    import pyarrow

    try:
        files = [f["filename"] for f in json.loads((folder / "state.json").read_bytes())["_data_files"]]
        if any(Path(name).name != name for name in files):
            raise ValueError(f"state.json names files elsewhere: {', '.join(files)}")
        parts = [pyarrow.ipc.open_stream(pyarrow.memory_map(str(folder / name))).read_all() for name in files]
        features = json.loads((folder / "dataset_info.json").read_bytes()).get("features") or {}
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as e:
        raise DataError(f"{folder}: not a dataset as Hugging Face's save_to_disk writes it: {e}.") from e
    if not parts:
        raise DataError(f"{folder}: not a dataset as Hugging Face's save_to_disk writes it: state.json names no file.")
    table = pyarrow.concat_tables(parts)
    rows, secret = {name: [tables.cell(v) for v in table[name].to_pylist()] for name in table.column_names}, set()
    for name, feature in features.items():
        inner = feature[0] if isinstance(feature, list) and feature else feature
        inner = inner.get("feature", inner) if isinstance(inner, dict) else inner
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and name in rows:
            rows[name] = [_named(cell, inner["names"]) for cell in rows[name]]
            secret |= {name}
    found = _table(str(folder), folder, rows, list(range(1, table.num_rows + 1)), "row", data, wanted)
    if wanted.labelled and (data.label or "label") in secret:
        found = _known(found)
    ids = [f"{split}: {i}" for i in found.ids] if split else found.ids
    stated = [split or s for s in found.splits]
    return Samples(folder, ids, found.inputs, found.labels, stated, found.groups, found.ignored)


def _known(samples: Samples) -> Samples:
    """The samples whose label is not kept secret, as test sets that are published have it."""
    kept = samples.keep([label != "" for label in samples.labels])
    secret = len(samples) - len(kept)
    return replace(kept, ignored={"without a label": secret} if secret else {})


def _named(cell, names: list[str]):
    """The name of a class that was written as its number; -1, where the label is kept secret, is blank."""
    if isinstance(cell, list):
        return [_named(c, names) for c in cell]
    return names[int(cell)] if cell not in ("", "-1") else ""


def _join(parts: list[Samples]) -> Samples:
    lists = ([v for p in parts for v in getattr(p, f)] for f in ("ids", "inputs", "labels", "splits", "groups"))
    ignored: Counter[str] = Counter()
    for p in parts:
        ignored.update(p.ignored)
    return Samples(parts[0].root, *lists, dict(ignored))


def _tfds(data: Data, wanted: Wanted, offline: bool) -> Samples:
    import tensorflow_datasets as tfds

    from tlkeras.data import unpacked

    builder = unpacked.prepared(tfds, data.tfds, offline)
    features, label = builder.info.features, data.label or "label"
    columns = [*_names(data, wanted), *([label] if wanted.labelled else []), *filter(None, (data.group, data.split))]
    if missing := [c for c in columns if c not in features]:
        raise DataError(
            f"data: {data.tfds} has no feature {missing[0]!r}.{nearest(missing[0], features)} It has: {', '.join(features)}. Name features with data.text and data.label."
        )
    kind = features[label] if wanted.labelled else None
    names, parts = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None), []
    for split in builder.info.splits:
        examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
        rows = {name: [tables.cell(_plain(e[name])) for e in examples] for name in columns}
        if names:
            rows[label] = [_named(cell, names) for cell in rows[label]]
        found = _table(data.tfds, Path(), rows, list(range(1, len(examples) + 1)), "row", data, wanted)
        kept = _known(found) if names else found
        ids, stated = [f"{split}: {i}" for i in kept.ids], SPLIT_FOLDERS.get(split)
        parts.append(
            Samples(
                Path(), ids, kept.inputs, kept.labels, [stated or s for s in kept.splits], kept.groups, kept.ignored
            )
        )
    return _join(parts)


def _plain(value):
    """NumPy's values as Python's, bytes as text."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.decode("utf8", "replace") if isinstance(value, bytes) else value


def _halved(text: str) -> bool:
    """Whether half of a character, a lone surrogate, stands in a text."""
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def fault(texts: tuple[str, ...]) -> str | None:
    """Why a sample cannot be used, or None."""
    if isinstance(texts, Unread):
        return texts.why
    if any(not t.strip() for t in texts):
        return "an empty text"
    if any("\0" in t for t in texts):
        return "a NUL character stands in the text"
    if (most := max(map(len, texts))) > MOST_CHARACTERS:
        return f"{most:,} characters; one text has at most {MOST_CHARACTERS:,}"
    if any(map(_halved, texts)):
        return "half of a character (a lone surrogate) stands in the text"
    return None


def content(texts: tuple[str, ...]) -> str:
    """SHA-256 of what a sample says: upper case and white space aside, so that such copies share a split."""
    if isinstance(texts, Unread):
        return ""
    plain = "\0".join(" ".join(t.casefold().split()) for t in texts)
    return hashlib.sha256(plain.encode("utf8", "surrogatepass")).hexdigest()
