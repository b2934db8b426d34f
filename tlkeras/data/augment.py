"""Augmentation with Keras' own layers, inside tf.data, and a function of (seed, sample, view) alone.

Keras' random layers draw from a counter that lives in the layer, so what an image gets would depend on how
many came before it and on which thread was faster. Here each layer's generator is exchanged for one that
derives its draws from the seed of the sample: any view of any sample can be made again at any time, which is
what resuming and caching views need.
"""

from tlkeras.config import Augmentation

MODULUS = 2**31 - 1


def sample_augmenter(options: Augmentation, size: tuple[int, int]):
    """Returns `f(image, seed) -> image`: uint8 or float (h, w, 3) in 0..255 to float32 of `size`, clipped to
    0..255. `seed` is an int tensor of shape (2,). Where crop < 1, the image must come larger by 1 / crop."""
    import keras
    from keras import layers

    chain = []
    if options.crop < 1:
        chain.append(layers.RandomCrop(*size))
    if options.flip:
        chain.append(layers.RandomFlip({"both": "horizontal_and_vertical"}.get(options.flip, options.flip)))
    if options.rotate:
        chain.append(layers.RandomRotation(options.rotate / 360, fill_mode="nearest"))
    if options.brightness:
        chain.append(layers.RandomBrightness(options.brightness, value_range=(0, 255)))
    if options.contrast:
        chain.append(layers.RandomContrast(options.contrast, value_range=(0, 255)))
    if options.rand_augment:
        chain.append(
            layers.RandAugment(value_range=(0, 255), num_ops=options.rand_augment, factor=options.rand_augment_factor)
        )
    if options.erase:
        chain.append(
            layers.RandomErasing(factor=(options.erase, options.erase), scale=(0.02, 0.2), value_range=(0, 255))
        )
    draws = _derive(chain)

    def augment(image, seed):
        x = keras.ops.cast(image, "float32")
        with draws.of(seed):
            for layer in chain:
                x = layer(x, training=True)
        return keras.ops.clip(x, 0.0, 255.0)

    return augment


def batch_augmenter(options: Augmentation):
    """Returns `f(images, labels, seed) -> images, labels` for MixUp and CutMix, or None when neither is on.
    Labels are float rows (one-hot or values): integer class numbers would be mixed into nonsense."""
    import keras
    from keras import layers

    chain = [layers.MixUp(alpha=options.mixup)] * bool(options.mixup) + [layers.CutMix(factor=options.cutmix)] * bool(
        options.cutmix
    )
    if not chain:
        return None
    draws = _derive(chain)

    def augment(images, labels, seed):
        batch = {"images": keras.ops.cast(images, "float32"), "labels": labels}
        with draws.of(seed):
            for layer in chain:
                batch = layer(batch, training=True)
        return batch["images"], batch["labels"]

    return augment


def _derive(chain):
    """Gives the layers of a chain, and the layers inside them, one generator of derived draws."""
    import keras

    class Draws(keras.random.SeedGenerator):
        """Answers the n-th request for a seed while a graph is traced with (sample's seed, n)."""

        def __init__(self):
            super().__init__(0)
            self.base, self.count = None, 0

        def of(self, seed):
            self.base, self.count = seed, 0
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.base = None

        def next(self, ordered=True):
            import tensorflow as tf

            self.count += 1
            base = tf.cast(self.base, tf.uint32)
            return tf.stack(
                [base[0], base[1] * tf.constant(2654435761, tf.uint32) + tf.constant(self.count, tf.uint32)]
            )

    draws = Draws()
    for layer in chain:
        for inner in layer._flatten_layers():
            if hasattr(inner, "generator"):
                inner.generator = draws
    return draws
