"""Where sounds come from, how they are read in rows, and how they are changed.

pytest tests/test_sound_sources.py
"""

import numpy as np
import pytest

from tlkeras.backbones import Sound
from tlkeras.config import Augmentation, Data
from tlkeras.data import sound_graph, sound_sources, sounds, waveforms
from tlkeras.errors import DataError
from tlkeras.tasks import Wanted

CLASSES, SPEECH = Wanted((), kind="audio"), Wanted((), kind="audio", whole=True)


def write(path, seconds: float = 0.1, seed: int = 0):
    path.parent.mkdir(parents=True, exist_ok=True)
    waveforms.write_wav(path, 0.1 * np.random.default_rng(seed).normal(0, 1, int(16000 * seconds)), 16000)
    return path


def test_folders_are_classes_and_may_be_splits(tmp_path):
    for n, name in enumerate(
        ("train/cat/a.wav", "train/dog/deep/b.wav", "test/cat/c.wav", "loose.wav", "train/cat/notes.txt")
    ):
        write(tmp_path / name, seed=n) if name.endswith("wav") else (tmp_path / name).write_text("x")
    found = sound_sources.read(Data(path=str(tmp_path)), CLASSES)
    assert found.ids == ["test/cat/c.wav", "train/cat/a.wav", "train/dog/deep/b.wav"]
    assert found.labels == ["cat", "cat", "dog"] and found.splits == ["test", "train", "train"]
    assert found.ignored == {"suffix .txt": 1, "not in a class folder": 1}


def test_a_table_names_files_transcripts_and_groups(tmp_path):
    write(tmp_path / "clips/1.wav"), write(tmp_path / "clips/2.wav")
    (tmp_path / "t.csv").write_text("audio,text,voice\nclips/1.wav,one two,x\nclips/2.wav,three,y\n")
    found = sound_sources.read(Data(path=str(tmp_path / "t.csv"), group="voice"), SPEECH)
    assert found.labels == ["one two", "three"] and found.groups == ["x", "y"]
    assert [waveforms.about(p).count for p in found.inputs] == [1600, 1600]


def test_missing_and_outside_files_are_listed_with_their_lines(tmp_path):
    (tmp_path / "t.csv").write_text("audio,label\na.wav,x\n../b.wav,y\n,z\n")
    with pytest.raises(
        DataError, match=r"line 2: a.wav does not exist(.|\n)*line 3: .*outside(.|\n)*line 4: the cell 'audio' is empty"
    ):
        sound_sources.read(Data(path=str(tmp_path / "t.csv")), CLASSES)


def test_common_voice_keeps_its_splits_and_speakers(tmp_path):
    header = "client_id\tpath\tsentence\n"
    for split, names in (("train", "ab"), ("dev", "c"), ("test", "d")):
        rows = [f"speaker {x}\t{x}.wav\tSentence {x}.\n" for x in names]
        (tmp_path / f"{split}.tsv").write_text(header + "".join(rows))
        for x in names:
            write(tmp_path / f"clips/{x}.wav")
    found = sound_sources.read(Data(path=str(tmp_path)), SPEECH)
    assert found.splits == ["train", "train", "val", "test"] and found.labels[2] == "Sentence c."
    alone = sound_sources.read(Data(path=str(tmp_path / "train.tsv")), SPEECH)
    assert alone.splits == [None, None] and alone.groups == ["speaker a", "speaker b"]


def test_long_sounds_are_windows_whole_steps_apart_that_leave_nothing_out():
    sound = Sound(rate=1000, length=500, step=10, fixed=True)
    assert sounds.windows(500, sound) == [(0, 500)] and sounds.windows(3, sound) == [(0, 3)]
    assert sounds.windows(1200, sound) == [(0, 500), (250, 500), (500, 500), (750, 450)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    paths = [str(write(root / f"{n}.wav", 0.05 + 0.02 * n, seed=n)) for n in range(12)]
    reader = sounds.Reader(Sound(length=16000))
    prints, hashes = [sounds.fingerprint(p) for p in paths], [f"{n:064x}" for n in range(12)]
    return reader.table(paths, np.arange(12, dtype=np.float32)[:, None], np.ones(12), prints, hashes)


AUGMENT = Augmentation(speed=0.2, gain=6, noise=0.1, time_masks=1, band_masks=1)


def test_a_view_depends_on_seed_sound_and_epoch_alone(table):
    def seen(seed, first, batch):
        found = {}
        for x, y, _ in sounds.training(table, Sound(length=16000), batch, seed, first, first + 1, AUGMENT):
            for wave, count, target in zip(x["samples"].numpy(), x["count"].numpy(), y.numpy(), strict=True):
                found[int(target[0])] = wave[:count]
        return found

    one, again, other, later = seen(0, 3, 4), seen(0, 3, 5), seen(1, 3, 4), seen(0, 4, 4)
    assert one.keys() == set(range(12))
    for n in range(12):
        np.testing.assert_array_equal(one[n], again[n])
    assert sum(len(one[n]) != len(other[n]) for n in one) > 6 and sum(len(one[n]) != len(later[n]) for n in one) > 6


def test_a_row_holds_its_sound_and_silence(table):
    for x, y, _ in sounds.held_out(table, Sound(length=16000), 4):
        for wave, count, target in zip(x["samples"].numpy(), x["count"].numpy(), y.numpy(), strict=True):
            np.testing.assert_array_equal(wave[:count], waveforms.read(table.paths[int(target[0])], 16000))
            assert not wave[count:].any()


def test_a_file_that_changed_since_the_scan_is_named(table, tmp_path):
    from dataclasses import replace

    changed = replace(table, prints=table.prints + 1)
    with pytest.raises(DataError, match="0.wav changed while it was in use"):
        sounds.loader(changed, Sound(length=16000))([0])


def test_speed_changes_the_length_and_the_pitch():
    import tensorflow as tf

    x = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000).astype(np.float32)
    view = sound_graph.augmenter(Augmentation(speed=0.3))
    found, count = view(tf.pad(x, [[0, 8000]]), 8000, tf.constant([3, 5], tf.int64))
    count = int(count)
    assert count != 8000 and not found[count:].numpy().any()
    peak = np.argmax(np.abs(np.fft.rfft(found[:count]))) * 16000 / count
    assert peak == pytest.approx(1000 * 8000 / count, rel=0.01)


def test_masks_silence_a_stretch_of_time_and_a_band():
    import tensorflow as tf

    x, key = tf.random.stateless_normal([16000], [1, 2]), tf.constant([1, 2], tf.int64)
    quiet, _ = sound_graph.augmenter(Augmentation(time_masks=1))(x, 16000, key)
    assert 0 < int((quiet == 0).numpy().sum()) <= 1601
    banded, _ = sound_graph.augmenter(Augmentation(band_masks=1))(x, 16000, key)
    gone = np.abs(np.fft.rfft(banded)) < 1e-2
    assert 0 < gone.mean() <= 0.16
