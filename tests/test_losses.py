"""Loss functions: the reconstruction losses of both engines with one body for each test, then the bottlenecks' losses."""

import numpy as np
import pytest
from engines import build
from hypothesis import given, settings
from hypothesis import strategies as st
from random_arrays import normal

from tinyqae import losses
from tinyqae.gradcheck import KinkFound, check_coordinates, check_directions

RECONSTRUCTION = {
    **losses.RECONSTRUCTION,
    "cross-entropy": (losses.cross_entropy_with_logits, losses.cross_entropy_with_logits_backward),
}
OF_IMAGES = pytest.mark.parametrize("kind", losses.RECONSTRUCTION)
OF_ALL = pytest.mark.parametrize("kind", RECONSTRUCTION)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}
# One row, and batches around the 64 rows that share a logarithm in the fast engine.
BATCHES = pytest.mark.parametrize("n", [1, 63, 64, 65, 200])


def draw(kind, n, f, dtype=np.float64):
    """(logits, targets in [0, 1]) or (logits, labels, weights), targets and weights with exact zeros among them."""
    random = np.random.default_rng((n, f))
    logits = (3 * random.standard_normal((n, f))).astype(dtype)
    if kind == "cross-entropy":
        weights = random.uniform(0.1, 2, n) * (random.random(n) > 0.3)
        return logits, random.integers(0, f, n), weights.astype(dtype)
    return logits, random.uniform(-0.5, 1.5, (n, f)).clip(0, 1).astype(dtype)


def evaluate(kind, *arguments):
    """(value, gradient) by the engine in use."""
    criterion = build(losses.Loss(*RECONSTRUCTION[kind]))
    return criterion.forward(*arguments), criterion.backward()


def by_torch(torch, kind, logits, *others):
    """(value, gradient) by PyTorch's own function and autograd."""
    functional, leaf = torch.nn.functional, torch.tensor(logits, requires_grad=True)
    first, *rest = (torch.tensor(array) for array in others)
    if kind == "bce":
        value = functional.binary_cross_entropy_with_logits(leaf, first)
    elif kind == "mse":
        value = functional.mse_loss(torch.sigmoid(leaf), first)
    else:
        value = (functional.cross_entropy(leaf, first, reduction="none") * rest[0]).sum()
    value.backward()
    return value.item(), leaf.grad.numpy()


# ---- reconstruction -------------------------------------------------------------------------------------------------


@OF_ALL
def test_gradient_by_coordinates(kind, plain_engine):
    logits, *others = draw(kind, 9, 4)
    check_coordinates(lambda: evaluate(kind, logits, *others)[0], logits, evaluate(kind, logits, *others)[1])


@OF_ALL
def test_gradient_by_directions_at_a_realistic_size(kind, plain_engine):
    logits, *others = draw(kind, 128, 784)
    # The gradient of a mean over 100,000 elements is small; times the size it is of order 1.
    value = lambda: evaluate(kind, logits, *others)[0] * logits.size  # noqa: E731
    check_directions(value, logits, evaluate(kind, logits, *others)[1] * logits.size, step=1e-3)


@BATCHES
@DTYPES
@OF_ALL
def test_agrees_with_torch(kind, dtype, n, engine, torch):
    arguments = draw(kind, n, 300, dtype)
    value, gradient = evaluate(kind, *arguments)
    expected_value, expected_gradient = by_torch(torch, kind, *arguments)
    scale = 1 if kind == "cross-entropy" else gradient.size
    np.testing.assert_allclose(value, expected_value, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_allclose(gradient * scale, expected_gradient * scale, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert gradient.dtype == dtype


@DTYPES
@OF_ALL
def test_a_smaller_batch_after_a_larger_one_has_its_own_value_and_gradient(kind, dtype, engine):
    criterion = build(losses.Loss(*RECONSTRUCTION[kind]))
    for n in (9, 4, 1, 12):
        arguments = draw(kind, n, 5, dtype)
        value, gradient = evaluate(kind, *arguments)
        assert criterion.forward(*arguments) == value
        np.testing.assert_array_equal(criterion.backward(), gradient)
        assert gradient.shape == (n, 5)


@DTYPES
def test_bce_of_extreme_logits_is_finite_and_exact(dtype, engine):
    # Right, half right and wrong at both ends: the cost of being wrong is |l|, of being right 0.
    logits = np.array([[1e4, -1e4, 1e4, -1e4, 1e4, -1e4, 0]], dtype).repeat(64, axis=0)
    target = np.array([[1, 0, 0, 1, 0.5, 0.5, 0.5]], dtype).repeat(64, axis=0)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = evaluate("bce", logits, target)
    np.testing.assert_allclose(value, (2 * 1e4 + 2 * 5e3 + np.log(2)) / 7, rtol=1e-6)
    np.testing.assert_allclose(gradient[0] * logits.size, [0, 0, 1, -1, 0.5, -0.5, 0], atol=1e-6)


@DTYPES
@pytest.mark.parametrize("size", [15.0, 30.0, 1e4, 1e8, 1e36])
def test_bce_of_confident_logits_does_not_cancel(size, dtype, engine):
    """Right and certain: the loss is e^-|l| for each, however many there are, not the rounding error of |l|."""
    sign = np.random.default_rng(0).choice([-1, 1], (130, 70))
    logits, target = (size * sign).astype(dtype), (sign > 0).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        value, _ = evaluate("bce", logits, target)
    assert 0 <= value <= 1.1 * np.exp(-size) + 1e-7
    wrong, _ = evaluate("bce", logits[:1, :1], 1 - target[:1, :1])
    np.testing.assert_allclose(wrong, size, rtol=1e-6)


@pytest.mark.parametrize("offset", [0, 1e4, -1e6])
def test_cross_entropy_does_not_depend_on_an_offset_of_the_logits(offset, engine):
    labels, weights = np.arange(8) % 5, np.full(8, 0.125, np.float32)
    logits = np.random.default_rng(1).integers(-8, 8, (8, 5)).astype(np.float32)  # Exact with the offset too.
    value, gradient = evaluate("cross-entropy", logits + np.float32(offset), labels, weights)
    expected_value, expected_gradient = evaluate("cross-entropy", logits.astype(np.float64), labels, weights.astype(float))
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


@DTYPES
def test_squared_error_of_extreme_logits_is_finite_and_exact(dtype, engine):
    logits, target = np.array([[1e4, -1e4, 1e4, -1e4]], dtype), np.array([[1, 0, 0, 1]], dtype)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = evaluate("mse", logits, target)
    assert value == 0.5
    np.testing.assert_array_equal(gradient, 0)


@DTYPES
def test_cross_entropy_of_extreme_logits_is_finite_and_exact(dtype, engine):
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [1e4, -1e4, 1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = evaluate("cross-entropy", logits, np.array([0, 1, 2]), np.array([3, 0.5, 1], dtype))
    np.testing.assert_allclose(value, 1e4 + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [0.5, -0.5, 0], [0.5, 0, -0.5]], atol=1e-7)


@OF_ALL
def test_the_loss_of_a_nan_is_nan_so_that_training_stops(kind, engine):
    logits, *others = draw(kind, 4, 5, np.float32)
    logits[2, 3] = np.nan
    if kind == "cross-entropy":
        others[1][:] = 1
    assert np.isnan(evaluate(kind, logits, *others)[0])


def test_bce_of_a_coin_is_log_two(plain_engine):
    value, gradient = evaluate("bce", np.zeros((70, 3)), np.full((70, 3), 0.5))
    np.testing.assert_allclose(value, np.log(2), rtol=1e-14)
    np.testing.assert_array_equal(gradient, 0)


def test_cross_entropy_of_a_fair_guess_is_the_logarithm_of_the_choices(plain_engine):
    value, gradient = evaluate("cross-entropy", np.full((4, 39), 7.0), np.array([0, 5, 38, 5]), np.full(4, 0.25))
    np.testing.assert_allclose(value, np.log(39), rtol=1e-14)
    np.testing.assert_allclose(gradient[1], 0.25 / 39 - 0.25 * (np.arange(39) == 5), rtol=1e-12)


def test_a_row_of_weight_zero_does_not_count(plain_engine):
    logits, labels, weights = draw("cross-entropy", 12, 5)
    kept = weights > 0
    assert 0 < kept.sum() < 12
    value, gradient = (np.copy(result) for result in evaluate("cross-entropy", logits, labels, weights))
    expected_value, expected_gradient = evaluate("cross-entropy", logits[kept], labels[kept], weights[kept])
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    np.testing.assert_array_equal(gradient[kept], expected_gradient)
    np.testing.assert_array_equal(gradient[~kept], 0)


@OF_IMAGES
def test_a_loss_of_images_may_have_any_shape_in_the_reference(kind):
    logits, target = draw(kind, 12, 20)
    function, gradient = losses.RECONSTRUCTION[kind]
    as_images = (12, 2, 5, 2)
    np.testing.assert_allclose(function(logits.reshape(as_images), target.reshape(as_images)), function(logits, target))
    assert gradient(logits.reshape(as_images), target.reshape(as_images)).shape == as_images


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(RECONSTRUCTION)), st.integers(1, 30), st.integers(1, 9))
def test_values_by_the_definition_at_any_shape(kind, n, f):
    logits, *others = arguments = draw(kind, n, f)
    before = [array.copy() for array in arguments]
    p = 1 / (1 + np.exp(-logits))
    if kind == "cross-entropy":
        labels, weights = others
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected = -sum(weights[i] * np.log(p[i, labels[i]]) for i in range(n))
    else:
        (t,) = others
        expected = {"mse": (p - t) ** 2, "bce": -t * np.log(p) - (1 - t) * np.log(1 - p)}[kind].mean()
    function, gradient = RECONSTRUCTION[kind]
    np.testing.assert_allclose(function(*arguments), expected, rtol=1e-10, atol=1e-12)
    single = [array.astype(np.float32) if array.dtype == np.float64 else array for array in arguments]
    assert function(*single).dtype == gradient(*single).dtype == np.float32
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@DTYPES
def test_log_softmax_is_finite_where_the_softmax_underflows(dtype):
    logits = np.array([[1e4, 0, -1e4], [0, 0, 0]], dtype)
    with np.errstate(all="raise", under="ignore"):
        result = losses.log_softmax(logits)
    np.testing.assert_allclose(result, [[0, -1e4, -2e4], [-np.log(3)] * 3], rtol=1e-6)
    assert result.dtype == dtype


# ---- fence and commitment -------------------------------------------------------------------------------------------


def test_fence_value_and_gradient_by_hand():
    z = np.array([[0.0, 0.1, 0.5, 0.7, 1.0]])
    np.testing.assert_allclose(losses.fence_loss(z), (0 + 0.1 + 0.5 + 0.3 + 0) / 5)
    np.testing.assert_allclose(losses.fence_loss_backward(z), np.array([[1, 1, 0, -1, -1]]) / 5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 80), st.integers(1, 9), st.sampled_from([np.float32, np.float64]))
def test_fence_value_is_the_mean_distance_to_the_nearer_bit(n, f, dtype):
    z = np.random.default_rng((n, f)).uniform(0, 1, (n, f)).astype(dtype)
    value, gradient = losses.fence_loss(z), losses.fence_loss_backward(z)
    np.testing.assert_allclose(value, np.abs(z - (z > 0.5)).mean(), rtol=1e-5, atol=1e-6)
    assert value.dtype == gradient.dtype == dtype


def test_fence_gradient():
    z = np.random.default_rng(0).uniform(0, 1, (100, 40))
    z = np.where(np.abs(z - 0.5) < 1e-3, 0.2, z)
    few = z[:5].copy()
    check_coordinates(lambda: losses.fence_loss(few) * 200, few, losses.fence_loss_backward(few) * 200)
    check_directions(lambda: losses.fence_loss(z) * z.size, z, losses.fence_loss_backward(z) * z.size)


def test_sitting_on_the_fence_is_a_kink():
    z = np.array([[0.5]])
    with pytest.raises(KinkFound):
        check_coordinates(lambda: losses.fence_loss(z), z, losses.fence_loss_backward(z))


def test_commitment_value_and_gradient_by_hand():
    a, b = np.array([[0.2, 0.5, 0.6, 3.0]]), np.array([[0.0, 0, 1, 1]])
    np.testing.assert_allclose(losses.commitment_loss(a, b), (0.04 + 0.25 + 0.16 + 4) / 4)
    np.testing.assert_allclose(losses.commitment_loss_backward(a, b), [[0.1, 0.25, -0.2, 1.0]])


def test_commitment_gradient_holds_the_bits_constant():
    a = normal(7, 6)
    b = (a > 0.5).astype(float)
    gradient = losses.commitment_loss_backward(a, b)
    for check in (check_coordinates, check_directions):
        check(lambda: losses.commitment_loss(a, b), a, gradient)
    # A step against it brings a closer to the bit that it is.
    assert (np.sign(gradient) == np.sign(a - b)).all()


@DTYPES
def test_commitment_agrees_with_torch_where_the_bits_are_detached(dtype, torch):
    a = normal(50, 20, dtype=dtype)
    b = (a > 0.5).astype(dtype)
    leaf = torch.tensor(a, requires_grad=True)
    theirs = torch.nn.functional.mse_loss(leaf, (leaf > 0.5).to(leaf.dtype).detach())
    theirs.backward()
    value, gradient = losses.commitment_loss(a, b), losses.commitment_loss_backward(a, b)
    np.testing.assert_allclose(value, theirs.item(), rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(gradient * a.size, leaf.grad.numpy() * a.size, rtol=TOLERANCE[dtype])
    assert value.dtype == gradient.dtype == dtype


# ---- entropy --------------------------------------------------------------------------------------------------------


def bit_entropy(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def test_the_logit_is_minus_the_derivative_of_a_bits_entropy():
    p = np.array([[0.45, 0.1, 0.9, 0.25]])
    check_coordinates(lambda: bit_entropy(p).sum(), p, -losses.logit(p))


def test_entropy_loss_is_zero_where_a_bit_never_changes_and_least_where_it_is_decided_and_balanced():
    for constant in (0.0, 0.3, 0.5, 1.0):
        np.testing.assert_allclose(losses.entropy_loss(np.full((8, 3), constant)), 0, atol=1e-12)
    decided = np.array([[0.0, 1], [1, 0], [0, 0], [1, 1]])
    np.testing.assert_allclose(losses.entropy_loss(decided), -np.log(2), atol=1e-12)
    # By hand: one bit undecided, one decided and balanced.
    np.testing.assert_allclose(losses.entropy_loss(np.array([[0.5, 0], [0.5, 1]])), -np.log(2) / 2, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.sampled_from([np.float32, np.float64]))
def test_entropy_loss_has_its_bounds_and_ignores_the_order_of_examples(n, k, dtype):
    a = np.random.default_rng((n, k)).uniform(0, 1, (n, k)).astype(dtype)
    value, gradient = losses.entropy_loss(a), losses.entropy_loss_backward(a)
    assert -np.log(2) - 1e-6 <= value <= 1e-6
    exact = a.astype(np.float64)
    np.testing.assert_allclose(value, bit_entropy(exact).mean() - bit_entropy(exact.mean(axis=0)).mean(), atol=1e-6)
    assert value.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(losses.entropy_loss(a[::-1]), value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("check", "shape"), [(check_coordinates, (5, 4)), (check_coordinates, (1, 3)), (check_directions, (60, 30))]
)
def test_entropy_gradient(check, shape):
    a = np.random.default_rng(0).uniform(0.02, 0.98, shape)
    check(lambda: losses.entropy_loss(a) * a.size, a, losses.entropy_loss_backward(a) * a.size)


@DTYPES
def test_entropy_agrees_with_torch(dtype, torch):
    a = np.random.default_rng(0).uniform(0.02, 0.98, (50, 20)).astype(dtype)
    leaf = torch.tensor(a, requires_grad=True)

    def entropy(p):
        return torch.distributions.Bernoulli(p).entropy().mean()

    theirs = entropy(leaf) - entropy(leaf.mean(0))
    theirs.backward()
    np.testing.assert_allclose(losses.entropy_loss(a), theirs.item(), rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(
        losses.entropy_loss_backward(a) * a.size, leaf.grad.numpy() * a.size, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@DTYPES
def test_entropy_of_values_that_are_exactly_bits_is_finite(dtype):
    a = np.array([[0, 1, 0], [0, 1, 1]], dtype)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = losses.entropy_loss(a), losses.entropy_loss_backward(a)
    np.testing.assert_allclose(value, -np.log(2) / 3, rtol=1e-5)
    assert np.isfinite(gradient).all()
    # A step against it moves a value away from the mean of its bit.
    assert gradient[0, 2] > 0 > gradient[1, 2]
