"""Makes digits.csv and digits/*.wav: strings of spoken digits by eight voices of the speech synthesiser espeak-ng.

    python examples/sounds/make.py      # needs espeak-ng: apt install espeak-ng

240 strings of two to five digits, half of a minute of computing, 12 MB. Nothing of it is under anybody's licence.
"""

import csv
import random
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
VOICES = ["en-gb", "en-gb+f4", "en-gb+m7", "en-gb-scotland", "en-us", "en-us+f2", "en-us+f5", "en-us+m3"]


def main(count: int = 240) -> None:
    speak = shutil.which("espeak-ng") or sys.exit("espeak-ng is not installed: apt install espeak-ng")
    draw = random.Random(0)
    (HERE / "digits").mkdir(exist_ok=True)
    with (HERE / "digits.csv").open("w", newline="", encoding="utf8") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["audio", "text", "voice"])
        for n in range(count):
            voice, text = draw.choice(VOICES), " ".join(draw.choices(WORDS, k=draw.randint(2, 5)))
            name = f"digits/{n:04}.wav"
            speed = str(draw.randint(140, 190))
            subprocess.run([speak, "-v", voice, "-s", speed, "-w", str(HERE / name), text], check=True)
            table.writerow([name, text, voice])


if __name__ == "__main__":
    main()
