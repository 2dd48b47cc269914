"""Numba kernels of pooling and batch norm, alone and fused, also with ReLU; see elementwise.py for what they have in common.

Two passes compute the statistics, one the output, two all gradients.
"""

import numpy as np

from .. import norm_relu_pool, ops
from ..kernels import replacements_in
from .elementwise import ONE, ZERO, compiled, inlined


@compiled
def _statistics(x, mean, variance):
    rows, channels = x.shape
    multiple_of_4 = rows - rows % 4
    reciprocal = ONE / np.float32(rows)
    mean[:] = ZERO
    # Four rows per update of the sums: fewer stores, and less rounding.
    for m in range(0, multiple_of_4, 4):
        for c in range(channels):
            mean[c] += (x[m, c] + x[m + 1, c]) + (x[m + 2, c] + x[m + 3, c])
    for m in range(multiple_of_4, rows):
        for c in range(channels):
            mean[c] += x[m, c]
    for c in range(channels):
        mean[c] *= reciprocal
    variance[:] = ZERO
    for m in range(0, multiple_of_4, 4):
        for c in range(channels):
            d0, d1, d2, d3 = x[m, c] - mean[c], x[m + 1, c] - mean[c], x[m + 2, c] - mean[c], x[m + 3, c] - mean[c]
            variance[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
    for m in range(multiple_of_4, rows):
        for c in range(channels):
            d0 = x[m, c] - mean[c]
            variance[c] += d0 * d0
    for c in range(channels):
        variance[c] *= reciprocal


@compiled
def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    _statistics(x, mean, variance)
    for c in range(len(mean)):
        rstd[c] = ONE / np.sqrt(variance[c] + np.float32(eps))
    for m in range(len(x)):
        for c in range(len(mean)):
            normalized = (x[m, c] - mean[c]) * rstd[c]
            xhat[m, c] = normalized
            out[m, c] = normalized * gamma[c] + beta[c]
    return out


@compiled
def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    rows, channels = dout.shape
    multiple_of_4 = rows - rows % 4
    reciprocal = ONE / np.float32(rows)
    dgamma[:], dbeta[:] = ZERO, ZERO
    for m in range(0, multiple_of_4, 4):
        for c in range(channels):
            d0, d1, d2, d3 = dout[m, c], dout[m + 1, c], dout[m + 2, c], dout[m + 3, c]
            dbeta[c] += (d0 + d1) + (d2 + d3)
            dgamma[c] += (d0 * xhat[m, c] + d1 * xhat[m + 1, c]) + (d2 * xhat[m + 2, c] + d3 * xhat[m + 3, c])
    for m in range(multiple_of_4, rows):
        for c in range(channels):
            dbeta[c] += dout[m, c]
            dgamma[c] += dout[m, c] * xhat[m, c]
    for m in range(rows):
        for c in range(channels):
            scale = rstd[c] * gamma[c]
            dx[m, c] = scale * (dout[m, c] - reciprocal * (dbeta[c] + xhat[m, c] * dgamma[c]))
    return dx


def batch_statistics(x, scratch, mean, variance):
    _statistics(x.reshape(-1, x.shape[-1]), mean, variance)


@compiled
def _affine_relu(x, scale, shift, floor, out):
    for m in range(len(x)):
        for c in range(len(scale)):
            out[m, c] = max(x[m, c] * scale[c] + shift[c], floor)


@compiled
def _pool_affine_relu(x, scale, shift, floor, pooled, out):
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                kept, result = pooled[n, i, j], out[n, i, j]
                # Slices of two pixels: with smaller ones LLVM cannot prove that they do not overlap, and does not vectorize.
                top, bottom = x[n, 2 * i, 2 * j : 2 * j + 2], x[n, 2 * i + 1, 2 * j : 2 * j + 2]
                for c in range(len(scale)):
                    large = max(max(top[0, c], top[1, c]), max(bottom[0, c], bottom[1, c]))
                    small = min(min(top[0, c], top[1, c]), min(bottom[0, c], bottom[1, c]))
                    kept[c] = large if scale[c] >= ZERO else small
                    result[c] = max(kept[c] * scale[c] + shift[c], floor)


def norm_relu_pool_forward(x, gamma, beta, mean, rstd, relu, pool, scratch, pooled, out):
    channels = x.shape[-1]
    scale, shift, *_ = scratch.vectors
    np.multiply(gamma, rstd, out=scale)
    np.subtract(beta, scale * mean, out=shift)
    floor = ZERO if relu else np.float32(-np.inf)
    if pool:
        _pool_affine_relu(x, scale, shift, floor, pooled, out)
    else:
        _affine_relu(x.reshape(-1, channels), scale, shift, floor, out.reshape(-1, channels))
    return out


@compiled
def _masked_sums(dout, pooled, out, mean, relu, g, dgamma, dbeta):
    dgamma[:], dbeta[:] = ZERO, ZERO
    for m in range(len(dout)):
        for c in range(len(mean)):
            value = dout[m, c] if out[m, c] > ZERO or not relu else ZERO
            g[m, c] = value
            dbeta[c] += value
            dgamma[c] += value * (pooled[m, c] - mean[c])


def norm_gradient_sums(dout, pooled, out, mean, rstd, relu, scratch, g, dgamma, dbeta):
    pixels = (array.reshape(-1, len(mean)) for array in (dout, pooled, out))
    _masked_sums(*pixels, mean, relu, g.reshape(-1, len(mean)), dgamma, dbeta)
    np.multiply(dgamma, rstd, out=dgamma)


@compiled
def _affine_plus(x, c1, c0, scale, g, dx):
    for m in range(len(x)):
        for c in range(len(c1)):
            dx[m, c] = c1[c] * x[m, c] + c0[c] + scale[c] * g[m, c]


@compiled
def _affine_plus_at_extrema(x, pooled, c1, c0, scale, g, dx):
    for n in range(pooled.shape[0]):
        for i in range(pooled.shape[1]):
            for j in range(pooled.shape[2]):
                extremum, gradient = pooled[n, i, j], g[n, i, j]
                top, bottom = x[n, 2 * i, 2 * j : 2 * j + 2], x[n, 2 * i + 1, 2 * j : 2 * j + 2]
                dtop, dbottom = dx[n, 2 * i, 2 * j : 2 * j + 2], dx[n, 2 * i + 1, 2 * j : 2 * j + 2]
                for c in range(len(c1)):
                    remaining = gradient[c] * scale[c]
                    taken = remaining if top[0, c] == extremum[c] else ZERO
                    dtop[0, c] = c1[c] * top[0, c] + c0[c] + taken
                    remaining -= taken
                    taken = remaining if top[1, c] == extremum[c] else ZERO
                    dtop[1, c] = c1[c] * top[1, c] + c0[c] + taken
                    remaining -= taken
                    taken = remaining if bottom[0, c] == extremum[c] else ZERO
                    dbottom[0, c] = c1[c] * bottom[0, c] + c0[c] + taken
                    dbottom[1, c] = c1[c] * bottom[1, c] + c0[c] + (remaining - taken)


def norm_relu_pool_backward(g, x, pooled, gamma, mean, rstd, dgamma, dbeta, count, pool, scratch, dx):
    channels = x.shape[-1]
    scale, c1, c0, _ = scratch.vectors
    np.multiply(gamma, rstd, out=scale)
    reciprocal = np.float32(-1 / count)
    np.multiply(scale * rstd, dgamma * reciprocal, out=c1)
    np.subtract(scale * dbeta * reciprocal, c1 * mean, out=c0)
    if pool:
        _affine_plus_at_extrema(x, pooled, c1, c0, scale, g, dx)
    else:
        _affine_plus(x.reshape(-1, channels), c1, c0, scale, g.reshape(-1, channels), dx.reshape(-1, channels))
    return dx


@inlined
def _maximum(a, b):
    # NaN if either is NaN: a NaN on the right makes the first comparison false, one on the left the second one true.
    return a if a >= b or a != a else b


@compiled
def max_pool_forward(x, out):
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                maximum = out[n, i, j]
                top, bottom = x[n, 2 * i, 2 * j : 2 * j + 2], x[n, 2 * i + 1, 2 * j : 2 * j + 2]
                for c in range(len(maximum)):
                    maximum[c] = _maximum(_maximum(top[0, c], top[1, c]), _maximum(bottom[0, c], bottom[1, c]))
    return out


REPLACEMENTS = replacements_in(globals(), norm_relu_pool, ops)
