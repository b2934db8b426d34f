"""Sound: features of WAV files beside librosa and a torchaudio-style loop, and training steps of wav2vec 2.0 beside transformers.

    python benchmarks/audio.py [--quick] [--rounds N] [--files N] [--steps N]

'features': 300 files (--quick: 40) of 2 to 6 seconds at 16 kHz, made up here, to log-mel spectrograms of 64 bands: milliseconds of
computing per second of sound, decoding too. tlkeras reads them by its pipeline, in batches, with the layer that its networks
begin with; librosa.load and melspectrogram file by file; soundfile, torch.stft and a matrix of mels as torchaudio's
MelSpectrogram computes them, file by file and by a DataLoader of two workers. All to decibels below the loudest; their
largest difference is in the JSON.
'training': a step of CTC on random weights, everything trained, Adam, float32: two sounds of four seconds in the network
of wav2vec2_base (--quick: of an eighth of its width and four layers), beside Wav2Vec2ForCTC of transformers on PyTorch, whose
masking and dropout of layers are off. The median step after three; compiling is left out.
Every measurement is a fresh process. Targets: features as fast as librosa or faster; a training step no slower than PyTorch's.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measuring
import numpy as np

RATE, WINDOW, HOP, MELS, LOW = 16000, 512, 160, 64, 20.0
OURS, LIBROSA, LOOP, LOADER = "tlkeras", "librosa", "torch.stft", "torch.stft, DataLoader"
FEATURES = (OURS, LIBROSA, LOOP, LOADER)
TRAINING = (OURS, "transformers")
SYMBOLS, LETTERS, SECONDS, BATCH, WARM = 32, 20, 4, 2, 3
FULL = {}
SMALL = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "conv_dim": [64] * 7,
}


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, help="default: 300, --quick: 40")
    parser.add_argument("--steps", type=int, help="measured training steps; default: 8, --quick: 4")
    args = parser.parse_args()
    measuring.needs("librosa", "soundfile", "torch", "transformers")
    facts, rounds = measuring.machine(), 1 if args.quick else args.rounds
    files, steps = args.files or (40 if args.quick else 300), args.steps or (4 if args.quick else 8)
    with tempfile.TemporaryDirectory(prefix="tlkeras-audio-") as folder:
        seconds = make(Path(folder), files)
        heard = measuring.alternate(
            {name: lambda name=name: measuring.in_fresh_process("features", name, folder) for name in FEATURES}, rounds
        )
        size = json.dumps(SMALL if args.quick else FULL)
        learnt = measuring.alternate(
            {name: lambda name=name: measuring.in_fresh_process("training", name, size, steps) for name in TRAINING},
            rounds,
        )
    apart = max(abs(row["check"] - heard[LIBROSA][0]["check"]) for rows in heard.values() for row in rows)
    ratios = {
        f"{name} / tlkeras, features": round(measuring.ratio(heard[name], heard[OURS], "wall"), 3)
        for name in FEATURES[1:]
    } | {"transformers / tlkeras, a step": round(measuring.ratio(learnt["transformers"], learnt[OURS], "step_s"), 3)}
    targets = [
        measuring.judged("features: librosa / tlkeras", ratios["librosa / tlkeras, features"], least=1),
        measuring.judged("training step: transformers / tlkeras", ratios["transformers / tlkeras, a step"], least=1),
    ]
    measuring.report(
        "audio",
        args.quick,
        facts,
        [
            (
                f"{files} files, {seconds:.0f} seconds of sound, median of {rounds} rounds",
                [
                    {
                        "features": name,
                        "ms per second of sound": round(1000 * measuring.median(rows, "wall") / seconds, 3),
                        "CPU ms": round(1000 * measuring.median(rows, "cpu") / seconds, 3),
                        "peak MB": round(measuring.median(rows, "peak_mb")),
                    }
                    for name, rows in heard.items()
                ],
            ),
            (
                f"a training step of {'a small network' if args.quick else 'wav2vec2_base'}, {BATCH} sounds of {SECONDS} s",
                [
                    {
                        "training": name,
                        "seconds a step": round(measuring.median(rows, "step_s"), 3),
                        "first step": round(measuring.median(rows, "first_s"), 1),
                        "peak MB": round(measuring.median(rows, "peak_mb")),
                        "parameters": rows[0]["parameters"],
                    }
                    for name, rows in learnt.items()
                ],
            ),
            ("Ratios", [{"ratio": name, "measured": r} for name, r in ratios.items()]),
            ("Targets", targets),
        ],
        files=files,
        seconds=seconds,
        rounds=rounds,
        steps=steps,
        targets=targets,
        target_met=all(t["met"] for t in targets),
        ratios=ratios,
        largest_difference_of_means_db=apart,
        features=heard,
        training=learnt,
    )


def make(folder: Path, count: int) -> float:
    """Writes `count` WAV files of tones over noise; their seconds."""
    import wave

    rng, total = np.random.default_rng(0), 0.0
    for n in range(count):
        t = np.arange(int(rng.uniform(2, 6) * RATE)) / RATE
        x = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 3000) * t) + 0.02 * rng.normal(size=len(t))
        with wave.open(str(folder / f"{n:04}.wav"), "wb") as f:
            f.setnchannels(1), f.setsampwidth(2), f.setframerate(RATE)
            f.writeframes((x * 32767).astype("<i2").tobytes())
        total += len(t) / RATE
    return total


# ---------------------------------------------------------------------- features


def features(name: str, folder: str) -> dict:
    """Computes all spectrograms by one contender; the clock starts after the imports and one file to warm up."""
    files = sorted(map(str, Path(folder).glob("*.wav")))
    compute = {OURS: by_tlkeras, LIBROSA: by_librosa, LOOP: by_torch, LOADER: by_loader}[name]()
    compute(files[:8])
    before, began = measuring.usage()["cpu"], time.perf_counter()
    check = compute(files)
    wall, used = time.perf_counter() - began, measuring.usage()
    return {"wall": wall, **used, "cpu": used["cpu"] - before, "check": float(check)}


def by_tlkeras():
    """Batches of sounds of like length, as training reads them; silence behind a sound is left out of the mean."""
    import tensorflow as tf

    from tlkeras.backbones import Sound, spectra
    from tlkeras.data import sounds

    sound = Sound(RATE, RATE * 30, step=HOP)
    settings = {"rate": RATE, "window": WINDOW, "hop": HOP, "mels": MELS, "low": LOW, "high": RATE / 2}

    @tf.function(reduce_retracing=True)
    def heard(x, count):
        found = spectra.log_mel(x, **settings)
        there = tf.sequence_mask(count // HOP + 1, tf.shape(found)[1], tf.float32)
        return tf.reduce_sum(tf.reduce_mean(found, 2) * there), tf.reduce_sum(there)

    def compute(files):
        zeros = np.zeros((len(files), 1), np.float32)
        table = sounds.Reader(sound).table(files, zeros, zeros[:, 0])
        parts = [heard(x["samples"], x["count"]) for x, *_ in sounds.held_out(table, sound, 16)]
        return sum(float(a) for a, _ in parts) / sum(float(b) for _, b in parts)

    return compute


def by_librosa():
    import librosa

    def compute(files):
        total, frames = 0.0, 0
        for path in files:
            x, _ = librosa.load(path, sr=RATE)
            power = librosa.feature.melspectrogram(
                y=x, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS, fmin=LOW, fmax=RATE / 2
            )
            found = librosa.power_to_db(power, ref=np.max)
            total, frames = total + float(found.mean(0).sum()), frames + found.shape[1]
        return total / frames

    return compute


class Spectra:
    """A data set for PyTorch: (sum over the frames, frames) of a file's spectrogram."""

    def __init__(self, files):
        import torch

        from tlkeras.backbones import spectra

        self.files, self.window = files, torch.hann_window(WINDOW)
        self.mels = torch.tensor(spectra.mel_filters(RATE, WINDOW, MELS, LOW, RATE / 2).T.copy())

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        import soundfile
        import torch

        x, _ = soundfile.read(self.files[i], dtype="float32")
        found = torch.stft(
            torch.from_numpy(x), WINDOW, HOP, window=self.window, return_complex=True, pad_mode="constant"
        )
        db = 10 * torch.log10((self.mels @ found.abs().square()).clamp(min=1e-10))
        db = (db - db.max()).clamp(min=-80)
        return torch.tensor([float(db.mean(0).sum()), db.shape[1]])


def by_torch():
    import torch  # noqa: F401

    def compute(files):
        made = Spectra(files)
        total = sum(made[i] for i in range(len(made)))
        return float(total[0] / total[1])

    return compute


def by_loader():
    import torch

    def compute(files):
        rows = torch.utils.data.DataLoader(Spectra(files), 16, num_workers=2)
        total = sum(batch.sum(0) for batch in rows)
        return float(total[0] / total[1])

    return compute


# ---------------------------------------------------------------------- training


def training(name: str, size: str, steps: str) -> dict:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, (BATCH, RATE * SECONDS)).astype("float32")
    y = rng.integers(0, SYMBOLS - 1, (BATCH, LETTERS))
    step, parameters = (ours if name == OURS else theirs)(json.loads(size), x, y)
    times = []
    for _ in range(WARM + int(steps)):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    found = {"step_s": statistics.median(times[WARM:]), "first_s": times[0], "parameters": parameters}
    return found | measuring.usage()


def ours(config: dict, x, y):
    import keras

    from tlkeras.backbones import wav2vec2
    from tlkeras.tasks import speech_recognition as task

    sizes = wav2vec2.sizes_of(config, "the benchmark")
    options, base = task.Options(), wav2vec2.build(sizes)
    answer = {"classes": [chr(97 + n) for n in range(SYMBOLS - 1)]}
    raw = task.frame_head(base.output, wav2vec2.frames(sizes, base.input["count"]), answer, options)
    model = keras.Model(base.input, raw)
    model.compile(optimizer="adam", loss=task.loss(options), jit_compile=False)
    given = {"samples": x, "count": np.full(BATCH, x.shape[1], "int32")}
    return lambda: model.train_on_batch(given, y.astype("int32")), model.count_params()


def theirs(config: dict, x, y):
    import torch

    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError):  # one built for another torch, which transformers would stumble over
        for op in ("nms", "qnms"):
            torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import transformers

    made = transformers.Wav2Vec2Config(
        **config,
        vocab_size=SYMBOLS,
        pad_token_id=SYMBOLS - 1,
        apply_spec_augment=False,
        layerdrop=0.0,
        ctc_loss_reduction="mean",
    )
    model = transformers.Wav2Vec2ForCTC(made).train()
    optimizer = torch.optim.Adam(model.parameters())
    given, labels = torch.tensor(x), torch.tensor(y)

    def step():
        optimizer.zero_grad()
        model(given, labels=labels).loss.backward()
        optimizer.step()

    return step, sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    if "--child" in sys.argv:
        what, *rest = sys.argv[sys.argv.index("--child") + 1 :]
        print(json.dumps({"features": features, "training": training}[what](*rest)))
    else:
        main()
