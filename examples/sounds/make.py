"""Makes digits.csv and digits/*.wav: strings of spoken digits by eight voices of the speech synthesiser espeak-ng.

    python examples/sounds/make.py      # needs espeak-ng: apt install espeak-ng, or pip install espeakng-loader

240 strings of two to five digits, half of a minute of computing, 12 MB. Nothing of it is under anybody's licence.
"""

import csv
import ctypes
import importlib.util
import random
import shutil
import subprocess
import sys
import wave
from pathlib import Path

HERE = Path(__file__).parent
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
VOICES = ["en-gb", "en-gb+f4", "en-gb+m7", "en-gb-scotland", "en-us", "en-us+f2", "en-us+f5", "en-us+m3"]


def speaker():
    """Returns `f(text, voice, words a minute, path)` that writes a WAV file: by the program, or by the library in a wheel."""
    if program := shutil.which("espeak-ng"):
        return lambda text, voice, speed, path: subprocess.run(
            [program, "-v", voice, "-s", str(speed), "-w", str(path), text], check=True
        )
    if importlib.util.find_spec("espeakng_loader"):
        return library()
    sys.exit("espeak-ng is not installed: apt install espeak-ng, or pip install espeakng-loader")


def library():
    """espeak-ng's own C functions (speak_lib.h), with the data beside them in the wheel."""
    import espeakng_loader

    lib = ctypes.CDLL(espeakng_loader.get_library_path())
    heard: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def more(samples, count, events):
        if samples and count:
            heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    # 2: give the samples back one after the other, and return when all are spoken.
    rate = lib.espeak_Initialize(2, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate <= 0:
        sys.exit(
            "espeak-ng does not find its data; install the wheel again: pip install --force-reinstall espeakng-loader"
        )
    lib.espeak_SetSynthCallback(more)

    class Voice(ctypes.Structure):  # espeak_VOICE
        _fields_ = [
            *((name, ctypes.c_char_p) for name in ("name", "languages", "identifier")),
            *((name, ctypes.c_ubyte) for name in ("gender", "age", "variant", "xx1")),
            ("score", ctypes.c_int),
            ("spare", ctypes.c_void_p),
        ]

    def speak(text: str, voice: str, speed: int, path: Path) -> None:
        heard.clear()
        # As the program does it: a name of a voice, or else of a language.
        asked = Voice(languages=voice.encode())
        if lib.espeak_SetVoiceByName(voice.encode()) and lib.espeak_SetVoiceByProperties(ctypes.byref(asked)):
            sys.exit(f"espeak-ng has no voice {voice}")
        lib.espeak_SetParameter(1, speed, 0)  # 1: words a minute
        said = text.encode() + b"\0"
        # 0, 1: from the first character on; 0: to the end; 0x1000: UTF-8 and what ends a sentence
        lib.espeak_Synth(said, ctypes.c_size_t(len(said)), 0, 1, 0, 0x1001, None, None)
        lib.espeak_Synchronize()
        with wave.open(str(path), "wb") as f:
            f.setnchannels(1), f.setsampwidth(2), f.setframerate(rate)
            f.writeframes(b"".join(heard))

    speak.held = more  # the library calls it for as long as it lives
    return speak


def main(count: int = 240) -> None:
    speak = speaker()
    draw = random.Random(0)
    (HERE / "digits").mkdir(exist_ok=True)
    with (HERE / "digits.csv").open("w", newline="", encoding="utf8") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["audio", "text", "voice"])
        for n in range(count):
            voice, text = draw.choice(VOICES), " ".join(draw.choices(WORDS, k=draw.randint(2, 5)))
            name = f"digits/{n:04}.wav"
            speak(text, voice, draw.randint(140, 190), HERE / name)
            table.writerow([name, text, voice])


if __name__ == "__main__":
    main()
