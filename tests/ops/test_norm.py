"""Batch normalization."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close, normal

from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops.norm import batch_norm_backward, batch_norm_forward, batch_norm_inference

EPS = 1e-5
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def draw(*shape, dtype=np.float64, offset=1.0):
    """x, gamma (some negative), beta, dy."""
    c = shape[-1]
    x, dy = 3 * normal(*shape) + offset, normal(*shape, seed=1)
    return [array.astype(dtype) for array in (x, normal(c, seed=2), normal(c, seed=3), dy)]


def both_passes(x, gamma, beta, dy):
    """y, dx, dgamma, dbeta."""
    y, xhat, _, variance = batch_norm_forward(x, gamma, beta, EPS)
    return y, *batch_norm_backward(dy, xhat, gamma, variance, EPS)


@pytest.mark.parametrize(
    ("check", "shape"), [(check_coordinates, (5, 3)), (check_coordinates, (2, 3, 2, 2)), (check_directions, (128, 100))]
)
def test_gradients(check, shape):
    x, gamma, beta, dy = draw(*shape)
    _, *gradients = both_passes(x, gamma, beta, dy)
    for array, gradient in zip((x, gamma, beta), gradients, strict=True):
        check(lambda: np.vdot(dy, batch_norm_forward(x, gamma, beta, EPS)[0]), array, gradient)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize("shape", [(64, 20), (8, 5, 6, 7)])
def test_agrees_with_torch(shape, dtype, tolerance, torch):
    x, gamma, beta, dy = draw(*shape, dtype=dtype)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    rows = leaves[0].reshape(-1, shape[-1])
    theirs = torch.nn.functional.batch_norm(rows, None, None, *leaves[1:], training=True, eps=EPS).reshape(shape)
    theirs.backward(torch.tensor(dy))
    expected = [theirs.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]
    assert_close(both_passes(x, gamma, beta, dy), expected, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_inference_agrees_with_torch(dtype, tolerance, torch):
    x, gamma, beta, _ = draw(4, 5, 6, 7, dtype=dtype)
    mean, variance = normal(7, seed=4, dtype=dtype), np.abs(normal(7, seed=5, dtype=dtype))
    rows, *others = (torch.tensor(a) for a in (x.reshape(-1, 7), mean, variance, gamma, beta))
    theirs = torch.nn.functional.batch_norm(rows, *others, training=False, eps=EPS)
    assert_close([batch_norm_inference(x, gamma, beta, mean, variance, EPS)], [theirs.numpy().reshape(x.shape)], tolerance)


@pytest.mark.parametrize("shape", [(6, 2), (2, 3, 4, 2)])
def test_inference_with_the_statistics_of_the_batch_is_training(shape):
    x, gamma, beta, _ = draw(*shape)
    y, _, mean, variance = batch_norm_forward(x, gamma, beta, EPS)
    np.testing.assert_allclose(batch_norm_inference(x, gamma, beta, mean, variance, EPS), y, rtol=1e-10, atol=1e-12)


def test_inference_by_hand():
    x = normal(6, 2)
    gamma, beta, mean, variance = np.array([[2, 1], [0, 5], [1, -1], [4, 0.25]])
    y = batch_norm_inference(x, gamma, beta, mean, variance, EPS)
    np.testing.assert_allclose(y[:, 0], 2 * (x[:, 0] - 1) / np.sqrt(4 + EPS))
    np.testing.assert_allclose(y[:, 1], (x[:, 1] + 1) / np.sqrt(0.25 + EPS) + 5)


@DTYPES
def test_extreme_and_constant_channels(dtype):
    x = np.stack([np.tile([1e4, -1e4], 8), np.full(16, 1e4), np.zeros(16)], axis=1).astype(dtype)
    one, zero = np.ones(3, dtype), np.zeros(3, dtype)
    with np.errstate(all="raise", under="ignore"):
        y, *gradients = both_passes(x, one, zero, x)
    np.testing.assert_allclose(y[:, 0], np.tile([1, -1], 8), rtol=1e-6)
    np.testing.assert_array_equal(y[:, 1:], 0)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_variance_does_not_lose_its_digits_where_the_mean_is_large():
    x, gamma, beta, _ = draw(500, 4, dtype=np.float32, offset=1e4)
    variance = batch_norm_forward(x, gamma, beta, EPS)[3]
    np.testing.assert_allclose(variance, x.astype(np.float64).var(axis=0), rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 6), st.sampled_from([np.float32, np.float64]))
def test_output_has_the_mean_beta_and_the_deviation_gamma_at_any_shape(leading, c, dtype):
    x, gamma, beta, dy = arguments = draw(*leading, c, dtype=dtype)
    before = [array.copy() for array in arguments]
    axes = tuple(range(len(leading)))
    y, xhat, mean, variance = batch_norm_forward(x, gamma, beta, EPS)
    gradients = batch_norm_backward(dy, xhat, gamma, variance, EPS)
    spread = np.sqrt(x.var(axis=axes) / (x.var(axis=axes) + EPS))
    tolerance = {np.float32: 1e-4, np.float64: 1e-10}[dtype]
    for result, expected in (
        (mean, x.mean(axis=axes)),
        (variance, x.var(axis=axes)),
        (y.mean(axis=axes), beta),
        (y.std(axis=axes), np.abs(gamma) * spread),
        (y, gamma * xhat + beta),
        (gradients[1], (dy * xhat).sum(axis=axes)),
        (gradients[2], dy.sum(axis=axes)),
        # Adding a constant to a channel changes nothing. The terms of dx, which may cancel, are up to 1 / sqrt(EPS) large.
        (gradients[0].sum(axis=axes) / max(1, np.abs(gamma * dy / np.sqrt(variance + EPS)).max()), np.zeros(c)),
    ):
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    assert {a.dtype for a in (y, xhat, mean, variance, *gradients)} == {np.dtype(dtype)}
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)
