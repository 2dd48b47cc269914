"""Max-pooling and nearest-neighbour upsampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import normal

from tinyqae.gradcheck import KinkFound, check_coordinates, check_directions
from tinyqae.ops.pool import max_pool_backward, max_pool_forward, upsample_backward, upsample_forward

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
DTYPES = st.sampled_from([np.float32, np.float64])


def both_passes(x, dy, k=2):
    """y and dx."""
    y = max_pool_forward(x, k)
    return y, max_pool_backward(dy, x, y, k)


def max_pool_by_loops(x, dy, k):
    """y and dx, one window at a time."""
    y, dx = np.empty_like(dy), np.zeros_like(x)
    for n, i, j, c in np.ndindex(dy.shape):
        places = [(k * i + u, k * j + v) for u in range(k) for v in range(k)]
        y[n, i, j, c] = max(x[n, row, column, c] for row, column in places)
        row, column = next(place for place in places if x[(n, *place, c)] == y[n, i, j, c])
        dx[n, row, column, c] = dy[n, i, j, c]
    return y, dx


# ---- max-pooling ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(1, 4), st.sampled_from((2, 3, 1000)), DTYPES)
def test_max_pool_takes_the_first_maximum_in_row_major_order(sizes, k, values, dtype):
    n, height, width, channels = sizes
    # Few values make many ties.
    x = np.random.default_rng(sizes).integers(0, values, (n, height * k, width * k, channels)).astype(dtype)
    dy = normal(*sizes, dtype=dtype)
    before = x.copy(), dy.copy()
    y, dx = both_passes(x, dy, k)
    expected, dexpected = max_pool_by_loops(x, dy, k)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, dexpected)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(dy, before[1])


def test_at_a_tie_of_all_four_the_first_gets_everything():
    _, dx = both_passes(np.ones((1, 2, 2, 1)), np.full((1, 1, 1, 1), 5.0))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[5, 0], [0, 0]])


def test_a_tie_is_a_kink():
    x = np.ones((1, 2, 2, 1))
    with pytest.raises(KinkFound):
        check_coordinates(lambda: max_pool_forward(x).sum(), x, both_passes(x, np.ones((1, 1, 1, 1)))[1])


def test_a_nan_is_the_maximum_of_its_window():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    x[0, 1, 0, 0] = np.nan
    np.testing.assert_array_equal(max_pool_forward(x)[0, :, :, 0], [[np.nan, 7], [13, 15]])


def test_infinities_and_the_largest_numbers_are_ordered():
    largest = np.finfo(np.float32).max
    x = np.array([[-np.inf, -largest, largest, 0], [-np.inf, -np.inf, np.inf, 0]], np.float32).reshape(1, 2, 4, 1)
    y, dx = both_passes(x, np.ones((1, 1, 2, 1), np.float32))
    np.testing.assert_array_equal(y.ravel(), [-largest, np.inf])
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 1, 0, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_max_pool_gradient(k):
    shape = (2, 2 * k, 3 * k, 2)
    # A permutation: values a whole unit apart, far from any tie.
    x = np.random.default_rng(k).permutation(np.prod(shape)).reshape(shape).astype(np.float64)
    dy = normal(2, 2, 3, 2)
    for check in (check_coordinates, check_directions):
        check(lambda: np.vdot(max_pool_forward(x, k), dy), x, both_passes(x, dy, k)[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [2, 3])
def test_max_pool_agrees_with_torch(k, ties, dtype, torch):
    x, dy = normal(4, 4 * k, 4 * k, 8, dtype=dtype), normal(4, 4, 4, 8, dtype=dtype)
    if ties:
        x = x.round()
    leaf = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    theirs = torch.nn.functional.max_pool2d(leaf, k)
    theirs.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    y, dx = both_passes(x, dy, k)
    np.testing.assert_array_equal(y, theirs.detach().numpy().transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(dx, leaf.grad.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("function", [max_pool_forward, upsample_backward])
def test_an_image_that_does_not_divide_into_windows_is_refused(function):
    with pytest.raises(ValueError):
        function(np.zeros((2, 4, 6, 3)), 4)


# ---- upsampling -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(1, 4), DTYPES)
def test_upsampling_repeats_pixels_and_its_backward_is_the_adjoint(sizes, k, dtype):
    n, height, width, channels = sizes
    x, dy = normal(*sizes, dtype=dtype), normal(n, height * k, width * k, channels, dtype=dtype)
    y, dx = upsample_forward(x, k), upsample_backward(dy, k)
    for i, j in np.ndindex(height * k, width * k):
        np.testing.assert_array_equal(y[:, i, j], x[:, i // k, j // k])
    assert y.shape == dy.shape and dx.shape == x.shape and y.dtype == dx.dtype == dtype
    assert np.vdot(y, dy) == pytest.approx(np.vdot(x, dx), rel=1e-4, abs=1e-4 if dtype == np.float32 else 1e-12)


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(1, 4))
def test_pooling_undoes_upsampling(sizes, k):
    x = normal(*sizes)
    np.testing.assert_array_equal(max_pool_forward(upsample_forward(x, k), k), x)


@pytest.mark.parametrize("k", [2, 3])
def test_upsampling_gradient(k):
    x, dy = normal(2, 2, 3, 2), normal(2, 2 * k, 3 * k, 2)
    for check in (check_coordinates, check_directions):
        check(lambda: np.vdot(upsample_forward(x, k), dy), x, upsample_backward(dy, k))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("k", [2, 3])
def test_upsampling_agrees_with_torch(k, dtype, tolerance, torch):
    x, dy = normal(4, 5, 6, 8, dtype=dtype), normal(4, 5 * k, 6 * k, 8, dtype=dtype)
    leaf = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    theirs = torch.nn.functional.interpolate(leaf, scale_factor=k, mode="nearest")
    theirs.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(upsample_forward(x, k), theirs.detach().numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(upsample_backward(dy, k), leaf.grad.numpy().transpose(0, 2, 3, 1), rtol=0, atol=tolerance)
