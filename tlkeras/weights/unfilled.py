"""Building a network whose numbers come from elsewhere, without drawing random ones first.

Of MiniLM's 1.7 s to build, half a second were random numbers that a file replaced right after (docs/log.md).
"""

import random
from contextlib import contextmanager


def filled(build):
    """What `build()` gives, a keras.Model that it fills with weights; none is drawn at random but those that it leaves
    as they began."""
    state = random.getstate()
    with _blank():
        model = build()
    if not any(_is_blank(v) for v in model.weights):
        return model
    # A second time as ever, with the seeds of the first: Keras takes them from Python's generator.
    random.setstate(state)
    return build()


@contextmanager
def _blank():
    """While open, Keras' random initial values are not drawn: all are nan. The seeds of initialisers stay what they would
    be, so that what is built later begins as ever."""
    import keras

    names = ("RandomNormal", "TruncatedNormal", "RandomUniform", "VarianceScaling", "Orthogonal")
    drawing = {kind: kind.__call__ for kind in (getattr(keras.initializers, name) for name in names)}

    def blank(draw):
        def call(self, shape, dtype=None):
            if isinstance(self.seed, keras.random.SeedGenerator):  # whose state a draw moves
                return draw(self, shape, dtype)
            return keras.ops.full(shape, float("nan"), dtype or keras.config.floatx())

        return call

    for kind, draw in drawing.items():
        kind.__call__ = blank(draw)
    try:
        yield
    finally:
        for kind, call in drawing.items():
            kind.__call__ = call


def _is_blank(variable) -> bool:
    import keras
    import numpy as np

    if "float" not in keras.backend.standardize_dtype(variable.dtype) or 0 in variable.shape:
        return False
    first = variable.value[(0,) * len(variable.shape)]
    return bool(np.isnan(keras.ops.convert_to_numpy(first).astype("float32")))
