"""Scanning: every file is found, read once without blocking, and either used or reported with a reason.

Also the cache that makes a second scan fast, and what the hashes say about equal and nearly equal pictures.
"""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import hostile_images as hostile
import numpy as np
import pytest
from PIL import Image

from tlkeras.data import phash, scan
from tlkeras.data.listing import list_images
from tlkeras.errors import DataError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow")

HERE = Path(__file__).parent
PHOTO = hostile.GOOD["colour.jpg"]()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(paths by name, what a scan of them finds)."""
    paths = hostile.write(tmp_path_factory.mktemp("corpus"))
    return paths, scan.scan(paths.values())


def put(path: Path, contents: bytes = PHOTO) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return str(path)


def kinds(found: scan.Found) -> dict[str, str]:
    return {os.path.basename(f.path): f.kind for f in found.findings}


def test_every_path_is_either_good_or_reported(corpus):
    paths, found = corpus
    assert found.good.keys() | found.bad.keys() == set(paths.values())
    assert not found.good.keys() & found.bad.keys()
    assert len(found.good) + len(found.findings) == len(paths)


@pytest.mark.parametrize("name", sorted(hostile.GOOD))
def test_good_files_are_known_by_their_bytes_and_size(corpus, name):
    from tlkeras.data import images

    paths, found = corpus
    file, contents = found.good[paths[name]], Path(paths[name]).read_bytes()
    image = images.decode(contents)
    assert file.bytes == len(contents) and file.mtime_ns == os.stat(paths[name]).st_mtime_ns
    assert (file.height, file.width) == image.shape[:2]
    assert file.sha256 == __import__("hashlib").sha256(contents).hexdigest()
    assert file.fingerprint == images.fingerprint(contents).numpy()


@pytest.mark.parametrize("name", sorted(hostile.BAD))
def test_bad_files_are_reported_with_what_is_wrong(corpus, name):
    paths, found = corpus
    assert kinds(found)[name] == hostile.BAD[name][0]
    assert f"({os.path.getsize(paths[name]):,} bytes)" in found.bad[paths[name]]


@pytest.mark.parametrize("name", sorted(hostile.BOMBS))
def test_bombs_are_reported_with_their_pixels(corpus, name):
    paths, found = corpus
    assert kinds(found)[name] == "bomb"
    assert "pixels; at most 50,000,000 are read" in found.bad[paths[name]]


@pytest.mark.parametrize(
    "name, words",
    {
        "flipped-byte.png": "wrong CRC in its IDAT chunk",
        "page.jpg": "not an image, though named .jpg",
        "tiff-named.jpg": "TIFF is not read; JPEG, PNG, BMP, GIF, WebP are",
        "raw.nef": "RAW is not read",
        "photo.heic": "HEIC is not read",
        "half.gif": "truncated GIF",
        "half.jpg": "truncated JPEG",
    }.items(),
)
def test_reasons_name_the_damage(corpus, name, words):
    paths, found = corpus
    assert words in found.bad[paths[name]]


def test_oddities_are_noted_and_the_files_used(corpus):
    _, found = corpus
    noted = {note: sorted(os.path.basename(p) for p in entry["files"]) for note, entry in found.notes.items()}
    assert noted["PNG named .jpg"] == ["png-named.jpg"]
    assert noted["longer than 100:1"] == ["long.png"]
    assert set(noted["first of several frames used"]) == {
        *("animated.gif", "animated.webp", "animated-lossless.webp", "animated.png")
    }
    turned = {f"turned{i}.jpg" for i in range(2, 9)} | {"turned6-big-endian.jpg", "turned8-behind-jfif.jpg"}
    assert set(noted["turned upright by its EXIF orientation"]) == turned
    assert json.loads(json.dumps(found.notes)) == found.notes


def test_scanning_a_bomb_takes_less_than_64_megabytes(tmp_path):
    hostile.write(tmp_path, [*hostile.BOMBS, "colour.jpg", "colour.png", "lossy.webp", "colour.gif", "24bit.bmp"])
    code = """if True:
        import glob, os, resource, sys
        from tlkeras.data import scan
        paths = glob.glob("*", root_dir=sys.argv[1])
        os.chdir(sys.argv[1])
        assert len(scan.scan([p for p in paths if "bomb" not in p and "large" not in p]).good) == 5
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = scan.scan(p for p in paths)
        assert len(found.findings) == 7, found.bad
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    assert int(_run(code, tmp_path)) < 64 * 1024


def test_what_is_no_regular_file_is_reported_and_never_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.symlink("/dev/zero", tmp_path / "zero.jpg")
    os.symlink("nowhere", tmp_path / "dangling.jpg")
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
    names = ["pipe.jpg", "folder.jpg", "zero.jpg", "dangling.jpg", "loop.jpg", "socket.jpg", "absent.jpg", "nul\0.jpg"]
    start = time.perf_counter()
    found = scan.scan([str(tmp_path / n) for n in names])
    assert time.perf_counter() - start < 5
    expected = {
        **dict.fromkeys(("pipe.jpg", "folder.jpg", "zero.jpg", "socket.jpg"), "not-regular"),
        "dangling.jpg": "missing",
        "absent.jpg": "missing",
        "loop.jpg": "unreadable",
        "nul\0.jpg": "unreadable",
    }
    assert kinds(found) == expected
    assert "FIFO" in found.bad[str(tmp_path / "pipe.jpg")] and "folder" in found.bad[str(tmp_path / "folder.jpg")]


def test_a_file_that_turns_into_a_pipe_is_not_waited_for(tmp_path):
    from tlkeras.data import listing

    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # what `opened` does once the first look is past
    os.close(descriptor)
    with listing.opened(path) as (file, _):
        assert file is None


def test_files_without_permission_are_reported(tmp_path):
    paths = [put(tmp_path / name) for name in ("closed.jpg", "open.jpg")]
    os.chmod(paths[0], 0)
    code = """if True:
        import os, sys
        from tlkeras.data import scan
        scan.scan(sys.argv[2:])  # everything that is needed is imported while it can be read
        if os.getuid() == 0:
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
        found = scan.scan(sys.argv[1:])
        print(*[f.kind for f in found.findings], len(found.good))
    """
    for folder in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(folder, 0o755)
    _readable_by_others(tmp_path)
    assert _run(code, *paths).split() == ["permission", "1"]


def test_folders_without_permission_are_an_error_not_an_absence(tmp_path):
    put(tmp_path / "closed" / "a.jpg"), put(tmp_path / "open" / "b.jpg")
    os.chmod(tmp_path / "closed", 0)
    code = """if True:
        import os, sys
        from tlkeras.data import scan
        from tlkeras.errors import DataError
        if os.getuid() == 0:
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
        try:
            scan.list_images(sys.argv[1])
        except DataError as e:
            print(e)
    """
    _readable_by_others(tmp_path)
    try:
        assert str(tmp_path / "closed") in _run(code, tmp_path)
    finally:
        os.chmod(tmp_path / "closed", 0o755)


def test_links_are_refused_unless_they_are_followed_inside_allowed_folders(tmp_path):
    root, other = tmp_path / "data", tmp_path / "other"
    inside, outside = put(root / "a" / "real.jpg"), put(other / "secret.jpg")
    os.symlink(inside, root / "inside.jpg")
    os.symlink(outside, root / "outside.jpg")
    os.symlink(other, root / "folder")
    names = ["a/real.jpg", "inside.jpg", "outside.jpg", "folder/secret.jpg", "../other/secret.jpg"]
    paths = [str(root / n) for n in names]

    def used(**options):
        found = scan.scan(paths, root=root, **options)
        assert all(f.kind in ("symlink", "outside") for f in found.findings)
        return [n for n, p in zip(names, paths, strict=True) if p in found.good]

    assert used() == ["a/real.jpg"]
    assert used(follow_symlinks=True) == ["a/real.jpg", "inside.jpg"]
    assert used(follow_symlinks=True, roots=(other,)) == names
    assert len(scan.scan(paths).good) == 5

    assert list_images(root) == ([paths[0]], {"symbolic link, not followed": 3})
    listed, ignored = list_images(root, follow_symlinks=True)
    assert listed == [paths[0], paths[1]] and ignored == {"symbolic link out of the data folder": 2}
    assert list_images(root, follow_symlinks=True, roots=(other,))[0] == [paths[0], paths[3], paths[1], paths[2]]


def test_a_data_folder_that_is_a_link_itself_is_fine(tmp_path):
    put(tmp_path / "real" / "a.jpg")
    os.symlink("real", tmp_path / "data")
    paths, ignored = list_images(tmp_path / "data")
    assert paths == [str(tmp_path / "data" / "a.jpg")] and not ignored
    assert len(scan.scan(paths, root=tmp_path / "data").good) == 1


def test_a_loop_of_links_is_detected(tmp_path):
    put(tmp_path / "cats" / "a.jpg")
    os.symlink(tmp_path, tmp_path / "cats" / "again")
    assert list_images(tmp_path)[1] == {"symbolic link, not followed": 1}
    paths, ignored = list_images(tmp_path, follow_symlinks=True)
    assert paths == [str(tmp_path / "cats" / "a.jpg")] and ignored == {"symbolic link loop": 1}


def test_listing_takes_what_claims_to_be_an_image_and_counts_the_rest(tmp_path):
    taken = ["b/UPPER.JPG", "b/photo.webp", "b/raw.NEF", "b/scan.tiff", "c/no suffix"]
    for name in taken:
        put(tmp_path / name)
    (tmp_path / "c" / "folder.png").mkdir()
    put(tmp_path / "c" / "folder.png" / "lost.jpg")
    left = [
        *(".hidden/a.jpg", "b/.DS_Store", "b/._photo.jpg", "b/Thumbs.db", "__MACOSX/a.jpg"),
        *("b/notes.txt", "b/more.TXT", "b/photo.jpg.part"),
    ]
    for name in left:
        put(tmp_path / name)
    put(tmp_path / "README", b"text")
    (tmp_path / "empty").mkdir()
    paths, ignored = list_images(tmp_path)
    assert paths == [str(tmp_path / name) for name in [*taken[:4], "c/folder.png", taken[4]]]
    assert ignored == {
        "hidden": 3,
        "left by an operating system": 2,
        "suffix .txt": 2,
        "suffix .part": 1,
        "no suffix and no image": 1,
    }


def test_listing_names_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"a folder of images was expected"):
        list_images(tmp_path / "absent")


NAMES = [
    *(b"with spaces.jpg", b"line\nbreak.jpg", b"not utf8 \xff\xfe.jpg", "\N{CAT}.jpg".encode(), b"-rf.jpg"),
    *("caf\u00e9.jpg".encode(), "cafe\u0301.jpg".encode(), b"x" * 251 + b".jpg", b"esc\x1b[31m.jpg", b"'\"$(x).jpg"),
]


def test_any_file_name_is_read_and_printed_without_harm(tmp_path):
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(PHOTO)
    paths, ignored = list_images(tmp_path)
    assert sorted(os.fsencode(os.path.basename(p)) for p in paths) == sorted(NAMES) and not ignored
    found = scan.scan([os.fsencode(p) for p in paths], cache=tmp_path / "cache.jsonl")
    assert found.good.keys() == set(paths)
    for path in paths:
        shown = scan.printed(path)
        assert shown.isprintable() and shown.encode("utf8")
    assert scan.printed(b"a\n\xff\x1b") == "a\\n\\udcff\\x1b"
    assert "\n" not in str(scan.Finding("a\nb", "empty", "empty file", 0))


def test_a_second_scan_reads_no_file_again(tmp_path, monkeypatch):
    data, cache = tmp_path / "data", tmp_path / "cache" / "scan.jsonl"
    data.mkdir()
    paths = list(hostile.write(data, ["colour.jpg", "half.jpg", "long.png", "one-pixel.png", "page.jpg"]).values())
    _make_older(paths)
    first = scan.scan(paths, cache=cache)
    monkeypatch.setattr("tlkeras.data.examine._read", lambda *_: pytest.fail("a file was read again"))
    second = scan.scan(paths, cache=cache)
    assert second == first and second.bad == first.bad


@pytest.mark.parametrize("change", ["bytes", "size", "time"])
def test_a_changed_file_is_read_again(tmp_path, change):
    path, cache = put(tmp_path / "a.png", hostile.GOOD["colour.png"]()), tmp_path / "cache.jsonl"
    _make_older([path])
    before = scan.scan([path], cache=cache).good[path]
    contents = hostile.encoded(hostile.picture(1), "PNG")
    if change == "size":
        put(Path(path), contents + b"more")
        os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
    elif change == "bytes":
        put(Path(path), contents)
    else:
        os.utime(path, ns=(before.mtime_ns - 1, before.mtime_ns - 1))
    after = scan.scan([path], cache=cache).good[path]
    assert (after.sha256 == before.sha256) == (change == "time") and after != before


def test_a_file_written_this_second_is_not_trusted_to_the_cache(tmp_path):
    path, cache = put(tmp_path / "a.jpg"), tmp_path / "cache.jsonl"
    scan.scan([path], cache=cache)
    assert len(cache.read_text().splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut", "text", "another version", "not ascii"])
def test_a_damaged_cache_is_left_aside(tmp_path, damage):
    path, cache = put(tmp_path / "a.jpg"), tmp_path / "cache.jsonl"
    _make_older([path])
    first = scan.scan([path], cache=cache)
    text = cache.read_text()
    broken = {
        "cut": text[:-30],
        "text": "not json\n",
        "another version": text.replace('"tlkeras_scan": 1', '"tlkeras_scan": 0'),
        "not ascii": text + '["\u00e9"',
    }
    cache.write_text(broken[damage], encoding="utf8")
    assert scan.scan([path], cache=cache) == first
    assert cache.read_text() == text


def test_an_interrupted_scan_keeps_what_it_found(tmp_path):
    paths = [put(tmp_path / f"{i}.jpg", hostile.encoded(hostile.picture(i), "JPEG")) for i in range(30)]
    _make_older(paths)

    class Stop:
        def step(self, label, done, total):
            assert total == 30
            if done == 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan.scan(paths, cache=tmp_path / "cache.jsonl", progress=Stop())
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == 21


def test_the_number_of_workers_changes_nothing(corpus):
    paths, found = corpus
    for workers in (1, 7):
        other = scan.scan(list(paths.values()), workers=workers)
        assert other == found and list(other.good) == list(found.good)


def test_a_path_that_comes_twice_is_read_once(tmp_path, monkeypatch):
    path, steps = put(tmp_path / "a.jpg"), []

    class Progress:
        def step(self, *what):
            steps.append(what)

    assert len(scan.scan(iter([path, path, Path(path)]), progress=Progress()).good) == 1
    assert len(steps) == 1


def test_equal_files_with_two_labels_or_in_two_splits_are_refused():
    ids = [f"f{i}.jpg" for i in range(6)]
    hashes = ["a", "a", "b", "b", "c", "d"]
    scan.refuse_contradictions(ids, hashes, ["x", "x", "y", "y", "x", "y"], [None, "train", "test", "test", None, None])
    with pytest.raises(DataError, match=r"(?s)1 set .* different labels: f0.jpg \(x\), f1.jpg \(y\)"):
        scan.refuse_contradictions(ids, hashes, ["x", "y", "y", "y", "x", "y"], [None] * 6)
    with pytest.raises(DataError, match=r"(?s)1 set .* different splits: f2.jpg \(train\), f3.jpg \(val\)"):
        scan.refuse_contradictions(ids, hashes, list("xxyyxy"), [None, None, "train", "val", None, None])
    with pytest.raises(DataError, match="different labels"):
        scan.refuse_contradictions(ids, hashes, [["x"], ["x", "y"], None, None, None, None], [None] * 6)


def test_planted_copies_are_all_found_and_nothing_else(tmp_path):
    """100 pictures: 5 copied, 5 compressed again, 5 scaled, 5 turned by EXIF, 5 mirrored, 5 with two labels."""
    rows = []
    for i in range(75):
        rows.append((put(tmp_path / f"{i}.png", hostile.encoded(hostile.picture(i, 96, 80), "PNG")), "cat", "train"))
    for i in range(5):
        image = hostile.picture(i, 96, 80)
        rows.append((put(tmp_path / f"copy{i}.png", hostile.encoded(image, "PNG")), "cat", "val"))
        again = hostile.encoded(hostile.picture(10 + i, 96, 80), "JPEG", quality=40)
        rows.append((put(tmp_path / f"again{i}.jpg", again), "cat", "val"))
        scaled = hostile.picture(20 + i, 96, 80).resize((60, 50), Image.Resampling.BICUBIC)
        rows.append((put(tmp_path / f"scaled{i}.png", hostile.encoded(scaled, "PNG")), "cat", "test"))
        mirrored = hostile.picture(30 + i, 96, 80).transpose([*Image.Transpose][i])
        rows.append((put(tmp_path / f"turned{i}.jpg", hostile.encoded(mirrored, "JPEG", quality=80)), "cat", "val"))
        rows.append(
            (put(tmp_path / f"label{i}.png", hostile.encoded(hostile.picture(40 + i, 96, 80), "PNG")), "dog", "train")
        )
    good = scan.scan([r[0] for r in rows]).good
    ids = [os.path.basename(r[0]) for r in rows]
    hashes, hints = [good[r[0]].sha256 for r in rows], [good[r[0]].phash for r in rows]
    with pytest.raises(DataError) as refused:
        scan.refuse_contradictions(ids, hashes, [r[1] for r in rows], [r[2] for r in rows])
    lines = str(refused.value).splitlines()
    assert sum("different labels" in line and "label" in line for line in lines) == 5
    assert sum("different splits" in line and "copy" in line for line in lines) == 5
    warned = scan.near_duplicates(ids, hints, hashes, [r[2] for r in rows])
    assert sorted(w.split()[0] for w in warned) == sorted(n for n in ids if n.startswith(("again", "scaled", "turned")))
    assert all(f"and {10 + i}.png (train)" in " ".join(w for w in warned if f"again{i}" in w) for i in range(5))


def test_plain_pictures_have_no_hash_and_no_near_ones(tmp_path):
    paths = [
        put(tmp_path / f"{c}.png", hostile.encoded(Image.new("RGB", (40, 40), c), "PNG")) for c in ("red", "white")
    ]
    good = scan.scan(paths).good
    assert [good[p].phash for p in paths] == [None, None]
    assert scan.near_duplicates(["a", "b"], [None, None], ["x", "y"], ["train", "val"]) == []


def test_views_are_the_hashes_of_the_turned_pictures():
    grey = np.random.default_rng(0).uniform(0, 255, (32, 32))
    forms = [np.rot90(m, k) for m in (grey, grey[:, ::-1]) for k in range(4)]
    assert set(phash.views(np.array([phash.phash(grey)], np.uint64))[0]) == {phash.phash(f) for f in forms}


def test_near_finds_what_comparing_all_pairs_finds():
    random = np.random.default_rng(0)
    hashes = np.unique(random.integers(0, 2**64, 400, dtype=np.uint64))
    flips = np.array(
        [sum(1 << int(b) for b in random.choice(64, n, replace=False)) for n in range(7) for _ in range(60)], np.uint64
    )
    queries = random.choice(hashes, len(flips)) ^ flips
    index, bits = phash.near(queries, hashes, 4, chunk=50)
    all_bits = np.bitwise_count(queries[:, None] ^ hashes)
    best = all_bits.min(1)
    np.testing.assert_array_equal(index >= 0, best <= 4)
    np.testing.assert_array_equal(bits[index >= 0], best[index >= 0])
    np.testing.assert_array_equal(all_bits[np.arange(len(queries)), index][index >= 0], best[index >= 0])


def test_near_duplicates_of_100_000_pictures_take_seconds():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[90_000:90_050] = hashes[:50] ^ np.uint64(0b1011)
    splits = ["train"] * 80_000 + ["val"] * 10_000 + ["test"] * 10_000
    start = time.perf_counter()
    warned = scan.near_duplicates(range(100_000), hashes.tolist(), range(100_000), splits)
    assert len(warned) == 50 and "90000 (test) and 0 (train), 3 of 64 bits differ" in warned
    assert time.perf_counter() - start < 60


def test_decoding_complaints_can_be_told_to_a_person():
    from tlkeras.data import images, signatures

    for name, (kind, make) in hostile.BAD.items():
        if name == "empty.jpg":
            continue
        contents = make()
        try:
            images.decode(contents)
        except Exception as e:
            told = signatures.complaint(contents, str(e))
            assert told[0] == kind and "\n" not in told[1] and "/" not in told[1], (name, told)
    with pytest.raises(Exception) as refused:
        images.decode(hostile.BOMBS["just-too-large.png"]())
    bomb = signatures.complaint(hostile.BOMBS["just-too-large.png"](), str(refused.value))
    assert bomb == ("bomb", "its header says 10000 x 5001 pixels; at most 50,000,000 are read")


@pytest.mark.slow
def test_memory_stays_below_a_gigabyte_for_100_000_files(tmp_path):
    """4,000 files in 25 folders of links to them: 100,000 paths, as many results."""
    (tmp_path / "0").mkdir()
    for i in range(4000):
        put(tmp_path / "0" / f"{i}.jpg", hostile.encoded(hostile.picture(i), "JPEG"))
    for copy in range(1, 25):
        (tmp_path / str(copy)).mkdir()
        for i in range(4000):
            os.link(tmp_path / "0" / f"{i}.jpg", tmp_path / str(copy) / f"{i}.jpg")
    _make_older(tmp_path.glob("0/*.jpg"))
    code = """if True:
        import resource, sys, time
        from tlkeras.data import scan
        paths, _ = scan.list_images(sys.argv[1])
        start = time.time()
        found = scan.scan(paths, root=sys.argv[1], cache=sys.argv[1] + "/cache.jsonl")
        assert len(found.good) == 100_000
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.time() - start)
    """
    megabytes, first = map(float, _run(code, tmp_path, timeout=1800).split())
    assert megabytes < 1000
    megabytes, second = map(float, _run(code, tmp_path, timeout=600).split())
    assert megabytes < 1000 and second < first / 3


def _run(code: str, *arguments, timeout: float = 300) -> str:
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout


def _make_older(paths) -> None:
    """A minute older: what was written this second is not kept in a cache."""
    for path in paths:
        past = os.stat(path).st_mtime_ns - 60_000_000_000
        os.utime(path, ns=(past, past))


def _readable_by_others(folder: Path) -> None:
    """Lets another user reach a temporary folder, or skips where that is impossible."""
    for above in (folder, *folder.parents):
        if above == Path("/") or os.access(above, os.X_OK) and os.stat(above).st_mode & 0o005 == 0o005:
            continue
        try:
            os.chmod(above, 0o755)
        except OSError as e:
            assert e.errno in (errno.EPERM, errno.EROFS)
            pytest.skip("the temporary folder is closed to others")
