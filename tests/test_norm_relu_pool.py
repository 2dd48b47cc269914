"""The fused batch norm, ReLU and pooling against the three textbook ops, in both of its forms."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae import fused
from tinyqae.ops.activations import relu_backward, relu_forward
from tinyqae.ops.norm import batch_norm_backward, batch_norm_forward
from tinyqae.ops.norm_relu_pool import NormScratch, norm_relu_pool_backward, norm_relu_pool_forward
from tinyqae.ops.pool import max_pool_backward, max_pool_forward

EPS = 1e-5


def textbook(x, gamma, beta, relu, pool, dout):
    """(out, dx, dgamma, dbeta) through batch_norm, relu and max_pool, one after another."""
    channels = x.shape[-1]
    rows = x.reshape(-1, channels)
    mean, variance, rstd, dgamma, dbeta = (np.empty(channels, x.dtype) for _ in range(5))
    xhat, normalized = np.empty_like(rows), np.empty_like(rows)
    batch_norm_forward(rows, gamma, beta, EPS, mean, variance, rstd, xhat, normalized)
    activated = relu_forward(normalized, np.empty_like(rows)) if relu else normalized
    activated = activated.reshape(x.shape)
    if pool > 1:
        out = max_pool_forward(activated, pool, np.empty_like(dout))
        dactivated = np.empty_like(x)
        max_pool_backward(dout, activated, out, pool, np.empty_like(dout), np.empty(dout.shape, bool), dactivated)
    else:
        out, dactivated = activated, dout
    dnormalized = dactivated.reshape(rows.shape)
    if relu:
        dnormalized = relu_backward(dnormalized, activated.reshape(rows.shape), np.empty_like(rows))
    dx = np.empty_like(rows)
    batch_norm_backward(dnormalized, xhat, gamma, rstd, dx, dgamma, dbeta)
    return out, dx.reshape(x.shape), dgamma, dbeta


def fused_form(x, gamma, beta, relu, pool, dout, capacity=None):
    """The same through norm_relu_pool, as installed for x's dtype."""
    channels = x.shape[-1]
    scratch = NormScratch((capacity or len(x), *x.shape[1:]), pool, x.dtype)
    mean, variance, rstd, dgamma, dbeta = (np.empty(channels, x.dtype) for _ in range(5))
    pooled = np.empty_like(dout) if pool > 1 else x
    out, dx = np.empty_like(dout), np.empty_like(x)
    forward = fused.choose(norm_relu_pool_forward, x.dtype)
    backward = fused.choose(norm_relu_pool_backward, x.dtype)
    forward(x, gamma, beta, EPS, relu, pool, scratch, mean, variance, rstd, pooled, out)
    backward(dout, x, pooled, out, gamma, mean, rstd, relu, pool, scratch, dx, dgamma, dbeta)
    return out, dx, dgamma, dbeta


def example(shape, pool, seed, dtype, offset=0.0):
    random = np.random.default_rng(seed)
    n, h, w, c = shape
    x = random.standard_normal(shape) + offset
    gamma, beta = random.standard_normal(c), random.standard_normal(c)
    dout = random.standard_normal((n, h // pool, w // pool, c))
    return [a.astype(dtype) for a in (x, gamma, beta, dout)]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 5), h=st.integers(1, 4), w=st.integers(1, 4), c=st.integers(1, 5), relu=st.booleans(),
       pool=st.sampled_from([1, 2]), seed=st.integers(0, 10_000))
def test_equals_the_textbook_ops_also_where_gamma_is_negative(n, h, w, c, relu, pool, seed):
    x, gamma, beta, dout = example((n, 2 * h, 2 * w, c), pool, seed, np.float64)
    for ours, reference in zip(fused_form(x, gamma, beta, relu, pool, dout),
                               textbook(x, gamma, beta, relu, pool, dout), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("shape", [(3, 8, 6, 5), (4, 16, 16, 64), (2, 32, 32, 33)])
def test_float32_kernels_equal_the_plain_form_in_float64(kernels, shape, pool, relu):
    # An offset ten times the spread: the statistics must not cancel.
    x, gamma, beta, dout = example(shape, pool, 1, np.float32, offset=10.0)
    single = fused_form(x, gamma, beta, relu, pool, dout)
    double = textbook(*(a.astype(np.float64) for a in (x, gamma, beta)), relu, pool, dout.astype(np.float64))
    for name, ours, reference in zip(("out", "dx", "dgamma", "dbeta"), single, double, strict=True):
        assert ours.dtype == np.float32
        scale = np.abs(reference).max()
        # A value within rounding of the ReLU's kink or of a tie may fall on the other side of it.
        differs = np.abs(ours - reference) > 2e-4 * scale
        assert differs.mean() < 1e-3, name


def test_a_smaller_batch_than_the_scratch_space_was_built_for_gives_the_same(kernels):
    x, gamma, beta, dout = example((3, 8, 8, 16), 2, 2, np.float32)
    for alone, in_larger in zip(fused_form(x, gamma, beta, True, 2, dout),
                                fused_form(x, gamma, beta, True, 2, dout, capacity=9), strict=True):
        np.testing.assert_array_equal(alone, in_larger)
