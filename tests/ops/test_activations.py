"""The activations: ReLU, sigmoid, tanh, and softmax over the last axis."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import normal

from tinyqae.gradcheck import KinkFound, check_coordinates, check_directions
from tinyqae.ops.activations import (
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)

ELEMENTWISE = {
    "relu": (relu_forward, relu_backward),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "tanh": (tanh_forward, tanh_backward),
}
EXTREME = np.array([-1e4, -100, -88, -1e-30, -0.0, 0, 1e-30, 17, 88, 100, 1e4])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}


# ---- gradient checks in float64 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "shape"), [(check_coordinates, (5, 3)), (check_coordinates, (2, 3, 4)), (check_directions, (128, 100))]
)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gradient(name, check, shape):
    forward, backward = ELEMENTWISE[name]
    x, dy = normal(*shape), normal(*shape, seed=1)
    x += np.copysign(0.01, x)  # Away from ReLU's kink.
    check(lambda: np.vdot(dy, forward(x)), x, backward(dy, forward(x)))


def test_relu_has_a_kink_at_zero_and_the_gradient_zero_there():
    x = np.array([0.0, -0.0])
    np.testing.assert_array_equal(relu_backward(np.ones(2), relu_forward(x)), 0)
    with pytest.raises(KinkFound):
        check_coordinates(lambda: relu_forward(x).sum(), x, np.zeros(2))


# ---- PyTorch --------------------------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("shape", [(128, 100), (4, 32, 50)])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_activations_agree_with_torch(name, shape, dtype, torch):
    forward, backward = ELEMENTWISE[name]
    x, dy = normal(*shape, dtype=dtype) * 4, normal(*shape, seed=1, dtype=dtype)
    leaf = torch.tensor(x, requires_grad=True)
    theirs = getattr(torch, name)(leaf)
    theirs.backward(torch.tensor(dy))
    y = forward(x)
    dx = backward(dy, y)
    assert y.dtype == dx.dtype == dtype
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=tolerance, atol=tolerance)


@DTYPES
@pytest.mark.parametrize("shape", [(128, 100), (4, 32, 50)])
def test_softmax_agrees_with_torch(shape, dtype, torch):
    x = normal(*shape, dtype=dtype) * 4
    y = softmax_forward(x)
    np.testing.assert_allclose(y, torch.softmax(torch.tensor(x), -1).numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert y.dtype == dtype


# ---- extreme input --------------------------------------------------------------------------------------------------


@pytest.fixture
def strict():
    # An exponential that underflows to 0 is right, and NumPy does not warn of it by default.
    with np.errstate(all="raise", under="ignore"):
        yield


@DTYPES
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_activations_bear_extreme_input(name, dtype, strict):
    forward, backward = ELEMENTWISE[name]
    x = EXTREME.astype(dtype)
    y = forward(x)
    dx = backward(np.ones_like(x), y)
    assert (y[0], y[-1]) == {"relu": (0, 1e4), "sigmoid": (0, 1), "tanh": (-1, 1)}[name]
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    assert (np.diff(y) >= 0).all() and (dx >= 0).all()


@DTYPES
def test_softmax_bears_extreme_input(dtype, strict):
    x = np.stack([EXTREME, EXTREME[::-1], np.full(EXTREME.size, 1e4), np.full(EXTREME.size, -1e4)]).astype(dtype)
    y = softmax_forward(x)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(y[2:], 1 / EXTREME.size, rtol=1e-6)
    assert y[0].argmax() == EXTREME.size - 1 and y[0].max() == 1


@pytest.mark.parametrize("forward", [relu_forward, sigmoid_forward, tanh_forward, softmax_forward])
def test_nan_stays_nan(forward):
    assert np.isnan(forward(np.array([1.0, np.nan]))[1])


# ---- any shape ------------------------------------------------------------------------------------------------------


FORMULAS = {
    "relu": lambda x: (x * (x > 0), x > 0),
    "tanh": lambda x: (np.tanh(x), np.cosh(x) ** -2),
    "sigmoid": lambda x: (1 / (1 + np.exp(-x)), np.cosh(x / 2) ** -2 / 4),
}


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(FORMULAS)), st.lists(st.integers(0, 5), max_size=4), st.sampled_from([np.float32, np.float64]))
def test_elementwise_values_and_derivatives_at_any_shape(name, shape, dtype):
    forward, backward = ELEMENTWISE[name]
    x, dy = (normal(*shape, seed=seed, dtype=dtype).reshape(shape) for seed in (0, 1))
    arguments = x.copy(), dy.copy()
    y = forward(x)
    dx = backward(dy, y)
    value, derivative = FORMULAS[name](x.astype(np.float64))
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_allclose(y, value, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)
    np.testing.assert_allclose(dx, dy * derivative, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)
    np.testing.assert_array_equal((x, dy), arguments)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=2), st.integers(1, 9), st.floats(-50, 50))
def test_softmax_is_a_distribution_that_a_shift_does_not_change(leading, v, shift):
    x = normal(*leading, v)
    y = softmax_forward(x)
    exponential = np.exp(x)
    np.testing.assert_allclose(y, exponential / exponential.sum(axis=-1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(softmax_forward(x + shift), y, rtol=1e-9)
    assert softmax_forward(x.astype(np.float32)).dtype == np.float32
