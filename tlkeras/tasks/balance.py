"""How the losses of several tasks are weighed against each other.

    fixed        by the weights of the config
    uncertainty  exp(-s) * loss + s / 2 with a learnt s, the logarithm of the task's variance (Kendall, Gal & Cipolla
                 2018, arXiv:1705.07115, equations 5 and 10); of a squared error half
    gradnorm     such that the gradients of all tasks at the last shared layer have like norms, larger ones where a task
                 lags behind (Chen et al. 2018, arXiv:1711.02257, algorithm 1)

What is learnt lies in a tiny layer behind the outputs. It hands it on as columns beside them, which the loss reads:
so it is trained, kept, resumed and audited as every other weight. A loss that is only judged takes the weights of the
config, whatever training does: it means the same in every epoch, and early stopping goes by it.
"""

LAYER = "head_balance"
LEAST = 0.01  # of a weight: one of 0 would never grow again


def layer(kind: str, factors: list[float], name: str):
    """The layer: (B, n) to (B, n + k + 1), a column for the weight of each of k losses and one for what is added to
    their sum. `factors` are what a loss counts in a likelihood."""
    import keras
    from keras import ops

    class Balance(keras.layers.Layer):
        def build(self, shape):
            k = (len(factors),)
            if kind == "uncertainty":
                self.log_variances = self.add_weight(shape=k, initializer="zeros", name="log_variances")
            else:
                self.paces = self.add_weight(shape=k, initializer="ones", trainable=False, name="paces")
                self.first = self.add_weight(shape=k, initializer="zeros", trainable=False, name="first_losses")
                self.moved = [self.paces, self.first]  # by `step`, not by a gradient: kept by checkpoints and audited

        def call(self, raw, training=None):
            k = len(factors)
            weights, added = ops.ones((k,), "float32"), ops.zeros((1,), "float32")
            if training and kind == "uncertainty":
                s = ops.cast(self.log_variances, "float32")
                weights = ops.exp(-s) * ops.convert_to_tensor(factors, "float32")
                added = ops.sum(s, keepdims=True) / 2
            elif training:
                weights = ops.cast(self.paces, "float32")
            row = ops.concatenate([weights, added])[None]
            return ops.concatenate([raw, ops.broadcast_to(row, (ops.shape(raw)[0], k + 1))], 1)

        def compute_output_shape(self, shape):
            return (shape[0], shape[1] + len(factors) + 1)

        def get_config(self):
            return {**super().get_config(), "kind": kind, "factors": factors}

    return Balance(dtype="float32", name=name)


def _mean(weights, targets, outputs, each):
    """The mean loss over the rows that have a label, each times its weight; 0 without one."""
    from keras import ops

    there = ops.cast(weights > 0, "float32")
    # A loss of rows without a label is of what stands in for it, and is not looked at.
    found = ops.where(there > 0, weights * each(targets, outputs), 0.0)
    return ops.sum(found) / ops.maximum(ops.sum(there), 1.0)


def loss(terms, weights: list[float], width: int):
    """Of `terms(y, raw)`, {member: (weights of rows, targets, outputs, loss of each row)}, the weighted sum. What stands
    behind `width` columns of the outputs are the weights instead, and what is added."""
    import keras
    from keras import ops

    class Several(keras.losses.Loss):
        def call(self, y, raw):
            means = [_mean(*term) for term in terms(y, raw).values()]
            if raw.shape[1] == width:
                total = sum(w * mean for w, mean in zip(weights, means, strict=True))
            else:
                beside = ops.mean(raw[:, width:], 0)
                total = sum(beside[k] * mean for k, mean in enumerate(means)) + beside[len(means)]
            # One number for the batch; Keras takes the mean over rows.
            return ops.broadcast_to(total, (ops.shape(raw)[0],))

    return Several(name="several")


def metrics(terms, inner: dict[str, list]) -> list:
    """The mean loss of each member, and its own metrics `inner`, on the rows that have its label."""
    import keras
    from keras import ops

    class Of(keras.metrics.Metric):
        """A metric of one member; None: its loss."""

        def __init__(self, member, metric=None):
            super().__init__(name=f"{member}/{metric.name if metric else 'loss'}")
            self.member, self.own, self.metric = member, metric is not None, metric or keras.metrics.Mean()

        def update_state(self, y, raw, sample_weight=None):
            weights, targets, outputs, each = terms(y, raw)[self.member]
            there = ops.cast(weights > 0, "float32")
            if self.own:
                self.metric.update_state(targets, outputs, sample_weight=there)
            else:
                self.metric.update_state(each(targets, outputs) * weights, sample_weight=there)

        def result(self):
            return self.metric.result()

        def reset_state(self):
            self.metric.reset_state()

    return [Of(m, metric) for m, own in inner.items() for metric in (None, *own)]


def paced(trained, network, terms, pace: float, rate: float):
    """`trained` as a model that moves the weights of the losses in every step, by GradNorm.

    Steps are measured in parts of the mean norm, so that `rate` means the same whatever losses are measured in. Where
    no layer that all tasks share is trained, there is nothing to balance, and the weights stay.
    """
    import keras
    import tensorflow as tf

    held = next(x for x in network.model.layers if x.name == LAYER)
    shared = _last_shared(network)

    class Paced(keras.Model):
        def __init__(self):
            super().__init__(name=trained.name)
            self.inner = trained

        def call(self, x, training=None):
            return self.inner(x, training=training)

        def train_step(self, data):
            x, y, w = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape(persistent=True) as tape:
                raw = self(x, training=True)
                total = self.compute_loss(x=x, y=y, y_pred=raw, sample_weight=w, training=True)
                scaled = self.optimizer.scale_loss(total)
                means = [_mean(*term) for term in terms(y, raw).values()] if shared else []
            gradients = tape.gradient(scaled, self.trainable_weights)
            if shared:
                norms = [tf.linalg.global_norm(tape.gradient(mean, shared)) for mean in means]
                step(held, tf.stack(means), tf.stack(norms), pace, rate)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(total, sample_weight=tf.shape(raw)[0])
            return self.compute_metrics(x, y, raw, sample_weight=w)

    return Paced()


def step(held, losses, norms, pace: float, rate: float) -> None:
    """One step of GradNorm on the layer `held`, from the losses (k,) and the norms (k,) of their gradients.

    A batch without a label for one of the tasks says nothing of their paces, and changes nothing.
    """
    import tensorflow as tf

    everyone = tf.reduce_all(losses > 0)
    first = tf.where(everyone & (held.first > 0), held.first, tf.where(everyone, losses, held.first))
    held.first.assign(first)
    weights, k = tf.convert_to_tensor(held.paces), float(losses.shape[0])
    ratio = losses / tf.maximum(first, 1e-12)
    lag = ratio / tf.maximum(tf.reduce_mean(ratio), 1e-12)
    mean = tf.reduce_mean(weights * norms)
    # The derivative of |norm - target|, the target being a constant.
    slope = tf.sign(weights * norms - mean * lag**pace) * norms / tf.maximum(mean, 1e-12)
    moved = tf.maximum(weights - rate * slope, LEAST)
    held.paces.assign(tf.where(everyone, moved * k / tf.reduce_sum(moved), weights))


def _last_shared(network) -> list:
    """The weights of the last layer that all members share and the phase trains."""
    names = list(network.blocks)
    layers = [x for block in names[:-1] if block != "neck" for x in network.blocks[block]]
    layers += [x for x in network.blocks[names[-1]] if x.name == "head_shared"]
    last = next((x for x in reversed(layers) if x.trainable_weights), None)
    return [v.value for v in last.trainable_weights] if last is not None else []


def told(model, members) -> dict[str, float]:
    """{'member/log_variance' or 'member/weight': value} as they are now."""
    held = next((x for x in model.layers if x.name == LAYER), None)
    if held is None:
        return {}
    name, values = ("log_variance", held.log_variances) if hasattr(held, "log_variances") else ("weight", held.paces)
    return {f"{m}/{name}": float(v) for m, v in zip(members, values.numpy(), strict=True)}
