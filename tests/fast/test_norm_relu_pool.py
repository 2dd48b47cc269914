"""The fused batch norm, ReLU and pooling against the three reference ops, plain and by its Numba kernels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.fast.kernels import choose
from tinyqae.fast.norm_relu_pool import (
    NormScratch,
    batch_statistics,
    combine_statistics,
    norm_gradient_sums,
    norm_relu_pool_backward,
    norm_relu_pool_forward,
)
from tinyqae.gradcheck import check_coordinates
from tinyqae.ops import norm as norm_op
from tinyqae.ops import pool as pool_op
from tinyqae.ops.activations import relu_backward, relu_forward

EPS = 1e-5


def reference(x, gamma, beta, relu, pool, dout):
    """(out, dx, dgamma, dbeta) of the reference's batch norm, ReLU and max-pooling, one after another."""
    normalized, xhat, _, variance = norm_op.batch_norm_forward(x, gamma, beta, EPS)
    activated = relu_forward(normalized) if relu else normalized
    out = pool_op.max_pool_forward(activated) if pool else activated
    dactivated = pool_op.max_pool_backward(dout, activated, out) if pool else dout
    dnormalized = relu_backward(dactivated, activated) if relu else dactivated
    return out, *norm_op.batch_norm_backward(dnormalized, xhat, gamma, variance, EPS)


def fused_form(x, gamma, beta, relu, pool, dout, capacity=None, cuts=()):
    """The same through norm_relu_pool, as installed for x's dtype, the batch being cut into parts at `cuts`."""
    channels, dtype = x.shape[-1], x.dtype
    measure, forward, sums, backward = (
        choose(op, dtype) for op in (batch_statistics, norm_relu_pool_forward, norm_gradient_sums, norm_relu_pool_backward)
    )
    bounds = [0, *cuts, len(x)]
    parts = [slice(start, stop) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    scratch = NormScratch((capacity or len(x), *x.shape[1:]), pool, dtype)
    means, variances, dgammas, dbetas = (np.empty((len(parts), channels), dtype) for _ in range(4))
    rstd, out, g, dx = np.empty(channels, dtype), np.empty_like(dout), np.empty_like(dout), np.empty_like(x)
    pooled = np.empty_like(dout) if pool else x
    for part, mean, variance in zip(parts, means, variances, strict=True):
        measure(x[part], scratch, mean, variance)
    combine_statistics([part.stop - part.start for part in parts], list(means), list(variances), EPS, rstd)
    for part in parts:
        forward(x[part], gamma, beta, means[0], rstd, relu, pool, scratch, pooled[part], out[part])
    for part, dgamma, dbeta in zip(parts, dgammas, dbetas, strict=True):
        sums(dout[part], pooled[part], out[part], means[0], rstd, relu, scratch, g[part], dgamma, dbeta)
    dgamma, dbeta = dgammas.sum(axis=0), dbetas.sum(axis=0)
    for part in parts:
        backward(
            g[part], x[part], pooled[part], gamma, means[0], rstd, dgamma, dbeta, x.size // channels, pool, scratch, dx[part]
        )
    return out, dx, dgamma, dbeta


def example(shape, pool, seed, dtype, offset=0.0):
    random = np.random.default_rng(seed)
    n, h, w, c = shape
    x = random.standard_normal(shape) + offset
    gamma, beta = random.standard_normal(c), random.standard_normal(c)
    dout = random.standard_normal((n, h // 2, w // 2, c) if pool else shape)
    return [a.astype(dtype) for a in (x, gamma, beta, dout)]


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 5),
    h=st.integers(1, 4),
    w=st.integers(1, 4),
    c=st.integers(1, 5),
    relu=st.booleans(),
    pool=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_equals_the_reference_ops_also_where_gamma_is_negative(n, h, w, c, relu, pool, seed):
    x, gamma, beta, dout = example((n, 2 * h, 2 * w, c), pool, seed, np.float64)
    for ours, right in zip(
        fused_form(x, gamma, beta, relu, pool, dout), reference(x, gamma, beta, relu, pool, dout), strict=True
    ):
        np.testing.assert_allclose(ours, right, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("pool", [False, True])
def test_gradients_coordinate_by_coordinate(pool, relu):
    x, gamma, beta, dout = example((2, 4, 2, 3), pool, 1, np.float64)
    gamma[0] = -0.7
    _, *gradients = fused_form(x, gamma, beta, relu, pool, dout)
    for array, gradient in zip((x, gamma, beta), gradients, strict=True):
        check_coordinates(lambda: np.vdot(dout, fused_form(x, gamma, beta, relu, pool, dout)[0]), array, gradient)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shape", [(3, 8, 6, 5), (4, 16, 16, 64), (2, 32, 32, 33)])
def test_in_float32_it_equals_the_reference_in_float64(kernels, shape, pool, relu):
    # An offset ten times the spread: the statistics must not cancel.
    x, gamma, beta, dout = example(shape, pool, 1, np.float32, offset=10.0)
    single = fused_form(x, gamma, beta, relu, pool, dout)
    double = reference(*(a.astype(np.float64) for a in (x, gamma, beta)), relu, pool, dout.astype(np.float64))
    for name, ours, right in zip(("out", "dx", "dgamma", "dbeta"), single, double, strict=True):
        assert ours.dtype == np.float32
        scale = np.abs(right).max()
        # A value within rounding of the ReLU's kink or of a tie may fall on the other side of it.
        differs = np.abs(ours - right) > 2e-4 * scale
        assert differs.mean() < 1e-3, name


@pytest.mark.parametrize("relu", [True, False])
def test_at_a_tie_the_first_place_gets_the_gradient_as_in_the_reference(kernels, relu):
    x, gamma, beta, dout = example((3, 8, 6, 5), True, 1, np.float32)
    x = x.round()
    assert (gamma < 0).any() and (gamma > 0).any()
    largest = pool_op.max_pool_forward(x).repeat(2, axis=1).repeat(2, axis=2)
    assert (x == largest).mean() > 0.3  # Where all windows had one maximum, a quarter.
    single = fused_form(x, gamma, beta, relu, True, dout)
    double = reference(*(a.astype(np.float64) for a in (x, gamma, beta)), relu, True, dout.astype(np.float64))
    for ours, right in zip(single, double, strict=True):
        np.testing.assert_allclose(ours, right, rtol=0, atol=1e-5 * np.abs(right).max())


def test_a_smaller_batch_than_the_scratch_space_was_built_for_gives_the_same(kernels):
    x, gamma, beta, dout = example((3, 8, 8, 16), True, 2, np.float32)
    for alone, in_larger in zip(
        fused_form(x, gamma, beta, True, True, dout), fused_form(x, gamma, beta, True, True, dout, capacity=9), strict=True
    ):
        np.testing.assert_array_equal(alone, in_larger)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("cuts", [(3,), (2, 4), (1, 2, 3, 4)])
def test_in_parts_it_gives_the_same_as_in_one(cuts, pool, relu):
    x, gamma, beta, dout = example((5, 6, 4, 7), pool, 3, np.float64, offset=10.0)
    for whole, in_parts in zip(
        fused_form(x, gamma, beta, relu, pool, dout), fused_form(x, gamma, beta, relu, pool, dout, cuts=cuts), strict=True
    ):
        np.testing.assert_allclose(in_parts, whole, rtol=1e-11, atol=1e-12)


def test_combined_statistics_are_those_of_all_values(kernels):
    # Parts of unequal size whose means lie far apart, so that most of the variance is between them.
    random = np.random.default_rng(4)
    parts = [(5 * i + random.standard_normal((n, 2, 2, 3))).astype(np.float32) for i, n in enumerate((1, 4, 2))]
    means, variances = (list(np.empty((3, 3), np.float32)) for _ in range(2))
    for part, mean, variance in zip(parts, means, variances, strict=True):
        scratch = NormScratch(part.shape, False, np.float32)
        choose(batch_statistics, np.float32)(part, scratch, mean, variance)
    rstd = np.empty(3, np.float32)
    combine_statistics([len(part) for part in parts], means, variances, EPS, rstd)
    values = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(means[0], values.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variances[0], values.var(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(values.var(axis=(0, 1, 2)) + EPS), rtol=1e-6)
