"""Speech recognition in a .tflite file: wav2vec 2.0 and both Deep Speeches convert to builtin operators, pass the gate on WER,
and say in the interpreter what the Keras model says.

pytest tests/test_sound_artefacts.py
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from test_sound_networks import directory
from test_sound_tasks import LETTERS, RATE, tone

import tlkeras
from tlkeras import artefacts
from tlkeras.artefacts import metadata, tflite
from tlkeras.backbones import deepspeech
from tlkeras.data import waveforms

TONES = {"low": 300, "high": 2500}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of 20 sounds that spell two or three letters."""
    root, rng, lines = tmp_path_factory.mktemp("letters"), np.random.default_rng(1), ["audio,text"]
    for n in range(20):
        letters = rng.choice(list(LETTERS), rng.integers(2, 4))
        waveforms.write_wav(
            root / f"{n}.wav", np.concatenate([tone(LETTERS[x], 0.12, 16000, seed=n) for x in letters]), 16000
        )
        lines.append(f"{n}.wav,{' '.join(letters)}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root / "table.csv"


@pytest.fixture(params=["wav2vec2", "deepspeech", "deepspeech2_small"])
def recogniser(request, table, tmp_path, monkeypatch):
    """A run that has hardly begun to learn: what it writes is wrong, and must be wrong in the same way everywhere."""
    name = request.param
    monkeypatch.setattr(deepspeech, "WIDTH", 16)
    monkeypatch.setitem(deepspeech.SECOND, "deepspeech2_small", (20, 4, 2, 8))
    if name == "wav2vec2":
        (tmp_path / "net").mkdir()
        name = directory("base", tmp_path / "net")
    (tmp_path / "c.yaml").write_text(f"""
task: {{name: speech-recognition}}
data: {{path: {table}, label: text, val: 0, test: 0.3}}
backbone: {{name: {name}{"" if request.param == "wav2vec2" else ", weights: null"}}}
train: {{batch: 7, phases: [{{name: all, train: all, epochs: 2, learning_rate: 0.01}}]}}
""")
    return tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)


def test_recognisers_are_builtin_operators_and_pass_the_gate_on_errors_of_words(recogniser, table):
    (row,) = artefacts.export(recogniser.folder, ["tflite"], quiet=True)
    assert row["metric"] == "wer" and row["drop"] == 0 and row["max_difference"] < 1e-4

    folder = recogniser.artefact("tflite")
    _, files = metadata.read((folder / "model.tflite").read_bytes())
    assert files["labels.txt"].decode().splitlines() == ["<space>", "a", "b", "c", "<blank>"]
    answers = tlkeras.predict(recogniser.folder, [table.parent / "3.wav"], quiet=True)
    said = subprocess.run(
        [sys.executable, folder / "decode.py", table.parent / "3.wav"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == answers[0]["text"]


@pytest.mark.parametrize("recogniser", ["deepspeech"], indirect=True)
def test_float16_hears_silence(recogniser):
    """The least power that is told apart is 0 in float16, and has no logarithm."""
    artefacts.export(recogniser.folder, ["tflite-float16"], quiet=True)
    facts, _ = metadata.read((recogniser.artefact("tflite-float16") / "model.tflite").read_bytes())
    wide = facts["input"]["length"]
    given = {"samples": np.zeros((1, wide), np.float32), "count": np.array([wide], np.int32)}
    assert np.isfinite(tflite.load(recogniser.artefact("tflite-float16"))(given)["scores"]).all()


def _sounds(root, shift=1.0):
    """root/CLASS/N.wav, and a table of their classes and lengths in which some cells are empty."""
    rng, lines = np.random.default_rng(0), ["audio,tone,length"]
    for name, hertz in TONES.items():
        (root / name).mkdir(parents=True)
        for n in range(10):
            seconds = rng.uniform(0.3, 0.5)
            waveforms.write_wav(root / name / f"{n}.wav", tone(hertz * shift, seconds, RATE, seed=n), RATE)
            lines.append(f"{name}/{n}.wav,{name if n else ''},{seconds if n % 4 else ''}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root


def test_one_network_hears_the_class_and_a_value(tmp_path, tiny_backbone):
    root = _sounds(tmp_path / "sounds")
    (tmp_path / "c.yaml").write_text(f"""
task:
  name: audio-multitask
  tasks: {{tone: {{name: audio-classification}}, length: {{name: audio-regression}}}}
data: {{path: {root}/table.csv, val: 0, test: 0.3}}
backbone: {{name: {tiny_backbone}, sound: {{rate: {RATE}, seconds: 0.5, mels: 32}}}}
train: {{batch: 7, phases: [{{name: all, train: all, epochs: 4, learning_rate: 3e-3}}]}}
""")
    run = tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)
    metrics = tlkeras.evaluate(run.folder, quiet=True)["metrics"]
    assert metrics["tone/accuracy"] >= 0.8 and "length/rmse" in metrics
    (answer,) = tlkeras.predict(run.folder, [root / "high" / "3.wav"], quiet=True)
    assert answer["tone"]["label"] == "high" and len(answer["length"]["values"]) == 1
    (row,) = artefacts.export(run.folder, ["tflite"], quiet=True)
    assert row["max_difference"] < 1e-3


def test_a_network_meets_sounds_of_another_place(tmp_path, tiny_backbone):
    here, there = _sounds(tmp_path / "here"), _sounds(tmp_path / "there", 1.2)
    (tmp_path / "c.yaml").write_text(f"""
task: audio-classification
data: {{path: {here}, val: 0, test: 0.3}}
backbone: {{name: {tiny_backbone}, sound: {{rate: {RATE}, seconds: 0.5, mels: 32}}}}
train: {{batch: 7, phases: [{{name: all, train: all, epochs: 2, learning_rate: 3e-3}}]}}
adapt: {{method: coral, path: {there}, epochs: 1}}
""")
    run = tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)
    found = json.loads((run.folder / "adapt.json").read_text())
    assert found["target"]["samples"] == 20
    assert {"before", "after"} <= set(found) and found["after"]["target"]["metric"] == "accuracy"
