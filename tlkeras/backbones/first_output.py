"""A layer around a layer that returns several things, of which the first is wanted.

Import this module before Keras loads a saved model that holds one: importing it registers the class.
"""

import keras


@keras.saving.register_keras_serializable(package="tlkeras")
class FirstOutput(keras.layers.Layer):
    """Calls `layer` and returns the first of its outputs; has the layer's weights and its name.

    keras-hub's DeiT blocks return (x, None), which a functional graph refuses.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(**{"name": layer.name, **kwargs})
        self.layer = layer

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, x):
        return self.layer(x)[0]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})
