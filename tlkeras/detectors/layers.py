"""The layers and the loss of detectors that Keras does not have.

Import this module before Keras loads a saved model that holds one: importing it registers the classes.
"""

import importlib

import keras
from keras import ops

from tlkeras.detectors import boxes


@keras.saving.register_keras_serializable(package="tlkeras")
class Raw(keras.layers.Layer):
    """Puts the places before the offsets and logits that belong to them: (B, A, 4), (B, A, k) to (B, A, 8 + k).

    `shapes` are (height, width) of the levels, `units` (width, height) of a level's anchors in cells, `shift` where in
    the cell a place is: 0.5 its centre, 0 its corner. The places go by level, row, column and unit.
    """

    def __init__(self, shapes, units=((1.0, 1.0),), shift=0.5, **kwargs):
        super().__init__(**kwargs)
        self.shapes = [list(map(int, shape)) for shape in shapes]
        self.units = [list(map(float, unit)) for unit in units]
        self.shift = float(shift)
        self.locations = boxes.places(self.shapes, self.units, self.shift)

    def call(self, offsets, logits):
        places = ops.broadcast_to(self.locations[None], (ops.shape(offsets)[0], *self.locations.shape))
        return ops.concatenate([places, offsets, logits], axis=-1)

    def compute_output_shape(self, offsets_shape, logits_shape):
        return (*offsets_shape[:2], 8 + logits_shape[-1])

    def get_config(self):
        return {**super().get_config(), "shapes": self.shapes, "units": self.units, "shift": self.shift}


@keras.saving.register_keras_serializable(package="tlkeras")
class Scores(keras.layers.Layer):
    """Logits (B, A, k) to scores (B, A, classes) in 0..1, as the detector `kind` means them."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, logits):
        return boxes.scores(self.kind, logits)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable(package="tlkeras")
class WeightedSum(keras.layers.Layer):
    """The sum of tensors of one shape, each weighed by a learnt part of the whole: relu(w) / (sum of relu(w) + 1e-4).

    "Fast normalised fusion" of EfficientDet (arXiv:1911.09070, section 3.3).
    """

    def build(self, input_shape):
        self.edge_weights = self.add_weight(shape=(len(input_shape),), initializer="ones", name="edge_weights")

    def call(self, inputs):
        weights = ops.relu(self.edge_weights)
        weights = weights / (ops.sum(weights) + 1e-4)
        return sum(x * weights[i] for i, x in enumerate(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable(package="tlkeras")
class Levels(keras.layers.Layer):
    """Maps (B, h, w, n * k) of several levels as one list of places (B, A, k)."""

    def __init__(self, depth, **kwargs):
        super().__init__(**kwargs)
        self.depth = int(depth)

    def call(self, inputs):
        return ops.concatenate([ops.reshape(x, (-1, self._count(x.shape), self.depth)) for x in inputs], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], sum(map(self._count, input_shape)), self.depth)

    def _count(self, shape) -> int:
        return shape[1] * shape[2] * shape[3] // self.depth

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}


@keras.saving.register_keras_serializable(package="tlkeras")
class DetectionLoss:
    """The loss of the detector `kind`: f(y, raw) -> (B,), see `detectors.loss`. No keras.losses.Loss, which gives a mean."""

    name = __name__ = "detection_loss"

    def __init__(self, kind: str, **options):
        self.kind, self.options = kind, options
        self._loss = importlib.import_module(f"tlkeras.detectors.{kind}").loss

    def __call__(self, y, raw):
        return self._loss(y, raw, **self.options)

    def get_config(self) -> dict:
        return {"kind": self.kind, **self.options}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config)
