"""2x2 max-pooling at inference, plain and by its Numba kernel, against the reference op."""

import numpy as np
import pytest
from allocations import peak_of_second_call
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import normal

from tinyqae.fast.kernels import choose
from tinyqae.fast.ops import max_pool_forward
from tinyqae.ops import pool

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))


def pooled(x, function=max_pool_forward):
    """The result in an array full of NaN before, which is returned."""
    n, height, width, channels = x.shape
    out = np.full((n, height // 2, width // 2, channels), np.nan, x.dtype)
    assert function(x, out) is out
    return out


@settings(deadline=None)
@given(
    sizes=SIZES,
    seed=st.integers(0, 99),
    values=st.sampled_from((2, 3, 1000)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_equals_the_reference(sizes, seed, values, dtype):
    n, height, width, channels = sizes
    x = np.random.default_rng(seed).integers(0, values, (n, 2 * height, 2 * width, channels)).astype(dtype)
    out = pooled(x)
    np.testing.assert_array_equal(out, pool.max_pool_forward(x))
    assert out.dtype == dtype


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 4, 5, 3), (2, 3, 3, 64)])
def test_equals_the_reference_with_either_kernel_nan_included(shape, kernels):
    n, height, width, channels = shape
    random = np.random.default_rng(0)
    x = random.integers(0, 4, (n, 2 * height, 2 * width, channels)).astype(np.float32)
    x[random.random(x.shape) < 0.05] = np.nan
    function = choose(max_pool_forward, np.float32)
    assert (function is max_pool_forward) == (kernels == "numpy")
    np.testing.assert_array_equal(pooled(x, function), pool.max_pool_forward(x))


def test_a_nan_is_the_maximum_of_its_window(kernels):
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    x[0, 1, 0, 0] = np.nan
    out = pooled(x, choose(max_pool_forward, np.float32))
    np.testing.assert_array_equal(out[0, :, :, 0], [[np.nan, 7], [13, 15]])


@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_torch(ties, kernels, torch):
    x = normal(4, 8, 8, 8, dtype=np.float32)
    if ties:
        x = x.round()
    theirs = torch.nn.functional.max_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), 2).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(pooled(x, choose(max_pool_forward, np.float32)), theirs)


def test_no_array_is_allocated(kernels):
    x, out = normal(8, 16, 16, 32, dtype=np.float32), np.empty((8, 8, 8, 32), np.float32)
    function = choose(max_pool_forward, np.float32)
    assert peak_of_second_call(lambda: function(x, out)) < 8000
