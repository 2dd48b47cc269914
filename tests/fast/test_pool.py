"""Max-pooling at inference, plain and by its Numba kernel, against the reference op."""
import numpy as np
import pytest
from allocations import peak_of_second_call
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import normal

from tinyqae.fast.kernels import choose
from tinyqae.fast.pool import max_pool_forward, pooled_shape
from tinyqae.ops import pool

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))


def pooled(x, size, function=max_pool_forward):
    """The result in an array full of NaN before, which is returned."""
    out = np.full(pooled_shape(x.shape, size), np.nan, x.dtype)
    assert function(x, size, out) is out
    return out


@settings(deadline=None)
@given(sizes=SIZES, size=st.integers(1, 4), seed=st.integers(0, 99), values=st.sampled_from((2, 3, 1000)),
       dtype=st.sampled_from([np.float32, np.float64]))
def test_equals_the_reference(sizes, size, seed, values, dtype):
    n, height, width, channels = sizes
    x = np.random.default_rng(seed).integers(0, values, (n, height * size, width * size, channels)).astype(dtype)
    out = pooled(x, size)
    np.testing.assert_array_equal(out, pool.max_pool_forward(x, size))
    assert out.dtype == dtype


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 4, 5, 3), (2, 3, 3, 64)])
@pytest.mark.parametrize("size", [2, 3])
def test_equals_the_reference_with_either_kernel_nan_included(shape, size, kernels):
    n, height, width, channels = shape
    random = np.random.default_rng(0)
    x = random.integers(0, 4, (n, size * height, size * width, channels)).astype(np.float32)
    x[random.random(x.shape) < 0.05] = np.nan
    function = choose(max_pool_forward, np.float32)
    assert (function is max_pool_forward) == (kernels == "numpy")
    np.testing.assert_array_equal(pooled(x, size, function), pool.max_pool_forward(x, size))


def test_a_nan_is_the_maximum_of_its_window(kernels):
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    x[0, 1, 0, 0] = np.nan
    out = pooled(x, 2, choose(max_pool_forward, np.float32))
    np.testing.assert_array_equal(out[0, :, :, 0], [[np.nan, 7], [13, 15]])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_torch(size, ties, kernels, torch):
    x = normal(4, 4 * size, 4 * size, 8, dtype=np.float32)
    if ties:
        x = x.round()
    theirs = torch.nn.functional.max_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), size).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(pooled(x, size, choose(max_pool_forward, np.float32)), theirs)


def test_no_array_is_allocated(kernels):
    x, out = normal(8, 16, 16, 32, dtype=np.float32), np.empty((8, 8, 8, 32), np.float32)
    function = choose(max_pool_forward, np.float32)
    assert peak_of_second_call(lambda: function(x, 2, out)) < 8000


def test_what_does_not_fit_is_refused(kernels):
    x, out = np.zeros((2, 4, 6, 3), np.float32), np.zeros((2, 2, 3, 3), np.float32)
    function = choose(max_pool_forward, np.float32)
    with pytest.raises(ValueError, match="4x6 does not divide into windows of 4x4"):
        function(x, 4, out)
    with pytest.raises(ValueError, match="does not divide"):
        function(x[:, 1:], 2, out)
    for size in (0, 1.5):
        with pytest.raises(ValueError, match=f"size={size}"):
            function(x, size, out)
    with pytest.raises(ValueError, match="^out has shape"):
        function(x, 2, out[:1])
