"""The fast engine's losses against the reference ones, and their buffers. Gradient checks and agreement with PyTorch of the
reconstruction losses are in tests/test_losses.py, for both engines.
"""

import numpy as np
import pytest
from engines import build
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import SHAPES, normal

from tinyqae import losses as reference
from tinyqae.fast import losses
from tinyqae.fast.kernels import choose
from tinyqae.gradcheck import check_coordinates, check_directions
from tinyqae.ops.binarize import binarize

# One row, and batches around the 64 rows that share a logarithm.
BATCHES = [1, 63, 64, 65, 200]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
DTYPES = st.sampled_from([np.float32, np.float64])


def draw(n, f, dtype=np.float64, seed=0):
    """(logits, targets in [0, 1] with exact zeros and ones among them)."""
    random = np.random.default_rng((seed, n, f))
    logits, target = 3 * random.standard_normal((n, f)), random.uniform(-0.5, 1.5, (n, f)).clip(0, 1)
    return logits.astype(dtype), target.astype(dtype)


def draw_labelled(m, v, dtype=np.float64):
    """(logits, labels, weights with zeros among them)."""
    random = np.random.default_rng((m, v))
    weights = random.uniform(0.1, 2, m) * (random.random(m) > 0.3)
    return (3 * random.standard_normal((m, v))).astype(dtype), random.integers(0, v, m), weights.astype(dtype)


def values(*shape, dtype=np.float64):
    """Numbers in [0, 1]."""
    return np.random.default_rng(shape).uniform(0, 1, shape).astype(dtype)


# Each from its arguments to (value, gradient), in an array full of NaN before.


def bce(logits, target):
    gradient = np.full_like(logits, np.nan)
    return losses.bce_with_logits(logits, target, np.empty(logits.shape[1], logits.dtype), gradient), gradient


def squared_error(logits, target):
    gradient = np.full_like(logits, np.nan)
    return losses.squared_error_with_logits(logits, target, np.empty_like(logits), gradient), gradient


def cross_entropy(logits, labels, weights):
    gradient = np.full_like(logits, np.nan)
    scratch = losses.CrossEntropyScratch(len(logits) + 3, logits.shape[1], logits.dtype)
    return losses.cross_entropy_with_logits(logits, labels, weights, scratch, gradient), gradient


def fence(z):
    gradient = np.full_like(z, np.nan)
    return losses.fence_loss(z, gradient), gradient


def commit(a, b):
    gradient = np.full_like(a, np.nan)
    return losses.commitment_loss(a, b, gradient), gradient


def entropy(a):
    gradient = np.full_like(a, np.nan)
    rows = np.empty((2, a.shape[1]), a.dtype)
    return losses.entropy_loss(a, np.empty_like(a), rows, gradient), gradient


def assert_same(ours, expected, tolerance):
    (value, gradient), (expected_value, expected_gradient) = ours, expected
    np.testing.assert_allclose(value, expected_value, rtol=tolerance, atol=tolerance)
    size = gradient.size  # The gradient of a mean is small; times the size it is of order 1.
    np.testing.assert_allclose(gradient * size, expected_gradient * size, rtol=tolerance, atol=tolerance)
    assert value.dtype == expected_value.dtype and gradient.dtype == expected_gradient.dtype


# ---- reconstruction -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", BATCHES)
def test_bce_equals_the_reference_around_the_rows_that_share_a_logarithm(n):
    value, gradient = bce(*draw(n, 20))
    logits, target = draw(n, 20)
    np.testing.assert_allclose(value, reference.bce_with_logits(logits, target), rtol=1e-13)
    np.testing.assert_allclose(gradient, reference.bce_with_logits_backward(logits, target), rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("n", [64, 127, 128, 129, 1000, 5000])
def test_bce_of_logits_of_0_is_log_2_for_any_number_of_rows(n, kernels):
    """Each factor 1 + e^-|l| is exactly 2 there, and the product of 128 of them is above the largest float32."""
    logits, target = np.zeros((n, 3), np.float32), np.full((n, 3), 0.25, np.float32)
    gradient = np.full_like(logits, np.nan)
    function = choose(losses.bce_with_logits, logits.dtype)
    with np.errstate(over="raise"):
        value = function(logits, target, np.empty(3, np.float32), gradient)
    assert value == pytest.approx(np.log(2), rel=1e-5)
    np.testing.assert_allclose(gradient, 0.25 / (3 * n), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 9), DTYPES)
def test_bce_equals_the_reference(n, f, dtype):
    logits, target = draw(n, f, dtype)
    expected = reference.bce_with_logits(logits, target), reference.bce_with_logits_backward(logits, target)
    assert_same(bce(logits, target), expected, TOLERANCE[dtype] * 10)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 9), DTYPES)
def test_squared_error_equals_the_reference(n, f, dtype):
    logits, target = draw(n, f, dtype)
    expected = (
        reference.squared_error_with_logits(logits, target),
        reference.squared_error_with_logits_backward(logits, target),
    )
    assert_same(squared_error(logits, target), expected, TOLERANCE[dtype])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), DTYPES)
def test_cross_entropy_equals_the_reference(m, v, dtype):
    example, tolerance = draw_labelled(m, v, dtype), TOLERANCE[dtype]
    value, gradient = cross_entropy(*example)
    np.testing.assert_allclose(value, reference.cross_entropy_with_logits(*example), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        gradient, reference.cross_entropy_with_logits_backward(*example), rtol=tolerance, atol=tolerance
    )
    assert value.dtype == gradient.dtype == dtype


CASES = {"bce": draw, "mse": draw, "cross-entropy": draw_labelled}
RECONSTRUCTION = {
    **reference.RECONSTRUCTION,
    "cross-entropy": (reference.cross_entropy_with_logits, reference.cross_entropy_with_logits_backward),
}


@pytest.mark.parametrize("kind", RECONSTRUCTION)
def test_the_parts_reuse_their_buffers_and_grow_for_a_larger_batch(kind, kernels, monkeypatch):
    monkeypatch.setenv("TINYQAE_ENGINE", "fast")
    criterion = build(reference.Loss(*RECONSTRUCTION[kind]))
    assert type(criterion) is losses.BufferedLoss
    gradients = []
    for n in (9, 4, 12):
        criterion.forward(*CASES[kind](n, 5, np.float32))
        gradients.append(criterion.backward())
    assert [len(gradient) for gradient in gradients] == [9, 4, 12]
    assert np.shares_memory(gradients[0], gradients[1]) and not np.shares_memory(gradients[0], gradients[2])


def test_a_loss_without_a_fast_version_is_used_as_it_is(monkeypatch):
    monkeypatch.setenv("TINYQAE_ENGINE", "fast")
    criterion = build(reference.Loss(reference.fence_loss, reference.fence_loss_backward))
    z = values(3, 4)
    assert criterion.forward(z) == reference.fence_loss(z)
    np.testing.assert_array_equal(criterion.backward(), reference.fence_loss_backward(z))


# ---- fence and commit -----------------------------------------------------------------------------------------------


def test_fence_value_and_gradient_by_hand():
    z = np.array([[0.0, 0.1, 0.5, 0.7, 1.0]])
    value, gradient = fence(z)
    np.testing.assert_allclose(value, (0 + 0.1 + 0.5 + 0.3 + 0) / 5)
    np.testing.assert_allclose(gradient, np.array([[1, 1, 0, -1, -1]]) / 5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 9), DTYPES)
def test_fence_equals_the_reference(n, f, dtype):
    z = values(n, f, dtype=dtype)
    z.flat[0] = 0.5
    assert_same(fence(z), (reference.fence_loss(z), reference.fence_loss_backward(z)), TOLERANCE[dtype])


def test_fence_gradient():
    z = values(100, 40)
    z = np.where(np.abs(z - 0.5) < 1e-3, 0.2, z)
    check_coordinates(lambda: fence(z[:5])[0] * 200, z[:5], fence(z[:5])[1] * 200)
    check_directions(lambda: fence(z)[0] * z.size, z, fence(z)[1] * z.size)


def test_commit_gradient_holds_the_bits_constant():
    a = normal(7, 6)
    b = (a > 0.5).astype(float)
    value, da = commit(a, b)
    np.testing.assert_allclose(value, np.mean((b - a) ** 2))
    for check in (check_coordinates, check_directions):
        check(lambda: commit(a, b)[0], a, da)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 9), DTYPES)
def test_commit_and_binarize_and_commit_equal_the_reference(n, f, dtype):
    a = normal(n, f, dtype=dtype)
    a.flat[0] = 0.5
    bits = binarize(a)
    expected = reference.commitment_loss(a, bits), reference.commitment_loss_backward(a, bits)
    assert_same(commit(a, bits), expected, TOLERANCE[dtype])
    b, da = np.full((2, *a.shape), np.nan, dtype)
    assert_same((losses.binarize_and_commit(a, b, da), da), expected, TOLERANCE[dtype])
    np.testing.assert_array_equal(b, bits)


def test_binarize_and_commit_does_both():
    a = np.array([[0.2, 0.5, 0.6, 3.0]])
    b, da = np.full((2, 1, 4), np.nan)
    value = losses.binarize_and_commit(a, b, da)
    np.testing.assert_array_equal(b, [[0, 0, 1, 1]])
    np.testing.assert_allclose(value, (0.04 + 0.25 + 0.16 + 4) / 4)
    np.testing.assert_allclose(da, [[0.1, 0.25, -0.2, 1.0]])


# ---- entropy --------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), DTYPES, st.booleans())
def test_entropy_equals_the_reference(n, k, dtype, with_bits):
    a = values(n, k, dtype=dtype)
    if with_bits:
        a.flat[::3] = binarize(a.flat[::3])
    expected = reference.entropy_loss(a), reference.entropy_loss_backward(a)
    (value, gradient), tolerance = entropy(a), {np.float32: 2e-5, np.float64: 1e-10}[dtype]
    np.testing.assert_allclose(value, expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient * a.size, expected[1] * a.size, rtol=tolerance, atol=10 * tolerance)
    assert value.dtype == gradient.dtype == dtype


def test_entropy_gradient():
    a = 0.02 + 0.96 * values(60, 30)
    few = a[:5, :4].copy()
    check_coordinates(lambda: entropy(few)[0] * few.size, few, entropy(few)[1] * few.size)
    check_directions(lambda: entropy(a)[0] * a.size, a, entropy(a)[1] * a.size)


@pytest.mark.parametrize("shape", SHAPES)
def test_entropy_writes_all_of_its_gradient_and_leaves_its_input(shape):
    a = values(*shape, dtype=np.float32)
    before = a.copy()
    assert np.isfinite(entropy(a)[1]).all()
    np.testing.assert_array_equal(a, before)
