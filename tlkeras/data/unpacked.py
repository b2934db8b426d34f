"""Images inside TFRecord files and TensorFlow Datasets: unpacked once into a folder under the cache, named by content,
so that scanning, splitting, predicting and reporting know one kind of sample only. Packs of `tlkeras data pack` are
TFRecord files with an index beside them, which they are held against.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from tlkeras.config import Data
from tlkeras.data import packs, tables
from tlkeras.data.samples import SPLIT_FOLDERS, Samples, cache_folder
from tlkeras.errors import DataError, MachineError, nearest
from tlkeras.run import storage, write_text


def tfrecord(files: list[str], data: Data) -> Samples:
    packed = packs.promised(files)
    facts = [
        f"{f}:{os.path.getsize(f)}:{os.stat(f).st_mtime_ns}" + (f":{packed[f]['sha256']}" if f in packed else "")
        for f in files
    ]
    folder = _unpacked("tfrecord", ",".join(facts))
    wanted = [data.image, data.label or "label"]
    asked = json.dumps([wanted, [os.path.abspath(f) for f in files]])
    listing = folder / f"samples-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
    if known := _listed(listing):
        return known
    order: list[tuple] = []  # folder, row in the source, row here
    samples = _unpack(_examples(files, wanted, packed, order), "tfrecord", folder, {})
    if packed:
        # A pack is written in another order; a run on it is to be the run on its source.
        rows = sorted(range(len(order)), key=order.__getitem__)
        lists = (samples.ids, samples.inputs, samples.labels, samples.splits, samples.groups)
        samples = Samples(folder, *([values[r] for r in rows] for values in lists))
    sizes = [os.path.getsize(p) for p in samples.inputs]
    names = [os.path.basename(p) for p in samples.inputs]
    columns = {"ids": samples.ids, "labels": samples.labels, "splits": samples.splits, "groups": samples.groups}
    write_text(listing, json.dumps({**columns, "names": names, "sizes": sizes}))
    return samples


def _examples(files: list[str], wanted: list[str], packed: dict[str, dict], order: list[tuple]):
    """(image, label, split, group, id) of every record; where each stood in a pack's source is added to `order`.

    A shard of a pack is hashed whole before its first record is read: from the disk once, then from memory.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    for file in files:
        if exact := file in packed:
            packs.verify(file, packed[file])
        n = -1
        try:
            for n, raw in enumerate(tf.data.TFRecordDataset(file).as_numpy_iterator()):
                features, where = tf.train.Example.FromString(raw).features.feature, f"{file}: record {n}"
                if missing := [w for w in wanted if w not in features]:
                    raise DataError(
                        f"{where} has no feature {missing[0]!r}.{nearest(missing[0], features)} It has: {', '.join(sorted(features))}. Name features with data.image and data.label."
                    )
                image = features[wanted[0]].bytes_list.value
                if len(image) != 1:
                    raise DataError(
                        f"{where} must hold one encoded image as bytes in {wanted[0]!r}; it holds {len(image)}."
                    )
                label = _texts(features[wanted[1]], exact)
                if not (exact and wanted[1] == "label" and "label_is_list" in features):
                    label = label[0] if len(label) == 1 else label or ""
                row = features["row"].int64_list.value if exact else ()
                order.append((os.path.dirname(file), *row, len(order)))
                about = {k: _about(features, k, exact, where) for k in ("split", "group", "id") if k not in wanted}
                yield image[0], label, about.get("split"), about.get("group"), about.get("id")
        except tf.errors.DataLossError as e:
            raise DataError(
                f"{file}: a damaged TFRecord file, or a compressed one: its record {n + 1} cannot be read."
            ) from e
        except DecodeError as e:
            raise DataError(f"{file}: record {n} is no tf.train.Example; only those are read.") from e


def _about(features, name: str, exact: bool, where: str) -> str | None:
    """The split, group or id that a record states in the feature so called, None where it does not."""
    values = _texts(features[name], exact) if name in features else []
    if len(values) > 1:
        raise DataError(f"{where} must hold one value in {name!r}; it holds {len(values)}.")
    if not values or not values[0]:
        return None
    if name == "split" and values[0].lower() not in SPLIT_FOLDERS:
        raise DataError(
            f"{where}: split {values[0]!r} is not train, val or test. Write one of them, or call the feature otherwise."
        )
    return SPLIT_FOLDERS[values[0].lower()] if name == "split" else values[0]


def _texts(feature, exact: bool) -> list[str]:
    """The values of a feature as cells of a table; `exact`, as they were packed."""
    values = (*feature.bytes_list.value, *feature.int64_list.value, *feature.float_list.value)
    return [v.decode("utf8", "surrogateescape") if exact and isinstance(v, bytes) else tables.cell(v) for v in values]


def tfds(data: Data, offline: bool) -> Samples:
    import tensorflow_datasets as tfds

    builder = prepared(tfds, data.tfds, offline)
    label, features = data.label or "label", builder.info.features
    for name in (data.image, label):
        if name not in features:
            raise DataError(
                f"data: {data.tfds} has no feature {name!r}.{nearest(name, features)} It has: {', '.join(features)}."
            )
    if not isinstance(features[data.image], tfds.features.Image):
        raise DataError(
            f"data.image: {data.image!r} of {data.tfds} is no image but {type(features[data.image]).__name__}."
        )
    names, ignored = getattr(features[label], "names", None), {}

    def text(value):
        if value.ndim:
            return [text(v) for v in value]
        return names[int(value)] if names else tables.cell(value.item())

    def examples():
        for split in builder.info.splits:
            raw = builder.as_dataset(split=split, decoders={data.image: tfds.decode.SkipDecoding()})
            for example in tfds.as_numpy(raw):
                value = np.asarray(example[label])
                # TensorFlow Datasets write -1 where the label is kept secret; as an index it is the last class.
                if names and (value < 0).any():
                    ignored["without a label"] = ignored.get("without a label", 0) + 1
                else:
                    yield bytes(example[data.image]), text(value), SPLIT_FOLDERS.get(split), None, None

    key = f"{builder.info.full_name}:{builder.info.file_format}:{builder.data_path}"
    return _unpack(examples(), builder.info.name, _unpacked(builder.info.name, key), ignored)


def prepared(tfds, name: str, offline: bool):
    """A prepared dataset, by the folder of one of its versions or by name; downloads it where that is allowed."""
    if (Path(name) / "dataset_info.json").is_file():
        return tfds.builder_from_directory(name)
    try:
        if tfds.core.naming.parse_builder_name_kwargs(name)[0].namespace:
            raise DataError(
                f"data.tfds: {name!r} names a dataset outside TensorFlow Datasets, whose code would be fetched and run. Prepare it yourself and give its folder."
            )
        builder = tfds.builder(name)
    except tfds.core.DatasetNotFoundError as e:
        # Community datasets are listed on the network; their names are no help offline.
        raise DataError(
            f"data.tfds: TensorFlow Datasets has no {name!r}.{nearest(name, tfds.list_builders(with_community_datasets=False))}"
        ) from e
    except (ValueError, AssertionError) as e:
        if Path(name).is_dir():
            raise DataError(
                f"{name}: not the folder of a prepared TensorFlow Dataset: it has no dataset_info.json. Give the folder of one version."
            ) from e
        raise DataError(f"data.tfds: {name!r} cannot be used: {str(e).splitlines()[0]}") from e
    if not builder.is_prepared():
        if offline:
            raise MachineError(
                f"The dataset {name!r} is not on this machine (looked in {builder.data_dir}), and --offline forbids the download."
            )
        try:
            builder.download_and_prepare()
        except ImportError as e:
            raise MachineError(
                f"TensorFlow Datasets needs the package {e.name!r} to prepare {name!r}. Install it with: pip install {e.name}"
            ) from e
        except (OSError, tfds.core.download.util.DownloadError) as e:
            raise MachineError(
                f"The dataset {name!r} could not be downloaded: {e}. Check the network, or give the folder of a prepared copy."
            ) from e
    return builder


def _unpacked(name: str, key: str) -> Path:
    return cache_folder() / "unpacked" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _unpack(examples, name: str, folder: Path, ignored: dict) -> Samples:
    """Writes encoded images into a folder, named by content; a file that is there whole is not rewritten."""
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    ids, paths, labels, splits, groups = [], [], [], [], []
    for n, (image, label, split, group, given) in enumerate(examples):
        path = folder / hashlib.sha256(image).hexdigest()[:40]
        if not path.is_file() or path.stat().st_size != len(image):
            with storage(path):
                temporary = path.with_suffix(f".{os.getpid()}.tmp")
                temporary.write_bytes(image)
                os.replace(temporary, path)
        ids.append(given or f"{n}:{path.name}"), paths.append(str(path)), labels.append(label)
        splits.append(split), groups.append(group)
    if not ids:
        raise DataError(f"{name}: there is no record in it.")
    if len(set(ids)) < len(ids):
        ids = [f"{n}:{given}" for n, given in enumerate(ids)]
    return Samples(folder, ids, paths, labels, splits, groups, ignored)


def _listed(listing: Path) -> Samples | None:
    """The samples of a source that was unpacked to its end before, None where a file of them is gone or cut short."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(listing.read_text("ascii"))
        paths = [str(listing.parent / name) for name in known["names"]]
        if all(os.path.getsize(p) == size for p, size in zip(paths, known["sizes"], strict=True)):
            return Samples(listing.parent, known["ids"], paths, *(known[k] for k in ("labels", "splits", "groups")))
    return None
