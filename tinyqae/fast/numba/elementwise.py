"""Numba kernels for float32 arrays on the CPU. Each replaces the plain function of the same name, which documents what is
computed, and is tested against it.

The compiler can vectorize thanks to `error_model="numpy"` (no branch for a division by zero), loops over contiguous slices,
an exponential without a function call, and permission to reorder sums. `nogil` releases the GIL, `cache` stores the compiled
code for the next process.
"""

import math
import warnings

import numba
import numpy as np

from .. import losses, ops, optim
from ..kernels import replacements_in


def compiled(function):
    """Compile a function, and cache it for the next process if a cache directory is writable."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        warnings.warn(
            "Numba recompiles its kernels in every process: no cache directory is writable; set "
            "NUMBA_CACHE_DIR to one that is",
            stacklevel=1,
        )
        return numba.njit(**options)(function)


inlined = numba.njit(inline="always", error_model="numpy")

LOG2_E = np.float32(1.44269504)
# ln 2 in two parts, so that x - n ln 2 is accurate in float32 (Cody and Waite 1980).
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)


@inlined
def exp_up_to_88(x):
    """e^x for x <= 88, with a relative error of about 1e-7: e^x = 2^n e^r, |r| <= ln(2)/2, e^r by a polynomial."""
    x = max(x, np.float32(-87))
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN_2_HIGH - n * LN_2_LOW
    p = np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + HALF
    p = p * r + ONE
    p = p * r + ONE
    # The float32 2^n has n + 127 in its exponent bits and zeros elsewhere.
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def _bce_row(logits, target, scale, row, dlogits):
    linear = ZERO
    for f in range(len(logits)):
        l, t = logits[f], target[f]
        e = exp_up_to_88(-abs(l))
        row[f] *= ONE + e
        s = ONE / (ONE + e)
        probability = s if l >= 0 else ONE - s
        dlogits[f] = (probability - t) * scale
        linear += l * ((ONE if l > ZERO else ZERO) - t)
    return linear


@compiled
def bce_with_logits(logits, target, row, dlogits):
    rows_per_logarithm = losses.ROWS_PER_LOGARITHM
    scale = np.float32(1 / logits.size)
    total = 0.0
    for start in range(0, len(logits), rows_per_logarithm):
        row[:] = ONE
        for n in range(start, min(start + rows_per_logarithm, len(logits))):
            total += _bce_row(logits[n], target[n], scale, row, dlogits[n])
        for f in range(len(row)):
            total += math.log(row[f])
    return total / logits.size


@compiled
def _squared_error_row(logits, target, scale, dlogits):
    total = ZERO
    for f in range(len(logits)):
        l = logits[f]
        s = ONE / (ONE + exp_up_to_88(-abs(l)))
        p = s if l >= 0 else ONE - s
        difference = p - target[f]
        dlogits[f] = difference * scale * p * (ONE - p)
        total += difference * difference
    return total


@compiled
def squared_error_with_logits(logits, target, scratch, dlogits):
    scale = np.float32(2 / logits.size)
    total = 0.0
    for n in range(len(logits)):
        total += _squared_error_row(logits[n], target[n], scale, dlogits[n])
    return total / logits.size


@compiled
def _sigmoid(x, out):
    for i in range(len(x)):
        e = exp_up_to_88(-abs(x[i]))
        s = ONE / (ONE + e)
        out[i] = s if x[i] >= 0 else e * s


def sigmoid_forward(x, out):
    _sigmoid(x.reshape(-1), out.reshape(-1))
    return out


@compiled
def _binarize_and_commit(a, b, da):
    scale = np.float32(2 / len(a))
    total = ZERO
    for i in range(len(a)):
        bit = ONE if a[i] > HALF else ZERO
        difference = a[i] - bit
        b[i] = bit
        da[i] = difference * scale
        total += difference * difference
    return total / len(a)


def binarize_and_commit(a, b, da):
    return _binarize_and_commit(a.reshape(-1), b.reshape(-1), da.reshape(-1))


@compiled
def adam_update(p, g, scaled_mean, scaled_square, scratch, beta1, beta2, step, eps):
    beta1, beta2, step, eps = np.float32(beta1), np.float32(beta2), np.float32(step), np.float32(eps)
    for i in range(len(p)):
        scaled_mean[i] = beta1 * scaled_mean[i] + g[i]
        scaled_square[i] = beta2 * scaled_square[i] + g[i] * g[i]
        p[i] -= step * scaled_mean[i] / (np.sqrt(scaled_square[i]) + eps)


@compiled
def rmsprop_update(p, g, mean_square, scratch, rho, lr, eps):
    rho, lr, eps = np.float32(rho), np.float32(lr), np.float32(eps)
    for i in range(len(p)):
        mean_square[i] = rho * mean_square[i] + (ONE - rho) * g[i] * g[i]
        p[i] -= lr * g[i] / (np.sqrt(mean_square[i]) + eps)


REPLACEMENTS = replacements_in(globals(), losses, ops, optim)
