"""What a user would pick instead, shared by the benchmarks: Keras as in its guides, and PyTorch with timm.

Random weights, float32, batches of 32 at 224 x 224, a dropout and a dense layer for 4 classes, Adam. `train` is
'head' (the backbone frozen, in inference mode), 'all', or 'last': the last quarter of the blocks, with the
BatchNorm of what stays frozen in inference mode.
"""

import contextlib
import time
from dataclasses import dataclass

import numpy as np
import photos
from photos import CLASSES, SIDE
from PIL import Image

BATCH, DROPOUT, WORKERS = 32, 0.2, 2


@dataclass(frozen=True)
class Names:
    """A network in keras.applications and in timm; `last` are the parts of timm's that make up the last quarter."""

    title: str
    module: str
    timm: str
    last: tuple[str, ...]


NETWORKS = {
    "resnet50": Names("ResNet50", "resnet", "resnet50", ("layer4",)),
    "efficientnet_b0": Names("EfficientNetB0", "efficientnet", "efficientnet_b0", ("blocks.6", "conv_head", "bn2")),
    "mobilenet_v3_large": Names("MobileNetV3Large", "mobilenet_v3", "mobilenetv3_large_100", ("blocks.5", "blocks.6")),
}


def last_blocks(network: str) -> tuple[int, str]:
    """How many of tlkeras' blocks are about a quarter of a network, and the Keras layer that ends those before them."""
    from tlkeras import backbones

    blocks = backbones.get(network).blocks
    n = max(1, round(len(blocks) / 4))
    return n, blocks[-n - 1][1]


# ---------------------------------------------------------------------- Keras


def import_keras() -> None:
    import keras  # noqa: F401
    import tensorflow as tf

    tf.constant(0)


def keras_backbone(network: str):
    """(the backbone, the function from RGB pixels in 0..255 to what it reads)."""
    import keras

    names = NETWORKS[network]
    backbone = getattr(keras.applications, names.title)
    return (
        backbone(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3)),
        getattr(keras.applications, names.module).preprocess_input,
    )


def keras_features(network: str):
    """A tf.function: uint8 (B, 224, 224, 3) -> float32 (B, features)."""
    import tensorflow as tf

    base, preprocess = keras_backbone(network)

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8)], autograph=False)
    def pooled(pixels):
        return tf.reduce_mean(base(preprocess(tf.cast(pixels, tf.float32)), training=False), (1, 2))

    return pooled


def keras_photos(folder: str, val: float):
    """(training, validation or None) by image_dataset_from_directory: float32 pixels, one-hot classes."""
    import keras

    asked = {"label_mode": "categorical", "batch_size": BATCH, "image_size": (SIDE, SIDE), "seed": 0, "verbose": False}
    if not val:
        return keras.utils.image_dataset_from_directory(folder, **asked), None
    return keras.utils.image_dataset_from_directory(folder, validation_split=val, subset="both", **asked)


def fit_keras(network: str, folder: str, epochs: int, train: str, rate: float, val: float, cached: bool = False):
    """After https://keras.io/guides/transfer_learning/: (when each epoch had ended, number of trained parameters).

    With `cached`, Dataset.cache() keeps the decoded pixels in memory.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    train_data, val_data = keras_photos(folder, val)
    if cached:
        train_data = train_data.cache().prefetch(tf.data.AUTOTUNE)
        val_data = val_data and val_data.cache().prefetch(tf.data.AUTOTUNE)
    base, preprocess = keras_backbone(network)
    inputs = keras.Input((SIDE, SIDE, 3))
    if train == "head":
        base.trainable = False
        x = base(preprocess(inputs), training=False)
    else:
        if train == "last":
            # A layer whose own flag is False runs BatchNorm in inference mode, under fit too.
            for layer in keras.Model(base.input, base.get_layer(last_blocks(network)[1]).output).layers:
                layer.trainable = False
        x = base(preprocess(inputs))
    x = keras.layers.Dropout(DROPOUT)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy()],
    )
    ends = []
    ended = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.time()))
    model.fit(train_data, validation_data=val_data, epochs=epochs, verbose=0, callbacks=[ended])
    return ends, sum(int(np.prod(v.shape)) for v in model.trainable_variables)


# ---------------------------------------------------------------------- PyTorch


def import_timm():
    """timm, also beside a torchvision that was built for another torch."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # Its operators are not there; no network here uses one, but the import wants them declared.
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    return timm


class Photos:
    """What a DataLoader reads: (uint8 (224, 224, 3), class), by Pillow, with no help from the DCT."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int):
        with Image.open(self.paths[i]) as image:
            pixels = np.array(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        return pixels, int(self.paths[i].split("class")[-1][0])


def torch_photos(paths: list[str], shuffle: bool):
    """Batches of uint8 (B, 224, 224, 3) and classes; the workers stay from epoch to epoch."""
    import torch

    return torch.utils.data.DataLoader(
        Photos(paths), BATCH, shuffle=shuffle, num_workers=WORKERS, persistent_workers=True
    )


def fit_torch(network: str, folder: str, epochs: int, train: str, rate: float, val: float):
    """As timm's networks are trained by hand: (when each epoch had ended, number of trained parameters)."""
    import torch

    timm, names = import_timm(), NETWORKS[network]
    torch.manual_seed(0)
    paths = [photos.paths(folder)[i] for i in np.random.default_rng(0).permutation(len(photos.paths(folder)))]
    held_out = round(len(paths) * val)
    train_data = torch_photos(paths[held_out:], shuffle=True)
    val_data = torch_photos(paths[:held_out], shuffle=False) if held_out else []
    base = timm.create_model(names.timm, pretrained=False, num_classes=0).to(memory_format=torch.channels_last)
    head = torch.nn.Sequential(torch.nn.Dropout(DROPOUT), torch.nn.Linear(base.num_features, CLASSES))
    base.requires_grad_(train == "all").train(train == "all")
    if train == "last":
        for part in names.last:
            base.get_submodule(part).requires_grad_(True)
    moving = [p for p in (*base.parameters(), *head.parameters()) if p.requires_grad]
    optimizer, loss_of = torch.optim.Adam(moving, rate), torch.nn.CrossEntropyLoss()
    mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def learning(on: bool):
        head.train(on)
        for part in {"head": (), "all": ("",), "last": names.last}[train]:
            base.get_submodule(part).train(on)

    def logits(pixels):
        # (B, height, width, 3) seen as (B, 3, height, width) is channels_last already.
        x = (pixels.permute(0, 3, 1, 2).float() - mean) / std
        with torch.no_grad() if train == "head" else contextlib.nullcontext():
            # Not base(x): MobileNetV3's has one layer more behind the pooling than Keras'.
            features = base.forward_features(x).mean((2, 3))
        return head(features)

    ends = []
    for _ in range(epochs):
        learning(True)
        for pixels, classes in train_data:
            optimizer.zero_grad()
            loss_of(logits(pixels), classes).backward()
            optimizer.step()
        learning(False)
        right = 0
        with torch.no_grad():
            for pixels, classes in val_data:
                right += (logits(pixels).argmax(1) == classes).sum().item()
        ends.append(time.time())
    return ends, sum(p.numel() for p in moving if p.grad is not None)
