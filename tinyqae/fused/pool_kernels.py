"""Numba kernels of 2x2 max-pooling, float32 on the CPU; see numba_kernels for what they have in common."""
import numba
import numpy as np

from ..ops import pool
from .numba_kernels import compiled

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
    """As the plain function of this name; see REPLACEMENTS."""
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
    """As the plain function of this name; see REPLACEMENTS."""
    if size != 2:
        return pool.max_pool_backward(dout, x, out, size, remaining, is_maximum, dx)
    pool.require_pooled(x, size, out, "out")
    pool.require_pooled(dx, size, dout, "dout")
    _max_pool_2_backward(dout, x, out, dx)
    return dx


REPLACEMENTS = {
    pool.max_pool_forward: max_pool_forward,
    pool.max_pool_backward: max_pool_backward,
}
