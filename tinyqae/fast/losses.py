"""The fast engine's losses: each function returns a loss of tinyqae.losses, a scalar of the backend, and writes its gradient
to the last argument.
"""
import numpy as np

from .. import backend
from . import kernels
from .activations import sigmoid_forward
from .binarize import binarize_forward

# The product of this many factors in [1, 2] is below the largest float32, 2^128; see bce_with_logits.
ROWS_PER_LOGARITHM = 64


def bce_with_logits(logits, target, row, dlogits):
    """losses.bce_with_logits and its gradient, without temporary arrays; one exponential per element, one logarithm per 64.

    The sum of log(1 + e) over 64 rows is the logarithm of a product of 64 factors, each in [1, 2]. max(l, 0) = (|l| + l) / 2
    turns the rest into sums and one dot product. The sigmoid reuses the exponential: with s = 1 / (1 + e^-|l|),
    sigma(l) = 1/2 + copysign(s - 1/2, l).

    Args:
        logits: (N, F).
        target: (N, F), in [0, 1].
        row: (F,), scratch space.
        dlogits: (N, F), written.
    """
    xp = backend.xp
    log_terms = absolute = 0
    for start in range(0, len(logits), ROWS_PER_LOGARITHM):
        rows = slice(start, start + ROWS_PER_LOGARITHM)
        block, l = dlogits[rows], logits[rows]
        xp.absolute(l, out=block)
        absolute += block.sum()
        xp.negative(block, out=block)
        xp.exp(block, out=block)
        xp.add(block, 1, out=block)
        xp.prod(block, axis=0, out=row)
        xp.log(row, out=row)
        log_terms += row.sum()
        xp.divide(1, block, out=block)
        xp.subtract(block, 0.5, out=block)
        xp.copysign(block, l, out=block)
        xp.add(block, 0.5, out=block)
        xp.subtract(block, target[rows], out=block)
        xp.multiply(block, 1 / logits.size, out=block)
    linear = (absolute + logits.sum()) / 2 - xp.vdot(logits, target)
    return (log_terms + linear) / logits.size


def squared_error_with_logits(logits, target, scratch, dlogits):
    """The mean of (p - t)^2, p = sigma(l); gradient 2 (p - t) p (1 - p) / size. All (N, F); scratch may have more rows."""
    xp, probability = backend.xp, scratch[:len(logits)]
    sigmoid_forward(logits, probability)
    xp.subtract(1, probability, out=dlogits)
    xp.multiply(dlogits, probability, out=dlogits)
    xp.subtract(probability, target, out=probability)
    value = xp.vdot(probability, probability) / logits.size
    xp.multiply(dlogits, probability, out=dlogits)
    xp.multiply(dlogits, 2 / logits.size, out=dlogits)
    return value


class CrossEntropyScratch:
    """Scratch space of cross_entropy_with_logits for up to `rows` rows of logits."""

    def __init__(self, rows, vocabulary, dtype):
        xp = backend.xp
        self.starts = xp.arange(rows) * vocabulary
        self.index = xp.empty(rows, self.starts.dtype)
        self.row, self.chosen, self.ones = xp.empty((rows, 1), dtype), xp.empty(rows, dtype), xp.ones((vocabulary, 1), dtype)


def cross_entropy_with_logits(logits, labels, weights, scratch, dlogits):
    """The weighted sum over rows of -log p[label], p = softmax(l); gradient weight (p - onehot(label)).

    Args:
        logits: (M, V).
        labels: (M,), integers in [0, V).
        weights: (M,). 1/M gives the mean; 0 masks a row, such as padding.
        scratch: a CrossEntropyScratch for at least M rows.
        dlogits: (M, V), written.
    """
    xp, m = backend.xp, len(labels)
    row, chosen, index = scratch.row[:m], scratch.chosen[:m], scratch.index[:m]
    flat = dlogits.reshape(-1)
    xp.add(scratch.starts[:m], labels, out=index)
    xp.max(logits, axis=-1, keepdims=True, out=row)
    xp.subtract(logits, row, out=dlogits)
    backend.gather(flat, index, chosen)
    value = -xp.vdot(weights, chosen)
    xp.exp(dlogits, out=dlogits)
    backend.gemm(dlogits, scratch.ones, row)
    # weight p = e^l (weight / sum e^l), with one pass over the rows.
    xp.divide(weights, row[:, 0], out=chosen)
    xp.multiply(dlogits, chosen[:, None], out=dlogits)
    xp.log(row, out=row)
    value = value + xp.vdot(weights, row[:, 0])
    backend.gather(flat, index, chosen)
    xp.subtract(chosen, weights, out=chosen)
    xp.put(flat, index, chosen)
    return value


def fence_loss(z, dz):
    """losses.fence_loss, and its gradient in dz. z, dz (N, F)."""
    xp = backend.xp
    xp.subtract(0.5, z, out=dz)
    xp.sign(dz, out=dz)
    # min(z, 1 - z) = 1/2 - |1/2 - z|, and |1/2 - z| = sign * (1/2 - z)
    value = 0.5 - (dz.sum() / 2 - xp.vdot(dz, z)) / z.size
    xp.multiply(dz, 1 / z.size, out=dz)
    return value


def commitment_loss(a, b, da):
    """losses.commitment_loss, and its gradient in da. a, b, da (N, F)."""
    xp = backend.xp
    xp.subtract(a, b, out=da)
    value = xp.vdot(da, da) / a.size
    xp.multiply(da, 2 / a.size, out=da)
    return value


def binarize_and_commit(a, b, da):
    """b = 1[a > 1/2], then commitment_loss(a, b, da), so that a fused kernel can compute both."""
    return commitment_loss(a, binarize_forward(a, b), da)


def entropy_loss(a, scratch, rows, da):
    """losses.entropy_loss, and its gradient in da. a, da (N, K); scratch (N, K) and rows (2, K) are scratch space."""
    xp, (mean, logit_of_mean) = backend.xp, rows
    uncertainty = _entropy_and_logit(a, scratch, da) / a.size
    xp.mean(a, axis=0, out=mean)
    usage = _entropy_and_logit(mean, scratch[0], logit_of_mean) / mean.size
    xp.subtract(logit_of_mean, da, out=da)
    xp.multiply(da, 1 / a.size, out=da)
    return uncertainty - usage


def _entropy_and_logit(p, scratch, logit):
    """The sum of H(p), and logit(p) in `logit`. p is clipped to [eps, 1 - eps], for a finite logarithm. All of one shape.

    Clipping does not affect training: the logit is multiplied by p (1 - p), the sigmoid's derivative.
    """
    xp = backend.xp
    eps = float(np.finfo(p.dtype).eps)
    xp.clip(p, eps, 1 - eps, out=logit)
    xp.subtract(1, logit, out=scratch)
    xp.log(scratch, out=scratch)
    xp.log(logit, out=logit)
    xp.subtract(logit, scratch, out=logit)
    return -(scratch.sum() + xp.vdot(p, logit))


class BufferedLoss:
    """losses.Loss with buffers for the largest batch so far. A subclass has the function and its scratch space."""

    capacity = 0

    def forward(self, logits, *targets):
        n = len(logits)
        if n > self.capacity:
            self.capacity = n
            self._dlogits, self._scratch = backend.xp.empty(logits.shape, logits.dtype), self._scratch_for(logits)
        self.dlogits = self._dlogits[:n]
        return kernels.choose(self.function, logits.dtype)(logits, *targets, self._scratch, self.dlogits)

    def backward(self):
        return self.dlogits


class BinaryCrossEntropy(BufferedLoss):
    """losses.Loss with bce_with_logits."""

    function = staticmethod(bce_with_logits)

    def _scratch_for(self, logits):
        return backend.xp.empty(logits.shape[1], logits.dtype)


class SquaredError(BufferedLoss):
    """losses.Loss with squared_error_with_logits."""

    function = staticmethod(squared_error_with_logits)

    def _scratch_for(self, logits):
        return backend.xp.empty_like(logits)


class CrossEntropy(BufferedLoss):
    """losses.Loss with cross_entropy_with_logits."""

    function = staticmethod(cross_entropy_with_logits)

    def _scratch_for(self, logits):
        return CrossEntropyScratch(*logits.shape, logits.dtype)
