"""TFLite Model Metadata: what a .tflite file says of its tensors, with the labels and the contract inside.

Two things are added to the file the converter wrote: a buffer called TFLITE_METADATA, which holds a
ModelMetadata flatbuffer (identifier M001), and behind the model an uncompressed zip with the files that
the metadata names. An interpreter sees neither. Sources: metadata_schema.fbs 1.5.0 of MediaPipe and
schema.fbs of TensorFlow Lite, of which `SCHEMA` keeps the names and numbers that are used here.

Of a contract, `embed` looks at these keys and carries the rest as it is:
    name, description, version, author, licence: text
    inputs: {tensor: {name, description, kind, mean, std, min, max}}; kind 'image' means RGB, and what the
        tensor expects is (pixel - mean) / std with pixels in 0..255; 0 and 1 unless stated
    outputs: {tensor: {name, description, labels, min, max}}; `labels` names a file with one label a line
A tensor is called what the file's signature calls it; where there is only one, any name will do.

What MediaPipe 1.2's ImageClassifier asks for: one subgraph; one input [1, height, width, 3] of float32 or
uint8 (never int8), float32 with a normalisation that is the same for all channels; outputs of float32 or
uint8 (never int8). It squashes the whole image to the input's size, and writes pixels into a uint8 input as
they are, without looking at its scale.
"""

import io
import json
import struct
import zipfile
from contextlib import contextmanager

import flatbuffers
import numpy as np
from flatbuffers import number_types as N
from flatbuffers.table import Table

from tlkeras.errors import ModelError, nearest

CONTRACT = "contract.json"
BUFFER = "TFLITE_METADATA"

# Tables of the two schemas, fields in the order of their numbers. [x] is a vector of x; a union stands behind
# the field with its type; 'offset' is something that is carried along and never read.
TABLES = {
    "ModelMetadata": "name:string description:string version:string subgraph_metadata:[SubGraphMetadata] author:string"
    " license:string associated_files:[AssociatedFile] min_parser_version:string",
    "SubGraphMetadata": "name:string description:string input_tensor_metadata:[TensorMetadata]"
    " output_tensor_metadata:[TensorMetadata]",
    "TensorMetadata": "name:string description:string dimension_names:[string] content:Content"
    " process_units:[ProcessUnit] stats:Stats associated_files:[AssociatedFile]",
    "Content": "content_properties_type:ubyte content_properties:ContentProperties",
    "FeatureProperties": "",
    "ImageProperties": "color_space:byte default_size:ImageSize",
    "ImageSize": "width:uint height:uint",
    "ProcessUnit": "options_type:ubyte options:ProcessUnitOptions",
    "NormalizationOptions": "mean:[float] std:[float]",
    "Stats": "max:[float] min:[float]",
    "AssociatedFile": "name:string description:string type:byte",
    "Model": "version:uint operator_codes:offset subgraphs:[SubGraph] description:offset buffers:[Buffer]"
    " metadata_buffer:offset metadata:[Metadata] signature_defs:[SignatureDef] external_buffer_groups:offset"
    " external_buffers:offset",
    "SubGraph": "tensors:[Tensor] inputs:[int] outputs:[int]",
    "Tensor": "shape:[int] type:byte buffer:uint name:string quantization:Quantization",
    "Quantization": "min:[float] max:[float] scale:[float] zero_point:[long]",
    "Buffer": "data:offset offset:ulong",
    "Metadata": "name:string buffer:uint",
    "SignatureDef": "inputs:[TensorMap] outputs:[TensorMap]",
    "TensorMap": "name:string tensor_index:uint",
}
SCHEMA = {table: dict(field.split(":") for field in fields.split()) for table, fields in TABLES.items()}
UNIONS = {
    "ContentProperties": (None, "FeatureProperties", "ImageProperties"),
    "ProcessUnitOptions": (None, "NormalizationOptions"),
}
SCALARS = {"byte": N.Int8Flags, "ubyte": N.Uint8Flags, "int": N.Int32Flags, "uint": N.Uint32Flags}
SCALARS |= {"long": N.Int64Flags, "ulong": N.Uint64Flags, "float": N.Float32Flags}
UINT8, RGB = 3, 1  # of the enums TensorType and ColorSpaceType
DESCRIPTIONS, AXIS_LABELS = 1, 2  # of the enum AssociatedFileType
FEATURES = {"content_properties_type": 1, "content_properties": {}}


def embed(model: bytes, contract: dict, files: dict[str, bytes]) -> bytes:
    """Returns the .tflite file `model` with metadata, with `files` by name, and with `contract` as contract.json.

    `model` is the file as the converter wrote it; its bytes are kept whole, so that what the interpreter
    computes cannot change. The same arguments give the same bytes.

    Raises:
        ModelError: when `model` is no TFLite file or carries metadata already, the contract names a tensor or
            a labels file that is not there, labels do not number the output's classes, or a uint8 image input
            has a scale that pixels do not fit.
    """
    if CONTRACT in files:
        raise ModelError(f"{CONTRACT} is written from the contract, so that the two agree; leave it out of the files.")
    about = _model(model)
    if any(entry.get("name") == BUFFER for entry in about.get("metadata", ())) or _archive(model):
        raise ModelError(f"The model already carries {BUFFER} or files. Embed into the file as the converter wrote it.")
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, "ModelMetadata", _metadata(about, contract, files)), b"M001")
    packed = io.BytesIO()
    with _intact():
        packed.write(_head(model, bytes(builder.Output())))
    packed.write(model)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:  # MediaPipe reads stored entries only
        for name, data in {**files, CONTRACT: json.dumps(contract, ensure_ascii=False, indent=1).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # ZipInfo's date is 1980, whatever the clock says
    return packed.getvalue()


def read(model: bytes) -> tuple[dict, dict[str, bytes]]:
    """Returns the contract and the files that `embed` put into a .tflite file; nothing is written to disk.

    Raises:
        ModelError: when the file is no TFLite file, holds no contract, or its archive is broken or compressed.
    """
    _root(model)
    archive = _archive(model)
    if not archive:
        raise ModelError("The .tflite file holds no contract: no archive follows it. Write it with: tlkeras export")
    entries = archive.infolist()
    # 0x800 marks UTF-8 names. Entries of a hostile file may overlap: stored once, they cannot exceed the file.
    packed = any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ~0x800 for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > len(model):
        raise ModelError("Files in a .tflite must be stored as they are; here they are compressed or repeated.")
    try:
        files = {entry.filename: archive.read(entry) for entry in entries}
        contract = json.loads(files.pop(CONTRACT))
    except KeyError:
        raise ModelError(f"The .tflite file holds no {CONTRACT}, only: {', '.join(files) or 'nothing'}.") from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise ModelError(f"The archive behind the model is broken ({error}). Export the file again.") from error
    if not isinstance(contract, dict):
        raise ModelError(f"{CONTRACT} must hold an object, and holds a {type(contract).__name__}.")
    return contract, files


def describe(model: bytes) -> dict | None:
    """Returns the ModelMetadata of a .tflite file as nested dicts by the schema's names, or None when it has none.

    Raises:
        ModelError: when the file is no TFLite file or its tables point outside it.
    """
    index = [entry.get("buffer", 0) for entry in _model(model).get("metadata", ()) if entry.get("name") == BUFFER]
    if not index:
        return None
    with _intact():
        buffer = Table(model, _positions(Table(model, _root(model)), "buffers")[index[0]])
        start, length = buffer.Vector(buffer.Offset(4)), buffer.VectorLen(buffer.Offset(4))
        data = model[start : start + length]
        return _unpack(data, struct.unpack_from("<I", data)[0], "ModelMetadata")


def _metadata(about: dict, contract: dict, files: dict[str, bytes]) -> dict:
    """ModelMetadata by the schema's names, from what the model is and what the contract says of it."""
    inputs = [_input(tensor, asked) for tensor, asked in _asked(about, "inputs", contract)]
    outputs = [_output(tensor, asked, files) for tensor, asked in _asked(about, "outputs", contract)]
    of_tensors = {file["name"] for output in outputs for file in output["associated_files"]}
    rest = [{"name": name} for name in files if name not in of_tensors]
    rest.append({"name": CONTRACT, "description": "What goes in and what comes out", "type": DESCRIPTIONS})
    return {
        **{key: contract.get(key) for key in ("name", "description", "version", "author")},
        "license": contract.get("licence"),
        "subgraph_metadata": [{"input_tensor_metadata": inputs, "output_tensor_metadata": outputs}],
        "associated_files": rest,
        "min_parser_version": "1.0.0",  # the schema in which all fields used here were there
    }


def _asked(about: dict, side: str, contract: dict) -> list[tuple[dict, dict]]:
    """Pairs each input or output tensor, in the file's order, with what the contract says of it ({} for nothing)."""
    graph, asked = about["subgraphs"][0], dict(contract.get(side, {}))
    signature = (about.get("signature_defs") or [{}])[0].get(side, ())
    names = {entry.get("tensor_index", 0): entry.get("name", "") for entry in signature}
    tensors = [{**graph["tensors"][i], "name": names.get(i, graph["tensors"][i].get("name", ""))} for i in graph[side]]
    if len(tensors) == len(asked) == 1:
        return [(tensors[0], *asked.values())]
    have = [tensor["name"] for tensor in tensors]
    if unknown := [name for name in asked if name not in have]:
        raise ModelError(
            f"The contract's {side} name {unknown[0]!r}, which the model does not have."
            f" It has: {' '.join(have)}.{nearest(unknown[0], have)}"
        )
    return [(tensor, asked.get(tensor["name"], {})) for tensor in tensors]


def _input(tensor: dict, asked: dict) -> dict:
    """TensorMetadata of an input; its stats are the range that pixels come to, unless the contract says another."""
    about = {"name": asked.get("name", tensor["name"]), "description": asked.get("description")}
    if asked.get("kind") != "image":
        return {**about, "content": FEATURES, "stats": _stats(asked)}
    mean, std = _floats(asked.get("mean", 0.0)), _floats(asked.get("std", 1.0))
    if len(tensor.get("shape", ())) != 4 or min(tensor["shape"]) < 1:
        raise ModelError(f"An image input is (1, height, width, 3); {tensor['name']!r} is {tensor.get('shape', [])}.")
    if len(mean) != len(std) or len(mean) not in (1, 3) or 0.0 in std:
        raise ModelError(f"Mean and std of an image are 1 or 3 numbers each, std not 0; received {mean} and {std}.")
    if tensor.get("type") == UINT8:
        _pixels_fit(tensor, mean, std)
        low, high = [0.0], [255.0]
    else:
        low, high = ([(x - m) / s for m, s in zip(mean, std, strict=True)] for x in (0.0, 255.0))
    image = {"color_space": RGB, "default_size": {"width": tensor["shape"][2], "height": tensor["shape"][1]}}
    return {
        **about,
        "content": {"content_properties_type": 2, "content_properties": image},
        "process_units": [{"options_type": 1, "options": {"mean": mean, "std": std}}],
        "stats": _stats({"min": low, "max": high, **asked}),
    }


def _pixels_fit(tensor: dict, mean: list[float], std: list[float]) -> None:
    """Checks that pixels written into a uint8 input unscaled mean what the contract says, to one grey level.

    Nothing fails otherwise: a model calibrated on dark images has a scale below 1, and would see every image darker.
    """
    quantization = tensor.get("quantization", {})
    if not quantization.get("scale"):
        return  # the graph itself takes bytes, and casts them
    scale, zero = quantization["scale"][0], (quantization.get("zero_point") or [0])[0]
    for m, s in zip(mean, std, strict=True):
        low, high = (scale * (x - zero) * s + m for x in (0, 255))
        if abs(low) > 1.0 or abs(high - 255.0) > 1.0:
            raise ModelError(
                f"A uint8 image input must read pixels 0..255 as 0..255; with scale {scale:.6g} and zero point {zero}"
                f" it reads {low:.4g}..{high:.4g}. Add an all-black and an all-white image to the calibration."
            )


def _output(tensor: dict, asked: dict, files: dict[str, bytes]) -> dict:
    """TensorMetadata of an output, with its labels if it has any."""
    labelled, name = [], asked.get("labels")
    if name is not None:
        if name not in files:
            raise ModelError(f"The labels file {name!r} is not among the files: {', '.join(files) or 'none'}.")
        labels, classes = files[name].decode().removesuffix("\n").split("\n"), (tensor.get("shape") or [1])[-1]
        if len(labels) != classes or not all(map(str.strip, labels)):
            blank = sum(not label.strip() for label in labels)
            raise ModelError(
                f"Output {tensor['name']!r} has {classes} classes and takes one label a line;"
                f" {name} has {len(labels)}, {blank} of them blank."
            )
        labelled = [{"name": name, "description": "Labels of the last axis, in order", "type": AXIS_LABELS}]
    return {
        "name": asked.get("name", tensor["name"]),
        "description": asked.get("description"),
        "content": FEATURES,
        "stats": _stats(asked),
        "associated_files": labelled,
    }


def _stats(asked: dict) -> dict | None:
    return {key: _floats(asked[key]) for key in ("min", "max") if key in asked} or None


def _floats(value) -> list[float]:
    return [float(x) for x in value] if isinstance(value, list | tuple) else [float(value)]


def _head(model: bytes, metadata: bytes) -> bytes:
    """Returns a new Model table to stand before the bytes of `model`, with one buffer and one metadata entry more.

    A flatbuffer's offsets only point forward, so a table in front can refer to all that is in the old file.
    Packing the whole model anew with the generated Python classes runs too, but drops fields that only a newer
    converter knows, and takes 8 times as long and 4 times the memory (20 MB: 0.17 s and 93 MB).
    """
    old = Table(model, _root(model))
    fields = list(SCHEMA["Model"])
    known = (old.Get(N.Uint16Flags, old.Pos - old.Get(N.Int32Flags, old.Pos)) - 4) // 2  # the length of its vtable
    if known > len(fields):
        raise ModelError(f"The .tflite's Model table has {known} fields; tlkeras knows {len(fields)}. Update tlkeras.")
    builder = flatbuffers.Builder(len(metadata) + 4096)
    # 16 as the schema asks of buffers. It makes the head a multiple of 16, so what follows stays aligned as it was.
    builder.StartVector(1, len(metadata), 16)
    for byte in reversed(metadata):
        builder.PrependByte(byte)
    data = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, data, 0)
    buffer = builder.EndObject()
    # The builder counts offsets from its end backwards; a position behind that end is therefore negative.
    buffers = [-at for at in _positions(old, "buffers")]
    entries = [-at for at in _positions(old, "metadata")]
    entries.append(_write(builder, "Metadata", {"name": BUFFER, "buffer": len(buffers)}))
    new = {"buffers": _references(builder, [*buffers, buffer]), "metadata": _references(builder, entries)}
    builder.StartObject(len(fields))
    builder.PrependUint32Slot(0, old.GetSlot(4, 0, N.Uint32Flags), 0)
    for slot, field in enumerate(fields[1:], start=1):
        at = old.Offset(4 + 2 * slot)
        builder.PrependUOffsetTRelativeSlot(slot, new.get(field, -old.Indirect(old.Pos + at) if at else 0), 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def _root(model: bytes) -> int:
    if model[4:8] != b"TFL3":
        raise ModelError(f"A .tflite file has TFL3 at its fifth byte; this one has {bytes(model[4:8])!r}.")
    return struct.unpack_from("<I", model)[0]


def _model(model: bytes) -> dict:
    """What a .tflite file says of itself, without its operators and weights."""
    root = _root(model)
    with _intact():
        about = _unpack(model, root, "Model")
        graph = about["subgraphs"][0]
        [graph["tensors"][i] for i in (*graph["inputs"], *graph["outputs"])]
    if any(buffer.get("offset", 0) > 1 for buffer in about.get("buffers", ())):
        raise ModelError("The .tflite file keeps weights behind the flatbuffer (above 2 GB); it cannot take metadata.")
    return about


@contextmanager
def _intact():
    """Turns what reading outside a flatbuffer raises into the error of a broken file."""
    try:
        yield
    except (struct.error, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The .tflite file is broken, its tables point astray ({error!r}). Export again.") from error


def _archive(model: bytes) -> zipfile.ZipFile | None:
    try:
        return zipfile.ZipFile(io.BytesIO(model))
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # the last two for odd versions and offsets
        return None


def _positions(model: Table, field: str) -> list[int]:
    """Where in the file the tables of a vector of the Model table stand."""
    at = model.Offset(4 + 2 * list(SCHEMA["Model"]).index(field))
    return [model.Indirect(model.Vector(at) + 4 * i) for i in range(model.VectorLen(at))] if at else []


def _references(builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _write(builder, table: str, value: dict) -> int:
    """Writes a dict as a table of the schema, children first, and returns its offset; None is left out."""
    fields = {name: kind for name, kind in SCHEMA[table].items() if value.get(name) is not None}
    cells = {}
    for name, kind in fields.items():
        item = value[name]
        kind = UNIONS[kind][value[f"{name}_type"]] if kind in UNIONS else kind
        if kind == "string":
            cells[name] = builder.CreateString(item)
        elif kind in SCALARS:
            cells[name] = item
        elif kind == "[float]":
            cells[name] = builder.CreateNumpyVector(np.array(item, "float32"))
        elif kind.startswith("["):
            cells[name] = _references(builder, [_write(builder, kind[1:-1], x) for x in item])
        else:
            cells[name] = _write(builder, kind, item)
    builder.StartObject(len(SCHEMA[table]))
    for slot, (name, kind) in enumerate(SCHEMA[table].items()):
        if name in cells and kind in SCALARS:
            builder.PrependSlot(SCALARS[kind], slot, cells[name], 0)
        elif name in cells:
            builder.PrependUOffsetTRelativeSlot(slot, cells[name], 0)
    return builder.EndObject()


def _unpack(buf: bytes, position: int, table: str) -> dict:
    """Reads a table of the schema as a dict; fields that are absent (or at their default of 0) are left out."""
    here, value = Table(buf, position), {}

    def item(kind: str, at: int):
        if kind == "string":
            return here.String(at).decode()
        return here.Get(SCALARS[kind], at) if kind in SCALARS else _unpack(buf, here.Indirect(at), kind)

    for slot, (name, kind) in enumerate(SCHEMA[table].items()):
        at = here.Offset(4 + 2 * slot)
        if kind in UNIONS:
            types = UNIONS[kind]
            kind = types[value[f"{name}_type"]] if value.get(f"{name}_type", 0) in range(1, len(types)) else "offset"
        if not at or kind == "offset":
            continue
        if kind.startswith("["):
            inner = kind[1:-1]
            step = SCALARS[inner].bytewidth if inner in SCALARS else 4
            value[name] = [item(inner, here.Vector(at) + step * i) for i in range(here.VectorLen(at))]
        else:
            value[name] = item(kind, here.Pos + at)
    return value
