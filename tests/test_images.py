"""Bytes to pixels: every format as Pillow reads it, the same everywhere, and nothing that harms the process.

Also what comes behind decoding: resizing to a backbone's contract and its scaling inside the model.
"""

import io
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import hostile_images as hostile
import numpy as np
import pytest
from PIL import Image, ImageOps

from tlkeras.backbones import Pixels
from tlkeras.data import images

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

HERE = Path(__file__).parent

# Pillow reads these in another way: it clips 16 bits, does not scale the transparent grey of few bits, and
# fills what the first frame of a GIF leaves free with the first colour. They have tests of their own.
OTHERWISE_IN_PILLOW = {
    *("sixteen-bit.png", "sixteen-bit-alpha.png", "grey2-transparent.png"),
    *("text-before-transparency.png", "small-first-frame.gif"),
}


def decode(contents: bytes) -> np.ndarray:
    return images.decode(contents).numpy()


def as_pillow_reads_it(contents: bytes) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    if image.mode == "CMYK":
        return np.array(image.convert("RGB"))
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.array(white.convert("RGB"))


def in_a_process(code: str, *arguments, timeout: float = 300) -> str:
    """Runs Python code in a fresh process that finds tlkeras and the tests; returns what it prints."""
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("name", sorted(hostile.GOOD.keys() - OTHERWISE_IN_PILLOW))
def test_pixels_are_those_that_pillow_reads(name):
    contents = hostile.GOOD[name]()
    ours, pillows = decode(contents), as_pillow_reads_it(contents)
    assert ours.dtype == np.uint8 and ours.shape == pillows.shape
    # Bit for bit with the builds of the day. JPEG and lossy WebP may differ where libraries do.
    few = 2 if name.endswith((".jpg", ".jpeg", ".JPG", ".webp")) else 0
    assert np.abs(ours.astype(int) - pillows).max() <= few


def test_sixteen_bits_are_scaled_not_clipped():
    ours = decode(hostile.GOOD["sixteen-bit.png"]())[0, :, 0].astype(float)
    assert np.abs(ours - np.array(hostile.SIXTEEN_BIT) / 257).max() <= 1
    colour, alpha = np.array([1000, 40000, 65535]) / 257, 33000 / 65535
    ours = decode(hostile.GOOD["sixteen-bit-alpha.png"]())[0, 0]
    assert np.abs(ours - (colour * alpha + 255 * (1 - alpha))).max() <= 1.5


@pytest.mark.parametrize("name", ["grey2-transparent.png", "text-before-transparency.png"])
def test_transparent_grey_of_two_bits_becomes_white(name):
    rows = np.frombuffer(hostile._rows(16, 4, 2), np.uint8).reshape(4, 5)[:, 1:]
    grey = (rows[:, :, None] >> np.array([6, 4, 2, 0]) & 3).reshape(4, 16)
    expected = np.where(grey == 2, 255, grey * 85)
    np.testing.assert_array_equal(decode(hostile.GOOD[name]()), np.repeat(expected[:, :, None], 3, 2))


def test_first_frame_of_a_gif_stands_at_its_place_on_white():
    ours = decode(hostile.GOOD["small-first-frame.gif"]())
    assert ours.shape == (90, 100, 3)
    frame = np.array(hostile.picture().quantize(64).convert("RGB"))
    np.testing.assert_array_equal(ours[7:59, 5:73], frame)
    rest = np.ones((90, 100), bool)
    rest[7:59, 5:73] = False
    assert (ours[rest] == 255).all()


def test_alpha_over_white_is_pillows_for_every_colour_and_alpha():
    from tlkeras.data import formats

    colour, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack([colour, colour[::-1], colour.T, alpha], 2)
    white = Image.new("RGBA", (256, 256), "white")
    white.alpha_composite(Image.fromarray(rgba))
    np.testing.assert_array_equal(formats.over_white(tf.constant(rgba)), np.array(white.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_all_eight_orientations_come_out_upright(orientation, order):
    ours = decode(hostile.turned(orientation, order))
    assert ours.shape == (52, 68, 3)
    assert np.abs(ours.astype(int) - np.array(hostile.picture())).mean() < 3


def test_damaged_exif_leaves_the_picture_as_it_is():
    plain = hostile.GOOD["colour.jpg"]()
    right = hostile.exif(6)
    broken = {
        "orientation 9": hostile.exif(9),
        "orientation 0": hostile.exif(0),
        "no byte order": right.replace(b"II*\0", b"XX*\0"),
        "directory behind the end": right.replace(struct.pack("<I", 8), struct.pack("<I", 2**32 - 9)),
        "65,535 entries": right.replace(struct.pack("<H", 2) + struct.pack("<H", 0x100), b"\xff\xff\0\1"),
        "cut short": right[:20],
        "name only": b"Exif\0\0",
        "another name": right.replace(b"Exif", b"Exof"),
    }
    expected = {k: 6 if k == "65,535 entries" else 1 for k in broken}
    for name, body in broken.items():
        ours = decode(hostile.with_segment(plain, body))
        assert ours.shape == ((68, 52, 3) if expected[name] > 1 else (52, 68, 3)), name


def test_exif_behind_other_segments_is_found():
    contents = hostile.with_segment(hostile.GOOD["colour.jpg"](), hostile.exif(6))
    for marker, body in (
        (0xE2, b"ICC_PROFILE\0" + bytes(60_000)),
        (0xFE, b"comment"),
        (0xE1, b"http://ns.adobe.com/xap"),
    ):
        contents = hostile.with_segment(contents, body, marker)
    assert decode(contents).shape == (68, 52, 3)


@pytest.mark.parametrize("name", ["cmyk.jpg", "ycck.jpg"])
def test_cmyk_is_converted_within_five_levels(name):
    ours = decode(hostile.GOOD[name]()).astype(int)
    assert np.abs(ours - as_pillow_reads_it(hostile.GOOD[name]())).max() < 5
    if name == "cmyk.jpg":
        assert np.abs(ours - np.array(hostile.picture())).mean() < 5


@pytest.mark.parametrize("name", ["animated.gif", "animated.webp", "animated-lossless.webp", "animated.png"])
def test_of_an_animation_the_first_frame_comes_and_never_rank_four(name):
    ours = decode(hostile.GOOD[name]())
    assert ours.shape == (52, 68, 3)
    assert np.abs(ours.astype(int) - np.array(hostile.picture())).mean() < 8


def test_first_of_three_thousand_frames_costs_one_frame():
    contents = hostile.many_frames_gif()
    decode(contents)
    start = time.perf_counter()
    assert decode(contents).shape == (2000, 2000, 3)
    # All frames together unpack to 36 GB; on one core that takes far more than this.
    assert time.perf_counter() - start < 5


def test_eager_and_tf_data_give_identical_bytes():
    contents = [make() for make in hostile.GOOD.values()]
    pixels = Pixels(size=(32, 24), crop=0.9)
    stream = tf.data.Dataset.from_tensor_slices(contents).map(
        lambda c: (images.decode(c), images.resize(images.decode(c), pixels))
    )
    for name, one, (decoded, resized) in zip(hostile.GOOD, contents, stream, strict=True):
        np.testing.assert_array_equal(decoded, decode(one), err_msg=name)
        np.testing.assert_array_equal(resized, images.resize(decode(one), pixels), err_msg=name)


def test_a_saved_model_gives_identical_bytes_where_tlkeras_is_not_installed(tmp_path):
    pixels = Pixels(size=(24, 32), interpolation="bicubic", crop=0.875)

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, batch):
            return tf.map_fn(lambda c: images.resize(images.decode(c), pixels), batch, fn_output_signature=tf.uint8)

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def decode(self, contents):
            return images.decode(contents)

    reader = Reader()
    tf.saved_model.save(reader, tmp_path / "model")
    contents = [make() for make in hostile.GOOD.values()]
    np.savez(tmp_path / "in.npz", *[np.frombuffer(c, np.uint8) for c in contents])
    code = """if True:
        import sys
        import numpy as np
        sys.modules["tlkeras"] = None
        import tensorflow as tf
        model = tf.saved_model.load(sys.argv[1] + "/model")
        contents = [a.tobytes() for a in np.load(sys.argv[1] + "/in.npz").values()]
        np.savez(sys.argv[1] + "/out.npz", model(tf.constant(contents)), *[model.decode(c) for c in contents])
        try:
            model.decode(open(sys.argv[1] + "/bomb.png", "rb").read())
        except tf.errors.InvalidArgumentError as e:
            print("its header must say" in str(e))
    """
    hostile.write(tmp_path, ["bomb.png"])
    assert in_a_process(code, tmp_path).split() == ["True"]
    batch, *singles = np.load(tmp_path / "out.npz").values()
    for name, one, resized, single in zip(hostile.GOOD, contents, batch, singles, strict=True):
        np.testing.assert_array_equal(single, decode(one), err_msg=name)
        np.testing.assert_array_equal(resized, images.resize(decode(one), pixels), err_msg=name)


@pytest.mark.parametrize("name", sorted(hostile.BAD))
def test_what_is_no_whole_image_is_refused(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(hostile.BAD[name][1]())


@pytest.mark.parametrize("name", sorted(hostile.BOMBS))
def test_a_bomb_is_refused_by_its_header(name):
    contents = hostile.BOMBS[name]()
    start = time.perf_counter()
    with pytest.raises(tf.errors.InvalidArgumentError, match="its header must say 1 to 50,000,000 pixels"):
        decode(contents)
    assert time.perf_counter() - start < 1


def test_bombs_take_less_than_64_megabytes():
    code = """if True:
        import resource
        import hostile_images as hostile
        import tensorflow as tf
        from tlkeras.data import images
        contents = [make() for make in hostile.BOMBS.values()]
        for make in hostile.GOOD.values():
            images.decode(make())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for one in contents:
            try:
                images.decode(one)
            except tf.errors.InvalidArgumentError:
                continue
            raise SystemExit("a bomb was decoded")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    assert int(in_a_process(code)) < 64 * 1024


@pytest.mark.slow
def test_random_damage_never_ends_the_process_or_takes_long():
    code = """if True:
        import random, sys, time
        import hostile_images as hostile
        import tensorflow as tf
        from tlkeras.data import images
        random.seed(int(sys.argv[1]))
        makers, refused, longest = list(hostile.GOOD.items()), 0, 0.0
        made = {name: make() for name, make in makers if name != "long.png"}
        for _ in range(4000):
            name = random.choice(list(made))
            contents = bytearray(made[name])
            for _ in range(random.randint(1, 8)):
                # Mostly in the headers, where the damage is worst.
                where = random.randrange(min(len(contents), random.choice([64, 64, 300, 10**9])))
                contents[where] = random.choice([0, 1, 255, 128, random.randrange(256)])
            if random.random() < 0.2:
                contents = contents[: random.randrange(len(contents))]
            start = time.perf_counter()
            try:
                images.decode(bytes(contents))
            except tf.errors.InvalidArgumentError:
                refused += 1
            longest = max(longest, time.perf_counter() - start)
        print(refused, longest)
    """
    refused, longest = in_a_process(code, 1).split()
    assert int(refused) > 400
    assert float(longest) < 20


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3", "area", "nearest"])
def test_without_crop_the_whole_image_is_squashed(interpolation):
    image = np.array(hostile.picture(0, 100, 60))
    ours = images.resize(image, Pixels(size=(32, 48), interpolation=interpolation))
    assert ours.shape == (32, 48, 3) and ours.dtype == tf.uint8
    expected = tf.image.resize(image, (32, 48), method=interpolation, antialias=True)
    assert np.abs(ours.numpy() - np.clip(expected, 0, 255)).max() <= 0.5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3"])
@pytest.mark.parametrize("width, height", [(100, 60), (60, 100), (500, 300), (20, 30)])
def test_with_crop_the_centre_of_the_resized_image_remains(interpolation, width, height):
    image = np.array(hostile.picture(0, width, height))
    ours = images.resize(image, Pixels(size=(48, 48), interpolation=interpolation, crop=0.75)).numpy()
    outer = (64, 64 * width // height) if width > height else (64 * height // width, 64)
    whole = tf.image.resize(image, outer, method=interpolation, antialias=True).numpy()
    top, left = (outer[0] - 48) // 2, (outer[1] - 48) // 2
    expected = np.clip(whole[top : top + 48, left : left + 48], 0, 255)
    assert np.abs(ours - expected).max() <= 0.51


@pytest.mark.parametrize("interpolation", ["area", "nearest"])
def test_with_crop_and_no_filter_the_centre_is_about_right(interpolation):
    image = np.array(hostile.picture(0, 200, 120))
    ours = images.resize(image, Pixels(size=(48, 48), interpolation=interpolation, crop=0.75)).numpy().astype(int)
    filtered = images.resize(image, Pixels(size=(48, 48), crop=0.75)).numpy()
    assert np.abs(ours - filtered).mean() < 6


def test_crop_keeps_the_shape_of_what_is_seen():
    disc = np.hypot(*np.mgrid[-60:60, -100:100]) < 40
    image = np.where(disc[..., None], 255, 0).astype(np.uint8).repeat(3, 2)
    seen = images.resize(image, Pixels(size=(64, 80), crop=0.9)).numpy()[..., 0] > 127
    assert abs(int(seen.any(0).sum()) - int(seen.any(1).sum())) <= 1
    squashed = images.resize(image, Pixels(size=(64, 64))).numpy()[..., 0] > 127
    assert squashed.any(1).sum() > 1.5 * squashed.any(0).sum()


@pytest.mark.parametrize("crop", [None, 0.875])
@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (1, 1), (1, 7)])
def test_extreme_shapes_are_resized_in_no_time(crop, shape):
    image = tf.fill((*shape, 3), tf.constant(77, tf.uint8))
    start = time.perf_counter()
    ours = images.resize(image, Pixels(size=(224, 224), crop=crop, interpolation="bicubic"))
    assert time.perf_counter() - start < 5
    assert (ours.numpy() == 77).all()


def test_size_can_be_asked_for():
    assert images.resize(np.zeros((9, 9, 3), np.uint8), Pixels(), size=(40, 30)).shape == (40, 30, 3)


MODES = {
    "tf": Pixels(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3),
    "torch": Pixels(
        scale=tuple(1 / 255 / s for s in (0.229, 0.224, 0.225)),
        offset=tuple(-m / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)),
    ),
    "caffe": Pixels(offset=(-103.939, -116.779, -123.68), channels="bgr"),
}


def normaliser(pixels: Pixels, dtype="float32"):
    inputs = keras.Input((16, 16, 3), dtype=dtype)
    return keras.Model(inputs, images.normalise(inputs, pixels))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_normalising_is_keras_own_preprocessing(mode, policy):
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format="channels_last", mode=mode)
    keras.config.set_dtype_policy(policy)
    try:
        ours = normaliser(MODES[mode])(x)
    finally:
        keras.config.set_dtype_policy("float32")
    assert ours.dtype == tf.float32
    assert np.abs(ours.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


def test_a_contract_that_asks_for_nothing_adds_nothing():
    x = keras.Input((16, 16, 3))
    assert images.normalise(x, Pixels()) is x


@pytest.mark.parametrize("mode", MODES)
def test_normalising_survives_saving(mode, tmp_path):
    model, x = normaliser(MODES[mode]), np.arange(768, dtype="float32").reshape(1, 16, 16, 3) % 256
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_normalising_converts_to_tflite_builtins(mode, kind, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    x = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype("float32")
    inputs = keras.Input((16, 16, 3))
    y = images.normalise(inputs, MODES[mode])
    outputs = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones")(y)
    model = keras.Model(inputs, outputs)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.__call__, input_signature=[tf.TensorSpec((1, 16, 16, 3))])
    archive.write_out(tmp_path / "model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    if kind == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([one[None]] for one in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    operators = {op["op_name"] for op in interpreter._get_ops_details()}
    assert not any("Flex" in op or "CUSTOM" in op for op in operators)
    (given,), (told,) = interpreter.get_input_details(), interpreter.get_output_details()
    one = x[:1]
    # The representative pixels span 0..255, so that a uint8 input has scale 1: what it is fed are pixels.
    assert kind == "float32" or given["quantization"] == (1.0, 0)
    interpreter.set_tensor(given["index"], one.astype(given["dtype"]))
    interpreter.invoke()
    ours, expected = interpreter.get_tensor(told["index"]), model(one).numpy()
    error = np.abs(ours - expected).max() / (expected.max() - expected.min())
    assert error < (0.02 if kind == "int8" else 1e-6), (error, operators)


def test_fingerprints_follow_the_bytes_and_are_known_numbers():
    a, b = (images.fingerprint(tf.constant(x)).numpy() for x in (b"one", b"two"))
    assert a != b and a == images.fingerprint(b"one").numpy()
    inside = next(iter(tf.data.Dataset.from_tensors(b"one").map(images.fingerprint))).numpy()
    assert inside == a
    # Kept in caches and manifests: a change of this number would make every file look changed.
    assert images.fingerprint(b"tlkeras").numpy() == 6481356790149193869


def test_importing_the_module_loads_no_tensorflow():
    code = "import sys; from tlkeras.data import images, jpeg, formats, scan; print('tensorflow' in sys.modules, 'PIL' in sys.modules)"
    assert in_a_process(code).split() == ["False", "False"]
