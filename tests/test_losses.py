"""Loss functions: values, gradients, and agreement of tuned, textbook and PyTorch forms."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae import losses
from tinyqae.gradcheck import check_coordinates, check_directions

# One row, and batches around the 64 rows that share a logarithm.
BATCHES = [1, 63, 64, 65, 200]


def draw(n, f, dtype=np.float64, seed=0):
    """(logits, targets in [0, 1] with exact zeros and ones among them)."""
    random = np.random.default_rng((seed, n, f))
    logits, target = 3 * random.standard_normal((n, f)), random.uniform(-0.5, 1.5, (n, f)).clip(0, 1)
    return logits.astype(dtype), target.astype(dtype)


def tuned(logits, target):
    gradient = np.full_like(logits, np.nan)
    return losses.bce_with_logits(logits, target, np.empty(logits.shape[1], logits.dtype), gradient), gradient


def textbook(logits, target):
    gradient = np.full_like(logits, np.nan)
    return losses.bce_with_logits_textbook(logits, target, gradient), gradient


def squared_error(logits, target):
    gradient = np.full_like(logits, np.nan)
    return losses.squared_error_with_logits(logits, target, np.empty_like(logits), gradient), gradient


def mean_squared_error(output, target):
    gradient = np.full_like(output, np.nan)
    return losses.mean_squared_error(output, target, gradient), gradient


def fence(z, _=None):
    gradient = np.full_like(z, np.nan)
    return losses.fence_loss(z, gradient), gradient


IMAGE_LOSSES = {"bce": tuned, "bce_textbook": textbook, "squared_error": squared_error, "mse": mean_squared_error}


@pytest.mark.parametrize("loss", IMAGE_LOSSES.values(), ids=IMAGE_LOSSES)
def test_gradient_by_coordinates(loss):
    logits, target = draw(5, 4)
    check_coordinates(lambda: loss(logits, target)[0], logits, loss(logits, target)[1])


@pytest.mark.parametrize("loss", IMAGE_LOSSES.values(), ids=IMAGE_LOSSES)
def test_gradient_by_directions_at_a_realistic_size(loss):
    logits, target = draw(128, 784)
    # The gradient of a mean over 100,000 elements is small; times the size it is of order 1.
    value = lambda: loss(logits, target)[0] * logits.size  # noqa: E731
    check_directions(value, logits, loss(logits, target)[1] * logits.size, step=1e-3)


@pytest.mark.parametrize("n", BATCHES)
def test_tuned_bce_equals_textbook(n):
    value, gradient = tuned(*draw(n, 20))
    expected_value, expected_gradient = textbook(*draw(n, 20))
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("loss", [tuned, textbook])
def test_bce_agrees_with_torch(loss, n, torch):
    logits, target = draw(n, 300, np.float32)
    leaf = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(leaf, torch.tensor(target))
    theirs.backward()
    value, gradient = loss(logits, target)
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient * logits.size, leaf.grad.numpy() * logits.size, rtol=1e-5, atol=1e-5)
    assert gradient.dtype == np.float32


@pytest.mark.parametrize("n", BATCHES)
def test_squared_error_agrees_with_torch(n, torch):
    logits, target = draw(n, 300, np.float32)
    leaf = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.mse_loss(torch.sigmoid(leaf), torch.tensor(target))
    theirs.backward()
    value, gradient = squared_error(logits, target)
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient * logits.size, leaf.grad.numpy() * logits.size, rtol=1e-5, atol=1e-5)


def test_squared_error_leaves_the_probabilities_in_its_scratch():
    logits, target = draw(6, 5)
    probability = np.empty_like(logits)
    losses.squared_error_with_logits(logits, target, probability, np.empty_like(logits))
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [tuned, textbook])
def test_bce_of_extreme_logits_is_finite_and_exact(loss, dtype):
    # Right, half right and wrong at both ends: the cost of being wrong is |l|, of being right 0.
    logits = np.array([[1e4, -1e4, 1e4, -1e4, 1e4, -1e4, 0]], dtype).repeat(64, axis=0)
    target = np.array([[1, 0, 0, 1, 0.5, 0.5, 0.5]], dtype).repeat(64, axis=0)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = loss(logits, target)
    np.testing.assert_allclose(value, (2 * 1e4 + 2 * 5e3 + np.log(2)) / 7, rtol=1e-6)
    np.testing.assert_allclose(gradient[0] * logits.size, [0, 0, 1, -1, 0.5, -0.5, 0], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_error_of_extreme_logits_is_finite_and_exact(dtype):
    logits, target = np.array([[1e4, -1e4, 1e4, -1e4]], dtype), np.array([[1, 0, 0, 1]], dtype)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = squared_error(logits, target)
    assert value == 0.5
    np.testing.assert_array_equal(gradient, 0)


def test_bce_of_a_coin_is_log_two():
    value, gradient = tuned(np.zeros((70, 3)), np.full((70, 3), 0.5))
    np.testing.assert_allclose(value, np.log(2), rtol=1e-14)
    np.testing.assert_array_equal(gradient, 0)


# ---- cross-entropy --------------------------------------------------------------------------------------------------


def cross_entropy(logits, labels, weights):
    gradient = np.full_like(logits, np.nan)
    scratch = losses.CrossEntropyScratch(len(logits) + 3, logits.shape[1], logits.dtype)
    return losses.cross_entropy_with_logits(logits, labels, weights, scratch, gradient), gradient


def cross_entropy_textbook(logits, labels, weights):
    gradient = np.full_like(logits, np.nan)
    return losses.cross_entropy_with_logits_textbook(logits, labels, weights, gradient), gradient


CROSS_ENTROPIES = pytest.mark.parametrize("loss", [cross_entropy, cross_entropy_textbook])


def draw_labelled(m, v, dtype=np.float64):
    """(logits, labels, weights with zeros among them)."""
    random = np.random.default_rng((m, v))
    weights = random.uniform(0.1, 2, m) * (random.random(m) > 0.3)
    return (3 * random.standard_normal((m, v))).astype(dtype), random.integers(0, v, m), weights.astype(dtype)


@CROSS_ENTROPIES
def test_cross_entropy_gradient(loss):
    for check, m, v in ((check_coordinates, 9, 4), (check_directions, 60, 200)):
        logits, labels, weights = draw_labelled(m, v)
        assert 0 < np.count_nonzero(weights == 0) < m
        check(lambda x=(logits, labels, weights): loss(*x)[0], logits, loss(logits, labels, weights)[1])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.sampled_from([np.float32, np.float64]))
def test_tuned_cross_entropy_equals_textbook(m, v, dtype):
    example, tolerance = draw_labelled(m, v, dtype), {np.float32: 1e-5, np.float64: 1e-13}[dtype]
    (value, gradient), (expected_value, expected_gradient) = cross_entropy(*example), cross_entropy_textbook(*example)
    np.testing.assert_allclose(value, expected_value, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=tolerance, atol=tolerance)
    assert value.dtype == gradient.dtype == dtype


@CROSS_ENTROPIES
@pytest.mark.parametrize("m", [1, 200])
def test_cross_entropy_agrees_with_torch(loss, m, torch):
    logits, labels, weights = draw_labelled(m, 50, np.float32)
    weights[0] = 1.5
    leaf = torch.tensor(logits, requires_grad=True)
    each = torch.nn.functional.cross_entropy(leaf, torch.tensor(labels), reduction="none")
    theirs = (each * torch.tensor(weights)).sum()
    theirs.backward()
    value, gradient = loss(logits, labels, weights)
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-5, atol=1e-5)
    assert gradient.dtype == np.float32


@CROSS_ENTROPIES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_extreme_logits_is_finite_and_exact(loss, dtype):
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [1e4, -1e4, 1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = loss(logits, np.array([0, 1, 2]), np.array([3, 0.5, 1], dtype))
    np.testing.assert_allclose(value, 1e4 + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [0.5, -0.5, 0], [0.5, 0, -0.5]], atol=1e-7)


@CROSS_ENTROPIES
def test_cross_entropy_of_a_fair_guess_is_the_logarithm_of_the_choices(loss):
    value, gradient = loss(np.full((4, 39), 7.0), np.array([0, 5, 38, 5]), np.full(4, 0.25))
    np.testing.assert_allclose(value, np.log(39), rtol=1e-14)
    np.testing.assert_allclose(gradient[1], 0.25 / 39 - 0.25 * (np.arange(39) == 5), rtol=1e-12)


@CROSS_ENTROPIES
def test_a_row_of_weight_zero_does_not_count(loss):
    logits, labels, weights = draw_labelled(12, 5)
    kept = weights > 0
    value, gradient = loss(logits, labels, weights)
    expected_value, expected_gradient = loss(logits[kept], labels[kept], weights[kept])
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    np.testing.assert_array_equal(gradient[kept], expected_gradient)
    np.testing.assert_array_equal(gradient[~kept], 0)


# ---- fence and commit -----------------------------------------------------------------------------------------------


def test_fence_value_and_gradient_by_hand():
    z = np.array([[0.0, 0.1, 0.5, 0.7, 1.0]])
    value, gradient = fence(z)
    np.testing.assert_allclose(value, (0 + 0.1 + 0.5 + 0.3 + 0) / 5)
    np.testing.assert_allclose(gradient, np.array([[1, 1, 0, -1, -1]]) / 5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 9), st.sampled_from([np.float32, np.float64]))
def test_fence_value_is_the_mean_of_the_smaller_distance(n, f, dtype):
    z = np.random.default_rng((n, f)).uniform(0, 1, (n, f)).astype(dtype)
    value, gradient = fence(z)
    np.testing.assert_allclose(value, np.minimum(z, 1 - z).mean(), rtol=1e-5, atol=1e-6)
    assert gradient.dtype == dtype


def test_fence_gradient():
    z = np.random.default_rng(0).uniform(0, 1, (100, 40))
    z = np.where(np.abs(z - 0.5) < 1e-3, 0.2, z)
    check_coordinates(lambda: fence(z[:5])[0] * 200, z[:5], fence(z[:5])[1] * 200)
    check_directions(lambda: fence(z)[0] * z.size, z, fence(z)[1] * z.size)


def test_commit_gradient_holds_the_bits_constant():
    a = np.random.default_rng(0).standard_normal((7, 6))
    b, da = (a > 0.5).astype(float), np.full_like(a, np.nan)
    value = losses.commit_loss(a, b, da)
    np.testing.assert_allclose(value, np.mean((b - a) ** 2))
    check_coordinates(lambda: np.mean((b - a) ** 2), a, da)


def test_binarize_and_commit_does_both():
    a = np.array([[0.2, 0.5, 0.6, 3.0]])
    b, da = np.full((2, 1, 4), np.nan)
    value = losses.binarize_and_commit(a, b, da)
    np.testing.assert_array_equal(b, [[0, 0, 1, 1]])
    np.testing.assert_allclose(value, (0.04 + 0.25 + 0.16 + 4) / 4)
    np.testing.assert_allclose(da, [[0.1, 0.25, -0.2, 1.0]])
