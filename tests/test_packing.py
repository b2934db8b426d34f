"""A pack is the data it was made from, whole or refused: samples, splits and groups come back, and what is damaged is named.

Everything is packed and read for real. The killed packs die by SIGKILL in a process of their own, at a chosen
rename, so that it is known what they leave behind.
"""

import collections
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COLOURS, draw, write_classes

from tlkeras import tasks
from tlkeras.config import Data
from tlkeras.data import collect, packing, sources
from tlkeras.data.samples import Samples
from tlkeras.errors import ConfigError, DataError, UsageError
from tlkeras.progress import Progress
from tlkeras.run import sha256

SMALL = 0.02  # MB: a few of the pictures of `draw`, which have 4 to 5 kB


def pack(data, out, **more):
    return packing.pack(data, out, **{"shard_mb": SMALL, "quiet": True, **more})


def content(found: Samples) -> list[tuple]:
    """What a data set says, in its order: id, label, split, group, hash of the bytes."""
    hashes = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in found.inputs]
    return list(zip(found.ids, found.labels, found.splits, found.groups, hashes, strict=True))


def read(path, **more) -> list[tuple]:
    return content(sources.read(Data(path=str(path), **more)))


def files(folder) -> dict[str, str]:
    return {p.name: sha256(p) for p in Path(folder).iterdir() if p.name != ".lock"}


def splits_of(path, task="image-classification", **more):
    room = tasks.get(task)
    held = collect(Data(path=str(path), **more), room, room.Options(), Progress(quiet=True))
    return dict(zip(held.ids, held.splits, strict=True)), held.facts()["sha256"]


@pytest.fixture
def table(tmp_path):
    """Twelve pictures, two values each, six patients; the patients of two splits are given."""
    lines = ["file,mass,age,who,part"]
    for n in range(12):
        draw((20 * n, 90, 10), n).save(tmp_path / f"{n}.png")
        lines.append(f"{n}.png,{n / 4},{n},patient {n // 2},{('train', 'Validation', '')[min(n // 2, 2)]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    return tmp_path / "table.csv"


COLUMNS = {"image": "file", "label": ["mass", "age"], "group": "who", "split": "part"}
SETS = ["data.image=file", "data.label=[mass, age]", "data.group=who", "data.split=part"]


# --- The same data


def test_a_folder_comes_back_as_it_was_by_folder_and_by_glob(tmp_path):
    source = write_classes(tmp_path / "photos")
    made = pack(source, tmp_path / "packed")
    assert made["samples"] == 36 and made["shards"] > 3 and made["kept"] == 0
    assert read(tmp_path / "packed") == read(source), "the order too: a run on the pack is the run on the source"
    assert read(tmp_path / "packed" / "*.tfrecord") == read(source)


def test_a_table_comes_back_with_groups_splits_and_several_values(table, tmp_path):
    pack(table, tmp_path / "packed", sets=SETS)
    found = read(tmp_path / "packed")
    assert found == read(table, **COLUMNS)
    assert found[3][1:4] == (["0.75", "3"], "val", "patient 1") and found[4][2] is None


def test_a_list_of_one_value_stays_a_list_and_a_text_a_text(table, tmp_path):
    pack(table, tmp_path / "list", sets=["data.image=file", "data.label=[mass]"])
    pack(table, tmp_path / "text", sets=["data.image=file", "data.label=mass"])
    assert [row[1] for row in read(tmp_path / "list")][:2] == [["0.0"], ["0.25"]]
    assert [row[1] for row in read(tmp_path / "text")][:2] == ["0.0", "0.25"]


def test_columns_called_group_and_split_are_taken_unless_told_otherwise(table, tmp_path):
    table.write_text(table.read_text().replace("who,part", "group,Split"))
    pack(table, tmp_path / "packed", sets=SETS[:2])
    assert read(tmp_path / "packed") == read(table, **COLUMNS | {"group": "group", "split": "Split"})
    pack(table, tmp_path / "plain", sets=[*SETS[:2], "data.group=null", "data.split="])
    assert read(tmp_path / "plain") == read(table, **COLUMNS | {"group": None, "split": None})


def test_names_that_are_no_utf8_come_back_byte_for_byte(tmp_path):
    odd = [os.fsdecode(b"caf\xe9"), " 🌸 rose", "a,b|c"]
    source = write_classes(tmp_path / "photos", each=2, names=COLOURS)
    for old, new in zip(COLOURS, odd, strict=True):
        (source / old).rename(source / new)
    pack(source, tmp_path / "packed")
    assert read(tmp_path / "packed") == read(source) and {row[1] for row in read(tmp_path / "packed")} == set(odd)
    assert splits_of(tmp_path / "packed", val=0.0, test=0.5) == splits_of(source, val=0.0, test=0.5)


def test_splits_of_the_pack_are_those_of_the_source(table, tmp_path):
    source = write_classes(tmp_path / "photos")
    pack(source, tmp_path / "a")
    assert splits_of(tmp_path / "a") == splits_of(source)
    assert splits_of(tmp_path / "a", seed=3) == splits_of(source, seed=3) != splits_of(source)
    pack(table, tmp_path / "b", sets=SETS)
    stated = splits_of(tmp_path / "b", "image-regression")
    assert stated == splits_of(table, "image-regression", **COLUMNS)
    assert stated[0]["2.png"] == stated[0]["3.png"] == "val"


def test_folders_of_splits_tfrecords_and_packs_can_be_packed(tmp_path):
    for split in ("train", "val", "test"):
        write_classes(tmp_path / "photos" / split, each=2)
    with pytest.raises(DataError, match="the same bytes with different splits"):
        splits_of(tmp_path / "photos")  # what the source is refused for, its pack is too
    pack(tmp_path / "photos", tmp_path / "packed")
    assert read(tmp_path / "packed") == read(tmp_path / "photos")
    with pytest.raises(DataError, match="the same bytes with different splits"):
        splits_of(tmp_path / "packed")
    pack(tmp_path / "packed", tmp_path / "again")
    assert read(tmp_path / "again") == read(tmp_path / "photos")
    (tmp_path / "bare").mkdir()
    for shard in (tmp_path / "packed").glob("*.tfrecord"):
        shutil.copy(shard, tmp_path / "bare")
    assert sorted(read(tmp_path / "bare" / "*.tfrecord")) == sorted(read(tmp_path / "photos")), "without an index too"


def test_a_config_names_what_is_packed(table, tmp_path):
    config = tmp_path / "run.yaml"
    section = {"path": str(table), **COLUMNS}
    config.write_text(json.dumps({"task": "image-regression", "data": section, "backbone": {"name": "mobilenet"}}))
    pack(config, tmp_path / "packed")
    assert read(tmp_path / "packed") == read(table, **COLUMNS)


def test_every_shard_holds_every_class_and_keeps_its_size(tmp_path):
    source = write_classes(tmp_path / "photos", each=60)
    pack(source, tmp_path / "packed", shard_mb=0.2)
    index = json.loads((tmp_path / "packed" / "index.json").read_text())
    assert index["complete"] and sum(s["samples"] for s in index["shards"]) == index["samples"] == 180
    for shard in index["shards"]:
        path = tmp_path / "packed" / shard["name"]
        assert (path.stat().st_size, sha256(path)) == (shard["bytes"], shard["sha256"]) and shard["bytes"] <= 200_000
        if shard["samples"] > 20:
            counts = collections.Counter(row[1] for row in read(path))
            assert set(counts) == set(COLOURS)


def test_a_sample_larger_than_a_shard_gets_one_of_its_own(tmp_path):
    source = write_classes(tmp_path / "photos", each=2)
    assert pack(source, tmp_path / "packed", shard_mb=0.000001)["shards"] == 6
    assert read(tmp_path / "packed") == read(source)


def test_a_pack_depends_on_the_data_alone(tmp_path):
    source = write_classes(tmp_path / "photos")
    pack(source, tmp_path / "one")
    shutil.copytree(source, tmp_path / "copy", copy_function=shutil.copyfile)
    pack(tmp_path / "copy", tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")


# --- Interrupted

KILLED = """
import os, signal, sys
from tlkeras.data import packing
source, out, name, count = sys.argv[1:]
left = [int(count)]
def watch(event, args):
    if event == "os.rename" and os.path.basename(args[1]) == name:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
packing.pack(source, out, shard_mb=0.02, quiet=True)
"""


def killed(source, out, name: str, count: int) -> None:
    """Packs in another process, which dies at the `count`-th time that a file called `name` is about to appear."""
    child = subprocess.run([sys.executable, "-c", KILLED, str(source), str(out), name, str(count)], timeout=300)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("at", ["the first index", "the first shard", "a shard", "the index of a shard"])
def test_a_killed_pack_goes_on_to_the_same_bytes(tmp_path, at):
    source, out = write_classes(tmp_path / "photos"), tmp_path / "killed"
    n = pack(source, tmp_path / "whole")["shards"]
    name, count, whole = {
        "the first index": ("index.json", 1, 0),
        "the first shard": (f"part-00000-of-{n:05d}.tfrecord", 1, 0),
        "a shard": (f"part-00003-of-{n:05d}.tfrecord", 1, 3),
        "the index of a shard": ("index.json", 4, 2),
    }[at]
    killed(source, out, name, count)
    assert any(p.name.endswith((".tmp.json", ".tmp.tfrecord")) for p in out.iterdir())
    if at != "the first index":
        assert not json.loads((out / "index.json").read_text())["complete"]
        with pytest.raises(DataError, match="this pack was not finished"):
            read(out)
    if whole:
        with pytest.raises(DataError, match="this pack was not finished"):
            read(out / "*.tfrecord")
    times = {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}
    assert pack(source, out)["kept"] == whole
    assert files(out) == files(tmp_path / "whole"), "the same bytes, and nothing left behind"
    kept = sorted(times)[:whole]
    assert [(out / name).stat().st_mtime_ns for name in kept] == [times[name] for name in kept]


def test_a_finished_pack_is_checked_and_only_what_is_damaged_is_written_again(tmp_path):
    source, out = write_classes(tmp_path / "photos"), tmp_path / "packed"
    n = pack(source, out)["shards"]
    before, times = files(out), {p.name: p.stat().st_mtime_ns for p in out.iterdir() if p.name != ".lock"}
    assert pack(source, out)["kept"] == n
    assert times == {p.name: p.stat().st_mtime_ns for p in out.iterdir() if p.name != ".lock"}
    flip(out, 1)
    sorted(out.glob("part-*"))[2].unlink()
    assert pack(source, out)["kept"] == n - 2 and files(out) == before


def test_a_source_that_changed_while_half_packed_is_refused(tmp_path):
    source, out = write_classes(tmp_path / "photos"), tmp_path / "packed"
    killed(source, out, "index.json", 4)

    def changed(name, change, now):
        copy = tmp_path / name
        shutil.copytree(source, copy)
        change(copy)
        said = (
            rf"it changed since \(36 samples then, {now} now\).* Put it back to go on, or remove .*packed and pack anew"
        )
        with pytest.raises(DataError, match=said):
            pack(copy, out)

    index, shards = (out / "index.json").read_bytes(), sorted(out.glob("part-*"))
    changed("picture", lambda root: draw((1, 2, 3), 99).save(root / "red" / "3.png"), 36)
    changed("more", lambda root: draw((1, 2, 3), 99).save(root / "red" / "new.png"), 37)
    changed("less", lambda root: (root / "red" / "3.png").unlink(), 35)
    changed("class", lambda root: (root / "red" / "3.png").rename(root / "blue" / "other.png"), 36)
    assert (out / "index.json").read_bytes() == index and sorted(out.glob("part-*")) == shards
    assert pack(source, out)["kept"] == 2, "put back, it goes on"


def test_labels_of_a_table_that_changed_are_a_change_too(table, tmp_path):
    pack(table, tmp_path / "packed", sets=SETS)
    table.write_text(table.read_text().replace("0.75,3", "0.75,4"))
    with pytest.raises(UsageError, match="holds a pack of other samples, or of these before they changed"):
        pack(table, tmp_path / "packed", sets=SETS)


def test_another_size_of_shards_is_refused_with_the_one_it_was_begun_with(tmp_path):
    source = write_classes(tmp_path / "photos", each=2)
    pack(source, tmp_path / "packed")
    with pytest.raises(UsageError, match=r"begun with shards of 0\.02 MB; received 5\. Go on with --shard-mb 0\.02"):
        pack(source, tmp_path / "packed", shard_mb=5)


# --- Refused, with nothing written


def test_a_folder_that_holds_something_else_is_never_overwritten(tmp_path):
    source = write_classes(tmp_path / "photos", each=2)
    other = tmp_path / "other"
    for n, (name, text) in enumerate(
        {"notes.txt": "x", "index.json": "{}", "part-00000-of-00001.tfrecord": "x"}.items()
    ):
        folder = other / str(n)
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        with pytest.raises(UsageError, match=f"holds something else and is not overwritten \\({name}\\)"):
            pack(source, folder)
        assert os.listdir(folder) == [name] and (folder / name).read_text() == text
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"not overwritten \(it is no folder\)"):
        pack(source, tmp_path / "file")
    with pytest.raises(UsageError, match="lies inside the data that is to be packed"):
        pack(source, source / "packed")
    (tmp_path / "empty").mkdir()
    assert pack(source, tmp_path / "empty")["samples"] == 6


def test_bad_files_are_all_listed_and_nothing_is_written(tmp_path):
    source = write_classes(tmp_path / "photos", each=30, names=("red", "blue"))
    for n in range(25):
        (source / "red" / f"{n}.png").write_bytes((source / "red" / f"{n}.png").read_bytes()[:-100])
    (source / "blue" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="26 of 60 files cannot be used:\n") as caught:
        pack(source, tmp_path / "packed")
    assert all(f"  red/{n}.png: " in str(caught.value) for n in range(25)) and "blue/0.png: empty file" in str(
        caught.value
    )
    assert not (tmp_path / "packed").exists()
    made = pack(source, tmp_path / "packed", sets=["data.on_bad=skip"])
    assert made["samples"] == 34 and len(made["skipped"]) == 26 and len(read(tmp_path / "packed")) == 34


def test_wrong_overrides_and_sizes_are_refused(tmp_path):
    source = write_classes(tmp_path / "photos", each=2)
    for sets, said in (
        (["label=x"], "an override is data.KEY=VALUE"),
        (["data.lable=x"], "--set data.lable=x: data.lable: there is no such key. Did you mean label?"),
        (["data.val=2"], "--set data.val=2: data.val: must be less than 1; received 2."),
    ):
        with pytest.raises(ConfigError) as caught:
            pack(source, tmp_path / "packed", sets=sets)
        assert said in str(caught.value)
    with pytest.raises(UsageError, match="a size of more than 0 MB; received 0"):
        pack(source, tmp_path / "packed", shard_mb=0)
    assert not (tmp_path / "packed").exists()


def test_a_disk_that_refuses_is_a_storage_error_and_leaves_no_half_shard(tmp_path):
    source, out = write_classes(tmp_path / "photos"), tmp_path / "packed"
    code = """
import resource, signal, sys
from tlkeras.data import packing
from tlkeras.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import tensorflow, numpy
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    packing.pack(sys.argv[1], sys.argv[2], shard_mb=0.1, quiet=True)
except StorageError as e:
    print(e)
"""
    # A cache of its own: that of all tests may be larger than the limit.
    environment = {**os.environ, "TLKERAS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(source), str(out)]
    said = subprocess.run(command, env=environment, timeout=300, check=True, capture_output=True, text=True).stdout
    assert re.search(r"part-00000-of-0000\d\.tfrecord cannot be written: .*File too large", said)
    assert [p.name for p in out.iterdir() if p.name != ".lock"] == ["index.json"]


# --- Damaged


def flip(folder, n: int) -> str:
    """Turns one bit in the middle of the n-th shard."""
    path = sorted(Path(folder).glob("part-*"))[n]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    return path.name


@pytest.fixture
def packed(tmp_path):
    pack(write_classes(tmp_path / "photos"), tmp_path / "packed")
    return tmp_path / "packed"


@pytest.mark.parametrize("read_before", [False, True])
def test_one_flipped_bit_is_refused_with_the_shard(packed, read_before):
    if read_before:
        read(packed)
    name = flip(packed, 2)
    for path in (packed, packed / "*.tfrecord", packed / name):
        with pytest.raises(DataError, match=f"{name}: a damaged shard: its SHA-256 is not the one in index.json"):
            read(path)


def test_a_shard_cut_short_or_put_in_the_place_of_another_is_refused(packed):
    first, second, *_ = sorted(packed.glob("part-*"))
    raw = first.read_bytes()
    first.write_bytes(raw[:-1])
    with pytest.raises(DataError, match=rf"{first.name}: a damaged shard: index.json says {len(raw):,} bytes, it has"):
        read(packed)
    shutil.copy(second, first)
    with pytest.raises(DataError, match=f"{first.name}: a damaged shard"):
        read(packed)


def test_missing_shards_are_named(packed):
    shards = sorted(packed.glob("part-*"))
    shards[1].unlink(), shards[3].unlink()
    said = f"2 of {len(shards)} shards of this pack are missing:\n  {shards[1].name}\n  {shards[3].name}"
    for path in (packed, packed / "*.tfrecord", shards[0]):
        with pytest.raises(DataError, match=said):
            read(path)


def test_files_that_are_no_shards_of_the_pack_are_refused(packed):
    shutil.copy(sorted(packed.glob("part-*"))[0], packed / "more.tfrecord")
    assert len(read(packed)) == 36
    with pytest.raises(DataError, match=r"these files are none of them:\n  .*more\.tfrecord"):
        read(packed / "*.tfrecord")


def test_a_damaged_or_newer_index_is_refused_and_a_foreign_one_is_passed_over(packed):
    path, want = packed / "index.json", sorted(read(packed))
    index = json.loads(path.read_text())
    outside = [{**index["shards"][0], "name": "../part-00000-of-00001.tfrecord"}]
    for text, said in (
        (path.read_text()[:-40], "the index of a pack is damaged"),
        (json.dumps({**index, "shards": outside}), "the index of a pack is damaged"),
        (json.dumps({**index, "shards": [{}]}), "the index of a pack is damaged"),
        (json.dumps({**index, "schema": 2}), "written by a newer tlkeras"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            read(packed / "*.tfrecord")
        with pytest.raises(DataError, match=said):
            read(packed)
    path.write_text('{"of": "another program"}')
    assert sorted(read(packed / "*.tfrecord")) == want
    (packed.parent / "photos" / "index.json").write_text("no JSON either")
    assert sorted(read(packed.parent / "photos")) == want


# --- Read once


def test_a_pack_is_unpacked_once_and_a_file_cut_short_is_written_again(packed):
    found = sources.read(Data(path=str(packed)))
    times = [os.stat(p).st_mtime_ns for p in found.inputs]
    # The time of last access of a shard would not move under noatime; that no shard is opened is seen by an empty one.
    shards = {p: (p.read_bytes(), p.stat()) for p in packed.glob("part-*")}
    for path, (raw, status) in shards.items():
        path.write_bytes(bytes(len(raw)))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sources.read(Data(path=str(packed))) == found, "the shards are not read a second time"
    Path(found.inputs[0]).write_bytes(b"short")
    with pytest.raises(DataError, match="a damaged shard"):
        sources.read(Data(path=str(packed)))
    for path, (raw, status) in shards.items():
        path.write_bytes(raw)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sources.read(Data(path=str(packed))) == found
    assert [os.stat(p).st_mtime_ns for p in found.inputs[1:]] == times[1:]


def test_another_label_of_the_same_files_is_another_reading(table, tmp_path):
    pack(table, tmp_path / "packed", sets=SETS)
    assert read(tmp_path / "packed")[3][1] == ["0.75", "3"]
    assert read(tmp_path / "packed", label="group")[3][1] == "patient 1"
    assert read(tmp_path / "packed")[3][1] == ["0.75", "3"]


def test_what_a_record_states_of_itself_must_make_sense(tmp_path):
    import tensorflow as tf

    def feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))

    for stated, said in (
        ({"split": [b"dev"]}, "record 0: split 'dev' is not train, val or test"),
        ({"group": [b"a", b"b"]}, "record 0 must hold one value in 'group'; it holds 2"),
    ):
        features = {"image": feature([b"x"]), "label": feature([b"cat"])} | {k: feature(v) for k, v in stated.items()}
        with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
        with pytest.raises(DataError, match=said):
            read(tmp_path / "x.tfrecord")
