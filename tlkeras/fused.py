"""Adam and AdamW with TensorFlow's own kernel for the update, which goes over the numbers once instead of ten times.

The gradient of an embedding comes as rows, one for every token of a batch. Keras 3.15 squares these before it adds up
those of a token that comes more than once, so that the second moment is not that of the gradient, and clips by the norm
of the rows. Here they are added up first.
"""

import functools


@functools.lru_cache
def of(optimizer: type):
    """The subclass of keras.optimizers.Adam or AdamW that updates in one operation; None for other optimizers.

    The formula is Keras' (Kingma & Ba 2015, arXiv:1412.6980, section 2). Where the optimizer keeps its largest second
    moments, or a variable is no float32, Keras' own steps are taken.
    """
    import keras
    import tensorflow as tf

    if optimizer not in (keras.optimizers.Adam, keras.optimizers.AdamW):
        return None

    class Fused(optimizer):  # type: ignore[misc, valid-type]
        def apply(self, grads, trainable_variables=None):
            return super().apply([_whole(g) for g in grads], trainable_variables)

        def update_step(self, gradient, variable, learning_rate):
            raw = variable.value if isinstance(variable, keras.Variable) else variable
            dense = isinstance(gradient, tf.Tensor) and raw.dtype.base_dtype == tf.float32 and not self.amsgrad
            if not dense or not hasattr(raw, "handle"):
                super().update_step(gradient, variable, learning_rate)
                return
            index = self._get_variable_index(variable)
            step = tf.cast(self.iterations + 1, tf.float32)
            tf.raw_ops.ResourceApplyAdam(
                var=raw.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                beta1_power=tf.pow(tf.constant(self.beta_1), step),
                beta2_power=tf.pow(tf.constant(self.beta_2), step),
                lr=tf.cast(learning_rate, tf.float32),
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
                use_locking=False,
            )

    Fused.__name__ = optimizer.__name__
    return Fused


def _whole(gradient):
    """A gradient as one tensor, rows of the same number added up."""
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, gradient.dense_shape[0])
