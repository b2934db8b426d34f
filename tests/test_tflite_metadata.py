"""TFLite metadata: what `embed` writes, `read`, zipfile and MediaPipe's ImageClassifier get back; the model stays.

The models answer with the colour that is strongest on average, so a wrong channel order, scale, label or
weight changes the answer. The tests under `-m mediapipe` run where TLKERAS_MEDIAPIPE_PYTHON names a Python with
mediapipe, which best lives in an environment of its own.
"""

import io
import json
import os
import random
import subprocess
import time
import tracemalloc
import zipfile
from functools import cache

import numpy as np
import pytest

from tlkeras.artefacts.metadata import describe, embed, read
from tlkeras.errors import ModelError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIDE = 32
LABELS = ["rød", "green", "pale blue"]
FILES = {"labels.txt": "\n".join(LABELS).encode() + b"\n", "LICENSE": b"MIT"}
CONTRACT = {
    "name": "colours",
    "description": "Names the strongest colour",
    "version": "3",
    "author": "tests",
    "licence": "MIT",
    "inputs": {"image": {"name": "image", "description": "A picture", "kind": "image"}},
    "outputs": {"output_0": {"name": "probability", "labels": "labels.txt", "min": 0, "max": 1}},
    "carried": {"along": [1, 2.5, None, "å"]},
}
# Name: quantisation, dtype of input and of output.
KINDS = {
    "float32": ("none", "float32", "float32"),
    "float16": ("float16", "float32", "float32"),
    "dynamic": ("dynamic", "float32", "float32"),
    "int8-float-float": ("int8", "float32", "float32"),
    "int8-uint8-float": ("int8", "uint8", "float32"),
    "int8-uint8-uint8": ("int8", "uint8", "uint8"),
    "int8-int8-int8": ("int8", "int8", "int8"),
    "int8-uint8-int8": ("int8", "uint8", "int8"),
    "bytes": ("none", "uint8", "float32"),  # the graph itself takes uint8 and casts
}
TAKEN = [kind for kind in KINDS if kind not in ("int8-int8-int8", "int8-uint8-int8")]
MEDIAPIPE = os.environ.get("TLKERAS_MEDIAPIPE_PYTHON")


@cache
def pictures() -> np.ndarray:
    """(6, SIDE, SIDE, 3) uint8; of picture i the channel i % 3 is the strongest."""
    pixels = np.random.default_rng(0).integers(0, 150, (6, SIDE, SIDE, 3))
    pixels[np.arange(6), ..., np.arange(6) % 3] += 100
    return pixels.astype("uint8")


def network(dtype="float32"):
    """(B, SIDE, SIDE, 3) RGB in 0..255 to the probability that red, green or blue is the strongest."""
    import keras

    inputs = keras.Input((SIDE, SIDE, 3), dtype=dtype, name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    split = keras.layers.Conv2D(6, 3, padding="same", activation="relu")  # what is above grey, and what below
    join = keras.layers.Conv2D(3, 1)
    head = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(join(split(x)))))
    centre = np.zeros((3, 3, 3, 6), "float32")
    centre[1, 1] = np.hstack([np.eye(3), -np.eye(3)])
    split.set_weights([centre, np.zeros(6)])
    join.set_weights([np.vstack([np.eye(3), -np.eye(3)])[None, None], np.zeros(3)])
    head.set_weights([4 * np.eye(3), np.zeros(3)])
    return model


def convert(model, quantisation="none", given="float32", answered="float32", calibration=None) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantisation != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantisation == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantisation == "int8":
        whole = [*pictures(), np.zeros((SIDE, SIDE, 3)), np.full((SIDE, SIDE, 3), 255)]
        samples = whole if calibration is None else calibration
        converter.representative_dataset = lambda: ([np.float32(sample[None])] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = getattr(tf, given)
        converter.inference_output_type = getattr(tf, answered)
    return converter.convert()


@cache
def converted(kind: str) -> bytes:
    return convert(network("uint8" if kind == "bytes" else "float32"), *KINDS[kind])


@cache
def packed(kind: str) -> bytes:
    return embed(converted(kind), CONTRACT, FILES)


def answers(model: bytes) -> np.ndarray:
    """The output for each picture, as the file gives it. (6, 3)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (given,), (answered,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for picture in pictures():
        interpreter.set_tensor(given["index"], picture[None].astype(given["dtype"]))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(answered["index"])[0])
    return np.array(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_the_interpreter_answers_as_before(kind):
    np.testing.assert_array_equal(answers(packed(kind)), answers(converted(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_read_gives_back_what_embed_was_given(kind):
    assert read(packed(kind)) == (CONTRACT, FILES)


def test_any_zip_reader_finds_the_files_stored_as_they_are():
    with zipfile.ZipFile(io.BytesIO(packed("float32"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt", "LICENSE", "contract.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("labels.txt").decode().splitlines() == LABELS
        assert json.loads(archive.read("contract.json")) == CONTRACT


def test_metadata_says_what_the_contract_says():
    image = {"color_space": 1, "default_size": {"width": SIDE, "height": SIDE}}
    labels = {"name": "labels.txt", "description": "Labels of the last axis, in order", "type": 2}
    assert describe(packed("float32")) == {
        "name": "colours",
        "description": "Names the strongest colour",
        "version": "3",
        "author": "tests",
        "license": "MIT",
        "subgraph_metadata": [
            {
                "input_tensor_metadata": [
                    {
                        "name": "image",
                        "description": "A picture",
                        "content": {"content_properties_type": 2, "content_properties": image},
                        "process_units": [{"options_type": 1, "options": {"mean": [0.0], "std": [1.0]}}],
                        "stats": {"min": [0.0], "max": [255.0]},
                    }
                ],
                "output_tensor_metadata": [
                    {
                        "name": "probability",
                        "content": {"content_properties_type": 1, "content_properties": {}},
                        "stats": {"min": [0.0], "max": [1.0]},
                        "associated_files": [labels],
                    }
                ],
            }
        ],
        "associated_files": [
            {"name": "LICENSE"},
            {"name": "contract.json", "description": "What goes in and what comes out", "type": 1},
        ],
        "min_parser_version": "1.0.0",
    }
    assert describe(converted("float32")) is None


def test_normalisation_gives_the_range_of_the_input():
    inputs = {"image": {"kind": "image", "mean": [127.5, 0, 255], "std": [127.5, 1, 51]}}
    about = describe(embed(converted("float32"), {**CONTRACT, "inputs": inputs}, FILES))
    (given,) = about["subgraph_metadata"][0]["input_tensor_metadata"]
    assert given["process_units"][0]["options"] == {"mean": [127.5, 0.0, 255.0], "std": [127.5, 1.0, 51.0]}
    assert given["stats"] == {"min": [-1.0, 0.0, -5.0], "max": [1.0, 255.0, 0.0]}


def test_the_converters_bytes_are_kept_whole_and_aligned():
    plain = converted("int8-uint8-float")
    at = packed("int8-uint8-float").index(plain)
    assert at % 16 == 0


def test_the_same_arguments_give_the_same_bytes():
    assert embed(converted("float32"), CONTRACT, FILES) == packed("float32")


def test_the_generated_schema_reads_the_new_file_as_the_old_and_one_entry_more():
    from ai_edge_litert import schema_py_generated as schema

    old, new = (schema.ModelT.InitFromObj(schema.Model.GetRootAs(f("float32"))) for f in (converted, packed))
    assert [entry.name for entry in new.metadata] == [*(entry.name for entry in old.metadata), b"TFLITE_METADATA"]
    assert new.metadata[-1].buffer == len(old.buffers) == len(new.buffers) - 1
    assert bytes(new.buffers[-1].data)[4:8] == b"M001"
    for before, after in zip(old.buffers, new.buffers[:-1], strict=True):
        np.testing.assert_array_equal(before.data, after.data)
    assert (new.version, new.description) == (old.version, old.description)
    assert [code.builtinCode for code in new.operatorCodes] == [code.builtinCode for code in old.operatorCodes]
    assert [x.signatureKey for x in new.signatureDefs] == [x.signatureKey for x in old.signatureDefs]


def test_twenty_megabytes_take_little_time_and_memory():
    import keras

    inputs = keras.Input((SIDE, SIDE, 3), name="image")
    outputs = keras.layers.Dense(3)(keras.layers.Dense(1600)(keras.layers.Flatten()(inputs)))
    model = convert(keras.Model(inputs, outputs))
    assert len(model) > 19e6
    tracemalloc.start()
    start = time.perf_counter()
    large = embed(model, CONTRACT, FILES)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 2 and peak < 2 * len(model)
    np.testing.assert_array_equal(answers(large), answers(model))


@cache
def two_outputs() -> bytes:
    import keras

    base = network()
    return convert(keras.Model(base.input, [base.output, keras.layers.Dense(2)(base.output)]))


def test_each_output_gets_its_own_entry_whatever_the_order_in_the_file():
    outputs = {"output_1": {"name": "other"}, "output_0": {"name": "probability", "labels": "labels.txt"}}
    model = embed(two_outputs(), {**CONTRACT, "outputs": outputs}, FILES)
    from ai_edge_litert.interpreter import Interpreter

    shapes = [int(output["shape"][-1]) for output in Interpreter(model_content=model).get_output_details()]
    about = describe(model)["subgraph_metadata"][0]["output_tensor_metadata"]
    assert dict(zip(shapes, [output["name"] for output in about], strict=True)) == {3: "probability", 2: "other"}


def test_an_unknown_tensor_names_the_tensors():
    contract = {**CONTRACT, "outputs": {"output_0": {}, "outptu_1": {}}}
    with pytest.raises(ModelError, match=r"'outptu_1'.*output_0.*Did you mean output_1\?"):
        embed(two_outputs(), contract, FILES)


@pytest.mark.parametrize(
    ("labels", "text"),
    [(b"a\nb\n", "has 2, 0 of them blank"), (b"a\nb\nc\nd", "has 4"), (b"a\n\nc\n", "has 3, 1 of them blank")],
)
def test_labels_that_do_not_fit_the_classes_are_refused(labels, text):
    with pytest.raises(ModelError, match=f"3 classes.*{text}"):
        embed(converted("float32"), CONTRACT, {"labels.txt": labels})


def test_a_labels_file_that_is_not_there_is_named():
    with pytest.raises(ModelError, match=r"'labels.txt' is not among the files: other.txt"):
        embed(converted("float32"), CONTRACT, {"other.txt": b""})


def test_a_uint8_input_that_would_see_pixels_darker_is_refused():
    dark = convert(network(), "int8", "uint8", calibration=pictures() // 2)
    with pytest.raises(ModelError, match=r"reads 0\.\.1\d\d.*all-white image"):
        embed(dark, CONTRACT, FILES)


def test_metadata_is_embedded_once():
    with pytest.raises(ModelError, match="already carries"):
        embed(packed("float32"), CONTRACT, FILES)
    with pytest.raises(ModelError, match=r"contract\.json is written from the contract"):
        embed(converted("float32"), CONTRACT, {**FILES, "contract.json": b"{}"})


def test_a_file_without_a_contract_says_so():
    with pytest.raises(ModelError, match="holds no contract"):
        read(converted("float32"))
    with pytest.raises(ModelError, match="TFL3 at its fifth byte"):
        read(b"PK\x03\x04 and more")


def test_compressed_files_are_refused():
    large = io.BytesIO(converted("float32"))
    with zipfile.ZipFile(large, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("contract.json", b" " * 1_000_000)
    with pytest.raises(ModelError, match="compressed or repeated"):
        read(large.getvalue())


def test_damage_raises_model_errors_only():
    chance, whole = random.Random(0), packed("float32")
    refused = 0
    for _ in range(2000):
        broken = bytearray(whole)
        for _ in range(chance.choice((1, 4, 16))):
            broken[chance.randrange(8, len(broken))] = chance.randrange(256)
        broken = bytes(broken[: chance.choice((len(broken), len(broken), chance.randrange(8, len(broken))))])
        for verb in (read, describe):
            try:
                verb(broken)
            except ModelError:
                refused += 1
    assert refused > 500


CLIENT = """
import json, sys
import mediapipe, numpy
from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
from mediapipe.tasks.python import BaseOptions, vision

def classify(path):
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=path))
    try:
        classifier = vision.ImageClassifier.create_from_options(options)
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        return str(error)
    with classifier:
        return [answer(classifier, picture) for picture in numpy.load(sys.argv[1])]

def answer(classifier, picture):
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
    (head,) = classifier.classify(image).classifications
    return {"head": head.head_name, "scores": {x.category_name: x.score for x in head.categories}}

print(json.dumps({path: classify(path) for path in sys.argv[2:]}))
"""


@pytest.fixture(scope="module")
def mediapipe_answers(tmp_path_factory):
    """What MediaPipe says of each kind of file: a list of answers, or the text of its error."""
    folder = tmp_path_factory.mktemp("mediapipe")
    np.save(folder / "pictures.npy", pictures())
    for kind in KINDS:
        (folder / f"{kind}.tflite").write_bytes(packed(kind))
    command = [MEDIAPIPE, "-c", CLIENT, "pictures.npy", *(f"{kind}.tflite" for kind in KINDS)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {path.removesuffix(".tflite"): said for path, said in json.loads(done.stdout).items()}


needs_mediapipe = pytest.mark.skipif(not MEDIAPIPE, reason="TLKERAS_MEDIAPIPE_PYTHON names no Python with mediapipe")


@needs_mediapipe
@pytest.mark.mediapipe
@pytest.mark.parametrize("kind", TAKEN)
def test_mediapipe_gives_the_right_labels_and_the_interpreters_scores(kind, mediapipe_answers):
    said = mediapipe_answers[kind]
    assert [next(iter(picture["scores"])) for picture in said] == [LABELS[i % 3] for i in range(6)], said
    assert {picture["head"] for picture in said} == {"probability"}
    expected = answers(converted(kind)) / (256 if kind.endswith("uint8-uint8") else 1)
    scores = [[picture["scores"][label] for label in LABELS] for picture in said]
    np.testing.assert_allclose(scores, expected, atol=1 / 256 if kind.startswith("int8") else 1e-4)


@needs_mediapipe
@pytest.mark.mediapipe
def test_mediapipe_takes_no_int8_tensors(mediapipe_answers):
    assert "uint8/float32, got INT8" in mediapipe_answers["int8-int8-int8"]
    assert "UINT8 or FLOAT32 or BOOL, found INT8" in mediapipe_answers["int8-uint8-int8"]
