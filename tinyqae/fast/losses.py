"""The fast engine's losses: each function computes a value of tinyqae.losses, a scalar of the backend, and writes its
gradient into the last argument. `target` has the shape of `logits` and values in [0, 1].
"""
import numpy as np

from .. import backend
from . import kernels
from .activations import sigmoid_forward
from .binarize import binarize_forward

# A product of this many factors in [1, 2] stays below the largest float32 (2^128): see bce_with_logits.
ROWS_PER_LOGARITHM = 64


def bce_with_logits(logits, target, row, dlogits):
    """losses.bce_with_logits and its gradient without temporary arrays, one exponential and hardly a logarithm an element.

    sum log(1 + e) over 64 rows is the logarithm of a product of 64 factors, each in [1, 2]: one logarithm instead of
    64. max(l, 0) = (|l| + l) / 2 turns the rest into sums and one dot product. The sigmoid reuses the exponential:
    with s = 1 / (1 + e^-|l|), sigma(l) = 1/2 + copysign(s - 1/2, l).

    logits, target, dlogits (N, F), C-contiguous; row (F,) is scratch space.
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


def squared_error_with_logits(logits, target, probability, dlogits):
    """Mean of (p - t)^2, p = sigma(l); derivative 2 (p - t) p (1 - p) / size.

    logits, target, dlogits (N, F); probability (N, F) is scratch space and holds p afterwards.
    """
    xp = backend.xp
    sigmoid_forward(logits, probability)
    xp.subtract(1, probability, out=dlogits)
    xp.multiply(dlogits, probability, out=dlogits)
    xp.subtract(probability, target, out=probability)
    value = xp.vdot(probability, probability) / logits.size
    xp.multiply(dlogits, probability, out=dlogits)
    xp.multiply(dlogits, 2 / logits.size, out=dlogits)
    xp.add(probability, target, out=probability)
    return value


class CrossEntropyScratch:
    """What cross_entropy_with_logits needs for up to `rows` rows of `symbols` logits."""

    def __init__(self, rows, symbols, dtype):
        xp = backend.xp
        self.starts = xp.arange(rows) * symbols
        self.index = xp.empty(rows, self.starts.dtype)
        self.row, self.chosen, self.ones = xp.empty((rows, 1), dtype), xp.empty(rows, dtype), xp.ones((symbols, 1), dtype)


def cross_entropy_with_logits(logits, labels, weights, scratch, dlogits):
    """The weighted sum over rows of -log p[label], p = softmax(l); derivative weight (p - onehot(label)).

    Weights of 1/M give the mean; a weight of 0 leaves a row out, as it does padding.
    logits, dlogits (M, V), C-contiguous; labels (M,), integers in [0, V); weights (M,), of the dtype of logits; scratch: a
    CrossEntropyScratch for at least M rows of V. Bishop, Pattern Recognition, section 4.3.4.
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
    """The report's section 2.3: mean of min(z, 1 - z), large for codes that "sit on the fence" at 1/2.

    Derivative: +1/size where z < 1/2, -1/size where z > 1/2, and 0 at the kink z = 1/2. z in [0, 1] and dz (N, F).
    """
    xp = backend.xp
    xp.subtract(0.5, z, out=dz)
    xp.sign(dz, out=dz)
    # min(z, 1 - z) = 1/2 - |1/2 - z|, and |1/2 - z| = sign * (1/2 - z)
    value = 0.5 - (dz.sum() / 2 - xp.vdot(dz, z)) / z.size
    xp.multiply(dz, 1 / z.size, out=dz)
    return value


def commit_loss(a, b, da):
    """The report's section 2.4: mean of (b - a)^2, the price of the values a before the threshold for not being the
    bits b = 1[a > 1/2]. b is held constant, so the derivative is 2 (a - b) / size. a, b and da (N, F).
    """
    xp = backend.xp
    xp.subtract(a, b, out=da)
    value = xp.vdot(da, da) / a.size
    xp.multiply(da, 2 / a.size, out=da)
    return value


def binarize_and_commit(a, b, da):
    """b = 1[a > 1/2], then commit_loss(a, b, da): the two belong together in every training step."""
    return commit_loss(a, binarize_forward(a, b), da)


def entropy_loss(a, scratch, rows, da):
    """losses.entropy_loss of a (N, K), and its gradient in da (N, K); scratch (N, K) and rows (2, K) are scratch space."""
    xp, (mean, logit_of_mean) = backend.xp, rows
    undecided = _entropy_and_logit(a, scratch, da) / a.size
    xp.mean(a, axis=0, out=mean)
    in_use = _entropy_and_logit(mean, scratch[0], logit_of_mean) / mean.size
    xp.subtract(logit_of_mean, da, out=da)
    xp.multiply(da, 1 / a.size, out=da)
    return undecided - in_use


def _entropy_and_logit(p, scratch, logit):
    """The sum of H(p); writes logit(p). A p of 0 or 1 is moved by the dtype's eps, for a finite logarithm.

    No training notices: the logit meets the factor p (1 - p) of the sigmoid's derivative. p, scratch, logit: one shape.
    """
    xp = backend.xp
    eps = float(np.finfo(p.dtype).eps)
    xp.clip(p, eps, 1 - eps, out=logit)
    xp.subtract(1, logit, out=scratch)
    xp.log(scratch, out=scratch)
    xp.log(logit, out=logit)
    xp.subtract(logit, scratch, out=logit)
    return -(scratch.sum() + xp.vdot(p, logit))


class BinaryCrossEntropy:
    """losses.Loss for bce_with_logits, with buffers for the largest batch so far."""

    capacity = 0

    def forward(self, logits, target):
        n, features = logits.shape
        if n > self.capacity:
            self.capacity = n
            self._dlogits, self._scratch = backend.xp.empty(logits.shape, logits.dtype), self._scratch_for(logits)
        self.dlogits = self._dlogits[:n]
        return self._compute(logits, target)

    def backward(self):
        return self.dlogits

    def _scratch_for(self, logits):
        return backend.xp.empty(logits.shape[1], logits.dtype)

    def _compute(self, logits, target):
        return kernels.choose(bce_with_logits, logits.dtype)(logits, target, self._scratch, self.dlogits)


class SquaredError(BinaryCrossEntropy):
    """losses.Loss for squared_error_with_logits."""

    def _scratch_for(self, logits):
        return backend.xp.empty_like(logits)

    def _compute(self, logits, target):
        squared_error = kernels.choose(squared_error_with_logits, logits.dtype)
        return squared_error(logits, target, self._scratch[:len(logits)], self.dlogits)


class CrossEntropy:
    """losses.Loss for cross_entropy_with_logits."""

    capacity = 0

    def forward(self, logits, labels, weights):
        m, vocabulary = logits.shape
        if m > self.capacity:
            self.capacity = m
            self._dlogits = backend.xp.empty(logits.shape, logits.dtype)
            self._scratch = CrossEntropyScratch(m, vocabulary, logits.dtype)
        self.dlogits = self._dlogits[:m]
        cross_entropy = kernels.choose(cross_entropy_with_logits, logits.dtype)
        return cross_entropy(logits, labels, weights, self._scratch, self.dlogits)

    def backward(self):
        return self.dlogits
