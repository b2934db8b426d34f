"""The layer of YOLOX's stem that Keras does not have.

Import this module before Keras loads a saved model that holds one: importing it registers the class.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tlkeras")
class Folded(keras.layers.Layer):
    """Every 2x2 pixels as the channels of one: (B, 2h, 2w, c) to (B, h, w, 4c).

    Upper left first, then lower left, upper right, lower right.
    """

    def call(self, x):
        return ops.concatenate([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], axis=-1)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height // 2, width // 2, 4 * channels)
