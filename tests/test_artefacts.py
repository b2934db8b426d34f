"""Artefacts: each is run in the runtime that will serve it, on raw files, and the gate lets nothing else through.

pytest tests/test_artefacts.py
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tlkeras
from tlkeras import artefacts, errors
from tlkeras import run as runs
from tlkeras.artefacts import bench, metadata, saved_model, tflite
from tlkeras.evaluation import open_trained
from tlkeras.progress import Progress

TRAIN = {
    "batch": 8,
    "phases": [{"name": "all", "train": "all", "epochs": 6, "learning_rate": 0.01, "batchnorm": "train"}],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, colours, tiny_backbone):
    import yaml

    folder = tmp_path_factory.mktemp("artefacts")
    config = {
        "name": "colours",
        "task": "image-classification",
        "data": {"path": str(colours), "val": 0.2, "test": 0.3},
        "backbone": {"name": str(tiny_backbone)},
        "train": {**TRAIN, "precision": "mixed_bfloat16"},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    made = tlkeras.train(folder / "c.yaml", folder / "run", quiet=True)
    rows = tlkeras.export(made.folder, artefacts.FORMATS, max_drop=0.2, quiet=True)
    return made, {row["format"]: row for row in rows}


def test_every_format_is_kept_with_its_proof(run):
    made, rows = run
    assert list(rows) == list(artefacts.FORMATS)
    for form, row in rows.items():
        folder = made.artefact(form)
        assert json.loads((folder / "contract.json").read_text())["answer"]["classes"] == ["blue", "green", "red"]
        assert json.loads((folder / "parity.json").read_text())["n"] == row["n"] > 5
    # float16 stores rounded weights, int8 rounds everything; float32 is the same function.
    assert rows["saved_model"]["max_difference"] < 1e-4 and rows["tflite"]["max_difference"] < 1e-4
    assert rows["tflite-float16"]["bytes"] < rows["tflite"]["bytes"] > rows["tflite-int8"]["bytes"]


def test_a_model_trained_in_mixed_precision_exports_builtin_float32_operators(run):
    made, _ = run
    tflite.refuse_custom_operators((made.artefact("tflite") / tflite.FILE).read_bytes(), "tflite")


SERVE = """
import sys, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
serve, pixels = loaded.signatures["serving_default"], loaded.signatures["pixels"]
files = [open(p, "rb").read() for p in sys.argv[2:]]
for batch in (files, files[:1]):
    out = serve(image_bytes=tf.constant(batch))
    print([x.decode() for x in out["label"].numpy()], out["scores"].shape, [x.decode() for x in out["classes"].numpy()[0]], out["score"].dtype.name)
print(pixels(pixels=tf.zeros((3, 32, 32, 3), tf.uint8))["scores"].shape, sorted(m for m in sys.modules if m.startswith("tlkeras")))
"""


def test_the_saved_model_takes_raw_files_of_any_format_and_names_classes_in_a_process_without_tlkeras(
    run, colours, tmp_path
):
    from PIL import Image

    made, _ = run
    files = []
    for c, form in (("red", "png"), ("green", "bmp"), ("blue", "jpg"), ("red", "webp")):
        files.append(tmp_path / f"{c}.{form}")
        Image.open(colours / c / "3.png").resize((90, 50)).save(files[-1])
    command = [sys.executable, "-c", SERVE, str(made.artefact("saved_model") / "1"), *map(str, files)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    assert said[0] == "['red', 'green', 'blue', 'red'] (4, 3) ['blue', 'green', 'red'] float32"
    assert said[1].startswith("['red'] (1, 3)")
    assert said[2] == "(3, 3) []"


@pytest.mark.parametrize("form", [f for f in artefacts.FORMATS if f != "saved_model"])
def test_tflite_takes_uint8_pixels_and_carries_labels_and_contract(run, form):
    from ai_edge_litert.interpreter import Interpreter

    made, _ = run
    file = made.artefact(form) / tflite.FILE
    contract, files = metadata.read(file.read_bytes())
    assert files["labels.txt"].decode().split() == ["blue", "green", "red"]
    assert contract["input"] == {
        "size": [32, 32],
        "kind": "image",
        "dtype": "uint8",
        "channels": "RGB",
        "crop": None,
        "pad": None,
        "interpolation": "bilinear",
    }
    interpreter = Interpreter(model_path=str(file))
    (given,) = interpreter.get_input_details()
    assert given["dtype"] is np.uint8 and given["shape"].tolist() == [1, 32, 32, 3]
    if form == "tflite-int8":
        assert given["quantization"] == (1.0, 0)
        assert {d["dtype"] for d in interpreter.get_tensor_details()} <= {np.int8, np.uint8, np.int32}
    answer = tflite.load(made.artefact(form))({"pixels": np.full((2, 32, 32, 3), (210, 50, 40), np.uint8)})["scores"]
    assert answer.shape == (2, 3) and answer.argmax(1).tolist() == [2, 2] and np.allclose(answer.sum(1), 1, atol=0.02)


def test_an_artefact_with_other_weights_does_not_pass_the_gate(run, tmp_path):
    made, _ = run
    trained = open_trained(made.folder, precision="float32")
    proof = artefacts.Proof(trained, Progress(quiet=True))
    for name, change, says in (("a", -1.0, "float32 rounding explains"), ("b", np.nan, "no finite numbers")):
        weight = trained.network.model.get_layer("head_logits").kernel
        kept = weight.numpy()
        weight.assign(kept * change)
        saved_model.write(trained, artefacts.contract(trained, "saved_model"), tmp_path / name)
        runs.write_json(tmp_path / name / "contract.json", artefacts.contract(trained, "saved_model"))
        weight.assign(kept)
        with pytest.raises(errors.GateError, match=says):
            proof.hold("saved_model", tmp_path / name, 1.0, artefacts.contract(trained, "saved_model"))


def test_a_drop_past_the_tolerance_keeps_nothing_and_exits_5(run, tmp_path):
    made, _ = run
    trained = open_trained(made.folder, precision="float32")
    proof = artefacts.Proof(trained, Progress(quiet=True))
    weight = trained.network.model.get_layer("head_logits").kernel
    weight.assign(-weight.numpy())
    tflite.write(trained, artefacts.contract(trained, "tflite-dynamic"), tmp_path)
    with pytest.raises(errors.GateError, match="a drop of .* is more than the 0.1") as caught:
        proof.hold("tflite-dynamic", tmp_path, 0.1, artefacts.contract(trained, "tflite-dynamic"))
    assert caught.value.exit_code == 5


def test_a_file_that_crashes_its_runtime_is_refused_and_takes_nobody_with_it(run, tmp_path):
    made, _ = run
    proof = artefacts.Proof(open_trained(made.folder, precision="float32"), Progress(quiet=True))
    raw = bytearray((made.artefact("tflite") / tflite.FILE).read_bytes())
    rng = np.random.default_rng(0)
    for i in rng.integers(8, 4000, 200):
        raw[i] = rng.integers(256)
    (tmp_path / tflite.FILE).write_bytes(raw)
    with pytest.raises(errors.GateError, match="does not run in a fresh process"):
        proof.hold("tflite", tmp_path, 1.0, {})


def test_an_export_that_fails_leaves_no_folder_and_the_others_stand(run, tmp_path):
    made, _ = run
    copy = tmp_path / "run"
    shutil.copytree(made.folder, copy)
    shutil.rmtree(copy / "artefacts")
    with pytest.raises(errors.GateError):
        tlkeras.export(copy, ["tflite", "tflite-int8"], max_drop=-1.0, quiet=True)
    assert not list((copy / "artefacts").iterdir())
    with pytest.raises(errors.UsageError, match="Did you mean saved_model"):
        tlkeras.export(copy, ["savd_model"], quiet=True)


def test_check_converts_the_untrained_network(write_config):
    assert tlkeras.check(write_config(), ["tflite", "saved_model"], quiet=True) == ["tflite", "saved_model"]


def test_check_names_the_operator_that_is_in_the_way(write_config, tmp_path):
    """A network with an operator that TFLite does not have: its name stands in the error."""
    import tensorflow as tf

    from tlkeras.artefacts.tflite import _convert

    trained = open_trained(tlkeras.train(write_config(), tmp_path / "run", quiet=True).folder)
    network = trained.network

    class Task:
        OUTPUT = "scores"

        @staticmethod
        def finish(raw, answer):
            return tf.math.betainc(tf.abs(raw) + 1, tf.abs(raw) + 1, tf.fill(tf.shape(raw), 0.5))

    odd = type(trained)(trained.run, trained.config, Task, trained.options, trained.answer, network)
    with pytest.raises(errors.GateError, match="Betainc"):
        _convert(odd, artefacts.contract(trained, "tflite"), None)


@pytest.mark.parametrize("form", ["saved_model", "tflite-int8"])
def test_bench_times_an_artefact(run, form):
    made, _ = run
    found = bench.bench(made.artefact(form), runs=5)
    assert found["format"] == form and 0 < found["milliseconds"]["min"] <= found["milliseconds"]["p95"]
    with pytest.raises(errors.UsageError, match="no artefact"):
        bench.bench(made.folder)


def test_a_regression_exports_in_the_unit_of_the_data(tmp_path, tiny_backbone):
    import csv

    import yaml
    from conftest import draw

    with (tmp_path / "t.csv").open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["image", "label"])
        for i in range(40):
            draw((5 * i, 60, 60), i).save(tmp_path / f"{i}.png")
            rows.writerow([f"{i}.png", 1000 + 10 * i])
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {
                "task": "image-regression",
                "data": {"path": str(tmp_path / "t.csv")},
                "backbone": {"name": str(tiny_backbone)},
                "train": TRAIN,
            }
        )
    )
    made = tlkeras.train(tmp_path / "c.yaml", tmp_path / "run", quiet=True)
    found = tlkeras.evaluate(made.folder, quiet=True)
    assert found["main"] == "rmse" and found["metrics"]["rmse"] < 200
    rows = tlkeras.export(made.folder, ["saved_model", "tflite"], quiet=True)
    assert all(r["metric"] == "rmse" and abs(r["drop"]) < 1e-3 for r in rows)
    values = saved_model.load(made.artefact("saved_model"))([(tmp_path / "20.png").read_bytes()])["values"]
    assert 900 < values[0, 0] < 1500
