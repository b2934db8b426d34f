"""TFLite (LiteRT): uint8 pixels, tokens or samples of sound in, scores out, builtin operators only, labels and contract inside the file.

    tflite           float32                         tflite-dynamic   int8 weights, float32 arithmetic
    tflite-float16   float16 weights                 tflite-int8      int8 throughout, calibrated on training images

Three things the converter does not refuse and we do: operators of TensorFlow itself ("Flex"), which no stock
interpreter runs; custom operators; and an "int8" file that computes in float.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlkeras import detectors, tasks
from tlkeras.artefacts import ctc_client
from tlkeras.detectors import decode_client
from tlkeras.errors import GateError, ModelError, missing_extra
from tlkeras.progress import quiet_descriptor

FILE = "model.tflite"
INT8 = "tflite-int8"
LOCATIONS = "locations.npy"  # beside a detector that is decoded by its client
TOKENS = {
    "token_ids": "Numbers of the tokens, as tokenizer.py gives them.",
    "padding_mask": "1 where a token stands, 0 behind the last.",
    "segment_ids": "0 for tokens of the first text, 1 for those of the second.",
    "samples": "One channel of sound, -1..1, silence behind.",
    "count": "How many of the samples are sound.",
}


def write(trained, contract: dict, folder: Path, calibration=None) -> Path:
    """Writes folder/model.tflite; `calibration` yields uint8 (h, w, 3) images (tflite-int8 only).

    Raises:
        GateError: when the network cannot be expressed in builtin operators; the text names what is in the way.
    """
    from tlkeras.artefacts import metadata

    apart = _taken_apart(trained, contract["format"])
    model = _convert(trained, contract, calibration, apart and apart[0])
    refuse_custom_operators(model, contract["format"])
    outputs, files = _outputs(trained, apart), {}
    for name, classes in _labels(trained).items():
        files[name] = ("\n".join(classes) + "\n").encode()
    if apart:
        np.save(folder / LOCATIONS, apart[1])
    if apart or _letterboxed(trained.answer):
        shutil.copyfile(decode_client.__file__, folder / "decode.py")
    names = {
        "name": contract["name"],
        "version": contract["tlkeras"],
        "licence": contract["licence"],
        "description": f"{contract['task']} with {contract['backbone']}",
    }
    if contract["input"]["kind"] == "text":
        inputs = {name: {"name": name, "description": TOKENS[name]} for name in contract["input"]["tensors"]}
        _write_tokenizer(trained, contract, folder)
    elif contract["input"]["kind"] == "audio":
        rate = contract["input"]["rate"]
        inputs = {n: {"name": n, "description": f"{TOKENS[n]} {rate} Hz."} for n in contract["input"]["tensors"]}
        if hasattr(trained.task, "symbols"):
            shutil.copyfile(ctc_client.__file__, folder / "decode.py")
    else:
        size = "x".join(map(str, contract["input"]["size"]))
        inputs = {"pixels": {"name": "pixels", "kind": "image", "description": f"RGB, {size}, 0..255."}}
    path = folder / FILE
    described = {**contract, **names, "inputs": inputs, "outputs": outputs}
    try:
        path.write_bytes(metadata.embed(model, described, files))
    except ModelError as e:
        raise GateError(f"{contract['format']}: {e}") from e
    return path


def _taken_apart(trained, form: str):
    """Of a detector in int8 the network up to its offsets and scores, and its locations; else None. Eight bits hold
    each of the two, but not both in one range, and no sum over boxes."""
    if form != INT8 or tasks.annotations(trained.config.task_name) != "boxes":
        return None
    return detectors.parts(trained.answer["detector"], trained.network.model)


def _letterboxed(answer: dict) -> bool:
    """Whether places in what the network sees are to be taken back to the picture."""
    return "letterbox" in answer or any(map(_letterboxed, (one["answer"] for one in answer.get("tasks", {}).values())))


def _labels(trained) -> dict[str, list[str]]:
    """The files of classes, a name a line."""
    if "tasks" not in trained.answer:
        if hasattr(trained.task, "symbols"):
            return {"labels.txt": trained.task.symbols(trained.answer)}
        return {"labels.txt": classes} if (classes := trained.answer.get("classes")) else {}
    members = trained.task.described(trained.answer).values()
    return {f"{m}_labels.txt": one["classes"] for m, _, one in members if one.get("classes")}


def _outputs(trained, apart) -> dict:
    """What the outputs are, for the metadata."""
    if "tasks" in trained.answer:
        members = trained.task.described(trained.answer).items()
        return {name: _output(name, task, one, f"{m}_labels.txt") for name, (m, task, one) in members}
    if apart:
        return {
            "offsets": {"name": "offsets", "description": f"Read by decode.py, with {LOCATIONS}."},
            "scores": {"name": "scores", "description": "One number per class.", "labels": "labels.txt"},
        }
    found = _output(trained.task.OUTPUT, trained.config.task_name, trained.answer, "labels.txt")
    if hasattr(trained.task, "symbols"):
        found["description"] = "Logarithms of how likely each symbol is, frame by frame; the last is CTC's blank."
    return {trained.task.OUTPUT: found}


def _output(name: str, task: str, answer: dict, labels: str) -> dict:
    """What one output is; `labels` names the file of its classes."""
    places = tasks.annotations(task)
    said = {
        "boxes": "Rows of x0, y0, x1, y1 as parts of the image, the number of the class, and the score; -1 behind the last.",
        "masks": "The number of the class of each pixel.",
        None: "One number per class." if answer.get("classes") else "Values in the unit of the data.",
    }
    output = {"name": name, "description": said[places]}
    if answer.get("classes") and places is None:
        output["labels"] = labels
    return output


def _write_tokenizer(trained, contract: dict, folder: Path) -> None:
    """Writes tokenizer.json and, beside it, the client that turns text into ids with it."""
    import json

    from tlkeras.artefacts import tokenizer_client, tokenizer_file

    tokens = replace(trained.network.input, length=contract["input"]["length"])
    facts = tokenizer_file.describe(trained.network.reader.tokenizer, tokens)
    (folder / "tokenizer.json").write_text(json.dumps(facts, ensure_ascii=False), "utf8")
    shutil.copyfile(tokenizer_client.__file__, folder / "tokenizer.py")


def _convert(trained, contract: dict, calibration, apart=None) -> bytes:
    """The file as the converter writes it; `apart` is the network to write instead, with its outputs as they are."""
    import tempfile

    import tensorflow as tf

    from tlkeras.artefacts import saved_model

    model, task, answer, form = trained.network.model, trained.task, trained.answer, contract["format"]
    if form == INT8 and "tasks" in answer and tasks.on_places(task, answer):
        raise GateError(
            f"{form}: 8 bits do not hold the places of boxes and masks beside each other in one range. Leave this format out, or train the task alone."
        )
    if hasattr(task, "judged") or hasattr(task, "respond"):
        raise GateError(
            f"{form}: a network that writes text, word after word, fits a SavedModel only. Leave this format out."
        )
    if contract["input"]["kind"] == "text":
        if form == INT8:
            raise GateError(
                f"{form}: numbers of tokens cannot be quantised, and the layers of a transformer lose too much. Use tflite-dynamic."
            )
        shape = [1, contract["input"]["length"]]
        specs = [tf.TensorSpec(shape, tf.int32, name=name) for name in contract["input"]["tensors"]]
    elif contract["input"]["kind"] == "audio":
        if form == INT8:
            raise GateError(
                f"{form}: samples of sound need more than 8 bits: what is 48 dB below the loudest would be gone. Use tflite-dynamic."
            )
        specs = [tf.TensorSpec([1, contract["input"]["length"]], tf.float32, name="samples")]
        if "count" in contract["input"]["tensors"]:
            specs.insert(0, tf.TensorSpec([1], tf.int32, name="count"))
    else:
        # The converter itself turns a float input into a uint8 one when everything is quantised; a cast in the
        # graph would leave that file computing in float.
        size = contract["input"]["size"]
        specs = [tf.TensorSpec([1, *size, 3], tf.float32 if form == INT8 else tf.uint8, name="pixels")]

    @tf.function(input_signature=specs, autograph=False)
    def forward(*given):
        x = {spec.name: x for spec, x in zip(specs, given, strict=True)}
        if list(x) in (["pixels"], ["samples"]):
            x = tf.cast(given[0], tf.float32)
        if apart is not None:
            return dict(zip(("offsets", "scores"), apart(x, training=False), strict=True))
        found = task.finish(model(x, training=False), answer)
        return task.named(found, answer) if hasattr(task, "named") else {task.OUTPUT: found}

    with tempfile.TemporaryDirectory() as folder:
        saved_model.save(model, folder, serving_default=forward)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if form != "tflite":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form == "tflite-float16":
            converter.target_spec.supported_types = [tf.float16]
        if form == INT8:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: _examples(calibration, size)
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        try:
            with quiet_descriptor():
                return converter.convert()
        except Exception as e:  # the converter raises bare Exception and several private classes
            raise GateError(
                f"{form}: the network cannot be converted to builtin operators.\n  {_short(e)}\nLeave this format out of `export`, or choose another backbone."
            ) from e


def _examples(images, size):
    """Float images for calibration. One pixel of the first is black and one white, so that the input's range
    is 0..255 and its uint8 values are the pixels themselves."""
    for n, image in enumerate(
        images if images is not None else np.random.default_rng(0).integers(0, 256, (8, *size, 3))
    ):
        image = np.array(image, np.float32)
        if n == 0:
            image[0, 0], image[0, 1] = 0.0, 255.0
        yield [image[None]]


def _short(error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "op" in line.lower() and ("not" in line or "Flex" in line or "custom" in line)]
    return (telling or lines or [type(error).__name__])[0][:300]


def refuse_custom_operators(model: bytes, form: str) -> None:
    """Looks at every operator of a .tflite file without running it.

    Raises:
        GateError: for Flex and custom operators; for tflite-int8 also when convolutions or products are float.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as e:
        raise missing_extra("ai-edge-litert", "tflite") from e

    flat = schema.Model.GetRootAsModel(model, 0)
    codes = [flat.OperatorCodes(i) for i in range(flat.OperatorCodesLength())]
    if custom := sorted({c.CustomCode().decode() for c in codes if c.CustomCode()}):
        raise GateError(
            f"{form}: the file needs operators that the stock interpreter does not have: {', '.join(custom)}. Leave this format out of `export`, or choose another backbone."
        )
    if form != INT8:
        return
    builtin = schema.BuiltinOperator
    heavy = {builtin.CONV_2D, builtin.DEPTHWISE_CONV_2D, builtin.FULLY_CONNECTED, builtin.BATCH_MATMUL}
    graph = flat.Subgraphs(0)
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        code = codes[op.OpcodeIndex()]
        if (
            max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) in heavy
            and graph.Tensors(op.Inputs(0)).Type() == schema.TensorType.FLOAT32
        ):
            raise GateError(
                f"{form}: operator {i} computes in float32, so the file is not int8 throughout. Use tflite-dynamic for this network."
            )


def load(folder: Path, threads: int | None = None):
    """Returns `f(arrays by name of the input, (n, ...)) -> {name: float array}` that runs the artefact in ai-edge-litert.

    Raises:
        MachineError: when ai-edge-litert is not installed.
    """
    from tlkeras.artefacts import metadata

    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as e:
        raise missing_extra("ai-edge-litert", "tflite") from e

    locations = np.load(folder / LOCATIONS, allow_pickle=False) if (folder / LOCATIONS).is_file() else None
    facts = metadata.read((folder / FILE).read_bytes())[0]["answer"] if locations is not None else {}
    interpreter = Interpreter(model_path=str(folder / FILE), num_threads=threads)
    signature = interpreter.get_signature_runner()
    details = signature.get_output_details()

    def run(batch):
        n = len(next(iter(batch.values())))
        rows = [signature(**{name: x[i : i + 1] for name, x in batch.items()}) for i in range(n)]
        out = {}
        for name, detail in details.items():
            scale, zero = detail["quantization"]
            values = np.concatenate([row[name] for row in rows]).astype(np.float32)
            out[name] = (values - zero) * scale if scale else values
        return out if locations is None else {"detections": _decoded(locations, facts, out)}

    return run


def _decoded(locations, facts: dict, out: dict) -> np.ndarray:
    """What decode.py makes of each sample, (n, most, 6), as `finish` gives it."""
    limits = {key: facts[key] for key in ("most", "iou", "least_score")}
    found = np.full((len(out["scores"]), facts["most"], 6), -1, np.float32)
    found[:, :, 5] = 0
    for row, offsets, scores in zip(found, out["offsets"], out["scores"], strict=True):
        boxes = decode_client.decode(locations, offsets, scores, **limits)
        row[: len(boxes)] = boxes
    return found
