"""Every way of handing in data gives the same samples, and whatever is wrong with it is said before anything is trained.

Folders of classes, CSV, TSV and Parquet tables, TFRecord files and TensorFlow Datasets; the rows F-44 and F-50 to F-53
of the list of faults are a test each. Nothing here touches the network: sockets are closed.
"""

import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tlkeras.config import Data  # noqa: E402
from tlkeras.data import sources, tables  # noqa: E402
from tlkeras.errors import DataError, MachineError, StorageError  # noqa: E402


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """An own cache, and no network."""

    def closed(*args, **kwargs):
        raise AssertionError(f"a test opened a connection: {args}")

    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket.socket, "connect", closed)
    monkeypatch.setattr(socket, "getaddrinfo", closed)


def png(value: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def fill(root, *files):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(len(name)))
    return root


def refused(match, **data):
    with pytest.raises(DataError, match=match) as caught:
        sources.read(Data(**{k: str(v) if k == "path" else v for k, v in data.items()}))
    return str(caught.value)


# --- Folders


def test_a_folder_of_class_folders(tmp_path):
    root = fill(tmp_path / "photos", "cat/1.jpg", "cat/deep/down/2.PNG", "dog/1.jpeg", "two words 🌸/x y.webp")
    found = sources.read(Data(path=str(root)))
    assert dict(zip(found.ids, found.labels, strict=True)) == {
        "cat/1.jpg": "cat",
        "cat/deep/down/2.PNG": "cat",
        "dog/1.jpeg": "dog",
        "two words 🌸/x y.webp": "two words 🌸",
    }
    assert found.splits == [None] * 4 and found.groups == [None] * 4 and all(os.path.isfile(p) for p in found.inputs)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("train", "valid"), ("train",)]
)
def test_folders_called_like_splits_state_the_splits(tmp_path, names):
    root = fill(tmp_path, *(f"{name}/{c}/{i}.jpg" for name in names for c in ("cat", "dog") for i in (1, 2)))
    found = sources.read(Data(path=str(root)))
    assert set(found.labels) == {"cat", "dog"} and len(found) == 4 * len(names)
    assert {s: i.split("/")[0] for i, s in zip(found.ids, found.splits, strict=True)} == dict(
        zip(("train", "val", "test") if len(names) == 3 else ("train", "val"), names, strict=False)
    )


def test_a_class_may_be_called_test_where_nothing_is_called_train(tmp_path):
    found = sources.read(Data(path=str(fill(tmp_path, "test/1.jpg", "val/1.jpg", "other/1.jpg"))))
    assert found.labels == ["other", "test", "val"] and set(found.splits) == {None}


def test_a_class_called_train_is_refused_with_the_reason(tmp_path):
    said = refused("expected class folders", path=fill(tmp_path, "train/1.jpg", "car/1.jpg"))
    assert "Folders called train are read as splits, with class folders inside." in said


def test_images_outside_class_folders_are_counted(tmp_path):
    root = fill(tmp_path, "cat/1.jpg", "dog/1.jpg", "loose.jpg", "another.png")
    found = sources.read(Data(path=str(root)))
    assert len(found) == 2 and found.ignored["not in a class folder"] == 2
    refused("found 2 images outside class folders and 0 folders", path=fill(tmp_path / "flat", "a.jpg", "b.jpg"))
    (tmp_path / "empty").mkdir()
    refused("found 0 images outside class folders and 0 folders", path=tmp_path / "empty")


def test_an_empty_class_folder_is_refused_by_name(tmp_path):
    root = fill(tmp_path, "cat/1.jpg", "dog/1.jpg", "mouse/readme.txt")
    (root / "rat").mkdir()
    assert "empty: mouse, rat. Remove these folders or fill them." in refused(
        "every class folder needs images", path=root
    )
    root = fill(tmp_path / "s", "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg")
    (root / "val/dog").mkdir()
    assert "empty: val/dog" in refused("every class folder needs images", path=root)


def test_junk_is_counted_and_no_class(tmp_path):
    root = fill(tmp_path, "cat/1.jpg", "dog/1.jpg")
    for junk in (
        ".DS_Store",
        "cat/Thumbs.db",
        "cat/.hidden.jpg",
        "cat/notes.txt",
        "__MACOSX/cat/._1.jpg",
        ".git/x.jpg",
    ):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"x")
    found = sources.read(Data(path=str(root)))
    assert (
        found.ids == ["cat/1.jpg", "dog/1.jpg"]
        and sum(found.ignored.values()) == 6
        and found.ignored["suffix .txt"] == 1
    )


def test_links_are_followed_only_when_asked_for_and_only_inside(tmp_path):
    root = fill(tmp_path / "photos", "cat/1.jpg", "dog/1.jpg")
    fill(tmp_path / "elsewhere", "1.jpg")
    (root / "linked").symlink_to(root / "cat", target_is_directory=True)
    said = refused("every class folder needs images; empty: linked", path=root)
    assert "Links are not followed; data.follow_symlinks allows those that stay inside" in said
    assert sorted(sources.read(Data(path=str(root), follow_symlinks=True)).ids) == [
        "cat/1.jpg",
        "dog/1.jpg",
        "linked/1.jpg",
    ]
    (root / "linked").unlink()
    (root / "out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    refused("every class folder needs images; empty: out", path=root, follow_symlinks=True)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "image;label\na.jpg;x\n", "has commas between its columns; this header has semicolons"),
        ("t.csv", "image\tlabel\na.jpg\tx\n", "Save the table with commas, or call it .tsv"),
        ("t.tsv", "image,label\na.jpg,x\n", "has tabs between its columns; this header has commas"),
    ],
)
def test_a_table_with_other_separators_is_told_so(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as refusal:
        tables.columns(tmp_path / name)
    assert said in str(refusal.value)


def test_what_is_not_there_is_told_with_the_nearest_name(tmp_path):
    fill(tmp_path, "photos/cat/1.jpg", "labels.csv")
    assert "Did you mean photos?" in refused("there is no such file or folder", path=tmp_path / "photo")
    assert "Did you mean labels.csv?" in refused("there is no such file or folder", path=tmp_path / "label.csv")
    refused("there is no such file or folder", path=tmp_path / "no" / "where.parquet")
    assert "Did you mean photos?" in refused("there is no such file or folder", path=tmp_path / "fotos" / "bird")
    (tmp_path / "data.json").write_text("{}")
    refused(
        r"data is a folder of class folders, a \.csv, \.tsv or \.parquet table, or \*\.tfrecord\* files; received data\.json",
        path=tmp_path / "data.json",
    )


@pytest.mark.parametrize("key", [{"group": "patient"}, {"split": "part"}, {"label": ["x", "y"]}])
def test_columns_asked_of_what_is_no_table_are_refused(tmp_path, key):
    root = fill(tmp_path / "photos", "cat/1.jpg", "dog/1.jpg")
    refused(f"data.{next(iter(key))} name columns of a table", path=root, **key)
    refused(f"data.{next(iter(key))} name columns of a table", tfds="mnist", **key)


# --- Tables


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "data", "img/a.jpg", "img/b.jpg", "img/c.jpg")


def table(folder, text, name="t.csv", **data):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Data(path=str(path), **data)


def wrong(folder, text, name="t.csv", **data):
    with pytest.raises(DataError) as caught:
        sources.read(table(folder, text, name, **data))
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ","), ("t.tsv", "\t"), ("T.CSV", ",")])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_as_it_is_written(folder, name, mark, end):
    rows = ["image,label,extra", "img/a.jpg,cat,1", "", " img/b.jpg , 010 ,2", "img/c.jpg,no,"]
    found = sources.read(table(folder, end.join(rows).replace(",", mark) + end, name))
    assert (found.ids, found.labels) == (["img/a.jpg", "img/b.jpg", "img/c.jpg"], ["cat", "010", "no"])
    assert found.inputs == [str(folder / i) for i in found.ids] and found.root == folder


def test_quotes_hold_separators_line_breaks_and_quotes(folder):
    found = sources.read(table(folder, 'image,label\n"img/a.jpg","a, ""b""\nc"\nimg/b.jpg,x\n'))
    assert found.labels == ['a, "b"\nc', "x"]
    assert wrong(folder, 'image,label\nimg/a.jpg,"a\nb\nc"\nimg/no.jpg,x\n').endswith(
        "line 5: img/no.jpg does not exist"
    )


def test_a_table_in_another_encoding_is_refused_with_line_and_byte(folder):
    assert (
        wrong(folder, b"image,label\nimg/a.jpg,x\nimg/b.jpg,caf\xe9\n")
        == "t.csv:3: text must be UTF-8; byte 37 (0xe9) is not. Save it as UTF-8."
    )
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        said = wrong(folder, "image,label\nimg/a.jpg,x\n".encode(encoding))
        assert "UTF-16" in said or "NUL character" in said


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder):
    assert sources.read(table(folder, "\ufeffimage,label\nimg/a.jpg,x\n")).ids == ["img/a.jpg"]


def test_missing_columns_are_named_with_the_nearest(folder):
    said = wrong(folder, "image,lable\nimg/a.jpg,x\n")
    assert (
        said
        == "t.csv: the table has no column 'label'. Did you mean lable? It has: image, lable. Name columns with data.image and data.label."
    )
    said = wrong(
        folder, "image,label\nimg/a.jpg,x\n", image="file", label=["x", "label"], group="patient", split="part"
    )
    assert "no column 'file', 'x', 'patient', 'part'." in said
    assert "this header has semicolons" in wrong(folder, "image;label\nimg/a.jpg;x\n")
    assert len(sources.read(table(folder, "image,label,more,and more\nimg/a.jpg,x,,\n"))) == 1


def test_doubled_columns_are_refused(folder):
    assert (
        wrong(folder, "image,label, label\nimg/a.jpg,x,y\n") == "t.csv:1: columns need different names; twice: label."
    )


def test_a_table_without_rows_is_refused(folder):
    assert "the table has a header and no rows" in wrong(folder, "image,label\n")
    assert "the table has a header and no rows" in wrong(folder, "image,label\n\n\n")
    for text in ("", "\ufeff", "\n"):
        assert "the table is empty; it needs a header line" in wrong(folder, text)


def test_ragged_rows_are_all_listed(folder):
    said = wrong(folder, "image,label\nimg/a.jpg\nimg/b.jpg,x\nimg/c.jpg,x,y\n" + "z\n" * 50)
    assert "line 2: 1 cells instead of 2\n  line 4: 3 cells instead of 2\n" in said and "... and 32 more" in said


def test_a_nul_character_is_refused_with_its_line(folder):
    assert wrong(folder, "image,label\nimg/a.jpg,x\nimg/b.jpg,\0\n").startswith("t.csv:3: a NUL character")


def test_a_row_of_10_megabytes_is_refused_with_its_line(folder):
    assert wrong(folder, "image,label\nimg/a.jpg,x\nimg/b.jpg," + "x" * 10_000_000 + "\n").startswith(
        "t.csv:3: the row that begins here is not well formed: field larger than"
    )


@pytest.mark.parametrize("rows", [1, 30_000])
def test_a_quote_that_is_never_closed_is_shown_where_it_opens(folder, rows):
    said = wrong(folder, 'image,label\nimg/a.jpg,x\nimg/b.jpg,"cat\n' + "img/c.jpg,x\n" * rows)
    assert said.startswith("t.csv:3: the row that begins here is not well formed") and "never closed" in said
    assert wrong(folder, 'image,label\nimg/a.jpg,"a"b\n').startswith("t.csv:2: ")


def test_wrong_paths_are_all_listed_with_their_lines(folder):
    said = wrong(
        folder, "image,label\n/etc/passwd,a\n../out.jpg,b\nimg/../../out.jpg,c\nimg/none.jpg,d\n,e\nimg/a.jpg,f\n"
    )
    assert said == (
        "t.csv: 5 of 6 rows cannot be used:\n  line 2: /etc/passwd lies outside the folder of the table\n  line 3: ../out.jpg lies outside the folder of the table\n"
        "  line 4: img/../../out.jpg lies outside the folder of the table\n  line 5: img/none.jpg does not exist\n  line 6: the cell 'image' is empty"
    )


def test_absolute_paths_inside_the_folder_are_read(folder, tmp_path):
    assert (
        sources.read(table(folder, f"image,label\n{folder}/img/a.jpg,x\nimg/../img/b.jpg,y\n")).inputs[0]
        == f"{folder}/img/a.jpg"
    )
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert (
        len(sources.read(table(tmp_path / "link", f"image,label\n{tmp_path}/link/img/a.jpg,x\n{folder}/img/b.jpg,y\n")))
        == 2
    )
    outside = fill(tmp_path, "out.jpg") / "out.jpg"
    assert len(sources.read(table(folder, f"image,label\n{outside},x\n../out.jpg,y\n", follow_symlinks=True))) == 2


def test_a_table_beside_its_images_is_read_from_any_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    table(folder, "image,label\nimg/a.jpg,x\n")
    assert sources.read(Data(path="t.csv")).inputs == ["img/a.jpg"]
    monkeypatch.chdir(folder.parent)
    assert sources.read(Data(path="data/t.csv")).inputs == ["data/img/a.jpg"]


def test_an_image_listed_twice_has_two_ids(folder):
    assert sources.read(table(folder, "image,label\nimg/a.jpg,x\nimg/a.jpg,x\n")).ids == ["2:img/a.jpg", "3:img/a.jpg"]


def test_splits_and_groups_come_from_columns(folder):
    text = "image,label,part,who\nimg/a.jpg,x,Train,p1\nimg/b.jpg,x,validation,\nimg/c.jpg,x,,p1\n"
    found = sources.read(table(folder, text, split="part", group="who"))
    assert found.splits == ["train", "val", None]
    assert found.groups == ["p1", None, "p1"], "a blank group is no group: such rows do not belong together"
    assert "line 3: split 'dev' is not train, val or test" in wrong(
        folder, text.replace("validation", "dev"), split="part"
    )


def test_cells_of_labels_stay_as_they_are_written(folder):
    text = 'image,label,x,y\nimg/a.jpg,cat|dog,0.5,1\nimg/b.jpg,,,2\nimg/c.jpg,oops,inf,"1,5"\n'
    assert sources.read(table(folder, text)).labels == ["cat|dog", "", "oops"]
    assert sources.read(table(folder, text, label=["x", "y"])).labels == [["0.5", "1"], ["", "2"], ["inf", "1,5"]]


def test_a_hundred_thousand_rows_are_read_in_seconds(folder):
    text = "image,label,who\n" + "".join(f"img/{'abc'[i % 3]}.jpg,c{i % 7},p{i % 999}\n" for i in range(100_000))
    data = table(folder, text, group="who")
    started = time.monotonic()
    assert len(sources.read(data)) == 100_000
    assert time.monotonic() - started < 15


# --- Parquet


def parquet(folder, columns, names=None, **data):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns, names=names), folder / "t.parquet")
    return Data(path=str(folder / "t.parquet"), **data)


def test_a_parquet_table_gives_the_same_samples(folder):
    import decimal

    values = (
        [1, None, 3],
        [1.5, float("nan"), 2.0],
        [True, False, None],
        [decimal.Decimal("1.50")] * 3,
        [b"cat", b"caf\xc3\xa9", None],
    )
    want = ["1", "", "3"], ["1.5", "", "2.0"], ["True", "False", ""], ["1.50"] * 3, ["cat", "café", ""]
    for given, texts in zip(values, want, strict=True):
        found = sources.read(parquet(folder, {"image": ["img/a.jpg", "img/b.jpg", "img/c.jpg"], "label": given}))
        assert (found.ids, found.labels) == (["img/a.jpg", "img/b.jpg", "img/c.jpg"], texts)
    assert sources.read(parquet(folder, {"image": [b"img/a.jpg"], "label": [[1.5, None]]})).labels == [["1.5", ""]]


def test_a_wrong_parquet_table_is_refused(folder):
    for columns, match in (
        (
            {"image": ["img/no.jpg", None], "label": ["a", "b"]},
            r"2 of 2 rows cannot be used:\n  row 1: img/no.jpg does not exist\n  row 2: the cell 'image' is empty",
        ),
        (
            {"image": [{"bytes": b"x", "path": None}], "label": [0]},
            "the column 'image' must hold texts or numbers; it holds records",
        ),
        ({"image": [["img/a.jpg"]], "label": [0]}, "the column 'image' must hold texts or numbers; it holds lists"),
        (
            {"image": ["img/a.jpg"], "label": [{"x": 0}]},
            "the column 'label' must hold texts or numbers; it holds records",
        ),
        ({"image": ["img/a\0.jpg"], "label": ["a"]}, "does not exist"),
        ({"file": ["img/a.jpg"], "label": ["a"]}, "no column 'image'"),
    ):
        with pytest.raises(DataError, match=match):
            sources.read(parquet(folder, columns))
    with pytest.raises(DataError, match="columns need different names; twice: label"):
        sources.read(parquet(folder, [["img/a.jpg"], ["x"], ["y"]], ["image", "label", "label"]))
    with pytest.raises(DataError, match="the column 'who' must hold texts or numbers; it holds lists"):
        sources.read(parquet(folder, {"image": ["img/a.jpg"], "label": ["a"], "who": [["p"]]}, group="who"))
    (folder / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        sources.read(Data(path=str(folder / "t.parquet")))


# --- TFRecord


def records(folder, name, *examples):
    """Writes tf.train.Examples, each a dict of values by feature, or bytes as they are."""
    import tensorflow as tf

    def feature(value):
        values = value if isinstance(value, list) else [value]
        if values and isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if values and isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for one in examples:
            raw = (
                one
                if isinstance(one, bytes)
                else tf.train.Example(
                    features=tf.train.Features(feature={k: feature(v) for k, v in one.items()})
                ).SerializeToString()
            )
            writer.write(raw)
    return Data(path=str(folder / name))


def test_tfrecord_files_are_unpacked_once(tmp_path, monkeypatch):
    data = records(
        tmp_path / "in",
        "x.tfrecord-00000-of-00002",
        {"image": png(1), "label": b"cat"},
        {"image": png(2), "label": b"dog"},
    )
    records(tmp_path / "in", "x.tfrecord-00001-of-00002", {"image": png(1), "label": b"cat"})
    data = Data(path=str(tmp_path / "in" / "x.tfrecord-*"))
    found = sources.read(data)
    assert found.labels == ["cat", "dog", "cat"] and len(set(found.ids)) == 3 and found.inputs[0] == found.inputs[2]
    assert [Path(p).read_bytes() for p in found.inputs] == [png(1), png(2), png(1)]
    assert all(p.startswith(str(tmp_path / "cache")) for p in found.inputs)
    times = [os.stat(p).st_mtime_ns for p in found.inputs]
    Path(found.inputs[1]).write_bytes(png(2)[:20])
    again = sources.read(data)
    assert again == found and os.stat(again.inputs[0]).st_mtime_ns == times[0]
    assert Path(again.inputs[1]).read_bytes() == png(2), "a file that was cut short is written again"
    assert not [n for n in os.listdir(found.root) if n.endswith(".tmp")]


def test_labels_of_tfrecords_are_texts(tmp_path):
    data = records(
        tmp_path,
        "x.tfrecord",
        {"image": png(1), "label": 3},
        {"image": png(2), "label": 0.5},
        {"image": png(3), "label": [1, 2]},
        {"image": png(4), "label": []},
        {"image": png(5), "label": "café".encode()},
    )
    assert sources.read(data).labels == ["3", "0.5", ["1", "2"], "", "café"]


def test_wrong_tfrecords_are_refused_by_file_and_record(tmp_path):
    import gzip

    good = {"image": png(1), "label": b"cat"}
    for name, examples, match in (
        (
            "names.tfrecord",
            [good, {"images": png(1), "label": b"cat"}],
            r"names\.tfrecord: record 1 has no feature 'image'\. Did you mean images\? It has: images, label",
        ),
        (
            "label.tfrecord",
            [{"image": png(1), "lable": b"cat"}],
            r"record 0 has no feature 'label'\. Did you mean lable\?",
        ),
        (
            "two.tfrecord",
            [{"image": [png(1), png(2)], "label": b"cat"}],
            r"record 0 must hold one encoded image as bytes in 'image'; it holds 2",
        ),
        (
            "pixels.tfrecord",
            [{"image": [1, 2, 3], "label": b"cat"}],
            "must hold one encoded image as bytes in 'image'; it holds 0",
        ),
        ("other.tfrecord", [good, b"\xff\xff\xff no example"], r"other\.tfrecord: record 1 is no tf\.train\.Example"),
        ("empty.tfrecord", [], "there is no record in it"),
    ):
        with pytest.raises(DataError, match=match):
            sources.read(records(tmp_path, name, *examples))
    data = records(tmp_path, "cut.tfrecord", good, good)
    raw = (tmp_path / "cut.tfrecord").read_bytes()
    flipped = bytearray(raw)
    flipped[len(raw) // 2 + 40] ^= 1
    for damaged, record in ((raw[:-5], 1), (bytes(flipped), 1), (gzip.compress(raw), 0)):
        (tmp_path / "cut.tfrecord").write_bytes(damaged)
        with pytest.raises(
            DataError,
            match=rf"cut\.tfrecord: a damaged TFRecord file, or a compressed one: its record {record} cannot be read",
        ):
            sources.read(data)


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path, monkeypatch):
    data = records(tmp_path, "x.tfrecord", {"image": png(1), "label": b"cat"})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot be written"):
        sources.read(data)


# --- TensorFlow Datasets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of TFDS_DATA_DIR with a small data set in it, and the builder."""
    import tensorflow_datasets as tfds

    class TinyFlowers(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="png"), "label": tfds.features.ClassLabel(names=["rose", "lily"]), "weight": tfds.features.Scalar(np.float32),
                "name": tfds.features.Text(), "kinds": tfds.features.Sequence(tfds.features.ClassLabel(names=["a", "b", "c"])),
            }  # fmt: skip
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            parts = {"train": (0, 6), "validation": (6, 8), "test": (8, 10), "unlabelled": (10, 12)}
            return {name: self._generate_examples(*part) for name, part in parts.items()}

        def _generate_examples(self, first, last):
            for i in range(first, last):
                yield (
                    str(i),
                    {
                        "image": io.BytesIO(png(i)),
                        "label": -1 if i >= 10 else i % 2,
                        "weight": i / 2,
                        "name": f"name {i}",
                        "kinds": [i % 3, (i + 1) % 3],
                    },
                )

    folder = tmp_path_factory.mktemp("tfds")
    builder = TinyFlowers(data_dir=str(folder))
    builder.download_and_prepare()
    return folder, builder


BY_NAME = """
import json, sys
from tlkeras.config import Data
from tlkeras.data import sources
found = sources.read(Data(tfds="tiny_flowers"), offline=True)
print(json.dumps([found.splits, found.labels, found.inputs, found.ignored]))
"""


def test_a_prepared_dataset_is_read_by_its_folder_and_by_name(prepared):
    folder, builder = prepared
    found = sources.read(Data(tfds=str(builder.data_path)), offline=True)
    assert sorted(zip(found.splits, found.labels, strict=True)) == sorted(
        [("train", "rose"), ("train", "lily")] * 3 + [(s, c) for s in ("val", "test") for c in ("rose", "lily")]
    )
    assert found.ignored == {"without a label": 2}, "-1 stands for a label that is kept secret, not for the last class"
    assert sorted(Path(p).read_bytes() for p in found.inputs) == sorted(png(i) for i in range(10))
    # Another process: TensorFlow Datasets reads the variable once, and there the builder's code is not known.
    made = subprocess.run(
        [sys.executable, "-c", BY_NAME],
        env={**os.environ, "TFDS_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(made.stdout.splitlines()[-1]) == [found.splits, found.labels, found.inputs, found.ignored]


def test_other_features_can_be_the_label(prepared):
    path = str(prepared[1].data_path)
    assert sorted(sources.read(Data(tfds=path, label="weight")).labels, key=float)[:3] == ["0.0", "0.5", "1.0"]
    assert "name 3" in sources.read(Data(tfds=path, label="name")).labels
    assert sorted(sources.read(Data(tfds=path, label="kinds")).labels)[0] == ["a", "b"]


def test_wrong_features_are_named(prepared):
    path = str(prepared[1].data_path)
    assert "Did you mean image?" in refused("has no feature 'imag'", tfds=path, image="imag")
    assert "It has: " in refused("has no feature 'class'", tfds=path, label="class")
    refused("'label' of .* is no image but ClassLabel", tfds=path, image="label")


def test_a_dataset_that_is_not_there_is_refused_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(
        MachineError,
        match=r"The dataset 'mnist' is not on this machine \(looked in .*\), and --offline forbids the download",
    ):
        sources.read(Data(tfds="mnist"), offline=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnst", "has no 'mnst'. Did you mean mnist?"),
        ("mnist:9.9.9", "cannot be used"),
        ("mnist/nope", "cannot be used"),
        ("a b", "cannot be used"),
        ("../x", "cannot be used"),
        ("huggingface:mnist", "outside TensorFlow Datasets, whose code would be fetched and run"),
    ],
)
def test_names_that_mean_nothing_are_refused_without_the_network(tmp_path, monkeypatch, name, said):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert said in refused("data.tfds", tfds=name) and len(refused("data.tfds", tfds=name)) < 500


def test_a_folder_that_is_no_dataset_does_not_hide_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path, "mnist/1.jpg"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    with pytest.raises(MachineError, match="not on this machine"):
        sources.read(Data(tfds="mnist"), offline=True)
    assert "it has no dataset_info.json" in refused("not the folder of a prepared", tfds=f"{tmp_path}/mnist")
