"""The fast engine's losses: each function returns a loss of tinyqae.losses, a scalar of the backend, and writes its gradient
to the last argument.
"""

import numpy as np

from .. import backend, losses
from . import kernels, ops

# The product of this many factors in [1, 2] is below the largest float32, 2^128; see bce_with_logits.
ROWS_PER_LOGARITHM = 64


def bce_with_logits(logits, target, row, dlogits):
    """losses.bce_with_logits and its gradient, without temporary arrays; one exponential per element, one logarithm per 64.

    The sum of log(1 + e) over 64 rows is the logarithm of a product of 64 factors, each in [1, 2]. The sigmoid reuses the
    exponential: with s = 1 / (1 + e^-|l|), sigma(l) = 1/2 + copysign(s - 1/2, l). logits, target, dlogits (N, F); row (F,)
    is scratch space.
    """
    xp = backend.xp
    log_terms = linear = 0
    for start in range(0, len(logits), ROWS_PER_LOGARITHM):
        rows = slice(start, start + ROWS_PER_LOGARITHM)
        block, l = dlogits[rows], logits[rows]
        xp.greater(l, 0, out=block)
        block -= target[rows]
        linear += xp.vdot(l, block)
        xp.absolute(l, out=block)
        xp.exp(xp.negative(block, out=block), out=block)
        block += 1
        log_terms += xp.log(xp.prod(block, axis=0, out=row), out=row).sum()
        xp.divide(1, block, out=block)
        block -= 0.5
        xp.copysign(block, l, out=block)
        block += 0.5
        block -= target[rows]
        block *= 1 / logits.size
    return (log_terms + linear) / logits.size


def squared_error_with_logits(logits, target, scratch, dlogits):
    """losses.squared_error_with_logits and its gradient. All (N, F); scratch may have more rows."""
    xp, probability = backend.xp, ops.sigmoid_forward(logits, scratch[: len(logits)])
    xp.subtract(1, probability, out=dlogits)
    dlogits *= probability
    probability -= target
    value = xp.vdot(probability, probability) / logits.size
    dlogits *= probability
    dlogits *= 2 / logits.size
    return value


class CrossEntropyScratch:
    """Scratch space of cross_entropy_with_logits for up to `rows` rows of logits."""

    def __init__(self, rows, vocabulary, dtype):
        xp = backend.xp
        self.starts = xp.arange(rows) * vocabulary
        self.index = xp.empty(rows, self.starts.dtype)
        self.row, self.chosen, self.ones = xp.empty((rows, 1), dtype), xp.empty(rows, dtype), xp.ones((vocabulary, 1), dtype)


def cross_entropy_with_logits(logits, labels, weights, scratch, dlogits):
    """losses.cross_entropy_with_logits and its gradient. logits, dlogits (M, V), labels and weights (M,); scratch a
    CrossEntropyScratch for at least M rows.
    """
    xp, m = backend.xp, len(labels)
    row, chosen, index = scratch.row[:m], scratch.chosen[:m], scratch.index[:m]
    flat = dlogits.reshape(-1)
    xp.add(scratch.starts[:m], labels, out=index)
    xp.subtract(logits, xp.max(logits, axis=-1, keepdims=True, out=row), out=dlogits)
    value = -xp.vdot(weights, backend.gather(flat, index, chosen))
    xp.exp(dlogits, out=dlogits)
    backend.gemm(dlogits, scratch.ones, row)
    # weight p = e^l (weight / sum e^l), with one pass over the rows.
    dlogits *= xp.divide(weights, row[:, 0], out=chosen)[:, None]
    value = value + xp.vdot(weights, xp.log(row, out=row)[:, 0])
    chosen = backend.gather(flat, index, chosen)
    chosen -= weights
    xp.put(flat, index, chosen)
    return value


def fence_loss(z, dz):
    """losses.fence_loss, and its gradient in dz. z, dz (N, F)."""
    xp = backend.xp
    xp.sign(xp.subtract(0.5, z, out=dz), out=dz)
    # min(z, 1 - z) = 1/2 - |1/2 - z|, and |1/2 - z| = sign * (1/2 - z)
    value = 0.5 - (dz.sum() / 2 - xp.vdot(dz, z)) / z.size
    dz *= 1 / z.size
    return value


def commitment_loss(a, b, da):
    """losses.commitment_loss, and its gradient in da. a, b, da (N, F)."""
    xp = backend.xp
    xp.subtract(a, b, out=da)
    value = xp.vdot(da, da) / a.size
    da *= 2 / a.size
    return value


def binarize_and_commit(a, b, da):
    """b = 1[a > 1/2], then commitment_loss(a, b, da), so that a fused kernel can compute both."""
    return commitment_loss(a, ops.binarize_forward(a, b), da)


def entropy_loss(a, scratch, rows, da):
    """losses.entropy_loss, and its gradient in da. a, da (N, K); scratch (N, K) and rows (2, K) are scratch space."""
    mean, logit_of_mean = rows
    uncertainty = _entropy_and_logit(a, scratch, da) / a.size
    backend.xp.mean(a, axis=0, out=mean)
    usage = _entropy_and_logit(mean, scratch[0], logit_of_mean) / mean.size
    backend.xp.subtract(logit_of_mean, da, out=da)
    da *= 1 / a.size
    return uncertainty - usage


def _entropy_and_logit(p, scratch, logit):
    """The sum of H(p), and logit(p) in `logit`. p is clipped to [eps, 1 - eps], for a finite logarithm. All of one shape.

    Clipping does not affect training: the logit is multiplied by p (1 - p), the sigmoid's derivative.
    """
    xp = backend.xp
    eps = float(np.finfo(p.dtype).eps)
    xp.clip(p, eps, 1 - eps, out=logit)
    xp.log(xp.subtract(1, logit, out=scratch), out=scratch)
    xp.subtract(xp.log(logit, out=logit), scratch, out=logit)
    return -(scratch.sum() + xp.vdot(p, logit))


class BufferedLoss:
    """losses.Loss with buffers for the largest batch so far. scratch_for: makes the scratch space of `function`."""

    capacity = 0

    def __init__(self, function, scratch_for):
        self.function, self.scratch_for = function, scratch_for

    def forward(self, logits, *targets):
        n = len(logits)
        if n > self.capacity:
            self.capacity, self._dlogits = n, backend.xp.empty(logits.shape, logits.dtype)
            self._scratch = self.scratch_for(logits)
        self.dlogits = self._dlogits[:n]
        return kernels.choose(self.function, logits.dtype)(logits, *targets, self._scratch, self.dlogits)

    def backward(self):
        return self.dlogits


# The arguments of BufferedLoss, by the function of the reference engine.
FAST_LOSSES = {
    losses.bce_with_logits: (bce_with_logits, lambda logits: backend.xp.empty(logits.shape[1], logits.dtype)),
    losses.squared_error_with_logits: (squared_error_with_logits, lambda logits: backend.xp.empty_like(logits)),
    losses.cross_entropy_with_logits: (
        cross_entropy_with_logits,
        lambda logits: CrossEntropyScratch(len(logits), logits.shape[1], logits.dtype),
    ),
}
