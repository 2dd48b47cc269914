"""Batch norm, ReLU and 2x2 max-pooling of a convolution's output in one go; without the ReLU or the pooling too.

`batch_norm_forward` of norm.py, `relu_forward` and `max_pool_forward`, one after another, are the textbook form: seven
passes over the largest arrays of a network, and a normalized copy of each. Here the order is changed where that is exact:

    max(relu(a x + s)) = relu(a max(x) + s) for a > 0, and relu(a min(x) + s) for a < 0

with a = gamma rstd and s = beta - a mean, since both maps are monotone. So x is pooled first, and a quarter of it is
normalized; nothing but x itself and the pooled array is kept for the backward pass.

A batch may be worked on in parts, one for each thread. What couples its images is sums over all of them, so each pass
has two halves, and between them the sums of the parts are put together, on one thread and in the order of the parts:

    forward     batch_statistics of each part, combine_statistics, norm_relu_pool_forward of each part
    backward    norm_gradient_sums of each part, their sum, norm_relu_pool_backward of each part

Arrays (N, H, W, C) are treated as rows of W C values, and what belongs to a channel is repeated W times to such a row,
because an operation on long rows runs at the speed of memory.
"""
import numpy as np

from .. import backend
from ..backend import gemm
from .pool import pool_places

# At a time: on the CPU what stays in the cache, on a GPU a few large operations.
STATISTICS_BYTES = {"numpy": 2**18, "cupy": 2**24}
# Into how many parts a GPU divides the rows of a sum over pixels, a block of threads for each.
PARTS_ON_GPU = 128


class NormScratch:
    """Scratch space for these functions, allocated once: shape (N, H, W, C) of x, N the largest part of a batch; pool 1
    or 2. It holds no values between calls, but serves one call at a time: threads need one each.
    """

    def __init__(self, shape, pool, dtype):
        xp = backend.xp
        images, height, width, channels = shape
        pooled = (images, height // pool, width // pool, channels)
        self.row = xp.empty((width, channels), dtype)
        self.ones = xp.ones(images * height * width, dtype)
        self.rows_per_piece = max(1, STATISTICS_BYTES[backend.name] // (width * channels * np.dtype(dtype).itemsize))
        self.piece = xp.empty((min(self.rows_per_piece, images * height), width * channels), dtype)
        self.channel = xp.empty((4, channels), dtype)
        self.centred = xp.empty(pooled, dtype)
        self.is_maximum = xp.empty(pooled, bool) if pool > 1 else None
        self.placed = xp.empty(pooled, dtype) if pool > 1 else None
        self.falling = xp.empty(channels, bool)
        self.partial = None if backend.name == "numpy" else xp.empty((PARTS_ON_GPU, 3, channels), dtype)


def batch_statistics(x, scratch, mean, variance):
    """mean and (biased) variance of every channel; x (N, H, W, C), the others (C,).

    Sums over pixels are products with a vector of ones. The squares are of centred values, piece by piece in the cache:
    the mean of squares minus the square of the mean would lose digits where the mean is large.
    """
    xp = backend.xp
    channels = x.shape[-1]
    pixels = x.reshape(-1, channels)
    gemm(scratch.ones[:len(pixels)], pixels, mean)
    xp.multiply(mean, 1 / len(pixels), out=mean)
    xp.copyto(scratch.row, mean)
    rows, row, part = x.reshape(-1, scratch.row.size), scratch.row.reshape(-1), scratch.channel[0]
    variance.fill(0)
    for start in range(0, len(rows), scratch.rows_per_piece):
        source = rows[start:start + scratch.rows_per_piece]
        piece = xp.subtract(source, row, out=scratch.piece[:len(source)])
        xp.multiply(piece, piece, out=piece)
        squares = piece.reshape(-1, channels)
        gemm(scratch.ones[:len(squares)], squares, part)
        xp.add(variance, part, out=variance)
    xp.multiply(variance, 1 / len(pixels), out=variance)


def combine_statistics(counts, means, variances, eps, rstd):
    """From the statistics of the parts those of the batch, in means[0] and variances[0]; the others are overwritten.

    A part with mean m' and variance v' that holds the share s of all values changes those of the values so far to

        m + s (m' - m)        and        v + s (v' - v + (1 - s) (m' - m)^2)

    the variance within the two and between them (Chan, Golub and LeVeque 1983), without a large sum of squares.
    counts: images (or values) of each part; means, variances: a list of (C,); rstd = 1 / sqrt(variance + eps), (C,).
    """
    xp = backend.xp
    mean, variance, count = means[0], variances[0], counts[0]
    for part_count, difference, change in zip(counts[1:], means[1:], variances[1:], strict=True):
        count += part_count
        share = part_count / count
        xp.subtract(difference, mean, out=difference)
        between = xp.multiply(difference, difference, out=rstd)
        xp.multiply(between, 1 - share, out=between)
        xp.subtract(change, variance, out=change)
        xp.add(change, between, out=change)
        xp.multiply(change, share, out=change)
        xp.add(variance, change, out=variance)
        xp.multiply(difference, share, out=difference)
        xp.add(mean, difference, out=mean)
    xp.add(variance, eps, out=rstd)
    xp.sqrt(rstd, out=rstd)
    xp.divide(1, rstd, out=rstd)


def norm_relu_pool_forward(x, gamma, beta, mean, rstd, relu, pool, scratch, pooled, out):
    """out = max-pool(relu(gamma (x - mean) rstd + beta)), mean and rstd being those of the batch that x is a part of.

    x (N, H, W, C); gamma, beta, mean, rstd (C,); relu True or False; pool 1 (none) or 2; pooled and out
    (N, H/pool, W/pool, C): the pooled x, which is written unless pool is 1 (then it is x itself), and the result.
    Returns out.
    """
    xp = backend.xp
    if pool > 1:
        _pool_extremes(x, gamma, pool, scratch, pooled)
    scale, shift, *_ = scratch.channel
    xp.multiply(gamma, rstd, out=scale)
    xp.multiply(scale, mean, out=shift)
    xp.subtract(beta, shift, out=shift)
    _times_channel(pooled, scale, scratch, out)
    _plus_channel(out, shift, scratch)
    if relu:
        xp.maximum(out, 0, out=out)
    return out


def norm_gradient_sums(dout, pooled, out, mean, rstd, relu, scratch, g, dgamma, dbeta):
    """The gradient g after the normalization, and what this part of the batch gives to dgamma and dbeta.

    g = dout where the ReLU was on, at the windows' extremes alone. In norm.batch_norm_backward all other places have
    gradient zero, so its sums are over the pooled pixels:

        dbeta = sum g        dgamma = sum g (pooled - mean) rstd

    dout, g and the others' shapes as in the forward.
    """
    xp = backend.xp
    channels = len(dbeta)
    centred = scratch.centred[:len(dout)]
    if relu:
        xp.greater(out, 0, out=g)
        xp.multiply(g, dout, out=g)
    else:
        xp.copyto(g, dout)
    pixels = g.reshape(-1, channels)
    ones = scratch.ones[:len(pixels)]
    gemm(ones, pixels, dbeta)
    row = scratch.row[:g.shape[2]]
    xp.copyto(row, mean)
    xp.subtract(pooled.reshape(-1, row.size), row.reshape(-1), out=centred.reshape(-1, row.size))
    xp.multiply(centred, g, out=centred)
    gemm(ones, centred.reshape(-1, channels), dgamma)
    xp.multiply(dgamma, rstd, out=dgamma)


def norm_relu_pool_backward(g, x, pooled, gamma, mean, rstd, dgamma, dbeta, count, pool, scratch, dx):
    """The derivative with respect to x, from g of norm_gradient_sums and the whole batch's dgamma and dbeta.

    dx = gamma rstd (g - (dbeta + xhat dgamma) / M) is linear in x but for g: with M = count pixels in the batch,

        dx = c1 x + c0, plus gamma rstd g at the extremes
        c1 = -gamma rstd^2 dgamma / M        c0 = -gamma rstd dbeta / M - c1 mean

    Shapes as in the forward. g is used up. A tie goes to the first place, as in max_pool_backward.
    """
    xp = backend.xp
    scale, c1, c0, mean_term = scratch.channel
    xp.multiply(gamma, rstd, out=scale)
    xp.multiply(scale, rstd, out=c1)
    xp.multiply(c1, dgamma, out=c1)
    xp.multiply(c1, -1 / count, out=c1)
    xp.multiply(scale, dbeta, out=c0)
    xp.multiply(c0, -1 / count, out=c0)
    xp.multiply(c1, mean, out=mean_term)
    xp.subtract(c0, mean_term, out=c0)
    _times_channel(x, c1, scratch, dx)
    _plus_channel(dx, c0, scratch)
    _times_channel(g, scale, scratch, g)
    if pool == 1:
        return xp.add(dx, g, out=dx)
    is_maximum, placed = scratch.is_maximum[:len(x)], scratch.placed[:len(x)]
    *places, last = zip(pool_places(x, pool, pooled, "pooled"), pool_places(dx, pool, pooled, "pooled"), strict=True)
    for place, dplace in places:
        xp.equal(place, pooled, out=is_maximum)
        xp.multiply(g, is_maximum, out=placed)
        xp.add(dplace, placed, out=dplace)
        xp.subtract(g, placed, out=g)
    xp.add(last[1], g, out=last[1])
    return dx


def _pool_extremes(x, gamma, pool, scratch, pooled):
    """The maximum of every window, or the minimum for the channels whose gamma is negative (few or none)."""
    xp = backend.xp
    first, *others = pool_places(x, pool, pooled, "pooled")
    xp.copyto(pooled, first)
    for place in others:
        xp.maximum(pooled, place, out=pooled)
    if backend.name != "numpy":
        # To ask a GPU which channels these are would be to wait for it: it takes both of all channels.
        smallest = scratch.placed[:len(x)]
        xp.copyto(smallest, first)
        for place in others:
            xp.minimum(smallest, place, out=smallest)
        xp.copyto(pooled, smallest, where=xp.less(gamma, 0, out=scratch.falling))
        return
    for channel in xp.flatnonzero(gamma < 0).tolist():
        smallest = pooled[..., channel]
        xp.copyto(smallest, first[..., channel])
        for place in others:
            xp.minimum(smallest, place[..., channel], out=smallest)


def _times_channel(x, channel, scratch, out):
    """out = x * channel, x and out (N, H, W, C), channel (C,)."""
    width, channels = x.shape[2:]
    row = scratch.row[:width]
    backend.xp.copyto(row, channel)
    backend.xp.multiply(x.reshape(-1, width * channels), row.reshape(-1), out=out.reshape(-1, width * channels))


def _plus_channel(out, channel, scratch):
    """out += channel, out (N, H, W, C), channel (C,)."""
    width, channels = out.shape[2:]
    row, rows = scratch.row[:width], out.reshape(-1, width * channels)
    backend.xp.copyto(row, channel)
    backend.xp.add(rows, row.reshape(-1), out=rows)
