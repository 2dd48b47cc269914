"""The threshold and the straight-through estimator.

No finite difference of the threshold can tell whether the estimator is right: the first tests show that all of them are 0.
It is compared with the gradient of the surrogate that it declares, and with PyTorch's autograd of the detach trick.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import normal

from tinyqae.gradcheck import KinkFound, check_coordinates
from tinyqae.losses import bce_with_logits, bce_with_logits_backward
from tinyqae.ops.binarize import binarize, straight_through

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


# ---- the threshold --------------------------------------------------------------------------------------------------


@DTYPES
def test_binarize_is_one_above_a_half_and_zero_at_it(dtype):
    half = dtype(0.5)
    a = np.array([[-1e4, -0.0, 0, np.nextafter(half, dtype(0)), half, np.nextafter(half, dtype(1)), 1, 1e4]], dtype)
    b = binarize(a)
    np.testing.assert_array_equal(b, [[0, 0, 0, 0, 0, 1, 1, 1]])
    assert b.dtype == dtype


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=4), st.sampled_from([np.float32, np.float64]))
def test_bits_at_any_shape(shape, dtype):
    a = normal(*shape, dtype=dtype).reshape(shape)
    b = binarize(a)
    assert b.shape == a.shape and b.dtype == dtype and ((b == 0) | (b == 1)).all()
    np.testing.assert_array_equal(b, np.where(a > 0.5, 1, 0))
    np.testing.assert_array_equal(binarize(b), b)


def test_the_numeric_gradient_of_the_threshold_is_zero_and_not_what_straight_through_says():
    a, db = normal(6, 5), normal(6, 5, seed=1)
    assert 0 < binarize(a).mean() < 1

    def value():
        return np.vdot(db, binarize(a))

    assert check_coordinates(value, a, np.zeros_like(a)) == 0
    with pytest.raises(AssertionError, match="numeric 0,"):
        check_coordinates(value, a, straight_through(db))


def test_at_the_threshold_itself_there_is_no_derivative():
    a = np.full((1, 1), 0.5)
    with pytest.raises(KinkFound):
        check_coordinates(lambda: binarize(a).sum(), a, np.zeros_like(a))


# ---- the estimator --------------------------------------------------------------------------------------------------


def test_without_a_window_it_is_the_gradient_of_the_declared_surrogate():
    a, db = normal(6, 5), normal(6, 5, seed=1)
    stopped = binarize(a) - a  # sg[b - a]: a constant.
    np.testing.assert_array_equal(a + stopped, binarize(a))
    check_coordinates(lambda: np.vdot(db, a + stopped), a, straight_through(db))


@pytest.mark.parametrize("window", [0.1, 0.5, 2.0])
def test_with_a_window_it_is_the_gradient_of_the_declared_surrogate(window):
    a, db = normal(6, 5), normal(6, 5, seed=1)
    assert (np.abs(np.abs(a - 0.5) - window) > 1e-3).all()  # Away from the surrogate's kinks.
    stopped = binarize(a) - a.clip(0.5 - window, 0.5 + window)
    check_coordinates(lambda: np.vdot(db, a.clip(0.5 - window, 0.5 + window) + stopped), a, straight_through(db, a, window))


@DTYPES
@pytest.mark.parametrize("window", [None, 0.1, 0.5, 2.0])
def test_value_and_gradient_are_those_of_the_detach_trick_in_torch(window, dtype, torch):
    a, db = 3 * normal(200, 7, dtype=dtype), normal(200, 7, seed=1, dtype=dtype)
    leaf = torch.tensor(a, requires_grad=True)
    surrogate = leaf if window is None else leaf.clip(0.5 - window, 0.5 + window)
    theirs = surrogate + ((leaf > 0.5).to(leaf.dtype) - surrogate).detach()
    theirs.backward(torch.tensor(db))
    da = straight_through(db, a, window)
    # The trick adds and subtracts a, with rounding; our b is exact.
    np.testing.assert_allclose(binarize(a), theirs.detach().numpy(), atol=10 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(da, leaf.grad.numpy())
    assert da.dtype == dtype
    if window is not None:
        assert 0 < np.count_nonzero(da) < da.size


def test_without_a_window_the_gradient_passes_unchanged_however_far_the_value_is():
    db = normal(40, 7)
    np.testing.assert_array_equal(straight_through(db), db)
    np.testing.assert_array_equal(straight_through(db, 1e4 * normal(40, 7, seed=1)), db)


def test_the_window_includes_its_ends():
    a, db = np.array([-1e4, -0.01, 0.0, 0.5, 1.0, 1.01, 1e4]), np.full(7, 3.0)
    np.testing.assert_array_equal(straight_through(db, a, 0.5), [0, 0, 3, 3, 3, 0, 0])
    np.testing.assert_array_equal(db, 3)


def test_it_leans_towards_flipping_every_bit_where_the_loss_is_convex_in_it():
    """What the module says: the slope at b=0, the flip difference and the slope at b=1 stand in this order."""
    w, target, bits = normal(6, 9), *((normal(4, n, seed=seed) > 0).astype(float) for n, seed in ((9, 1), (6, 2)))

    def loss_and_slope(bit, value):
        code = bits.copy()
        code[:, bit] = value
        value = np.array([bce_with_logits(row[None] @ w, t[None]) for row, t in zip(code, target, strict=True)])
        return value, np.stack(
            [(bce_with_logits_backward(row[None] @ w, t[None]) @ w.T)[0, bit] for row, t in zip(code, target, strict=True)]
        )

    for bit in range(bits.shape[1]):
        (at_zero, slope_at_zero), (at_one, slope_at_one) = loss_and_slope(bit, 0), loss_and_slope(bit, 1)
        flip = at_one - at_zero
        assert (slope_at_zero < flip).all() and (flip < slope_at_one).all()
