"""Numba kernel of 2x2 max-pooling, float32 on the CPU; see elementwise.py for what the kernels have in common."""
import numba

from .. import pool
from .elementwise import compiled


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


REPLACEMENTS = {pool.max_pool_forward: max_pool_forward}
