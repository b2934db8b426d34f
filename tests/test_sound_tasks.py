"""Tasks on sounds, end to end: a small network learns tones, judges itself, answers new files, is exported, and the
artefacts answer in the runtimes that serve them.

pytest tests/test_sound_tasks.py
"""

import base64
import json

import numpy as np
import pytest

import tlkeras
from tlkeras import artefacts, evaluation
from tlkeras.data import waveforms
from tlkeras.errors import ConfigError, DataError, UsageError

RATE = 8000
TONES = {"low": 300, "middle": 900, "high": 2500}
LETTERS = {"a": 350, "b": 1000, "c": 2200}


def tone(hertz: float, seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    rise = np.minimum(1, np.minimum(t, t[::-1]) / 0.01)
    return 0.4 * rise * np.sin(2 * np.pi * hertz * t + rng.uniform(0, 6)) + 0.01 * rng.normal(0, 1, len(t))


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """root/CLASS/N.wav: sixteen sounds a class, of 0.3 to 1.2 s, at two rates."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    for name, hertz in TONES.items():
        (root / name).mkdir()
        for n in range(16):
            rate = RATE if n % 4 else 11025
            x = tone(hertz * rng.uniform(0.9, 1.1), rng.uniform(0.3, 1.2), rate, seed=n)
            waveforms.write_wav(root / name / f"{n}.wav", x, rate)
    return root


@pytest.fixture(scope="module")
def classified(tones, tiny_backbone, tmp_path_factory):
    """A finished run that tells three tones apart by their spectrograms."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(f"""
task: audio-classification
data: {{path: {tones}, val: 0.2, test: 0.25}}
backbone:
  name: {tiny_backbone}
  sound: {{rate: {RATE}, seconds: 0.5, mels: 32, trim: 40}}
train:
  batch: 8
  phases:
    - {{name: all, train: all, epochs: 8, learning_rate: 3e-3}}
    - {{name: head, train: head, epochs: 10, learning_rate: 0.01}}
""")
    return tlkeras.train(folder / "config.yaml", folder / "run", quiet=True)


def test_tones_are_told_apart_by_features_that_were_computed_once(classified):
    assert tlkeras.evaluate(classified.folder, quiet=True)["metrics"]["accuracy"] >= 0.9
    plan = json.loads((classified.folder / "plan.json").read_text())
    assert plan["prefix"]["head"]["stored"]
    page = tlkeras.report(classified.folder).read_text("utf8")
    assert "time to the right, low tones below" in page and page.count('src="data:image/jpeg;base64,') >= 6


def test_files_folders_and_hours_are_answered_and_bad_files_are_named(classified, tones, tmp_path):
    long = np.concatenate([tone(2500, 3.0, seed=k) for k in range(4)])
    waveforms.write_wav(tmp_path / "long.wav", long, RATE)
    (tmp_path / "text.wav").write_text("I am a text")
    found = tlkeras.predict(
        classified.folder, [tmp_path / "long.wav", tmp_path / "text.wav", tones / "low"], quiet=True
    )
    assert found[0]["label"] == "high" and found[0]["seconds"] == 12.0
    assert "not the beginning of a sound file" in found[1]["error"]
    assert len(found) == 18 and [f["label"] for f in found[2:]].count("low") >= 14
    with pytest.raises(UsageError, match="a run on sounds"):
        tlkeras.predict(classified.folder, given=["a text"], quiet=True)


def test_a_long_sound_is_read_window_by_window(classified, tmp_path, monkeypatch):
    """Never more of a file at a time than a window, beyond the ten seconds in which it is looked at."""
    waveforms.write_wav(tmp_path / "long.wav", np.tile(tone(300, 1.0), 60), RATE)
    trained = evaluation.open_trained(classified.folder)
    from dataclasses import replace

    reader = replace(trained.network.reader, sound=replace(trained.network.input, trim=None))
    table = reader.table([str(tmp_path / "long.wav")], np.zeros((1, 1), np.float32), np.zeros(1))
    assert len(table) == 239 and table.counts.max() == RATE // 2
    asked = []
    read = waveforms._stretch
    monkeypatch.setattr(waveforms, "_stretch", lambda p, told, a, b: asked.append(b - a) or read(p, told, a, b))
    (output,) = list(evaluation.judgements(trained, table, []))
    assert output.shape == (1, 3) and max(asked) <= RATE // 2
    assert trained.task.decode(output[0], trained.answer)["label"] == "low"


@pytest.fixture(scope="module")
def exported(classified):
    return {row["format"]: row for row in artefacts.export(classified.folder, ["saved_model", "tflite"], quiet=True)}


def test_artefacts_answer_as_the_keras_model_does(classified, exported):
    assert exported["saved_model"]["max_difference"] < 1e-4 and exported["tflite"]["max_difference"] < 1e-3
    contract = json.loads((classified.artefact("tflite") / "contract.json").read_text())
    assert contract["input"] == {
        "kind": "audio", "rate": RATE, "length": RATE // 2, "fixed": True, "trim": 40.0, "tensors": ["samples"], "dtype": "float32",
    }  # fmt: skip


def test_the_server_answers_to_base64_of_a_file(classified, exported, tones):
    from starlette.testclient import TestClient

    from tlkeras.server import folders, models, rest

    folder = folders.find(classified.artefact("saved_model"))
    client = TestClient(rest.build({"tones": models.load(folder, "tones")}))
    contents = (tones / "high" / "1.wav").read_bytes()
    body = {"instances": [{"b64": base64.b64encode(contents).decode()}]}
    answer = client.post("/v1/models/tones:predict", json=body).json()
    assert answer["predictions"][0]["label"] == "high"
    refused = client.post(
        "/v1/models/tones:predict", json={"instances": [{"b64": base64.b64encode(b"no sound").decode()}]}
    )
    assert refused.status_code == 400 and "RIFF" in refused.json()["error"]


def test_eight_bits_are_refused_for_samples(classified, exported):
    from tlkeras.errors import GateError

    with pytest.raises(GateError, match="more than 8 bits"):
        artefacts.export(classified.folder, ["tflite-int8"], quiet=True)


@pytest.fixture(scope="module")
def spelled(tmp_path_factory):
    """A table of sounds that spell two to four letters, one tone a letter, with their transcripts."""
    root = tmp_path_factory.mktemp("spelled")
    rng, lines = np.random.default_rng(1), ["audio,text,voice"]
    for n in range(72):
        letters = rng.choice(list(LETTERS), rng.integers(2, 5))
        pieces = [
            np.concatenate([tone(LETTERS[x], 0.12, 16000, seed=9 * n + k), np.zeros(1200)])
            for k, x in enumerate(letters)
        ]
        waveforms.write_wav(root / f"{n}.wav", np.concatenate(pieces), 16000)
        lines.append(f"{n}.wav,{' '.join(letters)},{n % 6}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root / "table.csv"


@pytest.fixture(scope="module")
def heard(spelled, tmp_path_factory):
    """A finished run that writes the letters down."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "config.yaml").write_text(f"""
task: {{name: speech-recognition, decoder: beam, lexicon: training, ngram: 2}}
data: {{path: {spelled}, label: text, val: 0.15, test: 0.2}}
backbone: {{name: deepspeech2_small, weights: null}}
train:
  batch: 8
  phases:
    - {{name: all, train: all, epochs: 12, learning_rate: 3e-3, clip_norm: 1}}
""")
    return tlkeras.train(folder / "config.yaml", folder / "run", quiet=True)


def test_speech_is_written_down(heard):
    result = tlkeras.evaluate(heard.folder, quiet=True)
    assert result["main"] == "wer" and result["metrics"]["wer"] <= 0.1, result["worst"]


def test_words_come_with_their_times(heard, tmp_path):
    pieces = [tone(350, 0.12, 16000), np.zeros(1200), tone(2200, 0.12, 16000), np.zeros(1200)]
    waveforms.write_wav(tmp_path / "ac.wav", np.concatenate(pieces), 16000)
    (answer,) = tlkeras.predict(heard.folder, [tmp_path / "ac.wav"], quiet=True)
    assert answer["text"] == "a c"
    first, second = answer["words"]
    assert (
        first["word"] == "a"
        and first["start"] <= 0.1 < second["start"]
        and first["end"] <= second["start"] + 0.02
        and second["end"] <= 0.45
    )


def test_a_recording_longer_than_a_window_is_written_down_as_one(heard, tmp_path):
    from dataclasses import replace

    spoken = "abcacbabccab"
    pieces = [p for k, x in enumerate(spoken) for p in (tone(LETTERS[x], 0.12, 16000, seed=k), np.zeros(1200))]
    waveforms.write_wav(tmp_path / "long.wav", np.concatenate(pieces), 16000)
    trained = evaluation.open_trained(heard.folder)
    short = replace(trained.network.reader, sound=replace(trained.network.input, length=16000))
    table = short.table([str(tmp_path / "long.wav")], np.zeros((1, 1), np.float32), np.zeros(1))
    assert len(table) == 4
    (found,) = next(evaluation.judgements(trained, table, []))
    whole = trained.task.decode(found, trained.answer)
    assert sum(a != b for a, b in zip(whole["text"].replace(" ", ""), spoken, strict=False)) <= 1
    starts = [w["start"] for w in whole["words"]]
    assert starts == sorted(starts) and starts[-1] > 1.8


def test_a_saved_model_writes_down_what_the_keras_model_does(heard):
    (row,) = artefacts.export(heard.folder, ["saved_model"], quiet=True)
    assert row["metric"] == "wer" and row["max_difference"] < 1e-3


def test_the_report_shows_the_alignment_of_what_was_misheard(heard):
    page = tlkeras.report(heard.folder).read_text("utf8")
    assert "What it gets wrong" in page


def test_a_transcript_that_does_not_fit_its_sound_is_refused_with_both_lengths(spelled, tmp_path):
    for name in ("0.wav", "1.wav", "2.wav", "3.wav"):
        (tmp_path / name).write_bytes((spelled.parent / name).read_bytes())
    long = " ".join(["supercalifragilistic"] * 4)
    (tmp_path / "t.csv").write_text(f"audio,text\n0.wav,{long}\n1.wav,a b\n2.wav,b a\n3.wav,a a\n")
    (tmp_path / "c.yaml").write_text(
        f"task: speech-recognition\ndata: {{path: {tmp_path}/t.csv, label: text, val: 0, test: 0}}\n"
        "backbone: {name: deepspeech2_small, weights: null}\n"
    )
    with pytest.raises(DataError, match=r"0.wav: \d+ frames of sound, and its transcript needs 8\d"):
        tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)


def test_augmentation_of_images_is_refused_for_sounds(spelled, tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"task: speech-recognition\ndata: {{path: {spelled}, label: text}}\nbackbone: {{name: deepspeech2_small, weights: null}}\n"
        "augment: {flip: horizontal, shift: 0.1}\n"
    )
    with pytest.raises(ConfigError, match=r"augment.flip: for images. Sounds have speed, shift"):
        tlkeras.plan(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match=r"augment.shift moves a sound in its window"):
        tlkeras.plan(tmp_path / "c.yaml", sets=["augment.flip=null"])
