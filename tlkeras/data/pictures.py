"""Pictures as a pipeline reads them: from files to batches of uint8 pixels, without Python in the loop.

A sample's augmentation is computed from (seed, content, view), where the view is the epoch.
"""

from dataclasses import dataclass, replace

import numpy as np

from tlkeras.backbones import Pixels
from tlkeras.config import Augmentation
from tlkeras.data import pipeline
from tlkeras.data.pipeline import mapped, order, steady

MEMORY = 1 << 29  # bytes of pixels that may be decoded once and kept


@dataclass(frozen=True)
class Table:
    """What a pipeline reads: paths, float32 targets (n, ...) or paths of index masks (n,) or a field of such for each of several tasks, float32 weights (n,), and of the bytes the
    fingerprints that the scan saw and their SHA-256 as hex. A file that changed since makes the pipeline fail
    with its name. `jpeg` says that all are JPEGs; `images` are their pixels (h, w, 3) where they were kept; `outlines`
    are paths of owner maps (paste.py) of boxes, whose targets then are pairs of both."""

    paths: list[str]
    targets: np.ndarray
    weights: np.ndarray
    fingerprints: np.ndarray
    hashes: list[str]
    jpeg: bool = False
    images: list | None = None
    outlines: list[str] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def masked(self) -> bool:
        """Whether the targets are paths of index masks."""
        return self.targets.dtype.kind == "U"

    @property
    def places(self) -> str | None:
        """'boxes' or 'masks' where the targets are places in the picture, which move when it is turned."""
        if self.targets.dtype.names:
            return "places"  # among the targets of several tasks
        return "masks" if self.masked else "boxes" if self.targets.ndim == 3 else None

    def keep(self, rows) -> "Table":
        """The samples at these positions."""
        return Table(
            [self.paths[i] for i in rows],
            self.targets[rows],
            self.weights[rows],
            self.fingerprints[rows],
            [self.hashes[i] for i in rows],
            self.jpeg,
            self.images and [self.images[i] for i in rows],
            self.outlines and [self.outlines[i] for i in rows],
        )

    def join(self, other: "Table") -> "Table":
        """Both, this one first."""
        return Table(
            self.paths + other.paths,
            np.concatenate([self.targets, other.targets]),
            np.concatenate([self.weights, other.weights]),
            np.concatenate([self.fingerprints, other.fingerprints]),
            self.hashes + other.hashes,
            self.jpeg and other.jpeg,
            self.images and other.images and self.images + other.images,
            self.outlines and other.outlines and self.outlines + other.outlines,
        )


def training(table: Table, pixels: Pixels, batch: int, seed: int, first: int, epochs: int, options: Augmentation):
    """Batches of (pixels, targets, weights) for the epochs first, ..., epochs - 1, each in its own order."""
    import tensorflow as tf

    n, mixes = len(table), mixers(table, options)
    if augments_samples(options):
        view = viewer(table, pixels, seed, options)
    else:
        load = decoded(table, pixels) if fits(len(table), pixels) else loader(table, pixels)

        def view(i, epoch):
            return load(i)

    def epoch(e):
        def mixed(k, batch):
            images, targets, weights = batch
            for number, mix in enumerate(mixes, 1):
                images, targets = mix(images, targets, tf.stack([tf.cast(seed, tf.int64) + number, e * n + k]))
            return images, targets, weights

        samples = mapped(order(n, seed, e), lambda i: view(i, e))
        batches = samples.batch(batch)
        return batches.enumerate().map(mixed) if mixes else batches

    stream = pipeline.epochs(first, epochs, epoch)
    # An unknown number of elements would make Keras run past the end of an epoch; steps_per_epoch cuts it.
    return steady(stream)


def mixers(table: Table, options: Augmentation) -> list:
    """What is done to a batch, in order: `f(images, targets, seed) -> images, targets` each. A mosaic comes last, of pictures
    that things were pasted on."""
    from tlkeras.data import augment, paste, spatial

    if table.places:
        found = [f(options, table.places) for f in (paste.paste_augmenter, spatial.mosaic_augmenter)]
    else:
        found = [augment.batch_augmenter(options)]
    return [f for f in found if f is not None]


def augments_samples(options: Augmentation) -> bool:
    """Whether single images are augmented; MixUp, CutMix, mosaic and paste work on batches."""
    return options.model_copy(update={"mixup": 0.0, "cutmix": 0.0, "mosaic": 0.0, "paste": 0.0}).active


def viewer(table: Table, pixels: Pixels, seed: int, options: Augmentation):
    """Returns `f(i, view) -> (float32 (h, w, 3), target, weight)`: the augmented view of a sample, for tf.data."""
    import tensorflow as tf

    from tlkeras.data import augment, several, spatial

    larger = pixels
    if table.targets.dtype.names:
        one = several.augmenter(options, table, pixels.size)
    elif table.places:
        one = spatial.spatial_augmenter(options, pixels.size, table.places)
        one = _outlined(one, options, pixels) if table.outlines else one
    else:
        plain = augment.sample_augmenter(options, pixels.size)
        # A random crop needs something to crop from: the image is made larger by what the crop takes away.
        larger = replace(pixels, size=tuple(round(s / options.crop) for s in pixels.size))

        def one(image, target, key):
            return plain(image, key), target

    load = loader(table, larger)
    prints = tf.constant(table.fingerprints, tf.int64)

    def view(i, number):
        image, target, weight = load(i)
        key = tf.stack([tf.cast(seed, tf.int64) + 1_000_003 * tf.cast(number, tf.int64), prints[i]])
        image, target = one(image, target, key)
        return tf.ensure_shape(image, (*pixels.size, 3)), target, weight

    return view


def _outlined(boxes, options: Augmentation, pixels: Pixels):
    """`boxes`, what moves a picture and its boxes, for pairs of boxes and owner maps."""
    from tlkeras.data import spatial

    owners = spatial.spatial_augmenter(options, pixels.size, "masks")

    def one(image, target, key):  # one key draws one view
        moved = boxes(image, target[0], key)
        return moved[0], (moved[1], owners(image, target[1], key)[1])

    return one


def in_order(table: Table, pixels: Pixels, batch: int):
    """Batches of (pixels, targets, weights) once, in the table's order."""
    import tensorflow as tf

    data = mapped(tf.data.Dataset.range(len(table)), loader(table, pixels))
    return steady(data.batch(batch))


def fits(samples: int, pixels: Pixels) -> bool:
    """Whether the pixels of so many are few enough to be decoded once and kept in memory."""
    return samples * pixels.size[0] * pixels.size[1] * 3 <= MEMORY


def decoded(table: Table, pixels: Pixels):
    """As `loader`, with every image decoded now and kept in memory as uint8."""
    import tensorflow as tf

    images = tf.concat([x for x, _, _ in in_order(table, pixels, 64)], 0)
    answer = answering(table, pixels)
    return lambda i: (images[i], *answer(i))


def held_out(table: Table, pixels: Pixels, batch: int):
    """As `in_order`, for data that is read every epoch: decoded once where its pixels fit into memory."""
    import tensorflow as tf

    data = mapped(tf.data.Dataset.range(len(table)), loader(table, pixels))
    if fits(len(table), pixels):
        data = data.cache()
    return steady(data.batch(batch))


def loader(table: Table, pixels: Pixels):
    """Returns `f(i) -> (uint8 (h, w, 3), target, weight)` for tf.data."""
    import tensorflow as tf

    from tlkeras.data import images

    paths = tf.constant([p.encode("utf8", "surrogateescape") for p in table.paths])
    answer = answering(table, pixels)
    if table.images and table.images[0].shape == (*pixels.size, 3):
        kept = tf.constant(np.stack(table.images))
        return lambda i: (kept[i], *answer(i))
    prints = tf.constant(table.fingerprints, tf.int64)

    def load(i):
        contents = tf.io.read_file(paths[i])
        same = tf.equal(images.fingerprint(contents), prints[i])
        with tf.control_dependencies([tf.debugging.Assert(same, ["CHANGED", paths[i]])]):
            image = images.load(contents, pixels, jpeg=table.jpeg)
        return tf.ensure_shape(image, (*pixels.size, 3)), *answer(i)

    return load


def answering(table: Table, pixels: Pixels):
    """Returns `f(i) -> (target, weight)` for tf.data: float32 (...), or of masks uint8 (h, w) as `pixels` shows pictures,
    255 beside them; `i` is one number or a vector of them."""
    import tensorflow as tf

    from tlkeras.data import images, several, spatial

    if table.targets.dtype.names:
        return several.answering(table, pixels, answering)
    size = pixels.size
    weights = tf.constant(table.weights, tf.float32)
    if table.outlines:
        boxes = answering(replace(table, outlines=None), pixels)
        owners = answering(replace(table, targets=np.array(table.outlines), outlines=None), pixels)
        return lambda i: ((boxes(i)[0], owners(i)[0]), tf.gather(weights, i))
    if not table.masked:
        targets = tf.constant(table.targets, tf.float32)
        return lambda i: (tf.gather(targets, i), tf.gather(weights, i))
    paths = tf.constant([p.encode("utf8", "surrogateescape") for p in table.targets])

    def mask(path):
        whole = tf.io.decode_png(tf.io.read_file(path), channels=1)
        if pixels.pad is not None:
            return images.letterboxed_mask(whole[:, :, 0], size, spatial.VOID)
        return tf.image.resize(whole, size, method="nearest")[:, :, 0]

    def one(i):
        if i.shape.rank == 0:
            return tf.ensure_shape(mask(paths[i]), size), weights[i]
        found = tf.map_fn(mask, tf.gather(paths, i), fn_output_signature=tf.TensorSpec(size, tf.uint8))
        return found, tf.gather(weights, i)

    return one


def arranged(table: Table, pixels: Pixels, numbers: list) -> list:
    """(row, view) pairs in the order that suits a pass: any does."""
    return numbers


def views(table: Table, pixels: Pixels, numbers: list, batch: int, seed: int, options: Augmentation | None = None):
    """Batches of pixels as arrays in 1-tuples, for (row, view) pairs in their order; view 0 is the sample as it is."""
    import tensorflow as tf

    load = loader(table, pixels)
    augmented = viewer(table, pixels, seed, options) if any(v for _, v in numbers) else None

    def one(i, v):
        if augmented is None:
            return load(i)[0]
        return tf.cond(v == 0, lambda: tf.cast(load(i)[0], "float32"), lambda: augmented(i, v - 1)[0])

    pairs = np.array(numbers, np.int64).reshape(-1, 2)
    rows = tf.data.Dataset.from_tensor_slices((pairs[:, 0], pairs[:, 1]))
    for images in steady(mapped(rows, one).batch(batch)).as_numpy_iterator():
        yield (images,)
