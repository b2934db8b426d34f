"""LoRA: each chosen kernel stands still, and a product of two thin matrices is learnt that is added to it
(Hu et al. 2021, arXiv:2106.09685). Keras' own, with dropout on what goes into the thin matrices.
"""

import fnmatch

import numpy as np

from tlkeras.blocks import HEAD, NECK, select
from tlkeras.errors import PlanError, nearest


def enable(blocks: dict[str, tuple], options) -> frozenset[str]:
    """Puts adapters on the layers whose names match `options.layers`, inside the blocks that `options.blocks` name;
    returns these blocks, of which nothing else is to move.

    Args:
        options: the record of backbone.lora: rank, alpha, dropout, blocks, layers.

    Raises:
        PlanError: when a pattern names no block, or no layer matches, with the names that could.
    """
    import keras

    body = [b for b in blocks if b not in (NECK, HEAD)]
    if strange := [p for p in options.blocks if not select(p, body)]:
        raise PlanError(
            f"backbone.lora.blocks: there is no block {', '.join(strange)}.{nearest(strange[0], body)} There are: {' '.join(body)}."
        )
    chosen = list(dict.fromkeys(b for pattern in options.blocks for b in select(pattern, body)))
    made, names = 0, set()
    for block in chosen:
        for layer in blocks[block]:
            for inner in layer._flatten_layers():
                if not isinstance(inner, keras.layers.Dense | keras.layers.EinsumDense):
                    continue
                names.add(inner.name)
                if not any(fnmatch.fnmatchcase(inner.name, pattern) for pattern in options.layers):
                    continue
                inner.enable_lora(options.rank, lora_alpha=options.alpha or options.rank)
                if options.dropout:
                    _drop(inner, options.dropout)
                made += 1
    if not made:
        asked = ", ".join(options.layers)
        raise PlanError(
            f"backbone.lora.layers: no layer of {', '.join(chosen)} is called {asked}.{nearest(options.layers[0], names)} There are: {', '.join(sorted(names))}."
        )
    return frozenset(chosen)


def _drop(layer, rate: float) -> None:
    """Drops parts of what goes into a layer's adapter while training, not of what its kernel sees."""
    import keras
    from keras import ops

    # A part of the layer, so that checkpoints hold it and a resumed run draws on.
    layer._tracker.unlock()
    layer.lora_seeds = keras.random.SeedGenerator()
    layer._tracker.lock()
    dense = isinstance(layer, keras.layers.Dense)

    class Dropped(type(layer)):  # type: ignore[misc]
        def call(self, inputs, training=None):
            if not training:
                return super().call(inputs)
            part = keras.random.dropout(inputs, rate, seed=self.lora_seeds)
            change = (self.lora_alpha / self.lora_rank) * ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
            apply = ops.matmul if dense else lambda x, kernel: ops.einsum(self.equation, x, kernel)
            x = apply(inputs, self._kernel) + apply(part, ops.cast(change, inputs.dtype))
            x = x if self.bias is None else ops.add(x, self.bias)
            return x if self.activation is None else self.activation(x)

    Dropped.__name__ = type(layer).__name__
    layer.__class__ = Dropped


def hold(layer) -> None:
    """Freezes everything of a trained layer but its adapters, where it has any. Keras' `trainable = True` wakes the kernels up again."""
    for variable in layer.weights:
        variable.trainable = _is_adapter(variable)


def _is_adapter(variable) -> bool:
    return variable.name.startswith("lora_kernel")


def adapters(blocks: dict[str, tuple]) -> dict:
    """{path: array} of the adapters' matrices."""
    return {v.path: v.numpy() for layers in blocks.values() for x in layers for v in x.weights if _is_adapter(v)}


def merge(source, target) -> None:
    """Copies the weights of a model with adapters into the same model without, each kernel with its change.

    The two are built by the same code, so their layers correspond one to one.
    """
    for old, new in zip(source._flatten_layers(), target._flatten_layers(), strict=True):
        kept = [v for v in old._trainable_variables + old._non_trainable_variables if not _is_adapter(v)]
        own = new._trainable_variables + new._non_trainable_variables
        values = {v.name: v for v in kept}
        for variable in own:
            value = values[variable.name]
            if getattr(old, "lora_enabled", False) and value is old._kernel:
                # In float32: `old.kernel` is in the precision of the steps.
                thin = np.matmul(old.lora_kernel_a.numpy(), old.lora_kernel_b.numpy())
                value = value.numpy() + old.lora_alpha / old.lora_rank * thin
            variable.assign(value)
