"""Random arrays that several test files draw, and what they check of results."""

import numpy as np

# Beside them exponentials overflow or underflow in float32, and tricks for stability show their limits.
EXTREMES = np.array(
    [0, -0.0, 1e-30, -1e-30, 1e-3, -1e-3, 16, -16, 86.9, -86.9, 87.1, -87.1, 88.5, -88.5, 104, -104, 1e4, -1e4, 3e38, -3e38],
    np.float32,
)
# One row, and batches around the 64 rows that share a logarithm in the fast engine's binary cross-entropy.
SHAPES = [(1, 30), (63, 7), (64, 784), (65, 20), (200, 33)]


def normal(*shape, seed=0, dtype=np.float64):
    """Standard normal numbers."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def logits(n, f):
    """float32 (n, f): ordinary numbers, with the extremes among them."""
    x = (4 * np.random.default_rng((n, f)).standard_normal((n, f))).astype(np.float32)
    x.flat[: EXTREMES.size] = EXTREMES[: x.size]
    return x


def targets(n, f):
    """float32 (n, f) in [0, 1], with exact zeros and ones among them."""
    return np.random.default_rng((f, n)).uniform(-0.5, 1.5, (n, f)).clip(0, 1).astype(np.float32)


def assert_close(results, expected, tolerance):
    """Each array has the dtype of the expected one and its values to `tolerance`, relative to the largest magnitude where
    that is above 1. None stands for what was not computed.
    """
    for result, right in zip(results, expected, strict=True):
        if result is not None:
            assert result.dtype == right.dtype
            np.testing.assert_allclose(result, right, rtol=0, atol=tolerance * max(1, np.abs(right).max(initial=0)))
