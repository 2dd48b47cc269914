"""Numba kernel of 2x2 max-pooling; see elementwise.py for what the kernels have in common."""
import numba

from .. import pool
from .elementwise import compiled


@numba.njit(inline="always", error_model="numpy")
def _maximum(a, b):
    # NaN if either is NaN: a NaN on the right makes the first comparison false, one on the left the second one true.
    return a if a >= b or a != a else b


@compiled
def max_pool_forward(x, out):
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                maximum = out[n, i, j]
                top, bottom = x[n, 2 * i, 2 * j:2 * j + 2], x[n, 2 * i + 1, 2 * j:2 * j + 2]
                for c in range(len(maximum)):
                    maximum[c] = _maximum(_maximum(top[0, c], top[1, c]), _maximum(bottom[0, c], bottom[1, c]))
    return out


REPLACEMENTS = {pool.max_pool_forward: max_pool_forward}
