"""What brings two domains together: losses between features of the source (n, d) and of the target (m, d), float32."""

import math

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the bandwidths, as multiples of the mean squared distance


def coral(source, target):
    """Distance of the covariances, ||C_s - C_t||^2 / 4 d^2 in the Frobenius norm: Deep CORAL (Sun & Saenko 2016,
    arXiv:1607.01719, equations 1 to 3)."""
    from keras import ops

    d = source.shape[-1]
    return ops.sum(ops.square(_covariance(source) - _covariance(target))) / (4.0 * d * d)


def _covariance(x):
    from keras import ops

    n = ops.cast(ops.shape(x)[0], x.dtype)
    x = x - ops.mean(x, axis=0, keepdims=True)
    # One sample has no covariance: the last batch of an epoch can be that small.
    return ops.matmul(ops.transpose(x), x) / ops.maximum(n - 1.0, 1.0)


def mmd(source, target):
    """Squared maximum mean discrepancy with a mean of five Gaussian kernels: Long et al. 2015, arXiv:1502.02791, section 3.1.

    The estimate is the quadratic, biased one of Gretton et al. 2012 (JMLR 13, equation 5), the kernels weigh alike where the
    paper learns their weights, and their bandwidths follow the mean squared distance of the batch, through which
    no gradient goes.
    """
    from keras import ops

    n, m = ops.shape(source)[0], ops.shape(target)[0]
    both = ops.concatenate([source, target], axis=0)
    squares = ops.sum(ops.square(both), axis=1)
    apart = ops.maximum(squares[:, None] + squares[None] - 2.0 * ops.matmul(both, ops.transpose(both)), 0.0)
    total = ops.cast(n + m, apart.dtype)
    width = ops.stop_gradient(ops.sum(apart) / ops.maximum(total * (total - 1.0), 1.0))
    width = ops.maximum(width, 1e-12)
    kernel = sum(ops.exp(-apart / (s * width)) for s in SCALES) / len(SCALES)
    of = [ops.cast(k, apart.dtype) for k in (n, m)]
    within = ops.sum(kernel[:n, :n]) / of[0] ** 2 + ops.sum(kernel[n:, n:]) / of[1] ** 2
    return within - 2.0 * ops.sum(kernel[:n, n:]) / (of[0] * of[1])


def told_apart(source, target):
    """How well a classifier of domains tells them apart: mean binary cross entropy of its logits (n, 1) and (m, 1), the
    source 0 and the target 1; the domain loss of DANN (Ganin et al. 2016, arXiv:1505.07818, equation 9)."""
    from keras import ops

    losses = ops.concatenate([ops.softplus(source), ops.softplus(-target)], axis=0)
    return ops.mean(losses)


def reversed_gradient(x, factor):
    """`x` as it is; its gradient is multiplied by -factor on the way back (arXiv:1505.07818, equations 12 and 13)."""
    import tensorflow as tf

    @tf.custom_gradient
    def reverse(x):
        return tf.identity(x), lambda upstream: -tf.cast(factor, upstream.dtype) * upstream

    return reverse(x)


def progress_factor(gone):
    """The factor of the reversed gradient when `gone` of the training is over, 0 to 1: 2 / (1 + exp(-10 gone)) - 1, so that
    an ignorant classifier of domains does no harm at first (arXiv:1505.07818, equation 14 and section 5.2.2)."""
    from keras import ops

    return 2.0 / (1.0 + ops.exp(-10.0 * gone)) - 1.0


LEAST = math.log(2)  # of `told_apart` by a classifier that cannot tell
