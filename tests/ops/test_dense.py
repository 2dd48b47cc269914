"""The fully connected map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close, normal

from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops.dense import dense_backward, dense_forward


def draw(n, d, m, dtype=np.float64):
    """x, w, b, dy."""
    return [normal(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(((n, d), (d, m), (m,), (n, m)))]


@pytest.mark.parametrize(("check", "n", "d", "m"), [(check_coordinates, 5, 3, 4), (check_directions, 128, 100, 53)])
def test_gradients(check, n, d, m):
    x, w, b, dy = draw(n, d, m)
    for array, gradient in zip((x, w, b), dense_backward(dy, x, w), strict=True):
        check(lambda: np.vdot(dy, dense_forward(x, w, b)), array, gradient)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_agrees_with_torch(dtype, tolerance, torch):
    x, w, b, dy = draw(128, 100, 30, dtype)
    w /= 10  # Outputs of order 1, as in a network: the tolerance is absolute as well.
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    theirs = torch.nn.functional.linear(leaves[0], leaves[1].T, leaves[2])
    theirs.backward(torch.tensor(dy))
    for ours, right in zip(
        (dense_forward(x, w, b), *dense_backward(dy, x, w)), (theirs, *(l.grad for l in leaves)), strict=True
    ):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, right.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_large_and_tiny_values_stay_finite_in_float32():
    x, w, b, dy = draw(4, 3, 2, np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        arrays = [dense_forward(1e30 * x, w, b), *dense_backward(1e-30 * dy, 1e-30 * x, w)]
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 9), st.sampled_from([np.float32, np.float64]))
def test_formula_at_any_shape_no_examples_included(n, d, m, dtype):
    x, w, b, dy = arguments = draw(n, d, m, dtype)
    before = [array.copy() for array in arguments]
    results = dense_forward(x, w, b), *dense_backward(dy, x, w)
    expected = (
        np.einsum("nd,dm->nm", x, w) + b,
        np.einsum("nm,dm->nd", dy, w),
        np.einsum("nd,nm->dm", x, dy),
        np.einsum("nm->m", dy),
    )
    assert_close(results, expected, {np.float32: 1e-5, np.float64: 1e-13}[dtype])
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_backward_is_the_adjoint_in_x_and_in_w(n, d, m):
    x, w, _, dy = draw(n, d, m)
    dx, dw, _ = dense_backward(dy, x, w)
    y = dense_forward(x, w, np.zeros(m))
    np.testing.assert_allclose([np.vdot(x, dx), np.vdot(w, dw)], np.vdot(y, dy), rtol=1e-9, atol=1e-9)
