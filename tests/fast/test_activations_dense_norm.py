"""The fast engine's dense maps, activations, batch norm and straight-through against the reference ones, and how they treat
their destinations.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import assert_close, normal

from tinyqae.fast.ops import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    binarize_forward,
    dense_backward,
    dense_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    straight_through_backward,
    update_running,
)
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops import activations, binarize, dense, norm

ELEMENTWISE = {"relu": (relu_forward, relu_backward), "sigmoid": (sigmoid_forward, sigmoid_backward)}
REFERENCE = {
    "relu": (activations.relu_forward, activations.relu_backward),
    "sigmoid": (activations.sigmoid_forward, activations.sigmoid_backward),
}
EPS = 1e-5
# Of sums and of values of order 1 to 100.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
DTYPES = st.sampled_from([np.float32, np.float64])
# Smooth everywhere near the drawn numbers: |x| >= 0.01 keeps ReLU away from its kink.
CHECKS = {"small": (check_coordinates, (5, 3)), "large": (check_directions, (128, 100))}
quick = settings(max_examples=40, deadline=None)


@pytest.fixture(params=CHECKS)
def check_and_shape(request):
    return CHECKS[request.param]


def nan(shape, dtype=np.float64):
    """A destination: what is not written shows."""
    return np.full(shape, np.nan, dtype)


# ---- gradient checks in float64 -----------------------------------------------------------------------------------


def test_dense_gradients(check_and_shape):
    check, (n, d) = check_and_shape
    m = d // 2 + 3
    x, w, b, dout = normal(n, d), normal(d, m), normal(m), normal(n, m, seed=1)
    dx, dw, db = nan((n, d)), nan((d, m)), nan(m)
    dense_backward(dout, x, w, dx, dw, db)

    def loss():
        return np.vdot(dout, dense_forward(x, w, b, np.empty((n, m))))

    for array, gradient in ((x, dx), (w, dw), (b, db)):
        check(loss, array, gradient)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_gradients(name, check_and_shape):
    forward, backward = ELEMENTWISE[name]
    check, shape = check_and_shape
    x, dout, out, dx = normal(*shape), normal(*shape, seed=1), nan(shape), nan(shape)
    x += np.copysign(0.01, x)
    backward(dout, forward(x, out), dx)
    check(lambda: np.vdot(dout, forward(x, np.empty(shape))), x, dx)


def test_relu_gradient_at_the_kink_is_zero():
    x, dx = np.array([0.0, -0.0]), np.full(2, np.nan)
    relu_backward(np.ones(2), relu_forward(x, np.empty(2)), dx)
    np.testing.assert_array_equal(dx, 0)


def test_batch_norm_gradients(check_and_shape):
    check, (m, c) = check_and_shape
    x, dout = normal(m, c) * 3 + 1, normal(m, c, seed=1)
    gamma, beta = 1 + normal(c) / 4, normal(c, seed=2)
    (mean, variance, rstd, dgamma, dbeta), (xhat, dx) = np.empty((5, c)), np.empty((2, m, c))

    def loss():
        return np.vdot(dout, batch_norm_forward(x, gamma, beta, EPS, mean, variance, rstd, xhat, np.empty((m, c))))

    loss()
    batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta)
    np.testing.assert_allclose(dgamma, (dout * xhat).sum(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dbeta, dout.sum(axis=0), rtol=1e-12, atol=1e-12)
    for array, gradient in ((x, dx), (gamma, dgamma), (beta, dbeta)):
        check(loss, array, gradient)


# ---- against the reference, at any shape ----------------------------------------------------------------------------


@quick
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), DTYPES)
def test_dense_equals_the_reference_and_writes_and_returns_its_destinations(n, d, m, dtype):
    x, w, b, dout = (normal(*s, dtype=dtype) for s in ((n, d), (d, m), (m,), (n, m)))
    out, dx, dw, db = (nan(s, dtype) for s in ((n, m), (n, d), (d, m), (m,)))
    dw_alone, db_alone = np.empty_like(dw), np.empty_like(db)
    assert dense_forward(x, w, b, out) is out
    assert dense_backward(dout, x, w, dx, dw, db) is dx
    assert dense_backward(dout, x, w, None, dw_alone, db_alone) is None
    np.testing.assert_array_equal(dw_alone, dw)
    np.testing.assert_array_equal(db_alone, db)
    expected = dense.dense_forward(x, w, b), *dense.dense_backward(dout, x, w)
    assert_close((out, dx, dw, db), expected, TOLERANCE[dtype])


@quick
@given(st.sampled_from(sorted(ELEMENTWISE)), st.lists(st.integers(0, 5), max_size=4), DTYPES)
def test_activations_equal_the_reference_and_write_and_return_their_destinations(name, shape, dtype):
    forward, backward = ELEMENTWISE[name]
    x, dout = (normal(*shape, seed=seed, dtype=dtype).reshape(shape) for seed in (0, 1))
    before, out, dx = x.copy(), nan(shape, dtype), nan(shape, dtype)
    assert forward(x, out) is out
    assert backward(dout, out, dx) is dx
    reference_forward, reference_backward = REFERENCE[name]
    expected = reference_forward(x)
    assert_close((out, dx), (expected, reference_backward(dout, expected)), 1e-6 if dtype == np.float32 else 1e-14)
    np.testing.assert_array_equal(x, before)


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), DTYPES, st.sampled_from([None, 0.1, 0.5, 2.0]))
def test_binarize_and_straight_through_equal_the_reference(shape, dtype, window):
    a, dout = normal(*shape, dtype=dtype), normal(*shape, seed=1, dtype=dtype)
    a.flat[0] = 0.5
    b, da = nan(shape, dtype), nan(shape, dtype)
    assert binarize_forward(a, b) is b
    assert straight_through_backward(dout, a, window, da) is da
    np.testing.assert_array_equal(b, binarize.binarize(a))
    np.testing.assert_array_equal(da, binarize.straight_through(dout, a, window))


@quick
@given(st.integers(2, 12), st.integers(1, 6), DTYPES)
def test_batch_norm_equals_the_reference(m, c, dtype):
    x, dout = (normal(m, c) * 5 + 2).astype(dtype), normal(m, c, seed=1, dtype=dtype)
    gamma, beta = normal(c, seed=2, dtype=dtype), normal(c, seed=3, dtype=dtype)
    (mean, variance, rstd, dgamma, dbeta), (xhat, out, dx) = nan((5, c), dtype), nan((3, m, c), dtype)
    assert batch_norm_forward(x, gamma, beta, EPS, mean, variance, rstd, xhat, out) is out
    assert batch_norm_backward(dout, xhat, gamma, rstd, dx, dgamma, dbeta) is dx
    expected = norm.batch_norm_forward(x, gamma, beta, EPS)
    # A variance near 0 magnifies the rounding of x - mean.
    tolerance = TOLERANCE[dtype] * 10 * max(1, 1 / np.sqrt(variance.min() + EPS))
    assert_close((out, xhat, mean, variance), expected, tolerance)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(variance + EPS), rtol=1e-5)
    # From one xhat, so that what differs is the backward pass.
    assert_close((dx, dgamma, dbeta), norm.batch_norm_backward(dout, xhat, gamma, variance, EPS), 10 * TOLERANCE[dtype])


@quick
@given(st.integers(1, 12), st.integers(1, 6), DTYPES)
def test_batch_norm_inference_equals_the_reference(m, c, dtype):
    x, gamma, beta, mean = (normal(*s, seed=seed, dtype=dtype) for seed, s in enumerate(((m, c), (c,), (c,), (c,))))
    variance, out = np.abs(normal(c, seed=4, dtype=dtype)), nan((m, c), dtype)
    assert batch_norm_inference(x, gamma, beta, EPS, mean, variance, np.empty(c, dtype), out) is out
    assert_close([out], [norm.batch_norm_inference(x, gamma, beta, mean, variance, EPS)], TOLERANCE[dtype])


@quick
@given(st.integers(2, 12), st.integers(1, 6))
def test_batch_norm_output_has_the_promised_mean_and_variance(m, c):
    x = (normal(m, c) * 5 + 2).astype(np.float32)
    gamma, beta = np.full(c, 2, np.float32), np.full(c, -3, np.float32)
    mean, variance, rstd = np.empty((3, c), np.float32)
    xhat, out = nan((2, m, c), np.float32)
    assert batch_norm_forward(x, gamma, beta, EPS, mean, variance, rstd, xhat, out) is out
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.mean(axis=0), -3, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=0), 2 * x.std(axis=0) * rstd, rtol=1e-3, atol=1e-4)
    assert out.dtype == xhat.dtype == np.float32


def test_batch_norm_inference_uses_the_running_statistics():
    x, scale, out = normal(6, 2), np.empty(2), np.empty((6, 2))
    mean, variance = np.array([1.0, -1.0]), np.array([4.0, 0.25])
    assert batch_norm_inference(x, np.array([2.0, 1.0]), np.array([0.0, 5.0]), EPS, mean, variance, scale, out) is out
    np.testing.assert_allclose(out[:, 0], 2 * (x[:, 0] - 1) / np.sqrt(4 + EPS))
    np.testing.assert_allclose(out[:, 1], (x[:, 1] + 1) / np.sqrt(0.25 + EPS) + 5)


def test_update_running_weighs_old_by_momentum():
    running, batch = np.array([1.0, 2.0]), np.array([5.0, 0.0])
    assert update_running(running, batch, 0.75, np.empty(2)) is running
    np.testing.assert_allclose(running, [2.0, 1.5])
    np.testing.assert_array_equal(batch, [5, 0])


# ---- straight-through: against its declared surrogate, never by finite differences ---------------------------------


def test_binarize_is_one_above_a_half_and_zero_at_it():
    a = np.array([[-1e4, 0.0, 0.5, np.nextafter(0.5, 1), 1.0, 1e4]])
    np.testing.assert_array_equal(binarize_forward(a, np.empty_like(a)), [[0, 0, 0, 1, 1, 1]])


def test_straight_through_without_a_window_is_the_identity():
    a, dout, da = normal(40, 7) * 100, normal(40, 7, seed=1), np.empty((40, 7))
    assert straight_through_backward(dout, a, None, da) is da
    np.testing.assert_array_equal(da, dout)


@pytest.mark.parametrize("window", [0.1, 0.5, 2.0])
def test_straight_through_with_a_window_is_the_gradient_of_the_clipped_identity(window, torch):
    a, dout = normal(200, 7), normal(200, 7, seed=1)
    da = straight_through_backward(dout, a, window, np.empty_like(a))
    leaf = torch.tensor(a, requires_grad=True)
    (leaf.clip(0.5 - window, 0.5 + window) * torch.tensor(dout)).sum().backward()
    np.testing.assert_array_equal(da, leaf.grad.numpy())
    assert 0 < np.count_nonzero(da) < da.size


def test_straight_through_window_includes_its_ends():
    a, da = np.array([-0.01, 0.0, 0.5, 1.0, 1.01]), np.empty(5)
    np.testing.assert_array_equal(straight_through_backward(np.full(5, 3.0), a, 0.5, da), [0, 3, 3, 3, 0])


# ---- PyTorch, float32 -----------------------------------------------------------------------------------------------


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_linear_agrees_with_torch(torch):
    x, w, b, dout = (normal(*s, dtype=np.float32) for s in ((128, 100), (100, 30), (30,), (128, 30)))
    w /= 10  # Outputs of order 1, as in a network: the tolerance is absolute as well.
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    theirs = torch.nn.functional.linear(leaves[0], leaves[1].T, leaves[2])
    theirs.backward(torch.tensor(dout))
    gradients = [np.empty_like(a) for a in (x, w, b)]
    close(dense_forward(x, w, b, np.empty_like(dout)), theirs)
    dense_backward(dout, x, w, *gradients)
    for ours, leaf in zip(gradients, leaves, strict=True):
        close(ours, leaf.grad)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_agrees_with_torch(name, torch):
    forward, backward = ELEMENTWISE[name]
    x, dout = normal(128, 100, dtype=np.float32) * 4, normal(128, 100, seed=1, dtype=np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    theirs = getattr(torch, name)(leaf)
    theirs.backward(torch.tensor(dout))
    out = forward(x, np.empty_like(x))
    close(out, theirs)
    close(backward(dout, out, np.empty_like(x)), leaf.grad)


# ---- extremes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def strict():
    # An exponential that underflows to 0 is right, and NumPy does not warn of it by default.
    with np.errstate(all="raise", under="ignore"):
        yield


EXTREME = np.array([-1e4, -100, -88, -1e-30, -0.0, 0, 1e-30, 17, 88, 100, 1e4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_bear_extreme_input(name, dtype, strict):
    forward, backward = ELEMENTWISE[name]
    x = EXTREME.astype(dtype)
    out = forward(x, np.empty_like(x))
    dx = backward(np.ones_like(x), out, np.empty_like(x))
    expected = {"relu": (0, 1e4), "sigmoid": (0, 1)}[name]
    assert (out[0], out[-1]) == expected
    assert np.isfinite(out).all() and np.isfinite(dx).all()
    assert (np.diff(out) >= 0).all() and (dx >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_bears_extreme_and_constant_channels(dtype, strict):
    x = np.stack([np.tile([1e4, -1e4], 8), np.full(16, 1e4), np.zeros(16)], axis=1).astype(dtype)
    (mean, variance, rstd, dgamma, dbeta), (xhat, out, dx) = np.empty((5, 3), dtype), np.empty((3, 16, 3), dtype)
    gamma, beta = np.ones(3, dtype), np.zeros(3, dtype)
    batch_norm_forward(x, gamma, beta, EPS, mean, variance, rstd, xhat, out)
    np.testing.assert_allclose(out[:, 0], np.tile([1, -1], 8), rtol=1e-6)
    np.testing.assert_array_equal(out[:, 1:], 0)
    assert np.isfinite(batch_norm_backward(x, xhat, gamma, rstd, dx, dgamma, dbeta)).all()
