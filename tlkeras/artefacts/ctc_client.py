"""Text from a speech recogniser's model.tflite: python decode.py SOUND.wav

Needs numpy and ai-edge-litert, and contract.json beside it. The WAV is of 16 bits at the rate of the contract; it may be
as long as the contract's length. `text` is all that an app needs to write for itself.
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np


def text(scores, contract: dict) -> str:
    """What the scores (frames, symbols + 1) of one sound say: the likeliest symbol of each frame, repetitions once, blanks
    not at all (Graves et al. 2006)."""
    symbols = contract["answer"]["classes"]
    best = np.argmax(scores, 1)
    kept = [int(b) for b, before in zip(best, [-1, *best[:-1]], strict=True) if b != before and b != len(symbols)]
    return (" " if contract["answer"]["units"] == "words" else "").join(symbols[k] for k in kept).strip()


def samples(path, rate: int) -> np.ndarray:
    """The samples (n,) of a WAV file in -1..1, its channels averaged."""
    with wave.open(str(path), "rb") as f:
        if (f.getframerate(), f.getsampwidth()) != (rate, 2):
            raise SystemExit(f"{path} must have {rate} samples a second of 16 bits.")
        found = np.frombuffer(f.readframes(f.getnframes()), "<i2").reshape(-1, f.getnchannels())
    return found.mean(1).astype(np.float32) / 32768


def main(path: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    here = Path(__file__).parent
    contract = json.loads((here / "contract.json").read_text("utf8"))
    found, wide = samples(path, contract["input"]["rate"]), contract["input"]["length"]
    if len(found) > wide:
        raise SystemExit(f"{path} must be at most {wide} samples long; it has {len(found)}. Cut it.")
    given = {"samples": np.pad(found, (0, wide - len(found)))[None], "count": np.array([len(found)], np.int32)}
    run = Interpreter(model_path=str(here / "model.tflite")).get_signature_runner()
    print(text(run(**given)["scores"][0], contract))


if __name__ == "__main__":
    main(sys.argv[1]) if sys.argv[1:] else print(__doc__)
