"""Waveforms: what is read is what was written, whatever the format; resampling keeps the sound; bad files are named.

pytest tests/test_waveforms.py
"""

import struct

import make_golden_sound
import numpy as np
import pytest

from tlkeras.data import sound_graph, sound_sources, waveforms
from tlkeras.errors import DataError

SOUND = make_golden_sound.sound()


def wav(path, data: bytes, code=1, channels=1, rate=16000, bits=16, length=None, extra=b""):
    """A RIFF file around bytes of samples."""
    form = struct.pack("<HHIIHH", code, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits) + extra
    length = len(data) if length is None else length
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", length) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def stored(x: np.ndarray, bits: int) -> bytes:
    whole = np.round(x.astype(np.float64) * 2 ** (bits - 1)).astype(np.int64)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    return b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_samples_of_every_width_are_read_as_they_were_written(tmp_path, bits):
    found = waveforms.read(wav(tmp_path / "a.wav", stored(SOUND, bits), bits=bits), 16000)
    assert found.dtype == np.float32 and np.abs(found - SOUND).max() <= 0.5 / 2 ** (min(bits, 24) - 1) + 1e-7


@pytest.mark.parametrize(("kind", "bits"), [("f4", 32), ("f8", 64)])
def test_floats_are_read_as_they_are(tmp_path, kind, bits):
    path = wav(tmp_path / "a.wav", SOUND.astype(kind).tobytes(), code=3, bits=bits)
    np.testing.assert_array_equal(waveforms.read(path, 16000), SOUND)


def test_the_extensible_header_is_understood(tmp_path):
    extra = struct.pack("<HHIH", 22, 16, 4, 1) + b"\0" * 14
    path = wav(tmp_path / "a.wav", stored(SOUND, 16), code=0xFFFE, extra=extra)
    assert np.abs(waveforms.read(path, 16000) - SOUND).max() < 2e-5


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(tmp_path, channels):
    each = np.stack([SOUND * (c + 1) / channels for c in range(channels)], 1)
    path = wav(tmp_path / "a.wav", stored(each.ravel(), 16), channels=channels)
    assert waveforms.about(path).channels == channels
    assert np.abs(waveforms.read(path, 16000) - each.mean(1)).max() < 3e-5


def test_our_reader_and_soundfile_agree_on_wav_and_flac(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for name in ("a.wav", "a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, SOUND, 16000)
        theirs, _ = soundfile.read(tmp_path / name, dtype="float32")
        np.testing.assert_array_equal(waveforms.read(tmp_path / name, 16000), theirs)


def test_a_stretch_is_what_the_whole_has_there_also_at_another_rate(tmp_path):
    path = wav(tmp_path / "a.wav", stored(SOUND, 16))
    for rate in (16000, 11025, 22050):
        whole = waveforms.read(path, rate)
        np.testing.assert_allclose(waveforms.read(path, rate, 1000, 700), whole[1000:1700], atol=1e-6)
        assert len(waveforms.read(path, rate, len(whole) - 10, 50)) == 50


@pytest.mark.parametrize(("old", "new"), [(8000, 16000), (44100, 16000), (48000, 16000), (16000, 8000), (22050, 16000)])
def test_resampling_differs_from_scipys_polyphase_by_less_than_60_db(old, new):
    signal = pytest.importorskip("scipy.signal")
    t, rng = np.arange(2 * old) / old, np.random.default_rng(0)
    tones = zip(rng.uniform(50, 0.35 * min(old, new), 20), rng.uniform(0, 6, 20), strict=True)
    x = sum(np.sin(2 * np.pi * f * t + p) for f, p in tones) / 20
    shared = np.gcd(old, new)
    theirs = signal.resample_poly(x, new // shared, old // shared, window=("kaiser", 12.0))
    ours = waveforms.resample(x, old, new)
    inner = slice(new // 10, -new // 10)
    error = np.square(ours[inner] - theirs[: len(ours)][inner]).mean() / np.square(theirs[inner]).mean()
    assert 10 * np.log10(error) < -60


def test_what_the_new_rate_cannot_hold_is_gone():
    t = np.arange(32000) / 16000
    above = waveforms.resample(np.sin(2 * np.pi * 5200 * t), 16000, 8000)
    assert np.abs(above[100:-100]).max() < 1e-3


def test_the_graph_reads_and_resamples_as_numpy_does(tmp_path):
    for rate in (16000, 8000, 44100):
        path = wav(tmp_path / "a.wav", stored(make_golden_sound.sound(0.3, rate), 16), rate=rate)
        found = sound_graph.decode(path.read_bytes(), 16000).numpy()
        np.testing.assert_allclose(found, waveforms.read(path, 16000), atol=2e-5)


def test_silence_at_both_ends_is_cut_alike_in_numpy_and_in_the_graph():
    import tensorflow as tf

    x = np.concatenate([np.zeros(5000, np.float32), SOUND, np.full(3000, 1e-6, np.float32)])
    first, last = waveforms.loud(x, 16000, 40)
    assert 4600 <= first <= 5400 and 12_500 <= last <= 13_400
    np.testing.assert_array_equal(sound_graph.trimmed(tf.constant(x), 16000, 40), x[first:last])
    silence = np.zeros(1000, np.float32)
    assert waveforms.loud(silence, 16000, 40) == (0, 1000)
    assert len(sound_graph.trimmed(tf.constant(silence), 16000, 40)) == 1000


BAD = {
    "no samples": (lambda p: wav(p, b""), "holds no samples"),
    "one sample": (lambda p: wav(p, b"\1\0"), "1 sample, less than the 10 ms"),
    "cut off": (lambda p: wav(p, stored(SOUND, 16), length=2 * len(SOUND) + 9999), "cut off, or its header is wrong"),
    "a text": (
        lambda p: p.write_text("hello, I am no sound at all"),
        "not the beginning of a sound file, but b'hello, I am '",
    ),
    "empty": (lambda p: p.write_bytes(b""), "the file is empty"),
    "only a header": (lambda p: p.write_bytes(b"RIFF\0\0\0\0WAVE"), "without a format"),
    "not a number": (
        lambda p: wav(p, np.array([0.1] * 500 + [np.nan] * 500, "f4").tobytes(), code=3, bits=32),
        "no number, at second 0.03",
    ),
    "integers as floats": (
        lambda p: wav(p, (SOUND * 32768).astype("f4").tobytes(), code=3, bits=32),
        "floats lie in -1..1",
    ),
    "12 bits": (lambda p: wav(p, stored(SOUND, 16), bits=12), "samples of 12 bits"),
    "no channel": (lambda p: wav(p, stored(SOUND, 16), channels=0), "in 0 channels"),
    "no rate": (lambda p: wav(p, stored(SOUND, 16), rate=0), "a rate of 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_reason(tmp_path, name):
    write, why = BAD[name]
    write(path := tmp_path / "bad.wav")
    ((reason, digest, _),) = sound_sources.look([str(path)])
    assert why in reason and not digest


def test_a_length_that_a_pipe_left_open_is_read_to_the_end(tmp_path):
    path = wav(tmp_path / "a.wav", stored(SOUND, 16), length=0xFFFFFFFF)
    assert waveforms.about(path).count == len(SOUND)


def test_what_is_written_is_read_again(tmp_path):
    waveforms.write_wav(tmp_path / "a.wav", SOUND, 16000)
    assert np.abs(waveforms.read(tmp_path / "a.wav", 16000) - SOUND).max() <= 0.5 / 32768 + 1e-7
    with pytest.raises(DataError, match="there is no such|cannot be read"):
        waveforms.about(tmp_path / "b.wav")
