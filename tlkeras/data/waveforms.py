"""Waveforms: from files to one channel of float32 samples at the rate that is asked for.

WAV is read here (PCM of 8, 16, 24 and 32 bits, floats of 32 and 64), so that it needs no package and a sample is the
same number everywhere; other formats by soundfile, which the extra 'audio' brings. Channels are averaged.

Resampling is a windowed sinc (Kaiser, beta 8, 32 zero crossings to each side, cut off at 0.94 of the lower Nyquist frequency):
each output sample is computed from where it lies between the input samples, so a stretch of a file is read without
the rest, and gives what the whole would. `resample` of graph.py is the same in TensorFlow.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkeras.errors import DataError, missing_extra

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au")
SHORTEST = 0.01  # seconds; in less no sound can be told
# Of the formats that soundfile reads; MPEG's frames begin with eleven ones.
BEGINNINGS = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"fLaC",
    b"OggS",
    b"FORM",
    b".snd",
    b"ID3",
    b"\xff\xfb",
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xfa",
)
CROSSINGS, BETA, ROLLOFF = 32, 8.0, 0.94


@dataclass(frozen=True)
class About:
    """A file's samples a second, how many there are in each channel, and how many channels. `place` is where the
    samples of a WAV file begin and `form` how they are stored, (letter, bytes); None: soundfile reads them."""

    rate: int
    count: int
    channels: int
    place: int = 0
    form: tuple[str, int] | None = None


def about(path) -> About:
    """What the header of a sound file says.

    Raises:
        DataError: when it is none, is damaged, or is empty.
        MachineError: when it is no WAV file and soundfile is not installed.
    """
    try:
        with open(path, "rb") as f:
            start = f.read(12)
            found = _wav(f, Path(path)) if start[:4] == b"RIFF" and start[8:12] == b"WAVE" else None
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror}") from e
    if not start:
        raise DataError(f"{path}: the file is empty")
    if found is None and not start.startswith(BEGINNINGS):
        raise DataError(f"{path}: not the beginning of a sound file, but {start!r}")
    found = found or _by_soundfile(path)
    if not found.count:
        raise DataError(f"{path}: holds no samples")
    if not 1000 <= found.rate <= 768_000:
        raise DataError(f"{path}: a rate of {found.rate} samples a second; sound has 1,000 to 768,000")
    if found.count < SHORTEST * found.rate:
        plural = "s" if found.count > 1 else ""
        raise DataError(
            f"{path}: {found.count} sample{plural}, less than the {1000 * SHORTEST:g} ms in which a sound can be told"
        )
    return found


def _wav(f, path: Path) -> About | None:
    """The chunks of a RIFF file; None where its samples are compressed."""
    size, form = path.stat().st_size, None
    while True:
        head = f.read(8)
        if len(head) < 8:
            raise DataError(f"{path}: a WAV file without {'samples' if form else 'a format'}: the file is cut off")
        name, length = struct.unpack("<4sI", head)
        if name == b"fmt ":
            body = f.read(length)
            if len(body) < 16:
                raise DataError(f"{path}: the format of this WAV file is {len(body)} bytes long; 16 are the least")
            code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            if code == 0xFFFE and len(body) >= 26:
                (code,) = struct.unpack("<H", body[24:26])
            form = (code, channels, rate, bits)
            f.seek(length & 1, 1)
        elif name == b"data":
            if form is None:
                raise DataError(f"{path}: the samples of this WAV file come before their format")
            code, channels, rate, bits = form
            stored = {(1, 8): ("u", 1), (1, 16): ("i", 2), (1, 24): ("i", 3), (1, 32): ("i", 4)}
            stored |= {(3, 32): ("f", 4), (3, 64): ("f", 8)}
            if code not in (1, 3):
                return None
            if (code, bits) not in stored or not channels:
                raise DataError(
                    f"{path}: samples of {bits} bits in {channels} channels; read are PCM of 8, 16, 24 and 32 bits and floats of 32 and 64"
                )
            place = f.tell()
            width = stored[code, bits][1] * channels
            # Who writes into a pipe cannot know the length and leaves it open.
            known = length not in (0, 0xFFFFFFFF, 0x7FFFFFFF) or (length == 0 and size == place)
            if known and place + length > size:
                raise DataError(
                    f"{path}: the header promises {length:,} bytes of samples and {size - place:,} are there; the file is cut off, or its header is wrong"
                )
            count = (length if known else size - place) // width
            return About(rate, count, channels, place, stored[code, bits])
        else:
            f.seek(length + (length & 1), 1)


def _soundfile():
    try:
        import soundfile
    except (ImportError, OSError) as e:
        raise missing_extra("soundfile", "audio") from e
    return soundfile


def _by_soundfile(path) -> About:
    soundfile = _soundfile()
    try:
        found = soundfile.info(str(path))
    except soundfile.LibsndfileError as e:
        raise DataError(f"{path}: no sound that can be read: {e.error_string.strip()}") from e
    return About(found.samplerate, found.frames, found.channels)


def _stretch(path, told: About, start: int, stop: int) -> np.ndarray:
    """Samples start..stop of a file at its own rate, one channel float32; zeros where the file has none."""
    first, last = max(start, 0), min(stop, told.count)
    if last <= first:
        return np.zeros(stop - start, np.float32)
    if told.form is None:
        soundfile = _soundfile()
        try:
            found, _ = soundfile.read(str(path), last - first, first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as e:
            raise DataError(f"{path}: damaged: {e.error_string.strip()}") from e
    else:
        letter, width = told.form
        with open(path, "rb") as f:
            f.seek(told.place + first * width * told.channels)
            raw = f.read((last - first) * width * told.channels)
        raw = raw[: len(raw) // (width * told.channels) * width * told.channels]
        found = _numbers(raw, letter, width).reshape(-1, told.channels)
    if len(found) < last - first:
        raise DataError(
            f"{path}: {told.count:,} samples were promised and the file ends before; it is damaged or was changed"
        )
    mono = found.mean(1, dtype=np.float32) if told.channels > 1 else found[:, 0]
    return np.pad(mono, (first - start, stop - last))


def _numbers(raw: bytes, letter: str, width: int) -> np.ndarray:
    if width == 3:
        # The three bytes become the upper ones of four: the sign is right by itself.
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / 2**31).astype(np.float32)
    found = np.frombuffer(raw, f"<{letter}{width}")
    if letter == "u":
        return (found.astype(np.float32) - 128) / 128
    return found.astype(np.float32) if letter == "f" else (found / 2 ** (8 * width - 1)).astype(np.float32)


def check(path, told: About) -> None:
    """Reads a whole file, ten seconds at a time.

    Raises:
        DataError: when samples are damaged, no numbers, or far outside of -1..1.
    """
    for start in range(0, told.count, 10 * told.rate):
        found = _stretch(path, told, start, min(start + 10 * told.rate, told.count))
        if not np.isfinite(found).all():
            second = (start + int(np.argmin(np.isfinite(found)))) / told.rate
            raise DataError(f"{path}: a sample that is no number, at second {second:.2f}")
        if (peak := float(np.abs(found).max())) > 8:
            raise DataError(
                f"{path}: samples up to {peak:g}; floats lie in -1..1. Divide them, or write 16-bit samples"
            )


def samples(told: About, rate: int) -> int:
    """How many samples a file has at `rate`."""
    return -(-told.count * rate // told.rate)


def read(path, rate: int, start: int = 0, count: int | None = None, told: About | None = None) -> np.ndarray:
    """Samples start..start + count of a file at `rate`, float32 (count,); None: to the end.

    Raises:
        DataError: when it cannot be read.
    """
    told = told or about(path)
    count = samples(told, rate) - start if count is None else count
    if told.rate == rate:
        return _stretch(path, told, start, start + count)
    reach = _reach(told.rate, rate)
    first = start * told.rate // rate - reach
    last = (start + count) * told.rate // rate + reach + 1
    return resample(_stretch(path, told, first, last), told.rate, rate, start, count, first)


def _reach(old: int, new: int) -> int:
    """Input samples to each side that an output sample is computed from."""
    return math.ceil(CROSSINGS / (ROLLOFF * min(1.0, new / old))) + 1


def resample(x: np.ndarray, old: int, new: int, start: int = 0, count: int | None = None, first: int = 0) -> np.ndarray:
    """Samples at rate `old` as samples start..start + count at rate `new`; `first` is the number of x[0] in its file."""
    shared = math.gcd(old, new)
    old, new = old // shared, new // shared
    count = -(-len(x) * new // old) - start if count is None else count
    cut, reach = ROLLOFF * min(1.0, new / old), _reach(old, new)
    out = np.zeros(count, np.float32)
    padded = np.pad(np.asarray(x, np.float32), (reach, reach + 1))
    # Output samples of one phase lie between input samples in the same way and share a filter.
    for phase in range(min(new, count)):
        place = (start + np.arange(phase, count, new)) * old
        left = place // new
        taps = np.arange(-reach + 1, reach + 1)
        weights = _sinc(taps - (place[0] % new) / new, cut).astype(np.float32)
        at = left - first + reach + taps[0]
        out[phase::new] = (
            np.lib.stride_tricks.sliding_window_view(padded, len(taps))[np.clip(at, 0, len(padded) - len(taps))]
            @ weights
        )
    return out


def _sinc(t: np.ndarray, cut: float) -> np.ndarray:
    """The filter at distances `t` in input samples: sinc, cut off at `cut` of their Nyquist frequency, by Kaiser's window."""
    inside = np.maximum(0, 1 - (t * cut / CROSSINGS) ** 2)
    return cut * np.sinc(cut * t) * np.i0(BETA * np.sqrt(inside)) / np.i0(BETA) * (np.abs(t * cut) < CROSSINGS)


def loud(x: np.ndarray, rate: int, below: float) -> tuple[int, int]:
    """Where sound begins and ends: the first and behind the last frame of 25 ms that is less than `below` dB quieter than
    the loudest. All of it where there is nothing but silence."""
    size = max(1, rate // 40)
    frames = np.pad(x, (0, -len(x) % size)).reshape(-1, size)
    energy = np.square(frames.astype(np.float64)).mean(1)
    over = np.flatnonzero(energy > energy.max() * 10 ** (-below / 10))
    return (int(over[0] * size), min(int((over[-1] + 1) * size), len(x))) if len(over) else (0, len(x))


def write_wav(path, x: np.ndarray, rate: int) -> None:
    """Writes samples in -1..1 as one channel of 16 bits."""
    import wave

    with wave.open(str(path), "wb") as f:
        f.setnchannels(1), f.setsampwidth(2), f.setframerate(rate)
        f.writeframes((np.clip(np.round(np.asarray(x, np.float64) * 32768), -32768, 32767)).astype("<i2").tobytes())
