"""Numba kernels of what stands between the convolutions: max-pooling and batch normalization, for float32 on the CPU.

As in numba_kernels: each replaces the plain function named in REPLACEMENTS, whose docstring says what is computed. The
convolutions themselves are nearly all matrix products and long copies, which leave little to gain.
"""
import numba
import numpy as np

from ..ops import norm, pool
from .numba_kernels import ONE, compiled

ZERO = np.float32(0)


@numba.njit(inline="always", error_model="numpy")
def _larger(a, b):
    # The second comparison keeps a NaN on the left; one on the right is kept by the first, which then is false.
    return a if a >= b or a != a else b


@compiled
def _max_pool_2_forward(x, out):
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                maximum = out[n, i, j]
                top, bottom = x[n, 2 * i, 2 * j:2 * j + 2], x[n, 2 * i + 1, 2 * j:2 * j + 2]
                for c in range(len(maximum)):
                    maximum[c] = _larger(_larger(top[0, c], top[1, c]), _larger(bottom[0, c], bottom[1, c]))


def max_pool_forward(x, size, out):
    if size != 2:
        return pool.max_pool_forward(x, size, out)
    pool.require_pooled(x, size, out, "out")
    _max_pool_2_forward(x, out)
    return out


@compiled
def _max_pool_2_backward(dout, x, out, dx):
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                gradient, maximum = dout[n, i, j], out[n, i, j]
                # Pairs of pixels, not single ones: with more slices LLVM gives up proving that none overlap.
                top, bottom = x[n, 2 * i, 2 * j:2 * j + 2], x[n, 2 * i + 1, 2 * j:2 * j + 2]
                dtop, dbottom = dx[n, 2 * i, 2 * j:2 * j + 2], dx[n, 2 * i + 1, 2 * j:2 * j + 2]
                for c in range(len(maximum)):
                    remaining = gradient[c]
                    taken = remaining if top[0, c] == maximum[c] else ZERO
                    dtop[0, c] = taken
                    remaining -= taken
                    taken = remaining if top[1, c] == maximum[c] else ZERO
                    dtop[1, c] = taken
                    remaining -= taken
                    taken = remaining if bottom[0, c] == maximum[c] else ZERO
                    dbottom[0, c] = taken
                    dbottom[1, c] = remaining - taken


def max_pool_backward(dout, x, out, size, remaining, is_maximum, dx):
    if size != 2:
        return pool.max_pool_backward(dout, x, out, size, remaining, is_maximum, dx)
    pool.require_pooled(x, size, out, "out")
    pool.require_pooled(dx, size, dout, "dout")
    _max_pool_2_backward(dout, x, out, dx)
    return dx


@compiled
def _statistics(x, eps, mean, variance, rstd):
    rows, channels = x.shape
    whole = rows - rows % 4
    share = ONE / np.float32(rows)
    mean[:] = ZERO
    # Four rows for each visit to the sums: fewer stores, and sums of fewer terms round less.
    for m in range(0, whole, 4):
        for c in range(channels):
            mean[c] += (x[m, c] + x[m + 1, c]) + (x[m + 2, c] + x[m + 3, c])
    for m in range(whole, rows):
        for c in range(channels):
            mean[c] += x[m, c]
    for c in range(channels):
        mean[c] *= share
    variance[:] = ZERO
    for m in range(0, whole, 4):
        for c in range(channels):
            d0, d1, d2, d3 = x[m, c] - mean[c], x[m + 1, c] - mean[c], x[m + 2, c] - mean[c], x[m + 3, c] - mean[c]
            variance[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
    for m in range(whole, rows):
        for c in range(channels):
            d0 = x[m, c] - mean[c]
            variance[c] += d0 * d0
    for c in range(channels):
        variance[c] *= share
        rstd[c] = ONE / np.sqrt(variance[c] + np.float32(eps))


@compiled
def batch_norm_forward(x, gamma, beta, eps, mean, variance, rstd, xhat, out):
    _statistics(x, eps, mean, variance, rstd)
    for m in range(len(x)):
        for c in range(len(mean)):
            normalized = (x[m, c] - mean[c]) * rstd[c]
            xhat[m, c] = normalized
            if gamma is None:
                out[m, c] = normalized
            else:
                out[m, c] = normalized * gamma[c] + beta[c]
    return out


@compiled
def batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta):
    rows, channels = dout.shape
    whole = rows - rows % 4
    share = ONE / np.float32(rows)
    dgamma[:], dbeta[:] = ZERO, ZERO
    for m in range(0, whole, 4):
        for c in range(channels):
            d0, d1, d2, d3 = dout[m, c], dout[m + 1, c], dout[m + 2, c], dout[m + 3, c]
            dbeta[c] += (d0 + d1) + (d2 + d3)
            dgamma[c] += (d0 * xhat[m, c] + d1 * xhat[m + 1, c]) + (d2 * xhat[m + 2, c] + d3 * xhat[m + 3, c])
    for m in range(whole, rows):
        for c in range(channels):
            dbeta[c] += dout[m, c]
            dgamma[c] += dout[m, c] * xhat[m, c]
    for m in range(rows):
        for c in range(channels):
            scale = rstd[c] if gamma is None else rstd[c] * gamma[c]
            dx[m, c] = scale * (dout[m, c] - share * (dbeta[c] + xhat[m, c] * dgamma[c]))
    return dx


REPLACEMENTS = {
    pool.max_pool_forward: max_pool_forward,
    pool.max_pool_backward: max_pool_backward,
    norm.batch_norm_forward: batch_norm_forward,
    norm.batch_norm_backward: batch_norm_backward,
}
