"""Dense, activations, softmax, batch norm and straight-through, against numeric derivatives and PyTorch."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.layers import BatchNorm, Dense, ReLU
from tinyqae.ops.activations import (
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from tinyqae.ops.binarize import binarize_forward, straight_through_backward
from tinyqae.ops.dense import dense_backward, dense_forward
from tinyqae.ops.norm import batch_norm_backward, batch_norm_forward, batch_norm_inference, update_running

ELEMENTWISE = {"relu": (relu_forward, relu_backward), "sigmoid": (sigmoid_forward, sigmoid_backward),
               "tanh": (tanh_forward, tanh_backward)}
EPS = 1e-5
# Smooth everywhere near the drawn numbers: |x| >= 0.01 keeps ReLU away from its kink.
CHECKS = {"small": (check_coordinates, (5, 3)), "large": (check_directions, (128, 100))}


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def off_zero(x):
    return np.where(x < 0, x - 0.01, x + 0.01)


@pytest.fixture(params=CHECKS)
def check_and_shape(request):
    return CHECKS[request.param]


# ---- gradient checks in float64 -----------------------------------------------------------------------------------


def test_dense_gradients(check_and_shape):
    check, (n, d) = check_and_shape
    m = d // 2 + 3
    x, w, b, weights = normal(n, d), normal(d, m), normal(m), normal(n, m, seed=1)
    dx, dw, db = np.empty_like(x), np.empty_like(w), np.empty_like(b)
    dense_backward(weights, x, w, dx, dw, db)

    def loss():
        return np.vdot(weights, dense_forward(x, w, b, np.empty((n, m))))

    for array, gradient in ((x, dx), (w, dw), (b, db)):
        check(loss, array, gradient)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_gradients(name, check_and_shape):
    forward, backward = ELEMENTWISE[name]
    check, shape = check_and_shape
    x, weights, out, dx = off_zero(normal(*shape)), normal(*shape, seed=1), np.empty(shape), np.empty(shape)
    backward(weights, forward(x, out), dx)
    check(lambda: np.vdot(weights, forward(x, np.empty(shape))), x, dx)


def test_relu_gradient_at_the_kink_is_zero():
    x, dx = np.array([0.0, -0.0]), np.full(2, np.nan)
    relu_backward(np.ones(2), relu_forward(x, np.empty(2)), dx)
    np.testing.assert_array_equal(dx, 0)


def test_softmax_gradients(check_and_shape):
    check, shape = check_and_shape
    row = np.empty((*shape[:-1], 1))
    x, weights, out, dx = normal(*shape), normal(*shape, seed=1), np.empty(shape), np.empty(shape)
    softmax_backward(weights, softmax_forward(x, row, out), row, dx)
    check(lambda: np.vdot(weights, softmax_forward(x, row, np.empty(shape))), x, dx)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_gradients(affine, check_and_shape):
    check, (m, c) = check_and_shape
    x, weights = normal(m, c) * 3 + 1, normal(m, c, seed=1)
    gamma, beta = (1 + normal(c) / 4, normal(c, seed=2)) if affine else (None, None)
    (mean, variance, rstd, dgamma, dbeta), (xhat, dx) = np.empty((5, c)), np.empty((2, m, c))

    def loss():
        return np.vdot(weights, batch_norm_forward(x, gamma, beta, EPS, mean, variance, rstd, xhat, np.empty((m, c))))

    loss()
    batch_norm_backward(weights, xhat, gamma, rstd, dx, dgamma, dbeta)
    np.testing.assert_allclose(dgamma, (weights * xhat).sum(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dbeta, weights.sum(axis=0), rtol=1e-12, atol=1e-12)
    check(loss, x, dx)
    if affine:
        check(loss, gamma, dgamma)
        check(loss, beta, dbeta)


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


def test_softmax_agrees_with_torch(torch):
    x, dout = normal(4, 32, 50, dtype=np.float32) * 4, normal(4, 32, 50, seed=1, dtype=np.float32)
    leaf, row = torch.tensor(x, requires_grad=True), np.empty((4, 32, 1), np.float32)
    theirs = torch.softmax(leaf, -1)
    theirs.backward(torch.tensor(dout))
    out = softmax_forward(x, row, np.empty_like(x))
    close(out, theirs)
    close(softmax_backward(dout, out, row, np.empty_like(x)), leaf.grad)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(64, 20), (8, 5, 5, 6)])
def test_batch_norm_layer_agrees_with_torch_running_statistics_included(affine, shape, torch):
    channels = shape[-1]
    layer = BatchNorm(affine=affine, momentum=0.8)
    layer.setup(shape[1:], np.random.default_rng(0), np.float32)
    module = torch.nn.BatchNorm1d(channels, affine=affine, momentum=1 - 0.8)
    if affine:
        for ours, theirs, values in (("gamma", module.weight, 1 + normal(channels) / 4), ("beta", module.bias,
                                                                                        normal(channels, seed=1))):
            layer.params[ours][...] = values
            theirs.data = torch.tensor(values, dtype=torch.float32)
    for seed in range(3):
        x, dout = 2 * normal(*shape, seed=seed, dtype=np.float32) + 1, normal(*shape, seed=9, dtype=np.float32)
        leaf = torch.tensor(x.reshape(-1, channels), requires_grad=True)
        module.zero_grad()
        theirs = module(leaf)
        theirs.backward(torch.tensor(dout.reshape(-1, channels)))
        close(layer.forward(x, training=True).reshape(-1, channels), theirs)
        close(layer.backward(dout).reshape(-1, channels), leaf.grad)
    if affine:
        # Sums over the batch: relative to their size.
        np.testing.assert_allclose(layer.grads["gamma"], module.weight.grad.numpy(), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(layer.grads["beta"], module.bias.grad.numpy(), rtol=1e-5, atol=1e-4)
    close(layer.state["mean"], module.running_mean)
    close(layer.state["variance"], module.running_var)
    module.eval()
    before = {name: array.copy() for name, array in layer.state.items()}
    close(layer.forward(x, training=False).reshape(-1, channels), module(leaf))
    for name, array in before.items():
        np.testing.assert_array_equal(layer.state[name], array)


def test_batch_norm_in_training_refuses_a_single_value():
    layer = BatchNorm()
    layer.setup((3,), np.random.default_rng(0), np.float32)
    with pytest.raises(ValueError, match="at least 2"):
        layer.forward(np.zeros((1, 3), np.float32), training=True)
    layer.forward(np.zeros((1, 3), np.float32), training=False)


# ---- extremes, dtypes, destinations ---------------------------------------------------------------------------------


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
    expected = {"relu": (0, 1e4), "sigmoid": (0, 1), "tanh": (-1, 1)}[name]
    assert (out[0], out[-1]) == expected
    assert np.isfinite(out).all() and np.isfinite(dx).all()
    assert (np.diff(out) >= 0).all() and (dx >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_bears_extreme_input(dtype, strict):
    x = np.stack([EXTREME, EXTREME[::-1], np.full(EXTREME.size, 1e4), np.full(EXTREME.size, -1e4)]).astype(dtype)
    row = np.empty((4, 1), dtype)
    out = softmax_forward(x, row, np.empty_like(x))
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(out[2:], 1 / EXTREME.size, rtol=1e-6)
    assert out[0].argmax() == EXTREME.size - 1 and out[0].max() == 1
    assert np.isfinite(softmax_backward(np.ones_like(x), out, row, np.empty_like(x))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_bears_extreme_and_constant_channels(dtype, strict):
    x = np.stack([np.tile([1e4, -1e4], 8), np.full(16, 1e4), np.zeros(16)], axis=1).astype(dtype)
    (mean, variance, rstd, dgamma, dbeta), (xhat, out, dx) = np.empty((5, 3), dtype), np.empty((3, 16, 3), dtype)
    batch_norm_forward(x, None, None, EPS, mean, variance, rstd, xhat, out)
    np.testing.assert_allclose(out[:, 0], np.tile([1, -1], 8), rtol=1e-6)
    np.testing.assert_array_equal(out[:, 1:], 0)
    assert np.isfinite(batch_norm_backward(x, xhat, None, rstd, dx, dgamma, dbeta)).all()


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
quick = settings(max_examples=40, deadline=None)


@quick
@given(shapes, st.integers(1, 9), st.sampled_from([np.float32, np.float64]))
def test_dense_writes_and_returns_its_destinations_at_any_shape(shape, m, dtype):
    n, d = shape
    x, w, b, dout = (normal(*s, dtype=dtype) for s in ((n, d), (d, m), (m,), (n, m)))
    out, dx, dw, db = (np.full(s, np.nan, dtype) for s in ((n, m), (n, d), (d, m), (m,)))
    dw_alone, db_alone = np.empty_like(dw), np.empty_like(db)
    assert dense_forward(x, w, b, out) is out
    assert dense_backward(dout, x, w, dx, dw, db) is dx
    assert dense_backward(dout, x, w, None, dw_alone, db_alone) is None
    np.testing.assert_array_equal(dw_alone, dw)
    np.testing.assert_array_equal(db_alone, db)
    for array, expected in ((out, np.einsum("nd,dm->nm", x, w) + b), (dx, np.einsum("nm,dm->nd", dout, w)),
                            (dw, np.einsum("nd,nm->dm", x, dout)), (db, np.einsum("nm->m", dout))):
        assert array.dtype == dtype
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)


@quick
@given(st.sampled_from(sorted(ELEMENTWISE)), st.lists(st.integers(0, 5), max_size=4),
       st.sampled_from([np.float32, np.float64]))
def test_activations_write_and_return_their_destinations_at_any_shape(name, shape, dtype):
    forward, backward = ELEMENTWISE[name]
    x = normal(*shape, dtype=dtype).reshape(shape)
    before, out, dx = x.copy(), np.full(shape, np.nan, dtype), np.full(shape, np.nan, dtype)
    assert forward(x, out) is out
    assert backward(np.full(shape, 2, dtype), out, dx) is dx
    formula = {"relu": lambda x: (x * (x > 0), x > 0), "tanh": lambda x: (np.tanh(x), np.cosh(x) ** -2),
               "sigmoid": lambda x: (1 / (1 + np.exp(-x)), np.cosh(x / 2) ** -2 / 4)}[name]
    value, derivative = formula(x.astype(np.float64))
    np.testing.assert_allclose(out, value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, 2 * derivative, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x, before)


@quick
@given(st.lists(st.integers(1, 5), max_size=2), st.integers(1, 9))
def test_softmax_writes_and_returns_its_destinations_at_any_shape(leading, v):
    shape = (*leading, v)
    x, row = normal(*shape, dtype=np.float32), np.empty((*leading, 1), np.float32)
    out, dx = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    assert softmax_forward(x, row, out) is out
    assert softmax_backward(x, out, row, dx) is dx
    exponential = np.exp(x)
    np.testing.assert_allclose(out, exponential / exponential.sum(axis=-1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(dx.sum(axis=-1), 0, atol=1e-6)


@quick
@given(st.integers(2, 12), st.integers(1, 6), st.booleans())
def test_batch_norm_output_has_the_promised_mean_and_variance(m, c, affine):
    x = (normal(m, c) * 5 + 2).astype(np.float32)
    gamma, beta = (np.full(c, 2, np.float32), np.full(c, -3, np.float32)) if affine else (None, None)
    mean, variance, rstd = np.empty((3, c), np.float32)
    xhat, out = np.full((2, m, c), np.nan, np.float32)
    assert batch_norm_forward(x, gamma, beta, EPS, mean, variance, rstd, xhat, out) is out
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.mean(axis=0), -3 if affine else 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=0), (2 if affine else 1) * x.std(axis=0) * rstd, rtol=1e-3, atol=1e-4)
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


# ---- layers ---------------------------------------------------------------------------------------------------------


def test_layers_reuse_their_buffers_and_grow_for_a_larger_batch():
    dense = Dense(4)
    dense.setup((3,), np.random.default_rng(0), np.float32)
    first = dense.forward(normal(5, 3, dtype=np.float32))
    assert np.shares_memory(first, dense.forward(normal(2, 3, dtype=np.float32)))
    assert dense.forward(normal(9, 3, dtype=np.float32)).shape == (9, 4)


def test_relu_layer_passes_gradient_where_it_is_on():
    layer = ReLU()
    layer.setup((3,), None, np.float64)
    np.testing.assert_array_equal(layer.forward(np.array([[-1.0, 0.0, 2.0]])), [[0, 0, 2]])
    np.testing.assert_array_equal(layer.backward(np.array([[5.0, 6.0, 7.0]])), [[0, 0, 7]])


@pytest.mark.parametrize("units", [0, -3, 2.5, "50"])
def test_dense_refuses_a_bad_width(units):
    with pytest.raises(ValueError, match="units="):
        Dense(units)


def test_dense_weights_are_glorot_uniform_and_biases_zero():
    dense = Dense(300)
    dense.setup((100,), np.random.default_rng(0), np.float32)
    w, limit = dense.params["w"], np.sqrt(6 / 400)
    assert w.dtype == np.float32 and w.shape == (100, 300)
    assert 0.99 * limit < np.abs(w).max() <= limit
    np.testing.assert_allclose(w.std(), limit / np.sqrt(3), rtol=0.02)
    np.testing.assert_array_equal(dense.params["b"], 0)
