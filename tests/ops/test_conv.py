"""Two-dimensional convolution: the taps against the formula, numeric derivatives and PyTorch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close, normal

from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops.conv import conv2d_backward, conv2d_forward

SMALL_CASES = [
    ((2, 5, 4, 2), (3, 3, 2, 3)),
    ((2, 4, 6, 2), (3, 5, 2, 2)),
    ((1, 6, 6, 2), (5, 5, 2, 2)),
    ((3, 3, 4, 3), (1, 1, 3, 2)),
    ((1, 4, 3, 12), (3, 3, 12, 2)),
    ((1, 4, 4, 2), (3, 3, 2, 12)),
    ((2, 2, 1, 2), (5, 3, 2, 2)),
]
REPORT_CASES = [
    ((4, 32, 32, 3), (3, 3, 3, 64)),
    ((4, 16, 16, 64), (3, 3, 64, 32)),
    ((4, 8, 8, 32), (3, 3, 32, 16)),
    ((4, 4, 4, 16), (1, 1, 16, 16)),
    ((4, 4, 4, 16), (3, 3, 16, 16)),
]


def draw(x_shape, w_shape, dtype=np.float64):
    """x, w, b, dy."""
    shapes = x_shape, w_shape, w_shape[3:], (*x_shape[:3], w_shape[3])
    return [normal(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes)]


def both_passes(x, w, b, dy):
    """y, dx, dw, db."""
    return conv2d_forward(x, w, b), *conv2d_backward(dy, x, w)


def by_loops(x, w, b, dy):
    """y, dx, dw, db: every product of a pixel and a weight, one at a time."""
    y, dx, dw, db = np.zeros_like(dy) + b, np.zeros_like(x), np.zeros_like(w), np.zeros_like(b)
    _, height, width, _ = x.shape
    above, left = w.shape[0] // 2, w.shape[1] // 2
    for i, j in np.ndindex(height, width):
        db += dy[:, i, j].sum(axis=0)
        for u, v in np.ndindex(w.shape[:2]):
            row, column = i + u - above, j + v - left
            if 0 <= row < height and 0 <= column < width:
                for n, c, f in np.ndindex(len(x), *w.shape[2:]):
                    y[n, i, j, f] += x[n, row, column, c] * w[u, v, c, f]
                    dx[n, row, column, c] += dy[n, i, j, f] * w[u, v, c, f]
                    dw[u, v, c, f] += dy[n, i, j, f] * x[n, row, column, c]
    return y, dx, dw, db


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    st.sampled_from((1, 3, 5)),
    st.sampled_from((1, 3, 5)),
    st.integers(1, 3),
    st.sampled_from((np.float32, np.float64)),
)
def test_formula_at_any_shape(x_shape, kernel_height, kernel_width, filters, dtype):
    arguments = draw(x_shape, (kernel_height, kernel_width, x_shape[3], filters), dtype)
    before = [array.copy() for array in arguments]
    assert_close(both_passes(*arguments), by_loops(*arguments), {np.float32: 1e-5, np.float64: 1e-13}[dtype])
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("case", SMALL_CASES)
def test_gradients_coordinate_by_coordinate(case):
    x, w, b, dy = draw(*case)
    for array, gradient in zip((x, w, b), conv2d_backward(dy, x, w), strict=True):
        check_coordinates(lambda: np.vdot(conv2d_forward(x, w, b), dy), array, gradient)


@pytest.mark.parametrize("case", REPORT_CASES)
def test_gradients_along_directions_at_the_reports_shapes(case):
    x, w, b, dy = draw(*case)
    for array, gradient in zip((x, w, b), conv2d_backward(dy, x, w), strict=True):
        check_directions(lambda: np.vdot(conv2d_forward(x, w, b), dy), array, gradient, directions=3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("case", SMALL_CASES + REPORT_CASES)
def test_agrees_with_torch(case, dtype, tolerance, torch):
    x, w, b, dy = draw(*case, dtype)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), b))
    ty = torch.nn.functional.conv2d(tx, tw, tb, padding=(w.shape[0] // 2, w.shape[1] // 2))
    ty.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    expected = (
        ty.detach().numpy().transpose(0, 2, 3, 1),
        tx.grad.numpy().transpose(0, 2, 3, 1),
        tw.grad.numpy().transpose(2, 3, 1, 0),
        tb.grad.numpy(),
    )
    assert_close(both_passes(x, w, b, dy), expected, tolerance)


@pytest.mark.parametrize("case", SMALL_CASES + REPORT_CASES)
def test_backward_is_the_adjoint_in_x_and_in_w(case):
    x, w, _, dy = draw(*case)
    y, (dx, dw, _) = conv2d_forward(x, w), conv2d_backward(dy, x, w)
    np.testing.assert_allclose([np.vdot(x, dx), np.vdot(w, dw)], np.vdot(y, dy), rtol=1e-9, atol=1e-9)


def test_no_bias_is_a_bias_of_zero():
    x, w, b, _ = draw(*SMALL_CASES[0])
    np.testing.assert_array_equal(conv2d_forward(x, w), conv2d_forward(x, w, np.zeros_like(b)))
    np.testing.assert_allclose(conv2d_forward(x, w) + b, conv2d_forward(x, w, b))


def test_the_kernel_is_not_flipped_and_zeros_surround_the_image():
    x = np.arange(1.0, 13).reshape(1, 3, 4, 1)
    w = np.zeros((3, 3, 1, 1))
    w[0, 2] = 1  # The pixel above and to the right.
    np.testing.assert_array_equal(conv2d_forward(x, w)[0, :, :, 0], [[0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0]])


def test_a_kernel_of_one_pixel_is_a_dense_layer_on_every_pixel():
    x, w, b, _ = draw((2, 3, 4, 5), (1, 1, 5, 6))
    np.testing.assert_allclose(conv2d_forward(x, w, b), x @ w[0, 0] + b)


def test_large_values_stay_finite_in_float32_and_nan_is_passed_on():
    x, w, b, dy = draw(*SMALL_CASES[0], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        results = both_passes(1e18 * x, 1e18 * w, b, dy)
    assert all(np.isfinite(result).all() for result in results)
    x[0, 2, 2, 0] = np.nan
    # Its window of 3x3 outputs, and no other.
    hit = np.isnan(conv2d_forward(x, w, b)).all(axis=-1)
    np.testing.assert_array_equal(np.argwhere(hit), [(0, i, j) for i in (1, 2, 3) for j in (1, 2, 3)])
