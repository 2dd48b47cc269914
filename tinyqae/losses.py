"""Loss functions: each returns its value (a scalar of the backend) and writes its gradient into the last argument.

Reconstruction losses take the decoder's logits l, the output before the final sigmoid p = sigma(l), because the
gradient is simplest and stablest there. `target` has the shape of `logits` and values in [0, 1].
All means run over every element, so the value does not depend on batch size or image size.
"""
from . import backend
from .ops.activations import sigmoid_forward
from .ops.binarize import binarize_forward

# A product of this many factors in [1, 2] stays below the largest float32 (2^128): see bce_with_logits.
ROWS_PER_LOGARITHM = 64


def bce_with_logits_textbook(logits, target, dlogits):
    """Binary cross-entropy as one writes it down: mean of -t log p - (1 - t) log(1 - p), p = sigma(l).

    With log p = l - softplus(l) and log(1 - p) = -softplus(l), softplus(l) = max(l, 0) + log(1 + e^-|l|), an element is

        max(l, 0) - t l + log(1 + e^-|l|)        and its derivative        sigma(l) - t

    which is stable for every l. logits, target, dlogits: (N, ...). Bishop, Pattern Recognition, section 4.3.2.
    """
    xp = backend.xp
    value = xp.maximum(logits, 0) - target * logits + xp.log1p(xp.exp(-xp.abs(logits)))
    sigmoid_forward(logits, dlogits)
    dlogits -= target
    dlogits /= logits.size
    return value.mean()


def bce_with_logits(logits, target, row, dlogits):
    """bce_with_logits_textbook without temporary arrays, one exponential and hardly a logarithm for each element.

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


def mean_squared_error(output, target, doutput):
    """Mean of (y - t)^2; derivative 2 (y - t) / size. All three arrays have one shape."""
    xp = backend.xp
    xp.subtract(output, target, out=doutput)
    value = xp.vdot(doutput, doutput) / output.size
    xp.multiply(doutput, 2 / output.size, out=doutput)
    return value


def cross_entropy_with_logits_textbook(logits, labels, weights, dlogits):
    """Weighted sum of -log softmax(l)[label], as one writes it down. Arguments as in cross_entropy_with_logits."""
    xp = backend.xp
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    onehot = labels[:, None] == xp.arange(logits.shape[1])
    dlogits[...] = weights[:, None] * (xp.exp(log_p) - onehot)
    return -(weights * log_p[onehot]).sum()


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
    return mean_squared_error(a, b, da)


def binarize_and_commit(a, b, da):
    """b = 1[a > 1/2], then commit_loss(a, b, da): the two belong together in every training step."""
    return commit_loss(a, binarize_forward(a, b), da)
