"""Batch norm, ReLU and 2x2 max-pooling of a convolution's output, fused; also without the ReLU or the pooling.

`batch_norm_forward`, `relu_forward` and `max_pool_forward` of ops.py in sequence take seven passes over the largest arrays
of a network, and each keeps a copy. Here pooling comes first, which is exact, since the other two maps are monotone:

    max(relu(a x + s)) = relu(a max(x) + s) for a > 0, and relu(a min(x) + s) for a < 0

with a = gamma rstd and s = beta - a mean. So only a quarter of the values is normalized, and only x itself and the pooled
array are kept for the backward pass.

A batch may be split into parts, one per thread. Only the sums over all images couple the parts, so each pass has two
halves, and in between the sums are combined on one thread, in the order of the parts:

    forward     batch_statistics of each part, combine_statistics, norm_relu_pool_forward of each part
    backward    norm_gradient_sums of each part, their sum, norm_relu_pool_backward of each part

The arguments of all functions, for a part of a batch:

    x, dx                     (N, H, W, C)
    pooled, out, dout, g      (N, H/2, W/2, C); without pooling (N, H, W, C), and pooled is x itself
    all vectors               (C,); mean, variance and rstd = 1 / sqrt(variance + eps) of the whole batch
    relu, pool                whether there is a ReLU and max-pooling
    scratch                   a NormScratch; every thread needs its own
"""

import numpy as np

from .. import backend
from .conv import ChannelOps
from .ops import reciprocal_root, relu_backward, window_extrema, window_views

# Bytes per step of the variance: on the CPU few enough for the cache, on a GPU enough for a few large operations.
STATISTICS_BYTES = {"numpy": 2**18, "cupy": 2**24}
# The number of thread blocks among which a GPU divides the rows of a sum over pixels.
GPU_BLOCKS = 128


class NormScratch(ChannelOps):
    """Scratch space for x of up to this shape (N, H, W, C), allocated once. It holds no values between calls."""

    def __init__(self, shape, pool, dtype):
        super().__init__(shape, dtype)
        xp = backend.xp
        images, height, width, channels = shape
        pooled = (images, height // 2, width // 2, channels) if pool else shape
        self.rows_per_chunk = max(1, STATISTICS_BYTES[backend.name] // (width * channels * np.dtype(dtype).itemsize))
        self.chunk = xp.empty((min(self.rows_per_chunk, images * height), width * channels), dtype)
        self.vectors, self.negative = xp.empty((4, channels), dtype), xp.empty(channels, bool)
        self.centred = xp.empty(pooled, dtype)
        if pool:
            self.is_extremum, self.pooled = xp.empty(pooled, bool), xp.empty(pooled, dtype)
        if backend.name != "numpy":
            self.partial = xp.empty((GPU_BLOCKS, 3, channels), dtype)


def batch_statistics(x, scratch, mean, variance):
    """Write the mean and the (biased) variance of every channel of this part.

    The squares are those of centred values, chunk by chunk in the cache: the mean of squares minus the square of the mean
    would lose precision if the mean is large.
    """
    xp = backend.xp
    pixels = x.size // len(mean)
    scratch.sum(x, mean)
    mean *= 1 / pixels
    xp.copyto(scratch.row, mean)
    rows, row = x.reshape(-1, scratch.row.size), scratch.row.reshape(-1)
    variance.fill(0)
    for start in range(0, len(rows), scratch.rows_per_chunk):
        source = rows[start : start + scratch.rows_per_chunk]
        chunk = xp.subtract(source, row, out=scratch.chunk[: len(source)])
        chunk *= chunk
        variance += scratch.sum(chunk, scratch.vectors[0])
    variance *= 1 / pixels


def combine_statistics(counts, means, variances, eps, rstd):
    """Combine the statistics of the parts into those of the batch (Chan, Golub and LeVeque 1983).

    Merging a part with mean m' and variance v', which is the fraction s of all values, gives

        m + s (m' - m)        and        v + s (v' - v + (1 - s) (m' - m)^2)

    the variance within the two and between them, without a large sum of squares. counts are the images of each part; means
    and variances are lists, of which the first elements become those of the batch, and the others are overwritten.
    """
    mean, variance, count = means[0], variances[0], counts[0]
    for part_count, difference, change in zip(counts[1:], means[1:], variances[1:], strict=True):
        count += part_count
        fraction = part_count / count
        difference -= mean
        between = backend.xp.multiply(difference, difference, out=rstd)
        between *= 1 - fraction
        change -= variance
        change += between
        change *= fraction
        variance += change
        difference *= fraction
        mean += difference
    reciprocal_root(variance, eps, rstd)


def norm_relu_pool_forward(x, gamma, beta, mean, rstd, relu, pool, scratch, pooled, out):
    """out = max-pool(relu(gamma (x - mean) rstd + beta))."""
    xp = backend.xp
    if pool:
        _pool_extrema(x, gamma, scratch, pooled)
    scale, shift, *_ = scratch.vectors
    xp.multiply(gamma, rstd, out=scale)
    xp.subtract(beta, xp.multiply(scale, mean, out=shift), out=shift)
    scratch.apply(xp.multiply, pooled, scale, out)
    scratch.apply(xp.add, out, shift, out)
    return xp.maximum(out, 0, out=out) if relu else out


def norm_gradient_sums(dout, pooled, out, mean, rstd, relu, scratch, g, dgamma, dbeta):
    """The gradient g of the normalization's output, and this part's contribution to dgamma and dbeta.

    g = dout where the ReLU is active, at the extrema of the windows. Elsewhere the gradient is zero, so the sums of
    ops.batch_norm_backward are over the pooled pixels:

        dbeta = sum g        dgamma = sum g (pooled - mean) rstd
    """
    xp = backend.xp
    centred = scratch.centred[: len(dout)]
    if relu:
        relu_backward(dout, out, g)
    else:
        xp.copyto(g, dout)
    scratch.sum(g, dbeta)
    scratch.apply(xp.subtract, pooled, mean, centred)
    centred *= g
    scratch.sum(centred, dgamma)
    dgamma *= rstd


def norm_relu_pool_backward(g, x, pooled, gamma, mean, rstd, dgamma, dbeta, count, pool, scratch, dx):
    """The gradient with respect to x.

    dx = gamma rstd (g - (dbeta + xhat dgamma) / M) is affine in x, apart from g: with M = count pixels in the batch,

        dx = c1 x + c0, plus gamma rstd g at the extrema
        c1 = -gamma rstd^2 dgamma / M        c0 = -gamma rstd dbeta / M - c1 mean

    dgamma and dbeta are those of the whole batch; g is overwritten. Where several values of a window are equal, the first
    one gets the gradient, as in ops.pool.max_pool_backward.
    """
    xp = backend.xp
    scale, c1, c0, mean_term = scratch.vectors
    xp.multiply(gamma, rstd, out=scale)
    xp.multiply(scale, rstd, out=c1)
    c1 *= dgamma
    c1 *= -1 / count
    xp.multiply(scale, dbeta, out=c0)
    c0 *= -1 / count
    c0 -= xp.multiply(c1, mean, out=mean_term)
    scratch.apply(xp.multiply, x, c1, dx)
    scratch.apply(xp.add, dx, c0, dx)
    scratch.apply(xp.multiply, g, scale, g)
    if not pool:
        return xp.add(dx, g, out=dx)
    is_extremum, taken = scratch.is_extremum[: len(x)], scratch.pooled[: len(x)]
    *views, (_, dlast) = zip(window_views(x), window_views(dx), strict=True)
    for view, dview in views:
        xp.multiply(g, xp.equal(view, pooled, out=is_extremum), out=taken)
        dview += taken
        g -= taken
    dlast += g
    return dx


def _pool_extrema(x, gamma, scratch, pooled):
    """The maximum of every window, or the minimum in channels with a negative gamma (few or none)."""
    xp = backend.xp
    window_extrema(xp.maximum, x, pooled)
    if backend.name != "numpy":
        # Reading the sign of gamma would synchronize the GPU, so both extrema are computed for all channels.
        minimum = window_extrema(xp.minimum, x, scratch.pooled[: len(x)])
        xp.copyto(pooled, minimum, where=xp.less(gamma, 0, out=scratch.negative))
        return
    for channel in xp.flatnonzero(gamma < 0).tolist():
        window_extrema(xp.minimum, x[..., channel, None], pooled[..., channel, None])
